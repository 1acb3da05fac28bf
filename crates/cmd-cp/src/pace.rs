//! `--limit-rate`: all transfers of a command together.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// A piece may go so much before its turn.
const AHEAD: Duration = Duration::from_millis(20);

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
    pub(crate) async fn wait_for_bytes(&self, len_bytes: usize) {
        let now = Instant::now();
        // Timers count in milliseconds, in which many small pieces have their turn.
        if let Some(turn) = self.turn(now, len_bytes).filter(|turn| *turn > now + AHEAD) {
            tokio::time::sleep_until(turn).await;
        }
    }

    /// When `len_bytes` may go; they take their time from then on.
    fn turn(&self, now: Instant, len_bytes: usize) -> Option<Instant> {
        let rate = self.bytes_per_second?;
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = next.map_or(now, |next| next.max(now));
        #[expect(clippy::cast_precision_loss, reason = "a pause, not an account")]
        let takes = Duration::from_secs_f64(len_bytes as f64 / rate.max(1) as f64);
        *next = Some(turn + takes);
        Some(turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_wait_for_those_before_them() {
        let pace = Pace::new(Some(1000));
        let now = Instant::now();
        let turns: Vec<_> = (0..4)
            .filter_map(|_| pace.turn(now, 500))
            .map(|turn| turn.duration_since(now).as_millis())
            .collect();
        assert_eq!(turns, [0, 500, 1000, 1500]);
        // Time in which nothing went is not saved up.
        let later = now + Duration::from_secs(60);
        assert_eq!(pace.turn(later, 1), Some(later));
        assert_eq!(Pace::new(None).turn(now, 1 << 30), None);
    }
}
