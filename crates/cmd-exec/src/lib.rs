//! `ops exec`: a command on one server or on many.

mod capture;
mod exec;
mod fleet;
mod hosts;
mod input;
mod lines;
mod many;
mod on_terminal;
mod options;
mod outcome;
mod progress;
mod request;
mod rollout;
mod show;
mod signals;
mod single;
mod words;

use ops_core::Entry;

pub use exec::Exec;

/// What this crate brings.
pub const COMMANDS: &[Entry] = &[Entry::of::<Exec>()];
