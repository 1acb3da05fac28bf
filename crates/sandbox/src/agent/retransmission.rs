//! When the agent sends again what nobody has acknowledged.

use std::time::Duration;

/// The retransmission timer of §6.4 of the protocol notes, in milliseconds.
pub(super) struct Timer {
    rtt: f64,
    variation: f64,
    /// When a message that nobody has acknowledged is sent again.
    pub(super) timeout: f64,
}

impl Timer {
    pub(super) const fn new() -> Self {
        Self {
            rtt: 100.0,
            variation: 0.0,
            timeout: 200.0,
        }
    }

    /// The agent's arithmetic: its sample is the time since the last sending, also of a message
    /// sent twice.
    pub(super) fn sample(&mut self, sample: Duration) {
        let sample = sample.as_secs_f64() * 1000.0;
        self.variation = 0.75 * self.variation + 0.25 * (self.rtt - sample).abs();
        self.rtt = 0.875 * self.rtt + 0.125 * sample;
        self.timeout = (self.rtt + (4.0 * self.variation).max(10.0)).min(1000.0);
    }
}
