//! A tokio task that carries one session over web sockets: dials, pings, resumes, and holds back
//! whoever is too fast.
//!
//! The task owns the socket and the [`DataChannel`]. [`Sender`] and [`Events`] are its two ends;
//! the bytes waiting on either side are bounded, and nothing is dropped:
//!
//! - [`Sender::send`] waits while [`Options::send_bound`] bytes are queued.
//! - While more than [`Options::receive_bound`] bytes of events wait for [`Events::next`], the
//!   socket is not read, so that TCP holds back the far end; the silence that follows is not taken
//!   for a dead connection.
//!
//! Frames that are queued go to the socket in one write; the last of them flushes it, and the
//! kernel adds no delay (TCP_NODELAY). What the service refuses is in
//! [`OpenError`] and [`SessionError`], as types, so that the caller can name the next step.
//!
//! ```no_run
//! use std::sync::Arc;
//! use ops_session::driver::{self, Event, Gateway, Opening, Options};
//!
//! # async fn example(opening: Opening, gateway: Arc<dyn Gateway>) -> Result<(), Box<dyn std::error::Error>> {
//! let mut session = driver::open(opening, gateway, Options::default()).await?;
//! session.sender.send_size(80, 24).await?;
//! session.sender.send("uptime; exit\n").await?;
//! while let Some(event) = session.events.next().await {
//!     match event {
//!         Event::Output(bytes) => print!("{}", String::from_utf8_lossy(&bytes)),
//!         Event::Disconnected { reason } => eprintln!("{reason}; reconnecting"),
//!         Event::Failed(error) => return Err(error.into()),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A session outlives its connection: whoever stops before [`Event::Closed`] ends it with
//! TerminateSession.
// The only place that reads a clock.
#![allow(clippy::disallowed_methods)]

mod coalesce;
mod dial;
mod error;
mod io;
pub mod mux;
mod probe;
mod proxy;
mod pulse;
mod resume;
mod socket;
mod task;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use uuid::Uuid;
use zeroize::Zeroizing;

pub use self::error::{OpenError, SessionError};
pub use self::probe::{Probe, Prober};
pub use self::proxy::Proxy;
use crate::closing::Closing;
use crate::congestion::{Adaptive, Controller};
use crate::data_channel::{Config, DataChannel};
pub use crate::data_channel::{Expect, Stats};
pub use crate::encryption::{DataKey, DataKeyRequest};
use crate::handshake::DEFAULT_CLIENT_VERSION;
pub use crate::handshake::Ready;
pub use crate::wire::OFFICIAL_PAYLOAD_BYTES;
use crate::wire::{Flag, PayloadType, size_payload};

/// First dials with the same token, and the pauses between them.
const FIRST_DIAL_PAUSES: [Duration; 2] = [Duration::from_millis(300), Duration::from_secs(1)];
/// Largest input payload to try, in bytes. The API Gateway of AWS is known to take frames of 32 KiB
/// with their header; what the message gateway takes nobody has published, and larger payloads are
/// hardly faster.
const MAX_PAYLOAD_BYTES: usize = 16 << 10;
/// From the agent's word that the handshake is complete to the first input. The agent needs
/// microseconds for it, unless its machine is busy: there one session of four lost its first input
/// (amazon-ssm-agent 3.3.0.0).
const SETTLE_AFTER_HANDSHAKE: Duration = Duration::from_millis(20);
/// Largest piece in which a payload passes to the task, in bytes.
const PIECE_BYTES: usize = 64 << 10;

/// A data channel's bearer secret. Wiped from memory when dropped; never printed.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// Takes the secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(Zeroizing::new(secret.into()))
    }

    pub(super) fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What the driver cannot know: headers signed for a dial, data keys, and fresh tokens.
pub trait Gateway: Send + Sync + 'static {
    /// Headers for one dial of this URL, signed afresh; empty when they cannot be signed, which the
    /// service may accept.
    fn headers<'a>(&'a self, stream_url: &'a str) -> BoxFuture<'a, HeaderMap>;
    /// The service refused a dial with `status`, 401 or 403. With true it is dialled once more,
    /// with the same token and headers that are asked for anew.
    fn dials_again(&self, status: u16) -> bool {
        let _ = status;
        false
    }
    /// GenerateDataKey of KMS: 64 bytes of the key that `wanted` names, with an encryption context
    /// of `aws:ssm:SessionId`, `aws:ssm:TargetId` (exactly as StartSession was given it), and
    /// `aws:ssm:RandomChallenge` where there is one.
    ///
    /// The agent waits 15 s, and whatever is typed waits with it.
    fn data_key<'a>(
        &'a self,
        session_id: &'a str,
        wanted: DataKeyRequest,
    ) -> BoxFuture<'a, Result<DataKey, NoDataKey>> {
        let _ = (session_id, wanted);
        Box::pin(std::future::ready(Err(NoDataKey(
            "this client has no way to KMS".to_owned(),
        ))))
    }
    /// ResumeSession.
    fn resume<'a>(&'a self, session_id: &'a str) -> BoxFuture<'a, Result<Resumed, ResumeError>>;
    /// Large payloads have cost a connection, so that [`Options::max_payload`] of the next session
    /// to this target should be [`OFFICIAL_PAYLOAD_BYTES`].
    fn large_payloads_lost(&self, loss: LargePayloads) {
        let _ = loss;
    }
}

/// What was on its way when a connection was lost, larger than [`OFFICIAL_PAYLOAD_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LargePayloads {
    /// The probe, once: it may have been an ordinary cut.
    Probe,
    /// A payload with the user's bytes, twice; the session has ended over it.
    Numbered,
}

/// Why there is no data key, in a few words: the agent is told them, and may log them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoDataKey(pub String);

/// What ResumeSession returned.
#[derive(Debug)]
pub struct Resumed {
    /// `None`: the URL of before.
    pub stream_url: Option<String>,
    /// Opens one data channel.
    pub token: Token,
}

/// Why a session was not resumed; the text is for people.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ResumeError {
    /// The session is over; no use asking again.
    #[error("{0}")]
    Gone(String),
    /// Ask again later.
    #[error("{0}")]
    Retry(String),
}

/// What StartSession returned.
#[derive(Clone)]
pub struct Opening {
    /// Names the session to ResumeSession.
    pub session_id: String,
    /// Used byte for byte.
    pub stream_url: String,
    /// Opens one data channel.
    pub token: Token,
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening")
            .field("session_id", &self.session_id)
            .finish_non_exhaustive()
    }
}

/// How a session is carried.
#[derive(Clone)]
pub struct Options {
    /// Whether the agent must begin with a handshake.
    pub expect: Expect,
    /// The version announced; it decides the agent's behaviour.
    pub client_version: String,
    /// The proxy for `wss://`; from the environment by default.
    pub proxy: Proxy,
    /// A PEM file of certificate authorities beside the system's (AWS_CA_BUNDLE).
    pub extra_roots: Option<PathBuf>,
    /// Largest input payload to try, in bytes. Above 1,024 the agent is asked first.
    pub max_payload: usize,
    /// Bytes of events that may wait for [`Events::next`].
    pub receive_bound: usize,
    /// Bytes of input that may wait to be numbered.
    pub send_bound: usize,
    /// Between pings.
    pub ping_every: Duration,
    /// Without any frame for this long the connection is dead.
    pub dead_after: Duration,
    /// When the agent owes an acknowledgement and nothing was heard for this long, a ping asks
    /// whether the connection lives.
    pub doubt_after: Duration,
    /// What a doubtful connection has to answer.
    pub answer_within: Duration,
    /// Tells a suspension of the machine, over which other clocks stand still.
    pub wall_clock: fn() -> SystemTime,
    /// First and longest pause between attempts to resume; each is doubled and jittered. The very
    /// first attempt does not wait, and while ResumeSession gives tokens none waits longer than
    /// [`Options::answered_delay`].
    pub resume_delays: (Duration, Duration),
    /// Longest pause between attempts to resume while ResumeSession gives tokens: the service is
    /// there, and the user waits.
    pub answered_delay: Duration,
    /// How long to try to resume. A detached session lives 20 minutes by default.
    pub resume_for: Duration,
    /// Fails when nothing comes from the agent for this long although it owes an acknowledgement.
    pub give_up_after: Duration,
    /// Makes the congestion window of the sending side.
    pub controller: Arc<dyn Fn() -> Box<dyn Controller> + Send + Sync>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            expect: Expect::default(),
            client_version: DEFAULT_CLIENT_VERSION.to_owned(),
            proxy: Proxy::none(),
            extra_roots: None,
            max_payload: MAX_PAYLOAD_BYTES,
            receive_bound: 1 << 20,
            send_bound: 256 << 10,
            ping_every: Duration::from_secs(30),
            dead_after: Duration::from_secs(75),
            doubt_after: Duration::from_secs(10),
            answer_within: Duration::from_secs(15),
            wall_clock: SystemTime::now,
            resume_delays: (Duration::from_secs(1), Duration::from_secs(30)),
            answered_delay: Duration::from_millis(2500),
            resume_for: Duration::from_secs(20 * 60),
            give_up_after: Duration::from_secs(300),
            controller: Arc::new(|| Box::<Adaptive>::default()),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("expect", &self.expect)
            .field("max_payload", &self.max_payload)
            .finish_non_exhaustive()
    }
}

/// What happens in a session, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It can be used. Comes once, before any output.
    Ready(Ready),
    /// Bytes of the terminal, the command's standard output, or the tunnel.
    Output(Bytes),
    /// Bytes of the command's standard error.
    Stderr(Bytes),
    /// The command's exit status.
    ExitCode(i32),
    /// A flag from the agent; see [`Flag`].
    Flag(u32),
    /// The connection is lost; the session goes on.
    Disconnected {
        /// What happened, for people.
        reason: String,
    },
    /// Another attempt to resume begins after `delay`.
    Reconnecting {
        /// Counted from 1.
        attempt: u32,
        /// The pause before it.
        delay: Duration,
        /// Why the attempt before it failed, for people; `None` before the first.
        why: Option<String>,
    },
    /// The connection is back, nothing was lost.
    Resumed,
    /// The agent owes an acknowledgement and has said nothing for this long.
    AgentSilent {
        /// Since its last word.
        waited: Duration,
    },
    /// It speaks again.
    AgentBack,
    /// The session is over. The last event.
    Closed(Closing),
    /// The session cannot go on. The last event.
    Failed(SessionError),
}

impl Event {
    /// What it counts against the receive bound.
    fn weight(&self) -> usize {
        match self {
            Self::Output(bytes) | Self::Stderr(bytes) => size_of::<Self>() + bytes.len(),
            _ => size_of::<Self>(),
        }
    }
}

/// The session has ended, so nothing more can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session has ended")]
pub struct SessionEnded;

/// An open session. Dropping both halves closes the connection; it does not end the session at the
/// service.
#[derive(Debug)]
pub struct Session {
    /// Input.
    pub sender: Sender,
    /// Output and whatever else happens.
    pub events: Events,
}

enum SenderCommand {
    /// Holds as many permits of the send bound as it has bytes.
    Send(PayloadType, Bytes),
    Probe(PayloadType, Bytes, Bytes),
    Plain,
    Drained(oneshot::Sender<()>),
    Close,
}

/// The sending half. Clones send over the same session, in the order of their calls.
#[derive(Clone, Debug)]
pub struct Sender {
    commands: mpsc::UnboundedSender<SenderCommand>,
    room: Arc<Semaphore>,
    bound: usize,
    stats: watch::Receiver<Status>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Status {
    stats: Stats,
    max_payload: usize,
    probe_len: Option<usize>,
}

impl Sender {
    /// Sends bytes of type Output; waits while too much is queued. Cancelling may leave a part of
    /// `bytes` sent.
    pub async fn send(&self, bytes: impl Into<Bytes>) -> Result<(), SessionEnded> {
        self.send_payload(PayloadType::Output, bytes.into()).await
    }

    /// Tells the terminal's size.
    pub async fn send_size(&self, cols: u32, rows: u32) -> Result<(), SessionEnded> {
        self.send_payload(PayloadType::Size, size_payload(cols, rows))
            .await
    }

    /// Sends a flag.
    pub async fn send_flag(&self, flag: Flag) -> Result<(), SessionEnded> {
        self.send_payload(PayloadType::Flag, flag.payload()).await
    }

    /// Sends a payload of any type; only Output may be cut into several messages or joined with its
    /// neighbours.
    pub async fn send_payload(
        &self,
        payload_type: PayloadType,
        mut bytes: Bytes,
    ) -> Result<(), SessionEnded> {
        let piece_len = PIECE_BYTES.min(self.bound);
        while !bytes.is_empty() {
            let piece = if payload_type == PayloadType::Output {
                bytes.split_to(piece_len.min(bytes.len()))
            } else {
                std::mem::take(&mut bytes)
            };
            let weight = weight(&piece, self.bound);
            self.room
                .acquire_many(weight)
                .await
                .map_err(|_| SessionEnded)?
                .forget();
            self.commands
                .send(SenderCommand::Send(payload_type, piece))
                .map_err(|_| SessionEnded)?;
        }
        Ok(())
    }

    /// Asks the agent whether it takes large payloads, by sending `large`; `small` must mean the
    /// same to it and takes the place of `large` if that does not arrive. Shells ask by themselves.
    /// See [`DataChannel::probe_payload`].
    pub fn probe_payload(
        &self,
        payload_type: PayloadType,
        large: impl Into<Bytes>,
        small: impl Into<Bytes>,
    ) -> Result<(), SessionEnded> {
        self.commands
            .send(SenderCommand::Probe(
                payload_type,
                large.into(),
                small.into(),
            ))
            .map_err(|_| SessionEnded)
    }

    /// Says that what runs at the far end has been heard of by another way, so that no handshake
    /// can come any more: see [`DataChannel::assume_plain`].
    pub fn assume_plain(&self) -> Result<(), SessionEnded> {
        self.commands
            .send(SenderCommand::Plain)
            .map_err(|_| SessionEnded)
    }

    /// The length a probe should have, in bytes; `None` when none is wanted (any more) or the
    /// session is not ready.
    pub fn probe_len(&self) -> Option<usize> {
        self.stats.borrow().probe_len
    }

    /// Largest input payload in use now, in bytes.
    pub fn max_payload(&self) -> usize {
        self.stats.borrow().max_payload
    }

    /// Waits until the agent has acknowledged everything sent before this call, and what is sent
    /// meanwhile.
    pub async fn drained(&self) -> Result<(), SessionEnded> {
        let (done, wait) = oneshot::channel();
        self.commands
            .send(SenderCommand::Drained(done))
            .map_err(|_| SessionEnded)?;
        wait.await.map_err(|_| SessionEnded)
    }

    /// Closes the connection after what is queued for the socket; the events end. The session
    /// itself lives on at the service.
    pub fn close(&self) {
        let _ = self.commands.send(SenderCommand::Close);
    }

    /// Counters, at most a loop of the task old.
    pub fn stats(&self) -> Stats {
        self.stats.borrow().stats
    }
}

/// What a piece takes of the send bound. At least 1, so that no number of tiny payloads is free.
fn weight(piece: &[u8], bound: usize) -> u32 {
    u32::try_from(piece.len().clamp(1, bound)).unwrap_or(u32::MAX)
}

/// The receiving half.
#[derive(Debug)]
pub struct Events {
    receiver: mpsc::UnboundedReceiver<Event>,
    gauge: Arc<Gauge>,
}

impl Events {
    /// The next event; `None` after the last one. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        let event = self.receiver.recv().await?;
        self.gauge.remove(event.weight());
        Some(event)
    }

    /// An event that is there already.
    pub fn try_next(&mut self) -> Option<Event> {
        let event = self.receiver.try_recv().ok()?;
        self.gauge.remove(event.weight());
        Some(event)
    }
}

/// Bytes of events on their way to the reader.
#[derive(Debug)]
struct Gauge {
    waiting: AtomicUsize,
    bound: usize,
    fell: Notify,
}

impl Gauge {
    fn new(bound: usize) -> Self {
        Self {
            waiting: AtomicUsize::new(0),
            bound: bound.max(1),
            fell: Notify::new(),
        }
    }

    fn add(&self, weight: usize) {
        self.waiting.fetch_add(weight, Ordering::AcqRel);
    }

    fn remove(&self, weight: usize) {
        let before = self.waiting.fetch_sub(weight, Ordering::AcqRel);
        // Only the crossing wakes the task.
        if before > self.bound && before - weight <= self.bound {
            self.fell.notify_one();
        }
    }

    fn is_full(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > self.bound
    }
}

/// Opens the data channel and spawns the task that carries it. Returns when the opening frame is
/// written; [`Event::Ready`] follows.
///
/// The dial is tried up to three times if it fails in a way that may pass.
pub async fn open(
    opening: Opening,
    gateway: Arc<dyn Gateway>,
    options: Options,
) -> Result<Session, OpenError> {
    let client_id = Uuid::new_v4().to_string();
    let dialer = dial::Dialer::new(
        &opening.stream_url,
        options.proxy.clone(),
        options.extra_roots.as_deref(),
    )
    .await?;
    let mut pauses = FIRST_DIAL_PAUSES.into_iter();
    let opened = loop {
        let attempt = socket::open_for(
            &*gateway,
            &dialer,
            &opening.stream_url,
            &opening.token,
            &client_id,
            &options.client_version,
        )
        .await;
        match (attempt, pauses.next()) {
            // A dial that timed out took its whole time already: with another one the caller would
            // wait longer than the limit it was given.
            (Err(error), Some(pause))
                if error.is_transient() && !matches!(error, OpenError::TimedOut { .. }) =>
            {
                tracing::debug!(%error, "dialling again");
                tokio::time::sleep(pause).await;
            }
            (attempt, _) => break attempt?,
        }
    };

    let origin_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(1, |since| u64::try_from(since.as_millis()).unwrap_or(1));
    let channel = DataChannel::new(
        Config {
            origin_ms,
            // Message ids and nonces start here, so that no two sessions share any.
            seed: Uuid::new_v4().as_u128(),
            expect: options.expect,
            client_version: options.client_version.clone(),
            max_payload: options.max_payload,
            controller: (options.controller)(),
            give_up_after: options.give_up_after,
            settle_after_handshake: SETTLE_AFTER_HANDSHAKE,
            ..Config::default()
        },
        Duration::ZERO,
    );
    // Neither channel has a bound of its own: `room` bounds what is sent, `gauge` what is received,
    // both in bytes.
    let (commands, command_receiver) = mpsc::unbounded_channel();
    let (event_sender, receiver) = mpsc::unbounded_channel();
    let (status, stats) = watch::channel(Status {
        max_payload: channel.max_payload(),
        ..Status::default()
    });
    let bound = options
        .send_bound
        .clamp(1, Semaphore::MAX_PERMITS.min(1 << 30));
    let room = Arc::new(Semaphore::new(bound));
    let gauge = Arc::new(Gauge::new(options.receive_bound));
    let resumer = resume::Resumer {
        gateway,
        dialer,
        opening,
        client_id,
        options: options.clone(),
    };
    let task = task::Task::new(
        channel,
        command_receiver,
        event_sender,
        gauge.clone(),
        room.clone(),
        status,
        resumer,
        bound,
    );
    tokio::spawn(task.run(opened));
    Ok(Session {
        sender: Sender {
            commands,
            room,
            bound,
            stats,
        },
        events: Events { receiver, gauge },
    })
}
