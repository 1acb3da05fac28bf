//! Progress on a terminal: a bar for each file under way and one for all; elsewhere a plain line
//! now and then.

use std::{
    collections::BTreeMap,
    fmt::Write,
    io::{self, IsTerminal as _},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use indicatif::{
    HumanBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle,
};
use ops_ui::{
    Output,
    drawing::Drawing,
    output::escape,
    terminal::{RawLines, Unechoed, is_foreground},
};
use tokio::time::Instant;

use crate::{
    item::{FileId, Item},
    screen::{columns, target},
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
/// Between two movements of the bars.
const MOVED_EVERY: Duration = Duration::from_millis(100);

/// Where progress goes.
pub(crate) struct Progress {
    output: Option<Output>,
    drawn: Option<Arc<Drawn>>,
    state: Mutex<Counts>,
}

/// The bars. What is told meanwhile goes above them, and questions stand alone.
struct Drawn {
    all: MultiProgress,
    total: ProgressBar,
    state: Mutex<Visible>,
    raw_lines: RawLines,
}

#[derive(Default)]
struct Visible {
    /// They were brought up.
    is_drawn: bool,
    /// Questions that stand there.
    held: usize,
    /// Keeps what is typed meanwhile from being echoed into the bars; it waits for whoever reads
    /// next. `None` while a question stands there, and where nothing is echoed.
    unechoed: Option<Unechoed>,
}

impl Drawn {
    fn new(raw_lines: RawLines) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        let total = all.add(ProgressBar::new(0));
        // The only rate there is: two estimates of one copy never agree.
        total.set_style(bar_style(
            "{prefix} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left",
        ));
        total.set_prefix("total");
        Self {
            all,
            total,
            state: Mutex::default(),
            raw_lines,
        }
    }

    /// The terminal without an echo, where it is this process's to change: one in the background
    /// would be stopped for it.
    fn without_echo(&self) -> Option<Unechoed> {
        if !io::stdin().is_terminal() || !is_foreground() {
            return None;
        }
        Unechoed::enable(&self.raw_lines).ok()
    }

    /// A bar for one file, above that of them all.
    fn add_bar(&self, item: &Item) -> ProgressBar {
        let bar = ProgressBar::new(item.size);
        let bar = self.all.insert_before(&self.total, bar);
        let name = escape(&item.source.to_string());
        let style = bar_style("{name}  {percent:>3}%  {bytes:>10}/{total_bytes}");
        let name_key = move |state: &ProgressState, text: &mut dyn Write| {
            let counts = "  100%  /".len() + 10;
            let total = HumanBytes(state.len().unwrap_or(0)).to_string().len();
            // Asked each time: the window may be another size by now. One column stays free, since
            // some terminals wrap a line that fills the last one.
            let width = usize::from(columns()).saturating_sub(counts + total + 1);
            // A terminal that takes no more gets no more.
            let _ = text.write_str(&fit_end(&name, width));
        };
        bar.set_style(style.with_key("name", name_key));
        bar.set_position(item.moved);
        bar
    }

    /// Moves all bars at one time: of bars that are drawn each at its own, the total can be behind
    /// the only file there is.
    fn move_bars(&self, counts: &Counts) {
        for (bar, moved) in counts.bars.values() {
            bar.set_position(*moved);
        }
        self.total.set_position(counts.moved);
        // A bar that ticks by itself is not drawn by its position, but by its words.
        self.total.set_prefix("total");
    }

    /// Brings them up, once.
    fn bring_up(&self) {
        let mut state = self.visible();
        if !state.is_drawn {
            state.is_drawn = true;
            if state.held == 0 {
                self.all.set_draw_target(target());
                state.unechoed = self.without_echo();
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
            state.unechoed = None;
        } else if before == 1 && !held {
            self.all.set_draw_target(target());
            state.unechoed = self.without_echo();
        }
    }
}

struct Counts {
    /// Each with the bytes of its file that have moved, which it shows from its next movement on.
    bars: BTreeMap<FileId, (ProgressBar, u64)>,
    /// When the bars moved last.
    shown: Option<Instant>,
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
        let drawn = (output.draws() && !output.quiet()).then(|| {
            let drawn = Arc::new(Drawn::new(output.raw_lines().clone()));
            let drawing: Weak<Drawn> = Arc::downgrade(&drawn);
            output.make_room(drawing);
            drawn
        });
        Self {
            output: (!output.quiet()).then(|| output.clone()),
            drawn,
            state: Mutex::new(Counts::new()),
        }
    }

    /// Shows nothing.
    pub(crate) fn hidden() -> Self {
        Self {
            output: None,
            drawn: None,
            state: Mutex::new(Counts::new()),
        }
    }

    pub(crate) fn add_expected(&self, size: u64) {
        let mut state = self.state();
        state.expected += size;
        if let Some(drawn) = &self.drawn {
            drawn.total.set_length(state.expected);
        }
    }

    pub(crate) fn add_moved(&self, id: FileId, item: &Item, len: u64) {
        let mut state = self.state();
        state.moved += len;
        let Some(drawn) = &self.drawn else {
            self.say_progress(&mut state);
            return;
        };
        let first = *state.first.get_or_insert_with(Instant::now);
        if first.elapsed() >= DRAWN_AFTER {
            drawn.bring_up();
        }
        if let Some((_, moved)) = state.bars.get_mut(&id) {
            *moved = item.moved;
        } else if item.size >= BAR_FROM_BYTES && state.bars.len() < BARS && item.outcome.is_none() {
            let bar = drawn.add_bar(item);
            state.bars.insert(id, (bar, item.moved));
        }
        if state.shown.is_none_or(|at| at.elapsed() >= MOVED_EVERY) {
            state.shown = Some(Instant::now());
            drawn.move_bars(&state);
        }
    }

    pub(crate) fn take_back(&self, id: FileId, item: &Item, len: u64) {
        let mut state = self.state();
        state.moved = state.moved.saturating_sub(len);
        if let Some((_, moved)) = state.bars.get_mut(&id) {
            *moved = item.moved;
        }
        if let Some(drawn) = &self.drawn {
            drawn.move_bars(&state);
        }
    }

    pub(crate) fn end_bar(&self, id: FileId, item: &Item) {
        let mut state = self.state();
        if let Some((bar, _)) = state.bars.remove(&id) {
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

    pub(crate) fn clear_bars(&self) {
        for (bar, _) in std::mem::take(&mut self.state().bars).into_values() {
            bar.finish_and_clear();
        }
        if let Some(drawn) = &self.drawn {
            drawn.total.finish_and_clear();
            // A terminal that is gone needs no tidying.
            let _ = drawn.all.clear();
            drawn.visible().unechoed = None;
        }
    }

    fn say_progress(&self, state: &mut Counts) {
        let Some(output) = &self.output else {
            return;
        };
        if state.said.elapsed() < LINE_EVERY {
            return;
        }
        state.said = Instant::now();
        output.note(format!(
            "{} of {} copied, {}",
            human_bytes(state.moved),
            human_bytes(state.expected),
            human_rate(state.moved, state.begun.elapsed())
        ));
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            bars: BTreeMap::new(),
            shown: None,
            first: None,
            expected: 0,
            moved: 0,
            begun: now,
            said: now,
        }
    }
}

/// `name` in exactly `width` columns: the end of a long one, which says more than its beginning.
fn fit_end(name: &str, width: usize) -> String {
    let wide = console::measure_text_width(name);
    if wide <= width {
        return format!("{name}{}", " ".repeat(width - wide));
    }
    let mut kept = String::new();
    let mut used = 1;
    for char in name.chars().rev() {
        used += console::measure_text_width(char.encode_utf8(&mut [0; 4]));
        if used > width {
            break;
        }
        kept.insert(0, char);
    }
    let shown = format!("…{kept}");
    // A wide character that does not fit leaves a column.
    let missing = width.saturating_sub(console::measure_text_width(&shown));
    format!("{shown}{}", " ".repeat(missing))
}

fn bar_style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A number of bytes for people.
pub(crate) fn human_bytes(count: u64) -> String {
    indicatif::HumanBytes(count).to_string()
}

/// A rate for people.
pub(crate) fn human_rate(count: u64, time: Duration) -> String {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "shown with three digits"
    )]
    let rate = (count as f64 / time.as_secs_f64().max(0.001)) as u64;
    format!("{}/s", human_bytes(rate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_keeps_its_end_and_a_short_one_its_place() {
        assert_eq!(fit_end("a.iso", 8), "a.iso   ");
        assert_eq!(fit_end("web-1:/srv/images/a.iso", 8), "…s/a.iso");
        // Half of a wide character is none of it.
        assert_eq!(fit_end("日本日本", 6), "…日本 ");
        for width in 1..30 {
            let shown = fit_end("web-1:/日本/very/long", width);
            assert_eq!(console::measure_text_width(&shown), width, "{shown}");
        }
    }
}
