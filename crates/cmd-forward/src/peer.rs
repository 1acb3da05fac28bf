//! Whether the client behind a local connection still holds its end.
//!
//! TCP does not tell a peer that has only finished sending from one that has gone. On one machine
//! the kernel knows: it is asked for that one socket through `NETLINK_SOCK_DIAG`, which costs a few
//! microseconds. Where it does not answer (a container without the `tcp_diag` module), the table
//! in `/proc` tells as much; the kernel walks its whole hash table for that, some 15 ms, so that
//! one reading is shared by all connections and happens off the runtime.

use std::net::SocketAddr;

/// Whether a connection's peer on this machine has closed its end altogether: no process holds the
/// socket any more. `None`: not known, as when the peer is elsewhere.
pub(crate) async fn is_gone(peer: SocketAddr, ours: SocketAddr) -> Option<bool> {
    if !peer.ip().is_loopback() && peer.ip() != ours.ip() {
        return None;
    }
    #[cfg(target_os = "linux")]
    {
        let (peer, ours) = (plain(peer), plain(ours));
        match diag::is_held(peer, ours) {
            Ok(is_held) => Some(!is_held),
            Err(error) => {
                tracing::debug!(%error, "the kernel does not tell of one socket");
                table::is_held(peer, ours).await.map(|is_held| !is_held)
            }
        }
    }
    #[cfg(not(target_os = "linux"))]
    None
}

/// IPv4 in IPv6 as IPv4: the two ends of a connection may be written differently.
#[cfg(target_os = "linux")]
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// One socket, asked of the kernel.
#[cfg(target_os = "linux")]
mod diag {
    use std::{io, net::SocketAddr};

    use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
    use netlink_packet_sock_diag::{
        SockDiagMessage,
        constants::{AF_INET, AF_INET6, IPPROTO_TCP, TCP_LISTEN},
        inet::{ExtensionFlags, InetRequest, SocketId, StateFlags},
    };
    use rustix::{
        io::Errno,
        net::{
            AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType,
            netlink::{self, SocketAddrNetlink},
        },
    };

    /// The answer is one socket with a few attributes, or an error; both are far below this.
    const ANSWER_BYTES: usize = 4096;
    /// "Whichever socket has these addresses": `INET_DIAG_NOCOOKIE` of linux/inet_diag.h, in both
    /// halves of the cookie.
    const ANY_COOKIE: [u8; 8] = [0xff; 8];

    /// Whether a process holds the end of a connection that is `local` there and talks to `remote`.
    ///
    /// # Errors
    /// The kernel does not answer such questions.
    pub(super) fn is_held(local: SocketAddr, remote: SocketAddr) -> io::Result<bool> {
        match inode_of(local, remote)? {
            Some(inode) => Ok(inode != 0),
            // A kernel without the module for TCP says "no such socket" of every one. Our own end
            // is there for certain.
            None => match inode_of(remote, local)? {
                Some(_) => Ok(false),
                None => Err(io::ErrorKind::Unsupported.into()),
            },
        }
    }

    /// The inode of a socket, 0 when no process holds it any more; `None` if there is no such
    /// socket.
    fn inode_of(local: SocketAddr, remote: SocketAddr) -> io::Result<Option<u32>> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            Some(netlink::SOCK_DIAG),
        )?;
        let kernel = SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(
            &socket,
            &request(local, remote),
            SendFlags::empty(),
            &kernel,
        )?;
        let mut answer = vec![0; ANSWER_BYTES];
        // The kernel has answered before it comes back from the request, so nothing is waited for.
        let (_, len) = rustix::net::recv(&socket, &mut answer[..], RecvFlags::DONTWAIT)?;
        let answer =
            NetlinkMessage::<SockDiagMessage>::deserialize(&answer[..len.min(ANSWER_BYTES)])
                .map_err(io::Error::other)?;
        match answer.payload {
            // With no connection left the kernel looks for whoever listens at that port.
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(found)) => {
                Ok((found.header.state != TCP_LISTEN).then_some(found.header.inode))
            }
            NetlinkPayload::Error(error)
                if error.raw_code().abs() == Errno::NOENT.raw_os_error() =>
            {
                Ok(None)
            }
            NetlinkPayload::Error(error) => Err(error.to_io()),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn request(local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
        let mut header = NetlinkHeader::default();
        // Without NLM_F_DUMP: one socket is looked up by its addresses, the others are left alone.
        header.flags = NLM_F_REQUEST;
        let question = InetRequest {
            family: if local.is_ipv4() { AF_INET } else { AF_INET6 },
            protocol: IPPROTO_TCP,
            extensions: ExtensionFlags::empty(),
            states: StateFlags::all(),
            socket_id: SocketId {
                source_port: local.port(),
                destination_port: remote.port(),
                source_address: local.ip(),
                destination_address: remote.ip(),
                interface_id: 0,
                cookie: ANY_COOKIE,
            },
        };
        let mut message =
            NetlinkMessage::new(header, SockDiagMessage::InetRequest(question).into());
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }
}

/// All sockets, read from `/proc`.
#[cfg(target_os = "linux")]
mod table {
    use std::{net::SocketAddr, sync::Arc, time::Duration};

    use tokio::{sync::Mutex, time::Instant};

    use crate::holder::{self, SocketEntry};

    /// A reading is good for everybody who asks within this time.
    const SHARED_FOR: Duration = Duration::from_millis(150);

    type Reading = (Instant, Arc<Vec<SocketEntry>>);

    /// The last reading. Whoever asks while another is under way waits for that one.
    static LAST: Mutex<Option<Reading>> = Mutex::const_new(None);

    /// As [`super::diag::is_held`]; `None` where there is no such table.
    pub(super) async fn is_held(local: SocketAddr, remote: SocketAddr) -> Option<bool> {
        let table = shared().await?;
        let entry = table
            .iter()
            .find(|entry| entry.local == local && entry.remote == remote);
        // A socket that is not listed any more is gone too.
        Some(entry.is_some_and(|entry| entry.inode != 0))
    }

    async fn shared() -> Option<Arc<Vec<SocketEntry>>> {
        let mut last = LAST.lock().await;
        if let Some((at, table)) = &*last
            && at.elapsed() < SHARED_FOR
        {
            return Some(Arc::clone(table));
        }
        let asked = Instant::now();
        let table = tokio::task::spawn_blocking(holder::table).await.ok()?;
        if table.is_empty() {
            return None;
        }
        let table = Arc::new(table);
        *last = Some((asked, Arc::clone(&table)));
        Some(table)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{
        io::Read as _,
        net::{Shutdown, TcpListener, TcpStream},
    };

    use super::*;

    /// A client, its address, the accepted end and its address.
    fn connection(listen_at: &str, host: &str) -> (TcpStream, SocketAddr, TcpStream, SocketAddr) {
        let listener = TcpListener::bind((listen_at, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let client = TcpStream::connect((host, port)).expect("a connection");
        let (server, peer) = listener.accept().expect("a connection");
        let ours = server.local_addr().expect("an address");
        (client, peer, server, ours)
    }

    #[tokio::test]
    async fn a_peer_that_only_stopped_sending_is_told_from_one_that_is_gone() {
        for (listen_at, host) in [
            ("127.0.0.1", "127.0.0.1"),
            ("::1", "::1"),
            ("::", "127.0.0.1"),
        ] {
            let (client, peer, mut server, ours) = connection(listen_at, host);
            client.shutdown(Shutdown::Write).expect("a half-close");
            assert_eq!(server.read(&mut [0; 1]).expect("an end of file"), 0);
            assert_eq!(is_gone(peer, ours).await, Some(false), "{listen_at}");
            drop(client);
            assert_eq!(is_gone(peer, ours).await, Some(true), "{listen_at}");
        }
    }

    #[tokio::test]
    async fn the_kernel_and_the_table_say_the_same() {
        let (client, peer, _server, ours) = connection("127.0.0.1", "127.0.0.1");
        assert_eq!(table::is_held(peer, ours).await, Some(true));
        // Where a kernel does not tell of one socket, nothing can be compared.
        if let Ok(is_held) = diag::is_held(peer, ours) {
            assert!(is_held);
            drop(client);
            assert!(!diag::is_held(peer, ours).expect("it told before"));
        }
    }

    #[tokio::test]
    async fn nothing_is_known_of_a_peer_on_another_machine() {
        let ours = "127.0.0.1:5".parse().expect("an address");
        let elsewhere = "192.0.2.1:5".parse().expect("an address");
        assert_eq!(is_gone(elsewhere, ours).await, None);
    }
}
