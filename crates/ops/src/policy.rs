//! What the team profile says about verbs: which are used, which are denied, which words are
//! aliases.

use ops_core::Context;
use ops_profile::Settings;
use ops_ui::{Error, ErrorKind, Result};
use serde_json::{Value, json};

/// The profile's rules for verbs.
pub(crate) struct Policy(Settings);

impl Policy {
    /// Reads the profile of `cx`.
    ///
    /// # Errors
    /// The profile is invalid or there is none of that name.
    pub(crate) fn load(cx: &Context) -> Result<Self> {
        cx.settings().cloned().map(Self)
    }

    /// What the alias `name` means.
    pub(crate) fn alias(&self, name: &str) -> Option<&[String]> {
        self.0
            .profile()
            .aliases
            .get(name)
            .map(|words| words.0.as_slice())
    }

    /// The aliases and what each means.
    pub(crate) fn aliases(&self) -> impl Iterator<Item = (&str, String)> {
        let aliases = self.0.profile().aliases.iter();
        aliases.map(|(name, words)| (name.as_str(), words.to_string()))
    }

    /// Whether the profile lets `verb` be used; a verb is meant by each of its spellings.
    ///
    /// # Errors
    /// `commands` or `guard.deny` of the profile say no: exit 9.
    pub(crate) fn check(&self, verb: &str) -> Result<()> {
        self.0.check_verb(verb).map_err(|refused| {
            Error::new(
                ErrorKind::Refused,
                format!(
                    "the profile `{}` does not allow `ops {verb}`",
                    self.0.profile_label()
                ),
            )
            .caused_by(refused.why)
            .hint("see what it says: ops config show")
        })
    }
}

/// The settings as a plugin sees them: what `ops config show -o json` shows, and the whole profile.
pub(crate) fn describe_policy(cx: &Context) -> Result<Value> {
    let settings = cx.settings()?;
    Ok(json!({
        "apiVersion": "ops.context/v1",
        "profile": settings.profile.value,
        "awsProfile": settings.aws_profile.value,
        "region": settings.region.value,
        "regions": settings.regions.value,
        "resolved": settings.profile(),
    }))
}
