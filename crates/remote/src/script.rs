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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_what_is_written_without_comments() {
        let source = "# a\n\nf() {\n    # why\n    if x; then # stays\n\ty 'a # b'\n    fi\n}\n";
        assert_eq!(
            compact(source),
            "f() {\nif x; then # stays\ny 'a # b'\nfi\n}\n"
        );
    }
}
