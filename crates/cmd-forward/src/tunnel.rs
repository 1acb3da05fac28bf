//! One listener and the connections that come to it.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use ops_ui::Error;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::local::{Bound, ConnectionLimit, Listener, LocalConn};
use crate::meter::{self, Meter};
use crate::pool::{Pool, PoolState, RemoteConn};
use crate::pump::{self, Carried, ConnEnd, Counters};
use crate::screen::Screen;
use crate::socks::Proxy;

/// A failure that repeats within this time is told with `-vv` only.
const TELL_AGAIN: Duration = Duration::from_secs(2);
/// Until connections are accepted again, where there is no room for more or the system refused one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What connections are carried to.
pub(crate) enum Route {
    /// One destination.
    Fixed(Arc<Pool>),
    /// Whatever each asks for.
    Socks(Proxy),
}

/// A running forward.
pub(crate) struct Tunnel {
    pub(crate) name: Option<String>,
    /// As typed or as the profile has it.
    pub(crate) target: String,
    /// The instance's name or id.
    pub(crate) instance: String,
    pub(crate) bound: Bound,
    /// As typed, for messages.
    pub(crate) remote: String,
    /// A URL to show, from the profile.
    pub(crate) open: Option<String>,
    pub(crate) route: Route,
    pub(crate) counters: Counters,
    /// In whole seconds.
    pub(crate) since: Timestamp,
    pub(crate) started: Instant,
    /// No new connections.
    pub(crate) stop: CancellationToken,
    /// No connections at all.
    pub(crate) cut: CancellationToken,
    pub(crate) tasks: TaskTracker,
    pub(crate) rates: Mutex<(Meter, Meter)>,
    told: Mutex<Option<(String, Instant)>>,
}

impl Tunnel {
    pub(crate) fn new(
        plan: &crate::plan::Forward,
        instance: String,
        bound: Bound,
        route: Route,
    ) -> Self {
        Self {
            name: plan.name.clone(),
            target: plan.target.as_str().to_owned(),
            instance,
            bound,
            remote: match &plan.remote {
                Some(remote) => remote.to_string(),
                None => "socks".to_owned(),
            },
            open: plan.open.clone(),
            route,
            counters: Counters::default(),
            since: Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default(),
            started: Instant::now(),
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
            tasks: TaskTracker::new(),
            rates: Mutex::default(),
            told: Mutex::default(),
        }
    }

    /// The name, else the local end.
    pub(crate) fn label(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.bound.to_string())
    }

    pub(crate) fn state(&self) -> PoolState {
        match &self.route {
            Route::Fixed(pool) => pool.state(),
            Route::Socks(proxy) => proxy.state(),
        }
    }

    pub(crate) fn sessions(&self) -> usize {
        match &self.route {
            Route::Fixed(pool) => pool.session_count(),
            Route::Socks(proxy) => proxy.session_count(),
        }
    }

    /// Bytes per second down and up since the last call at least 50 ms ago.
    pub(crate) fn rates(&self) -> (u64, u64) {
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        rates
            .0
            .sample(now, self.counters.down.load(Ordering::Relaxed));
        rates
            .1
            .sample(now, self.counters.up.load(Ordering::Relaxed));
        (rates.0.rate(), rates.1.rate())
    }

    /// Accepts until it is stopped.
    pub(crate) async fn serve(self: Arc<Self>, listener: Listener, screen: Screen) {
        crate::holder::keep_tables_open();
        loop {
            let limit = ConnectionLimit::now();
            if !limit.has_room(&listener) {
                // Clients wait in the listener's queue until one ends, as at a busy server.
                let whose = match limit {
                    ConnectionLimit::System(_) => " (see ulimit -n)",
                    ConnectionLimit::Own => "",
                };
                self.tell(
                    &screen,
                    format!(
                        "{}: as many connections are open as this process may have; more wait{whose}",
                        self.label()
                    ),
                );
                tokio::select! {
                    () = tokio::time::sleep(ACCEPT_PAUSE) => continue,
                    () = self.stop.cancelled() => return,
                }
            }
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stop.cancelled() => return,
            };
            match accepted {
                Ok(conn) => {
                    let (tunnel, screen) = (self.clone(), screen.clone());
                    self.tasks
                        .spawn(async move { tunnel.carry(conn, &screen).await });
                }
                Err(error) => {
                    self.tell(
                        &screen,
                        format!("{}: cannot accept connections: {error}", self.label()),
                    );
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn carry(&self, conn: LocalConn, screen: &Screen) {
        self.counters.open.fetch_add(1, Ordering::Relaxed);
        self.counters.total.fetch_add(1, Ordering::Relaxed);
        let started = Instant::now();
        let peer = conn.peer();
        let carried = Carried::default();
        let destination = OnceLock::new();
        let ended = tokio::select! {
            biased;
            () = self.cut.cancelled() => Err("cut, the forward ends".to_owned()),
            ended = self.connect_and_pump(&conn, &destination, &carried, screen) => ended,
        };
        self.counters.open.fetch_sub(1, Ordering::Relaxed);
        let how = match ended {
            Ok(ConnEnd::Far) => "closed by the destination".to_owned(),
            Ok(ConnEnd::Local) => "closed by the client".to_owned(),
            Ok(ConnEnd::Cut(error)) => {
                conn.reset();
                error.to_string()
            }
            Err(why) => {
                conn.reset();
                why
            }
        };
        let name = match &self.name {
            Some(name) => format!("{name}: "),
            None => String::new(),
        };
        let destination = destination
            .into_inner()
            .unwrap_or_else(|| format!("the SOCKS proxy through {}", self.instance));
        screen.detail(format!(
            "{name}{peer} → {destination}: {} up, {} down in {:.1} s, {how}",
            meter::bytes(carried.up.load(Ordering::Relaxed)),
            meter::bytes(carried.down.load(Ordering::Relaxed)),
            started.elapsed().as_secs_f64(),
        ));
    }

    async fn connect_and_pump(
        &self,
        conn: &LocalConn,
        destination: &OnceLock<String>,
        carried: &Carried,
        screen: &Screen,
    ) -> Result<ConnEnd, String> {
        let (pool, far) = match &self.route {
            Route::Fixed(pool) => {
                let _ = destination.set(pool.name());
                match pool.connect().await {
                    Ok(far) => (pool.clone(), far),
                    Err(error) => return Err(self.tell_error(screen, &error)),
                }
            }
            Route::Socks(proxy) => match proxy.accept(conn, destination).await {
                Ok(opened) => opened,
                Err(refusal) => {
                    if let Some(error) = &refusal.error {
                        self.tell(screen, format!("{}: {error}", self.label()));
                    }
                    return Err(refusal.why);
                }
            },
        };
        let name = destination.get_or_init(|| pool.name());
        let session = match &far {
            RemoteConn::Stream(_, number) => format!(", session {number}"),
            RemoteConn::Session(..) => String::new(),
        };
        screen.trace(format!("{} → {name}: open{session}", conn.peer()));
        let end = match far {
            RemoteConn::Stream(stream, _) => {
                pump::over_stream(conn, stream, &self.counters, carried).await
            }
            RemoteConn::Session(session, _place) => {
                pump::over_session(conn, *session, &self.counters, carried).await
            }
        };
        if let ConnEnd::Cut(error) = &end
            && error.kind() == io::ErrorKind::ConnectionRefused
        {
            pool.has_refused();
            let host = pool.remote.host.as_deref().unwrap_or("localhost");
            self.tell(
                screen,
                format!(
                    "{} could not connect to {}: {error}",
                    pool.instance.label(),
                    crate::local::join(host, pool.remote.port),
                ),
            );
        }
        Ok(end)
    }

    fn tell_error(&self, screen: &Screen, error: &Error) -> String {
        let text = match error.hints().first() {
            Some(hint) => format!("{error}; {hint}"),
            None => error.to_string(),
        };
        self.tell(screen, format!("{}: {text}", self.label()));
        error.to_string()
    }

    /// A warning, unless it was told a moment ago.
    fn tell(&self, screen: &Screen, text: String) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let again = told
            .as_ref()
            .is_some_and(|(before, at)| *before == text && at.elapsed() < TELL_AGAIN);
        if again {
            screen.trace(text);
        } else {
            screen.warn(&text);
            *told = Some((text, Instant::now()));
        }
    }
}
