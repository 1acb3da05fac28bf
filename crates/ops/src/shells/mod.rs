//! The shells: how each asks, and in which form it wants the answer.

mod bash;
mod elvish;
mod fish;
mod nushell;
mod powershell;
mod quote;
mod request;
mod zsh;

use std::{ffi::OsString, io::Write as _};

use clap::ValueEnum;
use ops_ui::{Env, terminal};
use unicode_width::UnicodeWidthStr as _;

pub(crate) use quote::check_quoting;
pub(crate) use request::{Candidate, Request};

/// A shell that completion is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
    Elvish,
    Nushell,
    Powershell,
}

/// A request with what the answer's form depends on.
pub(crate) struct CompletionRequest {
    pub(crate) request: Request,
    /// Columns of the terminal.
    columns: usize,
    /// The word as it was typed, for shells that take the answer literally.
    word: bash::Typed,
}

impl CompletionRequest {
    fn of(words: &[OsString], current: String, env: &Env) -> Self {
        Self {
            request: Request {
                // The first is the program's name.
                words: words.get(1..).unwrap_or_default().to_vec(),
                current,
                described: usize::MAX,
            },
            columns: terminal_columns(env),
            word: bash::Typed::default(),
        }
    }
}

/// The shell called `name`, or the plain form that external commands give and may ask for.
pub(crate) fn form_named(name: &str) -> Option<Form> {
    if name == "plain" {
        return Some(Form::Plain);
    }
    Shell::from_str(name, false).ok().map(Form::Shell)
}

/// How a request is read and answered.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    /// One candidate a line, a tab, what it is.
    Plain,
    Shell(Shell),
}

impl Form {
    /// The request of a shell; `None` if it is none.
    pub(crate) fn read(self, words: &[OsString], env: &Env) -> Option<CompletionRequest> {
        match self {
            Self::Plain | Self::Shell(Shell::Zsh | Shell::Elvish) => {
                let (current, before) = words.split_last()?;
                Some(CompletionRequest::of(
                    before,
                    current.to_str()?.to_owned(),
                    env,
                ))
            }
            Self::Shell(Shell::Bash) => bash::read(words, env),
            Self::Shell(Shell::Fish) => fish::read(words, env),
            Self::Shell(Shell::Nushell) => nushell::read(words, env),
            Self::Shell(Shell::Powershell) => powershell::read(env),
        }
    }

    /// The answer.
    pub(crate) fn show(self, asked: &CompletionRequest, candidates: &[Candidate]) -> String {
        match self {
            Self::Plain | Self::Shell(Shell::Fish) => candidate_lines(candidates),
            Self::Shell(Shell::Bash) => bash::show(asked, candidates),
            Self::Shell(Shell::Zsh) => zsh::show(asked, candidates),
            Self::Shell(Shell::Elvish) => elvish::show(candidates),
            Self::Shell(Shell::Nushell) => nushell::show(candidates),
            Self::Shell(Shell::Powershell) => powershell::show(candidates),
        }
    }
}

/// The script that makes `shell` ask.
pub(crate) const fn completion_script(shell: Shell) -> &'static str {
    match shell {
        Shell::Bash => bash::SCRIPT,
        Shell::Zsh => zsh::SCRIPT,
        Shell::Fish => fish::SCRIPT,
        Shell::Elvish => elvish::SCRIPT,
        Shell::Nushell => nushell::SCRIPT,
        Shell::Powershell => powershell::SCRIPT,
    }
}

/// Writes the answer; a shell that does not read it any more has its reasons.
pub(crate) fn write_answer(answer: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout
        .write_all(answer.as_bytes())
        .and_then(|()| stdout.flush());
}

/// Value, tab, what it is.
fn candidate_lines(candidates: &[Candidate]) -> String {
    let mut text = String::with_capacity(candidates.len() * 48);
    for one in candidates {
        text.push_str(&one.value);
        if !one.about.is_empty() {
            text.push('\t');
            text.push_str(&one.about);
        }
        text.push('\n');
    }
    text
}

/// The columns that the script tells, else those of the terminal.
fn terminal_columns(env: &Env) -> usize {
    /// Where nobody tells.
    const USUAL: usize = 80;
    env.var("COLUMNS")
        .and_then(|text| text.parse().ok())
        .filter(|columns| *columns >= 20)
        .or_else(|| terminal::size().map(|(columns, _)| usize::from(columns)))
        .unwrap_or(USUAL)
}

/// `shown` filled up to `width` columns.
fn pad_to(shown: &str, width: usize) -> String {
    let mut text = shown.to_owned();
    text.extend(std::iter::repeat_n(
        ' ',
        width.saturating_sub(shown.width()),
    ));
    text
}
