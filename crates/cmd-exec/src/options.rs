//! Options for many servers, apart from those for the command itself.

use std::path::PathBuf;

use ops_core::Context;
use ops_profile::ExecVia;
use ops_ui::{Error, ErrorKind, Format, Result, hint};

use crate::{
    many::{OutputMode, RunOptions, SummaryScope},
    rollout::{RolloutOptions, RolloutPlan, Share},
    show::Form,
};

/// Servers at the same time where nobody says how many, by sessions.
const PARALLEL: usize = 20;

/// More servers than these are a fleet, where the profile says no other number.
const FLEET_THRESHOLD: usize = 50;

/// The way by which a command reaches its servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Via {
    /// The best one that works
    Auto,
    /// A session to each server
    Session,
    /// Run Command of Systems Manager
    RunCommand,
}

impl From<Via> for ExecVia {
    fn from(via: Via) -> Self {
        match via {
            Via::Auto => Self::Auto,
            Via::Session => Self::Session,
            Via::RunCommand => Self::RunCommand,
        }
    }
}

/// How the command reaches many servers, and how what they say is shown.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Many servers")]
pub(crate) struct ManyArgs {
    /// The way: session, run-command, or auto, which is run-command for more servers than
    /// exec.fleet_threshold [default: exec.via of the profile, else session]
    #[arg(
        long,
        value_name = "WAY",
        value_enum,
        hide_possible_values = true,
        hide_short_help = true
    )]
    via: Option<Via>,
    /// Servers at the same time [default: exec.parallel of the profile, else 20; 50 by Run Command]
    #[arg(long, hide_short_help = true, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    parallel: Option<usize>,
    /// Show servers whose output and status are the same once; the default on a terminal for more
    /// than 8
    #[arg(long, hide_short_help = true, conflicts_with_all = ["group", "no_fold"])]
    fold: bool,
    /// Show each line as it comes
    #[arg(long, conflicts_with = "group", hide_short_help = true)]
    no_fold: bool,
    /// Show one server after the other, as each ends
    #[arg(long, hide_short_help = true)]
    group: bool,
    /// Write two files for each server, and index.json, into this folder
    #[arg(
        long, hide_short_help = true,
        value_name = "DIR",
        value_hint = clap::ValueHint::DirPath,
        conflicts_with_all = ["fold", "no_fold", "group"]
    )]
    out: Option<PathBuf>,
    /// Write the servers where it failed into this file, for --targets-from
    #[arg(long, hide_short_help = true, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    failed_to: Option<PathBuf>,
    /// Exit with the highest status, in place of 8 where some failed
    #[arg(long, hide_short_help = true)]
    pass_status: bool,
    /// Go in batches of so many servers, or of a part such as 25%
    #[arg(long, hide_short_help = true, value_name = "N|P%", value_parser = batch_size, allow_negative_numbers = true)]
    batch: Option<Share>,
    /// Begin with so many servers; when one of them fails, the rest are left alone
    #[arg(long, hide_short_help = true, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    canary: Option<usize>,
    /// Start nothing more once more servers than these have failed
    #[arg(
        long,
        value_name = "N|P%",
        hide_short_help = true,
        allow_negative_numbers = true
    )]
    max_fail: Option<Share>,
    /// Ask before each batch
    #[arg(long, hide_short_help = true)]
    pause: bool,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=10_000) => Ok(number),
        _ => Err("a number from 1 to 10000".to_owned()),
    }
}

/// A batch of nothing would never come to the end of the servers.
fn batch_size(text: &str) -> Result<Share, String> {
    match text.parse()? {
        Share::Count(0) | Share::Percent(0) => {
            Err("a batch is of at least one server: write 1 or more, or 1% to 100%".to_owned())
        }
        share => Ok(share),
    }
}

impl ManyArgs {
    /// The way to so many servers: what was typed, else what the profile says, else sessions.
    ///
    /// Run Command has other rules than sessions (it runs as root, cuts output and keeps a
    /// history), so that nobody gets it who has not asked for it.
    ///
    /// # Errors
    /// The profile is invalid.
    pub(crate) fn way(&self, cx: &Context, servers: usize) -> Result<ExecVia> {
        let profile = &cx.profile()?.exec;
        let threshold = profile
            .fleet_threshold
            .map_or(FLEET_THRESHOLD, |count| count as usize);
        let asked = self.via.map(ExecVia::from).or(profile.via);
        match asked {
            Some(ExecVia::RunCommand) => Ok(ExecVia::RunCommand),
            Some(ExecVia::Auto) if servers > threshold => Ok(ExecVia::RunCommand),
            None if servers > threshold => {
                cx.output().note(format!(
                    "{servers} servers by a session each; Run Command is made for so many, and runs as root: --via run-command"
                ));
                Ok(ExecVia::Session)
            }
            _ => Ok(ExecVia::Session),
        }
    }

    /// Whether the number of servers was asked to decide.
    pub(crate) fn is_auto(&self) -> bool {
        self.via == Some(Via::Auto)
    }

    /// Whether Run Command was asked for, however many servers there are.
    ///
    /// # Errors
    /// The profile is invalid.
    pub(crate) fn asks_for_run_command(&self, cx: &Context) -> Result<bool> {
        let asked = self.via.map(ExecVia::from).or(cx.profile()?.exec.via);
        Ok(asked == Some(ExecVia::RunCommand))
    }

    /// The first option here that means nothing for a single server, as it was typed.
    pub(crate) fn for_many_alone(&self) -> Option<&'static str> {
        let typed = [
            ("--fold", self.fold),
            ("--no-fold", self.no_fold),
            ("--group", self.group),
            ("--out", self.out.is_some()),
            ("--failed-to", self.failed_to.is_some()),
            ("--batch", self.batch.is_some()),
            ("--canary", self.canary.is_some()),
            ("--max-fail", self.max_fail.is_some()),
            ("--pause", self.pause),
        ];
        let mut typed = typed.into_iter();
        typed.find_map(|(name, is_typed)| is_typed.then_some(name))
    }

    /// Whether servers go in batches.
    pub(crate) fn has_batches(&self) -> bool {
        self.batch.is_some() || self.canary.is_some()
    }

    /// The order in which so many servers are reached.
    pub(crate) fn plan(&self, servers: usize) -> RolloutPlan {
        RolloutPlan::new(
            servers,
            RolloutOptions {
                canary: self.canary,
                batch: self.batch,
                max_fail: self.max_fail,
            },
        )
    }

    /// How so many servers are reached and shown; `form` is what `-o` asks for.
    ///
    /// # Errors
    /// Options that do not go together.
    pub(crate) fn manner(
        &self,
        cx: &Context,
        servers: usize,
        form: Option<Form>,
    ) -> Result<RunOptions> {
        if self.pause && !self.has_batches() {
            return Err(
                Error::usage("--pause asks between batches, and there is one")
                    .hint("say how many servers make one: --batch N, or --canary N"),
            );
        }
        if self.pause && !cx.output().may_ask() {
            return Err(
                Error::new(ErrorKind::Refused, "nobody can be asked between batches")
                    .caused_by("--pause needs a terminal, and neither --no-input nor CI")
                    .hint("let failures stop the rest: --max-fail 0"),
            );
        }
        let shown = match form {
            Some(form) => {
                if self.fold || self.no_fold || self.group || self.out.is_some() {
                    return Err(Error::usage(
                        "-o and --fold, --no-fold, --group or --out do not go together",
                    )
                    .hint("leave out one of them"));
                }
                OutputMode::Document(form)
            }
            None => match &self.out {
                Some(path) => OutputMode::Folder(path.clone()),
                None if self.fold => OutputMode::Folded,
                None if self.no_fold => OutputMode::Lines,
                None if self.group => OutputMode::Grouped,
                None => OutputMode::Usual,
            },
        };
        let of_profile = cx.profile()?.exec.parallel.map(|count| count as usize);
        let asked = self.parallel.or(of_profile);
        Ok(RunOptions {
            plan: self.plan(servers),
            parallel: asked.unwrap_or(PARALLEL),
            is_parallel_asked: asked.is_some(),
            shown,
            pause: self.pause,
            failed_to: self.failed_to.clone(),
            pass_status: self.pass_status,
            told: SummaryScope::All,
        })
    }
}

/// The document that `-o` or its variable asks for. What a profile says of lists does not count:
/// the output of a command is the command's.
///
/// # Errors
/// A form that is none of a command's output.
pub(crate) fn form(cx: &Context, verb: &str) -> Result<Option<Form>> {
    match cx.globals().output {
        None | Some(Format::Table | Format::Wide) => Ok(None),
        Some(Format::Json) => Ok(Some(Form::Json)),
        Some(Format::Yaml) => Ok(Some(Form::Yaml)),
        Some(Format::Jsonl) => Ok(Some(Form::Jsonl)),
        Some(other) => Err(Error::usage(format!(
            "`ops {verb}` has no output format `{}`",
            other.name()
        ))
        .hint(hint!("use one of json, yaml, jsonl"))),
    }
}
