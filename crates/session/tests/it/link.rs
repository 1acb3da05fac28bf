//! A client and an agent core joined by a simulated link, in virtual time.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use ops_session::data_channel::{Config, DataChannel, Event};
use ops_session::encryption::{DataKey, Role, is_encrypted};
use ops_session::handshake::{Action, Request};
use ops_session::wire::{HEADER_LEN, Message, PayloadType};
use serde_json::json;

use crate::agent::{AgentChannel, AgentEvent, End};
use crate::kms::{data_key, kms_request, plaintext};

pub(crate) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// What the link does to frames, in chances of 1,000.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) drop: u32,
    pub(crate) duplicate: u32,
    /// Up to this much is added to the latency of each frame, so that frames overtake one another.
    pub(crate) jitter: Duration,
    /// The agent is not ready to take an input message.
    pub(crate) refuse: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    Client,
    Agent,
}

pub(crate) struct Link {
    pub(crate) now: Duration,
    pub(crate) client: DataChannel,
    pub(crate) agent: AgentChannel,
    pub(crate) latency: Duration,
    pub(crate) faults: Faults,
    pub(crate) client_received: Vec<u8>,
    pub(crate) agent_received: Vec<u8>,
    pub(crate) client_events: Vec<Event>,
    pub(crate) agent_events: Vec<AgentEvent>,
    /// Frames from the client, counted from 1, that are lost.
    pub(crate) drop_from_client: Vec<usize>,
    /// What the client gets when it asks for a data key.
    pub(crate) client_key: fn() -> DataKey,
    /// What the agent has it decrypted to.
    pub(crate) agent_key: fn() -> Vec<u8>,
    /// Every ciphertext by its nonce, each direction for itself: never two under one.
    ciphertexts: [HashMap<[u8; 12], Bytes>; 2],
    /// Lengths of the payloads of type Output that the client has sent.
    pub(crate) sent_lens: Vec<usize>,
    from_client: usize,
    rng: fastrand::Rng,
    wire: BTreeMap<(Duration, u64), (To, Bytes)>,
    sent: u64,
    connected: bool,
}

impl Link {
    pub(crate) fn new(seed: u64) -> Self {
        Self::with(seed, Config::default())
    }

    pub(crate) fn with(seed: u64, client: Config) -> Self {
        Self {
            now: Duration::ZERO,
            client: DataChannel::new(client, Duration::ZERO),
            agent: AgentChannel::new(Duration::ZERO),
            latency: ms(20),
            faults: Faults::default(),
            client_received: Vec::new(),
            agent_received: Vec::new(),
            client_events: Vec::new(),
            agent_events: Vec::new(),
            drop_from_client: Vec::new(),
            client_key: data_key,
            agent_key: plaintext,
            ciphertexts: Default::default(),
            sent_lens: Vec::new(),
            from_client: 0,
            rng: fastrand::Rng::with_seed(seed),
            wire: BTreeMap::new(),
            sent: 0,
            connected: true,
        }
    }

    pub(crate) fn cut(&mut self) {
        self.connected = false;
        self.wire.clear();
        self.client.on_disconnected(self.now);
        self.agent.pause();
    }

    pub(crate) fn reconnect(&mut self) {
        self.connected = true;
        self.client.on_reconnected(self.now);
        self.agent.resume();
    }

    fn chance(&mut self, of_1000: u32) -> bool {
        self.rng.u32(..1000) < of_1000
    }

    /// Ciphertexts that were sent, by direction: from the client, from the agent.
    pub(crate) fn ciphertexts(&self) -> [usize; 2] {
        self.ciphertexts.each_ref().map(HashMap::len)
    }

    fn watch_nonces(&mut self, to: To, frame: &Bytes) {
        let header = Message::decode(frame).unwrap().header;
        if to == To::Agent && header.payload_type == PayloadType::Output {
            self.sent_lens.push(frame.len() - HEADER_LEN);
        }
        let (sender, index) = match to {
            To::Agent => (Role::Client, 0),
            To::Client => (Role::Agent, 1),
        };
        if !header.message_type.is_stream_data() || !is_encrypted(sender, header.payload_type) {
            return;
        }
        let payload = frame.slice(HEADER_LEN..);
        let nonce = payload[..12].try_into().unwrap();
        let before = self.ciphertexts[index].insert(nonce, payload.clone());
        assert!(
            before.is_none_or(|before| before == payload),
            "two ciphertexts under one nonce"
        );
    }

    fn put(&mut self, to: To, frame: &Bytes) {
        if self.client_events.iter().any(is_ready_and_encrypted) {
            self.watch_nonces(to, frame);
        }
        if !self.connected {
            return;
        }
        if to == To::Agent {
            self.from_client += 1;
            if self.drop_from_client.contains(&self.from_client) {
                return;
            }
        }
        let copies = 1 + usize::from(self.chance(self.faults.duplicate));
        for _ in 0..copies {
            if self.chance(self.faults.drop) {
                continue;
            }
            let extra = self.faults.jitter.mul_f64(self.rng.f64());
            self.sent += 1;
            self.wire.insert(
                (self.now + self.latency + extra, self.sent),
                (to, frame.clone()),
            );
        }
    }

    /// Moves everything that can move without time passing.
    fn settle(&mut self) {
        loop {
            let mut moved = false;
            while let Some(event) = self.client.poll_event() {
                if let Event::Data {
                    payload_type: PayloadType::Output,
                    payload,
                } = &event
                {
                    self.client_received.extend_from_slice(payload);
                    continue;
                }
                if matches!(event, Event::DataKeyWanted(_)) {
                    self.client.provide_data_key(self.now, &(self.client_key)());
                }
                self.client_events.push(event);
            }
            while let Some(event) = self.agent.poll_event() {
                let AgentEvent::Data {
                    payload_type,
                    payload,
                } = &event
                else {
                    if matches!(event, AgentEvent::DataKeyOffered { .. }) {
                        self.agent.provide_data_key(&(self.agent_key)());
                    }
                    self.agent_events.push(event);
                    continue;
                };
                moved = true;
                // A message refused after it was acknowledged is lost, at the official agent too;
                // so only those in their turn are refused.
                if self.agent.may_refuse() && self.chance(self.faults.refuse) {
                    self.agent.refuse();
                    continue;
                }
                if *payload_type == PayloadType::Output {
                    self.agent_received.extend_from_slice(payload);
                } else {
                    self.agent_events.push(event);
                }
                self.agent.acknowledge(self.now);
            }
            while let Some(frame) = self.client.poll_transmit(self.now) {
                moved = true;
                self.put(To::Agent, &frame);
            }
            while let Some(frame) = self.agent.poll_transmit(self.now) {
                moved = true;
                self.put(To::Client, &frame);
            }
            if !moved {
                return;
            }
        }
    }

    /// Lets time pass to the next thing that happens, at most to `until`. False when nothing
    /// happens before.
    pub(crate) fn step(&mut self, until: Duration) -> bool {
        self.settle();
        let arrival = self.wire.keys().next().map(|(at, _)| *at);
        let next = [
            arrival,
            self.client.poll_timeout(),
            self.agent.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min();
        let Some(next) = next.filter(|at| *at <= until) else {
            self.now = self.now.max(until);
            return false;
        };
        self.now = self.now.max(next);
        while let Some(entry) = self.wire.first_entry().filter(|e| e.key().0 <= self.now) {
            let (to, frame) = entry.remove();
            let end: &mut dyn End = match to {
                To::Client => &mut self.client,
                To::Agent => &mut self.agent,
            };
            end.handle_frame(self.now, &frame).unwrap();
            self.settle();
        }
        let ends: [&mut dyn End; 2] = [&mut self.client, &mut self.agent];
        for end in ends {
            if end.poll_timeout().is_some_and(|at| at <= self.now) {
                end.handle_timeout(self.now);
            }
        }
        self.settle();
        true
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        let mut steps = 0;
        while self.step(until) {
            steps += 1;
            assert!(steps < 2_000_000, "time does not pass");
        }
    }

    /// Until everything sent by either side is acknowledged.
    pub(crate) fn run_until_drained(&mut self) {
        let until = self.now + Duration::from_secs(24 * 3600);
        let mut steps = 0;
        loop {
            self.settle();
            if self.client.is_drained() && self.agent.is_drained() {
                return;
            }
            steps += 1;
            assert!(
                steps < 2_000_000,
                "never drained: {:?}, agent drained: {}",
                self.client.stats(),
                self.agent.is_drained()
            );
            assert!(
                self.step(until),
                "stuck: {:?}, agent drained: {}",
                self.client.stats(),
                self.agent.is_drained()
            );
        }
    }
}

fn is_ready_and_encrypted(event: &Event) -> bool {
    matches!(event, Event::Ready(ready) if ready.encrypted_with.is_some())
}

pub(crate) fn port_request() -> Request {
    Request {
        agent_version: "3.3.3572.0".to_owned(),
        actions: vec![Action::SessionType {
            name: "Port".to_owned(),
            properties: json!({"portNumber": "80", "type": "LocalPortForwarding"}),
        }],
    }
}

fn random_bytes(rng: &mut fastrand::Rng, len: usize) -> Vec<u8> {
    (0..len).map(|_| rng.u8(..)).collect()
}

/// How a schedule begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beginning {
    Plain,
    Handshake,
    Encryption,
}

/// One schedule: bytes both ways at random times over a link with random faults, cut and resumed
/// now and then. Without `beginning` it begins in one of the ways without encryption.
fn run_schedule(seed: u64, beginning: Option<Beginning>) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let client = Config {
        max_payload: [1024, 16 << 10][rng.usize(..2)],
        unacked_messages: rng.usize(1..40),
        ..Config::default()
    };
    let mut link = Link::with(seed, client);
    link.latency = ms(rng.u64(0..200));
    link.faults = Faults {
        drop: rng.u32(..300),
        duplicate: rng.u32(..200),
        jitter: ms(rng.u64(0..300)),
        refuse: rng.u32(..300),
    };
    let beginning = beginning.unwrap_or(if rng.bool() {
        Beginning::Handshake
    } else {
        Beginning::Plain
    });
    let mut to_agent = Vec::new();
    let mut to_client = Vec::new();
    match beginning {
        Beginning::Plain => {
            link.agent.send(PayloadType::Output, &b"$ "[..]);
            to_client.extend_from_slice(b"$ ");
        }
        Beginning::Handshake => link.agent.start_handshake(Duration::ZERO, &port_request()),
        Beginning::Encryption => {
            link.agent.start_handshake(Duration::ZERO, &kms_request());
            // What is typed meanwhile waits; the program behind an agent prints nothing before.
            link.client.send(PayloadType::Output, &b"typed ahead"[..]);
            to_agent.extend_from_slice(b"typed ahead");
            while !link.client.is_open() {
                assert!(
                    link.step(Duration::from_secs(600)),
                    "seed {seed}: no handshake"
                );
            }
        }
    }
    for _ in 0..rng.usize(1..25) {
        match rng.u32(..12) {
            0 => {
                link.cut();
                link.run_for(ms(rng.u64(0..5000)));
                link.reconnect();
            }
            1..=5 => {
                let len = rng.usize(1..5000);
                let bytes = random_bytes(&mut rng, len);
                to_agent.extend_from_slice(&bytes);
                link.client.send(PayloadType::Output, bytes);
            }
            6..=10 => {
                for _ in 0..rng.usize(1..6) {
                    let len = rng.usize(1..1025);
                    let bytes = random_bytes(&mut rng, len);
                    to_client.extend_from_slice(&bytes);
                    link.agent.send(PayloadType::Output, bytes);
                }
            }
            _ => link.client.send(
                PayloadType::Size,
                ops_session::wire::size_payload(80, rng.u32(1..50)),
            ),
        }
        link.run_for(ms(rng.u64(0..400)));
    }
    link.run_until_drained();
    assert!(
        link.client_received == to_client,
        "seed {seed}: the client got other bytes than the agent sent"
    );
    assert!(
        link.agent_received == to_agent,
        "seed {seed}: the agent got other bytes than the client sent"
    );
    assert!(
        !link
            .client_events
            .iter()
            .any(|e| matches!(e, Event::Failed(_))),
        "seed {seed}: {:?}",
        link.client_events
    );
    if beginning == Beginning::Encryption {
        let [from_client, from_agent] = link.ciphertexts();
        assert!(from_client > 0, "seed {seed}: nothing was encrypted");
        assert_eq!(from_agent > 0, !to_client.is_empty(), "seed {seed}");
    }
}

#[test]
fn every_byte_arrives_in_order_over_thousands_of_lossy_schedules() {
    for seed in 0..3000 {
        run_schedule(seed, None);
    }
}

#[test]
fn every_byte_of_an_encrypted_session_arrives_in_order_over_thousands_of_lossy_schedules() {
    for seed in 0..2000 {
        run_schedule(seed, Some(Beginning::Encryption));
    }
}

#[test]
fn a_megabyte_each_way_survives_a_bad_link() {
    let mut link = Link::new(7);
    link.faults = Faults {
        drop: 5,
        duplicate: 20,
        jitter: ms(10),
        refuse: 0,
    };
    link.agent.send(PayloadType::Output, &b"$ "[..]);
    link.run_until_drained();
    let bytes = random_bytes(&mut fastrand::Rng::with_seed(1), 1 << 20);
    link.client.send(PayloadType::Output, bytes.clone());
    for chunk in bytes.chunks(1024) {
        link.agent
            .send(PayloadType::Output, Bytes::copy_from_slice(chunk));
    }
    link.run_until_drained();
    assert!(link.agent_received == bytes);
    assert!(link.client_received[2..] == bytes);
}
