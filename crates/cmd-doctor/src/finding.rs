//! What a check has found.

use std::time::Duration;

use ops_core::diagnosis::{Explanation, Facts, explain_all};
use ops_ui::{Error, ErrorKind, Hint, Text};
use serde::Serialize;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// Nobody could look, or there was nothing to look at.
    Skipped,
    /// In order.
    Ok,
    /// Works, and is worth a look.
    Warn,
    /// Does not work.
    Fail,
}

/// The checks, in the order in which they are told.
pub(crate) const ORDER: [&str; 14] = [
    "configuration",
    "endpoints",
    "clock",
    "region",
    "credentials",
    "permissions",
    "preferences",
    "found",
    "state",
    "agent",
    "role",
    "network",
    "console",
    "session",
];

/// One check and what it has found.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Finding {
    /// Its name, one of [`ORDER`].
    pub(crate) check: &'static str,
    /// The server as it was typed; `None` for what is about no server.
    pub(crate) target: Option<String>,
    pub(crate) outcome: Outcome,
    /// What is so; why it was skipped.
    pub(crate) text: Text,
    /// The stable word of the cause, of docs/doctor.md.
    pub(crate) cause: Option<&'static str>,
    /// What to do, the first first.
    pub(crate) remedies: Vec<Hint>,
    /// How long the check took, where that tells something.
    pub(crate) milliseconds: Option<u64>,
    /// Whether AWS denied the caller what the check asks.
    #[serde(skip)]
    pub(crate) is_denied: bool,
}

impl Finding {
    fn new(check: &'static str, outcome: Outcome, text: impl Into<Text>) -> Self {
        Self {
            check,
            target: None,
            outcome,
            text: text.into(),
            cause: None,
            remedies: Vec::new(),
            milliseconds: None,
            is_denied: false,
        }
    }

    pub(crate) fn ok(check: &'static str, text: impl Into<Text>) -> Self {
        Self::new(check, Outcome::Ok, text)
    }

    pub(crate) fn warn(check: &'static str, text: impl Into<Text>) -> Self {
        Self::new(check, Outcome::Warn, text)
    }

    pub(crate) fn skipped(check: &'static str, why: impl Into<Text>) -> Self {
        Self::new(check, Outcome::Skipped, why)
    }

    /// A rule that applies.
    pub(crate) fn fail(check: &'static str, told: Explanation) -> Self {
        Self {
            cause: Some(told.cause),
            remedies: vec![told.remedy],
            ..Self::new(check, Outcome::Fail, told.text)
        }
    }

    /// An error, in its own words. A denial is no failure of what was asked about: nobody knows.
    pub(crate) fn of_error(check: &'static str, error: &Error) -> Self {
        let outcome = match error.kind() {
            ErrorKind::Denied if error.cause().is_none() => Outcome::Skipped,
            _ => Outcome::Fail,
        };
        let mut text = error.what().to_owned();
        for why in error.why() {
            text.push_str("; ");
            text.push_str(why);
        }
        Self {
            cause: error.cause(),
            remedies: error.hints().to_vec(),
            is_denied: error.kind() == ErrorKind::Denied,
            ..Self::new(check, outcome, text)
        }
    }

    /// What was asked and not told.
    pub(crate) fn untold(check: &'static str, error: &Error) -> Self {
        let mut finding = Self::of_error(check, error);
        finding.outcome = Outcome::Skipped;
        finding.cause = None;
        finding
    }

    /// What the rules of `check` say of `facts`: the likeliest, else `fine`.
    pub(crate) fn by_rules(
        check: &'static str,
        facts: &Facts,
        fine: impl FnOnce() -> Self,
    ) -> Self {
        match explain_all(check, facts).into_iter().next() {
            Some(told) => Self::fail(check, told),
            None => fine(),
        }
    }

    #[must_use]
    pub(crate) fn about(mut self, target: &str) -> Self {
        self.target = Some(target.to_owned());
        self
    }

    #[must_use]
    pub(crate) fn with_remedy(mut self, remedy: impl Into<Hint>) -> Self {
        self.remedies.push(remedy.into());
        self
    }

    #[must_use]
    pub(crate) fn caused_by(mut self, cause: &'static str) -> Self {
        self.cause = Some(cause);
        self
    }

    #[must_use]
    pub(crate) fn took(mut self, time: Duration) -> Self {
        self.milliseconds = Some(milliseconds(time));
        self
    }

    /// Where it is told among the others.
    pub(crate) fn place(&self) -> usize {
        let place = ORDER.iter().position(|check| *check == self.check);
        place.unwrap_or(ORDER.len())
    }
}

pub(crate) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
