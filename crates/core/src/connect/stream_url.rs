//! Whether a stream URL leads to Session Manager, before it is dialled with a token and a
//! signature.
//!
//! The URL comes with an answer of the API. Whoever can forge that, or has the user's endpoint
//! settings lead elsewhere, must not get a signed request, and with it the session, sent to a host
//! of their own. The official plugin checks it since 1.2.889.0.

use url::{Host, Url};

use crate::partition::Partition;

/// What else than AWS's own hosts may be dialled.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trusted {
    /// Hosts that the user names in settings of endpoints.
    pub(crate) hosts: Vec<String>,
    /// The API itself is on the loopback interface: a sandbox, or a tunnel of the user's.
    pub(crate) loopback: bool,
}

/// A URL that is not dialled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StreamUrlError {
    #[error("it is no URL")]
    NoUrl,
    #[error("its scheme is `{0}` and not wss")]
    Scheme(String),
    #[error("it leads to `{0}`, which is none of Session Manager's hosts")]
    Host(String),
}

/// Checks the host of `url`.
pub(crate) fn check(url: &str, trusted: &Trusted) -> Result<(), StreamUrlError> {
    let url = Url::parse(url).map_err(|_| StreamUrlError::NoUrl)?;
    let host = url.host().ok_or(StreamUrlError::NoUrl)?;
    let name = host.to_string().to_ascii_lowercase();
    let refused = || StreamUrlError::Host(name.clone());
    let is_loopback = match host {
        Host::Domain(name) => name.eq_ignore_ascii_case("localhost"),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    };
    match url.scheme() {
        "wss" => {}
        "ws" if is_loopback => {}
        other => return Err(StreamUrlError::Scheme(other.to_owned())),
    }
    // A name before `@` reads like a host and is none.
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused());
    }
    let is_named = trusted
        .hosts
        .iter()
        .any(|trusted| trusted.eq_ignore_ascii_case(&name));
    if is_named || is_loopback && trusted.loopback {
        return Ok(());
    }
    let is_usual_port = url.port_or_known_default() == Some(443);
    if is_usual_port && is_of_session_manager(&name) {
        Ok(())
    } else {
        Err(refused())
    }
}

/// Whether `host` is one of Session Manager's: regional, FIPS, dual-stack, or an interface
/// endpoint, in any partition.
fn is_of_session_manager(host: &str) -> bool {
    let is_label = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    let rest_of = |suffix: &str| {
        host.strip_suffix(suffix)
            .and_then(|rest| rest.strip_suffix('.'))
    };
    // Left of the suffix: `ssmmessages.REGION`.
    let is_service = |rest: &str| match rest.split('.').collect::<Vec<_>>().as_slice() {
        [service, region] => {
            matches!(*service, "ssmmessages" | "ssmmessages-fips") && is_label(region)
        }
        _ => false,
    };
    // `vpce-0123-abcd.ssmmessages.REGION.vpce`, the first label with an availability zone behind
    // it, or not.
    let is_interface = |rest: &str| match rest.split('.').collect::<Vec<_>>().as_slice() {
        [endpoint, service, region, "vpce"] => {
            endpoint.starts_with("vpce-")
                && is_label(endpoint)
                && matches!(*service, "ssmmessages" | "ssmmessages-fips")
                && is_label(region)
        }
        _ => false,
    };
    Partition::all().any(|partition| {
        rest_of(partition.suffix).is_some_and(|rest| is_service(rest) || is_interface(rest))
            || rest_of(partition.dual_stack_suffix).is_some_and(is_service)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> Result<(), StreamUrlError> {
        let url = format!(
            "wss://{name}/v1/data-channel/alice-0?role=publish_subscribe&cell-number=AAE+x=="
        );
        check(&url, &Trusted::default())
    }

    #[test]
    fn hosts_of_session_manager_are_dialled() {
        for name in [
            "ssmmessages.eu-west-1.amazonaws.com",
            "ssmmessages-fips.us-east-1.amazonaws.com",
            "ssmmessages.eu-west-1.api.aws",
            "ssmmessages-fips.us-gov-west-1.api.aws",
            "ssmmessages.cn-north-1.amazonaws.com.cn",
            "ssmmessages.eusc-de-east-1.amazonaws.eu",
            "ssmmessages.us-iso-east-1.c2s.ic.gov",
            "vpce-0123456789abcdef0-abcdefgh.ssmmessages.eu-west-1.vpce.amazonaws.com",
            "vpce-0123456789abcdef0-abcdefgh-eu-west-1a.ssmmessages.eu-west-1.vpce.amazonaws.com",
            "SSMMESSAGES.eu-west-1.amazonaws.com",
            "ssmmessages.eu-west-1.amazonaws.com:443",
        ] {
            assert_eq!(host(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn other_hosts_are_not() {
        for name in [
            "evil.example",
            "ssmmessages.eu-west-1.amazonaws.com.evil.example",
            "evilssmmessages.eu-west-1.amazonaws.com",
            "s3.eu-west-1.amazonaws.com",
            "ssmmessages.amazonaws.com",
            "bucket.s3.eu-west-1.amazonaws.com",
            "x.ssmmessages.eu-west-1.amazonaws.com",
            "ssmmessages.eu-west-1.notamazonaws.com",
            "vpce-0.evil.eu-west-1.vpce.amazonaws.com",
            "ssmmessages.eu-west-1.amazonaws.com@evil.example",
            "ssmmessages.eu-west-1.amazonaws.com:8443",
            "127.0.0.1",
            "[::1]",
        ] {
            assert!(matches!(host(name), Err(StreamUrlError::Host(_))), "{name}");
        }
        assert_eq!(
            check("no url", &Trusted::default()),
            Err(StreamUrlError::NoUrl)
        );
        assert_eq!(
            check(
                "ws://ssmmessages.eu-west-1.amazonaws.com/",
                &Trusted::default()
            ),
            Err(StreamUrlError::Scheme("ws".to_owned()))
        );
    }

    #[test]
    fn hosts_that_the_user_names_are_dialled_and_loopback_beside_an_api_of_its_own() {
        let own = Trusted {
            hosts: vec!["gateway.corp.example".to_owned()],
            loopback: false,
        };
        assert_eq!(check("wss://gateway.corp.example:8443/x", &own), Ok(()));
        assert!(check("ws://gateway.corp.example/x", &own).is_err());
        assert!(check("ws://127.0.0.1:1/x", &own).is_err());
        let sandbox = Trusted {
            hosts: Vec::new(),
            loopback: true,
        };
        for url in ["ws://127.0.0.1:1/x", "ws://[::1]:1/x", "ws://localhost:1/x"] {
            assert_eq!(check(url, &sandbox), Ok(()), "{url}");
        }
    }
}
