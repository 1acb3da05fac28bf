//! A dialogue for a transport whose bytes take another way: the server moves them to and from
//! addresses, and the rest is as with files that come through the session.

use ops_remote::pipe::{Chunk, Down};
use ops_ui::{Error, Result};

use super::{
    Session,
    bundle::{self, Intake},
    dialogue::{Begun, Dialogue, End, stamp},
    frames::stored_mode,
    pack::{self, Parcel},
    script,
};
use crate::{
    hashes::{Digest, unhex},
    landing::{temporary_name, token},
    reading::FileReading,
    remote_path::RemotePath,
    transport::{Fetch, Job, Store},
};

/// Something on the server that moves files when asked.
pub(crate) struct Courier<'a> {
    session: &'a Session,
    /// None after one that was lost.
    dialogue: Option<Dialogue>,
}

/// An archive on the server.
pub(crate) struct Archive {
    /// Where it lies, in a folder of its own.
    pub(crate) path: RemotePath,
    /// In bytes.
    pub(crate) len: u64,
    /// Where the server hashes.
    pub(crate) sha256: Option<Digest>,
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
            dialogue: Some(Dialogue::start(&self.far, &self.tools).await?),
        })
    }

    /// Puts small files together that can be fetched as archives, and gives the others.
    pub(crate) fn bundles(&self, files: Vec<Fetch>) -> (Vec<Vec<Fetch>>, Vec<Fetch>) {
        let mut small = bundle::Collector::new(self);
        let (mut bundles, mut others) = (Vec::new(), Vec::new());
        for file in files {
            match small.take(file) {
                Ok(full) => bundles.extend(full),
                Err(file) => others.push(file),
            }
        }
        bundles.extend(small.rest());
        (bundles, others)
    }

    /// Puts small files together that can be stored as archives, and gives the others.
    pub(crate) fn packs(&self, items: Vec<Store>) -> (Vec<Vec<Store>>, Vec<Store>) {
        let mut small = pack::Collector::new(self);
        let (mut packs, mut others) = (Vec::new(), Vec::new());
        for item in items {
            match small.take(item) {
                Ok(full) => packs.extend(full),
                Err(item) => others.push(item),
            }
        }
        packs.extend(small.rest());
        (packs, others)
    }

    /// Fetches a bundle by a way of the caller's, which takes the script that writes the archive;
    /// gives back what did not come.
    pub(crate) async fn fetch_bundle<F>(
        &self,
        files: Vec<Fetch>,
        job: &Job,
        feed: impl FnOnce(String, Intake) -> F,
    ) -> Vec<Fetch>
    where
        F: Future<Output = Result<()>>,
    {
        bundle::fetch_by(self, files, job, feed).await
    }

    /// Whether the server hashes at all.
    pub(crate) fn hashes(&self) -> bool {
        self.tools.hash().is_some()
    }
}

impl Courier<'_> {
    /// Whether it can be asked for anything else.
    pub(crate) fn is_usable(&self) -> bool {
        self.dialogue.as_ref().is_some_and(Dialogue::is_usable)
    }

    fn talk(&mut self) -> Result<&mut Dialogue> {
        let lost = || Error::target("the session to the server is lost");
        self.dialogue.as_mut().ok_or_else(lost)
    }

    /// Has the server keep what `script` writes, until [`Courier::clear`] or the end.
    ///
    /// # Errors
    /// The server's own words; it writes nothing, or cannot keep it.
    pub(crate) async fn keep(&mut self, script: &str) -> Result<Archive> {
        self.keep_as(b"a", script).await
    }

    async fn keep_as(&mut self, name: &[u8], script: &str) -> Result<Archive> {
        let stage = RemotePath::new(b"/tmp", format!(".ops-{}", token()).as_bytes());
        self.talk()?.stage(&stage).await?;
        let path = stage.join(name);
        let text = format!(
            "{}{}( exec >\"$a\"\n{script}) && printf \"!kept %s %s\\n\" \"$(wc -c <\"$a\" | tr -d \" \")\" \"$(hash_input <\"$a\")\" >&6\n",
            self.session.tools.hash_function(),
            script::assign("a", path.whole()),
        );
        let mut down = Down::start(&self.session.far, &text).await?.strict();
        let mut archive = None;
        while let Some(chunk) = down.next().await? {
            let Chunk::Message(said) = chunk else {
                continue;
            };
            let mut words = said.split_ascii_whitespace();
            if words.next() == Some("kept")
                && let Some(len) = words.next().and_then(|len| len.parse().ok())
            {
                archive = Some(Archive {
                    path: path.clone(),
                    len,
                    sha256: words.next().and_then(unhex),
                });
            }
        }
        archive.ok_or_else(|| down.failed("no archive could be written on the server"))
    }

    /// Has the server keep what the file at `path` holds, read once and to its end, until
    /// [`Courier::clear`]: how much that is, files of `/proc` and `/sys` do not say beforehand.
    ///
    /// # Errors
    /// As for [`Courier::keep`].
    pub(crate) async fn keep_file(&mut self, path: &RemotePath) -> Result<Archive> {
        let script = format!("{}cat <\"$f\"\n", script::open_folder(path));
        self.keep_as(b"f", &script).await
    }

    /// Removes what was kept.
    ///
    /// # Errors
    /// The session.
    pub(crate) async fn clear(&mut self) -> Result<()> {
        self.talk()?.clear().await
    }

    /// Stores small files as one archive by way of `parcel`; gives back those that are to be stored
    /// one by one.
    pub(crate) async fn pack(
        &mut self,
        items: Vec<Store>,
        parcel: &mut (dyn Parcel + '_),
        job: &Job,
    ) -> Vec<Store> {
        pack::send(self.session, &mut self.dialogue, items, Some(parcel), job).await
    }

    /// The hash of a file, or of its first `len` bytes; `None` where the server does not hash.
    ///
    /// # Errors
    /// The session.
    pub(crate) async fn hash(
        &mut self,
        path: &RemotePath,
        len: Option<u64>,
    ) -> Result<Option<Digest>> {
        self.talk()?.hash(path, len).await
    }

    /// Puts a part of a file where `url` says.
    ///
    /// # Errors
    /// The server's own words.
    pub(crate) async fn push(
        &mut self,
        path: &RemotePath,
        part: (u64, u64, bool),
        url: &str,
    ) -> Result<()> {
        self.talk()?.push(path, part, url).await
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
        let last = item.path.name_or(b"file");
        let temporary = temporary_name(last, job.resume);
        let begun = self
            .talk()?
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
        self.talk()?.restart().await?;
        Ok(0)
    }

    /// Appends what is at `url`.
    ///
    /// # Errors
    /// The server's own words.
    pub(crate) async fn pull(&mut self, url: &str) -> Result<()> {
        self.talk()?.pull(url).await
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
        let hashes = self.session.hashes();
        let mode = stored_mode(self.session, item, job);
        self.talk()?
            .end(&End {
                digest: hashes.then_some(digest),
                size,
                mode,
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
        self.talk()?.leave().await
    }

    /// Sets mode and time of a folder.
    ///
    /// # Errors
    /// The server's own words.
    pub(crate) async fn attributes(
        &mut self,
        path: &RemotePath,
        mode: u32,
        mtime: i64,
    ) -> Result<()> {
        self.talk()?
            .attributes(path, mode & 0o7777, Some(&stamp(mtime)))
            .await
    }

    /// Ends it.
    ///
    /// # Errors
    /// The session.
    pub(crate) async fn quit(self) -> Result<()> {
        match self.dialogue {
            Some(dialogue) if dialogue.is_usable() => dialogue.quit().await,
            _ => Ok(()),
        }
    }
}
