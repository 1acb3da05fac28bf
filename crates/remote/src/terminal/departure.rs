//! Whether it was the user who left the shell: the service tells an `exit` and an end against the
//! user's will by the same message.

/// Bytes of a line that are kept; only its end matters.
const LINE_BYTES: usize = 256;
/// Commands that leave a shell.
const LEAVING: [&str; 3] = ["exit", "logout", "quit"];
/// What Ctrl-D types.
const CTRL_D: u8 = 0x04;

/// Follows what is typed and what the far side shows.
///
/// The user has left if the last thing he did was to type a command that leaves, or Ctrl-D, and no
/// prompt has come after it. A command that came out of the shell's history was not typed letter by
/// letter, so the last line that is shown counts too: it ends with `exit` where a shell echoes the
/// command, and where bash says so itself.
#[derive(Debug, Default)]
pub(crate) struct Departure {
    typed: Vec<u8>,
    has_typed_end: bool,
    shown: Shown,
}

impl Departure {
    /// Takes keys that went to the far side.
    pub(crate) fn type_keys(&mut self, keys: &[u8]) {
        for &key in keys {
            match key {
                b'\r' | b'\n' => {
                    let line = std::mem::take(&mut self.typed);
                    // An empty line says nothing: Enter is hit twice out of impatience.
                    if !line.trim_ascii().is_empty() {
                        self.has_typed_end = leaves(&line);
                    }
                }
                CTRL_D if self.typed.is_empty() => self.has_typed_end = true,
                // Erase.
                0x08 | 0x7f => {
                    self.typed.pop();
                }
                // Ctrl-C and Ctrl-U give the line up.
                0x03 | 0x15 => self.typed.clear(),
                key => keep(&mut self.typed, key),
            }
        }
    }

    /// Takes output of the far side.
    pub(crate) fn show_output(&mut self, output: &[u8]) {
        for &byte in output {
            self.shown.take_byte(byte);
        }
    }

    /// Whether the end of the session, if it comes now, is the user's own.
    pub(crate) fn is_own(&self) -> bool {
        let shows_prompt = !self.shown.line.trim_ascii().is_empty();
        !shows_prompt && (self.has_typed_end || leaves_at_end(&self.shown.before))
    }
}

/// Whether the last command of a line that was typed leaves the shell: `exit`, `make && exit 1`.
fn leaves(line: &[u8]) -> bool {
    let line = String::from_utf8_lossy(line);
    let last = line.rsplit([';', '&', '|']).next().unwrap_or_default();
    last.split_whitespace()
        .next()
        .is_some_and(|word| LEAVING.contains(&word))
}

/// Whether a line that was shown, with a prompt before the command or none, ends with such a
/// command.
fn leaves_at_end(line: &[u8]) -> bool {
    let line = String::from_utf8_lossy(line);
    line.split_whitespace()
        .next_back()
        .is_some_and(|word| LEAVING.contains(&word))
}

fn keep(line: &mut Vec<u8>, byte: u8) {
    if line.len() == LINE_BYTES {
        line.remove(0);
    }
    line.push(byte);
}

/// The line that the far side is at, without control sequences, and the last one before it that was
/// not empty.
#[derive(Debug, Default)]
struct Shown {
    line: Vec<u8>,
    before: Vec<u8>,
    within: SequenceState,
}

/// Where in a control sequence the output is.
#[derive(Clone, Copy, Debug, Default)]
enum SequenceState {
    #[default]
    Text,
    /// Behind an ESC.
    Escape,
    /// Behind `ESC [`, up to a letter.
    Csi,
    /// Behind `ESC ]`, `ESC P` and the like, up to BEL or `ESC \`.
    Words,
}

impl Shown {
    fn take_byte(&mut self, byte: u8) {
        self.within = match (self.within, byte) {
            // Intermediate bytes, as in `ESC ( B`, come before the last one.
            (_, 0x1b) | (SequenceState::Escape, 0x20..=0x2f) => SequenceState::Escape,
            (SequenceState::Escape, b'[') => SequenceState::Csi,
            (SequenceState::Escape, b']' | b'P' | b'X' | b'^' | b'_') => SequenceState::Words,
            (SequenceState::Escape, _)
            | (SequenceState::Csi, 0x40..=0x7e)
            | (SequenceState::Words, 0x07) => SequenceState::Text,
            (within @ (SequenceState::Csi | SequenceState::Words), _) => within,
            (SequenceState::Text, byte) => {
                self.take_text(byte);
                SequenceState::Text
            }
        };
    }

    fn take_text(&mut self, byte: u8) {
        match byte {
            b'\n' => {
                let line = std::mem::take(&mut self.line);
                if !line.trim_ascii().is_empty() {
                    self.before = line;
                }
            }
            0x08 => {
                self.line.pop();
            }
            0..0x20 | 0x7f => {}
            byte => keep(&mut self.line, byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether an end is the user's own after keys (`>`) and output (`<`) in this order.
    fn is_own(steps: &[&str]) -> bool {
        let mut departure = Departure::default();
        for step in steps {
            match step.split_at(1) {
                (">", keys) => departure.type_keys(keys.as_bytes()),
                (_, output) => departure.show_output(output.as_bytes()),
            }
        }
        departure.is_own()
    }

    #[test]
    fn an_exit_is_the_users_own() {
        assert!(is_own(&["<$ ", ">exit\r", "<exit\r\nexit\r\n"]));
        assert!(is_own(&["<$ ", ">exit 3\r\r", "<exit 3\r\n"]));
        assert!(is_own(&["<$ ", ">make && exit\r", "<make && exit\r\n"]));
        assert!(is_own(&[
            "<$ ",
            ">exot\x7f\x7fit\r",
            "<exot\x08 \x08\x08 \x08it\r\n"
        ]));
        assert!(is_own(&[
            "<$ ",
            ">\x04",
            "<\r\nlogout\r\n\x1b[H\x1b[2J\x1b[3J"
        ]));
        // Before anything was shown, and with a title that the prompt sets.
        assert!(is_own(&[">\x04"]));
        assert!(is_own(&[
            "<\x1b]0;web\x07\x1b[1m$\x1b(B\x1b[m ",
            ">exit\r",
            "<exit\r\n"
        ]));
        // From the history: an arrow key, and the shell shows what it found.
        assert!(is_own(&["<$ ", ">\x1b[A\r", "<exit\r\n"]));
    }

    #[test]
    fn an_end_at_a_prompt_or_under_a_command_is_not() {
        assert!(!is_own(&["<$ "]));
        assert!(!is_own(&["<$ ", ">ls\r", "<ls\r\na b\r\n$ "]));
        assert!(!is_own(&["<$ ", ">sleep 99\r", "<sleep 99\r\n"]));
        assert!(!is_own(&["<$ ", ">half a line", "<half a line"]));
        // Ctrl-D ended a program, not the shell.
        assert!(!is_own(&["<$ ", ">cat\r\x04", "<cat\r\n$ "]));
        assert!(!is_own(&[
            "<$ ",
            ">cat\r\x04sleep 99\r",
            "<cat\r\n$ sleep 99\r\n"
        ]));
        // Refused: "There are stopped jobs."
        assert!(!is_own(&[
            "<$ ",
            ">exit\r",
            "<exit\r\nThere are stopped jobs.\r\n$ "
        ]));
    }
}
