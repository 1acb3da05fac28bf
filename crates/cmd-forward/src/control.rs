//! How one `ops` asks another about its forwards: one owner process per call, its socket in the
//! runtime folder.
//!
//! The folder is for this user alone (0700). A request is one line of JSON, an answer too; the
//! socket's name is the owner's process id. What a crashed owner left is removed by whoever finds
//! it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ops_core::Context;
use ops_ui::paths;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::status::ForwardRow;

/// Longest request and longest answer, in bytes.
const MAX_REQUEST: u64 = 4096;
const MAX_ANSWER: u64 = 1 << 20;
/// Before the process id in the name of a log.
const START: &str = "start-";
/// An owner that does not answer within this time is left out; one that stops may take as long as
/// its connections may.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ControlRequest {
    /// What do you forward?
    Status,
    /// Stop what this names: a forward, its local end, its target, your process id, or `all`.
    Stop(String),
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct ControlAnswer {
    /// What there is; after [`ControlRequest::Stop`], what was stopped.
    pub(crate) forwards: Vec<ForwardRow>,
    /// Nothing is left, so the owner ends.
    pub(crate) ends: bool,
}

/// Answers requests of this user.
pub(crate) trait Owner: Send + Sync + 'static {
    fn answer(&self, request: ControlRequest) -> impl Future<Output = ControlAnswer> + Send;
    /// The answer has gone out.
    fn answered(&self);
}

/// The folder of sockets.
pub(crate) fn folder(cx: &Context) -> PathBuf {
    cx.paths().runtime.join("forward")
}

/// The log of an owner in the background.
pub(crate) fn log_path(folder: &Path, process: u32) -> PathBuf {
    folder.join(format!("{process}.log"))
}

/// The socket of an owner.
pub(crate) fn socket_path(folder: &Path, process: u32) -> PathBuf {
    folder.join(format!("{process}.sock"))
}

/// The log of an owner that is only starting, by the process that starts it.
pub(crate) fn start_log_path(folder: &Path, process: u32) -> PathBuf {
    folder.join(format!("{START}{process}.log"))
}

/// Removes what processes have left that are no more.
fn clear_leftovers(folder: &Path) {
    for path in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = path.path();
        let Some(name) = path.file_stem().and_then(|name| name.to_str()) else {
            continue;
        };
        let id = name.strip_prefix(START).unwrap_or(name).parse::<i32>();
        let is_dead = id
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .is_some_and(|id| {
                rustix::process::test_kill_process(id) == Err(rustix::io::Errno::SRCH)
            });
        if is_dead {
            let _ = std::fs::remove_file(&path);
        }
    }
}

/// Our socket; removed, with the log, when dropped.
pub(crate) struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_file(self.path.with_extension("log"));
    }
}

impl Socket {
    /// # Errors
    /// The folder or the socket cannot be made, for instance because the path is too long for one.
    pub(crate) fn bind(cx: &Context) -> io::Result<Self> {
        let folder = paths::private_dir(folder(cx))?;
        let path = socket_path(&folder, std::process::id());
        clear_leftovers(&folder);
        // Only a dead process can have had our id.
        let _ = std::fs::remove_file(&path);
        let listener = paths::listen_private(&path)?;
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        Ok(Self { listener, path })
    }

    /// Answers until dropped.
    pub(crate) async fn serve(&self, owner: Arc<impl Owner>) {
        loop {
            let Ok((stream, _)) = self.listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let owner = owner.clone();
            tokio::spawn(async move {
                // Whoever asked may have gone.
                let _ = talk(stream, &*owner).await;
            });
        }
    }
}

async fn talk(stream: UnixStream, owner: &impl Owner) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut read = BufReader::new(read.take(MAX_REQUEST));
    tokio::time::timeout(PATIENCE, read.read_line(&mut line)).await??;
    let request: ControlRequest = serde_json::from_str(&line)?;
    let mut answer = serde_json::to_vec(&owner.answer(request).await)?;
    answer.push(b'\n');
    let sent = tokio::time::timeout(PATIENCE, write.write_all(&answer)).await;
    owner.answered();
    sent?
}

/// Asks every owner of this user.
pub(crate) async fn ask_all(cx: &Context, request: &ControlRequest) -> Vec<(u32, ControlAnswer)> {
    let Ok(entries) = std::fs::read_dir(folder(cx)) else {
        return Vec::new();
    };
    clear_leftovers(&folder(cx));
    let patience = match request {
        ControlRequest::Status => Some(PATIENCE),
        ControlRequest::Stop(_) => None,
    };
    let mut answers = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        let id = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .and_then(|stem| stem.parse().ok());
        let (Some(id), Some("sock")) = (id, path.extension().and_then(|e| e.to_str())) else {
            continue;
        };
        let asked = async {
            match patience {
                Some(patience) => tokio::time::timeout(patience, ask(&path, request)).await?,
                None => ask(&path, request).await,
            }
        };
        match asked.await {
            Ok(answer) => answers.push((id, answer)),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                let _ = std::fs::remove_file(&path);
                let _ = std::fs::remove_file(path.with_extension("log"));
            }
            // It ends just now, or does not answer.
            _ => {}
        }
    }
    answers.sort_by_key(|(id, _)| *id);
    answers
}

/// Waits a moment until an owner that ends has ended: its sessions at the service too.
pub(crate) async fn ended(cx: &Context, process: u32) {
    let path = socket_path(&folder(cx), process);
    let gone = async {
        while path.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let _ = tokio::time::timeout(PATIENCE, gone).await;
}

async fn ask(path: &Path, request: &ControlRequest) -> io::Result<ControlAnswer> {
    let stream = UnixStream::connect(path).await?;
    let (read, mut write) = stream.into_split();
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    write.write_all(&line).await?;
    let mut answer = String::new();
    BufReader::new(read.take(MAX_ANSWER))
        .read_line(&mut answer)
        .await?;
    Ok(serde_json::from_str(&answer)?)
}
