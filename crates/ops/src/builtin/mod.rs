//! The commands that are no capability of their own.

mod cache;
mod completion;
mod config;
mod linked_libc;
pub(crate) mod man;
mod plugin;
#[cfg(feature = "sandbox")]
mod sandbox;
mod version;

use ops_core::Entry;

/// In the order of help.
pub(crate) static COMMANDS: &[Entry] = &[
    Entry::of::<config::Config>(),
    #[cfg(feature = "sandbox")]
    Entry::of::<sandbox::SandboxCommand>(),
    Entry::of::<plugin::Plugins>(),
    Entry::of::<completion::Completion>(),
    Entry::of::<man::Manual>(),
    Entry::of::<cache::Cache>(),
    Entry::of::<version::Version>(),
];
