//! Carries a session between the user and the far side: input, output, size, and what there is to
//! say about the connection.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use ops_core::{BoxFuture, Context, connect::Ending};
use ops_session::driver::{Event, Events, Sender};
use ops_ui::{
    Error, ErrorKind, Exit, Output, Result,
    stdio::{StdoutWriter, read_stdin},
    terminal::{self, RawMode, Resizes, TerminalChange},
};
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, timeout, timeout_at},
};

use super::{
    departure::Departure,
    escape::{self, EscapeAction, EscapeChar, Escapes},
    modes::Modes,
    notes::Notes,
};

/// Pieces of input that may wait while the session takes none, so that the escape is still found
/// behind them. The kernel gives at most 4 KiB at once from a terminal.
const TYPED_AHEAD: usize = 2048;
/// The size told where there is no terminal; the official client's, wide enough that little is
/// wrapped.
const SIZE_WITHOUT_TERMINAL: (u16, u16) = (300, 100);
/// What Ctrl-D types.
const END_OF_TRANSMISSION: &[u8] = b"\x04";
/// How long the far side may say nothing before it is told again that the input has ended, at first
/// and at most.
const QUIET: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// In builds for development, has the session panic at its first output, so that a test sees the
/// terminal restored.
const PANIC_VARIABLE: &str = "OPS_DEBUG_PANIC";
/// How long after an end that the user did not bring about what is typed is taken for meant for the
/// session. People see an end that fast.
const SURPRISE: Duration = Duration::from_millis(300);
/// In builds for development, another [`SURPRISE`], in milliseconds, so that a test is not a race.
const SURPRISE_VARIABLE: &str = "OPS_DEBUG_SURPRISE";
/// For what is still to be written when the session was cut off.
const LAST_OUTPUT: Duration = Duration::from_millis(500);

/// Standard input, piece by piece.
type Stdin = mpsc::Receiver<io::Result<Bytes>>;

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CarryEnd {
    /// The far side ended it, with a status where the document has one; mostly because the user
    /// left the shell.
    FarSide(Exit),
    /// The other side did, and the user had not asked for it.
    Surprise(Exit),
    /// The user did, with the escape.
    Escape,
}

/// Looks at what the far side writes before the terminal gets it.
pub trait OutputFilter: Send {
    /// What of `piece` is for the terminal, with what was held back before.
    fn pass(&mut self, piece: Bytes) -> Bytes;

    /// How the program ended, once it has said so: the end of its session is no surprise then.
    fn status(&self) -> Option<Exit>;
}

/// Carries a session until it ends. The terminal is in raw mode meanwhile if there is one on stdin,
/// and as before afterwards. `filter` sees all output first.
///
/// # Errors
/// The session failed, the output cannot be written any more, or a signal asked to stop.
pub fn carry<'a>(
    cx: &'a Context,
    sender: &'a Sender,
    events: &'a mut Events,
    ending: &'a Ending,
    label: &'a str,
    escape: EscapeChar,
    filter: Option<Box<dyn OutputFilter>>,
) -> BoxFuture<'a, Result<CarryEnd>> {
    Box::pin(carry_unboxed(
        cx, sender, events, ending, label, escape, filter,
    ))
}

async fn carry_unboxed(
    cx: &Context,
    sender: &Sender,
    events: &mut Events,
    ending: &Ending,
    label: &str,
    escape: EscapeChar,
    filter: Option<Box<dyn OutputFilter>>,
) -> Result<CarryEnd> {
    let output = cx.output();
    let handler = cx.interrupt().handle();
    let mut stdout = Some(StdoutWriter::start());
    let heard = Arc::new(Notify::new());
    let departure = Mutex::new(Departure::default());
    let mut stdin = read_stdin();
    let resizes = Resizes::listen()?;
    let raw = if output.stdin_is_terminal() {
        Some(RawMode::enable(output.raw_lines()).map_err(|error| {
            Error::from(error).caused_by("the terminal on standard input cannot be set to raw mode")
        })?)
    } else {
        None
    };

    let mut notes = Notes::new(output, label, escape, raw.is_some());
    let show = show(Show {
        output,
        events,
        stdout: &mut stdout,
        raw: raw.as_ref(),
        heard: &heard,
        panics: cx.env().var(PANIC_VARIABLE).is_some(),
        ending,
        departure: &departure,
        notes: &mut notes,
        filter,
    });
    let input = async {
        match &raw {
            Some(raw) => typed(output, sender, raw, escape, &mut stdin, &departure).await,
            None => piped(sender, &heard, &mut stdin).await,
        }
    };
    let outcome = tokio::select! {
        // What the far side has said comes first, so that its end is not taken for ours.
        biased;
        outcome = show => outcome,
        outcome = input => outcome,
        error = handler.wait() => Err(error),
        () = sizes(sender, resizes, raw.as_ref()) => Err(Error::unexpected("the terminal's size is not followed any more")),
    };
    if let Some(stdout) = stdout {
        // Cut off: what is on its way goes first, so that it cannot change the terminal after it
        // was restored. A reader that takes nothing is not waited for.
        let _ = timeout(LAST_OUTPUT, stdout.finish()).await;
    }
    if let (Some(_), Ok(CarryEnd::Surprise(_))) = (&raw, &outcome) {
        // Still in raw mode, so that the keys are not echoed: they are typed by somebody who does
        // not know yet where they would go.
        let surprise = cx
            .env()
            .var(SURPRISE_VARIABLE)
            .filter(|_| cfg!(debug_assertions))
            .and_then(|text| text.parse().ok())
            .map_or(SURPRISE, Duration::from_millis);
        if swallow(&mut stdin, surprise).await {
            notes.swallowed();
        }
    }
    drop(raw);
    outcome
}

/// Takes what is typed for as long as `patience`; gives whether anything was.
async fn swallow(stdin: &mut Stdin, patience: Duration) -> bool {
    let mut any = false;
    let until = Instant::now() + patience;
    while let Ok(Some(Ok(_))) = timeout_at(until, stdin.recv()).await {
        any = true;
    }
    any
}

struct Show<'a, 'b> {
    output: &'a Output,
    events: &'a mut Events,
    /// Taken once it has failed or finished.
    stdout: &'a mut Option<StdoutWriter>,
    raw: Option<&'a RawMode>,
    heard: &'a Notify,
    panics: bool,
    ending: &'a Ending,
    departure: &'a Mutex<Departure>,
    notes: &'a mut Notes<'b>,
    filter: Option<Box<dyn OutputFilter>>,
}

/// Writes what comes, in order; waits for a slow reader, which holds back the session in turn.
async fn show(show: Show<'_, '_>) -> Result<CarryEnd> {
    let Show {
        output,
        events,
        stdout,
        raw,
        heard,
        panics,
        ending,
        departure,
        notes,
        mut filter,
    } = show;
    let mut modes = Modes::default();
    let mut status = Exit::SUCCESS;
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = notes.due() => {
                notes.say_due();
                continue;
            }
        };
        let Some(event) = event else { break };
        notes.hear(&event);
        match event {
            Event::Output(bytes) => {
                heard.notify_one();
                if cfg!(debug_assertions) && panics {
                    panic!("{PANIC_VARIABLE} asks for it");
                }
                let bytes = match &mut filter {
                    Some(filter) => filter.pass(bytes),
                    None => bytes,
                };
                if bytes.is_empty() {
                    continue;
                }
                if let Some(raw) = raw
                    && output.stdout_is_terminal()
                    && modes.observe(&bytes)
                {
                    raw.undo_with(modes.undo());
                }
                notes.wrote(&bytes, modes.is_alternate_screen());
                if raw.is_some() {
                    follow(departure).show_output(&bytes);
                }
                if let Some(writer) = stdout
                    && let Err(error) = writer.write(bytes).await
                {
                    *stdout = None;
                    return Err(unwritten(output, error));
                }
            }
            Event::Stderr(bytes) => {
                heard.notify_one();
                output.pass_stderr(&bytes);
            }
            Event::ExitCode(code) => {
                status = Exit::of(u8::try_from(code).unwrap_or(Exit::UNEXPECTED.code()));
            }
            // Ready was taken when the session was opened; flags are for port sessions. What
            // happens to the connection is said.
            Event::Ready(_)
            | Event::Flag(_)
            | Event::Disconnected { .. }
            | Event::Reconnecting { .. }
            | Event::Resumed
            | Event::AgentSilent { .. }
            | Event::AgentBack => {}
            Event::Closed(closing) => {
                finish(output, stdout).await?;
                if let Some(error) = ending.closed(&closing) {
                    return Err(error);
                }
                if let Some(told) = filter.as_ref().and_then(|filter| filter.status()) {
                    return Ok(CarryEnd::FarSide(told));
                }
                let text = closing.text();
                // Whoever waits for a status takes no guess for it.
                let is_own = filter.is_none() && (raw.is_none() || follow(departure).is_own());
                if is_own && text.is_empty() {
                    return Ok(CarryEnd::FarSide(status));
                }
                notes.over(text);
                return Ok(CarryEnd::Surprise(status));
            }
            Event::Failed(error) => {
                finish(output, stdout).await?;
                return Err(ending.failed(&error));
            }
        }
    }
    finish(output, stdout).await?;
    Err(Error::target(format!(
        "the session on `{}` ended without a word",
        notes.label()
    )))
}

fn follow(departure: &Mutex<Departure>) -> MutexGuard<'_, Departure> {
    departure.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until all of it is written, however slow the reader is.
async fn finish(output: &Output, stdout: &mut Option<StdoutWriter>) -> Result<()> {
    match stdout.take() {
        Some(writer) => writer
            .finish()
            .await
            .map_err(|error| unwritten(output, error)),
        None => Ok(()),
    }
}

fn unwritten(output: &Output, error: Error) -> Error {
    if output.stdout_is_terminal() {
        Error::new(ErrorKind::Terminated, "the terminal is gone").caused_by(error)
    } else {
        error
    }
}

/// What is typed goes to the far side, but for escapes.
async fn typed(
    output: &Output,
    sender: &Sender,
    raw: &RawMode,
    escape: EscapeChar,
    stdin: &mut Stdin,
    departure: &Mutex<Departure>,
) -> Result<CarryEnd> {
    let (queue, mut queued) = mpsc::channel::<Bytes>(TYPED_AHEAD);
    let read = async {
        let mut escapes = Escapes::new(escape);
        while let Some(Ok(piece)) = stdin.recv().await {
            for action in escapes.feed(&piece) {
                match action {
                    EscapeAction::Send(bytes) => {
                        follow(departure).type_keys(&bytes);
                        // The receiver lives as long as this does.
                        let _ = queue.send(bytes).await;
                    }
                    EscapeAction::Help => output.note(escape::help(escape)),
                    EscapeAction::End => return Ok(CarryEnd::Escape),
                    EscapeAction::Suspend => raw.suspend()?,
                }
            }
        }
        Err(Error::new(ErrorKind::Terminated, "the terminal is gone"))
    };
    let send = async {
        while let Some(bytes) = queued.recv().await {
            if sender.send(bytes).await.is_err() {
                break;
            }
        }
        // How the session ended is the output's to tell.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        outcome = read => outcome,
        () = send => Ok(CarryEnd::Escape),
    }
}

/// All of standard input goes to the far side, then the end of transmission that a terminal would
/// send.
async fn piped(sender: &Sender, heard: &Notify, stdin: &mut Stdin) -> Result<CarryEnd> {
    let sent = async {
        let mut last = b'\n';
        while let Some(piece) = stdin.recv().await {
            let piece = piece?;
            last = *piece.last().unwrap_or(&last);
            if sender.send(piece).await.is_err() {
                return Ok(());
            }
        }
        // Ctrl-D within a line does not end a terminal's input.
        if last != b'\n' && sender.send(Bytes::from_static(b"\n")).await.is_err() {
            return Ok(());
        }
        let mut quiet = QUIET.0;
        // Once is not always enough: a program that reads takes one, and a shell that changes its
        // terminal's modes in this very moment loses it. Input that has ended gives its end to
        // everyone who asks, so whoever is left is told again.
        while sender.send(END_OF_TRANSMISSION).await.is_ok() && sender.drained().await.is_ok() {
            while timeout(quiet, heard.notified()).await.is_ok() {}
            quiet = (quiet * 2).min(QUIET.1);
        }
        Ok::<_, Error>(())
    };
    sent.await?;
    // How the session ended is the output's to tell.
    std::future::pending().await
}

/// Tells the size now and whenever it changes.
async fn sizes(sender: &Sender, mut resizes: Resizes, raw: Option<&RawMode>) {
    let mut told = None;
    loop {
        let size = terminal::size().unwrap_or(SIZE_WITHOUT_TERMINAL);
        if told != Some(size) {
            let (cols, rows) = size;
            if sender.send_size(cols.into(), rows.into()).await.is_err() {
                return std::future::pending().await;
            }
            told = Some(size);
        }
        if resizes.next().await == TerminalChange::Continued
            && let Some(raw) = raw
        {
            // The shell that continued us had the terminal for itself. If it is gone, reading it
            // says so.
            let _ = raw.renew();
            told = None;
        }
    }
}
