//! Files from the server, by way of the bucket.

use futures_util::{StreamExt as _, TryStreamExt as _, future, stream};
use ops_core::calls::s3::{Bucket, Object};
use ops_ui::{Error, Result};

use super::{S3, no_hash, parts};
use crate::{
    landing::Landing,
    session::courier::Courier,
    transport::{Fetch, Job, Sink},
};

/// Bytes of one request to the bucket, and requests of one object under way.
const RANGE_BYTES: u64 = 16 << 20;
const RANGES: usize = 4;

/// Files listed as smaller than this, in bytes, are read once on the server, to their end: those of
/// `/sys` say a page of 4,096 or 65,536 bytes and hold a few.
const READ_ONCE_BELOW_BYTES: u64 = 128 << 10;

/// Fetches one file.
///
/// # Errors
/// Of this file.
pub(super) async fn one(
    s3: &S3,
    bucket: &Bucket,
    courier: &mut Courier<'_>,
    file: &Fetch,
    job: &Job,
) -> Result<()> {
    let Sink::File(path) = &file.sink else {
        return Err(Error::unexpected("a stream takes no way over a bucket"));
    };
    let size = file.entry.size;
    let mode = s3.session.local_mode(file.entry.mode);
    let landing = Landing::open(path, file.id, &file.entry, mode, job)?;
    if size < READ_ONCE_BELOW_BYTES {
        return small(s3, bucket, courier, file, landing).await;
    }
    let mut begin = 0;
    if let Some((len, here)) = landing.resumable()? {
        if courier.hash(&file.path, Some(len)).await? == Some(here) {
            begin = len;
        } else {
            landing.restart()?;
        }
    }
    let there = courier.hash(&file.path, None).await?;
    if there.is_none() && s3.session.hashes() {
        return Err(no_hash(&path.to_path().display().to_string()));
    }
    for (at, len) in parts(begin, size) {
        let mut object = bucket.object();
        let moved = async {
            let url = object.url_to_put().await?;
            courier
                .push(&file.path, (at, len, len == size), &url)
                .await?;
            pull(&object, &landing, at, len).await
        }
        .await;
        s3.delete(object).await;
        moved?;
    }
    tokio::task::spawn_blocking(move || landing.commit(there))
        .await
        .map_err(|_| Error::unexpected("a file could not be put into place"))?
}

/// Fetches a file as the server has read it once.
async fn small(
    s3: &S3,
    bucket: &Bucket,
    courier: &mut Courier<'_>,
    file: &Fetch,
    landing: Landing,
) -> Result<()> {
    if landing.resumable()?.is_some() {
        landing.restart()?;
    }
    let moved = async {
        let kept = courier.keep_file(&file.path).await?;
        if kept.len > 0 {
            let mut object = bucket.object();
            let moved = async {
                let url = object.url_to_put().await?;
                courier.push(&kept.path, (0, kept.len, true), &url).await?;
                let mut bytes = object.get(0, kept.len).await?;
                let mut at = 0;
                while let Some(piece) = bytes.next().await? {
                    landing.write_tail(at, &piece).await?;
                    at += piece.len() as u64;
                }
                Ok(())
            };
            let moved: Result<()> = moved.await;
            s3.delete(object).await;
            moved?;
        }
        landing.ends_at(kept.len);
        landing.commit(kept.sha256)
    }
    .await;
    if courier.is_usable() {
        courier.clear().await?;
    }
    moved
}

/// Gets `len` bytes of an object, which belong at `at` of the file.
async fn pull(object: &Object, landing: &Landing, at: u64, len: u64) -> Result<()> {
    let ranges = (0..len.div_ceil(RANGE_BYTES)).map(|index| {
        let start = index * RANGE_BYTES;
        (start, RANGE_BYTES.min(len - start))
    });
    stream::iter(ranges)
        .map(|(start, len)| async move {
            let mut bytes = object.get(start, len).await?;
            let mut offset = at + start;
            while let Some(piece) = bytes.next().await? {
                landing.write_at(offset, &piece).await?;
                offset += piece.len() as u64;
            }
            Ok(())
        })
        .buffer_unordered(RANGES)
        .try_for_each(|()| future::ready(Ok(())))
        .await
}
