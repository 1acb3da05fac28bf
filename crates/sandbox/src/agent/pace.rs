//! The pauses of the official agent, where they are wanted.

use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};

use crate::Pace;

/// After each payload of pty and port output.
const PAUSE: Duration = Duration::from_millis(1);
/// Of so many pauses about one lets the rest of the task go on.
const TURNS: u8 = 16;

impl Pace {
    /// Before the first output of a pty session.
    pub(super) async fn wait_for_profile(self) {
        self.delay(Duration::from_secs(1)).await;
    }

    /// After one payload. The real pause sleeps a thread: a timer of the runtime counts in whole milliseconds and would take two.
    pub(super) async fn pause(self) {
        match self {
            Self::Unpaced => tokio::task::yield_now().await,
            // On the spot where the runtime allows it: the way to another thread and back would make the agent slower than it says.
            Self::Real => match Handle::current().runtime_flavor() {
                RuntimeFlavor::MultiThread => {
                    tokio::task::block_in_place(|| std::thread::sleep(PAUSE));
                    // What shares the task has its turn, now and then: the way back into it takes a tenth of a pause.
                    if fastrand::u8(..TURNS) == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                _ => {
                    let _ = tokio::task::spawn_blocking(|| std::thread::sleep(PAUSE)).await;
                }
            },
        }
    }

    /// Waits as the official agent does; not at all when unpaced.
    pub(super) async fn delay(self, duration: Duration) {
        if self == Self::Real {
            tokio::time::sleep(duration).await;
        }
    }
}
