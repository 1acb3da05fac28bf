//! Global long options after a verb that takes another program's arguments as they are.
//!
//! `ops ssh web-1 -v --sandbox -- uptime`: ssh has no option `--sandbox`, so it is ours; it moves
//! before the verb, where clap reads it. Short options stay where they are, and nothing after `--`
//! is touched.

use std::ffi::{OsStr, OsString};

use clap::{ArgAction, Command};

use crate::globals;

/// `words` (all of them, the verb at `verb`) with the global long options that follow the verb
/// moved before it, except those that `own` has itself.
pub(crate) fn hoist_options(words: Vec<OsString>, verb: usize, own: &Command) -> Vec<OsString> {
    let globals: Vec<(String, bool)> = globals::global_args()
        .iter()
        .filter_map(|arg| {
            let long = arg.get_long()?;
            let theirs = own.get_arguments().any(|arg| arg.get_long() == Some(long));
            let takes_value = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
            (!theirs).then(|| (format!("--{long}"), takes_value))
        })
        .collect();
    let (mut before, mut after) = (words[..verb].to_vec(), Vec::new());
    let mut rest = words.into_iter().skip(verb);
    while let Some(word) = rest.next() {
        if word == "--" {
            after.push(word);
            after.extend(rest);
            break;
        }
        let (name, attached) = split_value(&word);
        match globals
            .iter()
            .find(|(long, _)| Some(long.as_str()) == name.to_str())
        {
            Some((_, takes_value)) => {
                before.push(word.clone());
                if *takes_value && !attached {
                    before.extend(rest.next());
                }
            }
            None => after.push(word),
        }
    }
    before.extend(after);
    before
}

/// `--name=value` is a name and something attached.
fn split_value(word: &OsStr) -> (&OsStr, bool) {
    match word.to_str().and_then(|text| text.split_once('=')) {
        Some((name, _)) => (OsStr::new(name), true),
        None => (word, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hoisted(line: &str) -> String {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let own = Command::new("ssh").arg(clap::Arg::new("timeout").long("timeout"));
        let verb = words.iter().position(|word| word == "ssh").expect("a verb");
        let words = hoist_options(words, verb, &own);
        words.join(OsStr::new(" ")).into_string().expect("UTF-8")
    }

    #[test]
    fn long_globals_move_and_everything_else_stays() {
        assert_eq!(
            hoisted("ssh web-1 -v --sandbox -p 22"),
            "--sandbox ssh web-1 -v -p 22"
        );
        assert_eq!(
            hoisted("-v ssh web-1 --region eu-west-1 -o A=b"),
            "-v --region eu-west-1 ssh web-1 -o A=b"
        );
        assert_eq!(hoisted("ssh --profile=x web-1"), "--profile=x ssh web-1");
    }

    #[test]
    fn what_follows_two_dashes_and_what_is_the_verbs_own_is_left_alone() {
        assert_eq!(
            hoisted("ssh web-1 -- ls --sandbox"),
            "ssh web-1 -- ls --sandbox"
        );
        assert_eq!(hoisted("ssh --timeout 3 web-1"), "ssh --timeout 3 web-1");
    }
}
