//! Packets of SFTP, version 3: their numbers, their fields, and the attributes of files.
//!
//! The client of `ops cp --via sftp` and the server of the sandbox both speak it. Names are bytes,
//! as file systems have them. A packet is a big-endian `u32` length, which does not count itself,
//! then a type, then (but for the first packet of each side) the number of the request, then
//! fields.
//!
//! Source: draft-ietf-secsh-filexfer-02, and section 4 of OpenSSH's PROTOCOL file. The tests of
//! `ops cp --via sftp` run the client against OpenSSH's server, those of `ops ssh` OpenSSH's client
//! against the sandbox, so that both ends are held to what was not written here.

#![warn(missing_docs)]

use std::fmt;

use bytes::{Buf as _, BufMut, Bytes};

/// The version that both ends speak, as in the first packet of each.
pub const VERSION: u32 = 3;

/// Types of packets: section 3 of the draft.
#[expect(missing_docs, reason = "the names of the draft")]
pub mod kind {
    pub const INIT: u8 = 1;
    pub const VERSION: u8 = 2;
    pub const OPEN: u8 = 3;
    pub const CLOSE: u8 = 4;
    pub const READ: u8 = 5;
    pub const WRITE: u8 = 6;
    pub const LSTAT: u8 = 7;
    pub const FSTAT: u8 = 8;
    pub const SETSTAT: u8 = 9;
    pub const FSETSTAT: u8 = 10;
    pub const OPENDIR: u8 = 11;
    pub const READDIR: u8 = 12;
    pub const REMOVE: u8 = 13;
    pub const MKDIR: u8 = 14;
    pub const RMDIR: u8 = 15;
    pub const REALPATH: u8 = 16;
    pub const STAT: u8 = 17;
    pub const RENAME: u8 = 18;
    pub const READLINK: u8 = 19;
    pub const SYMLINK: u8 = 20;
    pub const STATUS: u8 = 101;
    pub const HANDLE: u8 = 102;
    pub const DATA: u8 = 103;
    pub const NAME: u8 = 104;
    pub const ATTRS: u8 = 105;
    pub const EXTENDED: u8 = 200;
    pub const EXTENDED_REPLY: u8 = 201;
}

/// How a file is opened: section 6.3 of the draft.
#[expect(missing_docs, reason = "the names of the draft")]
pub mod open {
    pub const READ: u32 = 1;
    pub const WRITE: u32 = 2;
    pub const APPEND: u32 = 4;
    pub const CREATE: u32 = 8;
    pub const TRUNCATE: u32 = 0x10;
    pub const EXCLUSIVE: u32 = 0x20;
}

/// Codes of a status: section 7 of the draft.
#[expect(missing_docs, reason = "the names of the draft")]
pub mod code {
    pub const OK: u32 = 0;
    pub const EOF: u32 = 1;
    pub const NO_SUCH_FILE: u32 = 2;
    pub const PERMISSION_DENIED: u32 = 3;
    pub const FAILURE: u32 = 4;
    pub const BAD_MESSAGE: u32 = 5;
    pub const UNSUPPORTED: u32 = 8;
}

/// Which attributes follow: section 5 of the draft.
mod flag {
    pub(super) const SIZE: u32 = 1;
    pub(super) const OWNER: u32 = 2;
    pub(super) const PERMISSIONS: u32 = 4;
    pub(super) const TIMES: u32 = 8;
    pub(super) const EXTENDED: u32 = 0x8000_0000;
}

/// What was read is no SFTP: it ends too soon, or a length in it runs past its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Garbled;

impl fmt::Display for Garbled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this is no SFTP")
    }
}

impl std::error::Error for Garbled {}

/// What a file has, or is to have. What is `None` was not told, or stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// In bytes.
    pub size: Option<u64>,
    /// User and group.
    pub owner: Option<(u32, u32)>,
    /// Type and permissions, as in `st_mode`.
    pub mode: Option<u32>,
    /// Access and modification, in seconds since 1970.
    pub times: Option<(u32, u32)>,
}

/// What is left of a packet. Nothing is copied: byte strings share the packet's memory.
#[derive(Clone, Debug)]
pub struct Fields(pub Bytes);

impl Fields {
    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A byte.
    ///
    /// # Errors
    /// [`Garbled`], as for all fields, where the packet has ended before.
    pub fn u8(&mut self) -> Result<u8, Garbled> {
        self.0.try_get_u8().map_err(|_| Garbled)
    }

    /// Four bytes.
    ///
    /// # Errors
    /// [`Garbled`]
    pub fn u32(&mut self) -> Result<u32, Garbled> {
        self.0.try_get_u32().map_err(|_| Garbled)
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// [`Garbled`]
    pub fn u64(&mut self) -> Result<u64, Garbled> {
        self.0.try_get_u64().map_err(|_| Garbled)
    }

    /// A string of bytes: its length as four bytes, then the bytes.
    ///
    /// # Errors
    /// [`Garbled`]
    pub fn bytes(&mut self) -> Result<Bytes, Garbled> {
        let len = self.u32()? as usize;
        if len > self.0.len() {
            return Err(Garbled);
        }
        Ok(self.0.split_to(len))
    }

    /// Attributes of a file. Those of extensions are passed over.
    ///
    /// # Errors
    /// [`Garbled`]
    pub fn attributes(&mut self) -> Result<Attributes, Garbled> {
        let flags = self.u32()?;
        let mut attributes = Attributes::default();
        if flags & flag::SIZE != 0 {
            attributes.size = Some(self.u64()?);
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
        if flags & flag::EXTENDED != 0 {
            // The count may be any number; the first string that is not there ends the loop.
            for _ in 0..self.u32()? {
                self.bytes()?;
                self.bytes()?;
            }
        }
        Ok(attributes)
    }
}

/// Appends a string of bytes.
pub fn put_bytes(packet: &mut impl BufMut, bytes: &[u8]) {
    packet.put_u32(len32(bytes.len()));
    packet.put_slice(bytes);
}

/// Appends attributes, those that are there.
pub fn put_attributes(packet: &mut impl BufMut, attributes: &Attributes) {
    packet.put_u32(
        attributes.size.map_or(0, |_| flag::SIZE)
            | attributes.owner.map_or(0, |_| flag::OWNER)
            | attributes.mode.map_or(0, |_| flag::PERMISSIONS)
            | attributes.times.map_or(0, |_| flag::TIMES),
    );
    if let Some(size) = attributes.size {
        packet.put_u64(size);
    }
    if let Some((user, group)) = attributes.owner {
        packet.put_u32(user);
        packet.put_u32(group);
    }
    if let Some(mode) = attributes.mode {
        packet.put_u32(mode);
    }
    if let Some((access, modification)) = attributes.times {
        packet.put_u32(access);
        packet.put_u32(modification);
    }
}

/// A length as packets have it. Nothing that is sent is as long as four gigabytes.
pub fn len32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_were_written() {
        let all = Attributes {
            size: Some(1 << 40),
            owner: Some((3, 4)),
            mode: Some(0o100_644),
            times: Some((1, 2)),
        };
        for attributes in [
            all,
            Attributes::default(),
            Attributes { owner: None, ..all },
            Attributes { size: None, ..all },
        ] {
            let mut packet = Vec::new();
            put_attributes(&mut packet, &attributes);
            let mut fields = Fields(packet.into());
            assert_eq!(fields.attributes(), Ok(attributes));
            assert!(fields.is_empty());
        }
    }

    #[test]
    fn attributes_have_the_bytes_of_the_draft() {
        let mut packet = Vec::new();
        let attributes = Attributes {
            mode: Some(0o100_644),
            ..Attributes::default()
        };
        put_attributes(&mut packet, &attributes);
        assert_eq!(packet, b"\0\0\0\x04\0\0\x81\xa4");
    }

    #[test]
    fn extensions_of_attributes_are_passed_over() {
        let mut packet = Vec::new();
        packet.put_u32(flag::EXTENDED);
        packet.put_u32(1);
        put_bytes(&mut packet, b"acl@example.com");
        put_bytes(&mut packet, b"data");
        packet.put_u8(7);
        let mut fields = Fields(packet.into());
        assert_eq!(fields.attributes(), Ok(Attributes::default()));
        assert_eq!(fields.u8(), Ok(7));
    }

    #[test]
    fn lengths_beyond_the_packet_are_refused() {
        let fields = |bytes: &'static [u8]| Fields(Bytes::from_static(bytes));
        assert_eq!(fields(&[0, 0, 0, 9, 1]).bytes(), Err(Garbled));
        assert_eq!(fields(&[0, 0]).u32(), Err(Garbled));
        assert_eq!(fields(&[]).u8(), Err(Garbled));
        // Extensions without number, of which none is there.
        assert_eq!(
            fields(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]).attributes(),
            Err(Garbled)
        );
    }
}
