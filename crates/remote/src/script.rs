//! Text of scripts for a server.
//!
//! They are written to be read, in files of their own, and sent without comments and indentation.

/// `source` without comments, indentation and empty lines. A comment stands on a line of its own,
/// and no text of more than one line holds a line that begins with white space or `#`: the scripts'
/// tests run what comes out of this.
pub fn compact(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    for line in source.lines().map(str::trim_start) {
        if !line.is_empty() && !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// `text`, as [`compact`] gives it, with `part` in place of its line `mark`.
///
/// # Panics
/// There is no such line, or the first one is the first line of the text.
pub(crate) fn fill_in(text: &str, mark: &str, part: &str) -> String {
    let line = format!("\n{mark}\n");
    let (before, after) = text.split_once(&line).expect("a script has its marks");
    // A part that is empty leaves no empty line.
    let part = part.trim_end_matches('\n');
    let feed = if part.is_empty() { "" } else { "\n" };
    format!("{before}\n{part}{feed}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_takes_the_place_of_its_mark_alone() {
        let text = "a\nPART\nb\nPART\n";
        assert_eq!(fill_in(text, "PART", "c\nd\n"), "a\nc\nd\nb\nPART\n");
        assert_eq!(fill_in(text, "PART", ""), "a\nb\nPART\n");
    }

    #[test]
    fn what_is_sent_is_what_is_written_without_comments() {
        let source = "# a\n\nf() {\n    # why\n    if x; then # stays\n\ty 'a # b'\n    fi\n}\n";
        assert_eq!(
            compact(source),
            "f() {\nif x; then # stays\ny 'a # b'\nfi\n}\n"
        );
    }
}
