//! ssh's own command line: which options take a value, and where the remote command begins.

use std::ffi::{OsStr, OsString};

/// ssh's options that take a value. Source: ssh(1), the synopsis of OpenSSH 9 and 10.
const WITH_VALUE: &[u8] = b"BbcDEeFIiJLlmOoPpQRSWw";

/// Puts a command line as people type it for ssh into the order that clap reads.
///
/// ssh takes its options before and after the host, and the second word that is no option begins the remote command. Long options are ours and
/// stand anywhere up to `--` or the remote command; `takes_value` says which of them take the next word. The result is our long options, each
/// of ssh's as `--ssh-option=WORD`, the target, `--`, and the remote command.
pub(crate) fn arrange(args: Vec<OsString>, takes_value: impl Fn(&str) -> bool) -> Vec<OsString> {
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

/// Whether ssh's options already name a value for `letter`, such as `-l`.
pub(crate) fn has(options: &[OsString], letter: u8) -> bool {
    let mut options = options.iter();
    while let Some(word) = options.next() {
        let letters = &word.as_encoded_bytes()[1..];
        for (at, &found) in letters.iter().enumerate() {
            if found == letter {
                return true;
            }
            if WITH_VALUE.contains(&found) {
                if at + 1 == letters.len() {
                    options.next();
                }
                break;
            }
        }
    }
    false
}

/// `words` as one line for a note, quoted.
pub(crate) fn shown<'a>(words: impl IntoIterator<Item = &'a OsStr>) -> String {
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

    fn line(text: &str) -> String {
        let words = text.split(' ').map(OsString::from).collect();
        let line = arrange(words, |name| matches!(name, "profile" | "user"));
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
    fn a_letter_inside_a_value_is_no_option() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert!(has(&words("-vl root"), b'l'));
        assert!(!has(&words("-o l"), b'l'));
        assert!(!has(&words("-ol"), b'l'));
        assert!(has(&words("-o x -l me"), b'l'));
    }
}
