//! What an agent reports of a script.

use std::{io, sync::Arc, time::Duration};

use crate::agent::run_command::{Ran, Verdict};

/// What an agent reported.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) verdict: Verdict,
    pub(super) code: i32,
    pub(super) stdout: Arc<str>,
    pub(super) stderr: Arc<str>,
    pub(super) took: Duration,
}

impl Answer {
    /// # Errors
    /// The outputs cannot be read.
    pub(super) fn of(mut ran: Ran) -> io::Result<Self> {
        Ok(Self {
            verdict: ran.verdict,
            code: ran.code,
            stdout: ran.stdout.report()?.into(),
            stderr: ran.stderr.report()?.into(),
            took: Duration::ZERO,
        })
    }
}
