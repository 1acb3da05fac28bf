//! `ops console`: the way to the AWS console. `ops wait`: waiting until a server can be used.

mod console;
mod handover;
mod page;
mod socket_owner;
mod wait;

use ops_core::Entry;

pub use console::Console;
pub use wait::Wait;

/// What this crate brings.
pub static COMMANDS: [Entry; 2] = [Entry::of::<Console>(), Entry::of::<Wait>()];
