//! Files from the server, by way of the bucket.

use futures_util::{StreamExt as _, TryStreamExt as _, future, stream};
use ops_core::calls::s3::{Bucket, Object};
use ops_ui::{Error, Result};

use super::{BucketTransport, no_hash, parts_left};
use crate::{
    landing::Landing,
    session::url_dialogue::UrlDialogue,
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
pub(super) async fn fetch_file(
    s3: &BucketTransport,
    bucket: &Bucket,
    dialogue: &mut UrlDialogue<'_>,
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
        return fetch_small(s3, bucket, dialogue, file, landing).await;
    }
    let mut begin = 0;
    if let Some((len, here)) = landing.resumable_part()? {
        if dialogue.hash_file(&file.path, Some(len)).await? == Some(here) {
            begin = len;
        } else {
            landing.start_over()?;
        }
    }
    // Of what was listed alone: a log that has grown since arrives as it was then.
    let there = dialogue.hash_file(&file.path, Some(size)).await?;
    if there.is_none() && s3.session.can_hash() {
        return Err(no_hash(&path.to_path().display().to_string()));
    }
    for (at, len) in parts_left(begin, size) {
        let mut object = bucket.object();
        let moved = async {
            let url = object.url_to_put().await?;
            dialogue
                .push_part(&file.path, (at, len, len == size), &url)
                .await?;
            pull_object(&object, &landing, at, len).await
        }
        .await;
        s3.delete_object(object).await;
        moved?;
    }
    tokio::task::spawn_blocking(move || landing.commit_file(there))
        .await
        .map_err(|_| Error::unexpected("a file could not be put into place"))?
}

/// Fetches a file as the server has read it once.
async fn fetch_small(
    s3: &BucketTransport,
    bucket: &Bucket,
    dialogue: &mut UrlDialogue<'_>,
    file: &Fetch,
    landing: Landing,
) -> Result<()> {
    if landing.resumable_part()?.is_some() {
        landing.start_over()?;
    }
    let moved = async {
        let kept = dialogue.keep_file(&file.path).await?;
        if kept.len > 0 {
            let mut object = bucket.object();
            let moved = async {
                let url = object.url_to_put().await?;
                dialogue
                    .push_part(&kept.path, (0, kept.len, true), &url)
                    .await?;
                let mut bytes = object.get(0, kept.len).await?;
                let mut at = 0;
                while let Some(piece) = bytes.next().await? {
                    landing.write_tail(at, &piece).await?;
                    at += piece.len() as u64;
                }
                Ok(())
            };
            let moved: Result<()> = moved.await;
            s3.delete_object(object).await;
            moved?;
        }
        landing.ends_at(kept.len);
        landing.commit_file(kept.sha256)
    }
    .await;
    if dialogue.is_usable() {
        dialogue.clear_kept().await?;
    }
    moved
}

/// Gets `len` bytes of an object, which belong at `at` of the file.
async fn pull_object(object: &Object, landing: &Landing, at: u64, len: u64) -> Result<()> {
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
