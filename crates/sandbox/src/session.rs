//! What the gateway hands to the agent for one session, and what it gets back.
//!
//! The agent never sees a socket, a token or a fault: it has a pair of queues of whole binary
//! protocol messages, which outlive any number of web sockets, and the text with which the session
//! closed.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    Pace,
    data_keys::AgentKms,
    fleet::{Instance, InstanceState},
    network::Network,
    session_logs::SessionUpload,
};

/// The two directions of one session's data channel, as the agent sees them.
///
/// Frames are whole binary protocol messages, exactly what the web socket carries. The link lasts
/// as long as the session; web sockets come and go behind it.
#[derive(Debug)]
pub(crate) struct AgentLink {
    /// Messages of the client. `None` means that the sandbox is stopping: end as if cancelled.
    pub(crate) from_client: mpsc::Receiver<Bytes>,
    /// Messages to the client. While no client is attached the gateway takes them and drops them,
    /// as the service does.
    pub(crate) to_client: mpsc::Sender<Bytes>,
    /// `true` while no client is attached: the gateway's `pause_publication`;
    /// `false` is its `start_publication`.
    pub(crate) publication: watch::Receiver<bool>,
    /// Cancelled by TerminateSession, by the gateway's timeouts and when the sandbox stops: kill
    /// what runs and return.
    pub(crate) cancel: CancellationToken,
}

/// One session as StartSession made it, with everything the agent needs to know.
#[derive(Debug)]
pub(crate) struct SessionSpec {
    pub(crate) session_id: String,
    /// The machine the agent is on.
    pub(crate) instance: Arc<Instance>,
    /// The machine's folder on this disk, and the SSH keys pushed to it.
    pub(crate) state: Arc<InstanceState>,
    /// What the machine can reach: name table, instance ports, embedded services.
    pub(crate) network: Arc<Network>,
    pub(crate) kind: SessionKind,
    pub(crate) pace: Pace,
    /// Four dotted numbers: what the handshake announces and what decides the agent's habits. A
    /// fault may have replaced the instance's own version.
    pub(crate) agent_version: String,
    /// The KMS key where the session's preferences demand encryption (never for `Port`): then there
    /// is a handshake also for shells, with the `KMSEncryption` action.
    pub(crate) encryption: Option<AgentKms>,
    /// The account logs sessions, for which the agent keeps their output on its disk.
    pub(crate) is_logged: bool,
    /// Where the agent puts the log when the session ends.
    pub(crate) upload: Option<SessionUpload>,
    /// Check what the official agent does not (digests, lengths), to catch the faults of a client.
    pub(crate) strict: bool,
    /// How long the agent takes to begin its handshake; until then it acknowledges input and drops
    /// it.
    pub(crate) late_handshake: Duration,
    /// Handshake bodies as another JSON library may write them: keys in lower case, unknown ones,
    /// `null`.
    pub(crate) odd_json: bool,
    /// How long input is still acknowledged and dropped after the client was told that the
    /// handshake is complete. The official agent tells first and notes it for itself then, which
    /// takes no time unless its machine is busy.
    pub(crate) late_open: Duration,
    /// What the account says to whoever begins a session.
    pub(crate) customer_message: Option<String>,
    /// How long after the handshake the plugin of a port session is there; until then input is
    /// refused.
    pub(crate) late_plugin: Duration,
    /// Before each connection to a destination.
    pub(crate) slow_dial: Duration,
}

/// Session types (the agent calls them plugins) with the properties their document gave them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SessionKind {
    /// `Standard_Stream`.
    Shell {
        /// A program of a custom document in place of the default shell; run by `sh -c` on the pty.
        command: Option<String>,
    },
    /// `InteractiveCommands`: `sh -c command` on a pty.
    Interactive { command: String },
    /// `NonInteractiveCommands`: split into words, run without a shell.
    NonInteractive {
        command: String,
        /// `separateOutputStream` of the document.
        separate_output: bool,
        /// `stdoutSeparatorPrefix`, at most 30 characters, often empty.
        stdout_prefix: String,
        /// `stderrSeparatorPrefix`.
        stderr_prefix: String,
    },
    /// `Port`.
    Port {
        /// `None`: the machine itself (`localhost`).
        host: Option<String>,
        port: u16,
        /// `LocalPortForwarding` asks for the multiplexer; `AWS-StartSSHSession` has none.
        port_type: Option<String>,
        /// The document's properties as the handshake echoes them, all strings.
        properties: serde_json::Value,
    },
}

impl SessionKind {
    /// The name that the handshake gives.
    pub(crate) const fn session_type(&self) -> &'static str {
        match self {
            Self::Shell { .. } => "Standard_Stream",
            Self::Interactive { .. } => "InteractiveCommands",
            Self::NonInteractive { .. } => "NonInteractiveCommands",
            Self::Port { .. } => "Port",
        }
    }
}

/// How a session ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Closing {
    /// `Output` of `channel_closed`: empty after a normal end or a cancellation, else the agent's
    /// error text.
    pub(crate) output: String,
}
