//! SFTP packets, version 3, as a client has them: requests out, answers in. Names are bytes, as
//! file systems have them.
//!
//! Source: draft-ietf-secsh-filexfer-02 and OpenSSH's PROTOCOL file, section 4, whose server most
//! servers run.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

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
    pub(in super::super) const REALPATH: u8 = 16;
    pub(in super::super) const STAT: u8 = 17;
    pub(in super::super) const RENAME: u8 = 18;
    pub(in super::super) const READLINK: u8 = 19;
    pub(in super::super) const SYMLINK: u8 = 20;
    pub(super) const STATUS: u8 = 101;
    pub(super) const HANDLE: u8 = 102;
    pub(super) const DATA: u8 = 103;
    pub(super) const NAME: u8 = 104;
    pub(super) const ATTRS: u8 = 105;
    pub(in super::super) const EXTENDED: u8 = 200;
    pub(super) const EXTENDED_REPLY: u8 = 201;
}

/// How a file is opened.
pub(super) mod open {
    pub(in super::super) const READ: u32 = 1;
    pub(in super::super) const WRITE: u32 = 2;
    pub(in super::super) const CREATE: u32 = 8;
    pub(in super::super) const EXCLUSIVE: u32 = 0x20;
}

/// Codes of a status.
pub(super) mod code {
    pub(in super::super) const OK: u32 = 0;
    pub(in super::super) const EOF: u32 = 1;
    pub(in super::super) const NO_SUCH_FILE: u32 = 2;
    pub(in super::super) const PERMISSION_DENIED: u32 = 3;
    pub(in super::super) const FAILURE: u32 = 4;
    pub(in super::super) const UNSUPPORTED: u32 = 8;
}

mod flag {
    pub(super) const SIZE: u32 = 1;
    pub(super) const OWNER: u32 = 2;
    pub(super) const PERMISSIONS: u32 = 4;
    pub(super) const TIMES: u32 = 8;
    pub(super) const EXTENDED: u32 = 0x8000_0000;
}

/// The answer is no SFTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Garbled;

/// What a file has, or is to have. What is `None` was not told, or stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) size: Option<u64>,
    /// User and group.
    pub(super) owner: Option<(u32, u32)>,
    /// Type and permissions, as in `st_mode`.
    pub(super) mode: Option<u32>,
    /// Access and modification, in seconds since 1970.
    pub(super) times: Option<(u32, u32)>,
}

/// An entry of a folder, or a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) name: Bytes,
    pub(super) attributes: Attributes,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Status { code: u32, text: String },
    Handle(Bytes),
    Data(Bytes),
    Names(Vec<Name>),
    Attributes(Attributes),
    Extended(Bytes),
}

/// A request as it is written.
pub(super) struct Request(BytesMut);

impl Request {
    /// Begins one of `kind`; its number is filled in when it is sent.
    pub(super) fn new(kind: u8) -> Self {
        Self::with_room(kind, 256)
    }

    /// As [`Request::new`], for a body of about `bytes`.
    pub(super) fn with_room(kind: u8, bytes: usize) -> Self {
        let mut packet = BytesMut::with_capacity(bytes + 64);
        packet.put_u32(0);
        packet.put_u8(kind);
        packet.put_u32(0);
        Self(packet)
    }

    pub(super) fn u32(mut self, number: u32) -> Self {
        self.0.put_u32(number);
        self
    }

    pub(super) fn u64(mut self, number: u64) -> Self {
        self.0.put_u64(number);
        self
    }

    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.put_u32(len32(bytes.len()));
        self.0.put_slice(bytes);
        self
    }

    pub(super) fn attributes(mut self, attributes: &Attributes) -> Self {
        let flags = attributes.size.map_or(0, |_| flag::SIZE)
            | attributes.owner.map_or(0, |_| flag::OWNER)
            | attributes.mode.map_or(0, |_| flag::PERMISSIONS)
            | attributes.times.map_or(0, |_| flag::TIMES);
        self.0.put_u32(flags);
        if let Some(size) = attributes.size {
            self.0.put_u64(size);
        }
        if let Some((user, group)) = attributes.owner {
            self.0.put_u32(user);
            self.0.put_u32(group);
        }
        if let Some(mode) = attributes.mode {
            self.0.put_u32(mode);
        }
        if let Some((access, modification)) = attributes.times {
            self.0.put_u32(access);
            self.0.put_u32(modification);
        }
        self
    }

    /// The whole packet, as number `id`.
    pub(super) fn finish(mut self, id: u32) -> Bytes {
        let len = len32(self.0.len() - 4);
        self.0[..4].copy_from_slice(&len.to_be_bytes());
        self.0[5..9].copy_from_slice(&id.to_be_bytes());
        self.0.freeze()
    }
}

/// The first packet of a client, which has no number.
pub(super) fn init() -> Bytes {
    let mut packet = BytesMut::new();
    packet.put_u32(5);
    packet.put_u8(kind::INIT);
    packet.put_u32(3);
    packet.freeze()
}

/// The names of the extensions in a server's first packet, without its length.
pub(super) fn version(mut packet: Bytes) -> Result<Vec<Bytes>, Garbled> {
    if take_u8(&mut packet)? != kind::VERSION {
        return Err(Garbled);
    }
    // A later version than asked for would be a server's mistake, and nothing in it would matter
    // here.
    take_u32(&mut packet)?;
    let mut names = Vec::new();
    while !packet.is_empty() {
        names.push(take_bytes(&mut packet)?);
        take_bytes(&mut packet)?;
    }
    Ok(names)
}

/// Number and content of an answer, without its length.
pub(super) fn answer(mut packet: Bytes) -> Result<(u32, Answer), Garbled> {
    let kind = take_u8(&mut packet)?;
    let id = take_u32(&mut packet)?;
    let answer = match kind {
        kind::STATUS => Answer::Status {
            code: take_u32(&mut packet)?,
            // Old servers leave the text out.
            text: take_bytes(&mut packet)
                .map(|text| String::from_utf8_lossy(&text).into_owned())
                .unwrap_or_default(),
        },
        kind::HANDLE => Answer::Handle(take_bytes(&mut packet)?),
        kind::DATA => Answer::Data(take_bytes(&mut packet)?),
        kind::NAME => {
            let count = take_u32(&mut packet)?;
            let mut names = Vec::new();
            for _ in 0..count {
                let name = take_bytes(&mut packet)?;
                // What `ls -l` would show.
                take_bytes(&mut packet)?;
                let attributes = take_attributes(&mut packet)?;
                names.push(Name { name, attributes });
            }
            Answer::Names(names)
        }
        kind::ATTRS => Answer::Attributes(take_attributes(&mut packet)?),
        kind::EXTENDED_REPLY => Answer::Extended(packet),
        _ => return Err(Garbled),
    };
    Ok((id, answer))
}

pub(super) fn take_u64(packet: &mut Bytes) -> Result<u64, Garbled> {
    packet.try_get_u64().map_err(|_| Garbled)
}

fn take_u8(packet: &mut Bytes) -> Result<u8, Garbled> {
    packet.try_get_u8().map_err(|_| Garbled)
}

fn take_u32(packet: &mut Bytes) -> Result<u32, Garbled> {
    packet.try_get_u32().map_err(|_| Garbled)
}

fn take_bytes(packet: &mut Bytes) -> Result<Bytes, Garbled> {
    let len = take_u32(packet)? as usize;
    if len > packet.len() {
        return Err(Garbled);
    }
    Ok(packet.split_to(len))
}

fn take_attributes(packet: &mut Bytes) -> Result<Attributes, Garbled> {
    let flags = take_u32(packet)?;
    let mut attributes = Attributes::default();
    if flags & flag::SIZE != 0 {
        attributes.size = Some(take_u64(packet)?);
    }
    if flags & flag::OWNER != 0 {
        attributes.owner = Some((take_u32(packet)?, take_u32(packet)?));
    }
    if flags & flag::PERMISSIONS != 0 {
        attributes.mode = Some(take_u32(packet)?);
    }
    if flags & flag::TIMES != 0 {
        attributes.times = Some((take_u32(packet)?, take_u32(packet)?));
    }
    if flags & flag::EXTENDED != 0 {
        for _ in 0..take_u32(packet)? {
            take_bytes(packet)?;
            take_bytes(packet)?;
        }
    }
    Ok(attributes)
}

fn len32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_its_length_and_number() {
        let packet = Request::new(kind::OPEN)
            .bytes(b"a\xff")
            .u32(open::READ)
            .attributes(&Attributes::default())
            .finish(7);
        assert_eq!(
            &packet[..],
            b"\0\0\0\x13\x03\0\0\0\x07\0\0\0\x02a\xff\0\0\0\x01\0\0\0\0"
        );
    }

    #[test]
    fn names_are_bytes_and_attributes_are_read_in_order() {
        let mut packet = BytesMut::new();
        packet.put_u8(kind::NAME);
        packet.put_u32(9);
        packet.put_u32(1);
        packet.put_slice(b"\0\0\0\x02a\xff\0\0\0\x01l");
        packet.put_u32(flag::SIZE | flag::OWNER | flag::PERMISSIONS | flag::TIMES);
        packet.put_u64(1 << 40);
        packet.put_u64(3 << 32 | 4);
        packet.put_u32(0o100_644);
        packet.put_u32(1);
        packet.put_u32(2);
        let (id, read) = answer(packet.freeze()).unwrap();
        let attributes = Attributes {
            size: Some(1 << 40),
            owner: Some((3, 4)),
            mode: Some(0o100_644),
            times: Some((1, 2)),
        };
        let name = Name {
            name: Bytes::from_static(b"a\xff"),
            attributes,
        };
        assert_eq!((id, read), (9, Answer::Names(vec![name])));
    }

    #[test]
    fn what_is_cut_short_or_lies_about_its_length_is_refused() {
        let whole = [
            &[kind::NAME, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff][..],
            &[kind::DATA, 0, 0, 0, 1, 0, 0, 0, 9, 1],
            &[kind::HANDLE, 0, 0],
            &[
                kind::ATTRS,
                0,
                0,
                0,
                1,
                0x80,
                0,
                0,
                0,
                0xff,
                0xff,
                0xff,
                0xff,
            ],
            &[99, 0, 0, 0, 1],
            &[],
        ];
        for packet in whole {
            assert_eq!(answer(Bytes::copy_from_slice(packet)), Err(Garbled));
        }
        assert_eq!(
            version(Bytes::from_static(&[kind::STATUS, 0, 0, 0, 3])),
            Err(Garbled)
        );
    }
}
