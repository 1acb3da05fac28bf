//! Connections to one server, made as they are needed, and again where one is lost.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ops_core::{Context, connect::Urgency};
use ops_remote::ssh::client::{Client, Dialer, Login};
use ops_ui::{Error, ErrorKind, Result, hint, output::escape, text::named};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::channel::{Channel, Failure};
use crate::transport::Server;

/// Most sessions to one server, whatever is asked for.
pub(super) const SESSIONS_MAX: usize = 16;
/// Bytes of content that one session may have under way: ten megabytes a second at 50 ms, and
/// sixteen times as much of it stays small.
const ROOM_KIB: u32 = 512;
/// Times that a lost session is made again without anything done in between.
const TRIES: u32 = 4;
/// Before the first of them; twice as long before each of the others.
const PAUSE: Duration = Duration::from_millis(500);

/// Where SFTP servers lie; the first is Debian's.
const SERVERS: &str = "/usr/lib/openssh/sftp-server /usr/libexec/openssh/sftp-server /usr/lib/ssh/sftp-server /usr/libexec/sftp-server /usr/lib/sftp-server";

/// One session with its SFTP server.
pub(super) struct SftpSession {
    pub(super) channel: Channel,
    pub(super) client: Client,
    room: Arc<Semaphore>,
    /// Something was done over it.
    used: AtomicBool,
}

impl SftpSession {
    /// Waits until `bytes` more of content may be under way.
    pub(super) async fn room(&self, bytes: usize) -> OwnedSemaphorePermit {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(ROOM_KIB);
        let room = Arc::clone(&self.room);
        match room.acquire_many_owned(kib.clamp(1, ROOM_KIB)).await {
            Ok(permit) => permit,
            // Never closed.
            Err(_) => std::future::pending().await,
        }
    }

    /// Notes that something was done over it, so that it is worth being made again.
    pub(super) fn was_used(&self) {
        self.used.store(true, Ordering::Relaxed);
    }

    /// Whether it is still there; asks the server, since several channels need not learn of an end
    /// in any order.
    pub(super) async fn is_alive(&self) -> bool {
        !matches!(self.channel.real_path(b".").await, Err(Failure::Lost(_)))
    }
}

/// A place for a session.
#[derive(Default)]
struct Slot {
    session: Option<Arc<SftpSession>>,
    /// Of the session that was here.
    why_lost: Option<Error>,
    /// To make it again, since something was last done over it.
    tries: u32,
    /// Outlives its sessions, as does what is under way.
    room: Option<Arc<Semaphore>>,
}

/// All sessions to one server.
pub(super) struct Pool {
    cx: Context,
    dialer: Dialer,
    /// Of the first session; the others are some of many.
    urgency: Urgency,
    /// The user to become.
    become_user: Option<String>,
    label: String,
    slots: Mutex<Vec<Arc<tokio::sync::Mutex<Slot>>>>,
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
            cx: server.cx.clone(),
            dialer,
            urgency: server.urgency,
            become_user,
            label: server.instance.label().to_owned(),
            slots: Mutex::default(),
        })
    }

    /// Session number `index`, connected if it is not yet, or not any more.
    ///
    /// # Errors
    /// As [`Dialer::connect`]; a server without SFTP; why it was lost, if it is lost over and over.
    pub(super) async fn session(&self, index: usize) -> Result<Arc<SftpSession>> {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            while slots.len() <= index {
                slots.push(Arc::default());
            }
            Arc::clone(&slots[index])
        };
        // Whoever else needs it waits for the one that connects.
        let mut slot = slot.lock().await;
        if let Some(session) = slot.session.take() {
            if !session.channel.is_lost() {
                slot.session = Some(Arc::clone(&session));
                return Ok(session);
            }
            slot.why_lost = Some(session.client.lost(&session.channel.why_lost()));
            if session.used.load(Ordering::Relaxed) {
                slot.tries = 0;
            }
        }
        let urgency = if index == 0 {
            self.urgency
        } else {
            Urgency::Bulk
        };
        loop {
            if let Some(why) = &slot.why_lost {
                if slot.tries == TRIES {
                    return Err(why.clone());
                }
                let label = escape(&self.label);
                let why = escape(&why.to_string());
                self.cx
                    .output()
                    .detail(format!("{label}: connecting again: {why}"));
                tokio::time::sleep(PAUSE * 2_u32.pow(slot.tries)).await;
                slot.tries += 1;
            }
            let room = slot
                .room
                .get_or_insert_with(|| Arc::new(Semaphore::new(ROOM_KIB as usize)));
            match Box::pin(self.connect(Arc::clone(room), urgency)).await {
                Ok(session) => {
                    slot.session = Some(Arc::clone(&session));
                    return Ok(session);
                }
                // The first time, what is wrong is wrong.
                Err(error) if slot.why_lost.is_some() && may_pass(&error) => {
                    slot.why_lost = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The first of those that are connected.
    pub(super) fn connected(&self) -> Option<Arc<SftpSession>> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.iter().find_map(|slot| {
            let slot = slot.try_lock().ok()?;
            let session = slot.session.as_ref()?;
            (!session.channel.is_lost()).then(|| Arc::clone(session))
        })
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

    async fn connect(&self, room: Arc<Semaphore>, urgency: Urgency) -> Result<Arc<SftpSession>> {
        let client = self.dialer.connect(urgency).await?;
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
                client.command(line.as_bytes()).await?.ok_or_else(|| {
                    Error::target(format!("`{}` starts no commands over SSH", self.label))
                })?
            }
        };
        let channel = Channel::open(program).await.map_err(|error| {
            let Some(user) = &self.become_user else {
                return error;
            };
            let (label, login) = (&self.label, self.dialer.user());
            let what =
                format!("no SFTP server could be started on `{label}` as `{user}` with sudo -n");
            let error = Error::target(what).caused_as(&error);
            error
                .hint(hint!(
                    "let {} use sudo there without a password",
                    named(login)
                ))
                .hint("or copy without SSH: --via session")
        })?;
        Ok(Arc::new(SftpSession {
            channel,
            client,
            room,
            used: AtomicBool::new(false),
        }))
    }
}

/// Whether trying again may help.
fn may_pass(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Unreachable | ErrorKind::Unexpected | ErrorKind::Timeout
    )
}
