//! Lines on stderr, and below them on a terminal one line that is redrawn.

use std::sync::{Arc, Mutex, PoisonError};

use ops_core::Output;

/// Takes the cursor to the beginning of the line and clears it.
const CLEAR_LINE: &[u8] = b"\r\x1b[2K";

/// Shared by everything that has something to say.
#[derive(Clone)]
pub(crate) struct Screen(Arc<Inner>);

struct Inner {
    output: Output,
    /// The line drawn last; empty when none is.
    line: Mutex<String>,
    live: bool,
}

impl Screen {
    /// With `live`, [`Self::draw`] draws where stderr is a terminal.
    pub(crate) fn new(output: &Output, live: bool) -> Self {
        Self(Arc::new(Inner {
            output: output.clone(),
            line: Mutex::default(),
            live: live && output.stderr_is_terminal() && !output.quiet(),
        }))
    }

    /// Whether a status line is wanted.
    pub(crate) fn is_live(&self) -> bool {
        self.0.live
    }

    /// A line for everybody.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        self.above(|output| output.note(ops_core::output::escape(text.as_ref())));
    }

    /// A line that is shown with `-q` too.
    pub(crate) fn warn(&self, text: impl AsRef<str>) {
        self.above(|output| output.warn(ops_core::output::escape(text.as_ref())));
    }

    /// A line for `-v`.
    pub(crate) fn detail(&self, text: impl AsRef<str>) {
        if self.0.output.verbose() > 0 {
            self.above(|output| output.detail(ops_core::output::escape(text.as_ref())));
        }
    }

    /// A line for `-vv`.
    pub(crate) fn trace(&self, text: impl AsRef<str>) {
        if self.0.output.verbose() > 1 {
            self.detail(text);
        }
    }

    /// Draws the status line anew; an empty one removes it.
    pub(crate) fn draw(&self, text: &str) {
        if !self.0.live {
            return;
        }
        // Asked anew: a window may have been made narrower, and a line that wraps could not be taken back.
        let columns = ops_core::terminal::size().map_or(80, |(columns, _)| usize::from(columns));
        let text: String = text.chars().take(columns.saturating_sub(1)).collect();
        let mut line = self.0.line.lock().unwrap_or_else(PoisonError::into_inner);
        if *line == text {
            return;
        }
        let mut bytes = CLEAR_LINE.to_vec();
        bytes.extend_from_slice(text.as_bytes());
        self.0.output.write_stderr(&bytes);
        *line = text;
    }

    fn above(&self, write: impl FnOnce(&Output)) {
        let line = self.0.line.lock().unwrap_or_else(PoisonError::into_inner);
        if line.is_empty() {
            return write(&self.0.output);
        }
        self.0.output.write_stderr(CLEAR_LINE);
        write(&self.0.output);
        self.0.output.write_stderr(line.as_bytes());
    }
}
