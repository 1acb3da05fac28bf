//! What the script for the journal sends, and what is shown of it.

use super::file_frames::{Garbled, LogFrame, LogTrouble};

/// What begins a line of the script's own. A line of the journal begins with a time or a blank.
const OWN: &str = "-- ops: ";
/// What journalctl puts before a cursor.
const CURSOR: &str = "-- cursor: ";
/// Bytes that wait for their first cursor. Lines "from before" are others a moment later, so that
/// they are given only when it is known where they end; more than this is given without.
const MOST_HELD: usize = 4 << 20;

/// Where in the journal a client is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct JournalPosition {
    /// The last cursor.
    pub(crate) cursor: Option<String>,
    /// Lines that were given after it.
    pub(crate) given: u64,
    /// What a length of time before now came to.
    pub(crate) since: Option<String>,
}

/// Reads the script's lines, across its runs.
#[derive(Debug)]
pub(crate) struct JournalLines {
    rest: Vec<u8>,
    position: JournalPosition,
    /// Lines that wait for their cursor; `None` once that has come.
    held: Option<Vec<u8>>,
    held_lines: u64,
    is_empty: bool,
    is_closed: bool,
}

impl JournalLines {
    /// `are_counted`: a number of lines was asked for.
    pub(crate) fn new(are_counted: bool) -> Self {
        Self {
            rest: Vec::new(),
            position: JournalPosition::default(),
            held: are_counted.then(Vec::new),
            held_lines: 0,
            is_empty: true,
            is_closed: false,
        }
    }

    /// Where the client is.
    pub(crate) fn position(&self) -> &JournalPosition {
        &self.position
    }

    /// Another run begins.
    pub(crate) fn begin_run(&mut self) {
        self.rest.clear();
        if let Some(held) = &mut self.held {
            held.clear();
            self.held_lines = 0;
        }
    }

    /// Takes a piece of the script's output.
    ///
    /// # Errors
    /// It is none of the script's.
    pub(crate) fn push(&mut self, piece: &[u8], frames: &mut Vec<LogFrame>) -> Result<(), Garbled> {
        self.rest.extend_from_slice(piece);
        let rest = std::mem::take(&mut self.rest);
        let mut text = Vec::new();
        let mut begin = 0;
        while let Some(len) = rest[begin..].iter().position(|&byte| byte == b'\n') {
            let line = &rest[begin..=begin + len];
            begin += len + 1;
            if line.starts_with(b"-- ") {
                self.give(&mut text, frames);
                let line = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
                self.read_own(&line, frames)?;
                continue;
            }
            self.is_empty = false;
            match &mut self.held {
                Some(held) if held.len() < MOST_HELD => {
                    held.extend_from_slice(line);
                    self.held_lines += 1;
                }
                _ => {
                    self.release(&mut text);
                    text.extend_from_slice(line);
                    self.position.given += 1;
                }
            }
        }
        self.give(&mut text, frames);
        self.rest = rest[begin..].to_vec();
        Ok(())
    }

    fn read_own(&mut self, line: &str, frames: &mut Vec<LogFrame>) -> Result<(), Garbled> {
        if let Some(cursor) = line.strip_prefix(CURSOR) {
            let mut text = Vec::new();
            self.release(&mut text);
            self.give(&mut text, frames);
            self.position.cursor = Some(cursor.to_owned());
            self.position.given = 0;
            return Ok(());
        }
        let words = line.strip_prefix(OWN).ok_or(Garbled)?;
        let (word, rest) = words.split_once(' ').unwrap_or((words, ""));
        match word {
            "since" => self.position.since = Some(rest.to_owned()),
            "missing" => frames.push(LogFrame::Trouble(LogTrouble::NoJournal)),
            "pattern" => frames.push(LogFrame::Trouble(LogTrouble::Pattern)),
            "closed" => {
                // Each run says so.
                if !std::mem::replace(&mut self.is_closed, true) {
                    frames.push(LogFrame::Note(
                        "this user sees no journal of the system: read it with --user root"
                            .to_owned(),
                    ));
                }
            }
            "status" => {
                let status = rest.parse().map_err(|_| Garbled)?;
                // 1 is also the status of a journal that has no such line.
                if status > 1 || (status == 1 && self.is_empty) {
                    frames.push(LogFrame::Trouble(LogTrouble::Journal(status)));
                }
            }
            "end" => {
                let mut text = Vec::new();
                self.release(&mut text);
                self.give(&mut text, frames);
                frames.push(LogFrame::End);
            }
            _ => return Err(Garbled),
        }
        Ok(())
    }

    fn release(&mut self, text: &mut Vec<u8>) {
        if let Some(held) = self.held.take() {
            self.position.given += self.held_lines;
            text.extend_from_slice(&held);
        }
    }

    fn give(&self, text: &mut Vec<u8>, frames: &mut Vec<LogFrame>) {
        if !text.is_empty() {
            frames.push(LogFrame::Bytes(std::mem::take(text)));
        }
    }
}
