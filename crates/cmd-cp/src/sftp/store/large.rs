//! A large file: shared out over sessions block by block, gone on with where an earlier run left
//! it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use aws_lc_rs::digest;
use futures_util::{StreamExt as _, TryStreamExt as _, future, stream};
use ops_ui::{Error, Result};

use super::{
    super::{DEPTH, SftpTransport, lasting::Open, wire::open},
    block,
    destination::{Destination, LocalMetadata, make, no_room},
};
use crate::{
    hashes::{Digest, finish_hash},
    reading::FileReading,
    transport::Job,
};

/// Sends a file over `lanes` sessions; gives its hash.
///
/// # Errors
/// It cannot be read or written.
pub(super) async fn large(
    sftp: &SftpTransport,
    lanes: usize,
    reading: Arc<FileReading>,
    place: &mut Destination,
    meta: &LocalMetadata,
    job: &Job,
) -> Result<Digest> {
    let size = reading.size();
    let first = make(sftp, 0, place, meta, job).await?;
    let place = &*place;
    let result: Result<Digest> = async {
        let begin = resume(sftp, &first, &reading, place, meta, job).await?;
        // Read a second time for the hash: sessions take blocks in no order.
        let hashed = Arc::clone(&reading);
        let hash = tokio::task::spawn_blocking(move || hash_of(&hashed, size));
        let cursor = AtomicU64::new(begin);
        let sending = future::try_join_all((0..lanes).map(|index| {
            let (cursor, reading, first) = (&cursor, &*reading, &first);
            async move {
                if index == 0 {
                    return write_blocks(sftp, 0, first, reading, cursor, place).await;
                }
                lane(sftp, index, reading, cursor, place).await
            }
        }));
        let hash = async {
            hash.await
                .map_err(|_| Error::unexpected("a file could not be hashed"))?
        };
        let (_, digest) = future::try_join(sending, hash).await?;
        reading.check_unchanged(&digest)?;
        Ok(digest)
    }
    .await;
    let closed = first.close().await;
    let digest = result?;
    match closed {
        Ok(()) => Ok(digest),
        Err(failure) => Err(no_room(sftp, 0, place, size, &failure).await),
    }
}

/// How much of an earlier run is there and the same; the rest is cut off.
async fn resume(
    sftp: &SftpTransport,
    open: &Open<'_>,
    reading: &Arc<FileReading>,
    place: &Destination,
    meta: &LocalMetadata,
    job: &Job,
) -> Result<u64> {
    if !job.resume {
        return Ok(0);
    }
    let len = open.size().await?;
    if len == 0 {
        return Ok(0);
    }
    if len <= reading.size() {
        let there = sftp.beginning(0, place.temporary.whole(), len).await?;
        let hashed = Arc::clone(reading);
        let here = tokio::task::spawn_blocking(move || hash_of(&hashed, len))
            .await
            .map_err(|_| Error::unexpected("a file could not be hashed"))??;
        if there == Some(here) {
            place.written.add(0, len);
            job.report.add_bytes(meta.id, len);
            sftp.tell_begin(len);
            return Ok(len);
        }
    }
    open.empty().await?;
    Ok(0)
}

fn hash_of(reading: &FileReading, len: u64) -> Result<Digest> {
    let mut hash = digest::Context::new(&digest::SHA256);
    reading.hash_prefix(len, &mut hash)?;
    Ok(finish_hash(hash))
}

/// A session's share of a large file.
async fn lane(
    sftp: &SftpTransport,
    index: usize,
    reading: &FileReading,
    cursor: &AtomicU64,
    place: &Destination,
) -> Result<()> {
    if let Err(error) = sftp.pool.session(index).await {
        // The others do its share.
        let label = sftp.pool.label();
        let output = sftp.server.cx.output();
        output.detail(format!("{label}: no session more: {error}"));
        return Ok(());
    }
    if cursor.load(Ordering::Relaxed) >= reading.size() {
        return Ok(());
    }
    let shown = ("write", place.destination.whole());
    let open = Open::open(sftp, index, &place.temporary, open::WRITE, shown).await?;
    let result = write_blocks(sftp, index, &open, reading, cursor, place).await;
    let closed = open.close().await;
    result?;
    match closed {
        Ok(()) => Ok(()),
        Err(failure) => Err(no_room(sftp, index, place, 0, &failure).await),
    }
}

/// Sends the next block whenever one has been taken, until none is left.
async fn write_blocks(
    sftp: &SftpTransport,
    lane: usize,
    open: &Open<'_>,
    reading: &FileReading,
    cursor: &AtomicU64,
    place: &Destination,
) -> Result<()> {
    let (block, end) = (block(&*open.session().await?), reading.size());
    let next = std::iter::from_fn(|| {
        let at = cursor.fetch_add(block as u64, Ordering::Relaxed);
        (at < end).then_some(at)
    });
    stream::iter(next)
        .map(|at| async move {
            let _room = open.session().await?.room(block).await;
            let bytes = reading.read_at(at, block).await?;
            let len = bytes.len() as u64;
            if let Err(failure) = open.write(at, &bytes).await? {
                return Err(no_room(sftp, lane, place, end, &failure).await);
            }
            place.written.add(at, at + len);
            Ok(())
        })
        .buffer_unordered(DEPTH)
        .try_for_each(|()| future::ready(Ok(())))
        .await
}
