//! The calls that were made, for tests and the curious.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;
use serde::Serialize;

/// How many calls are remembered.
const BOUND: usize = 10_000;

#[derive(Debug, Default)]
pub(crate) struct CallLog(Mutex<VecDeque<Entry>>);

/// One call. Nothing secret is in it: no key, token or signature, and of parameters only names and
/// targets.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Entry {
    pub(crate) time: Timestamp,
    pub(crate) service: &'static str,
    pub(crate) action: String,
    pub(crate) region: String,
    /// ARN; empty if the signature was not good.
    pub(crate) caller: String,
    pub(crate) status: u16,
    /// The error's code.
    pub(crate) error: Option<String>,
    pub(crate) request_id: String,
    pub(crate) user_agent: String,
}

impl CallLog {
    pub(crate) fn add(&self, entry: Entry) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() == BOUND {
            entries.pop_front();
        }
        entries.push_back(entry);
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect()
    }

    pub(crate) fn clear(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}
