//! The list as it is drawn: what was typed, which rows are left, where the cursor is.

use std::{cmp::Reverse, collections::BTreeSet};

use ops_profile::Instance;
use ops_ui::output::escape;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::{
    Feed, Question,
    keys::Key,
    rows::{self, ADDRESS, NAME, Row, TITLES, USED},
    search::{Hits, Search},
};
use crate::recent::Recent;

/// Rows shown at most.
const ROWS: usize = 12;
/// Lines of tags shown at most.
const TAG_LINES: usize = 8;
/// Fewest columns of a cell that is drawn: what is cut to less says nothing.
const LEAST_CELL: usize = 4;
/// Drawn in front of the row under the cursor, and of one that is marked.
const GUTTER: usize = 3;

const REVERSED: (&str, &str) = ("\x1b[7m", "\x1b[27m");
const FAINT: (&str, &str) = ("\x1b[2m", "\x1b[22m");
/// Bold and underlined: seen without colours, and on a row that is reversed.
const FOUND: (&str, &str) = ("\x1b[1;4m", "\x1b[22;24m");

pub(super) struct Screen {
    question: Question,
    recents: Vec<Recent>,
    rows: Vec<Row>,
    widths: [usize; TITLES.len()],
    /// Whether all rows are here.
    is_complete: bool,
    /// What the list lacks.
    note: Option<String>,
    typed: String,
    search: Search,
    /// Whether rows or what was typed have changed since `matches` was made.
    is_stale: bool,
    /// Indexes into `rows`, the best first.
    matches: Vec<usize>,
    cursor: usize,
    /// The cursor was moved: it stays on its row when others arrive.
    has_moved: bool,
    top: usize,
    /// Ids of the rows that are marked.
    marked: BTreeSet<String>,
    shows_tags: bool,
    /// Enter was pressed before there was anything to take.
    is_entered: bool,
}

/// What a key or news of the list has led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    GoOn,
    /// Nothing was chosen.
    Leave,
    /// The same, by Ctrl-C.
    Interrupt,
    /// These, at least one.
    Take(Vec<Instance>),
}

impl Screen {
    pub(super) fn new(question: Question, recents: Vec<Recent>) -> Self {
        Self {
            question,
            recents,
            rows: Vec::new(),
            widths: [0; TITLES.len()],
            is_complete: false,
            note: None,
            typed: String::new(),
            search: Search::default(),
            is_stale: false,
            matches: Vec::new(),
            cursor: 0,
            has_moved: false,
            top: 0,
            marked: BTreeSet::new(),
            shows_tags: false,
            is_entered: false,
        }
    }

    pub(super) fn is_surprise(&self) -> bool {
        self.question.is_surprise
    }

    /// Takes in news of the list.
    pub(super) fn feed(&mut self, feed: Feed) -> Next {
        let kept = self.under_cursor().map(|row| row.instance.id.clone());
        let fresh = match feed {
            Feed::Page(page) => page,
            Feed::Whole { instances, note } => {
                self.rows.clear();
                self.is_complete = true;
                self.note = note;
                instances
            }
            Feed::Failed => return Next::Leave,
        };
        let now = jiff::Timestamp::now();
        let names_region = self.question.names_region;
        let fresh = fresh
            .into_iter()
            .map(|instance| Row::new(instance, &self.recents, names_region, now));
        self.rows.extend(fresh);
        self.widths = rows::widths(&self.rows);
        self.is_stale = true;
        self.settle();
        if let Some(id) = kept.filter(|_| self.has_moved) {
            let at = self
                .matches
                .iter()
                .position(|&row| self.rows[row].instance.id == id);
            self.cursor = at.unwrap_or(0);
        }
        if self.is_entered && (self.is_complete || !self.matches.is_empty()) {
            self.is_entered = false;
            return self.taken();
        }
        Next::GoOn
    }

    /// Does what a key says.
    pub(super) fn press(&mut self, key: Key) -> Next {
        if !matches!(key, Key::Char(_) | Key::Erase | Key::EraseAll) {
            self.settle();
        }
        // What was meant before something else was typed: a row that comes now is none of it.
        self.is_entered = false;
        let last = self.matches.len().saturating_sub(1);
        let moved = match key {
            Key::Up | Key::MarkUp => self.cursor.saturating_sub(1),
            Key::Down | Key::Mark => (self.cursor + 1).min(last),
            Key::PageUp => self.cursor.saturating_sub(ROWS),
            Key::PageDown => (self.cursor + ROWS).min(last),
            Key::Home => 0,
            Key::End => last,
            _ => self.cursor,
        };
        match key {
            Key::Mark | Key::MarkUp if self.question.takes_several => self.mark(),
            // Where one is taken, Tab is no key of this list.
            Key::Mark | Key::MarkUp | Key::Other => return Next::GoOn,
            Key::Tags => self.shows_tags = !self.shows_tags,
            Key::Erase => {
                self.typed.pop();
                self.is_stale = true;
            }
            Key::EraseAll => {
                self.typed.clear();
                self.is_stale = true;
            }
            Key::Char(c) => {
                self.typed.push(c);
                self.is_stale = true;
            }
            Key::Enter => return self.taken(),
            Key::Leave => return Next::Leave,
            Key::Interrupt => return Next::Interrupt,
            _ => {}
        }
        self.has_moved |= moved != self.cursor;
        self.cursor = moved;
        Next::GoOn
    }

    /// What Enter takes: the marked rows in the order of the list, else the one under the cursor.
    fn taken(&mut self) -> Next {
        let marked = self
            .rows
            .iter()
            .filter(|row| self.marked.contains(&row.instance.id));
        let mut taken: Vec<Instance> = marked.map(|row| row.instance.clone()).collect();
        taken.sort_by(|a, b| (a.label(), &a.id).cmp(&(b.label(), &b.id)));
        if taken.is_empty() {
            taken.extend(self.under_cursor().map(|row| row.instance.clone()));
        }
        if taken.is_empty() {
            // What is typed ahead of a list that is on its way is meant for it.
            self.is_entered = !self.is_complete;
            return Next::GoOn;
        }
        Next::Take(taken)
    }

    fn mark(&mut self) {
        if let Some(row) = self.under_cursor() {
            let id = row.instance.id.clone();
            if !self.marked.remove(&id) {
                self.marked.insert(id);
            }
        }
    }

    fn under_cursor(&self) -> Option<&Row> {
        self.matches.get(self.cursor).map(|&row| &self.rows[row])
    }

    /// Finds what was typed anew, if anything has changed: the best first; of equal ones those that
    /// were used last, then by name.
    fn settle(&mut self) {
        if !std::mem::take(&mut self.is_stale) {
            return;
        }
        self.search.set(&self.typed);
        let mut found: Vec<(u32, usize)> = Vec::with_capacity(self.rows.len());
        for (index, row) in self.rows.iter().enumerate() {
            if let Some(score) = self.search.score(row) {
                found.push((score, index));
            }
        }
        let rows = &self.rows;
        found.sort_by(|a, b| {
            let key = |&(score, index): &(u32, usize)| {
                let row = &rows[index];
                let instance = &row.instance;
                let unused = row.recent.unwrap_or(usize::MAX);
                (
                    Reverse(score),
                    unused,
                    instance.name.is_none(),
                    instance.name.as_deref(),
                    instance.id.as_str(),
                )
            };
            key(a).cmp(&key(b))
        });
        let matches: Vec<usize> = found.into_iter().map(|(_, index)| index).collect();
        self.matches = matches;
        self.cursor = 0;
        self.top = 0;
    }

    /// The lines to draw on a terminal of this size, of which the last column stays free, so that
    /// no terminal wraps.
    pub(super) fn frame(&mut self, columns: usize, rows: usize) -> Vec<String> {
        self.settle();
        let columns = columns.saturating_sub(1);
        let tags = self.tag_lines(columns, rows);
        // Beside the rows: the question, the titles, the last line, and the tags.
        let visible = ROWS.min(rows.saturating_sub(3 + tags.len())).max(1);
        if self.cursor < self.top {
            self.top = self.cursor;
        } else if self.cursor >= self.top + visible {
            self.top = self.cursor + 1 - visible;
        }
        let question = format!("{} {}_", escape(&self.question.text), escape(&self.typed));
        let mut frame = vec![cut(&question, columns)];
        if !self.rows.is_empty() {
            let titles = titles(&self.widths, columns.saturating_sub(GUTTER));
            frame.push(format!("{}{titles}", " ".repeat(GUTTER)));
        }
        let shown = self.top..(self.top + visible).min(self.matches.len());
        for at in shown {
            let row = &self.rows[self.matches[at]];
            let hits = self.search.hits(row);
            let is_under_cursor = at == self.cursor;
            let line = line(row, &self.widths, columns.saturating_sub(GUTTER), &hits);
            let mark = if self.marked.contains(&row.instance.id) {
                "*"
            } else {
                " "
            };
            frame.push(if is_under_cursor {
                format!(">{mark} {}{line}{}", REVERSED.0, REVERSED.1)
            } else {
                format!(" {mark} {line}")
            });
        }
        frame.extend(tags);
        frame.push(format!(
            "{}{}{}",
            FAINT.0,
            cut(&self.last_line(), columns),
            FAINT.1
        ));
        frame
    }

    /// How many there are, and which keys do something.
    fn last_line(&self) -> String {
        let mut parts = Vec::new();
        let of = match (self.matches.len(), self.rows.len()) {
            (0, 1..) => "nothing matches".to_owned(),
            (1, 1) => "1 server".to_owned(),
            (found, all) if found == all => format!("{all} servers"),
            (found, all) => format!("{found} of {all}"),
        };
        let listing = if self.is_complete { "" } else { ", listing…" };
        parts.push(format!("{of}{listing}"));
        if !self.marked.is_empty() {
            parts.push(format!("{} marked", self.marked.len()));
        }
        parts.extend(self.note.clone());
        parts.extend(self.what_enter_does().map(str::to_owned));
        if self.question.takes_several {
            parts.push("Tab marks".to_owned());
        }
        parts.push("Ctrl-T tags".to_owned());
        parts.push("Esc leaves".to_owned());
        if self.typed.is_empty() {
            parts.push("type to search".to_owned());
        }
        parts.join("  ")
    }

    /// What [`Self::taken`] would do now.
    fn what_enter_does(&self) -> Option<&'static str> {
        if !self.marked.is_empty() {
            Some("Enter takes those marked")
        } else if self.under_cursor().is_some() {
            Some("Enter takes")
        } else if self.is_entered {
            Some("the first that matches is taken")
        } else if !self.is_complete {
            Some("Enter takes the first that matches")
        } else {
            None
        }
    }

    /// The tags of the row under the cursor, several on a line; nothing unless they are asked for.
    fn tag_lines(&self, columns: usize, rows: usize) -> Vec<String> {
        let Some(row) = self.under_cursor().filter(|_| self.shows_tags) else {
            return Vec::new();
        };
        let room = TAG_LINES.min(rows.saturating_sub(6)).max(1);
        let mut lines = vec![String::new()];
        let indent = " ".repeat(GUTTER);
        for (key, value) in &row.instance.tags {
            let text = escape(&format!("{key}={value}"));
            let line = lines.last_mut();
            match line {
                Some(line) if line.is_empty() => *line = format!("{indent}{text}"),
                Some(line) if line.width() + 2 + text.width() <= columns => {
                    line.push_str("  ");
                    line.push_str(&text);
                }
                _ => lines.push(format!("{indent}{text}")),
            }
        }
        if lines[0].is_empty() {
            lines[0] = format!("{indent}no tags");
        }
        if lines.len() > room {
            lines.truncate(room);
            if let Some(line) = lines.last_mut() {
                line.push_str("  …");
            }
        }
        lines.iter().map(|line| cut(line, columns)).collect()
    }
}

/// The titles of the columns that have anything, in at most `columns` columns and cut where rows
/// are.
fn titles(widths: &[usize; TITLES.len()], columns: usize) -> String {
    let mut line = Line::of(columns);
    for (title, &width) in TITLES.iter().zip(widths) {
        if width > 0 {
            line.push(title, &[], width);
        }
    }
    line.text
}

/// A row in at most `columns` columns, with what was found marked. A tag in which something was
/// found takes the place of the last columns.
fn line(row: &Row, widths: &[usize; TITLES.len()], columns: usize, hits: &Hits) -> String {
    let mut line = Line::of(columns);
    for (column, &width) in widths.iter().enumerate() {
        if width == 0 {
            continue;
        }
        if let Some((text, found)) = hits.aside.as_ref().filter(|_| column == ADDRESS) {
            // What was found in the address itself stays beside it.
            if hits.cells[ADDRESS].is_empty() {
                line.push(text, found, 0);
                break;
            }
        }
        let cell = &row.cells[column];
        let text = if column == NAME {
            cut(cell, width)
        } else if cell.is_empty() && column != USED {
            "-".to_owned()
        } else {
            cell.clone()
        };
        line.push(&text, &hits.cells[column], width);
    }
    line.text
}

/// A line that is put together from cells, and cut where its room ends.
struct Line {
    text: String,
    /// Blanks that are owed before the next cell.
    blanks: usize,
    room: usize,
    is_cut: bool,
}

impl Line {
    fn of(room: usize) -> Self {
        Self {
            text: String::new(),
            blanks: 0,
            room,
            is_cut: false,
        }
    }

    /// Adds a cell of `width` columns, with the characters at `found` marked.
    fn push(&mut self, text: &str, found: &[u32], width: usize) {
        // A cell of which no more than two letters fit beside the mark of the cut is left out.
        // A column that is narrow fits whole into less.
        let least = match width {
            0 => LEAST_CELL,
            width => width.min(LEAST_CELL),
        };
        if self.is_cut || self.blanks + least > self.room {
            self.is_cut = true;
            return;
        }
        self.room -= self.blanks;
        self.text.extend(std::iter::repeat_n(' ', self.blanks));
        let whole = text.width();
        let fits = whole <= self.room;
        let mut left = if fits { self.room } else { self.room - 1 };
        let mut is_marked = false;
        for (index, c) in text.chars().enumerate() {
            let columns = c.width().unwrap_or_default();
            if columns > left {
                break;
            }
            left -= columns;
            let is_found = found.iter().any(|&at| at as usize == index);
            if is_found != is_marked {
                self.text.push_str(if is_found { FOUND.0 } else { FOUND.1 });
                is_marked = is_found;
            }
            self.text.push(c);
        }
        if is_marked {
            self.text.push_str(FOUND.1);
        }
        if fits {
            self.room -= whole;
            self.blanks = width.saturating_sub(whole) + 2;
        } else {
            self.text.push('…');
            self.is_cut = true;
        }
    }
}

fn cut(text: &str, columns: usize) -> String {
    ops_ui::text::cut(text, columns)
}

#[cfg(test)]
mod tests;
