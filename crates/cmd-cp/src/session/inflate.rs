//! Decompression of what a server sends, a little at a time: what it becomes must not fill the
//! memory.

use std::io::{self, Write as _};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation as _, OutBuffer};

/// What comes out at once, in bytes, at most; of gzip a thousandfold of what is fed at once.
const OUT_BYTES: usize = 128 << 10;
/// Fed to gzip at once, in bytes.
const GZIP_BYTES: usize = 256;
/// Largest window a stream may ask for, as a power of two.
const WINDOW_LOG_MAX: u32 = 23;

/// A decoder.
pub(super) enum Inflate {
    Plain,
    Gzip(MultiGzDecoder<Vec<u8>>),
    /// With room for what comes out.
    Zstd(Decoder<'static>, Vec<u8>),
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
                let mut decoder = Decoder::new()?;
                decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
                Self::Zstd(decoder, Vec::with_capacity(OUT_BYTES))
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        })
    }

    /// Takes a part of `input`, and gives what comes of it, little at a time; nothing once all is
    /// taken and has come out.
    ///
    /// # Errors
    /// It is not of this form.
    pub(super) fn next(&mut self, input: &mut Bytes) -> io::Result<Option<Bytes>> {
        loop {
            let out = match self {
                Self::Plain => std::mem::take(input),
                Self::Gzip(decoder) => {
                    let piece = input.split_to(input.len().min(GZIP_BYTES));
                    decoder.write_all(&piece)?;
                    decoder.flush()?;
                    std::mem::take(decoder.get_mut()).into()
                }
                Self::Zstd(decoder, room) => {
                    room.clear();
                    let mut from = InBuffer::around(&input[..]);
                    decoder.run(&mut from, &mut OutBuffer::around(room))?;
                    let taken = from.pos();
                    let _ = input.split_to(taken);
                    Bytes::copy_from_slice(room)
                }
            };
            if !out.is_empty() {
                return Ok(Some(out));
            }
            if input.is_empty() {
                return Ok(None);
            }
        }
    }
}

/// `bytes` compressed by the fast level of `codec`.
///
/// # Errors
/// An unknown one.
pub(super) fn compress_bytes(codec: &str, bytes: &[u8]) -> io::Result<Vec<u8>> {
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
            let mut packed = compress_bytes(codec, &text).unwrap();
            assert!(packed.len() < text.len() / 2);
            packed.extend(compress_bytes(codec, b"tail").unwrap());
            for cut in [1, 1000, packed.len()] {
                let mut inflate = Inflate::new(codec).unwrap();
                let mut out = Vec::new();
                for piece in packed.chunks(cut) {
                    let mut piece = Bytes::copy_from_slice(piece);
                    while let Some(part) = inflate.next(&mut piece).unwrap() {
                        out.extend_from_slice(&part);
                    }
                }
                assert_eq!(out, [&text[..], b"tail"].concat(), "{codec}");
            }
            let mut inflate = Inflate::new(codec).unwrap();
            let mut rubbish = Bytes::from_static(&[0x55; 10_000]);
            assert!((0..100).any(|_| inflate.next(&mut rubbish).is_err()));
        }
    }

    #[test]
    fn a_window_that_costs_much_memory_is_refused() {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(WINDOW_LOG_MAX + 3).unwrap();
        encoder.write_all(&[7; 1000]).unwrap();
        encoder.flush().unwrap();
        encoder.write_all(&[8; 1000]).unwrap();
        let packed = encoder.finish().unwrap();
        let mut inflate = Inflate::new("zstd").unwrap();
        let mut packed = Bytes::from(packed);
        let error = loop {
            match inflate.next(&mut packed) {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it was taken"),
                Err(error) => break error,
            }
        };
        assert!(error.to_string().contains("memory"), "{error}");
    }

    #[test]
    fn what_becomes_much_comes_little_by_little() {
        for codec in ["zstd", "gzip"] {
            let mut packed = Bytes::from(compress_bytes(codec, &vec![0; 64 << 20]).unwrap());
            let mut inflate = Inflate::new(codec).unwrap();
            let mut len = 0;
            while let Some(part) = inflate.next(&mut packed).unwrap() {
                assert!(part.len() <= 512 << 10, "{codec}: {}", part.len());
                len += part.len();
            }
            assert_eq!(len, 64 << 20, "{codec}");
        }
    }
}
