//! Aligned columns: to the terminal's width by leaving out the least useful ones, in full everywhere else.

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
    /// The layout of `columns` for rows of these `widths`, on a terminal of `available` columns or, with `None`, in full.
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
        // What is kept is cut, the widest first, so that each keeps what it needs to be told from others.
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

    /// One line of `cells`, coloured as `output` is.
    fn line<'a>(&self, cells: impl Iterator<Item = &'a Cell>, output: &Output, line: &mut String) {
        let last = self.0.iter().rposition(Option::is_some).unwrap_or(0);
        for (index, cell) in cells.enumerate() {
            let Some(width) = self.0.get(index).copied().flatten() else {
                continue;
            };
            let mut shown = cell.text.width();
            if shown > width {
                let cut = cut(&cell.text, width);
                shown = cut.width();
                line.push_str(&output.paint(cell.style, &cut));
            } else {
                line.push_str(&output.paint(cell.style, &cell.text));
            }
            if index < last {
                line.extend(std::iter::repeat_n(' ', width.saturating_sub(shown) + GAP));
            }
        }
        line.push('\n');
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

/// Writes a table to stdout. `rows` is gone through twice, once for the widths, so that no row has to be kept.
///
/// # Errors
/// A closed pipe.
pub fn write<I>(output: &Output, columns: &[Column], rows: I) -> Result<()>
where
    I: Iterator<Item = Vec<Cell>> + Clone,
{
    write_and_tell(output, columns, rows).map(drop)
}

/// As [`write`]; gives the titles of the columns for which the terminal is too narrow.
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
    let mut text = String::new();
    if output.headers() {
        let head: Vec<Cell> = columns
            .iter()
            .map(|column| Cell::styled(&column.title, Style::Bold))
            .collect();
        layout.line(head.iter(), output, &mut text);
    }
    for (index, row) in rows.enumerate() {
        layout.line(row.iter(), output, &mut text);
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
