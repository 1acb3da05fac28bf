//! Files, folders and links to the server.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use aws_lc_rs::digest;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, future, stream};
use ops_core::{Error, Result};

use super::{
    BLOCK_BYTES, DEPTH, FILES, Sftp,
    channel::Failure,
    fetch::read_back,
    group::{Group, grouped},
    list::{is_folder, is_link},
    pool::Session,
    temporary::{Written, beside},
    wire::{Attributes, code, open},
};
use crate::{
    landing::finish,
    reading::{FileReading, Reading, StreamReading},
    transport::{Digest, FileId, Job, Source, Store, What},
};

/// Blocks of a stream that are under way.
const STREAM_DEPTH: usize = DEPTH;

/// A file to be stored.
struct File {
    id: FileId,
    path: Vec<u8>,
    source: Source,
    mode: u32,
    mtime: i64,
}

impl File {
    fn size(&self) -> Option<u64> {
        match &self.source {
            Source::File { size, .. } => Some(*size),
            Source::Stream { .. } => None,
        }
    }
}

/// Stores `items`: folders, then links, then files, then what folders are to have.
///
/// # Errors
/// No session at all.
pub(super) async fn store(sftp: &Sftp, items: Vec<Store>, job: &Job) -> Result<()> {
    let session = sftp.session(0).await?;
    let (mut folders, mut links, mut files) = (Vec::new(), Vec::new(), Vec::new());
    for item in items {
        let (id, path, mode, mtime) = (item.id, item.path, item.mode, item.mtime);
        match item.what {
            What::Folder => folders.push((id, path, mode, mtime)),
            What::Link(target) => links.push((id, path, target)),
            What::File(source) => files.push(File {
                id,
                path,
                source,
                mode,
                mtime,
            }),
        }
    }
    // One after the other at the server, since they are sent in order; a folder's parents come before it.
    let made: Vec<Result<()>> = stream::iter(0..folders.len())
        .map(|index| make_folder(sftp, &session, &folders[index].1, folders[index].2))
        .buffered(DEPTH)
        .collect()
        .await;
    let mut folders: Vec<_> = folders.into_iter().zip(made).collect();
    stream::iter(links)
        .map(|(id, path, target)| {
            let session = &session;
            async move {
                let result = make_link(sftp, session, &path, &target).await;
                settle(job, id, result);
            }
        })
        .buffer_unordered(DEPTH)
        .for_each(|()| future::ready(()))
        .await;
    store_files(sftp, files, job).await?;
    // From within outwards, so that what is made in a folder does not change its time again.
    for ((id, path, mode, mtime), made) in folders.drain(..).rev() {
        let result = match made {
            Ok(()) if job.preserve => {
                let wanted = preserved(mode, mtime);
                let set = session.channel.set(&path, &wanted).await;
                set.map_err(|failure| {
                    sftp.failed(&session, "set modes and times of", &path, &failure)
                })
            }
            made => made,
        };
        settle(job, id, result);
    }
    Ok(())
}

async fn make_folder(sftp: &Sftp, session: &Session, path: &[u8], mode: u32) -> Result<()> {
    // Something is to be put into it, whatever it will have in the end.
    let Err(failure) = session
        .channel
        .make_folder(path, mode & 0o777 | 0o700)
        .await
    else {
        return Ok(());
    };
    match session.channel.stat(path, true).await {
        Ok(known) if is_folder(&known) => Ok(()),
        Ok(_) => Err(
            Error::unexpected(format!("cannot make folder `{}`", sftp.shown(path)))
                .caused_by("something else is there that is no folder"),
        ),
        Err(_) => Err(sftp.failed(session, "make folder", path, &failure)),
    }
}

async fn make_link(sftp: &Sftp, session: &Session, path: &[u8], target: &[u8]) -> Result<()> {
    let temporary = beside(path, false);
    let channel = &session.channel;
    sftp.temporaries.add(&temporary, Written::new(false));
    let result = match channel.make_link(target, &temporary).await {
        Ok(()) => channel.replace(&temporary, path).await,
        Err(failure) => Err(failure),
    };
    match result {
        Ok(()) => {
            sftp.temporaries.forget(&temporary);
            Ok(())
        }
        Err(failure) => {
            sftp.temporaries.remove(channel, &temporary).await;
            Err(sftp.failed(session, "make link", path, &failure))
        }
    }
}

async fn store_files(sftp: &Sftp, files: Vec<File>, job: &Job) -> Result<()> {
    let bytes = files.iter().filter_map(File::size).sum();
    let lanes = sftp.lanes(job, files.len(), bytes);
    let in_order = job.sessions == 1 && files.iter().any(|file| file.size().is_none());
    let together = if in_order { 1 } else { lanes.max(2) };
    stream::iter(grouped(files, File::size).into_iter().enumerate())
        .map(|(index, group)| async move {
            match group {
                Group::Small(files) => small(sftp, index % lanes, files, job).await,
                Group::Large(file) => one(sftp, lanes, file, job).await,
                Group::Stream(file) => one(sftp, 1, file, job).await,
            }
        })
        .buffer_unordered(together)
        .try_for_each(|()| future::ready(Ok(())))
        .await
}

/// Where a file goes, and what is there.
struct Place {
    destination: Vec<u8>,
    temporary: Vec<u8>,
    written: Arc<Written>,
    /// Permissions of the file that is there, and its owner.
    known: Option<u32>,
    owner: Option<(u32, u32)>,
}

impl Place {
    /// What the file is to have at the end; `None` leaves what the server gave it.
    fn wanted(&self, file: &Meta, job: &Job) -> Option<Attributes> {
        if job.preserve {
            return Some(preserved(file.mode, file.mtime));
        }
        self.known.map(|mode| Attributes {
            mode: Some(mode),
            ..Attributes::default()
        })
    }

    /// Permissions to make the temporary file with, less the server's umask.
    fn first_mode(&self, file: &Meta, job: &Job) -> u32 {
        if job.preserve || self.known.is_some() {
            0o600
        } else {
            file.mode & 0o777 | 0o200
        }
    }
}

/// What a file here has.
#[derive(Clone, Copy)]
struct Meta {
    id: FileId,
    mode: u32,
    mtime: i64,
}

async fn place(sftp: &Sftp, session: &Session, path: &[u8], job: &Job) -> Result<Place> {
    let channel = &session.channel;
    let failed = |failure: Failure| sftp.failed(session, "write", path, &failure);
    let mut destination = path.to_vec();
    let mut known = match channel.stat(path, false).await {
        Ok(known) => Some(known),
        Err(failure) if failure.is(code::NO_SUCH_FILE) => None,
        Err(failure) => return Err(failed(failure)),
    };
    if known.as_ref().is_some_and(is_link) {
        // As scp: what is behind a link is replaced, not the link.
        destination = channel.real_path(path).await.map_err(failed)?.to_vec();
        known = match channel.stat(&destination, true).await {
            Ok(known) => Some(known),
            Err(failure) if failure.is(code::NO_SUCH_FILE) => None,
            Err(failure) => return Err(failed(failure)),
        };
    }
    if known.as_ref().is_some_and(is_folder) {
        return Err(failed(Failure::Ours("it is a folder".to_owned())));
    }
    let temporary = beside(&destination, job.resume);
    let written = Written::new(job.resume);
    sftp.temporaries.add(&temporary, Arc::clone(&written));
    Ok(Place {
        destination,
        temporary,
        written,
        owner: known.as_ref().and_then(|known| known.owner),
        known: known.and_then(|known| known.mode).map(|mode| mode & 0o7777),
    })
}

/// Files that are hashed by one command.
async fn small(sftp: &Sftp, index: usize, files: Vec<File>, job: &Job) -> Result<()> {
    let session = sftp.session(index).await?;
    let session = &session;
    let sent: Vec<(Meta, Place, Digest)> = stream::iter(files)
        .map(|file| async move {
            let meta = Meta {
                id: file.id,
                mode: file.mode,
                mtime: file.mtime,
            };
            match send_small(sftp, session, file, meta, job).await {
                Ok((place, digest)) => Some((meta, place, digest)),
                Err(error) => {
                    job.report.fail(meta.id, error);
                    None
                }
            }
        })
        .buffer_unordered(FILES)
        .filter_map(future::ready)
        .collect()
        .await;
    if sent.is_empty() {
        return Ok(());
    }
    let paths: Vec<&[u8]> = sent
        .iter()
        .map(|(_, place, _)| &place.temporary[..])
        .collect();
    let hashes = sftp.hasher.files(&session.client, &paths).await?;
    let hashes = &hashes;
    stream::iter(sent)
        .map(|(meta, place, digest)| async move {
            let result = finish_one(sftp, session, &place, &meta, digest, hashes, job).await;
            settle(job, meta.id, result);
        })
        .buffer_unordered(FILES)
        .for_each(|()| future::ready(()))
        .await;
    Ok(())
}

async fn send_small(
    sftp: &Sftp,
    session: &Session,
    file: File,
    meta: Meta,
    job: &Job,
) -> Result<(Place, Digest)> {
    let reading = Reading::open(file.source, file.id, job)?;
    let Reading::File(reading) = reading else {
        return Err(Error::unexpected("a stream is no small file"));
    };
    let place = place(sftp, session, &file.path, job).await?;
    let result = async {
        let handle = make(sftp, session, &place, &meta, job).await?;
        let mut hash = digest::Context::new(&digest::SHA256);
        let (size, block) = (reading.size(), block(session));
        let mut at = 0;
        let mut result = Ok(());
        while at < size {
            let bytes = reading.read_at(at, block).await?;
            hash.update(&bytes);
            let _room = session.room(bytes.len()).await;
            result = session.channel.write(&handle, at, &bytes).await;
            if result.is_err() {
                break;
            }
            at += bytes.len() as u64;
        }
        // Some file systems tell of a full disk only now.
        let closed = session.channel.close(&handle).await;
        if let Err(failure) = result.and(closed) {
            return Err(no_room(sftp, session, &place, size, &failure).await);
        }
        reading.unchanged()?;
        Ok(finish(hash))
    }
    .await;
    match result {
        Ok(digest) => Ok((place, digest)),
        Err(error) => {
            sftp.temporaries
                .remove(&session.channel, &place.temporary)
                .await;
            Err(error)
        }
    }
}

/// Verifies a temporary file and puts it into place.
async fn finish_one(
    sftp: &Sftp,
    session: &Session,
    place: &Place,
    meta: &Meta,
    here: Digest,
    hashes: &Option<HashMap<Vec<u8>, Digest>>,
    job: &Job,
) -> Result<()> {
    let result = async {
        let there = match hashes {
            Some(hashes) => hashes.get(&place.temporary).copied().ok_or_else(|| {
                Error::unexpected(format!(
                    "`{}` could not be verified",
                    sftp.shown(&place.destination)
                ))
                .caused_by("the server could not hash it")
            })?,
            None => {
                sftp.tell_no_hash();
                let back = async {
                    let known = session.channel.stat(&place.temporary, false).await?;
                    read_back(session, &place.temporary, known.size.unwrap_or(0)).await
                };
                back.await.map_err(|failure| {
                    sftp.failed(session, "read back", &place.destination, &failure)
                })?
            }
        };
        if there != here {
            place.written.spoil();
        }
        sftp.compare(&place.destination, &here, &there)?;
        let failed = |failure: Failure| sftp.failed(session, "write", &place.destination, &failure);
        if place.owner.is_some() {
            // Root replaces a file without taking it; nobody else can give one away, and need not.
            let owner = Attributes {
                owner: place.owner,
                ..Attributes::default()
            };
            if let Err(lost @ Failure::Lost(_)) =
                session.channel.set(&place.temporary, &owner).await
            {
                return Err(failed(lost));
            }
        }
        if let Some(wanted) = place.wanted(meta, job) {
            session
                .channel
                .set(&place.temporary, &wanted)
                .await
                .map_err(failed)?;
        }
        session
            .channel
            .replace(&place.temporary, &place.destination)
            .await
            .map_err(failed)?;
        sftp.temporaries.forget(&place.temporary);
        Ok(())
    }
    .await;
    if result.is_err() {
        sftp.temporaries
            .remove(&session.channel, &place.temporary)
            .await;
    }
    result
}

/// One file by all sessions, or a stream by one.
async fn one(sftp: &Sftp, lanes: usize, file: File, job: &Job) -> Result<()> {
    let session = sftp.session(0).await?;
    let meta = Meta {
        id: file.id,
        mode: file.mode,
        mtime: file.mtime,
    };
    let result = match Reading::open(file.source, file.id, job) {
        Ok(reading) => match place(sftp, &session, &file.path, job).await {
            Ok(place) => {
                let sent = match reading {
                    Reading::File(reading) => {
                        large(sftp, &session, lanes, Arc::new(reading), &place, &meta, job).await
                    }
                    Reading::Stream(reading) => {
                        streamed(sftp, &session, reading, &place, &meta, job).await
                    }
                };
                match sent {
                    Ok(digest) => {
                        let whole = [&place.temporary[..]];
                        let hashes = sftp.hasher.files(&session.client, &whole).await?;
                        finish_one(sftp, &session, &place, &meta, digest, &hashes, job).await
                    }
                    Err(error) => {
                        sftp.temporaries
                            .remove(&session.channel, &place.temporary)
                            .await;
                        Err(error)
                    }
                }
            }
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    settle(job, meta.id, result);
    Ok(())
}

async fn large(
    sftp: &Sftp,
    session: &Session,
    lanes: usize,
    reading: Arc<FileReading>,
    place: &Place,
    meta: &Meta,
    job: &Job,
) -> Result<Digest> {
    let size = reading.size();
    let handle = make(sftp, session, place, meta, job).await?;
    let result: Result<Digest> = async {
        let begin = resume(sftp, session, &handle, &reading, place, meta, job).await?;
        // Read a second time for the hash: sessions take blocks in no order.
        let hashed = Arc::clone(&reading);
        let hash = tokio::task::spawn_blocking(move || hash_of(&hashed, size));
        let cursor = AtomicU64::new(begin);
        let sending = future::try_join_all((0..lanes).map(|index| {
            let (cursor, reading, handle) = (&cursor, &*reading, &handle);
            async move {
                if index == 0 {
                    return write_blocks(sftp, session, handle, reading, cursor, place).await;
                }
                lane(sftp, index, reading, cursor, place).await
            }
        }));
        let hash = async {
            hash.await
                .map_err(|_| Error::unexpected("a file could not be hashed"))?
        };
        let (_, digest) = future::try_join(sending, hash).await?;
        reading.unchanged()?;
        Ok(digest)
    }
    .await;
    let closed = session.channel.close(&handle).await;
    let digest = result?;
    match closed {
        Ok(()) => Ok(digest),
        Err(failure) => Err(no_room(sftp, session, place, size, &failure).await),
    }
}

/// How much of an earlier run is there and the same; the rest is cut off.
async fn resume(
    sftp: &Sftp,
    session: &Session,
    handle: &Bytes,
    reading: &Arc<FileReading>,
    place: &Place,
    meta: &Meta,
    job: &Job,
) -> Result<u64> {
    if !job.resume {
        return Ok(0);
    }
    let failed = |failure: Failure| sftp.failed(session, "write", &place.destination, &failure);
    let known = session.channel.stat_handle(handle).await.map_err(failed)?;
    let len = known.size.unwrap_or(0);
    if len == 0 {
        return Ok(0);
    }
    if len <= reading.size() {
        let there = sftp
            .hasher
            .beginning(&session.client, &place.temporary, len)
            .await?;
        let hashed = Arc::clone(reading);
        let here = tokio::task::spawn_blocking(move || hash_of(&hashed, len))
            .await
            .map_err(|_| Error::unexpected("a file could not be hashed"))??;
        if there == Some(here) {
            place.written.add(0, len);
            job.report.bytes(meta.id, len);
            sftp.tell_begin(len);
            return Ok(len);
        }
    }
    let empty = Attributes {
        size: Some(0),
        ..Attributes::default()
    };
    session
        .channel
        .set_handle(handle, &empty)
        .await
        .map_err(failed)?;
    Ok(0)
}

fn hash_of(reading: &FileReading, len: u64) -> Result<Digest> {
    let mut hash = digest::Context::new(&digest::SHA256);
    reading.hash_prefix(len, &mut hash)?;
    Ok(finish(hash))
}

/// A session's share of a large file.
async fn lane(
    sftp: &Sftp,
    index: usize,
    reading: &FileReading,
    cursor: &AtomicU64,
    place: &Place,
) -> Result<()> {
    let session = match sftp.pool.session(index).await {
        Ok(session) => session,
        // The others do its share.
        Err(error) => {
            let label = sftp.pool.label();
            let output = sftp.server.cx.output();
            output.detail(format!("{label}: no session more: {error}"));
            return Ok(());
        }
    };
    if cursor.load(Ordering::Relaxed) >= reading.size() {
        return Ok(());
    }
    let handle = session
        .channel
        .open_file(&place.temporary, open::WRITE, None)
        .await
        .map_err(|failure| sftp.failed(&session, "write", &place.destination, &failure))?;
    let result = write_blocks(sftp, &session, &handle, reading, cursor, place).await;
    let closed = session.channel.close(&handle).await;
    result?;
    match closed {
        Ok(()) => Ok(()),
        Err(failure) => Err(no_room(sftp, &session, place, 0, &failure).await),
    }
}

/// Sends the next block whenever one has been taken, until none is left.
async fn write_blocks(
    sftp: &Sftp,
    session: &Session,
    handle: &Bytes,
    reading: &FileReading,
    cursor: &AtomicU64,
    place: &Place,
) -> Result<()> {
    let (block, end) = (block(session), reading.size());
    let next = std::iter::from_fn(|| {
        let at = cursor.fetch_add(block as u64, Ordering::Relaxed);
        (at < end).then_some(at)
    });
    stream::iter(next)
        .map(|at| async move {
            let _room = session.room(block).await;
            let bytes = reading.read_at(at, block).await?;
            let len = bytes.len() as u64;
            if let Err(failure) = session.channel.write(handle, at, &bytes).await {
                return Err(no_room(sftp, session, place, end, &failure).await);
            }
            place.written.add(at, at + len);
            Ok(())
        })
        .buffer_unordered(DEPTH)
        .try_for_each(|()| future::ready(Ok(())))
        .await
}

async fn streamed(
    sftp: &Sftp,
    session: &Session,
    reading: StreamReading,
    place: &Place,
    meta: &Meta,
    job: &Job,
) -> Result<Digest> {
    // A part of an earlier stream is no beginning of this one.
    place.written.spoil();
    let handle = make(sftp, session, place, meta, job).await?;
    let empty = Attributes {
        size: Some(0),
        ..Attributes::default()
    };
    let cut = session.channel.set_handle(&handle, &empty).await;
    let handle_ref = &handle;
    // Locked by one alone at a time: it is read in order.
    let reading = Arc::new(tokio::sync::Mutex::new(reading));
    let sending = async {
        cut.map_err(|failure| sftp.failed(session, "write", &place.destination, &failure))?;
        let block = block(session);
        let begin = (Arc::clone(&reading), 0_u64);
        let pieces = stream::try_unfold(begin, move |(reading, at)| async move {
            let bytes = reading.lock().await.next(block).await?;
            let next = at + bytes.len() as u64;
            Ok::<_, Error>((!bytes.is_empty()).then_some(((at, bytes), (reading, next))))
        });
        pieces
            .map_ok(|(at, bytes)| async move {
                let _room = session.room(bytes.len()).await;
                match session.channel.write(handle_ref, at, &bytes).await {
                    Ok(()) => Ok(()),
                    Err(failure) => Err(no_room(sftp, session, place, at, &failure).await),
                }
            })
            .try_buffer_unordered(STREAM_DEPTH)
            .try_for_each(|()| future::ready(Ok(())))
            .await
    };
    let result = sending.await;
    let closed = session.channel.close(&handle).await;
    result?;
    match closed {
        Ok(()) => Ok(reading.lock().await.digest()),
        Err(failure) => Err(no_room(sftp, session, place, 0, &failure).await),
    }
}

/// Makes the temporary file, or opens the part of an earlier run.
async fn make(
    sftp: &Sftp,
    session: &Session,
    place: &Place,
    meta: &Meta,
    job: &Job,
) -> Result<Bytes> {
    // A link that somebody put there is never followed: the name is new, or it is checked to be a file.
    let flags = if job.resume {
        if let Ok(known) = session.channel.stat(&place.temporary, false).await
            && (is_link(&known) || is_folder(&known))
        {
            return Err(sftp.failed(
                session,
                "write",
                &place.temporary,
                &Failure::Ours("it is no file".to_owned()),
            ));
        }
        open::WRITE | open::CREATE
    } else {
        open::WRITE | open::CREATE | open::EXCLUSIVE
    };
    session
        .channel
        .open_file(&place.temporary, flags, Some(place.first_mode(meta, job)))
        .await
        .map_err(|failure| sftp.failed(session, "write", &place.destination, &failure))
}

/// A failed write, with the reason that the server leaves out: version 3 has no words for a full disk.
async fn no_room(
    sftp: &Sftp,
    session: &Session,
    place: &Place,
    size: u64,
    failure: &Failure,
) -> Error {
    let error = sftp.failed(session, "write", &place.destination, failure);
    if !failure.is(code::FAILURE) {
        return error;
    }
    match session.channel.free_bytes(&place.temporary).await {
        Some(free) if free < size.max(BLOCK_BYTES as u64) => error
            .caused_by(format!("no space is left there: {free} bytes are free"))
            .hint("make room, then copy again"),
        _ => error,
    }
}

fn preserved(mode: u32, mtime: i64) -> Attributes {
    let time = u32::try_from(mtime).unwrap_or(if mtime < 0 { 0 } else { u32::MAX });
    Attributes {
        mode: Some(mode & 0o7777),
        times: Some((time, time)),
        ..Attributes::default()
    }
}

fn block(session: &Session) -> usize {
    BLOCK_BYTES.min(session.channel.write_bytes())
}

fn settle(job: &Job, id: FileId, result: Result<()>) {
    match result {
        Ok(()) => job.report.done(id),
        Err(error) => job.report.fail(id, error),
    }
}
