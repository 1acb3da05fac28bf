//! Sessions that carry one connection each, for agents without the multiplexer.

use std::sync::Arc;

use ops_ui::{Error, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::OPEN_PATIENCE;

/// At once, to one destination. Each is a process on the server and takes one of the 128 inotify
/// instances that Linux gives the agent's user by default: whoever reaches the local port must not
/// keep everybody else from the server.
const MOST_OWN_SESSIONS: usize = 24;

/// The places for such sessions.
#[derive(Debug)]
pub(super) struct OwnSessions(Arc<Semaphore>);

impl Default for OwnSessions {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST_OWN_SESSIONS)))
    }
}

impl OwnSessions {
    /// A place, to be held as long as the session is used; waits for one where all are taken.
    pub(super) async fn take_place(&self, destination: &str) -> Result<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.0).acquire_owned();
        match tokio::time::timeout(OPEN_PATIENCE, place).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(Error::target(format!(
                "no session to {destination}: {MOST_OWN_SESSIONS} connections are open, and this agent needs a session for each"
            ))),
        }
    }
}
