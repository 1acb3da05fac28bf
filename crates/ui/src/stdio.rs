//! Standard input and output, and files like them (FIFOs, terminals), as bytes.
//!
//! Each has a thread of its own: a read of a terminal cannot be cancelled, so it must neither hold
//! up the runtime nor the end of the program, and a slow reader of our output must hold back the
//! session, not the tasks beside it.

use std::{
    fs::File,
    io::{self, Write as _},
    os::fd::AsFd as _,
    thread,
};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::error::{Error, Result};

/// Pieces that wait between a thread and the session.
const QUEUE: usize = 4;
/// Size of one read, in bytes.
const READ_BYTES: usize = 64 << 10;

/// Reads standard input from now on. The channel ends at end-of-file or after an error.
///
/// To be called once: what two readers get is undefined.
pub fn read_stdin() -> mpsc::Receiver<io::Result<Bytes>> {
    read_from(|| Ok(io::stdin().lock()))
}

/// As [`read_stdin`], for what `open` gives: it may wait as long as it likes, as for the other end
/// of a FIFO, and its error is the channel's.
pub fn read_from<R: io::Read>(
    open: impl FnOnce() -> io::Result<R> + Send + 'static,
) -> mpsc::Receiver<io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    thread::spawn(move || {
        let mut input = match open() {
            Ok(input) => input,
            Err(error) => {
                // Nobody may be left to be told.
                let _ = sender.blocking_send(Err(error));
                return;
            }
        };
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let read = match input.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => Ok(Bytes::copy_from_slice(&buffer[..count])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let failed = read.is_err();
            if sender.blocking_send(read).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

/// What cannot be written to standard output: a full disk there is none of a server's.
pub(crate) fn stdout_failed(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Error::from(error),
        _ => Error::unexpected("cannot write to standard output").caused_by(error),
    }
}

/// Standard output without the standard library's buffer, which looks for the last line of each
/// piece and writes what is behind it by itself.
fn unbuffered() -> io::Result<File> {
    let mut stdout = io::stdout().lock();
    stdout.flush()?;
    stdout.as_fd().try_clone_to_owned().map(File::from)
}

/// Standard input as a file of its own, past the standard library's buffer.
///
/// # Errors
/// Standard input is closed.
pub fn stdin_file() -> io::Result<File> {
    io::stdin().as_fd().try_clone_to_owned().map(File::from)
}

/// Whether standard input has nothing to give and never will: it is closed, `/dev/null`, an empty
/// file, or a pipe whose writers have gone. Of a terminal nobody can tell.
pub fn stdin_is_empty() -> bool {
    use std::os::unix::fs::FileTypeExt as _;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    let Ok(stdin) = stdin_file() else {
        return true;
    };
    let Ok(metadata) = stdin.metadata() else {
        return true;
    };
    if metadata.is_file() {
        // The shell may have read a part of it: what is left counts.
        let position = rustix::fs::tell(&stdin).unwrap_or(0);
        return position >= metadata.len();
    }
    if metadata.file_type().is_char_device() {
        return is_null(&stdin);
    }
    let mut polled = [PollFd::new(&stdin, PollFlags::IN)];
    if !matches!(poll(&mut polled, Some(&Timespec::default())), Ok(1..)) {
        return false;
    }
    let ready = polled[0].revents();
    // Of a pipe whose writer has gone: what is left in it can still be read.
    ready.contains(PollFlags::HUP)
        && !ready.contains(PollFlags::IN)
        && rustix::io::ioctl_fionread(&stdin).is_ok_and(|left| left == 0)
}

/// Whether `file` is the device that gives nothing.
fn is_null(file: &File) -> bool {
    let device = |metadata: io::Result<std::fs::Metadata>| {
        use std::os::unix::fs::MetadataExt as _;
        metadata.map(|metadata| metadata.rdev()).ok()
    };
    let null = device(std::fs::metadata("/dev/null"));
    null.is_some() && device(file.metadata()) == null
}

/// Writes standard output, piece by piece; waits while [`QUEUE`] pieces are on their way.
pub struct StdoutWriter {
    pieces: mpsc::Sender<Piece>,
    failure: oneshot::Receiver<io::Result<()>>,
}

/// What the thread of a [`StdoutWriter`] is handed, in turn.
enum Piece {
    Bytes(Bytes),
    /// To be answered once everything before is written.
    Flush(oneshot::Sender<()>),
}

impl StdoutWriter {
    /// Starts its thread.
    pub fn start() -> Self {
        Self::start_with(unbuffered)
    }

    /// As [`Self::start`], for standard error.
    pub fn start_stderr() -> Self {
        Self::start_with(|| io::stderr().as_fd().try_clone_to_owned().map(File::from))
    }

    /// As [`Self::start`], for the file that `open` gives in place of standard output: it may wait
    /// as long as it likes, as for the other end of a FIFO.
    pub fn start_with(open: impl FnOnce() -> io::Result<File> + Send + 'static) -> Self {
        let (pieces, mut queue) = mpsc::channel::<Piece>(QUEUE);
        let (done, failure) = oneshot::channel();
        thread::spawn(move || {
            let mut written = Ok(());
            match open() {
                Ok(mut stdout) => {
                    while let Some(piece) = queue.blocking_recv() {
                        match piece {
                            Piece::Bytes(bytes) => written = stdout.write_all(&bytes),
                            // Whoever has asked may have been cancelled meanwhile.
                            Piece::Flush(asker) => {
                                let _ = asker.send(());
                            }
                        }
                        if written.is_err() {
                            break;
                        }
                    }
                }
                Err(error) => written = Err(error),
            }
            // Closing first wakes a writer that waits for room.
            drop(queue);
            let _ = done.send(written);
        });
        Self { pieces, failure }
    }

    /// Hands over a piece; it is written in turn.
    ///
    /// # Errors
    /// The error of an earlier piece; a closed pipe is [`crate::ErrorKind::BrokenPipe`].
    pub async fn write(&mut self, piece: Bytes) -> Result<()> {
        if self.pieces.send(Piece::Bytes(piece)).await.is_ok() {
            return Ok(());
        }
        self.outcome().await
    }

    /// Waits until everything so far is written.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn flush(&mut self) -> Result<()> {
        let (asker, answer) = oneshot::channel();
        // A thread that failed drops the question with its queue.
        if self.pieces.send(Piece::Flush(asker)).await.is_ok() && answer.await.is_ok() {
            return Ok(());
        }
        self.outcome().await
    }

    /// Ends when a piece could not be written, with the error of [`Self::write`]. May be cancelled.
    /// Not to be waited for again, nor written to, once it has ended.
    pub async fn failed(&mut self) -> Error {
        match self.outcome().await {
            Err(error) => error,
            // Its thread ends well only when nothing more can come.
            Ok(()) => std::future::pending().await,
        }
    }

    /// Waits until everything is written.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn finish(mut self) -> Result<()> {
        let (closed, _) = mpsc::channel(1);
        self.pieces = closed;
        self.outcome().await
    }

    async fn outcome(&mut self) -> Result<()> {
        match (&mut self.failure).await {
            Ok(outcome) => outcome.map_err(stdout_failed),
            Err(_) => Err(Error::from(io::Error::from(io::ErrorKind::BrokenPipe))),
        }
    }
}
