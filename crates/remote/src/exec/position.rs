//! How far a client is in one stream of a command.

/// The stream's next byte: the server keeps it in segments, each a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// Counted from 0.
    pub(super) segment: u32,
    /// In the segment, in bytes.
    pub(super) offset: u64,
    /// The stream has ended here.
    pub(super) is_end: bool,
}

/// What the server says of a stream does not go with what has come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a part of the output is missing")]
pub(super) struct Missing;

impl Position {
    /// The server says that what follows begins at `words`, `SEGMENT OFFSET`.
    pub(super) fn check(&self, words: &str) -> Result<(), Missing> {
        let (segment, offset) = words.split_once(' ').ok_or(Missing)?;
        let is_here = segment.parse() == Ok(self.segment) && offset.parse() == Ok(self.offset);
        if is_here && !self.is_end {
            Ok(())
        } else {
            Err(Missing)
        }
    }

    /// `len` bytes have come.
    pub(super) fn advance(&mut self, len: usize) {
        self.offset += len as u64;
    }

    /// A segment has ended at `words`.
    pub(super) fn end_segment(&mut self, words: &str) -> Result<(), Missing> {
        self.check(words)?;
        self.segment += 1;
        self.offset = 0;
        Ok(())
    }

    /// The stream has ended at `words`.
    pub(super) fn end(&mut self, words: &str) -> Result<(), Missing> {
        // Told once more after another session has taken over.
        if self.is_end {
            self.is_end = false;
        }
        self.check(words)?;
        self.is_end = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_and_a_repetition_are_noticed() {
        let mut position = Position::default();
        assert_eq!(position.check("0 0"), Ok(()));
        position.advance(10);
        for wrong in ["0 9", "0 11", "1 10", "0", "", "x y"] {
            assert_eq!(position.check(wrong), Err(Missing), "{wrong}");
        }
        assert_eq!(position.end_segment("0 11"), Err(Missing));
        assert_eq!(position.end_segment("0 10"), Ok(()));
        assert_eq!(position.check("1 0"), Ok(()));
        assert_eq!(position.end("1 1"), Err(Missing));
        assert_eq!(position.end("1 0"), Ok(()));
        assert_eq!(position.check("1 0"), Err(Missing));
        assert_eq!(position.end("1 0"), Ok(()));
    }
}
