//! One connection per session: old agents' forwarding, and the raw stream of SSH sessions.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf},
    sync::{Notify, mpsc, oneshot},
};

use super::PortRequest;
use crate::agent::{dial::Stream, ssh};
use crate::{
    Pace,
    agent::{
        channel::{Channel, Disposition, InputHandler, PAYLOAD_BYTES},
        frame::{flag, payload},
        machine::Machine,
        version,
    },
    session::{Closing, SessionSpec},
};

/// Asks for a new connection; the answer is its writing half, or nothing when none could be made.
type Reconnect = oneshot::Sender<WriteHalf<Stream>>;

/// How long the service waits for a session worker that has died.
const DEAD_WORKER_FOUND_AFTER: Duration = Duration::from_secs(60);
/// What the agent says of a session worker that died; its own text, the odd blank included.
const DEAD_WORKER_TEXT: &str = "document process failed unexpectedly: ipc messaging received timeout signal , check [ssm-document-worker]/[ssm-session-worker] log for crash reason";

/// Connects at once and carries bytes. A forwarding session outlives its connection: it connects
/// again when input arrives; the SSH kind ends with its connection.
pub(super) async fn run(
    channel: &Channel,
    spec: &SessionSpec,
    asked: &PortRequest<'_>,
    forwards: bool,
) -> Closing {
    let refused = |error: String| Closing {
        output: format!("Unable to connect to specified port: {error}"),
    };
    let machine = Machine::of(spec, ssh::serve);
    let stream = match machine.dial(asked.host, asked.port).await {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%error, "dial failed");
            return dead_worker(spec.pace).await;
        }
    };
    let (mut reader, writer) = tokio::io::split(stream);
    // The half that writes belongs to the handler and the half that reads to the loop below; a new
    // connection has to reach both.
    let (reconnect, mut reconnects) = mpsc::channel::<Reconnect>(1);
    let connection = Arc::new(Connection::default());
    channel
        .install(BasicPortInput {
            writer,
            reconnect,
            connection: Arc::clone(&connection),
            channel: channel.clone(),
            terminates: version::understands_terminate(&spec.agent_version),
        })
        .await;
    loop {
        let sending = pump(channel.clone(), spec.pace, reader, Arc::clone(&connection));
        spec.pace.run(sending).await;
        if !forwards {
            return Closing::default();
        }
        // Nobody is told: the client finds out when it sends.
        connection.lost.store(true, Ordering::SeqCst);
        let Some(reconnect) = reconnects.recv().await else {
            return Closing::default();
        };
        match machine.dial(asked.host, asked.port).await {
            Ok(stream) => {
                let (read, write) = tokio::io::split(stream);
                reader = read;
                let _ = reconnect.send(write);
            }
            Err(error) => return refused(error),
        }
    }
}

/// Where nothing listens, the official agent's worker closes a connection that it never had, and
/// dies of it before it can say why; the other process of the agent notices when its patience with
/// the worker is over. Source: `PortPlugin.stop` and `BasicPortSession.Stop` of amazon-ssm-agent
/// 3.3.0.0, and that version running.
async fn dead_worker(pace: Pace) -> Closing {
    pace.delay(DEAD_WORKER_FOUND_AFTER).await;
    Closing {
        output: DEAD_WORKER_TEXT.to_owned(),
    }
}

#[derive(Default)]
struct Connection {
    /// The far end is gone; the next input wants a new connection.
    lost: AtomicBool,
    /// The client's connection is gone.
    disconnect: Notify,
}

/// Sends what arrives until the connection ends or the client asks for its end.
async fn pump(
    channel: Channel,
    pace: Pace,
    mut reader: ReadHalf<Stream>,
    connection: Arc<Connection>,
) {
    let mut buffer = [0; PAYLOAD_BYTES];
    loop {
        channel.active().await;
        // The flag of the client ends the reading at once: what the far end still sends is dropped,
        // as by the agent, which closes the connection.
        let read = tokio::select! {
            read = reader.read(&mut buffer) => read,
            () = connection.disconnect.notified() => return,
        };
        let Ok(len @ 1..) = read else { return };
        channel
            .send(payload::OUTPUT, Bytes::copy_from_slice(&buffer[..len]))
            .await;
        pace.pause().await;
    }
}

struct BasicPortInput {
    writer: WriteHalf<Stream>,
    reconnect: mpsc::Sender<Reconnect>,
    connection: Arc<Connection>,
    channel: Channel,
    terminates: bool,
}

impl BasicPortInput {
    async fn write(&mut self, bytes: &[u8]) -> Option<()> {
        if self.connection.lost.load(Ordering::SeqCst) {
            let (reply, writer) = oneshot::channel();
            self.reconnect.send(reply).await.ok()?;
            self.writer = writer.await.ok()?;
            self.connection.lost.store(false, Ordering::SeqCst);
        }
        self.writer.write_all(bytes).await.ok()?;
        self.writer.flush().await.ok()
    }
}

impl InputHandler for BasicPortInput {
    fn handle(&mut self, payload_type: u32, payload: Bytes) -> BoxFuture<'_, Disposition> {
        async move {
            match (payload_type, flag_of(&payload)) {
                (payload::OUTPUT, _) if self.write(&payload).await.is_none() => {
                    return Disposition::Refused;
                }
                (payload::FLAG, flag::DISCONNECT_TO_PORT) => {
                    let _ = self.writer.shutdown().await;
                    self.connection.disconnect.notify_one();
                }
                (payload::FLAG, flag::TERMINATE_SESSION) if self.terminates => self.channel.end(),
                _ => {}
            }
            Disposition::Taken
        }
        .boxed()
    }
}

/// The value of a flag payload; 0, which is none, when it is too short.
pub(super) fn flag_of(payload: &[u8]) -> u32 {
    payload
        .first_chunk()
        .map_or(0, |&bytes| u32::from_be_bytes(bytes))
}
