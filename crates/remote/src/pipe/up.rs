//! A script whose input is bytes, through a terminal in raw mode.

use std::collections::VecDeque;

use bytes::Bytes;
use ops_core::{BoxFuture, calls::Separation, connect::Ending, trouble::Trouble};
use ops_session::driver::{self, Event};
use ops_ui::{Error, Result};

use super::{
    Chunk, DownPipe, ScriptHost, await_folder,
    lines::{Lines, ScriptLine},
    scripts::{self, SCRIPT_END},
};

/// Largest frame of [`UpPipe::send`], in bytes: long enough that waiting for its credit costs
/// little on a slow path, short enough to bound what is under way.
pub const FRAME_BYTES: usize = 4 << 20;
/// Piece handed to the session at once, in bytes.
const PIECE_BYTES: usize = 64 << 10;
/// Begins the message with which a script says why it gives up and ends; the error of whatever is
/// sent to it then begins so too.
pub const LOST: &str = "lost ";
/// Lines that are no messages kept for an error.
const KEPT_LINES: usize = 20;

/// A running script; dropped, its session is ended in the background, which the script sees as a
/// hang-up.
pub struct UpPipe {
    session: driver::Session,
    ending: Option<Ending>,
    /// Carries what the script has to say, past the terminal's slow output.
    voice: Option<Box<DownPipe>>,
    host: ScriptHost,
    trouble: Trouble,
    lines: Lines,
    messages: VecDeque<String>,
    complaints: VecDeque<String>,
    /// Bytes that have no credit yet, of each frame under way.
    owed: VecDeque<u64>,
    /// Frames that may be under way.
    ahead: usize,
    /// Of a dialogue: the number of the last line, and of the last answer.
    asked: u64,
    answered: u64,
    numbered: bool,
    is_ready: bool,
    status: Option<i32>,
    ended: bool,
}

impl UpPipe {
    /// Feeds the process of a [`super::Pipe`], whose keeper's folder is this.
    pub(super) async fn start(host: &ScriptHost, folder: &str) -> Result<Self> {
        Self::run(host, &scripts::up(folder), None).await
    }

    /// Runs `script` on a terminal in raw mode, in the home of its user, from which it reads lines
    /// ([`UpPipe::ask`]), each with a number in front, and the bytes that they announce
    /// ([`UpPipe::piece`]). It answers with `say NUMBER TEXT`, and what it complains about is kept
    /// for an error. `$private` is a folder of its own; what `$private/remove` names, a path and a
    /// line feed, goes with it when the script ends, however that comes about.
    ///
    /// The script goes through the terminal too, so that no limit of a document's parameter bounds
    /// it and it may hold single quotes. No line of it is a full stop alone, which ends it.
    ///
    /// Where the document is known to separate output, answers leave by a [`DownPipe`] too, as soon
    /// as they are said; the slow way over the terminal is the one that survives a lost connection.
    /// The numbers tell which came already.
    ///
    /// # Errors
    /// As [`ops_core::Context::open`]; a server without stty or mkfifo.
    pub fn dialogue<'a>(host: &'a ScriptHost, script: &'a str) -> BoxFuture<'a, Result<Self>> {
        Box::pin(Self::dialogue_unboxed(host, script))
    }

    async fn dialogue_unboxed(host: &ScriptHost, script: &str) -> Result<Self> {
        let document = host.read_document().await;
        // Whether a document that may not be read separates output shows when its first command has
        // ended, and a relay never ends: one session more would be spent on finding out.
        let is_untold = document.separation == Separation::Unknown
            && host.document.is_some()
            && !host.known.is_learned();
        if is_untold || host.may_join_output() {
            return Self::dialogue_by_terminal(host, script).await;
        }
        let mut voice = DownPipe::start_kept(host, &scripts::relay())
            .await?
            .strict();
        if host.may_join_output() {
            // Its start has shown it. What the relay says would come when it has ended, which it
            // never does.
            voice.stop().await;
            return Self::dialogue_by_terminal(host, script).await;
        }
        let folder = await_folder(&mut voice).await?;
        let mut up = Self::run(
            host,
            &scripts::joined_dialogue(&folder),
            Some(Box::new(voice)),
        )
        .await?;
        up.numbered = true;
        up.hand_over(script).await?;
        Ok(up)
    }

    /// A dialogue whose answers leave by the terminal alone.
    async fn dialogue_by_terminal(host: &ScriptHost, script: &str) -> Result<Self> {
        let mut up = Self::run(host, &scripts::dialogue(), None).await?;
        up.numbered = true;
        up.hand_over(script).await?;
        Ok(up)
    }

    /// Sends the script of a dialogue to the shell that waits for it. Nothing is waited for: what
    /// is asked next stands behind it.
    async fn hand_over(&mut self, script: &str) -> Result<()> {
        if script.lines().any(|line| line == SCRIPT_END) {
            return Err(Error::unexpected(
                "a script for the far side holds its own end",
            ));
        }
        self.raw(Bytes::from(format!("{script}\n{SCRIPT_END}\n")))
            .await
    }

    async fn run(
        host: &ScriptHost,
        script: &str,
        mut voice: Option<Box<DownPipe>>,
    ) -> Result<Self> {
        let document = host.interactive(script)?;
        let options = host.options();
        let mut is_ready = false;
        let heard = async {
            let Some(voice) = &mut voice else {
                return std::future::pending().await;
            };
            loop {
                match voice.next().await {
                    Ok(Some(Chunk::Message(text))) if text == "ready" => {
                        is_ready = true;
                        return;
                    }
                    Ok(Some(_)) => {}
                    // What was said instead is told below.
                    Ok(None) | Err(_) => return,
                }
            }
        };
        let connection = host
            .cx
            .open_heard(&host.instance, document, options, Box::pin(heard))
            .await?;
        let (session, ending) = connection.into_parts();
        let mut up = Self {
            session,
            ending: Some(ending),
            voice,
            host: host.clone(),
            trouble: Trouble::new(&host.known.0.troubled, &host.cx, host.instance.label()),
            lines: Lines::default(),
            messages: VecDeque::new(),
            complaints: VecDeque::new(),
            owed: VecDeque::new(),
            ahead: 1,
            asked: 0,
            answered: 0,
            numbered: false,
            is_ready,
            status: None,
            ended: false,
        };
        // A size, if only to find out which payloads the agent takes.
        if up.session.sender.send_size(80, 24).await.is_err() {
            return Err(up.no_more());
        }
        if is_ready {
            return Ok(up);
        }
        match up.next().await? {
            Some(message) if message == "ready" => Ok(up),
            _ => {
                let label = host.instance.label();
                Err(up.failed(format!("`{label}` cannot take what is to be sent")))
            }
        }
    }

    /// Lets a second frame of a [`UpPipe::dialogue`] follow before the credit of the first: its way
    /// is then no time lost. Only for a server whose `head` reads no further than it is told; what
    /// it took of the next frame would be lost.
    pub fn send_ahead(&mut self) {
        self.ahead = 2;
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

    /// Announces a frame of `len_bytes`, once the one before has been handed on; [`UpPipe::piece`]
    /// then sends its bytes.
    ///
    /// # Errors
    /// As [`UpPipe::send`].
    pub async fn announce(&mut self, len_bytes: u64) -> Result<()> {
        self.credit().await?;
        self.owed.push_back(len_bytes);
        self.raw(Bytes::from(format!("{len_bytes}\n"))).await
    }

    /// A part of the frame announced.
    ///
    /// # Errors
    /// As [`UpPipe::send`].
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
    /// As [`UpPipe::send`].
    pub async fn end(&mut self) -> Result<()> {
        // A head that reads ahead would swallow the line that says so.
        self.credit().await?;
        self.raw(Bytes::from_static(b"0\n")).await
    }

    /// A numbered line of a [`UpPipe::dialogue`]; without a line feed in it.
    ///
    /// # Errors
    /// As [`UpPipe::send`].
    pub async fn ask(&mut self, text: &str) -> Result<()> {
        self.asked += 1;
        let line = format!("{} {text}\n", self.asked);
        self.raw(Bytes::from(line)).await
    }

    /// The next message of the script; `None` once it has ended. May be cancelled.
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
            let event = match &mut self.voice {
                None => UpEvent::Event(self.session.events.next().await),
                // Neither first: the voice is the faster one, and the terminal alone tells how the
                // session goes.
                Some(voice) => tokio::select! {
                    chunk = voice.next() => UpEvent::Chunk(chunk),
                    event = self.session.events.next() => UpEvent::Event(event),
                },
            };
            match event {
                UpEvent::Event(event) => self.event(event)?,
                UpEvent::Chunk(Ok(Some(Chunk::Message(text)))) => self.message(text),
                UpEvent::Chunk(Ok(Some(Chunk::Bytes(_)))) => {}
                // The terminal has it all too.
                UpEvent::Chunk(Ok(None) | Err(_)) => self.voice = None,
            }
        }
    }

    fn event(&mut self, event: Option<Event>) -> Result<()> {
        match event {
            Some(Event::Output(bytes)) => {
                for line in self.lines.push(&bytes) {
                    self.line_read(line);
                }
            }
            Some(Event::Closed(closing)) => {
                self.ended = true;
                if let Some(line) = self.lines.finish() {
                    self.line_read(line);
                }
                if let Some(ending) = self.ending.take() {
                    let failure = ending.closed(&closing);
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
                    None => self.failed(format!(
                        "the session on `{}` failed",
                        self.host.instance.label()
                    )),
                });
            }
            Some(event) => self.trouble.hear(&event),
            None => self.ended = true,
        }
        Ok(())
    }

    fn line_read(&mut self, line: ScriptLine) {
        match line {
            ScriptLine::Message(text) => self.message(text),
            ScriptLine::Other(text) => self.complaint(text),
        }
    }

    fn message(&mut self, text: String) {
        if text == "ready" {
            // Of a dialogue it comes twice.
            if !self.is_ready {
                self.is_ready = true;
                self.messages.push_back(text);
            }
            return;
        }
        if self.numbered
            && let Some((number, text)) = text.split_once(' ')
            && let Ok(number) = number.parse::<u64>()
        {
            // Each answer comes by both ways, in order on each: a number that is not above the last
            // one is the slower copy.
            if number > self.answered {
                self.answered = number;
                self.messages.push_back(text.to_owned());
            }
            return;
        }
        if let Some(line) = text.strip_prefix("e ") {
            self.complaint(line.to_owned());
        } else if let Some(status) = text.strip_prefix("status ") {
            self.status = status.trim().parse().ok();
        } else {
            self.messages.push_back(text);
        }
    }

    fn complaint(&mut self, line: String) {
        if self.complaints.len() == KEPT_LINES {
            self.complaints.pop_front();
        }
        self.complaints.push_back(line);
    }

    /// Waits until the script has ended; gives its status, if it told one.
    ///
    /// # Errors
    /// As [`UpPipe::next`].
    pub async fn wait(&mut self) -> Result<Option<i32>> {
        while self.next().await?.is_some() {}
        Ok(self.status)
    }

    /// An error that says `what`, and what the script complained about.
    pub fn failed(&self, what: impl Into<ops_ui::Text>) -> Error {
        let complaints: Vec<&str> = self.complaints().collect();
        self.host
            .refused(&complaints)
            .unwrap_or_else(|| self.complain(Error::unexpected(what)))
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
        // What happens meanwhile is told, although nobody waits for a message.
        let sender = self.session.sender.clone();
        let send = sender.send(bytes);
        tokio::pin!(send);
        let sent = loop {
            // Events have to be taken while this waits: a session whose events nobody takes stops
            // reading, and then no acknowledgement makes room for what is to be sent.
            tokio::select! {
                biased;
                sent = &mut send => break sent,
                event = self.session.events.next(), if !self.ended => self.event(event)?,
            }
        };
        if sent.is_err() {
            // What it said before it ended stands for it.
            let mut last_words = None;
            while let Some(message) = self.next().await? {
                if message.starts_with(LOST) {
                    last_words = Some(message);
                }
            }
            return Err(match last_words {
                Some(words) => self.failed(words),
                None => self.no_more(),
            });
        }
        Ok(())
    }

    /// Waits until the far side has handed on all that was sent.
    ///
    /// # Errors
    /// As [`UpPipe::send`]; a message that is no credit is one of these: the script gives up.
    pub async fn credit(&mut self) -> Result<()> {
        self.under_way_at_most(0).await
    }

    async fn under_way_at_most(&mut self, frames: usize) -> Result<()> {
        while self.owed.len() > frames {
            match self.next().await? {
                Some(message) => {
                    let Some(granted) = message.strip_prefix("credit ") else {
                        return Err(self.failed(message));
                    };
                    self.granted(granted.trim().parse().unwrap_or(0));
                }
                None => return Err(self.no_more()),
            }
        }
        Ok(())
    }

    fn granted(&mut self, mut bytes: u64) {
        while let Some(first) = self.owed.front_mut() {
            if *first > bytes {
                *first -= bytes;
                return;
            }
            bytes -= *first;
            self.owed.pop_front();
        }
    }

    /// A command of a [`UpPipe::dialogue`] that announces `len_bytes` for [`UpPipe::piece`], for
    /// which the script owes a credit.
    ///
    /// # Errors
    /// As [`UpPipe::send`].
    pub async fn announce_line(&mut self, text: &str, len_bytes: u64) -> Result<()> {
        self.under_way_at_most(self.ahead - 1).await?;
        self.owed.push_back(len_bytes);
        self.ask(text).await
    }

    /// An error for a script that takes no more: what it complained about, or that its session was
    /// lost.
    pub fn no_more(&self) -> Error {
        if self.status.is_some() {
            return self.failed(format!("`{}` takes no more", self.host.instance.label()));
        }
        let complaints: Vec<&str> = self.complaints().collect();
        let refused = self.host.refused(&complaints);
        refused.unwrap_or_else(|| self.complain(super::session_lost(&self.host)))
    }

    fn complain(&self, error: Error) -> Error {
        self.complaints.iter().fold(error, Error::caused_by)
    }
}

enum UpEvent {
    Event(Option<Event>),
    Chunk(Result<Option<Chunk>>),
}
