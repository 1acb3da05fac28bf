//! A command on one server: what `ops exec` is made of, below its command line.
//!
//! ```no_run
//! # use ops_remote::exec::{self, Command, Event, Request};
//! # async fn example(cx: &ops_core::Context, instance: &ops_profile::Instance) -> ops_ui::Result<()> {
//! let argv = vec![b"pg_dump".to_vec(), b"app".to_vec()];
//! let mut run = exec::start(cx, instance, Request::new(Command::Argv(argv))).await?;
//! while let Some(event) = run.next().await? {
//!     match event {
//!         Event::Stdout(bytes) => { /* as the command wrote them, live */ }
//!         Event::Stderr(bytes) => {}
//!         Event::Note(text) => { /* for a person */ }
//!         Event::Started | Event::Detached { .. } => {}
//!         Event::Ended(status) => std::process::exit(i32::from(status.as_exit_code())),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! **What comes out.** Each stream byte for byte and in its order, as it is written; nothing is
//! promised of the order of one stream towards the other. [`Event::Ended`] is the last event, and
//! comes only when every byte of both streams has been given. An error in its place means that the
//! output is not whole or the status is not known: it never follows a status.
//!
//! **Whoever reads slowly** holds back the command, as at any pipe: [`Run::next`] takes one piece
//! at a time, and a few megabytes wait in between.
//!
//! **Input.** With [`Request::stdin`] there is a [`Stdin`], to be driven beside [`Run::next`]. Its
//! [`Stdin::send`] fails with [`InputClosed`] as soon as nobody reads any more, so that a command
//! that does not read its input holds up nobody. Without, the command reads `/dev/null`, and no
//! second session is opened for it.
//!
//! **A lost session** costs nothing: another one goes on at the very byte. For that the server
//! keeps everything until the client answers that it knows the end of the command. Neither what was
//! written to a session counts, nor that it has ended: both happen to lost sessions too.
//!
//! **Windows.** A command there runs by PowerShell and ends with its session; input, variables,
//! scripts, another user and `detach` are refused. Written from the documentation, and not tried.
//!
//! **Ways out.** [`Signals`] reach all processes of the command. [`Run::stdout_closed`] ends it as
//! SIGPIPE would. A [`Run`] that is dropped ends it in the background, which the dispatcher waits
//! for.

mod controls;
mod feed;
mod folder;
mod input;
mod line;
mod on_terminal;
mod opening;
mod order;
mod position;
mod run;
mod scripts;
mod setbacks;
#[cfg(test)]
mod shells;
mod text;
mod windows;
mod words;

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use ops_core::{BoxFuture, Context, connect::Urgency};
use ops_profile::Instance;
use ops_ui::{Result, Text};
use tokio::sync::mpsc;

pub use self::{
    controls::Unanswered,
    on_terminal::{OnTerminal, start_on_terminal},
    windows::is_windows,
};

/// See [`Request::patience`].
const PATIENCE: Duration = Duration::from_secs(600);
/// See [`Request::signal_patience`]. Signs of life come every three seconds.
const SIGNAL_PATIENCE: Duration = Duration::from_secs(10);
/// Events that may wait for [`Run::next`]; each holds at most [`PIECE_BYTES`] or so.
const WAITING_EVENTS: usize = 8;
/// Largest piece of input that is handed on at once, in bytes.
const PIECE_BYTES: usize = 256 << 10;

/// What is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A program with its arguments, each byte for byte; none holds a NUL.
    Argv(Vec<Vec<u8>>),
    /// A line for `sh -c`.
    Line(Vec<u8>),
    /// A script of this computer, run by its `#!` line (by `sh` where it has none) from a private
    /// file that is removed.
    Script {
        /// The name of its file, for messages of the interpreter: the last part of a path.
        name: String,
        /// Its content.
        bytes: Vec<u8>,
        /// Its arguments.
        args: Vec<Vec<u8>>,
    },
}

/// A command and how it is run.
#[derive(Clone, Debug)]
pub struct Request {
    /// What is run.
    pub command: Command,
    /// The user to become, with `sudo -n`.
    pub user: Option<String>,
    /// The folder to run it in; `~/…` and what is not absolute begin at the user's home.
    pub cwd: Option<String>,
    /// Variables to add to its environment: name and value.
    pub env: Vec<(String, Vec<u8>)>,
    /// After this time it is ended on the server: SIGTERM, a second later SIGKILL.
    pub time_limit: Option<Duration>,
    /// Whether it reads what [`Stdin`] is given, in place of `/dev/null`.
    pub stdin: bool,
    /// A document of the profile's for commands, in place of AWS's own.
    pub document: Option<String>,
    /// Why, for the session's history.
    pub reason: Option<String>,
    /// Whether somebody waits for just this server.
    pub urgency: Urgency,
    /// How long it is kept on the server for a client that is away: 10 minutes. Then it is ended.
    pub patience: Duration,
    /// How long a signal that asks the command to end may be without a word of the server: 10
    /// seconds. Then [`Run::next`] fails with [`Unanswered`]. A command that has got the signal may
    /// take all the time it needs, as long as its sessions live.
    pub signal_patience: Duration,
    /// Leaves it running: [`Event::Detached`] tells its process and where its output goes.
    pub detach: bool,
}

impl Request {
    /// `command`, and nothing asked for beside it.
    pub fn new(command: Command) -> Self {
        Self {
            command,
            user: None,
            cwd: None,
            env: Vec::new(),
            time_limit: None,
            stdin: false,
            document: None,
            reason: None,
            urgency: Urgency::default(),
            patience: PATIENCE,
            signal_patience: SIGNAL_PATIENCE,
            detach: false,
        }
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It exited with this status.
    Code(u8),
    /// A signal of this number ended it. The server's `sh` tells it as 128 and the number, and so
    /// cannot tell it from a command that exits with that status itself.
    Signal(u8),
    /// [`Request::time_limit`] was over.
    TimeLimit,
}

/// The exit status of a time that is over, as `timeout` of the GNU coreutils has it.
const TIME_LIMIT_CODE: u8 = 124;
/// What a shell adds to the number of a signal.
const SIGNAL_BASE: u8 = 128;
/// The largest number of a signal (Linux: `SIGRTMAX`).
const LAST_SIGNAL: u8 = 64;

impl Status {
    /// As a shell tells it in `$?`.
    pub fn from_exit_code(code: u8) -> Self {
        match code.checked_sub(SIGNAL_BASE) {
            Some(signal @ 1..=LAST_SIGNAL) => Self::Signal(signal),
            _ => Self::Code(code),
        }
    }

    /// The exit status for whoever started `ops`: a signal is 128 and its number, a time that is
    /// over 124.
    pub fn as_exit_code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => SIGNAL_BASE.saturating_add(signal),
            Self::TimeLimit => TIME_LIMIT_CODE,
        }
    }
}

/// What happens to a command, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It has been started on the server. Comes once, before any output.
    Started,
    /// What it wrote to its standard output.
    Stdout(Bytes),
    /// What it wrote to its error output.
    Stderr(Bytes),
    /// Something that the user should know of this run.
    Note(Text),
    /// It was left running, as asked for; [`Event::Ended`] follows with status 0.
    Detached {
        /// Its process on the server, which leads a session of its own.
        pid: u32,
        /// The file on the server that takes both streams.
        output: String,
    },
    /// It has ended. The last event.
    Ended(Status),
}

/// A signal for a command's processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGHUP.
    HangUp,
    /// SIGQUIT.
    Quit,
    /// SIGUSR1.
    User1,
    /// SIGUSR2.
    User2,
    /// SIGKILL.
    Kill,
}

impl Signal {
    /// As `kill -s` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "INT",
            Self::Terminate => "TERM",
            Self::HangUp => "HUP",
            Self::Quit => "QUIT",
            Self::User1 => "USR1",
            Self::User2 => "USR2",
            Self::Kill => "KILL",
        }
    }

    /// Its number on Linux, where most servers are. Those of SIGUSR1 and SIGUSR2 alone differ
    /// elsewhere.
    pub fn number(self) -> u8 {
        match self {
            Self::HangUp => 1,
            Self::Interrupt => 2,
            Self::Quit => 3,
            Self::Kill => 9,
            Self::User1 => 10,
            Self::User2 => 12,
            Self::Terminate => 15,
        }
    }
}

/// What a [`Run`] is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Control {
    Signal(Signal),
    StdoutClosed,
}

/// Sends signals to a command; cheap to clone.
#[derive(Clone, Debug)]
pub struct Signals(mpsc::UnboundedSender<Control>);

impl Signals {
    /// Sends `signal` to all processes of the command; nothing happens once it has ended.
    pub fn send(&self, signal: Signal) {
        let _ = self.0.send(Control::Signal(signal));
    }
}

/// Nobody reads the command's input any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the command reads no more")]
pub struct InputClosed;

/// The input of a command. Dropped without [`Stdin::end`], it stays open as far as the command can
/// see, so that a part is never taken for the whole.
#[derive(Debug)]
pub struct Stdin(mpsc::Sender<Input>);

#[derive(Debug)]
enum Input {
    Bytes(Bytes),
    End,
}

impl Stdin {
    /// Hands on `bytes`, of any length; waits while the command is behind. May be cancelled, which
    /// may leave a part of them sent.
    ///
    /// # Errors
    /// [`InputClosed`]: the command has closed its input or ended; [`Run::next`] tells the rest.
    pub async fn send(&mut self, mut bytes: Bytes) -> Result<(), InputClosed> {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
            let sent = self.0.send(Input::Bytes(piece)).await;
            sent.map_err(|_| InputClosed)?;
        }
        Ok(())
    }

    /// Says that no more comes: the command reads end-of-file.
    ///
    /// # Errors
    /// As [`Stdin::send`].
    pub async fn end(self) -> Result<(), InputClosed> {
        self.0.send(Input::End).await.map_err(|_| InputClosed)
    }
}

/// A command that runs on a server.
#[derive(Debug)]
pub struct Run {
    /// What came before it was started, and that.
    first: VecDeque<Event>,
    events: mpsc::Receiver<Result<Event>>,
    stdin: Option<Stdin>,
    control: mpsc::UnboundedSender<Control>,
}

impl Run {
    /// What happens next; `None` after [`Event::Ended`] or an error. May be cancelled.
    ///
    /// # Errors
    /// The command could not be run as asked, or what became of it cannot be known: a session that
    /// was lost for good, or output of which a part is missing. [`Unanswered`] is the source of one
    /// that says that nothing was heard of the server after a signal.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        if let Some(event) = self.first.pop_front() {
            return Ok(Some(event));
        }
        self.events.recv().await.transpose()
    }

    /// The command's input, once, if [`Request::stdin`] asked for it.
    pub fn take_stdin(&mut self) -> Option<Stdin> {
        self.stdin.take()
    }

    /// Sends signals to it.
    pub fn signals(&self) -> Signals {
        Signals(self.control.clone())
    }

    /// Whoever read the output has gone: the command is ended, and [`Run::next`] gives SIGPIPE's
    /// status.
    pub fn stdout_closed(&self) {
        let _ = self.control.send(Control::StdoutClosed);
    }
}

/// The ends that the task of a [`Run`] holds.
struct TaskEnds {
    events: mpsc::Sender<Result<Event>>,
    control: mpsc::UnboundedReceiver<Control>,
    input: Option<mpsc::Receiver<Input>>,
}

/// Starts a command on a server; gives the [`Run`] when it has been started there.
///
/// # Errors
/// As [`Context::open`]; a NUL in an argument or a name that no variable can have (2); a server
/// that does not let the session become the user (5).
pub fn start<'a>(
    cx: &'a Context,
    instance: &'a Instance,
    request: Request,
) -> BoxFuture<'a, Result<Run>> {
    Box::pin(start_unboxed(cx, instance, request))
}

async fn start_unboxed(cx: &Context, instance: &Instance, request: Request) -> Result<Run> {
    let (events, receiver) = mpsc::channel(WAITING_EVENTS);
    let (control, commands) = mpsc::unbounded_channel();
    let (stdin, input) = if request.stdin {
        let (sender, receiver) = mpsc::channel(1);
        (Some(Stdin(sender)), Some(receiver))
    } else {
        (None, None)
    };
    let ends = TaskEnds {
        events,
        control: commands,
        input,
    };
    run::spawn(cx, instance, &request, ends)?;
    let mut run = Run {
        first: VecDeque::new(),
        events: receiver,
        stdin,
        control,
    };
    let mut first = VecDeque::new();
    while let Some(event) = run.next().await? {
        let is_started = event == Event::Started;
        first.push_back(event);
        if is_started {
            break;
        }
    }
    run.first = first;
    Ok(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_told_as_a_shell_tells_it() {
        for code in 0..=u8::MAX {
            assert_eq!(Status::from_exit_code(code).as_exit_code(), code);
        }
        assert_eq!(Status::from_exit_code(143), Status::Signal(15));
        assert_eq!(Status::from_exit_code(255), Status::Code(255));
        assert_eq!(Status::TimeLimit.as_exit_code(), 124);
    }
}
