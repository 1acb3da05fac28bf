//! Who logs in, and with which keys.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use ops_core::Context;
use ops_profile::{Auth, Instance};
use ops_ui::{Error, ErrorKind, Result, hint};
use russh::{
    client::{AuthResult, Handle, Handler},
    keys::{
        Algorithm, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey,
        agent::{AgentIdentity, client::AgentClient},
    },
};

use super::key_file::{KeyFile, Keyring, Locked, Unusable};
use crate::ssh::{KeyPair, SshSettings};

/// Keys that are tried at most; a usual server hangs up after six.
const TRIES: usize = 5;
/// The names that ssh tries where nobody names a key, those we can use, in ssh's order.
const DEFAULT_KEYS: [&str; 3] = ["id_rsa", "id_ecdsa", "id_ed25519"];

const CONNECT: &str = "log in with a key made for the moment: --instance-connect, or `ssh: { auth: instance-connect }` in the profile";
const WITHOUT: &str = "or do without SSH: --via session";

enum LoginStep {
    Pushed,
    Files,
    Agent,
    /// Files that are encrypted.
    Locked,
}

/// Everything that may open the server, gathered once per server.
pub(super) struct Keys {
    files: Vec<(String, Arc<PrivateKey>)>,
    /// Encrypted ones: they are decrypted when the server wants them.
    locked: Vec<Locked>,
    keyring: Keyring,
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
        settings: &SshSettings,
        identity: Option<&Path>,
        instance_connect: bool,
        keyring: Keyring,
    ) -> Result<Self> {
        let mut keys = Self {
            files: Vec::new(),
            locked: Vec::new(),
            keyring,
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
            match KeyFile::load(path, home) {
                Ok(KeyFile::Plain(name, key)) => keys.files.push((name, key)),
                Ok(KeyFile::Locked(locked)) => keys.locked.push(locked),
                Err(why) => return Err(why.error(path)),
            }
            return Ok(keys);
        }
        for name in DEFAULT_KEYS {
            let path = home.join(".ssh").join(name);
            match KeyFile::load(&path, home) {
                Ok(KeyFile::Plain(name, key)) => keys.files.push((name, key)),
                Ok(KeyFile::Locked(locked)) => keys.locked.push(locked),
                Err(Unusable::Missing) => {}
                Err(Unusable::Other(why)) => keys
                    .unusable
                    .push(format!("`~/.ssh/{name}` cannot be used: {why}")),
            }
        }
        Ok(keys)
    }

    /// Whether the login may wait for somebody to type.
    pub(super) fn may_ask(&self, cx: &Context) -> bool {
        !self.locked.is_empty() && cx.output().may_ask()
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
    /// None does; the text names those that were tried. A connection that ends meanwhile is
    /// [`Error`] of the caller's.
    pub(super) async fn log_in<H: Handler>(
        &self,
        cx: &Context,
        handle: &mut Handle<H>,
        user: &str,
        label: &str,
    ) -> Result<Result<(), Error>, russh::Error> {
        let mut tried = Vec::new();
        let mut methods = None;
        let mut agent_trouble = None;
        // ssh tries a key that is named before those of the agent, and its defaults after them.
        let steps: &[LoginStep] = match (&self.pushed, self.named) {
            (Some(_), _) => &[LoginStep::Pushed],
            (None, true) => &[LoginStep::Files, LoginStep::Agent, LoginStep::Locked],
            (None, false) => &[LoginStep::Agent, LoginStep::Files, LoginStep::Locked],
        };
        for step in steps {
            match step {
                LoginStep::Pushed => {
                    let Some(pair) = &self.pushed else { continue };
                    let key = Arc::new(pair.private_key().clone());
                    let result = offer(handle, user, &key).await?;
                    if result.success() {
                        return Ok(Ok(()));
                    }
                    tried.push("the key of the moment, sent by EC2 Instance Connect".to_owned());
                    methods = remaining(&result);
                }
                LoginStep::Files => {
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
                LoginStep::Agent => {
                    let Some(socket) = &self.agent else { continue };
                    match self.try_agent(handle, user, socket, &mut tried).await {
                        Ok(true) => return Ok(Ok(())),
                        Ok(false) => {}
                        Err(why) => agent_trouble = Some(why),
                    }
                }
                LoginStep::Locked => {
                    for locked in &self.locked {
                        if tried.len() >= TRIES || handle.is_closed() {
                            break;
                        }
                        match self.try_locked(cx, handle, user, label, locked).await? {
                            Ok(None) => return Ok(Ok(())),
                            Ok(Some(failure)) => {
                                tried.push(format!("key file `{}`", locked.name));
                                methods = remaining(&failure);
                            }
                            Err(error) => return Ok(Err(error)),
                        }
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
        let keys = identities
            .into_iter()
            .filter_map(|identity| match identity {
                AgentIdentity::PublicKey { key, comment } => Some((key, comment)),
                AgentIdentity::Certificate { .. } => None,
            });
        // Those whose files are here, but encrypted, first: they are meant.
        let (mut keys, others): (Vec<_>, Vec<_>) =
            keys.partition(|(key, _)| self.locked.iter().any(|locked| locked.is(key)));
        keys.extend(others);
        // A server that hangs up after so many must still be asked about those.
        let most = TRIES - usize::from(!self.locked.is_empty());
        for (key, comment) in keys {
            if tried.len() >= most || handle.is_closed() {
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

    /// Asks for the passphrase of a key if the server would take it; gives its answer if that was
    /// no.
    async fn try_locked<H: Handler>(
        &self,
        cx: &Context,
        handle: &mut Handle<H>,
        user: &str,
        label: &str,
        locked: &Locked,
    ) -> Result<Result<Option<AuthResult>>, russh::Error> {
        if let Some(public) = &locked.public {
            let hash = hash_for(handle, public).await?;
            let asked = handle
                .authenticate_publickey_with(user, public.clone(), hash, &mut Probe)
                .await;
            match asked {
                Err(Probed::Wanted) => {}
                Err(Probed::Lost(error)) => return Err(error),
                Ok(refused) => return Ok(Ok(Some(refused))),
            }
        }
        let key = match self.keyring.unlock(cx, locked).await {
            Ok(Some(key)) => key,
            Ok(None) => return Ok(Err(self.nobody_to_ask(label, user, locked))),
            Err(error) => return Ok(Err(error)),
        };
        let result = offer(handle, user, &key).await?;
        Ok(Ok((!result.success()).then_some(result)))
    }

    fn nobody_to_ask(&self, label: &str, user: &str, locked: &Locked) -> Error {
        let agent = match self.agent {
            Some(_) => "the ssh agent does not hold it",
            None => "no ssh agent runs (SSH_AUTH_SOCK)",
        };
        let name = &locked.name;
        Error::new(
            ErrorKind::Refused,
            format!("cannot log in on `{label}` as `{user}` with the key `{name}`"),
        )
        .caused_by(format!(
            "it is encrypted with a passphrase, which nobody can be asked for here, and {agent}"
        ))
        .hint(hint!("give it to the ssh agent: ssh-add {}", locked.path))
        .hint(CONNECT)
        .hint(WITHOUT)
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
        if self.pushed.is_none() {
            error = error.hint(CONNECT);
        } else {
            error = error.hint("check the user (`ssh.user`), and that ec2-instance-connect is installed on the server");
        }
        error.hint(WITHOUT)
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

/// Finds out whether the server would take a key, and signs nothing.
struct Probe;

enum Probed {
    Wanted,
    Lost(russh::Error),
}

impl From<russh::SendError> for Probed {
    fn from(_: russh::SendError) -> Self {
        Self::Lost(russh::Error::SendError)
    }
}

impl russh::Signer for Probe {
    type Error = Probed;

    async fn auth_sign(
        &mut self,
        _key: &AgentIdentity,
        _hash: Option<HashAlg>,
        _to_sign: Vec<u8>,
    ) -> Result<Vec<u8>, Probed> {
        Err(Probed::Wanted)
    }
}
