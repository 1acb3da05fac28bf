//! Standard output, and the pager through which long results go on a terminal, as those of git do.

use std::{
    io::{self, Write as _},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI32, Ordering},
    },
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    env::Env,
    error::{Error, ErrorKind, Result},
    globals::Globals,
    stdio::stdout_failed,
    terminal,
};

/// What shows a long result where nobody names a program.
const USUAL: &str = "less";
/// What `less` is told where the user tells it nothing: to leave at once where the text fits, to
/// keep colours, and to leave the text on the screen. Source: the manual page of git-config,
/// `core.pager`.
const LESS: &str = "FRX";

/// Standard output of this process. While results go through a pager, that is where they are
/// written.
#[derive(Debug)]
pub(crate) struct Stdout {
    /// The command line of the pager, and the environment it is started with; `None` where none may
    /// be used.
    pager: Option<(String, Env)>,
    paging: Mutex<Option<Paging>>,
    /// The process id of the pager that has the terminal; 0 for none.
    process: AtomicI32,
}

/// A result on its way: held until it is longer than the screen, then written to a pager.
#[derive(Debug)]
struct Paging {
    /// Rows of the terminal. One is needed for the prompt of the shell.
    rows: usize,
    held: Vec<u8>,
    held_lines: usize,
    child: Option<Child>,
    /// The pager could not be started: what comes goes to standard output.
    is_given_up: bool,
}

impl Stdout {
    /// As the options and the environment ask for it. A pager is used on a terminal alone, never
    /// with `--no-pager`, in CI, on a terminal that can draw nothing (`TERM=dumb`), and where the
    /// variable that names one is empty or names `cat`, as with git.
    pub(crate) fn new(globals: &Globals, env: &Env, is_terminal: bool) -> Self {
        let refused = globals.no_pager
            || !is_terminal
            || env.var("CI").is_some()
            || env.var("TERM") == Some("dumb");
        let named = ["OPS_PAGER", "PAGER"]
            .into_iter()
            .find_map(|name| env.var_os(name));
        let line = match named {
            Some(line) => line.to_string_lossy().trim().to_owned(),
            None => USUAL.to_owned(),
        };
        let is_used = !refused && !line.is_empty() && line != "cat";
        Self {
            pager: is_used.then(|| (line, env.clone())),
            paging: Mutex::default(),
            process: AtomicI32::new(0),
        }
    }

    /// Writes bytes to wherever results go now.
    ///
    /// # Errors
    /// Standard output is closed, or the pager was left.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<()> {
        // The lock is held while bytes are written: lines of two tasks never mix.
        let mut paging = self.lock();
        match paging.as_mut() {
            Some(paging) => self.write_paging(paging, bytes),
            None => write_straight(bytes),
        }
        .map_err(stdout_failed)
    }

    /// Has all that `write` writes to standard output go through the pager where that is longer
    /// than the screen, and waits until the user has left it.
    ///
    /// # Errors
    /// Those of `write`. A pager that is left early is none.
    pub(crate) fn through_pager(&self, write: impl FnOnce() -> Result<()>) -> Result<()> {
        if !self.begin() {
            return write();
        }
        // The user reads for as long as they like; other tasks go on meanwhile.
        blocking(|| self.finish(write()))
    }

    /// The same for what comes piece by piece from elsewhere.
    ///
    /// # Errors
    /// As [`Self::through_pager`].
    pub(crate) async fn stream_through_pager(
        &self,
        write: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        if !self.begin() {
            return write.await;
        }
        let written = write.await;
        blocking(|| self.finish(written))
    }

    /// Has what is written from now on held for a pager. Not where there is no screen to page for,
    /// and not within another list, which has the pager then.
    fn begin(&self) -> bool {
        let rows = terminal::size().map(|(_, rows)| usize::from(rows));
        let (Some(rows), true, true) = (rows, self.pager.is_some(), terminal::is_foreground())
        else {
            return false;
        };
        let mut paging = self.lock();
        if paging.is_some() {
            return false;
        }
        *paging = Some(Paging {
            rows,
            held: Vec::new(),
            held_lines: 0,
            child: None,
            is_given_up: false,
        });
        true
    }

    /// Writes what is still held, or waits until the user has left the pager.
    fn finish(&self, written: Result<()>) -> Result<()> {
        let Some(paging) = self.lock().take() else {
            return written;
        };
        let ended = self.end(paging);
        match written {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => ended.map_err(Error::from),
            written => written.and(ended.map_err(Error::from)),
        }
    }

    /// Whether a result is being written that goes through the pager where it is long.
    pub(crate) fn is_paging(&self) -> bool {
        self.lock().is_some()
    }

    /// Whether a pager has the terminal. Ctrl-C is for the pager then.
    pub(crate) fn has_pager(&self) -> bool {
        self.process.load(Ordering::Relaxed) != 0
    }

    /// Ends the pager that has the terminal, so that it does not outlive this process there.
    pub(crate) fn end_pager(&self) {
        if let Some(process) = Pid::from_raw(self.process.load(Ordering::Relaxed)) {
            let _ = kill_process(process, Signal::TERM);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Paging>> {
        self.paging.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_paging(&self, paging: &mut Paging, bytes: &[u8]) -> io::Result<()> {
        if paging.is_given_up {
            return write_straight(bytes);
        }
        if let Some(stdin) = paging.child.as_mut().and_then(|child| child.stdin.as_mut()) {
            return stdin.write_all(bytes);
        }
        paging.held.extend_from_slice(bytes);
        paging.held_lines += bytes.iter().filter(|byte| **byte == b'\n').count();
        if paging.held_lines < paging.rows {
            return Ok(());
        }
        let held = std::mem::take(&mut paging.held);
        paging.child = self.start();
        match paging.child.as_mut().and_then(|child| child.stdin.as_mut()) {
            Some(stdin) => stdin.write_all(&held),
            None => {
                paging.is_given_up = true;
                write_straight(&held)
            }
        }
    }

    /// Starts the pager; `None` where it cannot be started.
    fn start(&self) -> Option<Child> {
        let (line, env) = self.pager.as_ref()?;
        let words = shell_words::split(line).ok()?;
        let (program, arguments) = words.split_first()?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(env.iter());
        if env.var_os("LESS").is_none() {
            command.env("LESS", LESS);
        }
        leave_interrupts_to_the_pager();
        let child = command.stdin(Stdio::piped()).spawn().ok()?;
        self.process
            .store(i32::try_from(child.id()).unwrap_or(0), Ordering::Relaxed);
        Some(child)
    }

    /// Writes what was short enough to be held, or waits until the pager is left.
    fn end(&self, mut paging: Paging) -> io::Result<()> {
        let Some(child) = paging.child.as_mut() else {
            return write_straight(&paging.held);
        };
        // The end of its input, without which a pager waits for more.
        drop(child.stdin.take());
        let ended = child.wait();
        self.process.store(0, Ordering::Relaxed);
        ended.map(drop)
    }
}

fn write_straight(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    // Rust's stdout keeps what follows the last end of line, also of a pipe: a prompt would come
    // after its answer, and a closed pipe would be noticed when it is too late to end quietly.
    stdout.flush()
}

/// Runs `work`, which may last; within a runtime its other tasks get another thread.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::try_current() {
        Ok(runtime) if runtime.runtime_flavor() == RuntimeFlavor::MultiThread => {
            tokio::task::block_in_place(work)
        }
        _ => work(),
    }
}

/// Keeps Ctrl-C, which reaches every program of the terminal's foreground, from ending this one
/// under its pager. Within a runtime the dispatcher listens for signals already.
fn leave_interrupts_to_the_pager() {
    #[cfg(unix)]
    if tokio::runtime::Handle::try_current().is_err()
        && let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
    {
        use tokio::signal::unix::{SignalKind, signal};
        let _within = runtime.enter();
        // A handler stays for the life of the process, and is none of the pager's.
        let _ = signal(SignalKind::interrupt());
    }
}
