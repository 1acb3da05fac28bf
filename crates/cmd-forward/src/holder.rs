//! Which process holds a port.
//!
//! Linux says so in `/proc`; elsewhere nothing is known.

use std::{
    fs::File,
    io::{Read as _, Seek as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Mutex, OnceLock, PoisonError},
};

/// TCP states as `/proc/net/tcp` numbers them.
const LISTEN: u8 = 0x0a;

/// Who listens on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// A process of this user, or one that may be looked into.
    Process { id: u32, name: String },
    /// Somebody else's: the user's number.
    User(u32),
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Process { id, name } => write!(f, "`{name}` (process {id})"),
            Self::User(user) => write!(f, "a process of user {user}"),
        }
    }
}

/// One line of `/proc/net/tcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SocketEntry {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    state: u8,
    user: u32,
    /// 0 when no process holds the socket any more.
    pub(crate) inode: u64,
}

/// Who listens at this address, as far as that can be known.
pub(crate) fn of(address: SocketAddr) -> Option<Holder> {
    let entry = table()
        .into_iter()
        .filter(|entry| entry.state == LISTEN && entry.local.port() == address.port())
        .max_by_key(|entry| {
            let same = entry.local.ip() == address.ip();
            (same, entry.local.ip().is_unspecified())
        })?;
    Some(process_with(entry.inode).unwrap_or(Holder::User(entry.user)))
}

/// IPv4 in IPv6 as IPv4, which is how both ends of a connection may be listed differently.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Opens the tables, for as long as this process lives: they are needed most when no file can be
/// opened any more, to find the connections whose clients have gone. To be called before
/// connections are accepted.
pub(crate) fn keep_tables_open() {
    tables();
}

fn tables() -> &'static Mutex<Vec<File>> {
    static TABLES: OnceLock<Mutex<Vec<File>>> = OnceLock::new();
    TABLES.get_or_init(|| {
        let files = ["/proc/net/tcp", "/proc/net/tcp6"];
        let open = files.into_iter().filter_map(|path| File::open(path).ok());
        Mutex::new(open.collect())
    })
}

/// All TCP sockets; empty where there is no such table. The kernel walks its whole hash table for
/// it.
pub(crate) fn table() -> Vec<SocketEntry> {
    let mut tables = tables().lock().unwrap_or_else(PoisonError::into_inner);
    let mut entries = Vec::new();
    for file in tables.iter_mut() {
        let mut text = String::new();
        // From its beginning, the kernel makes the table anew.
        if file
            .rewind()
            .and_then(|()| file.read_to_string(&mut text))
            .is_ok()
        {
            entries.extend(text.lines().skip(1).filter_map(parse));
        }
    }
    entries
}

fn parse(line: &str) -> Option<SocketEntry> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let local = parse_address(fields.next()?)?;
    let remote = parse_address(fields.next()?)?;
    let state = u8::from_str_radix(fields.next()?, 16).ok()?;
    // tx_queue:rx_queue, tr:tm->when, retrnsmt
    let user = fields.nth(3)?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    Some(SocketEntry {
        local: plain(local),
        remote: plain(remote),
        state,
        user,
        inode,
    })
}

/// Words of 32 bits in the machine's order.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words = |at: usize| {
        u32::from_str_radix(address.get(at..at + 8)?, 16)
            .ok()
            .map(u32::to_ne_bytes)
    };
    let ip: IpAddr = match address.len() {
        8 => Ipv4Addr::from(words(0)?).into(),
        32 => {
            let mut octets = [0; 16];
            for (index, octets) in octets.chunks_exact_mut(4).enumerate() {
                octets.copy_from_slice(&words(index * 8)?);
            }
            Ipv6Addr::from(octets).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

fn process_with(inode: u64) -> Option<Holder> {
    let wanted = format!("socket:[{inode}]");
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(id) = process.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        let Ok(files) = std::fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        let holds = files.flatten().any(|file| {
            std::fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str())
        });
        if holds {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(Holder::Process {
                id,
                name: name.trim().to_owned(),
            });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_line_is_read_in_both_families() {
        let four = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0 100 0 0 10 0";
        let entry = parse(four).expect("an entry");
        if cfg!(target_endian = "little") {
            assert_eq!(entry.local, "127.0.0.1:8080".parse().expect("an address"));
        }
        assert_eq!((entry.state, entry.user, entry.inode), (LISTEN, 1000, 4242));
        let six = "  1: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 99 1 0 100 0 0 10 0";
        let entry = parse(six).expect("an entry");
        if cfg!(target_endian = "little") {
            assert_eq!(entry.local, "[::1]:80".parse().expect("an address"));
        }
        assert_eq!(parse("garbage"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_found_behind_its_own_port() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        assert!(
            matches!(of(address), Some(Holder::Process { id, .. }) if id == std::process::id())
        );
    }
}
