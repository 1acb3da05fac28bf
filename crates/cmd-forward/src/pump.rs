//! Carries one connection.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ops_core::Connection;
use ops_session::closing::ClosingReason;
use ops_session::driver::Event;
use ops_session::driver::mux::MuxStream;
use ops_session::wire::Flag;
use tokio::time::Instant;

use crate::local::LocalConn;

/// Bytes read at once from either end.
const BUFFER_BYTES: usize = 16 << 10;
/// After the far end has closed: how long the client may take to notice before its socket is closed
/// too.
const LINGER: Duration = Duration::from_secs(2);
/// Without the multiplexer the far end's close is invisible: after the client has stopped sending,
/// this much silence is the end.
const BASIC_SILENCE: Duration = Duration::from_secs(10);
/// Longest wait for acknowledgements when a connection without multiplexer ends.
const BASIC_DRAIN: Duration = Duration::from_secs(5);

/// What passed through one forward.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) open: AtomicUsize,
    pub(crate) total: AtomicU64,
    pub(crate) up: AtomicU64,
    pub(crate) down: AtomicU64,
}

/// Of one connection, for `-v`.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    pub(crate) up: AtomicU64,
    pub(crate) down: AtomicU64,
}

impl Carried {
    fn add(&self, counters: &Counters, up: usize, down: usize) {
        self.up.fetch_add(up as u64, Ordering::Relaxed);
        self.down.fetch_add(down as u64, Ordering::Relaxed);
        counters.up.fetch_add(up as u64, Ordering::Relaxed);
        counters.down.fetch_add(down as u64, Ordering::Relaxed);
    }
}

/// How a connection ended.
#[derive(Debug)]
pub(crate) enum ConnEnd {
    /// The far end closed it, and everything was delivered.
    Far,
    /// The client went away.
    Local,
    /// It was cut; the client must see that.
    Cut(io::Error),
}

enum PumpStop {
    Eof,
    Near,
    Far(io::Error),
}

/// Carries a connection over a stream of a shared session. The caller resets
/// `local` after [`ConnEnd::Cut`].
pub(crate) async fn over_stream(
    local: &LocalConn,
    stream: MuxStream,
    counters: &Counters,
    carried: &Carried,
) -> ConnEnd {
    let last_down = Mutex::new(Instant::now());
    let end = {
        // Memory is taken once there is something to put into it: most of many connections are
        // idle.
        let up = async {
            loop {
                let room = match stream.writable().await {
                    Ok(room) => room,
                    Err(error) => return PumpStop::Far(error),
                };
                match local.read_some(room.min(BUFFER_BYTES)).await {
                    Ok(bytes) if bytes.is_empty() => return PumpStop::Eof,
                    Ok(bytes) => {
                        carried.add(counters, bytes.len(), 0);
                        stream.write_bytes(bytes);
                    }
                    Err(_) => return PumpStop::Near,
                }
            }
        };
        let down = async {
            loop {
                let there = match stream.answered().await {
                    Ok(there) => there,
                    Err(error) => return PumpStop::Far(error),
                };
                // Never empty: of nothing there is the end to be read.
                let mut buffer = vec![0; there.clamp(1, BUFFER_BYTES)];
                match stream.try_read(&mut buffer) {
                    Ok(None) => {}
                    Ok(Some(0)) => return PumpStop::Eof,
                    Ok(Some(len)) => {
                        if local.write_all(&buffer[..len]).await.is_err() {
                            return PumpStop::Near;
                        }
                        touch(&last_down);
                        carried.add(counters, 0, len);
                    }
                    Err(error) => return PumpStop::Far(error),
                }
            }
        };
        // The far end closes its stream by itself.
        let silence = std::future::pending();
        carry_both_ways(local, &last_down, up, down, silence).await
    };
    match end {
        ConnEnd::Far => {
            drop(stream);
            linger(local).await;
        }
        // What the client sent before it went is still delivered.
        ConnEnd::Local => drop(stream),
        ConnEnd::Cut(_) => stream.abort(),
    }
    end
}

/// Runs both directions until the connection is over. The client may be done sending long before
/// that: once it is, its leaving ends the connection, and so does `silence`.
async fn carry_both_ways(
    local: &LocalConn,
    last_down: &Mutex<Instant>,
    up: impl Future<Output = PumpStop>,
    down: impl Future<Output = PumpStop>,
    silence: impl Future<Output = ()>,
) -> ConnEnd {
    tokio::pin!(up, down, silence);
    let (mut sending, mut may_go) = (true, false);
    loop {
        tokio::select! {
            stop = &mut up, if sending => {
                sending = false;
                match stop {
                    // The answer may still be on its way, and a close here would cut it off.
                    PumpStop::Eof => may_go = true,
                    PumpStop::Near => return ConnEnd::Local,
                    // Reading tells how it ended.
                    PumpStop::Far(_) => {}
                }
            }
            stop = &mut down => return match stop {
                PumpStop::Eof => ConnEnd::Far,
                PumpStop::Near => ConnEnd::Local,
                PumpStop::Far(error) => ConnEnd::Cut(error),
            },
            () = local.gone(|| quiet_for(last_down)), if may_go => return ConnEnd::Local,
            () = &mut silence, if may_go => return ConnEnd::Far,
        }
    }
}

fn touch(at: &Mutex<Instant>) {
    *at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
}

fn quiet_for(at: &Mutex<Instant>) -> Duration {
    at.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
}

/// Lets the client read what it was sent: closing a socket that has unread input would reset it.
async fn linger(local: &LocalConn) {
    local.finish();
    let rest = async {
        let mut buffer = [0; 4096];
        while local.read(&mut buffer).await.is_ok_and(|len| len > 0) {}
    };
    let _ = tokio::time::timeout(LINGER, rest).await;
}

/// Carries a connection over a session of its own, and ends that session.
pub(crate) async fn over_session(
    local: &LocalConn,
    connection: Connection,
    counters: &Counters,
    carried: &Carried,
) -> ConnEnd {
    let (session, ending) = connection.into_parts();
    let (sender, mut events) = (session.sender, session.events);
    let last_down = Mutex::new(Instant::now());
    let mut over_at_service = false;
    let end = {
        let up = async {
            let mut buffer = vec![0; BUFFER_BYTES];
            loop {
                match local.read(&mut buffer).await {
                    Ok(0) => return PumpStop::Eof,
                    Ok(len) => {
                        let bytes = buffer[..len].to_vec();
                        if sender.send(bytes).await.is_err() {
                            return PumpStop::Far(io::ErrorKind::ConnectionAborted.into());
                        }
                        carried.add(counters, len, 0);
                    }
                    Err(_) => return PumpStop::Near,
                }
            }
        };
        let down = async {
            while let Some(event) = events.next().await {
                match event {
                    Event::Output(bytes) => {
                        if local.write_all(&bytes).await.is_err() {
                            return PumpStop::Near;
                        }
                        touch(&last_down);
                        carried.add(counters, 0, bytes.len());
                    }
                    Event::Closed(closing) => {
                        over_at_service = true;
                        // The agent tells of a failed dial, and of nothing else, in this way.
                        let kind = match closing.reason() {
                            ClosingReason::NoConnection | ClosingReason::ForbiddenDestination => {
                                io::ErrorKind::ConnectionRefused
                            }
                            _ => io::ErrorKind::ConnectionAborted,
                        };
                        return PumpStop::Far(match closing.text() {
                            "" => io::Error::new(kind, "the session has ended"),
                            text => io::Error::new(kind, text),
                        });
                    }
                    Event::Failed(error) => return PumpStop::Far(io::Error::other(error)),
                    _ => {}
                }
            }
            PumpStop::Far(io::ErrorKind::ConnectionAborted.into())
        };
        let silence = async {
            touch(&last_down);
            loop {
                let quiet = quiet_for(&last_down);
                if quiet >= BASIC_SILENCE {
                    return;
                }
                tokio::time::sleep(BASIC_SILENCE - quiet).await;
            }
        };
        carry_both_ways(local, &last_down, up, down, silence).await
    };
    if over_at_service {
        ending.ended();
    } else {
        if matches!(end, ConnEnd::Local | ConnEnd::Far) {
            // What was sent must have arrived before the connection behind it is closed.
            let _ = tokio::time::timeout(BASIC_DRAIN, sender.drained()).await;
            let _ = sender.send_flag(Flag::DisconnectToPort).await;
            let _ = tokio::time::timeout(BASIC_DRAIN, sender.drained()).await;
        }
        if matches!(end, ConnEnd::Far) {
            linger(local).await;
        }
        // The client need not wait for the service: it is terminated in the background.
        drop(ending);
    }
    end
}
