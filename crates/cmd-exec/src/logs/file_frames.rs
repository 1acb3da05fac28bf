//! What the script for files sends, and what is shown of it.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::sources::FilePlaces;

/// A line of the script is never longer: its largest piece is a mebibyte, in hexadecimal digits.
const LONGEST_LINE: usize = 4 << 20;

/// What comes out of the script's lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LogFrame {
    /// Lines of logs, byte for byte.
    Bytes(Vec<u8>),
    /// What a person should know.
    Note(String),
    /// This could not be read.
    Trouble(LogTrouble),
    /// All has been sent.
    End,
}

/// Why something could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LogTrouble {
    Missing(String),
    Unreadable(String),
    Folder(String),
    /// A device, a socket, a FIFO.
    Special(String),
    /// The expression is none.
    Pattern,
    /// More files than can be followed.
    Many,
    /// The server has no journalctl.
    NoJournal,
    /// journalctl ended with this status, after it had said why.
    Journal(u8),
}

/// The server did not send what the script sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Garbled;

/// Reads the script's lines, across its runs: after a loss the next run begins at [`Self::places`].
#[derive(Debug, Default)]
pub(crate) struct FileFrames {
    rest: Vec<u8>,
    /// The paths of this run's numbers, as the script writes them: not every path is UTF-8.
    paths: BTreeMap<u32, String>,
    places: FilePlaces,
    /// Paths whose last line is not ended yet.
    unended: BTreeSet<String>,
    /// All that have been taken up, in any run: with two of them each is named above its lines.
    known: BTreeSet<String>,
    /// Whose lines were given last.
    last: Option<String>,
    is_begun: bool,
}

impl FileFrames {
    /// Where in which file the client is.
    pub(crate) fn places(&self) -> &FilePlaces {
        &self.places
    }

    /// Whether any run has sent something.
    pub(crate) fn is_begun(&self) -> bool {
        self.is_begun
    }

    /// Another run begins: what the last one had not sent wholly comes again.
    pub(crate) fn begin_run(&mut self) {
        self.rest.clear();
        self.paths.clear();
    }

    /// Takes a piece of the script's output.
    ///
    /// # Errors
    /// It is none of the script's.
    pub(crate) fn push(&mut self, piece: &[u8], frames: &mut Vec<LogFrame>) -> Result<(), Garbled> {
        self.rest.extend_from_slice(piece);
        let mut rest = std::mem::take(&mut self.rest);
        let mut begin = 0;
        while let Some(len) = rest[begin..].iter().position(|&byte| byte == b'\n') {
            let line = std::str::from_utf8(&rest[begin..begin + len]).map_err(|_| Garbled)?;
            self.read_line(line, frames)?;
            begin += len + 1;
        }
        rest.drain(..begin);
        if rest.len() > LONGEST_LINE {
            return Err(Garbled);
        }
        self.rest = rest;
        Ok(())
    }

    fn read_line(&mut self, line: &str, frames: &mut Vec<LogFrame>) -> Result<(), Garbled> {
        self.is_begun = true;
        let (word, words) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "file" => {
                let (number, path) = words.split_once(' ').ok_or(Garbled)?;
                text_of(path)?;
                self.known.insert(path.to_owned());
                self.paths
                    .insert(number.parse().map_err(|_| Garbled)?, path.to_owned());
            }
            "at" => self.read_piece(words, frames)?,
            "next" => {
                let path = self.path(words)?;
                // The line that the old file did not end is none of the new one's.
                if self.unended.remove(&path) {
                    self.give(&path, b"\n", frames);
                }
            }
            "appeared" => {
                let path = text_of(&self.path(words)?)?;
                frames.push(LogFrame::Note(format!("`{path}` is there now")));
            }
            "truncated" => {
                let path = text_of(&self.path(words)?)?;
                frames.push(LogFrame::Note(format!(
                    "`{path}` was emptied or replaced: it is read from its beginning"
                )));
            }
            "unfinished" => {
                let path = text_of(&self.path(words)?)?;
                frames.push(LogFrame::Note(format!(
                    "what `{path}` was is not there any more: lines may be missing here"
                )));
            }
            "missing" => frames.push(trouble(LogTrouble::Missing, words)?),
            "unreadable" => frames.push(trouble(LogTrouble::Unreadable, words)?),
            "folder" => frames.push(trouble(LogTrouble::Folder, words)?),
            "special" => frames.push(trouble(LogTrouble::Special, words)?),
            "pattern" => frames.push(LogFrame::Trouble(LogTrouble::Pattern)),
            "many" => frames.push(LogFrame::Trouble(LogTrouble::Many)),
            "end" => frames.push(LogFrame::End),
            _ => return Err(Garbled),
        }
        Ok(())
    }

    /// `NUMBER INODE OFFSET HEAD SUM SKIP DATA`.
    fn read_piece(&mut self, words: &str, frames: &mut Vec<LogFrame>) -> Result<(), Garbled> {
        let (number, words) = words.split_once(' ').ok_or(Garbled)?;
        let (place, data) = words.rsplit_once(' ').ok_or(Garbled)?;
        let is_place = place.split(' ').count() == 5
            && place
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b' ');
        if !is_place {
            return Err(Garbled);
        }
        let path = self.path(number)?;
        let bytes = decode(data)?;
        if let Some(&last) = bytes.last() {
            if last == b'\n' {
                self.unended.remove(&path);
            } else {
                self.unended.insert(path.clone());
            }
            self.give(&path, &bytes, frames);
        }
        self.places.insert(path, place.to_owned());
        Ok(())
    }

    /// Gives bytes of `path`, under its name where there are others, as tail does.
    fn give(&mut self, path: &str, bytes: &[u8], frames: &mut Vec<LogFrame>) {
        let mut text = Vec::with_capacity(bytes.len() + 64);
        if self.known.len() > 1 && self.last.as_deref() != Some(path) {
            if let Some(last) = &self.last {
                // Only on the screen: that line may go on later.
                if self.unended.contains(last) {
                    text.push(b'\n');
                }
                text.push(b'\n');
            }
            let name = decode(path).unwrap_or_default();
            text.extend_from_slice(&[b"==> ", &name[..], b" <==\n"].concat());
        }
        self.last = Some(path.to_owned());
        text.extend_from_slice(bytes);
        frames.push(LogFrame::Bytes(text));
    }

    fn path(&self, number: &str) -> Result<String, Garbled> {
        let number: u32 = number.parse().map_err(|_| Garbled)?;
        self.paths.get(&number).cloned().ok_or(Garbled)
    }
}

fn trouble(of: fn(String) -> LogTrouble, data: &str) -> Result<LogFrame, Garbled> {
    Ok(LogFrame::Trouble(of(text_of(data)?)))
}

/// A path for people.
fn text_of(data: &str) -> Result<String, Garbled> {
    Ok(String::from_utf8_lossy(&decode(data)?).into_owned())
}

/// Base64, or hexadecimal digits behind `%`.
fn decode(data: &str) -> Result<Vec<u8>, Garbled> {
    let Some(digits) = data.strip_prefix('%') else {
        return BASE64_STANDARD.decode(data).map_err(|_| Garbled);
    };
    if !digits.len().is_multiple_of(2) || !digits.is_ascii() {
        return Err(Garbled);
    }
    let pairs = (0..digits.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| Garbled))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(reader: &mut FileFrames, text: &str) -> String {
        let mut frames = Vec::new();
        for piece in text.as_bytes().chunks(7) {
            reader.push(piece, &mut frames).expect("the script's lines");
        }
        let shown = frames.into_iter().map(|frame| match frame {
            LogFrame::Bytes(bytes) => String::from_utf8(bytes).expect("UTF-8"),
            other => format!("{other:?}\n"),
        });
        shown.collect()
    }

    fn data(text: &str) -> String {
        BASE64_STANDARD.encode(text)
    }

    #[test]
    fn bytes_come_out_and_the_place_behind_them_is_kept() {
        let mut reader = FileFrames::default();
        let text = format!(
            "file 1 {}\nat 1 7 4 4 99 0 {}\nat 1 7 9 9 98 0 %{}\n",
            data("/a"),
            data("one\n"),
            "74776f0aff"
        );
        let mut frames = Vec::new();
        reader.push(text.as_bytes(), &mut frames).expect("lines");
        assert_eq!(
            frames,
            [
                LogFrame::Bytes(b"one\n".to_vec()),
                LogFrame::Bytes(b"two\n\xff".to_vec())
            ]
        );
        assert_eq!(reader.places()[&data("/a")], "7 9 9 98 0");
        // What a run had not sent wholly is forgotten, its place is not.
        reader
            .push(b"at 1 7 20 9 98 0 AAA", &mut frames)
            .expect("lines");
        reader.begin_run();
        assert_eq!(reader.places()[&data("/a")], "7 9 9 98 0");
        assert!(
            reader
                .push(b"at 1 7 20 9 98 0 AAAA\n", &mut frames)
                .is_err()
        );
    }

    #[test]
    fn with_two_files_each_is_named_above_its_lines() {
        let mut reader = FileFrames::default();
        let text = format!(
            "file 1 {}\nfile 2 {}\nat 1 7 1 1 9 0 {}\nat 2 8 2 1 9 0 {}\nat 2 8 4 1 9 0 {}\n\
             at 1 7 3 1 9 0 {}\n",
            data("/a"),
            data("/b"),
            data("1"),
            data("x\n"),
            data("y\n"),
            data("2\n"),
        );
        assert_eq!(
            read(&mut reader, &text),
            "==> /a <==\n1\n\n==> /b <==\nx\ny\n\n==> /a <==\n2\n"
        );
    }

    #[test]
    fn the_line_that_a_rotated_file_did_not_end_is_ended() {
        let mut reader = FileFrames::default();
        let text = format!(
            "file 1 {}\nat 1 7 4 4 9 0 {}\nnext 1\nnext 1\nat 1 8 2 2 8 0 {}\n",
            data("/a"),
            data("half"),
            data("n\n")
        );
        assert_eq!(read(&mut reader, &text), "half\nn\n");
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let mut reader = FileFrames::default();
        let mut frames = Vec::new();
        let text = format!("missing {}\nend\n", data("/x y"));
        reader.push(text.as_bytes(), &mut frames).expect("lines");
        let missing = LogTrouble::Missing("/x y".to_owned());
        assert_eq!(frames, [LogFrame::Trouble(missing), LogFrame::End]);
        for bad in [
            "what\n",
            "at 1 2\n",
            "file x /a\n",
            "missing *\n",
            "next 9\n",
        ] {
            assert!(
                FileFrames::default()
                    .push(bad.as_bytes(), &mut frames)
                    .is_err(),
                "{bad:?}"
            );
        }
    }
}
