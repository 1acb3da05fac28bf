//! Connections to one server, made as they are needed.

use std::sync::{Arc, Mutex, PoisonError};

use ops_core::{
    Error, Result,
    ssh::client::{Client, Dialer, Login},
};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

use super::channel::Channel;
use crate::transport::Server;

/// Most sessions to one server, whatever is asked for.
pub(super) const SESSIONS_MAX: usize = 16;
/// Bytes of content that one session may have under way: ten megabytes a second at 50 ms, and sixteen times as much of it stays small.
const ROOM_KIB: u32 = 512;

/// Where SFTP servers lie; the first is Debian's.
const SERVERS: &str = "/usr/lib/openssh/sftp-server /usr/libexec/openssh/sftp-server /usr/lib/ssh/sftp-server /usr/libexec/sftp-server /usr/lib/sftp-server";

/// One session with its SFTP server.
pub(super) struct Session {
    pub(super) channel: Channel,
    pub(super) client: Client,
    room: Semaphore,
}

impl Session {
    /// Waits until `bytes` more of content may be under way.
    pub(super) async fn room(&self, bytes: usize) -> SemaphorePermit<'_> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(ROOM_KIB);
        match self.room.acquire_many(kib.clamp(1, ROOM_KIB)).await {
            Ok(permit) => permit,
            // Never closed.
            Err(_) => std::future::pending().await,
        }
    }
}

/// All sessions to one server.
pub(super) struct Pool {
    dialer: Dialer,
    /// The user to become.
    become_user: Option<String>,
    label: String,
    slots: Mutex<Vec<Arc<OnceCell<Arc<Session>>>>>,
}

impl Pool {
    /// Connects nowhere yet.
    ///
    /// # Errors
    /// No user, no usable key.
    pub(super) fn new(server: &Server, login: Login) -> Result<Self> {
        let dialer = Dialer::new(&server.cx, &server.instance, login)?;
        let wanted = match (&server.user, server.sudo) {
            (Some(user), _) => Some(user.clone()),
            (None, true) => Some("root".to_owned()),
            (None, false) => None,
        };
        let become_user = wanted.filter(|user| user != dialer.user());
        if let Some(user) = &become_user {
            // It goes into a command line.
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            if !user.bytes().all(plain) || user.starts_with('-') {
                return Err(Error::usage(format!("`{user}` is no name of a user")));
            }
        }
        Ok(Self {
            dialer,
            become_user,
            label: server.instance.label().to_owned(),
            slots: Mutex::default(),
        })
    }

    /// Session number `index`, connected if it is not yet.
    ///
    /// # Errors
    /// As [`Dialer::connect`]; a server without SFTP.
    pub(super) async fn session(&self, index: usize) -> Result<Arc<Session>> {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            while slots.len() <= index {
                slots.push(Arc::default());
            }
            Arc::clone(&slots[index])
        };
        slot.get_or_try_init(|| Box::pin(self.connect()))
            .await
            .cloned()
    }

    /// Those that are connected; the first is in front.
    pub(super) fn connected(&self) -> Vec<Arc<Session>> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots
            .iter()
            .filter_map(|slot| slot.get().cloned())
            .collect()
    }

    /// Words in front of a command line on the server.
    pub(super) fn prefix(&self) -> String {
        self.become_user
            .as_ref()
            .map_or(String::new(), |user| format!("sudo -n -H -u {user} -- "))
    }

    pub(super) fn label(&self) -> &str {
        &self.label
    }

    async fn connect(&self) -> Result<Arc<Session>> {
        let client = self.dialer.connect().await?;
        let program = match &self.become_user {
            None => client.subsystem("sftp").await?.ok_or_else(|| {
                Error::target(format!("the SSH server of `{}` has no SFTP", self.label))
                    .hint("add `Subsystem sftp internal-sftp` to its sshd_config, or copy without it: --via session")
            })?,
            Some(_) => {
                let prefix = self.prefix();
                // sshd starts it in the home of who logged in; sudo stays there.
                let line = format!(
                    "sh -c 'for s in {SERVERS}; do [ -x \"$s\" ] && exec {prefix}sh -c \"cd; exec \\\"\\$0\\\"\" \"$s\"; done; echo \"no sftp-server was found\" >&2; exit 127'"
                );
                client.command(line.as_bytes()).await?
            }
        };
        let channel = Channel::open(program).await.map_err(|error| {
            let Some(user) = &self.become_user else {
                return error;
            };
            let (label, login) = (&self.label, self.dialer.user());
            let what =
                format!("no SFTP server could be started on `{label}` as `{user}` with sudo -n");
            let error = error
                .why()
                .iter()
                .fold(Error::target(what), Error::caused_by);
            error
                .hint(format!("let `{login}` use sudo there without a password"))
                .hint("or copy without SSH: --via session")
        })?;
        Ok(Arc::new(Session {
            channel,
            client,
            room: Semaphore::new(ROOM_KIB as usize),
        }))
    }
}
