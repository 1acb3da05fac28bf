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
            })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// The next one, as the error it becomes.
    pub(crate) async fn next(&mut self) -> ErrorKind {
        #[cfg(unix)]
        tokio::select! {
            _ = self.interrupt.recv() => ErrorKind::Interrupted,
            _ = self.terminate.recv() => ErrorKind::Terminated,
            _ = self.hangup.recv() => ErrorKind::Terminated,
        }
        #[cfg(not(unix))]
        match tokio::signal::ctrl_c().await {
            Ok(()) => ErrorKind::Interrupted,
            Err(_) => std::future::pending().await,
        }
    }
}
