//! How far a command on many servers is: a line while it runs, a line at its end, and the servers
//! on which it failed.

use std::{collections::BTreeSet, time::Duration};

use ops_ui::{Hint, Output, Text};

use crate::{
    outcome::{Ending, Outcome},
    status_line::StatusLine,
};

/// Failures that are shown one by one.
const SHOWN: usize = 50;
/// Sorts of failures that are explained.
const REASONS: usize = 3;

/// Where one server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting,
    Starting,
    Running,
    Succeeded,
    Failed,
    NotStarted,
}

/// Counts the servers in each phase.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    phases: Vec<Phase>,
}

impl Tally {
    pub(crate) fn new(servers: usize) -> Self {
        Self {
            phases: vec![Phase::Waiting; servers],
        }
    }

    pub(crate) fn starting(&mut self, host: usize) {
        self.phases[host] = Phase::Starting;
    }

    pub(crate) fn running(&mut self, host: usize) {
        self.phases[host] = Phase::Running;
    }

    pub(crate) fn ended(&mut self, host: usize, outcome: &Outcome) {
        self.phases[host] = match outcome {
            outcome if outcome.is_success() => Phase::Succeeded,
            Outcome::NotStarted(_) => Phase::NotStarted,
            _ => Phase::Failed,
        };
    }

    fn count(&self, phase: Phase) -> usize {
        self.phases.iter().filter(|&&found| found == phase).count()
    }

    /// `3 of 12 ended, 1 failed; 5 running, 1 starting, 3 waiting`.
    pub(crate) fn line(&self) -> String {
        let failed = self.count(Phase::Failed);
        let ended = self.count(Phase::Succeeded) + failed + self.count(Phase::NotStarted);
        let mut line = format!("{ended} of {} ended", self.phases.len());
        if failed > 0 {
            line.push_str(&format!(", {failed} failed"));
        }
        let rest: Vec<String> = [
            (Phase::Running, "running"),
            (Phase::Starting, "starting"),
            (Phase::Waiting, "waiting"),
        ]
        .into_iter()
        .map(|(phase, word)| (self.count(phase), word))
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
        if !rest.is_empty() {
            line.push_str(&format!("; {}", rest.join(", ")));
        }
        line
    }
}

/// Shows the line while it runs.
pub(crate) struct Progress {
    line: StatusLine,
    tally: Tally,
}

impl Progress {
    pub(crate) fn new(output: &Output, servers: usize) -> Self {
        Self {
            line: StatusLine::new(output),
            tally: Tally::new(servers),
        }
    }

    /// Changes the tally and shows it.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Tally)) {
        change(&mut self.tally);
        self.line.show(self.tally.line());
    }

    /// Takes the line away.
    pub(crate) fn clear(&self) {
        self.line.clear();
    }
}

/// The line at the end.
pub(crate) fn summary(endings: &[Ending], took: Duration) -> String {
    let count =
        |is: fn(&Outcome) -> bool| endings.iter().filter(|ending| is(&ending.outcome)).count();
    let succeeded = count(Outcome::is_success);
    let mut parts = vec![format!("{succeeded} of {} succeeded", endings.len())];
    let not_run = count(|outcome| matches!(outcome, Outcome::Failed(_)));
    let not_started = count(|outcome| matches!(outcome, Outcome::NotStarted(_)));
    let cancelled = count(|outcome| matches!(outcome, Outcome::Cancelled));
    let failed = endings.len() - succeeded - not_run - not_started - cancelled;
    for (count, word) in [
        (failed, "failed"),
        (not_run, "could not be run"),
        (not_started, "not started"),
        (cancelled, "cancelled"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {word}"));
        }
    }
    format!("{} in {:.1} s", parts.join(", "), took.as_secs_f64())
}

/// Says on which servers it did not succeed, unless that is `told` already, and why `ops` could not
/// do its own part there.
pub(crate) fn tell_failures<'a>(
    output: &Output,
    told: bool,
    rows: impl Iterator<Item = (&'a str, &'a Ending)> + Clone,
) {
    if !told {
        for line in failures(rows.clone()) {
            output.warn_line(line);
        }
    }
    for line in reasons(rows) {
        output.warn_line(line);
    }
}

/// Why, and what to do next, for failures of `ops` itself: once for all servers that failed alike,
/// with the name of the first one.
fn reasons<'a>(rows: impl Iterator<Item = (&'a str, &'a Ending)>) -> Vec<Text> {
    let mut lines = Vec::new();
    let mut kinds = BTreeSet::new();
    let mut hints: Vec<&Hint> = Vec::new();
    for (label, ending) in rows {
        let (Outcome::Failed(error) | Outcome::Unread(error)) = &ending.outcome else {
            continue;
        };
        let named = format!("`{label}`");
        let is_new = kinds.insert(ending.outcome.words_for(label).replace(&named, ""));
        if !is_new || kinds.len() > REASONS {
            continue;
        }
        for why in error.why() {
            lines.push(Text::from(format!("why ({label}): ")).then(why));
        }
        for hint in error.hints() {
            if !hints.contains(&hint) {
                hints.push(hint);
                lines.push(Text::from("hint: ").then(hint.clone()));
            }
        }
    }
    lines
}

/// The servers on which it did not succeed, each with why; how many more there are, if so. Those
/// that were not started are told together.
fn failures<'a>(rows: impl Iterator<Item = (&'a str, &'a Ending)>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut left_out = 0;
    let mut not_started: Vec<&str> = Vec::new();
    let mut why_not = String::new();
    for (label, ending) in rows {
        match &ending.outcome {
            outcome if outcome.is_success() => {}
            Outcome::NotStarted(why) => {
                not_started.push(label);
                why_not.clone_from(why);
            }
            _ if lines.len() == SHOWN => left_out += 1,
            outcome => lines.push(format!("{label}: {}", outcome.words_for(label))),
        }
    }
    if left_out > 0 {
        lines.push(format!("and {left_out} more; -o json tells them all"));
    }
    match not_started.as_slice() {
        [] => {}
        [one] => lines.push(format!("not started: {one} ({why_not})")),
        [first, .., last] => lines.push(format!(
            "not started: {first} to {last}, {} servers ({why_not})",
            not_started.len()
        )),
    }
    lines
}

#[cfg(test)]
mod tests {
    use ops_remote::exec::Status;
    use ops_ui::Error;

    use super::*;

    fn ending(outcome: Outcome) -> Ending {
        Ending {
            outcome,
            ..Ending::not_started("")
        }
    }

    #[test]
    fn the_line_counts_the_servers_in_each_state() {
        let mut tally = Tally::new(4);
        assert_eq!(tally.line(), "0 of 4 ended; 4 waiting");
        tally.starting(0);
        tally.running(1);
        tally.ended(2, &Outcome::Ended(Status::Code(1)));
        assert_eq!(
            tally.line(),
            "1 of 4 ended, 1 failed; 1 running, 1 starting, 1 waiting"
        );
    }

    #[test]
    fn what_ops_could_not_do_is_explained_once_for_all_that_failed_alike() {
        let denied = |label: &str| {
            ending(Outcome::Failed(
                Error::target(format!("cannot start a session on `{label}`"))
                    .caused_by(format!("AccessDeniedException for {label}"))
                    .hint("add the statement"),
            ))
        };
        let endings = [
            denied("a"),
            ending(Outcome::Ended(Status::Code(3))),
            denied("c"),
            ending(Outcome::Failed(
                Error::target("`d` is stopped").hint("add the statement"),
            )),
        ];
        let rows = ["a", "b", "c", "d"].into_iter().zip(&endings);
        let lines: Vec<String> = reasons(rows).iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "why (a): AccessDeniedException for a",
                "hint: add the statement"
            ]
        );
    }

    #[test]
    fn the_end_names_what_failed_and_why() {
        let endings = [
            ending(Outcome::Ended(Status::Code(0))),
            ending(Outcome::Ended(Status::Code(3))),
            ending(Outcome::Failed(Error::target("`c` is stopped"))),
            Ending::not_started("a canary failed"),
            Ending::not_started("a canary failed"),
        ];
        assert_eq!(
            summary(&endings, Duration::from_millis(1250)),
            "1 of 5 succeeded, 1 failed, 1 could not be run, 2 not started in 1.2 s"
        );
        let rows = ["a", "b", "c", "d", "e"].into_iter().zip(&endings);
        assert_eq!(
            failures(rows),
            [
                "b: exit status 3",
                "c: not run: stopped",
                "not started: d to e, 2 servers (a canary failed)",
            ]
        );
    }
}
