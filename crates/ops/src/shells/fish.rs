//! fish: escapes what it inserts and shows descriptions by itself.

use std::ffi::OsString;

use ops_ui::Env;

use super::CompletionRequest;
use super::quote::{self, Dialect};

pub(super) const SCRIPT: &str = r#"# ops in fish: ops completion fish > ~/.config/fish/completions/ops.fish
function __ops_complete
    set -lx OPS_COMPLETE fish
    command ops -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token --cut-at-cursor) 2>/dev/null
end
complete --command ops --erase
complete --command ops --no-files --keep-order --arguments '(__ops_complete)'
"#;

/// The words before come without quotes, the one being typed with them.
pub(super) fn read(words: &[OsString], env: &Env) -> Option<CompletionRequest> {
    let (current, before) = words.split_last()?;
    let current = quote::unquoted_word(current.to_str()?, Dialect::Fish).text;
    Some(CompletionRequest::of(before, current, env))
}
