//! The client's end of a data channel as a state machine: no socket, no clock, no randomness.
//!
//! Frames and the passing of time go in ([`DataChannel::handle_frame`],
//! [`DataChannel::handle_timeout`]); frames to send, events and the next time to be woken come out
//! ([`DataChannel::poll_transmit`], [`DataChannel::poll_event`],
//! [`DataChannel::poll_timeout`]). Every time is a `Duration` since an origin that the caller
//! chooses once; dates and message ids are made from [`Config::origin_ms`] and [`Config::seed`].
//!
//! After every call that takes `now`, drain `poll_event` and
//! `poll_transmit`, then sleep until `poll_timeout`.

mod client;
mod config;
mod event;
mod incoming;
mod key_round;
mod outgoing;
mod rtt;
mod stamp;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use uuid::Uuid;

pub use self::config::{Config, Expect};
pub use self::event::{ChannelError, Event, Stats};
use self::incoming::{Incoming, SequencePlace};
use self::key_round::KeyRound;
use self::outgoing::{LargeLoss, Outgoing};
pub use self::rtt::Rtt;
use self::stamp::Stamp;
use crate::buffers::Buffers;
use crate::encryption::Opener;
use crate::handshake::Ready;
use crate::wire::{
    Acknowledge, ChannelClosed, FLAGS_ACKNOWLEDGE, HEADER_LEN, Header, Message, MessageType,
    PayloadType, WireError,
};

/// From the first HandshakeRequest to HandshakeComplete.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// Acknowledgements waiting for the socket; above this the newest are dropped, and the far end
/// repeats its message.
const MAX_WAITING_ACKS: usize = 20_000;
/// Encoded acknowledgements share buffers of this size, in bytes.
const ACK_BUFFER_LEN: usize = 32 << 10;
/// Longest acknowledgement, in bytes: its JSON has less than 200.
const MAX_ACK_LEN: usize = HEADER_LEN + 200;
/// Buffers of acknowledgements that are kept to be used again. One is filled while the last ones of
/// another wait for the socket.
const MOST_ACK_BUFFERS: usize = 2;
/// Waiting input above which a large-payload probe pays, in bytes.
const PROBE_ABOVE: usize = 16 << 10;

#[derive(Clone, Debug, PartialEq)]
enum Phase {
    /// No stream data yet.
    Waiting,
    /// A HandshakeRequest has come.
    Handshaking {
        since: Duration,
        ready: Box<Ready>,
        key: KeyRound,
    },
    /// Data flows.
    Open,
    Over,
}

/// The client's end of a data channel. See the [module](self).
#[derive(Debug)]
pub struct DataChannel {
    client_version: String,
    expect: Expect,
    give_up_after: Duration,
    phase: Phase,
    connected: bool,
    /// The owner reads nothing from the socket, since then.
    unread_since: Option<Duration>,
    connected_at: Duration,
    heard_at: Duration,
    silent: bool,
    /// `pause_publication` is in force.
    paused: bool,
    /// The last size sent, for repeating and for probing.
    size: Option<Bytes>,
    /// A size was sent while the phase was Waiting; when it was acknowledged.
    early_size: Option<Option<Duration>>,
    settle_after_handshake: Duration,
    /// No input before.
    input_from: Option<Duration>,
    failed: bool,
    seed: u128,
    /// Of an encrypted session, once there is a key; its other half is with `outgoing`.
    opener: Option<Opener>,
    stamp: Stamp,
    incoming: Incoming,
    outgoing: Outgoing,
    acks: VecDeque<Bytes>,
    ack_buffer: BytesMut,
    used_ack_buffers: Buffers,
    /// Messages that go before everything pending, already numbered.
    urgent: VecDeque<Bytes>,
    events: VecDeque<Event>,
    stats: Stats,
}

impl DataChannel {
    /// A channel whose socket has just been opened.
    pub fn new(config: Config, now: Duration) -> Self {
        Self {
            client_version: config.client_version,
            expect: config.expect,
            give_up_after: config.give_up_after,
            phase: Phase::Waiting,
            connected: true,
            unread_since: None,
            connected_at: now,
            heard_at: now,
            silent: false,
            paused: false,
            size: None,
            early_size: None,
            settle_after_handshake: config.settle_after_handshake,
            input_from: None,
            failed: false,
            seed: config.seed,
            opener: None,
            stamp: Stamp::new(config.origin_ms, config.seed),
            incoming: Incoming::default(),
            outgoing: Outgoing::new(
                config.unacked_messages,
                config.max_payload,
                config.controller,
            ),
            acks: VecDeque::new(),
            ack_buffer: BytesMut::new(),
            used_ack_buffers: Buffers::new(MOST_ACK_BUFFERS),
            urgent: VecDeque::new(),
            events: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// Queues a payload. It goes out when the session is ready and the window has room; nothing is
    /// ever dropped, so the caller looks at [`DataChannel::pending_bytes`] to hold back its source.
    ///
    /// Output payloads are cut and joined.
    pub fn send(&mut self, payload_type: PayloadType, payload: impl Into<Bytes>) {
        let payload = payload.into();
        if payload.is_empty() || self.phase == Phase::Over {
            return;
        }
        if payload_type == PayloadType::Size {
            self.size = Some(payload.clone());
            if self.phase == Phase::Waiting {
                // Only the last of several sizes matters before anyone listens.
                while self.outgoing.take_pending(PayloadType::Size).is_some() {}
            }
        }
        self.outgoing.push(payload_type, payload);
    }

    /// Takes one binary web socket message. An error says why it was dropped; the channel goes on
    /// either way.
    pub fn handle_frame(&mut self, now: Duration, frame: &Bytes) -> Result<(), WireError> {
        if self.phase == Phase::Over {
            return Ok(());
        }
        let message = Message::decode(frame).inspect_err(|error| {
            self.stats.ignored += 1;
            tracing::debug!(%error, "dropped a frame");
        })?;
        match message.header.message_type {
            MessageType::OutputStreamData => {
                self.heard(now);
                self.handle_stream_data(now, &message.header, frame.slice(HEADER_LEN..));
            }
            MessageType::Acknowledge => {
                let number = Acknowledge::parse_sequence_number(message.payload)
                    .inspect_err(|_| self.stats.ignored += 1)?;
                self.heard(now);
                if self.outgoing.handle_ack(now, number)
                    && matches!(self.early_size, Some(None))
                    && self.phase == Phase::Waiting
                {
                    self.early_size = Some(Some(now));
                }
            }
            MessageType::ChannelClosed => {
                self.phase = Phase::Over;
                self.events.push_back(Event::Closed {
                    output: ChannelClosed::parse(message.payload).output,
                });
            }
            MessageType::StartPublication => self.resume(),
            MessageType::PausePublication => self.pause(),
            other => {
                self.stats.ignored += 1;
                tracing::debug!(message_type = ?other, "skipped a message of a type not expected here");
            }
        }
        Ok(())
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Duration) {
        if self.is_still() {
            return;
        }
        if self.input_from.is_some_and(|from| now >= from) {
            self.input_from = None;
        }
        self.outgoing
            .handle_timeout(now, self.paused, &mut self.stamp);
        match &self.phase {
            Phase::Waiting => self.wait_for_agent(now),
            Phase::Handshaking { since, .. } if now >= *since + HANDSHAKE_TIMEOUT => {
                self.fail(ChannelError::HandshakeTimedOut(HANDSHAKE_TIMEOUT));
            }
            _ => {}
        }
        self.watch(now);
    }

    /// When [`DataChannel::handle_timeout`] is to be called next; may be in the past. `None`: not
    /// before something else happens.
    pub fn poll_timeout(&self) -> Option<Duration> {
        if self.is_still() {
            return None;
        }
        let resend = self.outgoing.next_timeout(self.paused);
        let phase = match &self.phase {
            _ if self.failed => None,
            Phase::Waiting => self.waits_until(),
            Phase::Handshaking { since, .. } => Some(*since + HANDSHAKE_TIMEOUT),
            _ => None,
        };
        // Only while there is something to send, or the past would be waited for.
        let input = self
            .input_from
            .filter(|_| self.outgoing.pending_messages() > 0 || !self.urgent.is_empty());
        earliest([resend, phase, self.watches_until(), input])
    }

    /// The next frame to write to the socket, whole. Call until `None`; not while the socket is
    /// full.
    pub fn poll_transmit(&mut self, now: Duration) -> Option<Bytes> {
        if !self.connected || self.phase == Phase::Over {
            return None;
        }
        if let Some(ack) = self.acks.pop_front() {
            return Some(ack);
        }
        if self.input_from.is_some_and(|from| now < from) {
            return None;
        }
        if let Some(frame) = self.urgent.pop_front() {
            return Some(frame);
        }
        if let Some(frame) = self.outgoing.next_again(now) {
            return Some(frame);
        }
        if self.phase != Phase::Open {
            return None;
        }
        if self.outgoing.pending_bytes() > PROBE_ABOVE && self.outgoing.wants_probe() {
            self.probe_with_size(now);
            if let Some(frame) = self.urgent.pop_front() {
                return Some(frame);
            }
        }
        self.outgoing.next_new(now, &mut self.stamp)
    }

    /// What has happened, in order.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The socket is gone: nothing is transmitted and no time counts until
    /// [`DataChannel::on_reconnected`].
    ///
    /// A large payload that was on its way may be why: then [`Event::ProbeLost`] or
    /// [`ChannelError::LargePayloadLost`] follows.
    pub fn on_disconnected(&mut self, now: Duration) {
        self.connected = false;
        // The far end repeats what it did not see acknowledged.
        self.acks.clear();
        self.urgent.clear();
        match self.outgoing.on_disconnected(now, &mut self.stamp) {
            LargeLoss::None => {}
            LargeLoss::Probe => self.events.push_back(Event::ProbeLost),
            LargeLoss::Numbered { payload_bytes } => {
                self.fail(ChannelError::LargePayloadLost { payload_bytes });
            }
        }
    }

    /// The owner stops reading the socket, because nobody takes what has come. Acknowledgements may
    /// lie there unread, so until [`DataChannel::on_reading_resumed`] nothing is repeated and
    /// nobody is held to be silent.
    pub fn on_reading_stopped(&mut self, now: Duration) {
        self.unread_since.get_or_insert(now);
    }

    /// The owner reads again; the time since it stopped counts for nothing.
    pub fn on_reading_resumed(&mut self, now: Duration) {
        if let Some(since) = self.unread_since.take() {
            self.heard_at += now.saturating_sub(since);
            self.outgoing.skip_time(since, now);
        }
    }

    /// A new socket carries the same session: the whole unacknowledged list is sent again, in
    /// order.
    pub fn on_reconnected(&mut self, now: Duration) {
        self.connected = true;
        self.unread_since = None;
        self.connected_at = now;
        self.heard_at = now;
        self.paused = false;
        if let Phase::Handshaking { since, .. } = &mut self.phase {
            *since = now;
        }
        self.outgoing.on_reconnected(now);
    }

    /// As `pause_publication` does: messages are repeated more slowly.
    pub fn pause(&mut self) {
        if !std::mem::replace(&mut self.paused, true) {
            self.events
                .push_back(Event::Publication { attached: false });
        }
    }

    /// As `start_publication` does, or any word from the far end.
    pub fn resume(&mut self) {
        if std::mem::take(&mut self.paused) {
            self.events.push_back(Event::Publication { attached: true });
        }
    }

    /// Whether `pause_publication` is in force.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether [`Event::Ready`] has come.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether [`Event::Closed`] has come.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Payload bytes queued and not yet numbered.
    pub fn pending_bytes(&self) -> usize {
        self.outgoing.pending_bytes()
    }

    /// Whether everything sent has been acknowledged.
    pub fn is_drained(&self) -> bool {
        self.outgoing.pending_messages() == 0 && self.outgoing.unacked_messages() == 0
    }

    /// Largest input payload in use now, in bytes.
    pub fn max_payload(&self) -> usize {
        self.outgoing.max_payload()
    }

    /// The number the next received message should have.
    pub fn next_expected(&self) -> i64 {
        self.incoming.expected()
    }

    /// Events waiting to be polled.
    pub fn waiting_events(&self) -> usize {
        self.events.len()
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        Stats {
            bytes_out: self.outgoing.bytes_sent,
            acked_messages: self.outgoing.acked_messages,
            retransmitted: self.outgoing.retransmitted,
            unacked_messages: self.outgoing.unacked_messages(),
            rtt: self.outgoing.rtt().rtt(),
            shortest_rtt: self.outgoing.shortest_rtt,
            ..self.stats
        }
    }

    fn handle_stream_data(&mut self, now: Duration, header: &Header, payload: Bytes) {
        let ack = Acknowledge {
            message_type: header.message_type,
            message_id: header.message_id,
            sequence_number: header.sequence_number,
        };
        match self.incoming.place(header.sequence_number, payload.len()) {
            SequencePlace::Next => {
                // Acknowledged before use: output that waits here for a slow reader would be sent
                // again meanwhile.
                self.push_ack(now, ack);
                self.incoming.advance();
                self.deliver(now, header.payload_type, payload);
                while let Some((payload_type, payload)) = self.incoming.take_stored() {
                    self.incoming.advance();
                    self.deliver(now, payload_type, payload);
                }
            }
            SequencePlace::Duplicate => {
                // Its first acknowledgement may have been lost with a socket. Without a second one
                // the agent repeats this message for good, and never the ones behind it.
                self.stats.duplicates += 1;
                self.push_ack(now, ack);
            }
            SequencePlace::Early => {
                self.push_ack(now, ack);
                self.incoming
                    .store(header.sequence_number, header.payload_type, &payload);
            }
            // Not acknowledged, so that the agent keeps it and sends it again once there is room.
            SequencePlace::Refused => self.stats.ignored += 1,
        }
    }

    fn push_ack(&mut self, now: Duration, ack: Acknowledge) {
        // One that is not sent costs a repetition. One that is kept without a bound would let a
        // flood of duplicates take all memory.
        if !self.connected || self.acks.len() >= MAX_WAITING_ACKS {
            return;
        }
        let header = Header {
            message_type: MessageType::Acknowledge,
            schema_version: 1,
            created_ms: self.stamp.created_ms(now),
            // Acknowledgements stand outside of the numbers of stream data.
            sequence_number: 0,
            flags: FLAGS_ACKNOWLEDGE,
            message_id: self.message_id(),
            payload_type: PayloadType::None,
        };
        // Many share one allocation, since there is one for every message that comes.
        if self.ack_buffer.capacity() < MAX_ACK_LEN {
            let full = std::mem::take(&mut self.ack_buffer);
            self.used_ack_buffers.give_back(full);
            self.ack_buffer = self.used_ack_buffers.take(ACK_BUFFER_LEN);
        }
        header.encode_with(&mut self.ack_buffer, |out| ack.payload_into(out));
        self.acks.push_back(self.ack_buffer.split().freeze());
    }

    fn message_id(&mut self) -> Uuid {
        self.stamp.message_id()
    }

    fn heard(&mut self, now: Duration) {
        self.heard_at = now;
        self.resume();
        if std::mem::take(&mut self.silent) {
            self.events.push_back(Event::Back);
        }
    }

    /// A failure is told once; what follows from it is not news.
    fn fail(&mut self, error: ChannelError) {
        if !std::mem::replace(&mut self.failed, true) {
            self.events.push_back(Event::Failed(error));
        }
    }

    /// Whether no time is kept at all.
    fn is_still(&self) -> bool {
        !self.connected || self.unread_since.is_some() || self.phase == Phase::Over
    }
}

fn earliest<const N: usize>(times: [Option<Duration>; N]) -> Option<Duration> {
    times.into_iter().flatten().min()
}
