//! Files from the server.

use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _, future, stream};
use ops_core::{Error, ErrorKind, Result};
use tokio::sync::mpsc;

use super::{
    BLOCK_BYTES, DEPTH, FILES, Sftp,
    channel::{Answered, Failure},
    group::{Group, grouped},
    pool::Session,
    wire::open,
};
use crate::{
    arrive::umask,
    landing::{Landing, finish},
    transport::{Digest, Fetch, Job, Sink},
};

/// Fetches `files`.
///
/// # Errors
/// No session at all.
pub(super) async fn fetch(sftp: &Sftp, files: Vec<Fetch>, job: &Job) -> Result<()> {
    let bytes = files.iter().map(|file| file.entry.size).sum();
    let lanes = sftp.lanes(job, files.len(), bytes);
    let in_order = job.sessions == 1
        && files
            .iter()
            .any(|file| matches!(file.sink, Sink::Stream(_)));
    let groups = grouped(files, |file| match file.sink {
        Sink::File(_) => Some(file.entry.size),
        Sink::Stream(_) => None,
    });
    let together = if in_order { 1 } else { lanes.max(2) };
    stream::iter(groups.into_iter().enumerate())
        .map(|(index, group)| async move {
            match group {
                Group::Small(files) => small(sftp, index % lanes, files, job).await,
                Group::Large(file) => large(sftp, lanes, file, job).await,
                Group::Stream(file) => streamed(sftp, index % lanes, file, job).await,
            }
        })
        .buffer_unordered(together)
        .try_for_each(|()| future::ready(Ok(())))
        .await
}

async fn small(sftp: &Sftp, index: usize, files: Vec<Fetch>, job: &Job) -> Result<()> {
    let session = sftp.session(index).await?;
    let paths: Vec<Vec<u8>> = files.iter().map(|file| file.path.clone()).collect();
    let paths: Vec<&[u8]> = paths.iter().map(Vec::as_slice).collect();
    let hashes = sftp.hasher.files(&session.client, &paths);
    let session = &session;
    let reads = stream::iter(files)
        .map(|file| async move {
            let landed = read_small(sftp, session, &file, job).await;
            (file, landed)
        })
        .buffer_unordered(FILES)
        .collect::<Vec<_>>();
    let (hashes, read) = future::join(hashes, reads).await;
    let hashes = hashes?;
    if hashes.is_none() {
        sftp.tell_no_hash();
    }
    for (file, landed) in read {
        let known = match &hashes {
            None => Ok(None),
            Some(hashes) => match hashes.get(&file.path) {
                Some(digest) => Ok(Some(*digest)),
                None => Err(no_hash(sftp, &file.path)),
            },
        };
        let result = landed.and_then(|landing| landing.commit(known?));
        settle(job, &file, result);
    }
    Ok(())
}

async fn read_small(sftp: &Sftp, session: &Session, file: &Fetch, job: &Job) -> Result<Landing> {
    let landing = landing(file, job)?;
    if landing.resumable()?.is_some() {
        landing.restart()?;
    }
    let handle = open(sftp, session, &file.path).await?;
    let result = read_range(sftp, session, file, &handle, 0, file.entry.size, &landing).await;
    // It was only read.
    let _ = session.channel.close(&handle).await;
    result.map(|()| landing)
}

/// Everything from `start` to `end`, block by block.
async fn read_range(
    sftp: &Sftp,
    session: &Session,
    file: &Fetch,
    handle: &Bytes,
    start: u64,
    end: u64,
    landing: &Landing,
) -> Result<()> {
    let block = block(session);
    let mut at = start;
    while at < end {
        let len = block_len(at, end, block);
        let _room = session.room(len).await;
        let bytes = read_block(session, handle, at, len)
            .await
            .map_err(|failure| sftp.failed(session, "read", &file.path, &failure))?;
        landing.write_at(at, &bytes).await?;
        at += len as u64;
    }
    Ok(())
}

async fn large(sftp: &Sftp, lanes: usize, file: Fetch, job: &Job) -> Result<()> {
    let first = sftp.session(0).await?;
    let result = large_inner(sftp, &first, lanes, &file, job).await;
    settle(job, &file, result);
    Ok(())
}

async fn large_inner(
    sftp: &Sftp,
    first: &Session,
    lanes: usize,
    file: &Fetch,
    job: &Job,
) -> Result<()> {
    let landing = landing(file, job)?;
    let mut begin = 0;
    if let Some((len, here)) = landing.resumable()? {
        let there = sftp
            .hasher
            .beginning(&first.client, &file.path, len)
            .await?;
        if there == Some(here) {
            begin = len;
            sftp.tell_begin(len);
        } else {
            landing.restart()?;
        }
    }
    let whole = [&file.path[..]];
    // The server hashes while it sends: what changes meanwhile is found out either way.
    let hash = sftp.hasher.files(&first.client, &whole);
    let cursor = AtomicU64::new(begin);
    let reading = future::try_join_all((0..lanes).map(|index| {
        let (cursor, landing) = (&cursor, &landing);
        lane(sftp, index, file, cursor, landing)
    }));
    let (hashes, _) = future::try_join(hash, reading).await?;
    let digest = match hashes {
        None => {
            sftp.tell_no_hash();
            None
        }
        Some(hashes) => Some(
            hashes
                .get(&file.path)
                .copied()
                .ok_or_else(|| no_hash(sftp, &file.path))?,
        ),
    };
    commit(landing, digest).await
}

/// One session's share of a large file: the next block whenever one has come.
async fn lane(
    sftp: &Sftp,
    index: usize,
    file: &Fetch,
    cursor: &AtomicU64,
    landing: &Landing,
) -> Result<()> {
    let session = match sftp.pool.session(index).await {
        Ok(session) => session,
        // The others do its share.
        Err(error) if index > 0 => {
            let label = sftp.pool.label();
            let output = sftp.server.cx.output();
            output.detail(format!("{label}: no session more: {error}"));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let end = file.entry.size;
    if cursor.load(Ordering::Relaxed) >= end {
        return Ok(());
    }
    let handle = open(sftp, &session, &file.path).await?;
    let (block, session, handle) = (block(&session), &session, &handle);
    let next = std::iter::from_fn(|| {
        let at = cursor.fetch_add(block as u64, Ordering::Relaxed);
        (at < end).then_some(at)
    });
    let result = stream::iter(next)
        .map(|at| async move {
            let len = block_len(at, end, block);
            let _room = session.room(len).await;
            let bytes = read_block(session, handle, at, len)
                .await
                .map_err(|failure| sftp.failed(session, "read", &file.path, &failure))?;
            landing.write_at(at, &bytes).await
        })
        .buffer_unordered(DEPTH)
        .try_for_each(|()| future::ready(Ok(())))
        .await;
    // It was only read.
    let _ = session.channel.close(handle).await;
    result
}

async fn streamed(sftp: &Sftp, index: usize, file: Fetch, job: &Job) -> Result<()> {
    let session = sftp.session(index).await?;
    let result = match &file.sink {
        Sink::Stream(sink) => {
            let result = streamed_inner(sftp, &session, &file, sink, job).await;
            if let Err(error) = &result {
                // Who takes it must not put it into place; nobody may be there any more.
                let _ = sink.send(Err(error.clone())).await;
            }
            result
        }
        Sink::File(_) => Ok(()),
    };
    settle(job, &file, result);
    Ok(())
}

async fn streamed_inner(
    sftp: &Sftp,
    session: &Session,
    file: &Fetch,
    sink: &mpsc::Sender<Result<Bytes>>,
    job: &Job,
) -> Result<()> {
    let handle = open(sftp, session, &file.path).await?;
    let mut hash = digest::Context::new(&digest::SHA256);
    let whole = [&file.path[..]];
    let known = sftp.hasher.files(&session.client, &whole);
    let reading = async {
        let mut blocks = std::pin::pin!(in_order(session, &handle, file.entry.size));
        while let Some(bytes) = blocks.next().await {
            let bytes =
                bytes.map_err(|failure| sftp.failed(session, "read", &file.path, &failure))?;
            job.pace.wait(bytes.len()).await;
            hash.update(&bytes);
            let len = bytes.len() as u64;
            if sink.send(Ok(bytes)).await.is_err() {
                return Err(Error::new(
                    ErrorKind::BrokenPipe,
                    format!("nobody takes what `{}` holds", sftp.shown(&file.path)),
                ));
            }
            job.report.bytes(file.id, len);
        }
        Ok(())
    };
    let result = future::try_join(known, reading).await;
    // It was only read.
    let _ = session.channel.close(&handle).await;
    match result?.0 {
        None => sftp.tell_no_hash(),
        Some(hashes) => {
            let there = hashes
                .get(&file.path)
                .ok_or_else(|| no_hash(sftp, &file.path))?;
            sftp.compare(&file.path, &finish(hash), there)?;
        }
    }
    Ok(())
}

/// The first `end` bytes of an open file, in order, several requests ahead.
pub(super) fn in_order<'a>(
    session: &'a Session,
    handle: &'a Bytes,
    end: u64,
) -> impl futures_util::Stream<Item = Answered<Bytes>> + 'a {
    let block = block(session);
    let offsets = (0..end).step_by(block);
    stream::iter(offsets)
        .map(move |at| async move {
            let len = block_len(at, end, block);
            let _room = session.room(len).await;
            read_block(session, handle, at, len).await
        })
        .buffered(DEPTH)
}

/// `len` bytes at `at`; a server may give fewer at once.
async fn read_block(session: &Session, handle: &Bytes, at: u64, len: usize) -> Answered<Bytes> {
    let first = session.channel.read(handle, at, len).await?;
    if first.len() == len {
        return Ok(first);
    }
    let mut all = BytesMut::from(&first[..]);
    let mut last = first.len();
    while all.len() < len {
        if last == 0 {
            return Err(Failure::Ours(
                "it has become shorter while it was read".to_owned(),
            ));
        }
        let more = session
            .channel
            .read(handle, at + all.len() as u64, len - all.len())
            .await?;
        last = more.len();
        all.extend_from_slice(&more);
    }
    if all.len() > len {
        return Err(Failure::Lost(
            "the SFTP server sent more than it was asked for".to_owned(),
        ));
    }
    Ok(all.freeze())
}

async fn open(sftp: &Sftp, session: &Session, path: &[u8]) -> Result<Bytes> {
    session
        .channel
        .open_file(path, open::READ, None)
        .await
        .map_err(|failure| sftp.failed(session, "read", path, &failure))
}

fn landing(file: &Fetch, job: &Job) -> Result<Landing> {
    let Sink::File(path) = &file.sink else {
        return Err(Error::unexpected("a stream has no place to land"));
    };
    let mode = file.entry.mode & 0o777 & !umask();
    Landing::open(path, file.id, &file.entry, mode, job)
}

/// Commits away from the runtime: what came out of order is hashed now.
async fn commit(landing: Landing, digest: Option<Digest>) -> Result<()> {
    tokio::task::spawn_blocking(move || landing.commit(digest))
        .await
        .map_err(|_| Error::unexpected("a file could not be put into place"))?
}

fn settle(job: &Job, file: &Fetch, result: Result<()>) {
    match result {
        Ok(()) => job.report.done(file.id),
        Err(error) => job.report.fail(file.id, error),
    }
}

fn no_hash(sftp: &Sftp, path: &[u8]) -> Error {
    Error::unexpected(format!("`{}` could not be verified", sftp.shown(path))).caused_by(
        "the server could not hash it: it may have vanished, or not be readable any more",
    )
}

fn block(session: &Session) -> usize {
    BLOCK_BYTES.min(session.channel.read_bytes())
}

fn block_len(at: u64, end: u64, block: usize) -> usize {
    usize::try_from(end - at).map_or(block, |left| left.min(block))
}

/// The hash of a file on the server, read back.
pub(super) async fn read_back(session: &Session, path: &[u8], size: u64) -> Answered<Digest> {
    let handle = session.channel.open_file(path, open::READ, None).await?;
    let mut hash = digest::Context::new(&digest::SHA256);
    let result = async {
        let mut blocks = std::pin::pin!(in_order(session, &handle, size));
        while let Some(bytes) = blocks.next().await {
            hash.update(&bytes?);
        }
        Ok(())
    }
    .await;
    // It was only read.
    let _ = session.channel.close(&handle).await;
    result.map(|()| finish(hash))
}
