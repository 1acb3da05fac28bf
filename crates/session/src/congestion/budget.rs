//! One bound for the windows of several sessions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Adaptive, Controller};

/// Bytes that the sessions of one owner may have unacknowledged together. Each may use what the
/// others do not, an equal share at least: one that works alone fills a long path, however many are
/// idle beside it, and many that work hold no more than the one did. While one takes up work beside
/// another, they may hold up to an equal share too much for one round trip.
#[derive(Clone, Debug)]
pub struct Budget {
    bytes: usize,
    common: Arc<SharedBudget>,
}

#[derive(Debug, Default)]
struct SharedBudget {
    sharers: AtomicUsize,
    /// Bytes that all of them have unacknowledged.
    in_flight: AtomicUsize,
}

impl Budget {
    /// One of so many bytes, with nobody to share it yet.
    pub fn new(bytes: usize) -> Self {
        Self {
            bytes,
            common: Arc::default(),
        }
    }

    /// The window of one more session, an [`Adaptive`] one within what is left to it. The others
    /// get its part back when it is dropped.
    pub fn share(&self) -> Box<dyn Controller> {
        self.common.sharers.fetch_add(1, Ordering::Relaxed);
        Box::new(Share {
            own: Adaptive::with_limit(self.bytes),
            budget: self.clone(),
            in_flight: 0,
        })
    }
}

#[derive(Debug)]
struct Share {
    own: Adaptive,
    budget: Budget,
    /// Its part of what is counted in [`SharedBudget::in_flight`].
    in_flight: usize,
}

impl Share {
    fn count(&mut self, in_flight: usize) {
        let common = &self.budget.common.in_flight;
        match in_flight.checked_sub(self.in_flight) {
            Some(more) => common.fetch_add(more, Ordering::Relaxed),
            None => common.fetch_sub(self.in_flight - in_flight, Ordering::Relaxed),
        };
        self.in_flight = in_flight;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.count(0);
        self.budget.common.sharers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Controller for Share {
    fn on_sent(&mut self, in_flight: usize) {
        self.count(in_flight);
    }

    fn on_ack(&mut self, now: Duration, rtt: Option<Duration>, bytes: usize, in_flight: usize) {
        self.own.on_ack(now, rtt, bytes, in_flight);
        self.count(in_flight.saturating_sub(bytes));
    }

    fn on_loss(&mut self, now: Duration) {
        self.own.on_loss(now);
    }

    fn on_reconnected(&mut self, now: Duration) {
        self.own.on_reconnected(now);
    }

    fn window(&self) -> usize {
        let SharedBudget { sharers, in_flight } = &*self.budget.common;
        let equal = self.budget.bytes / sharers.load(Ordering::Relaxed).max(1);
        let others = in_flight
            .load(Ordering::Relaxed)
            .saturating_sub(self.in_flight);
        let left = self.budget.bytes.saturating_sub(others);
        self.own.window().min(equal.max(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Acknowledges full windows in time until they grow no more.
    fn grow(window: &mut dyn Controller, from: Duration) -> Duration {
        let (rtt, mut now) = (Duration::from_millis(40), from);
        for _ in 0..200 {
            now += rtt;
            let full = window.window();
            window.on_ack(now, Some(rtt), full, full);
        }
        now
    }

    /// What `busy` sessions have on their way that always send all they may, once that changes no
    /// more. What they send is acknowledged a round trip later, all at once.
    fn settle(busy: &mut [&mut Box<dyn Controller>]) -> Vec<usize> {
        let rtt = Duration::from_millis(40);
        let mut in_flight = vec![0; busy.len()];
        for round in 1..400 {
            for (window, held) in busy.iter_mut().zip(&mut in_flight) {
                while *held > 0 {
                    let bytes = (*held).min(1 << 15);
                    window.on_ack(rtt * round, Some(rtt), bytes, *held);
                    *held -= bytes;
                }
                *held = window.window();
                window.on_sent(*held);
            }
        }
        in_flight
    }

    #[test]
    fn one_session_has_all_of_it_however_many_are_idle_beside_it() {
        let budget = Budget::new(1 << 20);
        let mut first = budget.share();
        let _idle = [budget.share(), budget.share(), budget.share()];
        grow(&mut *first, Duration::ZERO);
        assert_eq!(first.window(), 1 << 20);
    }

    #[test]
    fn sessions_that_all_send_come_to_equal_shares() {
        let budget = Budget::new(1 << 20);
        let mut first = budget.share();
        grow(&mut *first, Duration::ZERO);
        let mut others = [budget.share(), budget.share(), budget.share()];
        let mut busy = vec![&mut first];
        busy.extend(&mut others);
        assert_eq!(settle(&mut busy), [256 << 10; 4]);
    }

    #[test]
    fn what_a_session_held_goes_to_the_others_when_it_is_idle_or_gone() {
        let budget = Budget::new(1 << 20);
        let (mut first, mut second) = (budget.share(), budget.share());
        let now = grow(&mut *first, Duration::ZERO);
        grow(&mut *second, now);
        let full = 1 << 19;
        second.on_ack(now, None, 1024, full);
        assert_eq!(first.window(), (1 << 19) + 1024);
        second.on_ack(now, None, full, full);
        assert_eq!(first.window(), 1 << 20);
        second.on_ack(now, None, 1024, full);
        drop(second);
        assert_eq!(first.window(), 1 << 20);
    }

    #[test]
    fn a_share_shrinks_on_loss_as_any_window() {
        let budget = Budget::new(1 << 20);
        let mut share = budget.share();
        let now = grow(&mut *share, Duration::ZERO);
        share.on_loss(now);
        assert!(share.window() < 1 << 20, "{}", share.window());
        share.on_reconnected(now);
        assert_eq!(share.window(), 32 << 10);
    }
}
