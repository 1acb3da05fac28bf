//! SFTP over AWS-StartSSHSession, with an SSH client in this process.
//!
//! ```text
//! Sftp ── Pool ── Session 0 … N, each a session at the service, an SSH connection and an SFTP
//! channel
//!   list   folders by READDIR, several at a time; patterns are expanded here
//!   fetch  a large file by the lanes of all sessions, small files in groups, one session each
//!   store  likewise; a temporary name, then a rename
//!   hash   SHA-256 by a command of the server's
//! ```
//!
//! **What is under way.** Each session has half a megabyte of requests outstanding at most: enough
//! that neither the path nor the agent's pauses leave it idle, and a bound on memory whatever the
//! size of a file. The agent sends a kilobyte a millisecond on each session of this kind, so that a
//! download is as many times faster as it has sessions.
//!
//! **What is lost.** A session that ends in the middle is made again, a few times at most where
//! nothing gets done in between; what was under way on it is asked again, so that a file goes on
//! from what has arrived ([`lasting`]).
//!
//! **What is verified.** SSH protects what travels. Beyond that the SHA-256 of each file is
//! compared with that of the server's sha256sum, shasum or openssl. A server that has none or
//! starts no commands is told of once: what is fetched is then checked by its size, what is stored
//! is read back.

mod channel;
mod fetch;
pub(crate) mod fuzzing;
mod glob;
mod group;
mod hash;
mod inside;
mod lanes;
mod lasting;
mod list;
mod pool;
mod store;
mod temporary;
mod wire;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use ops_profile::CopyVia;
use ops_remote::ssh::client::Login;
use ops_ui::{Error, Result, output::escape};
use tokio::sync::OnceCell;

use self::{
    channel::{Answered, Channel, Failure},
    hash::Hasher,
    inside::Inside,
    pool::{Pool, SESSIONS_MAX, SftpSession},
    temporary::{Temporaries, tidy},
};
use crate::{
    hashes::Digest,
    item::{ListRequest, Listing},
    place::join_paths,
    transport::{Fetch, Job, Server, Store, Transport},
};

/// Bytes of one request for content, where the server takes as many: small, so that all sessions
/// end at the same time.
const REQUEST_BYTES: usize = 64 << 10;
/// Requests for content of one file on one session.
const DEPTH: usize = 8;
/// From here on a file is shared out over sessions, in bytes.
const LARGE_BYTES: u64 = 1 << 20;
/// A session more for each so many bytes.
const SESSION_BYTES: u64 = 1 << 20;
/// A session more for each so many files.
const SESSION_FILES: usize = 64;
/// Small files that are hashed together, and their bytes.
const GROUP_FILES: usize = 128;
const GROUP_BYTES: u64 = 4 << 20;
/// Small files under way on one session.
const FILES: usize = 64;

/// One server over SFTP.
pub(crate) struct SftpTransport {
    server: Server,
    pool: Arc<Pool>,
    hasher: Hasher,
    home: OnceCell<Bytes>,
    temporaries: Arc<Temporaries>,
    inside: Inside,
    told: AtomicBool,
}

impl SftpTransport {
    /// Connects, logs in and starts the SFTP server.
    ///
    /// # Errors
    /// A denied document, no SSH server, a changed host key, a refused login, no SFTP.
    pub(crate) async fn open(server: &Server, login: Login) -> Result<Self> {
        let pool = Pool::new(server, login)?;
        pool.session(0).await?;
        Ok(Self {
            server: server.clone(),
            hasher: Hasher::new(pool.prefix()),
            pool: Arc::new(pool),
            home: OnceCell::new(),
            temporaries: Arc::default(),
            inside: Inside::default(),
            told: AtomicBool::new(false),
        })
    }

    /// How many sessions `files` files of `bytes` in all are worth.
    fn lanes(&self, job: &Job, files: usize, bytes: u64) -> usize {
        let by_bytes = usize::try_from(bytes / SESSION_BYTES).unwrap_or(SESSIONS_MAX);
        by_bytes
            .max(files / SESSION_FILES)
            .clamp(1, job.sessions.clamp(1, SESSIONS_MAX))
    }

    /// Session number `index`, or the first where there can be no more.
    async fn session(&self, index: usize) -> Result<Arc<SftpSession>> {
        match self.pool.session(index).await {
            Err(error) if index > 0 => {
                self.server
                    .cx
                    .output()
                    .detail(format!("{}: no session more: {error}", self.pool.label()));
                self.pool.session(0).await
            }
            result => result,
        }
    }

    /// `place` as the server has it: from its root, `~` expanded, without slashes behind it.
    async fn absolute(&self, channel: &Channel, place: &[u8]) -> Answered<Vec<u8>> {
        let home = self
            .home
            .get_or_try_init(|| channel.real_path(b"."))
            .await?;
        let mut path = match place {
            [b'/', ..] => place.to_vec(),
            b"~" => home.to_vec(),
            [b'~', b'/', rest @ ..] => join_paths(home, rest),
            [b'~', ..] => {
                let end = place.iter().position(|&byte| byte == b'/');
                let (user, rest) = place.split_at(end.unwrap_or(place.len()));
                let rest = rest.strip_prefix(b"/").unwrap_or(rest);
                join_paths(&channel.expand(user).await?, rest)
            }
            _ => join_paths(home, place),
        };
        while path.len() > 1 && path.last() == Some(&b'/') {
            path.pop();
        }
        Ok(path)
    }

    /// `doing` could not be done with `path`.
    fn failed(&self, session: &SftpSession, doing: &str, path: &[u8], failure: &Failure) -> Error {
        let what = format!("cannot {doing} `{}`", self.shown(path));
        match failure {
            Failure::Lost(why) => {
                let lost = session.client.lost(why);
                Error::new(lost.kind(), what)
                    .caused_by(lost.what())
                    .caused_as(&lost)
            }
            other => Error::unexpected(what).caused_by(other.words()),
        }
    }

    fn shown(&self, path: &[u8]) -> String {
        format!(
            "{}:{}",
            self.pool.label(),
            escape(&String::from_utf8_lossy(path))
        )
    }

    fn tell_begin(&self, len: u64) {
        let output = self.server.cx.output();
        output.detail(format!("going on from byte {len}"));
    }

    /// Says once that the server does not hash.
    fn tell_no_hash(&self) {
        if !self.told.swap(true, Ordering::Relaxed) {
            self.server.cx.output().note(format!(
                "{}: it starts no sha256sum, shasum or openssl over SSH: what is fetched is checked by size, what is stored is read back",
                self.pool.label()
            ));
        }
    }

    /// Checks that the server has what is here.
    fn compare(&self, path: &[u8], here: &Digest, there: &Digest) -> Result<()> {
        if here == there {
            return Ok(());
        }
        Err(Error::unexpected(format!(
            "`{}` did not arrive as it was sent",
            self.shown(path)
        ))
        .caused_by("SHA-256 differs between here and there")
        .hint("if it is written to at the same time, copy it again later"))
    }
}

impl Transport for SftpTransport {
    fn via(&self) -> CopyVia {
        CopyVia::Sftp
    }

    fn list<'a>(&'a self, ask: &'a ListRequest) -> BoxFuture<'a, Result<Listing>> {
        Box::pin(list::list(self, ask))
    }

    fn download<'a>(&'a self, files: Vec<Fetch>, job: &'a Job) -> BoxFuture<'a, Result<()>> {
        Box::pin(fetch::fetch_files(self, files, job))
    }

    fn upload<'a>(&'a self, items: Vec<Store>, job: &'a Job) -> BoxFuture<'a, Result<()>> {
        Box::pin(store::store_items(self, items, job))
    }
}

impl Drop for SftpTransport {
    fn drop(&mut self) {
        let temporaries = Arc::clone(&self.temporaries);
        if temporaries.is_empty() {
            return;
        }
        temporaries.leave_all();
        let pool = Arc::clone(&self.pool);
        self.server
            .cx
            .interrupt()
            .finish_later(async move { tidy(&pool, &temporaries).await });
    }
}
