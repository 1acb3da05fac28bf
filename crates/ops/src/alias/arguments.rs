//! Where the arguments of an alias go: at `$1` to `$9` and `$@` among its words, else behind them.

use std::ffi::{OsStr, OsString};

/// A piece of a word of an alias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece<'a> {
    /// Text that stays as it is.
    Text(&'a str),
    /// `$1` is 1.
    Argument(usize),
    /// `$@`: all arguments.
    All,
}

/// The pieces of `word`. `$$1` and `$$@` are texts with one dollar sign, for a line that a shell on
/// the server reads; any other dollar sign is a text too.
fn split_placeholders(word: &str) -> Vec<Piece<'_>> {
    let argument = |text: &str| match text.chars().next() {
        Some('@') => Some(Piece::All),
        Some(digit @ '1'..='9') => digit.to_digit(10).map(|n| Piece::Argument(n as usize)),
        _ => None,
    };
    let (mut found, mut rest) = (Vec::new(), word);
    let mut from = 0;
    while let Some(at) = rest[from..].find('$').map(|at| from + at) {
        let after = &rest[at + 1..];
        if let Some(piece) = argument(after) {
            found.push(Piece::Text(&rest[..at]));
            found.push(piece);
            rest = &after[1..];
            from = 0;
        } else if after
            .strip_prefix('$')
            .is_some_and(|text| argument(text).is_some())
        {
            // The first dollar sign goes, and what follows is no place for an argument.
            found.push(Piece::Text(&rest[..at]));
            found.push(Piece::Text(&after[..2]));
            rest = &after[2..];
            from = 0;
        } else {
            from = at + 1;
        }
    }
    found.push(Piece::Text(rest));
    found.retain(|piece| *piece != Piece::Text(""));
    found
}

/// How many arguments the words have a place for; `None` where arguments are appended.
fn highest_placeholder(meaning: &[String]) -> Option<usize> {
    let all = meaning.iter().flat_map(|word| split_placeholders(word));
    all.filter_map(|piece| match piece {
        Piece::Argument(number) => Some(number),
        Piece::All => Some(0),
        Piece::Text(_) => None,
    })
    .max()
}

/// Whether the words say where arguments go.
pub(super) fn has_places(meaning: &[String]) -> bool {
    highest_placeholder(meaning).is_some()
}

/// The words of an alias with `arguments` in their places. Those that have none come last, as all
/// of them do where no word has a place, unless `$@` has had them.
///
/// # Errors
/// So many arguments are needed.
pub(super) fn place_arguments(
    meaning: &[String],
    arguments: &[OsString],
) -> Result<Vec<OsString>, usize> {
    let needed = highest_placeholder(meaning).unwrap_or_default();
    if arguments.len() < needed {
        return Err(needed);
    }
    let mut line = put_arguments(meaning, arguments);
    let are_all_placed = meaning
        .iter()
        .any(|word| split_placeholders(word).contains(&Piece::All));
    if !are_all_placed {
        line.extend_from_slice(&arguments[needed..]);
    }
    Ok(line)
}

/// The words up to the place of the argument that is being typed, behind the `typed` ones. `None`
/// where it has no place that is a word of its own.
pub(super) fn place_before_cursor(meaning: &[String], typed: &[OsString]) -> Option<Vec<OsString>> {
    let number = typed.len() + 1;
    let own = |word: &String| {
        let pieces = split_placeholders(word);
        pieces == [Piece::Argument(number)] || pieces == [Piece::All]
    };
    match meaning.iter().position(own) {
        Some(at) => {
            let before = &meaning[..at];
            let mut line = place_arguments(before, typed).ok()?;
            // What has its place behind the cursor, or in it, is none of the words before.
            line.truncate(put_arguments(before, typed).len());
            if split_placeholders(&meaning[at]) == [Piece::All] {
                line.extend_from_slice(typed);
            }
            Some(line)
        }
        None => place_arguments(meaning, typed).ok(),
    }
}

/// `words` with the arguments put in, and nothing behind them. There are enough arguments.
fn put_arguments(words: &[String], arguments: &[OsString]) -> Vec<OsString> {
    let mut line = Vec::new();
    for word in words {
        let pieces = split_placeholders(word);
        if pieces == [Piece::All] {
            line.extend_from_slice(arguments);
            continue;
        }
        let mut whole = OsString::new();
        for piece in pieces {
            match piece {
                Piece::Text(text) => whole.push(text),
                Piece::Argument(number) => whole.push(&arguments[number - 1]),
                Piece::All => whole.push(arguments.join(OsStr::new(" "))),
            }
        }
        line.push(whole);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[&str]) -> Vec<String> {
        line.iter().map(|word| (*word).to_owned()).collect()
    }

    #[track_caller]
    fn placed(meaning: &[&str], arguments: &[&str], line: &[&str]) {
        let arguments: Vec<_> = arguments.iter().map(OsString::from).collect();
        let line: Vec<_> = line.iter().map(OsString::from).collect();
        assert_eq!(place_arguments(&words(meaning), &arguments), Ok(line));
    }

    #[test]
    fn arguments_go_where_their_numbers_stand_and_others_come_last() {
        placed(
            &["ls", "web-*"],
            &["-o", "name"],
            &["ls", "web-*", "-o", "name"],
        );
        placed(
            &["exec", "$1", "--", "top"],
            &["w"],
            &["exec", "w", "--", "top"],
        );
        placed(
            &["exec", "$1", "--", "top"],
            &["w", "-b"],
            &["exec", "w", "--", "top", "-b"],
        );
        placed(
            &["cp", "$2:/$1", "$2.$1"],
            &["a b", "w"],
            &["cp", "w:/a b", "w.a b"],
        );
        placed(
            &["exec", "w", "--", "$@", "end"],
            &["a", "b c"],
            &["exec", "w", "--", "a", "b c", "end"],
        );
        placed(&["exec", "w", "--", "$@"], &[], &["exec", "w", "--"]);
        placed(
            &["exec", "$1", "--", "x=$@"],
            &["w", "b"],
            &["exec", "w", "--", "x=w b"],
        );
    }

    #[test]
    fn a_dollar_sign_of_a_shell_on_the_server_stays() {
        placed(
            &[
                "exec",
                "$1",
                "--shell",
                "echo $HOME $$ $0 | awk '{print $$2}' $$@ $",
            ],
            &["w"],
            &[
                "exec",
                "w",
                "--shell",
                "echo $HOME $$ $0 | awk '{print $2}' $@ $",
            ],
        );
    }

    #[test]
    fn what_an_argument_says_is_never_a_place() {
        placed(&["exec", "$1", "$2"], &["$2", "$1"], &["exec", "$2", "$1"]);
    }

    #[test]
    fn a_place_without_an_argument_is_told_with_how_many_are_needed() {
        assert_eq!(
            place_arguments(&words(&["exec", "$1", "$3"]), &["a".into()]),
            Err(3)
        );
    }

    #[test]
    fn what_is_being_typed_completes_in_its_place() {
        let before = |meaning: &[&str], typed: &[&str]| {
            let typed: Vec<_> = typed.iter().map(OsString::from).collect();
            let line = place_before_cursor(&words(meaning), &typed)?;
            Some(line.join(OsStr::new(" ")).into_string().expect("text"))
        };
        let top = ["exec", "-it", "$1", "--", "top"];
        assert_eq!(before(&top, &[]).as_deref(), Some("exec -it"));
        assert_eq!(before(&top, &["w"]).as_deref(), Some("exec -it w -- top"));
        assert_eq!(before(&["ls", "w"], &["-o"]).as_deref(), Some("ls w -o"));
        assert_eq!(before(&["exec", "$@"], &["a"]).as_deref(), Some("exec a"));
        assert_eq!(
            before(&["exec", "$2", "$1"], &["a"]).as_deref(),
            Some("exec")
        );
        assert_eq!(before(&["cp", "$1:/a", "."], &[]), None);
    }
}
