//! Lines from the far side: messages of our scripts, and whatever else a program there says.

/// Longest line, in bytes; what is longer is cut off.
const LINE_MAX_BYTES: usize = 8 << 10;

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ScriptLine {
    /// `!…`: a message of the script.
    Message(String),
    /// Anything else that is not empty.
    Other(String),
}

/// Puts lines together, however they are cut.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    line: Vec<u8>,
}

impl Lines {
    /// Takes the next piece; gives the lines it completes.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Vec<ScriptLine> {
        let mut lines = Vec::new();
        for &byte in piece {
            if byte == b'\n' {
                lines.extend(self.finish());
            } else if self.line.len() < LINE_MAX_BYTES {
                self.line.push(byte);
            }
        }
        lines
    }

    /// The last line, which nothing ends.
    pub(crate) fn finish(&mut self) -> Option<ScriptLine> {
        let text = String::from_utf8_lossy(&self.line).trim_end().to_owned();
        self.line.clear();
        match text.strip_prefix('!') {
            Some(message) => Some(ScriptLine::Message(message.to_owned())),
            None => (!text.is_empty()).then_some(ScriptLine::Other(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_from_what_programs_say_however_lines_are_cut() {
        let text = b"!ready\r\nsudo: a password is required\n\n!status 1\nlast";
        for cut in 1..text.len() {
            let mut lines = Lines::default();
            let mut read: Vec<ScriptLine> = text
                .chunks(cut)
                .flat_map(|piece| lines.push(piece))
                .collect();
            read.extend(lines.finish());
            assert_eq!(
                read,
                [
                    ScriptLine::Message("ready".to_owned()),
                    ScriptLine::Other("sudo: a password is required".to_owned()),
                    ScriptLine::Message("status 1".to_owned()),
                    ScriptLine::Other("last".to_owned()),
                ]
            );
        }
    }

    #[test]
    fn an_endless_line_takes_no_memory() {
        let mut lines = Lines::default();
        for _ in 0..100 {
            assert_eq!(lines.push(&[b'x'; 1000]), []);
        }
        let Some(ScriptLine::Other(text)) = lines.finish() else {
            panic!("a line");
        };
        assert_eq!(text.len(), LINE_MAX_BYTES);
    }
}
