//! The lanes of a large file, whatever the transport and the direction: how the file is shared out
//! over several sessions, and how its lanes begin and end as one.
//!
//! A lane that can be asked for more takes the next of the [`Remaining`] bytes whenever it has
//! carried the last, so that a slow session carries less: what is stored, and both directions of
//! SFTP. The output of a server's shell goes one way, and its script has all of its work from the
//! start: there lane `k` of `n` carries parts `k`, `k + n`, `k + 2n`, … ([`Lane`]), so that what
//! has arrived has few gaps.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::OnceCell;

/// A block: what dd counts in, in bytes. `fetch.sh` and `dialogue.sh` have the number too.
pub(crate) const BLOCK_BYTES: u64 = 1 << 20;
/// A part, in blocks; in both scripts too.
pub(crate) const PART_BLOCKS: u64 = 8;
/// A part: what lanes of sessions share out, and what is hashed by itself, in bytes.
pub(crate) const PART_BYTES: u64 = PART_BLOCKS * BLOCK_BYTES;

/// How many of `sessions` a file of `size` bytes is worth, a lane for each `lane_bytes`.
pub(crate) fn count_lanes(size: u64, lane_bytes: u64, sessions: usize) -> usize {
    usize::try_from(size / lane_bytes)
        .unwrap_or(usize::MAX)
        .clamp(1, sessions.max(1))
}

/// The bytes of a file that no lane has taken yet.
pub(crate) struct Remaining(Mutex<VecDeque<Range<u64>>>);

impl Remaining {
    /// What lies in `ranges`, in their order.
    pub(crate) fn new(ranges: impl IntoIterator<Item = Range<u64>>) -> Self {
        let ranges = ranges.into_iter().filter(|range| !range.is_empty());
        Self(Mutex::new(ranges.collect()))
    }

    /// The next bytes for a lane: up to `len` of them, without a gap. `None`: all are taken.
    pub(crate) fn take(&self, len: u64) -> Option<Range<u64>> {
        let mut ranges = lock(&self.0);
        let first = ranges.front_mut()?;
        let end = first.end.min(first.start.saturating_add(len));
        let taken = first.start..end;
        first.start = end;
        if first.is_empty() {
            ranges.pop_front();
        }
        Some(taken)
    }

    /// Whether all are taken; some of them may still be under way.
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.0).is_empty()
    }
}

/// What the lanes of one file have in common: they begin with what the first of them has opened, a
/// failure of one is the failure of all, and the last of them to end finishes the file.
pub(crate) struct LanedFile<O, E> {
    /// Lanes that have not ended.
    running: AtomicUsize,
    opened: OnceCell<O>,
    failure: Mutex<Option<E>>,
}

impl<O, E: Clone> LanedFile<O, E> {
    pub(crate) fn new(lanes: usize) -> Self {
        Self {
            running: AtomicUsize::new(lanes),
            opened: OnceCell::new(),
            failure: Mutex::new(None),
        }
    }

    /// What the first lane has opened; the others wait for it.
    ///
    /// # Errors
    /// The file could not be opened: no lane opens it a second time.
    pub(crate) async fn open_once<F>(&self, open: impl FnOnce() -> F) -> Result<&O, E>
    where
        F: Future<Output = Result<O, E>>,
    {
        let opening = self.opened.get_or_try_init(|| async {
            // The cell lets the next lane try when the first has failed.
            if let Some(failure) = self.failure() {
                return Err(failure);
            }
            let opened = open().await;
            if let Err(failure) = &opened {
                self.note_failure(failure.clone());
            }
            opened
        });
        opening.await
    }

    /// What was opened; `None` where no lane came so far.
    pub(crate) fn opened(&self) -> Option<&O> {
        self.opened.get()
    }

    /// Why the file cannot be carried; lanes that see it stop.
    pub(crate) fn failure(&self) -> Option<E> {
        lock(&self.failure).clone()
    }

    /// The first failure is kept: those after it are mostly its consequences.
    fn note_failure(&self, failure: E) {
        lock(&self.failure).get_or_insert(failure);
    }

    /// Ends a lane that has `carried` its share or failed; whether it was the last.
    pub(crate) fn end_lane(&self, carried: Result<(), E>) -> bool {
        // Before the count: the last lane must see the failures of all.
        if let Err(failure) = carried {
            self.note_failure(failure);
        }
        self.running.fetch_sub(1, Ordering::SeqCst) == 1
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One lane of a file of `size` bytes whose parts go in turn. A position in a lane counts the bytes
/// of its own parts only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lane {
    pub(crate) index: u64,
    pub(crate) count: u64,
    pub(crate) size: u64,
}

impl Lane {
    /// Parts of the whole file.
    pub(crate) fn parts(&self) -> u64 {
        self.size.div_ceil(PART_BYTES)
    }

    /// Whether the file's last part is its own.
    pub(crate) fn is_last(&self) -> bool {
        self.parts().saturating_sub(1) % self.count == self.index
    }

    /// Bytes of this lane.
    pub(crate) fn len(&self) -> u64 {
        let parts = self.parts();
        if parts <= self.index {
            return 0;
        }
        let mine = (parts - self.index).div_ceil(self.count);
        let last = self.index + (mine - 1) * self.count;
        let last_len = (self.size - last * PART_BYTES).min(PART_BYTES);
        (mine - 1) * PART_BYTES + last_len
    }

    /// Where position `at` lies in the file, and how many bytes follow there without a gap.
    pub(crate) fn place(&self, at: u64) -> (u64, u64) {
        let part = self.index + at / PART_BYTES * self.count;
        let within = at % PART_BYTES;
        (part * PART_BYTES + within, PART_BYTES - within)
    }

    /// The part and the block in it of a position that is a multiple of [`BLOCK_BYTES`].
    pub(crate) fn block(&self, at: u64) -> (u64, u64) {
        (
            self.index + at / PART_BYTES * self.count,
            at % PART_BYTES / BLOCK_BYTES,
        )
    }

    /// Where to begin when the file's first `have` bytes are there: a multiple of [`BLOCK_BYTES`].
    pub(crate) fn start(&self, have: u64) -> u64 {
        let mut at = 0;
        while at < self.len() {
            let (offset, room) = self.place(at);
            if offset + room > have {
                return at + have.saturating_sub(offset) / BLOCK_BYTES * BLOCK_BYTES;
            }
            at += room;
        }
        self.len() / BLOCK_BYTES * BLOCK_BYTES
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_remains_is_taken_once_in_pieces_without_gaps() {
        let remaining = Remaining::new([0..5, 5..5, 8..18]);
        let mut taken = Vec::new();
        while let Some(range) = remaining.take(4) {
            taken.push(range);
        }
        assert_eq!(taken, [0..4, 4..5, 8..12, 12..16, 16..18]);
        assert!(remaining.is_empty());
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_opened_fails_once_for_all_its_lanes() {
        let file = LanedFile::<(), &str>::new(3);
        let mut last = Vec::new();
        for _ in 0..3 {
            let opened = file.open_once(|| async { Err("first") }).await;
            assert_eq!(opened, Err("first"));
            // Whoever came later must not try again.
            let again = file.open_once(|| async { Ok(()) }).await;
            assert_eq!(again, Err("first"));
            last.push(file.end_lane(Err("a consequence")));
        }
        assert_eq!(last, [false, false, true]);
        assert_eq!((file.failure(), file.opened()), (Some("first"), None));
    }

    proptest! {
        #[test]
        fn lanes_cover_a_file_once(size in 0_u64..200 << 20, count in 1_u64..6, have in 0_u64..200 << 20) {
            let lanes = (0..count).map(|index| Lane { index, count, size });
            let mut ranges = Vec::new();
            let mut total = 0;
            for lane in lanes {
                total += lane.len();
                let mut at = 0;
                while at < lane.len() {
                    let (offset, room) = lane.place(at);
                    let len = room.min(lane.len() - at);
                    ranges.push((offset, offset + len));
                    at += len;
                }
                let start = lane.start(have.min(size));
                prop_assert_eq!(start % BLOCK_BYTES, 0);
                // Nothing before the start is missing.
                let mut at = 0;
                while at < start {
                    let (offset, room) = lane.place(at);
                    let len = room.min(start - at);
                    prop_assert!(offset + len <= have.min(size));
                    at += len;
                }
            }
            prop_assert_eq!(total, size);
            ranges.sort_unstable();
            let mut end = 0;
            for (from, to) in ranges {
                prop_assert_eq!(from, end);
                end = to;
            }
            prop_assert_eq!(end, size);
        }
    }
}
