//! The sessions to one destination through one server, shared by everything that goes there.
//!
//! A multiplexed session carries many connections. It starts with one; while all of them are busy, further ones are opened, up to
//! [`Limits::most`], and each new connection takes the session that carries least. An agent too old for the multiplexer gets one
//! session per connection ([`crate::basic`]). A session that is gone is replaced, and only the connections on it are lost.

mod follow;
mod load;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};
use std::time::Duration;

use ops_core::connect::Ending;
use ops_core::{Connection, Context, Document, Error, Instance, OpenOptions, Result};
use ops_session::congestion::Budget;
use ops_session::driver;
use ops_session::driver::mux::{Mux, MuxOptions, MuxStream};
use ops_session::handshake::AgentVersion;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::screen::Screen;
use crate::spec::Remote;

use load::Load;

/// Bytes of input that one session queues before it holds its streams back. What waits here, a small request waits behind.
const SEND_BOUND: usize = 64 << 10;
/// Bytes of output that one session queues for its streams.
const RECEIVE_BOUND: usize = 256 << 10;
/// Bytes of input that all sessions of a pool together may have unacknowledged: one alone moves 50 MB/s at 40 ms there and back.
const WINDOW_BYTES: usize = 2 << 20;
/// No limit of our own on resuming: the service ends a session that has been away too long.
const RESUME_FOR: Duration = Duration::from_secs(365 * 24 * 3600);
/// How long a new connection waits for a further session that is being opened.
const SPARE_PATIENCE: Duration = Duration::from_secs(1);
/// How long it waits for the only one.
const OPEN_PATIENCE: Duration = Duration::from_secs(20);
/// How long an unused session without multiplexer is good for a connection.
const FRESH_FOR: Duration = Duration::from_secs(3);
/// Between looks at how busy the sessions are.
const WATCH_EVERY: Duration = Duration::from_millis(250);

/// How many sessions a pool may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Opened at once.
    pub(crate) least: usize,
    /// Never more.
    pub(crate) most: usize,
}

/// What a pool is to the outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing is open yet, or any more.
    Idle,
    /// The first session is on its way.
    Opening,
    Up,
    /// The connection to the service is lost; the session goes on.
    Resuming,
    /// The session is gone; another is being opened.
    Reopening,
    Closed,
}

impl State {
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Opening => "connecting",
            Self::Up => "connected",
            Self::Resuming => "resuming",
            Self::Reopening => "reconnecting",
            Self::Closed => "closed",
        }
    }
}

/// One way to the destination.
pub(crate) enum Far {
    /// A stream of a shared session.
    Stream(MuxStream),
    /// A session of its own.
    Session(Box<Connection>),
}

pub(crate) struct Pool {
    pub(crate) cx: Context,
    pub(crate) instance: Instance,
    pub(crate) remote: Remote,
    reason: Option<String>,
    limits: Limits,
    /// The bound of what its sessions have on their way.
    window: Budget,
    screen: Screen,
    inner: Mutex<Inner>,
    /// Counts what changes: whoever waits for a session looks again.
    changed: watch::Sender<u64>,
    watched: AtomicBool,
}

struct Inner {
    slots: Vec<Slot>,
    /// Sessions on their way.
    opening: usize,
    last_number: u32,
    /// The agent has no multiplexer.
    basic: bool,
    /// A session without multiplexer that no connection has used, and since when.
    fresh: Option<(Box<Connection>, Instant)>,
    failed: Option<Error>,
    reopening: bool,
    /// Sessions in a row that ended soon after they were opened.
    short_lived: u32,
    closed: bool,
}

struct Slot {
    number: u32,
    mux: Mux,
    ending: Option<Ending>,
    resuming: bool,
    load: Load,
}

impl Slot {
    fn is_usable(&self) -> bool {
        self.mux.is_open() && !self.mux.is_blocked()
    }

    fn is_busy(&self) -> bool {
        self.mux.stream_count() > 0 && self.load.is_busy()
    }

    /// The less, the better for a new connection.
    fn rank(&self, now: Instant) -> (bool, u64, usize) {
        let streams = self.mux.stream_count();
        (self.resuming, self.load.weight(now, streams), streams)
    }
}

impl Pool {
    pub(crate) fn new(
        cx: &Context,
        screen: &Screen,
        instance: Instance,
        remote: Remote,
        reason: Option<String>,
        limits: Limits,
    ) -> Arc<Self> {
        Arc::new(Self {
            cx: cx.clone(),
            instance,
            remote,
            reason,
            limits,
            window: Budget::new(WINDOW_BYTES),
            screen: screen.clone(),
            inner: Mutex::new(Inner {
                slots: Vec::new(),
                opening: 0,
                last_number: 0,
                basic: false,
                fresh: None,
                failed: None,
                reopening: false,
                short_lived: 0,
                closed: false,
            }),
            changed: watch::Sender::new(0),
            watched: AtomicBool::new(false),
        })
    }

    /// `db:3306` through `web-1`, for messages.
    pub(crate) fn name(&self) -> String {
        match &self.remote.host {
            None => format!("port {} of {}", self.remote.port, self.instance.label()),
            Some(_) => format!("{} through {}", self.remote, self.instance.label()),
        }
    }

    pub(crate) fn state(&self) -> State {
        let inner = self.lock();
        if inner.closed {
            State::Closed
        } else if inner.slots.iter().any(|slot| !slot.resuming) || inner.fresh.is_some() {
            State::Up
        } else if !inner.slots.is_empty() {
            State::Resuming
        } else if inner.reopening {
            State::Reopening
        } else if inner.opening > 0 {
            State::Opening
        } else if inner.basic {
            State::Up
        } else {
            State::Idle
        }
    }

    /// Sessions that are open.
    pub(crate) fn session_count(&self) -> usize {
        let inner = self.lock();
        inner.slots.len() + usize::from(inner.fresh.is_some())
    }

    /// Connections on all sessions.
    pub(crate) fn connection_count(&self) -> usize {
        let inner = self.lock();
        inner.slots.iter().map(|slot| slot.mux.stream_count()).sum()
    }

    /// Opens the first session, so that whatever is wrong shows at once.
    pub(crate) async fn start(self: &Arc<Self>) -> Result<()> {
        self.lock().opening += 1;
        let opened = self.open().await;
        let mut inner = self.lock();
        inner.opening -= 1;
        drop(inner);
        self.adopt(opened?);
        for _ in 1..self.limits.least {
            self.open_further();
        }
        Ok(())
    }

    /// A way to the destination; waits for a session if there is none.
    pub(crate) async fn connect(self: &Arc<Self>) -> Result<Far> {
        let started = Instant::now();
        let fresh = loop {
            let mut changed = self.changed.subscribe();
            let patience = {
                let mut inner = self.lock();
                if inner.closed {
                    return Err(Error::target("the forward is being stopped"));
                }
                if inner.basic {
                    let fresh = inner.fresh.take();
                    drop(inner);
                    break fresh;
                }
                let waited = started.elapsed();
                let now = Instant::now();
                let room = inner.slots.len() + inner.opening < self.limits.most;
                let opening = inner.opening;
                let rank = |(_, slot): &(usize, &Slot)| slot.rank(now);
                let slots = || inner.slots.iter().enumerate();
                let best = slots()
                    .filter(|(_, slot)| slot.is_usable())
                    .min_by_key(rank);
                // Where no further session may be opened, one that is blocked must do: whoever waits on it puts an end to that.
                let best = best.or_else(|| {
                    let open = slots().filter(|(_, slot)| slot.mux.is_open());
                    open.min_by_key(rank).filter(|_| !room && opening == 0)
                });
                match best {
                    Some((index, slot)) => {
                        let crowded = slot.is_busy();
                        let further = inner.opening > 0 && slot.mux.stream_count() > 0;
                        if waited >= SPARE_PATIENCE || !(crowded && room || further) {
                            match slot.mux.open() {
                                Ok(stream) => {
                                    inner.slots[index].load.place(now);
                                    return Ok(Far::Stream(stream));
                                }
                                // It has just ended, which its watcher will find out.
                                Err(error) if waited >= OPEN_PATIENCE => {
                                    return Err(Error::target(error.to_string()));
                                }
                                Err(_) => {}
                            }
                        }
                        if crowded && room {
                            self.open_further_locked(&mut inner);
                        }
                        SPARE_PATIENCE.saturating_sub(waited)
                    }
                    None => {
                        // One that has just ended is about to be replaced.
                        let ended = inner.slots.iter().any(|slot| slot.mux.has_ended());
                        if inner.opening == 0 && !inner.reopening && !ended {
                            if let Some(error) = inner.failed.take() {
                                return Err(error);
                            }
                            if room {
                                self.open_further_locked(&mut inner);
                            }
                        }
                        if waited >= OPEN_PATIENCE {
                            return Err(Error::target(format!(
                                "no session to {} within {} s",
                                self.name(),
                                OPEN_PATIENCE.as_secs()
                            )));
                        }
                        OPEN_PATIENCE.saturating_sub(waited)
                    }
                }
            };
            let _ = tokio::time::timeout(
                patience.clamp(Duration::from_millis(10), OPEN_PATIENCE),
                changed.changed(),
            )
            .await;
        };
        match fresh {
            // One that has waited may have been closed by the destination meanwhile, and nobody would tell.
            Some((connection, since)) if since.elapsed() < FRESH_FOR => {
                return Ok(Far::Session(connection));
            }
            // Dropped, it is terminated in the background.
            Some(_) | None => {}
        }
        self.open().await.map(|c| Far::Session(Box::new(c)))
    }

    /// Ends every session at the service.
    pub(crate) async fn close(&self) {
        let (slots, fresh) = {
            let mut inner = self.lock();
            inner.closed = true;
            (std::mem::take(&mut inner.slots), inner.fresh.take())
        };
        self.notify();
        let mut ends = tokio::task::JoinSet::new();
        for slot in slots {
            ends.spawn(async move {
                slot.mux.terminate().await;
                if let Some(ending) = slot.ending {
                    ending.terminate().await;
                }
            });
        }
        if let Some((connection, _)) = fresh {
            ends.spawn(connection.terminate());
        }
        ends.join_all().await;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self) {
        self.changed
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    async fn open(&self) -> Result<Connection> {
        let document = match &self.remote.host {
            None => Document::PortForwarding {
                port: self.remote.port,
            },
            Some(host) => Document::PortForwardingToRemoteHost {
                host: host.clone(),
                port: self.remote.port,
            },
        };
        let window = self.window.clone();
        let options = OpenOptions {
            reason: self.reason.clone(),
            may_ask: self.screen.is_live(),
            driver: driver::Options {
                send_bound: SEND_BOUND,
                receive_bound: RECEIVE_BOUND,
                resume_for: RESUME_FOR,
                controller: Arc::new(move || window.share()),
                ..driver::Options::default()
            },
            ..OpenOptions::default()
        };
        self.cx.open(&self.instance, document, options).await
    }

    fn open_further(self: &Arc<Self>) {
        self.open_further_locked(&mut self.lock());
    }

    fn open_further_locked(self: &Arc<Self>, inner: &mut Inner) {
        inner.opening += 1;
        let pool = self.clone();
        tokio::spawn(async move {
            let opened = pool.open().await;
            pool.lock().opening -= 1;
            match opened {
                Ok(connection) => {
                    pool.adopt(connection);
                }
                Err(error) => {
                    pool.screen
                        .detail(format!("no further session to {}: {error}", pool.name()));
                    pool.lock().failed = Some(error);
                }
            }
            pool.notify();
        });
    }

    /// Takes a session into use.
    fn adopt(self: &Arc<Self>, connection: Connection) {
        let agent = connection.ready.agent_version.as_ref();
        let mux_options = MuxOptions {
            keep_alive: agent.is_some_and(|version| !version.disables_smux_keepalive()),
            large_payloads: agent.is_some_and(AgentVersion::takes_large_payloads),
            ..MuxOptions::default()
        };
        let is_mux = connection.ready.is_mux();
        let version = connection
            .ready
            .agent_version
            .as_ref()
            .map_or("?", |version| version.as_str())
            .to_owned();
        let mut inner = self.lock();
        inner.failed = None;
        if inner.closed {
            drop(inner);
            drop(connection);
            return;
        }
        if !is_mux {
            if !std::mem::replace(&mut inner.basic, true) {
                self.screen.detail(format!(
                    "agent {version} of {} has no multiplexer: each connection gets a session of its own",
                    self.instance.label()
                ));
            }
            inner.fresh = Some((Box::new(connection), Instant::now()));
            drop(inner);
            self.notify();
            tokio::spawn(drop_stale(Arc::downgrade(self)));
            return;
        }
        inner.last_number += 1;
        let number = inner.last_number;
        self.screen.detail(format!(
            "session {} ({number}) to {} is open, agent {version}",
            connection.id,
            self.name(),
        ));
        let (session, ending) = connection.into_parts();
        let (mux, notices) = Mux::new(session, mux_options);
        inner.slots.push(Slot {
            number,
            mux,
            ending: Some(ending),
            resuming: false,
            load: Load::default(),
        });
        drop(inner);
        tokio::spawn(self.clone().follow(number, notices));
        if self.limits.most > 1 && !self.watched.swap(true, Ordering::Relaxed) {
            tokio::spawn(watch_load(Arc::downgrade(self)));
        }
        self.notify();
    }

    /// Measures, and opens a further session while all are busy. False: the pool is closed.
    fn look(self: &Arc<Self>) -> bool {
        let mut inner = self.lock();
        if inner.closed {
            return false;
        }
        let now = Instant::now();
        for slot in &mut inner.slots {
            let stats = slot.mux.stats();
            slot.load.sample(now, stats.bytes_in, stats.bytes_out);
        }
        let all_busy = !inner.slots.is_empty() && inner.slots.iter().all(Slot::is_busy);
        if all_busy && inner.slots.len() + inner.opening < self.limits.most && inner.opening == 0 {
            self.open_further_locked(&mut inner);
        }
        true
    }
}

/// Ends an unused session without multiplexer: the connection behind it would take up a place at the destination.
async fn drop_stale(pool: std::sync::Weak<Pool>) {
    tokio::time::sleep(FRESH_FOR).await;
    let Some(pool) = pool.upgrade() else { return };
    let mut inner = pool.lock();
    if matches!(&inner.fresh, Some((_, since)) if since.elapsed() >= FRESH_FOR) {
        inner.fresh = None;
    }
}

async fn watch_load(pool: std::sync::Weak<Pool>) {
    let mut tick = tokio::time::interval(WATCH_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let Some(pool) = pool.upgrade() else { return };
        if !pool.look() {
            return;
        }
    }
}
