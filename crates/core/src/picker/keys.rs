//! What is typed while the picker is on the terminal, key by key.

use std::io;

/// What a key press means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    /// Tab: marks one of several, and goes down.
    Mark,
    /// Shift-Tab: marks one of several, and goes up.
    MarkUp,
    /// Ctrl-T: shows the tags, or hides them.
    Tags,
    Leave,
    /// Ctrl-C.
    Interrupt,
    Erase,
    EraseAll,
    Char(char),
    Other,
}

/// What the picker has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Key(Key),
    /// Somebody rang: there is news of the list, or the terminal has another size.
    Bell,
}

/// Reads keys from standard input, byte by byte: what is typed behind the choice is meant for what
/// comes after the picker, and has to stay unread.
#[derive(Default)]
pub(super) struct Keys {
    pending: Vec<u8>,
}

#[cfg(unix)]
pub(super) type Bell = std::os::unix::net::UnixStream;

#[cfg(not(unix))]
pub(super) type Bell = ();

/// What a look at standard input and at the bell has shown.
enum Ready {
    Input,
    Bell,
    Neither,
}

impl Keys {
    /// Waits for a key or the bell.
    pub(super) fn next(&mut self, bell: &Bell) -> io::Result<Heard> {
        loop {
            if let Some((key, used)) = parse_key(&self.pending, false) {
                self.pending.drain(..used);
                return Ok(Heard::Key(key));
            }
            // Half a sequence: an Esc of its own has nothing behind it.
            if !self.pending.is_empty() && !is_input_soon()? {
                let (key, used) = parse_key(&self.pending, true).unwrap_or((Key::Other, 1));
                self.pending.drain(..used.max(1).min(self.pending.len()));
                return Ok(Heard::Key(key));
            }
            match wait(bell)? {
                Ready::Input => {}
                Ready::Bell => return Ok(Heard::Bell),
                Ready::Neither => continue,
            }
            let mut byte = [0; 1];
            if read_stdin(&mut byte)? == 0 {
                return Ok(Heard::Key(Key::Leave));
            }
            self.pending.extend_from_slice(&byte);
        }
    }

    /// Whether a key can be read at once, so that drawing before it would be for nothing.
    pub(super) fn is_more_typed(&self) -> bool {
        !self.pending.is_empty() || is_input_within(0).unwrap_or(false)
    }
}

#[cfg(unix)]
fn read_stdin(bytes: &mut [u8]) -> io::Result<usize> {
    loop {
        match rustix::io::read(rustix::stdio::stdin(), &mut *bytes) {
            Err(rustix::io::Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

/// Waits for standard input or the bell. The bell is emptied where both have something, and heard
/// first: a key may be about what it brings.
#[cfg(unix)]
fn wait(bell: &Bell) -> io::Result<Ready> {
    use std::io::Read as _;

    use rustix::event::{PollFd, PollFlags, poll};
    let stdin = rustix::stdio::stdin();
    let mut polled = [
        PollFd::new(bell, PollFlags::IN),
        PollFd::new(&stdin, PollFlags::IN),
    ];
    match poll(&mut polled, None) {
        Err(rustix::io::Errno::INTR) => return Ok(Ready::Neither),
        result => result?,
    };
    let [has_rung, has_input] = [&polled[0], &polled[1]].map(|fd| !fd.revents().is_empty());
    if has_rung {
        // At its end too, when whoever rang is gone: then this is heard again and again, and the
        // caller ends.
        let mut bell = bell;
        let _ = bell.read(&mut [0; 64]);
        return Ok(Ready::Bell);
    }
    Ok(if has_input {
        Ready::Input
    } else {
        Ready::Neither
    })
}

/// Whether more bytes come within a moment, as they do behind the Esc of an arrow key.
fn is_input_soon() -> io::Result<bool> {
    is_input_within(50)
}

#[cfg(unix)]
fn is_input_within(milliseconds: i64) -> io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let stdin = rustix::stdio::stdin();
    let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
    let patience = Timespec {
        tv_sec: 0,
        tv_nsec: milliseconds * 1_000_000,
    };
    Ok(poll(&mut fds, Some(&patience))? > 0)
}

#[cfg(not(unix))]
fn read_stdin(bytes: &mut [u8]) -> io::Result<usize> {
    use std::io::Read as _;
    io::stdin().read(bytes)
}

#[cfg(not(unix))]
fn wait(_bell: &Bell) -> io::Result<Ready> {
    Ok(Ready::Input)
}

#[cfg(not(unix))]
fn is_input_within(_milliseconds: i64) -> io::Result<bool> {
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
        [b'\t', ..] => (Key::Mark, 1),
        [14, ..] => (Key::Down, 1),
        [20, ..] => (Key::Tags, 1),
        [16, ..] => (Key::Up, 1),
        [27] if !last => return None,
        [27, b'[' | b'O', rest @ ..] => {
            let Some(end) = rest.iter().position(|b| (0x40..=0x7e).contains(b)) else {
                return last.then_some((Key::Other, bytes.len()));
            };
            let key = match (&rest[..end], rest[end]) {
                ([], b'A') => Key::Up,
                ([], b'B') => Key::Down,
                ([], b'Z') => Key::MarkUp,
                ([], b'H') | (b"1" | b"7", b'~') => Key::Home,
                ([], b'F') | (b"4" | b"8", b'~') => Key::End,
                (b"5", b'~') => Key::PageUp,
                (b"6", b'~') => Key::PageDown,
                _ => Key::Other,
            };
            (key, end + 3)
        }
        [3, ..] => (Key::Interrupt, 1),
        // Ctrl-D, Ctrl-G, and Esc with nothing that belongs to it.
        [4 | 7 | 27, ..] => (Key::Leave, 1),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart_also_in_pieces() {
        assert_eq!(parse_key(b"\x1b[A", false), Some((Key::Up, 3)));
        assert_eq!(parse_key(b"\x1bOB", false), Some((Key::Down, 3)));
        assert_eq!(parse_key(b"\x1b[Z", false), Some((Key::MarkUp, 3)));
        assert_eq!(parse_key(b"\tx", false), Some((Key::Mark, 1)));
        assert_eq!(parse_key(b"\x14", false), Some((Key::Tags, 1)));
        assert_eq!(parse_key(b"\x1b[6~x", false), Some((Key::PageDown, 4)));
        assert_eq!(parse_key(b"\x1b", false), None);
        assert_eq!(parse_key(b"\x1b", true), Some((Key::Leave, 1)));
        assert_eq!(parse_key(b"\x04", false), Some((Key::Leave, 1)));
        assert_eq!(parse_key(b"\x03", false), Some((Key::Interrupt, 1)));
        assert_eq!(parse_key(b"\x1b[", false), None);
        assert_eq!(parse_key("ü".as_bytes(), false), Some((Key::Char('ü'), 2)));
        assert_eq!(parse_key(&[0xc3], false), None);
        assert_eq!(parse_key(&[0xff, 0xff], false), None);
        assert_eq!(parse_key(&[0x80], false), Some((Key::Other, 1)));
    }
}
