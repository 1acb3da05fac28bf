//! Files to the server, by way of the bucket.

use std::sync::Arc;

use aws_lc_rs::digest;
use futures_util::future;
use ops_core::calls::s3::{Bucket, Object};
use ops_ui::{Error, Result};
use tokio::sync::mpsc;

use super::{BucketTransport, parts_left};
use crate::{
    hashes::finish_hash,
    reading::{FileReading, Reading},
    session::url_dialogue::UrlDialogue,
    transport::{Job, Source, Store, StoreKind},
};

/// Pieces of a file that wait for the connection, and their bytes.
const PIECES: usize = 4;
const PIECE_BYTES: usize = 256 << 10;

/// Stores one file of this machine.
///
/// # Errors
/// Of this file.
pub(super) async fn store_file(
    s3: &BucketTransport,
    bucket: &Bucket,
    dialogue: &mut UrlDialogue<'_>,
    mut item: Store,
    job: &Job,
) -> Result<()> {
    let StoreKind::File(source @ Source::File { .. }) =
        std::mem::replace(&mut item.what, StoreKind::Folder)
    else {
        return Err(Error::unexpected("a stream takes no way over a bucket"));
    };
    let Reading::File(reading) = Reading::open(source, item.id, job)? else {
        return Err(Error::unexpected("a stream takes no way over a bucket"));
    };
    let size = reading.size();
    let reading = Arc::new(reading);
    let begin = dialogue.begin_file(&item, &reading, job).await?;
    job.report.add_bytes(item.id, begin);
    let hashed = Arc::clone(&reading);
    let hash = tokio::task::spawn_blocking(move || {
        let mut hash = digest::Context::new(&digest::SHA256);
        hashed.hash_prefix(size, &mut hash)?;
        Ok::<_, Error>(finish_hash(hash))
    });
    let moved = async {
        for (at, len) in parts_left(begin, size) {
            let mut object = bucket.object();
            let moved = async {
                push_object(&mut object, &reading, at, len).await?;
                let url = object.url_to_get().await?;
                dialogue.pull_url(&url).await
            }
            .await;
            s3.delete_object(object).await;
            moved?;
        }
        let digest = hash
            .await
            .map_err(|_| Error::unexpected("a file could not be hashed"))??;
        reading.check_unchanged(&digest)?;
        Ok(digest)
    }
    .await;
    match moved {
        Ok(digest) => dialogue.end_file(&item, size, digest, job).await,
        Err(error) => {
            if dialogue.is_usable() {
                dialogue.leave_file().await?;
            }
            Err(error)
        }
    }
}

/// Puts `len` bytes of a file from `at` into an object.
async fn push_object(object: &mut Object, reading: &FileReading, at: u64, len: u64) -> Result<()> {
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
