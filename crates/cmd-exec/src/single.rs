//! A command on one server: its bytes, its status, and nothing else.

use bytes::Bytes;
use ops_core::Context;
use ops_remote::exec::{self, Event, Request, Run};
use ops_ui::{Error, ErrorKind, Exit, Output, Result, globals::ErrorFormat, stdio::StdoutWriter};

use crate::{
    hosts::Host,
    input::{Feeding, InputHub, ReadFailure},
    lines::{Lines, Margins},
    show::{LineForm, push_line},
    signals::Relay,
};

/// The status of a program whose reader has gone, as a shell tells SIGPIPE: 128 and 13.
pub(crate) const PIPE_CLOSED: Exit = Exit::of(141);
/// The status of a program that a hang-up has ended: 128 and 1.
const HUNG_UP: Exit = Exit::of(129);

/// Runs the command and gives its status.
///
/// # Errors
/// It could not be run, its output could not be written, or what became of it is not known.
pub(crate) async fn run(cx: &Context, host: &Host, request: Request) -> Result<Exit> {
    let _handler = cx.interrupt().handle();
    let relay = Relay::listen()?;
    let label = host.instance.label();
    let spinner = cx
        .output()
        .spinner(format!("starting the command on {label}"));
    let started = tokio::select! {
        run = Box::pin(exec::start(cx, &host.instance, request)) => run,
        // Nothing runs there yet that could be told.
        error = cx.interrupt().wait() => Err(error),
    };
    drop(spinner);
    let mut run = started?;
    relay.add(run.signals());
    let failure = ReadFailure::default();
    let _feeding = run.take_stdin().and_then(|stdin| {
        let (kept, signals) = (failure.clone(), run.signals());
        let hub = InputHub::start(1, move |error| {
            kept.keep(error);
            // A part of an input must not be taken for the whole.
            signals.send(exec::Signal::Terminate);
        });
        let queue = hub.take(0)?;
        Some((Feeding::start(queue, stdin), hub))
    });
    let exit = Streams::start(cx.output(), OutputBytes::AsTheyAre)
        .carry(cx, &mut run)
        .await;
    failure.check()?;
    match exit {
        // For the dispatcher a hang-up is a termination like others.
        Err(error)
            if error.came_from::<exec::Unanswered>()
                && relay.first_end() == Some(exec::Signal::HangUp) =>
        {
            tell_failure(cx, &error);
            Ok(HUNG_UP)
        }
        exit => exit,
    }
}

/// Shows an error as the dispatcher does for a verb that passes a status through.
fn tell_failure(cx: &Context, error: &Error) {
    if cx.globals().error_format == Some(ErrorFormat::Json) {
        cx.output().error(error);
    } else {
        cx.output().warn_line(error.one_line());
    }
}

/// What runs on the server.
pub(crate) trait HostRun {
    /// As [`Run::next`].
    async fn next(&mut self) -> Result<Option<Event>>;

    /// As [`Run::stdout_closed`].
    fn stdout_closed(&self);
}

impl HostRun for Run {
    async fn next(&mut self) -> Result<Option<Event>> {
        Self::next(self).await
    }

    fn stdout_closed(&self) {
        Self::stdout_closed(self);
    }
}

/// How bytes are shown on a terminal; anywhere else they are as they are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputBytes {
    AsTheyAre,
    /// Line by line, with everything escaped that is no text.
    Harmless,
}

/// A line of the only server, which has the terminal for itself.
const ALONE: LineForm = LineForm::OnTerminal(Margins::NONE);

/// Bytes of one stream on their way to a terminal, if they are to be made harmless.
struct TerminalLines(Option<Lines>);

impl TerminalLines {
    fn new(bytes: OutputBytes, is_terminal: bool) -> Self {
        Self((bytes == OutputBytes::Harmless && is_terminal).then(Lines::default))
    }

    fn shown(&mut self, bytes: Bytes) -> Bytes {
        let Some(lines) = &mut self.0 else {
            return bytes;
        };
        let mut text = Vec::with_capacity(bytes.len());
        lines.feed(&bytes, |line| push_line(&mut text, line, ALONE));
        text.into()
    }

    /// The last line, which was not ended.
    fn rest(&mut self) -> Option<Bytes> {
        let line = self.0.as_mut()?.finish()?;
        let mut text = Vec::new();
        push_line(&mut text, &line, ALONE);
        Some(text.into())
    }
}

/// Standard output and error output, each with a thread that waits for its reader.
pub(crate) struct Streams {
    /// `None` once its reader has gone.
    stdout: Option<StdoutWriter>,
    stderr: Option<StdoutWriter>,
    stdout_lines: TerminalLines,
    stderr_lines: TerminalLines,
}

impl Streams {
    pub(crate) fn start(output: &Output, bytes: OutputBytes) -> Self {
        Self {
            stdout: Some(StdoutWriter::start()),
            stderr: Some(StdoutWriter::start_stderr()),
            stdout_lines: TerminalLines::new(bytes, output.stdout_is_terminal()),
            stderr_lines: TerminalLines::new(bytes, output.stderr_is_terminal()),
        }
    }

    /// Writes what `run` brings until it has ended, and gives its status.
    ///
    /// # Errors
    /// As [`run`].
    pub(crate) async fn carry(mut self, cx: &Context, run: &mut impl HostRun) -> Result<Exit> {
        let result = loop {
            let event = tokio::select! {
                event = run.next() => event,
                error = failed(&mut self.stdout) => {
                    self.close_stdout(run, error)?;
                    continue;
                }
            };
            match event {
                Ok(Some(Event::Stdout(bytes))) => self.write(run, bytes).await?,
                Ok(Some(Event::Stderr(bytes))) => {
                    let bytes = self.stderr_lines.shown(bytes);
                    if let Some(stderr) = &mut self.stderr
                        && stderr.write(bytes).await.is_err()
                    {
                        // Nobody is left to be told, and the command's output is wanted all the
                        // same.
                        self.stderr = None;
                    }
                }
                Ok(Some(Event::Note(text))) => cx.output().note(text),
                Ok(Some(Event::Detached { pid, output })) => {
                    let line = format!("{pid} {output}\n");
                    self.write(run, Bytes::from(line)).await?;
                }
                Ok(Some(Event::Started)) => {}
                Ok(Some(Event::Ended(status))) => break Ok(Exit::of(status.as_exit_code())),
                Ok(None) => break Err(unknown_end()),
                Err(error) => break Err(error),
            }
        };
        if let Some(bytes) = self.stdout_lines.rest() {
            self.put(run, bytes).await?;
        }
        // What was written is all there before anything is said about it.
        let was_open = self.stdout.is_some();
        let written = match self.stdout.take() {
            Some(stdout) => stdout.finish().await,
            None => Ok(()),
        };
        if let Some(stderr) = self.stderr.take() {
            let _ = stderr.finish().await;
        }
        let exit = result?;
        match written {
            Ok(()) if was_open || exit != Exit::SUCCESS => Ok(exit),
            // Never a success with a part of the output unread.
            Ok(()) => Ok(PIPE_CLOSED),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(PIPE_CLOSED),
            Err(error) => Err(error),
        }
    }

    async fn write(&mut self, run: &impl HostRun, bytes: Bytes) -> Result<()> {
        let bytes = self.stdout_lines.shown(bytes);
        self.put(run, bytes).await
    }

    async fn put(&mut self, run: &impl HostRun, bytes: Bytes) -> Result<()> {
        match &mut self.stdout {
            Some(stdout) => match stdout.write(bytes).await {
                Ok(()) => Ok(()),
                Err(error) => self.close_stdout(run, error),
            },
            None => Ok(()),
        }
    }

    /// Its reader has gone: the command is ended quietly, and its status is waited for.
    fn close_stdout(&mut self, run: &impl HostRun, error: Error) -> Result<()> {
        self.stdout = None;
        if error.kind() != ErrorKind::BrokenPipe {
            // A full disk, say.
            return Err(error);
        }
        run.stdout_closed();
        Ok(())
    }
}

/// Ends when standard output cannot be written any more.
async fn failed(stdout: &mut Option<StdoutWriter>) -> Error {
    match stdout {
        Some(stdout) => stdout.failed().await,
        None => std::future::pending().await,
    }
}

/// The engine ends with a status or an error; neither came.
pub(crate) fn unknown_end() -> Error {
    Error::unexpected("the status of the command is not known")
}
