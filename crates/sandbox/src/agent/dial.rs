//! Connections from an instance.

use std::net::{IpAddr, Ipv4Addr};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use crate::{agent::machine::Machine, fleet::Instance, network::Destination};

/// Bytes that may wait in each direction between the agent and its own SSH server.
const PIPE_BYTES: usize = 256 * 1024;

/// A connection: over TCP, or to the SSH server inside the agent.
pub(in crate::agent) trait Connection:
    AsyncRead + AsyncWrite + Send + Unpin
{
}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}
/// Any connection.
pub(in crate::agent) type Stream = Box<dyn Connection>;

impl Machine {
    /// Connects to `port` of `host`, `None` being the instance itself.
    ///
    /// # Errors
    /// Why not, in the words of the agent's language.
    pub(in crate::agent) async fn dial(
        &self,
        host: Option<&str>,
        port: u16,
    ) -> Result<Stream, String> {
        if !self.slow_dial.is_zero() {
            tokio::time::sleep(self.slow_dial).await;
        }
        dial_now(self, host, port).await
    }
}

/// Connects to `port` of `host` (`None`: the instance) as seen from the machine.
///
/// # Errors
/// Why not, in the words of the agent's language.
async fn dial_now(machine: &Machine, host: Option<&str>, port: u16) -> Result<Stream, String> {
    let refused =
        |address: &dyn std::fmt::Display, why: &str| format!("dial tcp {address}: connect: {why}");
    let named = format!("{}:{port}", host.unwrap_or("127.0.0.1"));
    match machine
        .network
        .destination(&machine.instance, host, port)
        .await
    {
        Ok(Destination::Ssh) => {
            let (near, far) = tokio::io::duplex(PIPE_BYTES);
            (machine.serve_ssh)(machine, far)
                .map_err(|error| refused(&named, &error.to_string()))?;
            Ok(Box::new(near))
        }
        Ok(Destination::Address(address)) => match TcpStream::connect(address).await {
            Ok(stream) => {
                // Small answers should not wait for more.
                let _ = stream.set_nodelay(true);
                Ok(Box::new(stream))
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                Err(refused(&named, "connection refused"))
            }
            Err(error) => Err(refused(&named, &error.to_string())),
        },
        Ok(Destination::Refused) => Err(refused(&named, "connection refused")),
        Ok(Destination::Unknown) => Err("missing address".to_owned()),
        Err(error) => Err(refused(&named, &error.to_string())),
    }
}

/// Whether the agent refuses to forward there at all: the metadata service, the link-local services
/// of EC2 and the addresses that AWS keeps for itself in the machine's network (taken to be a /16).
pub(in crate::agent) fn is_forbidden(instance: &Instance, host: &str) -> bool {
    const LINK_LOCAL: [[u8; 2]; 5] = [[169, 254], [169, 253], [169, 123], [169, 250], [169, 251]];
    // The agent looks at the text of the host and not at what its name leads to: a name for a
    // forbidden address passes.
    let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() else {
        return false;
    };
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            let metadata = [a, b] == [169, 254] && LINK_LOCAL.contains(&[c, d]);
            let [x, y, ..] = instance.private_ip.octets();
            let reserved = [0, 1, 2, 3]
                .map(|last| Ipv4Addr::new(x, y, 0, last))
                .contains(&address)
                || address == Ipv4Addr::new(x, y, 255, 255);
            metadata || reserved
        }
        IpAddr::V6(address) => {
            let [a, b, .., last] = address.segments();
            (a, b) == (0xfd00, 0x0ec2)
                && address.segments()[2..7].iter().all(|&segment| segment == 0)
                && [0x254, 0x253, 0x123, 0x250, 0x251, 0x240].contains(&last)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Fleet;

    #[test]
    fn what_aws_keeps_for_itself_is_forbidden_and_its_neighbours_are_not() {
        let instance = Fleet::load(None, 0).unwrap().listed_as("web-1").unwrap();
        for host in [
            "169.254.169.254",
            "169.254.169.253",
            "169.254.169.123",
            "fd00:ec2::254",
            "[fd00:ec2::240]",
            "10.0.0.0",
            "10.0.0.3",
            "10.0.255.255",
        ] {
            assert!(is_forbidden(&instance, host), "{host}");
        }
        for host in [
            "169.254.169.1",
            "10.0.0.4",
            "10.1.0.2",
            "fd00:ec2::1",
            "db-reporting",
            "localhost",
        ] {
            assert!(!is_forbidden(&instance, host), "{host}");
        }
    }
}
