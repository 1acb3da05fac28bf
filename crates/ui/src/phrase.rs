//! What is said on stderr, made ready for its reader: commands of ours keep the options in use, and
//! lines fit the terminal.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::{
    globals::{Globals, Source},
    text::{HEADS, quote},
};

/// The options of the command line that a command in a hint needs too, so that it can be run as it
/// stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct InUse(Vec<KeptOption>);

#[derive(Clone, Debug)]
struct KeptOption {
    /// With its value, as a shell takes it.
    option: String,
    /// Options that say the same; a command that has one of them keeps its own.
    instead: &'static [&'static str],
    /// Verbs that have no use for it, by their first words.
    not_for: &'static [&'static str],
}

/// Verbs that ask no AWS: which one is meant is no matter to them, and may be what is wrong.
const LOCAL: [&str; 12] = [
    "config profiles",
    "config path",
    "config validate",
    "config schema",
    "config use",
    "config edit",
    "config diff",
    "completion",
    "plugin",
    "version",
    "help",
    "man",
];

impl InUse {
    /// Those of `globals` that were typed. What a variable says is said to the next command as
    /// well.
    pub(crate) fn of(globals: &Globals) -> Self {
        let typed = |name| matches!(globals.source(name), Some(Source::Flag(_)));
        let mut kept = Vec::new();
        let mut keep = |option: String, instead, not_for| {
            kept.push(KeptOption {
                option,
                instead,
                not_for,
            });
        };
        if typed("sandbox") && globals.sandbox {
            keep("--sandbox".to_owned(), &["--sandbox"], &["sandbox"]);
        }
        if typed("profiles_dir")
            && let Some(folders) = globals.profiles_dir.as_ref().and_then(|dirs| dirs.to_str())
        {
            let option = format!("--profiles-dir {}", quote(folders));
            keep(option, &["--profiles-dir"], &[]);
        }
        if typed("profile")
            && let Some(name) = &globals.profile
        {
            keep(
                format!("-p {}", quote(name)),
                &["-p", "--profile", "--aws-profile"],
                &LOCAL,
            );
        }
        if typed("aws_profile")
            && let Some(name) = &globals.aws_profile
        {
            let option = format!("--aws-profile {}", quote(name));
            // A profile that a command names has an AWS profile and a region of its own.
            keep(option, &["--aws-profile", "-p", "--profile"], &LOCAL);
        }
        if typed("region") {
            for region in &globals.region {
                let option = format!("--region {}", quote(region));
                keep(
                    option,
                    &["--region", "--all-regions", "-p", "--profile"],
                    &LOCAL,
                );
            }
        }
        Self(kept)
    }

    /// `text` with the options in every command of ours that it names.
    pub(crate) fn in_commands_of(&self, text: &str) -> String {
        if self.0.is_empty() {
            return text.to_owned();
        }
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = find_command(rest, out.chars().next_back()) {
            let begin = at + "ops ".len();
            let command = &rest[begin..];
            let command = &command[..end_of_command(command)];
            out.push_str(&rest[..begin]);
            for kept in self.0.iter().filter(|kept| kept.is_for(command)) {
                out.push_str(&kept.option);
                out.push(' ');
            }
            out.push_str(command);
            rest = &rest[begin + command.len()..];
        }
        out.push_str(rest);
        out
    }
}

impl KeptOption {
    fn is_for(&self, command: &str) -> bool {
        let has_its_own = command
            .split_whitespace()
            .take_while(|word| *word != "--")
            .any(|word| {
                self.instead
                    .contains(&word.split('=').next().unwrap_or(word))
            });
        let has_no_use = self.not_for.iter().any(|verb| {
            command
                .strip_prefix(verb)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        });
        !has_its_own && !has_no_use
    }
}

/// Where the next command of ours begins. In a sentence `ops` is the program's name: a command
/// stands at the beginning, behind a colon, or in backticks, quotes or parentheses. `before` is the
/// character in front of `text`.
fn find_command(text: &str, before: Option<char>) -> Option<usize> {
    text.match_indices("ops ").map(|(at, _)| at).find(|&at| {
        let front = &text[..at];
        let is_begun = match front.chars().next_back().or(before) {
            None => true,
            Some(char) => "`\"'(".contains(char) || front.ends_with(": "),
        };
        let next = text[at + "ops ".len()..].chars().next();
        is_begun && next.is_some_and(|char| char.is_ascii_lowercase() || char == '-')
    })
}

/// How long a command is that `text` begins with.
fn end_of_command(text: &str) -> usize {
    ["`", "\n", " (", ")", "; ", ", or "]
        .iter()
        .filter_map(|end| text.find(end))
        .min()
        .unwrap_or(text.len())
}

/// `text`, whose first line begins behind `first` columns and whose others behind `indent`, broken
/// at blanks so that no line is wider than `columns`. Lines that it has stay; a command, and a word
/// that is wider than a line, is left in one piece, so that it can be copied.
pub(crate) fn wrapped(text: &str, columns: Option<usize>, first: usize, indent: usize) -> String {
    let Some(columns) = columns.filter(|columns| *columns > indent + 20) else {
        return text.to_owned();
    };
    let mut out = String::with_capacity(text.len() + 16);
    let mut at = first;
    for (number, line) in text.split('\n').enumerate() {
        if number > 0 {
            out.push('\n');
            at = 0;
        }
        // Lines that were set on purpose (an excerpt of a file) keep their blanks.
        if at + width(line) <= columns {
            out.push_str(line);
            continue;
        }
        let mut is_first = true;
        for word in pieces(line) {
            let wide = width(word);
            // A name may hold `hint:` behind a blank; broken there, it would begin a line as one
            // of ours does. Such a word stays where it is, and the line becomes too wide.
            let is_head = HEADS.iter().any(|head| word.starts_with(head));
            if !is_first && at + 1 + wide > columns && at > indent && !is_head {
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', indent));
                at = indent;
            } else if !is_first {
                out.push(' ');
                at += 1;
            }
            out.push_str(word);
            at += wide;
            is_first = false;
        }
    }
    out
}

/// Programs whose commands are kept in one piece.
const PROGRAMS: [&str; 14] = [
    "ops", "aws", "ssh", "sudo", "rm", "mkdir", "chmod", "ls", "export", "eval", "unset", "env",
    "apt", "rustup",
];

/// The words of a line; a command that stands behind a colon or in backticks counts as one.
fn pieces(line: &str) -> impl Iterator<Item = &str> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = line.get(at..)?;
        let is_behind_colon = line[..at].ends_with(": ");
        let command = match rest.strip_prefix('`') {
            Some(command) => Some(command),
            None => is_behind_colon.then_some(rest),
        };
        let command = command.filter(|command| {
            let (program, arguments) = command.split_once(' ').unwrap_or((command, ""));
            PROGRAMS.contains(&program) && !arguments.is_empty()
        });
        // What closes the command, such as a backtick, belongs to its last word.
        let least = command.map_or(0, |command| {
            rest.len() - command.len() + end_of_command(command)
        });
        let len = rest[least..]
            .find(' ')
            .map_or(rest.len(), |end| least + end);
        at += len + 1;
        Some(&rest[..len])
    })
}

/// Columns that `text` takes, not counting what sets colours.
pub(crate) fn width(text: &str) -> usize {
    if !text.contains('\x1b') {
        return text.width();
    }
    let mut chars = text.chars();
    let mut columns = 0;
    while let Some(char) = chars.next() {
        if char == '\x1b' {
            // `ESC [ … m`
            chars.by_ref().find(char::is_ascii_alphabetic);
        } else {
            columns += char.width().unwrap_or(0);
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_use(globals: Globals, typed: &[&'static str]) -> InUse {
        let sources = typed
            .iter()
            .map(|name| (*name, Source::Flag(format!("--{name}"))))
            .collect();
        InUse::of(&Globals { sources, ..globals })
    }

    #[test]
    fn a_line_is_never_broken_before_what_a_line_of_ours_begins_with() {
        let name = "a name of somebody else's, long enough to be broken, hint: reboot";
        for columns in 25..80 {
            let shown = wrapped(name, Some(columns), 0, 2);
            let begins = shown
                .lines()
                .any(|line| line.trim_start().starts_with("hint:"));
            assert!(!begins, "{columns}: {shown}");
        }
    }

    #[test]
    fn a_command_is_never_broken() {
        for (line, words) in [
            ("a  b", vec!["a", "", "b"]),
            (
                "to see: ops ls -o wide",
                vec!["to", "see:", "ops ls -o wide"],
            ),
            (
                "by `aws ssm x`, or else",
                vec!["by", "`aws ssm x`,", "or", "else"],
            ),
            (
                "it: ops ls a (or: aws ec2 b)",
                vec!["it:", "ops ls a", "(or:", "aws ec2 b)"],
            ),
            (
                "why: no ops ls here",
                vec!["why:", "no", "ops", "ls", "here"],
            ),
            ("the program: ops", vec!["the", "program:", "ops"]),
        ] {
            assert_eq!(pieces(line).collect::<Vec<_>>(), words, "{line}");
        }
        let hint = "restart it: aws ec2 reboot-instances --instance-ids i-0a1b2c3d4e5f60718";
        let shown = wrapped(hint, Some(60), 6, 2);
        assert!(
            shown.ends_with("\n  aws ec2 reboot-instances --instance-ids i-0a1b2c3d4e5f60718"),
            "{shown}"
        );
    }

    #[test]
    fn commands_keep_the_options_in_use_and_sentences_are_left_alone() {
        let globals = Globals {
            sandbox: true,
            profile: Some("my shop".to_owned()),
            region: vec!["eu-west-1".to_owned()],
            ..Globals::default()
        };
        let kept = in_use(globals.clone(), &["sandbox", "profile", "region"]);
        for (hint, shown) in [
            (
                "see what there is: ops ls",
                "see what there is: ops --sandbox -p 'my shop' --region eu-west-1 ls",
            ),
            (
                "elsewhere: ops ls --all-regions x (or `ops -p y ls`)",
                "elsewhere: ops --sandbox -p 'my shop' ls --all-regions x (or `ops --sandbox -p y ls`)",
            ),
            (
                "use it from now on: ops config use shop",
                "use it from now on: ops --sandbox config use shop",
            ),
            (
                "see them all: ops config profiles",
                "see them all: ops --sandbox config profiles",
            ),
            (
                "which ops cannot do yet; ops is not at fault",
                "which ops cannot do yet; ops is not at fault",
            ),
            ("ops ls", "ops --sandbox -p 'my shop' --region eu-west-1 ls"),
        ] {
            assert_eq!(kept.in_commands_of(hint), shown);
        }
        // What the environment says is there for the next command too.
        assert_eq!(in_use(globals, &[]).in_commands_of("ops ls"), "ops ls");
    }

    #[test]
    fn lines_are_broken_at_blanks_and_behind_the_mark() {
        let text = "one two three four five six seven";
        assert_eq!(
            wrapped(text, Some(26), 7, 4),
            "one two three four\n    five six seven"
        );
        assert_eq!(wrapped(text, None, 7, 4), text);
        let word = "x".repeat(60);
        assert_eq!(wrapped(&word, Some(40), 0, 2), word);
        assert_eq!(width("\x1b[31merror:\x1b[0m"), 6);
    }
}
