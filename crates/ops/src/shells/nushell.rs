//! Nushell: one completer for all external programs, so the one that is there goes on for the
//! others.

use std::ffi::OsString;

use ops_ui::Env;
use serde_json::json;

use super::quote;
use super::{Candidate, CompletionRequest};

pub(super) const SCRIPT: &str = r#"# ops in Nushell: saved in a folder of $nu.vendor-autoload-dirs; see ops completion --help
let ops_others = $env.config?.completions?.external?.completer?
$env.config.completions.external.enable = true
$env.config.completions.external.completer = {|spans|
    if $spans.0 == "ops" {
        with-env { OPS_COMPLETE: nushell } { ^ops -- ...$spans } | from json
    } else if $ops_others != null {
        do $ops_others $spans
    }
}
"#;

/// Spans are words as they were typed.
pub(super) fn read(words: &[OsString], env: &Env) -> Option<CompletionRequest> {
    let mut plain = words
        .iter()
        .map(|word| word.to_str().map(unquoted_word))
        .collect::<Option<Vec<String>>>()?;
    let current = plain.pop()?;
    let before: Vec<OsString> = plain.into_iter().map(OsString::from).collect();
    Some(CompletionRequest::of(&before, current, env))
}

pub(super) fn show(candidates: &[Candidate]) -> String {
    let all: Vec<_> = candidates
        .iter()
        .map(|one| {
            let space = if one.open { "" } else { " " };
            json!({
                "value": format!("{}{space}", quote::quote_for_nushell(&one.value)),
                "description": one.about,
            })
        })
        .collect();
    json!(all).to_string()
}

/// Without the marks around it; the last one may still be missing.
fn unquoted_word(word: &str) -> String {
    for mark in ['"', '\'', '`'] {
        if let Some(rest) = word.strip_prefix(mark) {
            let inner = rest.strip_suffix(mark).unwrap_or(rest);
            return if mark == '"' {
                inner.replace("\\\"", "\"").replace("\\\\", "\\")
            } else {
                inner.to_owned()
            };
        }
    }
    word.to_owned()
}
