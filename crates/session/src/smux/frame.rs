//! The frame header, and a decoder that takes the byte stream in pieces of any size.

use bytes::{Buf as _, BufMut, Bytes};

use super::{SmuxError, StreamId};

/// Length of a frame header in bytes.
pub const HEADER_LEN: usize = 8;

/// The most bytes of payload one data frame may carry when we send it (the `MaxFrameSize` of both
/// official programs). What is received may be longer, up to the 65,535 the length field can say.
pub const MAX_SEND_PAYLOAD_BYTES: usize = 32_768;

const VERSION: u8 = 1;
/// Body of an `UPD` frame, which belongs to version 2; the official reader skips it in version 1
/// too.
const UPDATE_LEN: u16 = 8;

/// The command byte of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Opens a stream.
    Syn = 0,
    /// Closes a stream in both directions.
    Fin = 1,
    /// Carries data.
    Psh = 2,
    /// Keeps the session alive.
    Nop = 3,
    /// Window update of version 2; read and skipped, never sent.
    Upd = 4,
}

impl Command {
    fn from_byte(byte: u8) -> Result<Self, SmuxError> {
        Ok(match byte {
            0 => Self::Syn,
            1 => Self::Fin,
            2 => Self::Psh,
            3 => Self::Nop,
            4 => Self::Upd,
            other => return Err(SmuxError::Command(other)),
        })
    }
}

/// Appends one header: version, command, then length and stream id in little-endian order.
pub fn encode_header(out: &mut impl BufMut, command: Command, length: u16, stream_id: StreamId) {
    out.put_u8(VERSION);
    out.put_u8(command as u8);
    out.put_u16_le(length);
    out.put_u32_le(stream_id);
}

/// One thing read from the byte stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A stream was opened.
    Open(StreamId),
    /// Payload of a data frame, or the part of it that has arrived.
    Data(StreamId, Bytes),
    /// A stream was closed.
    Close(StreamId),
    /// A keep-alive, or a frame of version 2 that means nothing here.
    Ignored,
}

/// Reads frames from a byte stream that arrives in pieces of any size.
///
/// Payload is handed on as it arrives, without waiting for the end of its frame and without
/// copying. At most one header is ever held back. After an error every further call fails in the
/// same way: there is no way to find the next frame.
#[derive(Debug, Default)]
pub struct Decoder {
    header: [u8; HEADER_LEN],
    header_len: usize,
    body: Option<Body>,
    failed: Option<SmuxError>,
}

#[derive(Debug, Clone, Copy)]
struct Body {
    stream_id: StreamId,
    remaining: usize,
    /// Bytes of a command that carries nothing for us.
    skipped: bool,
}

impl Decoder {
    /// Takes the next item from `input`, which keeps what was not used; `None` when more input is
    /// needed.
    ///
    /// Fails on a wrong version, an unknown command or a length the command cannot have.
    pub fn poll(&mut self, input: &mut Bytes) -> Result<Option<Item>, SmuxError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        loop {
            if let Some(body) = &mut self.body {
                if input.is_empty() {
                    return Ok(None);
                }
                let data = input.split_to(body.remaining.min(input.len()));
                body.remaining -= data.len();
                let (stream_id, skipped) = (body.stream_id, body.skipped);
                if body.remaining == 0 {
                    self.body = None;
                }
                if skipped {
                    continue;
                }
                return Ok(Some(Item::Data(stream_id, data)));
            }
            let wanted = (HEADER_LEN - self.header_len).min(input.len());
            self.header[self.header_len..self.header_len + wanted]
                .copy_from_slice(&input[..wanted]);
            input.advance(wanted);
            self.header_len += wanted;
            // A wrong version is reported at its first byte, not seven bytes later.
            if self.header_len > 0 && self.header[0] != VERSION {
                return Err(self.fail(SmuxError::Version(self.header[0])));
            }
            if self.header_len < HEADER_LEN {
                return Ok(None);
            }
            self.header_len = 0;
            match self.parse_header() {
                Ok(Some(item)) => return Ok(Some(item)),
                Ok(None) => {}
                Err(error) => return Err(self.fail(error)),
            }
        }
    }

    /// Says that the carrier has ended. Fails when that was inside a frame.
    pub fn finish(&self) -> Result<(), SmuxError> {
        match self.failed {
            Some(error) => Err(error),
            None if self.header_len > 0 || self.body.is_some() => Err(SmuxError::Truncated),
            None => Ok(()),
        }
    }

    fn fail(&mut self, error: SmuxError) -> SmuxError {
        self.failed = Some(error);
        error
    }

    fn parse_header(&mut self) -> Result<Option<Item>, SmuxError> {
        let [_, command_byte, l0, l1, i0, i1, i2, i3] = self.header;
        let command = Command::from_byte(command_byte)?;
        let length = u16::from_le_bytes([l0, l1]);
        let stream_id = u32::from_le_bytes([i0, i1, i2, i3]);
        let length_allowed = match command {
            Command::Psh => true,
            Command::Upd => length == UPDATE_LEN,
            Command::Syn | Command::Fin | Command::Nop => length == 0,
        };
        if !length_allowed {
            return Err(SmuxError::Length {
                command: command_byte,
                length,
            });
        }
        if length > 0 {
            self.body = Some(Body {
                stream_id,
                remaining: usize::from(length),
                skipped: command == Command::Upd,
            });
            return Ok(None);
        }
        Ok(Some(match command {
            Command::Syn => Item::Open(stream_id),
            Command::Fin => Item::Close(stream_id),
            Command::Psh | Command::Nop | Command::Upd => Item::Ignored,
        }))
    }
}
