//! The host keys that `ops` has pinned: one file for the system's ssh and for the client in this
//! process, under instance ids.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use russh::keys::{Algorithm, PublicKey, ssh_key::HashAlg};

use ops_core::Context;
use ops_ui::{Error, ErrorKind, Hint, Result, Text, hint, paths};

/// What errors call these keys.
const PURPOSE: &str = "known hosts";

/// The file; `UserKnownHostsFile` of the system's ssh.
pub fn file(cx: &Context) -> PathBuf {
    cx.paths().state.join("ssh/known_hosts")
}

/// As [`file()`], in a folder that is there and private, and that takes new keys.
///
/// # Errors
/// The folder cannot be made or written to, or is somebody else's; with the variable that names
/// another.
pub fn writable_file(cx: &Context) -> Result<PathBuf> {
    let file = file(cx);
    let folder = cx
        .paths()
        .private_dir_for(PURPOSE, &cx.paths().state.join("ssh"))?;
    // A file system that is mounted for reading has the folder and takes no file.
    let written = if file.exists() { &file } else { &folder };
    rustix::fs::access(written, rustix::fs::Access::WRITE_OK)
        .map_err(|error| cx.paths().cannot_keep(PURPOSE, written, &error.into()))?;
    Ok(file)
}

pub(super) fn cannot_keep(cx: &Context, error: &io::Error) -> Error {
    cx.paths().cannot_keep(PURPOSE, &file(cx), error)
}

/// Says that the key of the server `label` is known for this run alone, because of `error`, one of
/// [`writable_file`].
pub fn tell_of_no_memory(cx: &Context, label: &str, error: &Error) {
    let line = Text::from(format!(
        "ops: the host key of {label} is trusted for this run alone: {error}"
    ));
    let line = error
        .hints()
        .iter()
        .fold(line, |line, hint| line.then("; ").then(hint.clone()));
    cx.output().warn_line(line);
}

/// What the file says of one server.
pub(super) struct KnownHostKeys {
    file: PathBuf,
    id: String,
    label: String,
    keys: Vec<(usize, PublicKey)>,
}

impl KnownHostKeys {
    /// Reads what is known of the instance `id`.
    ///
    /// # Errors
    /// A line of its that is no key.
    pub(super) fn read(file: &Path, id: &str, label: &str) -> Result<Self> {
        // As for OpenSSH, a file in a folder that is closed to this user knows no keys. That none
        // can be learnt there either is told then.
        let is_closed = std::fs::File::open(file)
            .is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
        let keys = if is_closed {
            Vec::new()
        } else {
            russh::keys::known_hosts::known_host_keys_path(id, 22, file).map_err(|error| {
                Error::unexpected(format!("cannot read `{}`", file.display()))
                    .caused_by(error)
                    .hint(forget(file, id))
            })?
        };
        Ok(Self {
            file: file.to_owned(),
            id: id.to_owned(),
            label: label.to_owned(),
            keys,
        })
    }

    /// What messages call the instance.
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// Kinds of keys to ask the server for: those that are pinned, so that it does not answer with
    /// one of another kind. Empty: any.
    pub(super) fn algorithms(&self) -> Vec<Algorithm> {
        self.keys.iter().map(|(_, key)| key.algorithm()).collect()
    }

    /// Whether `key` is one of those pinned; `Ok(false)` where nothing is pinned.
    ///
    /// # Errors
    /// Others are.
    pub(super) fn check(&self, key: &PublicKey) -> Result<bool> {
        if self
            .keys
            .iter()
            .any(|(_, known)| known.key_data() == key.key_data())
        {
            return Ok(true);
        }
        let Some((line, known)) = self.keys.first() else {
            return Ok(false);
        };
        Err(Error::new(
            ErrorKind::Refused,
            format!("the host key of `{}` has changed", self.label),
        )
        .caused_by(format!(
            "it shows {} {}, pinned is {} {} ({} line {line})",
            key.algorithm(),
            key.fingerprint(HashAlg::Sha256),
            known.algorithm(),
            known.fingerprint(HashAlg::Sha256),
            self.file.display(),
        ))
        .caused_by(
            "either the server was set up anew, or something stands between it and the agent",
        )
        .hint(hint!(
            "once you know why, forget the old key: {}",
            forget(&self.file, &self.id)
        )))
    }

    /// Pins `key`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn learn(&self, key: &PublicKey) -> io::Result<()> {
        let line = PublicKey::from(key.key_data().clone())
            .to_openssh()
            .map_err(io::Error::other)?;
        let folder = self.file.parent().unwrap_or(Path::new("."));
        paths::private_dir(folder.to_owned())?;
        let before = std::fs::read(&self.file).unwrap_or_default();
        let separator = match before.last() {
            None | Some(b'\n') => "",
            Some(_) => "\n",
        };
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        // One write, so that copies to many servers at a time do not mix their lines.
        options.open(&self.file).and_then(|mut file| {
            file.write_all(format!("{separator}{} {line}\n", self.id).as_bytes())
        })
    }
}

fn forget(file: &Path, id: &str) -> Hint {
    hint!("ssh-keygen -R {} -f {}", id, file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh::KeyPair;

    fn key() -> PublicKey {
        KeyPair::generate()
            .unwrap()
            .private_key()
            .public_key()
            .clone()
    }

    #[test]
    fn a_key_is_pinned_once_and_another_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ssh/known_hosts");
        let known = || KnownHostKeys::read(&file, "i-0123456789abcdef0", "web-1").unwrap();
        let (own, other) = (key(), key());
        assert!(!known().check(&own).unwrap());
        known().learn(&own).unwrap();
        assert!(known().check(&own).unwrap());
        assert_eq!(known().algorithms(), [Algorithm::Ed25519]);
        let error = known().check(&other).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.hints()[0].contains("ssh-keygen -R i-0123456789abcdef0 -f "));
        let next = KnownHostKeys::read(&file, "i-0fedcba9876543210", "web-2").unwrap();
        assert!(!next.check(&other).unwrap());
    }

    #[test]
    fn a_file_without_a_last_line_end_is_not_garbled() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("known_hosts");
        let line = key().to_openssh().unwrap();
        std::fs::write(&file, format!("i-0123456789abcdef0 {line}")).unwrap();
        let own = key();
        KnownHostKeys::read(&file, "i-0fedcba9876543210", "web-2")
            .unwrap()
            .learn(&own)
            .unwrap();
        for id in ["i-0123456789abcdef0", "i-0fedcba9876543210"] {
            assert_eq!(
                KnownHostKeys::read(&file, id, id).unwrap().keys.len(),
                1,
                "{id}"
            );
        }
    }
}
