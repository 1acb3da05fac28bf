//! The side that accepts streams: what an agent runs.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use super::frame::{Decoder, Item};
use super::scheduler::Scheduler;
use super::{Event, SmuxError, StreamId};

/// Bytes that all streams of a session together may have received and not yet delivered (the
/// official default).
pub const RECEIVE_BUDGET_BYTES: usize = 4 * 1024 * 1024;

/// Streams that may wait to be accepted (the official default).
pub const ACCEPT_BACKLOG: usize = 1024;

/// The agent's half of a multiplexed port session.
///
/// The caller reports delivered bytes with [`Server::release`] and accepted streams with
/// [`Server::accept`], and must not call [`Server::handle_input`] while [`Server::wants_input`] is
/// false: that is how the official library behaves, and it is why one stream that nobody reads
/// blocks all others.
#[derive(Debug)]
pub struct Server {
    decoder: Decoder,
    scheduler: Scheduler,
    streams: HashMap<StreamId, Stream>,
    events: VecDeque<Event>,
    undelivered_bytes: usize,
    unaccepted: VecDeque<StreamId>,
}

#[derive(Debug, Default)]
struct Stream {
    undelivered_bytes: usize,
    closed_here: bool,
    closed_there: bool,
}

impl Server {
    /// A session without streams.
    pub fn new() -> Self {
        Self {
            decoder: Decoder::default(),
            scheduler: Scheduler::default(),
            streams: HashMap::new(),
            events: VecDeque::new(),
            undelivered_bytes: 0,
            unaccepted: VecDeque::new(),
        }
    }

    /// Whether the receive budget and the accept backlog leave room for more input.
    pub fn wants_input(&self) -> bool {
        self.undelivered_bytes < RECEIVE_BUDGET_BYTES && self.unaccepted.len() < ACCEPT_BACKLOG
    }

    /// Takes the payload of one `Output` message.
    ///
    /// Fails when the bytes are not smux; the session is then over.
    pub fn handle_input(&mut self, mut input: Bytes) -> Result<(), SmuxError> {
        while let Some(item) = self.decoder.poll(&mut input)? {
            match item {
                Item::Ignored => {}
                Item::Open(id) => {
                    if let std::collections::hash_map::Entry::Vacant(entry) = self.streams.entry(id)
                    {
                        entry.insert(Stream::default());
                        self.unaccepted.push_back(id);
                        self.events.push_back(Event::Opened(id));
                    }
                }
                Item::Data(id, data) => {
                    let Some(stream) = self.streams.get_mut(&id) else {
                        continue;
                    };
                    if stream.closed_here || stream.closed_there {
                        continue;
                    }
                    stream.undelivered_bytes += data.len();
                    self.undelivered_bytes += data.len();
                    self.events.push_back(Event::Data(id, data));
                }
                Item::Close(id) => {
                    let Some(stream) = self.streams.get_mut(&id) else {
                        continue;
                    };
                    if stream.closed_there {
                        continue;
                    }
                    stream.closed_there = true;
                    self.scheduler.discard(id);
                    if stream.closed_here {
                        self.forget(id);
                    } else {
                        self.events.push_back(Event::Finished(id));
                    }
                }
            }
        }
        Ok(())
    }

    /// The next stream to dial for, in the order they were opened.
    pub fn accept(&mut self) -> Option<StreamId> {
        self.unaccepted.pop_front()
    }

    /// Gives `bytes` of the budget back: they have been written to the destination of `id`.
    pub fn release(&mut self, id: StreamId, bytes: usize) {
        if let Some(stream) = self.streams.get_mut(&id) {
            let released = bytes.min(stream.undelivered_bytes);
            stream.undelivered_bytes -= released;
            self.undelivered_bytes -= released;
        }
    }

    /// Queues bytes for a stream. Ignored when the stream is closed on either side.
    pub fn write(&mut self, id: StreamId, data: Bytes) {
        if self
            .streams
            .get(&id)
            .is_some_and(|stream| !stream.closed_here && !stream.closed_there)
        {
            self.scheduler.write(id, data);
        }
    }

    /// Closes a stream after what was written to it, and returns its share of the budget.
    pub fn close(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        self.undelivered_bytes -= std::mem::take(&mut stream.undelivered_bytes);
        if !stream.closed_here {
            stream.closed_here = true;
            self.scheduler.close(id);
        }
        if stream.closed_there {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: StreamId) {
        self.streams.remove(&id);
        self.unaccepted.retain(|&waiting| waiting != id);
    }

    /// What happened, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The payload of the next message to send, of at most `max_bytes`; `None` when nothing waits.
    pub fn poll_transmit(&mut self, max_bytes: usize) -> Option<Bytes> {
        self.scheduler.poll_transmit(max_bytes)
    }

    /// Queues a NOP, for an agent of a version that sends them.
    pub fn keep_alive(&mut self) {
        self.scheduler.keep_alive();
    }

    /// Bytes written to `id` and not yet taken by [`Server::poll_transmit`].
    pub fn queued_bytes_of(&self, id: StreamId) -> usize {
        self.scheduler.queued_bytes_of(id)
    }

    /// Bytes written to all streams and not yet taken.
    pub fn queued_bytes(&self) -> usize {
        self.scheduler.queued_bytes()
    }

    /// Whether there is nothing to transmit.
    pub fn is_idle(&self) -> bool {
        self.scheduler.is_idle()
    }

    /// Streams that at least one side still holds open.
    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// Says that the carrier has ended. Fails when that was inside a frame.
    pub fn finish(&self) -> Result<(), SmuxError> {
        self.decoder.finish()
    }
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}
