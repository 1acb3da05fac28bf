//! What the figures are measured against, in the same run.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
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
const AGENT_PAYLOAD_BYTES: usize = 1024;
/// What it does after each.
const AGENT_PAUSE: Duration = Duration::from_millis(1);
/// Of each measurement of what an agent can give.
const AGENT_WINDOW: Duration = Duration::from_secs(3);
/// Payload of an acknowledgement, in bytes.
const ACKNOWLEDGEMENT_BYTES: usize = 220;
/// Header of a message of the protocol, in bytes.
const HEADER_BYTES: usize = 120;

/// Bytes per second of an agent that sleeps a millisecond after each payload and does nothing else,
/// as the sandbox's does it.
pub(crate) fn pauses() -> f64 {
    let begin = Instant::now();
    let mut rounds = 0_u32;
    while begin.elapsed() < AGENT_WINDOW {
        thread::sleep(AGENT_PAUSE);
        rounds += 1;
    }
    f64::from(rounds) / begin.elapsed().as_secs_f64() * AGENT_PAYLOAD_BYTES as f64
}

/// Bytes per second of an agent that does what it has to for each payload before it sleeps, and no
/// more: a message with its digest, written to a web socket whose other end acknowledges it.
pub(crate) fn paced_agent() -> io::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    // The client.
    thread::spawn(move || -> io::Result<()> {
        let mut socket = tungstenite::accept(listener.accept()?.0)
            .map_err(|error| io::Error::other(error.to_string()))?;
        let acknowledgement = Bytes::from(vec![b'x'; HEADER_BYTES + ACKNOWLEDGEMENT_BYTES]);
        while socket.read().is_ok() {
            socket
                .send(Message::Binary(acknowledgement.clone()))
                .map_err(io::Error::other)?;
        }
        Ok(())
    });
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut reader = stream.try_clone()?;
    let (mut socket, _) = tungstenite::client(format!("ws://{address}/"), stream)
        .map_err(|error| io::Error::other(error.to_string()))?;
    // What takes the acknowledgements is another part of an agent.
    thread::spawn(move || while matches!(reader.read(&mut [0; 4096]), Ok(1..)) {});
    let payload = vec![b'x'; AGENT_PAYLOAD_BYTES];
    let begin = Instant::now();
    let mut rounds = 0_u32;
    while begin.elapsed() < AGENT_WINDOW {
        let mut message = vec![0; HEADER_BYTES];
        message[..32].copy_from_slice(digest(&SHA256, &payload).as_ref());
        message.extend_from_slice(&payload);
        socket
            .send(Message::Binary(message.into()))
            .map_err(io::Error::other)?;
        thread::sleep(AGENT_PAUSE);
        rounds += 1;
    }
    let rate = f64::from(rounds) / begin.elapsed().as_secs_f64() * AGENT_PAYLOAD_BYTES as f64;
    let _ = socket.get_ref().shutdown(Shutdown::Both);
    Ok(rate)
}

/// Payload bytes per second of a web socket over loopback that carries messages with payloads of
/// this length, from one thread to another; with `digests` the sender computes SHA-256 of each
/// payload.
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

/// Payload bytes per second of the whole way of an upload with nothing of the protocol on it but
/// the digest: a connection to a relay, a web socket from there to a second one, a connection to
/// the destination. What is left of a bare web socket when this machine's processors have to do all
/// of it.
pub(crate) fn chain(payload_bytes: usize, window: Duration) -> io::Result<f64> {
    let entry = TcpListener::bind("127.0.0.1:0")?;
    let middle = TcpListener::bind("127.0.0.1:0")?;
    let exit = TcpListener::bind("127.0.0.1:0")?;
    let (entry_at, middle_at, exit_at) = (
        entry.local_addr()?,
        middle.local_addr()?,
        exit.local_addr()?,
    );
    let received = Arc::new(AtomicU64::new(0));
    let counter = received.clone();
    // The destination.
    thread::spawn(move || -> io::Result<()> {
        let (mut stream, _) = exit.accept()?;
        let mut buffer = vec![0; 256 << 10];
        while let len @ 1.. = stream.read(&mut buffer)? {
            counter.fetch_add(len as u64, Ordering::Relaxed);
        }
        Ok(())
    });
    // The far relay.
    thread::spawn(move || -> io::Result<()> {
        let mut socket = tungstenite::accept(middle.accept()?.0)
            .map_err(|error| io::Error::other(error.to_string()))?;
        let mut onward = TcpStream::connect(exit_at)?;
        while let Ok(message) = socket.read() {
            onward.write_all(&message.into_data()[HEADER_BYTES..])?;
        }
        Ok(())
    });
    // The near relay.
    thread::spawn(move || -> io::Result<()> {
        let (mut stream, _) = entry.accept()?;
        let onward = TcpStream::connect(middle_at)?;
        onward.set_nodelay(true)?;
        let (mut socket, _) = tungstenite::client(format!("ws://{middle_at}/"), onward)
            .map_err(|error| io::Error::other(error.to_string()))?;
        loop {
            let mut message = vec![0; HEADER_BYTES + payload_bytes];
            let len = stream.read(&mut message[HEADER_BYTES..])?;
            if len == 0 {
                return Ok(());
            }
            message.truncate(HEADER_BYTES + len);
            let sum = digest(&SHA256, &message[HEADER_BYTES..]);
            message[..32].copy_from_slice(sum.as_ref());
            socket
                .write(Message::Binary(message.into()))
                .map_err(io::Error::other)?;
        }
    });
    // The client.
    let mut source = TcpStream::connect(entry_at)?;
    let closing = source.try_clone()?;
    thread::spawn(move || {
        let chunk = vec![b'x'; 256 << 10];
        while source.write_all(&chunk).is_ok() {}
    });
    thread::sleep(Duration::from_millis(300));
    let (begin, before) = (Instant::now(), received.load(Ordering::Relaxed));
    thread::sleep(window);
    let moved = received.load(Ordering::Relaxed) - before;
    let rate = moved as f64 / begin.elapsed().as_secs_f64();
    let _ = closing.shutdown(Shutdown::Both);
    Ok(rate)
}
