//! `ops ls`, `ops describe`, `ops pick`: instances, listed, described and chosen.

mod columns;
mod describe;
mod document;
mod list;
mod ls;
mod names;
mod paths;
mod pick;
mod sort;
mod watch;

/// What this crate brings.
pub static COMMANDS: [ops_core::Entry; 3] = [
    ops_core::Entry::of::<ls::Ls>(),
    ops_core::Entry::of::<describe::Describe>(),
    ops_core::Entry::of::<pick::Pick>(),
];
