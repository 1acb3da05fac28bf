//! This program itself: for a command that starts another process of it.

use std::{ffi::OsString, io, path::PathBuf};

/// The file this process was started from.
///
/// # Errors
/// The system does not tell.
pub fn path() -> io::Result<PathBuf> {
    std::env::current_exe()
}

/// The arguments this process was started with, without its name.
pub fn arguments() -> Vec<OsString> {
    std::env::args_os().skip(1).collect()
}
