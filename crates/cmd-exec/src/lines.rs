//! Whole lines out of pieces of output, and how they are shown on a terminal.

use ops_ui::text::is_unprintable;
use unicode_width::UnicodeWidthChar as _;

/// A line that is longer than this, in bytes, is shown in parts: a command that never ends its line
/// must not fill the memory.
const LONGEST: usize = 1 << 20;
/// Colours off, behind a line whose program left them on.
const PLAIN: &str = "\x1b[0m";

/// Cuts the output of one stream into lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// Takes a piece, and gives `each` every line that is complete now, without its line feed.
    pub(crate) fn feed(&mut self, piece: &[u8], mut each: impl FnMut(&[u8])) {
        let mut pieces = piece.split(|&byte| byte == b'\n');
        // The last of them is the beginning of a line: nothing, if the piece ended one.
        let last = pieces.next_back().unwrap_or_default();
        for line in pieces {
            if self.rest.is_empty() {
                each(line);
            } else {
                self.rest.extend_from_slice(line);
                each(&self.rest);
                self.rest.clear();
            }
        }
        self.rest.extend_from_slice(last);
        if self.rest.len() >= LONGEST {
            each(&self.rest);
            self.rest.clear();
        }
    }

    /// The line that was never ended, at the end of the output.
    pub(crate) fn finish(&mut self) -> Option<Vec<u8>> {
        let rest = std::mem::take(&mut self.rest);
        (!rest.is_empty()).then_some(rest)
    }
}

/// Where the text of a line may stand on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Margins {
    /// Columns of the terminal; `None`: whoever reads breaks long lines himself.
    pub(crate) columns: Option<usize>,
    /// Columns that are taken before the line.
    pub(crate) first: usize,
    /// Blanks before each line that it is broken into but the first.
    pub(crate) indent: usize,
}

impl Margins {
    /// The line stands alone, and the terminal breaks it.
    pub(crate) const NONE: Self = Self {
        columns: None,
        first: 0,
        indent: 0,
    };
}

/// Columns between two stops of the tabulator.
const TAB: usize = 8;
/// Fewer columns than these between the margins, and the terminal breaks the line.
const LEAST_ROOM: usize = 20;

/// A line as a terminal may show it beside the lines of other servers: nothing in it moves the
/// cursor, clears the screen or hides what it is, and its colours end with it. Bytes that are no
/// UTF-8 are shown as `\xNN`.
///
/// A line that is too long is broken here, behind the indent of `margins`. The terminal would go on
/// at its left edge, and there stand names of servers: a server could put one there that is not its
/// own. For the same reason a tab is as wide as it would be at the left edge.
///
/// Of a line that a program has written over with carriage returns, as progress bars do, what the
/// terminal would show in the end is kept.
pub(crate) fn shown(line: &[u8], margins: Margins) -> String {
    let mut line = line;
    while let Some(before) = line.strip_suffix(b"\r") {
        line = before;
    }
    let line = line.rsplit(|&byte| byte == b'\r').next().unwrap_or(line);
    let mut broken = BrokenLine::new(line.len(), margins);
    for chunk in line.utf8_chunks() {
        let mut rest = chunk.valid();
        while let Some(c) = rest.chars().next() {
            let mut len = c.len_utf8();
            if let Some(color) = color_len(rest) {
                len = color;
                broken.color(&rest[..len]);
            } else if c == '\t' {
                broken.tab();
            } else if is_unprintable(c) {
                c.escape_default().for_each(|c| broken.push(c));
            } else {
                broken.push(c);
            }
            rest = &rest[len..];
        }
        for byte in chunk.invalid() {
            format!("\\x{byte:02x}")
                .chars()
                .for_each(|c| broken.push(c));
        }
    }
    broken.end()
}

/// A line that is broken where the terminal would break it.
struct BrokenLine {
    out: String,
    margins: Margins,
    /// Columns of the terminal's line that are used.
    at: usize,
    /// Columns of the text so far.
    width: usize,
    /// The colours that are on, as they were set: the blanks of an indent have none.
    colors: String,
}

impl BrokenLine {
    /// More than these bytes of colours are no colours, and are not set again.
    const MOST_COLORS: usize = 256;

    fn new(len: usize, mut margins: Margins) -> Self {
        // What stands before the line may leave no room: then it begins behind the indent at once.
        let (first, indent) = (margins.first, margins.indent);
        let has_room = |columns: &usize| *columns >= indent + LEAST_ROOM;
        margins.columns = margins.columns.filter(has_room);
        Self {
            out: String::with_capacity(len),
            margins,
            at: first,
            width: 0,
            colors: String::new(),
        }
    }

    fn color(&mut self, sequence: &str) {
        self.out.push_str(sequence);
        if is_reset(sequence) || self.colors.len() > Self::MOST_COLORS {
            self.colors.clear();
        }
        if !is_reset(sequence) {
            self.colors.push_str(sequence);
        }
    }

    fn push(&mut self, c: char) {
        let width = c.width().unwrap_or(0);
        if self
            .margins
            .columns
            .is_some_and(|columns| self.at + width > columns)
        {
            if !self.colors.is_empty() {
                self.out.push_str(PLAIN);
            }
            self.out.push('\n');
            self.out
                .extend(std::iter::repeat_n(' ', self.margins.indent));
            self.out.push_str(&self.colors);
            self.at = self.margins.indent;
        }
        self.out.push(c);
        self.at += width;
        self.width += width;
    }

    fn tab(&mut self) {
        for _ in 0..TAB - self.width % TAB {
            self.push(' ');
        }
    }

    fn end(mut self) -> String {
        if !self.colors.is_empty() {
            self.out.push_str(PLAIN);
        }
        self.out
    }
}

/// Whether a colour sequence switches all colours off and none on.
fn is_reset(sequence: &str) -> bool {
    matches!(sequence, "\x1b[m" | "\x1b[0m")
}

/// The length in bytes of the colour sequence that `text` begins with: `ESC [ numbers m` (ECMA-48,
/// SGR; a colon within a number separates its parts).
fn color_len(text: &str) -> Option<usize> {
    let numbers = text.strip_prefix("\x1b[")?;
    let end = numbers.find(|c: char| !(c.is_ascii_digit() || c == ';' || c == ':'))?;
    numbers[end..].starts_with('m').then_some(2 + end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fed(lines: &mut Lines, piece: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        lines.feed(piece, |line| {
            found.push(String::from_utf8_lossy(line).into_owned());
        });
        found
    }

    #[test]
    fn a_line_is_whole_however_it_comes() {
        let whole = b"one\n\ntwo\nthree";
        for cut in 0..whole.len() {
            let mut lines = Lines::default();
            let mut found = fed(&mut lines, &whole[..cut]);
            found.extend(fed(&mut lines, &whole[cut..]));
            assert_eq!(found, ["one", "", "two"], "cut at {cut}");
            assert_eq!(lines.finish().as_deref(), Some(&b"three"[..]));
            assert_eq!(lines.finish(), None);
        }
    }

    #[test]
    fn a_line_without_an_end_does_not_fill_the_memory() {
        let mut lines = Lines::default();
        let mut shown = 0;
        for _ in 0..40 {
            lines.feed(&[b'x'; 64 << 10], |line| shown += line.len());
        }
        assert!(shown >= 2 << 20, "{shown}");
        assert!(lines.rest.len() < LONGEST);
    }

    #[test]
    fn on_a_terminal_a_line_stays_within_its_line() {
        let shown = |line: &[u8]| shown(line, Margins::NONE);
        assert_eq!(
            shown(b"plain\ttext \xf0\x9f\x98\x80"),
            "plain   text \u{1f600}"
        );
        assert_eq!(shown(b"\x1b[31mred"), "\x1b[31mred\x1b[0m");
        assert_eq!(shown(b"\x1b[2J\x1b]0;x\x07"), "\\u{1b}[2J\\u{1b}]0;x\\u{7}");
        assert_eq!(shown(b" 10%\r 50%\r100%\r"), "100%");
        assert_eq!(shown(b"of Windows\r\r"), "of Windows");
        assert_eq!(shown(b"\xff\xfe"), "\\xff\\xfe");
        assert_eq!(shown(b"\x00\x9b2J"), "\\u{0}\\x9b2J");
        assert_eq!(
            shown("a\u{202e}b\u{9b}2J".as_bytes()),
            "a\\u{202e}b\\u{9b}2J"
        );
    }

    #[test]
    fn a_long_line_never_reaches_the_left_edge_where_names_stand() {
        let margins = Margins {
            columns: Some(40),
            first: 7,
            indent: 7,
        };
        let forged = format!("{}web-2: all is well", "x".repeat(33));
        assert_eq!(
            shown(forged.as_bytes(), margins),
            format!("{}\n       web-2: all is well", "x".repeat(33))
        );
        // Wide characters, tabs and escapes count with the columns that they take.
        for line in [
            "日本語".repeat(30),
            "a\tb".repeat(30),
            "\u{7}\u{9b}".repeat(30),
        ] {
            let text = shown(line.as_bytes(), margins);
            for (number, part) in text.split('\n').enumerate() {
                let taken = ops_ui::fill::columns_of(part) + if number == 0 { 7 } else { 0 };
                assert!(taken <= 40, "{part}");
                assert!(number == 0 || part.starts_with("       "), "{part}");
            }
        }
        // Colours go on behind the indent and not in it.
        let red = format!("\x1b[41m{}", "y".repeat(35));
        assert_eq!(
            shown(red.as_bytes(), margins),
            format!(
                "\x1b[41m{}\x1b[0m\n       \x1b[41myy\x1b[0m",
                "y".repeat(33)
            )
        );
        // A terminal without room is left alone.
        let narrow = Margins {
            columns: Some(20),
            ..margins
        };
        assert!(!shown(forged.as_bytes(), narrow).contains('\n'));
    }
}
