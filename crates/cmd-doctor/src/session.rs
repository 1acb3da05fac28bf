//! A real session, opened and closed.

use std::time::{Duration, Instant};

use ops_core::{Context, Document, OpenOptions};
use ops_profile::Instance;
use ops_session::driver::Event;
use ops_ui::{Error, ErrorKind, Result};
use tokio::time::timeout;

use crate::finding::Finding;

/// All of a session. Agents of real servers take a second or two for their first output.
const PATIENCE: Duration = Duration::from_secs(20);
/// The first output of a session that is ready.
const FIRST_OUTPUT: Duration = Duration::from_secs(5);
/// Answers "slow down" that are borne; more of them are what is wrong.
const THROTTLES: u32 = 2;

/// Opens a session on `instance`, waits for its first output, ends it.
pub(crate) async fn check(
    cx: &Context,
    instance: &Instance,
    reason: Option<String>,
) -> (Finding, Option<Error>) {
    match timeout(PATIENCE, open(cx, instance, reason)).await {
        Ok(Ok(finding)) => (finding, None),
        Ok(Err(error)) => (refused(&error), Some(error)),
        Err(_) => (
            Finding::of_error(
                "session",
                &Error::target(format!(
                    "no session on `{}` within {PATIENCE:?}",
                    instance.label()
                )),
            ),
            None,
        ),
    }
}

/// What the profile asks for is no fault of the server.
fn refused(error: &Error) -> Finding {
    match error.kind() {
        ErrorKind::Refused => Finding::untold("session", error),
        _ => {
            let mut finding = Finding::of_error("session", error);
            finding.outcome = crate::finding::Outcome::Fail;
            finding
        }
    }
}

async fn open(cx: &Context, instance: &Instance, reason: Option<String>) -> Result<Finding> {
    let options = OpenOptions {
        reason,
        throttles: Some(THROTTLES),
        ..OpenOptions::default()
    };
    let begin = Instant::now();
    let connection = cx.open(instance, Document::shell(), options).await?;
    let times = connection.times;
    let id = connection.id.clone();
    let (mut session, ending) = connection.into_parts();
    let waited = Instant::now();
    let first = timeout(FIRST_OUTPUT, async {
        loop {
            match session.events.next().await {
                Some(Event::Output(_)) => return Ok(true),
                Some(Event::Closed(closing)) => {
                    return ending.closed(&closing).map_or(Ok(false), Err);
                }
                Some(Event::Failed(error)) => return Err(ending.failed(&error)),
                Some(_) => {}
                None => return Ok(false),
            }
        }
    })
    .await;
    let output = waited.elapsed();
    ending.terminate().await;
    drop(session);
    let first = match first {
        Ok(told) => match told? {
            true => format!("first output {} ms", output.as_millis()),
            false => "it ended without output".to_owned(),
        },
        Err(_) => format!("no output within {FIRST_OUTPUT:?}"),
    };
    let text = format!(
        "opened and ended: StartSession {} ms, socket {} ms, handshake {} ms, {first} ({id})",
        times.start.as_millis(),
        times.socket.as_millis(),
        times.ready.as_millis(),
    );
    Ok(Finding::ok("session", text).took(begin.elapsed()))
}
