//! What `ssh` and `cp` share: what the profile says, keys of our own, servers' host keys, and a
//! client in the process.

mod auth;
mod carrier;
pub mod client;
pub mod host_keys;
pub mod image_user;
mod key_file;
mod key_watch;
pub mod known_hosts;
mod known_names;
mod settings;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use russh::keys::{
    PrivateKey,
    ssh_key::{LineEnding, private::Ed25519Keypair},
};
use zeroize::{Zeroize as _, Zeroizing};

pub use self::{key_watch::KeyWatch, known_names::KnownNames, settings::SshSettings};

use ops_ui::{Error, Hint, Result, hint, paths, temporary::TemporaryFolder, unwritable};

/// Without a byte from an SSH server, which speaks first, for this long there is something to say.
/// Where none runs, the agent's worker dies of it and the service hears of that a minute later.
pub const UNANSWERED: Duration = Duration::from_secs(5);

/// The word about a server that is silent so long; `label` is the instance's.
pub fn unanswered(label: &str, port: u16) -> Hint {
    hint!(
        "nothing has come from port {} for 5 s; probably nothing listens there (see: ops shell {})",
        port,
        label
    )
}

/// An Ed25519 key pair made here.
pub struct KeyPair(PrivateKey);

impl KeyPair {
    /// A new one, from the system's randomness.
    ///
    /// # Errors
    /// Fails if the system has no randomness to give.
    pub(crate) fn generate() -> Result<Self> {
        let mut seed = Zeroizing::new([0_u8; 32]);
        aws_lc_rs::rand::fill(seed.as_mut())
            .map_err(|_| Error::unexpected("cannot make an SSH key: no randomness"))?;
        let pair = Ed25519Keypair::from_seed(&seed);
        let key = PrivateKey::new(pair.into(), "ops").map_err(unusable)?;
        Ok(Self(key))
    }

    /// The one at `path` (public half beside it, `.pub`), made there on first use, readable for
    /// this user alone.
    ///
    /// # Errors
    /// Fails if the file is no OpenSSH key without passphrase, or cannot be written.
    pub fn load_or_generate(path: &Path) -> Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let text = Zeroizing::new(text);
                let key = PrivateKey::from_openssh(text.as_bytes()).map_err(|error| {
                    Error::unexpected(format!("`{}` is no OpenSSH key", path.display()))
                        .caused_by(error)
                        .hint(hint!("remove it, a new one is made: rm {}", path))
                })?;
                Ok(Self(key))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let pair = Self::generate()?;
                pair.write(path)?;
                Ok(pair)
            }
            Err(error) => {
                Err(Error::unexpected(format!("cannot read `{}`", path.display())).caused_by(error))
            }
        }
    }

    /// Writes both halves, the private one 0600.
    ///
    /// # Errors
    /// Fails if they cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let private = self.0.to_openssh(LineEnding::LF).map_err(unusable)?;
        let mut public = self.public_line()?;
        public.push('\n');
        let failed = |error| {
            Error::unexpected(format!("cannot write `{}`", path.display())).caused_by(error)
        };
        paths::write_private(path, private.as_bytes()).map_err(failed)?;
        paths::write_private(&public_path(path), public.as_bytes()).map_err(failed)
    }

    /// The public half as a line of `authorized_keys`.
    ///
    /// # Errors
    /// Fails if the key cannot be encoded.
    pub(crate) fn public_line(&self) -> Result<String> {
        self.0.public_key().to_openssh().map_err(unusable)
    }

    /// The key itself, for a client in this process.
    pub(crate) fn private_key(&self) -> &PrivateKey {
        &self.0
    }
}

/// Where the public half of the key at `path` lies.
pub fn public_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

/// A key pair in a folder of its own (0700) that is overwritten and removed when dropped.
pub struct TemporaryKey {
    folder: TemporaryFolder,
}

impl TemporaryKey {
    /// Makes one.
    ///
    /// # Errors
    /// Fails if there is no randomness or no temporary folder.
    pub fn new() -> Result<Self> {
        let folder = unwritable::temporary_dir_for("a key for the moment", "ops-ssh-")?;
        KeyPair::generate()?.write(&folder.path().join("key"))?;
        Ok(Self { folder })
    }

    /// The private half's file.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("key")
    }
}

impl Drop for TemporaryKey {
    fn drop(&mut self) {
        let path = self.path();
        if let Ok(mut bytes) = std::fs::read(&path) {
            bytes.zeroize();
            // The folder goes next; a failure here leaves nothing that lives longer.
            let _ = std::fs::write(&path, &bytes);
        }
    }
}

fn unusable(error: russh::keys::ssh_key::Error) -> Error {
    Error::unexpected("cannot make an SSH key").caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ssh/key");
        let first = KeyPair::load_or_generate(&path)
            .unwrap()
            .public_line()
            .unwrap();
        assert!(first.starts_with("ssh-ed25519 "), "{first}");
        assert_eq!(
            KeyPair::load_or_generate(&path)
                .unwrap()
                .public_line()
                .unwrap(),
            first
        );
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(
                std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                0o600
            );
        }
    }

    #[test]
    fn a_temporary_key_leaves_nothing_behind() {
        let key = TemporaryKey::new().unwrap();
        let path = key.path();
        assert!(path.exists());
        drop(key);
        assert!(!path.exists() && !path.parent().unwrap().exists());
    }
}
