//! The logs of many servers side by side.

use std::sync::Arc;

use ops_core::Context;
use ops_remote::exec::{Event, Request};
use ops_ui::{ErrorKind, Exit, Result};

use super::{follower::LogFollower, script::LogRequest};
use crate::{
    capture::Stream,
    fleet::{HostEvent, Runner, Teller},
    hosts::Host,
    input::ReadFailure,
    many::{self, RunOptions},
    outcome::Outcome,
    signals::Relay,
    single::{HostRun, OutputBytes, Streams, unknown_end},
};

/// Reads logs and shows their lines: as they are, or on a terminal so that nothing in them moves
/// the cursor.
///
/// # Errors
/// They could not be read, or not be written here.
pub(super) async fn run_one(
    cx: &Context,
    host: &Host,
    run_request: Request,
    log_request: LogRequest,
) -> Result<Exit> {
    let _handler = cx.interrupt().handle();
    let relay = Arc::new(Relay::listen()?);
    let mut logs = LogFollower::new(cx, host, run_request, log_request, relay);
    Streams::start(cx.output(), OutputBytes::Harmless)
        .carry(cx, &mut logs)
        .await
}

impl HostRun for LogFollower {
    async fn next(&mut self) -> Result<Option<Event>> {
        Self::next(self).await
    }

    fn stdout_closed(&self) {
        Self::stdout_closed(self);
    }
}

/// Reads the logs of all of them.
///
/// # Errors
/// The output cannot be written; an interruption.
pub(super) async fn run(
    cx: &Context,
    hosts: Vec<Host>,
    run_request: Request,
    log_request: LogRequest,
    manner: RunOptions,
) -> Result<Exit> {
    let _handler = cx.interrupt().handle();
    let runner = Arc::new(LogRunner {
        cx: cx.clone(),
        hosts: hosts.clone(),
        run_request,
        log_request,
        relay: Arc::new(Relay::listen()?),
    });
    many::run_fleet(cx, hosts, runner, manner, &ReadFailure::default()).await
}

struct LogRunner {
    cx: Context,
    hosts: Vec<Host>,
    run_request: Request,
    log_request: LogRequest,
    relay: Arc<Relay>,
}

impl Runner for LogRunner {
    async fn run(&self, host: usize, teller: Teller) -> Outcome {
        let mut logs = LogFollower::new(
            &self.cx,
            &self.hosts[host],
            self.run_request.clone(),
            self.log_request.clone(),
            self.relay.clone(),
        );
        let mut has_begun = false;
        loop {
            let event = match logs.next().await {
                Ok(Some(Event::Started)) => {
                    has_begun = true;
                    HostEvent::Running
                }
                Ok(Some(Event::Stdout(bytes))) => HostEvent::Piece(Stream::Stdout, bytes),
                Ok(Some(Event::Stderr(bytes))) => HostEvent::Piece(Stream::Stderr, bytes),
                Ok(Some(Event::Note(text))) => HostEvent::Note(text),
                // The script leaves nothing running.
                Ok(Some(Event::Detached { .. })) => continue,
                Ok(Some(Event::Ended(status))) => return Outcome::Ended(status),
                Ok(None) => return Outcome::Failed(unknown_end()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    return Outcome::NotStarted("interrupted".to_owned());
                }
                Err(error) if has_begun => return Outcome::Unread(error),
                Err(error) => return Outcome::Failed(error),
            };
            teller.tell(event).await;
        }
    }
}
