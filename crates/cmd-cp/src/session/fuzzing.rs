//! What a server sends by session, read from bytes; for `tests/fuzzing` alone.

use std::io::Read as _;

use super::{list, tar_reader::ArchivedFiles};

/// Most files read of an archive: what it holds is bounded by whoever unpacks it.
const MAX_FILES: usize = 1000;
/// Most bytes read of a file's content.
const MAX_CONTENT_BYTES: u64 = 1 << 20;

/// Reads a list of files.
pub fn list(told: &[u8]) {
    let _ = list::parse_list(told, 1);
}

/// Reads an archive.
pub fn archive(bytes: &[u8]) {
    let mut archive = tar::Archive::new(bytes);
    let Ok(mut files) = ArchivedFiles::of(&mut archive) else {
        return;
    };
    for _ in 0..MAX_FILES {
        match files.next() {
            Ok(Some(file)) => {
                let mut content = file.content.take(MAX_CONTENT_BYTES);
                if std::io::copy(&mut content, &mut std::io::sink()).is_err() {
                    return;
                }
            }
            Ok(None) | Err(_) => return,
        }
    }
}
