//! Candidates of an external command: `ops-NAME __complete WORD...`.

use std::{ffi::OsString, process::Command};

use ops_core::{Context, cache::Patience};
use ops_ui::Paths;

use super::values::starts_with;
use crate::plugin::{self, Cache, Plugin};
use crate::shells::Candidate;

/// Longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 4 << 20;

/// What the external command offers for `current` behind `words`; nothing if it does not say that
/// it completes, or takes too long.
///
/// Only one that says so is asked: an old script would take `__complete` for an argument and do its
/// job.
pub(super) fn external_candidates(
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
    let answer = ask_plugin(plugin, words, current, cx, patience).unwrap_or_default();
    String::from_utf8_lossy(&answer)
        .lines()
        .filter_map(|line| {
            let (value, about) = line.split_once('\t').unwrap_or((line, ""));
            starts_with(value, current).then(|| Candidate {
                open: value.ends_with(['=', ':', '/']),
                ..Candidate::new(value, about)
            })
        })
        .collect()
}

fn ask_plugin(
    plugin: &Plugin,
    words: &[OsString],
    current: &str,
    cx: &Context,
    patience: Patience,
) -> Option<Vec<u8>> {
    let prepared = plugin::prepare_environment(cx).ok()?;
    let mut command = Command::new(&plugin.path);
    command
        .arg("__complete")
        .args(words)
        .arg(current)
        .env_clear()
        .envs(prepared.env.iter());
    plugin::bounded_answer(&mut command, MAX_ANSWER, patience.until)
}
