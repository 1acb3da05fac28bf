//! One connection of a [`Mux`](super::Mux).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{MuxGuard, Sender, SharedMux, StreamError};
use crate::smux::StreamId;

/// A reader's buffer that is empty and larger than this gives its memory back, in bytes.
const KEPT_BUFFER_BYTES: usize = 8 << 10;

/// One connection through the tunnel. Dropping it closes it at the agent, after what was written.
#[derive(Debug)]
pub struct MuxStream {
    id: StreamId,
    shared: Arc<SharedMux>,
    sender: Sender,
    _guard: Arc<MuxGuard>,
    aborted: bool,
}

impl MuxStream {
    pub(super) fn new(
        id: StreamId,
        shared: Arc<SharedMux>,
        sender: Sender,
        guard: Arc<MuxGuard>,
    ) -> Self {
        Self {
            id,
            shared,
            sender,
            _guard: guard,
            aborted: false,
        }
    }

    /// The stream's id within its session.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// The session's round-trip time: the shortest that was measured, else a guess.
    pub fn rtt(&self) -> std::time::Duration {
        let stats = self.sender.stats();
        stats.shortest_rtt.unwrap_or(stats.rtt)
    }

    /// Waits for a word of the far end: so many bytes or, with 0, its close. Takes nothing; a
    /// destination that waits for the client to speak says nothing.
    pub async fn answered(&self) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_answered(cx)).await
    }

    fn poll_answered(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let Some(half) = state.streams.get_mut(&self.id) else {
            return Poll::Ready(Ok(0));
        };
        if let Some(error) = &half.failed {
            return Poll::Ready(Err(error.clone().into()));
        }
        if !half.buffer.is_empty() || half.finished {
            return Poll::Ready(Ok(half.buffer.len()));
        }
        if let Some(why) = &state.ended {
            return Poll::Ready(Err(StreamError::Ended(why.clone()).into()));
        }
        half.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Closes the stream at once: what was written and not yet sent is dropped.
    pub fn abort(mut self) {
        self.aborted = true;
    }

    /// Why nothing can be written any more, if so.
    fn write_error(half: &super::StreamState, ended: Option<&String>) -> Option<StreamError> {
        if let Some(error) = &half.failed {
            return Some(error.clone());
        }
        if half.finished {
            return Some(StreamError::Closed);
        }
        ended.map(|why| StreamError::Ended(why.clone()))
    }
}

impl MuxStream {
    /// Waits until something can be written, and says how many bytes. Only one task may wait.
    pub async fn writable(&self) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_writable(cx)).await
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let Some(half) = state.streams.get_mut(&self.id) else {
            return Poll::Ready(Err(StreamError::Closed.into()));
        };
        if let Some(error) = Self::write_error(half, state.ended.as_ref()) {
            return Poll::Ready(Err(error.into()));
        }
        let bound = (self.shared.options).write_bound_at(state.client.queued_bytes());
        let room = bound.saturating_sub(state.client.queued_bytes_of(self.id));
        if room == 0 {
            half.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(room))
    }

    /// Queues bytes, at most as many as [`MuxStream::writable`] has promised. What the far end no
    /// longer wants is dropped.
    pub fn write_bytes(&self, bytes: Bytes) {
        self.shared.lock().client.write(self.id, bytes);
        self.shared.to_send.notify_one();
    }

    /// Takes what has come; 0 at the far end's close,
    /// `None` when nothing is there. [`MuxStream::answered`] waits.
    pub fn try_read(&self, out: &mut [u8]) -> io::Result<Option<usize>> {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let Some(half) = state.streams.get_mut(&self.id) else {
            return Ok(Some(0));
        };
        if let Some(error) = &half.failed {
            return Err(error.clone().into());
        }
        if half.buffer.is_empty() {
            if half.finished {
                return Ok(Some(0));
            }
            return match &state.ended {
                Some(why) => Err(StreamError::Ended(why.clone()).into()),
                None => Ok(None),
            };
        }
        let len = out.len().min(half.buffer.len());
        let (front, back) = half.buffer.as_slices();
        let from_front = len.min(front.len());
        out[..from_front].copy_from_slice(&front[..from_front]);
        out[from_front..len].copy_from_slice(&back[..len - from_front]);
        half.buffer.drain(..len);
        if half.buffer.is_empty() && half.buffer.capacity() > KEPT_BUFFER_BYTES {
            half.buffer = std::collections::VecDeque::new();
        }
        half.read_at = tokio::time::Instant::now();
        state.buffered -= len;
        if state.blocked {
            self.shared.to_read.notify_one();
        }
        Ok(Some(len))
    }
}

impl AsyncRead for MuxStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_answered(cx))?;
        if let Some(len) = self.try_read(out.initialize_unfilled())? {
            out.advance(len);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for MuxStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let room = std::task::ready!(self.poll_writable(cx))?;
        let len = room.min(data.len());
        self.write_bytes(Bytes::copy_from_slice(&data[..len]));
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Sends nothing: the only close there is would end the other direction too.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for MuxStream {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if let Some(half) = state.streams.remove(&self.id) {
            state.buffered -= half.buffer.len();
        }
        if self.aborted {
            state.client.abort(self.id);
        } else {
            state.client.close(self.id);
        }
        drop(state);
        self.shared.to_send.notify_one();
        self.shared.to_read.notify_one();
    }
}
