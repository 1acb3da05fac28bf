//! zsh: `compadd` quotes by itself, and shows a line of text in place of each candidate.

use ops_ui::text::cut;
use unicode_width::UnicodeWidthStr as _;

use super::{Candidate, CompletionRequest, pad_to};

pub(super) const SCRIPT: &str = r#"#compdef ops
# ops in zsh: source <(ops completion zsh)
_ops() {
    local -a lines plain open shown
    lines=("${(@f)$(COLUMNS=$COLUMNS OPS_COMPLETE=zsh command ops -- "${(@Q)words[1,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
    plain=("${(@M)lines:#. *}")
    open=("${(@M)lines:#+ *}")
    local result=1
    if (( $#plain )); then
        plain=("${(@)plain#. }")
        shown=("${(@)plain#*$'\t'}")
        compadd -V ops-values -l -d shown -- "${(@)plain%%$'\t'*}" && result=0
    fi
    if (( $#open )); then
        open=("${(@)open#+ }")
        shown=("${(@)open#*$'\t'}")
        compadd -V ops-open -l -d shown -S '' -- "${(@)open%%$'\t'*}" && result=0
    fi
    return result
}
if [[ ${funcstack[1]} == _ops ]]; then
    _ops "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }
    compdef _ops ops
fi
"#;

/// A mark for whether a space follows, the value, a tab, and the line that is shown.
pub(super) fn show(asked: &CompletionRequest, candidates: &[Candidate]) -> String {
    let width = candidates.iter().map(|one| one.value.width()).max();
    // A long one must not push the others' descriptions off the screen.
    let width = width.unwrap_or_default().min(asked.columns / 2);
    let mut text = String::with_capacity(candidates.len() * 64);
    for one in candidates {
        text.push_str(if one.open { "+ " } else { ". " });
        text.push_str(&one.value);
        text.push('\t');
        if one.about.is_empty() {
            text.push_str(&one.value);
        } else {
            let line = format!("{}  -- {}", pad_to(&one.value, width), one.about);
            text.push_str(&cut(&line, asked.columns.saturating_sub(1)));
        }
        text.push('\n');
    }
    text
}
