//! `ops cp` by SFTP and by way of a bucket.

#![allow(clippy::unwrap_used)] // In a test's helpers too.

mod bucket;
mod choice;
mod login;
mod kept_output;
mod lost;
mod modes;
mod scene;
mod sftp;
mod usual;
