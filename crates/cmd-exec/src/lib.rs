//! `ops exec` and `ops logs`: a command on one server or on many, and what their logs say.

mod capture;
mod exec;
mod fleet;
mod hosts;
mod input;
mod lines;
mod logs;
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
pub use logs::Logs;

/// What this crate brings.
pub static COMMANDS: [Entry; 2] = [Entry::of::<Exec>(), Entry::of::<Logs>()];
