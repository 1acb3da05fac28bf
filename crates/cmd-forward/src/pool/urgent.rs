//! How many starts of a proxy's destinations may be urgent.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ops_core::connect::Urgency;
use tokio::time::Instant;

use super::Pool;

/// Urgent starts at once, after a pause: the hosts of a page that a person has asked for.
const BURST: u32 = 4;
/// Between two urgent starts from then on: a third of StartSession's quota, so that a shell's start
/// waits behind few of them however many names a page has a browser ask for.
const INTERVAL: Duration = Duration::from_secs(1);

/// What all destinations of one proxy share. Their further starts are no less wanted, but whatever
/// else the user starts goes before them.
#[derive(Debug, Default)]
pub(crate) struct UrgentStarts {
    /// When all of [`BURST`] may go out again.
    full: Mutex<Option<Instant>>,
}

impl UrgentStarts {
    /// The urgency of a start that is asked for at `now`.
    pub(crate) fn take(&self, now: Instant) -> Urgency {
        let mut full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        let next = full.map_or(now, |full| full.max(now)) + INTERVAL;
        if next > now + INTERVAL * BURST {
            return Urgency::Bulk;
        }
        *full = Some(next);
        Urgency::Interactive
    }
}

impl Pool {
    /// The urgency of a start that somebody waits for.
    pub(super) fn urgency_of_awaited(&self) -> Urgency {
        self.urgent_starts
            .as_ref()
            .map_or(Urgency::Interactive, |starts| starts.take(Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_starts_are_urgent_and_then_one_a_second() {
        let (starts, now) = (UrgentStarts::default(), Instant::now());
        let urgent = |at: Instant| {
            (0..50)
                .filter(|_| starts.take(at) == Urgency::Interactive)
                .count()
        };
        assert_eq!(urgent(now), 4);
        assert_eq!(urgent(now + Duration::from_millis(999)), 0);
        assert_eq!(urgent(now + Duration::from_millis(1000)), 1);
        assert_eq!(urgent(now + Duration::from_millis(3500)), 2);
        assert_eq!(urgent(now + Duration::from_secs(60)), 4);
    }
}
