//! Fewer wake-ups for output that comes at an agent's pace.
//!
//! An agent sends a kilobyte of output and then rests for a millisecond, so a download wakes this
//! process a thousand times a second. Most of what that costs is the waking, with caches that
//! others have used meanwhile, and not the message. Once output has come like that for a while
//! ([`Pace`]), the socket is looked at every few milliseconds and no longer waited for
//! ([`CoalescingSocket`]), as a network card coalesces its interrupts. Whatever is shorter than a
//! full message ends that at once: the end of a burst, an acknowledgement of ours.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use crate::wire::{HEADER_LEN, OFFICIAL_PAYLOAD_BYTES};

/// Between two looks. Acknowledgements are late by this much at most, and an agent repeats nothing
/// sooner than 10 ms after its estimate of a round trip, which half of this delay is a part of by
/// then. Source: `ClockGranularity` of `agent/session/config` in the public amazon-ssm-agent. Of
/// 4,096 messages of the official agent 2 to 5 came twice with this, 2 to 47 with 4 ms.
const LOOK_EVERY: Duration = Duration::from_millis(7);
/// More than this between two looks, in bytes, is no agent's pace.
const PACED_BYTES: usize = 16 << 10;
/// So many full messages in a row are a download, and what somebody waits for behind them has been
/// waited for much longer than one look.
const STEADY_MESSAGES: u32 = 64;
/// The least time that those take at an agent's pace, which rests for a millisecond after each.
const STEADY_TIME: Duration = Duration::from_millis(48);
/// Shortest message that an agent sends while it has more. From a terminal it cuts no character in
/// two, which leaves up to three bytes of a payload empty.
const FULL_MESSAGE_BYTES: usize = HEADER_LEN + OFFICIAL_PAYLOAD_BYTES - 3;

/// Tells from the lengths of messages whether to wait for each.
#[derive(Debug, Default)]
pub(super) struct Pace {
    coalesces: Arc<AtomicBool>,
    /// Full messages in a row, since the last judgement.
    full: u32,
    since: Duration,
}

impl Pace {
    /// For the socket whose messages are heard here.
    pub(super) fn of(coalesces: Arc<AtomicBool>) -> Self {
        Self {
            coalesces,
            ..Self::default()
        }
    }

    /// A message of `len` bytes has come.
    pub(super) fn hear(&mut self, now: Duration, len: usize) {
        if len < FULL_MESSAGE_BYTES {
            self.full = 0;
            self.coalesces.store(false, Ordering::Relaxed);
            return;
        }
        if self.full == 0 {
            self.since = now;
        }
        self.full += 1;
        if self.full > STEADY_MESSAGES {
            let is_paced = now.saturating_sub(self.since) >= STEADY_TIME;
            self.coalesces.store(is_paced, Ordering::Relaxed);
            // Judged anew: a stream may become faster, as where an old session is resumed by an
            // agent that does not rest.
            self.full = 0;
        }
    }
}

/// A TCP connection that is waited for or looked at, as [`Pace`] says.
pub(super) struct CoalescingSocket {
    state: SocketState,
    coalesces: Arc<AtomicBool>,
    look_every: Duration,
}

enum SocketState {
    /// The system tells when something can be read.
    Awaited(TcpStream),
    /// Something is read when the pause is over.
    Polled {
        /// Not registered with the runtime: as long as a socket is, the system wakes this process
        /// for each packet, whether anybody wants to read or not.
        socket: std::net::TcpStream,
        pause: Pin<Box<Sleep>>,
        /// Read since the last pause, in bytes.
        read: usize,
    },
    /// Could not be registered anew.
    Lost,
}

impl CoalescingSocket {
    pub(super) fn new(socket: TcpStream, coalesces: Arc<AtomicBool>) -> Self {
        Self {
            state: SocketState::Awaited(socket),
            coalesces,
            look_every: LOOK_EVERY,
        }
    }

    fn begin_polling(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.state, SocketState::Lost) {
            SocketState::Awaited(socket) => {
                self.state = SocketState::Polled {
                    socket: socket.into_std()?,
                    pause: Box::pin(tokio::time::sleep(self.look_every)),
                    read: 0,
                };
            }
            other => self.state = other,
        }
        Ok(())
    }

    fn await_again(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.state, SocketState::Lost) {
            SocketState::Polled { socket, .. } => {
                let socket = TcpStream::from_std(socket)?;
                self.state = SocketState::Awaited(socket);
            }
            other => self.state = other,
        }
        Ok(())
    }
}

impl AsyncRead for CoalescingSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let coalesces = this.coalesces.load(Ordering::Relaxed);
            match &mut this.state {
                SocketState::Awaited(socket) => {
                    let polled = Pin::new(socket).poll_read(cx, out);
                    if polled.is_ready() || !coalesces {
                        return polled;
                    }
                    this.begin_polling()?;
                    // Whoever waits to write has left its waker with the registration that is gone.
                    cx.waker().wake_by_ref();
                }
                SocketState::Polled { .. } if !coalesces => this.await_again()?,
                SocketState::Polled {
                    socket,
                    pause,
                    read,
                } => {
                    ready!(pause.as_mut().poll(cx));
                    let room = out.initialize_unfilled();
                    let room_len = room.len();
                    match socket.read(room) {
                        Ok(len) => {
                            out.advance(len);
                            *read += len;
                            if *read > PACED_BYTES {
                                this.coalesces.store(false, Ordering::Relaxed);
                            } else if len < room_len {
                                // That was all; what filled the room is looked behind at once.
                                *read = 0;
                                pause.as_mut().reset(Instant::now() + this.look_every);
                            }
                            return Poll::Ready(Ok(()));
                        }
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            if *read == 0 {
                                // Nothing came for a whole pause, so nothing is known of what
                                // comes next.
                                this.coalesces.store(false, Ordering::Relaxed);
                            } else {
                                *read = 0;
                                pause.as_mut().reset(Instant::now() + this.look_every);
                            }
                        }
                        Err(error) => return Poll::Ready(Err(error)),
                    }
                }
                SocketState::Lost => return Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            }
        }
    }
}

impl CoalescingSocket {
    /// Writes by `awaited` or `polled`, as the socket is.
    fn poll_write_with(
        &mut self,
        cx: &mut Context<'_>,
        awaited: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<usize>>,
        polled: impl Fn(&mut std::net::TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if let SocketState::Polled { socket, .. } = &mut self.state {
            match polled(socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Room is a thing to be waited for.
                    self.coalesces.store(false, Ordering::Relaxed);
                    self.await_again()?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                written => return Poll::Ready(written),
            }
        }
        match &mut self.state {
            SocketState::Awaited(socket) => awaited(Pin::new(socket), cx),
            _ => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl AsyncWrite for CoalescingSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_write_with(
            cx,
            |socket, cx| socket.poll_write(cx, bytes),
            |socket| socket.write(bytes),
        )
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_write_with(
            cx,
            |socket, cx| socket.poll_write_vectored(cx, pieces),
            |socket| socket.write_vectored(pieces),
        )
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A socket keeps nothing back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().state {
            SocketState::Awaited(socket) => Pin::new(socket).poll_shutdown(cx),
            SocketState::Polled { socket, .. } => Poll::Ready(socket.shutdown(Shutdown::Write)),
            SocketState::Lost => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    const FULL: usize = HEADER_LEN + OFFICIAL_PAYLOAD_BYTES;

    fn hear_many(pace: &mut Pace, from: Duration, each: Duration) -> (bool, Duration) {
        let mut now = from;
        for _ in 0..=STEADY_MESSAGES {
            pace.hear(now, FULL);
            now += each;
        }
        (pace.coalesces.load(Ordering::Relaxed), now)
    }

    #[test]
    fn only_full_messages_at_an_agents_pace_are_not_waited_for() {
        let mut pace = Pace::default();
        let (paced, now) = hear_many(&mut pace, Duration::ZERO, Duration::from_millis(1));
        assert!(paced);
        pace.hear(now, FULL - 4);
        assert!(!pace.coalesces.load(Ordering::Relaxed), "a short one");
        let (paced, now) = hear_many(&mut pace, now, Duration::from_micros(50));
        assert!(!paced, "an agent that does not rest");
        let (paced, now) = hear_many(&mut pace, now, Duration::from_millis(1));
        assert!(paced);
        assert!(!hear_many(&mut pace, now, Duration::from_micros(50)).0);
    }

    struct Ends {
        ours: CoalescingSocket,
        coalesces: Arc<AtomicBool>,
        far: TcpStream,
    }

    async fn ends() -> Ends {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (ours, far) = tokio::join!(
            TcpStream::connect(listener.local_addr().unwrap()),
            listener.accept()
        );
        let coalesces = Arc::<AtomicBool>::default();
        Ends {
            ours: CoalescingSocket::new(ours.unwrap(), coalesces.clone()),
            coalesces,
            far: far.unwrap().0,
        }
    }

    impl Ends {
        /// Lets our end be looked at from now on.
        async fn coalesce(&mut self) {
            self.coalesces.store(true, Ordering::Relaxed);
            let mut room = [0; 1];
            let nothing = std::future::poll_fn(|cx| {
                let mut room = ReadBuf::new(&mut room);
                Poll::Ready(
                    Pin::new(&mut self.ours)
                        .poll_read(cx, &mut room)
                        .is_pending(),
                )
            });
            assert!(nothing.await);
            assert!(matches!(self.ours.state, SocketState::Polled { .. }));
        }
    }

    /// Everything that can happen without the clock has happened.
    async fn let_the_others_run() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_comes_wakes_nobody_between_two_looks() {
        for coalesces in [false, true] {
            let mut ends = ends().await;
            ends.ours.look_every = Duration::from_secs(3600);
            if coalesces {
                ends.coalesce().await;
            }
            let Ends {
                mut ours, mut far, ..
            } = ends;
            let reader = tokio::spawn(async move { ours.read_u8().await });
            let_the_others_run().await;
            far.write_all(b"output").await.unwrap();
            let_the_others_run().await;
            assert_eq!(reader.is_finished(), !coalesces);
            reader.abort();
        }
    }

    #[tokio::test]
    async fn a_pause_in_which_nothing_came_is_the_last_one() {
        let mut ends = ends().await;
        ends.coalesce().await;
        let Ends {
            mut ours,
            mut far,
            coalesces,
        } = ends;
        let reader = tokio::spawn(async move {
            let byte = ours.read_u8().await.unwrap();
            (byte, matches!(ours.state, SocketState::Awaited(_)))
        });
        while coalesces.load(Ordering::Relaxed) {
            tokio::task::yield_now().await;
        }
        far.write_all(b"x").await.unwrap();
        assert_eq!(reader.await.unwrap(), (b'x', true));
    }

    #[tokio::test]
    async fn all_of_a_fast_stream_comes_in_order_and_it_is_waited_for_again() {
        let mut ends = ends().await;
        ends.coalesce().await;
        let sent: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
        let expected = sent.clone();
        let mut far = ends.far;
        let writer = tokio::spawn(async move {
            far.write_all(&sent).await.unwrap();
        });
        let mut got = Vec::new();
        ends.ours.read_to_end(&mut got).await.unwrap();
        writer.await.unwrap();
        assert!(got == expected);
        assert!(matches!(ends.ours.state, SocketState::Awaited(_)));
    }

    #[tokio::test]
    async fn a_writer_is_not_forgotten_when_the_way_of_reading_changes() {
        let mut ends = ends().await;
        // More than the buffers of both ends take.
        let bytes = vec![7; 16 << 20];
        let len = bytes.len();
        let coalesces = ends.coalesces.clone();
        let (mut reading, mut writing) = tokio::io::split(ends.ours);
        let writer = tokio::spawn(async move {
            writing.write_all(&bytes).await.unwrap();
            writing
        });
        let reader = tokio::spawn(async move { reading.read_u8().await });
        let_the_others_run().await;
        coalesces.store(true, Ordering::Relaxed);
        // Wakes both, so that the reader changes over while the writer waits.
        let mut got = vec![0; 1 << 20];
        ends.far.read_exact(&mut got).await.unwrap();
        let_the_others_run().await;
        let mut got = vec![0; len - got.len()];
        ends.far.read_exact(&mut got).await.unwrap();
        drop(writer.await.unwrap());
        ends.far.write_all(b"x").await.unwrap();
        assert_eq!(reader.await.unwrap().unwrap(), b'x');
    }
}
