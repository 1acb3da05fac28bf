//! Whose a connection on loopback is, by the kernel's tables of sockets.

use std::net::SocketAddr;
#[cfg(target_os = "linux")]
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whose a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Of the user this process runs as.
    Own,
    /// Of the user with this id.
    #[cfg_attr(
        not(target_os = "linux"),
        allow(dead_code, reason = "only Linux tells whose a socket is")
    )]
    Other(u32),
    /// No table shows the socket, or it is closed already.
    Unknown,
}

/// Whose the socket is that is bound to `client` and connected to `server`.
#[cfg(target_os = "linux")]
pub(crate) fn owner_of(client: SocketAddr, server: SocketAddr) -> Owner {
    // A client may reach an IPv4 listener from an IPv6 socket (`::ffff:127.0.0.1`), which only the
    // second table shows. A system without IPv6 has no second table and no such sockets.
    for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        let text = std::fs::read_to_string(table).unwrap_or_default();
        if let Some(uid) = owner_in(&text, client, server) {
            return if uid == rustix::process::geteuid().as_raw() {
                Owner::Own
            } else {
                Owner::Other(uid)
            };
        }
    }
    Owner::Unknown
}

/// Other systems have no such tables.
#[cfg(not(target_os = "linux"))]
pub(crate) fn owner_of(_client: SocketAddr, _server: SocketAddr) -> Owner {
    Owner::Unknown
}

/// The user id in the row of the socket that is bound to `client` and connected to `server`;
/// addresses are equal across families.
///
/// Columns of a row: number, local address, remote address, state, queues, timer, retransmits, uid,
/// timeout, inode. Source: `tcp4_seq_show` and `tcp6_seq_show` of Linux; proc_pid_net(5).
#[cfg(target_os = "linux")]
fn owner_in(table: &str, client: SocketAddr, server: SocketAddr) -> Option<u32> {
    let wanted = (canonical_address(client), canonical_address(server));
    table.lines().skip(1).find_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (local, remote) = (words.next()?, words.next()?);
        if (parse_address(local)?, parse_address(remote)?) != wanted {
            return None;
        }
        let (uid, inode) = (words.nth(4)?, words.nth(1)?);
        // A socket without an inode belongs to no process any more; its row names user 0, which
        // must not count as root.
        if inode == "0" {
            return None;
        }
        uid.parse().ok()
    })
}

/// An address of a row: words of 32 bits in the machine's byte order, written in hexadecimal, and
/// the port.
#[cfg(target_os = "linux")]
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let word = u32::from_str_radix(host.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    let ip: IpAddr = match host.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut bytes = [0; 16];
            for (at, four) in bytes.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&word(at * 8)?);
            }
            Ipv6Addr::from(bytes).into()
        }
        _ => return None,
    };
    Some(canonical_address(SocketAddr::new(ip, port)))
}

/// `address` with an IPv4 address that is written as an IPv6 one told as what it is; a scope or a
/// flow label is no part of it.
#[cfg(target_os = "linux")]
fn canonical_address(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(all(test, target_os = "linux", target_endian = "little"))]
mod tests {
    use super::*;

    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 100 1 0000000000000000 100 0 0 10 0\n\
   1: 0100007F:C350 0100007F:1F91 01 00000000:00000000 00:00000000 00000000  1000        0 200 1 0000000000000000 20 4 30 10 -1\n\
   2: 0100007F:C351 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1001        0 201 1 0000000000000000 20 4 30 10 -1\n\
   3: 0100007F:C352 0100007F:1F90 06 00000000:00000000 03:00000AAA 00000000     0        0 0 3 0000000000000000\n";
    const TCP6: &str = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
   0: 0000000000000000FFFF00000100007F:C353 0000000000000000FFFF00000100007F:1F90 01 00000000:00000000 00:00000000 00000000  1002        0 300 1 0000000000000000 20 4 30 10 -1\n";

    fn owner(table: &str, port: u16) -> Option<u32> {
        let client = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        owner_in(table, client, "127.0.0.1:8080".parse().expect("an address"))
    }

    #[test]
    fn a_row_counts_where_both_addresses_fit_and_the_socket_has_an_owner() {
        assert_eq!(owner(TCP, 0xC351), Some(1001));
        // Connected elsewhere, and not there.
        assert_eq!(owner(TCP, 0xC350), None);
        assert_eq!(owner(TCP, 0xC353), None);
        // Closed: the row names user 0, who is not the owner.
        assert_eq!(owner(TCP, 0xC352), None);
    }

    #[test]
    fn an_ipv4_address_in_the_table_of_ipv6_is_found() {
        assert_eq!(owner(TCP6, 0xC353), Some(1002));
    }

    #[test]
    fn rows_that_are_none_are_passed_over() {
        for table in [
            "",
            "head\n",
            "head\n0: x y\n",
            "head\n 0: 0100007F:C351 0100007F:1F90 01\n",
        ] {
            assert_eq!(owner(table, 0xC351), None, "{table:?}");
        }
    }
}
