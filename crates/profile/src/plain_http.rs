//! Which endpoints may be asked without TLS.

use std::fmt;

use url::{Host, Url};

/// A plain `http:` address that is not asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainHttp {
    host: String,
}

impl PlainHttp {
    /// What to do about it.
    pub const HINT: &'static str = "use an https:// address, or let the team profile say that it is meant: aws: { allow_plain_http: true }";
}

impl fmt::Display for PlainHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the endpoint `{}` is plain http, where others can read and change what is said",
            self.host.escape_debug()
        )
    }
}

impl std::error::Error for PlainHttp {}

/// Whether `url` may be asked: anything but plain HTTP, or a host that no other machine stands
/// behind.
///
/// # Errors
/// It is plain HTTP to elsewhere.
pub fn check(url: &str) -> Result<(), PlainHttp> {
    let Ok(url) = Url::parse(url) else {
        // What is no URL is refused by whoever parses it for the request.
        return Ok(());
    };
    if url.scheme() != "http" {
        return Ok(());
    }
    let stays_here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        // 169.254.169.254, 169.254.170.2 and 169.254.170.23 are the metadata and credentials
        // services of instances and containers, which speak plain HTTP only; link-local packets
        // pass no router.
        Some(Host::Ipv4(ip)) => ip.is_loopback() || ip.is_link_local(),
        // fd00:ec2::254 and fd00:ec2::23 are the same services by IPv6.
        Some(Host::Ipv6(ip)) => {
            ip.is_loopback()
                || matches!(ip.segments(), [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254 | 0x23])
        }
        None => false,
    };
    if stays_here {
        return Ok(());
    }
    Err(PlainHttp {
        host: url.host_str().unwrap_or_default().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_goes_no_further_than_this_machine() {
        for url in [
            "https://ec2.eu-west-1.amazonaws.com/",
            "http://127.0.0.1:4566/",
            "http://127.8.8.8/x",
            "http://[::1]:1",
            "http://localhost:5000",
            "http://moto.localhost:5000",
            "http://169.254.169.254/latest/meta-data/",
            "http://[fd00:ec2::254]/latest",
        ] {
            assert_eq!(check(url), Ok(()), "{url}");
        }
        for url in [
            "http://ec2.eu-west-1.amazonaws.com/",
            "HTTP://10.0.0.1/",
            "http://127.0.0.1.example.com/",
            "http://localhost.example.com/",
            "http://127.0.0.1@example.com/",
            "http://[fd00::1]/",
            "http://0.0.0.0/",
        ] {
            assert!(check(url).is_err(), "{url}");
        }
    }
}
