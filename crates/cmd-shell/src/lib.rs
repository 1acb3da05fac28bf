//! `ops shell`: an interactive shell on an instance.

mod parameters;
mod shell;
mod start;

use ops_core::Entry;

pub use shell::Shell;

/// What this crate brings.
pub static COMMANDS: [Entry; 1] = [Entry::of::<Shell>()];
