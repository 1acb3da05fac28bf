//! PowerShell: the line comes through a variable, since arguments that are empty or quoted do not
//! reach programs unharmed in every version.

use std::ffi::OsString;

use ops_ui::Env;

use super::quote::{self, Dialect};
use super::{Candidate, CompletionRequest};

/// Holds the line up to the cursor.
const LINE: &str = "OPS_COMPLETE_LINE";

pub(super) const SCRIPT: &str = r#"# ops in PowerShell: ops completion powershell | Out-String | Invoke-Expression
Register-ArgumentCompleter -Native -CommandName ops -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $line = $commandAst.Extent.Text
    $at = $cursorPosition - $commandAst.Extent.StartOffset
    if ($at -gt $line.Length) { $line = $line.PadRight($at) } else { $line = $line.Substring(0, $at) }
    try {
        $env:OPS_COMPLETE = 'powershell'
        $env:OPS_COMPLETE_LINE = $line
        ops 2>$null | ForEach-Object {
            $value, $shown, $about = $_ -split "`t", 3
            [System.Management.Automation.CompletionResult]::new($value, $shown, 'ParameterValue', $about)
        }
    } finally {
        Remove-Item Env:OPS_COMPLETE, Env:OPS_COMPLETE_LINE -ErrorAction Ignore
    }
}
"#;

pub(super) fn read(env: &Env) -> Option<CompletionRequest> {
    let mut typed = quote::split_words(env.var(LINE)?, Dialect::PowerShell);
    let current = typed.pop()?;
    let before: Vec<OsString> = typed.into_iter().map(|word| word.text.into()).collect();
    Some(CompletionRequest::of(&before, current.text, env))
}

/// The quoted value, the value, what it is; a tooltip must not be empty.
pub(super) fn show(candidates: &[Candidate]) -> String {
    let mut text = String::new();
    for one in candidates {
        let about = if one.about.is_empty() {
            &one.value
        } else {
            &one.about
        };
        text.push_str(&format!(
            "{}\t{}\t{about}\n",
            quote::quote_for_powershell(&one.value),
            one.value
        ));
    }
    text
}
