//! The line that says how far a command on many servers is.

use std::time::{Duration, Instant};

use ops_ui::{Output, text::cut};

/// Between two lines where stderr is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Columns of a terminal that does not say how many it has, and the fewest that are used.
const USUAL_COLUMNS: usize = 80;
const FEWEST_COLUMNS: usize = 10;

/// One line, drawn over and over at the foot of a terminal, and printed now and then elsewhere.
/// Dropped, it is taken away.
pub(crate) struct StatusLine {
    output: Output,
    /// When a line was last printed where nothing can be drawn.
    told: Instant,
    is_drawn: bool,
}

impl StatusLine {
    pub(crate) fn new(output: &Output) -> Self {
        Self {
            output: output.clone(),
            told: Instant::now(),
            is_drawn: output.draws() && !output.quiet(),
        }
    }

    pub(crate) fn show(&mut self, line: String) {
        if self.is_drawn {
            let columns = self.output.stderr_columns().unwrap_or(USUAL_COLUMNS);
            // A line that wraps could not be taken away again.
            let room = columns.saturating_sub(1).max(FEWEST_COLUMNS);
            self.output.set_status(cut(&line, room));
        } else if self.told.elapsed() >= LINE_EVERY {
            self.told = Instant::now();
            self.output.note(line);
        }
    }

    pub(crate) fn clear(&self) {
        if self.is_drawn {
            self.output.set_status("");
        }
    }
}

impl Drop for StatusLine {
    fn drop(&mut self) {
        self.clear();
    }
}
