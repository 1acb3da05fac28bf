//! How much of a server's list is taken.
//!
//! A list without an end must not fill the memory. What an entry costs here, all that is made of it
//! until it is copied counted in, is measured in `docs/security.md`.

use std::sync::atomic::{AtomicUsize, Ordering};

use ops_ui::Error;

/// Entries of one list, at most: a home folder with its caches has some hundred thousand.
pub(crate) const LIST_MAX_ENTRIES: usize = 1_000_000;
/// Bytes of all names, paths and targets of links in one list, at most.
pub(crate) const LIST_MAX_BYTES: usize = 128 << 20;

/// What a list has used up so far; several tasks may count at once.
#[derive(Debug, Default)]
pub(crate) struct ListBudget {
    entries: AtomicUsize,
    bytes: AtomicUsize,
}

impl ListBudget {
    /// Counts an entry of `bytes` bytes in; `false`: that is too much.
    pub(crate) fn entry(&self, bytes: usize) -> bool {
        let entries = self.entries.fetch_add(1, Ordering::Relaxed) + 1;
        self.bytes(bytes) && entries <= LIST_MAX_ENTRIES
    }

    /// Counts `bytes` bytes more of an entry in; `false`: that is too much.
    pub(crate) fn bytes(&self, bytes: usize) -> bool {
        let all = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        all <= LIST_MAX_BYTES
    }
}

/// The error of a list that is longer.
pub(crate) fn too_long(label: &str) -> Error {
    Error::unexpected(format!("the list of `{label}` is too long"))
        .caused_by(format!(
            "it has more than {LIST_MAX_ENTRIES} entries or {} MiB of names",
            LIST_MAX_BYTES >> 20
        ))
        .hint("copy a part at a time: name the folders in it one by one")
}
