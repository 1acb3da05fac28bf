//! `ops ls`, `ops describe`, `ops pick`, `ops recent`: instances, listed, described, chosen, and
//! those that were used last.

mod columns;
mod describe;
mod document;
mod list;
mod ls;
mod names;
mod paths;
mod pick;
mod recent;
mod sort;
mod watch;

/// What this crate brings.
pub static COMMANDS: [ops_core::Entry; 4] = [
    ops_core::Entry::of::<ls::Ls>(),
    ops_core::Entry::of::<describe::Describe>(),
    ops_core::Entry::of::<pick::Pick>(),
    ops_core::Entry::of::<recent::Recent>(),
];
