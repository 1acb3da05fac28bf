//! A script whose input is bytes, through a terminal in raw mode.

use std::collections::VecDeque;

use bytes::Bytes;
use ops_session::driver::{self, Event};

use super::Far;
use crate::{
    connect::{Ending, OpenOptions},
    error::{Error, Result},
};

/// Largest frame, in bytes: long enough that waiting for its credit costs little on a slow path, short enough to bound what is under way.
pub const FRAME_BYTES: usize = 4 << 20;
/// Piece handed to the session at once, in bytes.
const PIECE_BYTES: usize = 64 << 10;
/// Longest line from the far side, in bytes.
const LINE_MAX_BYTES: usize = 8 << 10;
/// Lines that are no messages kept for an error.
const KEPT_LINES: usize = 20;

/// A running script; dropped, its session is ended in the background, which the script sees as a hang-up.
pub struct Up {
    session: driver::Session,
    ending: Option<Ending>,
    label: String,
    line: Vec<u8>,
    messages: VecDeque<String>,
    complaints: VecDeque<String>,
    /// Bytes of the frame under way that have no credit yet.
    owed: u64,
    status: Option<i32>,
    ended: bool,
}

impl Up {
    /// Runs `setup`, then feeds `consumer`'s standard input, then runs `finish`, which may read lines given to [`Up::line`].
    ///
    /// # Errors
    /// As [`crate::Context::open`]; a server without stty; a setup that fails.
    pub async fn start(far: &Far, setup: &str, consumer: &str, finish: &str) -> Result<Self> {
        let document = far.interactive(&framed(setup, consumer, finish))?;
        let options = OpenOptions::reason(far.reason.clone());
        let connection = far.cx.open(&far.instance, document, options).await?;
        let (session, ending) = connection.into_parts();
        let mut up = Self {
            session,
            ending: Some(ending),
            label: far.instance.label().to_owned(),
            line: Vec::new(),
            messages: VecDeque::new(),
            complaints: VecDeque::new(),
            owed: 0,
            status: None,
            ended: false,
        };
        match up.next().await? {
            Some(message) if message == "ready" => Ok(up),
            _ => Err(up.failed(format!("`{}` cannot take what is to be sent", up.label))),
        }
    }

    /// Sends `bytes` as one frame, once the one before has been handed on. At most [`FRAME_BYTES`].
    ///
    /// # Errors
    /// The script has ended, or the session has failed.
    pub async fn send(&mut self, bytes: Bytes) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.announce(bytes.len() as u64).await?;
        self.piece(bytes).await
    }

    /// Announces a frame of `len_bytes`, once the one before has been handed on; [`Up::piece`] then sends its bytes.
    ///
    /// # Errors
    /// As [`Up::send`].
    pub async fn announce(&mut self, len_bytes: u64) -> Result<()> {
        self.credit().await?;
        self.owed = len_bytes;
        self.raw(Bytes::from(format!("{len_bytes}\n"))).await
    }

    /// A part of the frame announced.
    ///
    /// # Errors
    /// As [`Up::send`].
    pub async fn piece(&mut self, mut bytes: Bytes) -> Result<()> {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
            self.raw(piece).await?;
        }
        Ok(())
    }

    /// Says that no more comes: the consumer reads end-of-file.
    ///
    /// # Errors
    /// As [`Up::send`].
    pub async fn end(&mut self) -> Result<()> {
        self.credit().await?;
        self.raw(Bytes::from_static(b"0\n")).await
    }

    /// A line for `finish` to read; without a line feed in it.
    ///
    /// # Errors
    /// As [`Up::send`].
    pub async fn line(&mut self, text: &str) -> Result<()> {
        self.raw(Bytes::from(format!("{text}\n"))).await
    }

    /// The next message of the script; `None` once it has ended.
    ///
    /// # Errors
    /// The session has failed.
    pub async fn next(&mut self) -> Result<Option<String>> {
        loop {
            if let Some(message) = self.messages.pop_front() {
                return Ok(Some(message));
            }
            if self.ended {
                return Ok(None);
            }
            match self.session.events.next().await {
                Some(Event::Output(bytes)) => self.take(&bytes),
                Some(Event::Closed { output }) => {
                    self.ended = true;
                    if let Some(ending) = self.ending.take() {
                        let failure = ending.closed(&output);
                        ending.ended();
                        if let Some(error) = failure {
                            return Err(self.complain(error));
                        }
                    }
                }
                Some(Event::Failed(error)) => {
                    self.ended = true;
                    return Err(match &self.ending {
                        Some(ending) => ending.failed(&error),
                        None => self.failed(format!("the session on `{}` failed", self.label)),
                    });
                }
                Some(_) => {}
                None => self.ended = true,
            }
        }
    }

    /// Waits until the script has ended; gives its status, if it told one.
    ///
    /// # Errors
    /// As [`Up::next`].
    pub async fn wait(&mut self) -> Result<Option<i32>> {
        while self.next().await?.is_some() {}
        Ok(self.status)
    }

    /// An error that says `what`, and what the script complained about.
    pub fn failed(&self, what: impl Into<String>) -> Error {
        self.complain(Error::unexpected(what))
    }

    /// Lines of the script that are no messages, the last ones, as the far side sent them.
    pub fn complaints(&self) -> impl Iterator<Item = &str> {
        self.complaints.iter().map(String::as_str)
    }

    /// Ends the script and its session; what it made for the moment it removes.
    pub async fn stop(mut self) {
        if let Some(ending) = self.ending.take() {
            ending.terminate().await;
        }
    }

    async fn raw(&mut self, bytes: Bytes) -> Result<()> {
        if self.session.sender.send(bytes).await.is_err() {
            while self.next().await?.is_some() {}
            return Err(self.failed(format!("`{}` takes no more", self.label)));
        }
        Ok(())
    }

    /// Waits until the far side has handed on all that was sent.
    async fn credit(&mut self) -> Result<()> {
        while self.owed > 0 {
            match self.next().await? {
                Some(message) => {
                    if let Some(granted) = message.strip_prefix("credit ") {
                        let granted = granted.trim().parse::<u64>().unwrap_or(0);
                        self.owed = self.owed.saturating_sub(granted);
                    }
                }
                None => return Err(self.failed(format!("`{}` takes no more", self.label))),
            }
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte != b'\n' {
                if self.line.len() < LINE_MAX_BYTES {
                    self.line.push(byte);
                }
                continue;
            }
            let line = String::from_utf8_lossy(&self.line).trim_end().to_owned();
            self.line.clear();
            match line.strip_prefix('!') {
                Some(message) => {
                    if let Some(status) = message.strip_prefix("status ") {
                        self.status = status.trim().parse().ok();
                    } else {
                        self.messages.push_back(message.to_owned());
                    }
                }
                None if !line.is_empty() => {
                    if self.complaints.len() == KEPT_LINES {
                        self.complaints.pop_front();
                    }
                    self.complaints.push_back(line);
                }
                None => {}
            }
        }
    }

    fn complain(&self, error: Error) -> Error {
        self.complaints.iter().fold(error, Error::caused_by)
    }
}

/// The script around `consumer`. Only what was announced is read from the terminal, and nothing follows a frame before its credit, so that a
/// `head` that reads ahead does no harm.
fn framed(setup: &str, consumer: &str, finish: &str) -> String {
    format!(
        "cd \"$HOME\" 2>/dev/null || cd /\n\
         exec 6>&1\n\
         stty raw -echo || exit 1\n\
         {setup}\n\
         printf \"!ready\\n\"\n\
         while IFS= read -r n; do\n\
         case \"$n\" in 0) exit 0;; [1-9]*) ;; *) exit 1;; esac\n\
         head -c \"$n\" || exit 1\n\
         printf \"!credit %s\\n\" \"$n\" >&6\n\
         done | {{ {consumer}\n}}\n\
         s=$?\n\
         {finish}\n\
         printf \"!status %s\\n\" \"$s\"\n\
         exit \"$s\"\n"
    )
}
