//! Hands a secret URL to the browser: the browser is started with an address of this machine, which
//! leads on to the URL once.
//!
//! The list of processes shows every user of the machine what a browser is started with, so the
//! secret must not be in that address, and the address alone must not be enough: a connection is
//! answered only if the system's tables show that a process of this user made it.

use std::{io, net::Ipv4Addr, time::Duration};

use ops_core::loopback::{read_head, serve_until};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use uuid::Uuid;

use crate::socket_owner::{self, Owner};

/// Longest time from starting the browser until it asks. The address is dead afterwards.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

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

    /// Whether the system tells whose a connection is. Found out by a connection of our own: a
    /// table that is there but empty, as in some sandboxes, is no better than none.
    ///
    /// # Errors
    /// The port is gone.
    pub(crate) async fn tells_owners(&self) -> io::Result<bool> {
        let address = self.listener.local_addr()?;
        let (probe, accepted) = tokio::join!(TcpStream::connect(address), self.listener.accept());
        let (_probe, (_, peer)) = (probe?, accepted?);
        // Somebody else's connection may have come first; that user is then the one who is shown,
        // which tells as much.
        Ok(socket_owner::owner_of(peer, address) != Owner::Unknown)
    }

    /// Answers until a process of this user has asked for the page; the URL is gone then. Others
    /// that ask are refused and named to `refused`.
    ///
    /// `anybody` leaves the question of the owner out, for systems that do not tell.
    ///
    /// # Errors
    /// The port is gone.
    pub(crate) async fn serve(
        self,
        anybody: bool,
        mut refused: impl FnMut(Owner),
    ) -> io::Result<()> {
        let address = self.listener.local_addr()?;
        // Asked before a byte is read: whoever is not shown to be this user gets nothing and holds
        // nothing.
        let admits = |peer| {
            let owner = socket_owner::owner_of(peer, address);
            let is_admitted = anybody || owner == Owner::Own;
            if !is_admitted {
                refused(owner);
            }
            is_admitted
        };
        serve_until(&self.listener, admits, |stream, handed_over| {
            let (path, url) = (self.path.clone(), self.url.clone());
            async move { answer_request(stream, &path, &url, &handed_over).await }
        })
        .await
    }
}

/// Answers one request; takes the only place in `handed_over` if it gives the URL away.
async fn answer_request(
    mut stream: TcpStream,
    path: &str,
    url: &str,
    handed_over: &mpsc::Sender<()>,
) -> io::Result<()> {
    let Some(request) = read_head(&mut stream).await? else {
        return Ok(());
    };
    let wanted = format!("GET {path} HTTP/1.");
    // Of two requests at the same time only one gets the place, and with it the URL.
    let place = request
        .starts_with(wanted.as_bytes())
        .then(|| handed_over.try_reserve().ok())
        .flatten();
    let answer = if place.is_some() {
        format!(
            "HTTP/1.1 302 Found\r\nLocation: {url}\r\nCache-Control: no-store\r\nReferrer-Policy: no-referrer\r\n"
        )
    } else {
        "HTTP/1.1 404 Not Found\r\n".to_owned()
    };
    let answer = format!("{answer}Content-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).await?;
    let shut = stream.shutdown().await;
    if let Some(place) = place {
        place.send(());
    }
    shut
}

#[cfg(test)]
mod tests {
    use std::{
        net::{Ipv6Addr, SocketAddr},
        process::Command,
        sync::Arc,
    };

    use tokio::io::AsyncReadExt as _;

    use super::*;

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("connects");
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
            .await
            .expect("asks");
        let mut answer = String::new();
        // A refused connection may end with a reset.
        let _ = stream.read_to_string(&mut answer).await;
        answer
    }

    /// A page that is served, its address and path, and who was refused.
    async fn served() -> (
        tokio::task::JoinHandle<io::Result<()>>,
        SocketAddr,
        String,
        Arc<std::sync::Mutex<Vec<Owner>>>,
    ) {
        let handover = Handover::new("https://example.com/secret".to_owned())
            .await
            .expect("listens");
        let address = handover.listener.local_addr().expect("an address");
        let path = handover.path.clone();
        let refused = Arc::<std::sync::Mutex<Vec<Owner>>>::default();
        let told = refused.clone();
        let serve = tokio::spawn(handover.serve(false, move |owner| {
            told.lock().expect("not poisoned").push(owner);
        }));
        (serve, address, path, refused)
    }

    #[tokio::test]
    async fn only_the_secret_path_leads_on_and_only_once() {
        let (serve, address, path, _) = served().await;
        // One that says nothing holds up nobody.
        let _silent = TcpStream::connect(address).await.expect("connects");
        assert!(
            get(address, "/favicon.ico")
                .await
                .starts_with("HTTP/1.1 404")
        );
        let answer = get(address, &path).await;
        assert!(
            answer.contains("Location: https://example.com/secret\r\n"),
            "{answer}"
        );
        serve.await.expect("ends").expect("in order");
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_browser_whose_socket_is_of_the_other_family_is_let_in() {
        let (serve, address, path, _) = served().await;
        let mapped: Ipv6Addr = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
        let answer = get(SocketAddr::new(mapped.into(), address.port()), &path).await;
        assert!(answer.contains("example.com/secret"), "{answer}");
        serve.await.expect("ends").expect("in order");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn another_user_is_refused_over_either_family() {
        ops_test_needs::needs_root!();
        let (serve, address, path, refused) = served().await;
        for host in ["127.0.0.1", "::ffff:127.0.0.1"] {
            let script = format!(
                "exec 3<>/dev/tcp/{host}/{} && printf 'GET {path} HTTP/1.1\\r\\n\\r\\n' >&3; cat <&3",
                address.port()
            );
            let run = move || {
                Command::new("setpriv")
                    .args([
                        "--reuid=65534",
                        "--regid=65534",
                        "--clear-groups",
                        "bash",
                        "-c",
                    ])
                    .arg(script)
                    .output()
                    .expect("setpriv and bash are there")
            };
            let output = tokio::task::spawn_blocking(run).await.expect("ends");
            let stdout = String::from_utf8_lossy(&output.stdout);
            assert!(!stdout.contains("secret"), "{host}: {stdout}");
        }
        assert_eq!(
            *refused.lock().expect("not poisoned"),
            [Owner::Other(65534), Owner::Other(65534)]
        );
        // The user's own browser still gets there.
        assert!(get(address, &path).await.contains("example.com/secret"));
        serve.await.expect("ends").expect("in order");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn this_system_tells_whose_a_connection_is() {
        let handover = Handover::new(String::new()).await.expect("listens");
        assert!(handover.tells_owners().await.expect("a port"));
    }
}
