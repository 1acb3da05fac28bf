//! The safety keys: `guard`, `session` and `commands`, and the checks they stand for.
//!
//! The checks here say yes or no; asking the user is for `ops_core`.

use ops_ui::style::MarkColor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    lists::OneOrMany,
    values::{Escape, Pattern, is_default},
    verbs::Verbs,
};

/// What stands between a slip and a production server
///
/// Where several profiles say something, the stricter value holds, whatever the order.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Guard {
    /// Whether this is something to protect: at least `confirm: yes`, and a mark in front of what
    /// concerns it
    #[serde(skip_serializing_if = "is_default")]
    pub protect: Option<bool>,
    /// What has to be answered before a session or a change
    #[serde(skip_serializing_if = "is_default")]
    pub confirm: Option<Confirm>,
    /// How many servers one command may touch
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(range(min = 1))]
    pub max_targets: Option<u32>,
    /// Verbs that are forbidden here
    #[serde(skip_serializing_if = "is_default")]
    pub deny: OneOrMany<String>,
    /// Colour of the mark
    #[serde(skip_serializing_if = "is_default")]
    pub color: Option<MarkColor>,
}

/// What has to be answered before a session or a change, from lenient to strict
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Confirm {
    /// Nothing
    #[default]
    None,
    /// Yes
    Yes,
    /// The name of the server, or of the profile for several servers
    TypeName,
}

/// Why a guard refuses, in words that fit after "why:".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The key that refuses, such as `guard.deny`.
    pub key: &'static str,
    /// What it says.
    pub why: String,
}

impl Guard {
    /// What has to be answered, `protect` taken into account.
    pub fn confirmation(&self) -> Confirm {
        let confirm = self.confirm.unwrap_or_default();
        if self.protect == Some(true) {
            confirm.max(Confirm::Yes)
        } else {
            confirm
        }
    }

    /// Whether `verb`, one of `verbs` or an external command, is allowed.
    ///
    /// # Errors
    /// `guard.deny` names it.
    pub fn check_verb(&self, verb: &str, verbs: Verbs) -> Result<(), Refused> {
        if self.deny.iter().any(|denied| verbs.means(denied, verb)) {
            return Err(Refused {
                key: "guard.deny",
                why: format!("`guard.deny` of the profile names `{verb}`"),
            });
        }
        Ok(())
    }

    /// Whether one command may touch `count` servers.
    ///
    /// # Errors
    /// `guard.max_targets` is lower.
    pub fn check_targets(&self, count: usize) -> Result<(), Refused> {
        match self.max_targets {
            Some(most) if count > usize::try_from(most).unwrap_or(usize::MAX) => Err(Refused {
                key: "guard.max_targets",
                why: format!(
                    "{count} servers, and `guard.max_targets` of the profile allows {most}"
                ),
            }),
            _ => Ok(()),
        }
    }
}

/// Rules for every session
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SessionRules {
    /// Whether a session needs a reason (`--reason`), which AWS keeps in its history
    #[serde(skip_serializing_if = "is_default")]
    pub reason: Option<ReasonRule>,
    /// What a reason has to match, when one is given
    #[serde(skip_serializing_if = "is_default")]
    pub reason_pattern: Option<Pattern>,
    /// What leads the escapes of a shell, or `none`
    #[serde(skip_serializing_if = "is_default")]
    pub escape: Option<Escape>,
}

/// Whether a session needs a reason
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReasonRule {
    /// It may have one
    Optional,
    /// It must have one
    Required,
}

/// Longest reason that StartSession takes, in characters (API reference of StartSession, `Reason`).
pub const MAX_REASON_CHARS: usize = 256;

impl SessionRules {
    /// Whether `reason` will do.
    ///
    /// # Errors
    /// It is missing and required, does not match the pattern, or is longer than AWS takes.
    pub fn check_reason(&self, reason: Option<&str>) -> Result<(), Refused> {
        let reason = reason.map(str::trim).filter(|reason| !reason.is_empty());
        let Some(reason) = reason else {
            if self.reason == Some(ReasonRule::Required) {
                let like = self
                    .reason_pattern
                    .as_ref()
                    .map(|pattern| format!(" that matches `{}`", pattern.as_str()))
                    .unwrap_or_default();
                return Err(Refused {
                    key: "session.reason",
                    why: format!("`session.reason` of the profile demands a reason{like}"),
                });
            }
            return Ok(());
        };
        if reason.chars().count() > MAX_REASON_CHARS {
            return Err(Refused {
                key: "session.reason",
                why: format!("a reason has at most {MAX_REASON_CHARS} characters"),
            });
        }
        match &self.reason_pattern {
            Some(pattern) if !pattern.is_match(reason) => Err(Refused {
                key: "session.reason_pattern",
                why: format!("`{reason}` does not match `{}`", pattern.as_str()),
            }),
            _ => Ok(()),
        }
    }

    /// What leads the escapes of a shell; `~` where nothing is said.
    pub fn escape(&self) -> Escape {
        self.escape.unwrap_or_default()
    }
}

/// Which commands this team uses
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Commands {
    /// The only ones, if given
    #[serde(skip_serializing_if = "is_default")]
    pub enable: Option<OneOrMany<String>>,
    /// These not
    #[serde(skip_serializing_if = "is_default")]
    pub disable: OneOrMany<String>,
}

impl Commands {
    /// Whether `verb`, one of `verbs` or an external command, may be used.
    ///
    /// # Errors
    /// `commands.disable` names it, or `commands.enable` does not.
    pub fn check_verb(&self, verb: &str, verbs: Verbs) -> Result<(), Refused> {
        let named = |list: &OneOrMany<String>| list.iter().any(|name| verbs.means(name, verb));
        let key = if verbs.is_always_allowed(verb) {
            return Ok(());
        } else if named(&self.disable) {
            "commands.disable"
        } else if self.enable.as_ref().is_some_and(|list| !named(list)) {
            "commands.enable"
        } else {
            return Ok(());
        };
        Err(Refused {
            key,
            why: format!("`{key}` of the profile leaves it out"),
        })
    }
}
