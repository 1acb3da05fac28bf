//! `ops cp`: copy files to, from and between servers.
//!
//! The command ([`cp`]) lists, decides what goes where ([`arrive`], [`leave`], [`relay`]) and hands
//! files to a [`transport`], one for each server, chosen in [`via`]. What arrives goes through a
//! [`landing`], what leaves through a [`reading`]; both count in the [`report`].

// Whether a future may change its thread is worked out through all that it waits for, down to the
// HTTP client.
#![recursion_limit = "256"]

mod arrive;
mod budget;
mod clashes;
pub mod complete;
mod cp;
mod disk_guard;
mod existing;
mod goal;
mod hashes;
mod item;
mod landing;
mod lanes;
mod leave;
mod links;
mod local;
mod made;
mod names;
mod options;
mod pace;
mod place;
mod progress;
mod reading;
mod relay;
mod remote_path;
mod report;
mod s3;
mod screen;
mod session;
mod sftp;
mod summary;
mod transport;
mod transport_options;
mod via;
mod walk;

/// For `tests/fuzzing` alone.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::{
        session::fuzzing::{archive, list},
        sftp::fuzzing::sftp_answer,
    };
}

/// What this crate brings.
pub static COMMANDS: [ops_core::Entry; 1] = [ops_core::Entry::of::<cp::Cp>()];
