//! What the word in the place of the verb means. One order, for running a line and for completing
//! it.

use std::ffi::OsString;

use ops_core::Entry;
use ops_ui::{Env, Globals, Result};

use crate::{
    alias,
    plugin::{self, Plugin},
    policy::Policy,
    registry,
};

/// The rules that hold under some global options; `None` where a profile that is wrong may be
/// passed over.
pub(crate) type Rules<'a> = &'a dyn Fn(&Globals) -> Result<Option<Policy>>;

/// What the word is.
pub(crate) enum Meaning {
    /// A verb of the registry.
    Verb(&'static Entry),
    /// `help`, which the dispatcher does itself.
    Help,
    /// An alias of the profile, and the words it stands for.
    Alias(Vec<String>, Policy),
    /// An external command, and how many words are its name.
    External(Plugin, usize, Option<Policy>),
    /// Nothing is called that.
    Nothing(Option<Policy>),
}

/// What the word at `place` in `words` means: a verb, else `help`, else an alias of the profile,
/// else an external command, else an alias of a profile that the words behind it name.
///
/// `globals` are the options before the word. The profile among the words behind an alias goes into
/// them, since an alias stands for a line of `ops`; the words behind an external command are its
/// own.
///
/// # Errors
/// Those of `rules`.
pub(crate) fn understand(
    words: &[OsString],
    place: usize,
    globals: &mut Globals,
    env: &Env,
    rules: Rules<'_>,
) -> Result<Meaning> {
    let name = words[place].to_string_lossy();
    if let Some(entry) = registry::find_entry(&name) {
        return Ok(Meaning::Verb(entry));
    }
    if name == "help" {
        return Ok(Meaning::Help);
    }
    let alias = |policy: &Option<Policy>| {
        let words = policy.as_ref()?.alias(&name)?;
        Some(words.to_vec())
    };
    let policy = rules(globals)?;
    let aliased = alias(&policy);
    let policy = match (aliased, policy) {
        (Some(words), Some(policy)) => return Ok(Meaning::Alias(words, policy)),
        (_, policy) => policy,
    };
    if let Some((found, used)) = plugin::find_plugin(env, &words[place..]) {
        return Ok(Meaning::External(found, used, policy));
    }
    let Some(profile) = alias::profile_among(&words[place + 1..]) else {
        return Ok(Meaning::Nothing(policy));
    };
    globals.profile = Some(profile);
    let policy = rules(globals)?;
    let aliased = alias(&policy);
    Ok(match (aliased, policy) {
        (Some(words), Some(policy)) => Meaning::Alias(words, policy),
        (_, policy) => Meaning::Nothing(policy),
    })
}

/// The place of the first word that is neither a global option nor the value of one.
pub(crate) fn place_of_verb(words: &[OsString]) -> Option<usize> {
    words.iter().enumerate().find_map(|(index, word)| {
        (!word.to_string_lossy().starts_with('-')
            && alias::position_of_word(words, word) == Some(index))
        .then_some(index)
    })
}
