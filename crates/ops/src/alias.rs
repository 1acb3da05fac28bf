//! Aliases of the team profile: other words for an `ops` command line, never for a program.

mod arguments;

use std::ffi::{OsStr, OsString};

use ops_ui::{Error, Result};

use crate::registry;

/// The profile that words after an alias ask for; they are not parsed before the alias is expanded.
pub(crate) fn profile_among(words: &[OsString]) -> Option<String> {
    let mut found = None;
    let mut rest = words.iter().take_while(|word| *word != "--");
    while let Some(word) = rest.next() {
        let text = word.to_str().unwrap_or_default();
        let value = if word == "-p" || word == "--profile" {
            rest.next().and_then(|next| next.to_str())
        } else {
            text.strip_prefix("--profile=").or_else(|| {
                text.strip_prefix("-p")
                    .filter(|value| !value.is_empty() && !text.starts_with("--"))
            })
        };
        found = value.map(str::to_owned).or(found);
    }
    found
}

/// The whole line with the alias at `verb` replaced by what it means, and the arguments behind it
/// in their places. `seen` are the aliases replaced before.
///
/// # Errors
/// An alias that leads back to itself, or lacks an argument.
pub(crate) fn expand_alias(
    words: &[OsString],
    verb: usize,
    meaning: &[String],
    seen: &mut Vec<String>,
) -> Result<Vec<OsString>> {
    let name = words[verb].to_string_lossy().into_owned();
    if seen.contains(&name) {
        return Err(
            Error::usage(format!("the alias `{name}` leads back to itself"))
                .caused_by(format!("{} → {name}", seen.join(" → "))),
        );
    }
    let (mut line, arguments) = words_around(words, verb, meaning);
    let placed = arguments::place_arguments(meaning, &arguments).map_err(|needed| {
        let arguments = if needed == 1 { "argument" } else { "arguments" };
        Error::usage(format!("the alias `{name}` takes {needed} {arguments}"))
            .caused_by(format!("it means: ops {}", meaning.join(" ")))
            .hint("see the aliases: ops -h")
    })?;
    line.extend(placed);
    seen.push(name);
    Ok(line)
}

/// As [`expand_alias`], for a line whose next word is being typed: the line ends where that word
/// goes. `None` where the word is a part of another one, or the alias leads back to itself.
pub(crate) fn expand_before_cursor(
    words: &[OsString],
    verb: usize,
    meaning: &[String],
    seen: &mut Vec<String>,
) -> Option<Vec<OsString>> {
    let name = words[verb].to_string_lossy().into_owned();
    if seen.contains(&name) {
        return None;
    }
    seen.push(name);
    let (mut line, typed) = words_around(words, verb, meaning);
    line.extend(arguments::place_before_cursor(meaning, &typed)?);
    Some(line)
}

/// What stands in front of the words of an alias, and its arguments. Where arguments have numbers,
/// global options are none of them and go to the front.
fn words_around(
    words: &[OsString],
    verb: usize,
    meaning: &[String],
) -> (Vec<OsString>, Vec<OsString>) {
    let mut front = words[..verb].to_vec();
    let behind = &words[verb + 1..];
    if !arguments::has_places(meaning) {
        return (front, behind.to_vec());
    }
    // `ops ssh` and others have short options of their own: `-p` is a port there.
    let has_short_options = meaning
        .first()
        .and_then(|word| registry::find_entry(word))
        .is_none_or(|entry| !entry.traits.own_short_options);
    let options = WithValue::of_globals();
    let mut arguments = Vec::new();
    let mut rest = behind.iter();
    while let Some(word) = rest.next() {
        if word == "--" {
            arguments.push(word.clone());
            break;
        }
        let is_long = word.as_encoded_bytes().starts_with(b"--");
        if !is_global(word) || !(is_long || has_short_options) {
            arguments.push(word.clone());
            continue;
        }
        front.push(word.clone());
        if options.take_next(word) {
            front.extend(rest.next().cloned());
        }
    }
    arguments.extend(rest.cloned());
    (front, arguments)
}

/// Whether `word` is a global option, alone or with its value.
fn is_global(word: &OsStr) -> bool {
    let Some(text) = word.to_str().filter(|text| text.len() > 1) else {
        return false;
    };
    let name = text.split('=').next().unwrap_or_default();
    crate::globals::global_args().iter().any(|arg| {
        let is_long = arg
            .get_long()
            .is_some_and(|long| name.strip_prefix("--") == Some(long));
        let is_short = !text.starts_with("--")
            && text.strip_prefix('-').and_then(|rest| rest.chars().next()) == arg.get_short()
            && arg.get_short().is_some();
        is_long || is_short
    })
}

/// The place of the verb `name` among `words`: the first word equal to it that is not the value of
/// a global option.
pub(crate) fn position_of_word(words: &[OsString], name: &OsStr) -> Option<usize> {
    let options = WithValue::of_globals();
    let mut index = 0;
    while let Some(word) = words.get(index) {
        if word == name && !word.as_encoded_bytes().starts_with(b"-") {
            return Some(index);
        }
        index += if options.take_next(word) { 2 } else { 1 };
    }
    None
}

/// Whether `word` is a global option whose value is the next word.
pub(crate) fn takes_next(word: &OsStr) -> bool {
    WithValue::of_globals().take_next(word)
}

/// The global options that take a value: long and short form of each.
struct WithValue(Vec<(Option<String>, Option<char>)>);

impl WithValue {
    fn of_globals() -> Self {
        let options = crate::globals::global_args()
            .iter()
            .filter(|arg| {
                matches!(
                    arg.get_action(),
                    clap::ArgAction::Set | clap::ArgAction::Append
                )
            })
            .map(|arg| {
                (
                    arg.get_long().map(|long| format!("--{long}")),
                    arg.get_short(),
                )
            })
            .collect();
        Self(options)
    }

    fn take_next(&self, word: &OsStr) -> bool {
        let text = word.to_str().unwrap_or_default();
        self.0.iter().any(|(long, short)| {
            long.as_deref() == Some(text)
                // `-vp NAME`: the last of a cluster takes the next word.
                || (text.starts_with('-') && !text.starts_with("--") && text.len() > 1 && short.is_some_and(|short| {
                    text[1..].find(short).is_some_and(|at| at + 2 == text.len())
                }))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn a_profile_is_found_in_every_spelling_before_two_dashes() {
        for line in ["-p x", "--profile x", "--profile=x", "-px", "-p y -p x"] {
            assert_eq!(profile_among(&words(line)).as_deref(), Some("x"), "{line}");
        }
        assert_eq!(profile_among(&words("web-1 -- -p x")), None);
    }

    #[test]
    fn the_verb_is_told_from_the_value_of_an_option() {
        assert_eq!(
            position_of_word(&words("-p ls ls"), OsStr::new("ls")),
            Some(2)
        );
        assert_eq!(
            position_of_word(&words("--profile=ls ls"), OsStr::new("ls")),
            Some(1)
        );
        assert_eq!(
            position_of_word(&words("-vp ls ls"), OsStr::new("ls")),
            Some(2)
        );
        assert_eq!(position_of_word(&words("--region"), OsStr::new("ls")), None);
    }
}
