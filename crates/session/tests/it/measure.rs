//! How fast the driver moves bytes over loopback, and how soon a key comes back. Measures, asserts
//! nothing about time:
//!
//! `cargo test --release -p ops-session --features driver -- --ignored --nocapture --test-threads 1
//! measure`
#![allow(clippy::disallowed_methods)] // It measures.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use ops_session::driver::{self, Event, Options};
use ops_session::wire::{
    Acknowledge, FLAGS_ACKNOWLEDGE, HEADER_LEN, Header, Message as Decoded, MessageType,
    PayloadType,
};
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::channel::frame;
use crate::server::{AgentSide, Server, opening, options};

const TOTAL_BYTES: usize = 256 << 20;

fn report(what: &str, payload_bytes: usize, took: Duration, cpu: Duration) {
    let megabytes = TOTAL_BYTES as f64 / 1e6;
    println!(
        "{what}, payloads of {payload_bytes}: {:.0} MB/s; {:.2} s of processor time per GB for both ends",
        megabytes / took.as_secs_f64(),
        cpu.as_secs_f64() / megabytes * 1e3,
    );
}

/// Processor time of this process, from `/proc`; zero where there is none.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks: u64 = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_ascii_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|n| n.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 10)
}

/// Acknowledges at once, checks nothing.
async fn sink(mut far: AgentSide) {
    let mut received = 0;
    let mut buffer = BytesMut::new();
    far.send(frame(
        MessageType::OutputStreamData,
        0,
        PayloadType::Output,
        b"$ ",
    ))
    .await;
    while received < TOTAL_BYTES {
        let mut next = far.socket.next().await;
        while let Some(Ok(message)) = next {
            if let Message::Binary(bytes) = message {
                let message = Decoded::decode_unverified(&bytes).unwrap();
                if message.header.message_type.is_stream_data() {
                    if message.header.payload_type == PayloadType::Output {
                        received += message.payload.len();
                    }
                    let ack = acknowledgement(&mut buffer, &message.header);
                    far.socket.feed(Message::Binary(ack)).await.unwrap();
                }
            }
            next = match futures_util::FutureExt::now_or_never(far.socket.next()) {
                Some(next) => next,
                None => break,
            };
        }
        far.socket.flush().await.unwrap();
    }
    while far.socket.next().await.is_some() {}
}

fn acknowledgement(buffer: &mut BytesMut, header: &Header) -> Bytes {
    let ack = Acknowledge {
        message_type: header.message_type,
        message_id: header.message_id,
        sequence_number: header.sequence_number,
    };
    let header = Header {
        message_type: MessageType::Acknowledge,
        schema_version: 1,
        created_ms: 1,
        sequence_number: 0,
        flags: FLAGS_ACKNOWLEDGE,
        message_id: Uuid::from_u128(1),
        payload_type: PayloadType::None,
    };
    buffer.reserve(HEADER_LEN + 200);
    header.encode_with(buffer, |out| ack.payload_into(out));
    buffer.split().freeze()
}

/// Sends as fast as the socket takes it, reads acknowledgements beside that.
async fn source(far: AgentSide, payload_bytes: usize) {
    let payload = vec![b'x'; payload_bytes];
    let (mut sink, mut stream) = far.socket.split();
    let acks = tokio::spawn(async move { while let Some(Ok(_)) = stream.next().await {} });
    for number in 0..(TOTAL_BYTES / payload_bytes) as i64 {
        let frame = frame(
            MessageType::OutputStreamData,
            number,
            PayloadType::Output,
            &payload,
        );
        sink.feed(Message::Binary(frame)).await.unwrap();
        if number % 16 == 0 {
            sink.flush().await.unwrap();
        }
    }
    sink.flush().await.unwrap();
    acks.await.unwrap();
}

async fn open(server: &Server, max_payload: usize) -> (driver::Session, AgentSide) {
    let options = Options {
        max_payload,
        ..options()
    };
    let open = driver::open(opening(&server.url), server.service.clone(), options);
    let (session, far) = tokio::join!(open, server.accept());
    (session.unwrap(), far)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn throughput_of_sending() {
    for payload_bytes in [1 << 10, 16 << 10, 32 << 10] {
        let server = Server::start().await;
        let (mut session, far) = open(&server, payload_bytes).await;
        let agent = tokio::spawn(sink(far));
        session.sender.send_size(80, 24).await.unwrap();
        assert!(matches!(session.events.next().await, Some(Event::Ready(_))));
        let piece = Bytes::from(vec![b'x'; 32 << 10]);
        let (start, cpu) = (Instant::now(), cpu_time());
        for _ in 0..TOTAL_BYTES / piece.len() {
            session.sender.send(piece.clone()).await.unwrap();
        }
        session.sender.drained().await.unwrap();
        report(
            "sending",
            session.sender.max_payload(),
            start.elapsed(),
            cpu_time() - cpu,
        );
        println!("  {:?}", session.sender.stats());
        drop(session);
        agent.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn throughput_of_receiving() {
    for payload_bytes in [1 << 10, 16 << 10, 32 << 10] {
        let server = Server::start().await;
        let (mut session, far) = open(&server, 1024).await;
        let (start, cpu) = (Instant::now(), cpu_time());
        let agent = tokio::spawn(source(far, payload_bytes));
        let mut received = 0;
        while received < TOTAL_BYTES {
            if let Event::Output(bytes) = session.events.next().await.unwrap() {
                received += bytes.len();
            }
        }
        report(
            "receiving",
            payload_bytes,
            start.elapsed(),
            cpu_time() - cpu,
        );
        drop(session);
        agent.await.unwrap();
    }
}

/// Answers every input message; prints `flood` messages of 1 KiB each millisecond meanwhile, as
/// four agents do at their fastest.
async fn echo(far: AgentSide, flood: usize) {
    let (mut sink, mut stream) = far.socket.split();
    let mut number = 0;
    let mut output = |payload: &[u8]| {
        number += 1;
        Message::Binary(frame(
            MessageType::OutputStreamData,
            number - 1,
            PayloadType::Output,
            payload,
        ))
    };
    sink.send(output(b"$ ")).await.unwrap();
    let mut buffer = BytesMut::new();
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    loop {
        tokio::select! {
            _ = tick.tick(), if flood > 0 => {
                for _ in 0..flood {
                    sink.feed(output(&[b'x'; 1024])).await.unwrap();
                }
                if sink.flush().await.is_err() {
                    return;
                }
            }
            message = stream.next() => {
                let Some(Ok(Message::Binary(bytes))) = message else { return };
                let message = Decoded::decode_unverified(&bytes).unwrap();
                if message.header.message_type == MessageType::InputStreamData {
                    let ack = acknowledgement(&mut buffer, &message.header);
                    sink.feed(Message::Binary(ack)).await.unwrap();
                    sink.send(output(b"!")).await.unwrap();
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn echo_of_a_key() {
    for flood in [0, 4] {
        let server = Server::start().await;
        let (mut session, far) = open(&server, 1024).await;
        let agent = tokio::spawn(echo(far, flood));
        let mut times = Vec::new();
        while times.len() < 500 {
            let pressed = Instant::now();
            session.sender.send(&b"k"[..]).await.unwrap();
            loop {
                match session.events.next().await.unwrap() {
                    Event::Output(bytes) if bytes == "!" => break,
                    _ => {}
                }
            }
            times.push(pressed.elapsed());
            // Typing pauses; without them the key would only measure itself.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        times.sort();
        println!(
            "echo beside {} MB/s of output: median {:?}, 99 of 100 within {:?}, longest {:?}",
            flood, times[250], times[495], times[499]
        );
        drop(session);
        agent.abort();
    }
}
