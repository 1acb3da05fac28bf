//! An embedded stand-in for the AWS services that `ops` uses: EC2, SSM, STS, IAM, EC2 Instance
//! Connect, SSO, KMS, CloudWatch Logs, a minimal S3 and the federation endpoint, with the Session
//! Manager gateway and the agent's side of the protocol behind them.
//!
//! It listens on a loopback port only and answers nobody without this run's random keys. It is no
//! isolation: the shells are real and run as the user who started it.

mod admin;
mod agent;
mod app;
mod cloudwatch_logs;
mod connect;
mod credentials;
mod data_keys;
mod documents;
mod duration;
mod ec2;
mod error;
mod faults;
mod federation;
mod filter;
mod fleet;
mod gateway;
mod iam;
mod kms;
mod log;
mod log_groups;
mod logins;
mod network;
mod objects;
mod query;
mod reply;
mod resource_groups;
mod run_command;
mod s3;
mod server;
mod service;
mod session;
mod session_logs;
mod sign_in_tokens;
mod sigv4;
mod ssm;
mod sso;
mod state_file;
mod sts;
mod xml;

#[cfg(test)]
mod tests;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{net::TcpListener, task::JoinHandle};

use app::{App, AppParts};
use credentials::{Keyring, random_hex};
use fleet::Fleet;

pub use faults::{FAULTS_HELP, FaultError, Faults};
pub use fleet::{DEFAULT_FLEET, FleetError};
pub use state_file::{Access, UNSET, discover, served_file};

/// How long [`RunningSandbox::stop`] waits for sessions to end.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// How fast agents send their output, and how often calls may be made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// As fast as the client acknowledges; calls as often as anybody likes.
    #[default]
    Unpaced,
    /// As the official agent: at least 1 ms of sleep after each payload of at most 1,024 bytes;
    /// calls within the service's documented quotas.
    Real,
}

/// How to run a sandbox.
#[derive(Clone, Debug)]
pub struct Options {
    /// A fleet file in place of [`DEFAULT_FLEET`].
    pub fleet: Option<PathBuf>,
    /// How many machines there are at least; made-up ones fill the fleet up.
    pub fleet_size: usize,
    /// Loopback port; 0 takes a free one. With any other the user's keys are the same at the next
    /// start with this port and state folder, so that clients outlive a restart.
    pub port: u16,
    /// With `port` 0: where it was the last time with this state folder, and with the keys of then,
    /// if that port is free.
    pub comes_back: bool,
    /// Of all agents.
    pub pace: Pace,
    /// From the start; `/_sandbox/faults` changes them.
    pub faults: Faults,
    /// The machines' folders, kept between runs, and the objects of the minimal S3; made (0700) if
    /// it is missing.
    pub state_dir: PathBuf,
    /// The shell of users on the machines; by default `SHELL`, then bash, then sh.
    pub shell: Option<PathBuf>,
    /// Where to write the [`Access`] file, removed at the end; [`served_file`] for one that
    /// `--sandbox` finds by itself.
    pub access_file: Option<PathBuf>,
}

impl Options {
    /// The default fleet on a free port, with no access file.
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self {
            fleet: None,
            fleet_size: 0,
            port: 0,
            comes_back: false,
            pace: Pace::default(),
            faults: Faults::default(),
            state_dir: state_dir.into(),
            shell: None,
            access_file: None,
        }
    }
}

/// Why no sandbox could be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The fleet file is wrong.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// The loopback port cannot be had.
    #[error("cannot listen on 127.0.0.1:{port}")]
    Listen {
        /// As asked for.
        port: u16,
        /// Why.
        source: std::io::Error,
    },
    /// A folder or file of the state cannot be made.
    #[error("cannot write `{path}`")]
    State {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The system gives no random bytes for the keys.
    #[error("the system gives no random bytes")]
    NoRandomness,
}

/// The stand-in.
#[derive(Debug)]
pub struct Sandbox;

impl Sandbox {
    /// Starts it; it runs on the present tokio runtime until it is stopped or dropped.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(options: Options) -> Result<RunningSandbox, StartError> {
        let state_error = |path: &Path| {
            let path = path.to_owned();
            move |source| StartError::State { path, source }
        };
        fleet::make_folder(&options.state_dir).map_err(state_error(&options.state_dir))?;
        let fleet = Arc::new(Fleet::load(options.fleet.as_deref(), options.fleet_size)?);
        let mut keyring = Keyring::new(fleet.account()).map_err(|_| StartError::NoRandomness)?;
        // A port of one's own choice is one to come back to: clients that outlive a restart keep
        // their keys.
        let kept = match options.port {
            0 => options.comes_back.then(|| "keys.json".to_owned()),
            port => Some(format!("keys-{port}.json")),
        };
        let kept = kept.map(|name| options.state_dir.join(name));
        let before = kept.as_ref().and_then(|path| Access::read(path).ok());
        let (listener, is_back) = listen(options.port, before.as_ref()).await?;
        if let Some(before) = before.filter(|_| is_back) {
            keyring = keyring.with_keys(before.access_key_id, before.secret_access_key);
        }
        let admin_token = random_hex(32).map_err(|_| StartError::NoRandomness)?;
        let port = options.port;
        let listen = |source| StartError::Listen { port, source };
        let address = listener.local_addr().map_err(listen)?;
        let user = keyring.user();
        let access = Access {
            endpoint: format!("http://{address}"),
            region: fleet.region().to_owned(),
            access_key_id: user.access_key_id.clone(),
            secret_access_key: user.secret_access_key.clone(),
            admin_token: admin_token.clone(),
            pid: std::process::id(),
            starts_freely: options.pace == Pace::Unpaced && options.faults.sets_no_rates(),
        };
        for path in options.access_file.iter().chain(&kept) {
            access.write(path).map_err(state_error(path))?;
        }
        s3::remove_leftovers(&options.state_dir);
        let objects = tempfile::Builder::new()
            .prefix(&s3::folder_prefix(std::process::id()))
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .tempdir_in(&options.state_dir)
            .map_err(state_error(&options.state_dir))?;
        let app = Arc::new(App::new(AppParts {
            objects: objects.path().to_owned(),
            address,
            fleet,
            keyring,
            pace: options.pace,
            admin_token,
            state_dir: options.state_dir,
            shell: options.shell,
            kms: data_keys::Kms::new().map_err(|_| StartError::NoRandomness)?,
            faults: options.faults,
        }));
        let server = tokio::spawn(server::serve(Arc::clone(&app), listener));
        Ok(RunningSandbox {
            app,
            access,
            access_file: options.access_file,
            server,
            _objects: objects,
        })
    }
}

/// At `port` or, if that is 0, where it was `before` or at a free one; and whether that is the same
/// as before.
async fn listen(port: u16, before: Option<&Access>) -> Result<(TcpListener, bool), StartError> {
    if port == 0
        && let Some(address) = before.and_then(Access::address)
        && let Ok(listener) = TcpListener::bind(address).await
    {
        return Ok((listener, true));
    }
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
    let listener = bound.map_err(|source| StartError::Listen { port, source })?;
    Ok((listener, port != 0))
}

/// The region of the sandbox that `options` would start.
///
/// # Errors
/// The fleet file is wrong.
pub fn region(options: &Options) -> Result<String, StartError> {
    let fleet = Fleet::load(options.fleet.as_deref(), 0)?;
    Ok(fleet.region().to_owned())
}

/// A running sandbox. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct RunningSandbox {
    app: Arc<App>,
    access: Access,
    access_file: Option<PathBuf>,
    server: JoinHandle<()>,
    /// The objects of the minimal S3, gone with the sandbox.
    _objects: tempfile::TempDir,
}

impl RunningSandbox {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.app.address
    }

    /// Endpoint, keys and token.
    pub const fn access(&self) -> &Access {
        &self.access
    }

    /// The environment with which any AWS client uses it; see [`UNSET`] for what must not be set
    /// beside it.
    pub fn environment(&self) -> Vec<(String, String)> {
        self.access.environment()
    }

    /// The file that [`Access::read`] takes, for child processes.
    pub fn access_file(&self) -> Option<&Path> {
        self.access_file.as_deref()
    }

    /// Orders other faults, for open sessions too.
    pub fn set_faults(&self, faults: Faults) {
        self.app.set_faults(faults);
    }

    /// The calls so far, as `/_sandbox/log` gives them.
    pub fn log(&self) -> serde_json::Value {
        serde_json::json!({ "calls": self.app.log.entries() })
    }

    /// Waits until it was stopped by an admin request.
    pub async fn stopped(&self) {
        self.app.cancel.cancelled().await;
    }

    /// Ends all sessions, so that clients see them closed, and the listener; waits for that at most
    /// ten seconds.
    pub async fn stop(mut self) {
        self.app.stop(STOP_PATIENCE).await;
        let _ = (&mut self.server).await;
    }
}

impl Drop for RunningSandbox {
    fn drop(&mut self) {
        self.app.cancel.cancel();
        if let Some(path) = &self.access_file
            // Another sandbox may have taken the place meanwhile.
            && Access::read(path).is_ok_and(|access| access.endpoint == self.access.endpoint)
        {
            let _ = std::fs::remove_file(path);
        }
    }
}
