//! What is shown of commands that the service runs: results as they are known, the first failures
//! at once, and how far it is.

use ops_core::{
    Context,
    calls::run_command::{Invocation, SentCommand},
};
use ops_ui::{Output, Result, text::cut};

use super::{streams::Streams, verdict, whole};
use crate::{
    capture::Stream,
    many::ToOutput,
    outcome::{Ending, Outcome},
    show::View,
    status_line::StatusLine,
};

/// Failures that are shown as they come.
const FAILURES_SHOWN: usize = 10;
/// Columns of the bar.
const BAR: usize = 20;

/// The screen.
pub(crate) struct Screen {
    output: Output,
    pub(crate) view: Box<dyn View>,
    labels: Vec<String>,
    endings: Vec<Option<Ending>>,
    /// By their numbers, where a failure was shown already.
    shown: Vec<bool>,
    shown_count: usize,
    /// Outputs that could not be had whole.
    cut: Vec<String>,
    why_cut: Option<ops_ui::Error>,
    line: StatusLine,
}

/// How many servers are where, in all commands together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) servers: usize,
    pub(crate) ended: usize,
    pub(crate) failed: usize,
    /// Servers of commands that have been sent.
    pub(crate) sent: usize,
}

impl Counts {
    /// `[=====               ] 12 of 50 ended, 1 failed; 38 sent, 0 waiting`.
    pub(crate) fn line(self) -> String {
        let filled = (BAR * self.ended)
            .checked_div(self.servers)
            .unwrap_or_default()
            .min(BAR);
        let bar = format!("{}{}", "=".repeat(filled), " ".repeat(BAR - filled));
        let mut line = format!("[{bar}] {} of {} ended", self.ended, self.servers);
        if self.failed > 0 {
            line.push_str(&format!(", {} failed", self.failed));
        }
        let under_way = self.sent.saturating_sub(self.ended);
        let waiting = self.servers.saturating_sub(self.sent.max(self.ended));
        if under_way > 0 {
            line.push_str(&format!("; {under_way} under way"));
        }
        if waiting > 0 {
            line.push_str(&format!("; {waiting} not sent yet"));
        }
        line
    }
}

impl Screen {
    pub(crate) fn new(output: &Output, view: Box<dyn View>, labels: Vec<String>) -> Self {
        Self {
            output: output.clone(),
            view,
            endings: vec![None; labels.len()],
            shown: vec![false; labels.len()],
            labels,
            shown_count: 0,
            cut: Vec::new(),
            why_cut: None,
            line: StatusLine::new(output),
        }
    }

    /// Shows no failure before its turn: everything is known already.
    #[must_use]
    pub(crate) fn without_early_failures(mut self) -> Self {
        self.shown_count = FAILURES_SHOWN;
        self
    }

    pub(crate) fn has_ended(&self, host: usize) -> bool {
        self.endings[host].is_some()
    }

    /// Whether it has ended and not succeeded, whatever the reason.
    pub(crate) fn has_failed(&self, host: usize) -> bool {
        let ending = self.endings[host].as_ref();
        ending.is_some_and(|ending| !ending.outcome.is_success())
    }

    /// How many have not succeeded, whatever the reason.
    pub(crate) fn failures(&self) -> usize {
        let hosts = 0..self.endings.len();
        hosts.filter(|&host| self.has_failed(host)).count()
    }

    pub(crate) fn ended(&self) -> usize {
        self.endings.iter().flatten().count()
    }

    /// Takes in what the service says of one server, if that is over; its output is fetched where
    /// the list has cut it.
    ///
    /// # Errors
    /// The output cannot be written; a call fails.
    pub(crate) async fn take(
        &mut self,
        cx: &Context,
        command: &SentCommand,
        host: usize,
        invocation: &Invocation,
    ) -> Result<()> {
        if !invocation.is_over() || self.has_ended(host) {
            return Ok(());
        }
        let mut why = None;
        let streams = whole::streams_of(cx, command, invocation, &mut why).await?;
        let ending = verdict::ending(invocation, &streams, &self.labels[host]);
        if streams.is_cut {
            self.cut.push(self.labels[host].clone());
            if why.is_some() {
                self.why_cut = why;
            }
        }
        self.tell_failure(host, &ending, &streams);
        // The runtime is told to block only where something is written, which `ToOutput` does. Told
        // so for each of ten thousand servers, it keeps dozens of threads with a heap each.
        let mut sink = ToOutput(&self.output);
        for (stream, bytes) in [
            (Stream::Stdout, &streams.stdout),
            (Stream::Stderr, &streams.stderr),
        ] {
            if !bytes.is_empty() {
                self.view.hear(host, stream, bytes, &mut sink)?;
            }
        }
        self.view.end(host, &ending, &mut sink)?;
        self.endings[host] = Some(ending);
        Ok(())
    }

    /// Shows a failure before its turn, once for each server.
    pub(crate) fn tell_early(&mut self, host: usize, invocation: &Invocation) {
        if self.has_ended(host) || !invocation.is_over() {
            return;
        }
        let streams = super::streams::of_list(&invocation.output).unwrap_or_default();
        let ending = verdict::ending(invocation, &streams, &self.labels[host]);
        self.tell_failure(host, &ending, &streams);
    }

    /// Whether more failures would be shown as they come.
    pub(crate) fn shows_failures(&self) -> bool {
        self.shown_count < FAILURES_SHOWN
    }

    fn tell_failure(&mut self, host: usize, ending: &Ending, streams: &Streams) {
        let is_told = matches!(ending.outcome, Outcome::Ended(_) | Outcome::Failed(_))
            && !ending.outcome.is_success()
            // Of a single server the end tells it.
            && self.labels.len() > 1;
        if !is_told || self.shown[host] || !self.shows_failures() {
            return;
        }
        self.shown[host] = true;
        self.shown_count += 1;
        let label = &self.labels[host];
        let mut line = format!("{label}: {}", ending.outcome.words_for(label));
        let text = String::from_utf8_lossy(&streams.stderr).into_owned();
        if let Some(last) = text.lines().rev().find(|line| !line.trim().is_empty()) {
            line.push_str(&format!(": {}", cut(&ops_ui::text::escape(last), 60)));
        }
        self.output.warn_line(line);
        if !self.shows_failures() {
            self.output.note("more failures are told at the end");
        }
    }

    /// Shows how far it is.
    pub(crate) fn draw(&mut self, counts: Counts) {
        self.line.show(counts.line());
    }

    pub(crate) fn clear(&self) {
        self.line.clear();
    }

    /// Ends every server that nothing is known of as `outcome` says, and gives all endings.
    ///
    /// # Errors
    /// The output cannot be written.
    pub(crate) fn finish(&mut self, outcome: impl Fn(usize) -> Outcome) -> Result<Vec<Ending>> {
        self.clear();
        let output = self.output.clone();
        let mut endings = Vec::with_capacity(self.endings.len());
        for host in 0..self.endings.len() {
            let ending = match self.endings[host].take() {
                Some(ending) => ending,
                None => {
                    let ending = Ending {
                        outcome: outcome(host),
                        ..Ending::not_started("")
                    };
                    self.view.end(host, &ending, &mut ToOutput(&output))?;
                    ending
                }
            };
            endings.push(ending);
        }
        self.view.finish(&mut ToOutput(&output))?;
        Ok(endings)
    }

    /// Names the servers whose output is not whole. To be called after [`Self::finish`], when no
    /// pager has the terminal any more.
    pub(crate) fn tell_cut(&self) {
        const NAMED: usize = 10;
        match self.cut.as_slice() {
            [] => return,
            [only] => self
                .output
                .warn_line(format!("the output of {only} is not whole")),
            many => {
                let more = match many.len().saturating_sub(NAMED) {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                let names = many.iter().take(NAMED).map(String::as_str);
                self.output
                    .warn_names("outputs are not whole: ", names, more);
            }
        }
        match &self.why_cut {
            Some(error) => self.output.warn(error.one_line()),
            None => self.output.note(
                "Run Command keeps 24000 characters of output and 8000 of error output; whole ones need `exec.s3_bucket` or `exec.log_group` in the profile",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_a_bar_and_counts() {
        let counts = Counts {
            servers: 100,
            ended: 50,
            failed: 2,
            sent: 80,
        };
        assert_eq!(
            counts.line(),
            "[==========          ] 50 of 100 ended, 2 failed; 30 under way; 20 not sent yet"
        );
        assert_eq!(
            Counts::default().line(),
            "[                    ] 0 of 0 ended"
        );
    }
}
