//! What a channel tells its owner.

use std::time::Duration;

use bytes::Bytes;

use crate::encryption::DataKeyRequest;
use crate::handshake::Ready;
use crate::wire::PayloadType;

/// What the channel tells its owner.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The session is to be encrypted, and needs a data key:
    /// [`super::DataChannel::provide_data_key`] or [`super::DataChannel::refuse_data_key`] follows.
    /// The agent waits 15 s for it.
    DataKeyWanted(DataKeyRequest),
    /// The session can be used. Comes once, before any data.
    Ready(Ready),
    /// A payload, in order. Never empty.
    Data {
        /// Output, Size, Flag, …; handshake types never.
        payload_type: PayloadType,
        /// Borrowed from the frame it came in.
        payload: Bytes,
    },
    /// The service says whether the far end is attached.
    Publication {
        /// `false`: what is sent now is not received by anyone.
        attached: bool,
    },
    /// The agent owes an acknowledgement and has said nothing for this long.
    Silent(Duration),
    /// It speaks again.
    Back,
    /// The connection was lost while the probe for large payloads was on its way. They are not used
    /// in this session.
    ProbeLost,
    /// The session is over; nothing is sent or taken any more.
    Closed {
        /// The service's text; empty after an ordinary end.
        output: String,
    },
    /// The session cannot go on. What is still to be sent should be sent, then the session ended.
    Failed(ChannelError),
}

/// Why a session cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// The session must be encrypted, and its owner has no data key for it.
    #[error("no data key of the KMS key `{key_id}` could be had: {reason}")]
    NoDataKey {
        /// Id or ARN of the KMS key.
        key_id: String,
        /// Why, for people.
        reason: String,
    },
    /// The agent demanded encryption, and then went on without it.
    #[error("the agent demanded encryption and went on without having shown that it holds the key")]
    KeyRoundSkipped,
    /// What came was not sealed with the session's key, or was changed on its way.
    #[error(
        "what came could not be decrypted: it was changed on its way, or the agent holds another key"
    )]
    Undecryptable,
    /// A ciphertext came again as a message of its own.
    #[error("an encrypted message came a second time under another number")]
    RepeatedCiphertext,
    /// The handshake names a session type nobody here serves.
    #[error("the agent started a session of unknown type `{0}`")]
    UnknownSessionType(String),
    /// The handshake asks for something nobody here can do.
    #[error("the agent asks for the unknown action `{0}`")]
    UnknownAction(String),
    /// A handshake message is not what it should be.
    #[error("the handshake cannot be read")]
    MalformedHandshake,
    /// No stream data at all.
    #[error("nothing came from the agent within {} s", .0.as_secs())]
    NoAnswer(Duration),
    /// The handshake began and did not end.
    #[error("the handshake did not end within {} s", .0.as_secs())]
    HandshakeTimedOut(Duration),
    /// One message stayed unacknowledged.
    #[error("the agent acknowledged nothing for {} s", .0.as_secs())]
    GaveUp(Duration),
    /// One large payload was on its way each of the times that the connection was lost. Cut smaller
    /// it could arrive twice, so the session cannot go on.
    #[error(
        "the connection was lost twice while the same {payload_bytes} bytes were on their way: payloads of that size do not get through"
    )]
    LargePayloadLost {
        /// Of the payload.
        payload_bytes: usize,
    },
}

/// Counters for diagnostics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Payload bytes delivered.
    pub bytes_in: u64,
    /// Payload bytes numbered and sent, each counted once.
    pub bytes_out: u64,
    /// Messages that the far end has acknowledged.
    pub acked_messages: u64,
    /// Messages sent again.
    pub retransmitted: u64,
    /// Messages received again.
    pub duplicates: u64,
    /// Frames dropped because they were malformed or of an unknown type.
    pub ignored: u64,
    /// Messages sent and not acknowledged.
    pub unacked_messages: usize,
    /// Smoothed round-trip time, which begins with the official programs' guess of 100 ms.
    pub rtt: Duration,
    /// The shortest round trip that was measured on the present connection.
    pub shortest_rtt: Option<Duration>,
}
