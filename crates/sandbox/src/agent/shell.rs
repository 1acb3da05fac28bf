//! Shells and interactive commands: a program on a terminal.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use pty_process::OwnedWritePty;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    channel::{Channel, Disposition, InputHandler, PAYLOAD_BYTES},
    environment::Environment,
    frame::payload,
    pty,
    utf8::Utf8Chunker,
};
use crate::{
    Pace,
    session::{Closing, SessionSpec},
};

/// How long a program may take to die after its terminal was hung up.
const DEATH: Duration = Duration::from_secs(1);

/// Runs a shell, or `command` by `sh`, until it ends or the future is dropped.
pub(super) async fn run(channel: &Channel, spec: &SessionSpec, command: Option<&str>) -> Closing {
    let started = Environment::new(&spec.instance, &spec.state).and_then(|environment| {
        pty::spawn(
            command.map_or_else(
                || environment.interactive_shell(),
                |command| environment.sh(command),
            ),
            None,
        )
    });
    let mut terminal = match started {
        Ok(terminal) => terminal,
        Err(error) => {
            return start_failure(spec.pace, &format!("Failed to start pty: {error}")).await;
        }
    };
    channel
        .install(ShellInput {
            writer: terminal.writer,
        })
        .await;
    let sending = pump(channel.clone(), spec.pace, terminal.reader);
    spec.pace.run(sending).await;
    let _ = tokio::time::timeout(DEATH, terminal.child.wait()).await;
    Closing::default()
}

/// What the agent says, after a while, of a program that it could not start.
pub(super) async fn start_failure(pace: Pace, why: &str) -> Closing {
    pace.delay(Duration::from_secs(2)).await;
    Closing {
        output: format!("Unable to start command: {why}\n\n"),
    }
}

/// Sends what the program writes, until it has closed its terminal.
async fn pump(channel: Channel, pace: Pace, mut reader: pty_process::OwnedReadPty) {
    let mut chunker = Utf8Chunker::default();
    let mut buffer = [0; PAYLOAD_BYTES];
    pace.wait_for_profile().await;
    loop {
        channel.active().await;
        // The far end of a terminal that is closed reads as an error, not as an end.
        let Ok(len @ 1..) = reader.read(&mut buffer).await else {
            return;
        };
        channel
            .send(payload::OUTPUT, chunker.push(&buffer[..len]))
            .await;
        pace.pause().await;
    }
}

struct ShellInput {
    writer: OwnedWritePty,
}

#[derive(Deserialize)]
struct Size {
    cols: u32,
    rows: u32,
}

impl InputHandler for ShellInput {
    fn handle(&mut self, payload_type: u32, payload: Bytes) -> BoxFuture<'_, Disposition> {
        async move {
            let result = match payload_type {
                payload::OUTPUT => self.writer.write_all(&payload).await,
                payload::SIZE => match serde_json::from_slice::<Size>(&payload) {
                    Ok(size) => pty::resize(&self.writer, size.cols, size.rows),
                    Err(error) => Err(error.into()),
                },
                _ => Ok(()),
            };
            if result.is_ok() {
                Disposition::Taken
            } else {
                Disposition::Refused
            }
        }
        .boxed()
    }
}
