//! The port of this machine to which the browser comes back with the authorization code.
//!
//! Any page that the user has open can make the browser ask here too, and any user of this machine
//! can. Neither knows the state, and a request without it changes nothing: the wait goes on.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use aws_lc_rs::constant_time;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use url::form_urlencoded;
use zeroize::Zeroizing;

use crate::loopback::{read_head, serve_until};

/// What the program registers: any port is meant (RFC 8252, 7.3).
pub(super) const REGISTERED_REDIRECT: &str = "http://127.0.0.1/oauth/callback";
const PATH: &str = "/oauth/callback";

const DONE: &str = "You have logged in: go back to the terminal, and close this page.";
const REFUSED: &str = "The login was refused: the terminal says more. You can close this page.";
const UNKNOWN: &str = "This page belongs to no login that is waiting.";

/// What the browser brings back.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Callback {
    /// The authorization code.
    Code(Zeroizing<String>),
    /// The error's code, such as `access_denied`.
    Refused(String),
}

/// A listener for one login.
pub(super) struct Loopback {
    listener: TcpListener,
    address: SocketAddr,
}

impl Loopback {
    /// Listens on a free port.
    ///
    /// # Errors
    /// No port can be had.
    pub(super) async fn listen() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where the browser is to come back to.
    pub(super) fn redirect(&self) -> String {
        format!("http://{}{PATH}", self.address)
    }

    /// Answers until a request comes that knows `state`.
    ///
    /// # Errors
    /// The port is gone.
    pub(super) async fn wait_for(self, state: &str) -> io::Result<Callback> {
        let (host, state) = (self.address.to_string(), state.to_owned());
        // Whoever asks is let in: the state tells whether it is the browser of this login.
        let everybody = |_| true;
        serve_until(&self.listener, everybody, |stream, brought| {
            let (host, state) = (host.clone(), state.clone());
            async move { answer(stream, &host, &state, &brought).await }
        })
        .await
    }
}

/// Answers one request, and passes on what it brings after the browser has its answer.
async fn answer(
    mut stream: TcpStream,
    host: &str,
    state: &str,
    brought: &mpsc::Sender<Callback>,
) -> io::Result<()> {
    let Some(request) = read_head(&mut stream).await? else {
        return Ok(());
    };
    let callback = read_callback(&String::from_utf8_lossy(&request), host, state);
    let (status, text) = match &callback {
        Some(Callback::Code(_)) => ("200 OK", DONE),
        Some(Callback::Refused(_)) => ("200 OK", REFUSED),
        None => ("404 Not Found", UNKNOWN),
    };
    // The address of the page holds the code: nothing of it may be sent on or kept.
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nCache-Control: no-store\r\nReferrer-Policy: no-referrer\r\nConnection: close\r\n\r\n{text}",
        text.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    let shut = stream.shutdown().await;
    if let Some(callback) = callback {
        // Of two that know the state the first one counts.
        let _ = brought.try_send(callback);
    }
    shut
}

/// What a request brings; `None` for one that is not of this login.
fn read_callback(request: &str, host: &str, state: &str) -> Option<Callback> {
    let mut lines = request.split("\r\n");
    let path = lines
        .next()?
        .strip_prefix("GET ")?
        .rsplit_once(" HTTP/1.")?
        .0;
    // A page elsewhere whose name leads to this machine (DNS rebinding) sends its own name.
    let is_meant = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(':'))
        .any(|(name, value)| name.eq_ignore_ascii_case("host") && value.trim() == host);
    let (path, query) = path.split_once('?')?;
    if !is_meant || path != PATH {
        return None;
    }
    let value = |name: &str| {
        form_urlencoded::parse(query.as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    };
    let told = value("state")?;
    constant_time::verify_slices_are_equal(told.as_bytes(), state.as_bytes()).ok()?;
    match (value("error"), value("code")) {
        (Some(error), _) => Some(Callback::Refused(error)),
        (None, Some(code)) if !code.is_empty() => Some(Callback::Code(Zeroizing::new(code))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    fn request(path: &str, host: &str) -> String {
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\n\r\n")
    }

    #[test]
    fn only_a_request_that_knows_the_state_brings_a_code() {
        let host = "127.0.0.1:4711";
        let read = |path: &str| read_callback(&request(path, host), host, "s-1");
        assert_eq!(
            read("/oauth/callback?code=a%2Bb&state=s-1"),
            Some(Callback::Code(Zeroizing::new("a+b".to_owned())))
        );
        assert_eq!(
            read("/oauth/callback?error=access_denied&state=s-1"),
            Some(Callback::Refused("access_denied".to_owned()))
        );
        for foreign in [
            "/oauth/callback?code=a&state=s-2",
            "/oauth/callback?code=a",
            "/oauth/callback?error=access_denied",
            "/oauth/callback?state=s-1",
            "/oauth/callback",
            "/?code=a&state=s-1",
            "/favicon.ico",
        ] {
            assert_eq!(read(foreign), None, "{foreign}");
        }
        let rebound = request("/oauth/callback?code=a&state=s-1", "evil.example:4711");
        assert_eq!(read_callback(&rebound, host, "s-1"), None);
        assert_eq!(read_callback("POST / HTTP/1.1\r\n\r\n", host, "s-1"), None);
    }

    #[tokio::test]
    async fn the_wait_goes_on_until_the_browser_of_this_login_comes() {
        let loopback = Loopback::listen().await.expect("a port");
        let address = loopback.address;
        let get = async |path: &str| {
            let mut stream = TcpStream::connect(address).await.expect("connects");
            let text = request(path, &address.to_string());
            stream.write_all(text.as_bytes()).await.expect("asks");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("an answer");
            answer
        };
        // Somebody who connects and says nothing.
        let silent = TcpStream::connect(address).await.expect("connects");
        let ask = async {
            let wrong = get("/oauth/callback?code=x&state=guess").await;
            assert!(wrong.starts_with("HTTP/1.1 404 "), "{wrong}");
            let right = get("/oauth/callback?code=c-1&state=s-1").await;
            assert!(right.starts_with("HTTP/1.1 200 "), "{right}");
            assert!(!right.contains("c-1"), "{right}");
        };
        let (callback, ()) = tokio::join!(loopback.wait_for("s-1"), ask);
        assert_eq!(
            callback.expect("a callback"),
            Callback::Code(Zeroizing::new("c-1".to_owned()))
        );
        drop(silent);
    }
}
