//! Words of a line in a shell's own notation: taken apart up to the cursor, and put together again.

/// Which quotation marks are open at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Open {
    No,
    Single,
    Double,
}

/// A shell's quoting, as far as it differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Bash,
    Fish,
    PowerShell,
}

/// A word as it was typed, and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) raw: String,
    pub(super) text: String,
    /// What is still open at its end.
    pub(super) open: Open,
}

/// The words of `line`; the last one is the one that is being typed, and may be empty. Nothing is
/// expanded.
pub(super) fn split_words(line: &str, dialect: Dialect) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\n']);
        let (word, len) = next_word(rest, dialect, true);
        rest = &rest[len..];
        words.push(word);
        if rest.is_empty() {
            return words;
        }
    }
}

/// What `raw` stands for; a mark that is not closed is open to its end.
pub(super) fn unquoted_word(raw: &str, dialect: Dialect) -> Word {
    next_word(raw, dialect, false).0
}

/// The word at the beginning of `line` and its length; to the end of the line unless `ends` at a
/// blank.
fn next_word(line: &str, dialect: Dialect, ends: bool) -> (Word, usize) {
    let escape = if dialect == Dialect::PowerShell {
        '`'
    } else {
        '\\'
    };
    let mut text = String::new();
    let mut open = Open::No;
    let mut len = line.len();
    let mut chars = line.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match (open, c) {
            (Open::No, ' ' | '\t' | '\n') if ends => {
                len = at;
                break;
            }
            (Open::No, '\'') => open = Open::Single,
            (Open::No, '"') => open = Open::Double,
            (Open::Single, '\'') => {
                if dialect == Dialect::PowerShell
                    && chars.next_if(|(_, next)| *next == '\'').is_some()
                {
                    text.push('\'');
                } else {
                    open = Open::No;
                }
            }
            (Open::Double, '"') => open = Open::No,
            (Open::No, c) if c == escape => text.extend(chars.next().map(|(_, c)| c)),
            (Open::Double, c) if c == escape => {
                // In double quotes a backslash escapes few characters, and is one before the
                // others.
                let special = |next: char| {
                    dialect == Dialect::PowerShell || matches!(next, '$' | '"' | '\\' | '`' | '\n')
                };
                match chars.next_if(|(_, next)| special(*next)) {
                    Some((_, next)) => text.push(next),
                    None => text.push(c),
                }
            }
            (Open::Single, c) if c == escape && dialect == Dialect::Fish => {
                match chars.next_if(|(_, next)| matches!(next, '\'' | '\\')) {
                    Some((_, next)) => text.push(next),
                    None => text.push(c),
                }
            }
            (_, c) => text.push(c),
        }
    }
    let word = Word {
        raw: line[..len].to_owned(),
        text,
        open,
    };
    (word, len)
}

/// `text` as bash reads it inside of what is open: behind no mark, a single one or a double one.
pub(super) fn quote_for_bash(text: &str, open: Open) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.chars().enumerate() {
        match open {
            Open::No => {
                // A tilde means a home folder at the beginning alone.
                if " \t\n\\'\"$&;|<>()*?[]{}!#`^".contains(c) || (c == '~' && at == 0) {
                    out.push('\\');
                }
                out.push(c);
            }
            Open::Single if c == '\'' => out.push_str("'\\''"),
            // Bash expands its history inside double quotes too, and there no backslash keeps it
            // from that: the quotes are left for the one character.
            Open::Double if c == '!' => out.push_str("\"\\!\""),
            Open::Double if "\"\\$`".contains(c) => {
                out.push('\\');
                out.push(c);
            }
            Open::Single | Open::Double => out.push(c),
        }
    }
    out
}

/// For `tests/fuzzing`: any line is taken apart, and any text is one word of bash that stands for
/// it.
///
/// # Panics
/// It is not.
pub(crate) fn check_quoting(text: &str) {
    for dialect in [Dialect::Bash, Dialect::Fish, Dialect::PowerShell] {
        let _ = split_words(text, dialect);
        let _ = unquoted_word(text, dialect);
    }
    let _ = (quote_for_powershell(text), quote_for_nushell(text));
    for (open, mark) in [(Open::No, ""), (Open::Single, "'"), (Open::Double, "\"")] {
        let line = format!("{mark}{}{mark}", quote_for_bash(text, open));
        let words = split_words(&line, Dialect::Bash);
        assert_eq!(words.len(), 1, "{line:?} is one word");
        assert_eq!(words[0].text, text, "{line:?} stands for its text");
    }
}

/// `text` as one word of PowerShell.
pub(super) fn quote_for_powershell(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

/// `text` as one word of Nushell.
pub(super) fn quote_for_nushell(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=+@,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(line: &str, dialect: Dialect) -> Vec<String> {
        split_words(line, dialect)
            .into_iter()
            .map(|word| word.text)
            .collect()
    }

    #[test]
    fn a_line_of_bash_is_taken_apart_as_bash_does() {
        assert_eq!(texts("ops  shell ", Dialect::Bash), ["ops", "shell", ""]);
        assert_eq!(
            texts(r#"ops ls --tag Name="my se"#, Dialect::Bash),
            ["ops", "ls", "--tag", "Name=my se"]
        );
        assert_eq!(
            texts(r#"ops 'it'\''s' a\ b "c\"d\e"#, Dialect::Bash),
            ["ops", "it's", "a b", r#"c"d\e"#]
        );
        assert_eq!(split_words("ops 'a b", Dialect::Bash)[1].open, Open::Single);
        assert_eq!(split_words("ops \"a", Dialect::Bash)[1].open, Open::Double);
    }

    #[test]
    fn other_shells_have_their_own_escapes() {
        assert_eq!(unquoted_word(r"'it\'s", Dialect::Fish).text, "it's");
        assert_eq!(
            texts("ops 'it''s' a` b", Dialect::PowerShell),
            ["ops", "it's", "a b"]
        );
        assert_eq!(quote_for_powershell("it's"), "'it''s'");
        assert_eq!(quote_for_nushell(r#"a "b""#), r#""a \"b\"""#);
    }

    #[test]
    fn what_is_quoted_for_bash_reads_as_it_was() {
        for text in [
            "a b",
            "it's",
            "$HOME `x` \"q\" \\",
            "tag:Key=ünï ✓",
            "a!b#c~d{e}^",
        ] {
            for (open, mark) in [(Open::No, ""), (Open::Single, "'"), (Open::Double, "\"")] {
                let line = format!("{mark}{}{mark}", quote_for_bash(text, open));
                let words = split_words(&line, Dialect::Bash);
                assert_eq!(words.len(), 1, "{line}");
                assert_eq!(words[0].text, text, "{line}");
            }
        }
    }
}
