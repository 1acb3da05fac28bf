//! Servers whose output and status are the same, shown once for all of them.

use std::collections::{HashMap, hash_map::Entry};

use ops_ui::Result;

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
    /// `web-1,web-2 and 998 more (1000 servers)`.
    fn title(&self, group: &Group, stream: Stream) -> String {
        let most = match (self.look.is_terminal(stream), group.words.is_empty()) {
            (false, _) => usize::MAX,
            (true, true) => NAMES_OF_SUCCESS,
            (true, false) => NAMES_OF_FAILURE,
        };
        let names: Vec<&str> = group
            .hosts
            .iter()
            .take(most)
            .map(|&host| self.names[host].as_str())
            .collect();
        let mut list = names.join(",");
        if let more @ 1.. = group.hosts.len().saturating_sub(most) {
            list.push_str(&format!(" and {more} more"));
        }
        let is_colored = self.look.colors(stream);
        let names = paint_name(group.hosts[0], &list, is_colored);
        let hosts = match group.hosts.len() {
            1 => "1 server".to_owned(),
            many => format!("{many} servers"),
        };
        if group.words.is_empty() {
            format!("{names} ({hosts})")
        } else {
            format!("{names} ({hosts}, {})", group.words)
        }
    }

    fn show(&self, group: &mut Group, sink: &mut dyn Sink) -> Result<()> {
        let title = self.title(group, Stream::Stdout);
        let is_silent =
            [Stream::Stdout, Stream::Stderr].map(|stream| group.capture.len(stream) == 0);
        if is_silent == [true, true] {
            return sink.lines(Stream::Stdout, format!("{title}\n").as_bytes());
        }
        if is_silent[1]
            && let Some(line) = only_line(&mut group.capture)?
        {
            let mut text = format!("{title}: ").into_bytes();
            push_line(&mut text, &line, self.look.stdout_is_terminal);
            return sink.lines(Stream::Stdout, &text);
        }
        sink.lines(Stream::Stdout, format!("{title}:\n").as_bytes())?;
        if !is_silent[1] && !self.look.is_one_screen() {
            let title = self.title(group, Stream::Stderr);
            sink.lines(Stream::Stderr, format!("{title}:\n").as_bytes())?;
        }
        let mut lines = <[Lines; 2]>::default();
        let look = self.look;
        group
            .capture
            .replay(|stream, piece| {
                let mut text = Vec::new();
                lines[stream as usize].feed(piece, |line| {
                    push_line(&mut text, line, look.is_terminal(stream));
                });
                if text.is_empty() {
                    return Ok(());
                }
                sink.lines(stream, &text).map_err(carried)
            })
            .map_err(uncarried)?;
        for stream in [Stream::Stdout, Stream::Stderr] {
            if let Some(line) = lines[stream as usize].finish() {
                let mut text = Vec::new();
                push_line(&mut text, &line, look.is_terminal(stream));
                sink.lines(stream, &text)?;
            }
        }
        Ok(())
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
             web-4 (1 server):\na\nb\n\
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
            screen.ends_with("n39 and 60 more (100 servers, exit status 1): same\n"),
            "{screen}"
        );
        // A program gets all of them.
        let piped = folded(OutputTerminals::default(), &fleet(0)).stdout;
        assert!(piped.contains(",n99 (100 servers): same"), "{piped}");
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
        assert_eq!(on_screen.screen, "a (1 server):\nout\nerr\n");
    }
}
