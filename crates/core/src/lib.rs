//! What the commands of `ops` share: arguments → profile → resolved targets → session → bytes.
//!
//! A command receives a [`Context`]; from it come the global options, the effective settings, the
//! team profile, the AWS clients, resolved [`Instance`](ops_profile::Instance)s, open sessions and
//! the one way to stdout and stderr.

#![warn(missing_docs)]

pub mod aws;
mod boxed;
pub mod cache;
pub mod calls;
pub mod command;
pub mod complete;
pub mod connect;
pub mod context;
pub mod diagnosis;
pub mod guard;
pub mod iam;
pub mod inventory;
pub mod loopback;
mod pace;
pub mod partition;
mod picker;
pub mod recent;
pub mod resolve;
pub mod trouble;

pub use boxed::BoxFuture;
pub use command::{Command, Entry, Forms, RunFuture, Traits};
pub use complete::Values;
pub use connect::{Connection, Document, OpenOptions};
pub use context::Context;
pub use inventory::{Listing, Query};
pub use resolve::Choice;
