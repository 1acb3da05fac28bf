//! An SSH client in this process, over AWS-StartSSHSession.

use std::{borrow::Cow, future::Future, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use ops_core::{
    BoxFuture, Context, Document, OpenOptions,
    trouble::{Trouble, Troubled},
};
use ops_profile::{HostKeys, Instance};
use ops_ui::{Error, ErrorKind, Result};
use russh::{
    ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Preferred, cipher,
    client::{self, Config, Handle, Msg},
    keys::{Algorithm, PublicKeyOrCertificate},
};

use super::{SshSettings, auth::Keys, carrier::Carrier, host_keys, key_file::Keyring, known_hosts};

/// For the key exchange and the login, each; far more than a slow path takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// For a login during which somebody may have to find a passphrase; servers usually wait for two
/// minutes.
const TYPING_PATIENCE: Duration = Duration::from_secs(600);
/// Bytes that the server may send on a channel ahead of its reader.
const WINDOW_BYTES: u32 = 2 << 20;
/// Messages of a channel that wait for its reader before the connection is held back.
const CHANNEL_MESSAGES: usize = 64;
/// Error output of a program that is kept, in bytes.
const COMPLAINTS_BYTES: usize = 4 << 10;
/// Status of a program that a signal has ended.
const SIGNALLED: u32 = 255;

/// What a command line says about the login; what it leaves open is the profile's.
#[derive(Clone, Debug, Default)]
pub struct Login {
    /// A private key's file.
    pub identity: Option<PathBuf>,
    /// Log in with a key of the moment.
    pub instance_connect: bool,
    /// Why, for the session's history.
    pub reason: Option<String>,
    /// Keys that were decrypted; shared by clones.
    keyring: Keyring,
}

impl Login {
    /// With a private key's file, or with a key of the moment, or with what the profile says; and
    /// why.
    pub fn new(identity: Option<PathBuf>, instance_connect: bool, reason: Option<String>) -> Self {
        Self {
            identity,
            instance_connect,
            reason,
            keyring: Keyring::default(),
        }
    }
}

/// Connects to one server, as often as is needed.
pub struct Dialer {
    cx: Context,
    instance: Instance,
    user: String,
    port: u16,
    policy: HostKeys,
    keys: Keys,
    reason: Option<String>,
    troubled: Troubled,
}

impl Dialer {
    /// Gathers what a login on `instance` needs.
    ///
    /// # Errors
    /// An invalid profile, a key that cannot be used, no user.
    pub fn new(cx: &Context, instance: &Instance, login: Login) -> Result<Self> {
        let settings = SshSettings::of(cx, instance)?;
        let keys = Keys::gather(
            cx,
            &settings,
            login.identity.as_deref(),
            login.instance_connect,
            login.keyring,
        )?;
        // ssh's own default is the name of the user here.
        let user = settings
            .user
            .or_else(|| cx.env().user_name())
            .ok_or_else(|| {
                Error::usage(format!("no user is known for `{}`", instance.label()))
                    .hint("name one in the profile: `ssh: { user: ec2-user }`")
            })?;
        Ok(Self {
            cx: cx.clone(),
            instance: instance.clone(),
            user,
            port: settings.port.unwrap_or(22),
            policy: settings.host_keys,
            keys,
            reason: login.reason,
            troubled: Troubled::default(),
        })
    }

    /// Who logs in.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Opens a session, checks the server's key and logs in.
    ///
    /// # Errors
    /// As [`Context::open`]; no server on the port; a host key that has changed
    /// ([`ErrorKind::Refused`]); a login that is refused.
    pub fn connect<'a>(&'a self) -> BoxFuture<'a, Result<Client>> {
        Box::pin(self.connect_unboxed())
    }

    async fn connect_unboxed(&self) -> Result<Client> {
        let label = self.instance.label();
        let file = known_hosts::file(&self.cx);
        if self.policy == HostKeys::Ssm {
            // Under its id alone, as an alias has it.
            host_keys::pin(&self.cx, &self.instance, 22, &file, self.reason.clone()).await?;
        }
        let known = match self.policy {
            HostKeys::Off => None,
            _ => Some(known_hosts::KnownHostKeys::read(
                &file,
                &self.instance.id,
                label,
            )?),
        };
        self.keys.push(&self.cx, &self.instance, &self.user).await?;
        let connection = self
            .cx
            .open(
                &self.instance,
                Document::Ssh { port: self.port },
                OpenOptions::reason(self.reason.clone()),
            )
            .await?;
        let (carrier, stream) = Carrier::start(
            &self.cx,
            connection,
            Trouble::new(&self.troubled, &self.cx, label),
        );
        let config = Arc::new(config(known.as_ref()));
        let checker = Checker {
            known,
            cx: self.cx.clone(),
            label: label.to_owned(),
            learns: self.policy == HostKeys::AcceptNew,
        };
        let connecting = Box::pin(within(client::connect_stream(config, stream, checker)));
        let word = async {
            tokio::time::sleep(super::UNANSWERED).await;
            let text = super::unanswered(label, self.port);
            self.cx.output().note(format!("{label}: {text}"));
            std::future::pending::<()>().await;
        };
        let handle = tokio::select! {
            handle = connecting => handle,
            () = word => None,
        };
        let mut handle = match handle {
            Some(Ok(handle)) => handle,
            Some(Err(ClientFailure::Ours(error))) => return Err(error),
            Some(Err(ClientFailure::Ssh(error))) => return Err(self.no_server(&carrier, &error)),
            None => return Err(self.no_server(&carrier, &"it has not said a word for a minute")),
        };
        let log_in = self.keys.log_in(&self.cx, &mut handle, &self.user, label);
        let patience = if self.keys.may_ask(&self.cx) {
            TYPING_PATIENCE
        } else {
            PATIENCE
        };
        let logged_in = tokio::time::timeout(patience, Box::pin(log_in)).await.ok();
        match logged_in {
            Some(Ok(Ok(()))) => {}
            Some(Ok(Err(error))) => return Err(error),
            Some(Err(error)) => return Err(self.lost(&carrier, &error)),
            None => return Err(self.lost(&carrier, &"the login took too long")),
        }
        Ok(Client {
            handle,
            carrier,
            label: label.to_owned(),
        })
    }

    fn no_server(&self, carrier: &Carrier, why: &dyn std::fmt::Display) -> Error {
        let error = Error::target(format!(
            "no SSH server answers on port {} of `{}`",
            self.port,
            self.instance.label()
        ));
        match carrier.why() {
            Some(told) => error.caused_as(&told),
            None => error.caused_by(why),
        }
        .hint("copy without one: --via session")
        .hint("or name its port: `ssh: { port: … }` in the profile")
    }

    fn lost(&self, carrier: &Carrier, why: &dyn std::fmt::Display) -> Error {
        carrier.why().unwrap_or_else(|| {
            Error::target(format!(
                "the SSH connection to `{}` was lost during the login",
                self.instance.label()
            ))
            .caused_by(why)
        })
    }
}

async fn within<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(PATIENCE, Box::pin(work)).await.ok()
}

fn config(known: Option<&known_hosts::KnownHostKeys>) -> Config {
    // AES-GCM first: processors have instructions for it, and what a session carries is bound by
    // them.
    const CIPHERS: &[cipher::Name] = &[
        cipher::AES_256_GCM,
        cipher::AES_128_GCM,
        cipher::CHACHA20_POLY1305,
        cipher::AES_256_CTR,
        cipher::AES_192_CTR,
        cipher::AES_128_CTR,
    ];
    let mut preferred = Preferred {
        cipher: Cow::Borrowed(CIPHERS),
        ..Preferred::DEFAULT
    };
    let wanted = known
        .map(known_hosts::KnownHostKeys::algorithms)
        .unwrap_or_default();
    if !wanted.is_empty() {
        let is_wanted = |algorithm: &Algorithm| {
            wanted.iter().any(|known| match (known, algorithm) {
                (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }) => true,
                (known, algorithm) => known == algorithm,
            })
        };
        // A server that has lost the pinned kind shows another, which is then found to differ.
        let (mut first, others): (Vec<_>, Vec<_>) =
            preferred.key.iter().cloned().partition(is_wanted);
        first.extend(others);
        preferred.key = Cow::Owned(first);
    }
    Config {
        window_size: WINDOW_BYTES,
        channel_buffer_size: CHANNEL_MESSAGES,
        preferred,
        ..Config::default()
    }
}

/// Judges the server's key.
struct Checker {
    /// `None`: any key will do.
    known: Option<known_hosts::KnownHostKeys>,
    cx: Context,
    label: String,
    learns: bool,
}

/// A failure of the library, or one in our own words.
#[derive(Debug)]
enum ClientFailure {
    Ssh(russh::Error),
    Ours(Error),
}

impl From<russh::Error> for ClientFailure {
    fn from(error: russh::Error) -> Self {
        Self::Ssh(error)
    }
}

impl client::Handler for Checker {
    type Error = ClientFailure;

    async fn check_server_key(
        &mut self,
        shown: &PublicKeyOrCertificate,
    ) -> Result<bool, ClientFailure> {
        let Some(known) = &self.known else {
            return Ok(true);
        };
        // No certificate was asked for.
        let PublicKeyOrCertificate::PublicKey { key, .. } = shown else {
            return Ok(false);
        };
        if known.check(key).map_err(ClientFailure::Ours)? {
            return Ok(true);
        }
        if self.learns {
            // A first contact is trusted here anyway. What cannot be written down is trusted once
            // more the next time, and nothing else is lost.
            if let Err(error) = known.learn(key) {
                let error = known_hosts::cannot_keep(&self.cx, &error);
                known_hosts::tell_of_no_memory(&self.cx, &self.label, &error);
            }
            return Ok(true);
        }
        Err(ClientFailure::Ours(Error::new(
            ErrorKind::Refused,
            format!("the host key of `{}` is not pinned", self.label),
        )))
    }
}

/// A login on a server. Dropped, its session is ended.
pub struct Client {
    handle: Handle<Checker>,
    carrier: Carrier,
    label: String,
}

impl Client {
    /// Starts a subsystem; `None` if the server has none of this name.
    ///
    /// # Errors
    /// The connection is lost.
    pub fn subsystem<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Program>>> {
        Box::pin(self.subsystem_unboxed(name))
    }

    async fn subsystem_unboxed(&self, name: &str) -> Result<Option<Program>> {
        let channel = self.channel().await?;
        channel
            .request_subsystem(true, name)
            .await
            .map_err(|error| self.lost(&error))?;
        self.started(channel).await
    }

    /// Starts a command line, which the user's shell on the server splits; `None` if the server
    /// starts none.
    ///
    /// # Errors
    /// The connection is lost.
    pub fn command<'a>(&'a self, line: &'a [u8]) -> BoxFuture<'a, Result<Option<Program>>> {
        Box::pin(self.command_unboxed(line))
    }

    async fn command_unboxed(&self, line: &[u8]) -> Result<Option<Program>> {
        let channel = self.channel().await?;
        channel
            .exec(true, line)
            .await
            .map_err(|error| self.lost(&error))?;
        self.started(channel).await
    }

    /// Why the connection is lost, after something failed with `why`.
    pub fn lost(&self, why: &dyn std::fmt::Display) -> Error {
        self.carrier.why().unwrap_or_else(|| {
            Error::target(format!("the SSH connection to `{}` was lost", self.label)).caused_by(why)
        })
    }

    async fn channel(&self) -> Result<russh::Channel<Msg>> {
        self.handle
            .channel_open_session()
            .await
            .map_err(|error| self.lost(&error))
    }

    async fn started(&self, mut channel: russh::Channel<Msg>) -> Result<Option<Program>> {
        loop {
            match channel.wait().await {
                Some(ChannelMsg::Success) => break,
                Some(ChannelMsg::Failure) => return Ok(None),
                Some(_) => {}
                None => return Err(self.lost(&"the channel was closed")),
            }
        }
        let (reader, writer) = channel.split();
        Ok(Some(Program {
            output: ProgramOutput {
                reader,
                complaints: Vec::new(),
                status: None,
            },
            input: ProgramInput { writer },
        }))
    }
}

/// A program on the server with its input and output.
pub struct Program {
    /// What it writes.
    pub output: ProgramOutput,
    /// What it reads.
    pub input: ProgramInput,
}

/// What a program writes. Dropped, nothing of it is read any more.
pub struct ProgramOutput {
    reader: ChannelReadHalf,
    complaints: Vec<u8>,
    status: Option<u32>,
}

impl ProgramOutput {
    /// The next piece of its output; `None` once it has ended or the connection is lost.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            match self.reader.wait().await? {
                ChannelMsg::Data { data } => return Some(data),
                ChannelMsg::ExtendedData { data, .. } => {
                    let room = COMPLAINTS_BYTES.saturating_sub(self.complaints.len());
                    self.complaints.extend(data.iter().take(room));
                }
                ChannelMsg::ExitStatus { exit_status } => self.status = Some(exit_status),
                ChannelMsg::ExitSignal { .. } => self.status = Some(SIGNALLED),
                _ => {}
            }
        }
    }

    /// Its exit status, once it has ended; 255 if a signal ended it. `None` at the end of its
    /// output: the connection was lost.
    pub fn status(&self) -> Option<u32> {
        self.status
    }

    /// The beginning of its error output, as the far side sent it.
    pub fn complaints(&self) -> String {
        String::from_utf8_lossy(&self.complaints).trim().to_owned()
    }
}

/// What a program reads.
pub struct ProgramInput {
    writer: ChannelWriteHalf<Msg>,
}

impl ProgramInput {
    /// Hands `bytes` on; waits while the server takes no more. `false`: nobody reads any more.
    pub async fn send(&self, bytes: Bytes) -> bool {
        self.writer.data_bytes(bytes).await.is_ok()
    }

    /// Says that no more comes.
    pub async fn end(&self) {
        // A program that has ended is not missed.
        let _ = self.writer.eof().await;
    }
}
