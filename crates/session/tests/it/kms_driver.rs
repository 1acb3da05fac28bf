//! The driver of an encrypted session: fetching the data key beside everything else.

use std::time::Duration;

use bytes::Bytes;
use ops_session::data_channel::ChannelError;
use ops_session::driver::{Event, Session, SessionError};
use ops_session::wire::PayloadType;

use crate::agent::{AgentEvent, AgentFailure};
use crate::driver::next;
use crate::kms::{kms_request, plaintext};
use crate::server::{Agent, Server, options, soon};

/// A session that is to be encrypted, and its agent, which has just asked for it.
async fn encrypted(server: &Server) -> (Session, Agent) {
    let (session, far) = server.open(options()).await;
    let mut agent = Agent::new(far);
    agent
        .channel
        .start_handshake(Duration::ZERO, &kms_request());
    agent.flush().await;
    (session, agent)
}

#[tokio::test]
async fn a_data_key_is_fetched_while_the_connection_goes_on_and_survives_its_loss() {
    let server = Server::start().await;
    let gate = server.service.hold_data_keys();
    let (mut session, mut agent) = encrypted(&server).await;
    session.sender.send(&b"typed ahead"[..]).await.unwrap();
    // The demand is acknowledged at once, and nothing else is said before there is a key.
    soon(async {
        while !agent.channel.is_drained() {
            agent.step().await;
        }
    })
    .await;
    agent.cut().await;
    assert!(matches!(
        next(&mut session.events).await,
        Event::Disconnected { .. }
    ));
    gate.notify_one();
    while !matches!(next(&mut session.events).await, Event::Reconnecting { .. }) {}
    agent.reattach(&server).await;
    let AgentEvent::DataKeyOffered { .. } = agent.event().await else {
        panic!("no key came");
    };
    agent.channel.provide_data_key(&plaintext());
    let AgentEvent::Ready = agent.event().await else {
        panic!("the agent is not ready");
    };
    agent.receive(11).await;
    assert_eq!(agent.received, b"typed ahead");
    agent.channel.send(PayloadType::Output, &b"$ "[..]);
    agent.flush().await;
    let ready = loop {
        match next(&mut session.events).await {
            Event::Ready(ready) => break ready,
            Event::Resumed => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(ready.encrypted_with.unwrap().ends_with("key/k"));
    assert_eq!(
        next(&mut session.events).await,
        Event::Output(Bytes::from_static(b"$ "))
    );
    let asked = server.service.data_keys_asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(asked[0].challenge.is_some());
}

#[tokio::test]
async fn a_refused_data_key_ends_the_session_and_tells_the_agent_why() {
    let server = Server::start().await;
    *server.service.no_data_key.lock().unwrap() = Some("AccessDeniedException".to_owned());
    let (mut session, mut agent) = encrypted(&server).await;
    let AgentEvent::Failed(AgentFailure::HandshakeRefused(text)) = agent.event().await else {
        panic!("the agent was not told");
    };
    let told = "KMSEncryption failed on client with status 2 error: AccessDeniedException";
    assert!(text.ends_with(told), "{text}");
    let Event::Failed(SessionError::Channel(ChannelError::NoDataKey { key_id, .. })) =
        next(&mut session.events).await
    else {
        panic!("it did not fail");
    };
    assert_eq!(key_id, "arn:aws:kms:eu-west-1:111122223333:key/k");
    assert_eq!(soon(session.events.next()).await, None);
}
