//! Encrypted sessions: the key round, what is sealed, and what ends a session.

use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use bytes::Bytes;
use ops_session::data_channel::{ChannelError, Config, DataChannel, Event};
use ops_session::encryption::{Challenge, DataKey, DataKeyRequest, SEAL_BYTES};
use ops_session::handshake::{Action, Complete, Request, Response};
use ops_session::wire::{HEADER_LEN, Message, MessageType, PayloadType, size_payload};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::agent::{AgentChannel, AgentEvent, AgentFailure, End};
use crate::channel::{ack, frame, sent};
use crate::link::{Link, ms};
use crate::vectors::{frame_of, vectors};

const START: Duration = Duration::ZERO;
const KEY_ID: &str = "arn:aws:kms:eu-west-1:111122223333:key/k";

pub(crate) fn plaintext() -> Vec<u8> {
    (100..164).collect()
}

fn key_of(plaintext: Vec<u8>, blob: &[u8]) -> DataKey {
    DataKey::new(Zeroizing::new(plaintext), blob.to_vec()).unwrap()
}

pub(crate) fn data_key() -> DataKey {
    key_of(plaintext(), b"blob")
}

fn another_plaintext() -> Vec<u8> {
    vec![7; 64]
}

pub(crate) fn kms_request() -> Request {
    Request {
        agent_version: "3.3.3572.0".to_owned(),
        actions: vec![
            Action::SessionType {
                name: "Standard_Stream".to_owned(),
                properties: json!(null),
            },
            Action::KmsEncryption {
                key_id: KEY_ID.to_owned(),
                challenge: Some("AAECAwQFBgcICQoLDA0ODw==".to_owned()),
            },
        ],
    }
}

/// One half of a data key, as another program would use it.
fn half(key: &[u8]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).unwrap())
}

pub(crate) fn seal(key: &[u8], nonce: u8, payload: &[u8]) -> Vec<u8> {
    let nonce = [nonce; 12];
    let mut out = payload.to_vec();
    half(key)
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut out)
        .unwrap();
    [&nonce[..], &out].concat()
}

pub(crate) fn open(key: &[u8], sealed: &[u8]) -> Vec<u8> {
    let (nonce, rest) = sealed.split_first_chunk().unwrap();
    let mut rest = rest.to_vec();
    half(key)
        .open_in_place(
            Nonce::assume_unique_for_key(*nonce),
            Aad::empty(),
            &mut rest,
        )
        .unwrap()
        .to_vec()
}

/// Sealed as the agent of [`data_key`] does.
fn of_agent(nonce: u8, payload: &[u8]) -> Vec<u8> {
    seal(&plaintext()[..32], nonce, payload)
}

fn output(number: i64, payload_type: PayloadType, payload: &[u8]) -> Bytes {
    frame(MessageType::OutputStreamData, number, payload_type, payload)
}

fn take(channel: &mut dyn End, frame: &Bytes) {
    channel.handle_frame(START, frame).unwrap();
}

fn events(channel: &mut DataChannel) -> Vec<Event> {
    std::iter::from_fn(|| channel.poll_event()).collect()
}

fn agent_events(agent: &mut AgentChannel) -> Vec<AgentEvent> {
    std::iter::from_fn(|| agent.poll_event()).collect()
}

/// A client that has been asked for encryption, with something typed ahead.
fn asked() -> DataChannel {
    let mut channel = DataChannel::new(Config::default(), START);
    channel.send(PayloadType::Size, size_payload(80, 24));
    channel.send(PayloadType::Output, "typed ahead");
    take(&mut channel, &frame_of("msg-handshake-request-kms").into());
    channel
}

/// As [`asked`], once it has given a data key.
fn keyed() -> DataChannel {
    let mut channel = asked();
    channel.provide_data_key(START, &data_key());
    assert_eq!(events(&mut channel).len(), 1);
    assert_eq!(sent(&mut channel, START), ["ack 0", "0 HandshakeResponse"]);
    channel
}

fn challenge(number: i64, sealed: &[u8]) -> Bytes {
    let body = Challenge::payload(sealed);
    output(number, PayloadType::EncryptionChallengeRequest, &body)
}

fn complete(number: i64) -> Bytes {
    let body = Complete::default().payload();
    output(number, PayloadType::HandshakeComplete, &body)
}

/// As [`keyed`], once it is ready; the agent has used the nonce 1 and the number 2.
fn ready() -> DataChannel {
    let mut channel = keyed();
    take(&mut channel, &challenge(1, &of_agent(1, &[9; 64])));
    take(&mut channel, &complete(2));
    channel
}

#[test]
fn nothing_but_the_answers_is_sent_before_the_handshake_has_ended() {
    let mut channel = asked();
    let wanted = DataKeyRequest {
        key_id: "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
            .to_owned(),
        challenge: Some("AAECAwQFBgcICQoLDA0ODw==".to_owned()),
    };
    assert_eq!(events(&mut channel), [Event::DataKeyWanted(wanted.clone())]);
    assert_eq!(sent(&mut channel, START), ["ack 0"]);
    channel.send(PayloadType::Size, size_payload(90, 30));
    channel.provide_data_key(START, &data_key());
    assert_eq!(sent(&mut channel, START), ["0 HandshakeResponse"]);
    // A key that comes late, or twice, changes nothing.
    channel.provide_data_key(START, &key_of(another_plaintext(), b"blob"));
    channel.refuse_data_key(START, "late");
    assert_eq!(sent(&mut channel, START), [""; 0]);
    take(&mut channel, &challenge(1, &of_agent(1, &[9; 64])));
    assert_eq!(
        sent(&mut channel, START),
        ["ack 1", "1 EncryptionChallengeResponse"]
    );
    take(&mut channel, &complete(2));
    assert_eq!(
        sent(&mut channel, START),
        ["ack 2", "2 Size", "3 Output", "4 Size"]
    );
    let [Event::Ready(ready)] = &events(&mut channel)[..] else {
        panic!("it is not ready");
    };
    assert_eq!(ready.encrypted_with, Some(wanted.key_id));
}

#[test]
fn the_answer_is_that_of_the_official_client_and_acknowledges_the_challenge() {
    let official = vectors();
    let official = official
        .iter()
        .find(|vector| vector["id"] == "msg-handshake-response-kms")
        .unwrap();
    let official = official["fields"]["payload_text"].as_str().unwrap();
    let mut official: Value = serde_json::from_str(official).unwrap();
    for challenge in [None, Some("AAECAwQFBgcICQoLDA0ODw==".to_owned())] {
        let mut request = kms_request();
        request.actions[1] = Action::KmsEncryption {
            key_id: KEY_ID.to_owned(),
            challenge: challenge.clone(),
        };
        let mut channel = DataChannel::new(Config::default(), START);
        take(
            &mut channel,
            &output(0, PayloadType::HandshakeRequest, &request.payload()),
        );
        channel.provide_data_key(START, &key_of(plaintext(), &[1, 2, 3, 4, 5]));
        channel.poll_transmit(START).unwrap();
        let frame = channel.poll_transmit(START).unwrap();
        let ours: Value = serde_json::from_slice(Message::decode(&frame).unwrap().payload).unwrap();
        if challenge.is_some() {
            official["ProcessedClientActions"][1]["ActionResult"]["ChallengeAcknowledgement"] =
                json!(true);
        }
        assert_eq!(ours, official);
    }
}

#[test]
fn what_is_sealed_each_way_and_what_stays_in_clear() {
    let mut channel = ready();
    events(&mut channel);
    let mut clear = 0;
    let mut typed = Vec::new();
    while let Some(frame) = channel.poll_transmit(START) {
        let message = Message::decode(&frame).unwrap();
        match message.header.payload_type {
            PayloadType::Output => {
                typed = open(&plaintext()[32..], message.payload);
            }
            PayloadType::EncryptionChallengeResponse => {
                let sealed = Challenge::parse(message.payload).unwrap();
                assert_eq!(open(&plaintext()[32..], &sealed), [9; 64]);
            }
            PayloadType::Size => {
                clear += 1;
                assert_eq!(message.payload, size_payload(80, 24));
            }
            _ => {}
        }
    }
    assert_eq!((&typed[..], clear), (&b"typed ahead"[..], 1));
    for (number, payload_type, payload) in [
        (3, PayloadType::Output, of_agent(3, b"out")),
        (4, PayloadType::StdErr, of_agent(4, b"err")),
        (5, PayloadType::ExitCode, of_agent(5, b"EXIT_CODE: 3")),
        (6, PayloadType::Flag, 3_u32.to_be_bytes().to_vec()),
        // Nobody has sealed it, so that nobody knows whose it is.
        (7, PayloadType::Error, b"made up".to_vec()),
    ] {
        take(&mut channel, &output(number, payload_type, &payload));
    }
    let delivered: Vec<(PayloadType, Bytes)> = events(&mut channel)
        .into_iter()
        .map(|event| match event {
            Event::Data {
                payload_type,
                payload,
            } => (payload_type, payload),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        delivered,
        [
            (PayloadType::Output, Bytes::from_static(b"out")),
            (PayloadType::StdErr, Bytes::from_static(b"err")),
            (PayloadType::ExitCode, Bytes::from_static(b"EXIT_CODE: 3")),
            (PayloadType::Flag, Bytes::from_static(&[0, 0, 0, 3])),
        ]
    );
}

#[test]
fn a_refused_key_is_told_to_the_agent_and_ends_the_session() {
    let mut channel = asked();
    events(&mut channel);
    channel.refuse_data_key(START, "AccessDeniedException");
    let [Event::Failed(ChannelError::NoDataKey { key_id, reason })] = &events(&mut channel)[..]
    else {
        panic!("it did not fail");
    };
    assert!(key_id.ends_with("1234567890ab"), "{key_id}");
    assert_eq!(reason, "AccessDeniedException");
    channel.poll_transmit(START).unwrap();
    let frame = channel.poll_transmit(START).unwrap();
    let response = Response::parse(Message::decode(&frame).unwrap().payload).unwrap();
    let codes = response.processed_client_actions.iter();
    let codes: Vec<i64> = codes.map(|action| action.action_status.code()).collect();
    assert_eq!(codes, [1, 2]);
    assert_eq!(response.errors.unwrap(), ["AccessDeniedException"]);
    // It does not go on in clear, whatever the agent says then.
    take(&mut channel, &complete(1));
    assert_eq!(sent(&mut channel, START), ["ack 1"]);
    take(&mut channel, &output(2, PayloadType::Output, b"in clear"));
    assert_eq!(sent(&mut channel, START), [""; 0]);
    assert_eq!(events(&mut channel), []);
}

#[test]
fn no_key_is_fetched_for_a_session_that_cannot_come_about() {
    let unknown = Action::Unknown {
        name: "Later".to_owned(),
    };
    for (extra, failure) in [
        (unknown, ChannelError::UnknownAction("Later".to_owned())),
        (
            kms_request().actions[1].clone(),
            ChannelError::MalformedHandshake,
        ),
    ] {
        let mut request = kms_request();
        request.actions.push(extra);
        let mut channel = DataChannel::new(Config::default(), START);
        take(
            &mut channel,
            &output(0, PayloadType::HandshakeRequest, &request.payload()),
        );
        assert_eq!(events(&mut channel), [Event::Failed(failure)]);
        assert_eq!(sent(&mut channel, START), ["ack 0", "0 HandshakeResponse"]);
    }
}

/// The one failure of a channel whose last frames brought it about, and that it says no more.
fn failure(mut channel: DataChannel) -> ChannelError {
    let mut events = events(&mut channel);
    let Some(Event::Failed(error)) = events.pop() else {
        panic!("it did not fail: {events:?}");
    };
    assert!(
        !events
            .iter()
            .any(|event| matches!(event, Event::Data { .. })),
        "{events:?}"
    );
    assert_eq!(sent(&mut channel, START), [""; 0]);
    // Later messages are not even looked at.
    take(
        &mut channel,
        &output(4, PayloadType::Output, &of_agent(40, b"later")),
    );
    assert_eq!(self::events(&mut channel), []);
    error
}

#[test]
fn what_does_not_open_ends_the_session_and_nothing_of_it_is_shown() {
    let sealed = of_agent(3, b"rm -rf /");
    let mut changed = sealed.clone();
    changed[14] ^= 1;
    let mut wrong_tag = sealed.clone();
    *wrong_tag.last_mut().unwrap() ^= 1;
    let of_another = seal(&[7; 32], 3, b"rm -rf /");
    let reflected = seal(&plaintext()[32..], 3, b"rm -rf /");
    for payload in [
        &changed[..],
        &wrong_tag,
        &of_another,
        &reflected,
        &sealed[..27],
        &sealed[..5],
        b"in clear",
        b"",
    ] {
        for payload_type in [
            PayloadType::Output,
            PayloadType::StdErr,
            PayloadType::ExitCode,
        ] {
            let mut channel = ready();
            take(&mut channel, &output(3, payload_type, payload));
            assert_eq!(failure(channel), ChannelError::Undecryptable, "{payload:?}");
        }
    }
}

#[test]
fn a_ciphertext_that_comes_again_under_another_number_ends_the_session() {
    let mut channel = ready();
    let first = output(3, PayloadType::Output, &of_agent(3, b"yes\n"));
    take(&mut channel, &first);
    // A repetition is none: its number has passed.
    take(&mut channel, &first);
    assert!(
        matches!(events(&mut channel).last(), Some(Event::Data { payload, .. }) if payload == "yes\n")
    );
    let mut replayed = channel;
    take(
        &mut replayed,
        &output(4, PayloadType::Output, &of_agent(3, b"yes\n")),
    );
    assert_eq!(failure(replayed), ChannelError::RepeatedCiphertext);
    // Nor may another text have the nonce of the challenge.
    let mut channel = ready();
    take(
        &mut channel,
        &output(3, PayloadType::StdErr, &of_agent(1, b"x")),
    );
    assert_eq!(failure(channel), ChannelError::RepeatedCiphertext);
}

#[test]
fn an_agent_that_does_not_keep_the_round_is_left() {
    // Output in clear before any key, after it, and sealed output before the end.
    let mut channel = asked();
    take(&mut channel, &output(1, PayloadType::Output, b"in clear"));
    assert_eq!(failure(channel), ChannelError::KeyRoundSkipped);
    for payload in [&b"in clear"[..], &of_agent(1, b"too early")] {
        let mut channel = keyed();
        take(&mut channel, &output(1, PayloadType::StdErr, payload));
        assert_eq!(failure(channel), ChannelError::KeyRoundSkipped);
    }
    // The end without a challenge, before the key and after it.
    for mut channel in [asked(), keyed()] {
        take(&mut channel, &complete(1));
        assert_eq!(failure(channel), ChannelError::KeyRoundSkipped);
    }
    // Challenges that this client cannot open, and none at all.
    let mut channel = keyed();
    take(&mut channel, &challenge(1, &seal(&[7; 32], 1, &[9; 64])));
    assert_eq!(failure(channel), ChannelError::Undecryptable);
    for body in [&b"{}"[..], b"", b"{\"Challenge\":\"*\"}", b"[1]"] {
        let mut channel = keyed();
        take(
            &mut channel,
            &output(1, PayloadType::EncryptionChallengeRequest, body),
        );
        assert_eq!(failure(channel), ChannelError::MalformedHandshake);
    }
}

#[test]
fn a_challenge_out_of_turn_is_not_answered() {
    // Otherwise a second one would have this client seal whatever it is sent.
    let mut channel = ready();
    sent(&mut channel, START);
    take(&mut channel, &challenge(3, &of_agent(3, &[9; 64])));
    assert_eq!(sent(&mut channel, START), ["ack 3"]);
    let mut channel = asked();
    take(&mut channel, &challenge(1, &of_agent(1, &[9; 64])));
    assert_eq!(sent(&mut channel, START), ["ack 0", "ack 1"]);
}

#[test]
fn two_ends_with_different_keys_do_not_come_together() {
    let mut link = Link::new(1);
    link.agent_key = another_plaintext;
    link.agent.start_handshake(START, &kms_request());
    link.client.send(PayloadType::Output, "secret");
    link.run_for(ms(20_000));
    assert_eq!(
        link.client_events.last(),
        Some(&Event::Failed(ChannelError::Undecryptable))
    );
    assert_eq!(link.agent_received, b"");
    assert_eq!(
        link.agent_events.last(),
        Some(&AgentEvent::Failed(AgentFailure::HandshakeTimedOut(ms(
            15_000
        ))))
    );
}

#[test]
fn a_wrong_answer_to_the_challenge_gets_no_word_and_time_runs_out() {
    let mut agent = AgentChannel::new(START);
    agent.start_handshake(START, &kms_request());
    let input = |number, payload_type, payload: &[u8]| {
        frame(MessageType::InputStreamData, number, payload_type, payload)
    };
    let mut client = asked();
    client.provide_data_key(START, &data_key());
    client.poll_transmit(START).unwrap();
    take(&mut agent, &client.poll_transmit(START).unwrap());
    assert!(matches!(
        &agent_events(&mut agent)[..],
        [AgentEvent::DataKeyOffered { has_challenge: true, ciphertext_blob }] if ciphertext_blob == "blob"
    ));
    agent.provide_data_key(&plaintext());
    let wrong = Challenge::payload(&seal(&plaintext()[32..], 1, &[0; 64]));
    take(
        &mut agent,
        &input(1, PayloadType::EncryptionChallengeResponse, &wrong),
    );
    assert_eq!(agent_events(&mut agent), []);
    assert!(!agent.is_open());
    agent.handle_timeout(ms(15_000));
    assert_eq!(
        agent_events(&mut agent),
        [AgentEvent::Failed(AgentFailure::HandshakeTimedOut(ms(
            15_000
        )))]
    );
}

#[test]
fn bytes_before_there_is_a_key_leave_the_agent_deaf() {
    let mut agent = AgentChannel::new(START);
    agent.start_handshake(START, &kms_request());
    sent(&mut agent, START);
    let early = frame(MessageType::InputStreamData, 0, PayloadType::Output, b"x");
    take(&mut agent, &early);
    take(&mut agent, &early);
    assert_eq!(sent(&mut agent, START), [""; 0]);
    assert_eq!(agent.poll_timeout(), None);
}

/// The next stream data that a channel sends.
fn next_data(channel: &mut DataChannel, now: Duration) -> Bytes {
    loop {
        let frame = channel.poll_transmit(now).unwrap();
        if Message::decode(&frame).unwrap().header.payload_type == PayloadType::Output {
            return frame;
        }
    }
}

#[test]
fn a_repetition_is_the_same_ciphertext_also_on_another_connection() {
    let mut channel = ready();
    let first = next_data(&mut channel, START);
    for number in 0..3 {
        take(&mut channel, &ack(number));
    }
    let at = channel.poll_timeout().unwrap();
    channel.handle_timeout(at);
    assert_eq!(next_data(&mut channel, at), first);
    channel.on_disconnected(at);
    channel.send(PayloadType::Output, "while away");
    channel.on_reconnected(at);
    assert_eq!(next_data(&mut channel, at), first);
    // And the next one has another nonce and the same key.
    let next = next_data(&mut channel, at);
    assert_ne!(next[HEADER_LEN..][..12], first[HEADER_LEN..][..12]);
    assert_eq!(open(&plaintext()[32..], &next[HEADER_LEN..]), b"while away");
}

#[test]
fn a_sealed_payload_is_no_longer_than_what_was_proven_to_get_through() {
    let mut link = Link::with(
        1,
        Config {
            max_payload: 16 << 10,
            ..Config::default()
        },
    );
    link.agent.start_handshake(START, &kms_request());
    link.client.send(PayloadType::Size, size_payload(80, 24));
    link.run_until_drained();
    link.client.send(PayloadType::Output, vec![b'x'; 1 << 20]);
    link.run_until_drained();
    assert_eq!(link.agent_received.len(), 1 << 20);
    let lens = &link.sent_lens;
    assert_eq!(lens[0], 1024 + SEAL_BYTES, "before anything is proven");
    let longest = lens.iter().max().copied().unwrap();
    assert!(
        (1025 + SEAL_BYTES..=16 << 10).contains(&longest),
        "{longest}"
    );
}

#[test]
fn a_lost_connection_says_nothing_of_sealed_payloads_of_the_usual_size() {
    let mut channel = ready();
    next_data(&mut channel, START);
    channel.send(PayloadType::Output, vec![b'x'; 4096]);
    for _ in 0..4 {
        next_data(&mut channel, START);
        channel.on_disconnected(START);
        channel.on_reconnected(START);
    }
    let failed = |event: &Event| matches!(event, Event::Failed(_));
    assert!(!events(&mut channel).iter().any(failed));
}

#[test]
fn keys_are_in_nothing_that_can_be_printed() {
    let mut channel = ready();
    take(
        &mut channel,
        &output(3, PayloadType::Output, &of_agent(3, b"out")),
    );
    let key = data_key();
    let text = format!("{channel:?} {key:?} {:?}", events(&mut channel));
    // As a list of numbers, in hexadecimal, as text.
    let key = plaintext();
    let list = format!("{:?}", &key[..6]);
    let list = list.trim_matches(['[', ']']);
    let hex: String = key[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    let ascii = String::from_utf8_lossy(&key[..6]).into_owned();
    for shown in [list, &hex, &ascii] {
        assert!(!text.contains(shown), "{shown}");
    }
}
