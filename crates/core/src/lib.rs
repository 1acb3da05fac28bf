//! What the commands of `ops` share: arguments → profile → resolved targets → session → bytes.
//!
//! A command receives a [`Context`]; from it come the global options, the effective settings, the team profile, the AWS clients, resolved
//! [`Instance`]s, open sessions and the one way to stdout and stderr.

#![warn(missing_docs)]

pub mod aws;
pub mod aws_files;
mod bottom;
pub mod browser;
pub mod cache;
pub mod command;
pub mod complete;
pub mod config;
pub mod connect;
pub mod context;
pub mod drawing;
pub mod env;
pub mod error;
pub mod exit;
pub mod globals;
pub mod guard;
pub mod instance;
pub mod interrupt;
pub mod inventory;
pub mod output;
pub mod paths;
mod phrase;
mod picker;
pub mod pipe;
pub mod profile;
pub mod program;
pub mod resolve;
pub mod ssh;
pub mod stdio;
pub mod table;
pub mod target;
pub mod terminal;
pub mod text;
mod trouble;
pub mod voice;
pub mod yaml;

pub use command::{Command, Entry, RunFuture, Traits};
pub use complete::Values;
pub use config::{Origin, Setting, Settings};
pub use connect::{Connection, Document, OpenOptions};
pub use context::Context;
pub use env::Env;
pub use error::{Error, ErrorKind, Result};
pub use exit::Exit;
pub use globals::{ColorChoice, Format, Globals, Source};
pub use instance::{Instance, Kind, Ping, State};
pub use interrupt::Interrupt;
pub use inventory::{Listing, Query};
pub use output::Output;
pub use paths::Paths;
pub use profile::Profile;
pub use resolve::Choice;
pub use target::{Selector, Target};
pub use text::{Hint, Text};
