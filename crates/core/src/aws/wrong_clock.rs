//! A clock of this machine that is wrong: whatever call meets it, it is one failure, with one exit
//! code and one thing to do.
//!
//! What is signed is good for five minutes, so that no credentials help as long as the clock is
//! off. Hence the exit code of credentials that AWS does not take.

use std::time::{Duration, SystemTime};

use aws_smithy_runtime_api::http::Headers;
use aws_smithy_types::date_time::{DateTime, Format};
use ops_ui::{Error, ErrorKind};

/// How far the clocks may be apart. Source: "Troubleshoot Signature Version 4 signing".
const BORNE: Duration = Duration::from_secs(300);

/// What to do about it.
pub(crate) const SET_CLOCK: &str = "set the clock of this machine: sudo timedatectl set-ntp true";

/// The error for `what`, which was refused for the time in its signature; `said` is the refusal.
pub(crate) fn wrong_clock_error(what: impl Into<String>, said: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::NotLoggedIn, what.into())
        .caused_by(said)
        .caused_by("the clock of this machine is more than five minutes off, and AWS takes nothing that is signed so")
        .hint(SET_CLOCK)
        .named("clock-skew")
}

/// Whether `message`, of a signature that was refused, is about the time in it. The JSON services
/// and STS speak of a wrong clock as of a wrong signature, in words alone: "Signature expired: … is
/// now earlier than …", "Signature not yet current: …".
pub(super) fn is_said_by(message: &str) -> bool {
    ["Signature expired", "Signature not yet current"]
        .iter()
        .any(|words| message.starts_with(words))
}

/// Whether an answer with `headers` was written too long before or after `now`. EC2 may say of a
/// wrong clock that it could not validate the credentials (`AuthFailure`), and no more; the `Date`
/// of its answer tells all the same.
pub(super) fn is_seen_in(headers: &Headers, now: SystemTime) -> bool {
    let date = headers
        .get("date")
        .and_then(|date| DateTime::from_str(date, Format::HttpDate).ok())
        .and_then(|date| SystemTime::try_from(date).ok());
    date.is_some_and(|date| {
        // Whichever of the two is later.
        let apart = now
            .duration_since(date)
            .or_else(|_| date.duration_since(now));
        apart.is_ok_and(|apart| apart >= BORNE)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_that_is_minutes_away_is_seen_and_one_that_is_near_is_not() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        let seen = |date: &str| {
            let mut headers = Headers::new();
            headers.insert("date", date.to_owned());
            is_seen_in(&headers, now)
        };
        assert!(seen("Thu, 01 Jan 2026 00:10:00 GMT"));
        assert!(seen("Wed, 31 Dec 2025 23:50:00 GMT"));
        assert!(!seen("Thu, 01 Jan 2026 00:01:00 GMT"));
        assert!(!seen("yesterday"));
        assert!(!is_seen_in(&Headers::new(), now));
    }
}
