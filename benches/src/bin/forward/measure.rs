//! The client's side: rates and round trips.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use ops_bench::usage;

use crate::far::{BOTH, CHUNK, ECHO, GIVE, Server, TAKE};

/// Before a rate is measured: for windows to grow.
const WARM_UP: Duration = Duration::from_secs(1);
/// Round trips that are not counted: the first opens the connection.
const FIRST_PINGS: usize = 5;

/// Bytes per second each way, and seconds of processor time of `ops` for a gigabyte.
pub(crate) struct Rates {
    pub(crate) down: f64,
    pub(crate) up: f64,
    pub(crate) cpu_down: Option<f64>,
    pub(crate) cpu_up: Option<f64>,
}

fn connect(port: u16, wish: u8) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    stream.write_all(&[wish])?;
    Ok(stream)
}

/// A connection that downloads until it is dropped.
pub(crate) struct Download {
    stream: TcpStream,
    bytes: Arc<AtomicU64>,
}

impl Download {
    pub(crate) fn start(port: u16) -> io::Result<Self> {
        let stream = connect(port, GIVE)?;
        let bytes = Arc::new(AtomicU64::new(0));
        let (mut reader, counter) = (stream.try_clone()?, bytes.clone());
        thread::spawn(move || read_all(&mut reader, &counter));
        Ok(Self { stream, bytes })
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// A connection that uploads until it is dropped.
struct Upload(TcpStream);

impl Upload {
    fn start(port: u16) -> io::Result<Self> {
        let stream = connect(port, TAKE)?;
        let mut writer = stream.try_clone()?;
        thread::spawn(move || write_all(&mut writer));
        Ok(Self(stream))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

fn read_all(stream: &mut TcpStream, counter: &AtomicU64) {
    let mut chunk = vec![0; CHUNK];
    while let Ok(len @ 1..) = stream.read(&mut chunk) {
        counter.fetch_add(len as u64, Ordering::Relaxed);
    }
}

fn write_all(stream: &mut TcpStream) {
    let chunk = vec![b'x'; CHUNK];
    while stream.write_all(&chunk).is_ok() {}
}

/// How fast `count` grows, and what `process` spends on it: bytes per second, seconds per gigabyte.
fn rate(window: Duration, process: Option<u32>, count: impl Fn() -> u64) -> (f64, Option<f64>) {
    thread::sleep(WARM_UP);
    let used = || process.and_then(usage::processor_time);
    let (begin, before, used_before) = (Instant::now(), count(), used());
    thread::sleep(window);
    let (took, moved, used_after) = (begin.elapsed(), count() - before, used());
    let moved = moved as f64;
    let cpu = used_before
        .zip(used_after)
        .map(|(before, after)| (after - before).as_secs_f64() / (moved / 1e9));
    (moved / took.as_secs_f64(), cpu)
}

/// Downloads, then uploads, over so many connections.
pub(crate) fn throughput(
    server: &Server,
    port: u16,
    connections: usize,
    window: Duration,
    process: Option<u32>,
) -> io::Result<Rates> {
    let (down, cpu_down) = {
        let downloads: Vec<_> = (0..connections)
            .map(|_| Download::start(port))
            .collect::<io::Result<_>>()?;
        rate(window, process, || {
            let counts = downloads.iter().map(|d| d.bytes.load(Ordering::Relaxed));
            counts.sum()
        })
    };
    let (up, cpu_up) = {
        let _uploads: Vec<_> = (0..connections)
            .map(|_| Upload::start(port))
            .collect::<io::Result<_>>()?;
        rate(window, process, || server.taken())
    };
    Ok(Rates {
        down,
        up,
        cpu_down,
        cpu_up,
    })
}

/// Round trips of one byte, up to `count` or until `window` is over.
pub(crate) fn ping(port: u16, count: usize, window: Duration) -> io::Result<Vec<Duration>> {
    let mut stream = connect(port, ECHO)?;
    let mut byte = [0];
    let mut times = Vec::with_capacity(count);
    let begin = Instant::now();
    for number in 0..count + FIRST_PINGS {
        let sent = Instant::now();
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        if number >= FIRST_PINGS {
            times.push(sent.elapsed());
        }
        if begin.elapsed() > window && !times.is_empty() {
            break;
        }
    }
    Ok(times)
}

/// So many connections that send and receive at once: bytes per second down and up.
pub(crate) fn crowd(port: u16, connections: usize, window: Duration) -> io::Result<(f64, f64)> {
    let (down, up) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut streams = Vec::new();
    for _ in 0..connections {
        let stream = connect(port, BOTH)?;
        let (mut reader, mut writer) = (stream.try_clone()?, stream.try_clone()?);
        let (down, up) = (down.clone(), up.clone());
        thread::spawn(move || read_all(&mut reader, &down));
        thread::spawn(move || {
            let chunk = vec![b'x'; CHUNK];
            while writer.write_all(&chunk).is_ok() {
                up.fetch_add(CHUNK as u64, Ordering::Relaxed);
            }
        });
        streams.push(stream);
    }
    let before = (down.load(Ordering::Relaxed), up.load(Ordering::Relaxed));
    let begin = Instant::now();
    thread::sleep(WARM_UP + window * 2);
    let took = begin.elapsed().as_secs_f64();
    let moved = (
        down.load(Ordering::Relaxed) - before.0,
        up.load(Ordering::Relaxed) - before.1,
    );
    for stream in streams {
        let _ = stream.shutdown(Shutdown::Both);
    }
    Ok((moved.0 as f64 / took, moved.1 as f64 / took))
}
