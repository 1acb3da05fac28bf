//! The AWS Session Manager data channel: a protocol core without I/O, and a thin tokio driver
//! around it.
//!
//! StartSession returns a stream URL and a token. A web socket opened with them leads, through the
//! service, to the agent on the instance. This crate speaks what goes over that socket; it makes no
//! AWS calls and knows nothing of terminals or ports.
//!
//! # A session, message by message
//!
//! ```text
//!  client                               service                              agent
//!    | text frame: token, ids ------------> |                                   |
//!    | <---------- HandshakeRequest 0 ------|-----------------------------------|  port sessions and commands;
//!    | acknowledge 0 -----------------------|---------------------------------> |  a plain shell begins
//!    | HandshakeResponse 0 -----------------|---------------------------------> |  with its first output
//!    | <---------- HandshakeComplete 1 -----|-----------------------------------|
//!    | Size 1, Output 2, Output 3, … -------|---------------------------------> |  each is acknowledged once,
//!    | <---------- Output 2, StdErr 3, … ---|-----------------------------------|  by its number
//!    | <---------- channel_closed ----------|                                   |
//! ```
//!
//! Each direction counts its messages from 0 for as long as the *session* lasts. When the socket is
//! lost, ResumeSession gives a new token, another socket takes over, and the numbers go on: what
//! was not acknowledged is sent again, so nothing is lost and nothing arrives twice. Only
//! `channel_closed` ends a session; a closed socket does not, and the service closes healthy ones
//! every hour.
//!
//! # Where to look
//!
//! | module | holds |
//! |---|---|
//! | [`wire`] | the binary message: 120 bytes of header, payload types, JSON bodies |
//! | [`handshake`] | its bodies, session types, and what versions of the agent can do |
//! | [`data_channel`] | numbers, order, acknowledgements, repetition: a state machine, the client's end |
//! | [`encryption`] | sealing and opening with the data key of a KMS key |
//! | [`congestion`] | how many bytes the client may have under way |
//! | [`smux`] | many connections inside one port session, both ends |
//! | `driver` (feature) | dialling, proxies, TLS, pings, resumption, bounded queues |
//!
//! Everything but the driver is handed its bytes and its time and hands back bytes and wake-up
//! times. So tests own the clock:
//!
//! ```
//! use std::time::Duration;
//! use ops_session::data_channel::{Config, DataChannel, Event};
//! use ops_session::wire::{Acknowledge, Header, Message, MessageType, PayloadType};
//!
//! let now = Duration::ZERO;
//! let mut channel = DataChannel::new(Config::default(), now);
//!
//! // The first message of an agent, as a web socket brings it.
//! let prompt = Header {
//!     message_type: MessageType::OutputStreamData,
//!     schema_version: 1,
//!     created_ms: 1,
//!     sequence_number: 0,
//!     flags: 1,
//!     message_id: uuid::Uuid::nil(),
//!     payload_type: PayloadType::Output,
//! }
//! .encode(b"$ ");
//! channel.handle_frame(now, &prompt)?;
//! assert!(matches!(channel.poll_event(), Some(Event::Ready(_))));
//! assert!(matches!(channel.poll_event(), Some(Event::Data { payload, .. }) if payload == "$ "));
//! let acknowledgement = channel.poll_transmit(now).unwrap();
//! let body = Message::decode(&acknowledgement)?.payload;
//! assert_eq!(Acknowledge::parse_sequence_number(body)?, 0);
//!
//! // Without an acknowledgement of the agent's, input is sent again 200 ms later.
//! channel.send(PayloadType::Output, "uptime\n");
//! assert!(channel.poll_transmit(now).is_some());
//! assert_eq!(channel.poll_timeout(), Some(Duration::from_millis(200)));
//! # Ok::<(), ops_session::wire::WireError>(())
//! ```
//!
//! The agent's end is no part of this crate: the sandbox has one of its own, and so have the tests
//! (`tests/it/agent.rs`), since two ends written as one would agree on any mistake.
//!
//! # What the client does differently from the official one, and why
//!
//! | here | official client | reason |
//! |---|---|---|
//! | a duplicate is acknowledged again | silence | an acknowledgement lost with a socket would leave the agent repeating its oldest message for ever, and nothing behind that could be repaired |
//! | output is acknowledged when it arrives and queued | only once a handler took it | nothing has to be repeated while a program starts |
//! | when the list of unacknowledged input is full, the sender waits | the oldest is thrown away | a number that never comes hangs the session |
//! | after a reconnect everything unacknowledged goes out at once | one message per 100 ms | a second of bulk data would take a minute and a half to repair |
//! | repeated messages make no round-trip sample, and the timeout may exceed 1 s | both as samples come, 1 s at most | slow links exist |
//! | bytes under way are limited by a window that follows delay and loss ([`congestion`]) | a pause of 1 ms after each 1,024 bytes | faster where the path allows it, and a keystroke beside an upload waits little |
//! | payloads above 1,024 bytes where the agent takes them | never | an eighth of the overhead |
//! | a socket without a sound for 75 s is replaced, one with close code 1000 too | read errors only | sleeping laptops, hourly closes |
//! | the text of newer agents (`Challenge` of their KMS action) goes into the encryption context | ignored | the data key is bound to this one handshake |
//! | a ciphertext that comes again under another number ends an encrypted session | opened again | it would be shown twice |
//!
//! # Large payloads
//!
//! Payloads of 1,024 bytes are what every agent is known to take. A larger one that did not get
//! through could not be cut up afterwards, because its number is used up and its bytes might have
//! arrived. So the first large message is one whose loss does no harm: a *probe* with a small
//! equal, such as a terminal size padded with blanks. Shells send it by themselves before the first
//! bulk input; tunnels name one with
//! [`DataChannel::probe_payload`](data_channel::DataChannel::probe_payload). Only when it is
//! acknowledged do payloads grow; if it is not for two seconds, the small equal takes its number,
//! and payloads stay at 1,024 bytes for the rest of the session.
//!
//! # Memory
//!
//! | what | bound |
//! |---|---|
//! | one received message | 1 MiB |
//! | received ahead of its turn | 10,000 messages, 16 MiB |
//! | acknowledgements waiting for the socket | 20,000 |
//! | unacknowledged input | 4,000 messages, 1 MiB |
//! | events waiting for their reader | `Options::receive_bound`, and at most one turn of 256 KiB and one message more |
//! | input waiting to be numbered | `Options::send_bound` |
//!
//! Whatever comes over the network, nothing panics; what is malformed or unknown is logged, skipped
//! and counted.
#![warn(missing_docs)]

pub mod buffers;
pub mod closing;
pub mod congestion;
pub mod data_channel;
pub mod documents;
#[cfg(feature = "driver")]
pub mod driver;
pub mod encryption;
pub mod handshake;
pub mod smux;
pub mod wire;
