//! What commands ask AWS through their [`Context`](crate::Context), beside the list of instances
//! and their sessions.

mod account;
mod account_alias;
pub mod cloudwatch_logs;
mod document;
mod instance_connect;
pub mod login;
mod preferences;
mod refused_separation;
mod regions;
mod resource_groups;
pub mod run_command;
pub mod s3;
pub mod session_list;
mod sign_in;

pub use document::{CommandDocument, Separation};
pub use preferences::{SessionLogs, SessionPreferences};
pub use sign_in::SignIn;
