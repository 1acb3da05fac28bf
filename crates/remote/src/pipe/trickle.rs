//! A stream that has become a trickle: an agent whose own connection was lost repairs what was on
//! its way, message by message, some ten kilobytes a second, and a new session gets the same at
//! full speed.

use std::time::Duration;

use tokio::time::Instant;

/// Tells the flow of a script's output from that of an agent that repairs.
pub(crate) struct Trickle {
    since: Instant,
    /// What has come in this window.
    bytes: usize,
    /// The most that came within a window so far.
    most: usize,
    /// The script had no more to send in this window.
    is_natural: bool,
}

impl Trickle {
    const WINDOW: Duration = Duration::from_secs(3);
    /// The share of the best window so far that is a trickle. Not a fixed rate: a slow line is slow
    /// all the time.
    const SHARE: usize = 15;

    pub(crate) fn new() -> Self {
        Self {
            since: Instant::now(),
            bytes: 0,
            most: 0,
            is_natural: false,
        }
    }

    /// Takes a payload of `len` bytes; true where a window that ends with it was a trickle.
    pub(crate) fn ends_with(&mut self, len: usize) -> bool {
        self.ends_at(Instant::now(), len)
    }

    fn ends_at(&mut self, now: Instant, len: usize) -> bool {
        self.bytes += len;
        if now.duration_since(self.since) < Self::WINDOW {
            return false;
        }
        let is_trickle = !self.is_natural && self.bytes * Self::SHARE < self.most;
        *self = Self {
            since: now,
            bytes: 0,
            most: self.most.max(self.bytes),
            is_natural: false,
        };
        is_trickle
    }

    /// However little comes in this window: the script has sent no more.
    pub(crate) fn excuse(&mut self) {
        self.is_natural = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A window of its own, at the end of which all of it comes.
    fn window(trickle: &mut Trickle, bytes: usize) -> bool {
        let end = trickle.since + Trickle::WINDOW;
        assert!(!trickle.ends_at(end - Duration::from_millis(1), bytes));
        trickle.ends_at(end, 0)
    }

    #[test]
    fn a_stream_that_falls_below_a_fifteenth_is_a_trickle() {
        let mut trickle = Trickle::new();
        assert!(!window(&mut trickle, 150_000));
        assert!(!window(&mut trickle, 10_000));
        assert!(window(&mut trickle, 9_999));
    }

    #[test]
    fn a_line_that_is_slow_all_the_time_is_none() {
        let mut trickle = Trickle::new();
        for _ in 0..3 {
            assert!(!window(&mut trickle, 100));
        }
    }

    #[test]
    fn an_excuse_holds_for_its_own_window() {
        let mut trickle = Trickle::new();
        assert!(!window(&mut trickle, 150_000));
        trickle.excuse();
        assert!(!window(&mut trickle, 100));
        assert!(window(&mut trickle, 100));
    }
}
