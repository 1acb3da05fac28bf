//! What AWS and the SDK answer when something fails, in words: cause, place, next step, exit code.

use std::{error::Error as StdError, time::SystemTime};

use aws_smithy_runtime_api::{
    client::{
        orchestrator::HttpResponse,
        result::{ConnectorError, DispatchFailure, SdkError},
    },
    http::Headers,
};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use ops_profile::plain_http::PlainHttp;
use ops_ui::{Error, ErrorKind, Hint, hint};

use super::{
    bounds::{BoundsError, CALL_LIMIT},
    call_place::CallPlace,
    code::{Meaning, meaning, without_namespace},
    error_chain::{chain, innermost},
    login::login_hints,
    no_credentials::failure_of,
    wrong_clock::{self, wrong_clock_error},
};
use crate::iam;

/// Longest piece of an answer that is shown, in characters.
const EXCERPT_CHARS: usize = 200;

/// What to look at where an answer is none that AWS gives.
const WRONG_ENDPOINT: &str =
    "a proxy or a wrong endpoint may have answered: check HTTPS_PROXY and AWS_ENDPOINT_URL";

/// What to do where TLS fails for the other end's certificate: somebody inspects TLS, or this
/// machine has no authorities at all, as small container images have none.
const NOT_TRUSTED: &str = "if a proxy inspects TLS here, name its certificate: export AWS_CA_BUNDLE=FILE.pem; if this machine has no certificates of authorities, install them (Debian, Fedora, Alpine: ca-certificates)";

/// One call, for its error.
pub(crate) struct Call {
    /// The IAM action, `service:Operation`.
    pub(crate) action: &'static str,
    /// What it was about, for a denial.
    pub(crate) resource: Option<String>,
    pub(crate) place: CallPlace,
}

impl Call {
    /// Translates the failure of this call. `what` says what could not be done.
    pub(crate) fn failed<E>(
        &self,
        what: impl Into<String>,
        error: &SdkError<E, HttpResponse>,
    ) -> Error
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let what = what.into();
        let request_id = error.raw_response().and_then(|r| request_id(r.headers()));
        let place = &self.place;
        let translated = match error {
            SdkError::ConstructionFailure(_) => {
                let chain = chain(error);
                Error::unexpected(what).caused_by(chain)
            }
            SdkError::TimeoutError(_) => self.too_slow(what),
            SdkError::DispatchFailure(failure) => {
                // Our own layers below the SDK speak by the error's source: it has no other way.
                if let Some(failure) = failure_of(error) {
                    return Error::new(failure.kind(), what)
                        .caused_by(failure.what())
                        .caused_as(failure)
                        .hinted_as(failure);
                }
                if let Some(refused) = failure.as_connector_error().and_then(plain_http_of) {
                    return Error::usage(what).caused_by(refused).hint(PlainHttp::HINT);
                }
                let bounds = failure.as_connector_error().and_then(bounds_of);
                match bounds {
                    Some(BoundsError::TooSlow(_)) => self.too_slow(what),
                    Some(bounds) => Error::unexpected(what)
                        .caused_by(format!("{} ({place}): {bounds}", self.action))
                        .hint(WRONG_ENDPOINT),
                    None => self.unreachable(what, failure, error),
                }
            }
            SdkError::ResponseError(_) => self.malformed(what, error),
            // An error without a code was not written by the service, whatever its status: a
            // proxy's page, mostly.
            SdkError::ServiceError(_) => match error.code().map(str::to_owned) {
                Some(code) => {
                    let message = error.message().unwrap_or_default();
                    let is_late = error.raw_response().is_some_and(|answer| {
                        wrong_clock::is_seen_in(answer.headers(), SystemTime::now())
                    });
                    match meaning(&code) {
                        Meaning::BadCredentials if is_late => {
                            wrong_clock_error(what, self.said(&code, message))
                        }
                        _ => self.service(what, &code, message),
                    }
                }
                None => self.malformed(what, error),
            },
            _ => Error::unexpected(what).caused_by(chain(error)),
        };
        translated.with_request_id(request_id.as_deref())
    }

    /// As [`Self::failed`], for a code that [`meaning`] does not know and whose kind the caller
    /// does.
    pub(crate) fn failed_as<E>(
        &self,
        kind: ErrorKind,
        what: impl Into<String>,
        error: &SdkError<E, HttpResponse>,
    ) -> Error
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let what = what.into();
        // The same words and hints under another kind: the exit code is the caller's knowledge.
        let known = self.failed(what.clone(), error);
        Error::new(kind, what)
            .caused_as(&known)
            .hinted_as(&known)
            .with_request_id(known.request_id())
    }

    /// What the service has answered, in a line.
    fn said(&self, code: &str, message: &str) -> String {
        let (action, short, place) = (self.action, without_namespace(code), &self.place);
        match shorten_message(message) {
            message if message.is_empty() => format!("{action} answered {short} ({place})"),
            message => format!("{action} answered {short} ({place}): {message}"),
        }
    }

    pub(super) fn service(&self, what: String, code: &str, message: &str) -> Error {
        let place = &self.place;
        let said = self.said(code, message);
        let message = shorten_message(message);
        let meaning = match meaning(code) {
            Meaning::BadCredentials if wrong_clock::is_said_by(&message) => Meaning::Clock,
            meaning => meaning,
        };
        match meaning {
            Meaning::Expired => login_hints(
                Error::new(ErrorKind::NotLoggedIn, what)
                    .caused_by(format!("the AWS credentials have expired ({place})")),
                place.aws_profile.as_deref(),
                place.login,
                place.aws_profile.as_deref().unwrap_or("default"),
            )
            .named("login-expired"),
            Meaning::BadCredentials => login_hints(
                Error::new(ErrorKind::NotLoggedIn, what).caused_by(said),
                place.aws_profile.as_deref(),
                place.login,
                place.aws_profile.as_deref().unwrap_or("default"),
            )
            .named("no-credentials"),
            Meaning::Clock => wrong_clock_error(what, said),
            Meaning::Denied => {
                let resource = self.resource.as_deref().unwrap_or("*");
                Error::new(ErrorKind::Denied, what)
                    .caused_by(said)
                    .caused_by(format!(
                        "the caller lacks `{}` on `{resource}`",
                        self.action
                    ))
                    .hint("ask for that permission, or use another profile: ops config profiles")
                    .hinted_with(self.statement())
            }
            Meaning::Throttled => Error::unexpected(what)
                .caused_by(said)
                .caused_by("AWS throttled the calls, also after several retries")
                .hint("try again in a minute; narrow the list with --tag or --filter"),
            Meaning::RegionOff => Error::new(ErrorKind::Denied, what)
                .caused_by(said)
                .hint("the region is not enabled for this account: choose another with --region")
                .named("region-off"),
            Meaning::Other => Error::unexpected(what).caused_by(said),
        }
    }

    /// The IAM statement that allows the call; a start of a session has one of its own, with its
    /// documents.
    fn statement(&self) -> Option<Hint> {
        if let (iam::GENERATE_DATA_KEY, Some(key)) = (self.action, &self.resource) {
            return Some(statement_hint(&iam::key_statement(self.action, key)));
        }
        let region = self.place.region.as_deref().unwrap_or_default();
        iam::statement_text(self.action, region)
            .filter(|_| self.action != "ssm:StartSession")
            .map(|text| statement_hint(&text))
    }

    /// An answer that is none of the service's: a proxy's page, a wrong endpoint.
    fn malformed<E>(&self, what: String, error: &SdkError<E, HttpResponse>) -> Error {
        let Some(response) = error.raw_response() else {
            return Error::unexpected(what);
        };
        // The status, the missing request id and a first line are what an administrator of the
        // proxy needs. More of a foreign page would bury it.
        let status = response.status().as_u16();
        let line = response
            .body()
            .bytes()
            .and_then(first_line)
            .map_or_else(|| "an empty body".to_owned(), |line| format!("`{line}`"));
        let id = request_id(response.headers()).map_or_else(
            || "no request id".to_owned(),
            |id| format!("request id {id}"),
        );
        let error = if status == 401 || status == 403 {
            Error::new(ErrorKind::Denied, what)
        } else {
            Error::unexpected(what)
        };
        error
            .caused_by(format!(
                "the answer to {} is not one of AWS ({}){}: status {status}, {id}, {line}",
                self.action,
                self.place,
                self.place.by_way()
            ))
            .hint(match &self.place.proxy {
                Some(_) => "that proxy or a wrong endpoint may have answered: check both",
                None => WRONG_ENDPOINT,
            })
    }

    /// No connection, or one that broke off.
    fn unreachable(
        &self,
        what: String,
        failure: &DispatchFailure,
        error: &(dyn StdError + 'static),
    ) -> Error {
        let why = failure
            .as_connector_error()
            .map_or_else(|| chain(error), |e| innermost(e));
        let verb = if failure.is_timeout() {
            "no connection in time"
        } else {
            "no connection"
        };
        let (action, place) = (self.action, &self.place);
        // rustls begins so, whatever it has against a certificate; its type is none of the SDK's.
        let is_not_trusted = why.starts_with("invalid peer certificate");
        let Some(proxy) = &place.proxy else {
            return Error::unexpected(what)
                .caused_by(format!("{verb} for {action} ({place}): {why}"))
                .hint(if is_not_trusted {
                    NOT_TRUSTED
                } else {
                    place.unreachable_hint()
                });
        };
        let why = proxy.explain(why);
        Error::unexpected(what)
            .caused_by(format!(
                "{verb} for {action} ({place}) by way of {proxy}: {why}"
            ))
            .hint(if is_not_trusted {
                NOT_TRUSTED
            } else {
                place.unreachable_hint()
            })
    }

    /// No whole answer within the time that a call has.
    fn too_slow(&self, what: String) -> Error {
        let (action, place) = (self.action, &self.place);
        match place.timeout {
            Some(limit) => {
                let error = Error::new(ErrorKind::Timeout, what)
                    .caused_by(format!(
                        "{action} ({place}) was not answered within {limit:?}"
                    ))
                    .caused_by("--timeout was reached");
                place.with_last_try(error, "give it longer: --timeout 2m")
            }
            None => Error::unexpected(what)
                .caused_by(format!(
                    "no whole answer to {action} ({place}){} within {CALL_LIMIT:?}",
                    place.by_way()
                ))
                .hint("check the network and the proxy settings; -vv shows each attempt"),
        }
    }
}

/// What to ask an administrator for.
pub(crate) fn statement_hint(statement: &str) -> Hint {
    hint!(
        "the IAM statement that allows it: {}",
        Hint::document(statement)
    )
}

/// The refusal of an endpoint without TLS, if this is one.
fn plain_http_of(error: &ConnectorError) -> Option<&PlainHttp> {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(refused) = cause.downcast_ref() {
            return Some(refused);
        }
        source = cause.source();
    }
    None
}

/// The bound that an exchange has met, if that is why it failed.
fn bounds_of(error: &ConnectorError) -> Option<BoundsError> {
    let mut source: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(error) = source {
        if let Some(bounds) = error.downcast_ref::<BoundsError>() {
            return Some(*bounds);
        }
        source = error.source();
    }
    None
}

/// EC2's denials carry kilobytes of an encoded message that only another call can read.
fn shorten_message(message: &str) -> String {
    let message = message
        .split("Encoded authorization failure message:")
        .next()
        .unwrap_or_default()
        .trim();
    excerpt(message, 600)
}

pub(super) fn excerpt(text: &str, chars: usize) -> String {
    let mut out: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(chars)
        .collect();
    if text.chars().nth(chars).is_some() {
        out.push('…');
    }
    out
}

fn first_line(bytes: &[u8]) -> Option<String> {
    // The first line of a page is near its beginning; the rest may be megabytes.
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]);
    text.lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .map(|line| excerpt(line, EXCERPT_CHARS))
}

fn request_id(headers: &Headers) -> Option<String> {
    // The first two are those that the SDK's own `request_id` reads.
    ["x-amzn-requestid", "x-amz-request-id", "x-amzn-request-id"]
        .into_iter()
        .find_map(|name| headers.get(name))
        .map(|id| excerpt(id, 100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_names_action_and_resource_and_leaves_the_encoded_part_out() {
        let call = Call {
            action: "ec2:DescribeInstances",
            resource: None,
            place: CallPlace {
                region: Some("eu-west-1".to_owned()),
                aws_profile: None,
                team: Some("pay".to_owned()),
                ..CallPlace::default()
            },
        };
        let error = call.service(
            "cannot list instances".to_owned(),
            "UnauthorizedOperation",
            "You are not authorized to perform this operation. Encoded authorization failure message: AAAA",
        );
        assert_eq!(error.kind(), ErrorKind::Denied);
        let text = error.why().join("\n");
        assert!(text.contains("`ec2:DescribeInstances` on `*`"), "{text}");
        assert!(text.contains("region `eu-west-1`, profile `pay`"), "{text}");
        assert!(!text.contains("AAAA"), "{text}");
    }

    #[test]
    fn a_signature_that_has_expired_is_told_as_a_wrong_clock() {
        let call = Call {
            action: "ssm:DescribeInstanceInformation",
            resource: None,
            place: CallPlace::default(),
        };
        let said = "Signature expired: 20260101T000000Z is now earlier than 20260101T000500Z";
        let cause = |code, message| call.service("x".to_owned(), code, message).cause();
        assert_eq!(cause("InvalidSignatureException", said), Some("clock-skew"));
        assert_eq!(cause("SignatureDoesNotMatch", said), Some("clock-skew"));
        let differs = "The request signature we calculated does not match";
        assert_eq!(
            cause("SignatureDoesNotMatch", differs),
            Some("no-credentials")
        );
    }

    #[test]
    fn a_page_of_a_proxy_shows_its_first_line_only() {
        assert_eq!(
            first_line(b"\n  <html>\x1b[2J\n<body>"),
            Some("<html> [2J".to_owned())
        );
        assert_eq!(first_line(b" \n"), None);
    }
}
