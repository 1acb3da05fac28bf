//! What a channel is made with.

use std::time::Duration;

use crate::congestion::{Controller, Fixed};
use crate::handshake::DEFAULT_CLIENT_VERSION;
use crate::wire::OFFICIAL_PAYLOAD_BYTES;

/// Whether the agent begins with a handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expect {
    /// It must: port sessions and commands without terminal.
    Handshake,
    /// It may (encryption), or its first output says that there is none.
    #[default]
    MaybePlain,
}

/// What a channel is made with.
#[derive(Debug)]
pub struct Config {
    /// Unix milliseconds of time zero, for the dates in messages.
    pub origin_ms: u64,
    /// Where message ids start from. Two channels must not share it.
    pub seed: u128,
    /// Whether to wait for a handshake.
    pub expect: Expect,
    /// The version announced in the handshake.
    pub client_version: String,
    /// Most messages between the oldest unacknowledged and the newest. The next ones wait, none is
    /// dropped.
    pub unacked_messages: usize,
    /// Largest input payload to try, in bytes; above 1,024 the far end is asked first.
    pub max_payload: usize,
    /// The window of bytes in flight.
    pub controller: Box<dyn Controller>,
    /// Fails when nothing came from the agent for this long while one message stays
    /// unacknowledged on a healthy socket.
    pub give_up_after: Duration,
    /// Input waits so long after HandshakeComplete. The official agent sends that message
    /// first and begins to use input then; what comes in between it acknowledges and throws away.
    pub settle_after_handshake: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            origin_ms: 1,
            seed: 1,
            expect: Expect::default(),
            client_version: DEFAULT_CLIENT_VERSION.to_owned(),
            unacked_messages: 4000,
            max_payload: OFFICIAL_PAYLOAD_BYTES,
            controller: Box::<Fixed>::default(),
            give_up_after: Duration::from_secs(300),
            settle_after_handshake: Duration::ZERO,
        }
    }
}
