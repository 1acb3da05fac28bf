//! Many connections over one port session: smux on the driver.
//!
//! smux version 1 has no window per stream, so whatever one local reader leaves lying holds up
//! everything behind it. The bounds:
//!
//! - A stream buffers up to [`MuxOptions::stream_bound`] bytes for its reader while all streams
//!   together hold less than [`MuxOptions::session_bound`], and up to [`MuxOptions::crowded_bound`]
//!   beyond that (each plus one message of the agent).
//! - At its bound a stream *blocks* the session: nothing more is read from it, the driver's own
//!   bound fills, and TCP holds back the service. Nothing is dropped. [`Mux::is_blocked`] says so,
//!   and new connections should go to another session.
//! - If others have been held up for [`MuxOptions::blocked_after`] by a stream of which nothing was
//!   read for that long, it is reset: its reader gets an error, never an end of file. A stream that
//!   is alone may wait as long as it likes.
//! - Each stream queues up to [`MuxOptions::write_bound`] bytes towards the agent while all
//!   together queue less than [`MuxOptions::session_write_bound`], and up to
//!   [`MuxOptions::crowded_write_bound`] beyond that.
//!
//! A session of `n` streams thus holds at most this many bytes here:
//! `session_bound + stream_bound + session_write_bound + write_bound` for all of them together, and
//! `n * (crowded_bound + crowded_write_bound)` for each by itself.
//!
//! `FIN` closes a stream in both directions at the agent, which would cut off the answer to a
//! client that has only shut down its sending side. So
//! [`AsyncWriteExt::shutdown`](tokio::io::AsyncWriteExt::shutdown) sends nothing; `FIN` goes out
//! when the stream is dropped.

mod stream;
mod task;

use std::collections::HashMap;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

pub use self::stream::MuxStream;
use super::{Event, Sender, Session, Stats};
use crate::smux::{Client, SmuxError, StreamId};
use crate::wire::Flag;

/// Between the flag that ends a session and giving up on the answer.
const TERMINATE_TIMEOUT: Duration = Duration::from_secs(2);

/// Bounds and habits of a [`Mux`].
#[derive(Clone, Debug)]
pub struct MuxOptions {
    /// Whether the agent wants keep-alive frames; see [`crate::handshake`].
    pub keep_alive: bool,
    /// Whether to ask the agent for payloads above 1,024 bytes once there is enough to send.
    pub large_payloads: bool,
    /// Bytes one stream may hold for its reader.
    pub stream_bound: usize,
    /// Bytes all streams may hold before the smaller bound counts.
    pub session_bound: usize,
    /// Bytes one stream may hold for its reader beyond `session_bound`.
    pub crowded_bound: usize,
    /// Bytes one stream may hold for the agent.
    pub write_bound: usize,
    /// Bytes all streams may hold for the agent before the smaller bound counts.
    pub session_write_bound: usize,
    /// Bytes one stream may hold for the agent beyond `session_write_bound`.
    pub crowded_write_bound: usize,
    /// How long a stream may hold up others.
    pub blocked_after: Duration,
}

impl Default for MuxOptions {
    fn default() -> Self {
        Self {
            keep_alive: false,
            large_payloads: true,
            stream_bound: 256 << 10,
            session_bound: 256 << 10,
            // With one more message of the agent it still fits into 16 KiB.
            crowded_bound: 15 << 10,
            write_bound: 64 << 10,
            session_write_bound: 128 << 10,
            crowded_write_bound: 8 << 10,
            blocked_after: Duration::from_secs(30),
        }
    }
}

impl MuxOptions {
    /// Bytes a stream may hold for the agent while all streams hold `queued`.
    fn write_bound_at(&self, queued: usize) -> usize {
        if queued < self.session_write_bound {
            self.write_bound.max(1)
        } else {
            self.crowded_write_bound.max(1)
        }
    }
}

/// What a person, or the owner of several sessions, wants to know.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// Something happened to the session: [`Event::Disconnected`] and the like; never data.
    Session(Event),
    /// A stream was reset because it held up others for this long.
    Blocked {
        /// The stream.
        id: StreamId,
        /// [`MuxOptions::blocked_after`].
        waited: Duration,
    },
    /// What the agent sent is not smux; the session is over.
    Broken(SmuxError),
}

/// Why a stream ended otherwise than by its far end's close. Inside the
/// [`io::Error`] of a [`MuxStream`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The agent could not connect to the destination. The kind is
    /// [`io::ErrorKind::ConnectionRefused`].
    #[error("the destination refused the connection or could not be resolved")]
    Refused,
    /// It held up the other streams. The kind is [`io::ErrorKind::ConnectionReset`].
    #[error("nothing was read for {} s while other connections waited", .0.as_secs())]
    Blocked(Duration),
    /// The session is over. The kind is [`io::ErrorKind::ConnectionAborted`].
    #[error("the session has ended{}", .0)]
    Ended(String),
    /// Nothing can be written: the far end has closed. The kind is [`io::ErrorKind::BrokenPipe`].
    #[error("the far end has closed the connection")]
    Closed,
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        let kind = match error {
            StreamError::Refused => io::ErrorKind::ConnectionRefused,
            StreamError::Blocked(_) => io::ErrorKind::ConnectionReset,
            StreamError::Ended(_) => io::ErrorKind::ConnectionAborted,
            StreamError::Closed => io::ErrorKind::BrokenPipe,
        };
        Self::new(kind, error)
    }
}

/// A session shared by many connections. Clones share it; when the last clone and the last stream
/// are gone, the connection to the service is closed (the session itself lives on there until it is
/// terminated).
#[derive(Clone, Debug)]
pub struct Mux {
    shared: Arc<SharedMux>,
    guard: Arc<MuxGuard>,
    sender: Sender,
}

impl Mux {
    /// Takes over a session whose [`Event::Ready`] has come, and spawns the tasks that carry it.
    pub fn new(session: Session, options: MuxOptions) -> (Self, mpsc::UnboundedReceiver<Notice>) {
        let Session { sender, events } = session;
        let (notices, receiver) = mpsc::unbounded_channel();
        let client = if options.keep_alive {
            Client::new().with_keep_alive(Duration::ZERO)
        } else {
            Client::new()
        };
        let shared = Arc::new(SharedMux {
            state: Mutex::new(MuxState {
                client,
                streams: HashMap::new(),
                buffered: 0,
                blocked: false,
                ended: None,
            }),
            options,
            to_send: Notify::new(),
            to_read: Notify::new(),
            over: watch::Sender::new(false),
        });
        tokio::spawn(task::send(shared.clone(), sender.clone()));
        tokio::spawn(task::receive(shared.clone(), events, notices));
        let mux = Self {
            guard: Arc::new(MuxGuard(shared.clone())),
            shared,
            sender,
        };
        (mux, receiver)
    }

    /// Opens a stream. Whether the agent can connect shows later: a refused one fails its reads and
    /// writes with [`io::ErrorKind::ConnectionRefused`].
    ///
    /// Fails when the session is over or has used up its stream ids; a new session is then needed.
    pub fn open(&self) -> io::Result<MuxStream> {
        let mut state = self.shared.lock();
        if let Some(ended) = &state.ended {
            return Err(StreamError::Ended(ended.clone()).into());
        }
        let id = state.client.open().map_err(io::Error::other)?;
        state.streams.insert(id, StreamState::new());
        let blocked = state.blocked;
        drop(state);
        self.shared.to_send.notify_one();
        if blocked {
            // From now on somebody waits.
            self.shared.to_read.notify_one();
        }
        Ok(MuxStream::new(
            id,
            self.shared.clone(),
            self.sender.clone(),
            self.guard.clone(),
        ))
    }

    /// Streams that have not been dropped.
    pub fn stream_count(&self) -> usize {
        self.shared.lock().streams.len()
    }

    /// Whether a reader that does not read holds up the session.
    pub fn is_blocked(&self) -> bool {
        self.shared.lock().blocked
    }

    /// Whether the session is over.
    pub fn has_ended(&self) -> bool {
        self.shared.lock().ended.is_some()
    }

    /// Whether streams can be opened.
    pub fn is_open(&self) -> bool {
        let state = self.shared.lock();
        state.ended.is_none() && state.client.can_open()
    }

    /// Bytes held for readers and for the agent.
    pub fn held_bytes(&self) -> usize {
        let state = self.shared.lock();
        state.buffered + state.client.queued_bytes()
    }

    /// Counters of the session.
    pub fn stats(&self) -> Stats {
        self.sender.stats()
    }

    /// Asks the agent to end the session, and waits a moment until it has. The owner calls
    /// TerminateSession all the same.
    pub async fn terminate(&self) {
        let mut over = self.shared.over.subscribe();
        let ended = async {
            if self.sender.send_flag(Flag::TerminateSession).await.is_ok() {
                let _ = over.wait_for(|over| *over).await;
            }
        };
        let _ = tokio::time::timeout(TERMINATE_TIMEOUT, ended).await;
        self.sender.close();
    }
}

/// Ends the tasks when no handle is left.
#[derive(Debug)]
struct MuxGuard(Arc<SharedMux>);

impl Drop for MuxGuard {
    fn drop(&mut self) {
        self.0.end(String::new());
    }
}

#[derive(Debug)]
struct SharedMux {
    state: Mutex<MuxState>,
    options: MuxOptions,
    /// Something waits to be sent.
    to_send: Notify,
    /// Something has changed in a session that was blocked: a byte was read, or a stream came or
    /// went.
    to_read: Notify,
    over: watch::Sender<bool>,
}

#[derive(Debug)]
struct MuxState {
    client: Client,
    streams: HashMap<StreamId, StreamState>,
    /// Bytes all streams hold for their readers.
    buffered: usize,
    blocked: bool,
    /// Why the session is over, as a clause to append.
    ended: Option<String>,
}

/// What is known of a stream here.
#[derive(Debug)]
struct StreamState {
    buffer: VecDeque<u8>,
    /// When its reader last took something.
    read_at: Instant,
    /// The far end has closed.
    finished: bool,
    failed: Option<StreamError>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl StreamState {
    fn new() -> Self {
        Self {
            buffer: VecDeque::new(),
            read_at: Instant::now(),
            finished: false,
            failed: None,
            reader: None,
            writer: None,
        }
    }

    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()]
            .into_iter()
            .flatten()
        {
            waker.wake();
        }
    }
}

impl MuxState {
    /// Whether this stream holds as much as it may.
    fn is_full(&self, half: &StreamState, options: &MuxOptions) -> bool {
        let len = half.buffer.len();
        len >= options.stream_bound
            || (len >= options.crowded_bound && self.buffered >= options.session_bound)
    }

    /// Streams that hold up the session.
    fn full<'a>(
        &'a self,
        options: &'a MuxOptions,
    ) -> impl Iterator<Item = (StreamId, &'a StreamState)> + 'a {
        // This is asked for every message. While less is held than the smaller of these bounds, no
        // stream can be full, and looking at each of a thousand would be most of the work.
        let may_be = self.buffered >= options.stream_bound.min(options.session_bound);
        may_be
            .then(|| self.streams.iter())
            .into_iter()
            .flatten()
            .filter(|(_, half)| half.failed.is_none() && self.is_full(half, options))
            .map(|(id, half)| (*id, half))
    }
}

impl SharedMux {
    fn lock(&self) -> MutexGuard<'_, MuxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends every stream; `why` is a clause to append to "the session has ended".
    fn end(&self, why: String) {
        let mut state = self.lock();
        match &mut state.ended {
            // The reason may come behind the end itself.
            Some(known) if known.is_empty() => *known = why,
            Some(_) => {}
            ended => *ended = Some(why),
        }
        for half in state.streams.values_mut() {
            half.wake();
        }
        drop(state);
        self.over.send_replace(true);
        self.to_send.notify_one();
        self.to_read.notify_one();
    }
}

#[cfg(test)]
mod tests;
