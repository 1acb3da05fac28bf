//! `ops logs`: the lines of log files or of a unit's journal, from one server or many.

mod file_frames;
mod follower;
mod journal_lines;
mod runner;
mod script;
#[cfg(test)]
mod shells;
mod sources;

use std::path::PathBuf;

use ops_core::{
    Command, Context, Forms, Traits, Values, connect::Urgency, inventory::TagFilter,
    resolve::SessionArgs,
};
use ops_remote::exec::{self, Request};
use ops_ui::{Error, Exit, Result, globals::parse_duration, hint};

use crate::{
    hosts::{Selection, pick_targets},
    many::{OutputMode, RunOptions, SummaryScope},
    rollout::{RolloutOptions, RolloutPlan},
};

use self::sources::divide;
pub(crate) use self::{script::LogRequest, sources::LogSources};

/// Lines from before that are shown where nobody says how many.
const LINES: u32 = 10;
/// Servers at the same time.
const PARALLEL: usize = 200;

/// Show the lines of log files or of a unit's journal
///
/// Shows the last lines of files, or with --unit what `journalctl` shows; of several servers each
/// line stands behind the name of its own. Words that begin with / or ~ are files or globs of files
/// on the server (in quotes: '/var/log/app/*.log'), as are the names under `logs:` in the profile;
/// all others are targets.
///
/// With -f it goes on until Ctrl-C: across a rotation of the files, and across lost connections, a
/// restart of the server and a night of the laptop too. It remembers how far in which file, or at
/// which entry of the journal, it was, and no line is lost or shown twice. --grep is done on the
/// server, so that only what matches travels; --tail counts the lines that match then.
#[derive(clap::Args, Debug)]
pub struct Logs {
    /// Targets, then files (/…, ~/…) or names under `logs:` of the profile
    #[arg(value_name = "TARGET|FILE", required = true)]
    words: Vec<String>,
    /// Go on with what is written from now on
    #[arg(short, long)]
    follow: bool,
    /// Journal of this systemd unit in place of a file
    #[arg(long, value_name = "NAME")]
    unit: Vec<String>,
    /// Lines from before [default: 10]
    #[arg(short = 'n', long, value_name = "N", value_parser = line_count, allow_negative_numbers = true)]
    tail: Option<u32>,
    /// Lines of a journal since then: 30m, yesterday
    ///
    /// A length of time, or a time as systemd.time(7) has it: 2026-01-31 12:00.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Lines that match this extended regular expression
    #[arg(long, value_name = "RE")]
    grep: Option<String>,
    /// Read them as this user, with passwordless sudo
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// All servers with this tag; Key!=GLOB: without it
    #[arg(short = 'l', long = "tag", value_name = "KEY=VALUE")]
    tags: Vec<TagFilter>,
    #[command(flatten)]
    session: SessionArgs,
}

impl Command for Logs {
    const NAME: &'static str = "logs";
    const TRAITS: Traits = Traits {
        forms: Forms::Nothing,
        ..Traits::NONE
    };
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        (
            "ops logs -f 'web-*' /var/log/nginx/error.log",
            "follow a file",
        ),
        (
            "ops logs web-1 --unit nginx --since 30m",
            "what a unit has logged",
        ),
        (
            "ops logs -f web-1 nginx",
            "the files under `logs: { nginx: … }` of the profile",
        ),
    ];
    const COMPLETES: &'static [(&'static str, Values)] =
        &[("words", Values::LogWord), ("tags", Values::TagFilter)];

    async fn run(self, cx: Context) -> Result<Exit> {
        let (mut targets, mut sources) = divide(&self.words, &cx.profile()?.logs)?;
        sources.units.extend(self.unit.iter().cloned());
        sources.check(&targets)?;
        if self.since.is_some() && !sources.files.is_empty() {
            return Err(Error::usage(
                "--since is for --unit: the lines of a file have no time that every file writes \
                 alike",
            )
            .hint(hint!("say how many lines: --tail {}", 1000)));
        }
        if targets.is_empty() && self.tags.is_empty() && cx.output().may_ask() {
            targets = pick_targets(&cx, "the logs of which servers?").await?;
        }
        if targets.is_empty() && self.tags.is_empty() {
            return Err(Error::usage("no target was given").hint("ops logs TARGET FILE"));
        }
        let selection = Selection {
            targets,
            tags: self.tags.clone(),
            group: None,
            choice: self.session.choice(),
            user: self.user.clone(),
            is_file: false,
        };
        let hosts = selection.resolve(&cx).await?;
        let instances: Vec<_> = hosts.all.iter().map(|host| host.instance.clone()).collect();
        let log_request = self.log_request(sources);
        let (reason, work) = (
            self.session.reason.as_deref(),
            log_request.work(self.user.as_deref()),
        );
        cx.guard_work(Self::NAME, &instances, reason, &work).await?;
        // The command is the follower's.
        let mut request = Request::new(exec::Command::Line(Vec::new()));
        let profile = &cx.profile()?.exec;
        request.document.clone_from(&profile.document);
        request.reason.clone_from(&self.session.reason);
        if let ([only], false) = (hosts.all.as_slice(), hosts.are_many) {
            return runner::run_one(&cx, only, request, log_request).await;
        }
        request.urgency = Urgency::Bulk;
        let servers = hosts.all.len();
        let manner = RunOptions {
            plan: RolloutPlan::new(servers, RolloutOptions::default()),
            // Whoever is followed does not end and make room for others.
            parallel: if self.follow { servers } else { PARALLEL },
            is_parallel_asked: false,
            shown: OutputMode::Lines,
            pause: false,
            failed_to: None::<PathBuf>,
            pass_status: false,
            told: SummaryScope::Failures,
        };
        runner::run(&cx, hosts.all, request, log_request, manner).await
    }
}

impl Logs {
    fn log_request(&self, sources: LogSources) -> LogRequest {
        // Since a time there are as many lines as there are.
        let lines = match (&self.since, self.tail) {
            (Some(_), None) => None,
            (_, tail) => Some(tail.unwrap_or(LINES)),
        };
        LogRequest {
            sources,
            follow: self.follow,
            lines,
            since: self.since.as_deref().map(since_when),
            pattern: self.grep.clone(),
        }
    }
}

fn line_count(text: &str) -> Result<u32, String> {
    let count = text.parse();
    count.map_err(|_| format!("write a number of lines, from 0 to {}", u32::MAX))
}

/// A time as journalctl takes it: lengths of ours become relative, everything else is its own
/// (systemd.time(7)).
fn since_when(text: &str) -> String {
    match parse_duration(text) {
        Ok(length) => format!("-{}s", length.as_secs()),
        Err(_) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(words: &[&str]) -> LogRequest {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            logs: Logs,
        }
        let words = std::iter::once("logs").chain(words.iter().copied());
        let logs = <Line as clap::Parser>::parse_from(words).logs;
        logs.log_request(LogSources::default())
    }

    #[test]
    fn ten_lines_from_before_or_all_since_a_time() {
        assert_eq!(request(&["web-1", "/a"]).lines, Some(10));
        let since = request(&["web-1", "--unit", "a", "--since", "30m"]);
        assert_eq!(
            (since.lines, since.since.as_deref()),
            (None, Some("-1800s"))
        );
        let both = request(&["web-1", "--since", "yesterday", "-n5"]);
        assert_eq!(
            (both.lines, both.since.as_deref()),
            (Some(5), Some("yesterday"))
        );
    }
}
