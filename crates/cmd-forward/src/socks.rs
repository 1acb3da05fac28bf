//! A SOCKS5 proxy (RFC 1928, CONNECT without authentication): names are resolved on the far side.
//!
//! Each destination gets a pool of its own on its first connection, which is closed when nobody has
//! used it for a while.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use ops_core::Context;
use ops_profile::Instance;
use ops_ui::Error;
use tokio::time::Instant;

use crate::local::LocalConn;
use crate::pool::{Limits, Pool, PoolState, RemoteConn, UrgentStarts};
use crate::screen::Screen;
use crate::spec::RemoteAddress;

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const NO_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;

/// Reply codes of RFC 1928.
const SUCCEEDED: u8 = 0;
const GENERAL_FAILURE: u8 = 1;
const NOT_ALLOWED: u8 = 2;
const REFUSED: u8 = 5;
const COMMAND_UNKNOWN: u8 = 7;
const ADDRESS_UNKNOWN: u8 = 8;

/// A client that does not finish its request within this time is left.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The multiplexer does not tell of success, so failure is waited for: a round trip and this much
/// more.
const REFUSAL_PATIENCE: Duration = Duration::from_millis(30);
/// A destination that took a connection within this time takes the next one too; nothing is waited
/// for.
const ACCEPTED_FOR: Duration = Duration::from_secs(60);
/// Destinations at once. Each has a session of its own.
const MAX_DESTINATIONS: usize = 50;
/// Sessions of all destinations together. Each takes one of the 128 inotify instances that Linux
/// gives the agent's user by default: a page that has a browser ask for a thousand names, several
/// times each, must not keep everybody else from the server.
const MAX_SESSIONS: usize = 80;
/// Between looks for idle destinations, at most.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// What a proxy needs to open sessions.
pub(crate) struct Proxy(Arc<Inner>);

struct Inner {
    cx: Context,
    screen: Screen,
    instance: Instance,
    reason: Option<String>,
    limits: Limits,
    urgent_starts: Arc<UrgentStarts>,
    /// The sessions of a destination without connections are ended after this time.
    idle: Duration,
    pools: Mutex<HashMap<RemoteAddress, DestinationPool>>,
}

struct DestinationPool {
    pool: Arc<Pool>,
    /// Sessions that it may have.
    most_sessions: usize,
    used: usize,
    idle_since: Instant,
}

/// Why a client was turned away.
pub(crate) struct Refusal {
    /// For `-v`.
    pub(crate) why: String,
    /// What everybody should know.
    pub(crate) error: Option<Error>,
}

impl Refusal {
    fn of(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            error: None,
        }
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        Self::of(format!("the request broke off: {error}"))
    }
}

impl Proxy {
    pub(crate) fn new(
        cx: &Context,
        screen: &Screen,
        instance: Instance,
        reason: Option<String>,
        limits: Limits,
        idle: Duration,
    ) -> Self {
        let inner = Arc::new(Inner {
            cx: cx.clone(),
            screen: screen.clone(),
            instance,
            reason,
            limits,
            urgent_starts: Arc::default(),
            idle,
            pools: Mutex::default(),
        });
        let every = SWEEP_EVERY.min(idle / 2).max(Duration::from_millis(10));
        tokio::spawn(sweep(Arc::downgrade(&inner), every));
        Self(inner)
    }

    pub(crate) fn state(&self) -> PoolState {
        let pools = self.0.lock();
        let worst = pools
            .values()
            .map(|entry| entry.pool.state())
            .find(|state| *state != PoolState::Up);
        match worst {
            Some(state) => state,
            None if pools.is_empty() => PoolState::Idle,
            None => PoolState::Up,
        }
    }

    pub(crate) fn session_count(&self) -> usize {
        let pools = self.0.lock();
        pools.values().map(|entry| entry.pool.session_count()).sum()
    }

    /// Ends all sessions.
    pub(crate) async fn close(&self) {
        let pools: Vec<_> = self.0.lock().drain().map(|(_, entry)| entry.pool).collect();
        for pool in pools {
            pool.close().await;
        }
    }

    /// Reads a client's request and opens the way it asks for; the client has its answer then.
    /// `destination` is told as soon as it is known.
    pub(crate) async fn accept(
        &self,
        conn: &LocalConn,
        destination: &OnceLock<String>,
    ) -> Result<(Arc<Pool>, RemoteConn), Refusal> {
        let remote = match tokio::time::timeout(REQUEST_TIMEOUT, request(conn)).await {
            Ok(remote) => remote?,
            Err(_) => return Err(Refusal::of("the client did not finish its request")),
        };
        let remote = own(remote, &self.0.instance);
        let Some(lease) = Lease::take(&self.0, &remote) else {
            reply(conn, GENERAL_FAILURE).await?;
            return Err(Refusal {
                why: format!("{MAX_DESTINATIONS} destinations are in use"),
                error: Some(Error::target(format!(
                    "no session for {remote}: {MAX_DESTINATIONS} destinations have connections, and there may be no more at once"
                ))),
            });
        };
        let pool = lease.pool.clone();
        let _ = destination.set(pool.name());
        let far = match pool.connect().await {
            Ok(far) => far,
            Err(error) => {
                reply(conn, GENERAL_FAILURE).await?;
                return Err(Refusal {
                    why: error.to_string(),
                    error: Some(error),
                });
            }
        };
        if let RemoteConn::Stream(stream, _) = &far
            && !pool.has_accepted_within(ACCEPTED_FOR)
        {
            let patience = stream.rtt() + REFUSAL_PATIENCE;
            if let Ok(Err(error)) = tokio::time::timeout(patience, stream.answered()).await {
                let code = match error.kind() {
                    std::io::ErrorKind::ConnectionRefused => REFUSED,
                    _ => GENERAL_FAILURE,
                };
                reply(conn, code).await?;
                return Err(Refusal {
                    why: error.to_string(),
                    error: Some(Error::target(format!(
                        "{} could not connect to {remote}: {error}",
                        self.0.instance.label()
                    ))),
                });
            }
            pool.has_accepted();
        }
        reply(conn, SUCCEEDED).await?;
        Ok((pool, far))
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, HashMap<RemoteAddress, DestinationPool>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a pool from being swept while a connection is being opened.
struct Lease {
    pool: Arc<Pool>,
    inner: Arc<Inner>,
    remote: RemoteAddress,
}

impl Lease {
    /// `None` while as many destinations as there may be have connections.
    fn take(inner: &Arc<Inner>, remote: &RemoteAddress) -> Option<Self> {
        let mut pools = inner.lock();
        if pools.len() >= MAX_DESTINATIONS && !pools.contains_key(remote) {
            let unused = pools
                .iter()
                .filter(|(_, entry)| entry.used == 0 && entry.pool.connection_count() == 0)
                .min_by_key(|(_, entry)| entry.idle_since)
                .map(|(remote, _)| remote.clone())?;
            let left = pools.remove(&unused)?;
            tokio::spawn(async move { left.pool.close().await });
        }
        let taken = pools.values().map(|entry| entry.most_sessions).sum();
        let most = session_share(inner.limits.most, pools.len(), taken);
        let limits = Limits {
            least: inner.limits.least.min(most),
            most,
            ..inner.limits
        };
        let entry = pools
            .entry(remote.clone())
            .or_insert_with(|| DestinationPool {
                pool: Pool::new(
                    &inner.cx,
                    &inner.screen,
                    inner.instance.clone(),
                    remote.clone(),
                    inner.reason.clone(),
                    limits,
                    Some(inner.urgent_starts.clone()),
                ),
                most_sessions: most,
                used: 0,
                idle_since: Instant::now(),
            });
        entry.used += 1;
        Some(Self {
            pool: entry.pool.clone(),
            inner: inner.clone(),
            remote: remote.clone(),
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(entry) = self.inner.lock().get_mut(&self.remote) {
            entry.used -= 1;
            entry.idle_since = Instant::now();
        }
    }
}

/// How many sessions, of the `wanted`, one more destination may have beside so many others, which
/// may have `taken` together: one is left for each that may still come.
fn session_share(wanted: usize, destinations: usize, taken: usize) -> usize {
    let still_to_come = MAX_DESTINATIONS.saturating_sub(destinations + 1);
    let free = MAX_SESSIONS.saturating_sub(taken + still_to_come);
    wanted.min(free).max(1)
}

/// Closes what has had no connection for a while.
async fn sweep(inner: std::sync::Weak<Inner>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(inner) = inner.upgrade() else { return };
        let idle: Vec<_> = {
            let mut pools = inner.lock();
            let now = Instant::now();
            for entry in pools.values_mut() {
                if entry.used > 0 || entry.pool.connection_count() > 0 {
                    entry.idle_since = now;
                }
            }
            let gone: Vec<_> = pools
                .iter()
                .filter(|(_, entry)| entry.idle_since.elapsed() >= inner.idle)
                .map(|(remote, _)| remote.clone())
                .collect();
            gone.into_iter()
                .filter_map(|remote| pools.remove(&remote))
                .collect()
        };
        for entry in idle {
            inner
                .screen
                .detail(format!("{}: closed, it was idle", entry.pool.name()));
            entry.pool.close().await;
        }
    }
}

/// The server's own names need no remote host.
fn own(remote: RemoteAddress, _instance: &Instance) -> RemoteAddress {
    match remote.host.as_deref() {
        Some("localhost" | "127.0.0.1" | "::1") => RemoteAddress {
            host: None,
            port: remote.port,
        },
        _ => remote,
    }
}

async fn request(conn: &LocalConn) -> Result<RemoteAddress, Refusal> {
    let mut head = [0; 2];
    conn.read_exact(&mut head).await?;
    if head[0] != VERSION {
        return Err(Refusal::of(match head[0] {
            4 => "SOCKS version 4, which resolves names here; use version 5 (socks5h)".to_owned(),
            other => format!("no SOCKS5 request: it begins with byte {other}"),
        }));
    }
    let mut methods = vec![0; usize::from(head[1])];
    conn.read_exact(&mut methods).await?;
    if !methods.contains(&NO_AUTHENTICATION) {
        conn.write_all(&[VERSION, NO_METHOD]).await?;
        return Err(Refusal::of("the client insists on authentication"));
    }
    conn.write_all(&[VERSION, NO_AUTHENTICATION]).await?;
    let mut head = [0; 4];
    conn.read_exact(&mut head).await?;
    if head[1] != CONNECT {
        reply(conn, COMMAND_UNKNOWN).await?;
        return Err(Refusal::of("only CONNECT is served"));
    }
    let host = match head[3] {
        1 => {
            let mut octets = [0; 4];
            conn.read_exact(&mut octets).await?;
            Ipv4Addr::from(octets).to_string()
        }
        3 => {
            let mut len = [0];
            conn.read_exact(&mut len).await?;
            let mut name = vec![0; usize::from(len[0])];
            conn.read_exact(&mut name).await?;
            String::from_utf8(name).unwrap_or_default()
        }
        4 => {
            let mut octets = [0; 16];
            conn.read_exact(&mut octets).await?;
            Ipv6Addr::from(octets).to_string()
        }
        _ => {
            reply(conn, ADDRESS_UNKNOWN).await?;
            return Err(Refusal::of("an address of unknown type"));
        }
    };
    let mut port = [0; 2];
    conn.read_exact(&mut port).await?;
    let port = u16::from_be_bytes(port);
    let host_allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-:".contains(&b);
    if host.is_empty() || host.starts_with('-') || port == 0 || !host.bytes().all(host_allowed) {
        reply(conn, NOT_ALLOWED).await?;
        return Err(Refusal::of("a host or port that cannot be"));
    }
    Ok(RemoteAddress {
        host: Some(host),
        port,
    })
}

async fn reply(conn: &LocalConn, code: u8) -> std::io::Result<()> {
    // The address bound at the far side is not known.
    conn.write_all(&[VERSION, code, 0, 1, 0, 0, 0, 0, 0, 0])
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_with_many_connections_each_leave_room_on_the_server() {
        for wanted in [1, 4, 16] {
            let mut taken = 0;
            for destinations in 0..MAX_DESTINATIONS {
                let share = session_share(wanted, destinations, taken);
                assert!((1..=wanted).contains(&share), "{destinations}: {share}");
                taken += share;
            }
            assert!(taken <= MAX_SESSIONS, "{wanted} each: {taken}");
        }
        assert_eq!(session_share(4, 0, 0), 4);
    }
}
