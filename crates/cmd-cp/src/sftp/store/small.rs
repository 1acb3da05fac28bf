//! Small files: several at a time over one session, hashed by one command.

use aws_lc_rs::digest;
use futures_util::{StreamExt as _, future, stream};
use ops_ui::{Error, Result};

use super::{
    super::{FILES, SftpTransport},
    File,
    destination::{Destination, LocalMetadata, SentFile, finish_one, make, no_room, place},
    request_bytes, settle,
};
use crate::{hashes::finish_hash, reading::Reading, transport::Job};

/// Files that are hashed by one command.
///
/// # Errors
/// No session.
pub(super) async fn small(
    sftp: &SftpTransport,
    lane: usize,
    files: Vec<File>,
    job: &Job,
) -> Result<()> {
    let sent: Vec<(LocalMetadata, Destination, SentFile)> = stream::iter(files)
        .map(|file| async move {
            let meta = LocalMetadata {
                id: file.id,
                mode: file.mode,
                mtime: file.mtime,
            };
            match send(sftp, lane, file, meta, job).await {
                Ok((place, sent)) => Some((meta, place, sent)),
                Err(error) => {
                    job.report.mark_failed(meta.id, error);
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
        .map(|(_, place, _)| place.temporary.whole())
        .collect();
    let hashes = sftp.hashes(lane, &paths).await?;
    let hashes = &hashes;
    stream::iter(sent)
        .map(|(meta, place, sent)| async move {
            let result = finish_one(sftp, lane, &place, &meta, sent, hashes, job).await;
            settle(job, meta.id, result);
        })
        .buffer_unordered(FILES)
        .for_each(|()| future::ready(()))
        .await;
    Ok(())
}

async fn send(
    sftp: &SftpTransport,
    lane: usize,
    file: File,
    meta: LocalMetadata,
    job: &Job,
) -> Result<(Destination, SentFile)> {
    let reading = Reading::open(file.source, file.id, job)?;
    let Reading::File(reading) = reading else {
        return Err(Error::unexpected("a stream is no small file"));
    };
    let mut place = place(sftp, lane, &file.path, job).await?;
    let result = async {
        let open = make(sftp, lane, &mut place, &meta, job).await?;
        let mut hash = digest::Context::new(&digest::SHA256);
        let size = reading.size();
        let mut at = 0;
        let mut result = Ok(());
        while at < size && result.is_ok() {
            let session = open.session().await?;
            let len = request_bytes(&session);
            let _room = session.room(len).await;
            let bytes = reading.read_at(at, len).await?;
            hash.update(&bytes);
            result = open.write(at, &bytes).await?;
            at += bytes.len() as u64;
        }
        // Some file systems tell of a full disk only now.
        let closed = open.close().await;
        if let Err(failure) = result.and(closed) {
            return Err(no_room(sftp, lane, &place, size, &failure).await);
        }
        let digest = finish_hash(hash);
        reading.check_unchanged(&digest)?;
        Ok(SentFile { digest, size })
    }
    .await;
    match result {
        Ok(sent) => Ok((place, sent)),
        Err(error) => {
            sftp.discard(place.temporary.whole()).await;
            Err(error)
        }
    }
}
