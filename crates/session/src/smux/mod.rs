//! smux version 1, the multiplexer inside a port session: many TCP connections over one ordered
//! byte stream.
//!
//! The payloads of all `Output` messages of one direction, joined in sequence order, are one stream
//! of smux frames; where a message ends says nothing about where a frame ends. Everything here is
//! sans-IO: bytes go in with `handle_input`, bytes come out of `poll_transmit`, and what happened
//! comes out of `poll_event`. [`Client`] opens streams, [`Server`] is the far end (an agent) and
//! accepts them.
//!
//! Version 1 has no window per stream. The receiver of [`Server`] has one budget for all of its
//! streams ([`RECEIVE_BUDGET_BYTES`]) and reads nothing at all while that is spent; a `FIN` is a
//! full close, in both directions, and there is no reset. Source: smux (xtaci) as the official
//! client and agent vendor it; pinned by bytes of those programs.

mod client;
mod frame;
mod scheduler;
mod server;

pub use client::{Client, KEEP_ALIVE_INTERVAL};
pub use frame::{Command, Decoder, HEADER_LEN, Item, MAX_SEND_PAYLOAD_BYTES, encode_header};
pub use server::{ACCEPT_BACKLOG, RECEIVE_BUDGET_BYTES, Server};

use bytes::Bytes;

/// Names one stream of a session; chosen by the client, odd, never used twice.
pub type StreamId = u32;

/// Why a session of the multiplexer cannot go on. Every one of these is fatal for all of its
/// streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SmuxError {
    /// The first byte of a header was not 1; the stream cannot be resynchronised.
    #[error("smux version {0} where 1 was expected")]
    Version(u8),
    /// A command this version does not know.
    #[error("unknown smux command {0}")]
    Command(u8),
    /// A length that the command cannot have: only data frames have a body.
    #[error("smux command {command} with a length of {length} bytes")]
    Length {
        /// The command byte of the header.
        command: u8,
        /// The length field of the header.
        length: u16,
    },
    /// The carrier ended inside a frame.
    #[error("the carrier ended inside a smux frame")]
    Truncated,
    /// Every stream id has been used; a new session is needed.
    #[error("all stream ids of this session have been used")]
    IdsExhausted,
}

/// What the far end did, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A new stream; only a [`Server`] reports it.
    Opened(StreamId),
    /// Bytes of one stream. A frame may arrive as several of these.
    Data(StreamId, Bytes),
    /// The far end closed the stream: nothing more will come, and nothing more that is written will
    /// be read there.
    Finished(StreamId),
    /// As `Finished`, because the agent could not connect to the destination; only a [`Client`]
    /// reports it.
    Refused(StreamId),
}

#[cfg(test)]
mod tests;
