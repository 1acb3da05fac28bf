//! SFTP packets as a server has them: answers out, and why a request failed.

use std::{fs::Metadata, io, os::unix::fs::MetadataExt as _, time::SystemTime};

use bytes::BufMut as _;
use jiff::Timestamp;
use ops_sftp::{Attributes, Garbled, VERSION, code, kind, len32, put_attributes, put_bytes};

/// Why a request failed, in the codes of version 3.
#[derive(Debug)]
pub(super) enum Failure {
    Eof,
    BadMessage,
    Unsupported,
    Io(io::Error),
}

impl Failure {
    pub(super) fn code(&self) -> u32 {
        match self {
            Self::Eof => code::EOF,
            Self::Io(error) => match error.kind() {
                io::ErrorKind::NotFound => code::NO_SUCH_FILE,
                io::ErrorKind::PermissionDenied => code::PERMISSION_DENIED,
                _ => code::FAILURE,
            },
            Self::BadMessage => code::BAD_MESSAGE,
            Self::Unsupported => code::UNSUPPORTED,
        }
    }

    pub(super) fn text(&self) -> String {
        match self {
            Self::Eof => "End of file".to_owned(),
            Self::BadMessage => "Bad message".to_owned(),
            Self::Unsupported => "Operation unsupported".to_owned(),
            Self::Io(error) => error.to_string(),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<rustix::io::Errno> for Failure {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Io(error.into())
    }
}

impl From<Garbled> for Failure {
    fn from(_: Garbled) -> Self {
        Self::BadMessage
    }
}

/// Answers, one after the other in one buffer.
#[derive(Default)]
pub(super) struct Answers(pub(super) Vec<u8>);

impl Answers {
    /// Appends one packet whose body `write` makes. When that fails the packet becomes the
    /// failure's status.
    pub(super) fn packet(
        &mut self,
        packet_kind: u8,
        id: u32,
        write: impl FnOnce(&mut Self) -> Result<(), Failure>,
    ) {
        let start = self.0.len();
        self.u32(0);
        self.0.push(packet_kind);
        self.u32(id);
        if let Err(failure) = write(self) {
            self.0.truncate(start + 4);
            self.0.push(kind::STATUS);
            self.u32(id);
            self.u32(failure.code());
            self.bytes(failure.text().as_bytes());
            self.bytes(b"");
        }
        self.close_packet(start);
    }

    /// A packet without a request number.
    pub(super) fn version(&mut self, extensions: &[(&str, &str)]) {
        let start = self.0.len();
        self.u32(0);
        self.0.push(kind::VERSION);
        self.u32(VERSION);
        for (name, version) in extensions {
            self.bytes(name.as_bytes());
            self.bytes(version.as_bytes());
        }
        self.close_packet(start);
    }

    fn close_packet(&mut self, start: usize) {
        let len = len32(self.0.len() - start - 4);
        self.0[start..start + 4].copy_from_slice(&len.to_be_bytes());
    }

    /// The rest of a status packet that reports success.
    pub(super) fn success(&mut self) {
        self.u32(code::OK);
        self.bytes(b"Success");
        self.bytes(b"");
    }

    pub(super) fn u32(&mut self, number: u32) {
        self.0.put_u32(number);
    }

    pub(super) fn u64(&mut self, number: u64) {
        self.0.put_u64(number);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        put_bytes(&mut self.0, bytes);
    }

    pub(super) fn attributes(&mut self, metadata: &Metadata) {
        let seconds = |time: i64| u32::try_from(time).unwrap_or(0);
        let attributes = Attributes {
            size: Some(metadata.size()),
            owner: Some((metadata.uid(), metadata.gid())),
            mode: Some(metadata.mode()),
            times: Some((seconds(metadata.atime()), seconds(metadata.mtime()))),
        };
        put_attributes(&mut self.0, &attributes);
    }

    /// One entry of a name packet; with no metadata its attributes are empty.
    pub(super) fn name(&mut self, name: &[u8], metadata: Option<&Metadata>) {
        self.bytes(name);
        match metadata {
            Some(metadata) => {
                let mut line = long_listing(metadata).into_bytes();
                line.extend_from_slice(name);
                self.bytes(&line);
                self.attributes(metadata);
            }
            None => {
                self.bytes(name);
                self.u32(0);
            }
        }
    }
}

/// What `ls -l` writes in front of a name.
fn long_listing(metadata: &Metadata) -> String {
    /// Half a year: older dates are written with their year.
    const RECENT_SECONDS: i64 = 182 * 24 * 3600;
    let mode = metadata.mode();
    let kind = match mode & 0o170_000 {
        0o040_000 => 'd',
        0o120_000 => 'l',
        0o060_000 => 'b',
        0o020_000 => 'c',
        0o010_000 => 'p',
        0o140_000 => 's',
        _ => '-',
    };
    let bits: String = (0..9)
        .map(|bit| {
            if mode & (0o400 >> bit) == 0 {
                '-'
            } else {
                ['r', 'w', 'x'][bit % 3]
            }
        })
        .collect();
    let modified = Timestamp::from_second(metadata.mtime()).unwrap_or_default();
    let now = Timestamp::try_from(SystemTime::now()).unwrap_or_default();
    let is_recent = (0..RECENT_SECONDS).contains(&(now.as_second() - modified.as_second()));
    let format = if is_recent {
        "%b %e %H:%M"
    } else {
        "%b %e  %Y"
    };
    let date = modified.strftime(format);
    format!(
        "{kind}{bits} {:>4} {:<8} {:<8} {:>8} {date} ",
        metadata.nlink(),
        metadata.uid(),
        metadata.gid(),
        metadata.size()
    )
}

#[cfg(test)]
mod tests {
    use ops_sftp::Fields;

    use super::*;

    #[test]
    fn a_failed_answer_leaves_nothing_of_itself_behind() {
        let mut answers = Answers::default();
        answers.packet(kind::DATA, 7, |answers| {
            answers.bytes(&[0; 100]);
            Err(Failure::Eof)
        });
        let len = answers.0.len();
        let mut fields = Fields(answers.0.into());
        assert_eq!(fields.u32().unwrap() as usize, len - 4);
        assert_eq!(fields.u8().unwrap(), kind::STATUS);
        assert_eq!(fields.u32().unwrap(), 7);
        assert_eq!(fields.u32().unwrap(), code::EOF);
        assert_eq!(&fields.bytes().unwrap()[..], b"End of file");
    }
}
