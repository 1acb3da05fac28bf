//! Small files: several at a time over one session, hashed by one command.

use aws_lc_rs::digest;
use futures_util::{StreamExt as _, future, stream};
use ops_core::{Error, Result};

use super::{
    super::{FILES, Sftp, pool::Session},
    File, block,
    place::{Meta, Place, finish_one, make, no_room, place},
    settle,
};
use crate::{
    landing::finish,
    reading::Reading,
    transport::{Digest, Job},
};

/// Files that are hashed by one command.
pub(super) async fn small(sftp: &Sftp, index: usize, files: Vec<File>, job: &Job) -> Result<()> {
    let session = sftp.session(index).await?;
    let session = &session;
    let sent: Vec<(Meta, Place, Digest)> = stream::iter(files)
        .map(|file| async move {
            let meta = Meta {
                id: file.id,
                mode: file.mode,
                mtime: file.mtime,
            };
            match send_small(sftp, session, file, meta, job).await {
                Ok((place, digest)) => Some((meta, place, digest)),
                Err(error) => {
                    job.report.fail(meta.id, error);
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
        .map(|(_, place, _)| &place.temporary[..])
        .collect();
    let hashes = sftp.hasher.files(&session.client, &paths).await?;
    let hashes = &hashes;
    stream::iter(sent)
        .map(|(meta, place, digest)| async move {
            let result = finish_one(sftp, session, &place, &meta, digest, hashes, job).await;
            settle(job, meta.id, result);
        })
        .buffer_unordered(FILES)
        .for_each(|()| future::ready(()))
        .await;
    Ok(())
}

async fn send_small(
    sftp: &Sftp,
    session: &Session,
    file: File,
    meta: Meta,
    job: &Job,
) -> Result<(Place, Digest)> {
    let reading = Reading::open(file.source, file.id, job)?;
    let Reading::File(reading) = reading else {
        return Err(Error::unexpected("a stream is no small file"));
    };
    let place = place(sftp, session, &file.path, job).await?;
    let result = async {
        let handle = make(sftp, session, &place, &meta, job).await?;
        let mut hash = digest::Context::new(&digest::SHA256);
        let (size, block) = (reading.size(), block(session));
        let mut at = 0;
        let mut result = Ok(());
        while at < size {
            let bytes = reading.read_at(at, block).await?;
            hash.update(&bytes);
            let _room = session.room(bytes.len()).await;
            result = session.channel.write(&handle, at, &bytes).await;
            if result.is_err() {
                break;
            }
            at += bytes.len() as u64;
        }
        // Some file systems tell of a full disk only now.
        let closed = session.channel.close(&handle).await;
        if let Err(failure) = result.and(closed) {
            return Err(no_room(sftp, session, &place, size, &failure).await);
        }
        reading.unchanged()?;
        Ok(finish(hash))
    }
    .await;
    match result {
        Ok(digest) => Ok((place, digest)),
        Err(error) => {
            sftp.temporaries
                .remove(&session.channel, &place.temporary)
                .await;
            Err(error)
        }
    }
}
