//! Sessions of a run that were lost, and when the next one is tried.

use std::time::Duration;

use tokio::time::Instant;

/// First and longest pause before another session.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// Sessions that may close one after another without having brought anything. Half a minute, with
/// the pauses in between: whatever closes them will close the next one too.
const MOST_CLOSED: u32 = 10;
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
    is_told: bool,
}

impl Setbacks {
    /// Something was gained.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether it is time to tell somebody: true once, from the second loss on. A single one is
    /// ordinary, and over before it is read.
    pub(super) fn is_to_be_told(&mut self) -> bool {
        !std::mem::replace(&mut self.is_told, self.losses > 1) && self.is_told
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
    fn a_second_loss_with_nothing_gained_is_told_and_the_third_is_not() {
        let mut setbacks = Setbacks::default();
        for _ in 0..2 {
            let told = [(); 4].map(|()| {
                setbacks.closed(Instant::now(), PATIENCE);
                setbacks.is_to_be_told()
            });
            assert_eq!(told, [false, true, false, false]);
            setbacks.clear();
        }
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
