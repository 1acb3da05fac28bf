//! Choosing one of several on the terminal: arrow keys, typing filters, Enter takes, Esc leaves.
//!
//! Drawn on stderr, so that a command's result stays clean; the terminal is given back on every way
//! out.

use std::fmt::Write as _;

use nucleo_matcher::{
    Config, Matcher, Utf32Str,
    pattern::{CaseMatching, Normalization, Pattern},
};
use unicode_width::UnicodeWidthStr as _;

use ops_profile::{Instance, InstanceState, Ping, instance::age_words};
use ops_ui::{
    Output, Result,
    output::escape,
    terminal::{self, RawMode},
};

/// Rows shown at most.
const ROWS: usize = 12;
/// What a name is cut to, so that an id stands on every terminal beside it.
const NAME_COLUMNS: usize = 32;

/// Asks which of `instances` is meant; `None` when the user leaves without a choice.
///
/// # Errors
/// The terminal cannot be used.
pub(crate) async fn pick(
    output: &Output,
    title: &str,
    instances: &[Instance],
) -> Result<Option<usize>> {
    let lines = describe(instances, jiff::Timestamp::now());
    pick_line(output, title, lines).await
}

/// Asks which of `lines` is meant.
async fn pick_line(output: &Output, title: &str, lines: Vec<String>) -> Result<Option<usize>> {
    let output = output.clone();
    let title = escape(title);
    tokio::task::spawn_blocking(move || {
        let raw = RawMode::enable(output.raw_lines())?;
        // Shown again by the restoring of the terminal, whatever happens.
        raw.undo_with(b"\x1b[?25h".to_vec());
        let mut state = Picker::new(&title, &lines);
        let mut drawn = 0;
        let mut keys = Keys::default();
        let choice = loop {
            let (columns, rows) = terminal::size().unwrap_or((80, 24));
            let frame = state.frame(usize::from(columns), usize::from(rows));
            output.draw_picker(&redraw(drawn, &frame));
            drawn = frame.len();
            match keys.next()? {
                Key::Enter => {
                    if let Some(index) = state.selected() {
                        break Some(index);
                    }
                }
                Key::Leave => break None,
                key => state.handle(key),
            }
        };
        output.draw_picker(&redraw(drawn, &[]));
        drop(raw);
        Ok(choice)
    })
    .await
    .map_err(|_| ops_ui::Error::unexpected("the choice could not be read"))?
}

/// A line for each instance, in columns: what tells them apart first, so that a narrow terminal
/// cuts the rest.
fn describe(instances: &[Instance], now: jiff::Timestamp) -> Vec<String> {
    let differ = |of: fn(&Instance) -> &str| {
        instances
            .windows(2)
            .any(|pair| of(&pair[0]) != of(&pair[1]))
    };
    let with_region = differ(|instance| &instance.region);
    let rows: Vec<Vec<String>> = instances
        .iter()
        .map(|instance| {
            let age = instance
                .launched
                .map(|at| age_words(now.duration_since(at).as_secs()));
            let place = if with_region {
                Some(instance.region.clone())
            } else {
                instance.zone.clone()
            };
            [
                Some(cut(instance.label(), NAME_COLUMNS)),
                Some(instance.id.clone()),
                Some(reach(instance, now)),
                age,
                instance.private_ip.clone(),
                instance.instance_type.clone(),
                place,
            ]
            .into_iter()
            .map(|part| escape(&part.unwrap_or_else(|| "-".to_owned())))
            .collect()
        })
        .collect();
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|at| {
            rows.iter()
                .map(|row| row[at].width())
                .max()
                .unwrap_or_default()
        })
        .collect();
    rows.iter()
        .map(|row| {
            let mut line = String::new();
            for (text, width) in row.iter().zip(&widths) {
                line.push_str(text);
                line.extend(std::iter::repeat_n(' ', width - text.width() + 2));
            }
            line.truncate(line.trim_end().len());
            line
        })
        .collect()
}

/// Whether a session can be had: the agent's status where it is known, else the state.
fn reach(instance: &Instance, now: jiff::Timestamp) -> String {
    match (instance.state, instance.ping) {
        (InstanceState::Running, Ping::Online) => "ok".to_owned(),
        (InstanceState::Running, Ping::Lost { last: Some(last) }) => {
            format!("offline {}", age_words(now.duration_since(last).as_secs()))
        }
        (InstanceState::Running, Ping::Lost { last: None }) => "offline".to_owned(),
        (InstanceState::Running, Ping::NoAgent) => "no agent".to_owned(),
        (state, _) => state.as_str().to_owned(),
    }
}

/// Goes back over `drawn` lines and writes `frame` in their place.
fn redraw(drawn: usize, frame: &[String]) -> String {
    let mut text = String::from("\x1b[?25l");
    if drawn > 1 {
        let _ = write!(text, "\x1b[{}A", drawn - 1);
    }
    text.push_str("\r\x1b[J");
    text.push_str(&frame.join("\r\n"));
    if frame.is_empty() {
        text.push_str("\x1b[?25h");
    }
    text
}

/// What a key press means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    Leave,
    Erase,
    EraseAll,
    Char(char),
    Other,
}

/// Reads keys from standard input, byte by byte.
#[derive(Default)]
struct Keys {
    pending: Vec<u8>,
}

impl Keys {
    fn next(&mut self) -> std::io::Result<Key> {
        loop {
            if let Some((key, used)) = parse_key(&self.pending, false) {
                self.pending.drain(..used);
                return Ok(key);
            }
            // Half a sequence: an Esc of its own has nothing behind it.
            if !self.pending.is_empty() && !readable_soon()? {
                let (key, used) = parse_key(&self.pending, true).unwrap_or((Key::Other, 1));
                self.pending.drain(..used.max(1).min(self.pending.len()));
                return Ok(key);
            }
            let mut bytes = [0; 64];
            let len = read_stdin(&mut bytes)?;
            if len == 0 {
                return Ok(Key::Leave);
            }
            self.pending.extend_from_slice(&bytes[..len]);
        }
    }
}

#[cfg(unix)]
fn read_stdin(bytes: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match rustix::io::read(rustix::stdio::stdin(), &mut *bytes) {
            Err(rustix::io::Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

/// Whether more bytes come within a moment, as they do behind the Esc of an arrow key.
#[cfg(unix)]
fn readable_soon() -> std::io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let stdin = rustix::stdio::stdin();
    let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
    let patience = Timespec {
        tv_sec: 0,
        tv_nsec: 50_000_000,
    };
    Ok(poll(&mut fds, Some(&patience))? > 0)
}

#[cfg(not(unix))]
fn read_stdin(bytes: &mut [u8]) -> std::io::Result<usize> {
    use std::io::Read as _;
    std::io::stdin().read(bytes)
}

#[cfg(not(unix))]
fn readable_soon() -> std::io::Result<bool> {
    Ok(false)
}

/// The key at the beginning of `bytes` and its length; `None` while it is incomplete and not
/// `last`.
fn parse_key(bytes: &[u8], last: bool) -> Option<(Key, usize)> {
    if bytes.is_empty() {
        return None;
    }
    let key = match bytes {
        [b'\r' | b'\n', ..] => (Key::Enter, 1),
        [8 | 127, ..] => (Key::Erase, 1),
        [21 | 23, ..] => (Key::EraseAll, 1),
        [14, ..] => (Key::Down, 1),
        [16, ..] => (Key::Up, 1),
        [27] if !last => return None,
        [27, b'[' | b'O', rest @ ..] => {
            let Some(end) = rest.iter().position(|b| (0x40..=0x7e).contains(b)) else {
                return last.then_some((Key::Other, bytes.len()));
            };
            let key = match (&rest[..end], rest[end]) {
                ([], b'A') => Key::Up,
                ([], b'B') => Key::Down,
                ([], b'H') | (b"1" | b"7", b'~') => Key::Home,
                ([], b'F') | (b"4" | b"8", b'~') => Key::End,
                (b"5", b'~') => Key::PageUp,
                (b"6", b'~') => Key::PageDown,
                _ => Key::Other,
            };
            (key, end + 3)
        }
        // Ctrl-C, Ctrl-D, Ctrl-G, and Esc with nothing that belongs to it.
        [3 | 4 | 7 | 27, ..] => (Key::Leave, 1),
        [0..32, ..] => (Key::Other, 1),
        _ => {
            let len = match bytes[0] {
                0..0x80 => 1,
                0xc0..0xe0 => 2,
                0xe0..0xf0 => 3,
                0xf0.. => 4,
                _ => return Some((Key::Other, 1)),
            };
            if bytes.len() < len {
                return last.then_some((Key::Other, bytes.len()));
            }
            let c = std::str::from_utf8(&bytes[..len])
                .ok()
                .and_then(|text| text.chars().next());
            (c.map_or(Key::Other, Key::Char), len)
        }
    };
    Some(key)
}

/// The list, what was typed, and where the cursor is.
struct Picker<'a> {
    title: &'a str,
    lines: &'a [String],
    typed: String,
    /// Indexes into `lines`, best match first.
    matches: Vec<usize>,
    cursor: usize,
    top: usize,
    matcher: Matcher,
}

impl<'a> Picker<'a> {
    fn new(title: &'a str, lines: &'a [String]) -> Self {
        Self {
            title,
            lines,
            typed: String::new(),
            matches: (0..lines.len()).collect(),
            cursor: 0,
            top: 0,
            matcher: Matcher::new(Config::DEFAULT),
        }
    }

    fn selected(&self) -> Option<usize> {
        self.matches.get(self.cursor).copied()
    }

    fn handle(&mut self, key: Key) {
        let last = self.matches.len().saturating_sub(1);
        match key {
            Key::Up => self.cursor = self.cursor.saturating_sub(1),
            Key::Down => self.cursor = (self.cursor + 1).min(last),
            Key::PageUp => self.cursor = self.cursor.saturating_sub(ROWS),
            Key::PageDown => self.cursor = (self.cursor + ROWS).min(last),
            Key::Home => self.cursor = 0,
            Key::End => self.cursor = last,
            Key::Erase => {
                self.typed.pop();
                self.filter();
            }
            Key::EraseAll => {
                self.typed.clear();
                self.filter();
            }
            Key::Char(c) => {
                self.typed.push(c);
                self.filter();
            }
            Key::Enter | Key::Leave | Key::Other => {}
        }
    }

    fn filter(&mut self) {
        let pattern = Pattern::parse(&self.typed, CaseMatching::Ignore, Normalization::Smart);
        let mut buffer = Vec::new();
        let mut scored: Vec<(u32, usize)> = self
            .lines
            .iter()
            .enumerate()
            .filter_map(|(index, line)| {
                let score = pattern.score(Utf32Str::new(line, &mut buffer), &mut self.matcher)?;
                Some((score, index))
            })
            .collect();
        scored.sort_by_key(|&(score, index)| (std::cmp::Reverse(score), index));
        self.matches = scored.into_iter().map(|(_, index)| index).collect();
        self.cursor = 0;
        self.top = 0;
    }

    /// The lines to draw on a terminal of this size.
    fn frame(&mut self, columns: usize, rows: usize) -> Vec<String> {
        let visible = ROWS.min(rows.saturating_sub(3)).max(1);
        if self.cursor < self.top {
            self.top = self.cursor;
        } else if self.cursor >= self.top + visible {
            self.top = self.cursor + 1 - visible;
        }
        let head = format!(
            "{} ({}/{}; arrows, type to filter, Enter, Esc): {}",
            self.title,
            self.matches.len(),
            self.lines.len(),
            escape(&self.typed)
        );
        let mut frame = vec![cut(&head, columns)];
        for (row, &index) in self.matches.iter().enumerate().skip(self.top).take(visible) {
            let text = cut(&self.lines[index], columns.saturating_sub(2));
            frame.push(if row == self.cursor {
                format!("> \x1b[7m{text}\x1b[0m")
            } else {
                format!("  {text}")
            });
        }
        if self.matches.is_empty() {
            frame.push(cut("  nothing matches", columns));
        }
        frame
    }
}

/// `text` in at most `columns` columns, one left free so that no terminal wraps.
fn cut(text: &str, columns: usize) -> String {
    ops_ui::text::cut(text, columns.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> Vec<String> {
        ["web-1  i-1", "web-2  i-2", "db-1  i-3"]
            .map(str::to_owned)
            .to_vec()
    }

    #[test]
    fn typing_filters_and_arrows_move_among_what_is_left() {
        let lines = lines();
        let mut picker = Picker::new("which", &lines);
        picker.handle(Key::Down);
        assert_eq!(picker.selected(), Some(1));
        for c in "web".chars() {
            picker.handle(Key::Char(c));
        }
        assert_eq!(picker.matches.len(), 2);
        picker.handle(Key::Down);
        picker.handle(Key::Down);
        assert_eq!(picker.selected(), Some(1));
        picker.handle(Key::Char('x'));
        assert_eq!(picker.selected(), None);
        picker.handle(Key::EraseAll);
        assert_eq!(picker.matches.len(), 3);
    }

    #[test]
    fn keys_are_told_apart_also_in_pieces() {
        assert_eq!(parse_key(b"\x1b[A", false), Some((Key::Up, 3)));
        assert_eq!(parse_key(b"\x1bOB", false), Some((Key::Down, 3)));
        assert_eq!(parse_key(b"\x1b[6~x", false), Some((Key::PageDown, 4)));
        assert_eq!(parse_key(b"\x1b", false), None);
        assert_eq!(parse_key(b"\x1b", true), Some((Key::Leave, 1)));
        assert_eq!(parse_key(b"\x1b[", false), None);
        assert_eq!(parse_key("ü".as_bytes(), false), Some((Key::Char('ü'), 2)));
        assert_eq!(parse_key(&[0xc3], false), None);
        assert_eq!(parse_key(&[0xff, 0xff], false), None);
        assert_eq!(parse_key(&[0x80], false), Some((Key::Other, 1)));
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let lines = vec!["日本".repeat(30)];
        let mut picker = Picker::new("which", &lines);
        for line in picker.frame(20, 10) {
            let width: usize = line
                .replace("\x1b[7m", "")
                .replace("\x1b[0m", "")
                .chars()
                .filter_map(unicode_width::UnicodeWidthChar::width)
                .sum();
            assert!(width < 20, "{line}");
        }
    }
}
