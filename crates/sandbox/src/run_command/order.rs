//! What SendCommand was asked for.

use std::{collections::BTreeMap, time::Duration};

use super::document::CommandDocument;

/// `MaxConcurrency` where nothing is said.
pub(crate) const DEFAULT_CONCURRENCY: usize = 50;
/// `TimeoutSeconds` where nothing is said.
pub(crate) const DEFAULT_TIMEOUT_SECONDS: u64 = 3600;

/// The key of a target that means the members of a resource group.
pub(crate) const RESOURCE_GROUP: &str = "resource-groups:Name";

/// A command as it was asked for, checked.
#[derive(Clone, Debug)]
pub(crate) struct SendOrder {
    pub(crate) document_name: String,
    pub(crate) document: CommandDocument,
    pub(crate) comment: String,
    pub(crate) parameters: BTreeMap<String, Vec<String>>,
    pub(crate) targets: Targets,
    /// `N` or `N%`.
    pub(crate) max_concurrency: String,
    /// `N` or `N%`.
    pub(crate) max_errors: String,
    /// Until it has to have reached a node.
    pub(crate) timeout_seconds: u64,
    pub(crate) execution_timeout: Duration,
    pub(crate) output: Output,
}

/// Which nodes are meant.
#[derive(Clone, Debug)]
pub(crate) enum Targets {
    /// `InstanceIds`.
    Ids(Vec<String>),
    /// `Targets`: keys with values, of which each has to hold.
    Criteria(Vec<(String, Vec<String>)>),
}

/// Where whole outputs go.
#[derive(Clone, Debug, Default)]
pub(crate) struct Output {
    pub(crate) bucket: Option<String>,
    pub(crate) key_prefix: String,
    pub(crate) log_group: Option<String>,
}

impl SendOrder {
    /// When no node gets it any more: "If a command reaches the command expiration limit (total
    /// timeout), it changes status to DeliveryTimedOut".
    pub(crate) fn total_timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds) + self.execution_timeout
    }

    /// How many nodes of so many may run it at a time.
    pub(crate) fn most_at_a_time(&self, nodes: usize) -> usize {
        share(&self.max_concurrency, nodes)
            .unwrap_or(DEFAULT_CONCURRENCY)
            .max(1)
    }

    /// How many errors are borne: the one after them stops what has not begun. "If you run a
    /// command on 50 nodes and set max-errors to 10%, the system stops when the sixth error is
    /// received."
    pub(crate) fn most_errors(&self, nodes: usize) -> usize {
        share(&self.max_errors, nodes).unwrap_or_default()
    }
}

fn share(text: &str, nodes: usize) -> Option<usize> {
    match text.strip_suffix('%') {
        Some(percent) => Some(nodes * percent.parse::<usize>().ok()? / 100),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn a_part_is_rounded_down() {
        assert_eq!(share("10%", 50), Some(5));
        assert_eq!(share("10%", 9), Some(0));
        assert_eq!(share("7", 50), Some(7));
        assert_eq!(share("", 50), None);
    }
}
