//! `ops forward`: ports of and behind an instance, on this machine.
//!
//! # Memory
//!
//! What one process holds at most, whatever its connections do: for each destination 2 MiB of
//! unacknowledged input, shared by its sessions; for each session 64 KiB of queued input, 256 KiB
//! of queued output and 128 KiB of socket buffers in the driver, 0.7 MiB in the multiplexer; for
//! each connection 16 KiB of a write under way here, and in the multiplexer 16 KiB for its reader
//! and 8 KiB for the agent. With the default of 4 sessions and 100 connections that is 6.6 MiB +
//! 3.9 MiB, all of it only when every buffer is full at once. There are 8,160 connections at most,
//! and fewer where the system allows fewer descriptors.

mod background;
mod child;
mod control;
mod forward;
mod holder;
mod local;
mod meter;
mod peer;
mod plan;
mod pool;
mod pump;
mod run;
mod screen;
mod socks;
mod spec;
mod status;
mod tunnel;

use ops_core::Entry;

pub use forward::Forward;

/// For `tests/fuzzing` alone.
#[doc(hidden)]
pub mod fuzzing {
    /// Parses ports as they are typed.
    pub fn spec(text: &str) {
        let _ = text.parse::<crate::spec::Spec>();
        let _ = crate::spec::parse_listen(text);
    }
}

/// What this crate brings.
pub static COMMANDS: [Entry; 1] = [Entry::of::<Forward>()];
