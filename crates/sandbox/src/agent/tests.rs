//! The agent against a client that does no more than the protocol asks of it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket},
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

mod habits;
mod throughput;
mod transcripts;

use super::frame::{self, Message, payload};
use crate::{
    Pace,
    fleet::{Fleet, InstanceState},
    network::Network,
    session::{AgentLink, Closing, SessionKind, SessionSpec},
};

struct Client {
    to_agent: mpsc::Sender<Bytes>,
    from_agent: mpsc::Receiver<Bytes>,
    publication: watch::Sender<bool>,
    cancel: CancellationToken,
    agent: JoinHandle<Closing>,
    next_number: i64,
    expected: i64,
    acknowledged: Vec<i64>,
    received: VecDeque<(u32, Bytes)>,
    state: tempfile::TempDir,
}

impl Client {
    fn start(kind: SessionKind) -> Self {
        Self::with(kind, |_| {})
    }

    fn with_version(kind: SessionKind, agent_version: &str) -> Self {
        Self::with(kind, |spec| {
            agent_version.clone_into(&mut spec.agent_version);
        })
    }

    fn with(kind: SessionKind, change: impl FnOnce(&mut SessionSpec)) -> Self {
        let state = tempfile::tempdir().unwrap();
        let mut spec = SessionSpec {
            session_id: "me-0123".to_owned(),
            instance: Fleet::load(None, 0).unwrap().listed_as("web-1").unwrap(),
            state: Arc::new(InstanceState::at(state.path().join("web-1"))),
            network: Arc::new(Network::default()),
            kind,
            pace: Pace::Unpaced,
            agent_version: "3.3.3572.0".to_owned(),
            encryption: None,
            is_logged: false,
            upload: None,
            strict: false,
            late_handshake: Duration::ZERO,
            odd_json: false,
            late_open: Duration::ZERO,
            customer_message: None,
            late_plugin: Duration::ZERO,
            slow_dial: Duration::ZERO,
        };
        change(&mut spec);
        let (to_agent, from_client) = mpsc::channel(16);
        let (to_client, from_agent) = mpsc::channel(16);
        let publication = watch::Sender::new(false);
        let cancel = CancellationToken::new();
        let link = AgentLink {
            from_client,
            to_client,
            publication: publication.subscribe(),
            cancel: cancel.clone(),
        };
        let agent = tokio::spawn(super::run(spec, link));
        Self {
            to_agent,
            from_agent,
            publication,
            cancel,
            agent,
            next_number: 0,
            expected: 0,
            acknowledged: Vec::new(),
            received: VecDeque::new(),
            state,
        }
    }

    async fn send_as(&self, number: i64, payload_type: u32, payload: impl Into<Bytes>) {
        let message = Message {
            message_type: frame::INPUT_STREAM_DATA.into(),
            sequence_number: number,
            flags: 0,
            message_id: Uuid::new_v4(),
            payload_type,
            payload: payload.into(),
        };
        self.to_agent.send(message.encode()).await.unwrap();
    }

    async fn send(&mut self, payload_type: u32, payload: impl Into<Bytes>) {
        self.send_as(self.next_number, payload_type, payload).await;
        self.next_number += 1;
    }

    /// Sends one `Output` payload again until it is acknowledged: the first after a handshake may
    /// come too early.
    async fn send_until_taken(&mut self, payload: Vec<u8>) {
        let number = self.next_number;
        self.next_number += 1;
        while !self.acknowledged.contains(&number) {
            self.send_as(number, payload::OUTPUT, payload.clone()).await;
            let patience = std::time::Duration::from_millis(100);
            if let Ok(frame) = tokio::time::timeout(patience, self.from_agent.recv()).await {
                let Some(frame) = frame else { return };
                self.take(&frame).await;
            }
        }
    }

    /// The next output in order, acknowledged; `None` when the agent has ended.
    async fn next(&mut self) -> Option<(u32, Bytes)> {
        loop {
            if let Some(output) = self.received.pop_front() {
                return Some(output);
            }
            let frame = self.from_agent.recv().await?;
            self.take(&frame).await;
        }
    }

    /// Notes an acknowledgement, or acknowledges and keeps output.
    async fn take(&mut self, frame: &Bytes) {
        let message = Message::decode(frame, true).unwrap();
        if message.message_type == frame::ACKNOWLEDGE {
            assert_eq!((message.flags, message.sequence_number), (3, 0));
            let body: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
            let number = body["AcknowledgedMessageSequenceNumber"].as_i64();
            self.acknowledged.push(number.unwrap());
            return;
        }
        let body = serde_json::json!({
            "AcknowledgedMessageType": message.message_type,
            "AcknowledgedMessageId": message.message_id.to_string(),
            "AcknowledgedMessageSequenceNumber": message.sequence_number,
            "IsSequentialMessage": true,
        });
        let acknowledge = Message {
            message_type: frame::ACKNOWLEDGE.into(),
            sequence_number: 0,
            flags: 3,
            message_id: Uuid::new_v4(),
            payload_type: 0,
            payload: body.to_string().into(),
        };
        // An agent that has ended reads no more.
        let _ = self.to_agent.send(acknowledge.encode()).await;
        if message.sequence_number == self.expected {
            assert_eq!(message.flags, u64::from(message.sequence_number == 0));
            self.expected += 1;
            self.received
                .push_back((message.payload_type, message.payload));
        }
    }

    async fn shake_hands(&mut self, version: &str) -> serde_json::Value {
        let (payload_type, request) = self.next().await.unwrap();
        assert_eq!(payload_type, payload::HANDSHAKE_REQUEST);
        let response = serde_json::json!({
            "ClientVersion": version,
            "ProcessedClientActions": [{"ActionType": "SessionType", "ActionStatus": 1, "ActionResult": null, "Error": ""}],
            "Errors": null,
        });
        self.send(payload::HANDSHAKE_RESPONSE, response.to_string())
            .await;
        assert_eq!(self.next().await.unwrap().0, payload::HANDSHAKE_COMPLETE);
        serde_json::from_slice(&request).unwrap()
    }

    /// All output until the end, by payload type, and how the agent closed.
    async fn finish(mut self) -> (Vec<(u32, Bytes)>, Closing) {
        let mut all = Vec::new();
        while let Some(output) = self.next().await {
            all.push(output);
        }
        (all, self.agent.await.unwrap())
    }

    /// Output until `text` has come.
    async fn until(&mut self, text: &str) -> String {
        let mut seen = String::new();
        while !seen.contains(text) {
            let Some((_, bytes)) = self.next().await else {
                panic!("ended without {text:?}, after {seen:?}")
            };
            seen.push_str(&String::from_utf8_lossy(&bytes));
        }
        seen
    }
}

fn text_of(all: &[(u32, Bytes)], wanted: u32) -> Vec<u8> {
    all.iter()
        .filter(|(payload_type, _)| *payload_type == wanted)
        .flat_map(|(_, bytes)| bytes.to_vec())
        .collect()
}

fn command(command: &str, separate_output: bool) -> SessionKind {
    SessionKind::NonInteractive {
        command: command.to_owned(),
        separate_output,
        stdout_prefix: String::new(),
        stderr_prefix: String::new(),
    }
}

fn port(port: u16, port_type: Option<&str>) -> SessionKind {
    SessionKind::Port {
        host: None,
        port,
        port_type: port_type.map(str::to_owned),
        properties: serde_json::json!({ "portNumber": port.to_string() }),
    }
}

#[tokio::test]
async fn a_shell_has_a_terminal_with_the_size_it_was_given_and_ends_by_itself() {
    let mut client = Client::start(SessionKind::Shell {
        command: Some("stty size; read x; stty size; echo got $x".to_owned()),
    });
    client.until("0 0").await;
    client
        .send(payload::SIZE, r#"{"cols":132,"rows":50}"#)
        .await;
    client.send(payload::OUTPUT, "word\r").await;
    client.until("50 132").await;
    let (_, closing) = client.finish().await;
    assert_eq!(closing, Closing::default());
}

#[tokio::test]
async fn the_users_shell_shows_the_instances_prompt() {
    let mut client = Client::start(SessionKind::Shell { command: None });
    let seen = client.until("web-1").await;
    assert!(seen.contains("$ "), "{seen:?}");
    client
        .send(payload::OUTPUT, "echo $((6*7))-$HOSTNAME; exit\r")
        .await;
    client.until("42-web-1").await;
    assert_eq!(client.finish().await.1, Closing::default());
}

#[tokio::test]
async fn separated_output_comes_apart_with_the_exit_code_last() {
    let mut client = Client::start(command(
        r#"sh -c 'echo out; echo err >&2; printf "\357\277\275end"; exit 3'"#,
        true,
    ));
    client.shake_hands("1.2.764.0").await;
    let (all, closing) = client.finish().await;
    assert_eq!(text_of(&all, payload::OUTPUT), b"out\n\xEFend");
    assert_eq!(text_of(&all, payload::STDERR), b"err\n");
    assert_eq!(
        all.last().unwrap(),
        &(payload::EXIT_CODE, Bytes::from_static(b"EXIT_CODE: 3"))
    );
    assert_eq!(closing, Closing::default());
}

#[tokio::test]
async fn joined_output_has_no_exit_code() {
    let mut client = Client::start(command("sh -c 'echo out; echo err >&2; exit 3'", false));
    client.shake_hands("1.2.764.0").await;
    let (all, _) = client.finish().await;
    assert_eq!(all, [(payload::OUTPUT, Bytes::from_static(b"out\nerr\n"))]);
}

#[tokio::test]
async fn an_interrupt_ends_a_command_with_exit_code_1() {
    let mut client = Client::start(command("sleep 30", true));
    client.shake_hands("1.2.764.0").await;
    client
        .send(payload::SIZE, r#"{"cols":120,"rows":40}"#)
        .await;
    client.send(payload::OUTPUT, "\x03").await;
    let (all, _) = client.finish().await;
    assert_eq!(
        all,
        [(payload::EXIT_CODE, Bytes::from_static(b"EXIT_CODE: 1"))]
    );
}

#[tokio::test]
async fn a_command_that_is_not_there_says_so_on_both_ways() {
    let mut client = Client::start(command("no-such-program-here", true));
    client.shake_hands("1.2.764.0").await;
    let (all, closing) = client.finish().await;
    assert_eq!(all[0].1, "EXIT_CODE: 1");
    assert!(
        String::from_utf8_lossy(&text_of(&all, payload::STDERR))
            .contains("executable file not found")
    );
    assert!(closing.output.contains("no-such-program-here"));
}

#[tokio::test]
async fn an_old_client_is_told_to_update_for_separated_output() {
    let mut client = Client::start(command("true", true));
    client.next().await.unwrap();
    client
        .send(
            payload::HANDSHAKE_RESPONSE,
            r#"{"ClientVersion":"1.2.295.0","ProcessedClientActions":null,"Errors":null}"#,
        )
        .await;
    let (_, complete) = client.next().await.unwrap();
    // 1.2.295.0 has one part more than the threshold, so it counts as newer.
    assert!(String::from_utf8_lossy(&complete).contains(r#""CustomerMessage":"""#));
    client.finish().await;
}

#[tokio::test]
async fn a_failed_action_ends_the_session_with_its_text() {
    let mut client = Client::start(port(1, None));
    client.next().await.unwrap();
    let response = r#"{"ClientVersion":"1.2.764.0","ProcessedClientActions":[{"ActionType":"SessionType","ActionStatus":2,"ActionResult":null,"Error":"no"}],"Errors":["no"]}"#;
    client.send(payload::HANDSHAKE_RESPONSE, response).await;
    let (_, closing) = client.finish().await;
    assert_eq!(
        closing.output,
        "Encountered error while initiating handshake. SessionType failed on client with status 2 error: no"
    );
}

#[tokio::test]
async fn a_message_without_acknowledgement_is_sent_again_byte_for_byte() {
    let mut client = Client::start(port(1, None));
    let first = client.from_agent.recv().await.unwrap();
    let second = client.from_agent.recv().await.unwrap();
    assert_eq!(first, second);
    client.cancel.cancel();
}

#[tokio::test]
async fn input_before_the_handshake_is_acknowledged_and_lost() {
    let mut client = Client::start(command("cat", true));
    client.send(payload::OUTPUT, "\x03").await;
    client.shake_hands("1.2.764.0").await;
    // Had the interrupt not been lost the exit code would be 1.
    let (all, _) = client.finish().await;
    assert_eq!(
        all,
        [(payload::EXIT_CODE, Bytes::from_static(b"EXIT_CODE: 0"))]
    );
}

#[tokio::test]
async fn early_and_repeated_input_is_acknowledged_and_delivered_once_in_order() {
    let mut client = Client::start(SessionKind::Interactive {
        command: "stty -echo; echo go; read a; read b; echo $a-$b".to_owned(),
    });
    client.until("go").await;
    client.send_as(1, payload::OUTPUT, "two\n").await;
    client.send_as(1, payload::OUTPUT, "two\n").await;
    client.send_as(0, payload::OUTPUT, "one\n").await;
    client.send_as(0, payload::OUTPUT, "one\n").await;
    client.until("one-two").await;
    assert_eq!(client.acknowledged, [1, 1, 0, 0]);
}

#[tokio::test]
async fn a_second_handshake_response_makes_the_agent_deaf() {
    let mut client = Client::start(command("sleep 30", true));
    client.shake_hands("1.2.764.0").await;
    client.send(payload::HANDSHAKE_RESPONSE, "{}").await;
    client.send(payload::OUTPUT, "\x03").await;
    client.cancel.cancel();
    let (all, closing) = client.finish().await;
    assert_eq!((all.len(), closing), (0, Closing::default()));
}

#[tokio::test]
async fn output_of_a_detached_client_is_kept_and_repaired() {
    let mut client = Client::start(SessionKind::Interactive {
        command: "stty -echo; echo go; read a; echo back".to_owned(),
    });
    client.until("go").await;
    client.publication.send_replace(true);
    client.send(payload::OUTPUT, "x\n").await;
    client.publication.send_replace(false);
    client.until("back").await;
}

#[tokio::test]
async fn a_raw_port_session_carries_bytes_and_ends_with_its_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = Client::start(port(listener.local_addr().unwrap().port(), None));
    let request = client.shake_hands("1.2.764.0").await;
    assert_eq!(
        request["RequestedClientActions"][0]["ActionParameters"]["SessionType"],
        "Port"
    );
    let (mut service, _) = listener.accept().await.unwrap();
    client.send(payload::OUTPUT, "hello").await;
    let mut got = [0; 5];
    service.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"hello");
    let sent: Vec<u8> = (0..20_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    service.write_all(&sent).await.unwrap();
    drop(service);
    let (all, closing) = client.finish().await;
    assert!(all.iter().all(|(_, bytes)| bytes.len() <= 1024));
    assert_eq!(text_of(&all, payload::OUTPUT), sent);
    assert_eq!(closing, Closing::default());
}

/// A socket that has a port and does not listen, and that port: it refuses connections while the
/// socket is held.
fn closed_port() -> (TcpSocket, u16) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

#[tokio::test]
async fn a_refused_raw_port_kills_the_agents_worker_which_cannot_say_why() {
    let (_closed, number) = closed_port();
    let mut client = Client::start(port(number, None));
    client.shake_hands("1.2.764.0").await;
    let (_, closing) = client.finish().await;
    assert!(
        closing.output.starts_with(
            "document process failed unexpectedly: ipc messaging received timeout signal"
        ),
        "{closing:?}"
    );
}

#[tokio::test]
async fn an_old_agent_connects_again_when_input_arrives() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = Client::with_version(
        port(
            listener.local_addr().unwrap().port(),
            Some("LocalPortForwarding"),
        ),
        "3.0.196.0",
    );
    client.shake_hands("1.2.764.0").await;
    let (first, _) = listener.accept().await.unwrap();
    client
        .send(payload::FLAG, Bytes::from_static(&[0, 0, 0, 1]))
        .await;
    drop(first);
    // Refused, without an acknowledgement, until the agent has noticed: then a client sends again.
    let number = client.next_number;
    client.next_number += 1;
    let mut second = loop {
        client.send_as(number, payload::OUTPUT, "again").await;
        if let Ok(accepted) =
            tokio::time::timeout(std::time::Duration::from_millis(200), listener.accept()).await
        {
            break accepted.unwrap().0;
        }
    };
    let mut got = [0; 5];
    second.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"again");
    client
        .send(payload::FLAG, Bytes::from_static(&[0, 0, 0, 2]))
        .await;
    let last = client.next_number - 1;
    while client.next().await.is_some() {}
    assert_eq!(client.acknowledged.last(), Some(&last));
    assert_eq!(client.agent.await.unwrap(), Closing::default());
}

#[tokio::test]
async fn the_metadata_service_is_forbidden() {
    let mut kind = port(80, Some("LocalPortForwarding"));
    if let SessionKind::Port { host, .. } = &mut kind {
        *host = Some("169.254.169.254".to_owned());
    }
    let mut client = Client::start(kind);
    client.shake_hands("1.2.764.0").await;
    assert_eq!(
        client.finish().await.1.output,
        "Forwarding to IP address 169.254.169.254 is forbidden."
    );
}

/// Smux frames as the client of the recorded conversations writes them.
fn smux(command: u8, stream: u32, data: &[u8]) -> Vec<u8> {
    let mut frame = vec![1, command];
    frame.extend_from_slice(&u16::try_from(data.len()).unwrap().to_le_bytes());
    frame.extend_from_slice(&stream.to_le_bytes());
    frame.extend_from_slice(data);
    frame
}

const SYN: u8 = 0;
const FIN: u8 = 1;
const PSH: u8 = 2;

#[tokio::test]
async fn streams_are_connections_and_a_close_is_answered_by_a_close() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let number = listener.local_addr().unwrap().port();
    let mut client = Client::start(port(number, Some("LocalPortForwarding")));
    client.shake_hands("1.2.764.0").await;
    for stream in [3, 5] {
        client.send_until_taken(smux(SYN, stream, b"")).await;
        let (mut service, _) = listener.accept().await.unwrap();
        client
            .send(payload::OUTPUT, smux(PSH, stream, b"ping"))
            .await;
        let mut got = [0; 4];
        service.read_exact(&mut got).await.unwrap();
        service.write_all(b"pong").await.unwrap();
        assert_eq!(client.next().await.unwrap().1, smux(PSH, stream, b"pong"));
        client.send(payload::OUTPUT, smux(FIN, stream, b"")).await;
        assert_eq!(client.next().await.unwrap().1, smux(FIN, stream, b""));
        assert_eq!(service.read(&mut got).await.unwrap(), 0);
    }
    client
        .send(payload::FLAG, Bytes::from_static(&[0, 0, 0, 2]))
        .await;
    assert_eq!(client.finish().await, (vec![], Closing::default()));
}

#[tokio::test]
async fn a_service_that_sends_and_closes_is_heard_to_the_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let number = listener.local_addr().unwrap().port();
    let mut client = Client::start(port(number, Some("LocalPortForwarding")));
    client.shake_hands("1.2.764.0").await;
    client.send_until_taken(smux(SYN, 3, b"")).await;
    let (mut service, _) = listener.accept().await.unwrap();
    let sent: Vec<u8> = (0..20_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    service.write_all(&sent).await.unwrap();
    drop(service);
    let mut carried = Vec::new();
    while !carried.ends_with(&smux(FIN, 3, b"")) {
        let (payload_type, bytes) = client.next().await.unwrap();
        assert_eq!(payload_type, payload::OUTPUT);
        assert!(bytes.len() <= 1024);
        carried.extend_from_slice(&bytes);
    }
    assert_eq!(unframed(&carried), sent);
}

/// The data of one stream.
fn unframed(mut carried: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    while let Some((header, rest)) = carried.split_first_chunk::<8>() {
        let len = usize::from(u16::from_le_bytes([header[2], header[3]]));
        data.extend_from_slice(&rest[..len]);
        carried = &rest[len..];
    }
    data
}

#[tokio::test]
async fn a_refused_stream_is_flagged_then_closed_and_the_session_goes_on() {
    let (_closed, number) = closed_port();
    let mut client = Client::start(port(number, Some("LocalPortForwarding")));
    client.shake_hands("1.2.764.0").await;
    for stream in [3, 5] {
        client.send_until_taken(smux(SYN, stream, b"")).await;
        let flag = client.next().await.unwrap();
        assert_eq!(flag, (payload::FLAG, Bytes::from_static(&[0, 0, 0, 3])));
        assert_eq!(client.next().await.unwrap().1, smux(FIN, stream, b""));
    }
}

#[tokio::test]
async fn what_is_not_smux_ends_the_session() {
    let mut client = Client::start(port(1, Some("LocalPortForwarding")));
    client.shake_hands("1.2.764.0").await;
    client.send_until_taken(vec![9; 8]).await;
    assert_eq!(client.finish().await, (vec![], Closing::default()));
}
