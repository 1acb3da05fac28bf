//! The session that brings what a command writes.

use std::{collections::VecDeque, time::Duration};

use base64::Engine as _;
use bytes::Bytes;
use ops_core::{Connection, connect::Ending};
use ops_session::driver::{self, Event};
use ops_ui::{Error, Result};
use tokio::time::Instant;

use super::{setbacks::LASTED, windows};
use crate::pipe::{
    ScriptHost, down,
    lines::{Lines, ScriptLine as Text},
    text::{DecodedItem, Decoder, Encoding},
    trickle::Trickle,
};

/// Silence of this length, of a script that sends signs of life every three seconds, means that no
/// more comes: an agent that was away in the wrong moment has given up.
const SILENCE: Duration = Duration::from_secs(12);
/// Payloads of at least this many bytes come one after another only of an agent that has more.
const FULL_BYTES: usize = 1000;
/// For the far end of a session that was asked to end.
const END_PATIENCE: Duration = Duration::from_secs(5);
/// A script that has not said its first word by then may never do so: its session was cut while it
/// was being opened, and the agent has given up the output. Or sudo there is slow.
const FIRST_WORD: Duration = Duration::from_secs(20);
/// Text that is handed on as one where it has come already, in bytes. Payloads of a kilobyte that
/// went on one by one would wake three tasks each.
const BATCH_BYTES: usize = 64 << 10;
/// Lines of error output that are kept for a message.
const KEPT_LINES: usize = 20;

/// What the agent passes on to the script as SIGINT and SIGQUIT.
const INTERRUPT: &[u8] = b"\x03";
const QUIT: &[u8] = b"\x1c";

/// The engine's orders on a terminal: to end everything, and that the end of the command is known.
const STOP: &[u8] = b"stop\n";
const KNOWN: &[u8] = b"known\n";

/// How what a command writes gets here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OutputRoute {
    /// By the separated output of a document for commands: fast, and given up by the agent where
    /// its client is away for a moment.
    Separated,
    /// By a terminal, which takes input too: a kilobyte a millisecond, and nothing is given up.
    Terminal,
    /// As PowerShell writes it on Windows: separated or, when the command has ended, joined.
    Windows,
}

/// What has come.
#[derive(Debug)]
pub(super) enum ScriptOutput {
    /// Bytes of the stream that was named last.
    Bytes(Bytes),
    /// A message of the script.
    Message(String),
    /// Bytes of error output, where that goes its own way.
    Error(Bytes),
}

impl ScriptOutput {
    fn is_message(&self, wanted: &str) -> bool {
        matches!(self, Self::Message(text) if text == wanted)
    }
}

/// Why no more comes.
#[derive(Debug)]
pub(super) enum LineLoss {
    /// The session was lost: another one may go on. The words are for people.
    Cut(String),
    /// There is no use in another one.
    Failed(Error),
}

/// A session with a script of this run; dropped, it is ended in the background.
pub(super) struct ScriptSession {
    session: driver::Session,
    ending: Option<Ending>,
    way: OutputRoute,
    host: ScriptHost,
    /// What has come behind a batch of output, and is no output.
    ahead: Option<Event>,
    /// Why there is nothing behind the batch at hand.
    loss: Option<LineLoss>,
    decoder: Decoder,
    lines: Lines,
    /// Bytes that go on as one, behind all that is queued.
    batch: Vec<u8>,
    queue: VecDeque<ScriptOutput>,
    complaints: VecDeque<String>,
    trickle: Trickle,
    opened: Instant,
    /// How long its script may take to say something.
    first_word: Duration,
    /// Something of ours has come.
    is_heard: bool,
    /// A sign of life has come of a script from which it need not come.
    has_beaten: bool,
    is_over: bool,
    /// The agent has ended it.
    has_ended: bool,
    /// When something came of the server the last time, if only a sign of life.
    last_heard: Instant,
}

impl ScriptSession {
    /// Starts `script`, which is told whether it may wait for its session's end, with separated
    /// output; `None` where that cannot be had.
    ///
    /// # Errors
    /// As [`ops_core::Context::open`].
    pub(super) async fn open(
        host: &ScriptHost,
        script: impl Fn(bool) -> String,
    ) -> Result<Option<Self>> {
        let connection = Box::pin(down::open_separated(host, script)).await?;
        Ok(connection.map(|connection| Self::over(host, OutputRoute::Separated, connection)))
    }

    /// Starts what `words` say to PowerShell on a Windows server.
    ///
    /// # Errors
    /// As [`ops_core::Context::open`].
    pub(super) async fn open_windows(host: &ScriptHost, words: &str) -> Result<Self> {
        let connection = windows::open(host, words).await?;
        Ok(Self::over(host, OutputRoute::Windows, connection))
    }

    /// Starts `script` on a terminal.
    ///
    /// # Errors
    /// As [`ops_core::Context::open`].
    pub(super) async fn open_terminal(host: &ScriptHost, script: &str) -> Result<Self> {
        let document = host.interactive(script)?;
        let connection = Box::pin(host.cx.open(&host.instance, document, host.options())).await?;
        let line = Self::over(host, OutputRoute::Terminal, connection);
        // A size, if only to find out which payloads the agent takes.
        let _ = line.session.sender.send_size(80, 24).await;
        Ok(line)
    }

    fn over(host: &ScriptHost, way: OutputRoute, connection: Connection) -> Self {
        let was_lost = connection.was_lost;
        let (session, ending) = connection.into_parts();
        Self {
            session,
            ending: Some(ending),
            way,
            host: host.clone(),
            ahead: None,
            loss: None,
            decoder: Decoder::new(Encoding::default()),
            lines: Lines::default(),
            batch: Vec::new(),
            queue: VecDeque::new(),
            complaints: VecDeque::new(),
            trickle: Trickle::new(),
            opened: Instant::now(),
            first_word: FIRST_WORD,
            is_heard: false,
            has_beaten: false,
            is_over: way == OutputRoute::Separated && was_lost,
            has_ended: false,
            last_heard: Instant::now(),
        }
    }

    /// Gives its script more time for the first word: it is the `number`th of those that start the
    /// command, and the ones before may just have been slow.
    #[must_use]
    pub(super) fn with_patience_of(mut self, number: u32) -> Self {
        self.first_word = FIRST_WORD * number;
        self
    }

    /// Whether it was of use, even if nothing was to be carried.
    pub(super) fn has_lasted(&self) -> bool {
        self.is_heard && self.opened.elapsed() >= LASTED
    }

    /// Whether the agent has ended it, as it does once its script has.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// When something came of the server the last time, if only a sign of life.
    pub(super) fn last_heard(&self) -> Instant {
        self.last_heard
    }

    /// Nobody has listened: a silence begins only now.
    pub(super) fn excuse_silence(&mut self) {
        self.last_heard = Instant::now();
    }

    /// Takes input for what runs on the terminal.
    pub(super) fn sender(&self) -> driver::Sender {
        self.session.sender.clone()
    }

    /// The session itself, for input alone.
    pub(super) fn into_parts(self) -> (driver::Session, Option<Ending>) {
        (self.session, self.ending)
    }

    /// What comes next. May be cancelled.
    pub(super) async fn next(&mut self) -> Result<ScriptOutput, LineLoss> {
        loop {
            if let Some(said) = self.queue.pop_front() {
                return Ok(said);
            }
            if let Some(loss) = self.loss.take() {
                return Err(loss);
            }
            if self.is_over {
                return Err(LineLoss::Cut("the session is lost".to_owned()));
            }
            let silence = match self.way {
                OutputRoute::Separated if self.is_heard => Some(SILENCE),
                OutputRoute::Separated => Some(self.first_word),
                // Joined output comes when the command has ended.
                OutputRoute::Windows => self.has_beaten.then_some(SILENCE),
                // Its session is taken up again where it was, however long that takes.
                OutputRoute::Terminal => None,
            };
            let event = match silence {
                _ if self.ahead.is_some() => self.ahead.take(),
                None => self.session.events.next().await,
                Some(silence) => {
                    match tokio::time::timeout(silence, self.session.events.next()).await {
                        Ok(event) => event,
                        Err(_) => return Err(self.cut("nothing came any more")),
                    }
                }
            };
            if matches!(event, Some(Event::Output(_) | Event::Stderr(_))) {
                self.last_heard = Instant::now();
            }
            match event {
                Some(Event::Output(bytes)) => self.read_batch(&bytes)?,
                Some(Event::Stderr(bytes)) => {
                    for line in self.lines.push(&bytes) {
                        self.read_line(line)?;
                    }
                }
                // The agent gives up what it had no place for while the client was away.
                Some(Event::Disconnected { reason })
                    if self.way == OutputRoute::Separated || self.has_beaten =>
                {
                    return Err(self.cut(&reason));
                }
                Some(Event::Closed(closing)) => return Err(self.closed(&closing)),
                Some(Event::Failed(error)) => {
                    let words = self.ending.as_ref().map(|ending| ending.failed(&error));
                    return Err(match words {
                        Some(words) if !self.is_heard => LineLoss::Failed(words),
                        _ => self.cut(&error.to_string()),
                    });
                }
                Some(_) => {}
                None => return Err(self.cut("the connection was closed")),
            }
        }
    }

    /// Reads `first` and what has come behind it by now.
    fn read_batch(&mut self, first: &[u8]) -> Result<(), LineLoss> {
        self.read_payload(first)?;
        let mut len = first.len();
        // A terminal's session may be taken apart, and then nothing may be read ahead.
        while self.way == OutputRoute::Separated && len < BATCH_BYTES && self.loss.is_none() {
            match self.session.events.try_next() {
                Some(Event::Output(bytes)) => {
                    self.loss = self.read_payload(&bytes).err();
                    len += bytes.len();
                }
                other => {
                    self.ahead = other;
                    break;
                }
            }
        }
        self.end_batch();
        Ok(())
    }

    fn read_payload(&mut self, bytes: &[u8]) -> Result<(), LineLoss> {
        self.read(bytes)?;
        // An agent repairs what was on its way at some ten kilobytes a second.
        if bytes.len() < FULL_BYTES {
            self.trickle.excuse();
        }
        if self.way == OutputRoute::Separated && self.trickle.ends_with(bytes.len()) {
            return Err(self.cut("the agent sends only what it repairs"));
        }
        Ok(())
    }

    /// What comes next is not joined with the bytes before it.
    fn end_batch(&mut self) {
        if !self.batch.is_empty() {
            let bytes = std::mem::take(&mut self.batch);
            self.queue.push_back(ScriptOutput::Bytes(bytes.into()));
        }
    }

    fn read(&mut self, bytes: &[u8]) -> Result<(), LineLoss> {
        let mut items = Vec::new();
        let read = self.decoder.push(bytes, &mut items);
        for item in items {
            self.is_heard = true;
            if matches!(item, DecodedItem::Message(_)) {
                self.end_batch();
            }
            match item {
                DecodedItem::Bytes(bytes) => self.batch.extend_from_slice(&bytes),
                DecodedItem::Message(text) if text == "beat" => {
                    self.has_beaten |= self.way == OutputRoute::Windows;
                }
                // Error output, where the agent has joined it with output.
                DecodedItem::Message(text) if text.starts_with("x ") => {
                    self.read_line(Text::Message(text))?;
                }
                DecodedItem::Message(text) => self.queue.push_back(ScriptOutput::Message(text)),
            }
        }
        if read.is_ok() {
            return Ok(());
        }
        // Not ours: the agent's or sudo's own words.
        for line in String::from_utf8_lossy(bytes).lines() {
            self.complain(line);
        }
        Err(LineLoss::Failed(self.not_run()))
    }

    fn read_line(&mut self, line: Text) -> Result<(), LineLoss> {
        match line {
            Text::Other(text) => self.complain(&text),
            Text::Message(text) => match text.strip_prefix("x ") {
                None => self.queue.push_back(ScriptOutput::Message(text)),
                Some(digits) => {
                    let bytes = base64::engine::general_purpose::STANDARD
                        .decode(digits)
                        .map_err(|_| LineLoss::Failed(self.not_run()))?;
                    self.queue.push_back(ScriptOutput::Error(bytes.into()));
                }
            },
        }
        Ok(())
    }

    fn complain(&mut self, line: &str) {
        if line.trim().is_empty() {
            return;
        }
        if self.complaints.len() == KEPT_LINES {
            self.complaints.pop_front();
        }
        self.complaints.push_back(line.trim_end().to_owned());
    }

    fn cut(&mut self, why: &str) -> LineLoss {
        self.is_over = true;
        LineLoss::Cut(why.to_owned())
    }

    fn closed(&mut self, closing: &ops_session::closing::Closing) -> LineLoss {
        self.is_over = true;
        self.has_ended = true;
        if let Some(line) = self.lines.finish()
            && let Err(lost) = self.read_line(line)
        {
            return lost;
        }
        let failure = self.ending.take().and_then(|ending| {
            let failure = ending.closed(closing);
            ending.ended();
            failure
        });
        if self.is_heard {
            return LineLoss::Cut("the session has ended".to_owned());
        }
        let complaints: Vec<&str> = self.complaints.iter().map(String::as_str).collect();
        match (self.host.refused(&complaints), failure) {
            (Some(refused), _) => LineLoss::Failed(refused),
            (None, Some(failure)) => LineLoss::Failed(self.explain(failure)),
            (None, None) if !complaints.is_empty() => LineLoss::Failed(self.not_run()),
            // An agent whose client was away for a moment ends the session like this, and may tell
            // a status all the same, which is its own.
            (None, None) => LineLoss::Cut("the session has ended without a word".to_owned()),
        }
    }

    /// The server did something else.
    pub(super) fn not_run(&self) -> Error {
        let complaints: Vec<&str> = self.complaints.iter().map(String::as_str).collect();
        self.host.refused(&complaints).unwrap_or_else(|| {
            self.explain(Error::target(format!(
                "`{}` did not run the command as asked",
                self.host.instance.label()
            )))
        })
    }

    fn explain(&self, error: Error) -> Error {
        self.complaints.iter().fold(error, Error::caused_by)
    }

    /// SIGINT for the script: it passes the signal on to the command and ends, since the agent
    /// listens no more from then on.
    pub(super) async fn interrupt(&self) {
        let _ = self.session.sender.send(INTERRUPT).await;
    }

    /// Has the script end the command and remove everything; whether the script has said that it
    /// did.
    pub(super) async fn quit(self) -> bool {
        self.close_with(STOP).await
    }

    /// Answers the script's last message, so that the server keeps nothing any more; whether the
    /// script has heard it. A session that only ends is no answer: that is how a lost one
    /// looks on the server.
    pub(super) async fn acknowledge(self) -> bool {
        self.close_with(KNOWN).await
    }

    /// Has the script do its last thing: `order` on a terminal, and SIGQUIT where that is the only
    /// word the agent passes on. Its script knows by what it has said last which of both is meant.
    async fn close_with(mut self, order: &'static [u8]) -> bool {
        let word = match self.way {
            OutputRoute::Separated | OutputRoute::Windows => QUIT,
            OutputRoute::Terminal => order,
        };
        if self.is_over || self.session.sender.send(word).await.is_err() {
            return false;
        }
        // A session that has ended may have done so before its script had heard that word.
        let closed = async {
            let mut has_said_so = false;
            loop {
                let event = match self.ahead.take() {
                    Some(event) => event,
                    None => match self.session.events.next().await {
                        Some(event) => event,
                        None => return false,
                    },
                };
                match event {
                    Event::Output(bytes) if self.read(&bytes).is_ok() => {
                        has_said_so |= self.queue.drain(..).any(|said| said.is_message("ended"));
                    }
                    Event::Closed(_) => {
                        if let Some(ending) = self.ending.take() {
                            ending.ended();
                        }
                        return has_said_so;
                    }
                    _ => {}
                }
            }
        };
        tokio::time::timeout(END_PATIENCE, closed)
            .await
            .unwrap_or(false)
    }
}
