//! The receiving half: numbers, order, duplicates.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::wire::PayloadType;

/// Messages kept until the ones before them arrive: at most this many. Official client: 10,000.
const MAX_STORED_MESSAGES: usize = 10_000;
/// And at most this many bytes of payload.
const MAX_STORED_BYTES: usize = 16 << 20;

/// What is to be done with a message by its number alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SequencePlace {
    /// The one expected next.
    Next,
    /// Seen before, delivered or stored: acknowledge again, do nothing else.
    Duplicate,
    /// Ahead of its turn, with room to keep it.
    Early,
    /// No room, or no valid number: say nothing, the sender repeats it.
    Refused,
}

#[derive(Debug, Default)]
pub(super) struct Incoming {
    expected: i64,
    stored: BTreeMap<i64, (PayloadType, Bytes)>,
    stored_bytes: usize,
}

impl Incoming {
    pub(super) fn place(&self, number: i64, len_bytes: usize) -> SequencePlace {
        if number < 0 || number == i64::MAX {
            SequencePlace::Refused
        } else if number == self.expected {
            SequencePlace::Next
        } else if number < self.expected || self.stored.contains_key(&number) {
            SequencePlace::Duplicate
        } else if self.stored.len() < MAX_STORED_MESSAGES
            && self.stored_bytes + len_bytes <= MAX_STORED_BYTES
        {
            SequencePlace::Early
        } else {
            SequencePlace::Refused
        }
    }

    pub(super) fn store(&mut self, number: i64, payload_type: PayloadType, payload: &[u8]) {
        self.stored_bytes += payload.len();
        // Copied: a piece of a frame keeps alive the whole buffer that the socket was read into,
        // and the bound on what is stored counts payloads.
        let payload = Bytes::copy_from_slice(payload);
        self.stored.insert(number, (payload_type, payload));
    }

    /// The expected message has been taken.
    pub(super) fn advance(&mut self) {
        self.expected += 1;
    }

    /// Takes the expected message out of the store, if it is there. Call [`Incoming::advance`] once
    /// it has been used.
    pub(super) fn take_stored(&mut self) -> Option<(PayloadType, Bytes)> {
        let entry = self.stored.remove(&self.expected)?;
        self.stored_bytes -= entry.1.len();
        Some(entry)
    }

    pub(super) fn expected(&self) -> i64 {
        self.expected
    }
}
