//! Work on a server without anything installed there: what `cp`, `ssh` and `exec` share.
//!
//! [`pipe`] carries bytes through the session's terminal to a program on the server and back;
//! [`ssh`] is the SSH client, its keys and its idea of whom to trust.

#![warn(missing_docs)]

pub mod pipe;
pub mod ssh;

// Until every file names the crate that has it.
use ops_core::{
    connect, context, error, hint, instance, output, paths, profile, text, trouble, unwritable,
};
