//! A problem in a file as people read it: the place, what is wrong, and the line with a caret under
//! it.

use unicode_width::UnicodeWidthStr as _;

use ops_ui::{
    Error, Text,
    text::is_unprintable,
    yaml::{Problem, SourceSpan},
};

/// Characters of a line that an excerpt shows at most.
const EXCERPT_CHARS: usize = 100;

/// The error for a problem in a file that is `what`, such as "a team profile".
pub(crate) fn error(problem: &Problem, what: &str) -> Error {
    let Some(place) = &problem.place else {
        return Error::usage(format!("{what} is not valid")).caused_by(&problem.message);
    };
    let mut error = Error::usage(format!(
        "`{}` is not {what} that can be used",
        place.source.path.display()
    ))
    .caused_by_lines(Text::lines([
        Text::from(format!(
            "line {}, column {}: {}",
            place.line, place.column, problem.message
        )),
        excerpt(place),
    ]));
    if let Some(hint) = &problem.hint {
        error = error.hint(hint);
    }
    error
}

/// Three lines: the place, its line, and a caret under what is meant.
pub(crate) fn excerpt(place: &SourceSpan) -> Text {
    // One character for one: the caret line has to keep step. An escape would be several.
    let line: Vec<char> = place
        .line_text()
        .chars()
        .map(|c| if is_unprintable(c) { ' ' } else { c })
        .collect();
    let column = (place.column - 1).min(line.len());
    let first = column.saturating_sub(EXCERPT_CHARS * 2 / 3);
    let last = (first + EXCERPT_CHARS).min(line.len());
    let before: String = line[first..column].iter().collect();
    let meant: String = line[column..last].iter().take(place.width()).collect();
    let shown: String = line[first..last].iter().collect();
    let number = place.line.to_string();
    let margin = " ".repeat(number.len());
    Text::lines([
        format!("    {margin} --> {place}"),
        format!("    {number} | {}", shown.trim_end()),
        format!(
            "    {margin} | {}{}",
            " ".repeat(before.width()),
            "^".repeat(meant.trim_end().width().max(1))
        ),
    ])
}
