//! The output of one server, kept until it is shown: in memory while it is short, then in a file
//! that vanishes by itself.

use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write as _};

use aws_lc_rs::digest::{Context, SHA256};
use tempfile::SpooledTempFile;

/// Bytes of one server that are kept in memory: of 200 servers no more than 13 MB.
const IN_MEMORY: usize = 64 << 10;
/// Longest piece that is read back at once, in bytes; longer ones are never written.
const PIECE: usize = 64 << 10;

/// Where a command wrote something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// Both streams of a command, in the order in which they arrived.
///
/// Each piece is a record: a byte for its stream, its length as a big-endian `u32`, its bytes.
pub(crate) struct Capture {
    records: SpooledTempFile,
    digests: [Context; 2],
    lengths: [u64; 2],
}

/// What tells two outputs apart: length and SHA-256 of each stream. How pieces of one stream came
/// between those of the other is chance, and no part of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Likeness {
    lengths: [u64; 2],
    digests: [Vec<u8>; 2],
}

impl Default for Capture {
    fn default() -> Self {
        Self {
            records: SpooledTempFile::new(IN_MEMORY),
            digests: [Context::new(&SHA256), Context::new(&SHA256)],
            lengths: [0, 0],
        }
    }
}

impl Capture {
    /// Adds a piece.
    ///
    /// # Errors
    /// The disk is full, or there is no folder for temporary files.
    pub(crate) fn add(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let index = stream as usize;
        self.digests[index].update(bytes);
        self.lengths[index] += bytes.len() as u64;
        for piece in bytes.chunks(PIECE) {
            let len = u32::try_from(piece.len()).map_err(io::Error::other)?;
            self.records.write_all(&[index as u8])?;
            self.records.write_all(&len.to_be_bytes())?;
            self.records.write_all(piece)?;
        }
        Ok(())
    }

    /// How many bytes came on a stream.
    pub(crate) fn len(&self, stream: Stream) -> u64 {
        self.lengths[stream as usize]
    }

    /// What tells it apart from others.
    pub(crate) fn likeness(&self) -> Likeness {
        Likeness {
            lengths: self.lengths,
            digests: self
                .digests
                .clone()
                .map(|digest| digest.finish().as_ref().to_vec()),
        }
    }

    /// Gives `each` every piece, in the order in which they came.
    ///
    /// # Errors
    /// The file cannot be read, or `each` fails.
    pub(crate) fn replay(
        &mut self,
        mut each: impl FnMut(Stream, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        self.records.seek(SeekFrom::Start(0))?;
        let mut records = BufReader::new(&mut self.records);
        let mut head = [0; 5];
        let mut piece = Vec::new();
        loop {
            match records.read_exact(&mut head) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
            let [stream, len @ ..] = head;
            let stream = if stream == Stream::Stdout as u8 {
                Stream::Stdout
            } else {
                Stream::Stderr
            };
            piece.resize(u32::from_be_bytes(len) as usize, 0);
            records.read_exact(&mut piece)?;
            each(stream, &piece)?;
        }
    }

    /// All that came on one stream.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn bytes_of(&mut self, wanted: Stream) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.replay(|stream, piece| {
            if stream == wanted {
                bytes.extend_from_slice(piece);
            }
            Ok(())
        })?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_comes_out_in_its_order() {
        let mut capture = Capture::default();
        let long = vec![7; 200_000];
        let pieces: [(Stream, &[u8]); 4] = [
            (Stream::Stdout, b"out"),
            (Stream::Stderr, b"err"),
            (Stream::Stdout, &long),
            (Stream::Stdout, b""),
        ];
        for (stream, bytes) in pieces {
            capture.add(stream, bytes).expect("room");
        }
        for _ in 0..2 {
            let mut order = Vec::new();
            capture
                .replay(|stream, piece| {
                    order.push((stream, piece.len()));
                    Ok(())
                })
                .expect("the records");
            assert_eq!(order[..2], [(Stream::Stdout, 3), (Stream::Stderr, 3)]);
            assert_eq!(
                order[2..].iter().map(|(_, len)| len).sum::<usize>(),
                200_000
            );
        }
        assert_eq!(capture.bytes_of(Stream::Stderr).expect("bytes"), b"err");
        assert_eq!(capture.len(Stream::Stdout), 200_003);
    }

    #[test]
    fn the_order_between_the_streams_makes_no_difference() {
        let of = |pieces: &[(Stream, &[u8])]| {
            let mut capture = Capture::default();
            for (stream, bytes) in pieces {
                capture.add(*stream, bytes).expect("room");
            }
            capture.likeness()
        };
        let (out, err) = (Stream::Stdout, Stream::Stderr);
        assert_eq!(
            of(&[(out, b"ab"), (err, b"x")]),
            of(&[(err, b"x"), (out, b"a"), (out, b"b")])
        );
        assert_ne!(of(&[(out, b"ab")]), of(&[(err, b"ab")]));
        assert_ne!(of(&[(out, b"ab")]), of(&[(out, b"abc")]));
    }
}
