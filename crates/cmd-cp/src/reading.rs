//! A file that is sent: read in pieces, hashed, and watched for changes.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use aws_lc_rs::digest;
use bytes::Bytes;
use ops_core::{Error, Result};
use tokio::sync::mpsc;

use crate::{
    landing,
    transport::{Digest, FileId, Job, Source},
};

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
            Source::File { path, .. } => FileReading::open(&path, id, job).map(Self::File),
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
    modified: (i64, i64),
    id: FileId,
    job: Job,
}

impl FileReading {
    fn open(path: &Path, id: FileId, job: &Job) -> Result<Self> {
        let shown = path.display().to_string();
        let failed = |error| Error::unexpected(format!("cannot read `{shown}`")).caused_by(error);
        // Something that is no file any more must not block us.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
            .open(path)
            .map_err(failed)?;
        let known = file.metadata().map_err(failed)?;
        if !known.is_file() {
            return Err(Error::unexpected(format!("`{shown}` is no file any more")));
        }
        Ok(Self {
            file,
            shown,
            size: known.len(),
            modified: (known.mtime(), known.mtime_nsec()),
            id,
            job: job.clone(),
        })
    }

    /// Its size when it was opened, in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Up to `len` bytes at `offset`, fewer only at its end. Keeps to `--limit-rate`, counts as progress.
    ///
    /// # Errors
    /// It cannot be read, or has become shorter.
    pub(crate) async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes> {
        let left = self.size.saturating_sub(offset);
        let len = usize::try_from(left).map_or(len, |left| left.min(len));
        self.job.pace.wait(len).await;
        let mut bytes = vec![0; len];
        self.file
            .read_exact_at(&mut bytes, offset)
            .map_err(|error| {
                if error.kind() == std::io::ErrorKind::UnexpectedEof {
                    self.changed()
                } else {
                    Error::unexpected(format!("cannot read `{}`", self.shown)).caused_by(error)
                }
            })?;
        self.job.report.bytes(self.id, len as u64);
        Ok(bytes.into())
    }

    /// Hashes its first `len` bytes into `hash`, and gives what that is so far; read apart from what is sent, counted nowhere.
    ///
    /// # Errors
    /// It cannot be read, or is shorter.
    pub(crate) fn hash_prefix(
        &self,
        len: u64,
        hash: &mut digest::Context,
    ) -> Result<Option<Digest>> {
        self.hash_range(0, len, hash)?;
        Ok(Some(landing::finish(hash.clone())))
    }

    /// As [`FileReading::hash_prefix`], of `len` bytes from `offset` on.
    ///
    /// # Errors
    /// As there.
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

    /// Checks that it is as it was when it was opened.
    ///
    /// # Errors
    /// It is not: what was sent may be half old and half new.
    pub(crate) fn unchanged(&self) -> Result<()> {
        let known = self.file.metadata()?;
        if known.len() == self.size && (known.mtime(), known.mtime_nsec()) == self.modified {
            Ok(())
        } else {
            Err(self.changed())
        }
    }

    fn changed(&self) -> Error {
        Error::unexpected(format!("`{}` changed while it was read", self.shown))
            .hint("copy it again when nobody writes to it")
    }
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
        self.job.pace.wait(piece.len()).await;
        self.hash.update(&piece);
        self.job.report.bytes(self.id, piece.len() as u64);
        Ok(piece.into())
    }

    /// The hash of all that was read.
    pub(crate) fn digest(&self) -> Digest {
        landing::finish(self.hash.clone())
    }
}
