//! Where a file goes: a temporary name beside its destination, verified, renamed.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use ops_ui::{Error, Result};

use super::super::{
    REQUEST_BYTES, SftpTransport,
    channel::{Answered, Failure},
    fetch::read_back,
    lasting::Open,
    list::{is_file, is_folder, is_link},
    pool::SftpSession,
    temporary::{AcknowledgedRanges, beside},
    wire::{Attributes, code, open},
};
use crate::{hashes::Digest, item::FileId, remote_path::RemotePath, transport::Job};

/// Where a file goes, and what is there.
pub(super) struct Destination {
    pub(super) destination: RemotePath,
    pub(super) temporary: RemotePath,
    pub(super) written: Arc<AcknowledgedRanges>,
    /// Permissions of the file that is there, and its owner.
    known: Option<u32>,
    owner: Option<(u32, u32)>,
}

impl Destination {
    /// Takes a temporary name, another one where it may not be the one of before.
    fn begin(&mut self, sftp: &SftpTransport, job: &Job) {
        self.temporary = beside(&self.destination, job.resume);
        self.written = AcknowledgedRanges::new(job.resume);
        sftp.temporaries
            .add(self.temporary.whole(), Arc::clone(&self.written));
    }

    /// What the file is to have at the end; `None` leaves what the server gave it.
    fn wanted(&self, file: &LocalMetadata, job: &Job) -> Option<Attributes> {
        if job.preserve {
            return Some(preserved(file.mode, file.mtime));
        }
        self.known.map(|mode| Attributes {
            mode: Some(mode),
            ..Attributes::default()
        })
    }

    /// Permissions to make the temporary file with, less the server's umask.
    fn first_mode(&self, file: &LocalMetadata, job: &Job) -> u32 {
        if job.preserve || self.known.is_some() {
            0o600
        } else {
            file.mode & 0o777 | 0o200
        }
    }
}

/// What was sent of a file here.
#[derive(Clone, Copy)]
pub(super) struct SentFile {
    pub(super) digest: Digest,
    /// In bytes.
    pub(super) size: u64,
}

/// What a file here has.
#[derive(Clone, Copy)]
pub(super) struct LocalMetadata {
    pub(super) id: FileId,
    pub(super) mode: u32,
    pub(super) mtime: i64,
}

/// Finds out what is at `path`, and notes a temporary name beside it.
///
/// # Errors
/// It is a folder; it cannot be looked at.
pub(super) async fn place(
    sftp: &SftpTransport,
    lane: usize,
    path: &RemotePath,
    job: &Job,
) -> Result<Destination> {
    let (destination, known) = sftp
        .ask(lane, "write", path.whole(), |session| async move {
            let channel = &session.channel;
            sftp.inside.no_link_above(channel, path).await?;
            let known = existing(channel.stat(path.whole(), false).await)?;
            match known {
                // As scp: what is behind a link that was named is replaced, not the link.
                Some(known) if is_link(&known) && path.is_named() => {
                    let destination = channel.real_path(path.whole()).await?.to_vec();
                    let known = existing(channel.stat(&destination, true).await)?;
                    Ok((RemotePath::named(destination), known))
                }
                // The file takes the link's place, and nothing of it.
                Some(known) if is_link(&known) => Ok((path.clone(), None)),
                known => Ok((path.clone(), known)),
            }
        })
        .await?;
    let in_the_way = known.as_ref().and_then(|known| match known {
        known if is_folder(known) => Some("it is a folder"),
        known if !is_file(known) => Some("it is neither file nor link"),
        _ => None,
    });
    if let Some(why) = in_the_way {
        let what = format!("cannot write `{}`", sftp.shown(path.whole()));
        return Err(Error::unexpected(what).caused_by(why));
    }
    let mut place = Destination {
        destination,
        temporary: path.clone(),
        written: AcknowledgedRanges::new(job.resume),
        owner: known.as_ref().and_then(|known| known.owner),
        known: known.and_then(|known| known.mode).map(|mode| mode & 0o7777),
    };
    place.begin(sftp, job);
    Ok(place)
}

/// `None` for what is not there.
fn existing(looked: Answered<Attributes>) -> Answered<Option<Attributes>> {
    match looked {
        Ok(known) => Ok(Some(known)),
        Err(failure) if failure.is(code::NO_SUCH_FILE) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Makes the temporary file, or opens the part of an earlier run.
pub(super) async fn make<'a>(
    sftp: &'a SftpTransport,
    lane: usize,
    place: &mut Destination,
    meta: &LocalMetadata,
    job: &Job,
) -> Result<Open<'a>> {
    loop {
        let session = sftp.reach(lane, "write", place.destination.whole()).await?;
        match make_once(sftp, &session, place, meta, job).await {
            Ok(handle) => {
                let shown = ("write", place.destination.whole());
                let temporary = &place.temporary;
                let opened = (session, handle);
                return Ok(Open::made(
                    sftp,
                    lane,
                    temporary,
                    open::WRITE,
                    shown,
                    opened,
                ));
            }
            // It may have been made all the same.
            Err(Failure::Lost(_)) if session.channel.is_lost() => {
                sftp.temporaries.leave(place.temporary.whole());
                place.begin(sftp, job);
            }
            Err(failure) => {
                let destination = place.destination.whole();
                return Err(sftp.failed(&session, "write", destination, &failure));
            }
        }
    }
}

async fn make_once(
    sftp: &SftpTransport,
    session: &SftpSession,
    place: &Destination,
    meta: &LocalMetadata,
    job: &Job,
) -> Answered<Bytes> {
    let temporary = &place.temporary;
    sftp.inside
        .no_link_above(&session.channel, temporary)
        .await?;
    // A link that somebody put there is never followed: the name is new, or it is checked to be a
    // file.
    let flags = if job.resume {
        if let Some(known) = existing(session.channel.stat(temporary.whole(), false).await)?
            && (is_link(&known) || is_folder(&known))
        {
            return Err(Failure::Ours(
                "its part of an earlier run is no file".to_owned(),
            ));
        }
        open::WRITE | open::CREATE
    } else {
        open::WRITE | open::CREATE | open::EXCLUSIVE
    };
    session
        .channel
        .open_file(temporary.whole(), flags, Some(place.first_mode(meta, job)))
        .await
}

/// Verifies a temporary file and puts it into place.
///
/// # Errors
/// It is not what was sent, or cannot be put there.
pub(super) async fn finish_one(
    sftp: &SftpTransport,
    lane: usize,
    place: &Destination,
    meta: &LocalMetadata,
    sent: SentFile,
    hashes: &Option<HashMap<Vec<u8>, Digest>>,
    job: &Job,
) -> Result<()> {
    let (destination, temporary) = (place.destination.whole(), place.temporary.whole());
    let result = async {
        let there = match hashes {
            Some(hashes) => hashes
                .get(place.temporary.whole())
                .copied()
                .ok_or_else(|| {
                    Error::unexpected(format!(
                        "`{}` could not be verified",
                        sftp.shown(destination)
                    ))
                    .caused_by("the server could not hash it")
                })?,
            None => {
                sftp.tell_no_hash();
                read_back(sftp, lane, &place.temporary, destination, sent.size).await?
            }
        };
        if there != sent.digest {
            place.written.spoil();
        }
        sftp.compare(destination, &sent.digest, &there)?;
        sftp.ask(lane, "write", destination, |session| async move {
            let inside = &sftp.inside;
            inside
                .no_link_above(&session.channel, &place.temporary)
                .await?;
            if place.owner.is_some() {
                // Root replaces a file without taking it; nobody else can give one away, and need
                // not.
                let owner = Attributes {
                    owner: place.owner,
                    ..Attributes::default()
                };
                if let Err(lost @ Failure::Lost(_)) = session.channel.set(temporary, &owner).await {
                    return Err(lost);
                }
            }
            match place.wanted(meta, job) {
                Some(wanted) => session.channel.set(temporary, &wanted).await,
                None => Ok(()),
            }
        })
        .await?;
        sftp.replace(lane, temporary, destination, sent.size)
            .await?;
        sftp.temporaries.forget(temporary);
        Ok(())
    }
    .await;
    if result.is_err() {
        sftp.discard(temporary).await;
    }
    result
}

/// A failed write, with the reason that the server leaves out: version 3 has no words for a full
/// disk.
pub(super) async fn no_room(
    sftp: &SftpTransport,
    lane: usize,
    place: &Destination,
    size: u64,
    failure: &Failure,
) -> Error {
    let session = match sftp.reach(lane, "write", place.destination.whole()).await {
        Ok(session) => session,
        Err(error) => return error,
    };
    let error = sftp.failed(&session, "write", place.destination.whole(), failure);
    if !failure.is(code::FAILURE) {
        return error;
    }
    match session.channel.free_bytes(place.temporary.whole()).await {
        Some(free) if free < size.max(REQUEST_BYTES as u64) => error
            .caused_by(format!("no space is left there: {free} bytes are free"))
            .hint("make room there, or copy to another file system"),
        _ => error,
    }
}

pub(super) fn preserved(mode: u32, mtime: i64) -> Attributes {
    let time = u32::try_from(mtime).unwrap_or(if mtime < 0 { 0 } else { u32::MAX });
    Attributes {
        mode: Some(mode & 0o7777),
        times: Some((time, time)),
        ..Attributes::default()
    }
}
