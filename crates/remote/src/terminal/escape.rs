//! The escape character, as in ssh: recognised at the beginning of a line, followed by what to do.

use std::{fmt, str::FromStr};

use bytes::Bytes;
use ops_profile::values::Escape;
use ops_ui::Text;

/// Which character begins an escape; `None` inside: none does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EscapeChar(Option<u8>);

impl EscapeChar {
    /// Escapes are off.
    pub const NONE: Self = Self(None);
}

impl Default for EscapeChar {
    /// The tilde of ssh.
    fn default() -> Self {
        Self(Some(b'~'))
    }
}

impl From<Escape> for EscapeChar {
    fn from(escape: Escape) -> Self {
        match escape {
            Escape::Char(char) => Self(u8::try_from(char).ok()),
            Escape::Off => Self::NONE,
        }
    }
}

impl FromStr for EscapeChar {
    type Err = String;

    /// One printable ASCII character, `^X` for a control character, or `none`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.as_bytes() {
            b"none" => Ok(Self::NONE),
            [byte] if byte.is_ascii_graphic() => Ok(Self(Some(*byte))),
            [b'^', byte] if matches!(byte.to_ascii_uppercase(), b'@'..=b'_') => {
                Ok(Self(Some(byte.to_ascii_uppercase() & 0x1f)))
            }
            _ => Err(format!(
                "`{}` is no escape character; write one character, `^X`, or none",
                text.escape_debug()
            )),
        }
    }
}

impl fmt::Display for EscapeChar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("none"),
            Some(byte) if byte < 0x20 => write!(f, "^{}", char::from(byte | 0x40)),
            Some(byte) => write!(f, "{}", char::from(byte)),
        }
    }
}

/// What a piece of input asks for, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EscapeAction {
    /// Goes to the far side as it is.
    Send(Bytes),
    /// The help text was asked for.
    Help,
    /// The session is to end.
    End,
    /// This process is to stop, as Ctrl-Z would have it do here.
    Suspend,
}

/// Finds escapes in what is typed.
#[derive(Debug)]
pub(crate) struct Escapes {
    escape: Option<u8>,
    state: EscapeState,
    /// How much of a mark of bracketed paste the input ends with.
    mark_len: usize,
    pasting: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EscapeState {
    LineStart,
    Escape,
    WithinLine,
}

const PASTE_BEGINS: &[u8] = b"\x1b[200~";
const PASTE_ENDS: &[u8] = b"\x1b[201~";
/// More than this at once was pasted, not typed; no escape is meant by it.
const TYPED_BYTES: usize = 64;

impl Escapes {
    pub(crate) fn new(escape: EscapeChar) -> Self {
        Self {
            escape: escape.0,
            state: EscapeState::LineStart,
            mark_len: 0,
            pasting: false,
        }
    }

    /// Takes what one read of the terminal gave.
    pub(crate) fn feed(&mut self, input: &Bytes) -> Vec<EscapeAction> {
        let Some(escape) = self.escape else {
            return vec![EscapeAction::Send(input.clone())];
        };
        if input.len() > TYPED_BYTES {
            return self.pass(escape, input);
        }
        let mut actions = Vec::new();
        let mut pending = Vec::with_capacity(input.len() + 1);
        let flush = |pending: &mut Vec<u8>, actions: &mut Vec<EscapeAction>| {
            if !pending.is_empty() {
                actions.push(EscapeAction::Send(std::mem::take(pending).into()));
            }
        };
        for &byte in input {
            self.follow_paste(byte);
            match self.state {
                EscapeState::Escape => {
                    // What follows an escape is within the line, unless it was the end of one.
                    self.state = EscapeState::WithinLine;
                    match byte {
                        b'.' => {
                            flush(&mut pending, &mut actions);
                            actions.push(EscapeAction::End);
                            return actions;
                        }
                        b'?' => {
                            flush(&mut pending, &mut actions);
                            actions.push(EscapeAction::Help);
                            self.state = EscapeState::LineStart;
                        }
                        0x1a => {
                            flush(&mut pending, &mut actions);
                            actions.push(EscapeAction::Suspend);
                            self.state = EscapeState::LineStart;
                        }
                        byte if byte == escape => pending.push(byte),
                        byte => {
                            pending.extend([escape, byte]);
                            self.end_byte(byte);
                        }
                    }
                }
                EscapeState::LineStart if byte == escape && !self.pasting => {
                    self.state = EscapeState::Escape
                }
                _ => {
                    pending.push(byte);
                    self.end_byte(byte);
                }
            }
        }
        flush(&mut pending, &mut actions);
        actions
    }

    /// Pasted text: followed, not searched.
    fn pass(&mut self, escape: u8, input: &Bytes) -> Vec<EscapeAction> {
        let mut actions = Vec::with_capacity(2);
        if self.state == EscapeState::Escape {
            actions.push(EscapeAction::Send(Bytes::copy_from_slice(&[escape])));
        }
        for &byte in input {
            self.follow_paste(byte);
        }
        if let Some(&last) = input.last() {
            self.end_byte(last);
        }
        actions.push(EscapeAction::Send(input.clone()));
        actions
    }

    fn end_byte(&mut self, byte: u8) {
        self.state = if matches!(byte, b'\r' | b'\n') {
            EscapeState::LineStart
        } else {
            EscapeState::WithinLine
        };
    }

    /// Within a bracketed paste nothing is an escape.
    fn follow_paste(&mut self, byte: u8) {
        let mark = if self.pasting {
            PASTE_ENDS
        } else {
            PASTE_BEGINS
        };
        if byte == mark[self.mark_len] {
            self.mark_len += 1;
            if self.mark_len == mark.len() {
                self.pasting = !self.pasting;
                self.mark_len = 0;
            }
        } else {
            self.mark_len = usize::from(byte == mark[0]);
        }
    }
}

/// What `Enter ~ ?` shows, line by line.
pub(crate) fn help(escape: EscapeChar) -> Text {
    Text::lines([
        "escapes, at the beginning of a line:".to_owned(),
        format!("  {escape}.   end this session"),
        format!("  {escape}^Z  suspend ops"),
        format!("  {escape}?   this help"),
        format!("  {escape}{escape}   send the escape character"),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escapes() -> Escapes {
        Escapes::new(EscapeChar::default())
    }

    fn feed(escapes: &mut Escapes, input: &str) -> Vec<EscapeAction> {
        escapes.feed(&Bytes::copy_from_slice(input.as_bytes()))
    }

    fn send(text: &str) -> EscapeAction {
        EscapeAction::Send(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn an_escape_counts_at_the_beginning_of_a_line_only() {
        assert_eq!(feed(&mut escapes(), "~."), [EscapeAction::End]);
        assert_eq!(feed(&mut escapes(), "a~."), [send("a~.")]);
        assert_eq!(
            feed(&mut escapes(), "ls\r~."),
            [send("ls\r"), EscapeAction::End]
        );
        assert_eq!(
            feed(&mut escapes(), "\n~?ls"),
            [send("\n"), EscapeAction::Help, send("ls")]
        );
        assert_eq!(feed(&mut escapes(), "~\x1a"), [EscapeAction::Suspend]);
    }

    #[test]
    fn an_escape_may_come_key_by_key() {
        let mut escapes = escapes();
        assert_eq!(feed(&mut escapes, "\r"), [send("\r")]);
        assert_eq!(feed(&mut escapes, "~"), []);
        assert_eq!(feed(&mut escapes, "."), [EscapeAction::End]);
    }

    #[test]
    fn the_escape_character_can_be_sent() {
        assert_eq!(feed(&mut escapes(), "~~."), [send("~.")]);
        assert_eq!(feed(&mut escapes(), "~/bin\r"), [send("~/bin\r")]);
        assert_eq!(
            feed(&mut escapes(), "~\r~."),
            [send("~\r"), EscapeAction::End]
        );
        // Help leaves the line where it was: at its beginning.
        assert_eq!(
            feed(&mut escapes(), "~?~."),
            [EscapeAction::Help, EscapeAction::End]
        );
    }

    #[test]
    fn what_is_pasted_holds_no_escape() {
        let mut e = escapes();
        let paste = "\x1b[200~one\n~.\ntwo\x1b[201~";
        assert_eq!(feed(&mut e, paste), [send(paste)]);
        assert_eq!(feed(&mut e, "\r~."), [send("\r"), EscapeAction::End]);
        let mut e = escapes();
        let long = format!("{}\n~.\n", "x".repeat(80));
        assert_eq!(feed(&mut e, "~"), []);
        assert_eq!(feed(&mut e, &long), [send("~"), send(&long)]);
        assert_eq!(feed(&mut e, "~."), [EscapeAction::End]);
    }

    #[test]
    fn none_turns_it_off_and_another_character_takes_its_place() {
        let mut off = Escapes::new(EscapeChar::NONE);
        assert_eq!(feed(&mut off, "\r~."), [send("\r~.")]);
        let mut other = Escapes::new("^B".parse().expect("a control character"));
        assert_eq!(
            feed(&mut other, "~.\r\x02."),
            [send("~.\r"), EscapeAction::End]
        );
        for bad in ["", "ab", "^1", "^ä", "é", " "] {
            assert!(bad.parse::<EscapeChar>().is_err(), "{bad}");
        }
        for text in ["none", "~", "%", "^]"] {
            assert_eq!(
                text.parse::<EscapeChar>().map(|c| c.to_string()),
                Ok(text.to_owned())
            );
        }
    }

    #[test]
    fn nothing_is_lost_however_the_input_is_cut() {
        let text = b"ls\r~~x\r~y\r\x1b[200~\r~.\r\x1b[201~end\r";
        let expected = b"ls\r~x\r~y\r\x1b[200~\r~.\r\x1b[201~end\r";
        for cut in 0..text.len() {
            let mut escapes = escapes();
            let mut sent = Vec::new();
            for part in [&text[..cut], &text[cut..]] {
                for action in escapes.feed(&Bytes::copy_from_slice(part)) {
                    match action {
                        EscapeAction::Send(bytes) => sent.extend_from_slice(&bytes),
                        other => panic!("{other:?} at {cut}"),
                    }
                }
            }
            assert_eq!(sent, expected, "cut at {cut}");
        }
    }
}
