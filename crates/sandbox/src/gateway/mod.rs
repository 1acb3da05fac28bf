//! The message gateway: sessions, their tokens, and the web sockets that come and go under them.

mod frame;
mod line;
mod relay;
mod socket;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::constant_time;
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    credentials::{Identity, letters, random_base64},
    faults::Faults,
    session::SessionSpec,
};

pub(crate) use socket::{WebSocket, accept_key};

/// How long an unused token opens a data channel.
const TOKEN_LIFETIME: Duration = Duration::from_secs(60);
/// How many ended sessions are remembered.
const HISTORY_BOUND: usize = 1000;

/// All sessions of the run.
#[derive(Debug)]
pub(crate) struct Gateway {
    sessions: Mutex<BTreeMap<u64, Arc<Session>>>,
    count: AtomicU64,
    faults: watch::Receiver<Arc<Faults>>,
    cancel: CancellationToken,
    tasks: TaskTracker,
}

/// One session, as the control plane sees it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) target: String,
    pub(crate) region: String,
    pub(crate) document: String,
    pub(crate) reason: Option<String>,
    pub(crate) owner: Identity,
    pub(crate) started: Timestamp,
    pub(crate) limits: Limits,
    attach: mpsc::Sender<WebSocket>,
    cancel: CancellationToken,
    life: Mutex<SessionLife>,
}

/// The timeouts of the account's preferences.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) idle: Duration,
    pub(crate) duration: Option<Duration>,
}

/// What StartSession was asked for.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) region: String,
    pub(crate) document: String,
    pub(crate) reason: Option<String>,
    pub(crate) owner: Identity,
    pub(crate) limits: Limits,
}

#[derive(Debug)]
struct SessionLife {
    status: SessionStatus,
    ended: Option<Timestamp>,
    token: Option<(String, Instant)>,
}

/// As DescribeSessions names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionStatus {
    Connecting,
    Connected,
    Disconnected,
    Terminating,
    Terminated,
}

impl SessionStatus {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Connecting => "Connecting",
            Self::Connected => "Connected",
            Self::Disconnected => "Disconnected",
            Self::Terminating => "Terminating",
            Self::Terminated => "Terminated",
        }
    }
}

impl Gateway {
    pub(crate) fn new(
        faults: watch::Receiver<Arc<Faults>>,
        cancel: CancellationToken,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            sessions: Mutex::default(),
            count: AtomicU64::new(0),
            faults,
            cancel,
            tasks,
        }
    }

    /// An id for a session of this caller.
    ///
    /// # Errors
    /// There is no randomness.
    pub(crate) fn session_id(caller: &Identity) -> Result<String, aws_lc_rs::error::Unspecified> {
        Ok(format!(
            "{}-{}",
            caller.caller_name,
            letters(26)?.to_ascii_lowercase()
        ))
    }

    /// Starts the session that `spec` describes. Its agent begins when the first client attaches.
    pub(crate) fn start(&self, spec: SessionSpec, request: Request) -> Arc<Session> {
        let (attach, attachments) = mpsc::channel(1);
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let session = Arc::new(Session {
            id: spec.session_id.clone(),
            target: spec.instance.id.clone(),
            region: request.region,
            document: request.document,
            reason: request.reason,
            owner: request.owner,
            started: Timestamp::now(),
            limits: request.limits,
            attach,
            cancel: self.cancel.child_token(),
            life: Mutex::new(SessionLife {
                status: SessionStatus::Connecting,
                ended: None,
                token: None,
            }),
        });
        {
            let mut sessions = self.lock();
            sessions.insert(number, Arc::clone(&session));
            if sessions.len() > HISTORY_BOUND {
                // Only what has ended is forgotten. Numbers grow, so that the first one found is
                // the oldest.
                // Only what has ended is forgotten. Numbers grow, so that the first one found is
                // the oldest.
                let oldest = sessions
                    .iter()
                    .find(|(_, session)| session.status() == SessionStatus::Terminated)
                    .map(|(number, _)| *number);
                if let Some(oldest) = oldest {
                    sessions.remove(&oldest);
                }
            }
        }
        let faults = self.faults.clone();
        self.tasks.spawn(relay::run(
            Arc::clone(&session),
            spec,
            attachments,
            faults,
            number,
        ));
        session
    }

    /// How many sessions were started so far.
    pub(crate) fn started(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) fn session(&self, id: &str) -> Option<Arc<Session>> {
        self.lock()
            .values()
            .find(|session| session.id == id)
            .cloned()
    }

    /// All sessions that are remembered, newest first.
    pub(crate) fn sessions(&self) -> Vec<Arc<Session>> {
        self.lock().values().rev().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    pub(crate) fn status(&self) -> SessionStatus {
        self.life().status
    }

    pub(crate) fn ended(&self) -> Option<Timestamp> {
        self.life().ended
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(
            self.status(),
            SessionStatus::Terminated | SessionStatus::Terminating
        )
    }

    /// A fresh token; the one before it is void.
    ///
    /// # Errors
    /// There is no randomness.
    pub(crate) fn issue_token(&self) -> Result<String, aws_lc_rs::error::Unspecified> {
        let token = random_base64(150)?;
        self.life().token = Some((token.clone(), Instant::now()));
        Ok(token)
    }

    /// Uses up the token if it is the one that was issued last.
    fn take_token(&self, given: &str) -> bool {
        let mut life = self.life();
        let is_good = life.token.as_ref().is_some_and(|(token, issued)| {
            issued.elapsed() < TOKEN_LIFETIME
                && constant_time::verify_slices_are_equal(token.as_bytes(), given.as_bytes())
                    .is_ok()
        });
        if is_good {
            life.token = None;
        }
        is_good
    }

    /// Ends the session, as TerminateSession does.
    pub(crate) fn terminate(&self) {
        if self.status() != SessionStatus::Terminated {
            self.set_status(SessionStatus::Terminating);
        }
        self.cancel.cancel();
    }

    fn set_status(&self, status: SessionStatus) {
        let mut life = self.life();
        // The end is final: an attach or a detach that was on its way does not bring a session
        // back.
        // The end is final: an attach or a detach that was on its way does not bring a session
        // back.
        if life.status == SessionStatus::Terminated
            || (life.status == SessionStatus::Terminating && status != SessionStatus::Terminated)
        {
            return;
        }
        life.status = status;
        if status == SessionStatus::Terminated {
            life.ended = Some(Timestamp::now());
            life.token = None;
        }
    }

    fn life(&self) -> std::sync::MutexGuard<'_, SessionLife> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
