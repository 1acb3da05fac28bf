//! What the far side has switched on in the user's terminal, so that it can be switched off when
//! the far side no longer can.

use std::collections::BTreeSet;

/// Private modes (`CSI ? n h`) that would make a terminal unusable, or odd, if they stayed:
/// application cursor keys, reverse screen, mouse reports, alternate screens, focus reports,
/// bracketed paste, synchronised output.
const WATCHED: &[u16] = &[
    1, 5, 9, 47, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 1047, 1049, 2004, 2026,
];
/// The three ways to an alternate screen, from the oldest to today's.
const ALTERNATE_SCREENS: [u16; 3] = [47, 1047, 1049];
/// Modes that are on in a terminal at rest: automatic wrap, visible cursor.
const ON_AT_REST: &[u16] = &[7, 25];
/// Longest control sequence that is followed; a longer one is not of those we know.
const SEQUENCE_BYTES: usize = 64;

/// Follows the output of a session.
#[derive(Debug, Default)]
pub(crate) struct Modes {
    parser: Parser,
    on: BTreeSet<u16>,
    off: BTreeSet<u16>,
    keypad: bool,
    /// `CSI > … u` pushed minus `CSI < … u` popped: levels of the kitty keyboard protocol.
    keyboard_levels: usize,
    modify_other_keys: bool,
    styled: bool,
    changed: bool,
}

#[derive(Debug, Default)]
enum Parser {
    #[default]
    Ground,
    Escape,
    Csi(Vec<u8>),
}

impl Modes {
    /// Takes output. True: [`Self::undo`] has changed.
    pub(crate) fn observe(&mut self, output: &[u8]) -> bool {
        self.changed = false;
        let mut rest = output;
        while !rest.is_empty() {
            if matches!(self.parser, Parser::Ground) {
                // Most output holds no escape at all.
                let Some(at) = rest.iter().position(|&byte| byte == 0x1b) else {
                    break;
                };
                self.parser = Parser::Escape;
                rest = &rest[at + 1..];
                continue;
            }
            let byte = rest[0];
            rest = &rest[1..];
            self.step(byte);
        }
        self.changed
    }

    fn step(&mut self, byte: u8) {
        match (&mut self.parser, byte) {
            (_, 0x1b) => self.parser = Parser::Escape,
            (Parser::Ground, _) => {}
            (Parser::Escape, b'[') => self.parser = Parser::Csi(Vec::new()),
            (Parser::Escape, _) => {
                self.parser = Parser::Ground;
                match byte {
                    b'=' => self.set(|modes| &mut modes.keypad, true),
                    b'>' => self.set(|modes| &mut modes.keypad, false),
                    // Full reset.
                    b'c' => {
                        *self = Self {
                            changed: true,
                            ..Self::default()
                        };
                    }
                    _ => {}
                }
            }
            (Parser::Csi(body), 0x20..=0x3f) if body.len() < SEQUENCE_BYTES => body.push(byte),
            (Parser::Csi(_), 0x40..=0x7e) => {
                let Parser::Csi(body) = std::mem::take(&mut self.parser) else {
                    return;
                };
                self.sequence(&body, byte);
            }
            (Parser::Csi(_), _) => self.parser = Parser::Ground,
        }
    }

    fn set(&mut self, field: fn(&mut Self) -> &mut bool, value: bool) {
        if *field(self) != value {
            *field(self) = value;
            self.changed = true;
        }
    }

    fn sequence(&mut self, body: &[u8], last: u8) {
        let numbers = |body: &[u8]| -> Vec<u16> {
            body.split(|&byte| byte == b';')
                .filter_map(|part| std::str::from_utf8(part).ok()?.parse().ok())
                .collect()
        };
        match (body, last) {
            ([b'?', rest @ ..], b'h' | b'l') => {
                for mode in numbers(rest) {
                    let set = last == b'h';
                    let changed = if WATCHED.contains(&mode) {
                        if set {
                            self.on.insert(mode)
                        } else {
                            self.on.remove(&mode)
                        }
                    } else if ON_AT_REST.contains(&mode) {
                        if set {
                            self.off.remove(&mode)
                        } else {
                            self.off.insert(mode)
                        }
                    } else {
                        false
                    };
                    self.changed |= changed;
                }
            }
            ([b'>', ..], b'u') => {
                self.keyboard_levels += 1;
                self.changed = true;
            }
            ([b'<', rest @ ..], b'u') => {
                let levels = numbers(rest).first().map_or(1, |&levels| levels.into());
                self.keyboard_levels = self.keyboard_levels.saturating_sub(levels);
                self.changed = true;
            }
            ([b'>', rest @ ..], b'm') => {
                if let [4, value @ ..] = numbers(rest).as_slice() {
                    let on = value.first().is_some_and(|&value| value > 0);
                    self.set(|modes| &mut modes.modify_other_keys, on);
                }
            }
            (body, b'm') => {
                let plain = matches!(numbers(body).last(), None | Some(0));
                self.set(|modes| &mut modes.styled, !plain);
            }
            // Soft reset.
            (b"!", b'p') => {
                self.off.remove(&25);
                self.set(|modes| &mut modes.keypad, false);
                self.on.remove(&1);
                self.set(|modes| &mut modes.styled, false);
                self.changed = true;
            }
            _ => {}
        }
    }

    /// Whether the far side shows the alternate screen, as full-screen programs do.
    pub(crate) fn is_alternate_screen(&self) -> bool {
        ALTERNATE_SCREENS.iter().any(|mode| self.on.contains(mode))
    }

    /// What switches everything back; empty where the far side left all as it was.
    pub(crate) fn undo(&self) -> Vec<u8> {
        let mut undo = Vec::new();
        for _ in 0..self.keyboard_levels.min(16) {
            undo.extend_from_slice(b"\x1b[<u");
        }
        if self.modify_other_keys {
            undo.extend_from_slice(b"\x1b[>4m");
        }
        if self.keypad {
            undo.extend_from_slice(b"\x1b>");
        }
        if self.styled {
            undo.extend_from_slice(b"\x1b[m");
        }
        // Highest first: mouse and paste go off before the alternate screen is left.
        for mode in self.on.iter().rev() {
            undo.extend_from_slice(format!("\x1b[?{mode}l").as_bytes());
        }
        for mode in &self.off {
            undo.extend_from_slice(format!("\x1b[?{mode}h").as_bytes());
        }
        undo
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn undo(output: &[u8]) -> String {
        let mut modes = Modes::default();
        modes.observe(output);
        String::from_utf8(modes.undo()).expect("ASCII")
    }

    #[test]
    fn what_an_editor_leaves_on_is_switched_off() {
        assert_eq!(
            undo(b"\x1b[?1049h\x1b[?1006;1000h\x1b[?25l\x1b[?2004h\x1b=\x1b[>4;2m"),
            "\x1b[>4m\x1b>\x1b[?2004l\x1b[?1049l\x1b[?1006l\x1b[?1000l\x1b[?25h"
        );
    }

    #[test]
    fn a_full_screen_program_is_known_by_its_screen() {
        let mut modes = Modes::default();
        modes.observe(b"$ less\x1b[?1049h\x1b[1;1Htext");
        assert!(modes.is_alternate_screen());
        modes.observe(b"\x1b[?1049l$ ");
        assert!(!modes.is_alternate_screen());
    }

    #[test]
    fn what_was_put_in_order_needs_nothing() {
        assert_eq!(undo(b"\x1b[?1049h\x1b[?25l text \x1b[?25h\x1b[?1049l"), "");
        assert_eq!(undo(b"\x1b[1;31mred\x1b[0m \x1b[>1u\x1b[<u"), "");
        assert_eq!(undo(b"\x1b[?1049h\x1b[?1000h\x1bc"), "");
        assert_eq!(undo(b"plain \x1b]0;title\x07 text"), "");
    }

    #[test]
    fn a_sequence_may_be_cut_anywhere() {
        let whole = b"\x1b[?1049h\x1b[1mx\x1b[?25l";
        for cut in 0..whole.len() {
            let mut modes = Modes::default();
            modes.observe(&whole[..cut]);
            modes.observe(&whole[cut..]);
            assert_eq!(modes.undo(), b"\x1b[m\x1b[?1049l\x1b[?25h", "cut at {cut}");
        }
    }

    #[test]
    fn endless_sequences_cost_no_memory() {
        let mut modes = Modes::default();
        modes.observe(b"\x1b[");
        for _ in 0..10_000 {
            modes.observe(b"1;1;1;1;");
        }
        assert!(matches!(modes.parser, Parser::Ground));
        assert_eq!(modes.undo(), b"");
    }
}
