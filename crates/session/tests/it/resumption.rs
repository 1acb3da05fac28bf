//! A session that outlives its connections.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use ops_session::driver::{Event, Events, Options, ResumeError, SessionError};
use ops_session::wire::PayloadType;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::driver::{next, output};
use crate::link::ms;
use crate::server::{Server, options, soon};

async fn expect_resumption(events: &mut Events) {
    assert!(matches!(next(events).await, Event::Disconnected { .. }));
    assert_eq!(
        next(events).await,
        Event::Reconnecting {
            attempt: 1,
            delay: Duration::ZERO,
            why: None
        }
    );
    assert_eq!(next(events).await, Event::Resumed);
}

#[tokio::test]
async fn a_lost_connection_is_resumed_with_a_new_token_and_nothing_is_lost_or_doubled() {
    let server = Server::start().await;
    let (mut session, mut agent) = server.shell(options()).await;
    let before = agent.far.open.clone();
    session.sender.send(&b"one "[..]).await.unwrap();
    agent.receive(4).await;
    // Output that the client never sees on this connection, and input that the agent never reads
    // from it.
    session.sender.send(&b"two "[..]).await.unwrap();
    agent.cut().await;
    agent.channel.send(PayloadType::Output, &b"while away"[..]);
    session.sender.send(&b"three"[..]).await.unwrap();

    agent.reattach(&server).await;
    expect_resumption(&mut session.events).await;
    let after = &agent.far.open;
    assert_eq!(after["TokenValue"], "token-2");
    assert_eq!(after["ClientId"], before["ClientId"]);
    assert_ne!(after["RequestId"], before["RequestId"]);
    assert_eq!(agent.far.headers["x-signed"], "2");
    agent.receive(13).await;
    assert_eq!(agent.received, b"one two three");
    assert_eq!(output(&mut session.events, 10).await, b"while away");
}

#[tokio::test]
async fn an_orderly_close_of_the_socket_is_not_the_end_of_the_session() {
    let server = Server::start().await;
    let (mut session, mut agent) = server.shell(options()).await;
    let bye = CloseFrame {
        code: CloseCode::Normal,
        reason: "Bye".into(),
    };
    agent.far.socket.close(Some(bye)).await.unwrap();
    agent.channel.on_disconnected();
    agent.reattach(&server).await;
    let Event::Disconnected { reason } = next(&mut session.events).await else {
        panic!("no Disconnected");
    };
    assert!(reason.contains("1000 Bye"), "{reason}");
    assert!(matches!(
        next(&mut session.events).await,
        Event::Reconnecting { .. }
    ));
    assert_eq!(next(&mut session.events).await, Event::Resumed);
    session.sender.send(&b"still here"[..]).await.unwrap();
    agent.receive(10).await;
}

#[tokio::test]
async fn a_session_that_is_gone_when_the_connection_returns_has_failed() {
    let server = Server::start().await;
    let (mut session, mut agent) = server.shell(options()).await;
    server.service.answers.lock().unwrap().extend([
        ResumeError::Retry("throttled".to_owned()),
        ResumeError::Gone("it has timed out".to_owned()),
    ]);
    agent.cut().await;
    let events = &mut session.events;
    assert!(matches!(next(events).await, Event::Disconnected { .. }));
    for (expected, reason) in [(1, None), (2, Some("throttled"))] {
        let Event::Reconnecting {
            attempt,
            delay,
            why,
        } = next(events).await
        else {
            panic!("no Reconnecting");
        };
        assert_eq!((attempt, delay.is_zero()), (expected, expected == 1));
        assert_eq!(why.as_deref(), reason);
    }
    assert_eq!(
        next(events).await,
        Event::Failed(SessionError::Gone("it has timed out".to_owned()))
    );
    assert_eq!(soon(events.next()).await, None);
}

#[tokio::test]
async fn connections_that_do_not_last_are_not_resumed_in_a_tight_loop() {
    let server = Server::start().await;
    let (mut session, mut agent) = server.shell(options()).await;
    let mut attempts = Vec::new();
    for _ in 0..4 {
        agent.cut().await;
        agent.reattach(&server).await;
        let events = &mut session.events;
        assert!(matches!(next(events).await, Event::Disconnected { .. }));
        let Event::Reconnecting { attempt, delay, .. } = next(events).await else {
            panic!("no Reconnecting");
        };
        attempts.push((attempt, delay.is_zero()));
        assert_eq!(next(events).await, Event::Resumed);
    }
    assert_eq!(attempts, [(1, true), (2, false), (3, false), (4, false)]);
}

#[tokio::test]
async fn resumption_is_tried_for_a_limited_time() {
    let server = Server::start().await;
    let (mut session, mut agent) = server
        .shell(Options {
            resume_for: Duration::from_millis(50),
            ..options()
        })
        .await;
    let refusals = (0..10_000).map(|_| ResumeError::Retry("expired credentials".to_owned()));
    server.service.answers.lock().unwrap().extend(refusals);
    agent.cut().await;
    loop {
        match next(&mut session.events).await {
            Event::Failed(error) => {
                assert_eq!(
                    error,
                    SessionError::NotResumed("expired credentials".to_owned())
                );
                return;
            }
            Event::Disconnected { .. } | Event::Reconnecting { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_frame_above_the_cap_costs_the_connection_and_not_the_session() {
    let server = Server::start().await;
    let (mut session, mut agent) = server.shell(options()).await;
    let huge = Message::Binary(vec![0; (1 << 20) + 200].into());
    // The client leaves at the frame's header.
    let _ = agent.far.socket.send(huge).await;
    agent.channel.on_disconnected();
    agent.reattach(&server).await;
    expect_resumption(&mut session.events).await;
    session.sender.send(&b"still here"[..]).await.unwrap();
    agent.receive(10).await;
}

#[tokio::test]
async fn a_new_address_from_the_service_is_dialled() {
    let (server, other) = (Server::start().await, Server::start().await);
    let (mut session, mut agent) = server.shell(options()).await;
    *server.service.moved.lock().unwrap() = Some(other.url.clone());
    agent.cut().await;
    agent.reattach(&other).await;
    expect_resumption(&mut session.events).await;
    // And kept: the next resumption names none.
    agent.cut().await;
    agent.reattach(&other).await;
}

#[tokio::test]
async fn pings_go_out_and_a_connection_without_a_sound_is_dead() {
    let server = Server::start().await;
    let (mut session, far) = server
        .open(Options {
            ping_every: ms(10),
            dead_after: ms(100),
            ..options()
        })
        .await;
    // Nobody reads the socket, so no pong comes.
    let Event::Disconnected { reason } = next(&mut session.events).await else {
        panic!("no Disconnected");
    };
    assert!(reason.starts_with("nothing was heard"), "{reason}");
    let mut socket = far.socket;
    assert_eq!(
        soon(socket.next()).await.unwrap().unwrap(),
        Message::Ping(Bytes::from_static(b"keepalive"))
    );
    server.accept().await;
}
