//! The few messages that the gateway itself writes, and what it must know of those that pass
//! through.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use bytes::{BufMut as _, Bytes, BytesMut};
use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

const HEADER_LENGTH: u32 = 116;
/// Where the payload starts.
pub(super) const PAYLOAD_OFFSET: usize = 120;
/// Both flags, as on every message that is no stream data.
const SYN_AND_FIN: u64 = 3;

pub(super) fn start_publication() -> Bytes {
    encode("start_publication", b"{}")
}

/// The same as the service may send it: no date, no digest, no payload.
pub(super) fn bare_start_publication() -> Bytes {
    let mut frame = BytesMut::from(&start_publication()[..PAYLOAD_OFFSET]);
    frame[40..].fill(0);
    frame.freeze()
}

pub(super) fn pause_publication() -> Bytes {
    encode("pause_publication", b"{}")
}

/// The end of a session, with the text that the client shows.
pub(super) fn channel_closed(session_id: &str, destination_id: &str, output: &str) -> Bytes {
    let body = json!({
        "CreatedDate": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string(),
        "DestinationId": destination_id,
        "MessageId": Uuid::new_v4().to_string(),
        "MessageType": "channel_closed",
        "Output": output,
        "SchemaVersion": 1,
        "SessionId": session_id,
    });
    encode("channel_closed", body.to_string().as_bytes())
}

/// A message of a type that nobody knows.
pub(super) fn unknown() -> Bytes {
    encode("sandbox_surprise", b"{\"hello\":\"there\"}")
}

/// The message type of a frame, if it is long enough to have one.
pub(super) fn message_type(frame: &[u8]) -> Option<&[u8]> {
    let name = frame.get(4..36)?;
    let len = name
        .iter()
        .rposition(|byte| !matches!(byte, b' ' | 0))
        .map_or(0, |last| last + 1);
    Some(&name[..len])
}

pub(super) fn is_stream_data(frame: &[u8]) -> bool {
    matches!(
        message_type(frame),
        Some(b"input_stream_data" | b"output_stream_data")
    )
}

pub(super) fn is_acknowledge(frame: &[u8]) -> bool {
    message_type(frame) == Some(b"acknowledge")
}

fn encode(message_type: &str, payload: &[u8]) -> Bytes {
    let created_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| u64::try_from(since.as_millis()).ok())
        .unwrap_or(1);
    let mut frame = BytesMut::with_capacity(HEADER_LENGTH as usize + 4 + payload.len());
    frame.put_u32(HEADER_LENGTH);
    frame.put_slice(message_type.as_bytes());
    frame.put_bytes(b' ', 32 - message_type.len());
    frame.put_u32(1);
    frame.put_u64(created_ms);
    frame.put_i64(0);
    frame.put_u64(SYN_AND_FIN);
    let id = Uuid::new_v4().into_bytes();
    frame.put_slice(&id[8..]);
    frame.put_slice(&id[..8]);
    frame.put_slice(digest::digest(&digest::SHA256, payload).as_ref());
    frame.put_u32(0);
    frame.put_u32(u32::try_from(payload.len()).unwrap_or(0));
    frame.put_slice(payload);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channel_closed_is_a_whole_message() {
        let frame = channel_closed("s-1", "i-1", "bye");
        assert_eq!(message_type(&frame), Some(b"channel_closed".as_slice()));
        assert_eq!(frame[..4], 116_u32.to_be_bytes());
        let body: serde_json::Value = serde_json::from_slice(&frame[120..]).unwrap();
        assert_eq!(body["Output"], "bye");
        assert_eq!(body["SessionId"], "s-1");
        assert!(!is_stream_data(&frame));
    }
}
