//! A file that is sent: read in pieces, hashed, and watched for changes.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    sync::{Mutex, MutexGuard, PoisonError},
};

use aws_lc_rs::digest;
use bytes::Bytes;
use ops_session::buffers::Buffers;
use ops_ui::{Error, Result};
use tokio::sync::mpsc;

use crate::{
    hashes,
    hashes::Digest,
    item::FileId,
    local::LocalFile,
    transport::{Job, Source},
};

/// Buffers of a file that are kept to be read into again. Pieces of three wait to be sent in each
/// session (its queue has 256 KiB, as a buffer has), and four or five sessions share a large file.
const MOST_BUFFERS: usize = 16;

/// What is sent, from one place or another.
pub(crate) enum Reading {
    /// A file; can be read anywhere and again.
    File(FileReading),
    /// A stream; once, in order.
    Stream(StreamReading),
}

impl Reading {
    /// Opens `source`.
    ///
    /// # Errors
    /// The file has vanished, may not be read, or is none any more.
    pub(crate) fn open(source: Source, id: FileId, job: &Job) -> Result<Self> {
        match source {
            Source::File { file, .. } => FileReading::open(&file, id, job).map(Self::File),
            Source::Stream { bytes, .. } => Ok(Self::Stream(StreamReading {
                bytes,
                rest: Bytes::new(),
                id,
                job: job.clone(),
                hash: digest::Context::new(&digest::SHA256),
            })),
        }
    }
}

/// A local file.
pub(crate) struct FileReading {
    file: File,
    shown: String,
    size: u64,
    /// When it was written last; `None` of a copy that nobody else can change.
    modified: Option<(i64, i64)>,
    id: FileId,
    job: Job,
    buffers: Mutex<Buffers>,
}

impl FileReading {
    fn open(file: &LocalFile, id: FileId, job: &Job) -> Result<Self> {
        let shown = file.to_path().display().to_string();
        let failed = |error| Error::unexpected(format!("cannot read `{shown}`")).caused_by(error);
        let file = file.open().map_err(failed)?;
        let known = file.metadata().map_err(failed)?;
        if !known.is_file() {
            return Err(Error::unexpected(format!("`{shown}` is no file any more")));
        }
        let opened = Self {
            size: known.len(),
            modified: Some((known.mtime(), known.mtime_nsec())),
            shown: shown.clone(),
            id,
            job: job.clone(),
            buffers: Mutex::new(Buffers::new(MOST_BUFFERS)),
            file,
        };
        if says_its_size(&opened.file, opened.size).map_err(failed)? {
            return Ok(opened);
        }
        // Files of /proc say 0, those of /sys a page, and what they hold is made while it is read:
        // they are read once, to their end, into a file without a name.
        let (file, size) = kept(&opened.file).map_err(failed)?;
        Ok(Self {
            file,
            size,
            modified: None,
            ..opened
        })
    }

    /// Its size when it was opened, in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Up to `len` bytes at `offset`, fewer only at its end. Keeps to `--limit-rate`, counts as
    /// progress.
    ///
    /// # Errors
    /// It cannot be read, or has become shorter.
    pub(crate) async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes> {
        let left = self.size.saturating_sub(offset);
        let len = usize::try_from(left).map_or(len, |left| left.min(len));
        self.job.pace.wait_for_bytes(len).await;
        let mut buffer = self.buffers().take(len);
        buffer.resize(len, 0);
        self.file
            .read_exact_at(&mut buffer, offset)
            .map_err(|error| {
                if error.kind() == std::io::ErrorKind::UnexpectedEof {
                    self.changed()
                } else {
                    Error::unexpected(format!("cannot read `{}`", self.shown)).caused_by(error)
                }
            })?;
        self.job.report.add_bytes(self.id, len as u64);
        let bytes = buffer.split().freeze();
        self.buffers().give_back(buffer);
        Ok(bytes)
    }

    fn buffers(&self) -> MutexGuard<'_, Buffers> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hashes its first `len` bytes into `hash`, and gives what that is so far; read apart from
    /// what is sent, counted nowhere.
    ///
    /// # Errors
    /// It cannot be read, or is shorter.
    pub(crate) fn hash_prefix(
        &self,
        len: u64,
        hash: &mut digest::Context,
    ) -> Result<Option<Digest>> {
        self.hash_range(0, len, hash)?;
        Ok(Some(hashes::finish_hash(hash.clone())))
    }

    /// As [`FileReading::hash_prefix`], of `len` bytes from `offset` on.
    pub(crate) fn hash_range(
        &self,
        offset: u64,
        len: u64,
        hash: &mut digest::Context,
    ) -> Result<()> {
        let mut buffer = vec![0; 256 << 10];
        let (mut at, end) = (offset, offset + len);
        while at < end {
            let want =
                usize::try_from(end - at).map_or(buffer.len(), |left| left.min(buffer.len()));
            let read = self.file.read_at(&mut buffer[..want], at)?;
            if read == 0 {
                return Err(self.changed());
            }
            hash.update(&buffer[..read]);
            at += read as u64;
        }
        Ok(())
    }

    /// Checks that what was sent, with the hash `sent`, is what the file had when it was opened.
    /// More may stand behind that by now: a log that is written to is sent as it was.
    ///
    /// # Errors
    /// The file has changed: what was sent may be half old and half new.
    pub(crate) fn check_unchanged(&self, sent: &Digest) -> Result<()> {
        let Some(modified) = self.modified else {
            return Ok(());
        };
        let known = self.file.metadata()?;
        if known.len() == self.size && (known.mtime(), known.mtime_nsec()) == modified {
            return Ok(());
        }
        if known.len() > self.size {
            let mut hash = digest::Context::new(&digest::SHA256);
            if self.hash_prefix(self.size, &mut hash)? == Some(*sent) {
                return Ok(());
            }
        }
        Err(self.changed())
    }

    fn changed(&self) -> Error {
        Error::unexpected(format!("`{}` changed while it was read", self.shown))
            .hint("copy it again when nobody writes to it")
    }
}

/// Whether a file ends where it says: its last byte is there, and none behind it.
fn says_its_size(file: &File, size: u64) -> io::Result<bool> {
    let mut byte = [0];
    let has_last = match size.checked_sub(1) {
        Some(last) => file.read_at(&mut byte, last)? == 1,
        None => true,
    };
    Ok(has_last && file.read_at(&mut byte, size)? == 0)
}

/// All of `file` in a temporary file that has no name, and its size.
fn kept(mut file: &File) -> io::Result<(File, u64)> {
    // Some files of /proc have no beginning to read at an offset, but each can be rewound.
    file.rewind()?;
    let mut copy = tempfile::tempfile()?;
    let mut buffer = vec![0; 64 << 10];
    let mut size = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                copy.write_all_at(&buffer[..read], size)?;
                size += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    copy.rewind()?;
    Ok((copy, size))
}

/// Bytes from elsewhere.
pub(crate) struct StreamReading {
    bytes: mpsc::Receiver<Result<Bytes>>,
    rest: Bytes,
    id: FileId,
    job: Job,
    hash: digest::Context,
}

impl StreamReading {
    /// The next piece of at most `len` bytes, full but for the last; empty at the end.
    ///
    /// # Errors
    /// Its source failed.
    pub(crate) async fn next(&mut self, len: usize) -> Result<Bytes> {
        let mut piece = Vec::new();
        while piece.len() < len {
            if self.rest.is_empty() {
                match self.bytes.recv().await {
                    Some(bytes) => self.rest = bytes?,
                    None => break,
                }
            }
            let take = self.rest.len().min(len - piece.len());
            piece.extend_from_slice(&self.rest.split_to(take));
        }
        self.job.pace.wait_for_bytes(piece.len()).await;
        self.hash.update(&piece);
        self.job.report.add_bytes(self.id, piece.len() as u64);
        Ok(piece.into())
    }

    /// The hash of all that was read.
    pub(crate) fn digest(&self) -> Digest {
        hashes::finish_hash(self.hash.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::unix::fs::symlink, path::Path, sync::Arc};

    use super::*;
    use crate::{
        local::{Follow, LocalPath, NamedFolder},
        pace::Pace,
        report::Report,
    };

    fn job() -> Job {
        Job {
            sessions: 1,
            resume: false,
            preserve: false,
            compress: false,
            pace: Arc::new(Pace::new(None)),
            report: Arc::new(Report::silent()),
            folders: None,
        }
    }

    fn open(folder: &Path, below: &str) -> Result<FileReading> {
        let root = NamedFolder::open(folder).unwrap();
        let path = LocalPath::new(&root, below.into());
        FileReading::open(&LocalFile::new(path, Follow::Nothing), 0, &job())
    }

    fn sha256(bytes: &[u8]) -> Digest {
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(bytes);
        hashes::finish_hash(hash)
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn files_that_do_not_say_their_size_are_read_to_their_end() {
        for file in [
            "/proc/version",
            "/sys/class/net/lo/mtu",
            "/proc/self/status",
        ] {
            if !Path::new(file).exists() {
                continue;
            }
            let whole = std::fs::read(file).unwrap();
            let reading = open(Path::new("/"), file.trim_start_matches('/')).or_else(|_| {
                // Names of /sys are links for the most part.
                let real = std::fs::canonicalize(file).unwrap();
                open(
                    Path::new("/"),
                    real.to_str().unwrap().trim_start_matches('/'),
                )
            });
            let reading = reading.unwrap();
            assert_ne!(reading.size(), 0, "{file}");
            let read = reading.read_at(0, 1 << 20).await.unwrap();
            // A status counts what has happened in between.
            if !file.ends_with("status") {
                assert_eq!(read, whole, "{file}");
            }
            reading.check_unchanged(&sha256(&read)).unwrap();
        }
    }

    #[tokio::test]
    async fn what_is_added_behind_does_not_spoil_what_was_sent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, "one\n").unwrap();
        let reading = open(folder.path(), "log").unwrap();
        let sent = reading.read_at(0, 100).await.unwrap();
        let mut log = std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap();
        log.write_all(b"two\n").unwrap();
        reading.check_unchanged(&sha256(&sent)).unwrap();
        std::fs::write(&path, "another and longer\n").unwrap();
        assert!(reading.check_unchanged(&sha256(&sent)).is_err());
        std::fs::write(&path, "").unwrap();
        assert!(reading.check_unchanged(&sha256(&sent)).is_err());
    }

    #[test]
    fn a_link_that_is_put_in_a_files_place_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |below: &str| folder.path().join(below);
        std::fs::create_dir(at("in")).unwrap();
        std::fs::write(at("secret"), "s").unwrap();
        std::fs::write(at("in/f"), "x").unwrap();
        open(folder.path(), "in/f").unwrap();
        std::fs::remove_file(at("in/f")).unwrap();
        symlink("../secret", at("in/f")).unwrap();
        assert!(open(folder.path(), "in/f").is_err());
        std::fs::rename(at("in"), at("moved")).unwrap();
        symlink(".", at("in")).unwrap();
        std::fs::rename(at("secret"), at("f")).unwrap();
        assert!(open(folder.path(), "in/f").is_err());
    }
}
