//! Elvish: quotes by itself; a candidate has a text that is shown and one that follows it.

use super::Candidate;

pub(super) const SCRIPT: &str = r#"# ops in Elvish: eval (ops completion elvish | slurp)
use str
set edit:completion:arg-completer[ops] = {|@words|
    tmp E:OPS_COMPLETE = elvish
    e:ops -- $@words 2>/dev/null | from-lines | each {|line|
        var @parts = (str:split "\t" $line)
        edit:complex-candidate $parts[1] &display=$parts[2] &code-suffix=$parts[0]
    }
}
"#;

/// What follows, the value, what is shown.
pub(super) fn show(candidates: &[Candidate]) -> String {
    let mut text = String::new();
    for one in candidates {
        let suffix = if one.open { "" } else { " " };
        let display = if one.about.is_empty() {
            one.value.clone()
        } else {
            format!("{}  ({})", one.value, one.about)
        };
        text.push_str(&format!("{suffix}\t{}\t{display}\n", one.value));
    }
    text
}
