//! The recorded conversations, with this agent in the place of the official one: it gets the frames
//! of the official client and must do what the official agent did.
//!
//! Every payload is compared: handshakes as JSON, commands byte for byte, multiplexed bytes by
//! stream, shells line by line, and which inputs were acknowledged. Where this agent departs from
//! the official one:
//!
//! - How output is cut into messages depends on when it is read; payloads are joined before they
//!   are compared.
//! - In `command-not-separated` the official agent missed an acknowledgement that came faster than
//!   it had noted its message (a race between two of its threads), said the same again every 300 ms
//!   and waited at the end. Here a message is noted before it is sent.
//! - A shell prompts and echoes as the shell of this computer does; the lines that commands print
//!   are compared.
//! - In `shell-terminated` the last input was overtaken by the end of the session; here it may be
//!   acknowledged first.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{BufMut as _, Bytes, BytesMut};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
};

use super::{Client, Message, SessionKind, frame, payload};
use crate::data_keys::{AgentKms, Context};

/// How a recorded session came to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// What it ran ended, or the client asked for the end over the channel.
    OfItself,
    /// TerminateSession, or a client that went without a word.
    FromOutside,
}

/// How payloads of type `Output` are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Bytes,
    Lines,
    Streams,
}

#[tokio::test]
async fn a_shell() {
    replay("shell", Reading::Lines, End::OfItself).await;
}

#[tokio::test]
async fn a_shell_that_is_cut_and_resumed() {
    replay("shell-cut-resumed", Reading::Lines, End::OfItself).await;
}

#[tokio::test]
async fn a_shell_that_is_terminated() {
    replay("shell-terminated", Reading::Lines, End::FromOutside).await;
}

#[tokio::test]
async fn an_interactive_command() {
    replay("interactive-command", Reading::Bytes, End::OfItself).await;
}

#[tokio::test]
async fn a_command_with_separate_output() {
    replay("command-separated", Reading::Bytes, End::OfItself).await;
}

#[tokio::test]
async fn a_command_with_joined_output() {
    replay("command-not-separated", Reading::Bytes, End::OfItself).await;
}

#[tokio::test]
async fn an_interrupted_command() {
    replay("command-interrupted", Reading::Bytes, End::OfItself).await;
}

#[tokio::test]
async fn an_encrypted_shell() {
    replay("kms-shell", Reading::Lines, End::OfItself).await;
}

#[tokio::test]
async fn an_encrypted_shell_that_is_cut_and_resumed() {
    replay("kms-shell-cut-resumed", Reading::Lines, End::OfItself).await;
}

#[tokio::test]
async fn an_encrypted_interactive_command() {
    replay("kms-interactive-command", Reading::Bytes, End::OfItself).await;
}

#[tokio::test]
async fn an_encrypted_command_with_separate_output() {
    replay("kms-command-separated", Reading::Bytes, End::OfItself).await;
}

#[tokio::test]
async fn a_raw_port() {
    replay("ssh", Reading::Bytes, End::FromOutside).await;
}

#[tokio::test]
async fn two_streams() {
    replay("port-mux", Reading::Streams, End::OfItself).await;
}

#[tokio::test]
async fn a_refused_stream() {
    replay("port-mux-refused", Reading::Streams, End::OfItself).await;
}

#[tokio::test]
async fn a_stream_that_the_service_closes() {
    replay("port-mux-server-closes", Reading::Streams, End::OfItself).await;
}

async fn replay(name: &str, reading: Reading, end: End) {
    let transcript = Transcript::read(name);
    let port = if name == "port-mux-refused" {
        unused_port().await
    } else {
        service(&transcript).await
    };
    let kind = transcript.session_kind(port);
    let key = transcript.data_key.clone();
    let mut encryption = None;
    let mut client = Client::with(kind, |spec| {
        "3.3.0.0".clone_into(&mut spec.agent_version);
        spec.encryption = key.is_some().then(|| AgentKms::of_test(KMS_KEY));
        encryption = spec
            .encryption
            .clone()
            .map(|kms| (kms, context_of(&spec.session_id, &spec.instance.id)));
    });
    let said = || Said {
        key: key.clone(),
        ..Said::default()
    };
    let (mut recorded, mut ours) = (said(), said());
    let mut sent = BTreeSet::new();
    for event in &transcript.events {
        match event {
            Event::Agent(message) if message.message_type == frame::OUTPUT_STREAM_DATA => {
                recorded.output(message.payload_type, &message.payload);
            }
            Event::Agent(message) => {
                recorded.acknowledged.insert(acknowledged_by(message));
            }
            Event::Input(number, bytes) => {
                while !recorded.is_beginning_of(&ours, reading) {
                    ours.hear(&mut client).await;
                }
                let bytes = match &encryption {
                    Some((kms, context)) => ours.answered(bytes, kms, context),
                    None => bytes.clone(),
                };
                client.to_agent.send(bytes).await.unwrap();
                sent.insert(*number);
            }
            Event::Attached(attached) => {
                client.publication.send_replace(!attached);
            }
            Event::Closed(output) => assert_eq!(output, "", "no recorded session has failed"),
        }
    }
    if end == End::FromOutside {
        while !recorded.is_beginning_of(&ours, reading) {
            ours.hear(&mut client).await;
        }
        client.cancel.cancel();
    }
    while let Some((payload_type, bytes)) = client.next().await {
        ours.output(payload_type, &bytes);
    }
    ours.acknowledged
        .extend(client.acknowledged.iter().copied());
    assert_eq!(client.agent.await.unwrap().output, "");
    assert!(
        ours.acknowledged.is_superset(&recorded.acknowledged) && ours.acknowledged.is_subset(&sent),
        "acknowledged {:?}, recorded {:?}, sent {sent:?}",
        ours.acknowledged,
        recorded.acknowledged
    );
    ours.acknowledged.clone_from(&recorded.acknowledged);
    if reading == Reading::Lines {
        assert!(
            recorded.is_beginning_of(&ours, reading),
            "\n{ours:?}\nis not\n{recorded:?}"
        );
    } else {
        assert_eq!(ours.streams(reading), recorded.streams(reading));
        assert_eq!(ours, recorded.with_output_of(&ours));
    }
}

/// The KMS key of the encrypted recordings.
const KMS_KEY: &str = "arn:aws:kms:us-east-1:123456789012:key/1a2b3c4d-5e6f-4a0b-8c1d-2e3f4a5b6c7d";

/// The encryption context of a client that ignores the agent's text, as the official one does.
fn context_of(session_id: &str, target: &str) -> Context {
    Context::from([
        ("aws:ssm:SessionId".to_owned(), session_id.to_owned()),
        ("aws:ssm:TargetId".to_owned(), target.to_owned()),
    ])
}

fn half(data_key: &[u8]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, data_key).unwrap())
}

/// What an agent has said, opened where it was encrypted, with all that depends on the clock and on
/// chance left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Said {
    /// The data key of an encrypted session.
    key: Option<Vec<u8>>,
    /// What the client has to prove the key with, each run's own.
    challenge: Vec<u8>,
    /// Payloads other than a program's, in order.
    control: Vec<(u32, Value)>,
    output: Vec<u8>,
    stderr: Vec<u8>,
    acknowledged: BTreeSet<i64>,
}

/// Bytes of one multiplexed stream, and whether it was closed.
type Streams = BTreeMap<u32, (Vec<u8>, bool)>;

impl Said {
    /// What the agent has sealed.
    fn opened(&self, sealed: &[u8]) -> Vec<u8> {
        let Some(key) = &self.key else {
            return sealed.to_vec();
        };
        let (nonce, rest) = sealed.split_first_chunk().unwrap();
        let mut rest = rest.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = half(&key[..32]).open_in_place(nonce, Aad::empty(), &mut rest);
        opened.unwrap().to_vec()
    }

    /// The frame of the recorded client, with the data key and the proof that this agent can use.
    fn answered(&self, frame: &Bytes, kms: &AgentKms, context: &Context) -> Bytes {
        let key = self.key.as_ref().unwrap();
        let mut message = Message::decode(frame, false).unwrap();
        let body = serde_json::from_slice(&message.payload);
        match (message.payload_type, body) {
            (payload::HANDSHAKE_RESPONSE, Ok(mut body)) => {
                let body: &mut Value = &mut body;
                let blob = STANDARD.encode(kms.blob_of(context, key));
                body["ProcessedClientActions"][1]["ActionResult"]["KMSCipherTextKey"] = blob.into();
                message.payload = body.to_string().into();
            }
            (payload::CHALLENGE_RESPONSE, _) => {
                let nonce = [1; 12];
                let mut proof = self.challenge.clone();
                half(&key[32..])
                    .seal_in_place_append_tag(
                        Nonce::assume_unique_for_key(nonce),
                        Aad::empty(),
                        &mut proof,
                    )
                    .unwrap();
                let proof = STANDARD.encode([&nonce[..], &proof].concat());
                message.payload = serde_json::json!({ "Challenge": proof }).to_string().into();
            }
            _ => return frame.clone(),
        }
        message.encode()
    }

    fn output(&mut self, payload_type: u32, bytes: &[u8]) {
        let opened;
        let bytes = match payload_type {
            payload::OUTPUT | payload::STDERR | payload::EXIT_CODE => {
                opened = self.opened(bytes);
                &opened
            }
            _ => bytes,
        };
        match payload_type {
            payload::OUTPUT => self.output.extend_from_slice(bytes),
            payload::STDERR => self.stderr.extend_from_slice(bytes),
            other => {
                let mut body = serde_json::from_slice(bytes)
                    .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(bytes)));
                if payload_type == payload::CHALLENGE_REQUEST {
                    let sealed = STANDARD.decode(body["Challenge"].take().as_str().unwrap());
                    self.challenge = self.opened(&sealed.unwrap());
                }
                let actions = body.get_mut("RequestedClientActions");
                for action in actions.and_then(Value::as_array_mut).into_iter().flatten() {
                    if let Some(parameters) = action["ActionParameters"].as_object_mut() {
                        parameters.remove("Challenge");
                    }
                }
                if let Some(body) = body.as_object_mut() {
                    body.remove("HandshakeTimeToComplete");
                }
                self.control.push((other, body));
            }
        }
    }

    /// One more message, or the acknowledgements since the last one.
    async fn hear(&mut self, client: &mut Client) {
        let frame = client.from_agent.recv().await;
        let frame = frame.unwrap_or_else(|| panic!("the agent has ended after {self:?}"));
        client.take(&frame).await;
        while let Some((payload_type, bytes)) = client.received.pop_front() {
            self.output(payload_type, &bytes);
        }
        self.acknowledged
            .extend(client.acknowledged.iter().copied());
    }

    fn is_beginning_of(&self, later: &Self, reading: Reading) -> bool {
        let output = match reading {
            Reading::Bytes => later.output.starts_with(&self.output),
            Reading::Lines => has_lines(&later.output, &self.output),
            Reading::Streams => {
                let later = later.streams(reading);
                self.streams(reading).iter().all(|(id, (bytes, closed))| {
                    later
                        .get(id)
                        .is_some_and(|stream| stream.0.starts_with(bytes) && (stream.1 || !closed))
                })
            }
        };
        output
            && later.control.starts_with(&self.control)
            && later.stderr.starts_with(&self.stderr)
            && later.acknowledged.is_superset(&self.acknowledged)
    }

    /// The streams in the multiplexed output; without multiplexing, all output as one.
    fn streams(&self, reading: Reading) -> Streams {
        if reading != Reading::Streams {
            return Streams::from([(0, (self.output.clone(), false))]);
        }
        let mut streams = Streams::new();
        let mut rest = &self.output[..];
        while let Some((&[version, command, l0, l1, i0, i1, i2, i3], after)) =
            rest.split_first_chunk()
        {
            assert_eq!(version, 1);
            let id = u32::from_le_bytes([i0, i1, i2, i3]);
            let len = usize::from(u16::from_le_bytes([l0, l1]));
            // A frame may still be on its way.
            let body = &after[..len.min(after.len())];
            let stream = streams.entry(id).or_default();
            match command {
                1 => stream.1 = true,
                2 => stream.0.extend_from_slice(body),
                other => panic!("an agent never sends command {other}"),
            }
            rest = &after[body.len()..];
        }
        streams
    }

    fn with_output_of(&self, other: &Self) -> Self {
        Self {
            output: other.output.clone(),
            challenge: other.challenge.clone(),
            ..self.clone()
        }
    }
}

/// Whether a terminal's text has the recorded lines at the end of lines of its own, in order.
fn has_lines(text: &[u8], recorded: &[u8]) -> bool {
    let ends = |line: &[u8]| line.strip_prefix(b"$ ").unwrap_or(line).to_vec();
    let mut recorded: Vec<_> = recorded.split(|&byte| byte == b'\n').map(ends).collect();
    // What follows the last newline is a prompt; a shell's first prompt is all the sign of life
    // there is.
    let prompted = recorded.pop().is_some_and(|last| !last.is_empty());
    let mut lines = text.split_inclusive(|&byte| byte == b'\n');
    (!prompted || !text.is_empty())
        && recorded.iter().all(|wanted| {
            let mut wanted = wanted.clone();
            wanted.push(b'\n');
            lines.any(|line| line.ends_with(&wanted))
        })
}

enum Event {
    Agent(Message),
    /// Number and frame.
    Input(i64, Bytes),
    Attached(bool),
    Closed(String),
}

struct Transcript {
    start: Value,
    data_key: Option<Vec<u8>>,
    events: Vec<Event>,
}

impl Transcript {
    fn read(name: &str) -> Self {
        let folder = "../session/tests/data/transcripts";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("{folder}/{name}.jsonl"));
        let text = fs::read_to_string(path).unwrap();
        let mut lines = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let first = lines.next().unwrap();
        let start = first["start_session"].clone();
        let data_key = first["data_keys"][0]["Plaintext"].as_str();
        let data_key = data_key.map(|key| STANDARD.decode(key).unwrap());
        let mut seen = BTreeSet::new();
        let events = lines.filter_map(|line| event(&line, &mut seen)).collect();
        Self {
            start,
            data_key,
            events,
        }
    }

    fn parameter(&self, name: &str) -> Option<String> {
        let value = &self.start["Parameters"][name][0];
        value.as_str().map(str::to_owned)
    }

    fn session_kind(&self, port: u16) -> SessionKind {
        let command = || self.parameter("command").unwrap();
        match self.start["DocumentName"].as_str() {
            // The official agent's own shell.
            None => SessionKind::Shell {
                command: Some("PS1='$ ' exec sh -i".to_owned()),
            },
            Some("AWS-StartInteractiveCommand") => SessionKind::Interactive { command: command() },
            Some("AWS-StartNonInteractiveCommand") => super::command(
                &command(),
                self.parameter("separateOutputStream").as_deref() == Some("true"),
            ),
            Some(_) => {
                let properties = self.events.iter().find_map(|event| match event {
                    Event::Agent(message) => serde_json::from_slice::<Value>(&message.payload).ok(),
                    _ => None,
                });
                let properties = properties.unwrap()["RequestedClientActions"][0]
                    ["ActionParameters"]["Properties"]
                    .take();
                SessionKind::Port {
                    host: None,
                    port,
                    port_type: properties["type"].as_str().map(str::to_owned),
                    properties,
                }
            }
        }
    }
}

fn event(line: &Value, seen: &mut BTreeSet<i64>) -> Option<Event> {
    if let Some(event) = line["event"].as_str() {
        return event.contains("cut").then_some(Event::Attached(false));
    }
    let Some(hex) = line["frame"].as_str() else {
        return Some(Event::Attached(true));
    };
    let bytes: Bytes = hex
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    let message = Message::decode(&bytes, true).unwrap();
    match line["from"].as_str().unwrap() {
        "client" if message.message_type == frame::INPUT_STREAM_DATA => {
            Some(Event::Input(message.sequence_number, bytes))
        }
        // The client here acknowledges what this agent sends.
        "client" => None,
        "service" => {
            let body: Value = serde_json::from_slice(&message.payload).unwrap();
            Some(Event::Closed(body["Output"].as_str()?.to_owned()))
        }
        _ => {
            let is_repetition = message.message_type == frame::OUTPUT_STREAM_DATA
                && !seen.insert(message.sequence_number);
            (!is_repetition).then_some(Event::Agent(message))
        }
    }
}

fn acknowledged_by(message: &Message) -> i64 {
    let body: Value = serde_json::from_slice(&message.payload).unwrap();
    assert_eq!(body["AcknowledgedMessageType"], frame::INPUT_STREAM_DATA);
    body["AcknowledgedMessageSequenceNumber"].as_i64().unwrap()
}

async fn unused_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

/// What the recordings' service does: after a line `E` it echoes; after any other it sends what it
/// sent then, and closes.
async fn service(transcript: &Transcript) -> u16 {
    let mut recorded = BytesMut::new();
    for event in &transcript.events {
        if let Event::Agent(message) = event
            && message.payload_type == payload::OUTPUT
        {
            recorded.put_slice(&message.payload);
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let recorded = recorded.clone();
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let mut line = String::new();
                stream.read_line(&mut line).await?;
                if line == "E\n" {
                    let mut buffer = [0; 4096];
                    while let count @ 1.. = stream.read(&mut buffer).await? {
                        stream.write_all(&buffer[..count]).await?;
                    }
                    return Ok(());
                }
                let said = Said {
                    output: recorded.to_vec(),
                    ..Said::default()
                };
                let streams = said.streams(Reading::Streams);
                let (bytes, _) = streams.values().next().cloned().unwrap_or_default();
                stream.write_all(&bytes).await?;
                std::io::Result::Ok(())
            });
        }
    });
    port
}
