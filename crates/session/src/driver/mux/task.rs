//! The two tasks of a [`Mux`](super::Mux): one sends, one receives.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{MuxOptions, MuxState, Notice, SharedMux, StreamError};
use crate::driver::{Event, Events, Sender};
use crate::smux::{self, Command, HEADER_LEN, KEEP_ALIVE_INTERVAL, encode_header};
use crate::wire::{Flag, PayloadType};

/// Smallest piece taken from the streams at once, in bytes; the data channel cuts it as it has to.
const PIECE_BYTES: usize = 8 << 10;
/// Events taken in one turn.
const TURN_EVENTS: usize = 64;
/// With this much waiting it pays to ask for large payloads, in bytes.
const PROBE_ABOVE_BYTES: usize = 16 << 10;

/// Takes from the streams in turn and sends, until the session is over.
pub(super) async fn send(shared: Arc<SharedMux>, sender: Sender) {
    loop {
        let (piece, probe) = {
            let mut state = shared.lock();
            if state.ended.is_some() && state.client.is_idle() {
                break;
            }
            let probe = shared.options.large_payloads
                && state.client.queued_bytes() > PROBE_ABOVE_BYTES
                && sender.probe_len().is_some();
            let piece = (!probe)
                .then(|| {
                    let piece = state
                        .client
                        .poll_transmit(PIECE_BYTES.max(sender.max_payload()));
                    wake_writers(&mut state, &shared.options);
                    piece
                })
                .flatten();
            (piece, probe)
        };
        let sent = match (piece, probe) {
            (_, true) => ask_for_large_payloads(&sender).await,
            (Some(piece), _) => sender.send(piece).await.is_ok(),
            (None, _) => {
                shared.to_send.notified().await;
                // Whoever else is ready to write does so first. A message of its own for each of a
                // hundred connections that speak at once costs the agent, which acknowledges each,
                // a third more of the time that its dials take.
                tokio::task::yield_now().await;
                true
            }
        };
        if !sent {
            shared.end(String::new());
            break;
        }
    }
}

/// Wakes those that have room again, but not for a few bytes.
fn wake_writers(state: &mut MuxState, options: &MuxOptions) {
    let MuxState {
        client, streams, ..
    } = state;
    let bound = options.write_bound_at(client.queued_bytes());
    for (id, half) in streams {
        if half.writer.is_some()
            && client.queued_bytes_of(*id) <= bound / 2
            && let Some(waker) = half.writer.take()
        {
            waker.wake();
        }
    }
}

/// Sends a payload full of keep-alive frames, which mean nothing. It must not fall into the middle
/// of a frame, so what was sent before goes first.
async fn ask_for_large_payloads(sender: &Sender) -> bool {
    if sender.drained().await.is_err() {
        return false;
    }
    let Some(len) = sender.probe_len() else {
        return true;
    };
    let mut nops = BytesMut::with_capacity(len);
    while nops.len() + HEADER_LEN <= len {
        encode_header(&mut nops, Command::Nop, 0, 0);
    }
    let large = nops.freeze();
    let small = large.slice(..HEADER_LEN);
    sender
        .probe_payload(PayloadType::Output, large, small)
        .is_ok()
        // Until the driver has sent it, the length is still asked for.
        && sender.drained().await.is_ok()
}

/// Hands what arrives to the streams, until the session or the owner ends it.
pub(super) async fn receive(
    shared: Arc<SharedMux>,
    mut events: Events,
    notices: mpsc::UnboundedSender<Notice>,
) {
    let mut over = shared.over.subscribe();
    let started = Instant::now();
    let mut keep_alive = tokio::time::interval(KEEP_ALIVE_INTERVAL);
    let keeps_alive = shared.options.keep_alive;
    // When somebody was first held up since the session was last free: those who give up in between
    // do not start it anew.
    let mut held_since: Option<Instant> = None;
    loop {
        let (blocked, give_up_at) = {
            let mut state = shared.lock();
            let stuck_since = state.full(&shared.options).map(|(_, half)| half.read_at);
            let stuck_since = stuck_since.min();
            state.blocked = stuck_since.is_some();
            let holds = state.blocked && state.streams.len() > 1;
            held_since = held_since.filter(|_| state.blocked);
            if holds {
                held_since.get_or_insert_with(Instant::now);
            }
            let since = stuck_since.max(held_since).filter(|_| holds);
            (
                state.blocked,
                since.map(|since| since + shared.options.blocked_after),
            )
        };
        tokio::select! {
            event = events.next(), if !blocked => {
                let Some(event) = event else {
                    shared.end(String::new());
                    return;
                };
                if !take(&shared, event, &notices) {
                    return;
                }
                // What came with it goes to its readers with it, so that each of them wakes once.
                for _ in 1..TURN_EVENTS {
                    if shared.lock().full(&shared.options).next().is_some() {
                        break;
                    }
                    let Some(event) = events.try_next() else { break };
                    if !take(&shared, event, &notices) {
                        return;
                    }
                }
            }
            () = shared.to_read.notified(), if blocked => {}
            () = until(give_up_at), if blocked => {
                reset_blocking(&shared, &notices, shared.options.blocked_after);
            }
            _ = keep_alive.tick(), if keeps_alive => {
                shared.lock().client.handle_timeout(started.elapsed());
                shared.to_send.notify_one();
            }
            // Reduced to `()` before the arm runs: what `wait_for` gives holds the channel's lock,
            // and `take` wants it to end the streams.
            () = async { drop(over.wait_for(|over| *over).await) } => {
                // Whoever sends notices the end first, and the event that says why is there by
                // then.
                while let Some(event) = events.try_next() {
                    if !take(&shared, event, &notices) {
                        break;
                    }
                }
                return;
            }
        }
    }
}

/// False: the session is over.
fn take(shared: &SharedMux, event: Event, notices: &mpsc::UnboundedSender<Notice>) -> bool {
    let (ended, event) = match event {
        Event::Output(bytes) => {
            let mut state = shared.lock();
            if let Err(error) = state.client.handle_input(bytes) {
                drop(state);
                let _ = notices.send(Notice::Broken(error));
                shared.end(format!(": {error}"));
                return false;
            }
            deliver(&mut state);
            return true;
        }
        Event::Flag(flag) => {
            if flag == u32::from(Flag::ConnectToPortError) {
                shared.lock().client.handle_connect_error();
            }
            return true;
        }
        Event::Closed(closing) => {
            let why = match closing.text() {
                "" => String::new(),
                text => format!(": {text}"),
            };
            (Some(why), Event::Closed(closing))
        }
        Event::Failed(error) => (Some(format!(": {error}")), Event::Failed(error)),
        Event::Ready(_) | Event::Stderr(_) | Event::ExitCode(_) => return true,
        other => (None, other),
    };
    let _ = notices.send(Notice::Session(event));
    match ended {
        Some(why) => {
            shared.end(why);
            false
        }
        None => true,
    }
}

fn deliver(state: &mut MuxState) {
    let MuxState {
        client,
        streams,
        buffered,
        ..
    } = state;
    while let Some(event) = client.poll_event() {
        match event {
            smux::Event::Data(id, data) => {
                let Some(half) = streams.get_mut(&id) else {
                    continue;
                };
                if half.failed.is_some() {
                    continue;
                }
                // Copied: a piece of a frame would keep alive the whole buffer it was read into.
                half.buffer.extend(data.iter());
                *buffered += data.len();
                if let Some(waker) = half.reader.take() {
                    waker.wake();
                }
            }
            smux::Event::Finished(id) => {
                if let Some(half) = streams.get_mut(&id) {
                    half.finished = true;
                    half.wake();
                }
            }
            smux::Event::Refused(id) => {
                if let Some(half) = streams.get_mut(&id) {
                    half.failed = Some(StreamError::Refused);
                    half.wake();
                }
            }
            smux::Event::Opened(_) => {}
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Resets the streams that hold up others and of which nothing was read for `waited`. Slow is not
/// stuck.
pub(super) fn reset_blocking(
    shared: &SharedMux,
    notices: &mpsc::UnboundedSender<Notice>,
    waited: Duration,
) {
    let mut state = shared.lock();
    if state.streams.len() < 2 {
        return;
    }
    let now = Instant::now();
    let blocking: Vec<_> = state
        .full(&shared.options)
        .filter(|(_, half)| now >= half.read_at + waited)
        .map(|(id, _)| id)
        .collect();
    for id in blocking {
        let Some(half) = state.streams.get_mut(&id) else {
            continue;
        };
        let buffer = std::mem::take(&mut half.buffer);
        half.failed = Some(StreamError::Blocked(waited));
        half.wake();
        state.buffered -= buffer.len();
        state.client.abort(id);
        let _ = notices.send(Notice::Blocked { id, waited });
    }
    drop(state);
    shared.to_send.notify_one();
}
