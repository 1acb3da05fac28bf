//! `--limit-rate`: all transfers of a command together.

use std::{sync::Mutex, time::Duration};

use tokio::time::Instant;

/// A rate to keep to.
#[derive(Debug)]
pub(crate) struct Pace {
    bytes_per_second: Option<u64>,
    /// When the next byte may go.
    next: Mutex<Option<Instant>>,
}

impl Pace {
    /// `None`: as fast as it goes.
    pub(crate) fn new(bytes_per_second: Option<u64>) -> Self {
        Self {
            bytes_per_second,
            next: Mutex::new(None),
        }
    }

    /// Waits until `len_bytes` may go.
    pub(crate) async fn wait(&self, len_bytes: usize) {
        let Some(rate) = self.bytes_per_second else {
            return;
        };
        let turn = {
            let mut next = self
                .next
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            let now = Instant::now();
            let turn = next.map_or(now, |next| next.max(now));
            #[expect(clippy::cast_precision_loss, reason = "a pause, not an account")]
            let takes = Duration::from_secs_f64(len_bytes as f64 / rate.max(1) as f64);
            *next = Some(turn + takes);
            turn
        };
        tokio::time::sleep_until(turn).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_wait_for_those_before_them() {
        let pace = Pace::new(Some(1000));
        let begin = Instant::now();
        for _ in 0..4 {
            pace.wait(500).await;
        }
        // The first goes at once, each of the others half a second after the one before.
        assert_eq!(begin.elapsed().as_millis() / 10, 150);
        Pace::new(None).wait(1 << 30).await;
    }
}
