//! Where forwards listen and where they lead.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::written::written_as_text;

/// Where a forward leads: `PORT` of the server itself, or `HOST:PORT` as seen from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Destination {
    /// The host as the server resolves it; `None` is the server itself.
    pub host: Option<String>,
    /// The port, from 1; in a loaded profile never 0.
    pub port: u16,
}

impl Destination {
    /// Whether it was left out, which only a part of a profile may do.
    pub(crate) fn is_missing(&self) -> bool {
        self.port == 0
    }
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "`{}` is no destination; write PORT or HOST:PORT, ports from 1 to 65535",
                text.escape_debug()
            )
        };
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (Some(host), port),
            None => (None, text),
        };
        let port = port_of(port).filter(|port| *port > 0).ok_or_else(bad)?;
        let host = match host {
            None => None,
            Some(host) => Some(host_of(host).ok_or_else(bad)?),
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Some(host) if host.contains(':') => write!(f, "[{host}]:{}", self.port),
            Some(host) => write!(f, "{host}:{}", self.port),
            None => write!(f, "{}", self.port),
        }
    }
}

written_as_text!(Destination, "PORT or HOST:PORT", {
    "type": ["string", "integer"], "minimum": 1, "maximum": 65535
}, or_number);

/// Where a forward listens: `PORT` on the loopback address, or `ADDRESS:PORT`; port 0 is any free
/// one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listen {
    /// The address or name to bind; `None` is loopback.
    pub address: Option<String>,
    /// The port; 0 is any free one.
    pub port: u16,
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "`{}` is nothing to listen on; write PORT or ADDRESS:PORT, where port 0 is any free one",
                text.escape_debug()
            )
        };
        let (address, port) = match text.rsplit_once(':') {
            Some((address, port)) => (Some(address), port),
            None => (None, text),
        };
        let port = port_of(port).ok_or_else(bad)?;
        let address = match address {
            None => None,
            Some("*") => Some("*".to_owned()),
            Some(address) => Some(host_of(address).ok_or_else(bad)?),
        };
        Ok(Self { address, port })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Some(address) if address.contains(':') => write!(f, "[{address}]:{}", self.port),
            Some(address) => write!(f, "{address}:{}", self.port),
            None => write!(f, "{}", self.port),
        }
    }
}

written_as_text!(Listen, "PORT or ADDRESS:PORT", {
    "type": ["string", "integer"], "minimum": 0, "maximum": 65535
}, or_number);

/// A `LocalForward` of ssh: `[ADDRESS:]PORT:HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalForward {
    /// Where ssh listens.
    pub listen: Listen,
    /// Where it leads; the host is always given.
    pub to: Destination,
}

impl FromStr for LocalForward {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "`{}` is no local forward; write PORT:HOST:PORT or ADDRESS:PORT:HOST:PORT",
                text.escape_debug()
            )
        };
        let (head, port) = text.rsplit_once(':').ok_or_else(bad)?;
        // An IPv6 host is in brackets, so the last colon outside of them parts the two sides.
        let cut = if head.ends_with(']') {
            head.rfind(":[").ok_or_else(bad)?
        } else {
            head.rfind(':').ok_or_else(bad)?
        };
        let listen = head[..cut].parse().map_err(|_| bad())?;
        let to: Destination = format!("{}:{port}", &head[cut + 1..])
            .parse()
            .map_err(|_| bad())?;
        Ok(Self { listen, to })
    }
}

impl fmt::Display for LocalForward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.listen, self.to)
    }
}

written_as_text!(LocalForward, "[ADDRESS:]PORT:HOST:PORT", {
    "type": "string", "pattern": "^(.*:)?[0-9]+:.+:[0-9]+$"
});

fn port_of(text: &str) -> Option<u16> {
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())?
}

/// A host name or an address; IPv6 in brackets, which are taken off.
fn host_of(text: &str) -> Option<String> {
    if let Some(inner) = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        return inner
            .parse::<std::net::Ipv6Addr>()
            .ok()
            .map(|ip| ip.to_string());
    }
    let fits = !text.is_empty()
        && text.len() <= 253
        && !text.starts_with('-')
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    fits.then(|| text.to_owned())
}
