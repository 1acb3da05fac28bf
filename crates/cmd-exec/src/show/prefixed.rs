//! Each line behind the name of its server: as it comes, or server by server.

use ops_ui::{Result, fill::columns_of};

use super::{OutputTerminals, Sink, View, carried, paint_name, push_line, uncarried};
use crate::{
    capture::{Capture, Stream},
    lines::Lines,
    outcome::Ending,
};

/// Widest name, in columns, that the lines of others are aligned with: a name may have 256
/// characters, and must not push the lines of all others off the screen.
const WIDEST_ALIGNED: usize = 32;

/// The names before the lines.
struct Prefixes {
    names: Vec<String>,
    look: OutputTerminals,
    /// Columns that names take on a terminal, those that are wider than [`WIDEST_ALIGNED`] aside.
    width: usize,
}

impl Prefixes {
    fn new(names: Vec<String>, look: OutputTerminals) -> Self {
        let widths = names.iter().map(|name| columns_of(name));
        let width = widths.filter(|width| *width <= WIDEST_ALIGNED).max();
        Self {
            names,
            look,
            width: width.unwrap_or_default(),
        }
    }

    /// Adds `line` of a server behind its name. On a terminal the lines are aligned, and so are the
    /// parts that a long one is broken into.
    fn push(&self, text: &mut Vec<u8>, host: usize, stream: Stream, line: &[u8]) {
        let name = &self.names[host];
        let prefix = paint_name(host, &format!("{name}:"), self.look.colors(stream));
        text.extend_from_slice(prefix.as_bytes());
        let own = columns_of(name);
        let blanks = if self.look.is_terminal(stream) {
            self.width.saturating_sub(own) + 1
        } else {
            1
        };
        text.extend(std::iter::repeat_n(b' ', blanks));
        let first = own + ":".len() + blanks;
        let indent = self.width + ": ".len();
        push_line(text, line, self.look.line_form(stream, first, indent));
    }
}

/// Lines as they come.
pub(crate) struct Live {
    prefixes: Prefixes,
    /// Of each server, of each stream.
    lines: Vec<[Lines; 2]>,
}

impl Live {
    pub(crate) fn new(names: Vec<String>, look: OutputTerminals) -> Self {
        let lines = names.iter().map(|_| Default::default()).collect();
        Self {
            prefixes: Prefixes::new(names, look),
            lines,
        }
    }
}

impl View for Live {
    fn hear(
        &mut self,
        host: usize,
        stream: Stream,
        piece: &[u8],
        sink: &mut dyn Sink,
    ) -> Result<()> {
        let mut text = Vec::with_capacity(piece.len() + 64);
        let prefixes = &self.prefixes;
        self.lines[host][stream as usize].feed(piece, |line| {
            prefixes.push(&mut text, host, stream, line);
        });
        if text.is_empty() {
            return Ok(());
        }
        // All lines of a piece in one write: no other program on the terminal gets between them.
        sink.lines(stream, &text)
    }

    fn end(&mut self, host: usize, _ending: &Ending, sink: &mut dyn Sink) -> Result<()> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            if let Some(line) = self.lines[host][stream as usize].finish() {
                let mut text = Vec::new();
                self.prefixes.push(&mut text, host, stream, &line);
                sink.lines(stream, &text)?;
            }
        }
        Ok(())
    }
}

/// Lines of one server after the other, as each ends.
pub(crate) struct Grouped {
    live: Live,
    captures: Vec<Option<Capture>>,
}

impl Grouped {
    pub(crate) fn new(names: Vec<String>, look: OutputTerminals) -> Self {
        let captures = names.iter().map(|_| None).collect();
        Self {
            live: Live::new(names, look),
            captures,
        }
    }
}

impl View for Grouped {
    fn hear(&mut self, host: usize, stream: Stream, piece: &[u8], _: &mut dyn Sink) -> Result<()> {
        self.captures[host]
            .get_or_insert_default()
            .add(stream, piece)
            .map_err(uncarried)
    }

    fn end(&mut self, host: usize, ending: &Ending, sink: &mut dyn Sink) -> Result<()> {
        if let Some(mut capture) = self.captures[host].take() {
            let live = &mut self.live;
            capture
                .replay(|stream, piece| live.hear(host, stream, piece, sink).map_err(carried))
                .map_err(uncarried)?;
        }
        self.live.end(host, ending, sink)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{RecordedOutput, TERMINAL, names};
    use super::*;

    fn ending() -> Ending {
        Ending::not_started("")
    }

    #[test]
    fn lines_of_two_servers_are_never_torn() {
        let mut view = Live::new(names(&["web-1", "db"]), OutputTerminals::default());
        let mut written = RecordedOutput::default();
        for (host, piece) in [
            (0, "on"),
            (1, "eins\nzw"),
            (0, "e\n"),
            (1, "ei\n"),
            (0, "last"),
        ] {
            view.hear(host, Stream::Stdout, piece.as_bytes(), &mut written)
                .expect("written");
        }
        for host in 0..2 {
            view.end(host, &ending(), &mut written).expect("written");
        }
        assert_eq!(
            written.stdout,
            "db: eins\nweb-1: one\ndb: zwei\nweb-1: last\n"
        );
    }

    #[test]
    fn on_a_terminal_names_are_aligned_and_lines_harmless() {
        let look = OutputTerminals {
            colors_stdout: true,
            ..TERMINAL
        };
        let mut view = Live::new(names(&["web-1", "db"]), look);
        let mut written = RecordedOutput::default();
        view.hear(1, Stream::Stdout, b"\x1b[2Jgone\n", &mut written)
            .expect("written");
        view.hear(0, Stream::Stderr, b"oh\n", &mut written)
            .expect("written");
        assert_eq!(
            written.screen,
            "\x1b[33mdb:\x1b[0m    \\u{1b}[2Jgone\nweb-1: oh\n"
        );
    }

    #[test]
    fn a_long_name_leaves_the_lines_of_others_where_they_are() {
        let long = "n".repeat(60);
        let mut view = Live::new(names(&[&long, "db"]), TERMINAL);
        let mut written = RecordedOutput::default();
        for host in [0, 1] {
            let line = format!("{}\n", "x".repeat(79));
            view.hear(host, Stream::Stdout, line.as_bytes(), &mut written)
                .expect("written");
        }
        assert_eq!(
            written.screen,
            format!(
                "{long}: {}\n    {}\ndb: {}\n    xxx\n",
                "x".repeat(18),
                "x".repeat(61),
                "x".repeat(76)
            )
        );
    }

    #[test]
    fn off_a_terminal_lines_are_as_they_are() {
        let mut view = Live::new(names(&["a"]), OutputTerminals::default());
        let mut written = RecordedOutput::default();
        view.hear(0, Stream::Stdout, b"\x1b[2J\tx\r\n", &mut written)
            .expect("written");
        assert_eq!(written.stdout, "a: \x1b[2J\tx\r\n");
    }

    #[test]
    fn grouped_lines_wait_for_the_end_of_their_server() {
        let mut view = Grouped::new(names(&["a", "b"]), OutputTerminals::default());
        let mut written = RecordedOutput::default();
        for (host, stream, piece) in [
            (0, Stream::Stdout, "1\n"),
            (1, Stream::Stdout, "x\n"),
            (0, Stream::Stderr, "2\n"),
            (0, Stream::Stdout, "3"),
        ] {
            view.hear(host, stream, piece.as_bytes(), &mut written)
                .expect("kept");
        }
        assert_eq!(written.screen, "");
        view.end(0, &ending(), &mut written).expect("written");
        assert_eq!(written.screen, "a: 1\na: 2\na: 3\n");
        assert_eq!(written.stderr, "a: 2\n");
        view.end(1, &ending(), &mut written).expect("written");
        assert_eq!(written.stdout, "a: 1\na: 3\nb: x\n");
    }
}
