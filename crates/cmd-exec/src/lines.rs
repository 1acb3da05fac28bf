//! Whole lines out of pieces of output, and how they are shown on a terminal.

use std::fmt::Write as _;

use ops_ui::text::is_unprintable;

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

/// A line as a terminal may show it beside the lines of other servers: nothing in it moves the
/// cursor, clears the screen or hides what it is, and its colours end with it. Bytes that are no
/// UTF-8 are shown as `\xNN`.
///
/// Of a line that a program has written over with carriage returns, as progress bars do, what the
/// terminal would show in the end is kept.
pub(crate) fn shown(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let line = line.rsplit(|&byte| byte == b'\r').next().unwrap_or(line);
    let mut out = String::with_capacity(line.len());
    let mut is_colored = false;
    for chunk in line.utf8_chunks() {
        let mut rest = chunk.valid();
        while let Some(c) = rest.chars().next() {
            let mut len = c.len_utf8();
            if let Some(color) = color_len(rest) {
                len = color;
                is_colored = true;
                out.push_str(&rest[..len]);
            } else if c == '\t' || !is_unprintable(c) {
                out.push(c);
            } else {
                out.extend(c.escape_default());
            }
            rest = &rest[len..];
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    if is_colored {
        out.push_str(PLAIN);
    }
    out
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
        assert_eq!(
            shown(b"plain\ttext \xf0\x9f\x98\x80"),
            "plain\ttext \u{1f600}"
        );
        assert_eq!(shown(b"\x1b[31mred"), "\x1b[31mred\x1b[0m");
        assert_eq!(shown(b"\x1b[2J\x1b]0;x\x07"), "\\u{1b}[2J\\u{1b}]0;x\\u{7}");
        assert_eq!(shown(b" 10%\r 50%\r100%\r"), "100%");
        assert_eq!(shown(b"\xff\xfe"), "\\xff\\xfe");
        assert_eq!(shown("a\u{202e}b".as_bytes()), "a\\u{202e}b");
    }
}
