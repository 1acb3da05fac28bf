//! The near end: listeners and connections, over TCP or a unix socket.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use ops_ui::{Error, Hint, Result, hint, paths};
use rustix::event::{PollFd, PollFlags};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};

use crate::holder::{self, Holder};
use crate::peer;
use crate::spec::LocalAddress;

/// How often the system is asked for another free port where the first is taken in the other
/// family.
const CHOICES: usize = 20;
/// Connections that wait to be accepted; what the standard library asks for.
const BACKLOG: u32 = 1024;
/// Before a look at whether a client that has stopped sending is still there: the first time, and
/// at most. Most answers are over before the first look, so that most connections cost none.
const GONE_DELAYS: (Duration, Duration) = (Duration::from_millis(150), Duration::from_secs(5));
/// Where nobody can tell, a client that has stopped sending and is sent nothing for this long
/// counts as gone.
const GONE_AFTER: Duration = Duration::from_secs(300);

/// A listener.
pub(crate) enum Listener {
    /// One of them, or the same port of both families of addresses.
    Tcp(TcpListener, Option<TcpListener>),
    Unix(
        UnixListener,
        #[expect(dead_code, reason = "removes the path when dropped")] OwnPath,
    ),
}

/// The path of our socket, removed with it.
pub(crate) struct OwnPath(PathBuf);

impl Drop for OwnPath {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Bound {
    /// Where a client on this machine connects to: an unspecified address is replaced by loopback.
    pub(crate) fn host(&self) -> String {
        match self {
            Self::Tcp(address) => match address.ip() {
                std::net::IpAddr::V4(ip) if ip.is_unspecified() => "127.0.0.1".to_owned(),
                std::net::IpAddr::V6(ip) if ip.is_unspecified() => "::1".to_owned(),
                ip => ip.to_string(),
            },
            Self::Unix(path) => path.display().to_string(),
        }
    }

    /// 0 for a unix socket.
    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Tcp(address) => address.port(),
            Self::Unix(_) => 0,
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

impl Listener {
    /// Listens; `again` is a command line that would work where this one cannot, `is_ours` says
    /// whether a process is an `ops forward` too.
    ///
    /// # Errors
    /// A port that is taken names who holds it, as far as that can be known.
    pub(crate) async fn bind(
        local: &LocalAddress,
        again: &Hint,
        is_ours: impl Fn(u32) -> bool,
    ) -> Result<(Self, Bound)> {
        match local {
            LocalAddress::Tcp { bind, port } => {
                // As `ssh -L` and kubectl have it: a client of `localhost` may ask for either
                // family.
                let both: Option<(Ipv4Addr, Ipv6Addr)> = match bind.as_deref() {
                    None | Some("localhost") => Some((Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST)),
                    Some("*") => Some((Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED)),
                    Some(_) => None,
                };
                let bound = match (both, bind) {
                    (Some((four, six)), _) => bind_both(four, six, *port)
                        .await
                        .map_err(|(host, error)| (host.to_string(), error)),
                    (None, bind) => {
                        let host = bind.as_deref().unwrap_or_default();
                        TcpListener::bind((host, *port))
                            .await
                            .map(|listener| (listener, None))
                            .map_err(|error| (host.to_owned(), error))
                    }
                };
                match bound {
                    Ok((first, second)) => {
                        let address = first.local_addr()?;
                        Ok((Self::Tcp(first, second), Bound::Tcp(address)))
                    }
                    Err((host, error)) => Err(cannot_listen(&host, *port, &error, again, is_ours)),
                }
            }
            LocalAddress::Unix(path) => {
                let listener = bind_unix(path).map_err(|error| {
                    Error::usage(format!("cannot listen on `{}`", path.display()))
                        .caused_by(error)
                        .hint("name another path, or a port")
                })?;
                let bound = Bound::Unix(path.clone());
                Ok((Self::Unix(listener, OwnPath(path.clone())), bound))
            }
        }
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> io::Result<LocalConn> {
        match self {
            Self::Tcp(first, second) => {
                let of_second = async {
                    match second {
                        Some(listener) => listener.accept().await,
                        None => std::future::pending().await,
                    }
                };
                let (stream, peer) = tokio::select! {
                    accepted = first.accept() => accepted?,
                    accepted = of_second => accepted?,
                };
                // Small requests should not wait for more.
                let _ = stream.set_nodelay(true);
                let ours = stream.local_addr()?;
                Ok(LocalConn::Tcp { stream, peer, ours })
            }
            Self::Unix(listener, _) => Ok(LocalConn::Unix(listener.accept().await?.0)),
        }
    }
}

/// Listens on `port` of both addresses. With 0 the system chooses a port that both have free. A
/// machine without IPv6 has the first alone.
async fn bind_both(
    four: Ipv4Addr,
    six: Ipv6Addr,
    port: u16,
) -> Result<(TcpListener, Option<TcpListener>), (IpAddr, io::Error)> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let of_four = |error| (four.into(), error);
        let first = TcpListener::bind((four, port)).await.map_err(of_four)?;
        let chosen = first.local_addr().map_err(of_four)?.port();
        match bind_six(six, chosen) {
            Ok(second) => return Ok((first, Some(second))),
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => return Ok((first, None)),
            Err(_) if port == 0 && attempt < CHOICES => {}
            Err(error) => return Err((six.into(), error)),
        }
    }
}

/// Listens on an address of IPv6 alone, whatever the system's default is: the one of IPv4 has a
/// listener of its own.
fn bind_six(address: Ipv6Addr, port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v6()?;
    rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
    // As the standard library does for listeners: a port is free at once after its last owner.
    socket.set_reuseaddr(true)?;
    socket.bind((address, port).into())?;
    socket.listen(BACKLOG)
}

/// Descriptors that connections leave free: for sessions that have to be opened anew, for
/// `--status` and `--stop`.
const RESERVED_DESCRIPTORS: u64 = 32;

/// Descriptors that this process uses at most, whatever the system allows, which may be a million:
/// at 40 KiB for each connection (see the crate) they are worth 320 MiB. Other users of this
/// machine can reach a port too, and must take neither all memory here nor all of the agent's.
const MOST_DESCRIPTORS: u64 = 8 << 10;

/// What bounds the number of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionLimit {
    /// The descriptors that the system allows this process, so many.
    System(u64),
    /// [`MOST_DESCRIPTORS`].
    Own,
}

impl ConnectionLimit {
    pub(crate) fn now() -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        match limit {
            Some(limit) if limit < MOST_DESCRIPTORS => Self::System(limit),
            _ => Self::Own,
        }
    }

    /// Numbers of descriptors below this are for connections.
    fn descriptors(self) -> u64 {
        let limit = match self {
            Self::System(limit) => limit,
            Self::Own => MOST_DESCRIPTORS,
        };
        limit - RESERVED_DESCRIPTORS.min(limit / 4)
    }

    /// Whether there may be one more connection than there are.
    pub(crate) fn has_room(self, listener: &Listener) -> bool {
        let fd = match listener {
            Listener::Tcp(listener, _) => listener.as_fd(),
            Listener::Unix(listener, _) => listener.as_fd(),
        };
        // A new descriptor is the lowest that is free (POSIX), so its number says how many are left
        // at least.
        rustix::io::dup(fd).is_ok_and(|new| {
            u64::try_from(new.as_raw_fd()).is_ok_and(|number| number < self.descriptors())
        })
    }
}

fn cannot_listen(
    host: &str,
    port: u16,
    error: &io::Error,
    again: &Hint,
    is_ours: impl Fn(u32) -> bool,
) -> Error {
    let what = format!("cannot listen on `{}`", join(host, port));
    let mut failure = Error::usage(what);
    if error.kind() != io::ErrorKind::AddrInUse {
        failure = failure.caused_by(error);
        return if error.kind() == io::ErrorKind::PermissionDenied {
            failure.hint(hint!(
                "ports below 1024 are for root; take any free one: {}",
                again
            ))
        } else {
            failure.hint("leave the address out to listen on 127.0.0.1")
        };
    }
    let address = host.parse().unwrap_or(std::net::Ipv4Addr::LOCALHOST.into());
    failure = match holder::of(SocketAddr::new(address, port)) {
        Some(Holder::Process { id, .. }) if is_ours(id) => failure
            .caused_by(format!("another ops forward holds the port (process {id})"))
            .hint(hint!(
                "use that one (ops forward --status), or stop it: ops forward --stop {}",
                port
            )),
        Some(holder) => failure.caused_by(format!("the port is held by {holder}")),
        None => failure.caused_by("another process holds the port"),
    };
    failure.hint(hint!("take any free port: {}", again))
}

/// `host:port`, an IPv6 address in brackets.
pub(crate) fn join(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Listens at a path for this user alone; one that a crashed process left behind is taken over.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let listener = take_unix(path)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

fn take_unix(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    match paths::listen_private(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(io::Error::other("another process listens there"));
            }
            let is_socket = std::fs::symlink_metadata(path)
                .is_ok_and(|meta| std::os::unix::fs::FileTypeExt::is_socket(&meta.file_type()));
            if !is_socket {
                return Err(io::Error::other("there is a file that is no socket"));
            }
            std::fs::remove_file(path)?;
            paths::listen_private(path)
        }
        other => other,
    }
}

/// A local connection. Both directions work on a shared reference.
pub(crate) enum LocalConn {
    Tcp {
        stream: TcpStream,
        peer: SocketAddr,
        ours: SocketAddr,
    },
    Unix(UnixStream),
}

impl LocalConn {
    /// Who it is, for `-v`.
    pub(crate) fn peer(&self) -> String {
        match self {
            Self::Tcp { peer, .. } => peer.to_string(),
            Self::Unix(stream) => match stream.peer_cred().ok().and_then(|cred| cred.pid()) {
                Some(id) => format!("process {id}"),
                None => "a local process".to_owned(),
            },
        }
    }

    /// Reads; 0 at the end.
    pub(crate) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match self {
                Self::Tcp { stream, .. } => {
                    stream.readable().await?;
                    stream.try_read(buffer)
                }
                Self::Unix(stream) => {
                    stream.readable().await?;
                    stream.try_read(buffer)
                }
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }

    /// Reads up to so many bytes; none at the end.
    pub(crate) async fn read_some(&self, most: usize) -> io::Result<Bytes> {
        loop {
            match self {
                Self::Tcp { stream, .. } => stream.readable().await?,
                Self::Unix(stream) => stream.readable().await?,
            }
            let mut buffer = Vec::with_capacity(most);
            let read = match self {
                Self::Tcp { stream, .. } => stream.try_read_buf(&mut buffer),
                Self::Unix(stream) => stream.try_read_buf(&mut buffer),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // A few bytes need not keep a large buffer.
                Ok(len) if len < most / 2 => return Ok(Bytes::copy_from_slice(&buffer)),
                Ok(_) => return Ok(buffer.into()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Fills the buffer.
    pub(crate) async fn read_exact(&self, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read(buffer).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                len => buffer = &mut buffer[len..],
            }
        }
        Ok(())
    }

    /// Writes all of it.
    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let wrote = match self {
                Self::Tcp { stream, .. } => {
                    stream.writable().await?;
                    stream.try_write(bytes)
                }
                Self::Unix(stream) => {
                    stream.writable().await?;
                    stream.try_write(bytes)
                }
            };
            match wrote {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                wrote => bytes = &bytes[wrote?..],
            }
        }
        Ok(())
    }

    /// Says that nothing more comes.
    pub(crate) fn finish(&self) {
        let _ = rustix::net::shutdown(self.fd(), rustix::net::Shutdown::Write);
    }

    /// Closes so that the client sees a failure and no end. (A unix socket knows no reset; its
    /// client sees the end.)
    pub(crate) fn reset(self) {
        if let Self::Tcp { stream, .. } = &self {
            let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
        }
        drop(self);
    }

    /// Ends when a client that has stopped sending has gone altogether. `idle` says since when
    /// nothing was sent to it.
    pub(crate) async fn gone(&self, idle: impl Fn() -> Duration) {
        for delay in gone_delays() {
            tokio::time::sleep(delay).await;
            match self.is_gone().await {
                Some(true) => return,
                None if idle() >= GONE_AFTER => return,
                _ => {}
            }
        }
    }

    async fn is_gone(&self) -> Option<bool> {
        if self.has_hung_up() {
            return Some(true);
        }
        match self {
            Self::Tcp { peer, ours, .. } => peer::is_gone(*peer, *ours).await,
            // Its hang-up tells.
            Self::Unix(_) => Some(false),
        }
    }

    fn has_hung_up(&self) -> bool {
        let fd = self.fd();
        let mut polled = [PollFd::new(&fd, PollFlags::empty())];
        let now = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        rustix::event::poll(&mut polled, Some(&now)).is_ok_and(|ready| ready > 0)
            && polled[0]
                .revents()
                .intersects(PollFlags::HUP | PollFlags::ERR)
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp { stream, .. } => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

/// The pauses before each look: doubled up to the longest.
fn gone_delays() -> impl Iterator<Item = Duration> {
    std::iter::successors(Some(GONE_DELAYS.0), |delay| {
        Some((*delay * 2).min(GONE_DELAYS.1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_free_and_are_bounded_where_the_system_bounds_nothing() {
        assert_eq!(ConnectionLimit::System(1024).descriptors(), 1024 - 32);
        assert_eq!(ConnectionLimit::System(20).descriptors(), 15);
        let own = ConnectionLimit::Own.descriptors();
        // A connection takes one descriptor. As much memory as the crate's page says each may hold:
        assert!(own * (40 << 10) <= 320 << 20, "{own}");
        assert!(own > 4096);
    }

    #[test]
    fn a_client_is_looked_after_rarely_and_not_before_its_answer_had_time_to_end() {
        let delays: Vec<_> = gone_delays().take(8).collect();
        assert!(delays[0] >= Duration::from_millis(100));
        assert!(delays.is_sorted());
        assert_eq!(delays[7], Duration::from_secs(5));
        // In the first ten seconds: the table of the kernel was read six times in the first two.
        let mut at = Duration::ZERO;
        let looks = gone_delays()
            .take_while(|delay| {
                at += *delay;
                at < Duration::from_secs(10)
            })
            .count();
        assert_eq!(looks, 6);
    }
}
