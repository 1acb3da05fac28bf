//! The text of sh that becomes a command.
//!
//! Everything of the user's stands in single quotes, between which a shell takes every byte for
//! itself. A text travels as a format of printf ([`as_format`]), which holds neither quotes nor
//! spaces, or as bytes.

use ops_ui::{Error, Result, hint, output::escape};

use super::{Command, Request};

/// The variable that holds the path of a script's private file.
const SCRIPT_FILE: &str = "$script";

/// Lines of sh that end in `exec` of the command: folder, environment, then the program.
///
/// # Errors
/// A NUL, which no argument can hold; a name that no variable can have; no command at all.
pub(super) fn of(request: &Request) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    if let Some(folder) = &request.cwd {
        enter(&mut text, folder)?;
    }
    for (name, value) in &request.env {
        check_name(name)?;
        text.extend_from_slice(name.as_bytes());
        text.push(b'=');
        quote(&mut text, value)?;
        text.extend_from_slice(b"; export ");
        text.extend_from_slice(name.as_bytes());
        text.push(b'\n');
    }
    if let Command::Argv(words) = &request.command
        && let Some(program) = words.first()
    {
        refuse_unknown(&mut text, program)?;
        name_unrunnable(&mut text, words)?;
    }
    text.extend_from_slice(b"exec");
    match &request.command {
        Command::Argv(words) => {
            if words.first().is_none_or(Vec::is_empty) {
                return Err(Error::usage("there is no command to run")
                    .hint("name one: ops exec TARGET -- COMMAND"));
            }
            append_words(&mut text, words)?;
        }
        Command::Line(line) => {
            text.extend_from_slice(b" sh -c ");
            quote(&mut text, line)?;
        }
        Command::Script { bytes, args, .. } => {
            for word in interpreter(bytes) {
                text.push(b' ');
                quote(&mut text, &word)?;
            }
            text.extend_from_slice(format!(" \"{SCRIPT_FILE}\"").as_bytes());
            append_words(&mut text, args)?;
        }
    }
    text.push(b'\n');
    Ok(text)
}

/// Says that there is no such program, with the status of a shell. A shell's own words hold the
/// path of the run's private folder, so that of many servers no two say the same.
fn refuse_unknown(text: &mut Vec<u8>, program: &[u8]) -> Result<()> {
    // With a slash it is no name that is looked for; a shell tells more of why it cannot be run.
    if program.is_empty() || program.contains(&b'/') {
        return Ok(());
    }
    let mut name = Vec::new();
    quote(&mut name, program)?;
    let words = [
        b"command -v ",
        &name[..],
        b" >/dev/null 2>&1 || { printf \"%s: command not found\\n\" ",
        &name[..],
        b" >&2; exit 127; }\n",
    ];
    text.extend_from_slice(&words.concat());
    Ok(())
}

/// Has a shell of its own refuse what is no file that can be run, a folder or a missing one: its
/// words begin with `sh`, as people know them, where this shell's begin with the path of the run's
/// private folder. What can be run costs no second shell.
fn name_unrunnable(text: &mut Vec<u8>, words: &[Vec<u8>]) -> Result<()> {
    let Some(program) = words.first().filter(|program| program.contains(&b'/')) else {
        return Ok(());
    };
    let mut path = Vec::new();
    quote(&mut path, program)?;
    let test = [
        &b"[ -f "[..],
        &path,
        b" ] && [ -x ",
        &path,
        b" ] || exec sh -c 'exec \"$@\"' sh",
    ];
    text.extend_from_slice(&test.concat());
    append_words(text, words)?;
    text.push(b'\n');
    Ok(())
}

/// Goes to `folder`. A command whose folder is not there is not run, with the status of a failure
/// that is not its own.
fn enter(text: &mut Vec<u8>, folder: &str) -> Result<()> {
    let mut word = Vec::new();
    match folder.strip_prefix('~') {
        Some("") => word.extend_from_slice(b"\"$HOME\""),
        Some(rest) if rest.starts_with('/') => {
            word.extend_from_slice(b"\"$HOME\"");
            quote(&mut word, rest.as_bytes())?;
        }
        // "./" keeps a dash at the beginning, and CDPATH, from meaning something.
        _ if !folder.starts_with('/') => {
            word.extend_from_slice(b"./");
            quote(&mut word, folder.as_bytes())?;
        }
        _ => quote(&mut word, folder.as_bytes())?,
    }
    text.extend_from_slice(b"cd ");
    text.extend_from_slice(&word);
    text.extend_from_slice(b" || exit 255\n");
    Ok(())
}

/// A name of a variable as POSIX has it: letters, digits and underscores, no digit first.
fn check_name(name: &str) -> Result<()> {
    let is_letter = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    let is_fine = name.bytes().all(|b| is_letter(b) || b.is_ascii_digit())
        && name.bytes().next().is_some_and(is_letter);
    if is_fine {
        return Ok(());
    }
    Err(Error::usage(format!(
        "`{}` cannot be the name of a variable",
        escape(name)
    ))
    .hint(hint!(
        "use letters, digits and underscores: {}",
        "NAME=VALUE"
    )))
}

fn append_words(text: &mut Vec<u8>, words: &[Vec<u8>]) -> Result<()> {
    for word in words {
        text.push(b' ');
        quote(text, word)?;
    }
    Ok(())
}

/// `bytes` as one word of sh.
fn quote(text: &mut Vec<u8>, bytes: &[u8]) -> Result<()> {
    if bytes.contains(&0) {
        return Err(
            Error::usage("an argument holds a NUL byte").caused_by("no program can be given one")
        );
    }
    text.push(b'\'');
    for &byte in bytes {
        if byte == b'\'' {
            text.extend_from_slice(b"'\\''");
        } else {
            text.push(byte);
        }
    }
    text.push(b'\'');
    Ok(())
}

/// The words of a script's `#!` line as the kernel of Linux reads it: a path, and all that follows
/// as one argument. By `sh` where there is none. The file is not run itself, since the folder it is
/// in may lie on a file system from which nothing is (`noexec`).
fn interpreter(script: &[u8]) -> Vec<Vec<u8>> {
    let line = script.split(|&b| b == b'\n').next().unwrap_or_default();
    let words = line.strip_prefix(b"#!").map(<[u8]>::trim_ascii);
    let Some(words) = words.filter(|words| !words.is_empty()) else {
        return vec![b"sh".to_vec()];
    };
    match words.iter().position(|b| b" \t".contains(b)) {
        None => vec![words.to_vec()],
        Some(at) => vec![words[..at].to_vec(), words[at..].trim_ascii().to_vec()],
    }
}

/// `bytes` as a format of printf between double quotes, which stand between single ones: `\ooo` for
/// everything that could mean something to printf or to a shell there, and for what the service may
/// read as a reference (`{{ssm:NAME}}`) or not hand on as it is.
pub(super) fn as_format(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 16);
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b" /._,+:@=-()[]<>;|&*?#~^".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("\\{byte:03o}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;

    fn run(shell: &[&str], request: &Request) -> Vec<u8> {
        let text = of(request).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("command");
        // As it travels.
        let script = format!("printf \"{}\" >\"{}\"", as_format(&text), path.display());
        assert!(!script.contains('\''));
        let made = process::Command::new("sh").args(["-c", &script]).status();
        assert!(made.unwrap().success());
        assert_eq!(std::fs::read(&path).unwrap(), text);
        let output = process::Command::new(shell[0])
            .args(&shell[1..])
            .arg(&path)
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        output.stdout
    }

    #[test]
    fn every_argument_arrives_as_it_was_given_in_every_shell() {
        let all: Vec<u8> = (1..=255).collect();
        let words: Vec<Vec<u8>> = [
            &all[..],
            b"",
            b" a  b ",
            b"$HOME `id` $(id)",
            b"'\"\\",
            b"-n",
            b"--",
            b"*",
            b"[a-z]?",
            b"~",
            b"line\nfeed\n",
            b"%s%%\\n",
            b"!x",
            b"\xef\xbf\xbd\xff\xfe",
        ]
        .map(<[u8]>::to_vec)
        .to_vec();
        let mut argv = vec![b"printf".to_vec(), b"%s\\000".to_vec()];
        argv.extend(words.iter().cloned());
        let mut request = Request::new(Command::Argv(argv));
        request.cwd = Some("/".to_owned());
        let expected: Vec<u8> = words
            .iter()
            .flat_map(|word| word.iter().copied().chain([0]))
            .collect();
        let mut tried = 0;
        for shell in [
            &["sh"][..],
            &["dash"],
            &["bash"],
            &["bash", "--posix"],
            &["busybox", "sh"],
            &["mksh"],
            &["ksh"],
        ] {
            if ops_test_needs::find(shell[0]).is_some() {
                assert!(run(shell, &request) == expected, "{shell:?}");
                tried += 1;
            }
        }
        assert!(tried > 0);
        let line = Command::Line(b"printf '%s' \"$A$B\" | tr a-z A-Z".to_vec());
        let mut request = Request::new(line);
        request.env = vec![
            ("A".to_owned(), b"it's \n".to_vec()),
            ("B".to_owned(), b"$x".to_vec()),
        ];
        assert_eq!(run(&["sh"], &request), b"IT'S \n$X");
    }

    #[test]
    fn what_cannot_be_run_is_told_without_the_path_of_the_text() {
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("plain");
        std::fs::write(&plain, "echo ran\n").unwrap();
        let refused = [
            (folder.path().to_owned(), 126),
            (folder.path().join("missing"), 127),
            (plain, 126),
        ];
        let text_file = folder.path().join("text");
        let mut tried = 0;
        for shell in [
            &["sh"][..],
            &["dash"],
            &["bash"],
            &["busybox", "sh"],
            &["mksh"],
            &["ksh"],
        ] {
            if ops_test_needs::find(shell[0]).is_none() {
                continue;
            }
            tried += 1;
            for (program, status) in &refused {
                let program = program.to_str().unwrap();
                let words = [program, "it's"].map(|word| word.as_bytes().to_vec());
                let request = Request::new(Command::Argv(words.to_vec()));
                std::fs::write(&text_file, of(&request).unwrap()).unwrap();
                let output = process::Command::new(shell[0])
                    .args(&shell[1..])
                    .arg(&text_file)
                    .output()
                    .unwrap();
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                assert_eq!(output.status.code(), Some(*status), "{shell:?}: {said}");
                assert!(said.starts_with("sh: "), "{shell:?}: {said}");
                assert!(said.contains(program), "{shell:?}: {said}");
                assert!(!said.contains("/text"), "{shell:?}: {said}");
            }
        }
        assert!(tried > 0);
    }

    #[test]
    fn a_script_is_run_by_its_first_line() {
        let words = |text: &str| {
            interpreter(text.as_bytes())
                .into_iter()
                .map(|word| String::from_utf8(word).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(words("echo hello\n"), ["sh"]);
        assert_eq!(words("#!/bin/bash\nx"), ["/bin/bash"]);
        assert_eq!(
            words("#! /usr/bin/env  -S python3 -u \r\n"),
            ["/usr/bin/env", "-S python3 -u"]
        );
        assert_eq!(words("#!\n"), ["sh"]);
    }

    #[test]
    fn what_no_command_can_have_is_refused() {
        let argv = |words: &[&[u8]]| {
            let words = words.iter().map(|word| word.to_vec()).collect();
            of(&Request::new(Command::Argv(words)))
        };
        assert!(argv(&[]).is_err());
        assert!(argv(&[b""]).is_err());
        assert!(argv(&[b"echo", b"a\0b"]).is_err());
        let mut request = Request::new(Command::Argv(vec![b"true".to_vec()]));
        request.env = vec![("A-B".to_owned(), Vec::new())];
        assert!(of(&request).is_err());
    }
}
