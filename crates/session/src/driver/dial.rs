//! From a stream URL to an open web socket: address, proxy, TLS, upgrade.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use http::HeaderMap;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self};

use super::coalesce::{CoalescingSocket, Pace};
use super::error::OpenError;
use super::io::Io;
use super::proxy::Proxy;
use crate::wire::{HEADER_LEN, MAX_PAYLOAD_BYTES};

/// Bytes read from the socket at once. The web socket's codec zeroes the whole of its read buffer
/// before each read, and an agent sends messages of a kilobyte one by one: with 64 KiB a tenth of
/// the processor time of a download went into that, and into what it drove out of the cache. A
/// larger message takes several reads.
const READ_BUFFER_BYTES: usize = 8 << 10;
/// Bytes written to the socket at once: two of the largest messages sent.
const WRITE_BUFFER_BYTES: usize = 64 << 10;
/// For connecting to one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For a TLS handshake, a proxy's answer, the upgrade.
const STEP_TIMEOUT: Duration = Duration::from_secs(15);
/// How much of a refusal's body is kept, in characters.
const BODY_EXCERPT_CHARS: usize = 300;

pub(super) type Socket = WebSocketStream<Box<dyn Io>>;

/// What stays the same between dials. Addresses, proxy and headers are found anew for each.
pub(super) struct Dialer {
    tls: Option<Arc<ClientConfig>>,
    proxy: Proxy,
}

impl Dialer {
    /// Reads the certificate stores unless `stream_url` is `ws://`.
    pub(super) async fn new(
        stream_url: &str,
        proxy: Proxy,
        extra_roots: Option<&Path>,
    ) -> Result<Self, OpenError> {
        let tls = if stream_url.starts_with("ws://") {
            None
        } else {
            let extra = extra_roots.map(Path::to_owned);
            let loaded = tokio::task::spawn_blocking(move || tls_config(extra.as_deref())).await;
            Some(loaded.map_err(|e| OpenError::WebSocket(e.to_string()))??)
        };
        Ok(Self { tls, proxy })
    }

    /// A web socket, and what has to hear of its messages.
    pub(super) async fn dial(
        &self,
        stream_url: &str,
        headers: HeaderMap,
    ) -> Result<(Socket, Pace), OpenError> {
        // Taken byte for byte: its query has characters that a round trip through a URL type could
        // change.
        let mut request = stream_url
            .into_client_request()
            .map_err(|e| OpenError::Url(without_url(&e, stream_url)))?;
        let uri = request.uri();
        let host = uri
            .host()
            .unwrap_or_default()
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let secure = match uri.scheme_str() {
            Some("wss") => true,
            Some("ws") if is_loopback(&host) => false,
            Some("ws") => {
                return Err(OpenError::Url(
                    "`ws://` is accepted for loopback addresses only".to_owned(),
                ));
            }
            _ => return Err(OpenError::Url("its scheme is not wss".to_owned())),
        };
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        for (name, value) in &headers {
            if name != http::header::HOST {
                request.headers_mut().insert(name.clone(), value.clone());
            }
        }

        let hop = if secure {
            self.proxy.for_host(&host, port)?
        } else {
            None
        };
        let coalesces = Arc::<AtomicBool>::default();
        let coalescing = |socket| CoalescingSocket::new(socket, Arc::clone(&coalesces));
        let mut stream: Box<dyn Io> = match hop {
            None => Box::new(coalescing(connect(&host, port).await?)),
            Some(hop) => {
                let socket = connect(&hop.host, hop.port).await?;
                let mut stream: Box<dyn Io> = Box::new(coalescing(socket));
                if hop.tls {
                    stream = self.start_tls(stream, &hop.host).await?;
                }
                limit(
                    "the proxy's answer",
                    STEP_TIMEOUT,
                    hop.connect(&mut stream, &host, port),
                )
                .await?;
                stream
            }
        };
        if secure {
            stream = self.start_tls(stream, &host).await?;
        }

        let largest = MAX_PAYLOAD_BYTES + HEADER_LEN;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(WRITE_BUFFER_BYTES)
            .max_message_size(Some(largest))
            .max_frame_size(Some(largest));
        let upgrade = async {
            tokio_tungstenite::client_async_with_config(request, stream, Some(config))
                .await
                .map_err(|error| match error {
                    tungstenite::Error::Http(response) => OpenError::Upgrade {
                        host: host.clone(),
                        status: response.status().as_u16(),
                        body: excerpt(response.body().as_deref().unwrap_or_default()),
                    },
                    other => OpenError::WebSocket(without_url(&other, stream_url)),
                })
        };
        let (socket, _) = limit("the web socket upgrade", STEP_TIMEOUT, upgrade).await?;
        Ok((socket, Pace::of(coalesces)))
    }

    async fn start_tls(&self, stream: Box<dyn Io>, host: &str) -> Result<Box<dyn Io>, OpenError> {
        let Some(config) = &self.tls else {
            return Err(OpenError::NoRoots);
        };
        let tls = |source: io::Error| OpenError::Tls {
            host: host.to_owned(),
            source,
        };
        let name = ServerName::try_from(host.to_owned()).map_err(|e| tls(io::Error::other(e)))?;
        let connector = TlsConnector::from(config.clone());
        let handshake = async { connector.connect(name, stream).await.map_err(tls) };
        Ok(Box::new(
            limit("the TLS handshake", STEP_TIMEOUT, handshake).await?,
        ))
    }
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, OpenError> {
    let addresses = limit("name resolution", STEP_TIMEOUT, lookup(host, port)).await?;
    connect_any(addresses, host, port).await
}

/// The addresses of `host`.
pub(super) async fn lookup(host: &str, port: u16) -> Result<Vec<SocketAddr>, OpenError> {
    match tokio::net::lookup_host((host, port)).await {
        Ok(addresses) => Ok(addresses.collect()),
        Err(source) => Err(OpenError::Dns {
            host: host.to_owned(),
            source,
        }),
    }
}

/// A connection to the first of `addresses` that takes one.
pub(super) async fn connect_any(
    addresses: Vec<SocketAddr>,
    host: &str,
    port: u16,
) -> Result<TcpStream, OpenError> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Keystrokes are small messages that must not wait for an acknowledgement of the
                // ones before.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => {
                last = io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
                );
            }
        }
    }
    Err(OpenError::Connect {
        host: host.to_owned(),
        port,
        source: last,
    })
}

async fn limit<T>(
    step: &'static str,
    limit: Duration,
    work: impl Future<Output = Result<T, OpenError>>,
) -> Result<T, OpenError> {
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or(Err(OpenError::TimedOut { step, limit }))
}

/// The system's certificate authorities, and those of a file.
pub(super) fn root_certificates(extra_roots: Option<&Path>) -> Result<RootCertStore, OpenError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = extra_roots {
        let bad = |reason: String| OpenError::Roots {
            path: path.to_owned(),
            reason,
        };
        let mut found = false;
        for certificate in CertificateDer::pem_file_iter(path).map_err(|e| bad(e.to_string()))? {
            roots
                .add(certificate.map_err(|e| bad(e.to_string()))?)
                .map_err(|e| bad(e.to_string()))?;
            found = true;
        }
        if !found {
            return Err(bad("it holds no certificate".to_owned()));
        }
    }
    if roots.is_empty() {
        return Err(OpenError::NoRoots);
    }
    Ok(roots)
}

fn tls_config(extra_roots: Option<&Path>) -> Result<Arc<ClientConfig>, OpenError> {
    let roots = root_certificates(extra_roots)?;
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| OpenError::WebSocket(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// The URL names the session, so an error text must not repeat it.
pub(super) fn without_url(error: &tungstenite::Error, stream_url: &str) -> String {
    error.to_string().replace(stream_url, "the stream URL")
}

fn excerpt(body: &[u8]) -> String {
    String::from_utf8_lossy(body)
        .chars()
        .filter(|c| !c.is_control())
        .take(BODY_EXCERPT_CHARS)
        .collect()
}
