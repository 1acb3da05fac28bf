//! What a session carries, as far as a new connection is concerned.

use std::time::Duration;

use tokio::time::Instant;

use crate::meter::Meter;

/// More than this in one direction is busy, in bytes per second: half of what one agent gives.
const BUSY_RATE: u64 = 400_000;
/// Rates that differ by less than this are the same, in bytes per second.
const STEP: u64 = 64 << 10;
/// What a connection is taken to carry while nothing is known of it, in steps.
const EXPECTED_STEPS: u64 = 4;
/// After this the rates tell what a connection carries: two looks at them.
const KNOWN_AFTER: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
pub(super) struct Load {
    down: Meter,
    up: Meter,
    /// When the latest connections were given to it.
    placed: Vec<Instant>,
}

impl Load {
    /// Takes the counters of the session.
    pub(super) fn sample(&mut self, now: Instant, bytes_in: u64, bytes_out: u64) {
        self.down.sample(now, bytes_in);
        self.up.sample(now, bytes_out);
        self.forget(now);
    }

    /// A connection was given to it.
    pub(super) fn place(&mut self, now: Instant) {
        self.forget(now);
        self.placed.push(now);
    }

    /// Whether a connection came so lately that nobody knows what it carries.
    pub(super) fn is_young(&self, now: Instant) -> bool {
        self.placed.iter().any(|&at| is_young(now, at))
    }

    pub(super) fn is_busy(&self) -> bool {
        self.down.rate() > BUSY_RATE || self.up.rate() > BUSY_RATE
    }

    /// The less, the better for a new connection; `streams` are open. Those that have only just
    /// come count as well: of several that come at once each would go to the session that was the
    /// quietest a moment ago.
    pub(super) fn weight(&self, now: Instant, streams: usize) -> u64 {
        if streams == 0 {
            // What it carried has ended.
            return 0;
        }
        let young = self.placed.iter().filter(|&&at| is_young(now, at)).count();
        (self.down.rate() + self.up.rate()) / STEP + EXPECTED_STEPS * young.min(streams) as u64
    }

    fn forget(&mut self, now: Instant) {
        self.placed.retain(|&at| is_young(now, at));
    }
}

fn is_young(now: Instant, placed: Instant) -> bool {
    now.saturating_duration_since(placed) < KNOWN_AFTER
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Duration = Duration::from_millis(250);

    /// One that carried `rate` bytes per second until `now`.
    fn carrying(now: Instant, rate: u64) -> Load {
        let mut load = Load::default();
        load.sample(now - LOOK, 0, 0);
        load.sample(now, rate / 4, 0);
        load
    }

    /// Gives each of `count` connections to the session that carries least: how many each session
    /// has then.
    fn place(sessions: &mut [(Load, usize)], now: Instant, count: usize) -> Vec<usize> {
        for _ in 0..count {
            let (load, streams) = sessions
                .iter_mut()
                .min_by_key(|(load, streams)| (load.weight(now, *streams), *streams))
                .unwrap();
            load.place(now);
            *streams += 1;
        }
        sessions.iter().map(|&(_, streams)| streams).collect()
    }

    #[test]
    fn a_burst_is_spread_over_sessions_that_carried_something_a_moment_ago() {
        let now = Instant::now() + LOOK;
        let rates = [900_000, 300_000, 40_000_000, 0];
        let mut sessions = rates.map(|rate| (carrying(now, rate), 0));
        assert_eq!(place(&mut sessions, now, 4), [1, 1, 1, 1]);
    }

    #[test]
    fn a_burst_leaves_a_session_alone_that_carries_much() {
        let now = Instant::now() + LOOK;
        let mut sessions = [0, 40_000_000, 0].map(|rate| (carrying(now, rate), 1));
        assert_eq!(place(&mut sessions, now, 6), [4, 1, 4]);
    }

    #[test]
    fn a_small_request_goes_beside_quiet_connections_and_not_to_a_download() {
        let now = Instant::now() + LOOK;
        let mut sessions = [(carrying(now, 950_000), 1), (carrying(now, 200), 30)];
        assert_eq!(place(&mut sessions, now, 2), [1, 32]);
        assert!(sessions[0].0.is_busy() && !sessions[1].0.is_busy());
    }

    #[test]
    fn a_connection_is_what_it_carries_once_that_is_known() {
        let now = Instant::now();
        let mut load = Load::default();
        load.place(now);
        assert_eq!(load.weight(now, 1), EXPECTED_STEPS);
        assert_eq!(load.weight(now + KNOWN_AFTER, 1), 0);
    }
}
