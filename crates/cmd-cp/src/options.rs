//! What was asked for beside the places.

use std::{str::FromStr, sync::Arc};

use clap::ValueEnum;
use ops_profile::{CopyVia, values::Size};

use crate::{
    links::Links, names::Excluded, pace::Pace, report::Report, transport::Job,
    transport_options::TransportOptions,
};

/// A file smaller than this, in bytes, is hashed with `--resume` whether or not it is at the
/// destination.
const HASHED_BELOW_BYTES: u64 = (512 << 10) + 1;

/// What happens to a file that is there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Overwrite {
    /// It is replaced, as with scp
    #[default]
    Always,
    /// A question for each
    Ask,
    /// It stays
    Never,
    /// It is replaced if it is older
    Newer,
}

/// `--via` on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Via {
    /// The best one that works
    Auto,
    /// Session Manager's own sessions: no sshd, no key; appears in session logs
    Session,
    /// SFTP over an SSH session
    Sftp,
    /// A bucket, with presigned addresses
    S3,
}

impl From<Via> for CopyVia {
    fn from(via: Via) -> Self {
        match via {
            Via::Auto => Self::Auto,
            Via::Session => Self::Session,
            Via::Sftp => Self::Sftp,
            Via::S3 => Self::S3,
        }
    }
}

/// Bytes a second: `2MB`, `500KiB/s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate(pub(crate) u64);

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let size: Size = text.strip_suffix("/s").unwrap_or(text).parse()?;
        if size.0 == 0 {
            return Err("a rate of nothing never ends".to_owned());
        }
        Ok(Self(size.0))
    }
}

/// Everything that the parts of the command share.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) recursive: bool,
    pub(crate) preserve: bool,
    pub(crate) follow: bool,
    pub(crate) keep_links: bool,
    /// What becomes of links that are not followed.
    pub(crate) links: Links,
    pub(crate) dry_run: bool,
    pub(crate) excluded: Excluded,
    pub(crate) overwrite: Overwrite,
    pub(crate) resume: bool,
    pub(crate) checksum: bool,
    pub(crate) sessions: usize,
    pub(crate) parallel: usize,
    pub(crate) compress: bool,
    pub(crate) transport_options: TransportOptions,
    pub(crate) pace: Arc<Pace>,
    pub(crate) report: Arc<Report>,
}

impl Options {
    /// How transfers are done.
    pub(crate) fn job(&self) -> Job {
        Job {
            sessions: self.sessions,
            resume: self.resume,
            preserve: self.preserve,
            compress: self.compress,
            pace: Arc::clone(&self.pace),
            report: Arc::clone(&self.report),
            folders: None,
        }
    }

    /// Whether what is at the destination matters.
    pub(crate) fn compares(&self) -> bool {
        self.compares_content() || self.overwrite != Overwrite::Always
    }

    /// Whether what is equal at the destination stays there: with `--resume` it is what an earlier
    /// run has brought.
    pub(crate) fn compares_content(&self) -> bool {
        self.checksum || self.resume
    }

    /// Hashes to ask for when listing, all of them or those of small files: what it takes to list
    /// many files. [`crate::existing::list_digests`] asks for those of large files that may be the
    /// same.
    pub(crate) fn digests(&self) -> (bool, Option<u64>) {
        (self.checksum, self.resume.then_some(HASHED_BELOW_BYTES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_size_a_second() {
        assert_eq!("2MB/s".parse(), Ok(Rate(2_000_000)));
        assert_eq!("1KiB".parse(), Ok(Rate(1024)));
        assert!("0".parse::<Rate>().is_err() && "fast".parse::<Rate>().is_err());
    }
}
