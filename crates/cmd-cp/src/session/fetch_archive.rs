//! Many small files: as archives, each over one session, their hashes in front.

use std::{
    collections::HashMap,
    io::{self, BufRead as _, BufReader, Read},
};

use aws_lc_rs::digest;
use bytes::Bytes;
use ops_remote::pipe::{Chunk, DownPipe};
use ops_remote::script::compact;
use ops_ui::{Error, Result};
use tokio::{runtime::Handle, sync::mpsc};

use super::{
    ShellTransport,
    frames::{PAUSE, TRIES},
    inflate::Inflate,
    probe::Tools,
    script,
    tar_reader::{ArchivedFile, ArchivedFiles},
};
use crate::{
    hashes,
    hashes::{Digest, parse_hash},
    item::Entry,
    landing::Landing,
    transport::{Fetch, Job, Sink},
};

/// A file up to this size, in bytes, is a small one.
pub(crate) const SMALL_BYTES: u64 = 512 << 10;
/// As [`SMALL_BYTES`], for what is fetched and need not be gone on with after an interruption: a
/// file below it is not worth a session of its own, of which there are three a second for all.
const SHARED_BYTES: u64 = 4 << 20;
/// Most that one archive holds, in bytes of files.
const ARCHIVE_BYTES: u64 = 32 << 20;
/// Most that one archive holds, in bytes of escaped names: they stand in the command's line.
const NAMES_BYTES: usize = 24 << 10;
pub(super) const ARCHIVE: &str = include_str!("scripts/archive.sh");

/// Pieces of an archive that wait to be unpacked; each up to a block of the compressor, 128 KiB.
const QUEUE: usize = 2;

/// Puts small files together.
pub(super) struct FetchCollector {
    works: bool,
    /// Largest file that is taken, in bytes.
    largest: u64,
    /// Of one kind: all below the same folder that was named, or all named themselves.
    files: Vec<Fetch>,
    bytes: u64,
    names: usize,
}

impl FetchCollector {
    pub(super) fn new(session: &ShellTransport, job: &Job) -> Self {
        let tools = &session.tools;
        Self {
            // A part of a file in an archive is never kept.
            largest: if job.resume {
                SMALL_BYTES
            } else {
                SHARED_BYTES
            },
            // Without hashes nobody could tell what a file holds from the zeros that tar puts in
            // the place of what a file of /sys does not have.
            works: tools.has("tar")
                && tools.has("null")
                && tools.has("xargs")
                && tools.hash_command().is_some(),
            files: Vec::new(),
            bytes: 0,
            names: 0,
        }
    }

    /// Takes a file if it is a small one, and gives the archive that is full by then; gives the
    /// file back otherwise.
    #[expect(
        clippy::result_large_err,
        reason = "what comes back is the file itself"
    )]
    pub(super) fn take_if_small(&mut self, fetch: Fetch) -> Result<Option<Vec<Fetch>>, Fetch> {
        if !self.works || fetch.entry.size > self.largest {
            return Err(fetch);
        }
        let names = script::printf_format(fetch.path.whole()).len() + 12;
        let goes_with = |first: &Fetch| {
            let (first, path) = (&first.path, &fetch.path);
            match (first.is_named(), path.is_named()) {
                (true, true) => true,
                (false, false) => first.root() == path.root(),
                _ => false,
            }
        };
        let full = (self.bytes + fetch.entry.size > ARCHIVE_BYTES
            || self.names + names > NAMES_BYTES
            || !self.files.first().is_none_or(goes_with))
        .then(|| self.take_rest())
        .flatten();
        self.bytes += fetch.entry.size;
        self.names += names;
        self.files.push(fetch);
        Ok(full)
    }

    /// What is left.
    pub(super) fn take_rest(&mut self) -> Option<Vec<Fetch>> {
        (self.bytes, self.names) = (0, 0);
        let files = std::mem::take(&mut self.files);
        (!files.is_empty()).then_some(files)
    }
}

/// Fetches `files` as one archive, and what a lost session has left of it as another one; gives
/// back those that did not come or did not come whole, to be fetched one by one.
pub(super) async fn fetch_files(
    session: &ShellTransport,
    files: Vec<Fetch>,
    job: &Job,
) -> Vec<Fetch> {
    // With how many archives in a row that were cut off have brought none of them.
    let mut waiting = vec![(files, 0)];
    let mut left = Vec::new();
    while let Some((mut files, barren)) = waiting.pop() {
        let script = bundling_script(&session.tools, &files, job.compress);
        let (count, len) = (files.len(), with_prelude(&session.tools, &script).len());
        let mut was_cut = false;
        if !session.refuses(len) {
            let fetched = Box::pin(fetch_by(session, files, job, |script, intake| {
                feed_by_session(session, with_prelude(&session.tools, &script), intake)
            }))
            .await;
            (files, was_cut) = (fetched.left, fetched.was_cut);
        }
        let has_gained = files.len() < count;
        // A command that was refused for its length goes in halves: one session for each file would
        // be many more.
        if session.refuses(len) && !has_gained && count > 1 {
            let second = files.split_off(count / 2);
            waiting.extend([(second, barren), (files, barren)]);
        } else if files.len() > 1 && was_cut && (has_gained || barren + 1 < TRIES) {
            // The files that came are whole, so that the stream goes on behind the last of them.
            tokio::time::sleep(PAUSE).await;
            waiting.push((files, if has_gained { 0 } else { barren + 1 }));
        } else {
            left.append(&mut files);
        }
    }
    left.sort_by_key(|fetch| fetch.id);
    left
}

/// What became of one archive.
pub(super) struct FetchedArchive {
    /// The files that did not come, or not whole.
    pub(super) left: Vec<Fetch>,
    /// Its way has failed: another archive may bring what is left.
    was_cut: bool,
}

impl FetchedArchive {
    fn none(files: Vec<Fetch>) -> Self {
        Self {
            left: files,
            was_cut: false,
        }
    }
}

/// As [`fetch_files`], with the archive that the script writes taking the way of `feed`.
pub(super) async fn fetch_by<F>(
    session: &ShellTransport,
    files: Vec<Fetch>,
    job: &Job,
    feed: impl FnOnce(String, ArchiveInput) -> F,
) -> FetchedArchive
where
    F: Future<Output = Result<()>>,
{
    if files.len() < 2 {
        return FetchedArchive::none(files);
    }
    let script = bundling_script(&session.tools, &files, job.compress);
    let root = common_root(&files);
    let content: u64 = files.iter().map(|file| file.entry.size).sum();
    let codec = session.tools.best_codec().filter(|_| job.compress);
    let codec = codec.unwrap_or("-");
    let Ok((intake, receiver)) = ArchiveInput::new(codec, most_bytes(content, files.len())) else {
        return FetchedArchive::none(files);
    };
    let unpacker = Thread::of(session, {
        let (job, handle) = (job.clone(), Handle::current());
        let modes: Vec<u32> = files
            .iter()
            .map(|fetch| session.local_mode(fetch.entry.mode))
            .collect();
        tokio::task::spawn_blocking(move || {
            let mut unpacker = ArchiveUnpacker {
                root,
                wanted: HashMap::new(),
                job,
                handle,
            };
            for (fetch, mode) in files.into_iter().zip(modes) {
                let path = fetch.path.whole().to_vec();
                unpacker.wanted.insert(path, (fetch, mode));
            }
            let outcome = unpacker.unpack_files(ArchiveReader {
                receiver,
                piece: Bytes::new(),
            });
            (unpacker.wanted, outcome)
        })
    });
    let sent = feed(script, intake).await;
    let Some((left, unpacked)) = unpacker.join().await else {
        return FetchedArchive::none(Vec::new());
    };
    let was_cut = sent.is_err();
    if !left.is_empty() {
        let why = sent.err().or(unpacked.err());
        session.host.cx.output().detail(format!(
            "{} of the files did not come in an archive{}",
            left.len(),
            why.map(|error| format!(": {error}")).unwrap_or_default()
        ));
    }
    let mut left: Vec<Fetch> = left.into_values().map(|(fetch, _)| fetch).collect();
    left.sort_by_key(|fetch| fetch.id);
    FetchedArchive { left, was_cut }
}

/// Work on a thread of its own, which the process waits for also when nobody else does: it has
/// files to put in order.
struct Thread<T: Send + 'static> {
    handle: Option<tokio::task::JoinHandle<T>>,
    cx: ops_core::Context,
}

impl<T: Send + 'static> Thread<T> {
    fn of(session: &ShellTransport, handle: tokio::task::JoinHandle<T>) -> Self {
        Self {
            handle: Some(handle),
            cx: session.host.cx.clone(),
        }
    }

    async fn join(mut self) -> Option<T> {
        let done = self.handle.as_mut()?.await;
        self.handle = None;
        done.ok()
    }
}

impl<T: Send + 'static> Drop for Thread<T> {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            self.cx.interrupt().finish_later(async move {
                let _ = handle.await;
            });
        }
    }
}

/// Takes the bytes of an archive as the server has packed it.
pub(crate) struct ArchiveInput {
    inflate: Inflate,
    sender: mpsc::Sender<Bytes>,
    /// Bytes that may still come out.
    room: u64,
}

/// What an archive may have beyond the content of its files, for each, in bytes: headers, a long
/// name, a hash.
const EXTRA_BYTES: u64 = 16 << 10;

/// The largest archive that `files` files with `content` bytes as listed can make: they may have
/// grown, but not much.
pub(crate) fn most_bytes(content: u64, files: usize) -> u64 {
    2 * content + (files as u64 + 1) * EXTRA_BYTES
}

impl ArchiveInput {
    /// For what `codec` has compressed, and `room` bytes of it at most.
    fn new(codec: &str, room: u64) -> Result<(Self, mpsc::Receiver<Bytes>)> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let inflate = Inflate::new(codec)?;
        let intake = Self {
            inflate,
            sender,
            room,
        };
        Ok((intake, receiver))
    }

    /// Hands `bytes` on to be unpacked. `false`: the unpacker has seen the end, or gave up.
    ///
    /// # Errors
    /// They are not compressed as was announced, or become more than the files can make.
    pub(crate) async fn put_bytes(&mut self, mut bytes: Bytes) -> Result<bool> {
        while let Some(piece) = self.inflate.next(&mut bytes)? {
            let Some(room) = self.room.checked_sub(piece.len() as u64) else {
                return Err(Error::unexpected(
                    "the server has written a larger archive than its files can make",
                ));
            };
            self.room = room;
            if self.sender.send(piece).await.is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Runs the script and hands on what it writes.
async fn feed_by_session(
    session: &ShellTransport,
    text: String,
    mut intake: ArchiveInput,
) -> Result<()> {
    let started = DownPipe::start(session.next_carrier(), &text).await;
    if let Err(error) = &started {
        session.note_refusal(text.len(), error);
    }
    let mut down = started?.strict();
    while let Some(chunk) = down.next().await? {
        if let Chunk::Bytes(bytes) = chunk
            && !intake.put_bytes(bytes).await?
        {
            // The archive is at its end, or is none: what else comes, however long, is not awaited.
            down.stop().await;
            return Ok(());
        }
    }
    Ok(())
}

/// The script that writes the hashes of `files` and an archive of them, for where `tools.sh` and
/// `enter.sh` were read: see `scripts/archive.sh`.
///
/// The folders that the files lie in are looked at first, each on its way down from what was named:
/// a link in the place of one of them ends it all, and each file is then asked for by itself. tar
/// follows no link at the end of a path either, unless all of the files were named themselves.
pub(super) fn bundling_script(tools: &Tools, files: &[Fetch], compress: bool) -> String {
    let root = common_root(files);
    let follow = files.iter().all(|fetch| fetch.path.is_named());
    let compressor = tools.compress_command().filter(|_| compress);
    let mut text = script::assign_variable("root", if root.is_empty() { b"/" } else { &root });
    text.push_str(&format!(
        "tar_options={}\ncompressor=\"{}\"\n{}each_folder() {{\n",
        if follow { "-chf" } else { "-cf" },
        compressor.unwrap_or_default(),
        compact(ARCHIVE),
    ));
    let mut folder: Option<&[u8]> = None;
    for fetch in files {
        let below = path_below(&root, fetch.path.whole());
        let end = below
            .iter()
            .rposition(|&b| b == b'/')
            .map_or(0, |at| at + 1);
        let (parent, name) = below.split_at(end);
        if folder != Some(parent) {
            if folder.is_some() {
                text.push('\n');
            }
            text.push_str(&format!("\"$1\" \"{}\"", script::printf_format(parent)));
            folder = Some(parent);
        }
        text.push_str(&format!(" \"{}\"", script::printf_word(name)));
    }
    text.push_str(&format!("\n}}\nsend_archive {}\n", u8::from(!follow)));
    text
}

/// The same for a session of its own.
pub(super) fn with_prelude(tools: &Tools, script: &str) -> String {
    let enter = compact(script::ENTER);
    format!("{}{enter}{script}", tools.prelude_script())
}

/// The folder that the paths of the files are told from.
fn common_root(files: &[Fetch]) -> Vec<u8> {
    match files.first() {
        Some(first) if !first.path.is_named() => {
            let root = first.path.root();
            root.strip_suffix(b"/").unwrap_or(root).to_vec()
        }
        _ => common_folder(files.iter().map(|fetch| fetch.path.whole())),
    }
}

/// The folder that holds all of `paths`, however deep, without a slash at its end; empty for `/`.
pub(super) fn common_folder<'a>(mut paths: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let parent = |path: &[u8]| path.iter().rposition(|&b| b == b'/').unwrap_or(0);
    let Some(first) = paths.next() else {
        return Vec::new();
    };
    let mut len = parent(first);
    for path in paths {
        while len > 0 && !(path.starts_with(&first[..len]) && path.get(len) == Some(&b'/')) {
            len = parent(&first[..len]);
        }
    }
    first[..len].to_vec()
}

/// A path below `root`, without a slash in front.
fn path_below<'a>(root: &[u8], path: &'a [u8]) -> &'a [u8] {
    let below = path.strip_prefix(root).unwrap_or(path);
    below.strip_prefix(b"/").unwrap_or(below)
}

/// What arrives, for code that reads and waits.
struct ArchiveReader {
    receiver: mpsc::Receiver<Bytes>,
    piece: Bytes,
}

impl Read for ArchiveReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let len = self.piece.len().min(buffer.len());
        buffer[..len].copy_from_slice(&self.piece.split_to(len));
        Ok(len)
    }
}

struct ArchiveUnpacker {
    root: Vec<u8>,
    /// By path; what is left is what did not come. With what a new file's permissions are.
    wanted: HashMap<Vec<u8>, (Fetch, u32)>,
    job: Job,
    handle: Handle,
}

impl ArchiveUnpacker {
    fn unpack_files(&mut self, incoming: ArchiveReader) -> Result<()> {
        let mut input = BufReader::with_capacity(64 << 10, incoming);
        let mut digests: HashMap<Digest, usize> = HashMap::new();
        let mut line = String::new();
        let mut hashes = 0;
        loop {
            line.clear();
            (&mut input).take(100).read_line(&mut line)?;
            match line.trim_end() {
                "" => break,
                text => {
                    let digest = parse_hash(text)
                        .ok_or_else(|| Error::unexpected("the server sent no hash"))?;
                    // One for each file that was asked for, however long the server goes on.
                    hashes += 1;
                    if hashes > self.wanted.len() {
                        return Err(Error::unexpected("the server sent more hashes than files"));
                    }
                    *digests.entry(digest).or_default() += 1;
                }
            }
        }
        let hashed = !digests.is_empty();
        let mut archive = tar::Archive::new(input);
        let mut archived = ArchivedFiles::of(&mut archive)?;
        while let Some(ArchivedFile { path, mut content }) = archived.next()? {
            let below = path.strip_prefix(b"./").unwrap_or(&path);
            let path = [&self.root, &b"/"[..], below].concat();
            // Whatever else the server puts in is passed over.
            let Some((fetch, mode)) = self.wanted.remove(&path) else {
                continue;
            };
            match self.unpack_file(&fetch, mode, &mut content, hashed.then_some(&mut digests)) {
                Ok(()) => self.job.report.mark_done(fetch.id),
                Err(ArchiveFault::Again) => {
                    self.wanted.insert(path, (fetch, mode));
                }
                Err(ArchiveFault::Final(error)) => self.job.report.mark_failed(fetch.id, error),
                Err(ArchiveFault::Broken(error)) => {
                    self.wanted.insert(path, (fetch, mode));
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    /// One file of the archive. Its size there counts: it may have grown since it was listed.
    fn unpack_file(
        &mut self,
        fetch: &Fetch,
        mode: u32,
        from: &mut impl Read,
        digests: Option<&mut HashMap<Digest, usize>>,
    ) -> Result<(), ArchiveFault> {
        let size = fetch.entry.size;
        let landing = match &fetch.sink {
            Sink::File(path) => {
                let entry = Entry {
                    size,
                    ..fetch.entry.clone()
                };
                // A part of a small file is not worth keeping.
                let job = Job {
                    resume: false,
                    ..self.job.clone()
                };
                Some(
                    Landing::open(path, fetch.id, &entry, mode, &job)
                        .map_err(ArchiveFault::Final)?,
                )
            }
            Sink::Stream(_) => None,
        };
        let mut hash = digest::Context::new(&digest::SHA256);
        let mut buffer = vec![0; usize::try_from(size.clamp(1, 64 << 10)).unwrap_or(1)];
        let mut held = Vec::new();
        let mut at = 0;
        loop {
            let read = from.read(&mut buffer).map_err(ArchiveFault::Broken)?;
            if read == 0 {
                break;
            }
            if at + read as u64 > size {
                self.job.report.take_back(fetch.id, at);
                return Err(ArchiveFault::Again);
            }
            let piece = &buffer[..read];
            hash.update(piece);
            self.handle.block_on(self.job.pace.wait_for_bytes(read));
            match &landing {
                Some(landing) => landing.put_bytes(at, piece).map_err(ArchiveFault::Final)?,
                None => {
                    held.extend_from_slice(piece);
                    self.job.report.add_bytes(fetch.id, read as u64);
                }
            }
            at += read as u64;
        }
        let digest = hashes::finish_hash(hash);
        let known = digests.is_none_or(|digests| match digests.get_mut(&digest) {
            Some(count) if *count > 0 => {
                *count -= 1;
                true
            }
            _ => false,
        });
        if at != size || !known {
            self.job.report.take_back(fetch.id, at);
            return Err(ArchiveFault::Again);
        }
        match (landing, &fetch.sink) {
            (Some(landing), _) => landing.commit_file(None).map_err(ArchiveFault::Final),
            (None, Sink::Stream(sender)) => {
                if !held.is_empty() {
                    // Who does not want it any more has said why elsewhere.
                    let _ = sender.blocking_send(Ok(held.into()));
                }
                Ok(())
            }
            (None, Sink::File(_)) => Ok(()),
        }
    }
}

enum ArchiveFault {
    /// To be fetched by itself.
    Again,
    /// Cannot be kept here.
    Final(Error),
    /// The archive has ended too early.
    Broken(io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_archive_larger_than_its_files_is_given_up() {
        let bomb = super::super::inflate::compress_bytes("gzip", &vec![0; 8 << 20]).unwrap();
        assert!(bomb.len() < 128 << 10);
        let (mut intake, mut receiver) = ArchiveInput::new("gzip", most_bytes(100, 3)).unwrap();
        let reader = tokio::spawn(async move {
            let mut all = 0;
            while let Some(piece) = receiver.recv().await {
                all += piece.len() as u64;
            }
            all
        });
        let error = intake.put_bytes(bomb.into()).await.unwrap_err();
        assert!(error.what().contains("larger archive"), "{error}");
        drop(intake);
        assert!(reader.await.unwrap() <= most_bytes(100, 3));
    }

    #[tokio::test]
    async fn more_hashes_than_files_are_refused() {
        let (sender, receiver) = mpsc::channel(1);
        let handle = Handle::current();
        let unpacked = tokio::task::spawn_blocking(move || {
            let mut unpacker = ArchiveUnpacker {
                root: b"/r".to_vec(),
                wanted: HashMap::new(),
                job: Job {
                    sessions: 1,
                    resume: false,
                    preserve: false,
                    compress: false,
                    pace: std::sync::Arc::new(crate::pace::Pace::new(None)),
                    report: std::sync::Arc::new(crate::report::Report::silent()),
                    folders: None,
                },
                handle,
            };
            unpacker.unpack_files(ArchiveReader {
                receiver,
                piece: Bytes::new(),
            })
        });
        let line = format!("{}\n", "ab".repeat(32));
        // Who reads no more takes no more.
        while sender.send(line.clone().into()).await.is_ok() {}
        let error = unpacked.await.unwrap().unwrap_err();
        assert!(error.what().contains("more hashes than files"), "{error}");
    }

    #[test]
    fn the_common_folder_is_made_of_whole_names() {
        let common = |paths: &[&str]| {
            String::from_utf8(common_folder(paths.iter().map(|path| path.as_bytes()))).unwrap()
        };
        assert_eq!(common(&["/a/b/c", "/a/b/d"]), "/a/b");
        assert_eq!(common(&["/a/b/c", "/a/bc/d"]), "/a");
        assert_eq!(common(&["/a/b/c", "/a/b/c/d"]), "/a/b");
        assert_eq!(common(&["/a/x", "/b/x"]), "");
        assert_eq!(common(&["/x"]), "");
        assert_eq!(path_below(b"/a", b"/a/-x"), b"-x");
        assert_eq!(path_below(b"", b"/a"), b"a");
    }
}
