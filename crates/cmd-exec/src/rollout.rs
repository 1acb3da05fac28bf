//! In which order and portions a command reaches many servers, and when no more are started.

use std::{fmt, ops::Range, str::FromStr};

/// A number of servers: `3`, or a part of them all: `25%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    Count(usize),
    Percent(u8),
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "`{}` is neither a number of servers, such as 3, nor a part of them, from 0% to 100%",
                text.escape_debug()
            )
        };
        match text.strip_suffix('%') {
            Some(percent) => match percent.parse() {
                Ok(percent @ 0..=100) => Ok(Self::Percent(percent)),
                _ => Err(bad()),
            },
            None => text.parse().map(Self::Count).map_err(|_| bad()),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Share {
    /// Of so many servers, rounded up, and at least one: no batch is empty.
    fn of_batch(self, servers: usize) -> usize {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => (servers * usize::from(percent)).div_ceil(100),
        }
        .max(1)
    }

    /// Of so many servers, rounded down: `--max-fail 10%` of five servers allows none to fail.
    fn of_failures(self, servers: usize) -> usize {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => servers * usize::from(percent) / 100,
        }
    }
}

/// What the command line asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RolloutOptions {
    /// Servers that go first, alone.
    pub(crate) canary: Option<usize>,
    /// Servers in each batch; `None`: all others are one.
    pub(crate) batch: Option<Share>,
    /// Failures that are borne.
    pub(crate) max_fail: Option<Share>,
}

/// Batches of servers, by their numbers in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RolloutPlan {
    /// Each begins where the one before ends.
    pub(crate) batches: Vec<Range<usize>>,
    /// The first batch is the canaries.
    pub(crate) has_canary: bool,
    /// More failures than these, and nothing more is started; `None`: whatever fails.
    pub(crate) max_failures: Option<usize>,
}

impl RolloutPlan {
    /// For so many servers.
    pub(crate) fn new(servers: usize, wishes: RolloutOptions) -> Self {
        let mut batches = Vec::new();
        let mut next = 0;
        // Canaries that are all servers are no more than the one batch.
        let canaries = wishes.canary.filter(|&count| count > 0 && count < servers);
        if let Some(count) = canaries {
            batches.push(0..count);
            next = count;
        }
        let size = wishes
            .batch
            .map_or(servers, |share| share.of_batch(servers))
            .max(1);
        while next < servers {
            let end = (next + size).min(servers);
            batches.push(next..end);
            next = end;
        }
        Self {
            batches,
            has_canary: canaries.is_some(),
            max_failures: wishes.max_fail.map(|share| share.of_failures(servers)),
        }
    }

    /// Why nothing more is started once so many have failed within the batch numbered `batch`, if
    /// so.
    pub(crate) fn stopped_by(&self, failures: usize, batch: usize) -> Option<String> {
        if failures == 0 {
            return None;
        }
        // A canary exists to stop the rest.
        if self.has_canary && batch == 0 {
            return Some("a canary failed".to_owned());
        }
        let max = self.max_failures?;
        (failures > max).then(|| match failures {
            1 => format!("1 server failed, and --max-fail allows {max}"),
            many => format!("{many} servers failed, and --max-fail allows {max}"),
        })
    }

    /// How the batch numbered `batch` is called.
    pub(crate) fn name_of(&self, batch: usize) -> String {
        if self.has_canary && batch == 0 {
            "canary".to_owned()
        } else {
            let number = batch + usize::from(!self.has_canary);
            let of = self.batches.len() - usize::from(self.has_canary);
            format!("batch {number} of {of}")
        }
    }

    /// What somebody is asked before the batch numbered `batch`.
    pub(crate) fn question_before(&self, batch: usize) -> String {
        let servers = match self.batches[batch].len() {
            1 => "1 server".to_owned(),
            many => format!("{many} servers"),
        };
        format!("Go on with {} ({servers})?", self.name_of(batch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(servers: usize, canary: Option<usize>, batch: &str, max_fail: &str) -> RolloutPlan {
        let share = |text: &str| (!text.is_empty()).then(|| text.parse().expect(text));
        RolloutPlan::new(
            servers,
            RolloutOptions {
                canary,
                batch: share(batch),
                max_fail: share(max_fail),
            },
        )
    }

    #[test]
    fn servers_go_in_batches_behind_the_canaries() {
        let one = |servers| std::iter::once(0..servers).collect::<Vec<_>>();
        assert_eq!(plan(5, None, "", "").batches, one(5));
        assert_eq!(plan(5, None, "2", "").batches, [0..2, 2..4, 4..5]);
        assert_eq!(plan(5, Some(1), "50%", "").batches, [0..1, 1..4, 4..5]);
        assert_eq!(plan(5, Some(1), "", "").batches, [0..1, 1..5]);
        assert_eq!(plan(3, Some(9), "", "").batches, one(3));
        assert!(!plan(3, Some(9), "", "").has_canary);
        // Rounded up, so that no batch is empty.
        assert_eq!(plan(3, None, "1%", "").batches, [0..1, 1..2, 2..3]);
        assert!(plan(0, None, "1%", "").batches.is_empty());
    }

    #[test]
    fn more_failures_than_are_borne_stop_the_rest() {
        let tolerant = plan(10, None, "2", "");
        assert_eq!(tolerant.stopped_by(9, 3), None);
        let strict = plan(10, None, "2", "0");
        assert_eq!(strict.stopped_by(0, 0), None);
        assert!(strict.stopped_by(1, 0).is_some());
        let tenth = plan(25, None, "", "10%");
        assert_eq!(tenth.stopped_by(2, 0), None);
        assert_eq!(
            tenth.stopped_by(3, 0).as_deref(),
            Some("3 servers failed, and --max-fail allows 2")
        );
    }

    #[test]
    fn a_canary_that_fails_stops_the_rest_whatever_is_borne() {
        let plan = plan(10, Some(2), "4", "5");
        assert_eq!(plan.stopped_by(1, 0).as_deref(), Some("a canary failed"));
        assert_eq!(plan.stopped_by(1, 1), None);
        assert_eq!(plan.name_of(0), "canary");
        assert_eq!(plan.name_of(1), "batch 1 of 2");
    }

    #[test]
    fn a_share_is_a_number_or_a_part() {
        assert_eq!("7".parse(), Ok(Share::Count(7)));
        assert_eq!("25%".parse(), Ok(Share::Percent(25)));
        for bad in ["", "%", "-1", "101%", "x", "1.5"] {
            assert!(bad.parse::<Share>().is_err(), "{bad}");
        }
    }
}
