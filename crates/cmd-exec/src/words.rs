//! Where the options of `ops exec` end and the command begins.

use std::ffi::{OsStr, OsString};

/// Options that say what is to run, so that no command follows among the words.
const INSTEAD_OF_A_COMMAND: [&str; 2] = ["shell", "script"];

/// What an option is followed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    Nothing,
    /// Its value is the next word.
    NextWord,
}

/// Puts the words after the verb into the order that clap reads: options and targets, `--`, and
/// the command.
///
/// With `--` among them, the words are in that order already. Without it the first word that is no
/// option is the one TARGET, and from the next word that is none on, everything is the command, its
/// own options included: `ops exec web-1 -t top -d 1`. `clap` knows which options take a value.
pub(crate) fn arrange(args: Vec<OsString>, clap: &clap::Command) -> Vec<OsString> {
    let mut has_target = false;
    let mut has_command = false;
    let mut at = 0;
    while let Some(word) = args.get(at) {
        let bytes = word.as_encoded_bytes();
        if bytes == b"--" {
            return args;
        }
        if let Some(name) = word.to_str().and_then(|word| word.strip_prefix("--")) {
            let name = name.split_once('=').map_or(name, |(name, _)| name);
            has_command |= INSTEAD_OF_A_COMMAND.contains(&name);
            at += usize::from(after_long(word, clap) == Takes::NextWord);
        } else if bytes.len() > 1 && bytes[0] == b'-' {
            at += usize::from(after_short(word, clap) == Takes::NextWord);
        } else if has_target && !has_command {
            // A `--` further on belongs to the command only if it is no end of our own targets,
            // and those who write it there may mean either: see `split_by_hand`.
            return split_by_hand(args, at);
        } else {
            has_target = true;
        }
        at += 1;
    }
    args
}

/// Puts `--` before the word at `at`, unless one stands behind it already: then the words before
/// that one are targets.
fn split_by_hand(mut args: Vec<OsString>, at: usize) -> Vec<OsString> {
    if !args[at..].iter().any(|word| word == OsStr::new("--")) {
        args.insert(at, "--".into());
    }
    args
}

fn after_long(word: &OsStr, clap: &clap::Command) -> Takes {
    let Some(name) = word.to_str().and_then(|word| word.strip_prefix("--")) else {
        return Takes::Nothing;
    };
    if name.contains('=') {
        return Takes::Nothing;
    }
    let takes_value = clap.get_arguments().any(|arg| {
        arg.get_long_and_visible_aliases()
            .is_some_and(|names| names.contains(&name))
            && arg.get_action().takes_values()
    });
    if takes_value {
        Takes::NextWord
    } else {
        Takes::Nothing
    }
}

/// `-it`, `-lRole=web`, `-l Role=web`: the first letter that takes a value takes the rest of the
/// word, or the next word where nothing is left.
fn after_short(word: &OsStr, clap: &clap::Command) -> Takes {
    let Some(letters) = word.to_str().and_then(|word| word.strip_prefix('-')) else {
        return Takes::Nothing;
    };
    for (at, letter) in letters.char_indices() {
        let takes_value = clap.get_arguments().any(|arg| {
            arg.get_short_and_visible_aliases()
                .is_some_and(|all| all.contains(&letter))
                && arg.get_action().takes_values()
        });
        if takes_value {
            let is_last = at + letter.len_utf8() == letters.len();
            return if is_last {
                Takes::NextWord
            } else {
                Takes::Nothing
            };
        }
    }
    Takes::Nothing
}

#[cfg(test)]
mod tests {
    use clap::{Arg, ArgAction};

    use super::*;

    fn line(text: &str) -> String {
        let flag = |id: &'static str, letter| {
            Arg::new(id)
                .long(id)
                .short(letter)
                .action(ArgAction::SetTrue)
        };
        let clap = clap::Command::new("exec")
            .arg(flag("tty", 't'))
            .arg(flag("interactive", 'i'))
            .arg(Arg::new("tag").long("tag").short('l'))
            .arg(Arg::new("shell").long("shell"))
            .arg(Arg::new("user").long("user"));
        let words = text.split(' ').map(OsString::from).collect();
        let words = arrange(words, &clap);
        words.join(OsStr::new(" ")).into_string().expect("UTF-8")
    }

    #[test]
    fn without_two_dashes_the_second_word_begins_the_command() {
        assert_eq!(line("web-1 uptime"), "web-1 -- uptime");
        assert_eq!(line("web-1 ls -l --user x"), "web-1 -- ls -l --user x");
        assert_eq!(
            line("--user me web-1 -it top -d 1"),
            "--user me web-1 -it -- top -d 1"
        );
        assert_eq!(line("-l Role=web a b"), "-l Role=web a -- b");
        assert_eq!(line("-lRole=web a b"), "-lRole=web a -- b");
        assert_eq!(line("web-1 --user=me id"), "web-1 --user=me -- id");
        assert_eq!(line("web-1"), "web-1");
    }

    #[test]
    fn with_two_dashes_every_word_before_them_is_ours() {
        assert_eq!(line("a b -- c -- d"), "a b -- c -- d");
        assert_eq!(line("a -t -- -x"), "a -t -- -x");
        assert_eq!(line("a git log -- path"), "a git log -- path");
    }

    #[test]
    fn a_line_for_the_shell_leaves_all_words_targets() {
        assert_eq!(line("--shell x a b"), "--shell x a b");
        assert_eq!(line("a --shell x b"), "a --shell x b");
        assert_eq!(line("a bash --shell x"), "a -- bash --shell x");
    }
}
