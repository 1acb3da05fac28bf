//! How a large file is shared out: lane `k` of `n` carries parts `k`, `k + n`, `k + 2n`, …, so that
//! what has arrived has few gaps.

/// A part, in blocks.
pub(super) const PART_BLOCKS: u64 = 8;
/// A block: what dd counts in, in bytes.
pub(super) const BLOCK_BYTES: u64 = 1 << 20;
const PART_BYTES: u64 = PART_BLOCKS * BLOCK_BYTES;

/// One lane of a file of `size` bytes. A position in a lane counts the bytes of its own parts only.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lane {
    pub(super) index: u64,
    pub(super) count: u64,
    pub(super) size: u64,
}

impl Lane {
    /// Parts of the whole file.
    pub(super) fn parts(&self) -> u64 {
        self.size.div_ceil(PART_BYTES)
    }

    /// Whether the file's last part is its own.
    pub(super) fn is_last(&self) -> bool {
        self.parts().saturating_sub(1) % self.count == self.index
    }

    /// Bytes of this lane.
    pub(super) fn len(&self) -> u64 {
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
    pub(super) fn place(&self, at: u64) -> (u64, u64) {
        let part = self.index + at / PART_BYTES * self.count;
        let within = at % PART_BYTES;
        (part * PART_BYTES + within, PART_BYTES - within)
    }

    /// The part and the block in it of a position that is a multiple of [`BLOCK_BYTES`].
    pub(super) fn block(&self, at: u64) -> (u64, u64) {
        (
            self.index + at / PART_BYTES * self.count,
            at % PART_BYTES / BLOCK_BYTES,
        )
    }

    /// Where to begin when the file's first `have` bytes are there: a multiple of [`BLOCK_BYTES`].
    pub(super) fn start(&self, have: u64) -> u64 {
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
