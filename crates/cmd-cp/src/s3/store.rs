//! Files to the server, by way of the bucket.

use std::sync::Arc;

use aws_lc_rs::digest;
use futures_util::future;
use ops_core::calls::s3::{Bucket, Object};
use ops_ui::{Error, Result};
use tokio::sync::mpsc;

use super::{S3, parts};
use crate::{
    hashes::finish,
    reading::{FileReading, Reading},
    session::courier::Courier,
    transport::{Job, Source, Store, What},
};

/// Pieces of a file that wait for the connection, and their bytes.
const PIECES: usize = 4;
const PIECE_BYTES: usize = 256 << 10;

/// Stores one file of this machine.
///
/// # Errors
/// Of this file.
pub(super) async fn one(
    s3: &S3,
    bucket: &Bucket,
    courier: &mut Courier<'_>,
    mut item: Store,
    job: &Job,
) -> Result<()> {
    let What::File(source @ Source::File { .. }) = std::mem::replace(&mut item.what, What::Folder)
    else {
        return Err(Error::unexpected("a stream takes no way over a bucket"));
    };
    let Reading::File(reading) = Reading::open(source, item.id, job)? else {
        return Err(Error::unexpected("a stream takes no way over a bucket"));
    };
    let size = reading.size();
    let reading = Arc::new(reading);
    let begin = courier.begin(&item, &reading, job).await?;
    job.report.bytes(item.id, begin);
    let hashed = Arc::clone(&reading);
    let hash = tokio::task::spawn_blocking(move || {
        let mut hash = digest::Context::new(&digest::SHA256);
        hashed.hash_prefix(size, &mut hash)?;
        Ok::<_, Error>(finish(hash))
    });
    let moved = async {
        for (at, len) in parts(begin, size) {
            let mut object = bucket.object();
            let moved = async {
                push(&mut object, &reading, at, len).await?;
                let url = object.url_to_get().await?;
                courier.pull(&url).await
            }
            .await;
            s3.delete(object).await;
            moved?;
        }
        let digest = hash
            .await
            .map_err(|_| Error::unexpected("a file could not be hashed"))??;
        reading.unchanged(&digest)?;
        Ok(digest)
    }
    .await;
    match moved {
        Ok(digest) => courier.end(&item, size, digest, job).await,
        Err(error) => {
            if courier.is_usable() {
                courier.leave().await?;
            }
            Err(error)
        }
    }
}

/// Puts `len` bytes of a file from `at` into an object.
async fn push(object: &mut Object, reading: &FileReading, at: u64, len: u64) -> Result<()> {
    let (sender, pieces) = mpsc::channel(PIECES);
    let reads = async move {
        let mut offset = at;
        while offset < at + len {
            let left = usize::try_from(at + len - offset).unwrap_or(usize::MAX);
            let piece = reading.read_at(offset, left.min(PIECE_BYTES)).await;
            let ended = piece.is_err();
            offset += piece.as_ref().map_or(0, |piece| piece.len() as u64);
            // A request that has failed takes no more; it says why.
            if sender.send(piece).await.is_err() || ended {
                return;
            }
        }
    };
    future::join(object.put(len, pieces), reads).await.0
}
