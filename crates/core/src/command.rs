//! The trait behind which every capability stands, and the registry's form of it.

use std::{ffi::OsString, future::Future};

use clap::ArgMatches;
use ops_profile::Verb;
use ops_ui::{Error, Exit, Result};

use crate::{BoxFuture, complete::Values, context::Context};

/// One subcommand: the fields are its arguments, the doc comment is its help.
pub trait Command: clap::Args + Send + 'static {
    /// The verb as it is typed.
    const NAME: &'static str;
    /// Other spellings, shown in help.
    const ALIASES: &'static [&'static str] = &[];
    /// Examples, each a command line and what it does; help shows the first two before anything
    /// else.
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[];
    /// What the dispatcher has to know before it runs the verb.
    const TRAITS: Traits = Traits::NONE;
    /// What its arguments complete to, by the names of their fields; the same below its own
    /// subcommands.
    const COMPLETES: &'static [(&'static str, Values)] = &[];

    /// Puts the words after the verb into the form and order that clap reads; `clap` is the verb's
    /// command with the global options. For verbs that take another program's command line, such as
    /// ssh's, or words that clap takes for options.
    fn arrange(args: Vec<OsString>, _clap: &clap::Command) -> Vec<OsString> {
        args
    }

    /// Does the work. The status of success is the command's; a failure's comes from the error's
    /// kind.
    fn run(self, cx: Context) -> impl Future<Output = Result<Exit>> + Send;
}

/// What sets a verb apart from the ordinary one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traits {
    /// Returns the far side's exit status; a failure of `ops` itself is 255.
    pub pass_through: bool,
    /// The verb's own short options win after the verb (as in `ssh` and `cp`): global options keep
    /// their long forms only.
    pub own_short_options: bool,
    /// Another program's command line follows its own words: they are put in order by
    /// [`Command::arrange`], and the global options are as everywhere before it.
    pub runs_a_command: bool,
    /// Hidden from lists of verbs; works all the same.
    pub hidden: bool,
    /// The verb whose rules in a profile hold for this one: whoever forbids `ssh` forbids what
    /// carries it.
    pub ruled_as: Option<&'static str>,
    /// No profile can take it away: it reaches no server and is needed to see why something is
    /// refused.
    pub always_allowed: bool,
    /// The forms of output that it has.
    pub forms: Forms,
    /// Its own subcommands that have none of these forms.
    pub without_forms: &'static [&'static str],
}

/// Forms of output, as `-o` names them. One that a verb does not have is refused, and neither
/// ignored nor replaced by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forms {
    /// None: what is written comes from a server or goes to a program that wants it as it is.
    Nothing,
    /// Those that [`Format::is_general`](ops_ui::Format::is_general) names.
    General,
    /// Those, and a line of JSON for each server.
    WithJsonl,
    /// Every one: its results are rows.
    Rows,
}

impl Traits {
    /// An ordinary verb.
    pub const NONE: Self = Self {
        pass_through: false,
        own_short_options: false,
        runs_a_command: false,
        hidden: false,
        ruled_as: None,
        always_allowed: false,
        forms: Forms::General,
        without_forms: &[],
    };
}

/// The future of a running command.
pub type RunFuture = BoxFuture<'static, Result<Exit>>;

/// A registered command with its type erased; plain function pointers, so it is `const`.
#[derive(Clone, Copy)]
pub struct Entry {
    /// The verb.
    pub name: &'static str,
    /// Other spellings.
    pub aliases: &'static [&'static str],
    /// Examples for help.
    pub examples: &'static [(&'static str, &'static str)],
    /// What sets it apart.
    pub traits: Traits,
    /// What its arguments complete to, by their ids.
    pub completes: &'static [(&'static str, Values)],
    /// Builds its clap command: arguments and help, no globals.
    pub clap: fn() -> clap::Command,
    /// Puts the words after the verb into the order that clap reads.
    pub arrange: fn(Vec<OsString>, &clap::Command) -> Vec<OsString>,
    /// Reads the arguments and starts it.
    pub run: fn(Context, &ArgMatches) -> Result<RunFuture>,
}

impl Entry {
    /// What a profile's rules know of it.
    pub const fn verb(&self) -> Verb {
        Verb {
            name: self.name,
            aliases: self.aliases,
            ruled_as: self.traits.ruled_as,
            is_always_allowed: self.traits.always_allowed,
        }
    }

    /// The entry of `C`. It belongs in a `static` array: of a `const`, and of a `static` slice,
    /// whose entries have no symbol of their own, every crate that names it, and so the binary's,
    /// would compile the whole command once more.
    pub const fn of<C: Command>() -> Self {
        Self {
            name: C::NAME,
            aliases: C::ALIASES,
            examples: C::EXAMPLES,
            traits: C::TRAITS,
            completes: C::COMPLETES,
            clap: || C::augment_args(clap::Command::new(C::NAME).visible_aliases(C::ALIASES)),
            arrange: C::arrange,
            run: |cx, matches| {
                let command = C::from_arg_matches(matches)
                    .map_err(|error| Error::usage(error.to_string()))?;
                Ok(Box::pin(command.run(cx)))
            },
        }
    }
}
