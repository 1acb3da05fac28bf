//! Payloads above 1,024 bytes where a connection does not survive them, or seems not to.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use ops_session::data_channel::{ChannelError, Config, DataChannel, Event};
use ops_session::wire::{Message, MessageType, PayloadType, size_payload};

use crate::channel::{ack, output};
use crate::link::ms;

const START: Duration = Duration::ZERO;
/// What the channel under test would like to send at once.
const LARGE_BYTES: usize = 16 << 10;

/// A client whose frames reach the agent unless one is too large for the service, which closes the
/// connection then. The agent's end keeps the first copy of each number, as the agent does.
struct Path {
    client: DataChannel,
    now: Duration,
    /// Longest payload that passes, in bytes.
    limit_bytes: usize,
    arrived: BTreeMap<i64, Vec<u8>>,
    /// Numbers in the order in which they were sent on the present connection.
    sent: Vec<i64>,
    lost_connections: u32,
    events: Vec<Event>,
}

impl Path {
    fn new(limit_bytes: usize) -> Self {
        let mut client = DataChannel::new(
            Config {
                max_payload: LARGE_BYTES,
                ..Config::default()
            },
            START,
        );
        client.handle_frame(START, &output(0, "$ ")).unwrap();
        client.send(PayloadType::Size, size_payload(80, 24));
        Self {
            client,
            now: START,
            limit_bytes,
            arrived: BTreeMap::new(),
            sent: Vec::new(),
            lost_connections: 0,
            events: Vec::new(),
        }
    }

    /// Large payloads are proven and in use, and nothing is under way.
    fn proven() -> Self {
        let mut path = Self::new(usize::MAX);
        path.client
            .send(PayloadType::Output, vec![b'p'; 2 * LARGE_BYTES]);
        path.run();
        assert_eq!(path.client.max_payload(), LARGE_BYTES);
        path
    }

    /// Moves frames and acknowledgements until nothing is left to do or the session has failed.
    fn run(&mut self) {
        for _ in 0..10_000 {
            self.transmit(usize::MAX);
            self.acknowledge();
            if self.failure().is_some() || self.client.is_drained() {
                return;
            }
            if let Some(at) = self.client.poll_timeout() {
                self.now = self.now.max(at);
                self.client.handle_timeout(self.now);
            }
        }
        panic!("it never comes to an end");
    }

    /// Sends at most `most` frames of input.
    fn transmit(&mut self, most: usize) {
        let mut count = 0;
        while count < most
            && let Some(frame) = self.client.poll_transmit(self.now)
        {
            let message = Message::decode(&frame).unwrap();
            if message.header.message_type != MessageType::InputStreamData {
                continue;
            }
            count += 1;
            if message.payload.len() > self.limit_bytes {
                self.cut();
                return;
            }
            let number = message.header.sequence_number;
            self.sent.push(number);
            self.arrived
                .entry(number)
                .or_insert_with(|| message.payload.to_vec());
        }
        self.take_events();
    }

    /// The agent's acknowledgements arrive, of everything sent on this connection.
    fn acknowledge(&mut self) {
        for number in self.sent.split_off(0) {
            self.client.handle_frame(self.now, &ack(number)).unwrap();
        }
        self.take_events();
    }

    /// The connection is lost with the acknowledgements on it, and taken up again.
    fn cut(&mut self) {
        self.lost_connections += 1;
        self.sent.clear();
        self.client.on_disconnected(self.now);
        self.take_events();
        self.now += ms(100);
        self.client.on_reconnected(self.now);
    }

    fn take_events(&mut self) {
        while let Some(event) = self.client.poll_event() {
            self.events.push(event);
        }
    }

    fn failure(&self) -> Option<&ChannelError> {
        self.events.iter().find_map(|event| match event {
            Event::Failed(error) => Some(error),
            _ => None,
        })
    }

    /// The bytes of the user as the agent has them, the probe and sizes left out.
    fn delivered(&self) -> Vec<u8> {
        let numbers: Vec<i64> = self.arrived.keys().copied().collect();
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]));
        let all: Vec<&[u8]> = self
            .arrived
            .values()
            .filter(|payload| payload.first() != Some(&b'{'))
            .map(Vec::as_slice)
            .collect();
        all.concat()
    }
}

fn noise(len: usize) -> Vec<u8> {
    (0..len)
        .map(|index| b'a' + u8::try_from(index % 23).unwrap())
        .collect()
}

#[test]
fn a_probe_that_costs_the_connection_goes_out_in_its_small_form_at_once_and_never_again_large() {
    let mut path = Path::new(LARGE_BYTES - 1);
    let sent = noise(100_000);
    path.client.send(PayloadType::Output, sent.clone());
    path.run();
    assert_eq!(path.lost_connections, 1);
    assert!(path.events.contains(&Event::ProbeLost));
    assert_eq!(path.client.max_payload(), 1024);
    // Input 0 was the size, 1 the probe.
    assert_eq!(path.arrived[&1], b"{\"cols\":80,\"rows\":24}");
    assert!(path.delivered() == sent);
    assert_eq!(path.failure(), None);
}

#[test]
fn a_numbered_payload_is_repeated_byte_for_byte_and_alone_after_a_lost_connection() {
    let mut path = Path::proven();
    let first = path.arrived.len() as i64;
    path.client
        .send(PayloadType::Output, noise(8 * LARGE_BYTES));
    path.transmit(3);
    assert_eq!(path.sent, [first, first + 1, first + 2]);
    let before = path.arrived[&first].clone();
    // They arrived, and only their acknowledgements are lost: a shorter form would be a duplicate.
    path.arrived.clear();
    path.cut();
    path.transmit(usize::MAX);
    assert_eq!(path.sent, [first]);
    assert!(path.arrived[&first] == before);
    path.acknowledge();
    path.run();
    assert!(path.delivered() == noise(8 * LARGE_BYTES));
    assert_eq!(path.failure(), None);
}

#[test]
fn a_payload_that_meets_a_lost_connection_twice_ends_the_session_with_its_size() {
    let mut path = Path::proven();
    // The service has moved the session to a machine that takes less.
    path.limit_bytes = 4096;
    path.client
        .send(PayloadType::Output, noise(4 * LARGE_BYTES));
    path.run();
    assert_eq!(path.lost_connections, 2);
    let payload_bytes = LARGE_BYTES.min(path.client.max_payload());
    assert!(matches!(
        path.failure(),
        Some(ChannelError::LargePayloadLost { payload_bytes: lost }) if (1025..=payload_bytes).contains(lost)
    ));
}

#[test]
fn ordinary_cuts_in_the_middle_of_an_upload_are_survived_however_many_they_are() {
    let mut path = Path::proven();
    path.arrived.clear();
    let sent = noise(64 * LARGE_BYTES);
    path.client.send(PayloadType::Output, sent.clone());
    for _ in 0..40 {
        // The first of the window comes through and is acknowledged, the others are cut off.
        path.transmit(2);
        path.acknowledge();
        path.transmit(5);
        path.cut();
    }
    path.run();
    assert_eq!(path.failure(), None);
    assert!(path.delivered() == sent);
}

#[test]
fn a_payload_behind_which_another_was_acknowledged_is_no_suspect() {
    let mut path = Path::proven();
    path.client
        .send(PayloadType::Output, noise(8 * LARGE_BYTES));
    for _ in 0..4 {
        path.transmit(3);
        let Some(&last) = path.sent.last() else {
            panic!("nothing was sent");
        };
        // Only the last one's acknowledgement comes before the cut.
        path.client.handle_frame(path.now, &ack(last)).unwrap();
        path.cut();
    }
    assert_eq!(path.failure(), None);
}

#[test]
fn a_connection_that_is_lost_before_the_suspects_turn_does_not_count() {
    let mut path = Path::proven();
    // A small message in front, so that the suspect is not the first to be repeated.
    path.client.send(PayloadType::Size, size_payload(81, 24));
    path.client
        .send(PayloadType::Output, noise(8 * LARGE_BYTES));
    path.transmit(3);
    path.cut();
    for _ in 0..5 {
        path.transmit(1);
        path.cut();
    }
    assert_eq!(path.failure(), None);
    path.transmit(2);
    path.cut();
    assert!(path.failure().is_some());
}

#[test]
fn a_suspect_that_is_lost_without_a_word_is_repeated_by_its_timer() {
    let mut path = Path::proven();
    path.client
        .send(PayloadType::Output, noise(8 * LARGE_BYTES));
    path.transmit(3);
    path.cut();
    path.transmit(usize::MAX);
    let suspect = path.sent.clone();
    path.sent.clear();
    let due = path.client.poll_timeout().unwrap();
    assert!(due < path.now + Duration::from_secs(2));
    path.now = due;
    path.client.handle_timeout(due);
    path.transmit(usize::MAX);
    assert_eq!(path.sent, suspect);
}

#[test]
fn small_payloads_are_never_suspected() {
    let mut path = Path::new(usize::MAX);
    path.client
        .send(PayloadType::Output, Bytes::from_static(b"ls\n"));
    for _ in 0..5 {
        path.transmit(usize::MAX);
        path.cut();
    }
    path.run();
    assert_eq!(path.failure(), None);
    assert_eq!(path.delivered(), b"ls\n");
}
