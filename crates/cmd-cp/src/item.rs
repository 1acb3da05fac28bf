//! What a copy is about: files, folders and links, as they are listed and as they are reported.

use std::{fmt, sync::Arc};

use ops_ui::Error;

use crate::{hashes::Digest, place::join_paths, remote_path::RemotePath};

/// What something on a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    /// With its target, as it is written.
    Link(Vec<u8>),
    /// A device, socket or FIFO: never copied.
    Other,
}

/// One thing on a server. All of it comes from there and is believed in nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    /// In bytes; of files.
    pub(crate) size: u64,
    /// Permission bits, `0o7777` at most.
    pub(crate) mode: u32,
    /// Seconds since 1970.
    pub(crate) mtime: i64,
    /// Where [`ListRequest::digests`] or [`ListRequest::digests_below`] was set.
    pub(crate) sha256: Option<Digest>,
}

/// What is to be looked at on a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ListRequest {
    /// As typed: `~`, relative to the home of the user, globs where [`ListRequest::globs`] is set;
    /// empty is the home.
    pub(crate) places: Vec<Vec<u8>>,
    /// Expand `*`, `?` and `[…]`. A place that exists by its very name is taken as it is.
    pub(crate) globs: bool,
    /// Everything below folders too, links within not followed unless [`ListRequest::follow`].
    pub(crate) recursive: bool,
    /// Take what links point to in their place (`-L`). A link that is named itself is followed for
    /// its kind anyway, as scp does, unless [`ListRequest::keep_links`].
    pub(crate) follow: bool,
    /// `-P`: links that are named are taken as links too.
    pub(crate) keep_links: bool,
    /// With the SHA-256 of every file.
    pub(crate) digests: bool,
    /// With the SHA-256 of files smaller than this, in bytes, where a transport has them for
    /// little.
    pub(crate) digests_below: Option<u64>,
}

/// Something found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Which of [`ListRequest::places`] it belongs to.
    pub(crate) place: usize,
    /// The match itself, with `~` and globs expanded, absolute; shared by all that is below it.
    pub(crate) root: Arc<[u8]>,
    /// Its path below the match, without a leading slash; empty for the match itself.
    pub(crate) below: Vec<u8>,
    pub(crate) entry: Entry,
}

impl Found {
    /// Where it is. With `follow` every link on the way is followed (`-L`), else those of the root
    /// alone.
    pub(crate) fn path(&self, follow: bool) -> RemotePath {
        if follow {
            RemotePath::named(join_paths(&self.root, &self.below))
        } else {
            RemotePath::new(&self.root, &self.below)
        }
    }

    /// Its root, its path below that, and its kind: what [`crate::links::judge_links`] judges by.
    pub(crate) fn as_entry(&self) -> (&[u8], &[u8], &Kind) {
        (&self.root, &self.below, &self.entry.kind)
    }
}

/// What a server has of what was asked for, folders before what is in them. A place without any
/// match is in neither list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listing {
    pub(crate) found: Vec<Found>,
    /// Each of [`ListRequest::places`] as an absolute path, `~` expanded, globs not, without a
    /// slash at its end; whether it exists or not.
    pub(crate) places: Vec<Vec<u8>>,
    /// What could not be looked at, with the server's words; to be escaped.
    pub(crate) complaints: Vec<String>,
}

/// The number of a file in [`crate::report::Report`].
pub(crate) type FileId = usize;

/// What became of a file.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// Copied and verified.
    Done,
    /// Left alone, and why.
    Skipped(&'static str),
    /// Not copied; the old one is untouched.
    Failed(Box<Error>),
}

/// A path that shares its folder with its siblings, and its name with the other end of the copy: of
/// a long list the paths are most of the memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SharedPath {
    /// With the slash at its end; empty for a path without one.
    pub(crate) folder: Arc<str>,
    pub(crate) name: Arc<str>,
}

impl fmt::Display for SharedPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.folder, self.name)
    }
}

/// A file, folder or link of the command.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// Where it comes from, for people and in `-o json`; not escaped.
    pub(crate) source: SharedPath,
    /// Where it goes.
    pub(crate) destination: SharedPath,
    /// In bytes, as listed.
    pub(crate) size: u64,
    /// Bytes that have arrived.
    pub(crate) moved: u64,
    pub(crate) outcome: Option<Outcome>,
}
