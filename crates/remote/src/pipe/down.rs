//! A script whose output arrives as bytes, at the speed of the agent's separated output.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::atomic::Ordering,
    time::Duration,
};

use bytes::Bytes;
use ops_core::{BoxFuture, Connection, Document, connect::Ending};
use ops_profile::Instance;
use ops_session::{
    closing::Closing,
    documents,
    driver::{self, Event},
    handshake::AgentVersion,
};
use ops_ui::{Error, ErrorKind, Result, hint, output::escape};

use super::{
    ScriptHost,
    lines::{Lines, ScriptLine},
    scripts::{self, Encode},
    text::{DecodedItem, Decoder, Encoding},
    trickle::Trickle,
};

/// AWS's document for commands without a terminal.
const DOCUMENT: &str = documents::NON_INTERACTIVE_COMMAND;
/// Its parameter that separates output from error output, where the document has one; then nothing
/// is paced.
const SEPARATE: &str = "separateOutputStream";
/// Silence of this length, of a script that sends signs of life, means that no more comes: an agent
/// that was away in the wrong moment has given up.
const SILENCE: Duration = Duration::from_secs(12);
/// What may wait for [`DownPipe::next`], in bytes. Payloads of a kilobyte hold twice their size in
/// buffers of the socket, and a copy has several sessions.
const WAITING_BYTES: usize = 256 << 10;
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
pub struct DownPipe {
    session: driver::Session,
    ending: Option<Ending>,
    host: ScriptHost,
    out: Decoder,
    err: Lines,
    queue: VecDeque<Chunk>,
    complaints: VecDeque<String>,
    /// Text that stood where the script's output should have been.
    garbled: Option<String>,
    status: Option<i32>,
    /// All output is there.
    complete: bool,
    /// All complaints are there: they come by a stream of their own.
    told: bool,
    /// Whether a lost connection is a failure at once.
    strict: bool,
    trickle: Trickle,
    ended: bool,
}

impl DownPipe {
    /// Starts `script`, in the home of its user. In it descriptor 6 takes messages, and what it
    /// complains about is kept for an error.
    ///
    /// # Errors
    /// As [`ops_core::Context::open`].
    pub fn start<'a>(host: &'a ScriptHost, script: &'a str) -> BoxFuture<'a, Result<Self>> {
        Box::pin(Self::start_unboxed(host, script))
    }

    async fn start_unboxed(host: &ScriptHost, script: &str) -> Result<Self> {
        Self::run(host, |linger| {
            scripts::down(Encode::InBulk, false, script, linger)
        })
        .await
    }

    /// Makes a lost connection a failure at once. An agent repairs what was on its way then at some
    /// ten kilobytes a second, and gives up the rest where it looks in that moment: who can ask
    /// again where it was cut off is better off so.
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// As [`DownPipe::start`], with a keeper, and each piece of output as soon as it is written.
    pub(super) async fn start_kept(host: &ScriptHost, script: &str) -> Result<Self> {
        Self::run(host, |linger| {
            scripts::down(Encode::Live, true, script, linger)
        })
        .await
    }

    /// `text` gives the script, which may wait for its session's end or not.
    async fn run(host: &ScriptHost, text: impl Fn(bool) -> String + Send) -> Result<Self> {
        let connection = Box::pin(open(host, text)).await?;
        let (session, ending) = connection.into_parts();
        Ok(Self {
            session,
            ending: Some(ending),
            host: host.clone(),
            out: Decoder::new(Encoding::default()),
            err: Lines::default(),
            queue: VecDeque::new(),
            complaints: VecDeque::new(),
            garbled: None,
            status: None,
            complete: false,
            told: false,
            strict: false,
            trickle: Trickle::new(),
            ended: false,
        })
    }

    /// What comes next; `None` once the script has ended. May be cancelled.
    ///
    /// # Errors
    /// The session failed, the script may not run as the user asked for, or what came is not of the
    /// agreed form.
    pub async fn next(&mut self) -> Result<Option<Chunk>> {
        loop {
            if let Some(chunk) = self.queue.pop_front() {
                return Ok(Some(chunk));
            }
            if self.ended {
                return Ok(None);
            }
            // Three words, since they come by two streams, of which neither waits for the other:
            // the output's end, the end of the complaints, and the status between those.
            if self.complete && self.told && self.status.is_some() {
                // The script lingers until its session is ended: what the agent still has to repair
                // would be lost with it.
                self.ended = true;
                self.ending = None;
                return if self.out.finish().is_ok() {
                    Ok(None)
                } else {
                    Err(self.cut_off())
                };
            }
            // A script that is heard of at all sends a sign of life every few seconds.
            let known = &self.host.known.0;
            let beats =
                known.separated.load(Ordering::Relaxed) && !known.joined.load(Ordering::Relaxed);
            let event = if beats {
                match tokio::time::timeout(SILENCE, self.session.events.next()).await {
                    Ok(event) => event,
                    Err(_) => {
                        self.ended = true;
                        return Err(self.cut_off());
                    }
                }
            } else {
                self.session.events.next().await
            };
            match event {
                Some(Event::Disconnected { .. }) if self.strict => {
                    self.ended = true;
                    return Err(self.cut_off());
                }
                Some(Event::Output(bytes)) => {
                    self.output(&bytes);
                    if self.strict && self.trickle.ends_with(bytes.len()) {
                        self.ended = true;
                        return Err(self.cut_off());
                    }
                }
                Some(Event::Stderr(bytes)) => {
                    for line in self.err.push(&bytes) {
                        self.line(line);
                    }
                }
                Some(Event::Closed(closing)) => {
                    // What the queue still holds has come before this, and is given first.
                    self.ended = true;
                    self.closed(&closing)?;
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

    /// Waits until the script has ended; what it still writes is thrown away. Gives its status, if
    /// it told one.
    ///
    /// # Errors
    /// As [`DownPipe::next`].
    pub async fn wait(&mut self) -> Result<Option<i32>> {
        while self.next().await?.is_some() {}
        Ok(self.status)
    }

    /// The script's own status, once it has said so.
    pub fn status(&self) -> Option<i32> {
        self.status
    }

    /// An error that says `what`, and what the script complained about.
    pub fn failed(&self, what: impl Into<ops_ui::Text>) -> Error {
        self.explained(Error::unexpected(what))
    }

    /// `error` with what the script complained about, or the error that its complaints mean.
    pub fn explained(&self, error: Error) -> Error {
        let complaints: Vec<&str> = self.complaints().collect();
        self.host
            .refused(&complaints)
            .unwrap_or_else(|| self.complain(error))
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

    fn output(&mut self, bytes: &[u8]) {
        if let Some(text) = &mut self.garbled {
            // Once a byte is not ours the rest cannot be told apart any more. Enough for a
            // sentence: the far side may send without end.
            text.push_str(&String::from_utf8_lossy(bytes));
            text.truncate(text.floor_char_boundary(500));
            return;
        }
        let mut items = Vec::new();
        let read = self.out.push(bytes, &mut items);
        for item in items {
            match item {
                DecodedItem::Bytes(bytes) => self.queue.push_back(Chunk::Bytes(bytes)),
                DecodedItem::Message(text) => {
                    // Signs of life come on this stream; everything else belongs to the other one.
                    if text == "end" {
                        self.complete = true;
                    } else if text != "beat" {
                        self.joined();
                        self.message(text);
                    }
                }
            }
        }
        if read.is_err() {
            // Not ours: the agent's or sudo's own words. What follows may explain it.
            self.garbled = Some(String::from_utf8_lossy(bytes).into_owned());
        }
    }

    /// Output and error output have turned out to be one.
    fn joined(&self) {
        let known = &self.host.known.0;
        known.joined.store(true, Ordering::Relaxed);
        if !known.told.swap(true, Ordering::Relaxed) {
            self.host.cx.output().detail(format!(
                "{}: no separated output: what a command writes comes when it has ended, a kilobyte a millisecond",
                escape(self.host.instance.label())
            ));
        }
    }

    fn line(&mut self, line: ScriptLine) {
        match line {
            ScriptLine::Message(text) => {
                // A message on the error output shows that there is one: of a document without, all
                // messages would have come among the output.
                self.host.known.0.separated.store(true, Ordering::Relaxed);
                self.message(text);
            }
            ScriptLine::Other(text) => self.complaint(text),
        }
    }

    fn message(&mut self, text: String) {
        if let Some(line) = text.strip_prefix("e ") {
            self.complaint(line.to_owned());
        } else if let Some(status) = text.strip_prefix("status ") {
            self.status = status.trim().parse().ok();
        } else if text == "over" {
            self.told = true;
        } else {
            self.queue.push_back(Chunk::Message(text));
        }
    }

    fn closed(&mut self, closing: &Closing) -> Result<()> {
        if let Some(line) = self.err.finish() {
            self.line(line);
        }
        if let Some(text) = self.garbled.take() {
            for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
                self.complaint(line.to_owned());
            }
            return Err(self.not_run());
        }
        let Some(ending) = self.ending.take() else {
            return Ok(());
        };
        let failure = ending.closed(closing);
        ending.ended();
        // Without a status the script did not come to its end, whatever the service calls this end.
        if self.status.is_none() {
            let complaints: Vec<&str> = self.complaints().collect();
            if let Some(refused) = self.host.refused(&complaints) {
                return Err(refused);
            }
            if let Some(error) = failure {
                return Err(self.complain(error));
            }
            return Err(self.cut_off());
        }
        if self.out.finish().is_err() {
            return Err(self.cut_off());
        }
        Ok(())
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

    fn not_run(&self) -> Error {
        let complaints: Vec<&str> = self.complaints().collect();
        self.host.refused(&complaints).unwrap_or_else(|| {
            self.complain(Error::target(format!(
                "`{}` did not run the command as asked",
                self.host.instance.label()
            )))
        })
    }

    fn complain(&self, error: Error) -> Error {
        self.complaints.iter().fold(error, Error::caused_by)
    }

    /// An error for output that ended in the middle, with what the script complained about.
    pub fn cut_off(&self) -> Error {
        let Instance { id, region, .. } = &self.host.instance;
        let label = self.host.instance.label();
        let error = Error::target(format!("the output of `{label}` was cut off"))
            .with_source(super::CutOff);
        self.complain(error)
            .caused_by(format!(
                "the session ended before its work was done (`{id}` in `{region}`)"
            ))
            .hint(hint!(
                "see what is wrong with sessions there: ops doctor {}",
                label
            ))
    }
}

/// Starts a script with separated output; where the document knows no such parameter, without: it
/// may have it fixed on, or lack it. `script` is told whether it may wait for its session's end:
/// where output comes only when the command has ended, the command must end.
async fn open(host: &ScriptHost, script: impl Fn(bool) -> String) -> Result<Connection> {
    host.read_document().await;
    let known = &host.known.0;
    if known.no_parameter.load(Ordering::Relaxed) {
        let connection = open_as(host, &script, false).await?;
        ignores_separated_output(host, &connection);
        return Ok(connection);
    }
    // The list of agents may be an hour old: its word costs a second start where it is wrong, and
    // saves one where it is right.
    if is_listed_without_separated_output(host) {
        let connection = open_as(host, &script, false).await?;
        if ignores_separated_output(host, &connection) {
            return Ok(connection);
        }
        connection.terminate().await;
    }
    match open_as(host, &script, true).await {
        Ok(connection) => {
            // A script whose output comes when it has ended does not linger, so the session is of
            // use all the same.
            ignores_separated_output(host, &connection);
            Ok(connection)
        }
        // What the service says of a parameter that a document does not take has several forms; a
        // document that fails for another reason fails again.
        Err(error) if matches!(error.kind(), ErrorKind::Usage | ErrorKind::Unexpected) => {
            let connection = open_as(host, &script, false).await?;
            ignores_separated_output(host, &connection);
            known.no_parameter.store(true, Ordering::Relaxed);
            if let Some(name) = &host.document {
                let region = &host.instance.region;
                host.cx.remember_refused_separation(name, region).await;
            }
            Ok(connection)
        }
        Err(error) => Err(error),
    }
}

/// As [`open`]; `None` in place of a session whose output would come only when the script has
/// ended, as far as that is known.
pub(crate) async fn open_separated(
    host: &ScriptHost,
    script: impl Fn(bool) -> String,
) -> Result<Option<Connection>> {
    host.read_document().await;
    if host.known.is_joined() || is_listed_without_separated_output(host) {
        return Ok(None);
    }
    if host.known.0.no_parameter.load(Ordering::Relaxed) {
        return open_as(host, &script, false).await.map(Some);
    }
    match open_as(host, &script, true).await {
        Ok(connection) if ignores_separated_output(host, &connection) => {
            connection.terminate().await;
            Ok(None)
        }
        other => other.map(Some),
    }
}

fn is_listed_without_separated_output(host: &ScriptHost) -> bool {
    let listed = host.instance.agent_version.as_deref();
    listed.is_some_and(|listed| AgentVersion::new(listed).ignores_separated_output())
}

/// Starts the script, with the parameter for separated output if `separate` says so.
async fn open_as(
    host: &ScriptHost,
    script: impl Fn(bool) -> String,
    separate: bool,
) -> Result<Connection> {
    let name = host.document.as_deref().unwrap_or(DOCUMENT);
    let separated = separate || host.known.0.separated.load(Ordering::Relaxed);
    let mut command = host.command(&script(separated))?;
    if host.read_document().await.expands_dollars {
        command = command.replace('$', "$$");
    }
    let mut parameters = BTreeMap::from([("command".to_owned(), vec![command])]);
    if separate {
        parameters.insert(SEPARATE.to_owned(), vec!["true".to_owned()]);
    }
    let document = Document::Custom {
        name: name.to_owned(),
        parameters,
        handshake: true,
    };
    let mut options = host.options();
    options.driver.receive_bound = WAITING_BYTES;
    Box::pin(host.cx.open(&host.instance, document, options)).await
}

/// What the handshake of a script's session tells: the agent's version, which is remembered, and
/// whether it decides about the output.
fn ignores_separated_output(host: &ScriptHost, connection: &Connection) -> bool {
    let Some(version) = &connection.ready.agent_version else {
        return false;
    };
    host.known.learn_version(version);
    version.ignores_separated_output()
}
