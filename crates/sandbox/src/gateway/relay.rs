//! What stands between one client and one agent for the life of a session.
//!
//! A single task owns both directions. It never waits for one side while the other has something to
//! say: each step is taken when there is room for it, and what may not be held is not read.

use std::{future::pending, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep_until},
};
use tokio_tungstenite::tungstenite::{Message, protocol::frame::coding::CloseCode};

use super::{Session, SessionStatus, WebSocket, frame, line::DelayLine};
use crate::{
    agent,
    faults::{Faults, TooLarge},
    session::{AgentLink, Closing, SessionSpec},
};

/// Messages that wait between gateway and agent, each way.
const AGENT_BOUND: usize = 128;
/// How many messages one step moves before the others are looked at again.
const BATCH: usize = 128;
/// How long an agent may take to end once it was told to.
const CANCEL_PATIENCE: Duration = Duration::from_secs(5);
/// How long a client may take to read the end of its session.
const FAREWELL_PATIENCE: Duration = Duration::from_secs(10);

const IDLE_TEXT: &str = "Your session timed out due to inactivity and has been terminated.";
const DURATION_TEXT: &str =
    "Your session has been terminated because it reached its maximum duration.";

pub(super) async fn run(
    session: Arc<Session>,
    mut spec: SessionSpec,
    attachments: mpsc::Receiver<WebSocket>,
    faults: watch::Receiver<Arc<Faults>>,
    number: u64,
) {
    let relay = Relay::new(Arc::clone(&session), attachments, faults, number);
    let (upload, machine) = (spec.upload.take(), Arc::clone(&spec.state));
    let socket = relay.run(spec).await;
    // Before the session is seen to have ended: whoever sees that finds its log.
    if let Some(upload) = upload
        && let Err(error) = upload.finish(&machine)
    {
        tracing::warn!(%error, "the log of a session is not uploaded");
    }
    session.set_status(SessionStatus::Terminated);
    if let Some(socket) = socket {
        socket.close(CloseCode::Normal, "").await;
    }
}

struct Relay {
    session: Arc<Session>,
    /// The session's, counted from 0.
    number: u64,
    attachments: mpsc::Receiver<WebSocket>,
    faults: watch::Receiver<Arc<Faults>>,
    current: Arc<Faults>,
    random: fastrand::Rng,
    socket: Option<WebSocket>,
    to_agent: DelayLine,
    to_client: DelayLine,
    publication: watch::Sender<bool>,
    /// Messages that passed over the present web socket, both ways.
    passed: u64,
    /// Messages of the whole session.
    passed_ever: u64,
    cuts: u64,
    silence: Silence,
    last_activity: Instant,
    /// The end by maximum duration.
    ends_at: Option<Instant>,
    /// Text of a timeout, in place of the agent's.
    verdict: Option<&'static str>,
    /// The session is over; until when its end may still be delivered.
    farewell: Option<Instant>,
}

/// What is wrong with the connections of the session with this number.
fn faults_of(number: u64, ordered: &Arc<Faults>) -> Arc<Faults> {
    if ordered.meet_session(number) {
        Arc::clone(ordered)
    } else {
        Arc::default()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Silence {
    NotYet,
    /// `None`: for good.
    Until(Option<Instant>),
    Over,
}

/// What the select found; acted upon with the whole relay at hand.
enum RelayEvent {
    Ended(Closing),
    Attached(WebSocket),
    FaultsChanged,
    FromClient(Option<Message>),
    FromAgent(Bytes),
    RoomAtClient,
    RoomAtAgent,
    ClientGone,
    Cancelled,
    Timer,
}

impl Relay {
    fn new(
        session: Arc<Session>,
        attachments: mpsc::Receiver<WebSocket>,
        mut faults: watch::Receiver<Arc<Faults>>,
        number: u64,
    ) -> Self {
        let current = faults_of(number, &faults.borrow_and_update());
        let ends_at = session.limits.duration.map(|most| Instant::now() + most);
        Self {
            session,
            number,
            ends_at,
            attachments,
            random: fastrand::Rng::with_seed(current.seed ^ (number << 32)),
            to_agent: DelayLine::new(Arc::clone(&current), number, false),
            to_client: DelayLine::new(Arc::clone(&current), number, true),
            faults,
            current,
            socket: None,
            publication: watch::Sender::new(true),
            passed: 0,
            passed_ever: 0,
            cuts: 0,
            silence: Silence::NotYet,
            last_activity: Instant::now(),
            verdict: None,
            farewell: None,
        }
    }

    /// Carries the session to its end; gives the web socket over which the client was told of it.
    async fn run(mut self, spec: SessionSpec) -> Option<WebSocket> {
        if !self.first_client().await {
            return None;
        }
        let (into_agent, from_client) = mpsc::channel(AGENT_BOUND);
        let (to_client, mut from_agent) = mpsc::channel(AGENT_BOUND);
        let link = AgentLink {
            from_client,
            to_client,
            publication: self.publication.subscribe(),
            cancel: self.session.cancel.clone(),
        };
        let mut agent = Some(tokio::spawn(agent::run(spec, link)));
        let mut give_up: Option<Instant> = None;
        loop {
            if let Some(deadline) = self.farewell
                && (self.to_client.is_empty()
                    || self.socket.is_none()
                    || Instant::now() >= deadline)
            {
                break;
            }
            let step = self
                .next(&mut agent, &mut from_agent, &into_agent, give_up)
                .await;
            // Whoever orders faults and then sends something finds them in force.
            if self.faults.has_changed().unwrap_or(false) {
                self.change_faults();
                self.act_on_counters();
            }
            match step {
                RelayEvent::Ended(closing) => {
                    agent = None;
                    give_up = None;
                    // What the agent had sent before it ended comes before the word of its end: the
                    // client ends at `channel_closed` and would lose the last output.
                    // What the agent had sent before it ended comes before the word of its end: the
                    // client ends at `channel_closed` and would lose the last output.
                    while let Ok(frame) = from_agent.try_recv() {
                        self.take_from_agent(frame);
                    }
                    self.say_goodbye(&closing);
                }
                RelayEvent::Attached(socket) => self.attach(socket),
                RelayEvent::FaultsChanged => self.change_faults(),
                RelayEvent::FromClient(Some(message)) => {
                    self.take_from_client(message);
                    // A full batch at a time: one message for each turn of the select would cost
                    // more than carrying the message.
                    // A full batch at a time: one message for each turn of the select would cost
                    // more than carrying the message.
                    self.read_more();
                    self.deliver_to_agent(&into_agent);
                }
                RelayEvent::FromClient(None) | RelayEvent::ClientGone => self.detach(),
                RelayEvent::FromAgent(frame) => {
                    self.take_from_agent(frame);
                    for _ in 0..BATCH {
                        if self.to_client.is_full() {
                            break;
                        }
                        let Ok(frame) = from_agent.try_recv() else {
                            break;
                        };
                        self.take_from_agent(frame);
                    }
                    self.deliver_to_client();
                }
                RelayEvent::RoomAtClient => self.deliver_to_client(),
                RelayEvent::RoomAtAgent => self.deliver_to_agent(&into_agent),
                RelayEvent::Cancelled => {
                    self.session.set_status(SessionStatus::Terminating);
                    give_up.get_or_insert_with(|| Instant::now() + CANCEL_PATIENCE);
                }
                RelayEvent::Timer => self.look_at_the_clock(&mut agent, give_up),
            }
            self.act_on_counters();
        }
        self.socket.take()
    }

    /// Waits for the first client, which may never come.
    async fn first_client(&mut self) -> bool {
        // The service ends a session that nobody attaches to, as it ends an idle one.
        // The service ends a session that nobody attaches to, as it ends an idle one.
        let idle = self.session.limits.idle;
        let first = tokio::select! {
            () = self.session.cancel.cancelled() => None,
            () = tokio::time::sleep(idle) => None,
            first = self.attachments.recv() => first,
        };
        match first {
            Some(socket) => {
                self.attach(socket);
                true
            }
            None => false,
        }
    }

    async fn next(
        &mut self,
        agent: &mut Option<JoinHandle<Closing>>,
        from_agent: &mut mpsc::Receiver<Bytes>,
        into_agent: &mpsc::Sender<Bytes>,
        give_up: Option<Instant>,
    ) -> RelayEvent {
        let now = Instant::now();
        // A line that is due waits for room at its far end and not for the clock; with the clock
        // too, the timer would fire in a circle for as long as the reader is slow.
        // A line that is due waits for room at its far end and not for the clock; with the clock
        // too, the timer would fire in a circle for as long as the reader is slow.
        let is_due = |line: &DelayLine| line.next_due().is_some_and(|due| due <= now);
        let (client_is_due, agent_is_due) = (is_due(&self.to_client), is_due(&self.to_agent));
        let wake = [
            self.to_client.next_due().filter(|_| !client_is_due),
            self.to_agent.next_due().filter(|_| !agent_is_due),
            match self.silence {
                Silence::Until(until) => until,
                _ => None,
            },
            give_up,
            self.farewell,
            self.farewell.is_none().then(|| self.deadline()),
        ]
        .into_iter()
        .flatten()
        .min();
        // What cannot be held is not read, so that the sender's own window closes (TCP's, or the
        // channel's bound): a sandbox that took everything would hide a client without flow
        // control.
        // What cannot be held is not read, so that the sender's own window closes (TCP's, or the
        // channel's bound): a sandbox that took everything would hide a client without flow
        // control.
        let reads_client = !self.to_agent.is_full();
        let reads_agent = !self.to_client.is_full() && agent.is_some();
        let is_cancelled = give_up.is_some();
        let (reader, writer) = match &mut self.socket {
            Some(socket) => (Some(&mut socket.reader), Some(&socket.writer)),
            None => (None, None),
        };
        let ended = async {
            match agent {
                Some(agent) => agent.await.unwrap_or_default(),
                None => pending().await,
            }
        };
        let from_client = async {
            match reader {
                Some(reader) if reads_client => reader.next().await,
                _ => pending().await,
            }
        };
        let room_at_client = async {
            match writer {
                Some(writer) if client_is_due => writer.reserve().await.is_ok(),
                _ => pending().await,
            }
        };
        let timer = async {
            match wake {
                Some(wake) => sleep_until(wake).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            // In this order: a new web socket and new faults hold for all that is read after them,
            // and the agent's end is looked at before more input for the agent is read.
            // In this order: a new web socket and new faults hold for all that is read after them,
            // and the agent's end is looked at before more input for the agent is read.
            attached = self.attachments.recv() => match attached {
                Some(socket) => RelayEvent::Attached(socket),
                None => RelayEvent::Cancelled,
            },
            changed = self.faults.changed() => match changed {
                Ok(()) => RelayEvent::FaultsChanged,
                Err(_) => RelayEvent::Cancelled,
            },
            () = self.session.cancel.cancelled(), if !is_cancelled => RelayEvent::Cancelled,
            has_room = room_at_client => if has_room { RelayEvent::RoomAtClient } else { RelayEvent::ClientGone },
            Ok(_) = into_agent.reserve(), if agent_is_due => RelayEvent::RoomAtAgent,
            closing = ended => RelayEvent::Ended(closing),
            message = from_client => RelayEvent::FromClient(message.and_then(Result::ok)),
            Some(frame) = from_agent.recv(), if reads_agent => RelayEvent::FromAgent(frame),
            () = timer => RelayEvent::Timer,
        }
    }

    fn attach(&mut self, socket: WebSocket) {
        // The newest web socket has the session: the official client dials anew while the old
        // connection may still look alive to the service.
        // The newest web socket has the session: the official client dials anew while the old
        // connection may still look alive to the service.
        if let Some(displaced) = self.socket.replace(socket) {
            tokio::spawn(displaced.close(CloseCode::Normal, "Displaced"));
        }
        self.passed = 0;
        self.last_activity = Instant::now();
        self.session.set_status(SessionStatus::Connected);
        // The agent sends nothing of its own until a client listens, and goes on with what was not
        // acknowledged then.
        // The agent sends nothing of its own until a client listens, and goes on with what was not
        // acknowledged then.
        if !matches!(self.silence, Silence::Until(_)) {
            self.publication.send_replace(false);
            if !self.current.no_start {
                self.to_client
                    .push_control(Instant::now(), frame::start_publication());
            }
        }
    }

    /// Closes the web socket as the service does when it means no end of the session.
    fn part(&mut self, code: CloseCode, reason: &'static str) {
        if let Some(socket) = self.socket.take() {
            tokio::spawn(socket.close(code, reason));
        }
        self.detach();
    }

    /// A message of this length from the client is more than the gateway takes.
    fn refuse_too_large(&mut self, otherwise: TooLarge) {
        match otherwise {
            TooLarge::Close => self.part(CloseCode::Size, "Message too big"),
            TooLarge::Reset => self.detach(),
            TooLarge::Drop => {}
        }
    }

    /// Takes up what was ordered anew; counts begin from here, and an agent that was silent speaks.
    fn change_faults(&mut self) {
        self.current = faults_of(self.number, &self.faults.borrow_and_update());
        self.to_agent.change(Arc::clone(&self.current));
        self.to_client.change(Arc::clone(&self.current));
        (self.passed, self.passed_ever, self.cuts) = (0, 0, 0);
        if matches!(self.silence, Silence::Until(_)) {
            self.end_silence();
        }
        self.silence = Silence::NotYet;
    }

    fn end_silence(&mut self) {
        self.silence = Silence::Over;
        if self.socket.is_some() {
            self.publication.send_replace(false);
            self.to_client
                .push_control(Instant::now(), frame::start_publication());
        }
    }

    /// The web socket is gone: what was under way to the client is lost, and some of what came from
    /// it.
    fn detach(&mut self) {
        if let Some(socket) = self.socket.take() {
            socket.task.abort();
        }
        self.to_client.clear();
        // A real break loses an unknown part of what was on its way: a client that counts on all or
        // on nothing of it is found out.
        // A real break loses an unknown part of what was on its way: a client that counts on all or
        // on nothing of it is found out.
        let kept = self.random.usize(0..=self.to_agent.len());
        self.to_agent.truncate(kept);
        self.publication.send_replace(true);
        self.session.set_status(SessionStatus::Disconnected);
    }

    fn take_from_client(&mut self, message: Message) {
        let frame = match message {
            // The official parser takes text frames for the same layout.
            Message::Binary(frame) => frame,
            Message::Text(text) => Bytes::from(text),
            Message::Close(_) => return self.part(CloseCode::Normal, ""),
            _ => return,
        };
        // The agent is gone. Input that crosses with the farewell has no reader.
        // The agent is gone. Input that crosses with the farewell has no reader.
        if self.farewell.is_some() {
            return;
        }
        if let Some(most) = self.current.max_frame
            && frame.len() as u64 > most.bytes
        {
            return self.refuse_too_large(most.otherwise);
        }
        let now = Instant::now();
        self.note(&frame, now);
        if matches!(self.silence, Silence::Until(_)) {
            if self.current.pauses {
                self.to_client.push_control(now, frame::pause_publication());
            }
            return;
        }
        self.to_agent.push(now, frame);
    }

    /// Takes what else the web socket has at hand.
    fn read_more(&mut self) {
        for _ in 0..BATCH {
            if self.to_agent.is_full() {
                return;
            }
            let Some(socket) = &mut self.socket else {
                return;
            };
            match pin!(socket.reader.next()).now_or_never() {
                None => return,
                Some(Some(Ok(message))) => self.take_from_client(message),
                Some(_) => return self.detach(),
            }
        }
    }

    fn take_from_agent(&mut self, frame: Bytes) {
        let now = Instant::now();
        self.note(&frame, now);
        // Nothing is kept for a client that is away: the agent repeats what stays unacknowledged.
        // Nothing is kept for a client that is away: the agent repeats what stays unacknowledged.
        if self.socket.is_some() && !matches!(self.silence, Silence::Until(_)) {
            self.to_client.push(now, frame);
        }
    }

    fn note(&mut self, frame: &[u8], now: Instant) {
        self.passed += 1;
        self.passed_ever += 1;
        // Acknowledgements and handshakes do not keep a session from being idle.
        // Acknowledgements and handshakes do not keep a session from being idle.
        if frame::is_stream_data(frame) {
            self.last_activity = now;
        }
    }

    fn deliver_to_agent(&mut self, into_agent: &mpsc::Sender<Bytes>) {
        let now = Instant::now();
        for _ in 0..BATCH {
            // Room first, message second: a message that was popped cannot be put back at its
            // place.
            // Room first, message second: a message that was popped cannot be put back at its
            // place.
            let Ok(permit) = into_agent.try_reserve() else {
                return;
            };
            let Some(frame) = self.to_agent.pop(now) else {
                return;
            };
            permit.send(frame);
        }
    }

    fn deliver_to_client(&mut self) {
        let now = Instant::now();
        for _ in 0..BATCH {
            let Some(socket) = &self.socket else { return };
            let Ok(permit) = socket.writer.try_reserve() else {
                return;
            };
            let Some(frame) = self.to_client.pop(now) else {
                return;
            };
            permit.send(Message::Binary(frame));
        }
    }

    fn say_goodbye(&mut self, closing: &Closing) {
        let ordered = self.current.end_text.as_deref().unwrap_or_default();
        let output = match (self.verdict, closing.output.as_str()) {
            (Some(verdict), _) => verdict,
            (None, "") => ordered,
            (None, output) => output,
        };
        let farewell = frame::channel_closed(&self.session.id, &self.session.target, output);
        let now = Instant::now();
        self.to_client.push_control(now, farewell);
        self.farewell = Some(now + FAREWELL_PATIENCE);
        self.session.set_status(SessionStatus::Terminating);
    }

    /// Faults that count messages.
    fn act_on_counters(&mut self) {
        let faults = Arc::clone(&self.current);
        if self.silence == Silence::NotYet
            && faults
                .silent_after
                .is_some_and(|count| self.passed_ever >= count)
        {
            self.silence = Silence::Until(faults.silent_for.map(|time| Instant::now() + time));
            self.publication.send_replace(true);
        }
        if faults
            .end_after
            .is_some_and(|count| self.passed_ever >= count)
        {
            self.session.cancel.cancel();
        }
        if self.farewell.is_some() || self.cuts >= faults.cuts.unwrap_or(1) {
            return;
        }
        let reached = |limit: Option<u64>| limit.is_some_and(|count| self.passed >= count);
        if self.socket.is_some() && reached(faults.bye_after) {
            self.cuts += 1;
            self.part(CloseCode::Normal, "Bye");
        } else if self.socket.is_some() && reached(faults.cut_after) {
            self.cuts += 1;
            self.detach();
        }
    }

    fn look_at_the_clock(
        &mut self,
        agent: &mut Option<JoinHandle<Closing>>,
        give_up: Option<Instant>,
    ) {
        let now = Instant::now();
        if let Silence::Until(Some(until)) = self.silence
            && now >= until
        {
            self.end_silence();
        }
        if give_up.is_some_and(|deadline| now >= deadline) {
            // An agent that does not end although it was told to (a program that ignores its
            // hangup) does not keep the session open: the service says that the session is over.
            // An agent that does not end although it was told to (a program that ignores its
            // hangup) does not keep the session open: the service says that the session is over.
            if let Some(agent) = agent.take() {
                agent.abort();
            }
            if self.farewell.is_none() {
                self.say_goodbye(&Closing::default());
            }
        }
        if self.farewell.is_none() && now >= self.deadline() && !self.session.cancel.is_cancelled()
        {
            let is_idle = now >= self.last_activity + self.session.limits.idle;
            self.verdict = Some(if is_idle { IDLE_TEXT } else { DURATION_TEXT });
            self.session.cancel.cancel();
        }
    }

    /// When a timeout of the service ends the session.
    fn deadline(&self) -> Instant {
        if self.session.cancel.is_cancelled() {
            // It has ended it, or something else has.
            return Instant::now() + FAREWELL_PATIENCE;
        }
        let idle = self.last_activity + self.session.limits.idle;
        match self.ends_at {
            Some(end) => idle.min(end),
            None => idle,
        }
    }
}
