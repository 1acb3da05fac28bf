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
mod planned;
mod progress;
mod request;
mod rollout;
mod run_command;
mod runs;
mod show;
mod signals;
mod single;
mod status_line;
mod words;

use ops_core::Entry;

pub use exec::Exec;
pub use logs::Logs;
pub use runs::Runs;

/// What this crate brings.
pub static COMMANDS: [Entry; 3] = [
    Entry::of::<Exec>(),
    Entry::of::<Logs>(),
    Entry::of::<Runs>(),
];
