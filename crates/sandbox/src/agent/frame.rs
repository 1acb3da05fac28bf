//! Binary messages as the agent reads and writes them.
//!
//! The agent's reader is laxer than the client's in some things and fragile in others, and both are
//! wanted here; the strict codec of the client is not what an agent has.

use std::{
    borrow::Cow,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::digest;
use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

pub(super) const INPUT_STREAM_DATA: &str = "input_stream_data";
pub(super) const OUTPUT_STREAM_DATA: &str = "output_stream_data";
pub(super) const ACKNOWLEDGE: &str = "acknowledge";
pub(super) const CHANNEL_CLOSED: &str = "channel_closed";
pub(super) const START_PUBLICATION: &str = "start_publication";
pub(super) const PAUSE_PUBLICATION: &str = "pause_publication";

/// All of those, the most frequent first.
const KNOWN: [&str; 6] = [
    ACKNOWLEDGE,
    INPUT_STREAM_DATA,
    OUTPUT_STREAM_DATA,
    CHANNEL_CLOSED,
    START_PUBLICATION,
    PAUSE_PUBLICATION,
];

/// `HeaderLength` of every message: bytes before `PayloadLength`.
const HEADER_LENGTH: u32 = 116;
/// Where the payload starts.
const PAYLOAD_OFFSET: usize = 120;

/// Payload types of stream data that the agent meets.
pub(super) mod payload {
    pub(in crate::agent) const OUTPUT: u32 = 1;
    pub(in crate::agent) const SIZE: u32 = 3;
    pub(in crate::agent) const HANDSHAKE_REQUEST: u32 = 5;
    pub(in crate::agent) const HANDSHAKE_RESPONSE: u32 = 6;
    pub(in crate::agent) const HANDSHAKE_COMPLETE: u32 = 7;
    pub(in crate::agent) const CHALLENGE_REQUEST: u32 = 8;
    pub(in crate::agent) const CHALLENGE_RESPONSE: u32 = 9;
    pub(in crate::agent) const FLAG: u32 = 10;
    pub(in crate::agent) const STDERR: u32 = 11;
    pub(in crate::agent) const EXIT_CODE: u32 = 12;
}

/// Flag payloads, big-endian `u32`.
pub(super) mod flag {
    pub(in crate::agent) const DISCONNECT_TO_PORT: u32 = 1;
    pub(in crate::agent) const TERMINATE_SESSION: u32 = 2;
    pub(in crate::agent) const CONNECT_TO_PORT_ERROR: u32 = 3;
}

/// One message, its payload shared with the frame it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) message_type: Cow<'static, str>,
    pub(super) sequence_number: i64,
    pub(super) flags: u64,
    pub(super) message_id: Uuid,
    pub(super) payload_type: u32,
    pub(super) payload: Bytes,
}

/// What is wrong with a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    /// The official reader drops such a frame.
    #[error("{0}")]
    Invalid(&'static str),
    /// The official reader dies of such a frame, and the session goes deaf.
    #[error("{0}")]
    Fatal(&'static str),
}

impl Message {
    /// Reads a frame with the checks that the official agent makes; `strict` adds those that it
    /// leaves out.
    ///
    /// # Errors
    /// See [`FrameError`].
    pub(super) fn decode(frame: &Bytes, strict: bool) -> Result<Self, FrameError> {
        if frame.len() < HEADER_LENGTH as usize {
            return Err(FrameError::Invalid("shorter than a header"));
        }
        // The agent slices without a look at the length here, and Go's panic takes its reader
        // along.
        if frame.len() < PAYLOAD_OFFSET {
            return Err(FrameError::Fatal("ends inside PayloadLength"));
        }
        let header_length = u32::from_be_bytes(array(frame, 0));
        if header_length == 0 {
            return Err(FrameError::Invalid("HeaderLength is 0"));
        }
        let payload_at = header_length as usize + 4;
        if payload_at > frame.len() {
            return Err(FrameError::Fatal("HeaderLength points past the end"));
        }
        // Padded with blanks by the agent and with NULs by some clients; both are trimmed.
        let name = String::from_utf8_lossy(&frame[4..36]);
        let name = name.trim_matches('\0').trim();
        let message_type = match KNOWN.iter().find(|known| **known == name) {
            Some(known) => Cow::Borrowed(*known),
            None => Cow::Owned(name.to_owned()),
        };
        if message_type.is_empty() {
            return Err(FrameError::Invalid("MessageType is empty"));
        }
        if u64::from_be_bytes(array(frame, 40)) == 0 {
            return Err(FrameError::Invalid("CreatedDate is 0"));
        }
        // The halves of the id are swapped on the wire: least significant eight bytes first.
        let mut id = [0; 16];
        id[8..].copy_from_slice(&frame[64..72]);
        id[..8].copy_from_slice(&frame[72..80]);
        let payload = frame.slice(payload_at..);
        if strict {
            if header_length != HEADER_LENGTH {
                return Err(FrameError::Invalid("HeaderLength is not 116"));
            }
            if u32::from_be_bytes(array(frame, 116)) as usize != payload.len() {
                return Err(FrameError::Invalid(
                    "PayloadLength differs from what follows",
                ));
            }
            if digest::digest(&digest::SHA256, &payload).as_ref() != &frame[80..112] {
                return Err(FrameError::Invalid(
                    "PayloadDigest differs from SHA-256 of the payload",
                ));
            }
        }
        Ok(Self {
            message_type,
            sequence_number: i64::from_be_bytes(array(frame, 48)),
            flags: u64::from_be_bytes(array(frame, 56)),
            message_id: Uuid::from_bytes(id),
            payload_type: u32::from_be_bytes(array(frame, 112)),
            payload,
        })
    }

    /// Writes the frame, dated now.
    pub(super) fn encode(&self) -> Bytes {
        let mut frame = BytesMut::with_capacity(PAYLOAD_OFFSET + self.payload.len());
        frame.put_u32(HEADER_LENGTH);
        let mut name = [b' '; 32];
        let len = self.message_type.len().min(name.len());
        name[..len].copy_from_slice(&self.message_type.as_bytes()[..len]);
        frame.put_slice(&name);
        frame.put_u32(1);
        frame.put_u64(now_ms());
        frame.put_i64(self.sequence_number);
        frame.put_u64(self.flags);
        let id = self.message_id.as_bytes();
        frame.put_slice(&id[8..]);
        frame.put_slice(&id[..8]);
        frame.put_slice(digest::digest(&digest::SHA256, &self.payload).as_ref());
        frame.put_u32(self.payload_type);
        // A payload is at most a few kilobytes.
        frame.put_u32(u32::try_from(self.payload.len()).unwrap_or(u32::MAX));
        frame.put_slice(&self.payload);
        frame.freeze()
    }
}

/// An id for a message. Nobody trusts it to be hard to guess, so it costs no system call.
pub(super) fn fresh_id() -> Uuid {
    uuid::Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes()).into_uuid()
}

/// `N` bytes at an offset inside the header, whose presence [`Message::decode`] has checked.
fn array<const N: usize>(frame: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&frame[at..at + N]);
    bytes
}

/// Milliseconds since 1970; never 0.
fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(1, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX).max(1)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        Message {
            message_type: INPUT_STREAM_DATA.into(),
            sequence_number: 7,
            flags: 1,
            message_id: Uuid::new_v4(),
            payload_type: payload::OUTPUT,
            payload: Bytes::from_static(b"hello"),
        }
    }

    #[test]
    fn a_message_survives_the_wire() {
        let message = message();
        assert_eq!(Message::decode(&message.encode(), true), Ok(message));
    }

    #[test]
    fn the_id_travels_with_its_halves_swapped() {
        let message = message();
        assert_eq!(message.encode()[64..72], message.message_id.as_bytes()[8..]);
    }

    #[test]
    fn a_wrong_digest_matters_only_to_the_strict_reader() {
        let mut frame = message().encode().to_vec();
        frame[90] ^= 1;
        let frame = Bytes::from(frame);
        assert!(Message::decode(&frame, false).is_ok());
        assert!(matches!(
            Message::decode(&frame, true),
            Err(FrameError::Invalid(_))
        ));
    }

    #[test]
    fn frames_that_kill_the_official_reader_are_told_from_those_it_drops() {
        let frame = message().encode();
        assert!(matches!(
            Message::decode(&frame.slice(..60), false),
            Err(FrameError::Invalid(_))
        ));
        assert!(matches!(
            Message::decode(&frame.slice(..117), false),
            Err(FrameError::Fatal(_))
        ));
        let mut huge = frame.to_vec();
        huge[..4].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(matches!(
            Message::decode(&Bytes::from(huge), false),
            Err(FrameError::Fatal(_))
        ));
    }
}
