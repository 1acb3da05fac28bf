//! Data channels: tokens, resume, ends, faults. The agents are the real ones.

use super::*;

const WEB: &str = "i-0a1b2c3d4e5f60718";

fn shell() -> Value {
    json!({ "Target": WEB })
}

#[tokio::test]
async fn a_shell_answers_and_its_end_is_told() {
    let fixture = Fixture::new().await;
    let opening = fixture.start(shell()).await;
    let mut channel = Channel::open(&opening).await;
    let (first, _) = channel.message().await.unwrap();
    assert_eq!(first.message_type, MessageType::StartPublication);
    channel.until("web-1").await;
    channel
        .input(PayloadType::Output, b"echo $((6*7))-is-it\r")
        .await;
    channel.until("42-is-it").await;
    channel.input(PayloadType::Output, b"exit\r").await;
    assert_eq!(channel.closing().await, "");
    assert!(channel.message().await.is_none());
    let history = fixture
        .ssm_code("DescribeSessions", json!({"State": "History"}))
        .await
        .unwrap();
    assert_eq!(history["Sessions"][0]["SessionId"], opening.session_id);
    assert_eq!(history["Sessions"][0]["Status"], "Terminated");
}

#[tokio::test]
async fn a_token_opens_one_data_channel() {
    let fixture = Fixture::new().await;
    let opening = fixture.start(shell()).await;
    let mut first = Channel::open(&opening).await;
    first.message().await.unwrap();
    let mut second = Channel::open(&opening).await;
    assert!(second.message().await.is_none());
    // The first is none the worse for it.
    first.until("web-1").await;
    let wrong = Opening {
        token: "x".repeat(200),
        ..fixture.resume(&opening.session_id).await
    };
    assert!(Channel::open(&wrong).await.message().await.is_none());
}

#[tokio::test]
async fn a_resumed_session_goes_on_where_it_was() {
    let fixture = Fixture::new().await;
    let opening = fixture.start(shell()).await;
    let mut channel = Channel::open(&opening).await;
    channel.until("web-1").await;
    let (next_number, expected) = (channel.next_number, channel.expected);
    drop(channel);
    let again = fixture.resume(&opening.session_id).await;
    let mut channel = Channel::open(&again).await;
    channel.next_number = next_number;
    channel.expected = expected;
    channel
        .input(PayloadType::Output, b"echo still-$((1+1))\r")
        .await;
    channel.until("still-2").await;
}

#[tokio::test]
async fn a_second_client_displaces_the_first() {
    let fixture = Fixture::new().await;
    let opening = fixture.start(shell()).await;
    let mut first = Channel::open(&opening).await;
    first.message().await.unwrap();
    let mut second = Channel::open(&fixture.resume(&opening.session_id).await).await;
    while first.message().await.is_some() {}
    assert!(first.closed.is_none());
    assert!(second.message().await.is_some());
}

#[tokio::test]
async fn terminate_session_closes_the_channel() {
    let fixture = Fixture::new().await;
    let opening = fixture.start(shell()).await;
    let mut channel = Channel::open(&opening).await;
    channel.until("web-1").await;
    let input = json!({ "SessionId": opening.session_id });
    fixture
        .ssm_code("TerminateSession", input.clone())
        .await
        .unwrap();
    assert_eq!(channel.closing().await, "");
    assert_eq!(
        fixture.ssm_code("ResumeSession", input).await,
        Err("DoesNotExistException".to_owned())
    );
}

#[tokio::test]
async fn an_idle_session_is_ended_with_its_text() {
    let fixture = Fixture::with(|options| {
        let fleet = options.state_dir.with_file_name("fleet.yaml");
        let text = format!(
            "session: {{ idle_timeout: 50ms }}\ninstances: [{{ name: web-1, id: {WEB} }}]\n"
        );
        std::fs::write(&fleet, text).unwrap();
        options.fleet = Some(fleet);
    })
    .await;
    let opening = fixture.start(shell()).await;
    let mut channel = Channel::open(&opening).await;
    assert_eq!(
        channel.closing().await,
        "Your session timed out due to inactivity and has been terminated."
    );
}

#[tokio::test]
async fn the_hourly_close_is_no_end_of_the_session() {
    let fixture = Fixture::with(|options| options.faults = "bye-after=3".parse().unwrap()).await;
    let opening = fixture.start(shell()).await;
    let mut channel = Channel::open(&opening).await;
    let mut bye = None;
    while let Some(Ok(frame)) = channel.socket.next().await {
        match frame {
            Frame::Binary(_) => {
                channel
                    .input(PayloadType::Size, br#"{"cols":80,"rows":24}"#)
                    .await;
            }
            Frame::Close(close) => bye = close,
            _ => {}
        }
    }
    let bye = bye.expect("no close frame");
    assert_eq!((u16::from(bye.code), bye.reason.as_str()), (1000, "Bye"));
    assert!(channel.closed.is_none());
    let mut channel = Channel::open(&fixture.resume(&opening.session_id).await).await;
    assert!(channel.message().await.is_some());
}

#[tokio::test]
async fn an_upgrade_with_a_wrong_signature_is_refused() {
    let fixture = Fixture::new().await;
    let opening = fixture.start(shell()).await;
    let path = opening.url.split_once("127.0.0.1").unwrap().1;
    let path = &path[path.find('/').unwrap()..];
    let upgrade = |key: &Key, service: &str| {
        let request = http::Request::get(path)
            .header("host", fixture.sandbox.address().to_string())
            .body(Vec::new())
            .unwrap();
        let mut request = authorize(request, key, "eu-west-1", service, Timestamp::now());
        for (name, value) in [
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        request
    };
    let mut wrong = fixture.key();
    wrong.secret_access_key.push('x');
    let answer = fixture.send(upgrade(&wrong, "ssmmessages")).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let answer = fixture.send(upgrade(&fixture.key(), "ssm")).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    // Without `Connection: Upgrade`, since the test's requests close: past the signature.
    let answer = fixture.send(upgrade(&fixture.key(), "ssmmessages")).await;
    assert_eq!(answer.status, StatusCode::UPGRADE_REQUIRED);
}

#[tokio::test]
async fn refused_resumes_are_told_as_ordered() {
    let fixture = Fixture::new().await;
    for (order, expected) in [
        ("refuse-resume=gone", Err("DoesNotExistException")),
        ("refuse-resume=timed-out", Ok(false)),
        ("refuse-resume=1", Err("InternalServerError")),
        ("refuse-resume=0", Ok(true)),
    ] {
        let opening = fixture.start(shell()).await;
        fixture.admin("faults", &json!(order)).await;
        let result = fixture
            .ssm_code("ResumeSession", json!({"SessionId": opening.session_id}))
            .await
            .map(|output| output["TokenValue"].is_string());
        assert_eq!(result, expected.map_err(str::to_owned), "{order}");
        fixture.admin("faults", &Value::Null).await;
    }
}

#[tokio::test]
async fn faults_change_under_an_open_session() {
    let fixture = Fixture::new().await;
    let opening = fixture.start(shell()).await;
    let mut channel = Channel::open(&opening).await;
    channel.until("web-1").await;
    // Twice, because counts begin anew with each order.
    for _ in 0..2 {
        fixture.admin("faults", &json!("cut-after=1")).await;
        channel
            .input(PayloadType::Size, br#"{"cols":80,"rows":24}"#)
            .await;
        while channel.message().await.is_some() {}
        assert!(channel.closed.is_none());
        let again = fixture.resume(&opening.session_id).await;
        fixture.admin("faults", &Value::Null).await;
        let (next_number, expected) = (channel.next_number, channel.expected);
        channel = Channel::open(&again).await;
        (channel.next_number, channel.expected) = (next_number, expected);
    }
    channel
        .input(PayloadType::Output, b"echo $((40+2))-still\r")
        .await;
    // The sizes that were lost are asked for first, so the line waits for them: send them again.
    for number in 0..channel.next_number - 1 {
        channel
            .input_as(number, PayloadType::Size, br#"{"cols":80,"rows":24}"#)
            .await;
    }
    channel.until("42-still").await;
}
