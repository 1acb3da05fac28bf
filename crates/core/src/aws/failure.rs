//! What AWS and the SDK answer when something fails, in words: cause, place, next step, exit code.

use std::{error::Error as StdError, fmt, path::Path, time::Duration};

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::{
    client::{
        orchestrator::HttpResponse,
        result::{ConnectorError, DispatchFailure, SdkError},
    },
    http::Headers,
};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use super::{
    bounds::{BoundsError, CALL_LIMIT},
    login::{Login, LoginWay, way_of},
    network::ByProxy,
    options::AwsOptions,
    provider::failure_of,
};
use crate::{
    error::{Error, ErrorKind},
    hint, iam,
    profile::plain_http::PlainHttp,
    text::Hint,
};
use ops_profile::aws_files::AwsFiles;

/// Longest piece of an answer that is shown, in characters.
const EXCERPT_CHARS: usize = 200;

/// What to look at where an answer is none that AWS gives.
const WRONG_ENDPOINT: &str =
    "a proxy or a wrong endpoint may have answered: check HTTPS_PROXY and AWS_ENDPOINT_URL";

/// Where a call was made: said in every message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    pub(crate) region: Option<String>,
    pub(crate) aws_profile: Option<String>,
    pub(crate) team: Option<String>,
    pub(crate) sandbox: bool,
    /// The proxy, where calls go by way of one.
    pub(crate) proxy: Option<ByProxy>,
    /// `--timeout`, where it is what ends a call that takes too long.
    pub(crate) timeout: Option<Duration>,
    /// How the AWS profile is logged in to.
    pub(crate) login: LoginWay,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.region {
            Some(region) => write!(f, "region `{region}`")?,
            None => f.write_str("no region")?,
        }
        if let Some(team) = &self.team {
            write!(f, ", profile `{team}`")?;
        }
        if self.sandbox {
            return f.write_str(", the sandbox");
        }
        match (&self.aws_profile, &self.team) {
            (Some(name), _) => write!(f, ", AWS profile `{name}`"),
            (None, Some(_)) => Ok(()),
            (None, None) => f.write_str(", default AWS profile"),
        }
    }
}

impl Place {
    fn by_way(&self) -> String {
        self.proxy
            .as_ref()
            .map_or_else(String::new, |proxy| format!(" by way of {proxy}"))
    }
}

impl AwsOptions {
    pub(crate) fn place(&self, region: Option<&str>) -> Place {
        Place {
            region: region.map(str::to_owned),
            aws_profile: self.profile.clone(),
            team: self.team.clone(),
            sandbox: self.sandbox,
            login: self.login,
            proxy: self.proxy.clone(),
            timeout: self.timeout.filter(|timeout| *timeout < CALL_LIMIT),
        }
    }
}

/// One call, for its error.
pub(crate) struct Call {
    /// The IAM action, `service:Operation`.
    pub(crate) action: &'static str,
    /// What it was about, for a denial.
    pub(crate) resource: Option<String>,
    pub(crate) place: Place,
}

/// What a failure means, whatever the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    Expired,
    BadCredentials,
    Clock,
    Denied,
    Throttled,
    RegionOff,
    Other,
}

/// Puts an error code in its class. The lists hold EC2's spellings, which has its own, beside the
/// JSON services'.
pub(crate) fn meaning(code: &str) -> Meaning {
    // JSON services put a namespace before the code and a URL behind it.
    let code = code.rsplit('#').next().unwrap_or(code);
    let code = code.split(':').next().unwrap_or(code);
    match code {
        "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" => Meaning::Expired,
        "RequestExpired" | "RequestTimeTooSkewed" | "RequestInTheFuture" => Meaning::Clock,
        "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "AuthFailure"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "InvalidAccessKeyId"
        | "NotAuthorizedException" => Meaning::BadCredentials,
        "AccessDenied"
        | "AccessDeniedException"
        | "UnauthorizedOperation"
        | "UnauthorizedException"
        | "Forbidden" => Meaning::Denied,
        "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "RequestLimitExceeded"
        | "TooManyRequestsException"
        | "SlowDown" => Meaning::Throttled,
        "OptInRequired" | "RegionDisabledException" => Meaning::RegionOff,
        _ => Meaning::Other,
    }
}

/// The service's own error code of `error`, without its namespace.
pub(crate) fn code_of<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<&str> {
    let code = error.code()?;
    let code = code.rsplit('#').next().unwrap_or(code);
    code.split(':').next()
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
            SdkError::ServiceError(_) => match error.code().map(str::to_owned) {
                Some(code) => {
                    let message = error.message().unwrap_or_default();
                    self.service(what, &code, message)
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
        let known = self.failed(what.clone(), error);
        Error::new(kind, what)
            .caused_as(&known)
            .hinted_as(&known)
            .with_request_id(known.request_id())
    }

    fn service(&self, what: String, code: &str, message: &str) -> Error {
        let place = &self.place;
        let short = code_only(code);
        let message = shorten_message(message);
        let said = if message.is_empty() {
            format!("{} answered {short} ({place})", self.action)
        } else {
            format!("{} answered {short} ({place}): {message}", self.action)
        };
        match meaning(code) {
            Meaning::Expired => login_hints(
                Error::new(ErrorKind::NotLoggedIn, what)
                    .caused_by(format!("the AWS credentials have expired ({place})")),
                place.aws_profile.as_deref(),
                place.login,
                place.aws_profile.as_deref().unwrap_or("default"),
            ),
            Meaning::BadCredentials => login_hints(
                Error::new(ErrorKind::NotLoggedIn, what).caused_by(said),
                place.aws_profile.as_deref(),
                place.login,
                place.aws_profile.as_deref().unwrap_or("default"),
            ),
            Meaning::Clock => Error::new(ErrorKind::NotLoggedIn, what)
                .caused_by(said)
                .hint("the clock of this machine differs from AWS's by minutes: set it, for example with `timedatectl set-ntp true`"),
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
                .hint("the region is not enabled for this account: choose another with --region"),
            Meaning::Other => Error::unexpected(what).caused_by(said),
        }
    }

    /// The IAM statement that allows the call; a start of a session has one of its own, with its
    /// documents.
    fn statement(&self) -> Option<Hint> {
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
        let Some(proxy) = &place.proxy else {
            return Error::unexpected(what)
                .caused_by(format!("{verb} for {action} ({place}): {why}"))
                .hint("check the network, HTTPS_PROXY, and the spelling of the region");
        };
        // The SDK's HTTP client says no more than this of an answer that opens no tunnel.
        let answer = why.contains("tunnel").then(|| proxy.answer()).flatten();
        let why = answer.map_or(why, |answer| format!("it answers `{answer}`"));
        Error::unexpected(what)
            .caused_by(format!(
                "{verb} for {action} ({place}) by way of {proxy}: {why}"
            ))
            .hint("check that proxy, or name the hosts of AWS in NO_PROXY")
    }

    /// No whole answer within the time that a call has.
    fn too_slow(&self, what: String) -> Error {
        let (action, place) = (self.action, &self.place);
        match place.timeout {
            Some(limit) => Error::new(ErrorKind::Timeout, what)
                .caused_by(format!(
                    "{action} ({place}) was not answered within {limit:?}"
                ))
                .caused_by("--timeout was reached")
                .hint("give it longer: --timeout 2m"),
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

fn code_only(code: &str) -> &str {
    let code = code.rsplit('#').next().unwrap_or(code);
    code.split(':').next().unwrap_or(code)
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

fn excerpt(text: &str, chars: usize) -> String {
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
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]);
    text.lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .map(|line| excerpt(line, EXCERPT_CHARS))
}

fn request_id(headers: &Headers) -> Option<String> {
    ["x-amzn-requestid", "x-amz-request-id", "x-amzn-request-id"]
        .into_iter()
        .find_map(|name| headers.get(name))
        .map(|id| excerpt(id, 100))
}

/// An error with its sources, in one line, repetitions left out.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = error.source();
    }
    text
}

fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// Whether it takes a new SSO login: its token is not there, has expired, or is refused.
///
/// The SDK tells by its texts alone; `is_sso`: the profile takes its credentials from there.
pub(super) fn is_sso_over(error: &CredentialsError, is_sso: bool) -> bool {
    let text = chain(error).to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    text.contains("sso") && has(&["expired", "cached", "unauthorized", "invalid"])
        || is_sso && has(&["token", "unauthorized"])
        // Of a profile of the old form the SDK names no more than the file that is missing.
        || has(&["sso/cache", "sso\\cache"])
}

/// Translates the failure to find credentials.
pub(super) fn credentials_failed(
    error: &CredentialsError,
    options: &AwsOptions,
    files: &AwsFiles,
    home: &Path,
) -> Error {
    let text = chain(error);
    let lower = text.to_lowercase();
    let name = options.profile_name();
    let login = Login::of(files, name);
    let is_of_console = way_of(files, name) == LoginWay::Console;
    if is_sso_over(error, login.is_some()) && !is_of_console {
        // The one to log in with: a profile with a role names another by `source_profile`.
        let source = login.as_ref().map_or(name, |login| &login.profile);
        let failure = match &login {
            Some(login) if !login.was_made(home) => Error::new(
                ErrorKind::NotLoggedIn,
                format!("nobody has logged in to the SSO of AWS profile `{source}` here yet"),
            ),
            _ => Error::new(
                ErrorKind::NotLoggedIn,
                format!("the SSO login of AWS profile `{source}` has expired"),
            )
            .caused_by(innermost(error)),
        };
        return login_hints(failure, options.profile.as_deref(), LoginWay::Sso, source);
    }
    // The provider of a console login fails where the login has ended or was never made; every
    // other provider that speaks of a login is the SDK's own, in those words.
    let is_console_over =
        is_of_console && !matches!(error, CredentialsError::CredentialsNotLoaded(_));
    if is_console_over
        || lower.contains("login") && (lower.contains("expired") || lower.contains("cached"))
    {
        let option = profile_option(files.source_of(name));
        let (state, hint) = if lower.contains("expired") {
            ("has expired", hint!("log in again: aws login{}", option))
        } else {
            ("is not there", hint!("log in: aws login{}", option))
        };
        return Error::new(
            ErrorKind::NotLoggedIn,
            format!("the console login of AWS profile `{name}` {state}"),
        )
        .caused_by(innermost(error))
        .hint(hint);
    }
    let source = files.source_of(name);
    if lower.contains("external process") {
        return process_failed(&text, source, files);
    }
    if matches!(error, CredentialsError::CredentialsNotLoaded(_)) {
        let failure = Error::new(ErrorKind::NotLoggedIn, "no AWS credentials found").caused_by(format!(
            "looked in the environment, AWS profile `{name}`, web identity, container and instance metadata"
        ));
        let failure = if files.has(name) {
            failure
        } else {
            failure.caused_by(format!(
                "the AWS profiles on this machine: {}",
                files.quoted_names()
            ))
        };
        return with_login_hints(failure, options, files);
    }
    let failure = Error::new(
        ErrorKind::NotLoggedIn,
        format!("the credentials of AWS profile `{name}` could not be had"),
    )
    .caused_by(excerpt(&text, 600));
    // Keys of a file and roles are nothing that a login renews.
    if login.is_some() || files.get(source, "login_session").is_some() {
        with_login_hints(failure, options, files)
    } else {
        failure
    }
}

/// Tells what the `credential_process` of AWS profile `name` said, in its own words. `text` is the
/// SDK's, which holds them.
fn process_failed(text: &str, name: &str, files: &AwsFiles) -> Error {
    let place = files
        .place(name, "credential_process")
        .map_or_else(String::new, |place| format!(" in {place}"));
    let (status, said) = text.split_once(". Stderr: ").unwrap_or((text, ""));
    let said = said.trim();
    let program = files
        .get(name, "credential_process")
        .and_then(|line| line.split_whitespace().next())
        .unwrap_or_default();
    // What the shell exits with where the command is not there, or is not to be executed.
    let missing = ["exit status: 127", "exit status: 126"]
        .iter()
        .any(|status_of_shell| status.contains(status_of_shell));
    let error = Error::new(
        ErrorKind::NotLoggedIn,
        if missing {
            format!(
                "the program that gives the credentials of AWS profile `{name}` cannot be started: `{program}`"
            )
        } else {
            format!("the program that gives the credentials of AWS profile `{name}` failed")
        },
    );
    let error = if said.is_empty() {
        error.caused_by(excerpt(text, 600))
    } else {
        error.caused_by(excerpt(said, 600))
    };
    let status = status
        .split_once("exit status: ")
        .map(|(_, code)| format!("exit status {code}; "))
        .unwrap_or_default();
    error.caused_by(format!("{status}`credential_process` stands{place}"))
}

/// Adds how to log in, where a login is what is missing.
pub(super) fn with_login_hints(error: Error, options: &AwsOptions, files: &AwsFiles) -> Error {
    let name = options.profile_name();
    let error = login_hints(
        error,
        options.profile.as_deref(),
        way_of(files, name),
        files.source_of(name),
    );
    if options.sandbox {
        error
    } else {
        error.hint("or try it without an account: ops --sandbox ls")
    }
}

/// ` --profile NAME`; nothing for the default profile.
fn profile_option(name: &str) -> Hint {
    match name {
        "default" => Hint::from(""),
        name => hint!(" --profile {}", name),
    }
}

/// Adds how to log in by `way`. `asked` is the AWS profile in use, `source` the one that it takes
/// its credentials from, which is the one to log in to.
fn login_hints(error: Error, asked: Option<&str>, way: LoginWay, source: &str) -> Error {
    let option = profile_option(source);
    match way {
        LoginWay::Console => error.hint(hint!("log in again: aws login{}", option)),
        LoginWay::Sso => {
            let asked = match asked.unwrap_or("default") {
                "default" => Hint::from(""),
                name => hint!(" --aws-profile {}", name),
            };
            error
                .hint(hint!(
                    "log in on a terminal: ops{} ls (or: aws sso login{})",
                    asked,
                    option
                ))
                .hint("or open the access portal of your SSO in a browser, choose the account, \"Access keys\", and paste its `export AWS_…` lines into this shell")
        }
        LoginWay::Unknown => error
            .hint(hint!(
                "log in: aws sso login{} (or `aws configure{}` for access keys)",
                option,
                option
            ))
            .hint("without the AWS CLI: export AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN in this shell"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_all_services_fall_into_their_class() {
        assert_eq!(meaning("ExpiredTokenException"), Meaning::Expired);
        assert_eq!(
            meaning("com.amazonaws.ssm#AccessDeniedException"),
            Meaning::Denied
        );
        assert_eq!(meaning("ThrottlingException:http://x/"), Meaning::Throttled);
        assert_eq!(meaning("UnauthorizedOperation"), Meaning::Denied);
        assert_eq!(meaning("TargetNotConnected"), Meaning::Other);
    }

    #[test]
    fn a_denial_names_action_and_resource_and_leaves_the_encoded_part_out() {
        let call = Call {
            action: "ec2:DescribeInstances",
            resource: None,
            place: Place {
                region: Some("eu-west-1".to_owned()),
                aws_profile: None,
                team: Some("pay".to_owned()),
                ..Place::default()
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
    fn each_profile_is_renewed_by_its_own_command() {
        let files = AwsFiles::of_config(
            "[profile console]\nlogin_session = arn:aws:iam::111122223333:user/me\n\
             [profile role]\nrole_arn = arn:aws:iam::111122223333:role/x\nsource_profile = console\n\
             [profile sso]\nsso_session = corp\n[profile loop]\nsource_profile = loop\n[profile keys]\n",
        );
        let way = |name| way_of(&files, name);
        assert_eq!(way("console"), LoginWay::Console);
        assert_eq!(way("role"), LoginWay::Console);
        assert_eq!(way("sso"), LoginWay::Sso);
        for name in ["loop", "keys", "missing"] {
            assert_eq!(way(name), LoginWay::Unknown, "{name}");
        }
        let call = Call {
            action: "ec2:DescribeInstances",
            resource: None,
            place: Place {
                aws_profile: Some("console".to_owned()),
                login: way("console"),
                ..Place::default()
            },
        };
        let error = call.service("cannot list".to_owned(), "ExpiredToken", "");
        assert_eq!(error.hints(), ["log in again: aws login --profile console"]);
        let options = AwsOptions {
            profile: Some("console".to_owned()),
            ..AwsOptions::default()
        };
        let error =
            CredentialsError::provider_error("the token has expired; log in to the sso again");
        let error = credentials_failed(&error, &options, &files, Path::new("/nonexistent"));
        assert_eq!(error.hints(), ["log in again: aws login --profile console"]);
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
