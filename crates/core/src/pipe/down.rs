//! A script whose output arrives as bytes, at the speed of the agent's separated output.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use ops_session::driver::{self, Event};

use super::{
    Far,
    text::{Decoder, Encoding, Item},
};
use crate::{
    connect::{Document, Ending, OpenOptions},
    error::{Error, ErrorKind, Result},
};

/// AWS's document for commands without a terminal.
const DOCUMENT: &str = "AWS-StartNonInteractiveCommand";
/// Its parameter that separates output from error output, where the document has one; then nothing is paced.
const SEPARATE: &str = "separateOutputStream";
/// Lines of error output that are kept for a message.
const KEPT_LINES: usize = 20;

/// What arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// The script's output.
    Bytes(Bytes),
    /// A message the script wrote with `printf "!…\n" >&6`.
    Message(String),
}

/// A running script; dropped, its session is ended in the background.
pub struct Down {
    session: driver::Session,
    ending: Option<Ending>,
    label: String,
    out: Decoder,
    err: Decoder,
    queue: VecDeque<Chunk>,
    complaints: VecDeque<String>,
    status: Option<i32>,
    ended: bool,
}

impl Down {
    /// Starts `script`. In it descriptor 6 takes messages, and what it complains about is kept for an error.
    ///
    /// # Errors
    /// As [`crate::Context::open`].
    pub async fn start(far: &Far, script: &str) -> Result<Self> {
        let command = far.command(&framed(script))?;
        let (connection, separated) = open(far, command).await?;
        if !separated {
            far.cx.output().detail(format!(
                "{}: the document has no separated output: it comes when the command has ended, a kilobyte a millisecond",
                far.instance.label()
            ));
        }
        let (session, ending) = connection.into_parts();
        Ok(Self {
            session,
            ending: Some(ending),
            label: far.instance.label().to_owned(),
            out: Decoder::new(Encoding::default()),
            err: Decoder::new(Encoding::default()),
            queue: VecDeque::new(),
            complaints: VecDeque::new(),
            status: None,
            ended: false,
        })
    }

    /// What comes next; `None` once the script has ended.
    ///
    /// # Errors
    /// The session failed, or what came is not of the agreed form.
    pub async fn next(&mut self) -> Result<Option<Chunk>> {
        loop {
            if let Some(chunk) = self.queue.pop_front() {
                return Ok(Some(chunk));
            }
            if self.ended {
                return Ok(None);
            }
            match self.session.events.next().await {
                Some(Event::Output(bytes)) => self.take(&bytes, false)?,
                Some(Event::Stderr(bytes)) => self.take(&bytes, true)?,
                Some(Event::Closed { output }) => {
                    self.ended = true;
                    if let Some(ending) = self.ending.take() {
                        let failure = ending.closed(&output);
                        ending.ended();
                        if let Some(error) = failure.filter(|_| self.status.is_none()) {
                            return Err(self.complain(error));
                        }
                    }
                    if self.out.finish().is_err() {
                        return Err(self.cut_off());
                    }
                }
                Some(Event::Failed(error)) => {
                    self.ended = true;
                    return Err(match &self.ending {
                        Some(ending) => ending.failed(&error),
                        None => self.cut_off(),
                    });
                }
                Some(_) => {}
                None => {
                    self.ended = true;
                    return Err(self.cut_off());
                }
            }
        }
    }

    /// The script's own status, once it has said so.
    pub fn status(&self) -> Option<i32> {
        self.status
    }

    /// An error that says `what`, and what the script complained about.
    pub fn failed(&self, what: impl Into<String>) -> Error {
        self.complain(Error::unexpected(what))
    }

    /// What the script wrote to its error output, the last lines, as the far side sent them.
    pub fn complaints(&self) -> impl Iterator<Item = &str> {
        self.complaints.iter().map(String::as_str)
    }

    /// Ends the script and its session.
    pub async fn stop(mut self) {
        if let Some(ending) = self.ending.take() {
            ending.terminate().await;
        }
    }

    fn take(&mut self, bytes: &[u8], is_err: bool) -> Result<()> {
        let mut items = Vec::new();
        let decoder = if is_err { &mut self.err } else { &mut self.out };
        let read = decoder.push(bytes, &mut items);
        for item in items {
            match item {
                Item::Bytes(bytes) if !is_err => self.queue.push_back(Chunk::Bytes(bytes)),
                Item::Bytes(_) => {}
                Item::Message(text) => self.message(text),
            }
        }
        if read.is_err() {
            // Not ours: the agent's or sudo's own words, such as a program that cannot be started.
            self.complaint(String::from_utf8_lossy(bytes).trim().to_owned());
            if !is_err {
                self.ended = true;
                return Err(
                    self.failed(format!("`{}` did not run the command as asked", self.label))
                );
            }
            self.err = Decoder::new(Encoding::default());
        }
        Ok(())
    }

    fn message(&mut self, text: String) {
        if let Some(line) = text.strip_prefix("e ") {
            self.complaint(line.to_owned());
        } else if let Some(status) = text.strip_prefix("status ") {
            self.status = status.trim().parse().ok();
        } else if text == "hex" {
            self.out = Decoder::new(Encoding::Hex);
        } else {
            self.queue.push_back(Chunk::Message(text));
        }
    }

    fn complaint(&mut self, line: String) {
        if line.is_empty() {
            return;
        }
        if self.complaints.len() == KEPT_LINES {
            self.complaints.pop_front();
        }
        self.complaints.push_back(line);
    }

    fn complain(&self, error: Error) -> Error {
        self.complaints.iter().fold(error, Error::caused_by)
    }

    fn cut_off(&self) -> Error {
        self.complain(Error::target(format!(
            "the output of `{}` was cut off",
            self.label
        )))
    }
}

/// Starts the command with separated output; where the document knows no such parameter, without. Tells which.
async fn open(far: &Far, command: String) -> Result<(crate::connect::Connection, bool)> {
    let name = far.document.as_deref().unwrap_or(DOCUMENT);
    let document = |separate: bool| {
        let mut parameters = BTreeMap::from([("command".to_owned(), vec![command.clone()])]);
        if separate {
            parameters.insert(SEPARATE.to_owned(), vec!["true".to_owned()]);
        }
        Document::Custom {
            name: name.to_owned(),
            parameters,
            handshake: true,
        }
    };
    let open = |separate: bool| {
        let options = OpenOptions::reason(far.reason.clone());
        Box::pin(far.cx.open(&far.instance, document(separate), options))
    };
    match open(true).await {
        Ok(connection) => Ok((connection, true)),
        // A document that takes no such parameter may have it fixed on, or lack it.
        Err(error) if error.kind() == ErrorKind::Usage => {
            Ok((open(false).await?, far.document.is_some()))
        }
        Err(error) => Err(error),
    }
}

/// `script` with its output made text, its complaints made messages, and its status told.
///
/// Descriptor 3 is the real output, 6 the real error output, 5 leads to the complaints' prefix.
fn framed(script: &str) -> String {
    format!(
        "exec 3>&1 6>&2\n\
         if base64 -w0 </dev/null >/dev/null 2>&1; then e=\"base64 -w0\"\n\
         elif command -v base64 >/dev/null 2>&1; then e=base64\n\
         elif command -v openssl >/dev/null 2>&1; then e=\"openssl base64\"\n\
         else e=\"od -An -v -tx1\"; printf \"!hex\\n\" >&3; fi\n\
         {{ {{ ( cd \"$HOME\" 2>/dev/null || cd /\n{script}\n) 2>&5; printf \"!status %s\\n\" \"$?\" >&6; }} | $e >&3; }} 5>&1 | sed \"s/^/!e /\" >&6\n"
    )
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_framed_script_gives_bytes_complaints_and_its_status() {
        let script =
            framed("printf \"a\\000b\\377\"; echo gone >&2; printf \"!size 4\\n\" >&6; exit 3");
        assert!(!script.contains('\''));
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        let read = |text: &[u8]| {
            let mut items = Vec::new();
            let mut decoder = Decoder::new(Encoding::Base64);
            decoder.push(text, &mut items).unwrap();
            decoder.finish().unwrap();
            items
        };
        assert_eq!(
            read(&output.stdout),
            [Item::Bytes(Bytes::from_static(b"a\0b\xff"))]
        );
        let messages = read(&output.stderr);
        for expected in ["e gone", "size 4", "status 3"] {
            assert!(
                messages.contains(&Item::Message(expected.to_owned())),
                "{messages:?}"
            );
        }
    }
}
