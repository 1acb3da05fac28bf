//! `ops doctor`: why a server cannot be reached, in one command.

mod bundle;
mod doctor;
mod finding;
mod machine;
mod report;
mod server;
mod session;
mod stand_ins;

use ops_core::Entry;

pub use doctor::Doctor;

/// What this crate brings.
pub static COMMANDS: [Entry; 1] = [Entry::of::<Doctor>()];
