//! SFTP packets, version 3: fields in, answers out. Names are bytes, as file systems have them.

use std::{fs::Metadata, io, os::unix::fs::MetadataExt as _, time::SystemTime};

use jiff::Timestamp;

/// Packet types.
pub(super) mod kind {
    pub(in super::super) const INIT: u8 = 1;
    pub(in super::super) const VERSION: u8 = 2;
    pub(in super::super) const OPEN: u8 = 3;
    pub(in super::super) const CLOSE: u8 = 4;
    pub(in super::super) const READ: u8 = 5;
    pub(in super::super) const WRITE: u8 = 6;
    pub(in super::super) const LSTAT: u8 = 7;
    pub(in super::super) const FSTAT: u8 = 8;
    pub(in super::super) const SETSTAT: u8 = 9;
    pub(in super::super) const FSETSTAT: u8 = 10;
    pub(in super::super) const OPENDIR: u8 = 11;
    pub(in super::super) const READDIR: u8 = 12;
    pub(in super::super) const REMOVE: u8 = 13;
    pub(in super::super) const MKDIR: u8 = 14;
    pub(in super::super) const RMDIR: u8 = 15;
    pub(in super::super) const REALPATH: u8 = 16;
    pub(in super::super) const STAT: u8 = 17;
    pub(in super::super) const RENAME: u8 = 18;
    pub(in super::super) const READLINK: u8 = 19;
    pub(in super::super) const SYMLINK: u8 = 20;
    pub(in super::super) const STATUS: u8 = 101;
    pub(in super::super) const HANDLE: u8 = 102;
    pub(in super::super) const DATA: u8 = 103;
    pub(in super::super) const NAME: u8 = 104;
    pub(in super::super) const ATTRS: u8 = 105;
    pub(in super::super) const EXTENDED: u8 = 200;
    pub(in super::super) const EXTENDED_REPLY: u8 = 201;
}

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
            Self::Eof => 1,
            Self::Io(error) => match error.kind() {
                io::ErrorKind::NotFound => 2,
                io::ErrorKind::PermissionDenied => 3,
                _ => 4,
            },
            Self::BadMessage => 5,
            Self::Unsupported => 8,
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

/// What is left of a packet.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn byte(&mut self) -> Result<u8, Failure> {
        let (&byte, rest) = self.0.split_first().ok_or(Failure::BadMessage)?;
        self.0 = rest;
        Ok(byte)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Failure> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Failure::BadMessage)?;
        self.0 = rest;
        Ok(u32::from_be_bytes(*bytes))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Failure> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Failure::BadMessage)?;
        self.0 = rest;
        Ok(u64::from_be_bytes(*bytes))
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Failure> {
        let len = self.u32()? as usize;
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(Failure::BadMessage)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(super) fn attributes(&mut self) -> Result<Attributes, Failure> {
        let flags = self.u32()?;
        let mut attributes = Attributes::default();
        if flags & flag::SIZE != 0 {
            attributes.size_bytes = Some(self.u64()?);
        }
        if flags & flag::OWNER != 0 {
            attributes.owner = Some((self.u32()?, self.u32()?));
        }
        if flags & flag::PERMISSIONS != 0 {
            attributes.mode = Some(self.u32()?);
        }
        if flags & flag::TIMES != 0 {
            attributes.times = Some((self.u32()?, self.u32()?));
        }
        // Extended attributes follow; nothing follows those.
        Ok(attributes)
    }
}

mod flag {
    pub(super) const SIZE: u32 = 1;
    pub(super) const OWNER: u32 = 2;
    pub(super) const PERMISSIONS: u32 = 4;
    pub(super) const TIMES: u32 = 8;
}

/// What a client wants a file to have.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) size_bytes: Option<u64>,
    /// User and group.
    pub(super) owner: Option<(u32, u32)>,
    pub(super) mode: Option<u32>,
    /// Access and modification, in seconds since 1970.
    pub(super) times: Option<(u32, u32)>,
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
        self.u32(3);
        for (name, version) in extensions {
            self.bytes(name.as_bytes());
            self.bytes(version.as_bytes());
        }
        self.close_packet(start);
    }

    fn close_packet(&mut self, start: usize) {
        let len = u32::try_from(self.0.len() - start - 4).unwrap_or(u32::MAX);
        self.0[start..start + 4].copy_from_slice(&len.to_be_bytes());
    }

    /// The rest of a status packet that reports success.
    pub(super) fn success(&mut self) {
        self.u32(0);
        self.bytes(b"Success");
        self.bytes(b"");
    }

    pub(super) fn u32(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    pub(super) fn u64(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn attributes(&mut self, metadata: &Metadata) {
        let seconds = |time: i64| u32::try_from(time).unwrap_or(0);
        self.u32(flag::SIZE | flag::OWNER | flag::PERMISSIONS | flag::TIMES);
        self.u64(metadata.size());
        self.u32(metadata.uid());
        self.u32(metadata.gid());
        self.u32(metadata.mode());
        self.u32(seconds(metadata.atime()));
        self.u32(seconds(metadata.mtime()));
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
    use super::*;

    #[test]
    fn a_failed_answer_leaves_nothing_of_itself_behind() {
        let mut answers = Answers::default();
        answers.packet(kind::DATA, 7, |answers| {
            answers.bytes(&[0; 100]);
            Err(Failure::Eof)
        });
        let mut fields = Fields(&answers.0);
        assert_eq!(fields.u32().unwrap() as usize, answers.0.len() - 4);
        assert_eq!(fields.byte().unwrap(), kind::STATUS);
        assert_eq!(fields.u32().unwrap(), 7);
        assert_eq!(fields.u32().unwrap(), 1);
        assert_eq!(fields.bytes().unwrap(), b"End of file");
    }

    #[test]
    fn lengths_beyond_the_packet_are_refused() {
        assert!(matches!(
            Fields(&[0, 0, 0, 9, 1]).bytes(),
            Err(Failure::BadMessage)
        ));
        assert!(matches!(Fields(&[0, 0]).u32(), Err(Failure::BadMessage)));
    }
}
