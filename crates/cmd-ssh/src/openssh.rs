//! The programs of OpenSSH on this machine.

use std::{ffi::OsStr, path::PathBuf};

use ops_core::Context;
use ops_ui::follower;

/// Where programs are looked for without a PATH, as shells do.
const USUAL_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The file of `program`, such as `ssh`, if it is installed.
pub(crate) fn find_program(cx: &Context, program: &str) -> Option<PathBuf> {
    let path = cx.env().var_os("PATH").unwrap_or(OsStr::new(USUAL_PATH));
    follower::find(program, path)
}
