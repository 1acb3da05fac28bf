//! Progress on a terminal: a bar for each file under way and one for all; elsewhere a plain line
//! now and then.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use ops_ui::{Output, drawing::Drawing, output::escape};
use tokio::time::Instant;

use crate::{
    item::{FileId, Item},
    screen::target,
};

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
    drawn: Option<Arc<Drawn>>,
    state: Mutex<State>,
}

/// The bars. What is told meanwhile goes above them, and questions stand alone.
struct Drawn {
    all: MultiProgress,
    total: ProgressBar,
    state: Mutex<Visible>,
}

#[derive(Default)]
struct Visible {
    /// They were brought up.
    is_drawn: bool,
    /// Questions that stand there.
    held: usize,
}

impl Drawn {
    fn new() -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        let total = all.add(ProgressBar::new(0));
        total.set_style(style(
            "{prefix} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left",
        ));
        total.set_prefix("total");
        Self {
            all,
            total,
            state: Mutex::default(),
        }
    }

    /// Brings them up, once.
    fn draw(&self) {
        let mut state = self.visible();
        if !state.is_drawn {
            state.is_drawn = true;
            if state.held == 0 {
                self.all.set_draw_target(target());
            }
            self.total.enable_steady_tick(STEADY);
        }
    }

    fn visible(&self) -> std::sync::MutexGuard<'_, Visible> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drawing for Drawn {
    fn is_visible(&self) -> bool {
        let state = self.visible();
        state.is_drawn && state.held == 0
    }

    fn aside(&self, write: &mut dyn FnMut()) {
        self.all.suspend(write);
    }

    fn hold(&self, held: bool) {
        let mut state = self.visible();
        let before = state.held;
        state.held = if held {
            before + 1
        } else {
            before.saturating_sub(1)
        };
        if !state.is_drawn {
            return;
        }
        if before == 0 && held {
            // A terminal that is gone needs no tidying.
            let _ = self.all.clear();
            self.all.set_draw_target(ProgressDrawTarget::hidden());
        } else if before == 1 && !held {
            self.all.set_draw_target(target());
        }
    }
}

struct State {
    bars: BTreeMap<FileId, ProgressBar>,
    /// Since the first byte.
    first: Option<Instant>,
    expected: u64,
    moved: u64,
    begun: Instant,
    said: Instant,
}

impl Progress {
    /// Bars if stderr is a terminal, else lines; nothing with `-q`.
    pub(crate) fn new(output: &Output) -> Self {
        let drawn = (output.stderr_is_terminal() && !output.quiet()).then(|| {
            let drawn = Arc::new(Drawn::new());
            let drawing: Weak<Drawn> = Arc::downgrade(&drawn);
            output.make_room(drawing);
            drawn
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
        if first.elapsed() >= DRAWN_AFTER {
            drawn.draw();
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
