//! Whether the far end of a connection is still there.
//!
//! A connection that went away without a word (a suspended laptop, another network) is found out by
//! pings. One goes out every [`Options::ping_every`] and soon whenever there is reason to doubt:
//! the agent owes an acknowledgement and nothing comes, or the machine's clock has jumped, as it
//! does over a suspension. A doubtful connection has [`Options::answer_within`] to answer, any
//! other [`Options::dead_after`].

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::Options;

/// Longest time between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The two clocks of a machine differ by less than this, unless it was suspended or somebody has
/// set one.
const JUMP: Duration = Duration::from_secs(10);

/// The watch over one connection.
pub(super) struct Pulse {
    ping_every: Duration,
    dead_after: Duration,
    doubt_after: Duration,
    answer_within: Duration,
    wall: fn() -> SystemTime,
    next_ping: Instant,
    heard: Instant,
    /// Doubtful since then, and asked.
    asked: Option<Instant>,
    clocks: (Instant, SystemTime),
}

/// What a look finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PulseCheck {
    /// All is well, or not known to be otherwise.
    Well,
    /// A ping should go out.
    Ping,
    /// The connection is dead: nothing was heard for so long.
    Dead(Duration),
}

impl Pulse {
    pub(super) fn new(options: &Options, now: Instant) -> Self {
        Self {
            ping_every: options.ping_every,
            dead_after: options.dead_after,
            doubt_after: options.doubt_after,
            answer_within: options.answer_within,
            wall: options.wall_clock,
            next_ping: now + options.ping_every,
            heard: now,
            asked: None,
            clocks: (now, (options.wall_clock)()),
        }
    }

    /// Something has come.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.asked = None;
    }

    /// When to look again.
    pub(super) fn next_look(&self, now: Instant) -> Instant {
        let times = [
            self.asked.map(|asked| asked + self.answer_within),
            Some(self.heard + self.doubt_after),
            Some(self.heard + self.dead_after),
        ];
        let soon = now + LOOK_EVERY;
        // One that has passed has been looked after; a ping that is due has not.
        let next = times.into_iter().flatten().filter(|at| *at > now).min();
        next.unwrap_or(soon).min(soon).min(self.next_ping)
    }

    /// Looks. `owed`: the agent has yet to acknowledge something. `reads`: what comes would be
    /// heard.
    pub(super) fn look(&mut self, now: Instant, owed: bool, reads: bool) -> PulseCheck {
        let jumped = self.has_jumped(now);
        // Nothing is heard because nothing is read, which says nothing about the far end. Pings
        // still go out, so that the connection does not look idle on its way.
        if !reads {
            return self.ping_if_due(now);
        }
        let silence = now.saturating_duration_since(self.heard);
        if silence >= self.dead_after
            || self
                .asked
                .is_some_and(|asked| now >= asked + self.answer_within)
        {
            return PulseCheck::Dead(silence);
        }
        if self.asked.is_none() && (jumped || (owed && silence >= self.doubt_after)) {
            self.asked = Some(now);
            self.next_ping = now + self.ping_every;
            return PulseCheck::Ping;
        }
        self.ping_if_due(now)
    }

    fn ping_if_due(&mut self, now: Instant) -> PulseCheck {
        if now < self.next_ping {
            return PulseCheck::Well;
        }
        self.next_ping = now + self.ping_every;
        PulseCheck::Ping
    }

    /// Whether the clock on the wall has gone on without this process since the last look.
    fn has_jumped(&mut self, now: Instant) -> bool {
        let wall = (self.wall)();
        let (then, wall_then) = std::mem::replace(&mut self.clocks, (now, wall));
        // A wall clock that was set back tells nothing, and no time is negative.
        let passed = wall.duration_since(wall_then).unwrap_or_default();
        passed > now.saturating_duration_since(then) + JUMP
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::UNIX_EPOCH;

    use super::*;

    const fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn still() -> SystemTime {
        UNIX_EPOCH
    }

    fn pulse(wall_clock: fn() -> SystemTime, now: Instant) -> Pulse {
        Pulse::new(
            &Options {
                wall_clock,
                ..Options::default()
            },
            now,
        )
    }

    #[test]
    fn a_quiet_connection_is_pinged_and_given_up_after_a_while() {
        let start = Instant::now();
        let mut pulse = pulse(still, start);
        assert_eq!(
            pulse.look(start + seconds(29), false, true),
            PulseCheck::Well
        );
        assert_eq!(
            pulse.look(start + seconds(30), false, true),
            PulseCheck::Ping
        );
        assert_eq!(
            pulse.look(start + seconds(59), false, true),
            PulseCheck::Well
        );
        pulse.heard(start + seconds(59));
        assert_eq!(
            pulse.look(start + seconds(133), false, true),
            PulseCheck::Ping
        );
        let dead = pulse.look(start + seconds(134), false, true);
        assert_eq!(dead, PulseCheck::Dead(seconds(75)));
    }

    #[test]
    fn an_owed_acknowledgement_that_does_not_come_is_asked_after_soon() {
        let start = Instant::now();
        let mut pulse = pulse(still, start);
        assert_eq!(pulse.look(start + seconds(9), true, true), PulseCheck::Well);
        assert_eq!(
            pulse.look(start + seconds(10), true, true),
            PulseCheck::Ping
        );
        assert_eq!(
            pulse.look(start + seconds(24), true, true),
            PulseCheck::Well
        );
        let dead = pulse.look(start + seconds(25), true, true);
        assert_eq!(dead, PulseCheck::Dead(seconds(25)));
    }

    #[test]
    fn any_word_clears_the_doubt() {
        let start = Instant::now();
        let mut pulse = pulse(still, start);
        assert_eq!(
            pulse.look(start + seconds(10), true, true),
            PulseCheck::Ping
        );
        pulse.heard(start + seconds(11));
        assert_eq!(
            pulse.look(start + seconds(20), true, true),
            PulseCheck::Well
        );
    }

    #[test]
    fn a_suspension_is_asked_after_at_once() {
        static WALL: AtomicU64 = AtomicU64::new(0);
        fn wall() -> SystemTime {
            UNIX_EPOCH + seconds(WALL.load(Ordering::SeqCst))
        }
        let start = Instant::now();
        let mut pulse = pulse(wall, start);
        WALL.store(5, Ordering::SeqCst);
        assert_eq!(
            pulse.look(start + seconds(5), false, true),
            PulseCheck::Well
        );
        WALL.store(3600, Ordering::SeqCst);
        assert_eq!(
            pulse.look(start + seconds(6), false, true),
            PulseCheck::Ping
        );
        assert!(pulse.next_look(start + seconds(6)) <= start + seconds(11));
        let dead = pulse.look(start + seconds(21), false, true);
        assert_eq!(dead, PulseCheck::Dead(seconds(21)));
    }

    #[test]
    fn nobody_is_dead_while_nothing_is_read() {
        let start = Instant::now();
        let mut pulse = pulse(still, start);
        assert_eq!(
            pulse.look(start + seconds(200), true, false),
            PulseCheck::Ping
        );
        assert_eq!(
            pulse.look(start + seconds(201), true, false),
            PulseCheck::Well
        );
    }
}
