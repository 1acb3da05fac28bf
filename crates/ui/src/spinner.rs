//! What is waited for, on stderr, while a step takes its time.

use std::{sync::Arc, time::Duration};

use crate::{
    terminal,
    text::{Text, cut},
};

/// A spinner that is gone when dropped.
pub struct Spinner {
    bar: Option<indicatif::ProgressBar>,
    /// Shared by the output and the one spinner that is visible.
    _spinning: Option<Arc<()>>,
}

impl Spinner {
    /// Steps shorter than this show nothing.
    const PATIENCE: Duration = Duration::from_millis(300);

    pub(crate) fn start(spinning: Option<Arc<()>>, text: &str) -> Self {
        if spinning.is_none() {
            return Self {
                bar: None,
                _spinning: None,
            };
        }
        let bar = indicatif::ProgressBar::new_spinner().with_message(fitted(text));
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
        let shown = bar.clone();
        // A thread of its own: the step may be one that blocks the runtime's.
        std::thread::spawn(move || {
            std::thread::sleep(Self::PATIENCE);
            if !shown.is_finished() {
                shown.set_draw_target(indicatif::ProgressDrawTarget::stderr());
                shown.enable_steady_tick(Duration::from_millis(100));
            }
        });
        Self {
            bar: Some(bar),
            _spinning: spinning,
        }
    }

    /// Changes its text.
    pub fn say(&self, text: impl Into<Text>) {
        if let Some(bar) = &self.bar {
            bar.set_message(fitted(&text.into()));
        }
    }
}

/// A message that fits into one line of the terminal with room for `^C`: of a line that wraps, the
/// first part would stay behind.
fn fitted(text: &str) -> String {
    let columns = terminal::size().map_or(80, |(columns, _)| usize::from(columns));
    cut(text, columns.saturating_sub(6).max(10))
}

impl Drop for Spinner {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
