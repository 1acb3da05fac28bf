//! A dialogue for a transport whose bytes take another way: the server moves them to and from addresses, and the rest is as with files that come
//! through the session.

use ops_core::{Error, Result, pipe::Down};

use super::{
    Session,
    dialogue::{Begun, Dialogue, End, stamp},
    upload::mode,
};
use crate::{
    landing::temporary_name,
    place::name,
    reading::FileReading,
    transport::{Digest, Job, Store},
};

/// Something on the server that moves files when asked.
pub(crate) struct Courier<'a> {
    session: &'a Session,
    dialogue: Dialogue,
}

impl Session {
    /// Checks that the server can move files by itself.
    ///
    /// # Errors
    /// It has neither curl nor wget.
    pub(crate) async fn has_courier(&self) -> Result<()> {
        let look = "command -v curl >/dev/null 2>&1 || command -v wget >/dev/null 2>&1";
        let mut down = Down::start(&self.far, look).await?;
        while down.next().await?.is_some() {}
        if down.status() == Some(0) {
            return Ok(());
        }
        let label = self.far.instance.label();
        Err(Error::target(format!(
            "`{label}` has neither curl nor wget, one of which has to move files to and from the bucket"
        ))
        .hint("install curl there, or copy without the bucket: --via session"))
    }

    /// Starts one.
    ///
    /// # Errors
    /// As [`Dialogue::start`].
    pub(crate) async fn courier(&self) -> Result<Courier<'_>> {
        Ok(Courier {
            session: self,
            dialogue: Dialogue::start(&self.far, &self.tools).await?,
        })
    }

    /// Whether the server hashes at all.
    pub(crate) fn hashes(&self) -> bool {
        self.tools.hash().is_some()
    }
}

impl Courier<'_> {
    /// Whether it can be asked for anything else.
    pub(crate) fn is_usable(&self) -> bool {
        self.dialogue.is_usable()
    }

    /// The hash of a file, or of its first `len` bytes; `None` where the server does not hash.
    ///
    /// # Errors
    /// The session.
    pub(crate) async fn hash(&mut self, path: &[u8], len: Option<u64>) -> Result<Option<Digest>> {
        self.dialogue.hash(path, len).await
    }

    /// Puts a part of a file where `url` says.
    ///
    /// # Errors
    /// The server's own words.
    pub(crate) async fn push(
        &mut self,
        path: &[u8],
        part: (u64, u64, bool),
        url: &str,
    ) -> Result<()> {
        self.dialogue.push(path, part, url).await
    }

    /// Begins to store `item`: how much of it is there from before, and the same.
    ///
    /// # Errors
    /// The server's own words.
    pub(crate) async fn begin(
        &mut self,
        item: &Store,
        reading: &FileReading,
        job: &Job,
    ) -> Result<u64> {
        let last = name(&item.path).unwrap_or(b"file");
        let temporary = temporary_name(last, job.resume);
        let begun = self
            .dialogue
            .begin(&item.path, &temporary, job.resume, true)
            .await?;
        let Begun::Part(len, there) = begun else {
            return Ok(0);
        };
        let mut hash = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        if len > 0
            && len <= reading.size()
            && there.is_some()
            && reading.hash_prefix(len, &mut hash)? == there
        {
            return Ok(len);
        }
        self.dialogue.restart().await?;
        Ok(0)
    }

    /// Appends what is at `url`.
    ///
    /// # Errors
    /// The server's own words.
    pub(crate) async fn pull(&mut self, url: &str) -> Result<()> {
        self.dialogue.pull(url).await
    }

    /// Verifies what was begun and puts it into place.
    ///
    /// # Errors
    /// It is not what was sent, or cannot be put there.
    pub(crate) async fn end(
        &mut self,
        item: &Store,
        size: u64,
        digest: Digest,
        job: &Job,
    ) -> Result<()> {
        self.dialogue
            .end(&End {
                digest: self.session.hashes().then_some(digest),
                size,
                mode: mode(self.session, item, job),
                exact: job.preserve,
                stamp: job.preserve.then(|| stamp(item.mtime)),
            })
            .await
    }

    /// Leaves what was begun.
    ///
    /// # Errors
    /// The session.
    pub(crate) async fn leave(&mut self) -> Result<()> {
        self.dialogue.leave().await
    }

    /// Sets mode and time of a folder.
    ///
    /// # Errors
    /// The server's own words.
    pub(crate) async fn attributes(&mut self, path: &[u8], mode: u32, mtime: i64) -> Result<()> {
        self.dialogue
            .attributes(path, mode & 0o7777, &stamp(mtime))
            .await
    }

    /// Ends it.
    ///
    /// # Errors
    /// The session.
    pub(crate) async fn quit(self) -> Result<()> {
        self.dialogue.quit().await
    }
}
