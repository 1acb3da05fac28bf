//! Lists of names in lines that fit the terminal, broken between names and never within one.

use crate::{
    output::Output,
    phrase,
    text::{HEADS, Text, escape},
};

/// Fewer columns than these are no room to break lines in.
const FEWEST_COLUMNS: usize = 20;

/// Columns that `text` takes on a terminal; colours in it take none.
pub fn columns_of(text: &str) -> usize {
    phrase::width(text)
}

/// `pieces`, which are escaped already and bring the separators behind them, in lines of at most
/// `columns`: all one line for `None`. The first line begins behind `first` columns, the others
/// behind `indent` blanks. Blanks at the end of a line are left out.
///
/// A piece that is wider than a line has one of its own, which the terminal breaks: it stays in one
/// piece for whoever copies it. No line begins with what lines of ours begin with, such as `hint:`.
pub fn fill_lines<P: AsRef<str>>(
    pieces: impl IntoIterator<Item = P>,
    columns: Option<usize>,
    first: usize,
    indent: usize,
) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut at = first;
    let columns = columns.filter(|columns| *columns >= indent + FEWEST_COLUMNS);
    for piece in pieces {
        let piece = piece.as_ref();
        let is_full = columns.is_some_and(|columns| at + columns_of(piece.trim_end()) > columns);
        let begins_a_line = line.trim_start().is_empty();
        if is_full && !begins_a_line && !is_head(piece) {
            line.truncate(line.trim_end().len());
            lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
            at = indent;
        }
        line.push_str(piece);
        at += columns_of(piece);
    }
    line.truncate(line.trim_end().len());
    lines.push(line);
    lines
}

fn is_head(piece: &str) -> bool {
    HEADS.iter().any(|head| {
        piece
            .get(..head.len())
            .is_some_and(|begin| begin.eq_ignore_ascii_case(head))
    })
}

impl Output {
    /// A line on stderr with `head`, names between commas, and `tail`; on a terminal that is too
    /// narrow for it several lines, broken between names. Shown with `-q` too.
    pub fn warn_names<'a>(
        &self,
        head: &'static str,
        names: impl IntoIterator<Item = &'a str>,
        tail: impl Into<Text>,
    ) {
        let mut pieces: Vec<String> = vec![head.to_owned()];
        pieces.extend(names.into_iter().map(|name| format!("{}, ", escape(name))));
        if let Some(last) = pieces.last_mut().filter(|last| last.ends_with(", ")) {
            last.truncate(last.len() - ", ".len());
        }
        pieces.push(tail.into().as_str().to_owned());
        let lines = fill_lines(pieces, self.stderr_columns(), 0, 2);
        // The pieces are escaped, and their line ends are ours.
        self.stderr_line(&Text::lines(&lines).told_apart());
    }

    /// A line on stderr with `label` and a value that stays as it is: unlike in a note, a command
    /// in it does not get the options in use. Shown with `-q` too.
    pub fn warn_value(&self, label: &'static str, value: impl Into<Text>) {
        let text = Text::from(label).then(" ").then(value);
        let text = text.told_apart();
        let words = text.split_inclusive(' ');
        let lines = fill_lines(words, self.stderr_columns(), 0, 2);
        self.stderr_line(&lines.join("\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_names_and_never_within_one() {
        let names: Vec<String> = (1..=11).map(|n| format!("web of shop {n}, ")).collect();
        for columns in 22..100 {
            let lines = fill_lines(&names, Some(columns), 0, 2);
            for line in &lines {
                assert!(columns_of(line) <= columns, "{columns}: {line}");
                assert!(line.trim_start().starts_with("web of"), "{columns}: {line}");
                assert!(line.ends_with(','), "{columns}: {line}");
            }
            assert_eq!(
                lines.concat().matches("web of shop").count(),
                11,
                "{columns}"
            );
        }
        assert_eq!(fill_lines(&names, None, 0, 2).len(), 1);
    }

    #[test]
    fn what_is_wider_than_a_line_stays_in_one_piece() {
        let wide = "w".repeat(50);
        let lines = fill_lines(["a,", &wide, ",", "b"], Some(30), 0, 2);
        assert_eq!(
            lines,
            ["a,".to_owned(), format!("  {wide}"), "  ,b".to_owned()]
        );
        assert_eq!(
            fill_lines(["日本語,".repeat(3), "日本".to_owned()], Some(24), 0, 2).len(),
            2
        );
        assert_eq!(
            fill_lines(["a name of many words, ", "hint: reboot"], Some(24), 0, 2),
            ["a name of many words, hint: reboot"]
        );
    }
}
