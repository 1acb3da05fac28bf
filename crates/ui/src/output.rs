//! The one way to stdout and stderr: results on stdout, everything about them on stderr.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _, Write},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
};

pub use crate::{spinner::Spinner, text::escape};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::{
    bottom::{self, Bottom, Lines},
    drawing::{self, Drawing},
    env::Env,
    error::{Error, Result},
    globals::{ColorChoice, ErrorFormat, Format, Globals},
    pager::Stdout,
    phrase::{InUse, wrapped},
    style::{AutoColor, MarkColor, Style, paint},
    terminal::{self, RawLines, Unechoed},
    text::{Text, keep_lines_and_colors, printable_json},
};

/// What this process writes to, and how. Cheap to clone.
#[derive(Clone)]
pub struct Output(Arc<Inner>);

struct Inner {
    /// As the options alone ask for it.
    typed: Look,
    /// As the settings have it, once they are read.
    settled: OnceLock<Look>,
    auto_color: AutoColor,
    headers: bool,
    quiet: bool,
    verbose: u8,
    error_format: ErrorFormat,
    input: bool,
    stdin_terminal: bool,
    stdout_terminal: bool,
    stderr_terminal: bool,
    columns: Option<usize>,
    /// Of the terminal that stderr is.
    stderr_columns: Option<usize>,
    in_use: InUse,
    /// `TERM=dumb`: lines can be written, and nothing else.
    is_dumb: bool,
    raw_lines: RawLines,
    /// Held by the spinner that is visible too.
    spinning: Arc<()>,
    stdout: Stdout,
    /// What is to be told once the pager has been left.
    notes_behind: Mutex<Vec<String>>,
    bottom: Bottom,
    drawing: drawing::Present,
}

/// What a profile or a file may still change after the options were read.
#[derive(Clone, Copy)]
struct Look {
    format: Format,
    stdout_color: bool,
    stderr_color: bool,
}

impl Output {
    /// Output as the options and the environment ask for it; see [`Self::settle`].
    pub fn new(globals: &Globals, env: &Env) -> Self {
        let stdout_terminal = io::stdout().is_terminal();
        let stderr_terminal = io::stderr().is_terminal();
        let auto_color = AutoColor::from_env(env);
        let color = globals.color.unwrap_or_default();
        // COLUMNS first: whoever exports it means it, and tests have no terminal to ask.
        let columns = env
            .var("COLUMNS")
            .and_then(|text| text.parse().ok())
            .or_else(|| terminal::size().map(|(columns, _)| usize::from(columns)));
        Self(Arc::new(Inner {
            typed: Look {
                format: globals.output.unwrap_or(Format::Table),
                stdout_color: auto_color.colors(color, stdout_terminal),
                stderr_color: auto_color.colors(color, stderr_terminal),
            },
            settled: OnceLock::new(),
            auto_color,
            headers: !globals.no_headers,
            quiet: globals.quiet,
            verbose: globals.verbose,
            error_format: globals.error_format.unwrap_or_default(),
            // A runner may give its jobs a terminal, and nobody sits in front of that.
            input: !globals.no_input && env.var("CI").is_none(),
            is_dumb: env.var("TERM") == Some("dumb"),
            stdin_terminal: io::stdin().is_terminal(),
            stdout_terminal,
            stderr_terminal,
            // A pipe has no width: what is cut to one there would be cut for the program that
            // reads.
            columns: stdout_terminal.then_some(columns.unwrap_or(80)),
            stderr_columns: stderr_terminal.then_some(columns.unwrap_or(80)),
            in_use: InUse::of(globals),
            raw_lines: RawLines::default(),
            spinning: Arc::default(),
            stdout: Stdout::new(globals, env, stdout_terminal),
            notes_behind: Mutex::default(),
            bottom: Bottom::default(),
            drawing: drawing::Present::default(),
        }))
    }

    /// Takes over the effective form and colour, which a profile or a file may have named; the
    /// first call counts.
    pub fn settle(&self, format: Format, color: ColorChoice) {
        // Once: a task that asks for the settings later must not change the form of a list that is
        // half written.
        self.0.settled.get_or_init(|| Look {
            format,
            stdout_color: self.0.auto_color.colors(color, self.0.stdout_terminal),
            stderr_color: self.0.auto_color.colors(color, self.0.stderr_terminal),
        });
    }

    fn look(&self) -> Look {
        *self.0.settled.get().unwrap_or(&self.0.typed)
    }

    /// Form of results.
    pub fn format(&self) -> Format {
        self.look().format
    }

    /// Whether tables have a header line.
    pub fn headers(&self) -> bool {
        self.0.headers
    }

    /// How often `-v` was given.
    pub fn verbose(&self) -> u8 {
        self.0.verbose
    }

    /// Whether `-q` was given.
    pub fn quiet(&self) -> bool {
        self.0.quiet
    }

    /// Width of the terminal that stdout is, in columns; `None` where it is none.
    pub fn columns(&self) -> Option<usize> {
        self.0.columns
    }

    /// Whether stdin is a terminal.
    pub fn stdin_is_terminal(&self) -> bool {
        self.0.stdin_terminal
    }

    /// Whether stdout is a terminal.
    pub fn stdout_is_terminal(&self) -> bool {
        self.0.stdout_terminal
    }

    /// Whether stderr is a terminal.
    pub fn stderr_is_terminal(&self) -> bool {
        self.0.stderr_terminal
    }

    /// Whether a question may be asked: stdin and stderr are terminals, and nothing forbids it.
    pub fn may_ask(&self) -> bool {
        self.0.input && self.0.stdin_terminal && self.0.stderr_terminal
    }

    /// Whether somebody at a terminal has started this: what is typed or what is told is on one.
    pub fn is_on_terminal(&self) -> bool {
        self.0.stdin_terminal || self.0.stderr_terminal
    }

    /// Whether stderr is a terminal on which the cursor can be moved.
    pub fn draws(&self) -> bool {
        self.0.stderr_terminal && !self.0.is_dumb
    }

    /// Whether stdout is coloured.
    pub fn colored(&self) -> bool {
        self.look().stdout_color
    }

    /// Whether stderr is coloured.
    pub fn colors_stderr(&self) -> bool {
        self.look().stderr_color
    }

    /// Width of the terminal that stderr is, in columns; `None` where it is none.
    pub fn stderr_columns(&self) -> Option<usize> {
        self.0.stderr_columns
    }

    /// `text` for stdout in a style, or as it is where stdout has no colour.
    pub(crate) fn paint(&self, style: Style, text: &str) -> String {
        paint(self.look().stdout_color, style, text)
    }

    /// `text` for stderr as the mark of a profile: bold, in `color` if it has one; as it is where
    /// stderr has no colour.
    pub fn mark(&self, color: Option<MarkColor>, text: impl Into<Text>) -> Text {
        let text = text.into();
        if !self.look().stderr_color {
            return text;
        }
        let sgr = match color {
            None => "1",
            Some(MarkColor::Red) => "1;31",
            Some(MarkColor::Green) => "1;32",
            Some(MarkColor::Yellow) => "1;33",
            Some(MarkColor::Blue) => "1;34",
            Some(MarkColor::Magenta) => "1;35",
            Some(MarkColor::Cyan) => "1;36",
        };
        Text::painted(sgr, &text)
    }

    /// Whether lines on stderr start at the left by themselves: the terminal's modes say so while
    /// they are raw.
    pub fn raw_lines(&self) -> &RawLines {
        &self.0.raw_lines
    }

    /// Writes a page of text to stdout, whole lines. On a terminal nothing in it drives that but
    /// colours; elsewhere it is written as it is.
    ///
    /// # Errors
    /// A closed pipe is [`crate::ErrorKind::BrokenPipe`], which ends the program quietly.
    pub fn page(&self, text: &str) -> Result<()> {
        if self.0.stdout_terminal {
            self.write(keep_lines_and_colors(text).as_bytes())
        } else {
            self.write(text.as_bytes())
        }
    }

    /// Writes a line of result to stdout. On a terminal it is escaped; elsewhere it is written as
    /// it is, for the program that reads it.
    ///
    /// # Errors
    /// As [`Self::page`].
    pub fn line(&self, text: impl AsRef<str>) -> Result<()> {
        let text = text.as_ref();
        let mut line = if self.0.stdout_terminal {
            escape(text)
        } else {
            text.to_owned()
        };
        line.push('\n');
        self.write(line.as_bytes())
    }

    /// Writes a result behind a mark in a style to stdout: on a terminal in lines that fit, those
    /// after the first indented by `indent` columns. Commands in it get the options in use.
    ///
    /// # Errors
    /// As [`Self::page`].
    pub fn marked_line(
        &self,
        mark: &str,
        style: Style,
        text: impl Into<Text>,
        indent: usize,
    ) -> Result<()> {
        let text = self.0.in_use.in_commands_of(text.into().as_str());
        let begin = unicode_width::UnicodeWidthStr::width(mark) + 1;
        let text = wrapped(&text, self.0.columns, begin, indent);
        let mark = self.paint(style, mark);
        self.pass_stdout_lines(format!("{mark} {text}\n").as_bytes())
    }

    /// Writes `value` as one JSON document, indented, every character of it printable.
    ///
    /// # Errors
    /// As [`Self::page`].
    pub fn json(&self, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string_pretty(value).map_err(Error::unforeseen)?;
        let mut text = printable_json(text);
        text.push('\n');
        self.write(text.as_bytes())
    }

    /// Writes `value` as one YAML document, every character of it printable.
    ///
    /// # Errors
    /// As [`Self::page`].
    pub fn yaml(&self, value: &impl Serialize) -> Result<()> {
        let mut text = crate::yaml::to_string(value)?;
        if !text.ends_with('\n') {
            text.push('\n');
        }
        self.write(text.as_bytes())
    }

    /// Writes `value` as one JSON document on a line, every character of it printable.
    ///
    /// # Errors
    /// As [`Self::page`].
    pub fn json_line(&self, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string(value).map_err(Error::unforeseen)?;
        let mut text = printable_json(text);
        text.push('\n');
        self.write(text.as_bytes())
    }

    /// Empties the terminal that stdout is, for a list that is drawn anew.
    ///
    /// # Errors
    /// As [`Self::page`].
    pub fn clear_screen(&self) -> Result<()> {
        // Home, and what was below is gone.
        self.write(b"\x1b[H\x1b[2J")
    }

    fn write(&self, bytes: &[u8]) -> Result<()> {
        self.0.stdout.write(bytes)
    }

    /// Has all that `write` writes to stdout go through the pager where stdout is a terminal with
    /// fewer rows, and waits until the user has left that. What has to be told on stderr is told
    /// afterwards.
    ///
    /// # Errors
    /// Those of `write`. A pager that is left early is none.
    pub fn through_pager(&self, write: impl FnOnce() -> Result<()>) -> Result<()> {
        let written = self.0.stdout.through_pager(write);
        let notes = std::mem::take(&mut *self.notes_behind());
        for note in notes {
            self.note(note);
        }
        written
    }

    /// [`Self::note`] about a result that is being written: where that goes through a pager, the
    /// note comes once the pager has been left, which would draw over it.
    pub(crate) fn note_behind(&self, note: String) {
        match self.0.stdout.is_paging() {
            true => self.notes_behind().push(note),
            false => self.note(note),
        }
    }

    fn notes_behind(&self) -> MutexGuard<'_, Vec<String>> {
        let notes = self.0.notes_behind.lock();
        notes.unwrap_or_else(PoisonError::into_inner)
    }

    /// The same for a result that comes piece by piece from elsewhere.
    ///
    /// # Errors
    /// Those of `write`. A pager that is left early is none.
    pub async fn stream_through_pager(
        &self,
        write: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        self.0.stdout.stream_through_pager(write).await
    }

    /// Whether a pager has the terminal, and with it Ctrl-C.
    pub fn has_pager(&self) -> bool {
        self.0.stdout.has_pager()
    }

    /// Ends a pager that has the terminal, before this process ends.
    pub fn end_pager(&self) {
        self.0.stdout.end_pager();
    }

    /// A line on stderr that belongs to the result, such as a note; silent with `-q`.
    pub fn note(&self, text: impl Into<Text>) {
        if !self.0.quiet {
            self.say("", Style::Plain, &text.into().told_apart());
        }
    }

    /// A warning on stderr; shown with `-q` too.
    pub fn warn(&self, text: impl Into<Text>) {
        self.say("warning:", Style::Warn, &text.into().told_apart());
    }

    /// A line on stderr that is shown with `-q` too: the one-line form of an error.
    pub fn warn_line(&self, text: impl Into<Text>) {
        self.say("", Style::Plain, &text.into().told_apart());
    }

    /// A line on stderr for those who asked with `-v`.
    pub fn detail(&self, text: impl Into<Text>) {
        if self.0.verbose > 0 && !self.0.quiet {
            self.say("", Style::Plain, &text.into().told_apart());
        }
    }

    /// A line on stderr behind a mark, or several on a terminal that is too narrow for it.
    fn say(&self, mark: &str, style: Style, text: &str) {
        let text = self.fitted(mark, style, text);
        self.stderr_line(&text);
    }

    /// `text` behind `mark`, its commands with the options in use, in lines that fit the terminal
    /// that stderr is.
    fn fitted(&self, mark: &str, style: Style, text: &str) -> String {
        let text = self.0.in_use.in_commands_of(text);
        let indent = mark.len() - mark.trim_start().len() + 2;
        if mark.is_empty() {
            return wrapped(&text, self.0.stderr_columns, 0, indent);
        }
        let begin = mark.len() + 1;
        let text = wrapped(&text, self.0.stderr_columns, begin, indent);
        let blanks = &mark[..mark.len() - mark.trim_start().len()];
        let mark = paint(self.look().stderr_color, style, mark.trim_start());
        format!("{blanks}{mark} {text}")
    }

    /// Whole lines on stdout, as they are: what servers have written there. On a terminal they go
    /// above what stands on its last line, and whoever calls has made them harmless.
    ///
    /// # Errors
    /// As [`Self::page`].
    pub fn pass_stdout_lines(&self, lines: &[u8]) -> Result<()> {
        if !(self.0.stdout_terminal && self.0.stderr_terminal) {
            return self.write(lines);
        }
        // The last line is drawn on stderr, and both are one screen: nobody else may draw between.
        let bottom = self.0.bottom.lock();
        let (clear, shown) = bottom.around();
        if !clear.is_empty() {
            self.pass_stderr(clear.as_bytes());
        }
        let written = self.write(lines);
        if !shown.is_empty() {
            self.pass_stderr(shown.as_bytes());
        }
        written
    }

    /// As [`Self::pass_stdout_lines`], on stderr.
    pub fn pass_stderr_lines(&self, lines: &[u8]) {
        let bottom = self.0.bottom.lock();
        let (clear, shown) = bottom.around();
        let mut whole = Vec::with_capacity(clear.len() + lines.len() + shown.len());
        for part in [clear.as_bytes(), lines, shown.as_bytes()] {
            whole.extend_from_slice(part);
        }
        self.pass_stderr(&whole);
    }

    /// Bytes on stderr as they are: what the far side itself has written there, in pass-through
    /// verbs, and nothing else.
    pub fn pass_stderr(&self, bytes: &[u8]) {
        let mut stderr = io::stderr().lock();
        // Nobody is left to tell when stderr is gone.
        let _ = stderr.write_all(bytes).and_then(|()| stderr.flush());
    }

    /// What is drawn on stderr over a full-screen program of the far side's, cursor movements and
    /// all. Whoever draws has escaped what is foreign in it, but for the program's own line that
    /// goes back to its place.
    pub fn draw_over_program(&self, frame: &[u8]) {
        self.pass_stderr(frame);
    }

    /// What the picker draws on stderr, cursor movements and all. Its lines are escaped by it.
    pub fn draw_picker(&self, frame: &str) {
        self.pass_stderr(frame.as_bytes());
    }

    /// A page of text on stderr, whole lines; nothing in it drives a terminal but colours.
    pub fn stderr_page(&self, text: &str) {
        self.pass_stderr(keep_lines_and_colors(text).as_bytes());
    }

    /// Shows an error in its three parts, or as JSON.
    pub fn error(&self, error: &Error) {
        if self.0.error_format == ErrorFormat::Json {
            let mut object = serde_json::json!({
                "code": error.kind().code(),
                "message": error.what(),
                "why": error.why(),
                "hint": error
                    .hints()
                    .iter()
                    .map(|hint| self.0.in_use.in_commands_of(hint))
                    .collect::<Vec<_>>(),
                "requestId": error.request_id(),
            });
            if let Some(cause) = error.cause() {
                object["cause"] = cause.into();
            }
            self.stderr_line(&printable_json(object.to_string()));
            return;
        }
        let mut text = self.fitted("error:", Style::Bad, error.what());
        let why = error
            .why()
            .iter()
            .map(|why| ("  why:", Style::Bold, why.as_str()));
        let hints = error
            .hints()
            .iter()
            .map(|hint| ("  hint:", Style::Accent, &**hint));
        for (mark, style, part) in why.chain(hints) {
            text.push('\n');
            text.push_str(&self.fitted(mark, style, part));
        }
        if self.0.verbose > 0
            && let Some(id) = error.request_id()
        {
            let _ = write!(text, "\n  request id: {}", escape(id));
        }
        self.stderr_line(&text);
    }

    /// Asks on the terminal and reads one line, without its end. `None` at the end of input, or
    /// where nobody may be asked. What is told meanwhile goes above the question. Dropped, it takes
    /// the question back.
    ///
    /// # Errors
    /// stdin cannot be read.
    pub async fn ask(&self, question: impl Into<Text>) -> Result<Option<String>> {
        if !self.may_ask() {
            return Ok(None);
        }
        let mut asking = OpenQuestion::begin(self, &question.into());
        let line = bottom::read_line()
            .await
            .map_err(|error| Error::unexpected("the answer could not be read").caused_by(error))?;
        asking.answered = line.is_some();
        Ok(line)
    }

    /// As [`Self::ask`], for a question that comes by surprise: what was typed before it is no
    /// answer.
    ///
    /// # Errors
    /// Those of [`Self::ask`].
    pub async fn ask_anew(&self, question: impl Into<Text>) -> Result<Option<String>> {
        if self.may_ask() {
            bottom::forget_typed().await;
        }
        self.ask(question).await
    }

    /// Draws a line that stays below everything else on stderr, in place of the one before; an
    /// empty one takes it away. For a terminal.
    pub fn set_status(&self, text: impl Into<Text>) {
        let text = text.into();
        self.draw(|lines| lines.set_status(&text));
    }

    /// Leaves the terminal to somebody else, such as a browser that draws in it; nothing is drawn
    /// until the value is dropped.
    pub(crate) fn hold(&self) -> Hold<'_> {
        self.0.drawing.hold(true);
        self.draw(Lines::hold);
        Hold(self)
    }

    /// Has `drawing` make room for lines and questions from now on, as long as it exists. One at a
    /// time.
    pub fn make_room(&self, drawing: Weak<dyn Drawing>) {
        self.0.drawing.set(drawing);
    }

    fn draw(&self, change: impl FnOnce(&mut Lines) -> String) {
        let mut lines = self.0.bottom.lock();
        let text = change(&mut lines);
        if !text.is_empty() {
            self.pass_stderr(text.as_bytes());
        }
    }

    /// As [`Self::ask`], for what nobody may see: what is typed is not shown. The terminal is
    /// restored also when this is dropped.
    ///
    /// # Errors
    /// stdin cannot be read, or the terminal not be changed.
    pub async fn ask_secret(&self, question: impl Into<Text>) -> Result<Option<Zeroizing<String>>> {
        if !self.may_ask() {
            return Ok(None);
        }
        bottom::forget_typed().await;
        let unechoed = Unechoed::enable(&self.0.raw_lines)?;
        // The end of the line that is typed is not shown either.
        let _asking = OpenQuestion::begin(self, &question.into());
        let line = bottom::read_line()
            .await
            .map_err(|error| Error::unexpected("the answer could not be read").caused_by(error))?;
        drop(unechoed);
        Ok(line.map(Zeroizing::new))
    }

    /// A spinner on stderr for a step that takes longer than 300 ms; nothing where stderr is no
    /// terminal, and none for a step of a step that has one already.
    pub fn spinner(&self, text: impl Into<Text>) -> Spinner {
        let alone = Arc::strong_count(&self.0.spinning) == 1;
        let visible = alone && !self.0.quiet && self.draws() && !self.0.drawing.is_visible();
        Spinner::start(visible.then(|| Arc::clone(&self.0.spinning)), &text.into())
    }

    /// Whether a spinner says what is waited for.
    pub fn has_spinner(&self) -> bool {
        Arc::strong_count(&self.0.spinning) > 1
    }

    pub(crate) fn stderr_line(&self, text: &str) {
        let raw = self.0.raw_lines.is_set();
        let mut line = if raw {
            text.replace('\n', "\r\n")
        } else {
            text.to_owned()
        };
        line.push_str(if raw { "\r\n" } else { "\n" });
        if raw {
            line.insert(0, '\r');
        }
        self.0
            .drawing
            .aside(|| self.draw(|lines| lines.above(&line)));
    }
}

/// A question that stands on the terminal.
struct OpenQuestion<'a> {
    output: &'a Output,
    answered: bool,
}

impl<'a> OpenQuestion<'a> {
    fn begin(output: &'a Output, question: &str) -> Self {
        output.0.drawing.hold(true);
        output.draw(|lines| lines.begin_question(question));
        Self {
            output,
            answered: false,
        }
    }
}

impl Drop for OpenQuestion<'_> {
    fn drop(&mut self) {
        let answered = self.answered;
        self.output.draw(|lines| lines.end_question(answered));
        self.output.0.drawing.hold(false);
    }
}

/// The terminal is somebody else's; see [`Output::hold`].
pub(crate) struct Hold<'a>(&'a Output);

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.draw(Lines::release);
        self.0.0.drawing.hold(false);
    }
}
