//! Whatever comes over the network: no panic, no loop, no growth.

use std::time::Duration;

use bytes::Bytes;
use ops_session::data_channel::{Config, DataChannel, Event};
use ops_session::handshake::{Complete, Request, Response};
use ops_session::wire::{
    Acknowledge, ChannelClosed, Flag, Header, MAX_PAYLOAD_BYTES, Message, MessageType, PayloadType,
    parse_exit_code, parse_size,
};
use proptest::prelude::*;
use uuid::Uuid;

use crate::channel::frame;
use crate::vectors::{bytes_of, vectors};

fn any_message_type() -> impl Strategy<Value = MessageType> {
    prop_oneof![
        Just(MessageType::InputStreamData),
        Just(MessageType::OutputStreamData),
        Just(MessageType::Acknowledge),
        Just(MessageType::ChannelClosed),
        Just(MessageType::StartPublication),
        Just(MessageType::PausePublication),
        Just(MessageType::AgentSessionState),
    ]
}

fn any_payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..300),
        Just(br#"{"AcknowledgedMessageSequenceNumber":0}"#.to_vec()),
        Just(br#"{"acknowledgedmessagesequencenumber":-9223372036854775808}"#.to_vec()),
        Just(
            br#"{"AgentVersion":"3.3.1.0","RequestedClientActions":[{"ActionType":"SessionType","ActionParameters":{"SessionType":"Port"}}]}"#
                .to_vec()
        ),
        Just(br#"{"AgentVersion":null,"RequestedClientActions":null}"#.to_vec()),
        Just(br#"{"ClientVersion":1,"ProcessedClientActions":[null,{}]}"#.to_vec()),
    ]
}

/// Feeds a frame and turns every crank; the number of turns is bounded by the test.
fn feed(channel: &mut DataChannel, now: Duration, frame: &Bytes) {
    let _ = channel.handle_frame(now, frame);
    for _ in 0..100 {
        if channel.poll_event().is_none() {
            break;
        }
    }
    for turn in 0.. {
        if channel.poll_transmit(now).is_none() {
            break;
        }
        assert!(turn < 1000, "it sends without end");
    }
    let mut at = now;
    for _ in 0..5 {
        let Some(next) = channel.poll_timeout() else {
            break;
        };
        at = at.max(next);
        channel.handle_timeout(at);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Message::decode(&bytes);
        let _ = Message::decode_unverified(&bytes);
        let _ = Acknowledge::parse_sequence_number(&bytes);
        let _ = ChannelClosed::parse(&bytes);
        let _ = (Request::parse(&bytes), Response::parse(&bytes), Complete::parse(&bytes));
        let _ = (parse_size(&bytes), parse_exit_code(&bytes), Flag::parse(&bytes));
    }

    #[test]
    fn a_damaged_vector_never_panics(which in 0usize..1000, cut in 0usize..400, at in 0usize..400, with in any::<u8>()) {
        let frames: Vec<_> = vectors().into_iter().filter(|v| v.get("hex").is_some()).collect();
        let mut frame = bytes_of(&frames[which % frames.len()]["hex"]);
        if let Some(byte) = frame.get_mut(at) {
            *byte = with;
        }
        frame.truncate(cut.max(1));
        let frame = Bytes::from(frame);
        feed(&mut DataChannel::new(Config::default(), Duration::ZERO), Duration::ZERO, &frame);
    }

    #[test]
    fn any_well_formed_messages_in_any_order_never_panic(
        messages in proptest::collection::vec(
            (any_message_type(), prop_oneof![-2i64..12, any::<i64>()], 0u32..14, any_payload(), 0u64..3000), 1..40),
    ) {
        let mut channel = DataChannel::new(Config::default(), Duration::ZERO);
        channel.send(PayloadType::Size, ops_session::wire::size_payload(1, 1));
        channel.send(PayloadType::Output, vec![0; 5000]);
        let mut now = Duration::ZERO;
        for (message_type, number, payload_type, payload, later) in messages {
            now += Duration::from_millis(later);
            let frame = frame(message_type, number, payload_type.into(), &payload);
            feed(&mut channel, now, &frame);
        }
    }

    #[test]
    fn a_message_decodes_to_what_was_encoded(
        message_type in any_message_type(), number in any::<i64>(), flags in any::<u64>(), id in any::<u128>(),
        payload_type in any::<u32>(), payload in proptest::collection::vec(any::<u8>(), 0..3000),
    ) {
        let header = Header {
            message_type, schema_version: 1, created_ms: 5, sequence_number: number, flags,
            message_id: Uuid::from_u128(id), payload_type: payload_type.into(),
        };
        let frame = header.encode(&payload);
        let message = Message::decode(&frame).unwrap();
        prop_assert_eq!(message.header, header);
        prop_assert_eq!(message.payload, &payload[..]);
    }

    #[test]
    fn an_acknowledgement_names_the_number_it_was_given(number in any::<i64>()) {
        let mut body = bytes::BytesMut::new();
        Acknowledge { message_type: MessageType::OutputStreamData, message_id: Uuid::nil(), sequence_number: number }
            .payload_into(&mut body);
        prop_assert_eq!(Acknowledge::parse_sequence_number(&body), Ok(number));
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        prop_assert_eq!(body["AcknowledgedMessageSequenceNumber"].as_i64(), Some(number));
    }
}

#[test]
fn messages_ahead_of_their_turn_are_kept_up_to_a_bound() {
    let mut channel = DataChannel::new(Config::default(), Duration::ZERO);
    let payload = vec![0; MAX_PAYLOAD_BYTES];
    let mut kept = 0;
    for number in 1..100 {
        channel
            .handle_frame(
                Duration::ZERO,
                &frame(
                    MessageType::OutputStreamData,
                    number,
                    PayloadType::Output,
                    &payload,
                ),
            )
            .unwrap();
        kept += usize::from(channel.poll_transmit(Duration::ZERO).is_some());
    }
    assert_eq!(
        kept, 16,
        "a message that is not kept must not be acknowledged"
    );
    assert_eq!(channel.stats().ignored, 83);
}

#[test]
fn a_flood_of_duplicates_does_not_pile_up_acknowledgements() {
    let mut channel = DataChannel::new(Config::default(), Duration::ZERO);
    let frame = frame(MessageType::OutputStreamData, 0, PayloadType::Output, b"x");
    for _ in 0..100_000 {
        channel.handle_frame(Duration::ZERO, &frame).unwrap();
    }
    let mut acks = 0;
    while channel.poll_transmit(Duration::ZERO).is_some() {
        acks += 1;
    }
    assert_eq!(acks, 20_000);
}

#[test]
fn a_payload_above_the_cap_is_refused() {
    let frame = frame(
        MessageType::OutputStreamData,
        0,
        PayloadType::Output,
        &vec![0; MAX_PAYLOAD_BYTES + 1],
    );
    assert!(Message::decode(&frame).is_err());
}

#[test]
fn a_message_that_is_kept_does_not_keep_what_it_was_read_with() {
    let mut channel = DataChannel::new(Config::default(), Duration::ZERO);
    // As the web socket hands it out: a small message, cut out of a large buffer.
    let early = frame(MessageType::OutputStreamData, 7, PayloadType::Output, b"x");
    let mut buffer = early.to_vec();
    buffer.resize(1 << 20, 0);
    let buffer = Bytes::from(buffer);
    channel
        .handle_frame(Duration::ZERO, &buffer.slice(..early.len()))
        .unwrap();
    assert!(buffer.is_unique(), "a megabyte is held for one byte");
}

#[test]
fn a_handshake_cannot_ask_for_an_answer_without_end_or_a_screen_full_of_its_own_words() {
    let name = "x".repeat(100_000);
    let one = format!(r#"{{"ActionType":"{name}"}}"#);
    let many = vec![r#"{"ActionType":"x"}"#; 20_000].join(",");
    for actions in [one, many] {
        let request =
            format!(r#"{{"AgentVersion":"3.3.1.0","RequestedClientActions":[{actions}]}}"#);
        let mut channel = DataChannel::new(Config::default(), Duration::ZERO);
        let asked = frame(
            MessageType::OutputStreamData,
            0,
            PayloadType::HandshakeRequest,
            request.as_bytes(),
        );
        channel.handle_frame(Duration::ZERO, &asked).unwrap();
        let mut told = 0;
        while let Some(event) = channel.poll_event() {
            if let Event::Failed(error) = event {
                told += error.to_string().len();
            }
        }
        assert!((1..500).contains(&told), "{told} bytes for people");
        let mut sent = 0;
        while let Some(frame) = channel.poll_transmit(Duration::ZERO) {
            sent += frame.len();
        }
        assert!(sent < 4 * request.len(), "{sent} bytes in answer");
    }
}
