//! A page on a port of this machine, for the few requests of a browser that was sent there.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};
use zeroize::Zeroizing;

/// Longest request read, in bytes, and the time for it.
const REQUEST_BYTES: usize = 16 << 10;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that may be open at once; more are closed at once. A browser opens a few ahead of
/// its needs.
const MAX_CONNECTIONS: usize = 16;

/// Has each connection that `admits` lets in answered, until an answer sends what is waited for.
///
/// `admits` is asked for the other end of a connection before a byte of it is read. `answer` gets
/// the connection and the channel to send by, which has room for one.
///
/// # Errors
/// The port is gone.
pub async fn serve_until<T, F>(
    listener: &TcpListener,
    mut admits: impl FnMut(SocketAddr) -> bool,
    answer: impl Fn(TcpStream, mpsc::Sender<T>) -> F,
) -> io::Result<T>
where
    T: Send + 'static,
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    // A connection that says nothing must not keep the browser waiting, so each has a task;
    // dropping the set ends them.
    let mut open = JoinSet::new();
    let (sender, mut sent) = mpsc::channel(1);
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                // A client that is gone already ends its own connection only.
                Err(error) if is_of_one_client(&error) => continue,
                Err(error) => return Err(error),
            },
            _ = open.join_next(), if !open.is_empty() => continue,
            // Never closed: this function holds a sender.
            Some(value) = sent.recv() => return Ok(value),
        };
        if !admits(peer) || open.len() >= MAX_CONNECTIONS {
            continue;
        }
        let answered = answer(stream, sender.clone());
        open.spawn(async move {
            let _ = timeout(REQUEST_TIMEOUT, answered).await;
        });
    }
}

fn is_of_one_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// Reads a request up to the empty line behind its headers. The address it asks for may hold a
/// secret, so what was read is wiped when dropped.
///
/// `None`: the connection ended before, or the request is longer than a browser's would be.
///
/// # Errors
/// The connection failed.
pub async fn read_head(stream: &mut TcpStream) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut request = Zeroizing::new(Vec::new());
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if request.len() > REQUEST_BYTES || stream.read_buf(&mut *request).await? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(request))
}
