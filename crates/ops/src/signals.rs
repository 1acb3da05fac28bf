//! The signals that ask a program to stop.

use ops_core::{Error, ErrorKind, Result};
#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGINT, SIGTERM and SIGHUP from now on; none of them ends the process by itself any more.
pub(crate) struct Signals {
    #[cfg(unix)]
    interrupt: Signal,
    #[cfg(unix)]
    terminate: Signal,
    #[cfg(unix)]
    hangup: Signal,
    /// A SIGINT or SIGTERM has been seen.
    heard: bool,
}

impl Signals {
    /// Begins to listen; must be called within the runtime.
    ///
    /// # Errors
    /// The system refuses.
    pub(crate) fn listen() -> Result<Self> {
        #[cfg(unix)]
        {
            let listen = |kind| {
                signal(kind).map_err(|error| {
                    Error::unexpected("cannot listen for signals").caused_by(error)
                })
            };
            Ok(Self {
                interrupt: listen(SignalKind::interrupt())?,
                terminate: listen(SignalKind::terminate())?,
                hangup: listen(SignalKind::hangup())?,
                heard: false,
            })
        }
        #[cfg(not(unix))]
        Ok(Self { heard: false })
    }

    /// The next one, as the error it becomes.
    pub(crate) async fn next(&mut self) -> ErrorKind {
        #[cfg(unix)]
        {
            let (kind, insists) = tokio::select! {
                _ = self.interrupt.recv() => (ErrorKind::Interrupted, true),
                _ = self.terminate.recv() => (ErrorKind::Terminated, true),
                _ = self.hangup.recv() => (ErrorKind::Terminated, false),
            };
            self.heard |= insists;
            kind
        }
        #[cfg(not(unix))]
        match tokio::signal::ctrl_c().await {
            Ok(()) => {
                self.heard = true;
                ErrorKind::Interrupted
            }
            Err(_) => std::future::pending().await,
        }
    }

    /// Ends when somebody insists: at the second SIGINT or SIGTERM of all. A hang-up counts neither as the first nor as the second: ssh sends one
    /// after its ProxyCommand whatever else has arrived there, and a terminal that closes may send two.
    pub(crate) async fn insisting(&mut self) -> ErrorKind {
        loop {
            let before = self.heard;
            #[cfg(unix)]
            let kind = tokio::select! {
                _ = self.interrupt.recv() => ErrorKind::Interrupted,
                _ = self.terminate.recv() => ErrorKind::Terminated,
            };
            #[cfg(not(unix))]
            let kind = self.next().await;
            self.heard = true;
            if before {
                return kind;
            }
        }
    }
}
