//! What every transport does for one server; how it moves things is its own.
//!
//! The command decides what goes where: it lists, picks names, makes local folders and links, and
//! hands over files. A transport moves them, and reports each file by its number to
//! [`Job::report`]: progress as it goes, and one outcome. What a transport returns as an error is
//! the failure of all files that have no outcome yet.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use ops_core::{Context, connect::Urgency};
use ops_profile::{CopyVia, Instance};
use ops_ui::Result;
use tokio::sync::mpsc;

use crate::{
    item::{Entry, FileId, ListRequest, Listing},
    local::{LocalFile, LocalPath},
    made::Folders,
    pace::Pace,
    remote_path::RemotePath,
    report::Report,
};

/// A server and how it is reached.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) cx: Context,
    pub(crate) instance: Instance,
    /// Before `@`: the user to become, or to log in as.
    pub(crate) user: Option<String>,
    /// `--sudo`: act as root where no user is named.
    pub(crate) sudo: bool,
    /// Why, for the session's history.
    pub(crate) reason: Option<String>,
    /// Sessions with one of many servers come after those that somebody waits for.
    pub(crate) urgency: Urgency,
}

/// What a transport is opened for: some of them save a session where they know.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FirstUse<'a> {
    /// Files will be fetched; this is what [`Transport::list`] is asked first.
    List(&'a ListRequest),
    /// Things will be stored.
    Store,
}

/// What the owner of a folder must be allowed while it is filled.
pub(crate) const OWNER: u32 = 0o700;

/// A regular file to be fetched.
pub(crate) struct Fetch {
    pub(crate) id: FileId,
    /// [`Found::path`](crate::item::Found::path).
    pub(crate) path: RemotePath,
    pub(crate) entry: Entry,
    pub(crate) sink: Sink,
}

/// Where a fetched file goes.
pub(crate) enum Sink {
    /// A path here, its folder exists; through [`crate::landing::Landing`].
    File(LocalPath),
    /// All bytes in order; standard output, or another server. A failure of the file is sent too,
    /// so that nobody takes a part for the whole; the channel closes when the file is complete and
    /// verified.
    Stream(mpsc::Sender<Result<Bytes>>),
}

/// Something to be stored. Folders come before what is in them; a transport sets their times (`-p`)
/// when all is in.
pub(crate) struct Store {
    pub(crate) id: FileId,
    /// Made of [`Listing::places`].
    pub(crate) path: RemotePath,
    pub(crate) what: StoreKind,
    /// Permission bits: set as they are with [`Job::preserve`]; otherwise for a new file, less the
    /// far side's umask, and a file that is replaced keeps its own where the transport can tell.
    pub(crate) mode: u32,
    /// Seconds since 1970; set with [`Job::preserve`].
    pub(crate) mtime: i64,
}

/// What is stored.
pub(crate) enum StoreKind {
    /// Made if it is missing; what exists stays.
    Folder,
    Link(Vec<u8>),
    File(Source),
}

/// What a stored file is read from.
pub(crate) enum Source {
    /// A file here, of this size when it was listed; through [`crate::reading::Reading`].
    File { file: LocalFile, size: u64 },
    /// Bytes in order until the channel closes: standard input, or another server. The size is a
    /// guess where it is known at all. An error means that what came is not complete: nothing may
    /// be put into place.
    Stream {
        bytes: mpsc::Receiver<Result<Bytes>>,
        size: Option<u64>,
    },
}

/// How a transfer is done.
#[derive(Clone)]
pub(crate) struct Job {
    /// Sessions side by side at most. With 1, files are handled strictly in the order given, one
    /// after another: a copy from one server to another relies on it.
    pub(crate) sessions: usize,
    /// Keep what is verified when interrupted, and go on from it.
    pub(crate) resume: bool,
    /// Modes and times (`-p`).
    pub(crate) preserve: bool,
    /// Compress where it gains.
    pub(crate) compress: bool,
    /// `--limit-rate`, shared by all transfers of the command; [`crate::landing::Landing`] and
    /// [`crate::reading::Reading`] keep to it.
    pub(crate) pace: Arc<Pace>,
    pub(crate) report: Arc<Report>,
    /// Held as long as anything is written into them.
    #[expect(dead_code, reason = "only its end matters")]
    pub(crate) folders: Option<Arc<Folders>>,
}

/// One server over one transport. Dropped, everything it has begun is cleaned up at both ends.
pub(crate) trait Transport: Send + Sync {
    /// Which it is.
    fn via(&self) -> CopyVia;

    /// Looks at places.
    ///
    /// # Errors
    /// The server cannot be asked at all.
    fn list<'a>(&'a self, ask: &'a ListRequest) -> BoxFuture<'a, Result<Listing>>;

    /// Fetches files. Each is verified by size and SHA-256 of both ends.
    ///
    /// # Errors
    /// The transport as a whole; the failure of a file is reported.
    fn download<'a>(&'a self, files: Vec<Fetch>, job: &'a Job) -> BoxFuture<'a, Result<()>>;

    /// Stores things. Each file goes to a temporary name beside its destination, is verified by
    /// size and SHA-256 of both ends, and renamed.
    ///
    /// # Errors
    /// As [`Transport::download`].
    fn upload<'a>(&'a self, items: Vec<Store>, job: &'a Job) -> BoxFuture<'a, Result<()>>;
}

impl<T: Transport + ?Sized> Transport for Arc<T> {
    fn via(&self) -> CopyVia {
        (**self).via()
    }

    fn list<'a>(&'a self, ask: &'a ListRequest) -> BoxFuture<'a, Result<Listing>> {
        (**self).list(ask)
    }

    fn download<'a>(&'a self, files: Vec<Fetch>, job: &'a Job) -> BoxFuture<'a, Result<()>> {
        (**self).download(files, job)
    }

    fn upload<'a>(&'a self, items: Vec<Store>, job: &'a Job) -> BoxFuture<'a, Result<()>> {
        (**self).upload(items, job)
    }
}
