//! Decompression of what a server sends, a little at a time: what it becomes must not fill the memory.

use std::io::{self, Write as _};

use flate2::write::MultiGzDecoder;

/// Fed at once, in bytes; a thousandfold of it may come out.
const PIECE_BYTES: usize = 1 << 10;
/// Largest window a stream may ask for, as a power of two.
const WINDOW_LOG_MAX: u32 = 23;

/// A decoder.
pub(super) enum Inflate {
    Plain,
    Gzip(MultiGzDecoder<Vec<u8>>),
    Zstd(zstd::stream::write::Decoder<'static, Vec<u8>>),
}

impl Inflate {
    /// The one for `codec` as its program is called, or none.
    ///
    /// # Errors
    /// An unknown one.
    pub(super) fn new(codec: &str) -> io::Result<Self> {
        Ok(match codec {
            "-" => Self::Plain,
            "gzip" => Self::Gzip(MultiGzDecoder::new(Vec::new())),
            "zstd" => {
                let mut decoder = zstd::stream::write::Decoder::new(Vec::new())?;
                decoder.window_log_max(WINDOW_LOG_MAX)?;
                Self::Zstd(decoder)
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        })
    }

    /// Pieces in which [`Inflate::push`] takes `bytes`.
    pub(super) fn pieces<'a>(&self, bytes: &'a [u8]) -> std::slice::Chunks<'a, u8> {
        bytes.chunks(match self {
            Self::Plain => bytes.len().max(1),
            _ => PIECE_BYTES,
        })
    }

    /// What comes of a piece.
    ///
    /// # Errors
    /// It is not of this form.
    pub(super) fn push(&mut self, piece: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Plain => Ok(piece.to_vec()),
            Self::Gzip(decoder) => {
                decoder.write_all(piece)?;
                decoder.flush()?;
                Ok(std::mem::take(decoder.get_mut()))
            }
            Self::Zstd(decoder) => {
                decoder.write_all(piece)?;
                decoder.flush()?;
                Ok(std::mem::take(decoder.get_mut()))
            }
        }
    }
}

/// `bytes` compressed by the fast level of `codec`.
///
/// # Errors
/// An unknown one.
pub(super) fn deflate(codec: &str, bytes: &[u8]) -> io::Result<Vec<u8>> {
    match codec {
        "zstd" => zstd::bulk::compress(bytes, 1),
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(
                Vec::with_capacity(bytes.len() / 2),
                flate2::Compression::fast(),
            );
            encoder.write_all(bytes)?;
            encoder.finish()
        }
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compressed_comes_back_however_it_is_cut() {
        let text: Vec<u8> = (0..200_000_u32)
            .flat_map(|n| (n / 7).to_le_bytes())
            .collect();
        for codec in ["zstd", "gzip"] {
            // Two runs, as frames are.
            let mut packed = deflate(codec, &text).unwrap();
            assert!(packed.len() < text.len() / 2);
            packed.extend(deflate(codec, b"tail").unwrap());
            let mut inflate = Inflate::new(codec).unwrap();
            let mut out = Vec::new();
            for piece in inflate.pieces(&packed) {
                out.extend(inflate.push(piece).unwrap());
            }
            assert_eq!(out, [&text[..], b"tail"].concat(), "{codec}");
            let mut inflate = Inflate::new(codec).unwrap();
            assert!((0..100).any(|_| inflate.push(&[0x55; 100]).is_err()));
        }
    }
}
