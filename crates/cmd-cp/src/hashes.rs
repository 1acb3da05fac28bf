//! SHA-256 of files: as bytes, and as programs write it.

pub(crate) use ops_ui::text::hex;
use std::{
    fs::File,
    io::{self, Read as _},
};

use aws_lc_rs::digest;

/// SHA-256 of a file's content.
pub(crate) type Digest = [u8; 32];

/// A hash as bytes.
pub(crate) fn finish_hash(hash: digest::Context) -> Digest {
    let mut bytes = Digest::default();
    bytes.copy_from_slice(hash.finish().as_ref());
    bytes
}

/// The SHA-256 of what is left to read of `file`.
///
/// # Errors
/// It cannot be read.
pub(crate) fn hash_reader(mut file: File) -> io::Result<Digest> {
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(finish_hash(hash)),
            read => hash.update(&buffer[..read]),
        }
    }
}

/// A hash as the far side wrote it.
pub(crate) fn parse_hash(text: &str) -> Option<Digest> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}
