//! bash: the line is taken apart here, since bash splits words at `:`, `=` and `@`, and the answer has to be quoted as it is to stand there.

use std::ffi::OsString;

use ops_core::{Env, table::cut};
use unicode_width::UnicodeWidthStr as _;

use super::{Asked, Candidate, padded};
use crate::complete::quote::{self, Dialect, Open};

/// Up to so many candidates are described; more are shown side by side. As readline's own question whether to show them all.
const DESCRIBED: usize = 100;

/// The arguments: the line up to the cursor, the part of the word that readline replaces, and the kind of completion.
pub(super) const SCRIPT: &str = r#"# ops in bash: source <(ops completion bash)
_ops() {
    local out
    COMPREPLY=()
    out=$(COLUMNS=${COLUMNS:-80} OPS_COMPLETE=bash command ops -- "${COMP_LINE:0:COMP_POINT}" "$2" "${COMP_TYPE:-9}" 2>/dev/null)
    [[ -n $out ]] || return 0
    # The first line says whether a space follows.
    [[ $out == nospace* ]] && compopt -o nospace 2>/dev/null
    [[ $out == *$'\n'* ]] || return 0
    out=${out#*$'\n'}
    if ((BASH_VERSINFO[0] >= 4)); then
        mapfile -t COMPREPLY <<<"$out"
    else
        while IFS= read -r; do COMPREPLY+=("$REPLY"); done <<<"$out"
    fi
}
if ((BASH_VERSINFO[0] > 4 || (BASH_VERSINFO[0] == 4 && BASH_VERSINFO[1] >= 4))); then
    complete -o nosort -F _ops ops
else
    complete -F _ops ops
fi
"#;

/// The word that is being typed, as it stands in the line.
#[derive(Clone, Debug)]
pub(super) struct Typed {
    open: Open,
    /// How many bytes of the candidates readline leaves as they are.
    kept: usize,
    /// A list is wanted, not a word to insert.
    lists: bool,
    /// It begins with a tilde that is not quoted: a home folder.
    at_home: bool,
}

impl Default for Typed {
    fn default() -> Self {
        Self {
            open: Open::No,
            kept: 0,
            lists: false,
            at_home: false,
        }
    }
}

pub(super) fn read(words: &[OsString], env: &Env) -> Option<Asked> {
    let line = words.first()?.to_str()?;
    let replaced = words.get(1).and_then(|word| word.to_str()).unwrap_or("");
    let kind = words.get(2).and_then(|word| word.to_str()).unwrap_or("9");
    let mut typed = quote::split(line, Dialect::Bash);
    let current = typed.pop()?;
    // Readline breaks words at more places than the shell does: what stands before the part that it replaces stays.
    let kept = current
        .raw
        .strip_suffix(replaced)
        .map_or(0, |kept| quote::unquoted(kept, Dialect::Bash).text.len());
    let before: Vec<OsString> = typed.into_iter().map(|word| word.text.into()).collect();
    let mut asked = Asked::of(&before, current.text, env);
    asked.word = Typed {
        open: current.open,
        kept,
        // `?`, `!` and `@`: readline shows what there is.
        lists: matches!(kind, "63" | "33" | "64"),
        at_home: current.raw.starts_with('~'),
    };
    Some(asked)
}

pub(super) fn show(asked: &Asked, candidates: &[Candidate]) -> String {
    let word = &asked.word;
    let shown: Vec<String> = candidates
        .iter()
        .map(|one| {
            let rest = one.value.get(word.kept..).unwrap_or(&one.value);
            match rest.strip_prefix('~') {
                Some(path) if word.at_home && word.kept == 0 => {
                    format!("~{}", quote::bash(path, word.open))
                }
                _ => quote::bash(rest, word.open),
            }
        })
        .collect();
    let mut text = String::with_capacity(candidates.len() * 32);
    text.push_str(match candidates {
        [only] if only.open => "nospace",
        _ => "space",
    });
    // Within quotes the blanks that align descriptions would be taken for a part of the words.
    let described = word.lists
        && word.open == Open::No
        && (2..=DESCRIBED).contains(&candidates.len())
        && candidates.iter().any(|one| !one.about.is_empty());
    let width = shown.iter().map(|shown| shown.width()).max();
    let width = width.unwrap_or_default();
    for (one, shown) in candidates.iter().zip(&shown) {
        text.push('\n');
        if described && !one.about.is_empty() {
            let line = format!("{}  ({})", padded(shown, width), one.about);
            text.push_str(&cut(&line, asked.columns.saturating_sub(1).max(width)));
        } else {
            text.push_str(shown);
        }
    }
    text
}
