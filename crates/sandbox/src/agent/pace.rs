//! The pauses of the official agent, where they are wanted.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::Pace;

/// After each payload of pty and port output.
const PAUSE: Duration = Duration::from_millis(1);

impl Pace {
    /// Before the first output of a pty session.
    pub(super) async fn wait_for_profile(self) {
        self.delay(Duration::from_secs(1)).await;
    }

    /// Runs what sends output and pauses between its payloads. With the real pace it has a thread
    /// of its own, as in the agent: on a shared one each pause would also cost the way to another
    /// thread and back, and make the agent slower than it is. When this future is dropped, so is
    /// `sending`, within one pause.
    pub(super) async fn run<T: Send + 'static>(
        self,
        sending: impl Future<Output = T> + Send + 'static,
    ) -> T {
        if self == Self::Unpaced {
            return sending.await;
        }
        let given_up = CancellationToken::new();
        let _guard = given_up.clone().drop_guard();
        let runtime = Handle::current();
        let sent = tokio::task::spawn_blocking(move || {
            runtime.block_on(given_up.run_until_cancelled_owned(sending))
        });
        match sent.await {
            Ok(Some(result)) => result,
            // The runtime is being shut down, and this future with it.
            Ok(None) => std::future::pending().await,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// After one payload; only within [`Pace::run`]. The real pause sleeps a thread: a timer of the
    /// runtime counts in whole milliseconds and would take two.
    pub(super) async fn pause(self) {
        match self {
            Self::Unpaced => tokio::task::yield_now().await,
            Self::Real => std::thread::sleep(PAUSE),
        }
    }

    /// Waits as the official agent does; not at all when unpaced.
    pub(super) async fn delay(self, duration: Duration) {
        if self == Self::Real {
            tokio::time::sleep(duration).await;
        }
    }
}
