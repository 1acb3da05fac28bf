//! ssh's own command line: which options take a value, and where the remote command begins.

use std::ffi::{OsStr, OsString};

/// ssh's options that take a value. Source: ssh(1), the synopsis of OpenSSH 9 and 10.
const WITH_VALUE: &[u8] = b"BbcDEeFIiJLlmOoPpQRSWw";

/// Puts a command line as people type it for ssh into the order that clap reads.
///
/// ssh takes its options before and after the host, and the second word that is no option begins
/// the remote command. Long options are ours and stand anywhere up to
/// `--` or the remote command; `takes_value` says which of them take the next word. The result is
/// our long options, each of ssh's as `--ssh-option=WORD`, the target, `--`, and the remote
/// command.
pub(crate) fn arrange_words(
    args: Vec<OsString>,
    takes_value: impl Fn(&str) -> bool,
) -> Vec<OsString> {
    let (mut ours, mut theirs, mut target, mut command) =
        (Vec::new(), Vec::new(), None, Vec::new());
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let bytes = arg.as_encoded_bytes();
        if bytes == b"--" {
            // ssh takes `-- HOST COMMAND` as well as `HOST -- COMMAND`.
            if target.is_none() {
                target = args.next();
            }
            command.extend(args.by_ref());
        } else if bytes == b"-h" {
            // No option of ssh; here it asks for help, as everywhere.
            ours.push(arg);
        } else if let Some(name) = arg.to_str().and_then(|arg| arg.strip_prefix("--")) {
            let wants = !name.contains('=') && takes_value(name);
            ours.push(arg);
            ours.extend(wants.then(|| args.next()).flatten());
        } else if bytes.len() > 1 && bytes[0] == b'-' {
            let wants = bytes[1..]
                .iter()
                .position(|letter| WITH_VALUE.contains(letter))
                .is_some_and(|at| at + 2 == bytes.len());
            theirs.push(arg);
            theirs.extend(wants.then(|| args.next()).flatten());
        } else if target.is_none() {
            target = Some(arg);
        } else {
            command.push(arg);
            command.extend(args.by_ref());
        }
    }
    let mut line = ours;
    // What is asked of ssh about itself takes no host.
    if has_flag(&theirs, b'V') || option_value(&theirs, b'Q', "").is_some() {
        line.push("--about-ssh".into());
    }
    line.extend(theirs.into_iter().map(|word| {
        let mut option = OsString::from("--ssh-option=");
        option.push(word);
        option
    }));
    line.extend(target);
    if !command.is_empty() {
        line.push("--".into());
        line.append(&mut command);
    }
    line
}

/// What ssh's options say for `letter` (such as `-l`) or, as `-o`, for `key` (such as `User`; empty
/// where ssh_config has no such key); the first counts, as for ssh.
pub(crate) fn option_value<'a>(options: &'a [OsString], letter: u8, key: &str) -> Option<&'a [u8]> {
    let mut options = options.iter();
    while let Some(word) = options.next() {
        let letters = word.as_encoded_bytes().get(1..).unwrap_or_default();
        let Some(at) = letters.iter().position(|found| WITH_VALUE.contains(found)) else {
            continue;
        };
        let value = match &letters[at + 1..] {
            [] => options.next().map(|word| word.as_encoded_bytes())?,
            attached => attached,
        };
        if letters[at] == letter {
            return Some(value);
        }
        if letters[at] == b'o'
            && !key.is_empty()
            && let Some((name, rest)) = value.split_at_checked(key.len())
            && name.eq_ignore_ascii_case(key.as_bytes())
            && rest.starts_with(b"=") | rest.first().is_some_and(u8::is_ascii_whitespace)
        {
            let rest = rest.trim_ascii_start();
            let rest = rest.strip_prefix(b"=").unwrap_or(rest).trim_ascii();
            return Some(rest);
        }
    }
    None
}

/// Whether one of ssh's options that take no value is `letter`, such as `-f`, alone or among others
/// (`-Nf`).
pub(crate) fn has_flag(options: &[OsString], letter: u8) -> bool {
    let mut options = options.iter();
    while let Some(word) = options.next() {
        let letters = word.as_encoded_bytes().get(1..).unwrap_or_default();
        let with_value = letters.iter().position(|found| WITH_VALUE.contains(found));
        if letters[..with_value.unwrap_or(letters.len())].contains(&letter) {
            return true;
        }
        if with_value.is_some_and(|at| at + 1 == letters.len()) {
            // Its value is the next word.
            options.next();
        }
    }
    false
}

/// `words` as one line for a note, quoted.
pub(crate) fn shown_words<'a>(words: impl IntoIterator<Item = &'a OsStr>) -> String {
    words
        .into_iter()
        .map(|word| {
            let word = word.to_string_lossy();
            let plain = !word.is_empty()
                && word
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"@%+=:,./-_".contains(&b));
            if plain {
                word.into_owned()
            } else {
                format!("'{}'", word.replace('\'', r"'\''"))
            }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_found_among_others_and_not_in_a_value() {
        let has = |text: &str| {
            let options: Vec<OsString> = text.split(' ').map(OsString::from).collect();
            has_flag(&options, b'f')
        };
        assert!(has("-f") && has("-Nf") && has("-v -L 80:x:80 -f"));
        assert!(!has("-N") && !has("-i -f") && !has("-if") && !has("-L f"));
    }

    fn line(text: &str) -> String {
        let words = text.split(' ').map(OsString::from).collect();
        let line = arrange_words(words, |name| matches!(name, "profile" | "user"));
        line.iter()
            .map(|word| word.to_string_lossy().into_owned())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn options_stand_before_and_after_the_target_as_in_ssh() {
        assert_eq!(line("web-1"), "web-1");
        assert_eq!(line("-A web-1 uptime"), "--ssh-option=-A web-1 -- uptime");
        assert_eq!(
            line("-L 8080:db:80 -N web-1"),
            "--ssh-option=-L --ssh-option=8080:db:80 --ssh-option=-N web-1"
        );
        assert_eq!(
            line("web-1 -tt -p2222 ls -la"),
            "--ssh-option=-tt --ssh-option=-p2222 web-1 -- ls -la"
        );
        assert_eq!(
            line("web-1 -vi key -- ls --all"),
            "--ssh-option=-vi --ssh-option=key web-1 -- ls --all"
        );
    }

    #[test]
    fn a_question_about_ssh_itself_needs_no_target() {
        assert_eq!(line("-V"), "--about-ssh --ssh-option=-V");
        assert_eq!(
            line("-Q cipher"),
            "--about-ssh --ssh-option=-Q --ssh-option=cipher"
        );
        assert_eq!(line("-l -V web-1"), "--ssh-option=-l --ssh-option=-V web-1");
    }

    #[test]
    fn help_is_ours_too() {
        assert_eq!(line("-h"), "-h");
        assert_eq!(line("-4 web-1 -h"), "-h --ssh-option=-4 web-1");
        assert_eq!(line("web-1 df -h"), "web-1 -- df -h");
    }

    #[test]
    fn long_options_are_ours_up_to_the_command() {
        assert_eq!(
            line("web-1 --profile prod -A"),
            "--profile prod --ssh-option=-A web-1"
        );
        assert_eq!(
            line("--instance-connect web-1 ls --profile x"),
            "--instance-connect web-1 -- ls --profile x"
        );
        assert_eq!(
            line("web-1 --user=me -- --profile"),
            "--user=me web-1 -- --profile"
        );
    }

    #[test]
    fn the_first_value_counts_and_a_letter_inside_a_value_is_no_option() {
        let words = |text: &str| text.split('|').map(OsString::from).collect::<Vec<_>>();
        let user = |text: &str| {
            option_value(&words(text), b'l', "User")
                .map(|user| String::from_utf8_lossy(user).into_owned())
        };
        assert_eq!(user("-vl|root").as_deref(), Some("root"));
        assert_eq!(user("-o|x|-lme").as_deref(), Some("me"));
        assert_eq!(user("-ouser=a|-l|b").as_deref(), Some("a"));
        assert_eq!(user("-o|User a|-l|b").as_deref(), Some("a"));
        for none in [
            "-o|l",
            "-ol",
            "-v",
            "-oUserKnownHostsFile=x",
            "-L|8080:l:80",
            "-l",
        ] {
            assert_eq!(user(none), None, "{none}");
        }
    }
}
