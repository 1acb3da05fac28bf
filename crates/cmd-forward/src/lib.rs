//! `ops forward`: ports of and behind an instance, on this machine.
//!
//! # Memory
//!
//! What one process holds at most, whatever its connections do: for each session 1 MiB of unacknowledged input, 64 KiB of queued
//! input and 256 KiB of queued output in the driver, 1.25 MiB in the multiplexer; for each connection 32 KiB of buffers here, and in
//! the multiplexer 32 KiB for its reader and 64 KiB for the agent. With the default of 4 sessions and 100 connections that is
//! 10.3 MiB + 12.5 MiB, all of it only when every buffer is full at once.

mod background;
mod child;
mod control;
mod forward;
mod holder;
mod local;
mod meter;
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

/// What this crate brings.
pub const COMMANDS: &[Entry] = &[Entry::of::<Forward>()];
