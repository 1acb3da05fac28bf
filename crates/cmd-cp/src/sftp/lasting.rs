//! What outlasts a session: questions that are asked again, and open files that are opened again,
//! over another one.
//!
//! All that is asked here may be asked twice: content is read and written at its place, and what
//! was made under a temporary name before the session was lost is left to be cleaned up. A file
//! goes on from the content that was acknowledged; its hash, taken when all is there, covers them.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::{Bytes, BytesMut};
use ops_ui::{Error, Result};
use tokio::sync::Mutex;

use super::{
    SftpTransport,
    channel::{Answered, Failure},
    pool::SftpSession,
    temporary::tidy,
    wire::{Attributes, code},
};
use crate::{hashes::Digest, remote_path::RemotePath};

impl SftpTransport {
    /// Asks over session `lane`, and again where it is lost meanwhile; `doing` something with
    /// `path` is what it is for.
    ///
    /// # Errors
    /// What the server answers; the session is lost over and over.
    pub(super) async fn ask<T, F>(
        &self,
        lane: usize,
        doing: &str,
        path: &[u8],
        question: impl Fn(Arc<SftpSession>) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Answered<T>>,
    {
        loop {
            let session = self.reach(lane, doing, path).await?;
            match question(Arc::clone(&session)).await {
                Ok(answer) => {
                    session.was_used();
                    return Ok(answer);
                }
                Err(Failure::Lost(_)) if session.channel.is_lost() => {}
                Err(failure) => return Err(self.failed(&session, doing, path, &failure)),
            }
        }
    }

    /// Session `lane` for `doing` something with `path`.
    pub(super) async fn reach(
        &self,
        lane: usize,
        doing: &str,
        path: &[u8],
    ) -> Result<Arc<SftpSession>> {
        self.session(lane).await.map_err(|error| {
            let what = format!("cannot {doing} `{}`", self.shown(path));
            Error::new(error.kind(), what)
                .caused_by(error.what())
                .caused_as(&error)
                .hinted_as(&error)
        })
    }

    /// As [`super::hash::Hasher::files`], again where the session is lost meanwhile.
    ///
    /// # Errors
    /// It is lost over and over.
    pub(super) async fn hashes(
        &self,
        lane: usize,
        paths: &[&[u8]],
    ) -> Result<Option<std::collections::HashMap<Vec<u8>, Digest>>> {
        self.command(lane, |session| async move {
            self.hasher.files(&session, paths).await
        })
        .await
    }

    /// As [`super::hash::Hasher::beginning`], likewise.
    ///
    /// # Errors
    /// As [`SftpTransport::hashes`].
    pub(super) async fn beginning(
        &self,
        lane: usize,
        path: &[u8],
        len: u64,
    ) -> Result<Option<Digest>> {
        self.command(lane, |session| async move {
            self.hasher.beginning(&session, path, len).await
        })
        .await
    }

    async fn command<T, F>(&self, lane: usize, run: impl Fn(Arc<SftpSession>) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        loop {
            let session = self.session(lane).await?;
            match run(Arc::clone(&session)).await {
                Ok(done) => {
                    session.was_used();
                    return Ok(done);
                }
                Err(error) if session.is_alive().await => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Puts `from` in the place of `to`; `size` is what `to` has then, in bytes.
    ///
    /// # Errors
    /// As [`SftpTransport::ask`].
    pub(super) async fn replace(
        &self,
        lane: usize,
        from: &[u8],
        to: &[u8],
        size: u64,
    ) -> Result<()> {
        let asked = AtomicBool::new(false);
        let asked = &asked;
        self.ask(lane, "write", to, |session| async move {
            let again = asked.swap(true, Ordering::Relaxed);
            match session.channel.replace(from, to).await {
                // It was done when it was asked for before.
                Err(failure) if again && failure.is(code::NO_SUCH_FILE) => {
                    let known = session.channel.stat(to, false).await;
                    match known {
                        Ok(known) if known.size == Some(size) => Ok(()),
                        Err(lost @ Failure::Lost(_)) => Err(lost),
                        _ => Err(failure),
                    }
                }
                done => done,
            }
        })
        .await
    }

    /// Removes a temporary file, or cuts it down to what can be gone on from.
    pub(super) async fn discard(&self, path: &[u8]) {
        self.temporaries.leave(path);
        self.tidy().await;
    }

    /// Puts in order what nobody goes on with.
    pub(super) async fn tidy(&self) {
        tidy(&self.pool, &self.temporaries).await;
    }
}

/// An open file on the server.
pub(super) struct Open<'a> {
    sftp: &'a SftpTransport,
    lane: usize,
    path: RemotePath,
    flags: u32,
    /// What it is open for, and the path to show for it.
    doing: &'static str,
    shown: Vec<u8>,
    current: Mutex<(Arc<SftpSession>, Bytes)>,
}

impl<'a> Open<'a> {
    /// Opens `path` over session `lane`, for `doing` something with `shown`.
    ///
    /// # Errors
    /// As [`SftpTransport::ask`].
    pub(super) async fn open(
        sftp: &'a SftpTransport,
        lane: usize,
        path: &RemotePath,
        flags: u32,
        (doing, shown): (&'static str, &[u8]),
    ) -> Result<Self> {
        let opened = opened(sftp, lane, path, flags, (doing, shown)).await?;
        Ok(Self::made(sftp, lane, path, flags, (doing, shown), opened))
    }

    /// One that was opened by other means; `flags` are those to open it with again.
    pub(super) fn made(
        sftp: &'a SftpTransport,
        lane: usize,
        path: &RemotePath,
        flags: u32,
        (doing, shown): (&'static str, &[u8]),
        opened: (Arc<SftpSession>, Bytes),
    ) -> Self {
        Self {
            sftp,
            lane,
            path: path.clone(),
            flags,
            doing,
            shown: shown.to_vec(),
            current: Mutex::new(opened),
        }
    }

    /// Its session and handle, others where the session is lost.
    async fn current(&self) -> Result<(Arc<SftpSession>, Bytes)> {
        let mut current = self.current.lock().await;
        if current.0.channel.is_lost() {
            let what = (self.doing, &self.shown[..]);
            *current = opened(self.sftp, self.lane, &self.path, self.flags, what).await?;
        }
        Ok(current.clone())
    }

    /// The session it is open over now.
    pub(super) async fn session(&self) -> Result<Arc<SftpSession>> {
        Ok(self.current().await?.0)
    }

    /// `len` bytes at `at`.
    ///
    /// # Errors
    /// As [`SftpTransport::ask`]; it has become shorter.
    pub(super) async fn read(&self, at: u64, len: usize) -> Result<Bytes> {
        let read = self.each(|session, handle| async move {
            let bytes = read_whole(&session, &handle, at, len).await;
            (session, bytes)
        });
        let (session, bytes) = read.await?;
        bytes.map_err(|failure| self.failed(&session, &failure))
    }

    /// What one request for `len` bytes at `at` gives: fewer where the server likes, none at the
    /// end of the file.
    ///
    /// # Errors
    /// As [`SftpTransport::ask`].
    pub(super) async fn read_once(&self, at: u64, len: usize) -> Result<Bytes> {
        let read = self.each(|session, handle| async move {
            let bytes = session.channel.read(&handle, at, len).await;
            (session, bytes)
        });
        let (session, bytes) = read.await?;
        bytes.map_err(|failure| self.failed(&session, &failure))
    }

    /// How long it is, in bytes.
    ///
    /// # Errors
    /// As [`SftpTransport::ask`].
    pub(super) async fn size(&self) -> Result<u64> {
        let asked = self.each(|session, handle| async move {
            let known = session.channel.stat_handle(&handle).await;
            (session, known)
        });
        let (session, known) = asked.await?;
        let known = known.map_err(|failure| self.failed(&session, &failure))?;
        Ok(known.size.unwrap_or(0))
    }

    /// Cuts it down to nothing.
    ///
    /// # Errors
    /// As [`SftpTransport::ask`].
    pub(super) async fn empty(&self) -> Result<()> {
        let empty = Attributes {
            size: Some(0),
            ..Attributes::default()
        };
        let empty = &empty;
        let asked = self.each(|session, handle| async move {
            let done = session.channel.set_handle(&handle, empty).await;
            (session, done)
        });
        let (session, done) = asked.await?;
        done.map_err(|failure| self.failed(&session, &failure))
    }

    /// Whether there is nothing at `at`.
    ///
    /// # Errors
    /// As [`SftpTransport::ask`].
    pub(super) async fn ends_at(&self, at: u64) -> Result<bool> {
        let read = self.each(|session, handle| async move {
            let bytes = session.channel.read(&handle, at, 1).await;
            (session, bytes)
        });
        let (session, bytes) = read.await?;
        let bytes = bytes.map_err(|failure| self.failed(&session, &failure))?;
        Ok(bytes.is_empty())
    }

    /// Writes `bytes` at `at`; gives the server's own answer where it has one.
    ///
    /// # Errors
    /// The session is lost over and over.
    pub(super) async fn write(&self, at: u64, bytes: &[u8]) -> Result<Answered<()>> {
        let written = self.each(|session, handle| async move {
            let written = session.channel.write(&handle, at, bytes).await;
            (session, written)
        });
        Ok(written.await?.1)
    }

    async fn each<T, F>(
        &self,
        each: impl Fn(Arc<SftpSession>, Bytes) -> F,
    ) -> Result<(Arc<SftpSession>, Answered<T>)>
    where
        F: Future<Output = (Arc<SftpSession>, Answered<T>)>,
    {
        loop {
            let (session, handle) = self.current().await?;
            let (session, answer) = each(session, handle).await;
            match answer {
                Err(Failure::Lost(_)) if session.channel.is_lost() => {}
                answer => {
                    if answer.is_ok() {
                        session.was_used();
                    }
                    return Ok((session, answer));
                }
            }
        }
    }

    /// Closes it; gives the server's own answer. With a session that is lost there is nothing to
    /// close.
    pub(super) async fn close(self) -> Answered<()> {
        let (session, handle) = self.current.into_inner();
        match session.channel.close(&handle).await {
            Err(Failure::Lost(_)) if session.channel.is_lost() => Ok(()),
            closed => closed,
        }
    }

    fn failed(&self, session: &SftpSession, failure: &Failure) -> Error {
        self.sftp.failed(session, self.doing, &self.shown, failure)
    }
}

/// Opens a file, which alone is not worth another session.
async fn opened(
    sftp: &SftpTransport,
    lane: usize,
    path: &RemotePath,
    flags: u32,
    (doing, shown): (&str, &[u8]),
) -> Result<(Arc<SftpSession>, Bytes)> {
    loop {
        let session = sftp.reach(lane, doing, shown).await?;
        match sftp.inside.open(&session.channel, path, flags).await {
            Ok(handle) => return Ok((session, handle)),
            Err(Failure::Lost(_)) if session.channel.is_lost() => {}
            Err(failure) => return Err(sftp.failed(&session, doing, shown, &failure)),
        }
    }
}

/// `len` bytes at `at`; a server may give fewer at once.
async fn read_whole(session: &SftpSession, handle: &Bytes, at: u64, len: usize) -> Answered<Bytes> {
    let first = session.channel.read(handle, at, len).await?;
    if first.len() == len {
        return Ok(first);
    }
    let mut all = BytesMut::from(&first[..]);
    let mut last = first.len();
    while all.len() < len {
        if last == 0 {
            return Err(Failure::Ours(
                "it has become shorter while it was read".to_owned(),
            ));
        }
        let more = session
            .channel
            .read(handle, at + all.len() as u64, len - all.len())
            .await?;
        last = more.len();
        all.extend_from_slice(&more);
    }
    if all.len() > len {
        return Err(Failure::Lost(
            "the SFTP server sent more than it was asked for".to_owned(),
        ));
    }
    Ok(all.freeze())
}
