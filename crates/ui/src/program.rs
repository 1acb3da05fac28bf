//! This program itself: for a command that starts another process of it.

use std::{
    ffi::{OsStr, OsString},
    io,
    path::PathBuf,
    sync::OnceLock,
};

use crate::env::Env;

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

/// The permissions that new files of this process lack.
///
/// The system tells the mask only by setting another. Asked first by `main`, while there is one
/// thread: no other can make a file in between.
pub fn umask() -> u32 {
    static UMASK: OnceLock<u32> = OnceLock::new();
    *UMASK.get_or_init(|| {
        let mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        rustix::process::umask(mask);
        // macOS keeps modes in 16 bits.
        #[allow(clippy::useless_conversion)]
        u32::from(mask.bits() & 0o777)
    })
}

/// Becomes `program`, found on the `PATH` of `env`, with all of that environment. Comes back only
/// where it cannot be run, with the reason.
#[cfg(unix)]
pub fn become_program(program: &OsStr, arguments: &[OsString], env: &Env) -> io::Error {
    use std::os::unix::process::CommandExt as _;
    crate::terminal::restore();
    std::process::Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(env.iter())
        .exec()
}
