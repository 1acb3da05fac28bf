//! Forwards that outlive the command that started them.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;

use ops_core::{
    Context,
    cache::{EMBEDDED, SANDBOX_STATE},
};
use ops_ui::{Error, Exit, Result, hint, paths, program};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::control;
use crate::status::{self, ForwardRow};

/// The argument that makes a process an owner in the background.
const OWNER: &str = "--owner";

/// Starts another process of this program with the same arguments, waits until its listeners
/// accept, and leaves it. `answers` are further arguments, for what nobody had typed and somebody
/// has been asked for.
///
/// # Errors
/// The other process's own, told on stderr already, give its exit status.
pub(crate) async fn start(cx: &Context, answers: &[String]) -> Result<Exit> {
    let folder = cx
        .paths()
        .private_dir_for("sockets and logs of tunnels", &control::folder(cx))?;
    let (log, log_path) = new_log(&folder)?;
    let arguments = program::arguments();
    let mut command = tokio::process::Command::new(program::path()?);
    command
        .args(&arguments)
        .args(answers)
        .arg(OWNER)
        .env_clear();
    command.envs(cx.env().iter());
    // A sandbox of this process ends with it: the owner starts one of its own.
    if cx.env().var(EMBEDDED).is_some() {
        command.env_remove(EMBEDDED).env_remove(SANDBOX_STATE);
    }
    // Whoever may be asked has been asked: the owner has no terminal.
    let mut child = command
        .env("OPS_YES", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .kill_on_drop(false)
        .spawn()
        .map_err(|error| Error::unexpected("cannot start in the background").caused_by(error))?;
    let Some(stdout) = child.stdout.take() else {
        return Err(Error::unexpected("the background process has no output"));
    };
    let mut stdout = BufReader::new(stdout);
    let mut ready = String::new();
    let read = tokio::select! {
        read = stdout.read_line(&mut ready) => read,
        error = cx.interrupt().wait() => {
            let _ = child.start_kill();
            let _ = std::fs::remove_file(&log_path);
            return Err(error);
        }
    };
    let ready: Option<Ready> = read.ok().and_then(|_| serde_json::from_str(&ready).ok());
    let Some(Ready { rows, failed }) = ready else {
        let exit = child
            .wait()
            .await
            .map_or(Exit::UNEXPECTED, crate::child::exit_of);
        let said = std::fs::read(&log_path).unwrap_or_default();
        let _ = std::fs::remove_file(&log_path);
        cx.output().stderr_page(&String::from_utf8_lossy(&said));
        return Ok(if exit == Exit::SUCCESS {
            Exit::UNEXPECTED
        } else {
            exit
        });
    };
    let id = child.id().unwrap_or_default();
    let log = control::log_path(&folder, id);
    let _ = std::fs::rename(&log_path, &log);
    for line in failed {
        cx.output().warn(line);
    }
    match cx.output().format() {
        ops_ui::Format::Json => cx.output().json(&status::StatusDocument::new(&rows))?,
        ops_ui::Format::Yaml => cx.output().yaml(&status::StatusDocument::new(&rows))?,
        _ => {
            for row in &rows {
                cx.output().note(row.ready_line());
            }
            let name = match rows.as_slice() {
                [row] => row.label().to_owned(),
                _ => id.to_string(),
            };
            if control::socket_path(&folder, id).exists() {
                cx.output().note(hint!(
                    "running in the background (process {}), stop it: ops forward --stop {}",
                    id,
                    name
                ));
            } else {
                // Such as a runtime folder whose path is too long for a socket.
                cx.output().note(hint!(
                    "running in the background, where ops forward --status and --stop do not reach it; stop it: kill {}",
                    id
                ));
            }
            cx.output()
                .note(format!("what it has to say: {}", log.display()));
        }
    }
    Ok(Exit::SUCCESS)
}

/// Leaves the terminal and its session, as an owner does first.
pub(crate) fn leave_terminal() {
    // Fails only for the leader of a process group, which then has no terminal to leave.
    let _ = rustix::process::setsid();
}

/// What an owner tells the process that started it, on one line.
#[derive(Serialize, Deserialize)]
struct Ready {
    rows: Vec<ForwardRow>,
    /// Forwards that did not start beside those that did, and why.
    failed: Vec<String>,
}

/// Tells the process that waits that the listeners accept.
pub(crate) fn tell_ready(cx: &Context, rows: Vec<ForwardRow>, failed: Vec<String>) -> Result<()> {
    let line = serde_json::to_string(&Ready { rows, failed })
        .map_err(|error| Error::unexpected(error.to_string()))?;
    cx.output().line(line)
}

fn new_log(folder: &std::path::Path) -> io::Result<(File, PathBuf)> {
    let path = control::start_log_path(folder, std::process::id());
    // Only a dead process can have had our number; what lies there is removed and never written to.
    let _ = std::fs::remove_file(&path);
    let file = paths::create_private(&path)?;
    Ok((file, path))
}
