//! What reads bytes of others, as functions of bytes: each must return, whatever it is given.
//!
//! One function for each target is shared by three: cargo-fuzz (the folder `fuzz` of the
//! repository, which takes a nightly compiler), the test that replays the corpora on stable, and
//! `fuzz-for-a-while`, which mutates them for a minute:
//!
//! ```sh
//! cargo test -p ops-fuzzing
//! cargo run --release -p ops-fuzzing --bin fuzz-for-a-while -- 60
//! cargo +nightly fuzz run frames
//! ```
//!
//! An input that has broken something once goes into `fuzz/corpus/TARGET`, under a name that says
//! what it did.

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use ops_session::{
    data_channel::{Config, DataChannel, Event},
    encryption::{Challenge, DataKey},
    handshake::{Complete, KeyAnswer, OfferedKey, Request, Response},
    smux,
    wire::{
        Acknowledge, ChannelClosed, Flag, Header, Message, MessageType, OpenDataChannel,
        PayloadType, parse_exit_code, parse_size, size_payload,
    },
};
use uuid::Uuid;

/// A function that must return, whatever bytes it is given.
pub type Target = fn(&[u8]);

/// Every target by its name, which is that of its corpus too.
pub const TARGETS: &[(&str, Target)] = &[
    ("frames", frames),
    ("handshake", handshake),
    ("smux", smux),
    ("channel_sequences", channel_sequences),
    ("profile_yaml", profile_yaml),
    ("forward_specs", forward_specs),
    ("server_names", server_names),
    ("copy_lists", copy_lists),
    ("archives", archives),
    ("sftp_answers", sftp_answers),
    ("quoting", quoting),
];

/// The folder of a target's corpus.
#[must_use]
pub fn corpus(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target)
}

/// One message of the web socket, from an agent or a gateway.
pub fn frames(data: &[u8]) {
    if let Ok(message) = Message::decode(data) {
        // What was accepted can be written, and is read again as the same.
        let again = message.header.encode(message.payload);
        let read = Message::decode(&again).expect("what was written is read");
        assert_eq!(read.payload, message.payload);
    }
    let _ = Message::decode_unverified(data);
    let _ = Acknowledge::parse_sequence_number(data);
    let _ = ChannelClosed::parse(data);
    let _ = Flag::parse(data);
    let _ = parse_exit_code(data);
    let _ = parse_size(data);
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = OpenDataChannel::from_json(text);
    }
}

/// The JSON of the handshake.
pub fn handshake(data: &[u8]) {
    if let Some(request) = Request::parse(data) {
        let refused = KeyAnswer::Refused("no key");
        let _ = Response::answer(&request, "1.2.800.0", refused).payload();
    }
    for action in Response::parse(data)
        .into_iter()
        .flat_map(|r| r.processed_client_actions)
    {
        let _ = OfferedKey::parse(&action.action_result);
    }
    let _ = Challenge::parse(data);
    let _ = Complete::parse(data);
}

/// What comes through a shared session, in pieces: the first byte says how long each is.
pub fn smux(data: &[u8]) {
    let Some((&piece, data)) = data.split_first() else {
        return;
    };
    let mut client = smux::Client::new();
    // Streams that the frames can be about.
    for _ in 0..3 {
        let _ = client.open();
    }
    for piece in data.chunks(usize::from(piece).max(1)) {
        if client.handle_input(Bytes::copy_from_slice(piece)).is_err() {
            break;
        }
        while client.poll_event().is_some() {}
        while client.poll_transmit(1 << 16).is_some() {}
    }
    let _ = client.finish();
}

/// Messages of right form in any order, at any time: each begins with kind, number, kind of
/// payload, length and delay, a byte each.
pub fn channel_sequences(data: &[u8]) {
    // The first byte once told which end it is.
    let Some((_, mut rest)) = data.split_first() else {
        return;
    };
    let mut now = Duration::ZERO;
    let mut channel = DataChannel::new(Config::default(), now);
    channel.send(PayloadType::Size, size_payload(80, 24));
    channel.send(PayloadType::Output, vec![0; 5000]);
    while let Some((&[kind, number, payload_type, len, delay], after)) = rest.split_first_chunk() {
        let (payload, after) = after.split_at(usize::from(len).min(after.len()));
        rest = after;
        now += Duration::from_millis(u64::from(delay) * 20);
        let header = Header {
            message_type: [
                MessageType::InputStreamData,
                MessageType::OutputStreamData,
                MessageType::Acknowledge,
                MessageType::ChannelClosed,
                MessageType::StartPublication,
                MessageType::PausePublication,
                MessageType::AgentSessionState,
            ][usize::from(kind % 7)],
            schema_version: 1,
            created_ms: 1,
            sequence_number: i64::from(number.cast_signed()),
            flags: 0,
            message_id: Uuid::from_u128(u128::from(number) + 1),
            payload_type: u32::from(payload_type).into(),
        };
        let _ = channel.handle_frame(now, &header.encode(payload));
        for _ in 0..100 {
            match channel.poll_event() {
                None => break,
                Some(Event::DataKeyWanted(_)) => {
                    let key = DataKey::new(vec![7; 64].into(), &b"blob"[..]);
                    channel.provide_data_key(now, &key.expect("64 bytes"));
                }
                Some(_) => {}
            }
        }
        for turn in 0.. {
            if channel.poll_transmit(now).is_none() {
                break;
            }
            assert!(turn < 10_000, "the channel sends without an end");
        }
        if let Some(next) = channel.poll_timeout() {
            now = now.max(next);
            channel.handle_timeout(now);
        }
    }
}

/// A team profile.
pub fn profile_yaml(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        ops_profile::fuzzing::profile(text);
    }
}

/// The ports of a forward as they are typed.
pub fn forward_specs(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        cmd_forward::fuzzing::spec(text);
    }
}

/// What is typed for a server.
pub fn server_names(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(target) = text.parse::<ops_profile::Target>()
    {
        assert_eq!(target.as_str(), text);
    }
}

/// A server's list of files.
pub fn copy_lists(data: &[u8]) {
    cmd_cp::fuzzing::list(data);
}

/// An archive that a server sends.
pub fn archives(data: &[u8]) {
    cmd_cp::fuzzing::archive(data);
}

/// A packet of an SFTP server.
pub fn sftp_answers(data: &[u8]) {
    cmd_cp::fuzzing::sftp_answer(data);
}

/// Words that are taken apart as a shell does, and put together again.
pub fn quoting(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        ops::fuzzing::quoting(text);
    }
}
