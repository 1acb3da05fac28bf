//! Many connections over one session: the agent's end of the multiplexer.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt as _, future::BoxFuture};
use ops_session::smux::{Event, HEADER_LEN, Server, StreamId};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf},
    sync::watch,
    task::JoinSet,
    time::Instant,
};

use super::{PortRequest, basic::flag_of};
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

/// Bytes of one connection that may wait to be sent before it is read no further.
const STREAM_QUEUE_BYTES: usize = 128 * 1024;
/// A frame of the largest size with its header.
const FRAME_BYTES: usize = READ_BYTES + HEADER_LEN;
/// Most bytes read from a connection at once: one frame.
const READ_BYTES: usize = 32 * 1024;
/// Keep-alive of agents and clients that have it: a frame this often, and the end when none came
/// for three times as long.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(30);

/// Accepts streams, one dial at a time, until the session ends or the future is dropped.
pub(super) async fn run(channel: &Channel, spec: &SessionSpec, asked: &PortRequest<'_>) -> Closing {
    let shared = Arc::new(SharedPortMux {
        state: Mutex::new(PortMuxState {
            server: Server::new(),
            incoming: HashMap::new(),
            last_input: Instant::now(),
            broken: false,
        }),
        changed: watch::Sender::new(0),
    });
    channel
        .install(MuxPortInput {
            shared: Arc::clone(&shared),
            channel: channel.clone(),
        })
        .await;
    // Both ends have to be new enough: an old client takes no keep-alive frames and would be found
    // dead.
    let keeps_alive = version::keeps_alive(&spec.agent_version, &asked.client_version);
    tokio::select! {
        () = spec.pace.run(transmit(channel.clone(), spec.pace, Arc::clone(&shared))) => {}
        () = accept(channel, spec, asked, &shared) => {}
        () = keep_alive(&shared), if keeps_alive => {}
    }
    channel.drain().await;
    Closing::default()
}

struct SharedPortMux {
    state: Mutex<PortMuxState>,
    /// Counts changes: whoever waits for something looks again.
    changed: watch::Sender<u64>,
}

struct PortMuxState {
    server: Server,
    incoming: HashMap<StreamId, Incoming>,
    last_input: Instant,
    /// The bytes of the client were not smux; the session is over.
    broken: bool,
}

/// What the client sent on one stream and its connection has not taken yet; bounded by the budget
/// of the session.
#[derive(Default)]
struct Incoming {
    queue: VecDeque<Bytes>,
    finished: bool,
}

impl SharedPortMux {
    fn lock(&self) -> MutexGuard<'_, PortMuxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut PortMuxState) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed
            .send_modify(|count| *count = count.wrapping_add(1));
        result
    }

    /// Looks until `look` finds what it wants.
    async fn until<T>(&self, mut look: impl FnMut(&mut PortMuxState) -> Option<T>) -> T {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            if let Some(found) = look(&mut self.lock()) {
                return found;
            }
            // The sender is ours.
            let _ = changed.changed().await;
        }
    }

    fn close(&self, id: StreamId) {
        self.change(|state| {
            state.server.close(id);
            state.incoming.remove(&id);
        });
    }
}

/// Sends what the multiplexer has to send, at the agent's pace. As with the official agent, a frame
/// that has been begun is sent whole, over as many payloads as it takes, and whatever comes
/// meanwhile waits behind it.
async fn transmit(channel: Channel, pace: Pace, shared: Arc<SharedPortMux>) {
    let mut frames = Bytes::new();
    loop {
        channel.active().await;
        if frames.is_empty() {
            // Chosen as late as possible, so that the stream that has sent least is next.
            let next = shared
                .until(|state| {
                    if state.broken {
                        return Some(None);
                    }
                    state.server.poll_transmit(FRAME_BYTES).map(Some)
                })
                .await;
            let Some(bytes) = next else { return };
            frames = bytes;
            shared.change(|_| ());
        }
        let payload = frames.split_to(frames.len().min(PAYLOAD_BYTES));
        channel.send(payload::OUTPUT, payload).await;
        pace.pause().await;
    }
}

async fn accept(
    channel: &Channel,
    spec: &SessionSpec,
    asked: &PortRequest<'_>,
    shared: &Arc<SharedPortMux>,
) {
    let machine = Machine::of(spec, ssh::serve);
    let mut transfers = JoinSet::new();
    loop {
        // Dials are serial, as the agent's: a destination that answers nothing holds up every
        // stream opened after it.
        let id = shared.until(|state| state.server.accept()).await;
        match machine.dial(asked.host, asked.port).await {
            Ok(stream) => {
                transfers.spawn(transfer(Arc::clone(shared), id, stream));
            }
            Err(error) => {
                tracing::debug!(%error, "dial failed");
                channel
                    .send(
                        payload::FLAG,
                        Bytes::copy_from_slice(&flag::CONNECT_TO_PORT_ERROR.to_be_bytes()),
                    )
                    .await;
                shared.close(id);
            }
        }
        while transfers.try_join_next().is_some() {}
    }
}

/// Carries one connection. When either side closes, both are closed, whatever was still to come
/// from the other.
async fn transfer(shared: Arc<SharedPortMux>, id: StreamId, stream: Stream) {
    let (reader, writer) = tokio::io::split(stream);
    tokio::select! {
        () = from_connection(&shared, id, reader) => {}
        () = to_connection(&shared, id, writer) => {}
    }
    shared.close(id);
}

async fn from_connection(shared: &SharedPortMux, id: StreamId, mut reader: ReadHalf<Stream>) {
    let mut buffer = BytesMut::new();
    loop {
        // A connection that is faster than the session is read no further, so that its sender waits
        // and this process keeps its memory.
        shared
            .until(|state| (state.server.queued_bytes_of(id) < STREAM_QUEUE_BYTES).then_some(()))
            .await;
        buffer.reserve(READ_BYTES);
        let Ok(1..) = reader.read_buf(&mut buffer).await else {
            return;
        };
        while !buffer.is_empty() {
            let frame = buffer.split_to(buffer.len().min(READ_BYTES)).freeze();
            shared.change(|state| state.server.write(id, frame));
        }
    }
}

async fn to_connection(shared: &SharedPortMux, id: StreamId, mut writer: WriteHalf<Stream>) {
    loop {
        let next = shared
            .until(|state| {
                let incoming = state.incoming.entry(id).or_default();
                match incoming.queue.pop_front() {
                    Some(bytes) => Some(Some(bytes)),
                    None => incoming.finished.then_some(None),
                }
            })
            .await;
        let Some(bytes) = next else {
            let _ = writer.shutdown().await;
            return;
        };
        if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
            return;
        }
        // Only what the connection has taken gives room back to the session's budget.
        shared.change(|state| state.server.release(id, bytes.len()));
    }
}

async fn keep_alive(shared: &SharedPortMux) {
    let mut tick = tokio::time::interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
    loop {
        tick.tick().await;
        let silent = shared.change(|state| {
            state.server.keep_alive();
            // A session whose budget is spent reads nothing, which is no silence of the client.
            state.last_input.elapsed() > KEEP_ALIVE_TIMEOUT && state.server.wants_input()
        });
        if silent {
            return;
        }
    }
}

struct MuxPortInput {
    shared: Arc<SharedPortMux>,
    channel: Channel,
}

impl InputHandler for MuxPortInput {
    fn handle(&mut self, payload_type: u32, payload: Bytes) -> BoxFuture<'_, Disposition> {
        async move {
            match payload_type {
                payload::OUTPUT => {
                    // While the budget of all streams is spent nothing is taken: one stalled stream
                    // stalls the session.
                    self.shared
                        .until(|state| state.server.wants_input().then_some(()))
                        .await;
                    self.shared.change(|state| state.take(payload));
                }
                payload::FLAG if flag_of(&payload) == flag::TERMINATE_SESSION => self.channel.end(),
                _ => {}
            }
            Disposition::Taken
        }
        .boxed()
    }
}

impl PortMuxState {
    fn take(&mut self, input: Bytes) {
        self.last_input = Instant::now();
        self.broken |= self.server.handle_input(input).is_err();
        while let Some(event) = self.server.poll_event() {
            match event {
                Event::Opened(id) => {
                    self.incoming.insert(id, Incoming::default());
                }
                Event::Data(id, bytes) => {
                    self.incoming.entry(id).or_default().queue.push_back(bytes);
                }
                Event::Finished(id) | Event::Refused(id) => {
                    self.incoming.entry(id).or_default().finished = true;
                }
            }
        }
    }
}
