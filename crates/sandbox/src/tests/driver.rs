//! The client's own driver against this gateway and these agents, with and without faults.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use ops_session::closing::Closing;
use ops_session::driver::{
    self, Event, Expect, Gateway, ResumeError, Resumed, Session, Token,
    mux::{Mux, MuxOptions},
};

use super::*;

const WEB: &str = "i-0a1b2c3d4e5f60718";

/// ResumeSession by hand.
struct Control(Arc<Fixture>);

impl Gateway for Control {
    fn headers<'a>(&'a self, _stream_url: &'a str) -> BoxFuture<'a, http::HeaderMap> {
        Box::pin(async { http::HeaderMap::new() })
    }

    fn resume<'a>(&'a self, session_id: &'a str) -> BoxFuture<'a, Result<Resumed, ResumeError>> {
        Box::pin(async move {
            let input = json!({ "SessionId": session_id });
            match self.0.ssm_code("ResumeSession", input).await {
                Ok(output) => Ok(Resumed {
                    stream_url: output["StreamUrl"].as_str().map(str::to_owned),
                    token: Token::new(output["TokenValue"].as_str().unwrap()),
                }),
                Err(code) if code == "DoesNotExistException" => Err(ResumeError::Gone(code)),
                Err(code) => Err(ResumeError::Retry(code)),
            }
        })
    }
}

async fn open(fixture: &Arc<Fixture>, input: Value, expect: Expect) -> Session {
    open_with(fixture, input, quick(expect)).await
}

/// Does not wait long before it tries to resume.
fn quick(expect: Expect) -> driver::Options {
    driver::Options {
        expect,
        resume_delays: (Duration::from_millis(10), Duration::from_millis(100)),
        ..driver::Options::default()
    }
}

async fn open_with(fixture: &Arc<Fixture>, input: Value, options: driver::Options) -> Session {
    let opening = fixture.start(input).await;
    let opening = driver::Opening {
        session_id: opening.session_id,
        stream_url: opening.url,
        token: Token::new(opening.token),
    };
    let control = Arc::new(Control(Arc::clone(fixture)));
    driver::open(opening, control, options).await.unwrap()
}

async fn with_faults(faults: &str) -> Arc<Fixture> {
    let faults = faults.parse().unwrap();
    Arc::new(Fixture::with(|options| options.faults = faults).await)
}

/// Bytes that repeat nowhere soon.
fn noise(len_bytes: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(42);
    std::iter::repeat_with(|| random.u8(..))
        .take(len_bytes)
        .collect()
}

/// Sends bytes to the echo service of the default fleet and returns what comes back.
async fn echo(faults: &str, bytes: &[u8]) -> Vec<u8> {
    let fixture = with_faults(faults).await;
    let input = json!({
        "Target": WEB,
        "DocumentName": "AWS-StartPortForwardingSessionToRemoteHost",
        "Parameters": {"host": ["echo.sandbox.internal"], "portNumber": ["7"], "localPortNumber": ["0"]},
    });
    let mut session = open(&fixture, input, Expect::Handshake).await;
    while !matches!(session.events.next().await, Some(Event::Ready(_))) {}
    let (mux, _notices) = Mux::new(session, MuxOptions::default());
    let stream = mux.open().unwrap();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let write = async {
        writer.write_all(bytes).await.unwrap();
        writer.flush().await.unwrap();
    };
    let mut back = vec![0; bytes.len()];
    let read = async {
        reader.read_exact(&mut back).await.unwrap();
    };
    tokio::join!(write, read);
    back
}

#[tokio::test]
async fn eight_megabytes_come_back_as_they_went() {
    let bytes = noise(8 << 20);
    assert!(echo("", &bytes).await == bytes);
}

#[tokio::test]
async fn duplicates_and_reordering_change_nothing() {
    let bytes = noise(1 << 20);
    let back = echo(
        "seed=3,duplicate=3%,reorder=3%,delay=2ms,jitter=1ms,garbage=1%",
        &bytes,
    )
    .await;
    assert!(back == bytes);
}

#[tokio::test]
async fn lost_messages_are_repaired() {
    let bytes = noise(64 << 10);
    let back = echo("seed=5,drop=5%,drop-acks=5%", &bytes).await;
    assert!(back == bytes);
}

#[tokio::test]
async fn a_cut_in_the_middle_loses_nothing() {
    let bytes = noise(32 << 10);
    let back = echo("seed=7,cut-after=30,cuts=2", &bytes).await;
    assert!(back == bytes);
}

#[tokio::test]
async fn a_shell_survives_the_hourly_close_and_resume_that_fails_first() {
    let fixture = with_faults("bye-after=8,refuse-resume=2").await;
    let mut session = open(&fixture, json!({ "Target": WEB }), Expect::MaybePlain).await;
    session.sender.send_size(80, 24).await.unwrap();
    session
        .sender
        .send("for i in $(seq 60); do echo line-$i; done; echo do''ne\r")
        .await
        .unwrap();
    let (mut text, mut events) = (String::new(), Vec::new());
    let mut has_ended = false;
    while let Some(event) = session.events.next().await {
        match event {
            Event::Output(bytes) => {
                text.push_str(&String::from_utf8_lossy(&bytes));
                // Not before: an agent that ends waits two seconds for its output to be repaired,
                // no longer.
                if text.contains("done\r\n") && !has_ended {
                    has_ended = true;
                    session.sender.send("exit\r").await.unwrap();
                }
            }
            other => events.push(other),
        }
    }
    for line in 1..=60 {
        assert!(text.contains(&format!("line-{line}\r\n")), "{text}");
    }
    assert!(events.contains(&Event::Resumed), "{events:?}");
    assert_eq!(events.last(), Some(&Event::Closed(Closing::of(""))));
}

#[tokio::test]
async fn an_agent_that_was_away_goes_on() {
    let fixture = with_faults("silent-after=8,silent-for=300ms,pauses").await;
    let input = json!({
        "Target": WEB,
        "DocumentName": "AWS-StartInteractiveCommand",
        "Parameters": {"command": ["for i in $(seq 10); do echo line-$i; sleep 0.03; done"]},
    });
    let mut session = open(&fixture, input, Expect::MaybePlain).await;
    session.sender.send_size(80, 24).await.unwrap();
    let mut text = String::new();
    while let Some(event) = session.events.next().await {
        if let Event::Output(bytes) = event {
            text.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
    assert!(
        text.contains("line-1\r\n") && text.contains("line-10\r\n"),
        "{text}"
    );
}

#[tokio::test]
async fn a_command_says_how_it_ended() {
    let fixture = Arc::new(Fixture::new().await);
    let input = json!({
        "Target": WEB,
        "DocumentName": "AWS-StartNonInteractiveCommand",
        "Parameters": {"command": ["sh -c 'echo out; echo err >&2; exit 7'"], "separateOutputStream": ["true"]},
    });
    let mut session = open(&fixture, input, Expect::Handshake).await;
    let mut seen = Vec::new();
    while let Some(event) = session.events.next().await {
        match event {
            Event::Output(bytes) => seen.push(format!("out {}", String::from_utf8_lossy(&bytes))),
            Event::Stderr(bytes) => seen.push(format!("err {}", String::from_utf8_lossy(&bytes))),
            Event::ExitCode(code) => seen.push(format!("code {code}")),
            _ => {}
        }
    }
    seen.sort();
    assert_eq!(seen, ["code 7", "err err\n", "out out\n"]);
}

/// Prints what one session moves, unpaced: `-- --ignored --nocapture throughput`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn throughput() {
    const BYTES: usize = 128 << 20;
    for max_payload in [1 << 10, 16 << 10, 32 << 10] {
        let fixture = Arc::new(Fixture::new().await);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let input = json!({
            "Target": WEB,
            "DocumentName": "AWS-StartSSHSession",
            "Parameters": {"portNumber": [port.to_string()]},
        });
        let far = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut chunk = vec![0; 64 << 10];
            let mut count = 0;
            while count < BYTES {
                count += stream.read(&mut chunk).await.unwrap();
            }
            chunk.fill(b'x');
            for _ in 0..BYTES / chunk.len() {
                stream.write_all(&chunk).await.unwrap();
            }
        });
        let options = driver::Options {
            max_payload,
            ..quick(Expect::Handshake)
        };
        let mut session = open_with(&fixture, input, options).await;
        while !matches!(session.events.next().await, Some(Event::Ready(_))) {}
        let rate = |since: std::time::Instant| BYTES as f64 / 1e6 / since.elapsed().as_secs_f64();
        let since = std::time::Instant::now();
        let chunk = Bytes::from(vec![b'y'; max_payload]);
        for _ in 0..BYTES / max_payload {
            session.sender.send(chunk.clone()).await.unwrap();
        }
        session.sender.drained().await.unwrap();
        let up = rate(since);
        let since = std::time::Instant::now();
        let mut count = 0;
        while count < BYTES {
            match session.events.next().await {
                Some(Event::Output(bytes)) => count += bytes.len(),
                Some(_) => {}
                None => break,
            }
        }
        eprintln!(
            "payload {max_payload}: {up:.0} MB/s up, {:.0} MB/s down",
            rate(since)
        );
        far.await.unwrap();
    }
}
