//! A dialogue for a transport whose bytes take another way: the server moves them to and from
//! addresses, and the rest is as with files that come through the session.

use ops_remote::script::compact;
use ops_ui::{Error, Result};

use super::{
    ShellTransport,
    dialogue::{BeginAnswer, Dialogue, FileEnd, touch_stamp},
    download::FETCH,
    fetch_archive::{self, ArchiveInput},
    frames::stored_mode,
    script,
    store_archive::{self, ArchiveCarrier},
    upload::{LastAttributes, set_last_attributes, upload_items},
};
use crate::{
    hashes::{Digest, parse_hash},
    landing::{random_token, temporary_name},
    reading::FileReading,
    remote_path::RemotePath,
    transport::{Fetch, Job, Store},
};

/// Most that is read of what the server says of an archive, in bytes: a number and a hash.
const TOLD_MAX_BYTES: usize = 1 << 10;

/// Something on the server that moves files when asked.
pub(crate) struct UrlDialogue<'a> {
    session: &'a ShellTransport,
    /// None after one that was lost.
    dialogue: Option<Dialogue>,
}

/// An archive on the server.
pub(crate) struct KeptArchive {
    /// Where it lies, in a folder of its own.
    pub(crate) path: RemotePath,
    /// In bytes.
    pub(crate) len: u64,
    /// Where the server hashes.
    pub(crate) sha256: Option<Digest>,
}

impl ShellTransport {
    /// Checks that the server can move files by itself.
    ///
    /// # Errors
    /// It has neither curl nor wget.
    pub(crate) fn check_url_tools(&self) -> Result<()> {
        if ["curl", "wget"].iter().any(|tool| self.tools.has(tool)) {
            return Ok(());
        }
        let label = self.host.instance.label();
        Err(Error::target(format!(
            "`{label}` has neither curl nor wget, one of which has to move files to and from the bucket"
        ))
        .hint("install curl there, or copy without the bucket: --via session"))
    }

    /// Starts one, or takes up the idle one.
    ///
    /// # Errors
    /// As [`Dialogue::start`].
    pub(crate) async fn url_dialogue(&self) -> Result<UrlDialogue<'_>> {
        Ok(UrlDialogue {
            session: self,
            dialogue: Some(self.take_dialogue().await?),
        })
    }

    /// Stores `items` through the session; the dialogue is kept for a dialogue. Gives what
    /// [`UrlDialogue::set_last_attributes`] is to set when the files that take another way are in:
    /// a folder that was closed to its owner before could not take them.
    ///
    /// # Errors
    /// As [`Transport::upload`](crate::transport::Transport::upload).
    pub(crate) async fn upload_before_urls(
        &self,
        items: Vec<Store>,
        job: &Job,
    ) -> Result<Vec<LastAttributes>> {
        let uploaded = upload_items(self, items, job).await?;
        if let Some(dialogue) = uploaded.dialogue {
            self.give_back(dialogue).await;
        }
        Ok(uploaded.last)
    }

    /// Puts small files together that can be fetched as archives, and gives the others.
    pub(crate) fn plan_fetch_archives(
        &self,
        files: Vec<Fetch>,
        job: &Job,
    ) -> (Vec<Vec<Fetch>>, Vec<Fetch>) {
        let mut small = fetch_archive::FetchCollector::new(self, job);
        let (mut archives, mut others) = (Vec::new(), Vec::new());
        for file in files {
            match small.take_if_small(file) {
                Ok(full) => archives.extend(full),
                Err(file) => others.push(file),
            }
        }
        archives.extend(small.take_rest());
        (archives, others)
    }

    /// Puts small files together that can be stored as archives, and gives the others.
    pub(crate) fn plan_store_archives(&self, items: Vec<Store>) -> (Vec<Vec<Store>>, Vec<Store>) {
        let mut small = store_archive::StoreCollector::new(self);
        let (mut archives, mut others) = (Vec::new(), Vec::new());
        for item in items {
            match small.take_if_small(item) {
                Ok(full) => archives.extend(full),
                Err(item) => others.push(item),
            }
        }
        archives.extend(small.take_rest());
        (archives, others)
    }

    /// Fetches an archive by a way of the caller's, which takes the script that writes the archive;
    /// gives back what did not come.
    pub(crate) async fn fetch_archive_by<F>(
        &self,
        files: Vec<Fetch>,
        job: &Job,
        feed: impl FnOnce(String, ArchiveInput) -> F,
    ) -> Vec<Fetch>
    where
        F: Future<Output = Result<()>>,
    {
        fetch_archive::fetch_by(self, files, job, feed).await.left
    }

    /// Whether the server hashes at all.
    pub(crate) fn can_hash(&self) -> bool {
        self.tools.hash_command().is_some()
    }
}

impl UrlDialogue<'_> {
    /// Whether it can be asked for anything else.
    pub(crate) fn is_usable(&self) -> bool {
        self.dialogue.as_ref().is_some_and(Dialogue::is_usable)
    }

    fn open_dialogue(&mut self) -> Result<&mut Dialogue> {
        let lost = || Error::target("the session to the server is lost");
        self.dialogue.as_mut().ok_or_else(lost)
    }

    /// Has the server keep what `script` writes, until [`UrlDialogue::clear_kept`] or the end.
    ///
    /// # Errors
    /// The server's own words; it writes nothing, or cannot keep it.
    pub(crate) async fn keep_output(&mut self, script: &str) -> Result<KeptArchive> {
        self.keep_as(b"a", script).await
    }

    async fn keep_as(&mut self, name: &[u8], script: &str) -> Result<KeptArchive> {
        let stage = RemotePath::new(b"/tmp", format!(".ops-{}", random_token()).as_bytes());
        self.open_dialogue()?.make_stage(&stage).await?;
        let path = stage.join(name);
        let text = format!(
            "{}( exec >\"$kept\"\n{script}) || exit\nprintf \"%s %s\" \"$(wc -c <\"$kept\" | tr -d \" \")\" \"$(hash_input <\"$kept\")\"\n",
            script::assign_variable("kept", path.whole()),
        );
        let mut told = Vec::new();
        let ran = self.open_dialogue()?.run_script(&text, |bytes| {
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
        Ok(KeptArchive {
            path,
            len: len.ok_or_else(failed)?,
            sha256: words.next().and_then(parse_hash),
        })
    }

    /// Has the server keep what the file at `path` holds, read once and to its end, until
    /// [`UrlDialogue::clear_kept`]: how much that is, files of `/proc` and `/sys` do not say
    /// beforehand.
    ///
    /// # Errors
    /// As for [`UrlDialogue::keep_output`].
    pub(crate) async fn keep_file(&mut self, path: &RemotePath) -> Result<KeptArchive> {
        let script = format!(
            "{}{}go_to_file\ncat <\"$file\"\n",
            script::name_file(path),
            compact(FETCH)
        );
        self.keep_as(b"f", &script).await
    }

    /// Removes what was kept.
    ///
    /// # Errors
    /// The session.
    pub(crate) async fn clear_kept(&mut self) -> Result<()> {
        self.open_dialogue()?.clear_stage().await
    }

    /// Stores small files as one archive by way of `carrier`; gives back those that are to be
    /// stored one by one.
    pub(crate) async fn store_archive(
        &mut self,
        items: Vec<Store>,
        carrier: &mut (dyn ArchiveCarrier + '_),
        job: &Job,
    ) -> Vec<Store> {
        store_archive::send_archive(self.session, &mut self.dialogue, items, Some(carrier), job)
            .await
    }

    /// The hash of a file, or of its first `len` bytes; `None` where the server does not hash.
    ///
    /// # Errors
    /// The session.
    pub(crate) async fn hash_file(
        &mut self,
        path: &RemotePath,
        len: Option<u64>,
    ) -> Result<Option<Digest>> {
        self.open_dialogue()?.hash_file(path, len).await
    }

    /// Puts a part of a file where `url` says.
    ///
    /// # Errors
    /// The server's own words.
    pub(crate) async fn push_part(
        &mut self,
        path: &RemotePath,
        part: (u64, u64, bool),
        url: &str,
    ) -> Result<()> {
        self.open_dialogue()?.push_part(path, part, url).await
    }

    /// Begins to store `item`: how much of it is there from before, and the same.
    ///
    /// # Errors
    /// The server's own words.
    pub(crate) async fn begin_file(
        &mut self,
        item: &Store,
        reading: &FileReading,
        job: &Job,
    ) -> Result<u64> {
        let last = item.path.name_or(b"file");
        let temporary = temporary_name(last, job.resume);
        let begun = self
            .open_dialogue()?
            .begin_file(&item.path, &temporary, job.resume, true)
            .await?;
        let BeginAnswer::Part(len, there) = begun else {
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
        self.open_dialogue()?.empty_file().await?;
        Ok(0)
    }

    /// Appends what is at `url`.
    ///
    /// # Errors
    /// The server's own words.
    pub(crate) async fn pull_url(&mut self, url: &str) -> Result<()> {
        self.open_dialogue()?.pull_url(url).await
    }

    /// Verifies what was begun and puts it into place.
    ///
    /// # Errors
    /// It is not what was sent, or cannot be put there.
    pub(crate) async fn end_file(
        &mut self,
        item: &Store,
        size: u64,
        digest: Digest,
        job: &Job,
    ) -> Result<()> {
        let hashes = self.session.can_hash();
        let mode = stored_mode(self.session, item, job);
        self.open_dialogue()?
            .end_file(&FileEnd {
                digest: hashes.then_some(digest),
                size,
                mode,
                exact: job.preserve,
                stamp: job.preserve.then(|| touch_stamp(item.mtime)),
            })
            .await
    }

    /// Leaves what was begun.
    ///
    /// # Errors
    /// The session.
    pub(crate) async fn leave_file(&mut self) -> Result<()> {
        self.open_dialogue()?.leave_file().await
    }

    /// Sets what folders get when all is in; each folder is reported.
    ///
    /// # Errors
    /// The session.
    pub(crate) async fn set_last_attributes(
        &mut self,
        last: &[LastAttributes],
        job: &Job,
    ) -> Result<()> {
        set_last_attributes(self.open_dialogue()?, last, job).await
    }

    /// Keeps its dialogue for the next dialogue.
    pub(crate) async fn give_back(self) {
        if let Some(dialogue) = self.dialogue.filter(Dialogue::is_usable) {
            self.session.give_back(dialogue).await;
        }
    }

    /// Ends it.
    ///
    /// # Errors
    /// The session.
    pub(crate) async fn quit_dialogue(self) -> Result<()> {
        match self.dialogue {
            Some(dialogue) if dialogue.is_usable() => dialogue.quit_dialogue().await,
            _ => Ok(()),
        }
    }
}
