//! Log groups of CloudWatch Logs: events of named streams.

use std::{
    collections::BTreeMap,
    sync::{PoisonError, RwLock},
};

use jiff::Timestamp;

/// All log groups, by name.
#[derive(Debug, Default)]
pub(crate) struct LogGroups(RwLock<BTreeMap<String, BTreeMap<String, Vec<LogEvent>>>>);

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogEvent {
    pub(crate) at: Timestamp,
    pub(crate) message: String,
}

impl LogGroups {
    /// Adds events to a stream; group and stream are made where they are missing, as the agent does
    /// it.
    pub(crate) fn put(&self, group: &str, stream: &str, events: Vec<LogEvent>) {
        let mut groups = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let streams = groups.entry(group.to_owned()).or_default();
        streams.entry(stream.to_owned()).or_default().extend(events);
    }

    /// The events of a stream; `None` where there is no such group or stream.
    pub(crate) fn events(&self, group: &str, stream: &str) -> Option<Vec<LogEvent>> {
        let groups = self.0.read().unwrap_or_else(PoisonError::into_inner);
        groups.get(group)?.get(stream).cloned()
    }
}
