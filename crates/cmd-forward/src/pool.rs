//! The sessions to one destination through one server, shared by everything that goes there.
//!
//! A multiplexed session carries many connections. A pool starts with one; while one is in use
//! another is open or on its way, up to [`Limits::most`], and each new connection takes the session
//! that carries least ([`place`]). An agent too old for the multiplexer gets a session for each
//! connection of its own. A session that is gone is replaced, and only the connections on
//! it are lost.

mod follow;
mod load;
mod own;
mod place;
mod starts;
mod urgent;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};
use std::time::Duration;

use ops_core::connect::{Ending, Urgency};
use ops_core::trouble::Troubled;
use ops_core::{Connection, Context, Document, OpenOptions};
use ops_profile::Instance;
use ops_session::congestion::Budget;
use ops_session::driver;
use ops_session::driver::mux::{Mux, MuxOptions, MuxStream};
use ops_session::handshake::AgentVersion;
use ops_ui::{Error, Result};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use crate::screen::Screen;
use crate::spec::RemoteAddress;

use load::Load;
use own::OwnSessions;
use place::{LightestSession, PoolView, SessionCount};
use starts::Starts;
pub(crate) use urgent::UrgentStarts;

/// Bytes of input that one session queues before it holds its streams back. What waits here, a
/// small request waits behind.
const SEND_BOUND: usize = 64 << 10;
/// Bytes of output that one session queues for its streams.
const RECEIVE_BOUND: usize = 256 << 10;
/// Bytes of input that all sessions of a pool together may have unacknowledged: one alone moves 50
/// MB/s at 40 ms there and back.
const WINDOW_BYTES: usize = 2 << 20;
/// No limit of our own on resuming: the service ends a session that has been away too long.
const RESUME_FOR: Duration = Duration::from_secs(365 * 24 * 3600);
/// Longest that a new connection waits for a further session that is being opened.
const SPARE_PATIENCE: Duration = Duration::from_secs(5);
/// After a further session could not be opened: how long none is tried but where there is no other.
const SPARE_PAUSE: Duration = Duration::from_secs(10);
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
    /// While one is in use another is open, or on its way. Without, one is opened for whoever comes
    /// right behind another: the destinations of a SOCKS proxy are many, mostly have one
    /// connection, and share one quota for starting sessions.
    pub(crate) spare: bool,
}

/// What a pool is to the outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PoolState {
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

impl PoolState {
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
pub(crate) enum RemoteConn {
    /// A stream of a shared session, and the session's number.
    Stream(MuxStream, u32),
    /// A session of its own, and its place among those.
    Session(Box<Connection>, OwnedSemaphorePermit),
}

pub(crate) struct Pool {
    pub(crate) cx: Context,
    pub(crate) instance: Instance,
    pub(crate) remote: RemoteAddress,
    reason: Option<String>,
    limits: Limits,
    /// `None`: each start that somebody waits for is urgent.
    urgent_starts: Option<Arc<UrgentStarts>>,
    /// The bound of what its sessions have on their way.
    window: Budget,
    screen: Screen,
    /// What its sessions tell of their connections, each thing once.
    troubled: Troubled,
    own_sessions: OwnSessions,
    inner: Mutex<Inner>,
    /// Counts what changes: whoever waits for a session looks again.
    changed: watch::Sender<u64>,
    watched: AtomicBool,
    /// When the destination last took a connection, as far as that shows.
    accepted: Mutex<Option<Instant>>,
}

struct Inner {
    slots: Vec<PoolSession>,
    /// The sessions that are on their way.
    starts: Starts,
    /// Connections that wait for a session that is on its way although there is one.
    waiting: usize,
    /// No further session is tried before.
    no_spare_before: Option<Instant>,
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

struct PoolSession {
    number: u32,
    mux: Mux,
    ending: Option<Ending>,
    resuming: bool,
    /// The agent owes an answer and says nothing: it may be busy, or its worker dead, of which the
    /// service hears a minute later.
    silent: bool,
    load: Load,
}

impl PoolSession {
    fn is_usable(&self) -> bool {
        self.mux.is_open() && !self.mux.is_blocked() && !self.silent
    }

    /// Whether it takes up one of the places of [`Limits::most`]. A silent one keeps its
    /// connections and its time, but not its place: the next connection must not depend on it.
    fn counts(&self) -> bool {
        !self.silent
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

impl Inner {
    /// Whether another session may be opened.
    fn has_room(&self, limits: Limits) -> bool {
        self.counted() + self.starts.len() < limits.most
    }

    fn counted(&self) -> usize {
        self.slots.iter().filter(|slot| slot.counts()).count()
    }

    fn may_open(&self, now: Instant) -> bool {
        !self.closed && self.no_spare_before.is_none_or(|until| now >= until)
    }

    /// How many further sessions are wanted now.
    fn missing(&self, now: Instant, limits: Limits) -> usize {
        if !self.may_open(now) {
            return 0;
        }
        let usable = self.slots.iter().filter(|slot| slot.is_usable());
        let unused = usable.filter(|slot| slot.mux.stream_count() == 0).count();
        let count = SessionCount {
            used: self.counted() - unused,
            unused,
            coming: self.starts.len(),
            waiting: self.waiting,
        };
        count.missing(limits.spare, limits.most)
    }
}

impl Pool {
    pub(crate) fn new(
        cx: &Context,
        screen: &Screen,
        instance: Instance,
        remote: RemoteAddress,
        reason: Option<String>,
        limits: Limits,
        urgent_starts: Option<Arc<UrgentStarts>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            cx: cx.clone(),
            instance,
            remote,
            reason,
            limits,
            urgent_starts,
            window: Budget::new(WINDOW_BYTES),
            screen: screen.clone(),
            troubled: Troubled::default(),
            own_sessions: OwnSessions::default(),
            inner: Mutex::new(Inner {
                slots: Vec::new(),
                starts: Starts::default(),
                waiting: 0,
                no_spare_before: None,
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
            accepted: Mutex::default(),
        })
    }

    /// `db:3306` through `web-1`, for messages.
    pub(crate) fn name(&self) -> String {
        match &self.remote.host {
            None => format!("port {} of {}", self.remote.port, self.instance.label()),
            Some(_) => format!("{} through {}", self.remote, self.instance.label()),
        }
    }

    pub(crate) fn state(&self) -> PoolState {
        let inner = self.lock();
        if inner.closed {
            PoolState::Closed
        } else if inner
            .slots
            .iter()
            .any(|slot| !slot.resuming && !slot.silent)
            || inner.fresh.is_some()
        {
            PoolState::Up
        } else if !inner.slots.is_empty() {
            PoolState::Resuming
        } else if inner.reopening {
            PoolState::Reopening
        } else if !inner.starts.is_empty() {
            PoolState::Opening
        } else if inner.basic {
            PoolState::Up
        } else {
            PoolState::Idle
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
        let began = self.begin_opening(&mut self.lock());
        let opened = self.open(self.urgency_of_awaited()).await;
        let result = opened.map(|connection| self.adopt(connection));
        self.end_opening(began, result.is_ok());
        result?;
        for _ in 1..self.limits.least {
            self.open_further(&mut self.lock(), Urgency::Bulk);
        }
        Ok(())
    }

    fn begin_opening(&self, inner: &mut Inner) -> Instant {
        let began = Instant::now();
        inner.starts.begin(began);
        began
    }

    fn end_opening(&self, began: Instant, opened: bool) {
        let mut inner = self.lock();
        inner.starts.end(began, opened.then(|| began.elapsed()));
        if opened {
            inner.no_spare_before = None;
        } else {
            inner.no_spare_before = Some(Instant::now() + SPARE_PAUSE);
        }
    }

    /// A way to the destination; waits for a session if there is none.
    pub(crate) async fn connect(self: &Arc<Self>) -> Result<RemoteConn> {
        let started = Instant::now();
        let mut waiting: Option<WaitingConn> = None;
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
                let (coming, expected) = inner.starts.expected(now, SPARE_PATIENCE);
                match self.best(&inner, now) {
                    Some(index) => {
                        let slot = &inner.slots[index];
                        let opens_one = !self.limits.spare
                            && coming == 0
                            && slot.load.is_young(now)
                            && inner.has_room(self.limits)
                            && inner.may_open(now);
                        let scene = PoolView {
                            best: Some(LightestSession {
                                streams: slot.mux.stream_count(),
                                busy: slot.is_busy() || !slot.is_usable(),
                            }),
                            coming: coming + usize::from(opens_one),
                            // This one counts among the others only.
                            waiting: inner.waiting - usize::from(waiting.is_some()),
                        };
                        if waited >= SPARE_PATIENCE || scene.takes_best() {
                            match slot.mux.open() {
                                Ok(stream) => {
                                    let slot = &mut inner.slots[index];
                                    slot.load.place(now);
                                    let number = slot.number;
                                    if let Some(waiting) = waiting {
                                        waiting.end(&mut inner);
                                    }
                                    self.open_missing(&mut inner, now);
                                    return Ok(RemoteConn::Stream(stream, number));
                                }
                                // It has just ended, which its watcher will find out.
                                Err(error) if waited >= OPEN_PATIENCE => {
                                    return Err(Error::target(error.to_string()));
                                }
                                Err(_) => {}
                            }
                        } else if waiting.is_none() {
                            waiting = Some(WaitingConn::begin(self, &mut inner));
                            self.open_missing(&mut inner, now);
                        }
                        let at_last = SPARE_PATIENCE.saturating_sub(waited);
                        expected.map_or(at_last, |at| (at - now).min(at_last))
                    }
                    None => {
                        // One that has just ended is about to be replaced.
                        let ended = inner.slots.iter().any(|slot| slot.mux.has_ended());
                        if inner.starts.is_empty() && !inner.reopening && !ended {
                            if let Some(error) = inner.failed.take() {
                                return Err(error);
                            }
                            if inner.has_room(self.limits) {
                                self.open_further(&mut inner, self.urgency_of_awaited());
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
        let place = self.own_sessions.take_place(&self.name()).await?;
        match fresh {
            // One that has waited may have been closed by the destination meanwhile, and nobody
            // would tell.
            Some((connection, since)) if since.elapsed() < FRESH_FOR => {
                return Ok(RemoteConn::Session(connection, place));
            }
            // Dropped, it is terminated in the background.
            Some(_) | None => {}
        }
        let opened = self.open(self.urgency_of_awaited()).await;
        opened.map(|connection| RemoteConn::Session(Box::new(connection), place))
    }

    /// The destination has taken a connection.
    pub(crate) fn has_accepted(&self) {
        *self.accepted() = Some(Instant::now());
    }

    /// It has refused one.
    pub(crate) fn has_refused(&self) {
        *self.accepted() = None;
    }

    /// Whether it took one lately, and has refused none since.
    pub(crate) fn has_accepted_within(&self, time: Duration) -> bool {
        self.accepted().is_some_and(|at| at.elapsed() < time)
    }

    fn accepted(&self) -> MutexGuard<'_, Option<Instant>> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session that a new connection would take.
    fn best(&self, inner: &Inner, now: Instant) -> Option<usize> {
        let slots = || inner.slots.iter().enumerate();
        let rank = |(_, slot): &(usize, &PoolSession)| slot.rank(now);
        let usable = slots().filter(|(_, slot)| slot.is_usable());
        let best = usable.min_by_key(rank);
        // Where no further session may be opened, one that is blocked must do: whoever waits on it
        // puts an end to that.
        let best = best.or_else(|| {
            let open = slots().filter(|(_, slot)| slot.mux.is_open() && !slot.silent);
            open.min_by_key(rank)
                .filter(|_| !inner.has_room(self.limits) && inner.starts.is_empty())
        });
        best.map(|(index, _)| index)
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

    /// Starts a session. Where others want to start some too, one that nobody waits for comes
    /// after those that somebody does wait for.
    async fn open(&self, urgency: Urgency) -> Result<Connection> {
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
            throttles: None,
            reason: self.reason.clone(),
            may_ask: self.screen.is_live(),
            urgency,
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

    /// Opens as many further sessions as are wanted, behind the caller's back. Whoever waits for
    /// one could use another.
    fn open_missing(self: &Arc<Self>, inner: &mut Inner, now: Instant) {
        for _ in 0..inner.missing(now, self.limits) {
            self.open_further(inner, Urgency::Bulk);
        }
    }

    fn open_further(self: &Arc<Self>, inner: &mut Inner, urgency: Urgency) {
        let began = self.begin_opening(inner);
        let pool = self.clone();
        tokio::spawn(async move {
            // It is adopted before it is no longer on its way: in between nobody may take it for
            // missing.
            match pool.open(urgency).await {
                Ok(connection) => {
                    pool.adopt(connection);
                    pool.end_opening(began, true);
                }
                Err(error) => {
                    pool.screen
                        .detail(format!("no further session to {}: {error}", pool.name()));
                    pool.lock().failed = Some(error);
                    pool.end_opening(began, false);
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
        inner.slots.push(PoolSession {
            number,
            mux,
            ending: Some(ending),
            resuming: false,
            silent: false,
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
        let all_busy = !inner.slots.is_empty() && inner.slots.iter().all(PoolSession::is_busy);
        if all_busy && inner.has_room(self.limits) && inner.starts.is_empty() && inner.may_open(now)
        {
            self.open_further(&mut inner, Urgency::Bulk);
        }
        true
    }
}

/// A connection that waits for a further session; counted in [`Inner::waiting`] until it is placed
/// or given up.
struct WaitingConn {
    pool: Arc<Pool>,
    is_counted: bool,
}

impl WaitingConn {
    fn begin(pool: &Arc<Pool>, inner: &mut Inner) -> Self {
        inner.waiting += 1;
        Self {
            pool: pool.clone(),
            is_counted: true,
        }
    }

    /// Ends the wait under the lock that the caller holds; dropping it would want the lock itself.
    fn end(mut self, inner: &mut Inner) {
        inner.waiting -= 1;
        self.is_counted = false;
    }
}

impl Drop for WaitingConn {
    fn drop(&mut self) {
        if self.is_counted {
            self.pool.lock().waiting -= 1;
        }
    }
}

/// Ends an unused session without multiplexer: the connection behind it would take up a place at
/// the destination.
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
