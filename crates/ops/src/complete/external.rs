//! Candidates of an external command: `ops-NAME __complete WORD...`.

use std::{
    ffi::OsString,
    io::Read as _,
    process::{Command, Stdio},
    sync::mpsc,
    time::Instant,
};

use ops_core::{Context, Paths, cache::Patience, output::escape};

use super::{Candidate, values::starts_with};
use crate::plugin::{self, Cache, Plugin};

/// Longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 4 << 20;

/// What the external command offers for `current` behind `words`; nothing if it does not say that it completes, or takes too long.
///
/// Only one that says so is asked: an old script would take `__complete` for an argument and do its job.
pub(super) fn candidates(
    plugin: &Plugin,
    words: &[OsString],
    current: &str,
    cx: &Context,
    patience: Patience,
) -> Vec<Candidate> {
    if !plugin.may_be_probed {
        return Vec::new();
    }
    let info = Cache::load(&Paths::from_env(cx.env())).ask(&plugin.path, cx.env());
    if !info.is_some_and(|info| info.completes && info.is_spoken()) {
        return Vec::new();
    }
    let answer = ask(plugin, words, current, cx, patience).unwrap_or_default();
    String::from_utf8_lossy(&answer)
        .lines()
        .filter_map(|line| {
            let (value, about) = line.split_once('\t').unwrap_or((line, ""));
            starts_with(value, current).then(|| Candidate {
                open: value.ends_with(['=', ':', '/']),
                ..Candidate::new(value, escape(about))
            })
        })
        .collect()
}

fn ask(
    plugin: &Plugin,
    words: &[OsString],
    current: &str,
    cx: &Context,
    patience: Patience,
) -> Option<Vec<u8>> {
    let prepared = plugin::prepare(cx).ok()?;
    let mut child = Command::new(&plugin.path)
        .arg("__complete")
        .args(words)
        .arg(current)
        .env_clear()
        .envs(prepared.env.iter())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let stdout = child.stdout.take()?;
    let (sender, receiver) = mpsc::channel();
    // A child of its own may keep the pipe open after it was killed: the thread then stays behind, not we.
    std::thread::spawn(move || {
        let mut text = Vec::new();
        if stdout.take(MAX_ANSWER).read_to_end(&mut text).is_ok() {
            let _ = sender.send(text);
        }
    });
    let left = patience.until.checked_duration_since(Instant::now());
    let answer = receiver.recv_timeout(left.unwrap_or_default()).ok();
    let _ = child.kill();
    let _ = child.wait();
    answer
}
