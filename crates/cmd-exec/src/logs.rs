//! `ops logs`: the lines of log files or of a unit's journal, from one server or many.

use std::{collections::BTreeMap, path::PathBuf};

use ops_core::{
    Command, Context, Values, connect::Urgency, inventory::TagFilter, resolve::SessionArgs,
};
use ops_profile::{OneOrMany, Target};
use ops_remote::exec::{self, Request};
use ops_ui::{Error, Exit, Result, globals::parse_duration, hint, text::single_quoted};

use crate::{
    hosts::Selection,
    many::{self, OutputMode, RunOptions, SummaryScope},
    rollout::{RolloutOptions, RolloutPlan},
    single,
};

/// Lines from before that are shown where nobody says how many.
const LINES: u32 = 10;
/// Servers at the same time: each stays open while it is followed.
const PARALLEL: usize = 200;
/// What begins a unit in `logs` of a profile.
const UNIT: &str = "unit:";

/// Show the lines of log files or of a unit's journal
///
/// Runs `tail`, or with --unit `journalctl`, on the servers and shows the lines as they come; of
/// several servers each line stands behind the name of its own. Words that begin with / or ~ are
/// files, as are the names under `logs:` in the profile; all others are targets.
///
/// With -f it goes on until Ctrl-C, across a rotation of the files and across lost connections: the
/// server keeps what comes meanwhile for ten minutes, and no line is lost or shown twice. --grep is
/// done on the server, so that only what matches travels.
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
    #[arg(short = 'n', long, value_name = "N")]
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
        let (targets, mut sources) = divide(&self.words, &cx.profile()?.logs)?;
        sources.units.extend(self.unit.iter().cloned());
        let line = self.line(&sources)?;
        if targets.is_empty() && self.tags.is_empty() {
            return Err(Error::usage("no target was given").hint("ops logs TARGET FILE"));
        }
        let selection = Selection {
            targets,
            tags: self.tags.clone(),
            choice: self.session.choice(),
            user: self.user.clone(),
            is_file: false,
        };
        let hosts = selection.resolve(&cx).await?;
        let instances: Vec<_> = hosts.all.iter().map(|host| host.instance.clone()).collect();
        cx.guard(Self::NAME, &instances, self.session.reason.as_deref())
            .await?;
        let mut request = Request::new(exec::Command::Line(line.into_bytes()));
        let profile = &cx.profile()?.exec;
        request.document.clone_from(&profile.document);
        request.reason.clone_from(&self.session.reason);
        if let ([only], false) = (hosts.all.as_slice(), hosts.are_many) {
            request.user.clone_from(&only.user);
            return single::run(&cx, only, request).await;
        }
        request.urgency = Urgency::Bulk;
        let manner = RunOptions {
            plan: RolloutPlan::new(hosts.all.len(), RolloutOptions::default()),
            parallel: PARALLEL,
            is_parallel_asked: false,
            shown: OutputMode::Lines,
            pause: false,
            failed_to: None::<PathBuf>,
            pass_status: false,
            told: SummaryScope::Failures,
        };
        many::run(&cx, hosts.all, request, manner).await
    }
}

/// What is read on a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sources {
    files: Vec<String>,
    units: Vec<String>,
}

/// Tells targets from files and from names of the profile's logs.
///
/// # Errors
/// A word that is no target.
fn divide(
    words: &[String],
    logs: &BTreeMap<String, OneOrMany<String>>,
) -> Result<(Vec<Target>, Sources)> {
    let (mut targets, mut sources) = (Vec::new(), Sources::default());
    for word in words {
        if word.starts_with(['/', '~']) {
            sources.files.push(word.clone());
        } else if let Some(named) = logs.get(word) {
            for source in &named.0 {
                match source.strip_prefix(UNIT) {
                    Some(unit) => sources.units.push(unit.to_owned()),
                    None => sources.files.push(source.clone()),
                }
            }
        } else {
            let target = word
                .parse()
                .map_err(|error: ops_profile::target::TargetError| {
                    Error::usage(error.to_string()).hint("a file begins with / or ~")
                })?;
            targets.push(target);
        }
    }
    Ok((targets, sources))
}

impl Logs {
    /// The line of sh that shows `sources`.
    ///
    /// # Errors
    /// Nothing to show; files and units at once; a time for files.
    fn line(&self, sources: &Sources) -> Result<String> {
        let reader = match (sources.files.is_empty(), sources.units.is_empty()) {
            (true, true) => {
                return Err(Error::usage("no file and no unit was given")
                    .hint("name a file: ops logs TARGET /var/log/syslog; or a unit: --unit NAME"));
            }
            (false, false) => {
                return Err(
                    Error::usage("files and units do not go together").hint("run ops logs twice")
                );
            }
            (false, true) if self.since.is_some() => {
                return Err(Error::usage(
                    "--since is for --unit: the lines of a file have no time that \
                                  every file writes alike",
                )
                .hint(hint!("say how many lines: --tail {}", 1000)));
            }
            (false, true) => self.tail_line(&sources.files),
            (true, false) => self.journal_line(&sources.units),
        };
        Ok(match &self.grep {
            None => format!("exec {reader}"),
            Some(pattern) => filtered(&reader, pattern),
        })
    }

    fn tail_line(&self, files: &[String]) -> String {
        let mut line = format!("tail -n {}", self.tail.unwrap_or(LINES));
        if self.follow {
            // By name: the file that takes the place of a rotated one is followed.
            line.push_str(" -F");
        }
        line.push_str(" --");
        for file in files {
            line.push(' ');
            match file.strip_prefix("~/") {
                Some(rest) => {
                    line.push_str("\"$HOME\"/");
                    line.push_str(&single_quoted(rest));
                }
                None => line.push_str(&single_quoted(file)),
            }
        }
        line
    }

    fn journal_line(&self, units: &[String]) -> String {
        let mut line = "journalctl --no-pager --quiet --output=short-iso".to_owned();
        for unit in units {
            line.push_str(&format!(" --unit={}", single_quoted(unit)));
        }
        match (&self.since, self.tail) {
            (Some(since), tail) => {
                line.push_str(&format!(" --since={}", single_quoted(&since_when(since))));
                if let Some(tail) = tail {
                    line.push_str(&format!(" --lines={tail}"));
                } else if self.follow {
                    // Without a number it shows ten alone when it follows.
                    line.push_str(" --no-tail");
                }
            }
            (None, tail) => line.push_str(&format!(" --lines={}", tail.unwrap_or(LINES))),
        }
        if self.follow {
            line.push_str(" --follow");
        }
        line
    }
}

/// A time as journalctl takes it: lengths of ours become relative, everything else is its own
/// (systemd.time(7)).
fn since_when(text: &str) -> String {
    match parse_duration(text) {
        Ok(length) => format!("-{}s", length.as_secs()),
        Err(_) => text.to_owned(),
    }
}

/// `reader` through a filter that hands on each line at once. No line that matches is no failure.
///
/// Where grep has no `--line-buffered`, as in busybox, awk does it.
fn filtered(reader: &str, pattern: &str) -> String {
    let pattern = single_quoted(pattern);
    format!(
        "re={pattern}; export re; {reader} | {{ \
         if echo x | grep --line-buffered -q x 2>/dev/null; then grep --line-buffered -E -e \"$re\"; [ $? -le 1 ]; \
         else awk '$0 ~ ENVIRON[\"re\"] {{ print; fflush() }}'; fi; }}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logs(words: &[&str]) -> Logs {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            logs: Logs,
        }
        let words = std::iter::once("logs").chain(words.iter().copied());
        <Line as clap::Parser>::parse_from(words).logs
    }

    fn line(words: &[&str]) -> Result<String> {
        let logs = logs(words);
        let (_, mut sources) = divide(&logs.words, &BTreeMap::new())?;
        sources.units.extend(logs.unit.iter().cloned());
        logs.line(&sources)
    }

    #[test]
    fn targets_and_files_are_told_apart() {
        let mut known = BTreeMap::new();
        let named = ["/var/log/nginx/error.log", "unit:nginx"].map(str::to_owned);
        known.insert("nginx".to_owned(), OneOrMany(named.to_vec()));
        let words = ["web-*", "/a b", "~/c", "db-1"].map(str::to_owned);
        let (targets, sources) = divide(&words, &known).expect("targets");
        let texts: Vec<&str> = targets.iter().map(Target::as_str).collect();
        assert_eq!(texts, ["web-*", "db-1"]);
        assert_eq!(sources.files, ["/a b", "~/c"]);
        let (targets, sources) = divide(&["nginx".to_owned()], &known).expect("names");
        assert!(targets.is_empty());
        assert_eq!(sources.files, ["/var/log/nginx/error.log"]);
        assert_eq!(sources.units, ["nginx"]);
    }

    #[test]
    fn files_are_read_by_tail_and_units_by_journalctl() {
        assert_eq!(
            line(&["web-1", "/a it's", "~/b"]).expect("a line"),
            r#"exec tail -n 10 -- '/a it'\''s' "$HOME"/'b'"#
        );
        assert_eq!(
            line(&["-f", "web-1", "/a", "--tail", "0"]).expect("a line"),
            "exec tail -n 0 -F -- '/a'"
        );
        assert_eq!(
            line(&["web-1", "-f", "--unit", "nginx", "--since", "30m"]).expect("a line"),
            "exec journalctl --no-pager --quiet --output=short-iso --unit='nginx' \
             --since='-1800s' --no-tail --follow"
        );
        assert_eq!(
            line(&["web-1", "--unit", "a", "--since", "yesterday", "-n5"]).expect("a line"),
            "exec journalctl --no-pager --quiet --output=short-iso --unit='a' \
             --since='yesterday' --lines=5"
        );
        assert!(line(&["web-1"]).is_err());
        assert!(line(&["web-1", "/a", "--unit", "b"]).is_err());
        assert!(line(&["web-1", "/a", "--since", "1h"]).is_err());
    }

    #[test]
    fn the_filter_works_with_grep_and_with_awk() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("log");
        std::fs::write(&file, "one 500\ntwo 200\nthree 503\n").expect("a file");
        let file = file.to_str().expect("UTF-8");
        let run = |line: &str| {
            let output = std::process::Command::new("sh")
                .args(["-c", line])
                .output()
                .expect("sh runs");
            let text = String::from_utf8(output.stdout).expect("UTF-8");
            (output.status.code(), text)
        };
        let line_of = |pattern: &str| line(&["web-1", file, "--grep", pattern]).expect("a line");
        let matching = (Some(0), "one 500\nthree 503\n".to_owned());
        assert_eq!(run(&line_of(" 50[0-9]$")), matching);
        assert_eq!(run(&line_of("it's")), (Some(0), String::new()));
        // A grep that has no such option.
        let without = line_of(" 50[0-9]$").replace("--line-buffered -q", "--no-such-option -q");
        assert_eq!(run(&without), matching);
    }
}
