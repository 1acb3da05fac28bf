//! The screen of a full-screen program, followed so that a line of ours can be put on it and taken
//! away again.
//!
//! An editor or a pager owns every cell of the alternate screen and does not know of anything that
//! others write there. What stood under our line, the cursor and its attributes are therefore
//! written back from a copy of the screen; the program notices nothing.

use std::num::NonZeroU16;

/// Reverse video: a status line, and no text of the program's.
const STYLE: &str = "\x1b[0;7m";
const PLAIN: &str = "\x1b[0m";

/// A copy of the alternate screen, made from the session's output.
pub(crate) struct FullScreen {
    copy: vt100::Parser,
    /// Our line covers the last one of the program.
    is_covered: bool,
}

impl FullScreen {
    /// An empty one of this size, in columns and rows.
    pub(crate) fn new(size: (u16, u16)) -> Self {
        let (columns, rows) = cells(size);
        Self {
            copy: vt100::Parser::new(rows, columns, 0),
            is_covered: false,
        }
    }

    /// Takes output of the session.
    pub(crate) fn observe(&mut self, output: &[u8], size: (u16, u16)) {
        let (columns, rows) = cells(size);
        if self.copy.screen().size() != (rows, columns) {
            self.copy.set_size(rows, columns);
        }
        self.copy.process(output);
    }

    /// The bytes that put `text` on the last line, in place of what we had put there before.
    pub(crate) fn cover(&mut self, text: &str) -> Vec<u8> {
        self.is_covered = true;
        let (rows, columns) = self.copy.screen().size();
        // One column is left: a character in the last one may make the terminal scroll.
        let width = usize::from(columns.get() - 1);
        let text: String = text.chars().take(width).collect();
        self.last_line(&format!("{STYLE}{text:<width$}{PLAIN}"), rows)
    }

    /// The bytes that give the program its last line back; none if it has it.
    pub(crate) fn uncover(&mut self) -> Vec<u8> {
        if !std::mem::take(&mut self.is_covered) {
            return Vec::new();
        }
        let (rows, columns) = self.copy.screen().size();
        let line = self
            .copy
            .screen()
            .rows_formatted(0, columns.get())
            .last()
            .unwrap_or_default();
        self.last_line(&line, rows)
    }

    /// Writes `line` over the last one, and leaves cursor and attributes as the program has them.
    fn last_line(&self, line: &str, rows: NonZeroU16) -> Vec<u8> {
        let screen = self.copy.screen();
        format!(
            "{PLAIN}\x1b[{rows};1H\x1b[2K{line}{PLAIN}{}{}",
            screen.cursor_state_formatted(),
            screen.attributes_formatted(),
        )
        .into_bytes()
    }
}

/// No terminal has no columns; one that says so is taken for the smallest there is.
fn cells((columns, rows): (u16, u16)) -> (NonZeroU16, NonZeroU16) {
    let at_least_one = |count: u16| NonZeroU16::new(count).unwrap_or(NonZeroU16::MIN);
    (at_least_one(columns), at_least_one(rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: (u16, u16) = (20, 4);
    /// A program in full swing: text on every line, a coloured status line, the cursor in the
    /// middle, bold type.
    const PROGRAM: &[u8] = b"\x1b[?1049h\x1b[2J\x1b[1;1Hone\x1b[2;1Htwo\x1b[3;1Hthree\x1b[4;1H\x1b[44mstatus line 100%\x1b[0m\x1b[2;3H\x1b[1m";

    /// A terminal that shows what was written to it.
    fn shown(written: &[&[u8]]) -> vt100::Parser {
        let (columns, rows) = cells(SIZE);
        let mut terminal = vt100::Parser::new(rows, columns, 0);
        for bytes in written {
            terminal.process(bytes);
        }
        terminal
    }

    fn last_line(terminal: &vt100::Parser) -> String {
        let rows = terminal.screen().rows(0, SIZE.0);
        rows.last().expect("a line")
    }

    #[test]
    fn a_line_covers_the_last_one_and_is_taken_away_without_a_trace() {
        let mut screen = FullScreen::new(SIZE);
        screen.observe(PROGRAM, SIZE);
        let covered = screen.cover("web-1: connection lost (cut), resuming");
        let terminal = shown(&[PROGRAM, &covered]);
        assert_eq!(last_line(&terminal), "web-1: connection l");
        assert_eq!(terminal.screen().cursor_position(), (1, 2));
        let uncovered = screen.uncover();
        let terminal = shown(&[PROGRAM, &covered, &uncovered]);
        let untouched = shown(&[PROGRAM]);
        assert_eq!(
            terminal.screen().contents_formatted(),
            untouched.screen().contents_formatted()
        );
        // And so is what the program writes next.
        let next = b"bold";
        assert_eq!(
            shown(&[PROGRAM, &covered, &uncovered, next])
                .screen()
                .state_formatted(),
            shown(&[PROGRAM, next]).screen().state_formatted()
        );
        assert_eq!(screen.uncover(), b"");
    }

    #[test]
    fn a_second_text_takes_the_place_of_the_first() {
        let mut screen = FullScreen::new(SIZE);
        screen.observe(PROGRAM, SIZE);
        let (first, second) = (screen.cover("a longer text"), screen.cover("short"));
        assert_eq!(
            last_line(&shown(&[PROGRAM, &first, &second])).trim(),
            "short"
        );
    }
}
