//! Files from the server.

use std::iter;

use aws_lc_rs::digest;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, future, stream};
use ops_ui::{Error, ErrorKind, Result};
use tokio::sync::mpsc;

use super::{
    DEPTH, FILES, LARGE_BYTES, REQUEST_BYTES, SftpTransport,
    group::{Group, grouped},
    lanes::{carry_requests, run_lanes},
    lasting::Open,
    pool::SftpSession,
    wire::open::READ,
};
use crate::{
    hashes::{Digest, finish_hash},
    landing::Landing,
    lanes::Remaining,
    local::umask,
    remote_path::RemotePath,
    transport::{Fetch, Job, Sink},
};

/// Fetches `files`.
///
/// # Errors
/// No session at all.
pub(super) async fn fetch_files(sftp: &SftpTransport, files: Vec<Fetch>, job: &Job) -> Result<()> {
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

async fn small(sftp: &SftpTransport, lane: usize, files: Vec<Fetch>, job: &Job) -> Result<()> {
    let paths: Vec<RemotePath> = files.iter().map(|file| file.path.clone()).collect();
    let paths: Vec<&[u8]> = paths.iter().map(RemotePath::whole).collect();
    let hashes = sftp.hashes(lane, &paths);
    let reads = stream::iter(files)
        .map(|file| async move {
            let landed = read_small(sftp, lane, &file, job).await;
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
            Some(hashes) => match hashes.get(file.path.whole()) {
                Some(digest) => Ok(Some(*digest)),
                None => Err(no_hash(sftp, file.path.whole())),
            },
        };
        let result = match (landed, known) {
            (Ok(landing), Ok(known)) => match wanted(sftp, lane, &file, &landing, known).await {
                Ok(wanted) => landing.commit_file(wanted),
                Err(error) => Err(error),
            },
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
        settle(job, &file, result);
    }
    Ok(())
}

async fn read_small(sftp: &SftpTransport, lane: usize, file: &Fetch, job: &Job) -> Result<Landing> {
    let landing = landing(file, job)?;
    if landing.resumable_part()?.is_some() {
        landing.start_over()?;
    }
    let open = open(sftp, lane, &file.path).await?;
    let result = read_all(&open, file.entry.size, &landing).await;
    // It was only read.
    let _ = open.close().await;
    result.map(|()| landing)
}

/// Everything up to the end of the file, wherever that is: its listed `size` is a guess.
async fn read_all(open: &Open<'_>, size: u64, landing: &Landing) -> Result<()> {
    let mut at = 0;
    while let Some(bytes) = read_on(open, at, size).await? {
        let next = at + bytes.len() as u64;
        if next > size {
            landing.write_tail(at, &bytes).await?;
        } else {
            landing.write_at(at, &bytes).await?;
        }
        at = next;
        if is_honest_end(at, size) {
            break;
        }
    }
    landing.ends_at(at);
    Ok(())
}

/// The next bytes of a file that is read in order; `None` at its end.
///
/// One byte more is asked for than the file was listed with, so that an ordinary file shows its
/// end without a further question: see [`is_honest_end`].
async fn read_on(open: &Open<'_>, at: u64, size: u64) -> Result<Option<Bytes>> {
    let session = open.session().await?;
    let most = request_bytes(&session);
    let len = if at > size {
        most
    } else {
        request_len(at, size + 1, most)
    };
    let _room = session.room(len).await;
    let bytes = open.read_once(at, len).await?;
    if bytes.len() > len {
        return Err(Error::unexpected(
            "the SFTP server sent more than it was asked for",
        ));
    }
    Ok((!bytes.is_empty()).then_some(bytes))
}

/// Whether a file of `size` bytes that was read up to `at` has no more to give. One that says 0,
/// as those of `/proc` do, is asked until it gives nothing.
fn is_honest_end(at: u64, size: u64) -> bool {
    at == size && size > 0
}

/// What stands behind `at`, where a file was listed to end.
async fn read_tail(open: &Open<'_>, mut at: u64, landing: &Landing) -> Result<()> {
    while let Some(bytes) = read_on(open, at, 0).await? {
        landing.write_tail(at, &bytes).await?;
        at += bytes.len() as u64;
    }
    Ok(())
}

/// The hash that a file is to have which has landed as far as its source goes; `known` is what the
/// server's own program made of the file, at another moment.
async fn wanted(
    sftp: &SftpTransport,
    lane: usize,
    file: &Fetch,
    landing: &Landing,
    known: Option<Digest>,
) -> Result<Option<Digest>> {
    let Some((len, here)) = landing.digest()? else {
        // The landing says what is missing.
        return Ok(known);
    };
    settled(sftp, lane, file, len, here, known).await
}

/// As [`wanted`], for `len` bytes with the hash `here`.
async fn settled(
    sftp: &SftpTransport,
    lane: usize,
    file: &Fetch,
    len: u64,
    here: Digest,
    known: Option<Digest>,
) -> Result<Option<Digest>> {
    if known.is_none_or(|known| known == here) {
        return Ok(known);
    }
    // Written to since: then what has come is its beginning.
    if sftp.beginning(lane, file.path.whole(), len).await? == Some(here) {
        return Ok(Some(here));
    }
    // Of a file that does not say its size each reading is another one (`/proc/meminfo`): SSH has
    // protected what came, and there is nothing else to compare it with.
    let size = file.entry.size;
    let is_page = size.is_multiple_of(4096) && size <= 64 << 10;
    if size == 0 || (len < size && is_page) {
        return Ok(Some(here));
    }
    Ok(known)
}

async fn large(sftp: &SftpTransport, lanes: usize, file: Fetch, job: &Job) -> Result<()> {
    let result = large_inner(sftp, lanes, &file, job).await;
    settle(job, &file, result);
    Ok(())
}

async fn large_inner(sftp: &SftpTransport, lanes: usize, file: &Fetch, job: &Job) -> Result<()> {
    let landing = landing(file, job)?;
    let mut begin = 0;
    if let Some((len, here)) = landing.resumable_part()? {
        if sftp.beginning(0, file.path.whole(), len).await? == Some(here) {
            begin = len;
            sftp.tell_begin(len);
        } else {
            landing.start_over()?;
        }
    }
    let whole = [file.path.whole()];
    // The server hashes while it sends: what changes meanwhile is found out either way.
    let hash = sftp.hashes(0, &whole);
    let remaining = Remaining::new(iter::once(begin..file.entry.size));
    let reading = run_lanes(sftp, lanes, &remaining, |index| {
        read_lane(sftp, index, file, &remaining, &landing)
    });
    let (hashes, _) = future::try_join(hash, reading).await?;
    let open = open(sftp, 0, &file.path).await?;
    let tail = read_tail(&open, file.entry.size, &landing).await;
    // It was only read.
    let _ = open.close().await;
    tail?;
    let digest = match hashes {
        None => {
            sftp.tell_no_hash();
            None
        }
        Some(hashes) => Some(
            hashes
                .get(file.path.whole())
                .copied()
                .ok_or_else(|| no_hash(sftp, file.path.whole()))?,
        ),
    };
    let digest = match (digest, landing.size() > file.entry.size) {
        // The server has hashed the file at another length than it was read to.
        (Some(_), true) => sftp.beginning(0, file.path.whole(), landing.size()).await?,
        (digest, _) => digest,
    };
    commit(landing, digest).await
}

async fn read_lane(
    sftp: &SftpTransport,
    index: usize,
    file: &Fetch,
    remaining: &Remaining,
    landing: &Landing,
) -> Result<()> {
    let open = open(sftp, index, &file.path).await?;
    let (most, opened) = (request_bytes(&*open.session().await?), &open);
    let result = carry_requests(&open, most, remaining, |range| async move {
        let len = request_len(range.start, range.end, most);
        let bytes = opened.read(range.start, len).await?;
        landing.write_at(range.start, &bytes).await
    })
    .await;
    // It was only read.
    let _ = open.close().await;
    result
}

async fn streamed(sftp: &SftpTransport, lane: usize, file: Fetch, job: &Job) -> Result<()> {
    let result = match &file.sink {
        Sink::Stream(sink) => {
            let result = streamed_inner(sftp, lane, &file, sink, job).await;
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
    sftp: &SftpTransport,
    lane: usize,
    file: &Fetch,
    sink: &mpsc::Sender<Result<Bytes>>,
    job: &Job,
) -> Result<()> {
    let open = open(sftp, lane, &file.path).await?;
    let mut hash = digest::Context::new(&digest::SHA256);
    let whole = [file.path.whole()];
    let known = sftp.hashes(lane, &whole);
    let size = file.entry.size;
    let mut len = 0;
    let reading = async {
        if size >= LARGE_BYTES {
            let mut pieces = std::pin::pin!(in_order(&open, size).await?);
            while let Some(bytes) = pieces.next().await {
                let bytes = bytes?;
                len += bytes.len() as u64;
                hash.update(&bytes);
                hand_on(sftp, file, sink, job, bytes).await?;
            }
        }
        // From here on one after another, to wherever the file ends.
        while let Some(bytes) = read_on(&open, len, size).await? {
            len += bytes.len() as u64;
            hash.update(&bytes);
            hand_on(sftp, file, sink, job, bytes).await?;
            if is_honest_end(len, size) {
                break;
            }
        }
        Ok(())
    };
    let result = future::try_join(known, reading).await;
    // It was only read.
    let _ = open.close().await;
    match result?.0 {
        None => sftp.tell_no_hash(),
        Some(hashes) => {
            let there = hashes
                .get(file.path.whole())
                .ok_or_else(|| no_hash(sftp, file.path.whole()))?;
            let here = finish_hash(hash);
            let there = settled(sftp, lane, file, len, here, Some(*there)).await?;
            sftp.compare(file.path.whole(), &here, &there.unwrap_or(here))?;
        }
    }
    Ok(())
}

/// Gives a piece of a stream to whoever takes it.
async fn hand_on(
    sftp: &SftpTransport,
    file: &Fetch,
    sink: &mpsc::Sender<Result<Bytes>>,
    job: &Job,
    bytes: Bytes,
) -> Result<()> {
    job.pace.wait_for_bytes(bytes.len()).await;
    let len = bytes.len() as u64;
    if sink.send(Ok(bytes)).await.is_err() {
        return Err(Error::new(
            ErrorKind::BrokenPipe,
            format!(
                "nobody takes what `{}` holds",
                sftp.shown(file.path.whole())
            ),
        ));
    }
    job.report.add_bytes(file.id, len);
    Ok(())
}

/// The first `end` bytes of an open file, in order, several requests ahead.
async fn in_order<'a>(
    open: &'a Open<'a>,
    end: u64,
) -> Result<impl futures_util::Stream<Item = Result<Bytes>> + 'a> {
    let most = request_bytes(&*open.session().await?);
    Ok(stream::iter((0..end).step_by(most))
        .map(move |at| async move {
            let len = request_len(at, end, most);
            let _room = open.session().await?.room(len).await;
            open.read(at, len).await
        })
        .buffered(DEPTH))
}

async fn open<'a>(sftp: &'a SftpTransport, lane: usize, path: &RemotePath) -> Result<Open<'a>> {
    Open::open(sftp, lane, path, READ, ("read", path.whole())).await
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
    tokio::task::spawn_blocking(move || landing.commit_file(digest))
        .await
        .map_err(|_| Error::unexpected("a file could not be put into place"))?
}

fn settle(job: &Job, file: &Fetch, result: Result<()>) {
    match result {
        Ok(()) => job.report.mark_done(file.id),
        Err(error) => job.report.mark_failed(file.id, error),
    }
}

fn no_hash(sftp: &SftpTransport, path: &[u8]) -> Error {
    Error::unexpected(format!("`{}` could not be verified", sftp.shown(path))).caused_by(
        "the server could not hash it: it may have vanished, or not be readable any more",
    )
}

/// Content of one request, in bytes.
fn request_bytes(session: &SftpSession) -> usize {
    REQUEST_BYTES.min(session.channel.read_bytes())
}

fn request_len(at: u64, end: u64, most: usize) -> usize {
    usize::try_from(end - at).map_or(most, |left| left.min(most))
}

/// The hash of the first `size` bytes of a file on the server, read back for `shown`; one that is
/// longer fails.
///
/// # Errors
/// It cannot be read, or has another size.
pub(super) async fn read_back(
    sftp: &SftpTransport,
    lane: usize,
    path: &RemotePath,
    shown: &[u8],
    size: u64,
) -> Result<Digest> {
    let open = Open::open(sftp, lane, path, READ, ("read back", shown)).await?;
    let mut hash = digest::Context::new(&digest::SHA256);
    let result = async {
        let mut pieces = std::pin::pin!(in_order(&open, size).await?);
        while let Some(bytes) = pieces.next().await {
            hash.update(&bytes?);
        }
        // Nothing may come after it.
        if open.ends_at(size).await? {
            return Ok(());
        }
        Err(Error::unexpected(format!(
            "`{}` did not arrive as it was sent",
            sftp.shown(shown)
        ))
        .caused_by("it is longer there than it was here"))
    }
    .await;
    // It was only read.
    let _ = open.close().await;
    result.map(|()| finish_hash(hash))
}
