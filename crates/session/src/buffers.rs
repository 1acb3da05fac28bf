//! Memory that is used again for bytes which are handed on piece by piece.
//!
//! A piece that was cut off a [`BytesMut`] keeps the whole buffer alive until the last piece is
//! dropped, so that whoever fills buffers one after another asks the allocator for each. Where that
//! gives large memory back to the system at once, as musl's does, each buffer costs two system
//! calls and a page fault for every 4 KiB of it: a fifth of the processor time of an upload.

use std::collections::VecDeque;

use bytes::BytesMut;

/// Buffers whose pieces may still be in use, the oldest first.
#[derive(Debug)]
pub struct Buffers {
    used: VecDeque<BytesMut>,
    most: usize,
}

impl Buffers {
    /// Keeps `most` buffers at most: as many as have pieces in use at once, and one.
    pub fn new(most: usize) -> Self {
        Self {
            used: VecDeque::new(),
            most,
        }
    }

    /// An empty buffer with room for `len_bytes`: the one that was given back first, if it is large
    /// enough and no piece of it is in use any more, else a new one.
    pub fn take(&mut self, len_bytes: usize) -> BytesMut {
        // Pieces are mostly done with in the order in which they were cut: where the oldest buffer
        // is in use, the others are.
        if let Some(oldest) = self.used.front_mut()
            && oldest.try_reclaim(len_bytes)
            && let Some(oldest) = self.used.pop_front()
        {
            return oldest;
        }
        BytesMut::with_capacity(len_bytes)
    }

    /// Takes a buffer back once all that it held has been cut off.
    pub fn give_back(&mut self, mut buffer: BytesMut) {
        buffer.clear();
        self.used.push_back(buffer);
        if self.used.len() > self.most {
            self.used.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = 64 << 10;

    /// Fills a buffer and cuts all of it off: where its memory begins, and the piece.
    fn fill(buffers: &mut Buffers) -> (usize, bytes::Bytes) {
        let mut buffer = buffers.take(LEN);
        assert!(buffer.is_empty() && buffer.capacity() >= LEN);
        buffer.resize(LEN, 7);
        let piece = buffer.split().freeze();
        buffers.give_back(buffer);
        (piece.as_ptr() as usize, piece)
    }

    #[test]
    fn memory_is_used_again_once_nobody_reads_it_any_more() {
        let mut buffers = Buffers::new(2);
        let (first, piece) = fill(&mut buffers);
        let (second, other) = fill(&mut buffers);
        assert_ne!(first, second, "the first is still read");
        assert!(piece.iter().all(|byte| *byte == 7));
        drop(piece);
        assert_eq!(fill(&mut buffers).0, first);
        drop(other);
        assert_eq!(fill(&mut buffers).0, second);
    }

    #[test]
    fn no_more_is_kept_than_was_wanted_and_nothing_too_small() {
        let mut buffers = Buffers::new(2);
        let pieces: Vec<_> = (0..5).map(|_| fill(&mut buffers)).collect();
        assert_eq!(buffers.used.len(), 2);
        drop(pieces);
        let larger = buffers.take(LEN * 2);
        assert!(larger.capacity() >= LEN * 2);
        assert_eq!(buffers.used.len(), 2);
    }
}
