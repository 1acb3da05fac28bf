//! The sessions of a pool that are on their way.

use std::time::Duration;

use tokio::time::Instant;

/// A start is expected to take no longer than twice the last one, and this much: the first of a
/// burst is quicker than the others.
const MARGIN: Duration = Duration::from_millis(100);
/// Between two starts of those that are asked for together. Source: StartSession's quota of three a
/// second, "AWS Systems Manager endpoints and quotas" in the AWS General Reference.
const QUOTA_INTERVAL: Duration = Duration::from_millis(334);

#[derive(Debug, Default)]
pub(super) struct Starts {
    /// When each was asked for, the earliest first.
    asked: Vec<Instant>,
    /// How long the last one took.
    last: Duration,
}

impl Starts {
    pub(super) fn len(&self) -> usize {
        self.asked.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    /// One is asked for at `now`.
    pub(super) fn begin(&mut self, now: Instant) {
        self.asked.push(now);
    }

    /// The one that was asked for at `began` has come about after `took`, or failed.
    pub(super) fn end(&mut self, began: Instant, took: Option<Duration>) {
        if let Some(at) = self.asked.iter().position(|at| *at == began) {
            self.asked.remove(at);
        }
        if let Some(took) = took {
            self.last = took;
        }
    }

    /// How many may still come in time at `now`, and when the first of them is expected at the
    /// latest; none is waited for longer than `most`.
    pub(super) fn expected(&self, now: Instant, most: Duration) -> (usize, Option<Instant>) {
        let in_time = self
            .asked
            .iter()
            .zip(0_u32..)
            .filter_map(|(asked, before)| {
                // Those before it have their turns first.
                let patience = self.last * 2 + MARGIN + QUOTA_INTERVAL * before;
                let expected = *asked + patience.min(most);
                (expected > now).then_some(expected)
            });
        (in_time.clone().count(), in_time.min())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_secs(5);

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_start_is_expected_to_take_twice_as_long_as_the_last_one_at_most() {
        let now = Instant::now();
        let mut starts = Starts::default();
        starts.begin(now);
        starts.end(now, Some(ms(200)));
        assert_eq!(starts.expected(now, MOST), (0, None));
        starts.begin(now);
        assert_eq!(starts.expected(now, MOST), (1, Some(now + ms(500))));
        assert_eq!(starts.expected(now + ms(501), MOST), (0, None));
        assert_eq!(starts.expected(now, ms(300)), (1, Some(now + ms(300))));
    }

    #[test]
    fn those_that_are_asked_for_together_have_their_turns_one_after_another() {
        let now = Instant::now();
        let mut starts = Starts::default();
        for _ in 0..3 {
            starts.begin(now);
        }
        assert_eq!(starts.expected(now, MOST), (3, Some(now + ms(100))));
        assert_eq!(starts.expected(now + ms(500), MOST).0, 1);
        assert_eq!(starts.expected(now + ms(800), MOST).0, 0);
        // One that failed says nothing of how long the next takes.
        starts.end(now, None);
        assert_eq!(starts.expected(now + ms(500), MOST).0, 0);
    }
}
