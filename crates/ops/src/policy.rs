//! What the team profile says about verbs: which are used, which are denied, which words are aliases.

use ops_core::{Context, Error, ErrorKind, Profile, Result};
use serde_json::{Value, json};

use crate::registry;

/// The profile's rules for verbs.
pub(crate) struct Policy {
    profile: Profile,
    label: String,
}

impl Policy {
    /// Reads the profile of `cx`.
    ///
    /// # Errors
    /// The profile is invalid or there is none of that name.
    pub(crate) fn load(cx: &Context) -> Result<Self> {
        let settings = cx.settings()?;
        Ok(Self {
            profile: settings.profile().clone(),
            label: settings.profile_label().to_owned(),
        })
    }

    /// What the alias `name` means.
    pub(crate) fn alias(&self, name: &str) -> Option<&[String]> {
        self.profile
            .aliases
            .get(name)
            .map(|words| words.0.as_slice())
    }

    /// The aliases and what each means.
    pub(crate) fn aliases(&self) -> impl Iterator<Item = (&str, String)> {
        let words = |words: &[String]| shell_words::join(words.iter().map(String::as_str));
        self.profile
            .aliases
            .iter()
            .map(move |(name, meaning)| (name.as_str(), words(&meaning.0)))
    }

    /// Whether the profile lets `verb` be used; a verb is meant by each of its spellings.
    ///
    /// # Errors
    /// `commands` or `guard.deny` of the profile say no: exit 9.
    pub(crate) fn check(&self, verb: &str) -> Result<()> {
        let refused = |why: String| {
            Error::new(
                ErrorKind::Refused,
                format!("the profile `{}` does not allow `ops {verb}`", self.label),
            )
            .caused_by(why)
            .hint("see what it says: ops config show")
        };
        let spellings = match registry::find(verb) {
            Some(entry) => std::iter::once(entry.name)
                .chain(entry.aliases.iter().copied())
                .collect(),
            None => vec![verb],
        };
        for spelling in &spellings {
            self.profile
                .guard
                .check_verb(spelling)
                .map_err(|refusal| refused(refusal.why))?;
        }
        let commands = &self.profile.commands;
        let disabled = |spelling: &&str| commands.disable.iter().any(|name| name == *spelling);
        let allowed = spellings.iter().any(|spelling| commands.allows(spelling))
            && !spellings.iter().any(disabled);
        if !allowed && !always(verb) {
            let key = if spellings.iter().any(disabled) {
                "commands.disable"
            } else {
                "commands.enable"
            };
            return Err(refused(format!("`{key}` of the profile leaves it out")));
        }
        Ok(())
    }
}

/// What works with a profile that is wrong, or that leaves it out: it is needed to see why.
pub(crate) fn always(verb: &str) -> bool {
    ["config", "completion", "version", "help"].contains(&verb)
}

/// The settings as a plugin sees them: what `ops config show -o json` shows, and the whole profile.
pub(crate) fn described(cx: &Context) -> Result<Value> {
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
