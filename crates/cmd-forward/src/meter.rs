//! How fast a counter grows.

use std::time::Duration;

use tokio::time::Instant;

/// Samples closer together than this say nothing.
const LEAST: Duration = Duration::from_millis(50);

/// The rate between the last two samples.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter {
    last: Option<(Instant, u64)>,
    rate: u64,
}

impl Meter {
    /// Takes the counter's value.
    pub(crate) fn sample(&mut self, now: Instant, total: u64) {
        if let Some((at, before)) = self.last {
            let passed = now.saturating_duration_since(at);
            if passed < LEAST {
                return;
            }
            let grown = total.saturating_sub(before) as f64;
            self.rate = (grown / passed.as_secs_f64()) as u64;
        }
        self.last = Some((now, total));
    }

    /// Per second.
    pub(crate) fn rate(&self) -> u64 {
        self.rate
    }
}

/// `1.2 MB`, in powers of 1,000.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    match unit {
        0 => format!("{count} B"),
        _ if value < 9.95 => format!("{value:.1} {}", UNITS[unit]),
        _ => format!("{value:.0} {}", UNITS[unit]),
    }
}

/// `3d4h`, `5m10s`, `7s`.
pub(crate) fn age(time: Duration) -> String {
    let seconds = time.as_secs();
    let (d, h, m, s) = (
        seconds / 86_400,
        seconds / 3600 % 24,
        seconds / 60 % 60,
        seconds % 60,
    );
    match (d, h, m) {
        (0, 0, 0) => format!("{s}s"),
        (0, 0, _) => format!("{m}m{s}s"),
        (0, _, _) => format!("{h}h{m}m"),
        _ => format!("{d}d{h}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ages_are_short() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1000), "1.0 kB");
        assert_eq!(bytes(999_700), "1.0 MB");
        assert_eq!(bytes(12_345_678), "12 MB");
        assert_eq!(age(Duration::from_secs(7)), "7s");
        assert_eq!(age(Duration::from_secs(310)), "5m10s");
        assert_eq!(age(Duration::from_secs(90_000)), "1d1h");
    }

    #[test]
    fn a_rate_is_what_came_between_two_samples() {
        let mut meter = Meter::default();
        let start = Instant::now();
        meter.sample(start, 500);
        assert_eq!(meter.rate(), 0);
        meter.sample(start + Duration::from_millis(500), 1500);
        assert_eq!(meter.rate(), 2000);
    }
}
