//! The moment after the handshake, in which the official agent acknowledges input and throws it
//! away.

use std::time::Duration;

use ops_session::data_channel::{Config, DataChannel};
use ops_session::handshake::Complete;
use ops_session::wire::{Message, MessageType, PayloadType};

use crate::channel::{ack, frame};
use crate::link::{ms, port_request};

const SETTLE: Duration = Duration::from_millis(20);

/// A channel whose handshake is complete, and since when.
fn shaken() -> (DataChannel, Duration) {
    let rtt = ms(15);
    let start = Duration::ZERO;
    let mut channel = DataChannel::new(
        Config {
            settle_after_handshake: SETTLE,
            ..Config::default()
        },
        start,
    );
    let output = |number, payload_type, payload: &[u8]| {
        frame(MessageType::OutputStreamData, number, payload_type, payload)
    };
    let request = output(0, PayloadType::HandshakeRequest, &port_request().payload());
    channel.handle_frame(start, &request).unwrap();
    assert_eq!(
        inputs(&mut channel, start),
        [PayloadType::HandshakeResponse]
    );
    channel.handle_frame(rtt, &ack(0)).unwrap();
    let complete = output(
        1,
        PayloadType::HandshakeComplete,
        &Complete::default().payload(),
    );
    channel.handle_frame(rtt, &complete).unwrap();
    channel.send(PayloadType::Output, &b"first"[..]);
    (channel, rtt)
}

/// The types of what is sent, acknowledgements left out.
fn inputs(channel: &mut DataChannel, now: Duration) -> Vec<PayloadType> {
    let mut types = Vec::new();
    while let Some(frame) = channel.poll_transmit(now) {
        let header = Message::decode(&frame).unwrap().header;
        if header.message_type == MessageType::InputStreamData {
            types.push(header.payload_type);
        }
    }
    types
}

#[test]
fn the_first_input_waits_until_the_agent_uses_it() {
    let (mut channel, complete) = shaken();
    assert_eq!(inputs(&mut channel, complete), []);
    assert_eq!(inputs(&mut channel, complete + ms(19)), []);
    let due = channel.poll_timeout().unwrap();
    assert_eq!(due, complete + SETTLE);
    channel.handle_timeout(due);
    assert_eq!(inputs(&mut channel, due), [PayloadType::Output]);
    // And nothing after it waits.
    channel.send(PayloadType::Output, &b"second"[..]);
    assert_eq!(inputs(&mut channel, due), [PayloadType::Output]);
}
