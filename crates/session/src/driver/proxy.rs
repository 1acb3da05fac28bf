//! Which proxy a dial goes through.

use std::fmt;

use base64::Engine as _;
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use url::Url;

use super::error::OpenError;
use super::io::Io;

/// Longest answer to CONNECT, in bytes.
const MAX_ANSWER_BYTES: usize = 16 << 10;

/// Proxy settings.
#[derive(Clone, Default)]
pub struct Proxy {
    https: Option<String>,
    exceptions: Vec<String>,
}

// The URL may hold a password.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("https", &self.https.is_some())
            .field("exceptions", &self.exceptions)
            .finish()
    }
}

impl Proxy {
    /// No proxy at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// `https` is the proxy's URL; `exceptions` a list of names, suffixes, addresses, networks
    /// (`10.0.0.0/8`) or `*`, separated by commas.
    pub fn new(https: Option<String>, exceptions: &str) -> Self {
        let exceptions = exceptions
            .split(',')
            .map(|e| e.trim().to_ascii_lowercase())
            .filter(|e| !e.is_empty())
            .collect();
        Self { https, exceptions }
    }

    /// Whether a host is reached by way of the proxy.
    pub fn is_for(&self, host: &str, port: u16) -> bool {
        self.https.is_some()
            && !self
                .exceptions
                .iter()
                .any(|exception| matches(exception, &host.to_ascii_lowercase(), port))
    }

    /// The proxy for a host, if it needs one.
    pub(super) fn for_host(&self, host: &str, port: u16) -> Result<Option<Hop>, OpenError> {
        match &self.https {
            Some(setting) if self.is_for(host, port) => Hop::parse(setting).map(Some),
            _ => Ok(None),
        }
    }
}

fn matches(exception: &str, host: &str, port: u16) -> bool {
    if exception == "*" {
        return true;
    }
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = host.parse::<std::net::IpAddr>() {
        if let Some((network, bits)) = exception.split_once('/') {
            return matches!((network.parse(), bits.parse()), (Ok(network), Ok(bits)) if contains(network, bits, address));
        }
        if exception
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse()
            == Ok(address)
        {
            return true;
        }
    }
    let name = match exception.rsplit_once(':') {
        Some((name, p)) if !name.contains(':') && p.parse::<u16>().is_ok() => {
            if p.parse() != Ok(port) {
                return false;
            }
            name
        }
        _ => exception,
    };
    let name = name.trim_start_matches('*').trim_start_matches('.');
    host == name
        || host
            .strip_suffix(name)
            .is_some_and(|rest| rest.ends_with('.'))
}

fn contains(network: std::net::IpAddr, bits: u32, address: std::net::IpAddr) -> bool {
    use std::net::IpAddr::{V4, V6};
    match (network, address) {
        (V4(n), V4(a)) if bits <= 32 => {
            (u32::from(n) ^ u32::from(a))
                .checked_shr(32 - bits)
                .unwrap_or(0)
                == 0
        }
        (V6(n), V6(a)) if bits <= 128 => {
            (u128::from(n) ^ u128::from(a))
                .checked_shr(128 - bits)
                .unwrap_or(0)
                == 0
        }
        _ => false,
    }
}

/// A proxy to go through.
pub(super) struct Hop {
    pub(super) host: String,
    pub(super) port: u16,
    /// The connection to the proxy itself is TLS.
    pub(super) tls: bool,
    authorization: Option<String>,
}

impl Hop {
    fn parse(setting: &str) -> Result<Self, OpenError> {
        let bad = |why: &str| OpenError::ProxySetting(why.to_owned());
        let with_scheme = if setting.contains("://") {
            setting.to_owned()
        } else {
            format!("http://{setting}")
        };
        let url = Url::parse(&with_scheme).map_err(|e| bad(&e.to_string()))?;
        let tls = match url.scheme() {
            "http" => false,
            "https" => true,
            other => {
                return Err(bad(&format!(
                    "`{other}://` proxies are not supported, only http and https"
                )));
            }
        };
        let host = url.host_str().ok_or_else(|| bad("it names no host"))?;
        let authorization = (!url.username().is_empty()).then(|| {
            let decode = |s: &str| percent_decode_str(s).decode_utf8_lossy().into_owned();
            let credentials = format!(
                "{}:{}",
                decode(url.username()),
                decode(url.password().unwrap_or_default())
            );
            format!(
                "Basic {}",
                base64::engine::general_purpose::STANDARD.encode(credentials)
            )
        });
        Ok(Self {
            host: host
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_owned(),
            port: url
                .port_or_known_default()
                .unwrap_or(if tls { 443 } else { 80 }),
            tls,
            authorization,
        })
    }

    /// Asks the proxy at the other end of `stream` to connect on.
    pub(super) async fn connect(
        &self,
        stream: &mut Box<dyn Io>,
        host: &str,
        port: u16,
    ) -> Result<(), OpenError> {
        let proxy = format!("{}:{}", self.host, self.port);
        let failed = |reason: String| OpenError::Proxy {
            proxy: proxy.clone(),
            reason,
        };
        let authority = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
        if let Some(authorization) = &self.authorization {
            request.push_str(&format!("Proxy-Authorization: {authorization}\r\n"));
        }
        request.push_str("\r\n");
        stream
            .write_all(request.as_bytes())
            .await
            .map_err(|e| failed(e.to_string()))?;
        stream.flush().await.map_err(|e| failed(e.to_string()))?;

        // The far side of the tunnel waits for our TLS hello, so nothing follows the answer and
        // reading in blocks takes nothing away from it.
        let mut answer = Vec::new();
        let end = loop {
            if let Some(end) = answer.windows(4).position(|w| w == b"\r\n\r\n") {
                break end + 4;
            }
            if answer.len() > MAX_ANSWER_BYTES {
                return Err(failed("its answer is too long".to_owned()));
            }
            if stream
                .read_buf(&mut answer)
                .await
                .map_err(|e| failed(e.to_string()))?
                == 0
            {
                return Err(failed("it closed the connection".to_owned()));
            }
        };
        let status = std::str::from_utf8(&answer[..end])
            .ok()
            .filter(|head| head.starts_with("HTTP/1."))
            .and_then(|head| head.split_ascii_whitespace().nth(1)?.parse::<u16>().ok())
            .ok_or_else(|| failed("its answer is not HTTP".to_owned()))?;
        match status {
            200..=299 if answer.len() > end => {
                Err(failed("it sent more than its answer".to_owned()))
            }
            200..=299 => Ok(()),
            status => Err(OpenError::ProxyRefused { proxy, status }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxied(exceptions: &str, host: &str) -> bool {
        Proxy::new(Some("http://proxy:3128".to_owned()), exceptions)
            .for_host(host, 443)
            .unwrap()
            .is_some()
    }

    #[test]
    fn exceptions_are_names_suffixes_addresses_and_networks() {
        assert!(proxied("", "ssmmessages.eu-west-1.amazonaws.com"));
        assert!(!proxied("*", "example.com"));
        assert!(!proxied("localhost, .amazonaws.com", "ssm.amazonaws.com"));
        assert!(!proxied("amazonaws.com", "ssm.amazonaws.com"));
        assert!(proxied("amazonaws.com", "notamazonaws.com"));
        assert!(!proxied("example.com:443", "example.com"));
        assert!(proxied("example.com:8443", "example.com"));
        assert!(!proxied("10.0.0.0/8", "10.1.2.3"));
        assert!(proxied("10.0.0.0/8", "11.1.2.3"));
        assert!(!proxied("0.0.0.0/0", "11.1.2.3"));
        assert!(!proxied("::1", "[::1]"));
    }

    #[test]
    fn a_proxy_setting_may_lack_its_scheme_and_hold_credentials() {
        let hop = Hop::parse("user:p%40ss@proxy.example").unwrap();
        assert_eq!(
            (hop.host.as_str(), hop.port, hop.tls),
            ("proxy.example", 80, false)
        );
        assert_eq!(hop.authorization.as_deref(), Some("Basic dXNlcjpwQHNz"));
        assert!(Hop::parse("socks5://proxy:1080").is_err());
    }
}
