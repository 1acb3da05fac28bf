//! Lines on stderr, and below them on a terminal one line that is redrawn.

use ops_core::trouble::Observer;
use ops_ui::{Output, Text};

/// Shared by everything that has something to say.
#[derive(Clone)]
pub(crate) struct Screen {
    output: Output,
    live: bool,
    /// Another program has the terminal.
    is_lent: bool,
}

impl Screen {
    /// With `live`, [`Self::draw`] draws where stderr is a terminal.
    pub(crate) fn new(output: &Output, live: bool) -> Self {
        Self {
            output: output.clone(),
            live: live && output.draws() && !output.quiet(),
            is_lent: false,
        }
    }

    /// The same while a command of the user's has the terminal.
    pub(crate) fn lent(self) -> Self {
        Self {
            is_lent: true,
            ..self
        }
    }

    /// What tells of one session's connection.
    pub(crate) fn observer(&self) -> Observer {
        if self.is_lent {
            Observer::patient()
        } else {
            Observer::default()
        }
    }

    /// Whether a status line is wanted.
    pub(crate) fn is_live(&self) -> bool {
        self.live
    }

    /// A line for everybody.
    pub(crate) fn note(&self, text: impl Into<Text>) {
        self.output.note(text);
    }

    /// A line that is shown with `-q` too.
    pub(crate) fn warn(&self, text: impl Into<Text>) {
        self.output.warn(text);
    }

    /// A line for `-v`.
    pub(crate) fn detail(&self, text: impl Into<Text>) {
        self.output.detail(text);
    }

    /// A line for `-vv`.
    pub(crate) fn trace(&self, text: impl Into<Text>) {
        if self.output.verbose() > 1 {
            self.detail(text);
        }
    }

    /// Draws the status line anew; an empty one removes it.
    pub(crate) fn draw(&self, text: &str) {
        if !self.live || !(text.is_empty() || ops_ui::terminal::is_foreground()) {
            return;
        }
        // Asked anew: a window may have been made narrower, and a line that wraps could not be
        // taken back.
        let columns = ops_ui::terminal::size().map_or(80, |(columns, _)| usize::from(columns));
        let text: String = text.chars().take(columns.saturating_sub(1)).collect();
        self.output.set_status(text);
    }
}
