//! A program that ends when this process does, however that ends: by itself, by a signal, by
//! SIGKILL.
//!
//! Linux can send a process a signal when its parent dies, but only the child itself can ask for
//! that, between its start and its `exec`. So the child is this very program first: it asks, looks
//! whether its parent is still there, and becomes the other program. The wish survives `exec`, and
//! no fork inherits it: what the program puts into the background stays.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    sync::mpsc,
};

use rustix::process::Pid;
use tokio::process::{Child, Command};

use crate::{exit::Exit, program};

/// First argument of a process that is to become a program; behind it the parent's process id and
/// the program's own words.
const MARK: &str = "--follow-parent";

/// A running program. It is asked to end (SIGTERM, on Linux) when this process ends, or when this
/// value is dropped.
#[derive(Debug)]
pub struct Follower {
    /// The process.
    pub child: Child,
    /// Lets the thread end that started it.
    _parent: mpsc::Sender<()>,
}

/// Starts `program`, a path, with `words`; `prepare` sets its streams and environment. Must be
/// called within the runtime.
///
/// # Errors
/// No process or thread can be started. That `program` cannot be run is told by the process itself,
/// with exit status 255.
pub async fn start(
    program: &Path,
    words: &[OsString],
    prepare: impl FnOnce(&mut Command),
) -> io::Result<Follower> {
    let mut command = Command::new(program::path()?);
    command
        .arg(MARK)
        .arg(std::process::id().to_string())
        .arg(program)
        .args(words);
    prepare(&mut command);
    let runtime = tokio::runtime::Handle::current();
    let (started, child) = tokio::sync::oneshot::channel();
    let (parent, over) = mpsc::channel::<()>();
    // The signal comes when the thread ends that started the child, and threads of the runtime come
    // and go. This one stays.
    std::thread::Builder::new()
        .name("parent of a follower".to_owned())
        .spawn(move || {
            let _within = runtime.enter();
            if started.send(command.spawn()).is_ok() {
                // Fails as soon as the other end is dropped, which is all it is there for.
                let _ = over.recv();
            }
        })?;
    let child = child.await.map_err(io::Error::other)??;
    Ok(Follower {
        child,
        _parent: parent,
    })
}

/// Becomes the program that this process was started for, if it was; gives the exit status where
/// that fails.
pub fn answer() -> Option<Exit> {
    let mut words = std::env::args_os().skip(1);
    if words.next()? != MARK {
        return None;
    }
    let parent = words
        .next()
        .and_then(|word| Pid::from_raw(word.to_str()?.parse().ok()?));
    let (Some(parent), Some(program)) = (parent, words.next()) else {
        return Some(Exit::USAGE);
    };
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Signal, set_parent_process_death_signal};
        // Without it the program runs all the same, and outlives this process where it did before.
        let _ = set_parent_process_death_signal(Some(Signal::TERM));
    }
    // A parent that ended before the wish was heard sends nothing.
    if rustix::process::getppid() != Some(parent) {
        return Some(Exit::TERMINATED);
    }
    let name = Path::new(&program).file_name().unwrap_or(&program);
    let error = std::process::Command::new(&program)
        .arg0(name)
        .args(words)
        .exec();
    let error = crate::Error::unexpected(format!("cannot run `{}`", Path::new(&program).display()))
        .caused_by(error);
    // There is no output yet that knows of options and colours.
    eprintln!("{}", error.one_line());
    Some(Exit::PASS_THROUGH)
}

/// The file that `name` means in the folders of `path`, as `execvp` looks for it.
pub fn find(name: &str, path: &OsStr) -> Option<PathBuf> {
    use rustix::fs::{Access, access};
    std::env::split_paths(path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file() && access(file, Access::EXEC_OK).is_ok())
}

/// Ends when the process `owner` is gone. For systems that send no signal then: asked each second.
pub async fn gone(owner: Pid) {
    let mut tick = tokio::time::interval(std::time::Duration::from_secs(1));
    while rustix::process::test_kill_process(owner) != Err(rustix::io::Errno::SRCH) {
        tick.tick().await;
    }
}
