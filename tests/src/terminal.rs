//! A terminal with `ops` in it.

use std::{
    io::{Read, Write},
    num::NonZero,
    process::Child,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use pty_process::blocking::{Command, Pts, Pty};
use rustix::{
    event::{PollFd, PollFlags},
    process::Signal,
    termios::LocalModes,
};

use crate::service::{PATIENCE, Service};

/// A process on a terminal of its own.
pub struct Terminal {
    pty: Option<Arc<Pty>>,
    /// Held so that the terminal outlives the process and can be looked at then.
    pts: Option<Pts>,
    child: Child,
    output: Arc<Output>,
}

#[derive(Default)]
struct Output {
    bytes: Mutex<Vec<u8>>,
    grown: Condvar,
    /// How often the reader has found nothing to read.
    found_nothing: AtomicUsize,
    /// It reads no more.
    over: AtomicBool,
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Columns and rows of a new terminal.
pub const SIZE: (u16, u16) = (80, 24);

impl Terminal {
    /// Starts `ops` with `args` on a new terminal.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start(service: &Service, args: &[&str]) -> Self {
        Self::start_with(service, args, |command| command)
    }

    /// As [`Self::start`], with changes to the command, such as a pipe for one of its streams.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start_with(
        service: &Service,
        args: &[&str],
        change: impl FnOnce(Command) -> Command,
    ) -> Self {
        let command = Command::new(service.program())
            .args(args)
            .env_clear()
            .envs(service.environment());
        Self::run(change(command))
    }

    /// Starts any program on a new terminal, such as a shell that has `ops` in its PATH.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn run(mut command: Command) -> Self {
        let (pty, pts) = pty_process::blocking::open().expect("a terminal");
        pty.resize(pty_process::Size::new(SIZE.1, SIZE.0))
            .expect("a size");
        let child = command.spawn_borrowed(&pts).expect("the program starts");
        let pty = Arc::new(pty);
        let output = Arc::<Output>::default();
        let (reader, sink) = (Arc::downgrade(&pty), Arc::clone(&output));
        std::thread::spawn(move || read(&reader, &sink));
        Self {
            pty: Some(pty),
            pts: Some(pts),
            child,
            output,
        }
    }

    /// Types `bytes`.
    ///
    /// # Panics
    /// The terminal is gone.
    pub fn send(&self, bytes: impl AsRef<[u8]>) {
        let pty = self.pty.as_ref().expect("a terminal that was not hung up");
        (&**pty).write_all(bytes.as_ref()).expect("typing works");
    }

    /// Everything written so far.
    pub fn output(&self) -> Vec<u8> {
        self.output.lock().clone()
    }

    /// Waits until `text` was written behind the first `from` bytes; gives where it ends.
    ///
    /// # Panics
    /// It is not written; shows what was.
    pub fn wait_for_after(&self, from: usize, text: &str) -> usize {
        let begin = Instant::now();
        let mut bytes = self.output.lock();
        loop {
            let found = bytes[from.min(bytes.len())..]
                .windows(text.len())
                .position(|window| window == text.as_bytes());
            if let Some(at) = found {
                return from + at + text.len();
            }
            let left = PATIENCE.saturating_sub(begin.elapsed());
            assert!(
                !left.is_zero(),
                "`{text}` did not come; the terminal shows:\n{}",
                String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(4000)..])
            );
            bytes = self
                .output
                .grown
                .wait_timeout(bytes, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Waits until `text` was written.
    ///
    /// # Panics
    /// It is not.
    pub fn wait_for(&self, text: &str) -> usize {
        self.wait_for_after(0, text)
    }

    /// Types a line and waits for `text` in what comes after it.
    ///
    /// # Panics
    /// It does not come.
    pub fn ask(&self, line: &str, text: &str) -> usize {
        let from = self.output.lock().len();
        self.send(format!("{line}\r"));
        self.wait_for_after(from, text)
    }

    /// What a terminal of that size shows.
    ///
    /// # Panics
    /// A size of nothing.
    pub fn screen(&self, columns: u16, rows: u16) -> vt100::Parser {
        let some = |count| NonZero::new(count).expect("a size");
        let mut parser = vt100::Parser::new(some(rows), some(columns), 0);
        parser.process(&self.output.lock());
        parser
    }

    /// Waits until a terminal of [`SIZE`] shows `what`.
    ///
    /// # Panics
    /// It does not.
    pub fn wait_for_screen(&self, what: &str, shows: impl Fn(&vt100::Screen) -> bool) {
        let begin = Instant::now();
        loop {
            let grown = {
                let bytes = self.output.lock();
                bytes.len()
            };
            let shown = self.screen(SIZE.0, SIZE.1);
            if shows(shown.screen()) {
                return;
            }
            let left = PATIENCE.saturating_sub(begin.elapsed());
            assert!(
                !left.is_zero(),
                "{what} does not show; the terminal shows:\n{}",
                shown.screen().contents()
            );
            let bytes = self.output.lock();
            if bytes.len() == grown {
                drop(
                    self.output
                        .grown
                        .wait_timeout(bytes, left)
                        .unwrap_or_else(PoisonError::into_inner),
                );
            }
        }
    }

    /// Changes the size, as a window does.
    ///
    /// # Panics
    /// The terminal is gone.
    pub fn resize(&self, columns: u16, rows: u16) {
        let pty = self.pty.as_ref().expect("a terminal that was not hung up");
        pty.resize(pty_process::Size::new(rows, columns))
            .expect("a size");
    }

    /// Whether the terminal edits lines and echoes, as a shell leaves it.
    ///
    /// # Panics
    /// The terminal is gone.
    pub fn is_cooked(&self) -> bool {
        let pts = self.pts.as_ref().expect("a terminal that was not hung up");
        let modes = rustix::termios::tcgetattr(pts).expect("modes").local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// Sends a signal to the process.
    ///
    /// # Panics
    /// It is gone.
    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal)
            .expect("the process is there");
    }

    /// Closes the terminal, as a window that is closed: the process gets SIGHUP.
    pub fn hang_up(&mut self) {
        self.pts = None;
        self.pty = None;
    }

    /// Waits for the end, and until all that was written is read; gives the exit status, or `None`
    /// if a signal ended it.
    ///
    /// # Panics
    /// It does not end.
    pub fn wait(&mut self) -> Option<i32> {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child of this process") {
                self.read_out();
                return status.code();
            }
            assert!(
                begin.elapsed() < PATIENCE,
                "the program does not end; the terminal shows:\n{}",
                String::from_utf8_lossy(&self.output())
            );
            std::thread::park_timeout(std::time::Duration::from_millis(5));
        }
    }
}

impl Terminal {
    /// Waits until nothing is left to read: what a program wrote last may still be on its way when
    /// it has ended.
    fn read_out(&self) {
        let found_nothing = || self.output.found_nothing.load(Ordering::SeqCst);
        // The first may have begun before the end.
        let enough = found_nothing() + 2;
        let begin = Instant::now();
        while found_nothing() < enough && !self.output.over.load(Ordering::SeqCst) {
            assert!(begin.elapsed() < PATIENCE, "somebody still writes");
            std::thread::park_timeout(std::time::Duration::from_millis(5));
        }
    }
}

/// Reads until the terminal is hung up or its last process has gone. Between reads nothing holds it
/// open.
fn read(pty: &Weak<Pty>, sink: &Output) {
    read_all(pty, sink);
    sink.over.store(true, Ordering::SeqCst);
}

fn read_all(pty: &Weak<Pty>, sink: &Output) {
    let wake = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 20_000_000,
    };
    let mut buffer = [0; 16 << 10];
    while let Some(pty) = pty.upgrade() {
        let mut polled = [PollFd::new(&*pty, PollFlags::IN)];
        match rustix::event::poll(&mut polled, Some(&wake)) {
            Ok(0) => {
                sink.found_nothing.fetch_add(1, Ordering::SeqCst);
                continue;
            }
            Ok(_) => {}
            Err(_) => return,
        }
        match (&*pty).read(&mut buffer) {
            Ok(len @ 1..) => {
                sink.lock().extend_from_slice(&buffer[..len]);
                sink.grown.notify_all();
            }
            _ => return,
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A test that failed leaves nothing behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // A wrong status says little without the words that came with it.
        if std::thread::panicking() {
            eprintln!(
                "the terminal shows:\n{}",
                String::from_utf8_lossy(&self.output())
            );
        }
    }
}
