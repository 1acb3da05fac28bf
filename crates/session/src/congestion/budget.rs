//! One bound for the windows of several sessions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Adaptive, Controller};

/// Bytes that the sessions of one owner may have unacknowledged together. Each may use an equal share: one session alone fills a long
/// path, many together hold no more than the one did.
#[derive(Clone, Debug)]
pub struct Budget {
    bytes: usize,
    sharers: Arc<AtomicUsize>,
}

impl Budget {
    /// One of so many bytes, with nobody to share it yet.
    pub fn new(bytes: usize) -> Self {
        Self {
            bytes,
            sharers: Arc::default(),
        }
    }

    /// The window of one more session, an [`Adaptive`] one within its share. The others get the share back when it is dropped.
    pub fn share(&self) -> Box<dyn Controller> {
        self.sharers.fetch_add(1, Ordering::Relaxed);
        Box::new(Share {
            own: Adaptive::with_limit(self.bytes),
            budget: self.clone(),
        })
    }
}

#[derive(Debug)]
struct Share {
    own: Adaptive,
    budget: Budget,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.sharers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Controller for Share {
    fn on_ack(&mut self, now: Duration, rtt: Option<Duration>, bytes: usize, in_flight: usize) {
        self.own.on_ack(now, rtt, bytes, in_flight);
    }

    fn on_loss(&mut self, now: Duration) {
        self.own.on_loss(now);
    }

    fn on_reconnected(&mut self, now: Duration) {
        self.own.on_reconnected(now);
    }

    fn window(&self) -> usize {
        let sharers = self.budget.sharers.load(Ordering::Relaxed).max(1);
        self.own.window().min(self.budget.bytes / sharers)
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

    #[test]
    fn one_session_has_all_of_it_and_several_share() {
        let budget = Budget::new(1 << 20);
        let mut first = budget.share();
        grow(&mut *first, Duration::ZERO);
        assert_eq!(first.window(), 1 << 20);

        let mut others = [budget.share(), budget.share(), budget.share()];
        assert_eq!(first.window(), 256 << 10);
        for other in &mut others {
            grow(&mut **other, Duration::ZERO);
        }
        let held: usize = others.iter().map(|other| other.window()).sum();
        assert_eq!(held + first.window(), 1 << 20);

        drop(others);
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
