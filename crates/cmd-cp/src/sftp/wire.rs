//! SFTP packets as a client has them: requests out, answers in.

use bytes::{BufMut as _, Bytes, BytesMut};
pub(super) use ops_sftp::{Attributes, Garbled, code, kind, open};
use ops_sftp::{Fields, VERSION, len32, put_attributes, put_bytes};

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
        put_bytes(&mut self.0, bytes);
        self
    }

    pub(super) fn attributes(mut self, attributes: &Attributes) -> Self {
        put_attributes(&mut self.0, attributes);
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
    packet.put_u32(VERSION);
    packet.freeze()
}

/// The names of the extensions in a server's first packet, without its length.
pub(super) fn version(packet: Bytes) -> Result<Vec<Bytes>, Garbled> {
    let mut fields = Fields(packet);
    if fields.u8()? != kind::VERSION {
        return Err(Garbled);
    }
    // A later version than asked for would be a server's mistake, and nothing in it would matter
    // here.
    fields.u32()?;
    let mut names = Vec::new();
    while !fields.is_empty() {
        names.push(fields.bytes()?);
        fields.bytes()?;
    }
    Ok(names)
}

/// Number and content of an answer, without its length.
pub(super) fn answer(packet: Bytes) -> Result<(u32, Answer), Garbled> {
    let mut fields = Fields(packet);
    let kind = fields.u8()?;
    let id = fields.u32()?;
    let answer = match kind {
        kind::STATUS => Answer::Status {
            code: fields.u32()?,
            // Old servers leave the text out.
            text: fields
                .bytes()
                .map(|text| String::from_utf8_lossy(&text).into_owned())
                .unwrap_or_default(),
        },
        kind::HANDLE => Answer::Handle(fields.bytes()?),
        kind::DATA => Answer::Data(fields.bytes()?),
        kind::NAME => {
            let count = fields.u32()?;
            let mut names = Vec::new();
            for _ in 0..count {
                let name = fields.bytes()?;
                // What `ls -l` would show.
                fields.bytes()?;
                let attributes = fields.attributes()?;
                names.push(Name { name, attributes });
            }
            Answer::Names(names)
        }
        kind::ATTRS => Answer::Attributes(fields.attributes()?),
        kind::EXTENDED_REPLY => Answer::Extended(fields.0),
        _ => return Err(Garbled),
    };
    Ok((id, answer))
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
        // Size, owner, permissions and times.
        packet.put_u32(1 | 2 | 4 | 8);
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
