//! Behaviour of the state machine, one sentence a test.

use std::time::Duration;

use bytes::Bytes;
use ops_session::data_channel::{ChannelError, Config, DataChannel, Event, Expect, Rtt};
use ops_session::handshake::{Action, Request, SessionType};
use ops_session::wire::{
    Acknowledge, ChannelClosed, Header, Message, MessageType, PayloadType, WireError, size_payload,
};
use serde_json::json;
use uuid::Uuid;

use crate::agent::{AgentChannel, AgentEvent, AgentFailure, End};
use crate::link::{Link, ms, port_request};
use crate::vectors::{frame_of, of_kind};

const START: Duration = Duration::ZERO;

fn client() -> DataChannel {
    DataChannel::new(Config::default(), START)
}

pub(crate) fn frame(
    message_type: MessageType,
    number: i64,
    payload_type: PayloadType,
    payload: &[u8],
) -> Bytes {
    let header = Header {
        message_type,
        schema_version: 1,
        created_ms: 1,
        sequence_number: number,
        flags: 0,
        message_id: Uuid::from_u128(u128::from(number.unsigned_abs()) + 1),
        payload_type,
    };
    header.encode(payload)
}

pub(crate) fn output(number: i64, text: &str) -> Bytes {
    frame(
        MessageType::OutputStreamData,
        number,
        PayloadType::Output,
        text.as_bytes(),
    )
}

fn input(number: i64, text: &str) -> Bytes {
    frame(
        MessageType::InputStreamData,
        number,
        PayloadType::Output,
        text.as_bytes(),
    )
}

pub(crate) fn ack(number: i64) -> Bytes {
    let mut body = bytes::BytesMut::new();
    Acknowledge {
        message_type: MessageType::InputStreamData,
        message_id: Uuid::nil(),
        sequence_number: number,
    }
    .payload_into(&mut body);
    frame(MessageType::Acknowledge, 0, PayloadType::None, &body)
}

/// What a channel sends, in words: `ack 3`, `1 Size`, …
pub(crate) fn sent(channel: &mut dyn End, now: Duration) -> Vec<String> {
    let mut words = Vec::new();
    while let Some(frame) = channel.poll_transmit(now) {
        let message = Message::decode(&frame).unwrap();
        words.push(if message.header.message_type == MessageType::Acknowledge {
            assert_eq!(
                (message.header.flags, message.header.sequence_number),
                (3, 0)
            );
            format!(
                "ack {}",
                Acknowledge::parse_sequence_number(message.payload).unwrap()
            )
        } else {
            format!(
                "{} {:?}",
                message.header.sequence_number, message.header.payload_type
            )
        });
    }
    words
}

fn delivered(channel: &mut DataChannel) -> String {
    let mut text = String::new();
    while let Some(event) = channel.poll_event() {
        if let Event::Data { payload, .. } = event {
            text.push_str(std::str::from_utf8(&payload).unwrap());
        }
    }
    text
}

#[test]
fn the_timeout_follows_the_official_series() {
    let vector = &of_kind("rto")[0];
    let mut rtt = Rtt::new(Duration::from_secs(1));
    let close = |is: Duration, should: &serde_json::Value, what: &str| {
        let should = should.as_f64().unwrap() / 1000.0;
        assert!(
            (is.as_secs_f64() - should).abs() <= should * 1e-6 + 2e-9,
            "{what}: {is:?}, not {should} s"
        );
    };
    for row in vector["rows"].as_array().unwrap() {
        if let Some(sample) = row["sample_ms"].as_f64() {
            rtt.sample(Duration::from_secs_f64(sample / 1000.0));
        }
        close(rtt.rtt(), &row["rtt_ms"], "rtt");
        close(rtt.variation(), &row["var_ms"], "var");
        close(rtt.rto(), &row["rto_ms"], "rto");
    }
}

/// The vector `script-receive` with our two departures: a duplicate is acknowledged again, and a
/// message is never refused for want of a handler, because it is queued.
#[test]
fn the_receive_script_goes_as_recorded_but_duplicates_are_acknowledged() {
    let script = of_kind("script")
        .into_iter()
        .find(|v| v["id"] == "script-receive")
        .unwrap();
    let mut channel = client();
    for step in script["steps"].as_array().unwrap() {
        let receive = step["receive"].as_str().unwrap();
        let number: i64 = receive.split(' ').nth(1).unwrap().parse().unwrap();
        let letter = receive.split('\'').nth(1).unwrap_or("e");
        let mut official: Vec<String> = step["official_events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e.as_str().unwrap().to_owned())
            .collect();
        let mut next = step["next_expected"].as_i64().unwrap();
        let bad_digest = receive.contains("bad digest");
        if receive.contains("(duplicate)") {
            official = vec!["ack 0".to_owned()];
        } else if receive.contains("not ready") {
            official = vec!["deliver e".to_owned(), "ack 4".to_owned()];
            next = 5;
        } else if receive.contains("resent, handler ready") {
            official = vec!["ack 4".to_owned()];
        } else if bad_digest {
            official = vec!["error".to_owned()];
        }
        let mut frame = output(number, letter).to_vec();
        if bad_digest {
            frame[90] ^= 1;
        }
        let result = channel.handle_frame(START, &frame.into());
        let mut ours: Vec<String> = delivered(&mut channel)
            .chars()
            .map(|c| format!("deliver {c}"))
            .collect();
        ours.extend(sent(&mut channel, START));
        if let Err(error) = result {
            assert_eq!(error, WireError::Digest);
            ours.push("error".to_owned());
        }
        // The official order of deliveries against acknowledgements has no meaning.
        official.sort();
        ours.sort();
        assert_eq!(ours, official, "{receive}");
        assert_eq!(channel.next_expected(), next, "{receive}");
    }
}

#[test]
fn the_port_handshake_goes_as_recorded() {
    let script = of_kind("script")
        .into_iter()
        .find(|v| v["id"] == "script-handshake-port")
        .unwrap();
    let mut channel = DataChannel::new(
        Config {
            expect: Expect::Handshake,
            ..Config::default()
        },
        START,
    );
    let mut frames = Vec::new();
    for id in [
        "msg-handshake-request-port",
        "msg-handshake-complete",
        "msg-handshake-request-port",
    ] {
        channel.handle_frame(START, &frame_of(id).into()).unwrap();
        while let Some(frame) = channel.poll_transmit(START) {
            frames.push(frame);
        }
    }
    // Departure: the repeated request is acknowledged again.
    assert_eq!(frames.len(), script["sent"].as_array().unwrap().len() + 1);
    for (frame, should) in frames.iter().zip(script["sent"].as_array().unwrap()) {
        let message = Message::decode(frame).unwrap();
        assert_eq!(
            message.header.message_type.name(),
            should["message_type"].as_str().unwrap()
        );
        if let Some(number) = should["acknowledged_sequence_number"].as_i64() {
            assert_eq!(
                Acknowledge::parse_sequence_number(message.payload),
                Ok(number)
            );
        } else {
            let mut body = should["payload_text"]
                .as_str()
                .unwrap()
                .parse::<serde_json::Value>()
                .unwrap();
            // Departure: the version announced.
            body["ClientVersion"] = json!("1.2.764.0");
            assert_eq!(
                serde_json::from_slice::<serde_json::Value>(message.payload).unwrap(),
                body
            );
            assert_eq!(
                message.header.sequence_number,
                should["sequence_number"].as_i64().unwrap()
            );
        }
    }
    let Some(Event::Ready(ready)) = channel.poll_event() else {
        panic!("not ready")
    };
    assert_eq!(ready.session_type, Some(SessionType::Port));
    assert_eq!(
        ready.agent_version.as_ref().unwrap().as_str(),
        script["agent_version"].as_str().unwrap()
    );
    assert!(ready.is_mux());
    assert_eq!(channel.poll_event(), None);
}

#[test]
fn nothing_but_the_answer_is_sent_before_the_handshake_is_complete() {
    let mut channel = client();
    channel.send(PayloadType::Size, size_payload(80, 24));
    channel.send(PayloadType::Output, &b"typed ahead"[..]);
    channel
        .handle_frame(START, &frame_of("msg-handshake-request-port").into())
        .unwrap();
    assert_eq!(sent(&mut channel, START), ["ack 0", "0 HandshakeResponse"]);
    channel
        .handle_frame(START, &frame_of("msg-handshake-complete").into())
        .unwrap();
    assert_eq!(sent(&mut channel, START), ["ack 1", "1 Size", "2 Output"]);
}

#[test]
fn a_plain_shell_is_ready_with_its_first_output() {
    let mut channel = client();
    channel.send(PayloadType::Size, size_payload(80, 24));
    assert_eq!(sent(&mut channel, START), [""; 0]);
    channel
        .handle_frame(START, &frame_of("msg-output-first").into())
        .unwrap();
    assert!(
        matches!(channel.poll_event(), Some(Event::Ready(ready)) if ready.session_type.is_none())
    );
    assert!(matches!(channel.poll_event(), Some(Event::Data { .. })));
    assert_eq!(sent(&mut channel, START), ["ack 0", "0 Size"]);
}

#[test]
fn a_silent_program_gets_its_size_after_a_while_and_its_input_once_that_is_acknowledged() {
    let mut channel = client();
    channel.send(PayloadType::Size, size_payload(80, 24));
    channel.send(PayloadType::Output, &b"x"[..]);
    let at = channel.poll_timeout().unwrap();
    channel.handle_timeout(at);
    assert_eq!(sent(&mut channel, at), ["0 Size"]);
    channel.handle_frame(at, &ack(0)).unwrap();
    assert_eq!(sent(&mut channel, at), [""; 0]);
    let at = channel.poll_timeout().unwrap();
    channel.handle_timeout(at);
    assert!(matches!(channel.poll_event(), Some(Event::Ready(_))));
    assert_eq!(sent(&mut channel, at), ["1 Output"]);
}

#[test]
fn a_size_that_a_handshake_swallowed_is_sent_again_after_it() {
    let mut channel = client();
    channel.send(PayloadType::Size, size_payload(80, 24));
    let at = channel.poll_timeout().unwrap();
    channel.handle_timeout(at);
    assert_eq!(sent(&mut channel, at), ["0 Size"]);
    channel.handle_frame(at, &ack(0)).unwrap();
    channel
        .handle_frame(at, &frame_of("msg-handshake-request-port").into())
        .unwrap();
    channel
        .handle_frame(at, &frame_of("msg-handshake-complete").into())
        .unwrap();
    assert_eq!(
        sent(&mut channel, at),
        ["ack 0", "ack 1", "1 HandshakeResponse", "2 Size"]
    );
}

#[test]
fn a_refused_action_ends_the_session_at_the_agent() {
    let mut link = Link::new(1);
    let request = Request {
        agent_version: "3.3.0.0".to_owned(),
        actions: vec![Action::SessionType {
            name: "Teleport".to_owned(),
            properties: json!(null),
        }],
    };
    link.agent.start_handshake(START, &request);
    link.run_for(ms(500));
    assert!(
        link.client_events
            .contains(&Event::Failed(ChannelError::UnknownSessionType(
                "Teleport".to_owned()
            )))
    );
    let [AgentEvent::Failed(AgentFailure::HandshakeRefused(text))] = &link.agent_events[..] else {
        panic!("{:?}", link.agent_events)
    };
    assert!(
        text.contains("SessionType failed on client with status 2"),
        "{text}"
    );
}

#[test]
fn a_lost_message_is_sent_again_once_its_timer_expires() {
    let mut link = Link::new(1);
    link.latency = ms(40);
    link.agent.send(PayloadType::Output, &b"$ "[..]);
    link.run_until_drained();
    // The second frame: the first was the acknowledgement of the prompt.
    link.drop_from_client = vec![2];
    link.client.send(PayloadType::Output, &b"uptime\n"[..]);
    link.run_until_drained();
    assert_eq!(link.agent_received, b"uptime\n");
    assert_eq!(link.client.stats().retransmitted, 1);
}

#[test]
fn a_lost_acknowledgement_is_repaired_by_acknowledging_the_duplicate() {
    let mut link = Link::new(1);
    link.drop_from_client = vec![1];
    link.agent.send(PayloadType::Output, &b"$ "[..]);
    link.run_until_drained();
    assert_eq!(link.client_received, b"$ ");
    assert_eq!(
        (link.agent.retransmitted, link.client.stats().duplicates),
        (1, 1)
    );
}

#[test]
fn a_reconnect_sends_the_whole_list_again_at_once_and_in_order() {
    let mut channel = client();
    channel.handle_frame(START, &output(0, "$ ")).unwrap();
    for _ in 0..3 {
        channel.send(PayloadType::Flag, &b"\0\0\0\x01"[..]);
    }
    assert_eq!(
        sent(&mut channel, START),
        ["ack 0", "0 Flag", "1 Flag", "2 Flag"]
    );
    channel.handle_frame(START, &ack(1)).unwrap();
    channel.on_disconnected(ms(10));
    channel.send(PayloadType::Flag, &b"\0\0\0\x02"[..]);
    assert_eq!(sent(&mut channel, ms(10)), [""; 0]);
    assert_eq!(channel.poll_timeout(), None);
    channel.on_reconnected(Duration::from_secs(3600));
    assert_eq!(
        sent(&mut channel, Duration::from_secs(3600)),
        ["0 Flag", "2 Flag", "3 Flag"]
    );
}

#[test]
fn a_full_list_holds_input_back_and_drops_nothing() {
    let mut link = Link::with(
        1,
        Config {
            unacked_messages: 2,
            ..Config::default()
        },
    );
    link.agent.send(PayloadType::Output, &b"$ "[..]);
    link.run_until_drained();
    link.client.send(PayloadType::Output, vec![b'x'; 10 * 1024]);
    link.run_for(ms(0));
    assert_eq!(link.client.stats().unacked_messages, 2);
    assert_eq!(link.client.pending_bytes(), 8 * 1024);
    link.run_until_drained();
    assert_eq!(link.agent_received.len(), 10 * 1024);
}

#[test]
fn nothing_heard_for_five_minutes_is_noted_first_and_given_up_then() {
    let mut channel = client();
    channel.handle_frame(START, &output(0, "$ ")).unwrap();
    channel.send(PayloadType::Output, &b"x"[..]);
    let mut resends = 0;
    let mut silent_at = None;
    loop {
        let now = channel.poll_timeout().unwrap_or_default();
        channel.handle_timeout(now);
        while channel.poll_transmit(now).is_some() {
            resends += 1;
        }
        let mut failed = false;
        while let Some(event) = channel.poll_event() {
            match event {
                Event::Silent(_) => silent_at = Some(now),
                Event::Failed(error) => {
                    assert_eq!(error, ChannelError::GaveUp(Duration::from_secs(300)));
                    assert_eq!(now, Duration::from_secs(300));
                    failed = true;
                }
                _ => {}
            }
        }
        if failed {
            break;
        }
    }
    assert_eq!(silent_at, Some(Duration::from_secs(10)));
    assert!((250..400).contains(&resends), "{resends}");
}

#[test]
fn the_agent_away_slows_resends_until_it_speaks() {
    let mut channel = client();
    channel.handle_frame(START, &output(0, "$ ")).unwrap();
    channel.send(PayloadType::Output, &b"x"[..]);
    sent(&mut channel, START);
    let pause = frame(MessageType::PausePublication, 0, PayloadType::None, b"");
    channel.handle_frame(START, &pause).unwrap();
    assert_eq!(channel.poll_timeout(), Some(ms(1000)));
    channel.handle_frame(START, &output(1, "x")).unwrap();
    assert_eq!(channel.poll_timeout(), Some(ms(200)));
}

#[test]
fn channel_closed_ends_everything() {
    let mut channel = client();
    let body = ChannelClosed {
        output: "timed out".to_owned(),
        ..ChannelClosed::default()
    }
    .payload();
    channel
        .handle_frame(
            START,
            &frame(MessageType::ChannelClosed, 0, PayloadType::None, &body),
        )
        .unwrap();
    assert_eq!(
        channel.poll_event(),
        Some(Event::Closed {
            output: "timed out".to_owned()
        })
    );
    channel.handle_frame(START, &output(0, "x")).unwrap();
    assert_eq!(
        (
            channel.poll_event(),
            channel.poll_transmit(START),
            channel.poll_timeout()
        ),
        (None, None, None)
    );
}

#[test]
fn the_agent_throws_input_of_the_handshake_away_but_acknowledges_it() {
    let mut agent = AgentChannel::new(START);
    agent.start_handshake(START, &port_request());
    agent.handle_frame(START, &input(0, "too early")).unwrap();
    assert_eq!(sent(&mut agent, START), ["ack 0", "0 HandshakeRequest"]);
    assert_eq!(agent.poll_event(), None);
    assert_eq!(agent.next_expected(), 1);
}

#[test]
fn the_agent_acknowledges_what_was_used_and_not_what_was_refused() {
    let mut agent = AgentChannel::new(START);
    agent.handle_frame(START, &input(0, "a")).unwrap();
    assert!(agent.poll_event().is_some());
    assert_eq!(sent(&mut agent, START), [""; 0]);
    agent.refuse();
    assert_eq!(
        (sent(&mut agent, START), agent.next_expected()),
        (vec![], 0)
    );
    agent.handle_frame(START, &input(0, "a")).unwrap();
    assert!(agent.poll_event().is_some());
    agent.acknowledge(START);
    assert_eq!(sent(&mut agent, START), ["ack 0"]);
}

#[test]
fn a_second_handshake_response_leaves_the_agent_deaf() {
    let mut link = Link::new(1);
    link.agent.start_handshake(START, &port_request());
    link.run_until_drained();
    let again = frame(
        MessageType::InputStreamData,
        1,
        PayloadType::HandshakeResponse,
        b"{}",
    );
    link.agent.handle_frame(link.now, &again).unwrap();
    link.agent.handle_frame(link.now, &input(1, "x")).unwrap();
    assert_eq!(link.agent.poll_event(), None);
    assert_eq!(link.agent.poll_transmit(link.now), None);
}

#[test]
fn an_agent_without_an_answer_gives_up_after_fifteen_seconds() {
    let mut agent = AgentChannel::new(START);
    agent.start_handshake(START, &port_request());
    while let Some(at) = agent.poll_timeout() {
        agent.handle_timeout(at);
        sent(&mut agent, at);
        if let Some(event) = agent.poll_event() {
            assert_eq!(
                event,
                AgentEvent::Failed(AgentFailure::HandshakeTimedOut(Duration::from_secs(15)))
            );
            assert_eq!(at, Duration::from_secs(15));
            return;
        }
    }
    panic!("it never gave up");
}

#[test]
fn a_paused_agent_keeps_output_and_repairs_it_later() {
    let mut link = Link::new(1);
    link.agent.send(PayloadType::Output, &b"$ "[..]);
    link.run_until_drained();
    link.agent.pause();
    for _ in 0..5 {
        link.agent.send(PayloadType::Output, &b"x"[..]);
    }
    link.run_for(Duration::from_secs(5));
    assert_eq!(link.client_received, b"$ ");
    link.agent.resume();
    link.run_until_drained();
    assert_eq!(link.client_received, b"$ xxxxx");
}

#[test]
fn large_payloads_come_into_use_once_a_padded_size_has_been_acknowledged() {
    let mut link = Link::with(
        1,
        Config {
            max_payload: 16 << 10,
            ..Config::default()
        },
    );
    link.agent.send(PayloadType::Output, &b"$ "[..]);
    link.client.send(PayloadType::Size, size_payload(80, 24));
    link.run_until_drained();
    assert_eq!(link.client.max_payload(), 1024);
    link.client.send(PayloadType::Output, vec![b'x'; 100_000]);
    link.run_until_drained();
    assert_eq!(link.client.max_payload(), 16 << 10);
    let before = link.agent.next_expected();
    link.client.send(PayloadType::Output, vec![b'x'; 160 << 10]);
    link.run_until_drained();
    assert_eq!(link.agent.next_expected() - before, 10);
    assert_eq!(link.agent_received.len(), 100_000 + (160 << 10));
}

#[test]
fn a_probe_that_never_arrives_is_replaced_and_holds_nothing_up() {
    let mut channel = DataChannel::new(
        Config {
            max_payload: 16 << 10,
            ..Config::default()
        },
        START,
    );
    channel.handle_frame(START, &output(0, "$ ")).unwrap();
    channel.send(PayloadType::Size, size_payload(80, 24));
    sent(&mut channel, START);
    channel.handle_frame(START, &ack(0)).unwrap();
    channel.send(PayloadType::Output, vec![b'x'; 20_000]);
    // Everything above 1,024 bytes is lost on the way.
    let mut arrived = std::collections::BTreeMap::new();
    let mut now = START;
    while !channel.is_drained() {
        while let Some(frame) = channel.poll_transmit(now) {
            let message = Message::decode(&frame).unwrap();
            if message.payload.len() <= 1024 {
                arrived.insert(message.header.sequence_number, message.payload.to_vec());
                channel
                    .handle_frame(now, &ack(message.header.sequence_number))
                    .unwrap();
            }
        }
        now = now.max(channel.poll_timeout().unwrap_or(now));
        channel.handle_timeout(now);
        assert!(now < Duration::from_secs(10), "held up");
    }
    assert_eq!(channel.max_payload(), 1024);
    assert_eq!(arrived[&1], b"{\"cols\":80,\"rows\":24}");
    assert_eq!(
        arrived
            .range(2..)
            .map(|(_, payload)| payload.len())
            .sum::<usize>(),
        20_000
    );
}

#[test]
fn no_time_counts_while_nobody_takes_what_has_come() {
    let mut channel = client();
    channel.handle_frame(START, &output(0, "$ ")).unwrap();
    channel.send(PayloadType::Output, &b"x"[..]);
    assert_eq!(sent(&mut channel, START), ["ack 0", "0 Output"]);
    channel.on_reading_stopped(ms(150));
    assert_eq!(channel.poll_timeout(), None);
    let later = Duration::from_secs(3600);
    channel.send(PayloadType::Output, &b"y"[..]);
    channel.handle_timeout(later);
    assert_eq!(sent(&mut channel, later), ["1 Output"]);
    channel.on_reading_resumed(later);
    // 50 ms of the first message's 200 are left.
    assert_eq!(channel.poll_timeout(), Some(later + ms(50)));
    let rtt = channel.stats().rtt;
    channel.handle_frame(later, &ack(1)).unwrap();
    assert_eq!(channel.stats().rtt, rtt);
    assert_eq!(delivered(&mut channel), "$ ");
}
