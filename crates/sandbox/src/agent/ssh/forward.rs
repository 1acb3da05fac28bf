//! Forwarding: connections from the client to what the instance reaches, from the instance to the
//! client, and to its key agent.

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use russh::{
    Channel, ChannelOpenFailure,
    server::{ChannelOpenHandle, Handle, Msg},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional},
    net::{TcpListener, UnixListener},
    task::JoinHandle,
};

use crate::agent::machine::Machine;

/// `-L` and `-D`: connects and carries, or refuses as an SSH server does.
pub(super) async fn direct(
    machine: Machine,
    host: String,
    port: u16,
    channel: Channel<Msg>,
    reply: ChannelOpenHandle,
) {
    match machine.dial(Some(&host), port).await {
        Ok(stream) => {
            reply.accept().await;
            carry(channel, stream).await;
        }
        Err(error) => {
            tracing::debug!(%host, port, %error, "direct-tcpip refused");
            reply.reject(ChannelOpenFailure::ConnectFailed).await;
        }
    }
}

async fn carry(channel: Channel<Msg>, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    // Either side's end is passed on; an error on one is the end of both.
    let _ = copy_bidirectional(&mut channel.into_stream(), &mut stream).await;
}

/// Listeners that live as long as the client's connection.
#[derive(Default)]
pub(super) struct Forwards {
    listeners: HashMap<(String, u32), JoinHandle<()>>,
    agent: Arc<Mutex<Option<Agent>>>,
}

struct Agent {
    socket: PathBuf,
    listener: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

/// Where the client's key agent listens on the instance, if the client asked for that. It may ask
/// after the channel was opened.
#[derive(Clone)]
pub(super) struct AgentSocket(Arc<Mutex<Option<Agent>>>);

impl AgentSocket {
    /// The path for `SSH_AUTH_SOCK`.
    pub(super) fn path(&self) -> Option<PathBuf> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(|agent| agent.socket.clone())
    }
}

impl Forwards {
    /// `-R`: listens on this machine's loopback interface, whatever address was asked for, and sets
    /// `port` when it was 0.
    pub(super) async fn listen(
        &mut self,
        address: &str,
        port: &mut u32,
        handle: Handle,
    ) -> io::Result<()> {
        let wanted = u16::try_from(*port).map_err(io::Error::other)?;
        let listener = TcpListener::bind(("127.0.0.1", wanted)).await?;
        *port = listener.local_addr()?.port().into();
        let (bound_address, bound_port) = (address.to_owned(), *port);
        let task = tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                let (handle, address) = (handle.clone(), bound_address.clone());
                tokio::spawn(async move {
                    let opened = handle.channel_open_forwarded_tcpip(
                        address,
                        bound_port,
                        peer.ip().to_string(),
                        peer.port().into(),
                    );
                    if let Ok(channel) = opened.await {
                        carry(channel, stream).await;
                    }
                });
            }
        });
        self.listeners.insert((address.to_owned(), *port), task);
        Ok(())
    }

    /// Stops a listener; whether there was one.
    pub(super) fn cancel(&mut self, address: &str, port: u32) -> bool {
        self.listeners
            .remove(&(address.to_owned(), port))
            .map(|task| task.abort())
            .is_some()
    }

    /// `-A`: a socket in a private folder that leads to the client's key agent.
    pub(super) fn open_agent(&mut self, handle: Handle) -> io::Result<()> {
        let mut agent = self.agent.lock().unwrap_or_else(PoisonError::into_inner);
        if agent.is_some() {
            return Ok(());
        }
        // As ssh's own: whoever reaches this socket signs with the client's keys.
        let folder = tempfile::Builder::new()
            .prefix("ssh-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .tempdir()?;
        let socket = folder.path().join("agent");
        let listener = UnixListener::bind(&socket)?;
        let listener = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let handle = handle.clone();
                tokio::spawn(async move {
                    if let Ok(channel) = handle.channel_open_agent().await {
                        carry(channel, stream).await;
                    }
                });
            }
        });
        *agent = Some(Agent {
            socket,
            listener,
            _folder: folder,
        });
        Ok(())
    }

    /// The socket of [`Forwards::open_agent`], also when that comes later.
    pub(super) fn agent_socket(&self) -> AgentSocket {
        AgentSocket(Arc::clone(&self.agent))
    }
}

impl Drop for Forwards {
    fn drop(&mut self) {
        for task in self.listeners.values() {
            task.abort();
        }
        if let Some(agent) = self
            .agent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            agent.listener.abort();
        }
    }
}
