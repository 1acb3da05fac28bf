//! The cause in the error of any command: two calls at most, one second at most.

use std::time::Duration;

use ops_profile::{Instance, InstanceState, Kind};
use ops_ui::{Error, ErrorKind, hint};

use super::{
    facts::{Facts, Learned},
    rules::{Symptom, explain},
};
use crate::{context::Context, resolve::Choice};

/// Nobody waits longer for the words of an error.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why `instance` is not connected, where StartSession says that and no more; `said` is its answer
/// with its place.
pub(crate) async fn not_connected(cx: &Context, instance: &Instance, said: String) -> Error {
    let mut facts = Facts::of(instance);
    let asking = async {
        tokio::join!(
            async {
                match instance.kind {
                    Kind::Ec2 => Learned::from(Box::pin(cx.ec2_machine(instance)).await),
                    Kind::Hybrid => Learned::Unasked,
                }
            },
            Box::pin(cx.agent_report(instance))
        )
    };
    if let Ok((ec2, agent)) = tokio::time::timeout(PATIENCE, asking).await {
        facts.ec2 = ec2;
        facts.agent = agent.into();
    }
    if let Some(error) = absent(cx, instance, &facts).await {
        return error;
    }
    let label = instance.label();
    let error =
        Error::target(format!("`{label}` is not connected to Session Manager")).caused_by(said);
    let error = match explain(Symptom::NotConnected, &facts) {
        // One hint at the doctor is enough.
        Some(told) if told.remedy.contains("ops doctor ") => {
            return error
                .caused_by(told.text)
                .hint(told.remedy)
                .named(told.cause);
        }
        Some(told) => error
            .caused_by(told.text)
            .hint(told.remedy)
            .named(told.cause),
        None => error
            .hint("check that its agent runs, its role (AmazonSSMManagedInstanceCore), and outbound HTTPS to ssm and ssmmessages"),
    };
    // The remedy of a cause that is not known is the doctor already.
    if error.cause() == Some("never-reported") {
        return error;
    }
    error.hint(hint!(
        "see every check: ops doctor {}",
        instance.target_word()
    ))
}

/// Why `instance` cannot have a session whatever its agent says; `None` while it runs.
pub(crate) fn not_running(instance: &Instance) -> Option<Error> {
    let told = explain(Symptom::NotConnected, &Facts::of(instance))
        .filter(|told| told.checks.contains(&"state"))?;
    let state = match instance.state {
        InstanceState::ShuttingDown => "being terminated",
        state => state.as_str(),
    };
    let error = Error::target(format!("`{}` is {state}", instance.label()))
        .caused_by(told.text)
        .hint(told.remedy)
        .named(told.cause);
    Some(error)
}

/// Words for an instance that is known by its id alone, as `ssh-proxy` knows it, and is stopped or
/// not there at all: it is looked up once more, for its name and what else there is.
async fn absent(cx: &Context, instance: &Instance, facts: &Facts) -> Option<Error> {
    let is_known = instance.launched.is_some() || instance.name.is_some();
    let is_gone = facts
        .ec2
        .refusal()
        .is_some_and(|error| error.kind() == ErrorKind::NotFound);
    let state = facts.ec2.known().and_then(|machine| machine.state);
    let is_off = state.is_some_and(|state| state != InstanceState::Running);
    if is_known || !(is_gone || is_off) {
        return None;
    }
    let target = instance.id.parse().ok()?;
    match Box::pin(cx.resolve_now(&target, Choice::Ask)).await {
        Ok(found) => not_running(&found),
        Err(error) => (error.kind() == ErrorKind::NotFound).then_some(error),
    }
}

/// `error`, a denial of StartSession in the service's words `message`, with its cause.
pub(crate) async fn denied(cx: &Context, region: &str, message: &str, error: Error) -> Error {
    let message = message.to_lowercase();
    // Source: "Troubleshoot access denied error messages" of the IAM user guide.
    let is_above = [
        "explicit deny",
        "service control policy",
        "resource control policy",
        "permissions boundary",
    ]
    .iter()
    .any(|words| message.contains(words));
    if is_above {
        return error
            .caused_by("a policy above the caller's own forbids the call: no statement that is added allows it")
            .hint("ask whoever keeps the policies of the organisation and the permissions boundaries")
            .named("denied-above");
    }
    let may_ask = tokio::time::timeout(PATIENCE, cx.may_request_access(region));
    if may_ask.await.unwrap_or(false) {
        return error
            .caused_by("the caller may ask for access (ssm:StartAccessRequest): the account uses just-in-time node access")
            .hint("ask for access in the console: Systems Manager, Just-in-time node access")
            .named("just-in-time");
    }
    // The resource stands behind `on resource:`.
    let is_document = message
        .split_once("on resource: ")
        .is_some_and(|(_, rest)| {
            rest.split_whitespace()
                .next()
                .is_some_and(|arn| arn.contains(":document/"))
        });
    error.named(match is_document {
        true => "document-denied",
        false => "denied",
    })
}
