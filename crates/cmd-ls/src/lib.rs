//! `ops ls`: list instances.

mod columns;
mod document;
mod list;
mod ls;
mod names;
mod sort;
mod watch;

/// What this crate brings.
pub const COMMANDS: &[ops_core::Entry] = &[ops_core::Entry::of::<ls::Ls>()];
