//! Servers whose output and status are the same, shown once for all of them.

use std::collections::{HashMap, hash_map::Entry};

use ops_ui::{
    Result,
    fill::{columns_of, fill_lines},
};

use super::{OutputTerminals, Sink, View, carried, paint_name, push_line, uncarried};
use crate::{
    capture::{Capture, Likeness, Stream},
    lines::Lines,
    outcome::Ending,
};

/// Names in a title on a terminal, where a thousand of them would fill the screen and hide what
/// differs. Which servers have failed is what somebody looks for.
const NAMES_OF_SUCCESS: usize = 10;
const NAMES_OF_FAILURE: usize = 40;

/// Columns that stand before what servers said, and before the second line of a title.
const INDENT: usize = 2;

/// Servers that cannot be told apart by what they said.
struct Group {
    hosts: Vec<usize>,
    /// How they ended; empty for success.
    words: String,
    capture: Box<Capture>,
}

/// The view.
pub(crate) struct Fold {
    names: Vec<String>,
    look: OutputTerminals,
    /// Boxed: of ten thousand places most are empty, and a capture is 240 bytes.
    running: Vec<Option<Box<Capture>>>,
    groups: Vec<Group>,
    /// Where in `groups` servers that said this and ended so are: with ten thousand servers that
    /// all differ, nobody can be compared with everybody.
    known: HashMap<(Likeness, String), usize>,
}

impl Fold {
    pub(crate) fn new(names: Vec<String>, look: OutputTerminals) -> Self {
        let running = names.iter().map(|_| None).collect();
        Self {
            names,
            look,
            running,
            groups: Vec::new(),
            known: HashMap::new(),
        }
    }

    /// `web-1,web-3 (2 servers)`, with how they ended where that was no success; on a terminal
    /// `web-1,web-2 and 998 more (1000 servers)`, in lines that are broken between names.
    fn title(&self, group: &Group, stream: Stream) -> Vec<String> {
        let most = match (self.look.is_terminal(stream), group.words.is_empty()) {
            (false, _) => usize::MAX,
            (true, true) => NAMES_OF_SUCCESS,
            (true, false) => NAMES_OF_FAILURE,
        };
        // Two more names take no more room than the words that say so.
        let named = match group.hosts.len() {
            all if all <= most.saturating_add(2) => all,
            _ => most,
        };
        let is_colored = self.look.colors(stream);
        let first = group.hosts[0];
        let mut pieces: Vec<String> = Vec::with_capacity(named + 8);
        for (number, &host) in group.hosts[..named].iter().enumerate() {
            let is_last = number + 1 == named;
            let name = &self.names[host];
            let name = if is_last {
                name.clone()
            } else {
                format!("{name},")
            };
            // A name's own colour here would say that the groups are told apart by it.
            let name = paint_name(first, &name, is_colored);
            pieces.push(if is_last { format!("{name} ") } else { name });
        }
        let mut rest = String::new();
        if let more @ 1.. = group.hosts.len() - named {
            rest.push_str(&format!("and {more} more "));
        }
        rest.push_str(&match group.hosts.len() {
            1 => "(1 server".to_owned(),
            many => format!("({many} servers"),
        });
        if !group.words.is_empty() {
            rest.push_str(&format!(", {}", ops_ui::text::escape(&group.words)));
        }
        rest.push(')');
        pieces.extend(rest.split_inclusive(' ').map(str::to_owned));
        // One column is left for the colon behind it.
        let columns = self
            .look
            .columns(stream)
            .map(|columns| columns.saturating_sub(1));
        fill_lines(pieces, columns, 0, INDENT)
    }

    fn show(&self, group: &mut Group, sink: &mut dyn Sink) -> Result<()> {
        let title = self.title(group, Stream::Stdout);
        let (title, last) = (
            title.join("\n"),
            title.last().map_or(0, |line| columns_of(line)),
        );
        let is_silent =
            [Stream::Stdout, Stream::Stderr].map(|stream| group.capture.len(stream) == 0);
        if is_silent == [true, true] {
            return sink.lines(Stream::Stdout, format!("{title}\n").as_bytes());
        }
        if is_silent[1]
            && let Some(line) = only_line(&mut group.capture)?
        {
            let mut text = format!("{title}: ").into_bytes();
            let begin = text.len();
            let form = self.look.line_form(Stream::Stdout, 0, 0);
            push_line(&mut text, &line, form);
            let shown = String::from_utf8_lossy(&text[begin..]);
            let needed = last + ": ".len() + columns_of(shown.trim_end());
            // What does not fit behind the names stands below them, as several lines do.
            let columns = self.look.columns(Stream::Stdout);
            if columns.is_none_or(|columns| needed <= columns) {
                return sink.lines(Stream::Stdout, &text);
            }
        }
        sink.lines(Stream::Stdout, format!("{title}:\n").as_bytes())?;
        if !is_silent[1] && !self.look.is_one_screen() {
            let title = self.title(group, Stream::Stderr).join("\n");
            sink.lines(Stream::Stderr, format!("{title}:\n").as_bytes())?;
        }
        let mut lines = <[Lines; 2]>::default();
        group
            .capture
            .replay(|stream, piece| {
                let mut text = Vec::new();
                lines[stream as usize].feed(piece, |line| self.push_below(&mut text, stream, line));
                if text.is_empty() {
                    return Ok(());
                }
                sink.lines(stream, &text).map_err(carried)
            })
            .map_err(uncarried)?;
        for stream in [Stream::Stdout, Stream::Stderr] {
            if let Some(line) = lines[stream as usize].finish() {
                let mut text = Vec::new();
                self.push_below(&mut text, stream, &line);
                sink.lines(stream, &text)?;
            }
        }
        Ok(())
    }

    /// Adds a line of output below its title. On a terminal it is indented: what stands at the left
    /// edge is ours, and no server can print a title there that names others.
    fn push_below(&self, text: &mut Vec<u8>, stream: Stream, line: &[u8]) {
        if self.look.is_terminal(stream) {
            text.extend(std::iter::repeat_n(b' ', INDENT));
        }
        push_line(text, line, self.look.line_form(stream, INDENT, INDENT));
    }
}

/// The line that is all of stdout, without its end; `None` where there are several, or one that is
/// too long to stand behind names.
fn only_line(capture: &mut Capture) -> Result<Option<Vec<u8>>> {
    const SHORT: u64 = 400;
    if capture.len(Stream::Stdout) > SHORT {
        return Ok(None);
    }
    let mut text = capture.bytes_of(Stream::Stdout).map_err(uncarried)?;
    if text.last() == Some(&b'\n') {
        text.pop();
    }
    Ok((!text.contains(&b'\n')).then_some(text))
}

impl View for Fold {
    fn hear(&mut self, host: usize, stream: Stream, piece: &[u8], _: &mut dyn Sink) -> Result<()> {
        self.running[host]
            .get_or_insert_default()
            .add(stream, piece)
            .map_err(uncarried)
    }

    fn end(&mut self, host: usize, ending: &Ending, _: &mut dyn Sink) -> Result<()> {
        let capture = self.running[host].take().unwrap_or_default();
        let likeness = capture.likeness();
        let words = ending.outcome.words_for(&self.names[host]);
        match self.known.entry((likeness, words.clone())) {
            // What it said is there already.
            Entry::Occupied(known) => self.groups[*known.get()].hosts.push(host),
            Entry::Vacant(vacant) => {
                vacant.insert(self.groups.len());
                self.groups.push(Group {
                    hosts: vec![host],
                    words,
                    capture,
                });
            }
        }
        Ok(())
    }

    /// The largest group comes first: what differs from it is nearest to the eye, at the end.
    fn finish(&mut self, sink: &mut dyn Sink) -> Result<()> {
        let mut groups = std::mem::take(&mut self.groups);
        for group in &mut groups {
            group.hosts.sort_unstable();
        }
        groups.sort_by_key(|group| (std::cmp::Reverse(group.hosts.len()), group.hosts[0]));
        for mut group in groups {
            self.show(&mut group, sink)?;
        }
        Ok(())
    }

    fn tells_endings(&self) -> bool {
        self.look.stdout_is_terminal
    }
}

#[cfg(test)]
mod tests {
    use ops_remote::exec::Status;
    use ops_ui::Error;

    use super::super::tests::{RecordedOutput, TERMINAL, names};
    use super::*;
    use crate::outcome::Outcome;

    fn ended(code: u8) -> Ending {
        Ending {
            outcome: Outcome::Ended(Status::Code(code)),
            ..Ending::not_started("")
        }
    }

    fn folded(look: OutputTerminals, hosts: &[(&str, &str, &str, Ending)]) -> RecordedOutput {
        let all: Vec<&str> = hosts.iter().map(|(name, ..)| *name).collect();
        let mut view = Fold::new(names(&all), look);
        let mut written = RecordedOutput::default();
        // Backwards, so that the order of ends is not that of the names.
        for (host, (_, out, err, ending)) in hosts.iter().enumerate().rev() {
            for (stream, text) in [(Stream::Stdout, out), (Stream::Stderr, err)] {
                if !text.is_empty() {
                    view.hear(host, stream, text.as_bytes(), &mut written)
                        .expect("kept");
                }
            }
            view.end(host, ending, &mut written).expect("kept");
        }
        assert_eq!(written.screen, "", "shown at the end");
        view.finish(&mut written).expect("written");
        written
    }

    #[test]
    fn the_same_output_is_shown_once_and_what_differs_comes_last() {
        let failed = Ending {
            outcome: Outcome::Failed(Error::target("`db` is stopped")),
            ..Ending::not_started("")
        };
        let written = folded(
            TERMINAL,
            &[
                ("web-1", "active\n", "", ended(0)),
                ("web-2", "failed\n", "", ended(3)),
                ("web-3", "active\n", "", ended(0)),
                ("web-4", "a\nb", "", ended(0)),
                ("db", "", "", failed),
                ("web-5", "active\n", "", ended(3)),
            ],
        );
        assert_eq!(
            written.screen,
            "web-1,web-3 (2 servers): active\n\
             web-2 (1 server, exit status 3): failed\n\
             web-4 (1 server):\n  a\n  b\n\
             db (1 server, not run: stopped)\n\
             web-5 (1 server, exit status 3): active\n"
        );
    }

    #[test]
    fn on_a_terminal_names_of_a_fleet_leave_room_for_what_differs() {
        let all: Vec<String> = (0..100).map(|number| format!("n{number}")).collect();
        let fleet = |code: u8| -> Vec<(&str, &str, &str, Ending)> {
            let hosts = all.iter();
            hosts
                .map(|name| (name.as_str(), "same\n", "", ended(code)))
                .collect()
        };
        let screen = folded(TERMINAL, &fleet(0)).screen;
        assert_eq!(
            screen,
            "n0,n1,n2,n3,n4,n5,n6,n7,n8,n9 and 90 more (100 servers): same\n"
        );
        let screen = folded(TERMINAL, &fleet(1)).screen;
        assert!(
            screen.ends_with("n39 and\n  60 more (100 servers, exit status 1): same\n"),
            "{screen}"
        );
        // A program gets all of them.
        let piped = folded(OutputTerminals::default(), &fleet(0)).stdout;
        assert!(piped.contains(",n99 (100 servers): same"), "{piped}");
    }

    #[test]
    fn a_title_is_broken_between_names_and_the_output_stands_below_it() {
        let all: Vec<String> = (1..=12).map(|n| format!("payments web {n:02}")).collect();
        let rows: Vec<(&str, &str, &str, Ending)> = all
            .iter()
            .map(|name| (name.as_str(), "active\n", "", ended(0)))
            .collect();
        for columns in [40, 60, 80, 200] {
            let look = OutputTerminals {
                stdout_columns: Some(columns),
                ..TERMINAL
            };
            let screen = folded(look, &rows).screen;
            for line in screen.lines() {
                assert!(line.len() <= columns, "{columns}: {screen}");
                let line = line.trim_start();
                let begins_well = ["payments web ", "(12 ", "servers)", "active"];
                assert!(
                    begins_well.iter().any(|begin| line.starts_with(begin)),
                    "{columns}: {screen}"
                );
            }
            // One more name than is usual takes less room than a count.
            assert!(screen.contains("payments web 12 (12"), "{screen}");
        }
    }

    #[test]
    fn no_server_prints_a_title_that_names_others() {
        let forged = "ok\nweb-1,web-2 (2 servers): active\n";
        let wide = format!("{}web-1 (1 server): active\n", "x".repeat(78));
        let screen = folded(
            TERMINAL,
            &[
                ("evil", forged, "", ended(0)),
                ("wide", &wide, "", ended(0)),
                ("web-1", "dead\n", "", ended(0)),
            ],
        )
        .screen;
        let at_the_edge: Vec<&str> = screen
            .lines()
            .filter(|line| !line.starts_with(' '))
            .collect();
        assert_eq!(
            at_the_edge,
            [
                "evil (1 server):",
                "wide (1 server):",
                "web-1 (1 server): dead"
            ]
        );
    }

    #[test]
    fn error_output_goes_to_stderr_under_names_of_its_own() {
        let written = folded(
            OutputTerminals::default(),
            &[
                ("a", "out\n", "err\n", ended(0)),
                ("b", "out\n", "err\n", ended(0)),
            ],
        );
        assert_eq!(written.stdout, "a,b (2 servers):\nout\n");
        assert_eq!(written.stderr, "a,b (2 servers):\nerr\n");
        let on_screen = folded(TERMINAL, &[("a", "out\n", "err\n", ended(0))]);
        assert_eq!(on_screen.screen, "a (1 server):\n  out\n  err\n");
    }
}
