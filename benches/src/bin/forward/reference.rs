//! What the figures are measured against, in the same run.

use std::{
    io,
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{SHA256, digest};
use tokio_tungstenite::tungstenite::{self, Bytes, Message};

/// Bytes of one payload of the agent.
const AGENT_PAYLOAD_BYTES: f64 = 1024.0;
/// Header of a message of the protocol, in bytes.
const HEADER_BYTES: usize = 120;

/// Bytes per second of an agent that sleeps a millisecond after each payload and does nothing else, as the sandbox's does it.
pub(crate) fn paced_agent() -> io::Result<f64> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()?;
    let window = Duration::from_secs(2);
    let rounds = runtime.block_on(async {
        tokio::spawn(async move {
            let begin = Instant::now();
            let mut rounds = 0_u32;
            while begin.elapsed() < window {
                let pause = || thread::sleep(Duration::from_millis(1));
                let _ = tokio::task::spawn_blocking(pause).await;
                rounds += 1;
            }
            f64::from(rounds) / begin.elapsed().as_secs_f64()
        })
        .await
    });
    Ok(rounds.map_err(io::Error::other)? * AGENT_PAYLOAD_BYTES)
}

/// Payload bytes per second of a web socket over loopback that carries messages with payloads of this length, from one thread to another;
/// with `digests` the sender computes SHA-256 of each payload.
pub(crate) fn web_socket(payload_bytes: usize, window: Duration, digests: bool) -> io::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let received = Arc::new(AtomicU64::new(0));
    let counter = received.clone();
    thread::spawn(move || {
        let Ok((stream, _)) = listener.accept() else {
            return;
        };
        let Ok(mut socket) = tungstenite::accept(stream) else {
            return;
        };
        while let Ok(message) = socket.read() {
            let payload = message.len().saturating_sub(HEADER_BYTES);
            counter.fetch_add(payload as u64, Ordering::Relaxed);
        }
    });
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let url = format!("ws://{address}/");
    let (mut socket, _) =
        tungstenite::client(url, stream).map_err(|error| io::Error::other(error.to_string()))?;
    let message = Bytes::from(vec![b'x'; payload_bytes + HEADER_BYTES]);
    let warm = Instant::now() + Duration::from_millis(300);
    let mut begin = None;
    let mut before = 0;
    loop {
        let now = Instant::now();
        if begin.is_none() && now >= warm {
            begin = Some(now);
            before = received.load(Ordering::Relaxed);
        }
        if let Some(begin) = begin
            && now - begin >= window
        {
            let moved = received.load(Ordering::Relaxed) - before;
            return Ok(moved as f64 / (now - begin).as_secs_f64());
        }
        if digests {
            std::hint::black_box(digest(&SHA256, &message[HEADER_BYTES..]));
        }
        // The socket's own buffer decides when to write.
        socket
            .write(Message::Binary(message.clone()))
            .map_err(io::Error::other)?;
    }
}
