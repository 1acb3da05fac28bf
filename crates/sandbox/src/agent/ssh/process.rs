//! Session channels: shells, commands and SFTP.

use std::{
    ffi::OsStr, os::unix::ffi::OsStrExt as _, os::unix::process::ExitStatusExt as _,
    process::ExitStatus, process::Stdio,
};

use russh::{
    Channel, ChannelMsg, ChannelReadHalf, Sig,
    server::{Handle, Msg},
};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    process::{Child, Command},
};

use super::{forward::AgentSocket, sftp};
use crate::agent::{machine::Machine, pty};

/// The one subsystem there is.
pub(super) const SFTP: &str = "sftp";

/// For what a terminal still shows when its program has ended.
const LAST_OUTPUT: std::time::Duration = std::time::Duration::from_secs(1);

/// What a session channel needs to know of its connection.
pub(super) struct Context {
    pub(super) machine: Machine,
    pub(super) user: String,
    pub(super) handle: Handle,
    pub(super) agent_socket: AgentSocket,
}

/// Whether the client may set this variable: what `AcceptEnv` of the usual server has, and git's
/// protocol version.
pub(super) fn is_accepted_variable(name: &str) -> bool {
    name == "LANG" || name.starts_with("LC_") || name == "COLORTERM" || name == "GIT_PROTOCOL"
}

struct Terminal {
    term: String,
    columns: u32,
    rows: u32,
}

/// Collects what the client asks for, then runs it and reports its end.
pub(super) async fn run(mut channel: Channel<Msg>, context: Context) {
    let mut terminal = None;
    let mut variables = Vec::new();
    while let Some(message) = channel.wait().await {
        let command = match message {
            ChannelMsg::RequestPty {
                term,
                col_width: columns,
                row_height: rows,
                ..
            } => {
                terminal = Some(Terminal {
                    term,
                    columns,
                    rows,
                });
                continue;
            }
            ChannelMsg::SetEnv {
                variable_name,
                variable_value,
                ..
            } => {
                if is_accepted_variable(&variable_name) {
                    variables.push((variable_name, variable_value));
                }
                continue;
            }
            ChannelMsg::RequestSubsystem { name, .. } if name == SFTP => {
                return serve_sftp(channel, &context).await;
            }
            ChannelMsg::RequestShell { .. } => None,
            ChannelMsg::Exec { command, .. } => Some(command),
            ChannelMsg::Close => return,
            _ => continue,
        };
        return start(channel, &context, command, terminal, variables).await;
    }
}

async fn serve_sftp(channel: Channel<Msg>, context: &Context) {
    let id = channel.id();
    if let Ok(environment) = context.machine.environment() {
        let mut stream = channel.into_stream();
        if let Err(error) = sftp::serve(&mut stream, environment.home()).await {
            tracing::debug!(%error, "an SFTP session ended");
        }
        let _ = context.handle.exit_status_request(id, 0).await;
        let _ = context.handle.eof(id).await;
        // Dropping the stream closes the channel.
    }
}

async fn start(
    channel: Channel<Msg>,
    context: &Context,
    command: Option<Vec<u8>>,
    terminal: Option<Terminal>,
    variables: Vec<(String, String)>,
) {
    let id = channel.id();
    let prepared = context.machine.environment().map(|environment| {
        let mut program = match &command {
            Some(command) => environment.shell_command(OsStr::from_bytes(command)),
            None if terminal.is_some() => environment.interactive_shell(),
            None => environment.plain_shell(),
        };
        program
            .envs(variables)
            .env("USER", &context.user)
            .env("LOGNAME", &context.user);
        program.env(
            "SSH_CONNECTION",
            format!("127.0.0.1 22 {} 22", context.machine.instance.private_ip),
        );
        if let Some(socket) = context.agent_socket.path() {
            program.env("SSH_AUTH_SOCK", socket);
        }
        program
    });
    let status = match (prepared, terminal) {
        (Ok(program), Some(terminal)) => on_terminal(channel, program, terminal).await,
        (Ok(program), None) => on_pipes(channel, program).await,
        (Err(error), _) => Err(error),
    };
    let Some(status) = status.unwrap_or_else(|error| {
        tracing::debug!(%error, "a program could not be started");
        Some(ExitStatus::from_raw(255 << 8))
    }) else {
        return;
    };
    let _ = match status.code() {
        Some(code) => {
            context
                .handle
                .exit_status_request(id, u32::from_ne_bytes(code.to_ne_bytes()))
                .await
        }
        None => {
            let signal = signal_name(status.signal().unwrap_or_default());
            context
                .handle
                .exit_signal_request(
                    id,
                    signal,
                    status.core_dumped(),
                    String::new(),
                    String::new(),
                )
                .await
        }
    };
    let _ = context.handle.eof(id).await;
    let _ = context.handle.close(id).await;
}

/// Runs a program on a terminal until it ends; `None` when the client left first.
async fn on_terminal(
    channel: Channel<Msg>,
    mut program: Command,
    terminal: Terminal,
) -> std::io::Result<Option<ExitStatus>> {
    // A client without a terminal of its own asks for one of 0 by 0.
    let size =
        (terminal.columns > 0 && terminal.rows > 0).then_some((terminal.columns, terminal.rows));
    program
        .env("TERM", &terminal.term)
        .env("SSH_TTY", "/dev/pts/ptmx");
    let mut running = pty::spawn(program, size)?;
    let (mut requests, out) = channel.split();
    let mut output = out.make_writer();
    let process = pid(&running.child);
    let ended = async {
        let copying = copy(&mut running.reader, &mut output);
        tokio::pin!(copying);
        tokio::select! {
            () = &mut copying => running.child.wait().await,
            status = running.child.wait() => {
                // What runs on in the background may hold the terminal; a login ends without it, as
                // with OpenSSH's server.
                let _ = tokio::time::timeout(LAST_OUTPUT, copying).await;
                status
            }
        }
    };
    tokio::select! {
        status = ended => status.map(Some),
        () = async {
            while let Some(message) = requests.wait().await {
                match message {
                    ChannelMsg::Data { data } => { let _ = running.writer.write_all(&data).await; }
                    ChannelMsg::WindowChange { col_width: columns, row_height: rows, .. } => {
                        let _ = pty::resize(&running.writer, columns, rows);
                    }
                    ChannelMsg::Signal { signal } => send_signal(process, &signal, true),
                    ChannelMsg::Close => return,
                    _ => {}
                }
            }
        } => Ok(None), // Dropping the terminal hangs it up.
    }
}

/// Runs a program on three pipes until it has ended and closed its output; `None` when the client
/// left first.
async fn on_pipes(
    channel: Channel<Msg>,
    mut program: Command,
) -> std::io::Result<Option<ExitStatus>> {
    let mut child = program
        .env_remove("TERM")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let process = pid(&child);
    let (mut stdin, stdout, stderr) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (mut requests, out) = channel.split();
    let ended = async {
        let (mut out_writer, mut err_writer) = (out.make_writer(), out.make_writer_ext(Some(1)));
        tokio::join!(
            async {
                if let Some(mut stdout) = stdout {
                    copy(&mut stdout, &mut out_writer).await;
                }
            },
            async {
                if let Some(mut stderr) = stderr {
                    copy(&mut stderr, &mut err_writer).await;
                }
            },
        );
        child.wait().await
    };
    tokio::select! {
        status = ended => status.map(Some),
        () = feed(&mut requests, &mut stdin, process) => Ok(None),
    }
}

/// Gives the client's data to the program; returns when the client has closed the channel or is
/// gone.
async fn feed(
    requests: &mut ChannelReadHalf,
    stdin: &mut Option<tokio::process::ChildStdin>,
    process: Option<Pid>,
) {
    while let Some(message) = requests.wait().await {
        match message {
            ChannelMsg::Data { data } => {
                if let Some(pipe) = stdin
                    && pipe.write_all(&data).await.is_err()
                {
                    *stdin = None;
                }
            }
            ChannelMsg::Eof => *stdin = None,
            ChannelMsg::Signal { signal } => send_signal(process, &signal, false),
            ChannelMsg::Close => return,
            _ => {}
        }
    }
}

/// Copies in large pieces until the source ends or the client takes no more.
async fn copy(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) {
    use tokio::io::AsyncReadExt as _;
    let mut buffer = vec![0; 32 * 1024];
    while let Ok(len @ 1..) = from.read(&mut buffer).await {
        if to.write_all(&buffer[..len]).await.is_err() {
            return;
        }
    }
}

fn pid(child: &Child) -> Option<Pid> {
    child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw)
}

fn send_signal(process: Option<Pid>, signal: &Sig, to_group: bool) {
    let number = match signal {
        Sig::ABRT => Signal::ABORT,
        Sig::ALRM => Signal::ALARM,
        Sig::FPE => Signal::FPE,
        Sig::HUP => Signal::HUP,
        Sig::ILL => Signal::ILL,
        Sig::INT => Signal::INT,
        Sig::KILL => Signal::KILL,
        Sig::PIPE => Signal::PIPE,
        Sig::QUIT => Signal::QUIT,
        Sig::SEGV => Signal::SEGV,
        Sig::TERM => Signal::TERM,
        Sig::USR1 => Signal::USR1,
        Sig::Custom(name) if name == "USR2" => Signal::USR2,
        Sig::Custom(_) => return,
    };
    if let Some(process) = process {
        // It may have ended in between.
        let _ = if to_group {
            kill_process_group(process, number)
        } else {
            kill_process(process, number)
        };
    }
}

fn signal_name(number: i32) -> Sig {
    match Signal::from_named_raw(number) {
        Some(Signal::ABORT) => Sig::ABRT,
        Some(Signal::ALARM) => Sig::ALRM,
        Some(Signal::FPE) => Sig::FPE,
        Some(Signal::HUP) => Sig::HUP,
        Some(Signal::ILL) => Sig::ILL,
        Some(Signal::INT) => Sig::INT,
        Some(Signal::KILL) => Sig::KILL,
        Some(Signal::PIPE) => Sig::PIPE,
        Some(Signal::QUIT) => Sig::QUIT,
        Some(Signal::SEGV) => Sig::SEGV,
        Some(Signal::TERM) => Sig::TERM,
        Some(Signal::USR1) => Sig::USR1,
        _ => Sig::Custom(format!("{number}@ops")),
    }
}
