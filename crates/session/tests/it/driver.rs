//! The tokio driver against a service on loopback. Nothing here waits for time to pass; limits only
//! end a test that hangs.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use ops_session::closing::Closing;
use ops_session::data_channel::ChannelError;
use ops_session::driver::{self, Event, Events, OpenError, Options, SessionEnded, SessionError};
use ops_session::handshake::SessionType;
use ops_session::wire::{
    ChannelClosed, Flag, Message as Decoded, MessageType, PayloadType, exit_code_payload,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::Message;

use crate::agent::AgentEvent;
use crate::channel::frame;
use crate::link::{ms, port_request};
use crate::server::{Agent, Server, opening, options, soon};

/// Longer than any loopback needs to move what is under way, when a test has to see that nothing
/// moves any more. Too short a time makes such a test weaker, never wrong.
const A_WHILE: Duration = Duration::from_millis(200);

pub(crate) async fn next(events: &mut Events) -> Event {
    soon(events.next()).await.expect("the session has ended")
}

pub(crate) async fn output(events: &mut Events, len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < len {
        match next(events).await {
            Event::Output(more) => bytes.extend_from_slice(&more),
            other => panic!("instead of output: {other:?}"),
        }
    }
    bytes
}

fn closed(output: &str) -> Bytes {
    let body = ChannelClosed {
        output: output.to_owned(),
        ..ChannelClosed::default()
    };
    frame(
        MessageType::ChannelClosed,
        0,
        PayloadType::None,
        &body.payload(),
    )
}

#[tokio::test]
async fn the_opening_names_token_ids_and_version_and_carries_the_signed_headers() {
    let server = Server::start().await;
    let (_session, far) = server.open(options()).await;
    assert_eq!(
        far.path,
        "/v1/data-channel/session-1?role=publish_subscribe&cell-number=AA%2B%2F=="
    );
    assert_eq!(far.headers["x-signed"], "1");
    assert!(!far.headers.contains_key("sec-websocket-extensions"));
    let keys: Vec<_> = far.open.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "MessageSchemaVersion",
            "RequestId",
            "TokenValue",
            "ClientId",
            "ClientVersion"
        ]
    );
    assert_eq!(far.open["MessageSchemaVersion"], "1.0");
    assert_eq!(far.open["TokenValue"], "token-1");
    assert_eq!(
        far.open["ClientVersion"],
        Options::default().client_version.as_str()
    );
    for id in ["RequestId", "ClientId"] {
        let id = uuid::Uuid::parse_str(far.open[id].as_str().unwrap()).unwrap();
        assert_eq!(id.get_version_num(), 4);
    }
}

#[tokio::test]
async fn a_port_session_is_ready_after_its_handshake_and_carries_bytes_both_ways() {
    let server = Server::start().await;
    let (mut session, far) = server.open(options()).await;
    let mut agent = Agent::new(far);
    agent
        .channel
        .start_handshake(Duration::ZERO, &port_request());
    session.sender.send(&b"input"[..]).await.unwrap();
    agent.receive(5).await;
    assert_eq!(agent.received, b"input");
    let Event::Ready(ready) = next(&mut session.events).await else {
        panic!("no Ready");
    };
    assert_eq!(ready.session_type, Some(SessionType::Port));
    assert_eq!(ready.properties["type"], "LocalPortForwarding");
    assert!(ready.agent_version.unwrap().speaks_mux());
    agent.channel.send(PayloadType::Output, &b"output"[..]);
    agent.flush().await;
    assert_eq!(output(&mut session.events, 6).await, b"output");
}

#[tokio::test]
async fn streams_flags_and_exit_codes_are_events_of_their_own() {
    let server = Server::start().await;
    let (mut session, mut agent) = server.shell(options()).await;
    agent.channel.send(PayloadType::StdErr, &b"oops"[..]);
    agent
        .channel
        .send(PayloadType::Flag, Flag::ConnectToPortError.payload());
    agent
        .channel
        .send(PayloadType::ExitCode, exit_code_payload(-1));
    agent.flush().await;
    let events = &mut session.events;
    assert_eq!(
        next(events).await,
        Event::Stderr(Bytes::from_static(b"oops"))
    );
    assert_eq!(next(events).await, Event::Flag(3));
    assert_eq!(next(events).await, Event::ExitCode(-1));
    session.sender.send_size(100, 30).await.unwrap();
    session
        .sender
        .send_flag(Flag::TerminateSession)
        .await
        .unwrap();
    let AgentEvent::Data { payload, .. } = agent.event().await else {
        panic!("no size");
    };
    assert_eq!(payload, r#"{"cols":100,"rows":30}"#);
    let AgentEvent::Data { payload, .. } = agent.event().await else {
        panic!("no flag");
    };
    assert_eq!(Flag::parse(&payload), Some(Flag::TerminateSession));
}

#[tokio::test]
async fn output_that_waits_for_its_reader_keeps_nothing_but_its_own_bytes() {
    let server = Server::start().await;
    let (mut session, mut agent) = server.shell(options()).await;
    // Small ones, each cut out of what was read from the socket at once.
    agent.channel.send(PayloadType::Output, &b"a"[..]);
    agent.channel.send(PayloadType::StdErr, &b"b"[..]);
    agent.flush().await;
    for _ in 0..2 {
        let (Event::Output(bytes) | Event::Stderr(bytes)) = next(&mut session.events).await else {
            panic!("no output");
        };
        assert!(bytes.is_unique(), "a buffer is held for {bytes:?}");
    }
}

#[tokio::test]
async fn channel_closed_ends_the_session_without_a_resumption() {
    let server = Server::start().await;
    let (mut session, mut agent) = server.shell(options()).await;
    agent.far.send(closed("Session timed out")).await;
    assert_eq!(
        next(&mut session.events).await,
        Event::Closed(Closing::of("Session timed out"))
    );
    assert_eq!(soon(session.events.next()).await, None);
    assert_eq!(session.sender.send(&b"x"[..]).await, Err(SessionEnded));
    assert_eq!(session.sender.drained().await, Err(SessionEnded));
    assert_eq!(server.service.resumed.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn the_end_of_a_session_is_heard_though_the_service_hangs_up_with_input_unread() {
    // Whether the driver writes or reads first is left to chance.
    for _ in 0..30 {
        let server = Server::start().await;
        let (mut session, mut agent) = server.shell(options()).await;
        session.sender.send(&b"unread"[..]).await.unwrap();
        let mut header = [0; 1];
        let peeked = agent.far.socket.get_ref().peek(&mut header);
        assert_eq!(soon(peeked).await.unwrap(), 1);
        agent.far.send(closed("Session timed out")).await;
        // With bytes unread a close is a reset.
        drop(agent);
        session.sender.send(&b"in vain"[..]).await.unwrap();
        assert_eq!(
            next(&mut session.events).await,
            Event::Closed(Closing::of("Session timed out"))
        );
        assert_eq!(server.service.resumed.load(Ordering::SeqCst), 0);
    }
}

#[tokio::test]
async fn a_stopped_reader_holds_the_agent_back_and_loses_nothing() {
    const PIECE: usize = 16 << 10;
    const TOTAL: usize = 64 << 20;
    let server = Server::start().await;
    let bound = 256 << 10;
    let (mut session, mut agent) = server
        .shell(Options {
            receive_bound: bound,
            ping_every: Duration::from_millis(10),
            // The connection says nothing for longer than this while it is not read.
            dead_after: A_WHILE / 4,
            ..options()
        })
        .await;
    let payload = |n: usize| Bytes::from(vec![n as u8; PIECE]);
    let message = |n: usize| {
        frame(
            MessageType::OutputStreamData,
            n as i64 + 1,
            PayloadType::Output,
            &payload(n),
        )
    };
    // Until the socket takes no more.
    let mut sent = 0;
    while sent < TOTAL / PIECE {
        let send = agent.far.socket.send(Message::Binary(message(sent)));
        sent += 1;
        if tokio::time::timeout(A_WHILE, send).await.is_err() {
            break;
        }
    }
    assert!(
        sent < TOTAL / PIECE / 2,
        "the agent was not held back: {sent} messages"
    );
    let taken = session.sender.stats().bytes_in as usize;
    assert!(
        taken <= bound + (512 << 10),
        "{taken} bytes wait for the reader"
    );

    let (mut sink, mut stream) = agent.far.socket.split();
    let send = async {
        sink.flush().await.unwrap();
        for n in sent..TOTAL / PIECE {
            sink.send(Message::Binary(message(n))).await.unwrap();
        }
    };
    let read = async {
        let mut got = 0;
        while got < TOTAL {
            match next(&mut session.events).await {
                Event::Output(bytes) => {
                    assert_eq!(bytes, payload(got / PIECE));
                    got += bytes.len();
                }
                other => panic!("{other:?}"),
            }
        }
    };
    let take_acks = async { while let Some(Ok(_)) = stream.next().await {} };
    tokio::select! {
        _ = futures_util::future::join(send, soon(read)) => {}
        () = take_acks => panic!("the client has left"),
    }
}

#[tokio::test]
async fn a_far_end_that_takes_nothing_holds_the_sender_back() {
    let server = Server::start().await;
    let (session, far) = server
        .open(Options {
            send_bound: 64 << 10,
            ..options()
        })
        .await;
    // No handshake and no output: input waits.
    let mut sent = 0;
    let input = Bytes::from(vec![b'x'; 1000]);
    while tokio::time::timeout(A_WHILE, session.sender.send(input.clone()))
        .await
        .is_ok()
    {
        sent += input.len();
        assert!(sent <= 64 << 10, "nothing holds the sender back");
    }
    let mut agent = Agent::new(far);
    agent.channel.send(PayloadType::Output, &b"$ "[..]);
    agent.receive(sent).await;
    soon(session.sender.send(input)).await.unwrap();
}

#[tokio::test]
async fn drained_means_that_the_agent_has_acknowledged() {
    let server = Server::start().await;
    let (session, mut agent) = server.shell(options()).await;
    session.sender.send(vec![b'x'; 100_000]).await.unwrap();
    let (drained, ()) = tokio::join!(soon(session.sender.drained()), agent.receive(100_000));
    assert_eq!(drained, Ok(()));
    assert_eq!(agent.received.len(), 100_000);
}

#[tokio::test]
async fn the_round_trip_is_measured_to_when_the_acknowledgement_comes() {
    const DELAY: Duration = Duration::from_millis(20);
    let server = Server::start().await;
    let (mut session, mut agent) = server.shell(options()).await;
    for n in 1..=16 {
        session.sender.send(&b"x"[..]).await.unwrap();
        // The agent's program is slow; the estimate starts above that, and would sink below it with
        // shorter samples.
        soon(agent.far.socket.get_ref().readable()).await.unwrap();
        tokio::time::sleep(DELAY).await;
        agent.receive(n).await;
        agent.channel.send(PayloadType::Output, &b"x"[..]);
        agent.flush().await;
        output(&mut session.events, 1).await;
    }
    assert!(session.sender.stats().rtt >= DELAY);
}

#[tokio::test]
async fn what_nobody_understands_is_skipped() {
    let server = Server::start().await;
    let (mut session, mut agent) = server.shell(options()).await;
    let mut unknown = [b' '; 32];
    unknown[..11].copy_from_slice(b"new_message");
    for odd in [
        Message::Binary(Bytes::new()),
        Message::Binary(Bytes::from_static(b"\0\0\0\x74short")),
        Message::Binary(frame(
            MessageType::Other(unknown),
            0,
            PayloadType::Output,
            b"x",
        )),
        Message::Binary(frame(
            MessageType::OutputStreamData,
            1,
            PayloadType::Other(77),
            b"x",
        )),
        Message::Binary(frame(
            MessageType::Acknowledge,
            0,
            PayloadType::None,
            b"no json",
        )),
        Message::text("start_publication"),
        Message::text("{\"nobody\":\"knows\"}"),
        Message::Pong(Bytes::new()),
    ] {
        agent.far.socket.send(odd).await.unwrap();
    }
    agent
        .far
        .send(frame(
            MessageType::OutputStreamData,
            2,
            PayloadType::Output,
            b"after",
        ))
        .await;
    assert_eq!(output(&mut session.events, 5).await, b"after");
}

#[tokio::test]
async fn a_flood_of_garbage_is_survived() {
    let server = Server::start().await;
    let (mut session, mut agent) = server.shell(options()).await;
    let mut rng = fastrand::Rng::with_seed(3);
    let template = frame(MessageType::OutputStreamData, 5, PayloadType::Output, b"x");
    for _ in 0..2000 {
        let mut bytes = template.to_vec();
        for _ in 0..rng.usize(1..5) {
            let at = rng.usize(..bytes.len());
            // Not the number: a message that has it would be one in its turn.
            if !(48..56).contains(&at) {
                bytes[at] = rng.u8(..);
            }
        }
        bytes.truncate(rng.usize(..=bytes.len()));
        let message = if rng.bool() {
            Message::Binary(bytes.into())
        } else {
            Message::text(String::from_utf8_lossy(&bytes).into_owned())
        };
        agent.far.socket.feed(message).await.unwrap();
    }
    agent.far.socket.flush().await.unwrap();
    agent.channel.send(PayloadType::Output, &b"after"[..]);
    agent.flush().await;
    assert_eq!(output(&mut session.events, 5).await, b"after");
}

#[tokio::test]
async fn a_key_pressed_during_a_flood_of_output_reaches_the_agent() {
    let server = Server::start().await;
    let (mut session, mut agent) = server.shell(options()).await;
    let (mut sink, mut stream) = (&mut agent.far.socket).split();
    // As `yes` until Ctrl-C: it never ends by itself.
    let flood = async {
        for number in 1.. {
            let chunk = frame(
                MessageType::OutputStreamData,
                number,
                PayloadType::Output,
                &[b'y'; 1024],
            );
            sink.send(Message::Binary(chunk)).await.unwrap();
        }
    };
    let key = async {
        loop {
            let Some(Ok(Message::Binary(frame))) = stream.next().await else {
                continue;
            };
            let message = Decoded::decode(&frame).unwrap();
            if message.header.message_type == MessageType::InputStreamData {
                return message.payload.to_vec();
            }
        }
    };
    let user = async {
        let mut seen = 0;
        let mut pressed = false;
        loop {
            let Event::Output(bytes) = next(&mut session.events).await else {
                panic!("no output");
            };
            seen += bytes.len();
            if seen > 1 << 20 && !pressed {
                session.sender.send(&b"\x03"[..]).await.unwrap();
                pressed = true;
            }
        }
    };
    tokio::select! {
        key = soon(key) => assert_eq!(key, b"\x03"),
        () = flood => {}
        () = user => {}
    }
}

#[tokio::test]
async fn an_agent_that_falls_silent_is_reported_and_given_up_in_the_end() {
    let server = Server::start().await;
    let (mut session, agent) = server
        .shell(Options {
            give_up_after: ms(300),
            ..options()
        })
        .await;
    session.sender.send(&b"x"[..]).await.unwrap();
    // The socket is healthy, only nobody acknowledges.
    let (_sink, mut stream) = agent.far.socket.split();
    let service = async { while stream.next().await.is_some() {} };
    // The service outlives the session, whose closing frame it may see first.
    let (failed, ()) = tokio::join!(next(&mut session.events), soon(service));
    assert_eq!(
        failed,
        Event::Failed(SessionError::Channel(ChannelError::GaveUp(ms(300))))
    );
}

#[tokio::test]
async fn dropping_both_halves_closes_the_connection() {
    let server = Server::start().await;
    let (session, mut agent) = server.shell(options()).await;
    drop(session);
    while let Some(Ok(message)) = soon(agent.far.socket.next()).await {
        if message.is_close() {
            return;
        }
    }
    panic!("no closing frame");
}

#[tokio::test]
async fn close_sends_what_is_queued_and_ends_the_events() {
    let server = Server::start().await;
    let (mut session, mut agent) = server.shell(options()).await;
    session.sender.send(&b"exit\n"[..]).await.unwrap();
    session.sender.close();
    assert_eq!(soon(session.events.next()).await, None);
    agent.receive(5).await;
    assert_eq!(agent.received, b"exit\n");
}

#[tokio::test]
async fn a_refused_upgrade_is_explained_and_not_repeated() {
    let server = Server::start().await;
    let refuse = async {
        let mut stream = server.tcp().await;
        let mut head = [0; 2048];
        assert!(stream.read(&mut head).await.unwrap() > 0);
        let answer = "HTTP/1.1 403 Forbidden\r\nContent-Length: 17\r\n\r\ntoken \x1b[31mexpired";
        stream.write_all(answer.as_bytes()).await.unwrap();
    };
    let open = driver::open(opening(&server.url), server.service.clone(), options());
    let (opened, ()) = tokio::join!(soon(open), refuse);
    let Err(OpenError::Upgrade { status, body, .. }) = opened else {
        panic!("{opened:?}");
    };
    assert_eq!((status, body.as_str()), (403, "token [31mexpired"));
}

#[tokio::test]
async fn a_first_dial_that_may_succeed_later_is_repeated_with_the_same_token() {
    let server = Server::start().await;
    let serve = async {
        let mut stream = server.tcp().await;
        let mut head = [0; 2048];
        assert!(stream.read(&mut head).await.unwrap() > 0);
        let answer = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
        server.accept().await
    };
    let open = driver::open(opening(&server.url), server.service.clone(), options());
    let (opened, far) = tokio::join!(soon(open), serve);
    opened.unwrap();
    assert_eq!(far.open["TokenValue"], "token-1");
    assert_eq!(far.headers["x-signed"], "2");
}

#[tokio::test]
async fn only_loopback_may_be_dialled_without_tls() {
    let server = Server::start().await;
    for url in [
        "ws://192.0.2.1/v1/data-channel/x",
        "ws://localhost.example.com/x",
        "http://127.0.0.1/x",
        "no url",
    ] {
        let opened = driver::open(opening(url), server.service.clone(), options()).await;
        let Err(error @ OpenError::Url(_)) = opened else {
            panic!("{url}: {opened:?}");
        };
        assert!(!error.to_string().contains(url), "{error}");
    }
}

#[tokio::test]
async fn no_error_or_debug_text_names_token_or_url() {
    let server = Server::start().await;
    let opening = opening(&server.url);
    assert_eq!(
        format!("{opening:?}"),
        "Opening { session_id: \"session-1\", .. }"
    );
    assert_eq!(format!("{:?}", opening.token), "Token(…)");
    drop(server);
}
