//! Lengths of time as people say them of sessions: with days.

use std::time::Duration;

use ops_ui::globals::parse_duration;

/// Reads `2d`, `1w`, and whatever [`parse_duration`] reads.
///
/// # Errors
/// Says which text is no length of time, and what one looks like.
pub(crate) fn parse_span(text: &str) -> Result<Duration, String> {
    let days = |number: &str, each: u64| {
        let days: u64 = number.parse().ok()?;
        Some(Duration::from_secs(days.checked_mul(each * 86_400)?))
    };
    let in_days = text
        .strip_suffix('d')
        .and_then(|number| days(number, 1))
        .or_else(|| text.strip_suffix('w').and_then(|number| days(number, 7)));
    match in_days {
        Some(span) => Ok(span),
        None => parse_duration(text).map_err(|_| {
            format!(
                "`{}` is no length of time: write 30m, 2h, 2d or 1w",
                text.escape_debug()
            )
        }),
    }
}

/// As [`parse_span`], for a time in which something has begun.
///
/// # Errors
/// As [`parse_span`]; no time at all, in which nothing can have begun.
pub(crate) fn parse_past_span(text: &str) -> Result<Duration, String> {
    match parse_span(text)? {
        Duration::ZERO => Err("no time at all is too little; write 30m, 2h, 2d or 1w".to_owned()),
        span => Ok(span),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_weeks_are_lengths_of_time() {
        for (text, seconds) in [
            ("2d", 172_800),
            ("1w", 604_800),
            ("2h", 7200),
            ("1h30m", 5400),
        ] {
            assert_eq!(parse_span(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "d", "2x", "-1d", "99999999999999999999d"] {
            assert!(parse_span(bad).is_err(), "{bad}");
        }
    }
}
