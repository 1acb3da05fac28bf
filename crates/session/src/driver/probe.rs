//! A look at a host: how long each step to it takes, who vouches for its certificate, what time it
//! has. The steps are those of a dial: the same proxy, the same certificate authorities.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use der::{Decode as _, Reader as _, SliceReader, asn1::AnyRef};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::Instant,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
        client::{
            WebPkiServerVerifier,
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        },
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, ServerName, UnixTime},
    },
};

use super::{
    dial::{connect_any, lookup, root_certificates},
    error::OpenError,
    io::Io,
    proxy::{Hop, Proxy},
};

/// For each step. Whoever asks a doctor waits for the answer.
const STEP_TIMEOUT: Duration = Duration::from_secs(4);
/// The head of an answer, in bytes.
const HEAD_BYTES: usize = 16 << 10;

/// What was seen on the way to one host.
#[derive(Debug, Default)]
pub struct Probe {
    /// Name resolution, of the proxy where there is one.
    pub dns: Option<Duration>,
    /// Connecting, and the proxy's answer where there is one.
    pub tcp: Option<Duration>,
    /// The TLS handshake; `None` too for plain HTTP.
    pub tls: Option<Duration>,
    /// Who issued the certificate that the other side showed, trusted or not, such as
    /// `CN=Amazon RSA 2048 M03, O=Amazon, C=US`.
    pub issuer: Option<String>,
    /// The `Date` header of the answer to a request without credentials, as it stands there.
    pub date: Option<String>,
    /// What ended it before its last step.
    pub failure: Option<OpenError>,
}

impl Probe {
    /// All steps together.
    pub fn total(&self) -> Duration {
        [self.dns, self.tcp, self.tls].into_iter().flatten().sum()
    }

    /// Whether the certificate was refused since nobody known here vouches for it.
    pub fn is_issuer_unknown(&self) -> bool {
        let Some(OpenError::Tls { source, .. }) = &self.failure else {
            return false;
        };
        let refused = source.get_ref().and_then(|error| error.downcast_ref());
        matches!(
            refused,
            Some(TlsError::InvalidCertificate(
                tokio_rustls::rustls::CertificateError::UnknownIssuer
            ))
        )
    }
}

/// Looks at hosts by way of one proxy and with one set of certificate authorities.
pub struct Prober {
    proxy: Proxy,
    roots: Option<Arc<RootCertStore>>,
}

impl Prober {
    /// Reads the certificate stores, unless only plain HTTP is asked for (`secure` is false).
    ///
    /// # Errors
    /// The file of further authorities cannot be used; the system has none.
    pub async fn new(
        proxy: Proxy,
        extra_roots: Option<&Path>,
        secure: bool,
    ) -> Result<Self, OpenError> {
        let roots = match secure {
            false => None,
            true => {
                let extra = extra_roots.map(Path::to_owned);
                let read = move || root_certificates(extra.as_deref());
                let read = tokio::task::spawn_blocking(read).await;
                let roots = read.map_err(|error| OpenError::WebSocket(error.to_string()))??;
                Some(Arc::new(roots))
            }
        };
        Ok(Self { proxy, roots })
    }

    /// Goes to `host` and asks for nothing but its time. `secure` is HTTPS.
    pub async fn look(&self, host: &str, port: u16, secure: bool) -> Probe {
        let mut probe = Probe::default();
        probe.failure = self.go(host, port, secure, &mut probe).await.err();
        probe
    }

    async fn go(
        &self,
        host: &str,
        port: u16,
        secure: bool,
        probe: &mut Probe,
    ) -> Result<(), OpenError> {
        let hop = if secure {
            self.proxy.for_host(host, port)?
        } else {
            None
        };
        let begin = Instant::now();
        let (first, first_port) = hop
            .as_ref()
            .map_or((host, port), |hop| (hop.host.as_str(), hop.port));
        let addresses = within("name resolution", lookup(first, first_port)).await?;
        probe.dns = Some(begin.elapsed());

        let begin = Instant::now();
        let connecting = connect_any(addresses, first, first_port);
        let mut stream: Box<dyn Io> = Box::new(within("connecting", connecting).await?);
        if let Some(hop) = &hop {
            stream = self.through(stream, hop, host, port).await?;
        }
        probe.tcp = Some(begin.elapsed());

        if secure {
            let begin = Instant::now();
            let seen = Arc::default();
            let shaken = self.start_tls(stream, host, &seen).await;
            let shown = seen.lock().unwrap_or_else(PoisonError::into_inner).take();
            probe.issuer = shown.as_ref().and_then(issuer_of);
            stream = shaken?;
            probe.tls = Some(begin.elapsed());
        }
        probe.date = within("the answer", ask_date(&mut stream, host)).await?;
        Ok(())
    }

    async fn through(
        &self,
        stream: Box<dyn Io>,
        hop: &Hop,
        host: &str,
        port: u16,
    ) -> Result<Box<dyn Io>, OpenError> {
        let mut stream = stream;
        if hop.tls {
            stream = self.start_tls(stream, &hop.host, &Arc::default()).await?;
        }
        within("the proxy's answer", hop.connect(&mut stream, host, port)).await?;
        Ok(stream)
    }

    async fn start_tls(
        &self,
        stream: Box<dyn Io>,
        host: &str,
        seen: &Shown,
    ) -> Result<Box<dyn Io>, OpenError> {
        let roots = self.roots.clone().ok_or(OpenError::NoRoots)?;
        let failed = |source: io::Error| OpenError::Tls {
            host: host.to_owned(),
            source,
        };
        let config = config(roots, seen).map_err(|error| failed(io::Error::other(error)))?;
        let name =
            ServerName::try_from(host.to_owned()).map_err(|e| failed(io::Error::other(e)))?;
        let connector = TlsConnector::from(Arc::new(config));
        let handshake = async { connector.connect(name, stream).await.map_err(failed) };
        Ok(Box::new(within("the TLS handshake", handshake).await?))
    }
}

/// The certificate that the other side showed.
type Shown = Arc<Mutex<Option<CertificateDer<'static>>>>;

fn config(roots: Arc<RootCertStore>, seen: &Shown) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let strict = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
        .build()
        .map_err(|error| TlsError::General(error.to_string()))?;
    let watching = Watching {
        strict,
        seen: Arc::clone(seen),
    };
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(watching))
        .with_no_client_auth())
}

/// Verifies as strictly as every other connection, and keeps what it was shown: rustls tells
/// nothing of a certificate that it refuses, and that one is the proxy's which is to be named.
#[derive(Debug)]
struct Watching {
    strict: Arc<WebPkiServerVerifier>,
    seen: Shown,
}

impl ServerCertVerifier for Watching {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(end_entity.clone().into_owned());
        self.strict
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.strict
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.strict
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.strict.supported_verify_schemes()
    }
}

async fn within<T>(
    step: &'static str,
    work: impl Future<Output = Result<T, OpenError>>,
) -> Result<T, OpenError> {
    let limit = STEP_TIMEOUT;
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or(Err(OpenError::TimedOut { step, limit }))
}

/// The `Date` header that `host` answers with; `None` where it gives none.
async fn ask_date(stream: &mut Box<dyn Io>, host: &str) -> Result<Option<String>, OpenError> {
    let broken = |error: io::Error| OpenError::WebSocket(error.to_string());
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < HEAD_BYTES {
        if stream.read_buf(&mut head).await.map_err(broken)? == 0 {
            break;
        }
    }
    let head = String::from_utf8_lossy(&head);
    Ok(head
        .lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("date"))
        .map(|(_, date)| date.trim().to_owned()))
}

/// The parts of a name that are shown: their object identifiers in DER, and their short names.
/// Source: RFC 4519 (common name, country, organisation, organisational unit).
const SHOWN_PARTS: [(&[u8], &str); 4] = [
    (&[0x55, 0x04, 0x03], "CN"),
    (&[0x55, 0x04, 0x06], "C"),
    (&[0x55, 0x04, 0x0a], "O"),
    (&[0x55, 0x04, 0x0b], "OU"),
];

/// Who issued `certificate`, the most particular part first; `None` for what is none.
fn issuer_of(certificate: &CertificateDer<'static>) -> Option<String> {
    let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
    // webpki gives what is inside of the outermost sequence: sets of a name and its value.
    let mut parts = parts_of(parsed.issuer()).ok()?;
    parts.reverse();
    Some(parts.join(", ")).filter(|name| !name.is_empty())
}

fn parts_of(name: &[u8]) -> der::Result<Vec<String>> {
    let mut parts = Vec::new();
    let mut sets = SliceReader::new(name)?;
    while !sets.is_finished() {
        let set = AnyRef::decode(&mut sets)?;
        let pair = AnyRef::from_der(set.value())?;
        let mut pair = SliceReader::new(pair.value())?;
        let (kind, value) = (AnyRef::decode(&mut pair)?, AnyRef::decode(&mut pair)?);
        let shown = SHOWN_PARTS.iter().find(|(oid, _)| *oid == kind.value());
        if let Some((_, short)) = shown {
            // Foreign bytes on their way to a terminal: what prints escapes them.
            let value = String::from_utf8_lossy(value.value());
            parts.push(format!("{short}={value}"));
        }
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use tokio_rustls::rustls::pki_types::pem::PemObject as _;

    use super::*;

    #[test]
    fn the_issuer_of_a_certificate_is_read() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tls/server.pem");
        let certificate = CertificateDer::from_pem_file(path).unwrap();
        let issuer = issuer_of(&certificate).unwrap();
        assert!(issuer.starts_with("CN="), "{issuer}");
        let nothing = CertificateDer::from(vec![0x30, 0x03, 1, 2, 3]);
        assert_eq!(issuer_of(&nothing), None);
        assert!(parts_of(&[0x31, 0xff, 0x30]).is_err());
    }
}
