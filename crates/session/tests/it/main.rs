//! Integration tests of the protocol core and its driver, in one binary.
#![allow(clippy::unwrap_used)]

mod agent;
mod bodies;
mod channel;
#[cfg(feature = "driver")]
mod driver;
mod hostile;
mod kms;
#[cfg(feature = "driver")]
mod kms_driver;
mod large;
mod link;
#[cfg(feature = "driver")]
mod measure;
#[cfg(feature = "driver")]
mod resumption;
#[cfg(feature = "driver")]
mod server;
mod settle;
mod throttled;
#[cfg(feature = "driver")]
mod tls;
mod transcripts;
mod vectors;
