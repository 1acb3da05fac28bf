//! Where a file goes: a temporary name beside its destination, verified, renamed.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use ops_core::{Error, Result};

use super::super::{
    BLOCK_BYTES, Sftp,
    channel::Failure,
    fetch::read_back,
    list::{is_folder, is_link},
    pool::Session,
    temporary::{Written, beside},
    wire::{Attributes, code, open},
};
use crate::transport::{Digest, FileId, Job};

/// Where a file goes, and what is there.
pub(super) struct Place {
    pub(super) destination: Vec<u8>,
    pub(super) temporary: Vec<u8>,
    pub(super) written: Arc<Written>,
    /// Permissions of the file that is there, and its owner.
    known: Option<u32>,
    owner: Option<(u32, u32)>,
}

impl Place {
    /// What the file is to have at the end; `None` leaves what the server gave it.
    fn wanted(&self, file: &Meta, job: &Job) -> Option<Attributes> {
        if job.preserve {
            return Some(preserved(file.mode, file.mtime));
        }
        self.known.map(|mode| Attributes {
            mode: Some(mode),
            ..Attributes::default()
        })
    }

    /// Permissions to make the temporary file with, less the server's umask.
    fn first_mode(&self, file: &Meta, job: &Job) -> u32 {
        if job.preserve || self.known.is_some() {
            0o600
        } else {
            file.mode & 0o777 | 0o200
        }
    }
}

/// What a file here has.
#[derive(Clone, Copy)]
pub(super) struct Meta {
    pub(super) id: FileId,
    pub(super) mode: u32,
    pub(super) mtime: i64,
}

pub(super) async fn place(sftp: &Sftp, session: &Session, path: &[u8], job: &Job) -> Result<Place> {
    let channel = &session.channel;
    let failed = |failure: Failure| sftp.failed(session, "write", path, &failure);
    let mut destination = path.to_vec();
    let mut known = match channel.stat(path, false).await {
        Ok(known) => Some(known),
        Err(failure) if failure.is(code::NO_SUCH_FILE) => None,
        Err(failure) => return Err(failed(failure)),
    };
    if known.as_ref().is_some_and(is_link) {
        // As scp: what is behind a link is replaced, not the link.
        destination = channel.real_path(path).await.map_err(failed)?.to_vec();
        known = match channel.stat(&destination, true).await {
            Ok(known) => Some(known),
            Err(failure) if failure.is(code::NO_SUCH_FILE) => None,
            Err(failure) => return Err(failed(failure)),
        };
    }
    if known.as_ref().is_some_and(is_folder) {
        return Err(failed(Failure::Ours("it is a folder".to_owned())));
    }
    let temporary = beside(&destination, job.resume);
    let written = Written::new(job.resume);
    sftp.temporaries.add(&temporary, Arc::clone(&written));
    Ok(Place {
        destination,
        temporary,
        written,
        owner: known.as_ref().and_then(|known| known.owner),
        known: known.and_then(|known| known.mode).map(|mode| mode & 0o7777),
    })
}

/// Makes the temporary file, or opens the part of an earlier run.
pub(super) async fn make(
    sftp: &Sftp,
    session: &Session,
    place: &Place,
    meta: &Meta,
    job: &Job,
) -> Result<Bytes> {
    // A link that somebody put there is never followed: the name is new, or it is checked to be a file.
    let flags = if job.resume {
        if let Ok(known) = session.channel.stat(&place.temporary, false).await
            && (is_link(&known) || is_folder(&known))
        {
            return Err(sftp.failed(
                session,
                "write",
                &place.temporary,
                &Failure::Ours("it is no file".to_owned()),
            ));
        }
        open::WRITE | open::CREATE
    } else {
        open::WRITE | open::CREATE | open::EXCLUSIVE
    };
    session
        .channel
        .open_file(&place.temporary, flags, Some(place.first_mode(meta, job)))
        .await
        .map_err(|failure| sftp.failed(session, "write", &place.destination, &failure))
}

/// Verifies a temporary file and puts it into place.
pub(super) async fn finish_one(
    sftp: &Sftp,
    session: &Session,
    place: &Place,
    meta: &Meta,
    here: Digest,
    hashes: &Option<HashMap<Vec<u8>, Digest>>,
    job: &Job,
) -> Result<()> {
    let result = async {
        let there = match hashes {
            Some(hashes) => hashes.get(&place.temporary).copied().ok_or_else(|| {
                Error::unexpected(format!(
                    "`{}` could not be verified",
                    sftp.shown(&place.destination)
                ))
                .caused_by("the server could not hash it")
            })?,
            None => {
                sftp.tell_no_hash();
                let back = async {
                    let known = session.channel.stat(&place.temporary, false).await?;
                    read_back(session, &place.temporary, known.size.unwrap_or(0)).await
                };
                back.await.map_err(|failure| {
                    sftp.failed(session, "read back", &place.destination, &failure)
                })?
            }
        };
        if there != here {
            place.written.spoil();
        }
        sftp.compare(&place.destination, &here, &there)?;
        let failed = |failure: Failure| sftp.failed(session, "write", &place.destination, &failure);
        if place.owner.is_some() {
            // Root replaces a file without taking it; nobody else can give one away, and need not.
            let owner = Attributes {
                owner: place.owner,
                ..Attributes::default()
            };
            if let Err(lost @ Failure::Lost(_)) =
                session.channel.set(&place.temporary, &owner).await
            {
                return Err(failed(lost));
            }
        }
        if let Some(wanted) = place.wanted(meta, job) {
            session
                .channel
                .set(&place.temporary, &wanted)
                .await
                .map_err(failed)?;
        }
        session
            .channel
            .replace(&place.temporary, &place.destination)
            .await
            .map_err(failed)?;
        sftp.temporaries.forget(&place.temporary);
        Ok(())
    }
    .await;
    if result.is_err() {
        sftp.temporaries
            .remove(&session.channel, &place.temporary)
            .await;
    }
    result
}

/// A failed write, with the reason that the server leaves out: version 3 has no words for a full disk.
pub(super) async fn no_room(
    sftp: &Sftp,
    session: &Session,
    place: &Place,
    size: u64,
    failure: &Failure,
) -> Error {
    let error = sftp.failed(session, "write", &place.destination, failure);
    if !failure.is(code::FAILURE) {
        return error;
    }
    match session.channel.free_bytes(&place.temporary).await {
        Some(free) if free < size.max(BLOCK_BYTES as u64) => error
            .caused_by(format!("no space is left there: {free} bytes are free"))
            .hint("make room, then copy again"),
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
