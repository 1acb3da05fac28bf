//! A command that runs while the tunnels are up.

use std::ffi::OsString;
use std::process::ExitStatus;

use ops_core::Context;
use ops_ui::{Error, Exit, Result};

use crate::status::ForwardRow;

/// Prefix of the variables that tell the command where to connect.
const PREFIX: &str = "OPS_FORWARD_";

/// Where a forward listens, as the command is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenAddress {
    pub(crate) name: Option<String>,
    /// `host:port`, or the path of a unix socket.
    pub(crate) addr: String,
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// `OPS_FORWARD_0_ADDR` and the like, by number and by name.
fn variables(places: &[ListenAddress]) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    for (number, place) in places.iter().enumerate() {
        let names = [Some(number.to_string()), place.name.as_deref().map(shout)];
        for name in names.into_iter().flatten() {
            variables.push((format!("{PREFIX}{name}_ADDR"), place.addr.clone()));
            variables.push((format!("{PREFIX}{name}_HOST"), place.host.clone()));
            variables.push((format!("{PREFIX}{name}_PORT"), place.port.to_string()));
        }
    }
    variables
}

/// A name as variables are written: `reporting-db` is `REPORTING_DB`.
fn shout(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_uppercase()
            } else {
                '_'
            }
        })
        .collect()
}

/// Replaces `{0.port}`, `{db.addr}` and the like. Braces around anything else stay: many programs
/// have their own.
fn fill(text: &str, places: &[ListenAddress]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let value = after
            .split_once('}')
            .and_then(|(inside, after)| Some((value_of(inside, places)?, after)));
        match value {
            Some((value, after)) => {
                out.push_str(&value);
                rest = after;
            }
            None => {
                out.push('{');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

fn value_of(inside: &str, places: &[ListenAddress]) -> Option<String> {
    let (which, what) = inside.rsplit_once('.')?;
    let place = match which.parse::<usize>() {
        Ok(number) => places.get(number)?,
        Err(_) => places
            .iter()
            .find(|place| place.name.as_deref() == Some(which))?,
    };
    match what {
        "addr" => Some(place.addr.clone()),
        "host" => Some(place.host.clone()),
        "port" => Some(place.port.to_string()),
        _ => None,
    }
}

/// Where the command finds each forward.
pub(crate) fn places(tunnels: &[std::sync::Arc<crate::tunnel::Tunnel>]) -> Vec<ListenAddress> {
    tunnels
        .iter()
        .map(|tunnel| {
            let (host, port) = (tunnel.bound.host(), tunnel.bound.port());
            ListenAddress {
                name: tunnel.name.clone(),
                addr: match &tunnel.bound {
                    crate::local::Bound::Tcp(_) => crate::local::join(&host, port),
                    crate::local::Bound::Unix(_) => host.clone(),
                },
                host,
                port,
            }
        })
        .collect()
}

/// Starts the command with the terminal of this process.
///
/// # Errors
/// It cannot be started.
pub(crate) fn start(
    cx: &Context,
    command: &[OsString],
    places: &[ListenAddress],
) -> Result<tokio::process::Child> {
    let [program, arguments @ ..] = command else {
        return Err(Error::usage("no command was given after `--`"));
    };
    let filled = |text: &OsString| match text.to_str() {
        Some(text) => OsString::from(fill(text, places)),
        None => text.clone(),
    };
    tokio::process::Command::new(filled(program))
        .args(arguments.iter().map(filled))
        .env_clear()
        .envs(cx.env().iter())
        .envs(variables(places))
        .kill_on_drop(false)
        .spawn()
        .map_err(|error| {
            Error::usage(format!("cannot run `{}`", program.to_string_lossy())).caused_by(error)
        })
}

/// The exit code of a command; 128 and the signal's number if one ended it.
pub(crate) fn exit_of(status: ExitStatus) -> Exit {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(1);
    Exit::of(u8::try_from(code & 0xff).unwrap_or(1))
}

/// A line per forward for those who start a command and look.
pub(crate) fn described(rows: &[ForwardRow]) -> Vec<String> {
    rows.iter().map(ForwardRow::ready_line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Vec<ListenAddress> {
        vec![
            ListenAddress {
                name: None,
                addr: "127.0.0.1:4000".into(),
                host: "127.0.0.1".into(),
                port: 4000,
            },
            ListenAddress {
                name: Some("reporting-db".into()),
                addr: "[::1]:4001".into(),
                host: "::1".into(),
                port: 4001,
            },
        ]
    }

    #[test]
    fn placeholders_are_filled_by_number_and_by_name() {
        let places = places();
        assert_eq!(fill("-P{0.port}", &places), "-P4000");
        assert_eq!(
            fill("http://{reporting-db.addr}/{0.host}", &places),
            "http://[::1]:4001/127.0.0.1"
        );
    }

    #[test]
    fn braces_of_others_stay() {
        let places = places();
        for text in [
            "{}",
            "{2.port}",
            "{0.name}",
            "a{b",
            "awk '{print $1}'",
            "{{0}}",
        ] {
            assert_eq!(fill(text, &places), text);
        }
        assert_eq!(fill("{{0.port}}", &places), "{4000}");
    }

    #[test]
    fn variables_carry_number_and_name() {
        let variables = variables(&places());
        let value = |name: &str| {
            variables
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.as_str())
        };
        assert_eq!(value("OPS_FORWARD_0_ADDR"), Some("127.0.0.1:4000"));
        assert_eq!(value("OPS_FORWARD_REPORTING_DB_PORT"), Some("4001"));
        assert_eq!(value("OPS_FORWARD_1_HOST"), Some("::1"));
    }
}
