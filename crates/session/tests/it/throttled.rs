//! The congestion window against links that hold back, in virtual time.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use ops_session::congestion::Adaptive;
use ops_session::data_channel::{Config, DataChannel};
use ops_session::handshake::{Action, Request};
use ops_session::wire::PayloadType;
use serde_json::json;

use crate::agent::{AgentChannel, AgentEvent, End};

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A client that uploads without end, an agent that takes everything, and one bottleneck towards
/// the agent: a token bucket with a queue in front of it that drops what does not fit.
/// Acknowledgements come back over a path that only delays.
struct Throttled {
    /// Bytes of whole messages per second.
    rate: f64,
    /// Bytes that pass at once after a pause.
    burst: f64,
    queue_limit: usize,
    one_way: Duration,
    /// Frames lost by chance, of 1,000.
    loss: u32,
    now: Duration,
    client: DataChannel,
    agent: AgentChannel,
    queue: VecDeque<(Duration, Bytes)>,
    queued: usize,
    tokens: f64,
    tokens_at: Duration,
    to_agent: VecDeque<(Duration, Bytes)>,
    to_client: VecDeque<(Duration, Bytes)>,
    rng: fastrand::Rng,
    seen: Seen,
}

/// What is measured.
#[derive(Clone, Debug, Default)]
struct Seen {
    wire_bytes: usize,
    dropped: usize,
    longest_gap: Duration,
    delivered_at: Duration,
    longest_wait: Duration,
    waits: Vec<Duration>,
}

impl Throttled {
    fn new(rate: f64, queue_limit: usize, one_way: Duration, max_payload: usize) -> Self {
        let client = Config {
            max_payload,
            controller: Box::new(Adaptive::new()),
            ..Config::default()
        };
        let mut link = Self {
            rate,
            burst: 16_384.0,
            queue_limit,
            one_way,
            loss: 0,
            now: Duration::ZERO,
            client: DataChannel::new(client, Duration::ZERO),
            agent: AgentChannel::new(Duration::ZERO),
            queue: VecDeque::new(),
            queued: 0,
            tokens: 0.0,
            tokens_at: Duration::ZERO,
            to_agent: VecDeque::new(),
            to_client: VecDeque::new(),
            rng: fastrand::Rng::with_seed(7),
            seen: Seen::default(),
        };
        link.agent.start_handshake(
            Duration::ZERO,
            &Request {
                agent_version: "3.3.3572.0".to_owned(),
                actions: vec![Action::SessionType {
                    name: "Port".to_owned(),
                    properties: json!({ "type": "LocalPortForwarding" }),
                }],
            },
        );
        while !link.client.is_open() {
            link.step(Duration::from_secs(10));
        }
        if let Some(len) = link.client.probe_len() {
            link.client.probe_payload(
                link.now,
                PayloadType::Output,
                &vec![b' '; len],
                Bytes::from_static(b" "),
            );
        }
        link
    }

    /// When the bucket has enough for the head of the queue.
    fn passes_at(&self) -> Option<Duration> {
        let (_, frame) = self.queue.front()?;
        // A message larger than the bucket passes when the bucket is full, and leaves a debt.
        let missing = (frame.len() as f64).min(self.burst) - self.tokens;
        Some(self.tokens_at + Duration::from_secs_f64(missing.max(0.0) / self.rate))
    }

    fn settle(&mut self) {
        while let Some(event) = self.agent.poll_event() {
            if let AgentEvent::Data { .. } = event {
                self.agent.acknowledge(self.now);
            }
        }
        while self.client.poll_event().is_some() {}
        while let Some(frame) = self.agent.poll_transmit(self.now) {
            self.to_client.push_back((self.now + self.one_way, frame));
        }
        while let Some(frame) = self.client.poll_transmit(self.now) {
            if self.queued + frame.len() > self.queue_limit || self.rng.u32(..1000) < self.loss {
                self.seen.dropped += 1;
                continue;
            }
            self.queued += frame.len();
            self.queue.push_back((self.now, frame));
        }
    }

    fn step(&mut self, until: Duration) -> bool {
        self.settle();
        let next = [
            self.passes_at(),
            self.to_agent.front().map(|(at, _)| *at),
            self.to_client.front().map(|(at, _)| *at),
            self.client.poll_timeout(),
            self.agent.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min();
        let Some(next) = next.filter(|at| *at <= until) else {
            self.now = until;
            return false;
        };
        self.now = self.now.max(next);
        if self.passes_at().is_some_and(|at| at <= self.now) {
            let (since, frame) = self.queue.pop_front().expect("it has a head");
            self.queued -= frame.len();
            let earned = (self.now - self.tokens_at).as_secs_f64() * self.rate;
            self.tokens = (self.tokens + earned).min(self.burst) - frame.len() as f64;
            self.tokens_at = self.now;
            let wait = self.now - since;
            self.seen.longest_wait = self.seen.longest_wait.max(wait);
            self.seen.waits.push(wait);
            self.seen.wire_bytes += frame.len();
            self.to_agent.push_back((self.now + self.one_way, frame));
        }
        while self.to_agent.front().is_some_and(|(at, _)| *at <= self.now) {
            let (_, frame) = self.to_agent.pop_front().expect("it has a head");
            self.agent.handle_frame(self.now, &frame).unwrap();
            let gap = self.now - self.seen.delivered_at;
            self.seen.longest_gap = self.seen.longest_gap.max(gap);
            self.seen.delivered_at = self.now;
            self.settle();
        }
        while self
            .to_client
            .front()
            .is_some_and(|(at, _)| *at <= self.now)
        {
            let (_, frame) = self.to_client.pop_front().expect("it has a head");
            self.client.handle_frame(self.now, &frame).unwrap();
        }
        let ends: [&mut dyn End; 2] = [&mut self.client, &mut self.agent];
        for end in ends {
            if end.poll_timeout().is_some_and(|at| at <= self.now) {
                end.handle_timeout(self.now);
            }
        }
        true
    }

    /// Uploads for this long and says what was seen meanwhile.
    fn upload_for(&mut self, time: Duration) -> Seen {
        self.seen = Seen {
            delivered_at: self.now,
            ..Seen::default()
        };
        let until = self.now + time;
        loop {
            while self.client.pending_bytes() < 256 << 10 {
                self.client.send(PayloadType::Output, vec![0; 32 << 10]);
            }
            if !self.step(until) {
                return self.seen.clone();
            }
        }
    }
}

/// A rate as the service is known to hold sessions at, with 40 ms there and back.
fn service(max_payload: usize) -> Throttled {
    Throttled::new(600_000.0, 64 << 10, ms(20), max_payload)
}

fn check_service(link: &mut Throttled) {
    let full_queue = Duration::from_secs_f64(65_536.0 / 600_000.0);
    // Its start counts too: nothing may break there.
    let start = link.upload_for(Duration::from_secs(2));
    assert!(start.longest_gap < Duration::from_secs(1));
    let seen = link.upload_for(Duration::from_secs(120));
    let rate = seen.wire_bytes as f64 / 120.0;
    assert!((540_000.0..=601_000.0).contains(&rate), "{rate} bytes/s");
    assert!(seen.longest_gap < ms(200), "{:?}", seen.longest_gap);
    assert!(seen.longest_wait <= full_queue, "{:?}", seen.longest_wait);
    let mean = seen.waits.iter().sum::<Duration>() / seen.waits.len() as u32;
    // The queue is used and not filled.
    assert!(mean < full_queue / 2, "{mean:?}");
    assert!(
        link.client.stats().rtt < ms(40) + full_queue,
        "{:?}",
        link.client.stats()
    );
    assert!(seen.dropped <= 12, "{} dropped", seen.dropped);
}

#[test]
fn a_throttled_path_is_filled_without_stalls_with_large_payloads() {
    check_service(&mut service(32 << 10));
}

#[test]
fn a_throttled_path_is_filled_without_stalls_with_small_payloads() {
    check_service(&mut service(1024));
}

#[test]
fn a_limit_that_falls_while_bytes_flow_is_followed() {
    let mut link = Throttled::new(5_000_000.0, 256 << 10, ms(20), 32 << 10);
    link.upload_for(Duration::from_secs(10));
    link.rate = 600_000.0;
    let change = link.upload_for(Duration::from_secs(5));
    assert!(change.longest_gap < Duration::from_secs(1));
    let seen = link.upload_for(Duration::from_secs(60));
    assert!(seen.wire_bytes as f64 / 60.0 > 540_000.0);
    link.rate = 5_000_000.0;
    link.upload_for(Duration::from_secs(10));
    let seen = link.upload_for(Duration::from_secs(10));
    assert!(seen.wire_bytes > 45_000_000, "{}", seen.wire_bytes);
}

#[test]
fn a_fast_path_is_filled() {
    // 0.2 ms there and back, as between two processes.
    let mut link = Throttled::new(200e6, 8 << 20, Duration::from_micros(100), 32 << 10);
    let start = link.upload_for(ms(50));
    assert!(start.wire_bytes > 4 << 20, "{}", start.wire_bytes);
    let seen = link.upload_for(ms(500));
    assert!(
        seen.wire_bytes as f64 / 0.5 > 180e6,
        "{} bytes",
        seen.wire_bytes
    );
}

#[test]
fn a_loss_now_and_then_does_not_starve_a_fast_path() {
    let mut link = Throttled::new(20e6, 1 << 20, ms(5), 32 << 10);
    link.loss = 10;
    let seen = link.upload_for(Duration::from_secs(20));
    assert!(seen.longest_gap < Duration::from_secs(1));
    assert!(
        seen.wire_bytes as f64 / 20.0 > 2e6,
        "{} bytes",
        seen.wire_bytes
    );
}
