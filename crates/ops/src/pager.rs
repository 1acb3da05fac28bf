//! Long pages on a terminal go through a pager, as those of git and gh do.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use ops_ui::{Env, Output, terminal};

/// What shows a page where nobody names a program: it leaves at once where the page fits, keeps
/// colours and leaves the screen as it is.
const USUAL: &str = "less -FRX";

/// Writes a page to stdout; through `OPS_PAGER`, `PAGER` or `less` where stdout is a terminal with
/// fewer rows than the page has lines.
pub(crate) fn show(page: &str, output: &Output, env: &Env) {
    let rows = terminal::size().map_or(usize::MAX, |(_, rows)| usize::from(rows));
    let is_long = page.lines().count() >= rows;
    let pages = output.stdout_is_terminal() && output.stdin_is_terminal() && is_long;
    if !(pages && env.var("CI").is_none() && paged(page, env)) {
        // A reader that has gone is no failure.
        let _ = output.page(page);
    }
}

/// Whether a pager has shown the page. One that cannot be started has not; one that is left early
/// has.
fn paged(page: &str, env: &Env) -> bool {
    let line = env
        .var("OPS_PAGER")
        .or_else(|| env.var("PAGER"))
        .unwrap_or(USUAL);
    let words = shell_words::split(line).unwrap_or_default();
    let Some((program, arguments)) = words.split_first() else {
        return false;
    };
    if program == "cat" {
        return false;
    }
    let started = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(env.iter())
        .stdin(Stdio::piped())
        .spawn();
    let Ok(mut pager) = started else {
        return false;
    };
    if let Some(mut stdin) = pager.stdin.take() {
        let _ = stdin.write_all(page.as_bytes());
    }
    pager.wait().is_ok()
}
