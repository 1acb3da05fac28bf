//! How a ProxyCommand is heard although ssh silences it.
//!
//! Where ssh shares connections (`ControlPersist`) it gives its ProxyCommand `/dev/null` for
//! stderr, so that what stays behind does not hold the user's pipes open. Why there is no
//! connection would then never be told. Source: `ssh_proxy_connect` in OpenSSH's sshconnect.c.

use std::{
    fs, io,
    os::{fd::AsFd, unix::fs::MetadataExt as _},
};

/// Whether stderr leads nowhere.
pub fn is_silenced() -> bool {
    let nowhere = fs::metadata("/dev/null").map(|metadata| metadata.rdev());
    let stderr = rustix::fs::fstat(rustix::stdio::stderr());
    // The type of a device number differs from system to system.
    #[allow(clippy::useless_conversion, clippy::unnecessary_fallible_conversions)]
    match (nowhere, stderr) {
        (Ok(nowhere), Ok(stderr)) => u64::try_from(stderr.st_rdev) == Ok(nowhere),
        _ => false,
    }
}

/// Has a silenced stderr lead to the terminal, if there is one; gives whether it does now.
pub fn raise() -> bool {
    is_silenced() && lead_to("/dev/tty").is_ok()
}

/// Silences it again: what a shared connection meets later is nothing for whoever has the terminal
/// by then.
pub fn lower() {
    // Where even this fails it stays as it is.
    let _ = lead_to("/dev/null");
}

fn lead_to(path: &str) -> io::Result<()> {
    let file = fs::OpenOptions::new().write(true).open(path)?;
    Ok(rustix::stdio::dup2_stderr(file.as_fd())?)
}
