//! A dialogue for a transport whose bytes take another way: the server moves them to and from
//! addresses, and the rest is as with files that come through the session.

use ops_ui::{Error, Result};

use super::{
    Session,
    bundle::{self, Intake},
    dialogue::{Begun, Dialogue, End, stamp},
    download::FETCH,
    frames::stored_mode,
    pack::{self, Parcel},
    script,
    upload::upload,
};
use crate::{
    hashes::{Digest, unhex},
    landing::{temporary_name, token},
    reading::FileReading,
    remote_path::RemotePath,
    transport::{Fetch, Job, Store},
};

/// Most that is read of what the server says of an archive, in bytes: a number and a hash.
const TOLD_MAX_BYTES: usize = 1 << 10;

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
    pub(crate) fn check_courier(&self) -> Result<()> {
        if ["curl", "wget"].iter().any(|tool| self.tools.has(tool)) {
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
            dialogue: Some(self.take_dialogue().await?),
        })
    }

    /// Stores `items` through the session; the dialogue is kept for a courier.
    ///
    /// # Errors
    /// As [`Transport::upload`](crate::transport::Transport::upload).
    pub(crate) async fn upload_before_courier(&self, items: Vec<Store>, job: &Job) -> Result<()> {
        if let Some(dialogue) = upload(self, items, job).await? {
            self.give_back(dialogue).await;
        }
        Ok(())
    }

    /// Puts small files together that can be fetched as archives, and gives the others.
    pub(crate) fn bundles(&self, files: Vec<Fetch>, job: &Job) -> (Vec<Vec<Fetch>>, Vec<Fetch>) {
        let mut small = bundle::Collector::new(self, job);
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
            "{}( exec >\"$kept\"\n{script}) || exit\nprintf \"%s %s\" \"$(wc -c <\"$kept\" | tr -d \" \")\" \"$(hash_input <\"$kept\")\"\n",
            script::assign("kept", path.whole()),
        );
        let mut told = Vec::new();
        let ran = self.talk()?.run(&text, |bytes| {
            let room = TOLD_MAX_BYTES.saturating_sub(told.len());
            told.extend_from_slice(&bytes[..bytes.len().min(room)]);
            Ok(())
        });
        let ran = ran.await?;
        let failed = || {
            let error = Error::unexpected("no archive could be written on the server");
            ran.complaints.iter().fold(error, Error::caused_by)
        };
        if ran.status != 0 {
            return Err(failed());
        }
        let told = String::from_utf8_lossy(&told);
        let mut words = told.split_ascii_whitespace();
        let len = words.next().and_then(|len| len.parse().ok());
        Ok(Archive {
            path,
            len: len.ok_or_else(failed)?,
            sha256: words.next().and_then(unhex),
        })
    }

    /// Has the server keep what the file at `path` holds, read once and to its end, until
    /// [`Courier::clear`]: how much that is, files of `/proc` and `/sys` do not say beforehand.
    ///
    /// # Errors
    /// As for [`Courier::keep`].
    pub(crate) async fn keep_file(&mut self, path: &RemotePath) -> Result<Archive> {
        let script = format!(
            "{}{}go_to_file\ncat <\"$file\"\n",
            script::name_file(path),
            script::compact(FETCH)
        );
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

    /// Keeps its dialogue for the next courier.
    pub(crate) async fn rest(self) {
        if let Some(dialogue) = self.dialogue.filter(Dialogue::is_usable) {
            self.session.give_back(dialogue).await;
        }
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
