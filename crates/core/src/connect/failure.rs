//! Why a session did not come about or could not go on, in words.

use aws_sdk_ssm::{
    error::{ProvideErrorMetadata as _, SdkError},
    operation::start_session::StartSessionError,
};
use ops_profile::Instance;
use ops_session::{
    closing::{Closing, ClosingReason},
    data_channel::ChannelError,
    driver::{OpenError, SessionError},
};
use ops_ui::{Error, ErrorKind, hint};

use super::{
    document::{Document, FULL_NAME},
    stream_url::StreamUrlError,
};
use crate::{
    aws::{Aws, Meaning, Network, code_of, meaning, statement_hint, wrong_clock_error},
    context::Context,
    diagnosis, iam,
    partition::Partition,
};

/// Translates a failure of StartSession.
pub(super) async fn start_failed(
    cx: &Context,
    aws: &Aws,
    instance: &Instance,
    document: &Document,
    error: SdkError<StartSessionError>,
) -> Error {
    let label = instance.label();
    let place = aws.place(Some(&instance.region));
    let code = code_of(&error).unwrap_or_default().to_owned();
    match code.as_str() {
        "TargetNotConnected" => {
            let said = format!(
                "StartSession returned TargetNotConnected for {} ({place})",
                instance.id
            );
            Box::pin(diagnosis::not_connected(cx, instance, said)).await
        }
        "InvalidDocument" | "InvalidDocumentVersion" | "InvalidDocumentContent" => {
            let call = aws.call("ssm:StartSession", None, &instance.region);
            call.failed(format!("cannot start a session on `{label}`"), &error)
                .caused_by(format!("the document `{}` is not in this region, or not for sessions", document.name()))
                .hint("list those that are: aws ssm list-documents --filters Key=DocumentType,Values=Session")
        }
        "BadRequest" | "BadRequestException" => {
            let message = error.message().unwrap_or_default().to_lowercase();
            let error = aws
                .call("ssm:StartSession", None, &instance.region)
                .failed_as(
                    ErrorKind::Unreachable,
                    format!("cannot start a session on `{label}`"),
                    &error,
                );
            hint_for_bad_request(instance, &message, error)
        }
        "ValidationException" | "InvalidParameters" => {
            let call = aws.call("ssm:StartSession", None, &instance.region);
            let names: Vec<String> = document
                .parameters()
                .unwrap_or_default()
                .into_keys()
                .map(|name| format!("`{name}`"))
                .collect();
            let what = format!("cannot start a session on `{label}`");
            let error = call.failed_as(ErrorKind::Usage, what, &error);
            let error = if names.is_empty() {
                error.caused_by(format!("document `{}`, no parameters", document.name()))
            } else {
                error.caused_by(format!(
                    "document `{}`, parameters {}",
                    document.name(),
                    names.join(", ")
                ))
            };
            error.hint(match document {
                Document::PortForwardingToRemoteHost { .. } => FULL_NAME.into(),
                _ => hint!(
                    "see what it takes: aws ssm get-document --name {} --query Content",
                    document.name()
                ),
            })
        }
        code if meaning(code) == Meaning::Denied => {
            let caller = cx.identity().await.ok();
            let account = caller.map_or("*", |caller| caller.account.as_str());
            let (server, document) = (
                iam::instance_arn(instance, account),
                iam::document_arn(&instance.region, account, document.name()),
            );
            let statement = iam::start_session(&[&server, &document]);
            let message = error.message().unwrap_or_default().to_owned();
            let resource = format!("{server}` and `{document}");
            let error = aws
                .call("ssm:StartSession", Some(resource), &instance.region)
                .failed(format!("cannot start a session on `{label}`"), &error)
                .hint(statement_hint(&statement));
            let error = Box::pin(diagnosis::denied(cx, &instance.region, &message, error)).await;
            // The service mostly says it too.
            let is_said = |arn: &str| error.why().iter().any(|why| why.contains(arn));
            match caller.filter(|caller| !is_said(&caller.arn)) {
                Some(caller) => error.caused_by(format!("the caller is `{}`", caller.arn)),
                None => error,
            }
        }
        code => {
            let call = aws.call(
                "ssm:StartSession",
                Some(instance.id.clone()),
                &instance.region,
            );
            let error = call.failed(format!("cannot start a session on `{label}`"), &error);
            match meaning(code) {
                Meaning::Throttled => error
                    .hint("others use up the three sessions a second that AWS lets start in an account and region")
                    .named("throttled"),
                _ => error,
            }
        }
    }
}

/// Adds what may help against an answer that is about the agent or the account and not about the
/// call. `message` is the service's own, in small letters: the error's words have names in them,
/// such as that of an AWS profile, and a profile may be called `frontier`.
fn hint_for_bad_request(instance: &Instance, message: &str, error: Error) -> Error {
    if message.contains("advanced-instances") || message.contains("tier") {
        return error
            .hint(hint!("enable the advanced tier: aws ssm update-service-setting --setting-id /ssm/managed-instance/activation-tier --setting-value advanced --region {}", instance.region))
            .named("standard-tier");
    }
    if message.contains("agent") {
        return error
            .hint(diagnosis::update_agent(instance))
            .named("agent-lacks-plugin");
    }
    error.hint(hint!(
        "see what is known of it: ops ls -o wide {}",
        instance.label()
    ))
}

/// Translates a failure to open the web socket by way of `network`.
pub(super) fn open_failed(instance: &Instance, error: &OpenError, network: &Network) -> Error {
    let what = format!("cannot open the session on `{}`", instance.label());
    let why = crate::aws::chain(error);
    let proxy = network.proxy_variable();
    match error {
        OpenError::ProxySetting(_) => Error::usage(what)
            .caused_by(why)
            .hint(hint!("write {}=http://HOST:PORT", proxy)),
        OpenError::Roots { .. } => Error::usage(what)
            .caused_by(why)
            .hint("name a PEM file with AWS_CA_BUNDLE, or unset it"),
        OpenError::NoRoots => Error::usage(what)
            .caused_by(why)
            .hint("install the system's CA certificates, or name a PEM file with AWS_CA_BUNDLE"),
        OpenError::Upgrade {
            status: 401 | 403,
            body,
            ..
        } => {
            if speaks_of_time(body) {
                return wrong_clock_error(what, why).caused_by(body);
            }
            let error = Error::new(ErrorKind::Denied, what).caused_by(why);
            let error = if body.is_empty() {
                error
            } else {
                error.caused_by(body)
            };
            let statement = iam::statement_text("ssmmessages:OpenDataChannel", &instance.region);
            error
                .caused_by("it was refused with a signature and without one: the caller may lack `ssmmessages:OpenDataChannel` on `*`")
                .hinted_with(statement.as_deref().map(statement_hint))
        }
        OpenError::Upgrade { body, .. } => {
            let error = Error::target(what).caused_by(why);
            let error = if body.is_empty() {
                error
            } else {
                error.caused_by(body)
            };
            error.hint("try again; the session may be gone already")
        }
        OpenError::Tls { .. } => Error::target(what).caused_by(why).hint(
            "if a proxy inspects TLS here, name its certificate: export AWS_CA_BUNDLE=FILE.pem",
        ),
        OpenError::ProxyRefused { status: 407, .. } => {
            Error::target(what).caused_by(why).hint(hint!(
                "give the proxy's credentials: {}=http://USER:PASSWORD@HOST:PORT",
                proxy
            ))
        }
        OpenError::ProxyRefused { .. } | OpenError::Proxy { .. } => Error::target(what)
            .caused_by(why)
            .hint(hint!("check the proxy that {} names", proxy)),
        _ => Error::target(what).caused_by(why).hint(hint!(
            "check the network: HTTPS to ssmmessages.{}.{} must be open, or HTTPS_PROXY set",
            instance.region,
            Partition::of(&instance.region).suffix
        )),
    }
}

/// Whether a refusal is about the signature or the time in it.
fn speaks_of_time(body: &str) -> bool {
    let body = body.to_lowercase();
    [
        "signature",
        "expired",
        "skew",
        "clock",
        "x-amz-date",
        "too old",
    ]
    .iter()
    .any(|word| body.contains(word))
}

/// A stream URL that leads elsewhere than to Session Manager.
pub(super) fn stream_url_refused(instance: &Instance, error: &StreamUrlError) -> Error {
    let refused = Error::new(
        ErrorKind::Refused,
        format!("the session on `{}` is not opened", instance.label()),
    )
    .caused_by(format!(
        "the stream URL that StartSession gave is not dialled: {error}"
    ));
    match error {
        StreamUrlError::Host(_) => refused.hint("if the host is yours, name it in the team profile: `aws: { endpoints: { ssmmessages: https://HOST } }`"),
        _ => refused.hint("a wrong endpoint may have answered: check AWS_ENDPOINT_URL and AWS_ENDPOINT_URL_SSM"),
    }
}

/// The connection is lost, and the service does not let the caller take the session up again.
/// `words` is the denial.
pub(super) fn resume_denied(label: &str, session_id: &str, words: &Error) -> Error {
    Error::new(
        ErrorKind::Denied,
        format!("the connection to `{label}` was lost, and the session may not be taken up again"),
    )
    .caused_as(words)
    .caused_by(format!("the session was `{session_id}`"))
    .hinted_as(words)
}

/// Translates the end of a session against its owner's will.
pub(super) fn session_failed(label: &str, error: &SessionError) -> Error {
    match error {
        // Whoever tried to have the key made has told why, in better words.
        SessionError::Channel(ChannelError::NoDataKey { .. }) => {
            Error::target(format!("the session on `{label}` could not be encrypted"))
                .caused_by(error)
                .lasting()
        }
        SessionError::Channel(
            ChannelError::Undecryptable
            | ChannelError::RepeatedCiphertext
            | ChannelError::KeyRoundSkipped,
        ) => Error::target(format!("the encrypted session on `{label}` was broken off"))
            .caused_by(error)
            .caused_by("nothing of what came is shown, and nothing more was sent")
            .hint("try again; if it happens again, somebody between this machine and the server changes what is sent, or its agent is faulty"),
        SessionError::Channel(ChannelError::NoAnswer(_) | ChannelError::HandshakeTimedOut(_)) => {
            Error::target(format!("`{label}` does not answer"))
                .caused_by(error)
                .hint(hint!("see when its agent last reported: ops ls -o wide {}", label))
        }
        SessionError::Channel(ChannelError::LargePayloadLost { .. }) => {
            Error::target(format!("the session on `{label}` failed"))
                .caused_by(error)
                .hint("try again: for a day new sessions to it send no more than 1,024 bytes at once")
        }
        SessionError::Channel(_) => Error::target(format!("the session on `{label}` failed"))
            .caused_by(error)
            .hint("try again; with -vv the protocol's own log is shown"),
        SessionError::Gone(_) | SessionError::NotResumed(_) => {
            Error::target(format!("the session on `{label}` is lost"))
                .caused_by(error)
                .hint("start a new one; nothing brings this one back")
        }
    }
}

/// Translates a session's end, where it tells of a failure.
pub(super) fn closed(label: &str, closing: &Closing) -> Option<Error> {
    if !closing.is_failure() {
        return None;
    }
    // Until the last one, what they tell of stays until somebody changes the account, the role or
    // the agent.
    let failure = |what: String| Error::target(what).caused_by(closing.text()).lasting();
    Some(match closing.reason() {
        ClosingReason::AgentTooOld => {
            failure(format!("the agent on `{label}` is too old for this session"))
                .hint(hint!("update it: aws ssm send-command --document-name AWS-UpdateSSMAgent --targets Key=InstanceIds,Values=ID (version: ops ls -o wide {})", label))
                .named("agent-lacks-plugin")
        }
        ClosingReason::RunAsUser => {
            failure(format!("the session on `{label}` was refused by its agent"))
                .hint("the user that the session preferences name must exist on the instance: create the user there, or change the preferences (Systems Manager, Session Manager, Preferences)")
                .named("run-as-missing")
        }
        _ => Error::target(format!("the session on `{label}` ended with a failure"))
            .caused_by(closing.text()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_an_ordinary_end_is_no_failure() {
        let closed = |text: &str| closed("web-1", &Closing::of(text));
        assert!(closed("").is_none());
        assert!(closed("Exiting session with sessionId: alice-0.").is_none());
    }

    #[test]
    fn a_name_that_reads_like_a_cause_is_none() {
        let instance = Instance::bare("i-0a1b2c3d4e5f60718", "eu-west-1");
        let hint_for = |message: &str| {
            let error = Error::unexpected("cannot start a session")
                .caused_by(format!("AWS profile `frontier-agents`: {message}"));
            hint_for_bad_request(&instance, message, error).hints()[0].to_string()
        };
        assert!(hint_for("something else").contains("ops ls -o wide"));
        assert!(hint_for("enable advanced-instances tier").contains("activation-tier"));
        assert!(hint_for("update your agent").contains("AWS-UpdateSSMAgent"));
    }

    #[test]
    fn an_old_agent_is_told_from_other_failures() {
        let error = closed(
            "web-1",
            &Closing::of("Plugin with name Port is not supported by this version of ssm agent, please update to latest version. Step name: Port"),
        )
        .expect("a failure");
        assert!(error.what().contains("too old"));
    }
}
