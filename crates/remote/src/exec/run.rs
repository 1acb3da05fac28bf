//! A run: what is done with its sessions until the command has ended.
//!
//! There is always one [`ScriptSession`], which brings what the command writes, and, where the
//! command has input or cannot travel as a parameter of a document, a [`Feed`] beside it. Either
//! may be lost at any time and is replaced: the server keeps what a client may not have, and says
//! at which byte a session goes on.

use std::{collections::VecDeque, time::Duration};

use ops_core::Context;
use ops_profile::Instance;
use ops_ui::{Error, Result, output::escape};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::Instant,
};

use super::{
    Control, Event, Input, Request, Signal, Status, TaskEnds,
    controls::{Controls, SignalRoute, Unanswered, Verdict},
    feed::{Feed, Frames},
    folder::Folder,
    line::{LineLoss, OutputRoute, ScriptOutput, ScriptSession},
    order::PreparedCommand,
    position::Position,
    scripts,
    setbacks::Setbacks,
    windows,
};
use crate::pipe::{DocumentHabits, DownPipe, ScriptHost};

/// For a session that is to end a command.
const END_PATIENCE: Duration = Duration::from_secs(15);
/// The number of SIGPIPE.
const PIPE: u8 = 13;

/// Starts the task of a run.
///
/// # Errors
/// As [`PreparedCommand::new`], and what cannot be had on a Windows server.
pub(super) fn spawn(
    cx: &Context,
    instance: &Instance,
    request: &Request,
    ends: TaskEnds,
) -> Result<()> {
    let host = ScriptHost {
        cx: cx.clone(),
        instance: instance.clone(),
        user: request.user.clone(),
        document: request.document.clone(),
        reason: request.reason.clone(),
        urgency: request.urgency,
        known: DocumentHabits::default(),
    };
    let is_windows = windows::is_windows(instance);
    let words = if is_windows {
        windows::command(request)?
    } else {
        String::new()
    };
    let task = RunTask {
        host,
        order: PreparedCommand::new(request)?,
        words,
        patience: request.patience,
        events: ends.events,
        pending: VecDeque::new(),
        controls: Controls::new(ends.control, request.signal_patience),
        input: ends.input,
        frames: Frames::default(),
        folder: Folder::new()?,
        turn: 1,
        setbacks: Setbacks::default(),
        progress: Progress::default(),
        stream: OutputStream::Out,
        out: Position::default(),
        err: Position::default(),
        way: if is_windows {
            OutputRoute::Windows
        } else {
            OutputRoute::Separated
        },
        is_launched: is_windows,
        has_given_orders: false,
        is_direct: is_windows,
        is_running: false,
        status: None,
        feed: FeedState::None,
        feed_turn: 0,
        feed_setbacks: Setbacks::default(),
        feed_progress: (0, 0),
    };
    // The process waits for it, so that a command does not outlive a client that is interrupted.
    cx.interrupt().finish_later(Box::pin(task.carry()));
    Ok(())
}

/// Which stream the bytes that come belong to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum OutputStream {
    Out,
    Err,
}

pub(super) enum FeedState {
    /// None is needed, or not yet.
    None,
    Opening {
        opening: JoinHandle<Result<Feed>>,
        /// Tells the opening that the server listens.
        heard: Option<oneshot::Sender<()>>,
        /// What the server said then.
        up: Option<InputReady>,
    },
    Open(Feed),
}

/// A session for input is ready on the server.
#[derive(Clone, Copy)]
pub(super) struct InputReady {
    pub(super) turn: u32,
    pub(super) stored: u64,
    pub(super) is_exact: bool,
}

/// What became of following a session.
enum FollowEnd {
    Ended(Status),
    /// The session was lost.
    Cut(String),
    /// The command is to be ended; the status for whoever still listens.
    Stop(Option<Status>),
    /// A signal was without an answer for too long.
    Unanswered(Unanswered),
}

pub(super) struct RunTask {
    pub(super) host: ScriptHost,
    pub(super) order: PreparedCommand,
    /// What a Windows server is told in place of all scripts.
    pub(super) words: String,
    pub(super) patience: Duration,
    pub(super) events: mpsc::Sender<Result<Event>>,
    /// Events that nobody had room for yet.
    pub(super) pending: VecDeque<Event>,
    pub(super) controls: Controls,
    /// `None` once the command reads no more.
    pub(super) input: Option<mpsc::Receiver<Input>>,
    pub(super) frames: Frames,
    /// The run's folder on the server.
    pub(super) folder: Folder,
    /// Sessions that were opened for the output, the one at hand included.
    pub(super) turn: u32,
    pub(super) setbacks: Setbacks,
    /// How far everything was when a session was lost the last time.
    pub(super) progress: Progress,
    pub(super) stream: OutputStream,
    pub(super) out: Position,
    pub(super) err: Position,
    pub(super) way: OutputRoute,
    /// The command needs no order to begin.
    pub(super) is_launched: bool,
    /// The orders that it needed are on their way.
    pub(super) has_given_orders: bool,
    /// The server has no place to write: the command ends with its session.
    pub(super) is_direct: bool,
    pub(super) is_running: bool,
    pub(super) status: Option<Status>,
    pub(super) feed: FeedState,
    pub(super) feed_turn: u32,
    pub(super) feed_setbacks: Setbacks,
    /// As [`RunTask::progress`], of the input.
    pub(super) feed_progress: (u64, u64),
}

/// How far a run is: what is another value than before was gained.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    is_told: bool,
    is_running: bool,
    out: Position,
    err: Position,
}

impl RunTask {
    async fn carry(mut self) {
        match self.run().await {
            Ok(Some(status)) => self.tell_end(status).await,
            Ok(None) => {}
            Err(error) => {
                let is_unanswered = error.came_from::<Unanswered>();
                let _ = self.events.send(Err(error)).await;
                if is_unanswered {
                    // In case the server can be reached at this very moment. Whoever waited knows
                    // by now, and the process gives this a few seconds.
                    tell(self.host.clone(), scripts::tell(&self.folder, "end")).await;
                }
            }
        }
    }

    async fn tell_end(&mut self, status: Status) {
        while let Some(event) = self.pending.pop_front() {
            let _ = self.events.send(Ok(event)).await;
        }
        let _ = self.events.send(Ok(Event::Ended(status))).await;
    }

    /// `None` where nobody listens any more, or everything was told.
    async fn run(&mut self) -> Result<Option<Status>> {
        let Some(mut line) = self.first_line().await? else {
            // Nobody has told of it, and all the same it may have begun.
            if self.host.known.has_reached() {
                self.stop(None).await;
            }
            return Ok(None);
        };
        loop {
            match self.follow(&mut line).await {
                Ok(FollowEnd::Ended(status)) => {
                    self.tell_end(status).await;
                    self.acknowledge(line).await;
                    return Ok(None);
                }
                Ok(FollowEnd::Stop(status)) => {
                    self.stop(Some(line)).await;
                    return Ok(status);
                }
                Ok(FollowEnd::Unanswered(unanswered)) => {
                    // No other session could be had, and the one at hand can end the command.
                    if unanswered.is_server_heard && line.quit().await {
                        self.pending
                            .push_back(Event::Note(self.ended_instead(unanswered.signal)));
                        return Ok(Some(Status::Signal(unanswered.signal.number())));
                    }
                    return Err(self.unanswered(unanswered));
                }
                Ok(FollowEnd::Cut(why)) => {
                    self.controls.line_lost(line.has_ended());
                    if self.is_direct {
                        return Err(self.cut_off(&why));
                    }
                    self.note_progress(&line);
                    drop(line);
                    self.detail(format!("going on in another session: {why}"));
                    match self.replace_line(why).await {
                        Ok(Some(next)) => line = next,
                        Ok(None) => {
                            self.stop(None).await;
                            return Ok(None);
                        }
                        Err(error) => return Err(error),
                    }
                }
                Err(error) => {
                    self.stop(Some(line)).await;
                    return Err(error);
                }
            }
        }
    }

    /// Carries everything between the sessions and whoever runs the command, until this session
    /// ends or is not needed any more.
    async fn follow(&mut self, line: &mut ScriptSession) -> Result<FollowEnd> {
        loop {
            // What comes is not read while what came before waits for its reader.
            let is_reading = self.pending.is_empty() && self.status.is_none();
            let heard = if is_reading {
                line.last_heard()
            } else {
                Instant::now()
            };
            match self.controls.verdict(Instant::now(), Some(heard)) {
                Verdict::Wait => {}
                Verdict::Resend(signal) => self.send_by_own_session(signal),
                Verdict::GiveUp(unanswered) => return Ok(FollowEnd::Unanswered(unanswered)),
            }
            if let Some(control) = self.controls.pop()
                && let Some(turn) = self.obey(line, control).await
            {
                return Ok(turn);
            }
            // The run is dropped; so are its events.
            if !self.controls.is_open() {
                return Ok(FollowEnd::Stop(None));
            }
            if let FeedState::Open(feed) = &mut self.feed {
                feed.send_frames(&mut self.frames);
            }
            if self.pending.is_empty()
                && let Some(status) = self.status
            {
                return Ok(FollowEnd::Ended(status));
            }
            let takes_input = self.is_running && self.frames.has_room();
            let events = self.events.clone();
            tokio::select! {
                biased;
                () = self.controls.changed(Some(heard)) => {}
                permit = events.reserve(), if !self.pending.is_empty() => match permit {
                    Ok(permit) => {
                        if let Some(event) = self.pending.pop_front() {
                            permit.send(Ok(event));
                        }
                        line.excuse_silence();
                    }
                    Err(_) => return Ok(FollowEnd::Stop(None)),
                },
                () = events.closed() => return Ok(FollowEnd::Stop(None)),
                change = changed(&mut self.feed) => self.feed_changed(change)?,
                piece = receive(&mut self.input), if takes_input => self.take_input(piece),
                said = line.next(), if is_reading => {
                    match said {
                        Ok(said) => self.hear(line, said)?,
                        Err(LineLoss::Cut(why)) => return Ok(FollowEnd::Cut(why)),
                        Err(LineLoss::Failed(error)) => return Err(error),
                    }
                }
            }
        }
    }

    /// Whether the server has all that it needs to start the command.
    pub(super) fn is_ordered(&self) -> bool {
        self.is_launched || self.is_running || self.has_given_orders
    }

    /// What the session at hand has gained makes good for those that were lost before it.
    fn note_progress(&mut self, line: &ScriptSession) {
        let progress = Progress {
            is_told: self.folder.is_told(),
            is_running: self.is_running,
            out: self.out,
            err: self.err,
        };
        if line.has_lasted() || progress != self.progress {
            self.setbacks.clear();
            self.progress = progress;
        }
    }

    // --- what comes --------------------------------------------------------------------------

    fn hear(&mut self, line: &ScriptSession, said: ScriptOutput) -> Result<()> {
        match said {
            ScriptOutput::Bytes(bytes) => {
                // It may have written something before the server looked.
                self.note_running();
                let (position, event) = match self.stream {
                    OutputStream::Out => (&mut self.out, Event::Stdout(bytes.clone())),
                    OutputStream::Err => (&mut self.err, Event::Stderr(bytes.clone())),
                };
                position.advance(bytes.len());
                self.pending.push_back(event);
                Ok(())
            }
            ScriptOutput::Error(bytes) => {
                self.pending.push_back(Event::Stderr(bytes));
                Ok(())
            }
            ScriptOutput::Message(text) => self.hear_message(line, &text),
        }
    }

    fn hear_message(&mut self, line: &ScriptSession, text: &str) -> Result<()> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        match word {
            "folder" => {
                self.folder.told(rest)?;
                if self.order.needs_terminal() && matches!(self.feed, FeedState::None) {
                    self.open_feed(Duration::ZERO);
                }
            }
            "nowhere" => self.begin_direct(line)?,
            "running" => self.note_running(),
            "out" => {
                self.stream = OutputStream::Out;
                self.out.check(rest).map_err(|error| self.missing(error))?;
            }
            "err" => {
                self.stream = OutputStream::Err;
                self.err.check(rest).map_err(|error| self.missing(error))?;
            }
            "end" | "last" => {
                let (name, place) = rest.split_once(' ').unwrap_or_default();
                let position = match name {
                    "out" => &mut self.out,
                    "err" => &mut self.err,
                    _ => return Err(line.not_run()),
                };
                let checked = if word == "end" {
                    position.end_segment(place)
                } else {
                    position.end(place)
                };
                checked.map_err(|error| self.missing(error))?;
            }
            "up" => self.feed_is_up(rest),
            "in" => self.input_told(rest),
            "status" => {
                if !(self.out.is_end && self.err.is_end) {
                    return Err(self.missing(super::position::Missing));
                }
                self.status = Some(read_status(rest).ok_or_else(|| line.not_run())?);
            }
            "detached" => {
                let (pid, output) = rest.split_once(' ').unwrap_or_default();
                self.pending.push_back(Event::Detached {
                    pid: pid.parse().map_err(|_| line.not_run())?,
                    output: output.to_owned(),
                });
                self.status = Some(Status::Code(0));
            }
            // Told by both streams of a direct session, each after its last byte.
            "over" if self.is_direct => {
                if self.out.is_end {
                    self.status = Some(self.direct_status(rest).ok_or_else(|| line.not_run())?);
                }
                self.out.is_end = true;
            }
            "windows" if self.way == OutputRoute::Windows => {}
            "unstartable" if self.way == OutputRoute::Windows => {
                return Err(windows::unstartable(rest));
            }
            "gone" => return Err(self.gone()),
            "unstarted" => return Err(self.unstarted()),
            "killed" => return Err(self.killed()),
            "failed" => {
                return Err(Error::target(format!(
                    "the output on `{}` cannot be kept until it is sent",
                    self.label()
                ))
                .caused_by(escape(rest))
                .hint("make room on the server, in /tmp"));
            }
            _ => return Err(line.not_run()),
        }
        Ok(())
    }

    fn note_running(&mut self) {
        if !self.is_running {
            self.is_running = true;
            self.pending.push_back(Event::Started);
        }
    }

    fn begin_direct(&mut self, line: &ScriptSession) -> Result<()> {
        if self.turn > 1 {
            return Err(self.maybe_run());
        }
        if self.order.needs_terminal() || self.order.needs_folder() {
            return Err(line
                .not_run()
                .caused_by("nothing can be written on the server: input, scripts, long commands and variables need a folder there")
                .hint("make room on the server, in /tmp"));
        }
        self.is_direct = true;
        self.stream = OutputStream::Out;
        self.pending
            .push_back(Event::Note(self.ends_with_session()));
        Ok(())
    }

    /// How a command has ended of which nothing is kept on the server.
    fn direct_status(&mut self, words: &str) -> Option<Status> {
        if self.way != OutputRoute::Windows || words == "limit" {
            return read_status(words);
        }
        let (code, note) = windows::narrow_status(words)?;
        if let Some(note) = note {
            self.pending.push_back(Event::Note(note.into()));
        }
        // No signal ends a program there.
        Some(Status::Code(code))
    }

    // --- ways out ----------------------------------------------------------------------------

    async fn obey(&mut self, line: &ScriptSession, control: Control) -> Option<FollowEnd> {
        match control {
            Control::StdoutClosed => Some(FollowEnd::Stop(Some(Status::Signal(PIPE)))),
            Control::Signal(signal) if !self.is_running || self.is_direct => {
                // There is nothing yet, or nobody there, to take a signal.
                Some(FollowEnd::Stop(Some(Status::Signal(signal.number()))))
            }
            Control::Signal(signal) => {
                self.send_signal(line, signal).await;
                None
            }
        }
    }

    async fn send_signal(&mut self, line: &ScriptSession, signal: Signal) {
        if let FeedState::Open(feed) = &self.feed
            && feed.is_ready()
        {
            feed.order(format!("signal {}\n", signal.name()), None);
            let heard = feed.heard();
            let heard = async move { heard.await.is_ok() };
            self.controls.sent(signal, SignalRoute::Feed, heard);
            return;
        }
        if signal == Signal::Interrupt {
            line.interrupt().await;
            // An acknowledgement of the agent says nothing of the script, which may have missed the
            // signal. The script ends with it, and so does the session.
            let never = std::future::pending();
            self.controls.sent(signal, SignalRoute::Line, never);
            return;
        }
        self.send_by_own_session(signal);
    }

    /// Sends a signal where no session at hand takes it, or has brought it there.
    fn send_by_own_session(&mut self, signal: Signal) {
        let role = format!("signal {}", signal.name());
        let told = tell_patiently(self.host.clone(), scripts::tell(&self.folder, &role));
        self.controls.sent(signal, SignalRoute::Own, told);
    }

    /// Tells the server that the end of the command is known here: until then it keeps everything.
    async fn acknowledge(&mut self, line: ScriptSession) {
        // Its session is ended meanwhile.
        self.close_feed();
        if self.is_direct || line.acknowledge().await {
            return;
        }
        tell(self.host.clone(), scripts::tell(&self.folder, "known")).await;
    }

    fn close_feed(&mut self) {
        if let FeedState::Opening { opening, .. } = &self.feed {
            opening.abort();
        }
        self.feed = FeedState::None;
    }

    /// Ends the command and all it has left on the server.
    pub(super) async fn stop(&mut self, line: Option<ScriptSession>) {
        if self.is_direct {
            return;
        }
        if let Some(line) = line
            && line.quit().await
        {
            return;
        }
        tell(self.host.clone(), scripts::tell(&self.folder, "end")).await;
    }
}

/// Runs a script that only does something.
async fn tell(host: ScriptHost, script: String) {
    let output = host.cx.output().clone();
    let told = tell_patiently(host, script);
    if tokio::time::timeout(END_PATIENCE, told).await.is_err() {
        output.detail("the server did not answer in time");
    }
}

/// As [`tell`], for as long as a session takes to open: of hundreds that were asked for at the same
/// time each waits for its turn. Gives whether the script has run.
async fn tell_patiently(host: ScriptHost, script: String) -> bool {
    let told = async {
        let mut down = DownPipe::start(&host, &script).await?;
        down.wait().await
    };
    match told.await {
        Ok(_) => true,
        Err(error) => {
            host.cx.output().detail(error.to_string());
            false
        }
    }
}

pub(super) enum FeedChange {
    Opened(Result<Feed>),
    Ended(String),
}

/// Ends when something has become of the session for input. Cancel-safe.
async fn changed(feed: &mut FeedState) -> FeedChange {
    match feed {
        FeedState::None => std::future::pending().await,
        FeedState::Opening { opening, .. } => match opening.await {
            Ok(opened) => FeedChange::Opened(opened),
            Err(error) => FeedChange::Opened(Err(Error::unforeseen(error))),
        },
        FeedState::Open(feed) => FeedChange::Ended(feed.ended().await),
    }
}

async fn receive(input: &mut Option<mpsc::Receiver<Input>>) -> Option<Input> {
    match input {
        Some(input) => input.recv().await,
        None => std::future::pending().await,
    }
}

fn read_status(text: &str) -> Option<Status> {
    if text == "limit" {
        return Some(Status::TimeLimit);
    }
    text.parse().ok().map(Status::from_exit_code)
}

impl Drop for RunTask {
    fn drop(&mut self) {
        self.close_feed();
    }
}
