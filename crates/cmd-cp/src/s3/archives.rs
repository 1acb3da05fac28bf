//! Many small files: as archives, each an object of its own, packed and unpacked as those that go
//! through the session.

use std::{fs::File, os::unix::fs::FileExt as _, sync::Arc};

use aws_lc_rs::digest;
use bytes::Bytes;
use futures_util::future::{self, BoxFuture};
use ops_core::calls::s3::{Bucket, Object};
use ops_ui::{Error, Result};
use tokio::sync::mpsc;

use super::BucketTransport;
use crate::{
    hashes::{Digest, finish_hash},
    session::{
        fetch_archive::{ArchiveInput, most_bytes},
        store_archive::ArchiveCarrier,
        url_dialogue::UrlDialogue,
    },
    transport::{Fetch, Job, Store},
};

/// Pieces of an archive that are read ahead of a connection, and their bytes.
const PIECES: usize = 4;
const PIECE_BYTES: usize = 128 << 10;

/// Fetches small files as one archive; gives back those that are to be fetched one by one.
pub(super) async fn fetch_archive(
    s3: &BucketTransport,
    bucket: &Bucket,
    dialogue: &mut UrlDialogue<'_>,
    files: Vec<Fetch>,
    job: &Job,
) -> Vec<Fetch> {
    let content: u64 = files.iter().map(|file| file.entry.size).sum();
    let most = most_bytes(content, files.len());
    s3.session
        .fetch_archive_by(files, job, |script, intake| {
            carry_archive(s3, bucket, dialogue, script, most, intake)
        })
        .await
}

async fn carry_archive(
    s3: &BucketTransport,
    bucket: &Bucket,
    dialogue: &mut UrlDialogue<'_>,
    script: String,
    most: u64,
    mut intake: ArchiveInput,
) -> Result<()> {
    let got = match dialogue.keep_output(&script).await {
        Ok(archive) if archive.len > most => Err(Error::unexpected(
            "the server has written a larger archive than its files can make",
        )),
        Ok(archive) => {
            let mut object = bucket.object();
            let got = async {
                let url = object.url_to_put().await?;
                dialogue
                    .push_part(&archive.path, (0, archive.len, true), &url)
                    .await?;
                get_object(&object, archive.len, archive.sha256).await
            };
            let got = got.await;
            s3.delete_object(object).await;
            got.map(|file| (file, archive.len))
        }
        Err(error) => Err(error),
    };
    if dialogue.is_usable() {
        dialogue.clear_kept().await?;
    }
    let (file, len) = got?;
    let mut pieces = read_pieces(file, len);
    while let Some(piece) = pieces.recv().await {
        if !intake.put_bytes(piece?).await? {
            break;
        }
    }
    Ok(())
}

/// An object of `len` bytes, in a file without a name: nothing is unpacked until it is known to be
/// what the server has put there.
async fn get_object(object: &Object, len: u64, sha256: Option<Digest>) -> Result<Arc<File>> {
    let file = tempfile::tempfile()?;
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut pull = object.get(0, len).await?;
    let mut at = 0;
    while let Some(piece) = pull.next().await? {
        file.write_all_at(&piece, at)?;
        hash.update(&piece);
        at += piece.len() as u64;
    }
    if sha256.is_some_and(|sha256| sha256 != finish_hash(hash)) {
        return Err(Error::unexpected(
            "an archive did not leave the bucket as the server has put it there",
        ));
    }
    Ok(Arc::new(file))
}

/// The first `len` bytes of a file, read away from the runtime.
fn read_pieces(file: Arc<File>, len: u64) -> mpsc::Receiver<Result<Bytes>> {
    let (sender, pieces) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || {
        let mut at = 0;
        while at < len {
            let want = usize::try_from(len - at).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
            let mut bytes = vec![0; want];
            let read = file.read_exact_at(&mut bytes, at);
            let failed = read.is_err();
            let piece = read.map(|()| Bytes::from(bytes)).map_err(Error::from);
            // A request that has failed takes no more.
            if sender.blocking_send(piece).is_err() || failed {
                return;
            }
            at += want as u64;
        }
    });
    pieces
}

/// Stores small files as one archive; gives back those that are to be stored one by one.
pub(super) async fn store_archive(
    s3: &BucketTransport,
    bucket: &Bucket,
    dialogue: &mut UrlDialogue<'_>,
    items: Vec<Store>,
    job: &Job,
) -> Vec<Store> {
    let mut archive_object = ArchiveObject {
        object: bucket.object(),
        file: None,
        len: 0,
        hash: digest::Context::new(&digest::SHA256),
    };
    let left = dialogue
        .store_archive(items, &mut archive_object, job)
        .await;
    s3.delete_object(archive_object.object).await;
    left
}

/// An archive on its way into the bucket.
struct ArchiveObject {
    object: Object,
    /// The length of an object has to be known beforehand.
    file: Option<Arc<File>>,
    len: u64,
    hash: digest::Context,
}

impl ArchiveCarrier for ArchiveObject {
    fn put_bytes(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<()>> {
        Box::pin(future::ready(self.append_bytes(&bytes)))
    }

    fn send_object(&mut self) -> BoxFuture<'_, Result<(String, Digest)>> {
        Box::pin(async move {
            let empty = || Error::unexpected("an archive without anything in it");
            let file = self.file.clone().ok_or_else(empty)?;
            self.object
                .put(self.len, read_pieces(file, self.len))
                .await?;
            let url = self.object.url_to_get().await?;
            Ok((url, finish_hash(self.hash.clone())))
        })
    }
}

impl ArchiveObject {
    fn append_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let file = match &self.file {
            Some(file) => Arc::clone(file),
            None => Arc::clone(self.file.insert(Arc::new(tempfile::tempfile()?))),
        };
        file.write_all_at(bytes, self.len)?;
        self.hash.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }
}
