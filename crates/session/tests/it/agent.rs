//! The agent's end of a data channel, for tests of the client's: numbers, acknowledgements,
//! repetition and the handshake as the official agent has them. Sans-IO like the client's, so that
//! both can be joined by a link in virtual time.
//!
//! | | the client's end | this one |
//! |---|---|---|
//! | acknowledges | at once, delivers in order | after [`AgentChannel::acknowledge`]; [`AgentChannel::refuse`] leaves a message to be repeated |
//! | digest | checked | not checked |
//! | repeats | head and overtaken messages, all of them after a reconnect | head only, on 100 ms ticks |
//! | sends | within a window, cut and joined to its payload size | each payload as it is given |
//!
//! Held to what the official agent said by `transcripts`.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use bytes::{Bytes, BytesMut};
use ops_session::data_channel::{DataChannel, Rtt};
use ops_session::encryption::{Challenge, Role, is_encrypted};
use ops_session::handshake::{Action, ActionStatus, Complete, OfferedKey, Request, Response};
use ops_session::wire::{
    Acknowledge, FLAG_SYN, FLAGS_ACKNOWLEDGE, HEADER_LEN, Header, Message, MessageType,
    PayloadType, WireError,
};
use uuid::Uuid;

/// The agent looks at the head of its list this often, counted from its start.
const RESEND_TICK: Duration = Duration::from_millis(100);
/// The agent's longest timeout.
const LONGEST_RTO: Duration = Duration::from_secs(1);
/// The agent waits this long for the HandshakeResponse.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// Length of what the agent has the client prove its key with.
const CHALLENGE_BYTES: usize = 64;

/// One end of a data channel, as far as a link between two of them needs it.
pub(crate) trait End {
    fn handle_frame(&mut self, now: Duration, frame: &Bytes) -> Result<(), WireError>;
    fn handle_timeout(&mut self, now: Duration);
    fn poll_timeout(&self) -> Option<Duration>;
    fn poll_transmit(&mut self, now: Duration) -> Option<Bytes>;
}

impl End for DataChannel {
    fn handle_frame(&mut self, now: Duration, frame: &Bytes) -> Result<(), WireError> {
        self.handle_frame(now, frame)
    }
    fn handle_timeout(&mut self, now: Duration) {
        self.handle_timeout(now);
    }
    fn poll_timeout(&self) -> Option<Duration> {
        self.poll_timeout()
    }
    fn poll_transmit(&mut self, now: Duration) -> Option<Bytes> {
        self.poll_transmit(now)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum AgentEvent {
    /// The client has given a data key; [`AgentChannel::provide_data_key`] follows.
    DataKeyOffered {
        ciphertext_blob: Bytes,
        has_challenge: bool,
    },
    /// The handshake is over.
    Ready,
    /// Input in its turn, to be settled by [`AgentChannel::acknowledge`] or
    /// [`AgentChannel::refuse`].
    Data {
        payload_type: PayloadType,
        payload: Bytes,
    },
    Failed(AgentFailure),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum AgentFailure {
    /// The text that the official agent closes the session with.
    HandshakeRefused(String),
    HandshakeTimedOut(Duration),
    MalformedHandshake,
}

/// Where the session stands.
#[derive(Clone, Debug, PartialEq)]
enum AgentPhase {
    Open,
    Handshaking {
        since: Duration,
        key: AgentKeyRound,
    },
    /// The official reader blocks for good over some messages.
    Deaf,
    Closed,
}

#[derive(Clone, Debug, PartialEq)]
enum AgentKeyRound {
    NotDemanded,
    Demanded,
    /// The client has answered, and the owner has the data key decrypted.
    Offered,
    /// What the client has to send back, sealed with its own half.
    Challenged(Vec<u8>),
}

impl AgentKeyRound {
    fn demands_encryption(&self) -> bool {
        *self != Self::NotDemanded
    }
}

/// Both halves of a data key.
struct Cipher {
    sealing: LessSafeKey,
    opening: LessSafeKey,
    next_nonce: u64,
}

impl Cipher {
    fn new(data_key: &[u8]) -> Self {
        let half = |bytes| LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes).unwrap());
        Self {
            sealing: half(&data_key[..32]),
            opening: half(&data_key[32..]),
            next_nonce: 1,
        }
    }

    fn seal(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&self.next_nonce.to_le_bytes());
        self.next_nonce += 1;
        let mut sealed = payload.to_vec();
        let nonce_once = Nonce::assume_unique_for_key(nonce);
        self.sealing
            .seal_in_place_append_tag(nonce_once, Aad::empty(), &mut sealed)
            .unwrap();
        [&nonce[..], &sealed].concat()
    }

    fn open(&self, sealed: &[u8]) -> Option<Bytes> {
        let (nonce, rest) = sealed.split_first_chunk()?;
        let mut opened = rest.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.opening.open_in_place(nonce, Aad::empty(), &mut opened);
        opened.ok().map(|bytes| Bytes::copy_from_slice(bytes))
    }
}

struct SentFrame {
    number: i64,
    frame: Bytes,
    last_sent: Duration,
}

/// Input that the owner has been handed and has not settled.
struct Unsettled {
    /// `None`: it had come early, and was acknowledged when it was stored.
    ack: Option<Acknowledge>,
}

/// The agent's end. See the [module](self).
pub(crate) struct AgentChannel {
    origin: Duration,
    phase: AgentPhase,
    has_failed: bool,
    connected: bool,
    /// `pause_publication` is in force: output is kept, not sent.
    paused: bool,
    // Input.
    expected: i64,
    early: BTreeMap<i64, (PayloadType, Bytes)>,
    unsettled: Option<Unsettled>,
    acks: VecDeque<Bytes>,
    // Output.
    pending: VecDeque<(PayloadType, Bytes)>,
    next_number: i64,
    unacked: VecDeque<SentFrame>,
    /// The head is to be sent again.
    is_head_overdue: bool,
    rtt: Rtt,
    pub(crate) retransmitted: u64,
    cipher: Option<Cipher>,
    events: VecDeque<AgentEvent>,
    ids: u128,
}

impl AgentChannel {
    /// A session whose socket has just been opened, without a handshake.
    pub(crate) fn new(now: Duration) -> Self {
        Self {
            origin: now,
            phase: AgentPhase::Open,
            has_failed: false,
            connected: true,
            paused: false,
            expected: 0,
            early: BTreeMap::new(),
            unsettled: None,
            acks: VecDeque::new(),
            pending: VecDeque::new(),
            next_number: 0,
            unacked: VecDeque::new(),
            is_head_overdue: false,
            rtt: Rtt::new(LONGEST_RTO),
            retransmitted: 0,
            cipher: None,
            events: VecDeque::new(),
            ids: 0,
        }
    }

    /// Begins the handshake. Until it is over, input is acknowledged and thrown away.
    pub(crate) fn start_handshake(&mut self, now: Duration, request: &Request) {
        let demands = |action: &Action| matches!(action, Action::KmsEncryption { .. });
        let key = if request.actions.iter().any(demands) {
            AgentKeyRound::Demanded
        } else {
            AgentKeyRound::NotDemanded
        };
        self.phase = AgentPhase::Handshaking { since: now, key };
        self.send(PayloadType::HandshakeRequest, request.payload());
    }

    /// Gives the data key, decrypted, that [`AgentEvent::DataKeyOffered`] asked for.
    pub(crate) fn provide_data_key(&mut self, data_key: &[u8]) {
        let mut cipher = Cipher::new(data_key);
        let expected: Vec<u8> = (0..CHALLENGE_BYTES as u8).collect();
        let challenge = Challenge::payload(&cipher.seal(&expected));
        self.cipher = Some(cipher);
        self.send(PayloadType::EncryptionChallengeRequest, challenge);
        self.set_key_round(AgentKeyRound::Challenged(expected));
    }

    /// Queues one message.
    pub(crate) fn send(&mut self, payload_type: PayloadType, payload: impl Into<Bytes>) {
        self.pending.push_back((payload_type, payload.into()));
    }

    pub(crate) fn poll_event(&mut self) -> Option<AgentEvent> {
        self.events.pop_front()
    }

    /// The input last polled has been used: it is acknowledged, and the next one, if it came early,
    /// becomes an event.
    pub(crate) fn acknowledge(&mut self, now: Duration) {
        if let Some(unsettled) = self.unsettled.take() {
            self.advance(unsettled.ack);
            self.take_early(now);
        }
    }

    /// The input last polled could not be used now. It is not acknowledged, so the client repeats
    /// it. (What came early was acknowledged when it was stored; refused, it blocks the input for
    /// good, as it does at the official agent.)
    pub(crate) fn refuse(&mut self) {
        self.unsettled = None;
    }

    /// Whether the input last polled came in its turn, so that refusing it makes the client repeat
    /// it.
    pub(crate) fn may_refuse(&self) -> bool {
        matches!(&self.unsettled, Some(unsettled) if unsettled.ack.is_some())
    }

    pub(crate) fn on_disconnected(&mut self) {
        self.connected = false;
        // The client repeats what it did not see acknowledged.
        self.acks.clear();
    }

    pub(crate) fn on_reconnected(&mut self, now: Duration) {
        self.connected = true;
        self.paused = false;
        if let AgentPhase::Handshaking { since, .. } = &mut self.phase {
            *since = now;
        }
        for sent in &mut self.unacked {
            sent.last_sent = now;
        }
        self.is_head_overdue = false;
    }

    pub(crate) fn pause(&mut self) {
        self.paused = true;
    }

    pub(crate) fn resume(&mut self) {
        self.paused = false;
    }

    /// Whether no handshake is going on.
    pub(crate) fn is_open(&self) -> bool {
        self.phase == AgentPhase::Open
    }

    /// Whether everything sent has been acknowledged.
    pub(crate) fn is_drained(&self) -> bool {
        self.pending.is_empty() && self.unacked.is_empty()
    }

    /// The number that the next input should have.
    pub(crate) fn next_expected(&self) -> i64 {
        self.expected
    }

    fn handle_input(&mut self, now: Duration, header: &Header, payload: Bytes) {
        let number = header.sequence_number;
        let ack = Acknowledge {
            message_type: header.message_type,
            message_id: header.message_id,
            sequence_number: number,
        };
        if number < self.expected || self.early.contains_key(&number) {
            self.push_ack(&ack);
        } else if number > self.expected {
            self.push_ack(&ack);
            self.early.insert(number, (header.payload_type, payload));
        } else if self.unsettled.is_none() {
            self.use_input(now, Some(ack), header.payload_type, payload);
            self.take_early(now);
        }
        // Otherwise its first copy is being used, and that one's acknowledgement answers both.
    }

    fn take_early(&mut self, now: Duration) {
        while self.unsettled.is_none() && self.phase != AgentPhase::Deaf {
            let Some((payload_type, payload)) = self.early.remove(&self.expected) else {
                return;
            };
            self.use_input(now, None, payload_type, payload);
        }
    }

    /// Uses one message in its turn: leaves it unsettled, goes on to the next, or falls deaf.
    fn use_input(
        &mut self,
        now: Duration,
        ack: Option<Acknowledge>,
        payload_type: PayloadType,
        payload: Bytes,
    ) {
        match (self.phase.clone(), payload_type) {
            (AgentPhase::Handshaking { since, key }, PayloadType::HandshakeResponse) => {
                // Only one is waited for.
                if matches!(key, AgentKeyRound::NotDemanded | AgentKeyRound::Demanded) {
                    self.take_response(now.saturating_sub(since), &key, &payload);
                } else {
                    self.phase = AgentPhase::Deaf;
                    return;
                }
            }
            (AgentPhase::Handshaking { since, key }, PayloadType::EncryptionChallengeResponse)
                if self.is_proof(&key, &payload) =>
            {
                self.complete_handshake(now.saturating_sub(since));
            }
            // The agent decrypts before it has a key.
            (AgentPhase::Handshaking { key, .. }, PayloadType::Output)
                if key.demands_encryption() && self.cipher.is_none() =>
            {
                self.phase = AgentPhase::Deaf;
                return;
            }
            (AgentPhase::Open, PayloadType::HandshakeResponse) => {
                self.phase = AgentPhase::Deaf;
                return;
            }
            (AgentPhase::Open, _) if !payload.is_empty() => {
                let opened = match &self.cipher {
                    Some(cipher) if is_encrypted(Role::Client, payload_type) => {
                        cipher.open(&payload)
                    }
                    _ => Some(payload),
                };
                // What cannot be opened gets no acknowledgement and no word.
                if let Some(payload) = opened {
                    self.events.push_back(AgentEvent::Data {
                        payload_type,
                        payload,
                    });
                    self.unsettled = Some(Unsettled { ack });
                }
                return;
            }
            _ => {}
        }
        self.advance(ack);
    }

    fn take_response(&mut self, took: Duration, key: &AgentKeyRound, payload: &[u8]) {
        let Some(response) = Response::parse(payload) else {
            self.fail(AgentFailure::MalformedHandshake);
            return;
        };
        let actions = response.processed_client_actions;
        let failed = |action: &&_| {
            let action: &&ops_session::handshake::ProcessedAction = action;
            action.action_status != ActionStatus::Success
        };
        if let Some(failed) = actions.iter().find(failed) {
            self.fail(AgentFailure::HandshakeRefused(format!(
                "Encountered error while initiating handshake. {} failed on client with status {} error: {}",
                failed.action_type,
                failed.action_status.code(),
                failed.error
            )));
            return;
        }
        if !key.demands_encryption() {
            self.complete_handshake(took);
            return;
        }
        let result = actions
            .iter()
            .find(|action| action.action_type == "KMSEncryption");
        match result.and_then(|action| OfferedKey::parse(&action.action_result)) {
            Some(offered) => {
                self.set_key_round(AgentKeyRound::Offered);
                self.events.push_back(AgentEvent::DataKeyOffered {
                    ciphertext_blob: offered.ciphertext_blob,
                    has_challenge: offered.has_challenge,
                });
            }
            None => self.fail(AgentFailure::MalformedHandshake),
        }
    }

    /// A wrong answer to the challenge gets no word: the handshake runs out of time.
    fn is_proof(&self, key: &AgentKeyRound, payload: &[u8]) -> bool {
        let (AgentKeyRound::Challenged(expected), Some(cipher)) = (key, &self.cipher) else {
            return false;
        };
        let opened = Challenge::parse(payload).and_then(|sealed| cipher.open(&sealed));
        opened.is_some_and(|opened| opened == *expected)
    }

    fn complete_handshake(&mut self, took: Duration) {
        let complete = Complete {
            time_to_complete_ns: i64::try_from(took.as_nanos()).unwrap(),
            ..Complete::default()
        };
        self.send(PayloadType::HandshakeComplete, complete.payload());
        self.phase = AgentPhase::Open;
        self.events.push_back(AgentEvent::Ready);
    }

    fn set_key_round(&mut self, round: AgentKeyRound) {
        if let AgentPhase::Handshaking { key, .. } = &mut self.phase {
            *key = round;
        }
    }

    /// A failure is told once; what follows from it is not news.
    fn fail(&mut self, failure: AgentFailure) {
        if !std::mem::replace(&mut self.has_failed, true) {
            self.events.push_back(AgentEvent::Failed(failure));
        }
    }

    fn advance(&mut self, ack: Option<Acknowledge>) {
        if let Some(ack) = ack {
            self.push_ack(&ack);
        }
        self.expected += 1;
    }

    fn push_ack(&mut self, ack: &Acknowledge) {
        if !self.connected {
            return;
        }
        let mut body = BytesMut::new();
        ack.payload_into(&mut body);
        let header = Header {
            message_type: MessageType::Acknowledge,
            sequence_number: 0,
            flags: FLAGS_ACKNOWLEDGE,
            ..self.header(PayloadType::None)
        };
        self.acks.push_back(header.encode(&body));
    }

    fn header(&mut self, payload_type: PayloadType) -> Header {
        self.ids += 1;
        Header {
            message_type: MessageType::OutputStreamData,
            schema_version: 1,
            created_ms: 1,
            sequence_number: self.next_number,
            flags: if self.next_number == 0 { FLAG_SYN } else { 0 },
            message_id: Uuid::from_u128(self.ids),
            payload_type,
        }
    }

    /// Numbers the next message that is pending, and keeps it until it is acknowledged.
    fn number_next(&mut self, now: Duration) -> Option<Bytes> {
        let (payload_type, payload) = self.pending.pop_front()?;
        let header = self.header(payload_type);
        let frame = match &mut self.cipher {
            Some(cipher) if is_encrypted(Role::Agent, payload_type) => {
                header.encode(&cipher.seal(&payload))
            }
            _ => header.encode(&payload),
        };
        self.unacked.push_back(SentFrame {
            number: self.next_number,
            frame: frame.clone(),
            last_sent: now,
        });
        self.next_number += 1;
        Some(frame)
    }

    fn take_ack(&mut self, now: Duration, number: i64) {
        // Acknowledgements name one message each and may come twice.
        if let Some(at) = self.unacked.iter().position(|sent| sent.number == number)
            && let Some(sent) = self.unacked.remove(at)
        {
            // The official agent samples what was sent twice too, from the last sending.
            self.rtt.sample(now.saturating_sub(sent.last_sent));
            // Whether the head is overdue was a matter of another head.
            self.is_head_overdue &= at > 0;
        }
    }

    /// When the head is sent again: strictly later than it is due, on the grid of the agent's
    /// ticks.
    fn resends_at(&self) -> Option<Duration> {
        let head = self.unacked.front()?;
        if self.is_head_overdue || self.paused {
            return None;
        }
        let due = head.last_sent + self.rtt.rto();
        let ticks = due.saturating_sub(self.origin).as_nanos() / RESEND_TICK.as_nanos() + 1;
        Some(self.origin + RESEND_TICK * u32::try_from(ticks).unwrap())
    }

    fn handshake_ends_at(&self) -> Option<Duration> {
        match &self.phase {
            AgentPhase::Handshaking { since, .. } if !self.has_failed => {
                Some(*since + HANDSHAKE_TIMEOUT)
            }
            _ => None,
        }
    }

    fn is_still(&self) -> bool {
        !self.connected || matches!(self.phase, AgentPhase::Deaf | AgentPhase::Closed)
    }
}

impl End for AgentChannel {
    fn handle_frame(&mut self, now: Duration, frame: &Bytes) -> Result<(), WireError> {
        if matches!(self.phase, AgentPhase::Deaf | AgentPhase::Closed) {
            return Ok(());
        }
        let message = Message::decode_unverified(frame)?;
        match message.header.message_type {
            MessageType::InputStreamData => {
                self.paused = false;
                self.handle_input(now, &message.header, frame.slice(HEADER_LEN..));
            }
            MessageType::Acknowledge => {
                let number = Acknowledge::parse_sequence_number(message.payload)?;
                self.paused = false;
                self.take_ack(now, number);
            }
            MessageType::ChannelClosed => self.phase = AgentPhase::Closed,
            MessageType::StartPublication => self.paused = false,
            MessageType::PausePublication => self.paused = true,
            _ => {}
        }
        Ok(())
    }

    fn handle_timeout(&mut self, now: Duration) {
        if self.is_still() {
            return;
        }
        if self.resends_at().is_some_and(|at| at <= now) {
            self.is_head_overdue = true;
        }
        if self.handshake_ends_at().is_some_and(|at| at <= now) {
            self.fail(AgentFailure::HandshakeTimedOut(HANDSHAKE_TIMEOUT));
        }
    }

    fn poll_timeout(&self) -> Option<Duration> {
        if self.is_still() {
            return None;
        }
        let times = [self.resends_at(), self.handshake_ends_at()];
        times.into_iter().flatten().min()
    }

    fn poll_transmit(&mut self, now: Duration) -> Option<Bytes> {
        if !self.connected || self.phase == AgentPhase::Closed {
            return None;
        }
        if let Some(ack) = self.acks.pop_front() {
            return Some(ack);
        }
        if self.paused {
            // Numbered and kept; repaired one by one once the client is back.
            while self.number_next(now).is_some() {}
            return None;
        }
        if self.phase == AgentPhase::Deaf {
            return None;
        }
        if std::mem::take(&mut self.is_head_overdue)
            && let Some(head) = self.unacked.front_mut()
        {
            head.last_sent = now;
            self.retransmitted += 1;
            return Some(head.frame.clone());
        }
        self.number_next(now)
    }
}
