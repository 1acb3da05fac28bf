//! Who logs in, and with which keys.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use russh::{
    client::{AuthResult, Handle, Handler},
    keys::{
        Algorithm, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey,
        agent::{AgentIdentity, client::AgentClient},
    },
};
use zeroize::Zeroizing;

use crate::{
    context::Context,
    error::{Error, Result},
    instance::Instance,
    profile::Auth,
    ssh::{KeyPair, Settings},
};

/// Keys that are tried at most; a usual server hangs up after six.
const TRIES: usize = 5;
/// The names that ssh tries where nobody names a key, those we can use, in ssh's order.
const DEFAULT_KEYS: [&str; 3] = ["id_rsa", "id_ecdsa", "id_ed25519"];

enum Step {
    Pushed,
    Files,
    Agent,
}

/// Everything that may open the server, gathered once per server.
pub(super) struct Keys {
    files: Vec<(String, Arc<PrivateKey>)>,
    /// The file was named, by an option or by the profile.
    named: bool,
    /// The agent's socket.
    agent: Option<PathBuf>,
    /// A key of the moment, which EC2 Instance Connect makes known.
    pushed: Option<KeyPair>,
    /// Files that were left out, with the reason.
    unusable: Vec<String>,
}

impl Keys {
    /// Gathers them; `instance_connect` outranks the profile.
    ///
    /// # Errors
    /// A key that was named and cannot be used; no randomness.
    pub(super) fn gather(
        cx: &Context,
        settings: &Settings,
        identity: Option<&Path>,
        instance_connect: bool,
    ) -> Result<Self> {
        let mut keys = Self {
            files: Vec::new(),
            named: false,
            agent: None,
            pushed: None,
            unusable: Vec::new(),
        };
        let auth = settings.auth.filter(|_| identity.is_none());
        if instance_connect || auth == Some(Auth::InstanceConnect) {
            keys.pushed = Some(KeyPair::generate()?);
            return Ok(keys);
        }
        if auth != Some(Auth::Key) {
            keys.agent = cx.env().path("SSH_AUTH_SOCK");
        }
        if auth == Some(Auth::Agent) {
            return Ok(keys);
        }
        let home = &cx.paths().home;
        if let Some(path) = identity.or(settings.identity.as_deref()) {
            keys.named = true;
            match load(path) {
                Ok(key) => keys.files.push((shown(path, home), key)),
                // The agent may hold the same key.
                Err(Unusable::Encrypted) if keys.agent.is_some() => {
                    keys.unusable
                        .push(format!("`{}` is encrypted", shown(path, home)));
                }
                Err(why) => return Err(why.error(path)),
            }
            return Ok(keys);
        }
        for name in DEFAULT_KEYS {
            let path = home.join(".ssh").join(name);
            match load(&path) {
                Ok(key) => keys.files.push((shown(&path, home), key)),
                Err(Unusable::Missing) => {}
                Err(Unusable::Encrypted) => keys
                    .unusable
                    .push(format!("`{}` is encrypted", shown(&path, home))),
                Err(Unusable::Other(why)) => keys
                    .unusable
                    .push(format!("`{}` cannot be used: {why}", shown(&path, home))),
            }
        }
        Ok(keys)
    }

    /// Makes the pushed key known for the next minute, where there is one.
    ///
    /// # Errors
    /// As [`Context::send_ssh_public_key`].
    pub(super) async fn push(&self, cx: &Context, instance: &Instance, user: &str) -> Result<()> {
        match &self.pushed {
            Some(pair) => {
                cx.send_ssh_public_key(instance, user, &pair.public_line()?)
                    .await
            }
            None => Ok(()),
        }
    }

    /// Logs in with the first key that opens the server.
    ///
    /// # Errors
    /// None does; the text names those that were tried. A connection that ends meanwhile is [`Error`] of the caller's.
    pub(super) async fn log_in<H: Handler>(
        &self,
        handle: &mut Handle<H>,
        user: &str,
        label: &str,
    ) -> Result<Result<(), Error>, russh::Error> {
        let mut tried = Vec::new();
        let mut methods = None;
        let mut agent_trouble = None;
        // ssh tries a key that is named before those of the agent, and its defaults after them.
        let steps: &[Step] = match (&self.pushed, self.named) {
            (Some(_), _) => &[Step::Pushed],
            (None, true) => &[Step::Files, Step::Agent],
            (None, false) => &[Step::Agent, Step::Files],
        };
        for step in steps {
            match step {
                Step::Pushed => {
                    let Some(pair) = &self.pushed else { continue };
                    let key = Arc::new(pair.private_key().clone());
                    let result = offer(handle, user, &key).await?;
                    if result.success() {
                        return Ok(Ok(()));
                    }
                    tried.push("the key of the moment, sent by EC2 Instance Connect".to_owned());
                    methods = remaining(&result);
                }
                Step::Files => {
                    for (name, key) in &self.files {
                        if tried.len() >= TRIES || handle.is_closed() {
                            break;
                        }
                        let result = offer(handle, user, key).await?;
                        if result.success() {
                            return Ok(Ok(()));
                        }
                        tried.push(format!("key file `{name}`"));
                        methods = remaining(&result);
                    }
                }
                Step::Agent => {
                    let Some(socket) = &self.agent else { continue };
                    match self.try_agent(handle, user, socket, &mut tried).await {
                        Ok(true) => return Ok(Ok(())),
                        Ok(false) => {}
                        Err(why) => agent_trouble = Some(why),
                    }
                }
            }
        }
        Ok(Err(self.refused(
            user,
            label,
            &tried,
            methods.as_deref(),
            agent_trouble.as_ref(),
        )))
    }

    async fn try_agent<H: Handler>(
        &self,
        handle: &mut Handle<H>,
        user: &str,
        socket: &Path,
        tried: &mut Vec<String>,
    ) -> Result<bool, String> {
        let mut agent = AgentClient::connect_uds(socket)
            .await
            .map_err(|error| format!("the ssh agent does not answer: {error}"))?;
        if let Some(binding) = handle.agent_session_binding() {
            // An agent of another make may not know it, and then has no keys that need it.
            let _ = agent.bind_session(binding, false).await;
        }
        let identities = agent
            .request_identities()
            .await
            .map_err(|error| format!("the ssh agent does not list its keys: {error}"))?;
        for identity in identities {
            let AgentIdentity::PublicKey { key, comment } = identity else {
                continue;
            };
            if tried.len() == TRIES || handle.is_closed() {
                break;
            }
            let hash = hash_for(handle, &key).await.map_err(|e| e.to_string())?;
            let name = format!(
                "agent key `{comment}` ({} {})",
                key.algorithm(),
                key.fingerprint(HashAlg::Sha256)
            );
            match handle
                .authenticate_publickey_with(user, key, hash, &mut agent)
                .await
            {
                Ok(result) if result.success() => return Ok(true),
                Ok(_) => tried.push(name),
                Err(error) => tried.push(format!("{name}: the agent does not sign ({error})")),
            }
        }
        Ok(false)
    }

    fn refused(
        &self,
        user: &str,
        label: &str,
        tried: &[String],
        methods: Option<&str>,
        agent_trouble: Option<&String>,
    ) -> Error {
        let mut error = Error::target(format!("`{label}` does not let `{user}` in"));
        error = if tried.is_empty() {
            error.caused_by("no SSH key was found: neither a file nor an agent has one")
        } else {
            error.caused_by(format!("it took none of: {}", tried.join(", ")))
        };
        for why in self.unusable.iter().chain(agent_trouble) {
            error = error.caused_by(why);
        }
        if let Some(methods) = methods {
            error = error.caused_by(format!("it would take: {methods}"));
        }
        if !self.unusable.is_empty() {
            error = error.hint("give an encrypted key to the ssh agent: ssh-add FILE");
        }
        if self.pushed.is_none() {
            error = error.hint(
                "log in with a key made for the moment: --instance-connect, or `ssh: { auth: instance-connect }` in the profile",
            );
        } else {
            error = error.hint("check the user (`ssh.user`), and that ec2-instance-connect is installed on the server");
        }
        error.hint("or do without SSH: --via session")
    }
}

async fn offer<H: Handler>(
    handle: &mut Handle<H>,
    user: &str,
    key: &Arc<PrivateKey>,
) -> Result<AuthResult, russh::Error> {
    let hash = hash_for(handle, key.public_key()).await?;
    let key = PrivateKeyWithHashAlg::new(Arc::clone(key), hash);
    handle.authenticate_publickey(user, key).await
}

/// The hash of RSA signatures that the server takes; SHA-1 never.
async fn hash_for<H: Handler>(
    handle: &Handle<H>,
    key: &PublicKey,
) -> Result<Option<HashAlg>, russh::Error> {
    if !matches!(key.algorithm(), Algorithm::Rsa { .. }) {
        return Ok(None);
    }
    let best = handle.best_supported_rsa_hash().await?;
    Ok(Some(best.flatten().unwrap_or(HashAlg::Sha256)))
}

fn remaining(result: &AuthResult) -> Option<String> {
    let AuthResult::Failure {
        remaining_methods, ..
    } = result
    else {
        return None;
    };
    let names: Vec<String> = remaining_methods
        .iter()
        .map(|method| format!("{method:?}").to_lowercase())
        .collect();
    (!names.is_empty()).then(|| names.join(", "))
}

enum Unusable {
    Missing,
    Encrypted,
    Other(String),
}

impl Unusable {
    fn error(self, path: &Path) -> Error {
        let what = format!("cannot use the SSH key `{}`", path.display());
        match self {
            Self::Missing => Error::usage(what)
                .caused_by("there is no such file")
                .hint("name another: -i FILE, or `ssh: { identity_file: … }` in the profile"),
            Self::Encrypted => Error::usage(what)
                .caused_by("it is encrypted with a passphrase, which ops does not ask for")
                .hint(format!(
                    "give it to the ssh agent: ssh-add {}",
                    path.display()
                ))
                .hint("or log in with a key made for the moment: --instance-connect"),
            Self::Other(why) => Error::usage(what)
                .caused_by(why)
                .hint("keys of OpenSSH and PEM files are understood: Ed25519, ECDSA and RSA"),
        }
    }
}

fn load(path: &Path) -> Result<Arc<PrivateKey>, Unusable> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Unusable::Missing);
        }
        Err(error) => return Err(Unusable::Other(error.to_string())),
    };
    match russh::keys::decode_secret_key(&text, None) {
        Ok(key) if key.is_encrypted() => Err(Unusable::Encrypted),
        Ok(key) => Ok(Arc::new(key)),
        Err(russh::keys::Error::KeyIsEncrypted) => Err(Unusable::Encrypted),
        Err(_) if text.contains("ENCRYPTED") => Err(Unusable::Encrypted),
        Err(error) => Err(Unusable::Other(error.to_string())),
    }
}

fn shown(path: &Path, home: &Path) -> String {
    match path.strip_prefix(home) {
        Ok(rest) => format!("~/{}", rest.display()),
        Err(_) => path.display().to_string(),
    }
}
