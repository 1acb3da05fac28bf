//! What is run: the command and what surrounds it, out of the words of the command line.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

use ops_remote::exec::Command;
use ops_ui::{Env, Error, Hint, Result, hint};

/// Largest script that is sent, in bytes: what is larger is data, and has a better way.
const LARGEST_SCRIPT: u64 = 8 << 20;

/// The three ways to say what is run.
#[derive(Clone, Debug, Default)]
pub(crate) struct CommandSource {
    /// `--shell`.
    pub(crate) line: Option<OsString>,
    /// `--script`.
    pub(crate) script: Option<PathBuf>,
    /// What stands behind `--`.
    pub(crate) words: Vec<OsString>,
}

impl CommandSource {
    /// # Errors
    /// None of them, or two; a script that cannot be read.
    pub(crate) fn command(&self) -> Result<Command> {
        let words = || self.words.iter().map(|word| word.as_bytes().to_vec());
        match (&self.line, &self.script) {
            (Some(line), None) if self.words.is_empty() => {
                Ok(Command::Line(line.as_bytes().to_vec()))
            }
            (Some(_), None) => Err(Error::usage("--shell is the whole command")
                .caused_by(format!("`{}` stands behind it", lossy(&self.words[0])))
                .hint("put all of it into one word: ops exec TARGET --shell 'a | b'")),
            (None, Some(path)) => Ok(Command::Script {
                name: path
                    .file_name()
                    .map(|name| name.to_string_lossy().into_owned())
                    .unwrap_or_default(),
                bytes: read_script(path)?,
                args: words().collect(),
            }),
            // clap lets nobody give both.
            _ if self.words.is_empty() => Err(Error::usage("there is no command to run")
                .caused_by("nothing stands behind the target")
                .hint("ops exec TARGET -- COMMAND; a shell: ops shell TARGET")),
            _ => Ok(Command::Argv(words().collect())),
        }
    }

    /// As a person would type it.
    pub(crate) fn shown(&self) -> Hint {
        let mut words: Vec<String> = Vec::new();
        match (&self.line, &self.script) {
            (Some(line), _) => {
                words.extend(["sh".to_owned(), "-c".to_owned(), lossy(line)]);
            }
            (_, Some(path)) => words.push(lossy(path.as_os_str())),
            _ => {}
        }
        words.extend(self.words.iter().map(|word| lossy(word)));
        Hint::command(words.iter().map(String::as_str))
    }
}

/// For people: a byte that is no UTF-8 is shown as a question mark of its own.
fn lossy(word: &OsStr) -> String {
    word.to_string_lossy().into_owned()
}

fn read_script(path: &Path) -> Result<Vec<u8>> {
    let unread = |why: String| {
        Error::usage(format!("the script `{}` cannot be read", path.display())).caused_by(why)
    };
    let metadata = path.metadata().map_err(|error| unread(error.to_string()))?;
    if metadata.is_dir() {
        return Err(unread("it is a folder".to_owned()));
    }
    if metadata.len() > LARGEST_SCRIPT {
        return Err(unread(format!(
            "it has {} bytes, and a script has {LARGEST_SCRIPT} at most",
            metadata.len()
        ))
        .hint(hint!("copy it there first: ops cp {} TARGET:", path)));
    }
    std::fs::read(path).map_err(|error| unread(error.to_string()))
}

/// The variables of `--env-file` and `--env`, in this order; of one name the last counts.
///
/// `NAME=VALUE` says the value; `NAME` takes it from the environment `env` of the caller.
///
/// # Errors
/// A file that cannot be read, a line or word without a name, a name that is not set here.
pub(crate) fn variables(
    files: &[PathBuf],
    words: &[OsString],
    env: &Env,
) -> Result<Vec<(String, Vec<u8>)>> {
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    let mut set = |name: String, value: Vec<u8>| {
        all.retain(|(known, _)| *known != name);
        all.push((name, value));
    };
    for path in files {
        let text = std::fs::read(path).map_err(|error| {
            Error::usage(format!("`{}` cannot be read", path.display())).caused_by(error)
        })?;
        for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.trim_ascii().is_empty() || line.trim_ascii_start().starts_with(b"#") {
                continue;
            }
            let (name, value) = variable(line, env).map_err(|error| {
                error.caused_by(format!("line {} of `{}`", index + 1, path.display()))
            })?;
            set(name, value);
        }
    }
    for word in words {
        let (name, value) = variable(word.as_bytes(), env)?;
        set(name, value);
    }
    Ok(all)
}

fn variable(text: &[u8], env: &Env) -> Result<(String, Vec<u8>)> {
    let (name, value) = match text.iter().position(|&byte| byte == b'=') {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let name = String::from_utf8_lossy(name).into_owned();
    if let Some(value) = value {
        return Ok((name, value.to_vec()));
    }
    match env.var_os(&name) {
        Some(value) => Ok((name, value.to_owned().into_vec())),
        None => Err(
            Error::usage(format!("the variable `{name}` is not set here"))
                .hint(hint!("say its value: --env {}=VALUE", name)),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spoken(line: Option<&str>, script: Option<&Path>, words: &[&str]) -> CommandSource {
        CommandSource {
            line: line.map(OsString::from),
            script: script.map(Path::to_path_buf),
            words: words.iter().map(OsString::from).collect(),
        }
    }

    #[test]
    fn words_stay_apart_and_one_word_with_spaces_stays_one() {
        let command = spoken(None, None, &["printf", "a b", ""]).command();
        assert_eq!(
            command.expect("a command"),
            Command::Argv(vec![b"printf".to_vec(), b"a b".to_vec(), Vec::new()])
        );
        let command = spoken(None, None, &["ls -l"]).command();
        assert_eq!(
            command.expect("a command"),
            Command::Argv(vec![b"ls -l".to_vec()])
        );
        let command = spoken(Some("a | b"), None, &[]).command();
        assert_eq!(
            command.expect("a command"),
            Command::Line(b"a | b".to_vec())
        );
        assert!(spoken(None, None, &[]).command().is_err());
        assert!(spoken(Some("a"), None, &["b"]).command().is_err());
    }

    #[test]
    fn a_script_brings_its_name_and_arguments() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("fix.sh");
        std::fs::write(&path, b"#!/bin/sh\n\xff").expect("a file");
        let command = spoken(None, Some(&path), &["-x"]).command();
        assert_eq!(
            command.expect("a command"),
            Command::Script {
                name: "fix.sh".to_owned(),
                bytes: b"#!/bin/sh\n\xff".to_vec(),
                args: vec![b"-x".to_vec()],
            }
        );
        assert!(spoken(None, Some(folder.path()), &[]).command().is_err());
        let missing = folder.path().join("missing");
        assert!(spoken(None, Some(&missing), &[]).command().is_err());
    }

    #[test]
    fn variables_come_from_files_words_and_the_environment_here() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("env");
        std::fs::write(&path, "# comment\n\nA=1\r\nHERE\nB=x=y # no comment\n").expect("a file");
        let env: Env = [("HERE", "there")].into_iter().collect();
        let words = ["A=2".into(), "C=".into()];
        let all = variables(&[path], &words, &env).expect("variables");
        let text = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
        assert_eq!(
            all,
            [
                text("HERE", "there"),
                text("B", "x=y # no comment"),
                text("A", "2"),
                text("C", ""),
            ]
        );
        let error = variables(&[], &["MISSING".into()], &env).expect_err("not set");
        assert!(error.to_string().contains("MISSING"), "{error}");
    }

    #[test]
    fn a_command_is_shown_as_it_would_be_typed() {
        assert_eq!(
            spoken(None, None, &["echo", "it's", "", "\n"])
                .shown()
                .as_ref(),
            r"echo 'it'\''s' '' $'\012'"
        );
        assert_eq!(
            spoken(Some("a | b"), None, &[]).shown().as_ref(),
            "sh -c 'a | b'"
        );
    }
}
