//! Scripts that a dialogue runs, and what they write.

use std::time::Duration;

use bytes::Bytes;
use ops_remote::pipe::{
    CutOff,
    text::{DecodedItem, Decoder, Encoding},
};
use ops_ui::{Error, Result};

use super::Dialogue;

/// What a script has left that a dialogue ran, beside its output.
pub(in crate::session) struct Ran {
    /// Its exit status.
    pub(in crate::session) status: i32,
    /// Lines of its error output, as the server sent them.
    pub(in crate::session) complaints: Vec<String>,
}

/// How long data may be missing that were announced, before they are given up: the session that
/// carries them sends a sign of life every three seconds, see [`ops_remote::pipe`].
const SILENCE: Duration = Duration::from_secs(12);
/// A line of the dialogue that belongs to what a script has written.
enum OutputLine<'a> {
    /// Text of its standard output.
    Data(Encoding, &'a str),
    Complaint(&'a str),
}

impl<'a> OutputLine<'a> {
    /// Reads `message`; `None` for one of another kind.
    fn of(message: &'a str) -> Option<Self> {
        let (mark, text) = message.split_once(' ')?;
        match mark {
            "+" => Some(Self::Data(Encoding::Base64, text)),
            "x" => Some(Self::Data(Encoding::Hex, text)),
            "-" => Some(Self::Complaint(text)),
            _ => None,
        }
    }
}

impl Dialogue {
    /// Runs a script in a subshell of the dialogue, in which `tools.sh` and `enter.sh` were read,
    /// and hands its output to `take` as it comes.
    ///
    /// # Errors
    /// The session; an error of `take`; [`CutOff`] where less has arrived than the script has
    /// written. The dialogue is of no use after any of them.
    pub(in crate::session) async fn run_script(
        &mut self,
        script: &str,
        take: impl FnMut(&[u8]) -> Result<()> + Send,
    ) -> Result<Ran> {
        self.settle_frames().await?;
        let script = Bytes::copy_from_slice(script.as_bytes());
        let command = format!("run {}", script.len());
        self.ask_for_output(&command, script, take).await
    }

    pub(super) async fn ask_for_output(
        &mut self,
        command: &str,
        input: Bytes,
        take: impl FnMut(&[u8]) -> Result<()> + Send,
    ) -> Result<Ran> {
        let ran = self.try_ask_for_output(command, input, take).await;
        if ran.is_err() {
            // Data may still be on their way that belong to nothing any more.
            self.give_up();
        }
        ran
    }

    async fn try_ask_for_output(
        &mut self,
        command: &str,
        input: Bytes,
        mut take: impl FnMut(&[u8]) -> Result<()> + Send,
    ) -> Result<Ran> {
        let mut asked = self.up.ask(command).await;
        if asked.is_ok() {
            asked = self.up.piece(input).await;
        }
        asked.map_err(|error| self.words_of_script(error))?;
        let mut decoder = Decoder::new(Encoding::default());
        let mut complaints = Vec::new();
        let mut count = 0;
        // The answer's status and the number of bytes that belong to it. It may overtake the data,
        // since it goes by the terminal too.
        let mut answer: Option<(i32, u64)> = None;
        loop {
            if let Some((status, expected)) = answer
                && count >= expected
            {
                return Ok(Ran { status, complaints });
            }
            let message = match answer {
                None => self.next_answer().await?,
                Some(_) => {
                    let missing = tokio::time::timeout(SILENCE, self.next_answer());
                    missing.await.map_err(|_| self.cut_off())??
                }
            };
            match OutputLine::of(&message) {
                Some(OutputLine::Complaint(text)) => complaints.push(text.to_owned()),
                Some(OutputLine::Data(encoding, text)) => {
                    if count == 0 {
                        decoder = Decoder::new(encoding);
                    }
                    let mut items = Vec::new();
                    let read = decoder.push(text.as_bytes(), &mut items);
                    read.map_err(|_| self.cut_off())?;
                    for item in items {
                        if let DecodedItem::Bytes(bytes) = item {
                            count += bytes.len() as u64;
                            take(&bytes)?;
                        }
                    }
                }
                None => {
                    let mut words = message.split_ascii_whitespace().skip(1);
                    let status = words.next().and_then(|status| status.parse().ok());
                    let len = words.next().and_then(|len| len.parse().ok());
                    answer = Some(status.zip(len).ok_or_else(|| self.cut_off())?);
                }
            }
        }
    }

    fn cut_off(&self) -> Error {
        let what = format!("the output of a script on `{}` was cut off", self.label);
        Error::target(what).with_source(CutOff)
    }
}
