//! How many bytes the client may have unacknowledged at once.
//!
//! The service has no window of its own and tears sessions down that are flooded, and there is no
//! signal but the acknowledgements: when they come, and whether one is missing. [`Adaptive`]
//! therefore keeps the path between two bounds: it lets a queue of [`TARGET_DELAY`] build up, so
//! that the path is never idle, and no more, so that a keystroke beside an upload waits no longer
//! than that (the idea of LEDBAT, RFC 6817, with the start of TCP). A retransmission shrinks the
//! window whatever the delay says.

mod budget;

use std::fmt::Debug;
use std::time::Duration;

pub use self::budget::Budget;

/// Delay above the shortest round trip that bulk data may cause. A quarter of that round trip where
/// it is longer.
pub const TARGET_DELAY: Duration = Duration::from_millis(25);
/// The window never grows above this, in bytes: it is what a session may hold for retransmission.
pub const MAX_WINDOW_BYTES: usize = 1 << 20;

/// The window a session starts with, in bytes.
const INITIAL_WINDOW_BYTES: usize = 32 << 10;
/// It never shrinks below this, in bytes.
const MIN_WINDOW_BYTES: usize = 4 << 10;
/// Least growth in one round trip, in bytes.
const MIN_STEP_BYTES: usize = 4 << 10;
/// The shortest round trip is forgotten after one to two of these, so that a changed route is
/// noticed.
const GENERATION: Duration = Duration::from_secs(30);
/// An agent that is only starting refuses its first input without a word; until this much was
/// acknowledged, a retransmission says nothing about the path.
const START_BYTES: usize = 64 << 10;
/// Acknowledgements in a row that must be late before the quick start ends.
const LATE_IN_A_ROW: u32 = 4;

/// Decides the window of bytes in flight from what becomes of the messages sent. Times are since
/// the channel's origin.
pub trait Controller: Debug + Send {
    /// `in_flight` bytes are unacknowledged now that something was sent.
    fn on_sent(&mut self, in_flight: usize) {
        let _ = in_flight;
    }
    /// A message of `bytes` of payload was acknowledged, `in_flight` were unacknowledged before
    /// that; `rtt` is `None` when it had been sent more than once.
    fn on_ack(&mut self, now: Duration, rtt: Option<Duration>, bytes: usize, in_flight: usize);
    /// A message's timer expired while the socket was up.
    fn on_loss(&mut self, now: Duration);
    /// A new connection carries the session, perhaps over another path; everything unacknowledged
    /// is sent again.
    fn on_reconnected(&mut self, now: Duration);
    /// Bytes of payload that may be in flight now. One message may always be.
    fn window(&self) -> usize;
}

/// A window that never changes.
#[derive(Debug)]
pub struct Fixed(pub usize);

impl Default for Fixed {
    fn default() -> Self {
        Self(MAX_WINDOW_BYTES)
    }
}

impl Controller for Fixed {
    fn on_ack(&mut self, _: Duration, _: Option<Duration>, _: usize, _: usize) {}
    fn on_loss(&mut self, _: Duration) {}
    fn on_reconnected(&mut self, _: Duration) {}
    fn window(&self) -> usize {
        self.0
    }
}

/// A window that grows while acknowledgements come back in time, and shrinks on retransmission and
/// on rising delay.
///
/// It is adjusted once per round trip, by the shortest sample of that round, because single samples
/// on a busy machine say more about its scheduler than about the path.
#[derive(Debug)]
pub struct Adaptive {
    window: usize,
    limit: usize,
    /// Doubles per round trip, until the first sign of a queue.
    starting: bool,
    acked_bytes: usize,
    late_in_a_row: u32,
    base: ShortestRtt,
    round: Round,
    /// Losses before this belong to the one that has been answered.
    recovering_until: Duration,
    /// While the queue is let run dry: until when, and the window to return to.
    draining: Option<(Duration, usize)>,
}

/// What was seen in the current round trip.
#[derive(Debug, Default)]
struct Round {
    ends: Duration,
    shortest: Option<Duration>,
    /// The window was in use, so its size mattered.
    limited: bool,
}

/// The shortest round trip of late.
#[derive(Debug, Default)]
struct ShortestRtt {
    current: Option<Duration>,
    previous: Option<Duration>,
    renew_at: Option<Duration>,
}

impl ShortestRtt {
    fn sample(&mut self, rtt: Duration) {
        self.current = Some(self.current.map_or(rtt, |shortest| shortest.min(rtt)));
    }

    fn shortest(&self) -> Option<Duration> {
        match (self.current, self.previous) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// True when a new generation begins.
    fn renew(&mut self, now: Duration) -> bool {
        let at = *self.renew_at.get_or_insert(now + GENERATION);
        if now < at {
            return false;
        }
        self.previous = self.current.take();
        self.renew_at = Some(now + GENERATION);
        true
    }
}

impl Adaptive {
    /// A window at its start.
    pub fn new() -> Self {
        Self::with_limit(MAX_WINDOW_BYTES)
    }

    /// As [`Adaptive::new`], with a bound of its own on the window, in bytes: what many sessions
    /// may hold together.
    pub fn with_limit(limit: usize) -> Self {
        Self {
            window: INITIAL_WINDOW_BYTES.min(limit),
            limit,
            starting: true,
            acked_bytes: 0,
            late_in_a_row: 0,
            base: ShortestRtt::default(),
            round: Round::default(),
            recovering_until: Duration::ZERO,
            draining: None,
        }
    }

    fn target(base: Duration) -> Duration {
        TARGET_DELAY.max(base / 4)
    }

    fn set(&mut self, window: usize) {
        self.window = window.clamp(MIN_WINDOW_BYTES, self.limit.max(MIN_WINDOW_BYTES));
    }

    /// Ends the quick start with the window that fills the path and the allowed queue.
    fn settle(&mut self, base: Duration, rtt: Duration) {
        self.starting = false;
        let wanted = base + Self::target(base);
        self.set(scale(self.window, wanted, rtt));
    }

    fn end_round(&mut self, now: Duration, base: Duration, rtt: Duration) {
        let round = std::mem::take(&mut self.round);
        self.round.ends = now + rtt;
        if let Some((until, window)) = self.draining {
            if now >= until {
                self.draining = None;
                self.set(window);
            }
            return;
        }
        let Some(shortest) = round.shortest else {
            return;
        };
        if !self.starting && self.base.renew(now) && round.limited {
            // Twice a minute the queue runs dry for a moment, or our own queue would pass for the
            // path's round trip.
            self.draining = Some((now + 2 * rtt, self.window));
            self.set(scale(self.window, base, shortest) * 3 / 4);
            return;
        }
        let target = Self::target(base);
        let delay = shortest.saturating_sub(base);
        if delay > target {
            let excess = (delay - target).min(target);
            self.set(self.window - scale(self.window / 8, excess, target));
        } else if round.limited && !self.starting {
            let step = (self.window / 16).max(MIN_STEP_BYTES);
            self.set(self.window + scale(step, target - delay, target));
        }
    }
}

impl Default for Adaptive {
    fn default() -> Self {
        Self::new()
    }
}

impl Controller for Adaptive {
    fn on_ack(&mut self, now: Duration, rtt: Option<Duration>, bytes: usize, in_flight: usize) {
        self.acked_bytes = self.acked_bytes.saturating_add(bytes);
        // A window that was not used says nothing about the path, and must not grow.
        self.round.limited |= in_flight >= self.window / 4 * 3;
        let Some(rtt) = rtt else { return };
        self.base.sample(rtt);
        let base = self.base.shortest().unwrap_or(rtt);
        self.round.shortest = Some(self.round.shortest.map_or(rtt, |s| s.min(rtt)));
        if self.starting {
            if rtt > base + Self::target(base) {
                self.late_in_a_row += 1;
            } else {
                self.late_in_a_row = 0;
            }
            if self.late_in_a_row >= LATE_IN_A_ROW {
                self.settle(base, rtt);
            } else if self.round.limited {
                self.set(self.window + bytes);
            }
        }
        if now >= self.round.ends {
            self.end_round(now, base, rtt);
        }
    }

    fn on_loss(&mut self, now: Duration) {
        // Of the losses of one round trip the first has been answered. Before anything much was
        // acknowledged, a loss is mostly an agent that is not ready and refuses its first input.
        if now < self.recovering_until || self.acked_bytes < START_BYTES {
            return;
        }
        let rtt = self.base.shortest().unwrap_or_default();
        self.recovering_until = now + rtt + Self::target(rtt) * 2;
        self.starting = false;
        self.draining = None;
        self.set(self.window / 10 * 7);
    }

    fn on_reconnected(&mut self, now: Duration) {
        // Perhaps over another path, of which nothing is known; and everything unacknowledged goes
        // out at once.
        let window = self.window.min(INITIAL_WINDOW_BYTES);
        *self = Self::with_limit(self.limit);
        self.window = window;
        self.acked_bytes = START_BYTES;
        self.recovering_until = now;
    }

    fn window(&self) -> usize {
        self.window
    }
}

/// `value * part / whole`.
fn scale(value: usize, part: Duration, whole: Duration) -> usize {
    let whole = whole.as_nanos().max(1);
    usize::try_from(value as u128 * part.as_nanos() / whole).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// Acknowledges full windows with this round trip.
    fn rounds(controller: &mut Adaptive, now: &mut Duration, rtt: Duration, count: usize) {
        for _ in 0..count {
            *now += rtt;
            let window = controller.window();
            for _ in 0..8 {
                controller.on_ack(*now, Some(rtt), window / 8, window);
            }
        }
    }

    #[test]
    fn the_window_grows_to_its_bound_while_acknowledgements_come_in_time() {
        let (mut controller, mut now) = (Adaptive::new(), ms(0));
        rounds(&mut controller, &mut now, ms(1), 10);
        assert_eq!(controller.window(), MAX_WINDOW_BYTES);
    }

    #[test]
    fn a_window_with_a_bound_of_its_own_keeps_it() {
        let (mut controller, mut now) = (Adaptive::with_limit(100_000), ms(0));
        rounds(&mut controller, &mut now, ms(1), 10);
        assert_eq!(controller.window(), 100_000);
        controller.on_reconnected(now);
        rounds(&mut controller, &mut now, ms(1), 10);
        assert_eq!(controller.window(), 100_000);
    }

    #[test]
    fn the_window_stays_when_it_is_not_used() {
        let (mut controller, mut now) = (Adaptive::new(), ms(0));
        for _ in 0..1000 {
            now += ms(10);
            controller.on_ack(now, Some(ms(10)), 100, 100);
        }
        assert_eq!(controller.window(), INITIAL_WINDOW_BYTES);
    }

    #[test]
    fn the_window_shrinks_while_the_delay_is_above_the_target() {
        let (mut controller, mut now) = (Adaptive::new(), ms(0));
        rounds(&mut controller, &mut now, ms(40), 4);
        let before = controller.window();
        rounds(&mut controller, &mut now, ms(200), 3);
        assert!(controller.window() < before / 2, "{}", controller.window());
    }

    #[test]
    fn one_loss_shrinks_the_window_once() {
        let (mut controller, mut now) = (Adaptive::new(), ms(0));
        rounds(&mut controller, &mut now, ms(40), 4);
        let before = controller.window();
        controller.on_loss(now);
        controller.on_loss(now + ms(1));
        let after = controller.window();
        assert!((before / 10 * 6..before / 10 * 8).contains(&after));
    }

    #[test]
    fn a_message_refused_by_an_agent_that_is_starting_costs_nothing() {
        let mut controller = Adaptive::new();
        controller.on_loss(ms(200));
        assert_eq!(controller.window(), INITIAL_WINDOW_BYTES);
    }

    #[test]
    fn a_longer_route_is_accepted_after_a_while() {
        let (mut controller, mut now) = (Adaptive::new(), ms(0));
        rounds(&mut controller, &mut now, ms(10), 20);
        // 300 ms for two minutes: no queue explains that.
        rounds(&mut controller, &mut now, ms(300), 400);
        let long = controller.window();
        rounds(&mut controller, &mut now, ms(300), 40);
        assert!(controller.window() >= long && controller.window() > 10 * MIN_WINDOW_BYTES);
    }

    #[test]
    fn a_new_connection_starts_anew() {
        let (mut controller, mut now) = (Adaptive::new(), ms(0));
        rounds(&mut controller, &mut now, ms(1), 10);
        controller.on_reconnected(now);
        assert_eq!(controller.window(), INITIAL_WINDOW_BYTES);
        rounds(&mut controller, &mut now, ms(80), 10);
        assert_eq!(controller.window(), MAX_WINDOW_BYTES);
    }
}
