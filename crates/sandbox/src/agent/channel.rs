//! The agent's data channel: numbers, acknowledgements, repair and the rhythm of its input.
//!
//! As in the official agent, input is handled one message at a time and acknowledged after it was
//! taken: a program that does not read withholds acknowledgements. Output goes its own way and
//! never waits for input.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, Write as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use super::{
    cipher::BlockCipher,
    frame::{self, FrameError, Message, payload},
    handshake_response::HandshakeResponse,
    retransmission::Timer,
};
use crate::{fleet::InstanceState, session::AgentLink};

/// Most payload bytes of one message.
pub(super) const PAYLOAD_BYTES: usize = 1024;

/// How often the head of the unacknowledged messages is looked at.
const RESEND_TICK: Duration = Duration::from_millis(100);
/// Out-of-order messages kept.
const EARLY_CAPACITY: usize = 100_000;
/// Messages that may be unacknowledged before output waits. The official agent has no such bound;
/// it costs memory only.
const UNACKED_BOUND: usize = 10_000;
/// Frames that may wait for the gateway before output waits.
const OUTBOX_BOUND: usize = 64;

/// What the plugin did with an input message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disposition {
    /// Taken: it is acknowledged.
    Taken,
    /// Not now, or failed: no acknowledgement, so that the client sends it again.
    Refused,
}

/// Takes input messages, in order, one at a time.
pub(super) trait InputHandler: Send {
    /// Handles one message; nothing else of the client is read until the future is done.
    fn handle(&mut self, payload_type: u32, payload: Bytes) -> BoxFuture<'_, Disposition>;
}

/// The body of both messages of the challenge round; the bytes are base64.
#[derive(Deserialize)]
struct Challenge {
    #[serde(rename = "Challenge")]
    challenge: String,
}

/// One end of the link to the client; clones share it.
#[derive(Clone)]
pub(super) struct Channel(Arc<SharedChannel>);

/// Ends the channel's tasks when dropped.
pub(super) struct ChannelTasks(Vec<JoinHandle<()>>);

impl Drop for ChannelTasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

struct SharedChannel {
    state: Mutex<ChannelState>,
    outbox_filled: Notify,
    /// Counts acknowledgements, sent frames and changes of publication: whoever waits for one of
    /// those looks again.
    progress: watch::Sender<u64>,
    handler: tokio::sync::Mutex<Option<Box<dyn InputHandler>>>,
    /// The session is over: TerminateSession, a flag, or a fault that strict reading found.
    ended: CancellationToken,
    strict: bool,
}

struct ChannelState {
    next_number: i64,
    unacked: VecDeque<SentFrame>,
    outbox: VecDeque<Bytes>,
    expected: i64,
    early: BTreeMap<i64, Message>,
    paused: bool,
    handshake: Handshake,
    /// Of an encrypted session, once there is a data key.
    cipher: Option<BlockCipher>,
    timer: Timer,
    fault: Option<String>,
    /// A flag asked for the end.
    ending: bool,
    /// Where the session's output stays on the machine's disk.
    kept: Option<std::fs::File>,
}

struct SentFrame {
    number: i64,
    frame: Bytes,
    last_sent: Instant,
}

enum Handshake {
    /// None is needed, or it is done: input goes to the plugin.
    Over,
    /// The request is out.
    Asked {
        reply: oneshot::Sender<HandshakeResponse>,
        encrypts: bool,
    },
    /// The client has to send these bytes back under its own key.
    Challenged {
        reply: oneshot::Sender<()>,
        expected: Vec<u8>,
    },
    /// A response has come, or too much time has passed; completion is not out yet.
    Answered,
}

impl Channel {
    /// Starts reading, writing and repairing. With `handshake`, input is acknowledged and thrown
    /// away until [`Channel::finish_handshake`].
    pub(super) fn start(link: AgentLink, handshake: bool, strict: bool) -> (Self, ChannelTasks) {
        let AgentLink {
            from_client,
            to_client,
            publication,
            cancel,
        } = link;
        let shared = Arc::new(SharedChannel {
            state: Mutex::new(ChannelState {
                next_number: 0,
                unacked: VecDeque::new(),
                outbox: VecDeque::new(),
                expected: 0,
                early: BTreeMap::new(),
                paused: *publication.borrow(),
                handshake: if handshake {
                    Handshake::Answered
                } else {
                    Handshake::Over
                },
                cipher: None,
                timer: Timer::new(),
                fault: None,
                ending: false,
                kept: None,
            }),
            outbox_filled: Notify::new(),
            progress: watch::Sender::new(0),
            handler: tokio::sync::Mutex::new(None),
            ended: cancel.child_token(),
            strict,
        });
        let running = ChannelTasks(vec![
            tokio::spawn(read(Arc::clone(&shared), from_client)),
            tokio::spawn(follow_publication(Arc::clone(&shared), publication)),
            tokio::spawn(write(Arc::clone(&shared), to_client)),
            tokio::spawn(resend(Arc::clone(&shared))),
        ]);
        (Self(shared), running)
    }

    /// Sends one message; waits while too much is under way. Nothing is sent for an empty payload.
    pub(super) async fn send(&self, payload_type: u32, payload: impl Into<Bytes>) {
        let mut payload = payload.into();
        if payload.is_empty() {
            return;
        }
        // Before the number is taken: whoever waits here holds no number that others would wait
        // for.
        // Before the number is taken: whoever waits here holds no number that others would wait
        // for.
        self.until(|state| {
            state.unacked.len() < UNACKED_BOUND && state.outbox.len() < OUTBOX_BOUND
        })
        .await;
        let mut state = self.0.lock();
        if let Some(kept) = &mut state.kept
            && matches!(payload_type, payload::OUTPUT | payload::STDERR)
        {
            // As the agent does: a disk that is full ends nothing here.
            let _ = kept.write_all(&payload);
        }
        if let Some(cipher) = &mut state.cipher
            && matches!(
                payload_type,
                payload::OUTPUT | payload::STDERR | payload::EXIT_CODE
            )
        {
            match cipher.encrypt(&payload) {
                Ok(sealed) => payload = sealed,
                // Nothing goes out in clear instead.
                Err(_) => return,
            }
        }
        // Number, repair queue and outbox change under one lock, so that frames leave in the order
        // of their numbers.
        // Number, repair queue and outbox change under one lock, so that frames leave in the order
        // of their numbers.
        let number = state.next_number;
        state.next_number += 1;
        let frame = Message {
            message_type: frame::OUTPUT_STREAM_DATA.into(),
            sequence_number: number,
            // SYN on the first message, as the agent sets it; FIN it never sets.
            // SYN on the first message, as the agent sets it; FIN it never sets.
            flags: u64::from(number == 0),
            message_id: frame::fresh_id(),
            payload_type,
            payload,
        }
        .encode();
        state.unacked.push_back(SentFrame {
            number,
            frame: frame.clone(),
            last_sent: Instant::now(),
        });
        // It is among the unacknowledged ones: the repair sends it once the client is back.
        // It is among the unacknowledged ones: the repair sends it once the client is back.
        if state.paused {
            return;
        }
        state.outbox.push_back(frame);
        // Whoever is woken wants the lock at once.
        drop(state);
        self.0.outbox_filled.notify_one();
    }

    /// Keeps all output from now on in a file of the machine, as agents before 3.3.987.0 do, and
    /// leaves it there.
    ///
    /// # Errors
    /// The file cannot be made.
    pub(super) fn keep_output(&self, machine: &InstanceState, session_id: &str) -> io::Result<()> {
        let path = machine.kept_output(session_id)?;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = std::fs::File::create(path)?;
        self.0.lock().kept = Some(file);
        Ok(())
    }

    /// Whether the client is away, as far as the agent knows.
    pub(super) fn is_paused(&self) -> bool {
        self.0.lock().paused
    }

    /// Waits while the client is away.
    pub(super) async fn active(&self) {
        self.until(|state| !state.paused).await;
    }

    /// Waits until everything sent is acknowledged, two seconds at most, and everything queued is
    /// with the gateway.
    pub(super) async fn drain(&self) {
        let _ = tokio::time::timeout(
            Duration::from_secs(2),
            self.until(|state| state.unacked.is_empty()),
        )
        .await;
        self.drain_acknowledgements().await;
    }

    /// Waits until what is queued is with the gateway: the acknowledgement of the flag that ended
    /// the session, for one.
    pub(super) async fn drain_acknowledgements(&self) {
        let _ = tokio::time::timeout(
            Duration::from_secs(1),
            self.until(|state| state.outbox.is_empty()),
        )
        .await;
    }

    /// Gives input to `handler` from now on; before, it is refused.
    pub(super) async fn install(&self, handler: impl InputHandler + 'static) {
        *self.0.handler.lock().await = Some(Box::new(handler));
    }

    /// Drops the plugin's handler, and with it the session's end of terminals and connections: what
    /// is at their far end is hung up on. A handler may hold the channel that holds it, so without
    /// this neither would ever be dropped.
    pub(super) async fn uninstall(&self) {
        *self.0.handler.lock().await = None;
    }

    /// Announces that a handshake request goes out; the receiver yields the first response.
    pub(super) fn expect_handshake_response(
        &self,
        encrypts: bool,
    ) -> oneshot::Receiver<HandshakeResponse> {
        let (reply, response) = oneshot::channel();
        self.0.lock().handshake = Handshake::Asked { reply, encrypts };
        response
    }

    /// From now on output is encrypted, and input has to be; sends the challenge. The receiver
    /// yields once the client has proven that it has the key.
    pub(super) async fn challenge(
        &self,
        mut cipher: BlockCipher,
        expected: Vec<u8>,
    ) -> Option<oneshot::Receiver<()>> {
        let sealed = cipher.encrypt(&expected).ok()?;
        let body = serde_json::json!({ "Challenge": STANDARD.encode(sealed) });
        let (reply, proven) = oneshot::channel();
        {
            let mut state = self.0.lock();
            state.cipher = Some(cipher);
            state.handshake = Handshake::Challenged { reply, expected };
        }
        self.send(payload::CHALLENGE_REQUEST, body.to_string())
            .await;
        Some(proven)
    }

    /// No response is wanted any more: the next one blocks the agent's reader, as it does the
    /// official agent's.
    pub(super) fn stop_expecting(&self) {
        self.0.lock().handshake = Handshake::Answered;
    }

    /// From now on input goes to the plugin.
    pub(super) fn finish_handshake(&self) {
        self.0.lock().handshake = Handshake::Over;
    }

    /// Ends the session as if it had been terminated, once the message under way is acknowledged.
    pub(super) fn end(&self) {
        self.0.lock().ending = true;
    }

    /// Waits until the session is terminated; the text is for `channel_closed`, empty unless strict
    /// reading found a fault.
    pub(super) async fn ended(&self) -> String {
        self.0.ended.cancelled().await;
        self.0.lock().fault.clone().unwrap_or_default()
    }

    async fn until(&self, condition: impl Fn(&ChannelState) -> bool) {
        let mut progress = self.0.progress.subscribe();
        loop {
            progress.mark_unchanged();
            if condition(&self.0.lock()) || progress.changed().await.is_err() {
                return;
            }
        }
    }
}

impl SharedChannel {
    fn lock(&self) -> MutexGuard<'_, ChannelState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn progressed(&self) {
        self.progress
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    fn set_paused(&self, paused: bool) {
        let was = std::mem::replace(&mut self.lock().paused, paused);
        if was != paused {
            self.progressed();
        }
    }

    fn acknowledge(&self, message: &Message) {
        // Written by hand: there is one for every message, and nothing in it needs escaping.
        let body = format!(
            r#"{{"AcknowledgedMessageType":"{}","AcknowledgedMessageId":"{}","AcknowledgedMessageSequenceNumber":{},"IsSequentialMessage":true}}"#,
            frame::INPUT_STREAM_DATA,
            message.message_id,
            message.sequence_number
        );
        // Sequence number 0 and both flags, as the agent sends every acknowledgement; it is not
        // repeated when it is lost, the repetition of what it acknowledges asks for it anew.
        // Sequence number 0 and both flags, as the agent sends every acknowledgement; it is not
        // repeated when it is lost, the repetition of what it acknowledges asks for it anew.
        let frame = Message {
            message_type: frame::ACKNOWLEDGE.into(),
            sequence_number: 0,
            flags: 3,
            message_id: frame::fresh_id(),
            payload_type: 0,
            payload: body.into(),
        }
        .encode();
        let mut state = self.lock();
        state.outbox.push_back(frame);
        // The flag that ends the session is acknowledged first: a client that waits for that would
        // repeat the flag to nobody.
        // The flag that ends the session is acknowledged first: a client that waits for that would
        // repeat the flag to nobody.
        let ending = state.ending;
        drop(state);
        self.outbox_filled.notify_one();
        if ending {
            self.ended.cancel();
        }
    }

    fn handle_acknowledge(&self, message: &Message) {
        #[derive(Deserialize)]
        struct Acknowledge {
            #[serde(rename = "AcknowledgedMessageSequenceNumber")]
            number: i64,
        }
        let Ok(acknowledge) = serde_json::from_slice::<Acknowledge>(&message.payload) else {
            return;
        };
        let mut state = self.lock();
        // Acknowledgements may arrive twice, so a number we no longer hold is not an error.
        if let Some(at) = state
            .unacked
            .iter()
            .position(|sent| sent.number == acknowledge.number)
            && let Some(sent) = state.unacked.remove(at)
        {
            state.timer.sample(sent.last_sent.elapsed());
        }
        drop(state);
        self.progressed();
    }

    async fn handle_stream_data(&self, message: Message) -> Result<(), Deaf> {
        let expected = self.lock().expected;
        // Its first acknowledgement was lost. The agent says it again and hands nothing on twice.
        // Its first acknowledgement was lost. The agent says it again and hands nothing on twice.
        if message.sequence_number < expected {
            self.acknowledge(&message);
            return Ok(());
        }
        if message.sequence_number > expected {
            let mut state = self.lock();
            // Beyond the bound it is neither kept nor acknowledged, and the client sends it again.
            // Beyond the bound it is neither kept nor acknowledged, and the client sends it again.
            if state.early.len() < EARLY_CAPACITY {
                state.early.insert(message.sequence_number, message.clone());
                drop(state);
                self.acknowledge(&message);
            }
            return Ok(());
        }
        // The expected number stays: the repetition finds the same state, and is refused or taken
        // then.
        // The expected number stays: the repetition finds the same state, and is refused or taken
        // then.
        if self.process(&message).await? == Disposition::Refused {
            return Ok(());
        }
        self.acknowledge(&message);
        self.lock().expected += 1;
        loop {
            let early = {
                let state = self.lock();
                state.early.get(&state.expected).cloned()
            };
            let Some(early) = early else { return Ok(()) };
            // It was acknowledged when it was stored: refused now, it is neither delivered nor ever
            // sent again. So it is there.
            if self.process(&early).await? == Disposition::Refused {
                return Ok(());
            }
            let mut state = self.lock();
            let number = state.expected;
            state.early.remove(&number);
            state.expected += 1;
        }
    }

    async fn process(&self, message: &Message) -> Result<Disposition, Deaf> {
        match message.payload_type {
            payload::HANDSHAKE_RESPONSE => {
                let Ok(response) = serde_json::from_slice::<HandshakeResponse>(&message.payload)
                else {
                    return Ok(Disposition::Refused);
                };
                // Only the first response counts, also where two come before the task that asked
                // has run.
                // Only the first response counts, also where two come before the task that asked
                // has run.
                let asked = {
                    let mut state = self.lock();
                    match std::mem::replace(&mut state.handshake, Handshake::Answered) {
                        Handshake::Asked { reply, .. } => Some(reply),
                        other => {
                            state.handshake = other;
                            None
                        }
                    }
                };
                match asked {
                    Some(reply) => {
                        let _ = reply.send(response);
                        Ok(Disposition::Taken)
                    }
                    // Nobody waits for a second response: the official agent's reader blocks here
                    // for good.
                    None => std::future::pending().await,
                }
            }
            payload::CHALLENGE_RESPONSE => Ok(self.check_challenge(&message.payload)),
            payload_type => {
                let mut payload = message.payload.clone();
                {
                    let state = self.lock();
                    if let Some(cipher) = &state.cipher
                        && payload_type == payload::OUTPUT
                    {
                        match cipher.decrypt(&payload) {
                            Some(opened) => payload = opened,
                            // An error at the official agent: no acknowledgement, no word.
                            None => return Ok(Disposition::Refused),
                        }
                    }
                    match &state.handshake {
                        Handshake::Over => {}
                        // The agent decrypts before it has a key.
                        Handshake::Asked { encrypts: true, .. }
                            if payload_type == payload::OUTPUT =>
                        {
                            return Err(Deaf);
                        }
                        // Acknowledged and thrown away.
                        _ => return Ok(Disposition::Taken),
                    }
                }
                match self.handler.lock().await.as_mut() {
                    Some(handler) => Ok(handler.handle(payload_type, payload).await),
                    None => Ok(Disposition::Refused),
                }
            }
        }
    }

    /// A wrong answer gets no word, and none is waited for any more but in vain.
    fn check_challenge(&self, body: &[u8]) -> Disposition {
        let Ok(Challenge { challenge }) = serde_json::from_slice(body) else {
            return Disposition::Refused;
        };
        let mut state = self.lock();
        let sealed = STANDARD.decode(challenge).unwrap_or_default();
        let opened = state
            .cipher
            .as_ref()
            .and_then(|cipher| cipher.decrypt(&sealed));
        match (&state.handshake, opened) {
            (Handshake::Challenged { expected, .. }, Some(opened)) if opened == *expected => {}
            _ => return Disposition::Refused,
        }
        if let Handshake::Challenged { reply, .. } =
            std::mem::replace(&mut state.handshake, Handshake::Answered)
        {
            let _ = reply.send(());
        }
        Disposition::Taken
    }

    fn fail(&self, text: String) {
        self.lock().fault = Some(text);
        self.ended.cancel();
    }
}

/// The reader has died, as the official one can; the session lives on without it.
struct Deaf;

async fn read(shared: Arc<SharedChannel>, mut from_client: mpsc::Receiver<Bytes>) {
    let mut deaf = false;
    while let Some(frame) = from_client.recv().await {
        if deaf {
            continue;
        }
        let message = match Message::decode(&frame, shared.strict) {
            Ok(message) => message,
            Err(error) => {
                tracing::debug!(%error, "dropped a frame of the client");
                if shared.strict {
                    shared.fail(format!(
                        "The sandbox's agent reads strictly and got a bad message: {error}."
                    ));
                }
                deaf |= matches!(error, FrameError::Fatal(_));
                continue;
            }
        };
        match message.message_type.as_ref() {
            frame::INPUT_STREAM_DATA => {
                // Whatever the client sends shows that it listens: the agent does not wait for
                // start_publication.
                // Whatever the client sends shows that it listens: the agent does not wait for
                // start_publication.
                shared.set_paused(false);
                deaf |= shared.handle_stream_data(message).await.is_err();
            }
            frame::ACKNOWLEDGE => {
                shared.set_paused(false);
                shared.handle_acknowledge(&message);
            }
            frame::START_PUBLICATION => shared.set_paused(false),
            frame::PAUSE_PUBLICATION => shared.set_paused(true),
            frame::CHANNEL_CLOSED => shared.ended.cancel(),
            other => tracing::debug!(message_type = other, "unknown message type"),
        }
    }
    shared.ended.cancel();
}

async fn follow_publication(shared: Arc<SharedChannel>, mut publication: watch::Receiver<bool>) {
    while publication.changed().await.is_ok() {
        let paused = *publication.borrow_and_update();
        shared.set_paused(paused);
    }
}

async fn write(shared: Arc<SharedChannel>, to_client: mpsc::Sender<Bytes>) {
    loop {
        let Ok(permit) = to_client.reserve().await else {
            return;
        };
        let frame = loop {
            // Made before the look at the outbox: a frame that comes between the look and the wait
            // wakes it.
            // Made before the look at the outbox: a frame that comes between the look and the wait
            // wakes it.
            let filled = shared.outbox_filled.notified();
            if let Some(frame) = shared.lock().outbox.pop_front() {
                break frame;
            }
            filled.await;
        };
        permit.send(frame);
        shared.progressed();
    }
}

async fn resend(shared: Arc<SharedChannel>) {
    let mut tick = tokio::time::interval(RESEND_TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let mut state = shared.lock();
        if state.paused {
            continue;
        }
        let timeout = Duration::from_secs_f64(state.timer.timeout / 1000.0);
        // Only the head is sent again, as at the agent: a client that lost fifty messages gets them
        // back one for each time-out.
        // Only the head is sent again, as at the agent: a client that lost fifty messages gets them
        // back one for each time-out.
        if let Some(head) = state.unacked.front_mut()
            && head.last_sent.elapsed() > timeout
        {
            head.last_sent = Instant::now();
            let frame = head.frame.clone();
            state.outbox.push_back(frame);
            shared.outbox_filled.notify_one();
        }
    }
}
