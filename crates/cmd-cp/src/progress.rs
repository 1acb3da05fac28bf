//! Progress on a terminal: a bar for each file under way and one for all; elsewhere a plain line now and then.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use ops_core::output::{Output, escape};
use tokio::time::Instant;

use crate::{report::Item, screen::target, transport::FileId};

/// Files that have a bar of their own at the same time.
const BARS: usize = 4;
/// A file smaller than this, in bytes, has none.
const BAR_FROM_BYTES: u64 = 256 << 10;
/// What is over sooner, after the first byte, needs no bars.
const DRAWN_AFTER: Duration = Duration::from_millis(300);
/// Between plain lines where stderr is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
const STEADY: Duration = Duration::from_millis(250);

/// Where progress goes.
pub(crate) struct Progress {
    output: Option<Output>,
    drawn: Option<Drawn>,
    state: Mutex<State>,
}

struct Drawn {
    all: MultiProgress,
    total: ProgressBar,
}

struct State {
    bars: BTreeMap<FileId, ProgressBar>,
    /// Since the first byte.
    first: Option<Instant>,
    /// Something is drawn.
    is_drawn: bool,
    /// A question stands there.
    is_hidden: bool,
    expected: u64,
    moved: u64,
    begun: Instant,
    said: Instant,
}

impl Progress {
    /// Bars if stderr is a terminal, else lines; nothing with `-q`.
    pub(crate) fn new(output: &Output) -> Self {
        let drawn = (output.stderr_is_terminal() && !output.quiet()).then(|| {
            let all = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
            let total = all.add(ProgressBar::new(0));
            total.set_style(style(
                "{prefix} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left",
            ));
            total.set_prefix("total");
            Drawn { all, total }
        });
        Self {
            output: (!output.quiet()).then(|| output.clone()),
            drawn,
            state: Mutex::new(State::new()),
        }
    }

    /// Shows nothing.
    pub(crate) fn hidden() -> Self {
        Self {
            output: None,
            drawn: None,
            state: Mutex::new(State::new()),
        }
    }

    pub(crate) fn expect(&self, size: u64) {
        let mut state = self.state();
        state.expected += size;
        if let Some(drawn) = &self.drawn {
            drawn.total.set_length(state.expected);
        }
    }

    pub(crate) fn moved(&self, id: FileId, item: &Item, len: u64) {
        let mut state = self.state();
        state.moved += len;
        let Some(drawn) = &self.drawn else {
            self.say(&mut state);
            return;
        };
        let first = *state.first.get_or_insert_with(Instant::now);
        if !state.is_drawn && !state.is_hidden && first.elapsed() >= DRAWN_AFTER {
            state.is_drawn = true;
            drawn.all.set_draw_target(target());
            drawn.total.enable_steady_tick(STEADY);
        }
        drawn.total.inc(len);
        if let Some(bar) = state.bars.get(&id) {
            bar.set_position(item.moved);
        } else if item.size >= BAR_FROM_BYTES && state.bars.len() < BARS && item.outcome.is_none() {
            let bar = drawn
                .all
                .insert_before(&drawn.total, ProgressBar::new(item.size));
            bar.set_style(style(
                "{wide_msg} {percent:>3}%  {bytes:>10}  {bytes_per_sec:>12}  {eta:>4}",
            ));
            bar.set_message(escape(&item.source));
            bar.set_position(item.moved);
            state.bars.insert(id, bar);
        }
    }

    pub(crate) fn back(&self, id: FileId, item: &Item, len: u64) {
        let mut state = self.state();
        state.moved = state.moved.saturating_sub(len);
        if let Some(drawn) = &self.drawn {
            drawn.total.set_position(state.moved);
        }
        if let Some(bar) = state.bars.get(&id) {
            bar.set_position(item.moved);
        }
    }

    pub(crate) fn ended(&self, id: FileId, item: &Item) {
        let mut state = self.state();
        if let Some(bar) = state.bars.remove(&id) {
            bar.finish_and_clear();
        }
        // What is left out is no work that is left.
        if item.moved < item.size {
            state.expected = state.expected.saturating_sub(item.size - item.moved);
            if let Some(drawn) = &self.drawn {
                drawn.total.set_length(state.expected);
            }
        }
    }

    /// Takes the bars away until [`Progress::show`]: somebody is asked something.
    pub(crate) fn hide(&self) {
        let mut state = self.state();
        state.is_hidden = true;
        if let Some(drawn) = self.drawn.as_ref().filter(|_| state.is_drawn) {
            // A terminal that is gone needs no tidying.
            let _ = drawn.all.clear();
            drawn.all.set_draw_target(ProgressDrawTarget::hidden());
        }
    }

    /// Brings them back.
    pub(crate) fn show(&self) {
        let mut state = self.state();
        state.is_hidden = false;
        if let Some(drawn) = self.drawn.as_ref().filter(|_| state.is_drawn) {
            drawn.all.set_draw_target(target());
        }
    }

    pub(crate) fn clear(&self) {
        for (_, bar) in std::mem::take(&mut self.state().bars) {
            bar.finish_and_clear();
        }
        if let Some(drawn) = &self.drawn {
            drawn.total.finish_and_clear();
            // A terminal that is gone needs no tidying.
            let _ = drawn.all.clear();
        }
    }

    fn say(&self, state: &mut State) {
        let Some(output) = &self.output else {
            return;
        };
        if state.said.elapsed() < LINE_EVERY {
            return;
        }
        state.said = Instant::now();
        output.note(format!(
            "{} of {} copied, {}",
            bytes(state.moved),
            bytes(state.expected),
            rate(state.moved, state.begun.elapsed())
        ));
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            bars: BTreeMap::new(),
            first: None,
            is_drawn: false,
            is_hidden: false,
            expected: 0,
            moved: 0,
            begun: now,
            said: now,
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A number of bytes for people.
pub(crate) fn bytes(count: u64) -> String {
    indicatif::HumanBytes(count).to_string()
}

/// A rate for people.
pub(crate) fn rate(count: u64, time: Duration) -> String {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "shown with three digits"
    )]
    let rate = (count as f64 / time.as_secs_f64().max(0.001)) as u64;
    format!("{}/s", bytes(rate))
}
