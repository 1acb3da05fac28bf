//! bash: the line is taken apart here, since bash splits words at `:`, `=` and `@`, and the answer
//! has to be quoted as it is to stand there.

use std::ffi::OsString;

use ops_ui::{Env, text::cut};
use unicode_width::UnicodeWidthStr as _;

use super::quote::{self, Dialect, Open};
use super::{Candidate, CompletionRequest, pad_to};

/// Up to so many candidates are described; more are shown side by side. As readline's own question
/// whether to show them all.
const DESCRIBED: usize = 100;
/// Of more candidates no more are given to readline than it needs: nobody reads so many, and bash
/// takes its time over tens of thousands.
const MANY: usize = 1000;

/// The arguments: the line up to the cursor, the part of the word that readline replaces, and the
/// kind of completion.
pub(super) const SCRIPT: &str = r#"# ops in bash: source <(ops completion bash)
_ops() {
    local out type=${COMP_TYPE:-37}
    # ble.sh calls itself Tab, and shows what there is.
    [[ -z ${BLE_VERSION-} ]] || type=37
    COMPREPLY=()
    out=$(COLUMNS=${COLUMNS:-80} OPS_COMPLETE=bash command ops -- "${COMP_LINE:0:COMP_POINT}" "$2" "$type" 2>/dev/null)
    if ((BASH_VERSINFO[0] >= 4)); then
        mapfile -t COMPREPLY <<<"$out"
    else
        while IFS= read -r; do COMPREPLY+=("$REPLY"); done <<<"$out"
    fi
    # The first line says whether a space follows. It is dropped last: bash works on each copy of a long text for a while.
    [[ ${COMPREPLY[0]} == nospace ]] && compopt -o nospace 2>/dev/null
    unset 'COMPREPLY[0]'
}
if ((BASH_VERSINFO[0] > 4 || (BASH_VERSINFO[0] == 4 && BASH_VERSINFO[1] >= 4))); then
    complete -o nosort -F _ops ops
else
    complete -F _ops ops
fi
"#;

/// What readline does with the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadlineMode {
    /// Inserts what all candidates have in common, and shows none.
    Common,
    /// Shows them.
    List,
    /// Inserts what they have in common, and may show them.
    CommonAndList,
    /// Walks through them; or it is no readline that asks.
    All,
}

impl ReadlineMode {
    /// `COMP_TYPE` is the number of a character: Tab, `?`, `!`, `@`, `%`.
    fn of(kind: &str) -> Self {
        match kind {
            "9" => Self::Common,
            "63" => Self::List,
            "33" | "64" => Self::CommonAndList,
            _ => Self::All,
        }
    }

    const fn lists(self) -> bool {
        matches!(self, Self::List | Self::CommonAndList)
    }
}

/// The word that is being typed, as it stands in the line.
#[derive(Clone, Debug)]
pub(super) struct Typed {
    open: Open,
    /// How many bytes of the candidates readline leaves as they are.
    kept: usize,
    wanted: ReadlineMode,
    /// It begins with a tilde that is not quoted: a home folder.
    at_home: bool,
}

impl Default for Typed {
    fn default() -> Self {
        Self {
            open: Open::No,
            kept: 0,
            wanted: ReadlineMode::All,
            at_home: false,
        }
    }
}

pub(super) fn read(words: &[OsString], env: &Env) -> Option<CompletionRequest> {
    let line = words.first()?.to_str()?;
    let replaced = words.get(1).and_then(|word| word.to_str()).unwrap_or("");
    let kind = words.get(2).and_then(|word| word.to_str()).unwrap_or("9");
    let mut typed = quote::split_words(line, Dialect::Bash);
    let current = typed.pop()?;
    // Readline breaks words at more places than the shell does: what stands before the part that it
    // replaces stays.
    let kept = current.raw.strip_suffix(replaced).map_or(0, |kept| {
        quote::unquoted_word(kept, Dialect::Bash).text.len()
    });
    let before: Vec<OsString> = typed.into_iter().map(|word| word.text.into()).collect();
    let wanted = ReadlineMode::of(kind);
    let mut asked = CompletionRequest::of(&before, current.text, env);
    asked.request.described = if wanted.lists() { DESCRIBED } else { 0 };
    asked.word = Typed {
        open: current.open,
        kept,
        wanted,
        at_home: current.raw.starts_with('~'),
    };
    Some(asked)
}

pub(super) fn show(asked: &CompletionRequest, candidates: &[Candidate]) -> String {
    let word = &asked.word;
    let mut shown: Vec<String> = candidates
        .iter()
        .map(|one| {
            let rest = one.value.get(word.kept..).unwrap_or(&one.value);
            match rest.strip_prefix('~') {
                Some(path) if word.at_home && word.kept == 0 => {
                    format!("~{}", quote::quote_for_bash(path, word.open))
                }
                _ => quote::quote_for_bash(rest, word.open),
            }
        })
        .collect();
    let mut text = String::with_capacity(candidates.len() * 32);
    text.push_str(match candidates {
        [only] if only.open => "nospace",
        _ => "space",
    });
    let mut left_out = None;
    if shown.len() > MANY {
        match word.wanted {
            ReadlineMode::Common => shown = with_the_same_in_common(shown),
            ReadlineMode::List => {
                left_out = Some(shown.len() - MANY);
                shown.truncate(MANY);
            }
            ReadlineMode::CommonAndList | ReadlineMode::All => {}
        }
    }
    // Within quotes the blanks that align descriptions would be taken for a part of the words.
    let described = word.wanted.lists()
        && word.open == Open::No
        && (2..=DESCRIBED).contains(&candidates.len())
        && candidates.iter().any(|one| !one.about.is_empty());
    let width = shown.iter().map(|shown| shown.width()).max();
    let width = width.unwrap_or_default();
    for (one, shown) in candidates.iter().zip(&shown) {
        text.push('\n');
        if described && !one.about.is_empty() {
            let line = format!("{}  ({})", pad_to(shown, width), one.about);
            text.push_str(&cut(&line, asked.columns.saturating_sub(1).max(width)));
        } else {
            text.push_str(shown);
        }
    }
    if let Some(count) = left_out {
        text.push_str(&format!("\n({count} more)"));
    }
    text
}

/// A few of `all` that have in common what all have, whether case counts or, as
/// `completion-ignore-case` wants it, does not.
fn with_the_same_in_common(all: Vec<String>) -> Vec<String> {
    let Some((first, others)) = all.split_first() else {
        return all;
    };
    let mut chosen = [0; 2];
    for (folded, chosen) in [false, true].into_iter().zip(&mut chosen) {
        let fold = |c: char| c.to_lowercase().next().filter(|_| folded).unwrap_or(c);
        let mut common = usize::MAX;
        for (index, other) in others.iter().enumerate() {
            let pairs = first.chars().zip(other.chars()).take(common);
            let same = pairs.take_while(|(a, b)| fold(*a) == fold(*b)).count();
            if same < common {
                (common, *chosen) = (same, index);
            }
        }
    }
    let [exactly, folded] = chosen;
    let mut few = vec![first.clone(), others[exactly].clone()];
    if folded != exactly {
        few.push(others[folded].clone());
    }
    few
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(kind: &str, names: impl Iterator<Item = String>) -> Vec<String> {
        let line = ["ops shell ", "", kind].map(OsString::from);
        let asked = read(&line, &Env::default()).expect("a request");
        let candidates: Vec<Candidate> = names.map(|name| Candidate::new(name, "")).collect();
        let text = show(&asked, &candidates);
        text.lines().skip(1).map(str::to_owned).collect()
    }

    /// What readline would insert.
    fn common(words: &[String], folded: bool) -> usize {
        let fold = |word: &String| {
            if folded {
                word.to_lowercase()
            } else {
                word.clone()
            }
        };
        let first = fold(&words[0]);
        (0..=first.len())
            .rev()
            .find(|len| {
                words
                    .iter()
                    .all(|word| fold(word).starts_with(&first[..*len]))
            })
            .expect("at least nothing")
    }

    #[test]
    fn of_a_large_fleet_readline_gets_what_it_needs_and_no_more() {
        let fleets: [fn(usize) -> String; 4] = [
            |number| format!("web-{number:05}"),
            |number| format!("{}-{number}", ["web", "Web", "WED"][number % 3]),
            // The first is the beginning of all others.
            |number| format!("web{}", "-1".repeat(number.min(1) * number % 7)),
            |number| {
                if number == 1_300 {
                    "wet".to_owned()
                } else {
                    format!("web shop {number}")
                }
            },
        ];
        for fleet in fleets {
            let names = || (0..5_000).map(fleet);
            let all = answer("37", names());
            assert_eq!(all.len(), 5_000);
            let few = answer("9", names());
            assert!((2..=3).contains(&few.len()), "{few:?}");
            assert_eq!(few[0], all[0]);
            for folded in [false, true] {
                assert_eq!(common(&few, folded), common(&all, folded), "{few:?}");
            }
            let list = answer("63", names());
            assert_eq!(list.len(), MANY + 1);
            assert_eq!(list.last().map(String::as_str), Some("(4000 more)"));
        }
    }

    #[test]
    fn of_an_ordinary_fleet_readline_gets_all() {
        let names = || (0..MANY).map(|number| format!("web-{number}"));
        for kind in ["9", "63", "33", "37", ""] {
            assert_eq!(answer(kind, names()).len(), MANY, "{kind}");
        }
    }
}
