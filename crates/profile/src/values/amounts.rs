//! Lengths of time and sizes in bytes.

use std::{fmt, str::FromStr, time::Duration};

use ops_ui::globals::{parse_duration, parse_time_limit};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::written::written_as_text;

/// A length of time, such as `30s`, `15m` or `1h`; a bare number is seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub Duration);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_duration(text).map(Self)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        match millis {
            0 => f.write_str("0s"),
            _ if millis.is_multiple_of(3_600_000) => write!(f, "{}h", millis / 3_600_000),
            _ if millis.is_multiple_of(60_000) => write!(f, "{}m", millis / 60_000),
            _ if millis.is_multiple_of(1000) => write!(f, "{}s", millis / 1000),
            _ => write!(f, "{millis}ms"),
        }
    }
}

written_as_text!(Time, "a time such as 30s, 15m or 1h", {
    "type": ["string", "integer"], "pattern": "^([0-9]+(ms|s|m|h|d))+$|^[0-9]+$", "minimum": 0
}, or_number);

/// As [`Time`], for a time within which something has to be done: never none at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeLimit(pub Duration);

impl FromStr for TimeLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_time_limit(text).map(Self)
    }
}

impl fmt::Display for TimeLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Time(self.0).fmt(f)
    }
}

written_as_text!(TimeLimit, "a time such as 30s, 15m or 1h", {
    "type": ["string", "integer"], "pattern": "^([0-9]+(ms|s|m|h|d))+$|^[0-9]+$", "minimum": 1
}, or_number);

/// A number of bytes: `500MB` (powers of ten), `64MiB` (powers of two), or a bare number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1000),
    ("B", 1),
];

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let end = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let unit = match text[end..].trim() {
            "" => Some(1),
            unit => SIZE_UNITS
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(unit))
                .map(|(_, bytes)| *bytes),
        };
        text[..end]
            .parse::<u64>()
            .ok()
            .zip(unit)
            .and_then(|(number, unit)| number.checked_mul(unit))
            .map(Self)
            .ok_or_else(|| format!("`{}` is no size; write 500MB or 64MiB", text.escape_debug()))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = SIZE_UNITS
            .iter()
            .find(|(_, bytes)| self.0 > 0 && self.0.is_multiple_of(*bytes));
        match unit {
            Some((name, bytes)) if *bytes > 1 => write!(f, "{}{name}", self.0 / bytes),
            _ => write!(f, "{}", self.0),
        }
    }
}

written_as_text!(Size, "a size such as 500MB or 64MiB", {
    "type": ["string", "integer"], "pattern": "^[0-9]+ *([KMGTkmgt]?[Ii]?[Bb])?$", "minimum": 0
}, or_number);
