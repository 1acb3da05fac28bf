//! Hands a secret URL to the browser: the browser is started with an address of this machine, which leads on to the URL once.
//!
//! The list of processes shows every user what a browser is started with, so the secret must not be in it.

use std::{io, net::Ipv4Addr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use uuid::Uuid;

/// Longest time from starting the browser until it asks.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Longest request read, in bytes, and the time for it.
const REQUEST_BYTES: usize = 16 << 10;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// A page on loopback that leads on to a URL, once.
pub(crate) struct Handover {
    listener: TcpListener,
    path: String,
    url: String,
}

impl Handover {
    /// Listens on a free port.
    ///
    /// # Errors
    /// No port can be had.
    pub(crate) async fn new(url: String) -> io::Result<Self> {
        Ok(Self {
            listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?,
            path: format!("/{}", Uuid::new_v4().simple()),
            url,
        })
    }

    /// The address to start the browser with.
    ///
    /// # Errors
    /// The port is gone.
    pub(crate) fn address(&self) -> io::Result<String> {
        Ok(format!(
            "http://{}{}",
            self.listener.local_addr()?,
            self.path
        ))
    }

    /// Answers until a process of this user has asked for the page.
    ///
    /// # Errors
    /// The port is gone.
    pub(crate) async fn serve(self) -> io::Result<()> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            if let Ok(Ok(true)) = timeout(REQUEST_TIMEOUT, self.answer(stream)).await {
                return Ok(());
            }
        }
    }

    /// True: the URL was handed over.
    async fn answer(&self, mut stream: TcpStream) -> io::Result<bool> {
        let mut request = Vec::new();
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            if request.len() > REQUEST_BYTES || stream.read_buf(&mut request).await? == 0 {
                return Ok(false);
            }
        }
        let wanted = format!("GET {} HTTP/1.", self.path);
        let good = request.starts_with(wanted.as_bytes()) && is_own(&stream);
        let answer = if good {
            format!(
                "HTTP/1.1 302 Found\r\nLocation: {}\r\nCache-Control: no-store\r\nReferrer-Policy: no-referrer\r\n",
                self.url
            )
        } else {
            "HTTP/1.1 404 Not Found\r\n".to_owned()
        };
        let answer = format!("{answer}Content-Length: 0\r\nConnection: close\r\n\r\n");
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        Ok(good)
    }
}

/// Whether the other end belongs to this user; where the system does not tell, the secret path has to do.
fn is_own(stream: &TcpStream) -> bool {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::MetadataExt as _;
        let (Ok(peer), Ok(table), Ok(own)) = (
            stream.peer_addr(),
            std::fs::read_to_string("/proc/self/net/tcp"),
            std::fs::metadata("/proc/self"),
        ) else {
            return true;
        };
        // Local address and port in hexadecimal are the second word of a line, the owner is the eighth.
        let port = format!(":{:04X}", peer.port());
        let owner = table.lines().skip(1).find_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let local = words.nth(1)?;
            let owner: u32 = words.nth(5)?.parse().ok()?;
            local.ends_with(&port).then_some(owner)
        });
        owner.is_none_or(|owner| owner == own.uid())
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = stream;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(address: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("connects");
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
            .await
            .expect("asks");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answers");
        answer
    }

    #[tokio::test]
    async fn only_the_secret_path_leads_on_and_only_once() {
        let handover = Handover::new("https://example.com/secret".to_owned())
            .await
            .expect("listens");
        let address = handover.address().expect("an address");
        let (host, path) = address
            .strip_prefix("http://")
            .and_then(|rest| rest.split_once('/'))
            .expect("a URL");
        let serve = tokio::spawn(handover.serve());
        assert!(get(host, "/favicon.ico").await.starts_with("HTTP/1.1 404"));
        let answer = get(host, &format!("/{path}")).await;
        assert!(
            answer.contains("Location: https://example.com/secret\r\n"),
            "{answer}"
        );
        serve.await.expect("ends").expect("in order");
        assert!(TcpStream::connect(host).await.is_err());
    }
}
