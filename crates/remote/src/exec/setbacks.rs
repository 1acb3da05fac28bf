//! Sessions of a run that were lost, and when the next one is tried.

use std::time::Duration;

use tokio::time::Instant;

/// First and longest pause before another session.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// Sessions that may close one after another without having brought anything. Half a minute, with
/// the pauses in between: whatever closes them will close the next one too.
const MOST_CLOSED: u32 = 10;
/// Losses that are made good within this time are told nobody.
const UNTOLD_FOR: Duration = Duration::from_secs(2);
/// Between two lines about losses.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// A session that has lasted so long did what it was for, even if nothing was to be carried.
pub(super) const LASTED: Duration = Duration::from_secs(10);

/// Losses one after another, with nothing gained in between.
#[derive(Debug, Default)]
pub(super) struct Setbacks {
    /// When the first of them was noticed.
    since: Option<Instant>,
    losses: u32,
    /// Of these, sessions that had been open.
    closed: u32,
    /// When somebody was told the last time.
    told_at: Option<Instant>,
    /// Losses since then, those that were made good too.
    untold: u32,
}

impl Setbacks {
    /// Something was gained.
    pub(super) fn clear(&mut self) {
        *self = Self {
            // A gain between two losses is no reason to tell of the second one sooner.
            told_at: self.told_at,
            untold: self.untold,
            ..Self::default()
        };
    }

    /// How many losses there were since somebody was told, where it is time at `now` to tell
    /// again. What is back within [`UNTOLD_FOR`] is over before it is read.
    pub(super) fn losses_to_tell(&mut self, now: Instant) -> Option<u32> {
        let is_back = self.since.is_none_or(|since| now - since < UNTOLD_FOR);
        let is_too_soon = self.told_at.is_some_and(|told| now - told < TOLD_EVERY);
        if is_back || is_too_soon {
            return None;
        }
        self.told_at = Some(now);
        Some(std::mem::take(&mut self.untold))
    }

    /// A session that had been open was lost at `now`; gives the pause before the next one, and
    /// `None` where there is no use in another one. The first loss costs no pause: the service
    /// closes every connection about once an hour.
    pub(super) fn closed(&mut self, now: Instant, patience: Duration) -> Option<Duration> {
        self.closed += 1;
        if self.closed > MOST_CLOSED {
            return None;
        }
        self.not_opened(now, patience)
    }

    /// As [`Self::closed`], of a session that could not be opened: a network may be away for long.
    pub(super) fn not_opened(&mut self, now: Instant, patience: Duration) -> Option<Duration> {
        let since = *self.since.get_or_insert(now);
        if now - since >= patience {
            return None;
        }
        let pause = match self.losses {
            0 => Duration::ZERO,
            losses => {
                let doubled = PAUSES.0 * 2_u32.saturating_pow(losses - 1).min(1 << 16);
                doubled.min(PAUSES.1)
            }
        };
        self.losses += 1;
        self.untold += 1;
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(600);

    #[test]
    fn pauses_grow_and_sessions_that_close_at_once_come_to_an_end() {
        let now = Instant::now();
        let mut setbacks = Setbacks::default();
        let pauses: Vec<u128> = std::iter::from_fn(|| setbacks.closed(now, PATIENCE))
            .map(|pause| pause.as_millis())
            .collect();
        assert_eq!(
            pauses,
            [0, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000]
        );
        setbacks.clear();
        assert_eq!(setbacks.closed(now, PATIENCE), Some(Duration::ZERO));
    }

    #[test]
    fn losses_are_told_after_two_seconds_without_gain_and_every_ten_at_most() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut setbacks = Setbacks::default();
        let mut told = |seconds, is_gain: bool| {
            if is_gain {
                setbacks.clear();
            }
            setbacks.closed(at(seconds), PATIENCE);
            setbacks.losses_to_tell(at(seconds))
        };
        // Each of these has brought something before it was lost.
        assert_eq!([0, 1, 5].map(|seconds| told(seconds, true)), [None; 3]);
        assert_eq!(
            [6, 7, 9].map(|seconds| told(seconds, false)),
            [None, Some(5), None]
        );
        // A gain in between makes no second line of it.
        assert_eq!(
            [10, 11, 15].map(|seconds| told(seconds, seconds == 10)),
            [None; 3]
        );
        assert_eq!(told(17, false), Some(5));
    }

    #[test]
    fn a_network_may_be_away_for_as_long_as_the_server_waits() {
        let begin = Instant::now();
        let mut now = begin;
        let mut setbacks = Setbacks::default();
        while let Some(pause) = setbacks.not_opened(now, PATIENCE) {
            assert!(pause <= PAUSES.1);
            now += pause.max(Duration::from_millis(1));
        }
        assert!(now - begin >= PATIENCE);
    }
}
