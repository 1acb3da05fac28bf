//! Values that match text: globs and regular expressions.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::written::written_as_text;

/// A pattern with `*` (any characters) and `?` (one character), as EC2's own filters have them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Glob(String);

impl Glob {
    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `text` matches as a whole.
    pub fn matches(&self, text: &str) -> bool {
        wildmatch::WildMatch::new(&self.0).matches(text)
    }

    /// As [`Self::matches`], whatever the case of letters.
    pub(crate) fn matches_any_case(&self, text: &str) -> bool {
        wildmatch::WildMatch::new_case_insensitive(&self.0).matches(text)
    }
}

impl FromStr for Glob {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("an empty pattern matches nothing; write `*` for anything".to_owned());
        }
        if let Some(c) = text
            .chars()
            .find(|c| "[]{}\\".contains(*c) || c.is_control())
        {
            return Err(format!(
                "bad glob `{}`: `{}` has no meaning in one, only `*` and `?` have",
                text.escape_debug(),
                c.escape_debug()
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

written_as_text!(Glob, "a pattern with `*` and `?`", {
    "type": "string", "minLength": 1, "pattern": "^[^\\[\\]{}\\\\]+$"
});

/// A regular expression, compiled.
#[derive(Clone, Debug)]
pub struct Pattern(regex::Regex);

impl Pattern {
    /// The expression as it was written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether it matches somewhere in `text`; anchor it with `^` and `$` for the whole.
    pub(crate) fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        regex::RegexBuilder::new(text)
            .size_limit(1 << 20)
            .build()
            .map(Self)
            .map_err(|error| {
                let last = error.to_string();
                let reason = last
                    .lines()
                    .last()
                    .unwrap_or_default()
                    .trim_start_matches("error: ")
                    .to_owned();
                format!(
                    "`{}` is no regular expression: {reason}",
                    text.escape_debug()
                )
            })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

written_as_text!(Pattern, "a regular expression", { "type": "string", "format": "regex" });
