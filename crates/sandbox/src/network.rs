//! What an instance can reach: its own ports, the fleet's name table, its neighbours, this
//! computer's loopback listeners, and nothing else.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::Mutex,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::fleet::{Fleet, Instance, Service};

/// Where a connection from an instance ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// The SSH server embedded in the agent.
    Ssh,
    /// A listener on this machine's loopback interface; a dial may still be refused.
    Address(SocketAddr),
    /// A known machine with nothing on that port, or an address outside the sandbox: fails as
    /// `connection refused`.
    Refused,
    /// No such name: the official agent's dial says `missing address`.
    Unknown,
}

/// The sandbox's pretended network, shared by all instances.
#[derive(Debug)]
pub(crate) struct Network {
    fleet: Arc<Fleet>,
    /// Embedded services that were asked for, by kind and the name they go by.
    services: Mutex<HashMap<(ServiceKind, String), SocketAddr>>,
    cancel: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum ServiceKind {
    Http,
    Echo,
    Mysql,
}

impl Network {
    pub(crate) fn new(fleet: Arc<Fleet>, cancel: CancellationToken, tasks: TaskTracker) -> Self {
        Self {
            fleet,
            services: Mutex::default(),
            cancel,
            tasks,
        }
    }

    /// Resolves `host` (`None`, `localhost`: the instance itself) and `port` as seen from
    /// `instance`; starts the embedded service behind it at its first use.
    ///
    /// # Errors
    /// No loopback listener could be opened for an embedded service.
    pub(crate) async fn destination(
        &self,
        instance: &Instance,
        host: Option<&str>,
        port: u16,
    ) -> io::Result<Destination> {
        let Some(host) = host.filter(|host| !is_local(host)) else {
            return self.port_of(instance, port, true).await;
        };
        if let Some(service) = self.fleet.file().named(host, port) {
            return self.service(service, host).await;
        }
        if self.fleet.file().knows_host(host) {
            return Ok(Destination::Refused);
        }
        if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            if address.is_loopback() {
                return Ok(Destination::Address(SocketAddr::new(address, port)));
            }
            return match self.fleet.by_address(address) {
                Some(other) => self.port_of(&other, port, other.id == instance.id).await,
                None => Ok(Destination::Refused),
            };
        }
        match self.fleet.by_dns(host) {
            Some(other) => self.port_of(&other, port, other.id == instance.id).await,
            None => Ok(Destination::Unknown),
        }
    }

    /// What is on `port` of a machine. Where nothing is declared, its own programs reach this
    /// computer's loopback listeners.
    async fn port_of(
        &self,
        instance: &Instance,
        port: u16,
        is_own: bool,
    ) -> io::Result<Destination> {
        match instance.ports.get(&port) {
            Some(service) => self.service(*service, instance.hostname()).await,
            None if port == 22 => Ok(Destination::Ssh),
            None if is_own => Ok(Destination::Address(SocketAddr::from((
                [127, 0, 0, 1],
                port,
            )))),
            None => Ok(Destination::Refused),
        }
    }

    async fn service(&self, service: Service, name: &str) -> io::Result<Destination> {
        let kind = match service {
            Service::Ssh => return Ok(Destination::Ssh),
            Service::Closed => return Ok(Destination::Refused),
            Service::Address(address) => return Ok(Destination::Address(address)),
            Service::Http => ServiceKind::Http,
            Service::Echo => ServiceKind::Echo,
            Service::Mysql => ServiceKind::Mysql,
        };
        let mut services = self.services.lock().await;
        let key = (kind, name.to_owned());
        if let Some(address) = services.get(&key) {
            return Ok(Destination::Address(*address));
        }
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (name, tasks, cancel) = (name.to_owned(), self.tasks.clone(), self.cancel.clone());
        self.tasks.spawn(async move {
            loop {
                let accepted = tokio::select! {
                    () = cancel.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                let Ok((stream, _)) = accepted else { continue };
                let _ = stream.set_nodelay(true);
                let (name, cancel) = (name.clone(), cancel.clone());
                tasks.spawn(async move {
                    let talk = async {
                        match kind {
                            ServiceKind::Http => http(stream, &name).await,
                            ServiceKind::Echo => echo(stream).await,
                            ServiceKind::Mysql => mysql(stream).await,
                        }
                    };
                    tokio::select! {
                        () = cancel.cancelled() => {}
                        // A connection that breaks off is its client's business.
                        _ = talk => {}
                    }
                });
            }
        });
        services.insert(key, address);
        Ok(Destination::Address(address))
    }
}

/// The default fleet's network, for tests of what uses one.
#[cfg(test)]
impl Default for Network {
    fn default() -> Self {
        let fleet = Fleet::load(None, 0).expect("the default fleet is right");
        Self::new(
            Arc::new(fleet),
            CancellationToken::new(),
            TaskTracker::new(),
        )
    }
}

fn is_local(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host == "127.0.0.1" || host == "::1"
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let (mut reader, mut writer) = stream.split();
    tokio::io::copy(&mut reader, &mut writer).await?;
    writer.shutdown().await
}

/// A web server with keep-alive: `/` says who it is, `/bytes/N` sends N bytes, `/echo` sends back
/// the body.
async fn http(stream: TcpStream, name: &str) -> io::Result<()> {
    /// The largest body that is taken or made.
    const BODY_BOUND_BYTES: u64 = 4 << 30;
    let mut stream = BufReader::new(stream);
    loop {
        let mut request = String::new();
        // A request line beyond this is none that this server has an answer for.
        if (&mut stream).take(8192).read_line(&mut request).await? == 0 {
            return Ok(());
        }
        let mut len_bytes = 0_u64;
        let mut keep_alive = request.trim_end().ends_with("HTTP/1.1");
        loop {
            let mut line = String::new();
            if (&mut stream).take(8192).read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            if field.eq_ignore_ascii_case("content-length") {
                len_bytes = value.trim().parse().unwrap_or(0);
            } else if field.eq_ignore_ascii_case("connection") {
                keep_alive = !value.trim().eq_ignore_ascii_case("close");
            }
        }
        let path = request.split(' ').nth(1).unwrap_or("/").to_owned();
        let head = |status: &str, len_bytes: u64| {
            format!(
                "HTTP/1.1 {status}\r\nServer: ops-sandbox\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len_bytes}\r\n\r\n"
            )
        };
        if len_bytes > BODY_BOUND_BYTES {
            return stream
                .write_all(head("413 Content Too Large", 0).as_bytes())
                .await;
        }
        if path == "/echo" {
            stream
                .write_all(head("200 OK", len_bytes).as_bytes())
                .await?;
            let mut chunk = vec![0; 16 * 1024];
            let mut left = len_bytes;
            while left > 0 {
                let wanted = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let count = stream.read(&mut chunk[..wanted]).await?;
                if count == 0 {
                    return Ok(());
                }
                stream.write_all(&chunk[..count]).await?;
                left -= count as u64;
            }
        } else {
            let mut body = (&mut stream).take(len_bytes);
            tokio::io::copy(&mut body, &mut tokio::io::sink()).await?;
            if let Some(count) = path
                .strip_prefix("/bytes/")
                .and_then(|count| count.parse::<u64>().ok())
            {
                let count = count.min(BODY_BOUND_BYTES);
                stream.write_all(head("200 OK", count).as_bytes()).await?;
                let mut bytes = tokio::io::repeat(b'x').take(count);
                tokio::io::copy(&mut bytes, &mut stream).await?;
            } else if path == "/" {
                let page = format!("hello from {name}\n");
                stream
                    .write_all(head("200 OK", page.len() as u64).as_bytes())
                    .await?;
                stream.write_all(page.as_bytes()).await?;
            } else {
                stream
                    .write_all(head("404 Not Found", 0).as_bytes())
                    .await?;
            }
        }
        stream.flush().await?;
        if !keep_alive {
            return stream.shutdown().await;
        }
    }
}

/// Speaks first, as MySQL does: protocol 10 and a greeting; whatever login comes is refused with
/// MySQL's own error.
async fn mysql(mut stream: TcpStream) -> io::Result<()> {
    let mut greeting = vec![10];
    greeting.extend_from_slice(b"8.0.36-ops-sandbox\0");
    greeting.extend_from_slice(&7_u32.to_le_bytes());
    greeting.extend_from_slice(b"sandbox!\0");
    greeting.extend_from_slice(&[0xff, 0xf7, 0xff, 0x02, 0x00, 0xff, 0xdf, 21]);
    greeting.extend_from_slice(&[0; 10]);
    greeting.extend_from_slice(b"only-a-demo!\0mysql_native_password\0");
    write_packet(&mut stream, 0, &greeting).await?;
    let mut header = [0; 4];
    if stream.read_exact(&mut header).await.is_err() {
        return Ok(());
    }
    let len_bytes = u64::from(u32::from_le_bytes([header[0], header[1], header[2], 0]));
    let mut body = (&mut stream).take(len_bytes);
    tokio::io::copy(&mut body, &mut tokio::io::sink()).await?;
    let mut refusal = vec![0xff];
    refusal.extend_from_slice(&1045_u16.to_le_bytes());
    refusal.extend_from_slice(b"#28000Access denied: this server of the ops sandbox only greets");
    write_packet(&mut stream, header[3].wrapping_add(1), &refusal).await?;
    stream.shutdown().await
}

async fn write_packet(stream: &mut TcpStream, sequence: u8, body: &[u8]) -> io::Result<()> {
    let len_bytes = u32::try_from(body.len()).unwrap_or(0).to_le_bytes();
    let mut packet = vec![len_bytes[0], len_bytes[1], len_bytes[2], sequence];
    packet.extend_from_slice(body);
    stream.write_all(&packet).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> (Network, Arc<Fleet>) {
        let fleet = Arc::new(Fleet::load(None, 0).unwrap());
        let network = Network::new(
            Arc::clone(&fleet),
            CancellationToken::new(),
            TaskTracker::new(),
        );
        (network, fleet)
    }

    #[tokio::test]
    async fn names_neighbours_and_loopback_resolve_and_the_rest_does_not() {
        let (network, fleet) = network();
        let web = fleet.listed_as("web-1").unwrap();
        let to =
            async |host: Option<&str>, port| network.destination(&web, host, port).await.unwrap();
        assert_eq!(to(None, 22).await, Destination::Ssh);
        assert_eq!(to(Some("10.0.2.12"), 22).await, Destination::Ssh);
        assert_eq!(to(Some("10.0.2.12"), 8080).await, Destination::Refused);
        assert_eq!(to(Some("10.9.9.9"), 80).await, Destination::Refused);
        assert_eq!(to(Some("no.such.host"), 80).await, Destination::Unknown);
        assert_eq!(to(Some("db-reporting"), 5432).await, Destination::Refused);
        assert_eq!(
            to(Some("localhost"), 5432).await,
            Destination::Address(([127, 0, 0, 1], 5432).into())
        );
    }

    #[tokio::test]
    async fn the_web_server_says_on_which_machine_it_is() {
        let (network, fleet) = network();
        let web = fleet.listed_as("web-1").unwrap();
        let Destination::Address(address) = network
            .destination(&web, Some("10.0.2.12"), 80)
            .await
            .unwrap()
        else {
            panic!("no address");
        };
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nPOST /echo HTTP/1.1\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc")
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("hello from web-2\n"), "{answer}");
        assert!(answer.ends_with("abc"), "{answer}");
    }

    #[tokio::test]
    async fn the_database_speaks_first() {
        let (network, fleet) = network();
        let web = fleet.listed_as("web-1").unwrap();
        let Destination::Address(address) = network
            .destination(&web, Some("db-reporting"), 3306)
            .await
            .unwrap()
        else {
            panic!("no address");
        };
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut greeting = [0; 23];
        stream.read_exact(&mut greeting).await.unwrap();
        assert_eq!(greeting[4], 10);
        assert_eq!(&greeting[5..], b"8.0.36-ops-sandbox");
    }
}
