//! Files, folders and links to the server.

mod destination;
mod large;
mod small;
mod streamed;

use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, future, stream};
use ops_ui::Result;

use self::destination::{LocalMetadata, SentFile, finish_one, place, preserved};
use super::{
    DEPTH, REQUEST_BYTES, SftpTransport,
    channel::Failure,
    group::{Group, grouped},
    inside::not_followed,
    list::{is_file, is_folder, is_link},
    pool::SftpSession,
    temporary::{AcknowledgedRanges, beside},
    wire::Attributes,
};
use crate::{
    item::FileId,
    reading::Reading,
    remote_path::RemotePath,
    transport::{Job, OWNER, Source, Store, StoreKind},
};

/// A file to be stored.
struct File {
    id: FileId,
    path: RemotePath,
    source: Source,
    mode: u32,
    mtime: i64,
}

impl File {
    fn size(&self) -> Option<u64> {
        match &self.source {
            Source::File { size, .. } => Some(*size),
            Source::Stream { .. } => None,
        }
    }
}

/// Stores `items`: folders, then links, then files, then what folders are to have.
///
/// # Errors
/// No session at all.
pub(super) async fn store_items(sftp: &SftpTransport, items: Vec<Store>, job: &Job) -> Result<()> {
    let (mut folders, mut links, mut files) = (Vec::new(), Vec::new(), Vec::new());
    for item in items {
        let (id, path, mode, mtime) = (item.id, item.path, item.mode, item.mtime);
        match item.what {
            StoreKind::Folder => folders.push((id, path, mode, mtime)),
            StoreKind::Link(target) => links.push((id, path, target)),
            StoreKind::File(source) => files.push(File {
                id,
                path,
                source,
                mode,
                mtime,
            }),
        }
    }
    let made = make_folders(sftp, &folders).await;
    let mut folders: Vec<_> = folders.into_iter().zip(made).collect();
    stream::iter(links)
        .map(|(id, path, target)| async move {
            let result = make_link(sftp, &path, &target).await;
            settle(job, id, result);
        })
        .buffer_unordered(DEPTH)
        .for_each(|()| future::ready(()))
        .await;
    let stored = store_files(sftp, files, job).await;
    // Before folders get their times.
    sftp.tidy().await;
    stored?;
    // From within outwards, so that what is made in a folder does not change its time again.
    for ((id, path, mode, mtime), made) in folders.drain(..).rev() {
        let result = match made {
            Ok(_) if job.preserve => {
                let (place, wanted) = (&path, &preserved(mode, mtime));
                let doing = "set modes and times of";
                sftp.ask(0, doing, place.whole(), |session| async move {
                    sftp.inside.no_link(&session.channel, place).await?;
                    session.channel.set(place.whole(), wanted).await
                })
                .await
            }
            Ok(true) if mode & OWNER != OWNER => narrow(sftp, &path, mode).await,
            made => made.map(drop),
        };
        settle(job, id, result);
    }
    Ok(())
}

/// For each folder, whether it was missing. The outermost first: what is in one that could not be
/// made, or is a link, is not even asked for.
async fn make_folders(
    sftp: &SftpTransport,
    folders: &[(FileId, RemotePath, u32, i64)],
) -> Vec<Result<bool>> {
    let depth = |path: &RemotePath| path.folders_below().count();
    let deepest = folders.iter().map(|folder| depth(&folder.1)).max();
    let mut levels: Vec<Vec<usize>> = vec![Vec::new(); deepest.map_or(0, |deepest| deepest + 1)];
    for (index, folder) in folders.iter().enumerate() {
        // What was named itself lies around all the rest, and as deep as what is right below it.
        levels[depth(&folder.1)].push(index);
    }
    let mut made: Vec<Option<Result<bool>>> = folders.iter().map(|_| None).collect();
    for level in levels {
        let (named, below): (Vec<usize>, Vec<usize>) = level
            .into_iter()
            .partition(|&index| folders[index].1.is_named());
        for group in [named, below] {
            let results: Vec<Result<bool>> = stream::iter(group.clone())
                .map(|index| make_folder(sftp, &folders[index].1, folders[index].2))
                .buffered(DEPTH)
                .collect()
                .await;
            for (index, result) in group.into_iter().zip(results) {
                made[index] = Some(result);
            }
        }
    }
    made.into_iter()
        .map(|made| made.unwrap_or(Ok(false)))
        .collect()
}

/// Whether it was missing.
async fn make_folder(sftp: &SftpTransport, path: &RemotePath, mode: u32) -> Result<bool> {
    // Something is to be put into it, whatever it will have in the end.
    let mode = mode & 0o777 | OWNER;
    sftp.ask(0, "make folder", path.whole(), |session| async move {
        let channel = &session.channel;
        sftp.inside.no_link_above(channel, path).await?;
        let Err(failure) = channel.make_folder(path.whole(), mode).await else {
            sftp.inside.know(path.whole());
            return Ok(true);
        };
        match channel.stat(path.whole(), path.is_named()).await {
            Ok(known) if is_folder(&known) => Ok(false),
            Ok(known) if is_link(&known) => Err(not_followed(path.whole())),
            Ok(_) => Err(Failure::Ours(
                "something else is there that is no folder".to_owned(),
            )),
            Err(lost @ Failure::Lost(_)) => Err(lost),
            Err(_) => Err(failure),
        }
    })
    .await
}

/// Takes from the owner what `mode` does not give: a new folder has the rest of its mode, less the
/// server's umask.
async fn narrow(sftp: &SftpTransport, path: &RemotePath, mode: u32) -> Result<()> {
    sftp.ask(0, "set the mode of", path.whole(), |session| async move {
        sftp.inside.no_link(&session.channel, path).await?;
        let known = session.channel.stat(path.whole(), true).await?;
        let Some(now) = known.mode else { return Ok(()) };
        let wanted = Attributes {
            mode: Some(now & 0o7777 & (mode | !OWNER)),
            ..Attributes::default()
        };
        session.channel.set(path.whole(), &wanted).await
    })
    .await
}

async fn make_link(sftp: &SftpTransport, path: &RemotePath, target: &[u8]) -> Result<()> {
    sftp.ask(0, "make link", path.whole(), |session| async move {
        // Another one each time: it may have been made when it was asked for before.
        let temporary = beside(path, false);
        let temporary = temporary.whole();
        let channel = &session.channel;
        sftp.inside.no_link_above(channel, path).await?;
        match channel.stat(path.whole(), false).await {
            Ok(known) if is_folder(&known) => {
                return Err(Failure::Ours("it is a folder".to_owned()));
            }
            Ok(known) if !is_link(&known) && !is_file(&known) => {
                return Err(Failure::Ours("it is neither file nor link".to_owned()));
            }
            Err(lost @ Failure::Lost(_)) => return Err(lost),
            _ => {}
        }
        sftp.temporaries
            .add(temporary, AcknowledgedRanges::new(false));
        let result = match channel.make_link(target, temporary).await {
            Ok(()) => channel.replace(temporary, path.whole()).await,
            Err(failure) => Err(failure),
        };
        match result {
            Ok(()) => sftp.temporaries.forget(temporary),
            Err(_) => {
                sftp.temporaries.leave(temporary);
                sftp.temporaries.clear(channel, temporary).await;
            }
        }
        result
    })
    .await
}

async fn store_files(sftp: &SftpTransport, files: Vec<File>, job: &Job) -> Result<()> {
    let bytes = files.iter().filter_map(File::size).sum();
    let lanes = sftp.lanes(job, files.len(), bytes);
    let in_order = job.sessions == 1 && files.iter().any(|file| file.size().is_none());
    let together = if in_order { 1 } else { lanes.max(2) };
    stream::iter(grouped(files, File::size).into_iter().enumerate())
        .map(|(index, group)| async move {
            match group {
                Group::Small(files) => small::small(sftp, index % lanes, files, job).await,
                Group::Large(file) => store_item(sftp, lanes, file, job).await,
                Group::Stream(file) => store_item(sftp, 1, file, job).await,
            }
        })
        .buffer_unordered(together)
        .try_for_each(|()| future::ready(Ok(())))
        .await
}

/// One file by all sessions, or a stream by one.
async fn store_item(sftp: &SftpTransport, lanes: usize, file: File, job: &Job) -> Result<()> {
    let meta = LocalMetadata {
        id: file.id,
        mode: file.mode,
        mtime: file.mtime,
    };
    let result = async {
        let reading = Reading::open(file.source, file.id, job)?;
        let mut place = place(sftp, 0, &file.path, job).await?;
        let sent = async {
            match reading {
                Reading::File(reading) => {
                    let (size, reading) = (reading.size(), Arc::new(reading));
                    let digest = large::large(sftp, lanes, reading, &mut place, &meta, job).await?;
                    Ok(SentFile { digest, size })
                }
                Reading::Stream(reading) => {
                    streamed::streamed(sftp, reading, &mut place, &meta, job).await
                }
            }
        };
        let verified = match sent.await {
            Ok(sent) => match sftp.hashes(0, &[place.temporary.whole()]).await {
                Ok(hashes) => Ok((sent, hashes)),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        match verified {
            Ok((sent, hashes)) => finish_one(sftp, 0, &place, &meta, sent, &hashes, job).await,
            Err(error) => {
                sftp.discard(place.temporary.whole()).await;
                Err(error)
            }
        }
    };
    let result = result.await;
    settle(job, meta.id, result);
    Ok(())
}

/// Content of one request, in bytes.
fn request_bytes(session: &SftpSession) -> usize {
    REQUEST_BYTES.min(session.channel.write_bytes())
}

fn settle(job: &Job, id: FileId, result: Result<()>) {
    match result {
        Ok(()) => job.report.mark_done(id),
        Err(error) => job.report.mark_failed(id, error),
    }
}
