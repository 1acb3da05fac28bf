//! The global options, accepted before the verb and after it.
//!
//! Not by clap's `global = true`: the short forms of `ssh` and `cp` would collide. Each level of
//! the command line gets its own copies, without those the verb has itself, and what was typed last
//! in the line wins.

use std::{any::Any, collections::BTreeMap};

use clap::{Arg, ArgMatches, Args as _, Command, builder::Resettable, parser::ValueSource};
use ops_ui::{Globals, Source};

/// The global options as clap arguments.
pub(crate) fn global_args() -> Vec<Arg> {
    Globals::augment_args(Command::new("globals"))
        .get_arguments()
        .cloned()
        .collect()
}

/// `command` and everything below it with the global options that it does not have itself; only
/// their long forms with `own_short_options`.
///
/// Their variables are read at the root alone.
pub(crate) fn add_globals(command: Command, own_short_options: bool) -> Command {
    let mut command = command;
    for arg in global_args() {
        let long = arg.get_long();
        let taken = command
            .get_arguments()
            .any(|own| own.get_id() == arg.get_id() || (long.is_some() && own.get_long() == long));
        if taken {
            continue;
        }
        let short_taken = own_short_options
            || command.get_arguments().any(|own| {
                arg.get_short().is_some_and(|short| {
                    own.get_short() == Some(short)
                        || own
                            .get_short_and_visible_aliases()
                            .is_some_and(|all| all.contains(&short))
                })
            });
        let arg = if short_taken {
            arg.short(Resettable::Reset)
        } else {
            arg
        };
        command = command.arg(arg.env(Resettable::Reset).hide_short_help(true));
    }
    let below: Vec<String> = command
        .get_subcommands()
        .map(|sub| sub.get_name().to_owned())
        .collect();
    for name in below {
        command = command.mut_subcommand(name, |sub| add_globals(sub, own_short_options));
    }
    command
}

/// The options of one invocation: `levels` are the matches of the root, the verb and what is below
/// it, in this order.
pub(crate) fn merge_globals(levels: &[&ArgMatches]) -> Globals {
    let merger = Merger {
        levels,
        sources: BTreeMap::new(),
    };
    merger.globals()
}

struct Merger<'a> {
    levels: &'a [&'a ArgMatches],
    sources: BTreeMap<&'static str, Source>,
}

impl Merger<'_> {
    fn globals(mut self) -> Globals {
        Globals {
            profile: self.one("profile"),
            profiles_dir: self.one("profiles_dir"),
            aws_profile: self.one("aws_profile"),
            region: self.many("region"),
            sandbox: self.one("sandbox").unwrap_or_default(),
            cached: self.one("cached").unwrap_or_default(),
            output: self.one("output"),
            no_headers: self.one("no_headers").unwrap_or_default(),
            no_pager: self.one("no_pager").unwrap_or_default(),
            color: self.one("color"),
            verbose: self.sum("verbose"),
            quiet: self.one("quiet").unwrap_or_default(),
            timeout: self.one("timeout"),
            yes: self.one("yes").unwrap_or_default(),
            no_input: self.one("no_input").unwrap_or_default(),
            error_format: self.one("error_format"),
            sources: self.sources,
        }
    }

    /// The level whose value counts: the last one typed, else the environment.
    fn level<T: Any + Clone + Send + Sync>(&mut self, id: &'static str) -> Option<&ArgMatches> {
        let has = |source: ValueSource| {
            self.levels.iter().rev().copied().find(|matches| {
                // Another type under this name is the verb's own option; without it the name is
                // unknown at that level.
                matches!(matches.try_get_raw(id), Ok(Some(_)))
                    && matches.try_get_many::<T>(id).is_ok()
                    && matches.value_source(id) == Some(source)
            })
        };
        let (level, source) = match has(ValueSource::CommandLine) {
            Some(level) => (level, Source::Flag(format!("--{}", id.replace('_', "-")))),
            None => (
                has(ValueSource::EnvVariable)?,
                Source::Variable(format!("OPS_{}", id.to_uppercase())),
            ),
        };
        self.sources.insert(id, source);
        Some(level)
    }

    fn one<T: Any + Clone + Send + Sync>(&mut self, id: &'static str) -> Option<T> {
        self.level::<T>(id)?.try_get_one::<T>(id).ok()?.cloned()
    }

    fn many<T: Any + Clone + Send + Sync>(&mut self, id: &'static str) -> Vec<T> {
        let values = self
            .level::<T>(id)
            .and_then(|matches| matches.try_get_many::<T>(id).ok().flatten());
        values
            .map(|values| values.cloned().collect())
            .unwrap_or_default()
    }

    /// `ops -v ls -v` is `-vv`.
    fn sum(&mut self, id: &'static str) -> u8 {
        let Some(last) = self.level::<u8>(id) else {
            return 0;
        };
        if last.value_source(id) == Some(ValueSource::EnvVariable) {
            return last.get_count(id);
        }
        let typed = |matches: &&&ArgMatches| {
            matches!(matches.try_get_one::<u8>(id), Ok(Some(_)))
                && matches.value_source(id) == Some(ValueSource::CommandLine)
        };
        let counts = self
            .levels
            .iter()
            .filter(typed)
            .map(|matches| matches.get_count(id));
        counts.fold(0, u8::saturating_add)
    }
}
