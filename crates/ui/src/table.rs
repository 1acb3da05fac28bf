//! Aligned columns: to the terminal's width by leaving out the least useful ones, in full
//! everywhere else.

use unicode_width::UnicodeWidthStr as _;

use crate::{
    error::Result,
    output::Output,
    style::Style,
    text::{cut, escape},
};

/// Between two columns.
const GAP: usize = 2;
/// What a column is cut to at most.
const NARROWEST: usize = 4;
/// From so many lines on a table is written row by row, without comfy-table: that keeps every cell
/// and every line of a table until the last is drawn, and a list of 100,000 servers is to be held
/// once, not three times.
const WHOLE_ROWS: usize = 2_000;
/// Rows written at a time.
const BATCH: usize = 512;

/// A column of a table.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its header.
    pub title: String,
    /// The lower, the sooner it is left out; [`Column::KEPT`] ones stay.
    pub worth: u8,
    /// Whether its text may be cut, with `…`, when nothing is left to leave out.
    pub may_shrink: bool,
}

impl Column {
    /// A worth that is never left out.
    pub const KEPT: u8 = u8::MAX;

    /// A column that is left out sooner the lower `worth` is.
    pub fn new(title: impl Into<String>, worth: u8) -> Self {
        Self {
            title: title.into(),
            worth,
            may_shrink: false,
        }
    }

    /// Lets its text be cut.
    #[must_use]
    pub fn shrinking(mut self) -> Self {
        self.may_shrink = true;
        self
    }
}

/// A cell: its text, made safe for a terminal, and its style.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A plain cell; `-` stands for nothing.
    pub fn new(text: impl AsRef<str>) -> Self {
        Self::styled(text, Style::Plain)
    }

    /// A cell in a style.
    pub fn styled(text: impl AsRef<str>, style: Style) -> Self {
        let text = text.as_ref();
        Self {
            text: if text.is_empty() {
                "-".to_owned()
            } else {
                escape(text)
            },
            style,
        }
    }

    /// A cell of what may be missing.
    pub fn maybe(text: Option<&str>) -> Self {
        Self::new(text.unwrap_or_default())
    }

    /// The same cell, standing out among others.
    #[must_use]
    pub fn marked(self) -> Self {
        Self {
            style: Style::Bold,
            ..self
        }
    }

    /// The text as it is shown.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// How wide each column is drawn; `None` for one that is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout(Vec<Option<usize>>);

impl Layout {
    /// The layout of `columns` for rows of these `widths`, on a terminal of
    /// `available` columns or, with `None`, in full.
    pub fn fit(columns: &[Column], widths: &[usize], available: Option<usize>) -> Self {
        let mut kept: Vec<Option<usize>> = widths.iter().copied().map(Some).collect();
        let Some(available) = available else {
            return Self(kept);
        };
        let total = |kept: &[Option<usize>]| {
            let shown = kept.iter().flatten().count();
            kept.iter().flatten().sum::<usize>() + GAP * shown.saturating_sub(1)
        };
        while total(&kept) > available {
            let least = (0..columns.len())
                .filter(|&i| kept[i].is_some() && columns[i].worth < Column::KEPT)
                // Of equal ones the last.
                .min_by_key(|&i| (columns[i].worth, std::cmp::Reverse(i)));
            let Some(least) = least else { break };
            kept[least] = None;
        }
        // What is kept is cut, the widest first, so that each keeps what it needs to be told from
        // others.
        while total(&kept) > available {
            let widest = (0..columns.len())
                .filter(|&i| {
                    columns[i].may_shrink && kept[i].is_some_and(|width| width > NARROWEST)
                })
                .max_by_key(|&i| (kept[i], std::cmp::Reverse(i)));
            let Some(widest) = widest else { break };
            kept[widest] = kept[widest].map(|width| width - 1);
        }
        Self(kept)
    }

    /// The titles of the columns that are left out.
    fn left_out<'a>(&self, columns: &'a [Column]) -> Vec<&'a str> {
        let pairs = self.0.iter().zip(columns);
        pairs
            .filter(|(width, _)| width.is_none())
            .map(|(_, column)| column.title.as_str())
            .collect()
    }

    /// The cells of `row` that are shown, cut where they are wider than their column.
    fn shown(&self, row: Vec<Cell>) -> Vec<Cell> {
        row.into_iter()
            .zip(&self.0)
            .filter_map(|(mut cell, width)| {
                let width = (*width)?;
                if cell.text.width() > width {
                    cell.text = cut(&cell.text, width);
                }
                Some(cell)
            })
            .collect()
    }

    /// The lines of `rows`, drawn by comfy-table; `None` for columns that are wider than it counts.
    fn draw(&self, rows: &[Vec<Cell>]) -> Option<Vec<String>> {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.add_rows(rows.iter().map(|row| row.iter().map(Cell::text)));
        let gap = u16::try_from(GAP).ok()?;
        for (column, width) in table.column_iter_mut().zip(self.0.iter().flatten()) {
            let width = u16::try_from(*width).ok()?.checked_add(gap)?;
            column.set_padding((0, gap));
            // A text that was cut may be narrower than its column.
            column.set_constraint(comfy_table::ColumnConstraint::LowerBoundary(
                comfy_table::Width::Fixed(width),
            ));
        }
        Some(table.lines().collect())
    }

    /// One line of `cells`, put together here: the quick way for lists that are written row by row.
    fn line(&self, cells: &[Cell], paint: &impl Fn(Style, &str) -> String, line: &mut String) {
        let widths = self.0.iter().flatten();
        for (index, (cell, width)) in cells.iter().zip(widths).enumerate() {
            line.push_str(&paint(cell.style, &cell.text));
            if index + 1 < cells.len() {
                let blanks = width.saturating_sub(cell.text.width()) + GAP;
                line.extend(std::iter::repeat_n(' ', blanks));
            }
        }
        line.push('\n');
    }

    /// All of `rows`, with the colours of `paint` laid over what comfy-table has drawn: it counts
    /// the columns of what it is given, and escape sequences have none.
    fn whole(&self, rows: &[Vec<Cell>], paint: &impl Fn(Style, &str) -> String) -> String {
        let mut text = String::new();
        let drawn = self.draw(rows).filter(|lines| lines.len() == rows.len());
        let Some(lines) = drawn else {
            for row in rows {
                self.line(row, paint, &mut text);
            }
            return text;
        };
        for (line, row) in lines.iter().zip(rows) {
            // What comes behind the last cell is padding.
            let mut rest = line.as_str();
            for cell in row {
                let (before, behind) = rest.split_once(cell.text()).unwrap_or((rest, ""));
                text.push_str(before);
                text.push_str(&paint(cell.style, &cell.text));
                rest = behind;
            }
            text.push('\n');
        }
        text
    }
}

/// The columns' widths: the widest of header and cells.
pub fn widths(
    columns: &[Column],
    rows: impl Iterator<Item = Vec<Cell>>,
    headers: bool,
) -> Vec<usize> {
    let mut widths: Vec<usize> = columns
        .iter()
        .map(|column| if headers { column.title.width() } else { 0 })
        .collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(&row) {
            *width = (*width).max(cell.text.width());
        }
    }
    widths
}

/// Writes a table to stdout. `rows` is gone through twice, once for the widths, so that no row of a
/// long list has to be kept. Columns for which the terminal is too narrow are told on stderr.
///
/// # Errors
/// A closed pipe.
pub fn write<I>(output: &Output, columns: &[Column], rows: I) -> Result<()>
where
    I: Iterator<Item = Vec<Cell>> + Clone,
{
    let left_out = write_and_tell(output, columns, rows)?;
    if !left_out.is_empty() {
        output.note_behind(format!(
            "left out for want of room: {}; all of it: -o yaml",
            left_out.join(", ").to_lowercase()
        ));
    }
    Ok(())
}

/// As [`write()`], without a header: for rows whose first cell is their title.
///
/// # Errors
/// A closed pipe.
pub fn write_rows<I>(output: &Output, columns: &[Column], rows: I) -> Result<()>
where
    I: Iterator<Item = Vec<Cell>> + Clone,
{
    let widths = widths(columns, rows.clone(), false);
    let layout = Layout::fit(columns, &widths, output.columns());
    let rows: Vec<Vec<Cell>> = rows.map(|row| layout.shown(row)).collect();
    output.page(&layout.whole(&rows, &|style, text| output.paint(style, text)))
}

/// As [`write()`]; gives the titles of the columns for which the terminal is too narrow, and tells
/// nobody of them.
///
/// # Errors
/// A closed pipe.
pub fn write_and_tell<'a, I>(
    output: &Output,
    columns: &'a [Column],
    rows: I,
) -> Result<Vec<&'a str>>
where
    I: Iterator<Item = Vec<Cell>> + Clone,
{
    let widths = widths(columns, rows.clone(), output.headers());
    let layout = Layout::fit(columns, &widths, output.columns());
    let head = output.headers().then(|| {
        let title = |column: &Column| Cell::styled(&column.title, Style::Bold);
        columns.iter().map(title).collect::<Vec<_>>()
    });
    let mut rows = head.into_iter().chain(rows).map(|row| layout.shown(row));
    let paint = |style: Style, text: &str| output.paint(style, text);
    let first: Vec<Vec<Cell>> = rows.by_ref().take(WHOLE_ROWS).collect();
    if first.len() < WHOLE_ROWS {
        output.page(&layout.whole(&first, &paint))?;
        return Ok(layout.left_out(columns));
    }
    let mut text = String::new();
    for (index, row) in first.into_iter().chain(rows).enumerate() {
        layout.line(&row, &paint, &mut text);
        if index % BATCH == BATCH - 1 {
            output.page(&text)?;
            text.clear();
        }
    }
    output.page(&text)?;
    Ok(layout.left_out(columns))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Vec<Column> {
        vec![
            Column::new("NAME", Column::KEPT).shrinking(),
            Column::new("ID", Column::KEPT),
            Column::new("ZONE", 1),
            Column::new("STATE", 5),
        ]
    }

    #[test]
    fn the_least_useful_columns_go_first_and_ids_stay_whole() {
        let fit = |available| Layout::fit(&columns(), &[10, 19, 10, 7], available).0;
        assert_eq!(fit(None), [Some(10), Some(19), Some(10), Some(7)]);
        assert_eq!(fit(Some(52)), [Some(10), Some(19), Some(10), Some(7)]);
        assert_eq!(fit(Some(51)), [Some(10), Some(19), None, Some(7)]);
        assert_eq!(fit(Some(31)), [Some(10), Some(19), None, None]);
        assert_eq!(fit(Some(26)), [Some(5), Some(19), None, None]);
        assert_eq!(fit(Some(3)), [Some(4), Some(19), None, None]);
    }

    #[test]
    fn row_by_row_a_table_looks_as_comfy_table_draws_it() {
        let cell = |text: &str, style| Cell::styled(text, style);
        let rows = vec![
            vec![
                cell("NAME", Style::Bold),
                cell("ID", Style::Bold),
                cell("ZONE", Style::Bold),
                cell("STATE", Style::Bold),
            ],
            vec![
                cell("日本語-server", Style::Accent),
                cell("i-0a1b2c3d4e5f60718", Style::Plain),
                cell("", Style::Dim),
                cell("running ", Style::Good),
            ],
            vec![
                cell(" a", Style::Plain),
                cell("a", Style::Plain),
                cell("a a", Style::Warn),
                cell("a", Style::Bad),
            ],
        ];
        let widths = widths(&columns(), rows.clone().into_iter(), false);
        let colored = |style: Style, text: &str| crate::style::paint(true, style, text);
        let plain = |style: Style, text: &str| crate::style::paint(false, style, text);
        for available in [None, Some(60), Some(40), Some(24)] {
            let layout = Layout::fit(&columns(), &widths, available);
            let shown: Vec<Vec<Cell>> = rows.iter().cloned().map(|row| layout.shown(row)).collect();
            assert!(layout.draw(&shown).is_some_and(|lines| lines.len() == 3));
            let mut lines = [String::new(), String::new()];
            for row in &shown {
                layout.line(row, &plain, &mut lines[0]);
                layout.line(row, &colored, &mut lines[1]);
            }
            assert_eq!(layout.whole(&shown, &plain), lines[0], "{available:?}");
            assert_eq!(layout.whole(&shown, &colored), lines[1], "{available:?}");
        }
    }

    #[test]
    fn a_cut_text_says_so_and_fits() {
        assert_eq!(cut("payments-api-1", 6), "payme…");
        assert_eq!(cut("日本語", 4).width(), 3);
    }

    #[test]
    fn nothing_in_a_cell_can_break_the_line() {
        assert_eq!(Cell::new("a\tb\n\x1b[2J").text(), "a\\tb\\n\\u{1b}[2J");
        assert_eq!(Cell::new("").text(), "-");
    }
}
