//! What the official agent does that nobody would build on purpose, and that a client has to live
//! with.

use std::{io::Write as _, time::Duration};

use bytes::Bytes;
use rustix::fs::{CWD, FileType, Mode};
use tokio::{io::AsyncWriteExt as _, net::TcpListener, time::Instant};

use super::{Client, Closing, Message, SessionKind, command, frame, payload, port, text_of};
use crate::{Pace, data_keys::AgentKms};

impl Client {
    /// Tells the agent that the client is away, in order with everything else it is sent, and waits
    /// until it has heard.
    async fn detach(&self) {
        let pause = Message {
            message_type: frame::PAUSE_PUBLICATION.into(),
            sequence_number: 0,
            flags: 0,
            message_id: uuid::Uuid::nil(),
            payload_type: 0,
            payload: Bytes::new(),
        };
        self.to_agent.send(pause.encode()).await.unwrap();
        // Frames that are none are dropped. When the second is taken, what came before the first
        // has been handled.
        for _ in 0..2 {
            self.to_agent.send(Bytes::new()).await.unwrap();
        }
        while self.to_agent.capacity() < self.to_agent.max_capacity() {
            tokio::task::yield_now().await;
        }
    }

    fn make_fifo(&self) -> std::path::PathBuf {
        let home = self.state.path().join("web-1/home");
        std::fs::create_dir_all(&home).unwrap();
        let path = home.join("fifo");
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        path
    }
}

#[tokio::test]
async fn separated_output_is_lost_once_the_client_was_away_and_so_is_the_exit_code() {
    let mut client = Client::start(command("sh -c 'echo one; cat fifo; exit 3'", true));
    let fifo = client.make_fifo();
    client.shake_hands("1.2.764.0").await;
    client.until("one\n").await;
    // The writer's end opens when `cat` has opened its own.
    let open = std::fs::OpenOptions::new().write(true).open(fifo);
    let mut fifo = open.unwrap();
    client.detach().await;
    fifo.write_all(b"two\n").unwrap();
    drop(fifo);
    let started = Instant::now();
    let (all, closing) = client.finish().await;
    assert_eq!((all, closing), (vec![], Closing::default()));
    // What was read and could not be sent is waited for, for two seconds.
    assert!(started.elapsed() >= Duration::from_secs(2));
}

#[tokio::test]
async fn a_shell_waits_for_a_client_that_is_away() {
    let mut client = Client::start(SessionKind::Interactive {
        command: "echo one; cat fifo".to_owned(),
    });
    let fifo = client.make_fifo();
    client.until("one\r\n").await;
    let mut fifo = std::fs::OpenOptions::new().write(true).open(fifo).unwrap();
    client.detach().await;
    fifo.write_all(b"two\n").unwrap();
    drop(fifo);
    client.publication.send_replace(true);
    client.publication.send_replace(false);
    client.until("two\r\n").await;
    assert_eq!(client.finish().await.1, Closing::default());
}

#[tokio::test]
async fn at_the_real_pace_a_terminal_is_silent_for_a_second_and_output_trickles() {
    let kind = SessionKind::Interactive {
        command: "stty raw; head -c 100000 /dev/zero | tr '\\000' x".to_owned(),
    };
    let started = Instant::now();
    let mut client = Client::with(kind, |spec| spec.pace = Pace::Real);
    let (payload_type, first) = client.next().await.unwrap();
    assert_eq!(payload_type, payload::OUTPUT);
    assert!(started.elapsed() >= Duration::from_secs(1));
    let (rest, _) = client.finish().await;
    let len = first.len() + text_of(&rest, payload::OUTPUT).len();
    assert_eq!(len, 100_000);
    assert!(rest.iter().all(|(_, bytes)| bytes.len() <= 1024));
    // One payload of at most 1,024 bytes a millisecond.
    assert!(started.elapsed() >= Duration::from_millis(1000 + 97));
}

#[tokio::test]
async fn at_the_real_pace_separated_output_is_not_slowed() {
    let kind = command("head -c 3000000 /dev/zero", true);
    let mut client = Client::with(kind, |spec| spec.pace = Pace::Real);
    client.shake_hands("1.2.764.0").await;
    let (all, _) = client.finish().await;
    assert_eq!(text_of(&all, payload::OUTPUT).len(), 3_000_000);
    assert_eq!(all.last().unwrap().1, "EXIT_CODE: 0");
}

#[tokio::test]
async fn an_incomplete_character_at_the_end_is_never_sent() {
    let mut client = Client::start(command(r#"printf 'end\303'"#, true));
    client.shake_hands("1.2.764.0").await;
    let (all, _) = client.finish().await;
    assert_eq!(text_of(&all, payload::OUTPUT), b"end");
}

#[tokio::test]
async fn prefixes_stand_in_front_of_pieces_that_begin_a_line() {
    let mut kind = command("sh -c 'echo out; echo err >&2'", true);
    if let SessionKind::NonInteractive {
        stdout_prefix,
        stderr_prefix,
        ..
    } = &mut kind
    {
        "OUT:".clone_into(stdout_prefix);
        "ERR:".clone_into(stderr_prefix);
    }
    let mut client = Client::start(kind.clone());
    client.shake_hands("1.2.764.0").await;
    let (all, _) = client.finish().await;
    assert_eq!(text_of(&all, payload::OUTPUT), b"OUT:out\n");
    assert_eq!(text_of(&all, payload::STDERR), b"ERR:err\n");
    if let SessionKind::NonInteractive { stdout_prefix, .. } = &mut kind {
        "no blanks".clone_into(stdout_prefix);
    }
    let mut client = Client::start(kind);
    client.shake_hands("1.2.764.0").await;
    let closing = client.finish().await.1;
    assert_eq!(closing.output, "invalid stdoutSeparatorPrefix no blanks");
}

#[tokio::test]
async fn an_agent_before_the_flag_for_it_does_not_end_on_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let number = listener.local_addr().unwrap().port();
    let kind = port(number, Some("LocalPortForwarding"));
    let mut client = Client::with_version(kind, "2.3.600.0");
    client.shake_hands("1.2.764.0").await;
    let (mut service, _) = listener.accept().await.unwrap();
    client.send(payload::FLAG, vec![0, 0, 0, 2]).await;
    service.write_all(b"still here").await.unwrap();
    client.until("still here").await;
    assert_eq!(client.acknowledged, [0, 1]);
    client.cancel.cancel();
    assert_eq!(client.finish().await.1, Closing::default());
}

/// What the parameter for separated output comes to with an agent of this version.
async fn separated_with(agent_version: &str) -> (Vec<(u32, Bytes)>, Closing) {
    let kind = command("sh -c 'echo out; echo err >&2'", true);
    let mut client = Client::with_version(kind, agent_version);
    client.shake_hands("1.2.764.0").await;
    client.finish().await
}

#[tokio::test]
async fn an_agent_before_separated_output_ignores_the_parameter() {
    for version in ["3.0.1124.0", "3.1.1188.0", "3.1.1510.0"] {
        let (all, closing) = separated_with(version).await;
        assert_eq!(text_of(&all, payload::OUTPUT), b"out\nerr\n", "{version}");
        assert!(all.iter().all(|(kind, _)| *kind == payload::OUTPUT));
        assert_eq!(closing, Closing::default());
    }
    for version in ["3.1.1511.0", "3.2.2086.0", "3.3.987.0"] {
        let (all, _) = separated_with(version).await;
        assert_eq!(text_of(&all, payload::OUTPUT), b"out\n", "{version}");
        assert_eq!(text_of(&all, payload::STDERR), b"err\n", "{version}");
        assert_eq!(all.last().unwrap().1, "EXIT_CODE: 0");
    }
}

#[tokio::test]
async fn an_agent_before_commands_without_a_terminal_says_that_it_is_too_old() {
    let client = Client::with_version(command("true", true), "3.0.1123.0");
    // It does not come to a handshake.
    let (all, closing) = client.finish().await;
    assert_eq!(all, []);
    assert_eq!(
        closing.output,
        "Plugin with name NonInteractiveCommands is not supported by this version of ssm agent, please update to latest version. Step name: NonInteractiveCommands"
    );
}

#[tokio::test]
async fn an_agent_before_3_3_987_keeps_the_output_of_a_session_on_its_disk() {
    // Of any version where the account logs sessions.
    for (version, is_logged, keeps) in [
        ("3.3.986.0", false, true),
        ("3.3.987.0", false, false),
        ("3.3.987.0", true, true),
    ] {
        let kind = command("echo for ever", true);
        let mut client = Client::with(kind, |spec| {
            spec.agent_version = version.to_owned();
            spec.is_logged = is_logged;
        });
        client.shake_hands("1.2.764.0").await;
        client.until("for ever\n").await;
        let folder = client.state.path().join("web-1/var/lib/amazon/ssm");
        let file = folder.join("session/orchestration/me-0123/ipcTempFile.log");
        let kept = std::fs::read(file).ok();
        assert_eq!(kept.as_deref(), keeps.then_some(&b"for ever\n"[..]));
    }
}

#[tokio::test]
async fn an_old_client_gets_a_single_connection_from_a_new_agent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let number = listener.local_addr().unwrap().port();
    let mut client = Client::start(port(number, Some("LocalPortForwarding")));
    client.shake_hands("1.1.69.0").await;
    let (mut service, _) = listener.accept().await.unwrap();
    service.write_all(b"greeting").await.unwrap();
    // Bare, without frames of the multiplexer.
    assert_eq!(client.next().await.unwrap().1, "greeting");
    client.cancel.cancel();
}

#[tokio::test]
async fn a_frame_that_ends_inside_its_header_makes_the_agent_deaf() {
    let mut client = Client::start(SessionKind::Interactive {
        command: "echo go; sleep 30".to_owned(),
    });
    client.until("go").await;
    let whole = Message {
        message_type: frame::INPUT_STREAM_DATA.into(),
        sequence_number: 0,
        flags: 0,
        message_id: uuid::Uuid::nil(),
        payload_type: payload::OUTPUT,
        payload: Bytes::from_static(b"\x03"),
    };
    let broken = whole.encode().slice(..117);
    client.to_agent.send(broken).await.unwrap();
    client.send(payload::OUTPUT, "\x03").await;
    client.cancel.cancel();
    let state = (client.acknowledged.clone(), client.finish().await.1);
    assert_eq!(state, (vec![], Closing::default()));
}

#[tokio::test]
async fn a_session_with_a_key_asks_for_encryption_and_says_who_failed() {
    let kind = SessionKind::Shell { command: None };
    let mut client = Client::with(kind, |spec| {
        spec.encryption = Some(AgentKms::of_test(
            "arn:aws:kms:eu-west-1:111122223333:key/1",
        ));
    });
    let (payload_type, request) = client.next().await.unwrap();
    assert_eq!(payload_type, payload::HANDSHAKE_REQUEST);
    let request: serde_json::Value = serde_json::from_slice(&request).unwrap();
    let action = &request["RequestedClientActions"][1];
    assert_eq!(action["ActionType"], "KMSEncryption");
    let response = serde_json::json!({
        "ClientVersion": "1.2.764.0",
        "ProcessedClientActions": [
            {"ActionType": "SessionType", "ActionStatus": 1, "ActionResult": null, "Error": ""},
            {"ActionType": "KMSEncryption", "ActionStatus": 3, "ActionResult": null, "Error": "no KMS here"},
        ],
        "Errors": ["no KMS here"],
    });
    client
        .send(payload::HANDSHAKE_RESPONSE, response.to_string())
        .await;
    assert_eq!(
        client.finish().await.1.output,
        "Encountered error while initiating handshake. KMSEncryption failed on client with status 3 error: no KMS here"
    );
}

#[tokio::test]
async fn bytes_before_there_is_a_key_make_the_agent_deaf() {
    let kind = SessionKind::Shell { command: None };
    let mut client = Client::with(kind, |spec| {
        spec.encryption = Some(AgentKms::of_test("key"));
    });
    client.next().await.unwrap();
    client.send(payload::OUTPUT, "typed too early").await;
    client.send(payload::HANDSHAKE_RESPONSE, "{}").await;
    client.cancel.cancel();
    let state = (client.acknowledged.clone(), client.finish().await.1);
    assert_eq!(state, (vec![], Closing::default()));
}

#[tokio::test]
async fn a_terminated_session_kills_what_it_ran() {
    let mut client = Client::start(command("sh -c 'echo $$; exec sleep 1000'", true));
    client.shake_hands("1.2.764.0").await;
    let process = client.until("\n").await.trim().parse().unwrap();
    client.cancel.cancel();
    assert_eq!(client.finish().await, (vec![], Closing::default()));
    let process = rustix::process::Pid::from_raw(process).unwrap();
    // Killed with the session; it may take a moment to be gone.
    while rustix::process::test_kill_process(process).is_ok() {
        tokio::task::yield_now().await;
    }
}
