//! Programs on a pseudo-terminal.

use std::io;

use pty_process::{OwnedReadPty, OwnedWritePty, Size};
use tokio::process::Child;

/// A program that leads a session of its own on a terminal of its own. Dropped, it is killed and
/// its terminal hung up.
pub(super) struct OnTerminal {
    pub(super) child: Child,
    pub(super) reader: OwnedReadPty,
    pub(super) writer: OwnedWritePty,
}

/// Starts `command` on a new terminal; without a size it has 0 columns and rows until [`resize`].
///
/// # Errors
/// No terminal could be had, or the program not started.
pub(super) fn spawn(
    command: tokio::process::Command,
    size: Option<(u32, u32)>,
) -> io::Result<OnTerminal> {
    let (terminal, far_end) = pty_process::open().map_err(into_io)?;
    let (reader, writer) = terminal.into_split();
    if let Some((columns, rows)) = size {
        resize(&writer, columns, rows)?;
    }
    let child = pty_process::Command::from(command)
        .kill_on_drop(true)
        .spawn(far_end)
        .map_err(into_io)?;
    Ok(OnTerminal {
        child,
        reader,
        writer,
    })
}

/// Sets the size; programs on the terminal get `SIGWINCH`.
///
/// # Errors
/// The terminal is gone.
pub(super) fn resize(writer: &OwnedWritePty, columns: u32, rows: u32) -> io::Result<()> {
    let clamp = |cells: u32| u16::try_from(cells).unwrap_or(u16::MAX);
    writer
        .resize(Size::new(clamp(rows), clamp(columns)))
        .map_err(into_io)
}

fn into_io(error: pty_process::Error) -> io::Error {
    match error {
        pty_process::Error::Io(error) => error,
        other => io::Error::other(other.to_string()),
    }
}
