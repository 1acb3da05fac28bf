//! `ops cp` by SFTP and by way of a bucket.

#![allow(clippy::unwrap_used)] // In a test's helpers too.

mod bucket;
mod choice;
mod kept_output;
mod login;
mod lost;
mod modes;
mod scene;
mod sftp;
mod usual;
