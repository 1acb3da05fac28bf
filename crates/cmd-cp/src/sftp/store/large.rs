//! A large file: shared out over sessions, gone on with where an earlier run left it.

use std::{iter, sync::Arc};

use aws_lc_rs::digest;
use futures_util::future;
use ops_ui::{Error, Result};

use super::{
    super::{
        SftpTransport,
        lanes::{carry_requests, run_lanes},
        lasting::Open,
        wire::open,
    },
    destination::{Destination, LocalMetadata, make, no_room},
    request_bytes,
};
use crate::{
    hashes::{Digest, finish_hash},
    lanes::Remaining,
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
        // Read a second time for the hash: sessions write in no order.
        let hashed = Arc::clone(&reading);
        let hash = tokio::task::spawn_blocking(move || hash_of(&hashed, size));
        let remaining = Remaining::new(iter::once(begin..size));
        let sending = run_lanes(sftp, lanes, &remaining, |index| {
            let (remaining, reading, first) = (&remaining, &*reading, &first);
            async move {
                if index == 0 {
                    return write_lane(sftp, 0, first, reading, remaining, place).await;
                }
                open_and_write_lane(sftp, index, reading, remaining, place).await
            }
        });
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

/// The lane of a session beside the first, which has made the file.
async fn open_and_write_lane(
    sftp: &SftpTransport,
    index: usize,
    reading: &FileReading,
    remaining: &Remaining,
    place: &Destination,
) -> Result<()> {
    let shown = ("write", place.destination.whole());
    let open = Open::open(sftp, index, &place.temporary, open::WRITE, shown).await?;
    let result = write_lane(sftp, index, &open, reading, remaining, place).await;
    let closed = open.close().await;
    result?;
    match closed {
        Ok(()) => Ok(()),
        Err(failure) => Err(no_room(sftp, index, place, 0, &failure).await),
    }
}

async fn write_lane(
    sftp: &SftpTransport,
    lane: usize,
    open: &Open<'_>,
    reading: &FileReading,
    remaining: &Remaining,
    place: &Destination,
) -> Result<()> {
    let len = request_bytes(&*open.session().await?);
    carry_requests(open, len, remaining, |range| async move {
        let bytes = reading.read_at(range.start, len).await?;
        let end = range.start + bytes.len() as u64;
        if let Err(failure) = open.write(range.start, &bytes).await? {
            return Err(no_room(sftp, lane, place, reading.size(), &failure).await);
        }
        place.written.add(range.start, end);
        Ok(())
    })
    .await
}
