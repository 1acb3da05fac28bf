//! Private keys in files, and the passphrases of those that are encrypted.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use russh::keys::{PrivateKey, PublicKey};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use ops_core::Context;
use ops_ui::{Error, ErrorKind, Result, hint, output::escape};

/// Times that a passphrase is asked for, as with ssh.
const PROMPTS: usize = 3;

/// A key's file as it was read.
pub(super) enum KeyFile {
    /// With the name to show.
    Plain(String, Arc<PrivateKey>),
    Locked(Locked),
}

/// A key that is encrypted with a passphrase.
pub(super) struct Locked {
    /// To show.
    pub(super) name: String,
    pub(super) path: PathBuf,
    /// Where the file tells it, or the one beside it.
    pub(super) public: Option<PublicKey>,
    text: Zeroizing<String>,
}

/// Why a file is of no use.
pub(super) enum Unusable {
    Missing,
    Other(String),
}

impl KeyFile {
    /// Reads the key at `path`; what is below `home` is shown as such.
    pub(super) fn load(path: &Path, home: &Path) -> Result<Self, Unusable> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Unusable::Missing);
            }
            Err(error) => return Err(Unusable::Other(error.to_string())),
        };
        let name = match path.strip_prefix(home) {
            Ok(rest) => format!("~/{}", rest.display()),
            Err(_) => path.display().to_string(),
        };
        match russh::keys::decode_secret_key(&text, None) {
            Ok(key) if !key.is_encrypted() => Ok(Self::Plain(name, Arc::new(key))),
            Ok(_) | Err(russh::keys::Error::KeyIsEncrypted) => {
                Ok(Self::Locked(Locked::new(name, path, text)))
            }
            Err(_) if text.contains("ENCRYPTED") => Ok(Self::Locked(Locked::new(name, path, text))),
            Err(error) => Err(Unusable::Other(error.to_string())),
        }
    }
}

impl Locked {
    fn new(name: String, path: &Path, text: Zeroizing<String>) -> Self {
        // The format of OpenSSH has it in the clear.
        let public = match PrivateKey::from_openssh(text.as_bytes()) {
            Ok(key) => Some(key.public_key().clone()),
            Err(_) => std::fs::read_to_string(super::public_path(path))
                .ok()
                .and_then(|line| PublicKey::from_openssh(&line).ok()),
        };
        Self {
            name,
            path: path.to_owned(),
            public,
            text,
        }
    }

    /// Whether `key` is its public half.
    pub(super) fn is(&self, key: &PublicKey) -> bool {
        self.public
            .as_ref()
            .is_some_and(|public| public.key_data() == key.key_data())
    }
}

impl Unusable {
    pub(super) fn error(self, path: &Path) -> Error {
        let what = format!("cannot use the SSH key `{}`", path.display());
        match self {
            Self::Missing => Error::usage(what)
                .caused_by("there is no such file")
                .hint("name another: -i FILE, or `ssh: { identity_file: … }` in the profile"),
            Self::Other(why) => Error::usage(what)
                .caused_by(why)
                .hint("keys of OpenSSH and PEM files are understood: Ed25519, ECDSA and RSA")
                .hint(hint!("an ssh agent may know more: ssh-add {}", path)),
        }
    }
}

/// Keys that were decrypted, for all servers and sessions of a command: nobody types a passphrase
/// twice. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Keyring(Arc<Mutex<HashMap<PathBuf, Result<Arc<PrivateKey>>>>>);

impl std::fmt::Debug for Keyring {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Keyring")
    }
}

impl Keyring {
    /// Decrypts a key, with a passphrase that is asked for; `None` where nobody can be asked.
    ///
    /// # Errors
    /// Nobody knows it.
    pub(super) async fn unlock(
        &self,
        cx: &Context,
        locked: &Locked,
    ) -> Result<Option<Arc<PrivateKey>>> {
        // Held while somebody types, so that one question stands on the terminal at a time.
        let mut keys = self.0.lock().await;
        if let Some(known) = keys.get(&locked.path) {
            return known.clone().map(Some);
        }
        if !cx.output().may_ask() {
            return Ok(None);
        }
        let asked = ask(cx, locked).await;
        keys.insert(locked.path.clone(), asked.clone());
        asked.map(Some)
    }
}

async fn ask(cx: &Context, locked: &Locked) -> Result<Arc<PrivateKey>> {
    let name = escape(&locked.name);
    for _ in 0..PROMPTS {
        let question = format!("Passphrase for the SSH key {name}: ");
        let Some(passphrase) = cx.output().ask_secret(question).await? else {
            break;
        };
        // Nothing typed is no answer, as with ssh.
        if passphrase.is_empty() {
            break;
        }
        let text = locked.text.clone();
        // It takes a while by design.
        let key = tokio::task::spawn_blocking(move || {
            russh::keys::decode_secret_key(&text, Some(&passphrase))
        });
        if let Ok(Ok(key)) = key.await {
            return Ok(Arc::new(key));
        }
        cx.output()
            .warn(format!("that is not the passphrase of {name}"));
    }
    Err(Error::new(
        ErrorKind::Refused,
        format!("cannot use the SSH key `{}`", locked.name),
    )
    .caused_by("it is encrypted, and its passphrase was not given")
    .hint(hint!(
        "give it to the ssh agent once: ssh-add {}",
        locked.path
    ))
    .hint("or log in with a key made for the moment: --instance-connect"))
}
