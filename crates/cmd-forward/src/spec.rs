//! What is forwarded where: `8080:db:5432` and its relatives.

use std::{fmt, path::PathBuf, str::FromStr};

/// Longest host name, in bytes (RFC 1035).
const HOST_BYTES: usize = 253;

/// One SPEC as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(crate) local: LocalAddress,
    pub(crate) remote: RemoteAddress,
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum LocalAddress {
    /// `bind`: an address, a name, `*` for all; `None` is 127.0.0.1. Port 0 is any free one.
    Tcp { bind: Option<String>, port: u16 },
    /// The path of a socket.
    Unix(PathBuf),
}

/// Where the far side connects to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RemoteAddress {
    /// As the instance knows it; `None` is the instance itself.
    pub(crate) host: Option<String>,
    pub(crate) port: u16,
}

/// A text that is no SPEC; says what it looks like and how it should be spelt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SpecError(String);

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SpecError {}

impl LocalAddress {
    /// Whether others than this machine can reach it.
    pub(crate) fn is_open_to_others(&self) -> bool {
        match self {
            Self::Unix(_) | Self::Tcp { bind: None, .. } => false,
            Self::Tcp {
                bind: Some(bind), ..
            } => {
                bind != "localhost"
                    && !bind
                        .parse::<std::net::IpAddr>()
                        .is_ok_and(|address| address.is_loopback())
            }
        }
    }
}

impl fmt::Display for LocalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { bind: None, port } => write!(f, "{port}"),
            Self::Tcp {
                bind: Some(bind),
                port,
            } => write!(f, "{}:{port}", Bracketed(bind)),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Display for RemoteAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Some(host) => write!(f, "{}:{}", Bracketed(host), self.port),
            None => write!(f, "{}", self.port),
        }
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { local, remote } = self;
        match (local, &remote.host) {
            // Four parts are the only form that has an address to bind.
            (LocalAddress::Tcp { bind: Some(_), .. }, None) => {
                write!(f, "{local}:localhost:{}", remote.port)
            }
            _ => write!(f, "{local}:{remote}"),
        }
    }
}

/// A host with brackets where it is an IPv6 address.
struct Bracketed<'a>(&'a str);

impl fmt::Display for Bracketed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains(':') {
            write!(f, "[{}]", self.0)
        } else {
            f.write_str(self.0)
        }
    }
}

impl FromStr for Spec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let shown = text.escape_debug();
        if text.is_empty() {
            return Err(SpecError(
                "an empty SPEC forwards nothing; write PORT, LOCAL:PORT or LOCAL:HOST:PORT".into(),
            ));
        }
        if text.starts_with(['/', '.', '~']) {
            return parse_unix(text);
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            let place = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let port = match scheme.ends_with("https") {
                _ if place.contains(':') => "",
                true => ":443",
                false => ":80",
            };
            return Err(SpecError(format!(
                "`{shown}` has a URL in it, and what is forwarded is a port; write LOCAL:HOST:PORT, as in `0:{}{port}`",
                place.escape_debug()
            )));
        }
        let parts = split(text)?;
        match parts.as_slice() {
            [port] => {
                let port = remote_port(port).map_err(|why| {
                    SpecError(format!(
                        "`{shown}` is no port to forward: {why}; write PORT, LOCAL:PORT or LOCAL:HOST:PORT"
                    ))
                })?;
                Ok(Self {
                    local: LocalAddress::Tcp { bind: None, port },
                    remote: RemoteAddress { host: None, port },
                })
            }
            [local, port] if !local.is_empty() && !is_number(local) && is_number(port) => {
                let host = Bracketed(local);
                Err(SpecError(format!(
                    "`{shown}` is HOST:PORT and says nothing about the local port; write `{port}:{host}:{port}`, or `0:{host}:{port}` for any free one"
                )))
            }
            [local, host]
                if is_number(local) && host_of(host, text).is_ok() && !is_number(host) =>
            {
                Err(SpecError(format!(
                    "`{shown}` names the host `{host}` and no port of it; write `{local}:{}:PORT`",
                    Bracketed(host)
                )))
            }
            [local, port] => Ok(Self {
                local: LocalAddress::Tcp {
                    bind: None,
                    port: local_port(local, text)?,
                },
                remote: RemoteAddress {
                    host: None,
                    port: remote_port_of(port, text)?,
                },
            }),
            [bind, local, port] if !bind.is_empty() && !is_number(bind) && is_number(local) => {
                Err(SpecError(format!(
                    "`{shown}` is BIND:LOCAL:PORT without a host; write `{}:{local}:localhost:{port}` for a port of the instance itself",
                    Bracketed(bind)
                )))
            }
            [local, host, port] => Ok(Self {
                local: LocalAddress::Tcp {
                    bind: None,
                    port: local_port(local, text)?,
                },
                remote: RemoteAddress {
                    host: own(host_of(host, text)?),
                    port: remote_port_of(port, text)?,
                },
            }),
            [bind, local, host, port] => Ok(Self {
                local: LocalAddress::Tcp {
                    bind: Some(bind_of(bind, text)?),
                    port: local_port(local, text)?,
                },
                remote: RemoteAddress {
                    host: own(host_of(host, text)?),
                    port: remote_port_of(port, text)?,
                },
            }),
            _ => Err(SpecError(format!(
                "`{shown}` has too many colons; write BIND:LOCAL:HOST:PORT, an IPv6 address in brackets, as in `8080:[fd00::1]:80`"
            ))),
        }
    }
}

/// `localhost` is the instance itself, for which there is a document of its own.
fn own(host: String) -> Option<String> {
    (host != "localhost").then_some(host)
}

/// `[BIND:]PORT`, as `-D` takes it.
pub(crate) fn parse_listen(text: &str) -> Result<LocalAddress, SpecError> {
    if text.starts_with(['/', '.', '~']) {
        return Ok(LocalAddress::Unix(PathBuf::from(text)));
    }
    match split(text)?.as_slice() {
        [port] => Ok(LocalAddress::Tcp {
            bind: None,
            port: local_port(port, text)?,
        }),
        [bind, port] => Ok(LocalAddress::Tcp {
            bind: Some(bind_of(bind, text)?),
            port: local_port(port, text)?,
        }),
        _ => Err(SpecError(format!(
            "`{}` is nothing to listen on; write PORT or BIND:PORT",
            text.escape_debug()
        ))),
    }
}

fn parse_unix(text: &str) -> Result<Spec, SpecError> {
    let shown = text.escape_debug();
    if text.starts_with('~') {
        return Err(SpecError(format!(
            "`{shown}` begins with `~`, which only a shell expands at the beginning of a word; write the whole path"
        )));
    }
    let Some((path, rest)) = text.split_once(':') else {
        return Err(SpecError(format!(
            "`{shown}` is a path and says nothing about the destination; write `{shown}:HOST:PORT` or `{shown}:PORT`"
        )));
    };
    let remote = match split(rest)?.as_slice() {
        [port] => RemoteAddress {
            host: None,
            port: remote_port_of(port, text)?,
        },
        [host, port] => RemoteAddress {
            host: own(host_of(host, text)?),
            port: remote_port_of(port, text)?,
        },
        _ => {
            return Err(SpecError(format!(
                "`{shown}` has too many colons after the path; write PATH:HOST:PORT"
            )));
        }
    };
    Ok(Spec {
        local: LocalAddress::Unix(PathBuf::from(path)),
        remote,
    })
}

/// Splits at colons that are not in brackets, and takes the brackets off.
fn split(text: &str) -> Result<Vec<&str>, SpecError> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        if let Some(inner) = rest.strip_prefix('[') {
            let Some((address, after)) = inner.split_once(']') else {
                return Err(SpecError(format!(
                    "`{}` opens a bracket and does not close it",
                    text.escape_debug()
                )));
            };
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(SpecError(format!(
                    "`[{}]` is no IPv6 address",
                    address.escape_debug()
                )));
            }
            parts.push(address);
            match after.strip_prefix(':') {
                Some(after) => rest = after,
                None if after.is_empty() => return Ok(parts),
                None => {
                    return Err(SpecError(format!(
                        "`{}` has more than a colon after the bracket",
                        text.escape_debug()
                    )));
                }
            }
        } else if let Some((part, after)) = rest.split_once(':') {
            parts.push(part);
            rest = after;
        } else {
            parts.push(rest);
            return Ok(parts);
        }
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn port_of(text: &str) -> Result<u16, String> {
    if text.is_empty() {
        return Err("a port is missing".into());
    }
    if !is_number(text) {
        return Err(format!("`{}` is no number", text.escape_debug()));
    }
    text.parse().map_err(|_| format!("`{text}` is above 65535"))
}

fn remote_port(text: &str) -> Result<u16, String> {
    match port_of(text)? {
        0 => Err("nothing can be connected to at port 0".into()),
        port => Ok(port),
    }
}

fn remote_port_of(text: &str, spec: &str) -> Result<u16, SpecError> {
    remote_port(text).map_err(|why| SpecError(format!("`{}`: {why}", spec.escape_debug())))
}

fn local_port(text: &str, spec: &str) -> Result<u16, SpecError> {
    port_of(text).map_err(|why| SpecError(format!("`{}`: {why}", spec.escape_debug())))
}

fn host_of(text: &str, spec: &str) -> Result<String, SpecError> {
    let bad = |why: &str| {
        Err(SpecError(format!(
            "`{}`: {why}; a host is a name or an address, IPv6 in brackets",
            spec.escape_debug()
        )))
    };
    if text.is_empty() {
        return bad("the host is missing");
    }
    if text.parse::<std::net::IpAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    if is_number(text) {
        return bad(&format!("`{text}` is a port where a host is wanted"));
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if text.len() > HOST_BYTES || !text.bytes().all(allowed) || text.starts_with('-') {
        return bad(&format!("`{}` is no host", text.escape_debug()));
    }
    Ok(text.to_owned())
}

fn bind_of(text: &str, spec: &str) -> Result<String, SpecError> {
    if text == "*" {
        return Ok(text.to_owned());
    }
    host_of(text, spec)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Spec {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn refusal(text: &str) -> String {
        text.parse::<Spec>()
            .map(|spec| panic!("{text} is {spec:?}"))
            .unwrap_err()
            .to_string()
    }

    fn tcp(bind: Option<&str>, port: u16) -> LocalAddress {
        LocalAddress::Tcp {
            bind: bind.map(str::to_owned),
            port,
        }
    }

    fn remote(host: Option<&str>, port: u16) -> RemoteAddress {
        RemoteAddress {
            host: host.map(str::to_owned),
            port,
        }
    }

    #[test]
    fn every_form_is_read() {
        for (text, local, to) in [
            ("80", tcp(None, 80), remote(None, 80)),
            ("8080:80", tcp(None, 8080), remote(None, 80)),
            ("0:80", tcp(None, 0), remote(None, 80)),
            ("8080:db:3306", tcp(None, 8080), remote(Some("db"), 3306)),
            (
                "8080:[fd00::1]:80",
                tcp(None, 8080),
                remote(Some("fd00::1"), 80),
            ),
            (
                "10.0.0.1:8080:db.internal:3306",
                tcp(Some("10.0.0.1"), 8080),
                remote(Some("db.internal"), 3306),
            ),
            (
                "[::1]:0:[fd00::1]:80",
                tcp(Some("::1"), 0),
                remote(Some("fd00::1"), 80),
            ),
            ("8080:localhost:80", tcp(None, 8080), remote(None, 80)),
            (
                "*:8080:localhost:80",
                tcp(Some("*"), 8080),
                remote(None, 80),
            ),
            (
                "/tmp/db.sock:db:3306",
                LocalAddress::Unix("/tmp/db.sock".into()),
                remote(Some("db"), 3306),
            ),
            (
                "./db.sock:3306",
                LocalAddress::Unix("./db.sock".into()),
                remote(None, 3306),
            ),
        ] {
            assert_eq!(parse(text), Spec { local, remote: to }, "{text}");
        }
    }

    #[test]
    fn a_wrong_form_is_refused_with_the_right_spelling() {
        for (text, wanted) in [
            ("db:3306", "`3306:db:3306`"),
            ("[fd00::1]:3306", "`3306:[fd00::1]:3306`"),
            ("127.0.0.1:8080:80", "`127.0.0.1:8080:localhost:80`"),
            ("8080:10:80", "`10` is a port where a host is wanted"),
            ("8080:fd00::1:80", "in brackets"),
            ("0", "port 0"),
            ("8080:0", "port 0"),
            ("70000", "above 65535"),
            ("8080:", "a port is missing"),
            (":80", "a port is missing"),
            ("http", "no number"),
            ("", "empty"),
            ("8080:[db]:80", "no IPv6 address"),
            ("8080:[::1:80", "does not close"),
            ("8080:[::1]80", "after the bracket"),
            ("8080:a b:80", "no host"),
            ("/tmp/db.sock", "/tmp/db.sock:HOST:PORT"),
            ("0:db.internal", "`0:db.internal:PORT`"),
            ("8080:[fd00::1]", "`8080:[fd00::1]:PORT`"),
            ("0:http://web:8000/x", "`0:web:8000`"),
            ("https://web/", "`0:web:443`"),
            ("~/db.sock:80", "whole path"),
        ] {
            let refusal = refusal(text);
            assert!(refusal.contains(wanted), "{text}: {refusal}");
        }
    }

    #[test]
    fn only_loopback_is_closed_to_others() {
        for (text, open) in [
            ("80", false),
            ("127.0.0.2:80:db:80", false),
            ("[::1]:80:db:80", false),
            ("localhost:80:db:80", false),
            ("*:80:db:80", true),
            ("0.0.0.0:80:db:80", true),
            ("laptop.lan:80:db:80", true),
        ] {
            assert_eq!(parse(text).local.is_open_to_others(), open, "{text}");
        }
    }

    fn host() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z][a-z0-9-]{0,20}(\\.[a-z]{1,5}){0,2}"
                .prop_filter("it stands for the instance itself", |name| name
                    != "localhost"),
            any::<std::net::Ipv4Addr>().prop_map(|address| address.to_string()),
            any::<std::net::Ipv6Addr>().prop_map(|address| address.to_string()),
        ]
    }

    fn spec() -> impl Strategy<Value = Spec> {
        let local = prop_oneof![
            (prop::option::of(host()), any::<u16>())
                .prop_map(|(bind, port)| LocalAddress::Tcp { bind, port }),
            "/[a-z/]{0,20}[a-z]".prop_map(|path| LocalAddress::Unix(path.into())),
        ];
        let remote = (prop::option::of(host()), 1..=u16::MAX)
            .prop_map(|(host, port)| RemoteAddress { host, port });
        (local, remote).prop_map(|(local, remote)| Spec { local, remote })
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(spec in spec()) {
            prop_assert_eq!(parse(&spec.to_string()), spec);
        }

        #[test]
        fn nothing_typed_panics_and_every_refusal_has_words(text in "[0-9a-z:\\[\\]./*~-]{0,24}|\\PC{0,24}") {
            if let Err(error) = text.parse::<Spec>() {
                prop_assert!(!error.to_string().is_empty());
            }
            let _ = parse_listen(&text);
        }
    }
}
