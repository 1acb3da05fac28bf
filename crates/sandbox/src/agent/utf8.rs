//! The agent's care for UTF-8: a payload never ends inside a character, at the price of a few
//! habits.

/// Cuts a byte stream into payloads as the official agent does.
///
/// A character that is not complete within the last three bytes waits for the next read. A byte
/// that is not UTF-8 passes through, unless it is among the last three, where it waits too. What
/// still waits when the stream ends is lost, and of U+FFFD, which the agent takes for a decoding
/// error, only the first of three bytes is passed on. Source: the agent's shell plugin; pinned by
/// the recorded conversations `shell` and `command-separated`.
#[derive(Debug, Default)]
pub(super) struct Utf8Chunker {
    held: Vec<u8>,
}

/// A character has at most this many bytes.
const UTF8_MAX: usize = 4;
const REPLACEMENT: char = '\u{FFFD}';

impl Utf8Chunker {
    /// Puts bytes in front of the next read, as the agent does with the prefix of a separated
    /// stream.
    pub(super) fn prepend(&mut self, prefix: &[u8]) {
        self.held.extend_from_slice(prefix);
    }

    /// Adds what was read and returns the bytes to send, possibly none, at most three more than
    /// were read and prepended.
    pub(super) fn push(&mut self, read: &[u8]) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.held);
        bytes.extend_from_slice(read);
        let mut payload = Vec::with_capacity(bytes.len());
        let mut at = 0;
        while at < bytes.len() {
            let (character, len) = decode(&bytes[at..]);
            if character == REPLACEMENT {
                if bytes.len() - at < UTF8_MAX {
                    break;
                }
                payload.push(bytes[at]);
            } else {
                payload.extend_from_slice(&bytes[at..at + len]);
            }
            at += len;
        }
        self.held = bytes.split_off(at);
        payload
    }
}

/// The first character and its length; an invalid byte is U+FFFD of length 1, a real U+FFFD has
/// length 3.
fn decode(bytes: &[u8]) -> (char, usize) {
    let head = &bytes[..bytes.len().min(UTF8_MAX)];
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default(),
    };
    valid.chars().next().map_or((REPLACEMENT, 1), |character| {
        (character, character.len_utf8())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_cut_by_a_read_goes_out_whole_with_the_next_one() {
        let mut chunker = Utf8Chunker::default();
        assert_eq!(chunker.push(b"a\xC3"), b"a");
        assert_eq!(chunker.push(b"\xA9b"), "éb".as_bytes());
    }

    #[test]
    fn bytes_that_are_not_utf8_pass_through_but_wait_at_the_end() {
        let mut chunker = Utf8Chunker::default();
        assert_eq!(chunker.push(b"\xC3\xA9 \xFF\r\n$ "), b"\xC3\xA9 \xFF\r\n$ ");
        assert_eq!(chunker.push(b"x\xFF"), b"x");
        assert_eq!(chunker.push(b"yz"), b"");
        assert_eq!(chunker.push(b"!"), b"\xFFyz!");
    }

    #[test]
    fn a_replacement_character_loses_two_of_its_bytes() {
        let mut chunker = Utf8Chunker::default();
        assert_eq!(chunker.push(b"out\n\xEF\xBF\xBDend"), b"out\n\xEFend");
    }

    #[test]
    fn a_prefix_comes_after_what_was_held_back() {
        let mut chunker = Utf8Chunker::default();
        assert_eq!(chunker.push(b"\xC3"), b"");
        chunker.prepend(b"E:");
        assert_eq!(chunker.push(b"text"), b"\xC3E:text");
    }
}
