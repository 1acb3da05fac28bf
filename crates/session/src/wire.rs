//! The binary message of the data channel: header, payload types, and the JSON bodies of
//! acknowledgements and closes.
//!
//! Every web socket message after the opening one is one of these, big-endian:
//! 116 bytes of header, a `u32` payload length, the payload.

use std::borrow::Cow;
use std::fmt;

use aws_lc_rs::digest;
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Bytes before the payload: the header and the payload length.
pub const HEADER_LEN: usize = 120;
/// The only value of the HeaderLength field in use; it does not count the payload length's own four
/// bytes.
pub const HEADER_LENGTH_FIELD: u32 = 116;
/// Largest payload accepted from the far end, in bytes. Official programs send about 1 KiB;
/// handshakes are a few KiB.
pub const MAX_PAYLOAD_BYTES: usize = 1 << 20;
/// Largest payload the official programs send in one message, in bytes.
pub const OFFICIAL_PAYLOAD_BYTES: usize = 1024;
/// Flag bit of the first message of a stream. Receivers ignore it.
pub const FLAG_SYN: u64 = 1;
/// Flags that both official programs put on acknowledgements (SYN and FIN).
pub const FLAGS_ACKNOWLEDGE: u64 = 3;

const TYPE_LEN: usize = 32;

/// The MessageType field of a message.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageType {
    /// Client to agent; carries a sequence number and is acknowledged.
    InputStreamData,
    /// Agent to client; carries a sequence number and is acknowledged.
    OutputStreamData,
    /// Names one received stream-data message.
    Acknowledge,
    /// The session is over.
    ChannelClosed,
    /// The other end is attached.
    StartPublication,
    /// The other end is not attached.
    PausePublication,
    /// Agent to service only.
    AgentSessionState,
    /// A type this version does not know, padding included.
    Other([u8; TYPE_LEN]),
}

impl MessageType {
    /// The name on the wire, without padding. Unknown names that are not UTF-8 are replaced as
    /// `from_utf8_lossy` does.
    pub fn name(&self) -> Cow<'_, str> {
        Cow::Borrowed(match self {
            Self::InputStreamData => "input_stream_data",
            Self::OutputStreamData => "output_stream_data",
            Self::Acknowledge => "acknowledge",
            Self::ChannelClosed => "channel_closed",
            Self::StartPublication => "start_publication",
            Self::PausePublication => "pause_publication",
            Self::AgentSessionState => "agent_session_state",
            Self::Other(raw) => return String::from_utf8_lossy(trim(raw)),
        })
    }

    /// Whether messages of this type are numbered, ordered and acknowledged.
    pub const fn is_stream_data(&self) -> bool {
        matches!(self, Self::InputStreamData | Self::OutputStreamData)
    }

    fn parse(raw: &[u8; TYPE_LEN]) -> Option<Self> {
        Some(match trim(raw) {
            b"" => return None,
            b"input_stream_data" => Self::InputStreamData,
            b"output_stream_data" => Self::OutputStreamData,
            b"acknowledge" => Self::Acknowledge,
            b"channel_closed" => Self::ChannelClosed,
            b"start_publication" => Self::StartPublication,
            b"pause_publication" => Self::PausePublication,
            b"agent_session_state" => Self::AgentSessionState,
            _ => Self::Other(*raw),
        })
    }
}

impl fmt::Debug for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// The PayloadType field of stream data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PayloadType {
    /// 0: acknowledgements and the service's own messages.
    None,
    /// 1: bytes of the terminal, the command or the tunnel, both ways.
    Output,
    /// 2: text; no current agent sends it.
    Error,
    /// 3: terminal size as JSON, input only.
    Size,
    /// 5: first message of a handshake.
    HandshakeRequest,
    /// 6: the client's answer.
    HandshakeResponse,
    /// 7: the handshake is over.
    HandshakeComplete,
    /// 8: proof of the encryption key, asked.
    EncryptionChallengeRequest,
    /// 9: proof of the encryption key, given.
    EncryptionChallengeResponse,
    /// 10: a [`Flag`], four bytes big-endian.
    Flag,
    /// 11: standard error of a command, output only.
    StdErr,
    /// 12: `EXIT_CODE: n`, output only.
    ExitCode,
    /// Anything else.
    Other(u32),
}

impl From<u32> for PayloadType {
    fn from(n: u32) -> Self {
        match n {
            0 => Self::None,
            1 => Self::Output,
            2 => Self::Error,
            3 => Self::Size,
            5 => Self::HandshakeRequest,
            6 => Self::HandshakeResponse,
            7 => Self::HandshakeComplete,
            8 => Self::EncryptionChallengeRequest,
            9 => Self::EncryptionChallengeResponse,
            10 => Self::Flag,
            11 => Self::StdErr,
            12 => Self::ExitCode,
            n => Self::Other(n),
        }
    }
}

impl From<PayloadType> for u32 {
    fn from(t: PayloadType) -> Self {
        match t {
            PayloadType::None => 0,
            PayloadType::Output => 1,
            PayloadType::Error => 2,
            PayloadType::Size => 3,
            PayloadType::HandshakeRequest => 5,
            PayloadType::HandshakeResponse => 6,
            PayloadType::HandshakeComplete => 7,
            PayloadType::EncryptionChallengeRequest => 8,
            PayloadType::EncryptionChallengeResponse => 9,
            PayloadType::Flag => 10,
            PayloadType::StdErr => 11,
            PayloadType::ExitCode => 12,
            PayloadType::Other(n) => n,
        }
    }
}

/// Value of a payload of type 10.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flag {
    /// 1: the local connection ended (port sessions without mux).
    DisconnectToPort,
    /// 2: end the session now (any port session).
    TerminateSession,
    /// 3: from the agent: the destination could not be dialled.
    ConnectToPortError,
    /// Anything else.
    Other(u32),
}

impl Flag {
    /// The payload: four bytes, big-endian.
    pub fn payload(self) -> Bytes {
        Bytes::copy_from_slice(&u32::from(self).to_be_bytes())
    }

    /// Reads a payload; `None` unless it has exactly four bytes.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        Some(u32::from_be_bytes(payload.try_into().ok()?).into())
    }
}

impl From<u32> for Flag {
    fn from(n: u32) -> Self {
        match n {
            1 => Self::DisconnectToPort,
            2 => Self::TerminateSession,
            3 => Self::ConnectToPortError,
            n => Self::Other(n),
        }
    }
}

impl From<Flag> for u32 {
    fn from(flag: Flag) -> Self {
        match flag {
            Flag::DisconnectToPort => 1,
            Flag::TerminateSession => 2,
            Flag::ConnectToPortError => 3,
            Flag::Other(n) => n,
        }
    }
}

/// Why a frame is not a message. Such frames are dropped without an acknowledgement; the channel
/// goes on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Shorter than a header.
    #[error("frame of {0} bytes is shorter than a header")]
    Truncated(usize),
    /// The HeaderLength field is not 116.
    #[error("header length is {0}, not 116")]
    HeaderLength(u32),
    /// The MessageType field is blank.
    #[error("message type is missing")]
    MissingType,
    /// The CreatedDate field is zero.
    #[error("created date is missing")]
    MissingDate,
    /// PayloadLength and the bytes present differ.
    #[error("payload length says {stated} bytes, {present} are there")]
    PayloadLength {
        /// What the field says, in bytes.
        stated: u32,
        /// What follows the header, in bytes.
        present: usize,
    },
    /// Payload above [`MAX_PAYLOAD_BYTES`].
    #[error("payload of {0} bytes is too large")]
    TooLarge(usize),
    /// SHA-256 of the payload differs from the header.
    #[error("payload digest does not match")]
    Digest,
    /// An acknowledgement's JSON could not be read.
    #[error("acknowledgement cannot be read")]
    Acknowledge,
}

/// What a message carries beside its payload, digest and lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// MessageType.
    pub message_type: MessageType,
    /// SchemaVersion, 1.
    pub schema_version: u32,
    /// Unix milliseconds; zero is invalid.
    pub created_ms: u64,
    /// Position in its direction's stream; 0 where it has no meaning.
    pub sequence_number: i64,
    /// Bits without meaning to receivers.
    pub flags: u64,
    /// UUID in its usual form; its halves are swapped on the wire.
    pub message_id: Uuid,
    /// PayloadType.
    pub payload_type: PayloadType,
}

/// A decoded message; the payload borrows from the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Everything before the payload.
    pub header: Header,
    /// SHA-256 as the header states it.
    pub digest: [u8; 32],
    /// The payload as it was on the wire.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// Decodes one message strictly, as a client should.
    ///
    /// `frame` is a whole web socket message. Nothing is copied or allocated. `start_publication`
    /// and `pause_publication` pass whatever their date, length and digest, because the service
    /// sends them bare.
    pub fn decode(frame: &'a [u8]) -> Result<Self, WireError> {
        let message = Self::decode_unverified(frame)?;
        if !message.is_publication()
            && digest::digest(&digest::SHA256, message.payload).as_ref() != message.digest
        {
            return Err(WireError::Digest);
        }
        Ok(message)
    }

    /// Decodes one message without checking its digest, as the official agent does. Lengths are
    /// checked all the same.
    pub fn decode_unverified(frame: &'a [u8]) -> Result<Self, WireError> {
        let Some((head, payload)) = frame.split_at_checked(HEADER_LEN) else {
            return Err(WireError::Truncated(frame.len()));
        };
        let header_length = u32_at(head, 0);
        if header_length != HEADER_LENGTH_FIELD {
            return Err(WireError::HeaderLength(header_length));
        }
        let message_type = MessageType::parse(&array_at(head, 4)).ok_or(WireError::MissingType)?;
        let swapped: [u8; 16] = array_at(head, 64);
        let mut id = [0; 16];
        id[..8].copy_from_slice(&swapped[8..]);
        id[8..].copy_from_slice(&swapped[..8]);
        let message = Self {
            header: Header {
                message_type,
                schema_version: u32_at(head, 36),
                created_ms: u64::from_be_bytes(array_at(head, 40)),
                sequence_number: i64::from_be_bytes(array_at(head, 48)),
                flags: u64::from_be_bytes(array_at(head, 56)),
                message_id: Uuid::from_bytes(id),
                payload_type: u32_at(head, 112).into(),
            },
            digest: array_at(head, 80),
            payload,
        };
        if message.is_publication() {
            return Ok(message);
        }
        if message.header.created_ms == 0 {
            return Err(WireError::MissingDate);
        }
        let stated = u32_at(head, 116);
        if usize::try_from(stated).ok() != Some(payload.len()) {
            return Err(WireError::PayloadLength {
                stated,
                present: payload.len(),
            });
        }
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(WireError::TooLarge(payload.len()));
        }
        Ok(message)
    }

    const fn is_publication(&self) -> bool {
        matches!(
            self.header.message_type,
            MessageType::StartPublication | MessageType::PausePublication
        )
    }
}

impl Header {
    /// Writes a whole message to the end of `out`: this header, the payload's digest and length,
    /// the payload.
    pub fn encode_into(&self, payload: &[u8], out: &mut BytesMut) {
        out.reserve(HEADER_LEN + payload.len());
        self.encode_with(out, |out| out.put_slice(payload));
    }

    /// Like [`Header::encode_into`] for a payload that `write` appends piece by piece, so that
    /// nothing is copied twice.
    pub fn encode_with(&self, out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
        let name;
        let type_bytes: &[u8] = match &self.message_type {
            MessageType::Other(raw) => raw,
            known => {
                name = known.name();
                name.as_bytes()
            }
        };
        let mut padded = [b' '; TYPE_LEN];
        padded[..type_bytes.len()].copy_from_slice(type_bytes);
        let id = self.message_id.as_bytes();

        let start = out.len();
        out.put_u32(HEADER_LENGTH_FIELD);
        out.put_slice(&padded);
        out.put_u32(self.schema_version);
        out.put_u64(self.created_ms);
        out.put_i64(self.sequence_number);
        out.put_u64(self.flags);
        out.put_slice(&id[8..]);
        out.put_slice(&id[..8]);
        out.put_bytes(0, 32);
        out.put_u32(self.payload_type.into());
        out.put_u32(0);
        write(out);
        let (head, payload) = out[start..].split_at_mut(HEADER_LEN);
        head[80..112].copy_from_slice(digest::digest(&digest::SHA256, payload).as_ref());
        // Payloads come in chunks far below 4 GiB; a caller that passes more gets a message every
        // reader refuses.
        head[116..120].copy_from_slice(
            &u32::try_from(payload.len())
                .unwrap_or(u32::MAX)
                .to_be_bytes(),
        );
    }

    /// [`Header::encode_into`] a buffer of its own.
    pub fn encode(&self, payload: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(HEADER_LEN + payload.len());
        self.encode_into(payload, &mut out);
        out.freeze()
    }
}

/// Body of an `acknowledge` message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledge {
    /// Type of the message acknowledged.
    pub message_type: MessageType,
    /// Its id.
    pub message_id: Uuid,
    /// Its number.
    pub sequence_number: i64,
}

impl Acknowledge {
    /// The JSON body, keys and order as the official programs write them.
    pub fn payload_into(&self, out: &mut BytesMut) {
        let mut id = Uuid::encode_buffer();
        let mut digits = [0; 20];
        out.reserve(190);
        out.put_slice(b"{\"AcknowledgedMessageType\":\"");
        out.put_slice(self.message_type.name().as_bytes());
        out.put_slice(b"\",\"AcknowledgedMessageId\":\"");
        out.put_slice(
            self.message_id
                .hyphenated()
                .encode_lower(&mut id)
                .as_bytes(),
        );
        out.put_slice(b"\",\"AcknowledgedMessageSequenceNumber\":");
        out.put_slice(decimal(self.sequence_number, &mut digits));
        out.put_slice(b",\"IsSequentialMessage\":true}");
    }

    /// The number an acknowledgement's body names. Keys are matched without regard to case, as Go
    /// does; the rest is not looked at.
    pub fn parse_sequence_number(payload: &[u8]) -> Result<i64, WireError> {
        const KEY: &[u8] = b"\"AcknowledgedMessageSequenceNumber\":";
        // The official programs write no spaces, so the common case is a search for the key and a
        // few digits.
        if let Some(at) = payload.windows(KEY.len()).position(|window| window == KEY) {
            let digits = &payload[at + KEY.len()..];
            let end = digits
                .iter()
                .position(|b| !b.is_ascii_digit())
                .unwrap_or(digits.len());
            if (1..=18).contains(&end) && matches!(digits.get(end), Some(b',' | b'}')) {
                return Ok(digits[..end]
                    .iter()
                    .fold(0, |n, digit| n * 10 + i64::from(digit - b'0')));
            }
        }
        let body: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(payload).map_err(|_| WireError::Acknowledge)?;
        lookup(&body, "AcknowledgedMessageSequenceNumber")
            .and_then(serde_json::Value::as_i64)
            .ok_or(WireError::Acknowledge)
    }
}

/// Body of a `channel_closed` message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ChannelClosed {
    /// Id of this message.
    pub message_id: String,
    /// A date as text; never parsed.
    pub created_date: String,
    /// The client's id.
    pub destination_id: String,
    /// The session that ended.
    pub session_id: String,
    /// `channel_closed`.
    pub message_type: String,
    /// 1.
    pub schema_version: i64,
    /// Why it ended; empty after an ordinary end.
    pub output: String,
}

impl ChannelClosed {
    /// Reads the body. Every key is optional; a body that is not JSON is taken as the text itself.
    pub fn parse(payload: &[u8]) -> Self {
        let Ok(body) =
            serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(payload)
        else {
            return Self {
                output: String::from_utf8_lossy(payload).into_owned(),
                ..Self::default()
            };
        };
        let text = |key| {
            lookup(&body, key)
                .and_then(|v| v.as_str())
                .unwrap_or_default()
                .to_owned()
        };
        Self {
            message_id: text("MessageId"),
            created_date: text("CreatedDate"),
            destination_id: text("DestinationId"),
            session_id: text("SessionId"),
            message_type: text("MessageType"),
            schema_version: lookup(&body, "SchemaVersion")
                .and_then(serde_json::Value::as_i64)
                .unwrap_or_default(),
            output: text("Output"),
        }
    }

    /// The JSON body.
    pub fn payload(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

/// The text frame that opens a data channel. It holds the token, so it has no `Debug`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct OpenDataChannel<'a> {
    /// `1.0`.
    pub message_schema_version: Cow<'a, str>,
    /// A UUID, fresh for every opening.
    pub request_id: Cow<'a, str>,
    /// The token of StartSession or ResumeSession.
    pub token_value: Cow<'a, str>,
    /// A UUID kept as long as the session, across reconnects. Absent from very small clients.
    #[serde(default)]
    pub client_id: Cow<'a, str>,
    /// The version announced in the handshake too.
    #[serde(default)]
    pub client_version: Cow<'a, str>,
}

impl<'a> OpenDataChannel<'a> {
    /// The frame's text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads the frame's text; for the far end's use.
    pub fn from_json(text: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

/// The payload of type 3. Zero columns or rows are never sent, so they become 1.
pub fn size_payload(cols: u32, rows: u32) -> Bytes {
    format!("{{\"cols\":{},\"rows\":{}}}", cols.max(1), rows.max(1)).into()
}

/// Reads a payload of type 3: columns, rows.
pub fn parse_size(payload: &[u8]) -> Option<(u32, u32)> {
    let body: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(payload).ok()?;
    let number = |key| {
        lookup(&body, key)?
            .as_u64()
            .and_then(|n| u32::try_from(n).ok())
    };
    Some((number("cols")?, number("rows")?))
}

/// Reads a payload of type 12: `EXIT_CODE: n`, or a bare number.
pub fn parse_exit_code(payload: &[u8]) -> Option<i32> {
    let text = std::str::from_utf8(payload).ok()?.trim();
    text.strip_prefix("EXIT_CODE:")
        .unwrap_or(text)
        .trim()
        .parse()
        .ok()
}

/// The payload of type 12.
pub fn exit_code_payload(code: i32) -> Bytes {
    format!("EXIT_CODE: {code}").into()
}

/// Go matches JSON keys without regard to case, exact ones first.
pub(crate) fn lookup<'v>(
    body: &'v serde_json::Map<String, serde_json::Value>,
    key: &str,
) -> Option<&'v serde_json::Value> {
    body.get(key).or_else(|| {
        body.iter()
            .find(|(k, _)| k.eq_ignore_ascii_case(key))
            .map(|(_, v)| v)
    })
}

fn trim(raw: &[u8]) -> &[u8] {
    let nul = |b: &u8| *b == 0;
    let start = raw.iter().position(|b| !nul(b)).unwrap_or(raw.len());
    let end = raw.iter().rposition(|b| !nul(b)).map_or(start, |i| i + 1);
    raw[start..end].trim_ascii()
}

/// `at` and `N` are constants inside a header of [`HEADER_LEN`] bytes.
fn array_at<const N: usize>(head: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&head[at..at + N]);
    array
}

fn u32_at(head: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array_at(head, at))
}

fn decimal(n: i64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    let mut rest = n.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if n < 0 {
        at -= 1;
        digits[at] = b'-';
    }
    &digits[at..]
}
