//! Commands that run without a shell, a terminal or input.

use std::{
    io::Seek as _,
    process::{ExitStatus, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, Signal, kill_process},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, ChildStderr, ChildStdout},
    sync::watch,
};

use super::{
    channel::{Channel, Disposition, InputHandler, PAYLOAD_BYTES},
    environment::Environment,
    frame::payload,
    shell::start_failure,
    utf8::Utf8Chunker,
    words,
};
use crate::{
    Pace,
    fleet::Platform,
    session::{Closing, SessionSpec},
};

/// Longest prefix of a separated stream, in characters.
const PREFIX_CHARACTERS: usize = 30;

/// What the document asked for.
pub(super) struct NonInteractive<'a> {
    pub(super) command: &'a str,
    pub(super) separate_output: bool,
    pub(super) stdout_prefix: &'a str,
    pub(super) stderr_prefix: &'a str,
}

/// Runs the command until it ends or the future is dropped.
pub(super) async fn run(
    channel: &Channel,
    spec: &SessionSpec,
    asked: NonInteractive<'_>,
) -> Closing {
    if asked.command.trim().is_empty() {
        return Closing {
            output: "Commands cannot be empty for session type NonInteractiveCommands".to_owned(),
        };
    }
    if asked.separate_output {
        for (name, prefix) in [
            ("stdoutSeparatorPrefix", asked.stdout_prefix),
            ("stderrSeparatorPrefix", asked.stderr_prefix),
        ] {
            if !is_valid_prefix(prefix) {
                return Closing {
                    output: format!("invalid {name} {prefix}"),
                };
            }
        }
    }
    // The agent of a Windows server gives the words to PowerShell, which this machine hardly has.
    let line = match spec.instance.platform {
        Platform::Windows => format!("powershell {}", asked.command),
        _ => asked.command.to_owned(),
    };
    let words = match words::split(&line) {
        Ok(words) if !words.is_empty() => words,
        Ok(_) => {
            return failed_start(channel, spec, "Failed to parse commands input: no command").await;
        }
        Err(error) => {
            return failed_start(
                channel,
                spec,
                &format!("Failed to parse commands input: {error}"),
            )
            .await;
        }
    };
    if asked.separate_output {
        separated(
            channel,
            spec,
            &words,
            asked.stdout_prefix,
            asked.stderr_prefix,
        )
        .await
    } else {
        joined(channel, spec, &words).await
    }
}

fn is_valid_prefix(prefix: &str) -> bool {
    prefix.chars().count() <= PREFIX_CHARACTERS
        && prefix
            .chars()
            .all(|character| character.is_ascii_alphanumeric() || "\r\n_:-".contains(character))
}

/// The agent could not even try: its text goes out as error output, then closes the session.
async fn failed_start(channel: &Channel, spec: &SessionSpec, why: &str) -> Closing {
    let closing = start_failure(spec.pace, why).await;
    spec.pace.delay(Duration::from_secs(1)).await;
    channel.send(payload::STDERR, closing.output.clone()).await;
    closing
}

/// The program could not be started.
async fn failed_exec(
    channel: &Channel,
    spec: &SessionSpec,
    program: &str,
    error: &std::io::Error,
) -> Closing {
    let why = match error.kind() {
        std::io::ErrorKind::NotFound if !program.contains('/') => {
            format!("exec: \"{program}\": executable file not found in $PATH")
        }
        std::io::ErrorKind::NotFound => format!("fork/exec {program}: no such file or directory"),
        std::io::ErrorKind::PermissionDenied => format!("fork/exec {program}: permission denied"),
        _ => format!("fork/exec {program}: {error}"),
    };
    spec.pace.delay(Duration::from_secs(1)).await;
    channel.send(payload::STDERR, why.clone()).await;
    Closing {
        output: format!("Error occurred starting the command: {why}\n"),
    }
}

fn program(environment: &Environment, words: &[String]) -> tokio::process::Command {
    let mut command = environment.command(&words[0]);
    command.args(&words[1..]).stdin(Stdio::null());
    command
}

/// Standard output and error live and apart, then the exit code.
async fn separated(
    channel: &Channel,
    spec: &SessionSpec,
    words: &[String],
    stdout_prefix: &str,
    stderr_prefix: &str,
) -> Closing {
    let started = Environment::new(&spec.instance, &spec.state).and_then(|environment| {
        program(&environment, words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    });
    let child = match started {
        Ok(child) => child,
        Err(error) => {
            // The agent says 1 before it says why: a client that ends at the status never sees the
            // reason.
            send_exit_code(channel, 1).await;
            return failed_exec(channel, spec, &words[0], &error).await;
        }
    };
    let input = CommandInput::new(&child);
    let Some(mut command) = SeparatedCommand::new(child) else {
        return Closing::default();
    };
    // Taken out first, since the handler belongs to the channel once it is installed.
    let interrupted = input.interrupted.subscribe();
    let exited = input.exited.clone();
    channel.install(input).await;
    command.pump(channel, stdout_prefix, stderr_prefix).await;
    let status = command.wait().await;
    // An interrupt makes the official agent wait for the command twice, and the second wait knows
    // no status.
    let code = if *interrupted.borrow() {
        1
    } else {
        exit_code(status)
    };
    let _ = exited.send(true);
    send_exit_code(channel, code).await;
    Closing::default()
}

/// A client that is away never hears of it.
async fn send_exit_code(channel: &Channel, code: i32) {
    if !channel.is_paused() {
        channel
            .send(payload::EXIT_CODE, format!("EXIT_CODE: {code}"))
            .await;
    }
}

fn exit_code(status: std::io::Result<ExitStatus>) -> i32 {
    // Go's ExitCode is -1 for a death by a signal, which is how a client can know of one.
    status.map_or(1, |status| status.code().unwrap_or(-1))
}

/// A command with two pipes, and what the official agent makes of it when its session ends early:
/// the command's own process is killed and nothing that it has started. Where output waits in that
/// moment for a web socket that takes nothing, the command is never waited for either, and its
/// pipes stay open with nobody to read them.
struct SeparatedCommand {
    parts: Option<(Child, ChildStdout, ChildStderr)>,
    /// A message waits for room on its way out.
    is_blocked: AtomicBool,
}

impl SeparatedCommand {
    /// `None` where the child has no pipes.
    fn new(mut child: Child) -> Option<Self> {
        let (stdout, stderr) = (child.stdout.take()?, child.stderr.take()?);
        Some(Self {
            parts: Some((child, stdout, stderr)),
            is_blocked: AtomicBool::new(false),
        })
    }

    /// Copies both streams until they end.
    async fn pump(&mut self, channel: &Channel, stdout_prefix: &str, stderr_prefix: &str) {
        let Some((_, stdout, stderr)) = &mut self.parts else {
            return;
        };
        let blocked = &self.is_blocked;
        tokio::join!(
            separate_pump(channel, stdout, payload::OUTPUT, stdout_prefix, blocked),
            separate_pump(channel, stderr, payload::STDERR, stderr_prefix, blocked),
        );
    }

    /// Waits for the command; its pipes are closed.
    async fn wait(mut self) -> std::io::Result<ExitStatus> {
        let Some((mut child, stdout, stderr)) = self.parts.take() else {
            return Err(std::io::ErrorKind::NotFound.into());
        };
        // Nobody reads any more. A command that still writes gets SIGPIPE and does not block for
        // ever, as behind the agent's closed pipes.
        drop((stdout, stderr));
        child.wait().await
    }
}

impl Drop for SeparatedCommand {
    fn drop(&mut self) {
        let Some((mut child, stdout, stderr)) = self.parts.take() else {
            return;
        };
        let _ = child.start_kill();
        if !self.is_blocked.load(Ordering::Relaxed) {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // The official agent's worker stays for good; this one until it makes no
                // difference any more.
                while !(is_hung_up(&stdout) && is_hung_up(&stderr)) {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                drop(child);
            });
        }
    }
}

/// Whether nobody holds the writing end of a pipe any more.
fn is_hung_up(pipe: &impl std::os::fd::AsFd) -> bool {
    let mut asked = [PollFd::new(pipe, PollFlags::empty())];
    match poll(&mut asked, Some(&Timespec::default())) {
        Ok(_) => asked[0].revents().contains(PollFlags::HUP),
        Err(_) => true,
    }
}

/// Copies one stream, unpaced, until it ends. When the client is away at the time of a read the
/// rest is never sent.
async fn separate_pump(
    channel: &Channel,
    stream: &mut (impl AsyncRead + Unpin),
    payload_type: u32,
    prefix: &str,
    is_blocked: &AtomicBool,
) {
    let mut chunker = Utf8Chunker::default();
    let mut buffer = vec![0; PAYLOAD_BYTES - prefix.len()];
    let mut needs_prefix = true;
    loop {
        // The trap that the ring of `ops exec` is there for: the agent's pump ends for good at the
        // first read that finds the client away, and the exit code comes all the same.
        if channel.is_paused() {
            return;
        }
        let Ok(len @ 1..) = stream.read(&mut buffer).await else {
            return;
        };
        if needs_prefix {
            chunker.prepend(prefix.as_bytes());
        }
        // The agent looks at the end of a read and not at lines: a read of several lines has one
        // prefix.
        needs_prefix = buffer[len - 1] == b'\n';
        is_blocked.store(true, Ordering::Relaxed);
        channel
            .send(payload_type, chunker.push(&buffer[..len]))
            .await;
        is_blocked.store(false, Ordering::Relaxed);
    }
}

/// Both streams into one file, sent at the agent's pace once the command has ended. No exit code.
async fn joined(channel: &Channel, spec: &SessionSpec, words: &[String]) -> Closing {
    let started = Environment::new(&spec.instance, &spec.state).and_then(|environment| {
        let file = tempfile::tempfile()?;
        let child = program(&environment, words)
            .stdout(file.try_clone()?)
            .stderr(file.try_clone()?)
            .spawn()?;
        Ok((child, file))
    });
    let (mut child, mut file) = match started {
        Ok(started) => started,
        Err(error) => return failed_exec(channel, spec, &words[0], &error).await,
    };
    let input = CommandInput::new(&child);
    let exited = input.exited.clone();
    channel.install(input).await;
    // Nothing is sent while the command runs. Only documents without `separateOutputStream` and old
    // agents come here, and a client sees all of it at once.
    let _ = child.wait().await;
    let _ = exited.send(true);
    if file.rewind().is_ok() {
        let sending = joined_pump(channel.clone(), spec.pace, tokio::fs::File::from_std(file));
        spec.pace.run(sending).await;
    }
    Closing::default()
}

async fn joined_pump(channel: Channel, pace: Pace, mut file: tokio::fs::File) {
    let mut chunker = Utf8Chunker::default();
    let mut buffer = [0; PAYLOAD_BYTES];
    loop {
        channel.active().await;
        let Ok(len @ 1..) = file.read(&mut buffer).await else {
            return;
        };
        channel
            .send(payload::OUTPUT, chunker.push(&buffer[..len]))
            .await;
        pace.pause().await;
    }
}

/// Input is looked through for two control characters; everything else is taken and dropped.
struct CommandInput {
    process: Option<Pid>,
    interrupted: watch::Sender<bool>,
    exited: watch::Sender<bool>,
}

impl CommandInput {
    fn new(child: &Child) -> Self {
        let process = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        Self {
            process,
            interrupted: watch::Sender::new(false),
            exited: watch::Sender::new(false),
        }
    }
}

impl InputHandler for CommandInput {
    fn handle(&mut self, payload_type: u32, payload: Bytes) -> BoxFuture<'_, Disposition> {
        async move {
            // Ctrl-C and Ctrl-\ as a terminal sends them; the first one in the payload counts.
            let signal = payload.iter().find_map(|byte| match byte {
                0x03 => Some(Signal::INT),
                0x1C => Some(Signal::QUIT),
                _ => None,
            });
            let (payload::OUTPUT, Some(signal), Some(process)) =
                (payload_type, signal, self.process)
            else {
                return Disposition::Taken;
            };
            // After its end the number may be another process's.
            if *self.exited.borrow() || kill_process(process, signal).is_err() {
                return Disposition::Refused;
            }
            self.interrupted.send_replace(true);
            // The agent's reader waits until the command has gone.
            let _ = self.exited.subscribe().wait_for(|exited| *exited).await;
            Disposition::Taken
        }
        .boxed()
    }
}
