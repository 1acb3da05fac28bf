//! The part of the command line that completion needs: one verb with its arguments, or all verbs
//! with their first lines.

use std::{ffi::OsString, sync::Arc};

use clap::{Arg, ArgMatches, Command, ValueHint};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use ops_core::{Entry, Values};
use ops_ui::Globals;

use super::values::Source;
use crate::{globals, registry};

/// What the global options complete to.
const GLOBALS: [(&str, Values); 3] = [
    ("profile", Values::Profile),
    ("aws_profile", Values::AwsProfile),
    ("region", Values::Region),
];

/// Root with the global options, and `verb` with its own; every verb by name alone if none is
/// given. No help pages are made.
fn bare_verb(verb: Option<&Entry>) -> Command {
    let root = Command::new("ops")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_subcommand(true)
        .args(globals::global_args());
    match verb {
        Some(entry) => {
            let command = (entry.clap)().disable_help_subcommand(true);
            root.subcommand(globals::add_globals(
                command,
                entry.traits.own_short_options,
            ))
        }
        None => root
            .subcommands(registry::entries().map(|entry| {
                let about = (entry.clap)().get_about().cloned().unwrap_or_default();
                Command::new(entry.name)
                    .about(about)
                    .hide(entry.traits.hidden)
            }))
            .subcommand(Command::new("help").about("What a verb does, and all it takes")),
    }
}

/// The same with what completes each argument.
pub(super) fn with_values(verb: Option<&'static Entry>, source: &Arc<Source>) -> Command {
    let completes = verb.map_or(&[][..], |entry| entry.completes);
    attach_completers(bare_verb(verb), completes, source)
}

fn attach_completers(
    command: Command,
    completes: &'static [(&'static str, Values)],
    source: &Arc<Source>,
) -> Command {
    let command = command.mut_args(|arg| {
        let kind = completes
            .iter()
            .chain(&GLOBALS)
            .find(|(id, _)| arg.get_id() == *id)
            .map(|(_, kind)| *kind);
        match kind {
            Some(kind) => arg.add(ArgValueCompleter::new(Completer {
                kind,
                source: Arc::clone(source),
            })),
            None => with_value_hint(arg),
        }
    });
    let below: Vec<String> = command
        .get_subcommands()
        .map(|sub| sub.get_name().to_owned())
        .collect();
    below.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, |sub| attach_completers(sub, completes, source))
    })
}

/// Arguments that are paths by their type complete to paths here.
fn with_value_hint(arg: Arg) -> Arg {
    let is_path =
        arg.get_value_parser().type_id() == clap::builder::ValueParser::path_buf().type_id();
    if is_path && arg.get_value_hint() == ValueHint::Unknown {
        arg.value_hint(ValueHint::AnyPath)
    } else {
        arg
    }
}

struct Completer {
    kind: Values,
    source: Arc<Source>,
}

impl clap_complete::engine::ValueCompleter for Completer {
    fn complete(&self, current: &std::ffi::OsStr) -> Vec<CompletionCandidate> {
        self.complete_at(0, current)
    }

    fn complete_at(&self, index: usize, current: &std::ffi::OsStr) -> Vec<CompletionCandidate> {
        let Some(current) = current.to_str() else {
            return Vec::new();
        };
        self.source.put(self.kind, index, current)
    }
}

/// The global options among `words`, a line that need not be complete. Where they cannot be read,
/// there are none.
pub(super) fn globals_in_words(verb: Option<&Entry>, words: &[OsString]) -> Globals {
    let line = std::iter::once(OsString::from("ops")).chain(words.iter().cloned());
    let root = if verb.is_some() {
        bare_verb(verb)
    } else {
        bare_verb(None).subcommand_required(false)
    };
    let Ok(matches) = root.ignore_errors(true).try_get_matches_from(line) else {
        return Globals::default();
    };
    let mut levels: Vec<&ArgMatches> = vec![&matches];
    while let Some((_, deeper)) = levels.last().and_then(|last| last.subcommand()) {
        levels.push(deeper);
    }
    globals::merge_globals(&levels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(command: &Command, id: &str) -> bool {
        command.get_arguments().any(|arg| arg.get_id() == id)
            || command.get_subcommands().any(|sub| has(sub, id))
    }

    #[test]
    fn what_a_verb_says_it_completes_it_has() {
        for entry in registry::entries() {
            let command = (entry.clap)();
            for (id, _) in entry.completes {
                assert!(has(&command, id), "{} has no `{id}`", entry.name);
            }
        }
        for (id, _) in GLOBALS {
            assert!(has(&bare_verb(None), id), "{id}");
        }
    }
}
