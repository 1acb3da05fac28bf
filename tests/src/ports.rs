//! Ports of this machine: one that nobody answers on, and one for a program that cannot choose.

use std::{
    net::{Ipv4Addr, SocketAddrV4, TcpListener},
    os::fd::OwnedFd,
};

use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};

/// Tries with another port each before [`on_a_free_port`] gives up.
const TRIES: usize = 16;

/// A port on 127.0.0.1 that refuses connections for as long as this lives: a socket has it and does
/// not listen, so that nobody else can get it meanwhile.
pub struct ClosedPort {
    number: u16,
    _socket: OwnedFd,
}

impl ClosedPort {
    /// A port that the system chooses.
    pub fn reserve() -> Self {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = getsockname(&socket).expect("an address");
        let address = SocketAddrV4::try_from(address).expect("an IPv4 address");
        Self {
            number: address.port(),
            _socket: socket,
        }
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

/// Starts a program that has to be given its port. The port was free a moment ago; where somebody
/// else was quicker, `start` gives `None`, and is called again with another.
pub fn on_a_free_port<T>(mut start: impl FnMut(u16) -> Option<T>) -> (u16, T) {
    for _ in 0..TRIES {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .expect("a port")
            .port();
        if let Some(started) = start(port) {
            return (port, started);
        }
    }
    panic!("no program could be started on any of {TRIES} ports");
}
