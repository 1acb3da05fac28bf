//! The sending half that client and server share: whose turn it is, and in which order the frames
//! of a stream go out.

use std::collections::{HashMap, VecDeque};

use bytes::{BufMut as _, Bytes, BytesMut};

use super::StreamId;
use super::frame::{Command, HEADER_LEN, MAX_SEND_PAYLOAD_BYTES, encode_header};

/// How many bytes a stream may send before the others get their turn.
const QUANTUM_BYTES: usize = 4096;

/// Less room than this at the end of a message is left empty rather than used for a sliver of a
/// frame.
const MIN_USEFUL_ROOM: usize = HEADER_LEN + 64;

/// Takes turns between streams, in byte-fair rounds.
///
/// A stream that had nothing queued goes before those that have been sending (as `fq_codel` treats
/// new flows), so that a key press does not wait behind a round of bulk data; it loses that place
/// once it has sent a quantum.
#[derive(Debug, Default)]
pub(super) struct Scheduler {
    queues: HashMap<StreamId, Queue>,
    fresh: VecDeque<StreamId>,
    busy: VecDeque<StreamId>,
    queued_bytes: usize,
    keep_alive_due: bool,
}

#[derive(Debug, Default)]
struct Queue {
    open_first: bool,
    data: VecDeque<Bytes>,
    data_bytes: usize,
    close_last: bool,
    /// Bytes this stream may still send in its turn.
    credit: usize,
    waiting: bool,
}

impl Queue {
    fn is_empty(&self) -> bool {
        !self.open_first && self.data_bytes == 0 && !self.close_last
    }
}

impl Scheduler {
    pub(super) fn open(&mut self, id: StreamId) {
        self.queues.entry(id).or_default().open_first = true;
        self.wake(id);
    }

    pub(super) fn write(&mut self, id: StreamId, data: Bytes) {
        if data.is_empty() {
            return;
        }
        let queue = self.queues.entry(id).or_default();
        queue.data_bytes += data.len();
        self.queued_bytes += data.len();
        queue.data.push_back(data);
        self.wake(id);
    }

    /// Queues the FIN behind what was written.
    pub(super) fn close(&mut self, id: StreamId) {
        self.queues.entry(id).or_default().close_last = true;
        self.wake(id);
    }

    /// Drops what was written and not sent.
    pub(super) fn discard(&mut self, id: StreamId) {
        if let Some(queue) = self.queues.get_mut(&id) {
            self.queued_bytes -= queue.data_bytes;
            queue.data_bytes = 0;
            queue.data.clear();
        }
    }

    pub(super) fn keep_alive(&mut self) {
        self.keep_alive_due = true;
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    pub(super) fn queued_bytes_of(&self, id: StreamId) -> usize {
        self.queues.get(&id).map_or(0, |queue| queue.data_bytes)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.fresh.is_empty() && self.busy.is_empty() && !self.keep_alive_due
    }

    fn wake(&mut self, id: StreamId) {
        if let Some(queue) = self.queues.get_mut(&id)
            && !queue.waiting
        {
            queue.waiting = true;
            queue.credit = QUANTUM_BYTES;
            self.fresh.push_back(id);
        }
    }

    /// Fills one carrier message of at most `max_bytes` with whole frames; `None` when nothing
    /// waits or nothing fits.
    pub(super) fn poll_transmit(&mut self, max_bytes: usize) -> Option<Bytes> {
        if self.is_idle() || max_bytes < HEADER_LEN + 1 {
            return None;
        }
        let mut out = BytesMut::with_capacity(max_bytes.min(self.queued_bytes + 256));
        if self.keep_alive_due {
            self.keep_alive_due = false;
            encode_header(&mut out, Command::Nop, 0, 0);
        }
        loop {
            let from_fresh = !self.fresh.is_empty();
            let Some(&id) = self.fresh.front().or_else(|| self.busy.front()) else {
                break;
            };
            let room = max_bytes - out.len();
            if room < MIN_USEFUL_ROOM.min(max_bytes) && !out.is_empty() {
                break;
            }
            // Nobody waits behind a single stream, so its frames may be as long as they can be.
            let alone = self.fresh.len() + self.busy.len() == 1;
            let Some(queue) = self.queues.get_mut(&id) else {
                self.pop(from_fresh);
                continue;
            };
            if alone {
                queue.credit = queue.credit.max(MAX_SEND_PAYLOAD_BYTES);
            }
            let sent = Self::take_turn(id, queue, &mut out, max_bytes);
            self.queued_bytes -= sent;
            let (empty, spent) = (queue.is_empty(), queue.credit == 0);
            if empty {
                queue.waiting = false;
                self.queues.remove(&id);
                self.pop(from_fresh);
            } else if spent {
                queue.credit = QUANTUM_BYTES;
                self.pop(from_fresh);
                self.busy.push_back(id);
            } else {
                // The message is full in the middle of this stream's turn; it goes on in the next
                // one.
                break;
            }
        }
        (!out.is_empty()).then(|| out.freeze())
    }

    fn pop(&mut self, from_fresh: bool) {
        if from_fresh {
            self.fresh.pop_front();
        } else {
            self.busy.pop_front();
        }
    }

    /// Writes the frames of one turn and returns how many payload bytes they carry.
    fn take_turn(id: StreamId, queue: &mut Queue, out: &mut BytesMut, max_bytes: usize) -> usize {
        let room = |out: &BytesMut| max_bytes - out.len();
        if queue.open_first {
            if room(out) < HEADER_LEN {
                return 0;
            }
            encode_header(out, Command::Syn, 0, id);
            queue.open_first = false;
        }
        let mut sent = 0;
        if queue.data_bytes > 0 && room(out) > HEADER_LEN {
            let length = queue
                .data_bytes
                .min(queue.credit)
                .min(room(out) - HEADER_LEN)
                .min(MAX_SEND_PAYLOAD_BYTES);
            // At most 32,768, so the cast is exact.
            encode_header(out, Command::Psh, length as u16, id);
            while sent < length {
                let Some(front) = queue.data.front_mut() else {
                    break;
                };
                let piece = front.split_to(front.len().min(length - sent));
                if front.is_empty() {
                    queue.data.pop_front();
                }
                sent += piece.len();
                out.put(piece);
            }
            queue.data_bytes -= sent;
            queue.credit -= sent;
        }
        if queue.data_bytes == 0 && queue.close_last && room(out) >= HEADER_LEN {
            encode_header(out, Command::Fin, 0, id);
            queue.close_last = false;
        }
        sent
    }
}
