//! Replays of what the official client and agent said to each other (`tests/data/transcripts`; its
//! README explains the files).
//!
//! Either core takes the other side's recorded frames at their times, and says what the official
//! program said: the same acknowledgements, the same messages under the same numbers. Dates and
//! message ids are each run's own. Departures:
//!
//! - A message that comes again is acknowledged again. The official client keeps silent, so its
//!   agent repeated a HandshakeComplete for four seconds (`command-not-separated`); an agent that
//!   hears the second acknowledgement stops.
//! - The text that the agent offers goes into the encryption context here, which the answer says;
//!   the official client ignores it. Nonces are each run's own, so that what was sealed is compared
//!   as it was before.
//! - Our agent notes a message before it is sent, so it has no such race and repeats nothing there.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ops_session::data_channel::{Config, DataChannel, Event, Expect};
use ops_session::encryption::{Challenge, DataKey, Role, is_encrypted};
use ops_session::handshake::{Request, SessionType};
use ops_session::wire::{Acknowledge, Header, Message, MessageType, PayloadType, parse_exit_code};
use serde_json::Value;

use crate::agent::{AgentChannel, AgentEvent, End};
use crate::kms::{open, seal};
use crate::link::ms;
use crate::vectors::bytes_of;

const TRANSCRIPTS: [(&str, &str); 16] = [
    transcript(
        "command-interrupted",
        include_str!("../data/transcripts/command-interrupted.jsonl"),
    ),
    transcript(
        "command-not-separated",
        include_str!("../data/transcripts/command-not-separated.jsonl"),
    ),
    transcript(
        "command-separated",
        include_str!("../data/transcripts/command-separated.jsonl"),
    ),
    transcript(
        "interactive-command",
        include_str!("../data/transcripts/interactive-command.jsonl"),
    ),
    transcript(
        "kms-command-separated",
        include_str!("../data/transcripts/kms-command-separated.jsonl"),
    ),
    transcript(
        "kms-interactive-command",
        include_str!("../data/transcripts/kms-interactive-command.jsonl"),
    ),
    transcript(
        "kms-port-is-clear",
        include_str!("../data/transcripts/kms-port-is-clear.jsonl"),
    ),
    transcript(
        "kms-shell",
        include_str!("../data/transcripts/kms-shell.jsonl"),
    ),
    transcript(
        "kms-shell-cut-resumed",
        include_str!("../data/transcripts/kms-shell-cut-resumed.jsonl"),
    ),
    transcript(
        "port-mux",
        include_str!("../data/transcripts/port-mux.jsonl"),
    ),
    transcript(
        "port-mux-refused",
        include_str!("../data/transcripts/port-mux-refused.jsonl"),
    ),
    transcript(
        "port-mux-server-closes",
        include_str!("../data/transcripts/port-mux-server-closes.jsonl"),
    ),
    transcript("shell", include_str!("../data/transcripts/shell.jsonl")),
    transcript(
        "shell-cut-resumed",
        include_str!("../data/transcripts/shell-cut-resumed.jsonl"),
    ),
    transcript(
        "shell-terminated",
        include_str!("../data/transcripts/shell-terminated.jsonl"),
    ),
    transcript("ssh", include_str!("../data/transcripts/ssh.jsonl")),
];

const fn transcript(name: &'static str, text: &'static str) -> (&'static str, &'static str) {
    (name, text)
}

/// One line of a transcript, after the first.
enum Line {
    /// The text frame that opens a channel: at first, and after a cut.
    Opening,
    Client(Bytes),
    /// The agent's, or the service's own.
    AgentSide(Bytes),
    Gone,
}

fn lines(text: &str) -> Vec<(Duration, Line)> {
    text.lines()
        .skip(1)
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            let at = ms(line["ms"].as_u64().unwrap());
            let kind = if line.get("event").is_some() {
                Line::Gone
            } else if line.get("text").is_some() {
                Line::Opening
            } else if line["from"] == "client" {
                Line::Client(bytes_of(&line["frame"]).into())
            } else {
                Line::AgentSide(bytes_of(&line["frame"]).into())
            };
            (at, kind)
        })
        .collect()
}

/// The data key of an encrypted recording.
#[derive(Clone, Debug, Default, PartialEq)]
struct Key {
    plaintext: Vec<u8>,
    blob: Vec<u8>,
}

impl Key {
    fn of(text: &str) -> Option<Self> {
        let first: Value = serde_json::from_str(text.lines().next()?).unwrap();
        let key = first["data_keys"].get(0)?;
        let bytes = |name: &str| STANDARD.decode(key[name].as_str().unwrap()).unwrap();
        Some(Self {
            plaintext: bytes("Plaintext"),
            blob: bytes("CiphertextBlob"),
        })
    }

    fn data_key(&self) -> DataKey {
        DataKey::new(self.plaintext.clone().into(), self.blob.clone()).unwrap()
    }

    /// The half that messages of this type are sealed with.
    fn half(&self, message_type: &MessageType) -> &[u8] {
        match message_type {
            MessageType::OutputStreamData => &self.plaintext[..32],
            _ => &self.plaintext[32..],
        }
    }

    /// The payload of a message as it was before it was sealed, if it was.
    fn opened(&self, message: &Message<'_>) -> Vec<u8> {
        let sender = match message.header.message_type {
            MessageType::OutputStreamData => Role::Agent,
            _ => Role::Client,
        };
        let half = self.half(&message.header.message_type);
        match message.header.payload_type {
            PayloadType::EncryptionChallengeRequest | PayloadType::EncryptionChallengeResponse => {
                open(half, &Challenge::parse(message.payload).unwrap())
            }
            payload_type if is_encrypted(sender, payload_type) => open(half, message.payload),
            _ => message.payload.to_vec(),
        }
    }
}

/// The payload of a message, opened where it was sealed.
fn opened(key: Option<&Key>, message: &Message<'_>) -> Vec<u8> {
    key.map_or_else(|| message.payload.to_vec(), |key| key.opened(message))
}

/// What one side says, without what is different in every run.
#[derive(Debug, Default, PartialEq)]
struct Said {
    key: Option<Key>,
    /// What the agent has the client prove its key with, each run's own.
    challenge: Option<Vec<u8>>,
    /// Number and message id.
    acknowledged: Vec<(i64, String)>,
    data: Vec<(i64, u64, PayloadType, Vec<u8>)>,
    /// Some recordings end with the client's departure instead.
    closed: bool,
}

impl Said {
    /// Takes a frame in; true if it is stream data said for the first time.
    fn add(&mut self, frame: &Bytes) -> bool {
        let message = Message::decode(frame).unwrap();
        let Message {
            header, payload, ..
        } = message;
        let Header {
            sequence_number: number,
            flags,
            payload_type,
            ..
        } = header;
        assert_eq!(header.schema_version, 1);
        match header.message_type {
            MessageType::Acknowledge => {
                assert_eq!((number, flags, payload_type), (0, 3, PayloadType::None));
                let body: Value = serde_json::from_slice(payload).unwrap();
                assert_eq!(body["IsSequentialMessage"], true);
                let acked = Acknowledge::parse_sequence_number(payload).unwrap();
                let id = body["AcknowledgedMessageId"].as_str().unwrap();
                self.acknowledged.push((acked, id.to_owned()));
                false
            }
            MessageType::InputStreamData | MessageType::OutputStreamData => {
                if self.data.iter().any(|(n, ..)| *n == number) {
                    return false;
                }
                let payload = match payload_type {
                    // Its time is each run's own.
                    PayloadType::HandshakeComplete => b"complete".to_vec(),
                    PayloadType::EncryptionChallengeRequest => {
                        self.challenge = Some(opened(self.key.as_ref(), &message));
                        b"challenge".to_vec()
                    }
                    _ => normal(&opened(self.key.as_ref(), &message)),
                };
                self.data.push((number, flags, payload_type, payload));
                true
            }
            MessageType::ChannelClosed => {
                self.closed = true;
                false
            }
            _ => false,
        }
    }
}

/// JSON without the differences that mean nothing.
fn normal(payload: &[u8]) -> Vec<u8> {
    match serde_json::from_slice::<Value>(payload) {
        Ok(mut value @ Value::Object(_)) => {
            for action in value["ProcessedClientActions"]
                .as_array_mut()
                .into_iter()
                .flatten()
            {
                if let Some(result) = action["ActionResult"].as_object_mut() {
                    result.remove("ChallengeAcknowledgement");
                }
            }
            value.sort_all_objects();
            value.to_string().into_bytes()
        }
        _ => payload.to_vec(),
    }
}

/// Only the first acknowledgement of each message.
fn firsts(acknowledged: &[(i64, String)]) -> Vec<(i64, String)> {
    let mut firsts: Vec<(i64, String)> = Vec::new();
    for ack in acknowledged {
        if !firsts.contains(ack) {
            firsts.push(ack.clone());
        }
    }
    firsts
}

fn pass_time(channel: &mut dyn End, until: Duration, said: &mut Said) {
    while let Some(at) = channel.poll_timeout().filter(|at| *at < until) {
        channel.handle_timeout(at);
        take(channel, at, said);
    }
}

fn take(channel: &mut dyn End, now: Duration, said: &mut Said) {
    while let Some(frame) = channel.poll_transmit(now) {
        said.add(&frame);
    }
}

#[test]
fn the_client_says_what_the_official_client_said() {
    for (name, text) in TRANSCRIPTS {
        let key = Key::of(text);
        let plain = name.contains("shell") || name.contains("interactive");
        let config = Config {
            client_version: "1.2.707.0".to_owned(),
            expect: if plain {
                Expect::MaybePlain
            } else {
                Expect::Handshake
            },
            ..Config::default()
        };
        let mut channel = DataChannel::new(config, Duration::ZERO);
        let said = || Said {
            key: key.clone(),
            ..Said::default()
        };
        let (mut official, mut ours, mut far) = (said(), said(), said());
        let mut repeated = 0;
        let mut connected = false;
        let mut events = Vec::new();
        for (at, line) in lines(text) {
            pass_time(&mut channel, at, &mut ours);
            match line {
                Line::Opening if connected => channel.on_reconnected(at),
                Line::Opening => connected = true,
                Line::Gone => channel.on_disconnected(at),
                Line::AgentSide(frame) => {
                    let header = Message::decode(&frame).unwrap().header;
                    repeated +=
                        usize::from(!far.add(&frame) && header.message_type.is_stream_data());
                    channel.handle_frame(at, &frame).unwrap();
                }
                Line::Client(frame) => {
                    let new = official.add(&frame);
                    let message = Message::decode(&frame).unwrap();
                    let payload_type = message.header.payload_type;
                    let is_answer = matches!(
                        payload_type,
                        PayloadType::HandshakeResponse | PayloadType::EncryptionChallengeResponse
                    );
                    if new && !is_answer {
                        channel.send(payload_type, opened(key.as_ref(), &message));
                    }
                }
            }
            while let Some(event) = channel.poll_event() {
                if let Event::DataKeyWanted(wanted) = &event {
                    let key = key.as_ref().expect(name);
                    assert!(
                        wanted.key_id.starts_with("arn:aws:kms:us-east-1:"),
                        "{name}"
                    );
                    channel.provide_data_key(at, &key.data_key());
                } else {
                    events.push(event);
                }
            }
            take(&mut channel, at, &mut ours);
        }
        assert_eq!(ours.data, official.data, "{name}");
        assert_eq!(firsts(&ours.acknowledged), official.acknowledged, "{name}");
        assert_eq!(
            ours.acknowledged.len() - official.acknowledged.len(),
            repeated,
            "{name}: a message that came again is acknowledged again"
        );
        check_events(name, &events, &far);
    }
}

fn check_events(name: &str, events: &[Event], far: &Said) {
    let Event::Ready(ready) = &events[0] else {
        panic!("{name}: it begins with {:?}", events[0]);
    };
    let session_type = match name {
        _ if name.contains("command-") => Some(SessionType::NonInteractiveCommands),
        _ if name.contains("port") || name == "ssh" => Some(SessionType::Port),
        "kms-interactive-command" => Some(SessionType::InteractiveCommands),
        _ if name.starts_with("kms-") => Some(SessionType::Shell),
        // No handshake says what it is.
        _ => None,
    };
    assert_eq!(ready.session_type, session_type, "{name}");
    let is_encrypted = name.starts_with("kms-") && session_type != Some(SessionType::Port);
    assert_eq!(ready.encrypted_with.is_some(), is_encrypted, "{name}");
    let sent: Vec<_> = far
        .data
        .iter()
        .filter(|(_, _, payload_type, _)| {
            !matches!(
                payload_type,
                PayloadType::HandshakeRequest
                    | PayloadType::HandshakeComplete
                    | PayloadType::EncryptionChallengeRequest
            )
        })
        .map(|(_, _, payload_type, payload)| (*payload_type, payload.clone()))
        .collect();
    let delivered: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Data {
                payload_type,
                payload,
            } => Some((*payload_type, payload.to_vec())),
            _ => None,
        })
        .collect();
    assert_eq!(delivered, sent, "{name}");
    let exit = delivered
        .iter()
        .find(|(payload_type, _)| *payload_type == PayloadType::ExitCode)
        .map(|(_, payload)| parse_exit_code(payload).unwrap());
    let expected = match name {
        "command-separated" | "kms-command-separated" => Some(3),
        "command-interrupted" => Some(1),
        _ => None,
    };
    assert_eq!(exit, expected, "{name}");
    let closed = events
        .iter()
        .any(|event| matches!(event, Event::Closed { .. }));
    assert_eq!(closed, far.closed, "{name}");
}

/// The frame of a client; where it answers the official agent's challenge, the answer to ours.
fn answered(key: Option<&Key>, frame: Bytes, ours: &Said) -> Bytes {
    let message = Message::decode(&frame).unwrap();
    let (Some(key), PayloadType::EncryptionChallengeResponse) = (key, message.header.payload_type)
    else {
        return frame;
    };
    let challenge = ours.challenge.as_ref().expect("a challenge");
    let sealed = seal(key.half(&message.header.message_type), 1, challenge);
    message.header.encode(&Challenge::payload(&sealed))
}

#[test]
fn the_agent_says_what_the_official_agent_said() {
    for (name, text) in TRANSCRIPTS {
        let key = Key::of(text);
        let mut channel = AgentChannel::new(Duration::ZERO);
        let said = || Said {
            key: key.clone(),
            ..Said::default()
        };
        let (mut official, mut ours) = (said(), said());
        let mut connected = false;
        for (at, line) in lines(text) {
            pass_time(&mut channel, at, &mut ours);
            match line {
                Line::Opening if connected => channel.on_reconnected(at),
                Line::Opening => connected = true,
                Line::Gone => channel.on_disconnected(),
                Line::Client(frame) => {
                    let frame = answered(key.as_ref(), frame, &ours);
                    channel.handle_frame(at, &frame).unwrap();
                }
                Line::AgentSide(frame) => {
                    if !official.add(&frame) {
                        continue;
                    }
                    let message = Message::decode(&frame).unwrap();
                    match message.header.payload_type {
                        PayloadType::HandshakeRequest => {
                            let request = Request::parse(message.payload).unwrap();
                            channel.start_handshake(at, &request);
                        }
                        // Its own.
                        PayloadType::HandshakeComplete
                        | PayloadType::EncryptionChallengeRequest => {}
                        // What the shell or the destination printed.
                        other => channel.send(other, opened(key.as_ref(), &message)),
                    }
                }
            }
            while let Some(event) = channel.poll_event() {
                match event {
                    AgentEvent::Data { .. } => channel.acknowledge(at),
                    AgentEvent::DataKeyOffered {
                        ciphertext_blob,
                        has_challenge: false,
                    } => {
                        let key = key.as_ref().expect(name);
                        assert_eq!(ciphertext_blob, key.blob, "{name}");
                        channel.provide_data_key(&key.plaintext);
                    }
                    AgentEvent::Ready => {}
                    other => panic!("{name}: {other:?}"),
                }
            }
            take(&mut channel, at, &mut ours);
        }
        assert_eq!(ours.data, official.data, "{name}");
        // The recording of a session that was terminated ends before the agent could answer.
        if name == "shell-terminated" {
            assert_eq!(official.acknowledged, []);
        } else if name.starts_with("kms-") {
            // A size came before the official agent had its terminal: refused, and sent again.
            assert_eq!(firsts(&ours.acknowledged), official.acknowledged, "{name}");
        } else {
            assert_eq!(ours.acknowledged, official.acknowledged, "{name}");
        }
    }
}
