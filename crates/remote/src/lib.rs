//! Work on a server without anything installed there: what `cp`, `ssh` and `exec` share.
//!
//! [`pipe`] carries bytes through the session's terminal to a program on the server and back;
//! [`exec`] runs a command there and tells its output and status; [`ssh`] is the SSH client, its
//! keys and its idea of whom to trust; [`terminal`] carries a session between the user's terminal
//! and a program on the server; [`script`] is for texts of sh.

#![warn(missing_docs)]

pub mod exec;
pub mod pipe;
pub mod script;
pub mod ssh;
pub mod terminal;
