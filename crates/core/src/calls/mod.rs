//! What commands ask AWS through their [`Context`](crate::Context), beside the list of instances
//! and their sessions.

mod account;
mod account_alias;
pub mod cloudwatch_logs;
mod document;
mod instance_connect;
mod regions;
pub mod s3;
mod sign_in;

pub use sign_in::SignIn;
