//! Splitting a command line as the agent does for commands that it runs without a shell.

use std::iter::Peekable;
use std::str::Chars;

/// Splits `line` into words.
///
/// Double quotes keep blanks, and within them a backslash stands for the character after it,
/// whichever that is (a shell would keep the backslash before most); single quotes keep everything;
/// `#` at the start of a word begins a comment that lasts to the end of the line. Nothing is
/// expanded. Source: the splitting library that the official agent uses.
///
/// # Errors
/// A quote that is not closed or a backslash at the end, in that library's words.
pub(super) fn split(line: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut characters = line.chars().peekable();
    while let Some(&character) = characters.peek() {
        match character {
            ' ' | '\t' | '\r' | '\n' => {
                characters.next();
            }
            '#' => while characters.next().is_some_and(|skipped| skipped != '\n') {},
            _ => words.push(word(&mut characters)?),
        }
    }
    Ok(words)
}

const OPEN_QUOTE: &str = "EOF found when expecting closing quote";
const LONE_BACKSLASH: &str = "EOF found after escape character";

fn word(characters: &mut Peekable<Chars<'_>>) -> Result<String, &'static str> {
    let mut word = String::new();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' | '\r' | '\n' => break,
            '\\' => word.push(characters.next().ok_or(LONE_BACKSLASH)?),
            '\'' => loop {
                match characters.next().ok_or(OPEN_QUOTE)? {
                    '\'' => break,
                    quoted => word.push(quoted),
                }
            },
            '"' => loop {
                match characters.next().ok_or(OPEN_QUOTE)? {
                    '"' => break,
                    '\\' => word.push(characters.next().ok_or(LONE_BACKSLASH)?),
                    quoted => word.push(quoted),
                }
            },
            plain => word.push(plain),
        }
    }
    Ok(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_keep_blanks_and_nothing_is_expanded() {
        assert_eq!(
            split(r#"sh -c 'echo $HOME | wc'  "a b"c \ d"#).unwrap(),
            ["sh", "-c", "echo $HOME | wc", "a bc", " d"]
        );
        assert_eq!(
            split("ls *.gz ; x # comment").unwrap(),
            ["ls", "*.gz", ";", "x"]
        );
        assert_eq!(split("a#b ''").unwrap(), ["a#b", ""]);
        assert_eq!(split(r#""\d\"""#).unwrap(), ["d\""]);
    }

    #[test]
    fn an_open_quote_is_an_error() {
        assert_eq!(split("echo 'x"), Err(OPEN_QUOTE));
        assert_eq!(split("echo \"x"), Err(OPEN_QUOTE));
        assert_eq!(split("echo \\"), Err(LONE_BACKSLASH));
    }
}
