//! The destination: a server that gives, takes or returns bytes without end, and a relay that
//! delays.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

/// What a client asks for with its first byte.
pub(crate) const GIVE: u8 = b'g';
pub(crate) const TAKE: u8 = b't';
pub(crate) const ECHO: u8 = b'e';
/// Give and take at once.
pub(crate) const BOTH: u8 = b'b';

/// Bytes moved at once.
pub(crate) const CHUNK: usize = 64 << 10;
/// Chunks on their way in each direction of the relay; what a long path holds.
const UNDERWAY: usize = 1024;

/// Serves until the program ends.
pub(crate) struct Server {
    port: u16,
    taken: Arc<AtomicU64>,
}

impl Server {
    pub(crate) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let taken = Arc::new(AtomicU64::new(0));
        let counter = taken.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counter = counter.clone();
                // A client that leaves is no error.
                thread::spawn(move || serve(stream, &counter));
            }
        });
        Ok(Self { port, taken })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Bytes that clients have sent so far, to be taken.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

fn serve(mut stream: TcpStream, taken: &AtomicU64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut wish = [0];
    stream.read_exact(&mut wish)?;
    match wish[0] {
        GIVE => give(&stream),
        TAKE => take(&stream, taken),
        ECHO => {
            let mut byte = [0];
            loop {
                stream.read_exact(&mut byte)?;
                stream.write_all(&byte)?;
            }
        }
        BOTH => thread::scope(|scope| {
            scope.spawn(|| give(&stream));
            take(&stream, taken)
        }),
        _ => Ok(()),
    }
}

fn give(mut stream: &TcpStream) -> io::Result<()> {
    let chunk = vec![b'x'; CHUNK];
    loop {
        stream.write_all(&chunk)?;
    }
}

fn take(mut stream: &TcpStream, taken: &AtomicU64) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match stream.read(&mut chunk)? {
            0 => return Ok(()),
            len => taken.fetch_add(len as u64, Ordering::Relaxed),
        };
    }
}

/// A port behind which everything takes `delay` longer to reach `to`, and back.
pub(crate) fn delayed(to: u16, delay: Duration) -> io::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let Ok(far) = TcpStream::connect(("127.0.0.1", to)) else {
                return;
            };
            let _ = carry(&near, &far, delay).and_then(|()| carry(&far, &near, delay));
        }
    });
    Ok(port)
}

fn carry(from: &TcpStream, to: &TcpStream, delay: Duration) -> io::Result<()> {
    let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
    to.set_nodelay(true)?;
    let (sender, receiver) = mpsc::sync_channel::<(Instant, Vec<u8>)>(UNDERWAY);
    thread::spawn(move || {
        let mut chunk = vec![0; CHUNK];
        while let Ok(len @ 1..) = from.read(&mut chunk) {
            if sender
                .send((Instant::now() + delay, chunk[..len].to_vec()))
                .is_err()
            {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Read);
    });
    thread::spawn(move || {
        for (due, bytes) in receiver {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
    Ok(())
}
