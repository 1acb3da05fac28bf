//! What can go wrong on the way to an open socket, precise enough to be explained.

use std::io;
use std::path::PathBuf;

/// Why a dial failed. Never holds a token or a stream URL.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The stream URL is not one to dial; the reason leaves the URL out.
    #[error("the stream URL cannot be used: {0}")]
    Url(String),
    /// The file of extra certificate authorities cannot be used.
    #[error("cannot read certificates from `{}`: {reason}", path.display())]
    Roots {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No certificate authority is known, so nothing could be verified.
    #[error("no certificate authorities found on this system")]
    NoRoots,
    /// The host's name has no address.
    #[error("cannot resolve `{host}`")]
    Dns {
        /// The host, or the proxy.
        host: String,
        /// The resolver's error.
        source: io::Error,
    },
    /// No address of the host could be connected to.
    #[error("cannot connect to `{host}:{port}`")]
    Connect {
        /// The host, or the proxy.
        host: String,
        /// Its port.
        port: u16,
        /// The last address's error.
        source: io::Error,
    },
    /// The proxy's URL in the environment cannot be used.
    #[error("the proxy setting cannot be used: {0}")]
    ProxySetting(String),
    /// The proxy answered CONNECT with something else than success.
    #[error("the proxy `{proxy}` refused the connection with status {status}")]
    ProxyRefused {
        /// Its host and port.
        proxy: String,
        /// HTTP status; 407 asks for credentials.
        status: u16,
    },
    /// The proxy's answer is not HTTP, or the connection to it broke.
    #[error("the proxy `{proxy}` failed: {reason}")]
    Proxy {
        /// Its host and port.
        proxy: String,
        /// What happened.
        reason: String,
    },
    /// TLS failed: a certificate that is not trusted, a wrong name, an interception.
    #[error("TLS with `{host}` failed")]
    Tls {
        /// The host as in the URL.
        host: String,
        /// rustls's reason.
        source: io::Error,
    },
    /// The service answered the web socket upgrade with an error: 401 and 403 are about the token,
    /// the signature or the clock, 400 and 404 about a session that is gone.
    #[error("`{host}` refused the web socket with status {status}")]
    Upgrade {
        /// The host as in the URL.
        host: String,
        /// HTTP status.
        status: u16,
        /// The beginning of the answer's body, printable characters only.
        body: String,
    },
    /// The web socket broke while it was being opened.
    #[error("the web socket could not be opened: {0}")]
    WebSocket(String),
    /// One of the steps took too long.
    #[error("{step} took longer than {} s", .limit.as_secs())]
    TimedOut {
        /// What was being done.
        step: &'static str,
        /// The limit.
        limit: std::time::Duration,
    },
}

impl OpenError {
    /// The status of a refused upgrade.
    pub fn upgrade_status(&self) -> Option<u16> {
        match self {
            Self::Upgrade { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the same dial, with the same token, may well succeed a moment later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Dns { .. }
            | Self::Connect { .. }
            | Self::WebSocket(_)
            | Self::TimedOut { .. } => true,
            Self::Upgrade { status, .. } => *status == 429 || *status >= 500,
            _ => false,
        }
    }
}

/// Why a session that was open ended against its owner's will.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The protocol core gave up.
    #[error(transparent)]
    Channel(#[from] crate::data_channel::ChannelError),
    /// The session ended while the connection was down.
    #[error("the session ended while the connection was down: {0}")]
    Gone(String),
    /// The connection was down and could not be restored in time.
    #[error("the connection was lost and could not be restored: {0}")]
    NotResumed(String),
}
