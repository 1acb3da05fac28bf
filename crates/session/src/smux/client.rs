//! The side that opens streams.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::frame::{Decoder, Item};
use super::scheduler::Scheduler;
use super::{Event, SmuxError, StreamId};

/// How often a NOP is sent when the agent expects them: it closes a session that was silent for 30
/// seconds.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// The first id the official client uses: it adds two to one before the first stream.
const FIRST_STREAM_ID: StreamId = 3;

/// The client's half of a multiplexed port session.
///
/// Nothing is buffered for reading: data of a stream comes out of [`Client::poll_event`] as it
/// comes in, and the caller bounds what it keeps. What is written waits here until
/// [`Client::poll_transmit`] takes it, so the caller bounds that too, by
/// [`Client::queued_bytes_of`].
#[derive(Debug)]
pub struct Client {
    decoder: Decoder,
    scheduler: Scheduler,
    streams: BTreeMap<StreamId, Stream>,
    next_id: Option<StreamId>,
    events: VecDeque<Event>,
    /// Dial errors the agent has reported and whose FIN has not arrived yet.
    pending_refusals: usize,
    keep_alive_at: Option<Duration>,
}

#[derive(Debug, Default)]
struct Stream {
    received: bool,
    closed_here: bool,
    closed_there: bool,
}

impl Client {
    /// A session without keep-alive.
    pub fn new() -> Self {
        Self {
            decoder: Decoder::default(),
            scheduler: Scheduler::default(),
            streams: BTreeMap::new(),
            next_id: Some(FIRST_STREAM_ID),
            events: VecDeque::new(),
            pending_refusals: 0,
            keep_alive_at: None,
        }
    }

    /// Sends a NOP every [`KEEP_ALIVE_INTERVAL`] from `now` on, as agents up to 3.1.1511.0 need it.
    pub fn with_keep_alive(mut self, now: Duration) -> Self {
        self.keep_alive_at = Some(now + KEEP_ALIVE_INTERVAL);
        self
    }

    /// Opens a stream; its SYN goes out before anything that is written to it.
    ///
    /// Fails once all ids have been used; a new session is then needed.
    pub fn open(&mut self) -> Result<StreamId, SmuxError> {
        let id = self.next_id.ok_or(SmuxError::IdsExhausted)?;
        self.next_id = id.checked_add(2);
        self.streams.insert(id, Stream::default());
        self.scheduler.open(id);
        Ok(id)
    }

    /// Queues bytes for a stream. Ignored when the stream is closed on either side: nobody would
    /// read them.
    pub fn write(&mut self, id: StreamId, data: Bytes) {
        if self
            .streams
            .get(&id)
            .is_some_and(|stream| !stream.closed_here && !stream.closed_there)
        {
            self.scheduler.write(id, data);
        }
    }

    /// Closes a stream after what was written to it: the agent then closes its whole connection, so
    /// an answer that is still on its way is lost. What still arrives for the stream is discarded
    /// here.
    pub fn close(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if stream.closed_there {
            self.scheduler.discard(id);
        }
        if !stream.closed_here {
            stream.closed_here = true;
            self.scheduler.close(id);
        }
        if stream.closed_there {
            self.streams.remove(&id);
        }
    }

    /// As [`Client::close`], but what was written and not yet sent is dropped.
    pub fn abort(&mut self, id: StreamId) {
        self.scheduler.discard(id);
        self.close(id);
    }

    /// Takes the payload of one `Output` message.
    ///
    /// Fails when the bytes are not smux; the session is then over.
    pub fn handle_input(&mut self, mut input: Bytes) -> Result<(), SmuxError> {
        while let Some(item) = self.decoder.poll(&mut input)? {
            match item {
                // The agent opens no streams; what it would send on one has no reader.
                Item::Open(_) | Item::Ignored => {}
                Item::Data(id, data) => {
                    let Some(stream) = self.streams.get_mut(&id) else {
                        continue;
                    };
                    stream.received = true;
                    if !stream.closed_here && !stream.closed_there {
                        self.events.push_back(Event::Data(id, data));
                    }
                }
                Item::Close(id) => self.handle_close(id),
            }
        }
        Ok(())
    }

    /// Takes the flag ConnectToPortError, with which the agent says that a dial failed, but not
    /// which.
    ///
    /// The agent dials one stream at a time and closes the failed stream right after the flag, so
    /// the flag belongs to the stream that is closed next without having received anything. (The
    /// oldest stream without received data is not always the one: it may be connected to a server
    /// that waits for the client to speak.)
    pub fn handle_connect_error(&mut self) {
        self.pending_refusals += 1;
    }

    fn handle_close(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if stream.closed_there {
            return;
        }
        stream.closed_there = true;
        let refused = !stream.received && self.pending_refusals > 0;
        if refused {
            self.pending_refusals -= 1;
        }
        if stream.closed_here {
            self.streams.remove(&id);
        } else {
            self.scheduler.discard(id);
        }
        // A refusal is reported even when the stream was given up here meanwhile: a person may want
        // to know the reason.
        if refused {
            self.events.push_back(Event::Refused(id));
        } else if self.streams.contains_key(&id) {
            self.events.push_back(Event::Finished(id));
        }
    }

    /// What happened, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The payload of the next message to send, of at most `max_bytes`; `None` when nothing waits.
    pub fn poll_transmit(&mut self, max_bytes: usize) -> Option<Bytes> {
        self.scheduler.poll_transmit(max_bytes)
    }

    /// When [`Client::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.keep_alive_at
    }

    /// Queues the keep-alive that is due.
    pub fn handle_timeout(&mut self, now: Duration) {
        if let Some(due) = self.keep_alive_at
            && now >= due
        {
            self.scheduler.keep_alive();
            self.keep_alive_at = Some(now + KEEP_ALIVE_INTERVAL);
        }
    }

    /// Bytes written to `id` and not yet taken by [`Client::poll_transmit`].
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

    /// Whether ids are left; when not, new streams need a new session.
    pub fn can_open(&self) -> bool {
        self.next_id.is_some()
    }

    /// Says that the carrier has ended. Fails when that was inside a frame.
    pub fn finish(&self) -> Result<(), SmuxError> {
        self.decoder.finish()
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}
