//! `ops cp`: copy files to, from and between instances.
//!
//! The command ([`cp`]) lists, decides what goes where ([`plan`]) and hands files to a [`transport`], one for each server, chosen in [`via`]. What
//! arrives goes through a [`landing`], what leaves through a [`reading`]; both count in the [`report`].

#![allow(dead_code, rustdoc::broken_intra_doc_links)] // until the command is there

mod landing;
mod pace;
mod place;
mod progress;
mod reading;
mod report;
mod sftp;
mod transport;

/// What this crate brings.
pub const COMMANDS: &[ops_core::Entry] = &[];
