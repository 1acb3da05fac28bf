//! Round-trip estimate and retransmission timeout, with the constants of the official programs.

use std::time::Duration;

/// The estimator both official programs use; pinned by the vector `rto-series`.
#[derive(Clone, Debug)]
pub struct Rtt {
    rtt: f64,
    var: f64,
    rto: f64,
    cap: f64,
}

impl Rtt {
    /// Starts at an rtt of 100 ms and a timeout of 200 ms. `cap` is the longest timeout: 1 s in the
    /// official programs.
    pub fn new(cap: Duration) -> Self {
        Self {
            rtt: 0.1,
            var: 0.0,
            rto: 0.2,
            cap: cap.as_secs_f64(),
        }
    }

    /// Takes one sample.
    pub fn sample(&mut self, sample: Duration) {
        let sample = sample.as_secs_f64();
        // The variation is taken against the old estimate.
        self.var = 0.75 * self.var + 0.25 * (self.rtt - sample).abs();
        self.rtt = 0.875 * self.rtt + 0.125 * sample;
        self.rto = (self.rtt + (4.0 * self.var).max(0.01)).min(self.cap);
    }

    /// The smoothed round-trip time.
    pub fn rtt(&self) -> Duration {
        Duration::from_secs_f64(self.rtt)
    }

    /// How long to wait for an acknowledgement before sending again.
    pub fn rto(&self) -> Duration {
        Duration::from_secs_f64(self.rto)
    }

    /// The smoothed variation.
    pub fn variation(&self) -> Duration {
        Duration::from_secs_f64(self.var)
    }
}
