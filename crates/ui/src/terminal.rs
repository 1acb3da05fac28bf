//! The user's terminal in raw mode, its size, and the way back to what it was.
//!
//! What is needed to restore the terminal is kept for the whole process, so that the owner of a
//! [`RawMode`], a panic hook and the handler of a signal restore the same thing and whoever comes
//! second finds nothing left to do.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
};

#[cfg(unix)]
use std::os::fd::OwnedFd;

#[cfg(unix)]
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

static RAW: Mutex<Option<Saved>> = Mutex::new(None);

/// Whether lines that are written to the terminal need a carriage return of their own, as they do
/// while it is in raw mode; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct RawLines(Arc<AtomicBool>);

impl RawLines {
    /// Says whether they do from now on.
    pub fn set(&self, raw: bool) {
        self.0.store(raw, Ordering::Relaxed);
    }

    /// Whether they do now.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What brings the terminal back.
struct Saved {
    /// A descriptor of our own: standard input may be closed by then.
    #[cfg(unix)]
    terminal: OwnedFd,
    #[cfg(unix)]
    cooked: Termios,
    #[cfg(unix)]
    raw: Termios,
    /// Written to the terminal to take back what the far side switched on.
    undo: Vec<u8>,
    raw_lines: RawLines,
}

impl Saved {
    fn restore(self) {
        #[cfg(unix)]
        {
            // Modes first: they are what matters when the terminal takes no more output.
            while let Err(rustix::io::Errno::INTR) =
                tcsetattr(&self.terminal, OptionalActions::Now, &self.cooked)
            {}
            // Past `io::stdout`, whose lock another thread may hold while it waits for a slow
            // terminal.
            let mut rest = self.undo.as_slice();
            while !rest.is_empty() {
                match rustix::io::write(&self.terminal, rest) {
                    Ok(count) => rest = &rest[count..],
                    Err(rustix::io::Errno::INTR) => {}
                    // A terminal that has hung up cannot be told anything, and need not be.
                    Err(_) => break,
                }
            }
        }
        self.raw_lines.set(false);
    }
}

fn saved() -> MutexGuard<'static, Option<Saved>> {
    RAW.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Restores the terminal if it is in raw mode. Safe to call from anywhere, a panic hook included,
/// and any number of times.
pub fn restore() {
    let taken = match RAW.try_lock() {
        Ok(mut saved) => saved.take(),
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().take(),
        // Held for a few instructions by another thread, or by this very one as it panics: then its
        // guard restores while unwinding.
        Err(TryLockError::WouldBlock) => return,
    };
    if let Some(saved) = taken {
        saved.restore();
    }
}

/// Changes the modes of the terminal that standard input is, and keeps those of before.
#[cfg(unix)]
fn change(raw_lines: &RawLines, raw: bool, change: impl FnOnce(&mut Termios)) -> io::Result<()> {
    let terminal = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let cooked = tcgetattr(&terminal)?;
    let mut changed = cooked.clone();
    change(&mut changed);
    // The lock is held while the modes change: a panic in between finds either nothing to restore
    // or everything.
    let mut saved = saved();
    if let Some(earlier) = saved.take() {
        earlier.restore();
    }
    tcsetattr(&terminal, OptionalActions::Drain, &changed)?;
    raw_lines.set(raw);
    *saved = Some(Saved {
        terminal,
        cooked,
        raw: changed,
        undo: Vec::new(),
        raw_lines: raw_lines.clone(),
    });
    Ok(())
}

/// Standard input without an echo, for what nobody may see; otherwise it edits lines and takes
/// signals as before. Restored when dropped, and by [`restore`].
#[derive(Debug)]
#[must_use = "the terminal is restored as soon as this is dropped"]
pub struct Unechoed(());

impl Unechoed {
    /// Switches the echo off.
    ///
    /// # Errors
    /// Fails if standard input is no terminal, or its modes cannot be changed.
    pub fn enable(raw_lines: &RawLines) -> io::Result<Self> {
        #[cfg(unix)]
        {
            use rustix::termios::LocalModes;
            let echoes = LocalModes::ECHO | LocalModes::ECHONL;
            change(raw_lines, false, |modes| modes.local_modes.remove(echoes))?;
            Ok(Self(()))
        }
        #[cfg(not(unix))]
        {
            let _ = raw_lines;
            Err(io::ErrorKind::Unsupported.into())
        }
    }
}

impl Drop for Unechoed {
    fn drop(&mut self) {
        let taken = saved().take();
        if let Some(saved) = taken {
            saved.restore();
        }
    }
}

/// The key `q` on the terminal that standard input is, heard without Enter while something is drawn
/// again and again; signals and output stay as they are. The terminal is restored when this is
/// dropped, and by [`restore`].
#[derive(Debug)]
#[must_use = "the terminal is restored as soon as this is dropped"]
pub struct QuitKey {
    pressed: tokio::sync::oneshot::Receiver<()>,
    over: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl QuitKey {
    /// How long a look at the terminal lasts: so long its reader may outlive this.
    #[cfg(unix)]
    const LOOK: rustix::event::Timespec = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 100_000_000,
    };

    /// Begins to listen.
    ///
    /// # Errors
    /// Standard input is no terminal, or one that belongs to another process now.
    pub fn listen(raw_lines: &RawLines) -> io::Result<Self> {
        #[cfg(unix)]
        {
            use rustix::termios::LocalModes;
            if !io::IsTerminal::is_terminal(&io::stdin()) || !is_foreground() {
                return Err(io::ErrorKind::Unsupported.into());
            }
            let by_line = LocalModes::ICANON | LocalModes::ECHO | LocalModes::ECHONL;
            change(raw_lines, false, |modes| modes.local_modes.remove(by_line))?;
            let over = std::sync::Arc::<std::sync::atomic::AtomicBool>::default();
            let (tell, pressed) = tokio::sync::oneshot::channel();
            let is_over = over.clone();
            std::thread::spawn(move || {
                use rustix::event::{PollFd, PollFlags, poll};
                let stdin = rustix::stdio::stdin();
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    let mut polled = [PollFd::new(&stdin, PollFlags::IN)];
                    if !matches!(poll(&mut polled, Some(&Self::LOOK)), Ok(1..)) {
                        continue;
                    }
                    let mut byte = [0; 1];
                    match rustix::io::read(stdin, &mut byte) {
                        Ok(1..) if byte == *b"q" => break,
                        Ok(0) => return,
                        _ => {}
                    }
                }
                let _ = tell.send(());
            });
            Ok(Self { pressed, over })
        }
        #[cfg(not(unix))]
        {
            let _ = raw_lines;
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    /// Returns once it is pressed.
    pub async fn pressed(&mut self) {
        // A terminal that is gone presses nothing.
        if (&mut self.pressed).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for QuitKey {
    fn drop(&mut self) {
        self.over.store(true, std::sync::atomic::Ordering::Relaxed);
        let taken = saved().take();
        if let Some(saved) = taken {
            saved.restore();
        }
    }
}

/// Standard input in raw mode: every key reaches the program, unechoed. Restored when dropped, and
/// by [`restore`].
#[derive(Debug)]
#[must_use = "the terminal is restored as soon as this is dropped"]
pub struct RawMode(());

impl RawMode {
    /// Puts the terminal that standard input is into raw mode; what was typed before stays
    /// readable. Lines on stderr know of it through `raw_lines`.
    ///
    /// # Errors
    /// Fails if standard input is no terminal, or its modes cannot be changed.
    pub fn enable(raw_lines: &RawLines) -> io::Result<Self> {
        #[cfg(unix)]
        {
            change(raw_lines, true, Termios::make_raw)?;
            Ok(Self(()))
        }
        #[cfg(not(unix))]
        {
            let _ = raw_lines;
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    /// Has `bytes` written to the terminal once its modes are restored: the sequences that take
    /// back what the far side switched on (alternate screen, mouse reports, a hidden cursor).
    /// Replaces what was set before.
    pub fn undo_with(&self, bytes: Vec<u8>) {
        if let Some(saved) = saved().as_mut() {
            saved.undo = bytes;
        }
    }

    /// Sets the raw modes again, as after the process was stopped and the shell took the terminal
    /// for itself.
    ///
    /// # Errors
    /// Fails if the terminal has hung up.
    pub fn renew(&self) -> io::Result<()> {
        #[cfg(unix)]
        if let Some(saved) = saved().as_ref() {
            tcsetattr(&saved.terminal, OptionalActions::Drain, &saved.raw)?;
        }
        Ok(())
    }

    /// Restores the terminal, stops this process as Ctrl-Z would have, and goes on in raw mode once
    /// it is continued.
    ///
    /// # Errors
    /// Fails if the process cannot be stopped or the terminal has hung up.
    pub fn suspend(&self) -> io::Result<()> {
        #[cfg(unix)]
        {
            if let Some(saved) = saved().as_ref() {
                tcsetattr(&saved.terminal, OptionalActions::Drain, &saved.cooked)?;
            }
            // The whole group, as the terminal does it: a pipeline stops together.
            rustix::process::kill_current_process_group(rustix::process::Signal::STOP)?;
            self.renew()
        }
        #[cfg(not(unix))]
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let taken = saved().take();
        if let Some(saved) = taken {
            saved.restore();
        }
    }
}

/// Columns and rows of the terminal on stdout, stderr or stdin, whichever is one; `None` where none
/// is or it does not tell.
pub fn size() -> Option<(u16, u16)> {
    #[cfg(unix)]
    {
        let ask = |fd: std::os::fd::BorrowedFd<'_>| {
            rustix::termios::tcgetwinsize(fd)
                .ok()
                .filter(|size| size.ws_col > 0 && size.ws_row > 0)
        };
        let size = ask(rustix::stdio::stdout())
            .or_else(|| ask(rustix::stdio::stderr()))
            .or_else(|| ask(rustix::stdio::stdin()))?;
        Some((size.ws_col, size.ws_row))
    }
    #[cfg(not(unix))]
    None
}

/// Whether this process is in the foreground of its terminal. One in the background (`ops … &`) is
/// stopped when it reads from it, and draws over what its user types.
pub fn is_foreground() -> bool {
    #[cfg(unix)]
    {
        let ours = rustix::process::getpgrp();
        let foreground = rustix::termios::tcgetpgrp(rustix::stdio::stdin())
            .or_else(|_| rustix::termios::tcgetpgrp(rustix::stdio::stderr()));
        // Without a terminal there is nothing to be behind of.
        foreground.map_or(true, |foreground| foreground == ours)
    }
    #[cfg(not(unix))]
    true
}

/// Tells when the terminal was resized, or may have been while the process was stopped.
#[derive(Debug)]
pub struct Resizes {
    #[cfg(unix)]
    resized: tokio::signal::unix::Signal,
    #[cfg(unix)]
    continued: tokio::signal::unix::Signal,
}

/// Why [`Resizes::next`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TerminalChange {
    /// SIGWINCH: the size is another.
    Resized,
    /// SIGCONT: the process was stopped; modes and size may be others.
    Continued,
}

impl Resizes {
    /// Listens from now on; a change before the first [`Self::next`] is not missed.
    ///
    /// # Errors
    /// Fails if the signals cannot be listened to.
    pub fn listen() -> io::Result<Self> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            Ok(Self {
                resized: signal(SignalKind::window_change())?,
                continued: signal(SignalKind::from_raw(rustix::process::Signal::CONT.as_raw()))?,
            })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// Waits for the next change. Cancel-safe.
    pub async fn next(&mut self) -> TerminalChange {
        #[cfg(unix)]
        tokio::select! {
            Some(()) = self.resized.recv() => return TerminalChange::Resized,
            Some(()) = self.continued.recv() => return TerminalChange::Continued,
            else => {}
        }
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restoring_what_was_never_changed_does_nothing() {
        restore();
        restore();
    }
}
