//! Text of scripts for the server.
//!
//! They are written to be read, in files of their own below `scripts/`, and sent without comments
//! and indentation ([`ops_remote::script::compact`]). No byte of a path ever stands in one as it
//! is: paths travel as octal escapes. A script that travels in a command holds no single quote,
//! since one pair of them holds it all; a dialogue's script goes through the terminal and may.

use crate::remote_path::RemotePath;

/// The shell function `enter`, which goes to a folder and follows no link below what the user
/// named.
pub(super) const ENTER: &str = include_str!("scripts/enter.sh");

/// Lines that say which file a script is about: see `scripts/fetch.sh`.
pub(super) fn name_file(path: &RemotePath) -> String {
    let steps = path.steps();
    std::format!(
        "{}{}{}follow={}\n",
        assign_variable("root", steps.root),
        assign_variable("folders", steps.folders),
        assign_variable("file", steps.name),
        u8::from(steps.follow)
    )
}

/// Stays as it is within double quotes, in printf's format and in its `%b`.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/._,+:@=".contains(&byte)
}

/// `bytes` as a format of printf: `\ooo` for everything that could mean something.
pub(super) fn printf_format(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 16);
    for &byte in bytes {
        if is_plain(byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&std::format!("\\{byte:03o}"));
        }
    }
    text
}

/// `bytes` as one word of a line that a dialogue reads, for printf's `%b`: `\0ooo`. An empty one is
/// `\c`, which prints nothing.
pub(super) fn printf_word(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "\\c".to_owned();
    }
    let mut text = String::with_capacity(bytes.len() + 16);
    for &byte in bytes {
        if is_plain(byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&std::format!("\\0{byte:03o}"));
        }
    }
    text
}

/// A line of script that sets `variable` to `bytes`. The full stop keeps line feeds at their end.
pub(super) fn assign_variable(variable: &str, bytes: &[u8]) -> String {
    std::format!(
        "{variable}=$(printf \"{}.\"); {variable}=${{{variable}%.}}\n",
        printf_format(bytes)
    )
}

/// A pattern: `*`, `?` and `[…]` in `bytes` mean what they mean to sh, everything else itself.
/// Gives the lines that set the variables it is made of, and the word; `None` where there is
/// nothing to expand.
pub(super) fn glob_pattern(bytes: &[u8]) -> Option<(String, String)> {
    if !bytes.iter().any(|b| b"*?[".contains(b)) {
        return None;
    }
    let (mut lines, mut text) = (String::new(), String::new());
    let mut literal: Vec<u8> = Vec::new();
    let mut count = 0;
    let mut flush = |literal: &mut Vec<u8>, text: &mut String| {
        if !literal.is_empty() {
            let variable = std::format!("g{count}");
            count += 1;
            lines.push_str(&assign_variable(&variable, literal));
            text.push_str(&std::format!("\"${variable}\""));
            literal.clear();
        }
    };
    let mut in_brackets = false;
    for (at, &byte) in bytes.iter().enumerate() {
        let special = match byte {
            b'*' | b'?' => !in_brackets,
            b'[' if !in_brackets && bytes[at + 1..].contains(&b']') => {
                in_brackets = true;
                true
            }
            b']' if in_brackets => {
                in_brackets = false;
                true
            }
            b'-' | b'!' => in_brackets,
            _ => false,
        };
        if special {
            flush(&mut literal, &mut text);
            text.push(char::from(byte));
        } else {
            literal.push(byte);
        }
    }
    flush(&mut literal, &mut text);
    Some((lines, text))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn sh(script: &str) -> Vec<u8> {
        assert!(!script.contains('\''), "{script}");
        Command::new("sh")
            .args(["-c", script])
            .output()
            .unwrap()
            .stdout
    }

    #[test]
    fn every_byte_comes_out_of_a_shell_as_it_went_in() {
        let all: Vec<u8> = (1..=255).chain(*b"\n\n").collect();
        for bytes in [
            &all[..],
            b"-n",
            b"$(id) `id` \"'\\",
            b"%s%%",
            b"\n",
            b" a  b ",
        ] {
            let script = std::format!("{}printf %s \"$v\"", assign_variable("v", bytes));
            assert_eq!(sh(&script), bytes);
            let line = std::format!(
                "set -f; L=\"{}\"; set -- $L; v=$(printf \"%b.\" \"$1\"); printf %s \"${{v%.}}\"",
                printf_word(bytes).replace('\\', "\\\\")
            );
            assert_eq!(sh(&line), bytes);
        }
    }

    #[test]
    fn only_what_is_a_pattern_is_expanded() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a1.gz", "a2.gz", "b$(id).gz", "-x", "a[1", "sp ace.gz"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let expand = |pattern: &str| {
            let (lines, word) = glob_pattern(pattern.as_bytes()).unwrap();
            let script = std::format!(
                "cd \"{}\"\n{lines}for f in {word}; do printf \"%s\\n\" \"$f\"; done",
                folder.path().display()
            );
            String::from_utf8(sh(&script)).unwrap()
        };
        assert_eq!(expand("a*.gz"), "a1.gz\na2.gz\n");
        assert_eq!(expand("a[2-9].gz"), "a2.gz\n");
        assert_eq!(expand("[!-]*$(id).gz"), "b$(id).gz\n");
        assert_eq!(expand("sp ac?.gz"), "sp ace.gz\n");
        assert_eq!(expand("a[1*"), "a[1\n");
        assert_eq!(glob_pattern(b"plain $x"), None);
    }
}
