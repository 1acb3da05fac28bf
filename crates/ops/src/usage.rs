//! What clap refuses, in the words and forms of every other error; and its help pages, to the right
//! stream.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use ops_ui::{Env, Error, Exit, Globals, Hint, Output, hint, text::named};

use crate::help;

/// Shows what clap returned in place of matches.
pub(crate) fn show(
    error: &clap::Error,
    output: &Output,
    globals: &Globals,
    env: &Env,
    verb: Option<&str>,
    bare: bool,
    long: bool,
) -> Exit {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let page = rendered(error, output.colored());
            let page = help::fill_in(&page, output.colored(), globals, env);
            // A reader that has gone is no failure.
            let _ = if long {
                output.through_pager(|| output.page(&page))
            } else {
                output.page(&page)
            };
            Exit::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            output.stderr_page(&rendered(
                error,
                output.stderr_is_terminal() && output.colored(),
            ));
            Exit::USAGE
        }
        // A verb alone, that needs a target: its page says more than the name of what is missing.
        ErrorKind::MissingRequiredArgument if bare => {
            if let Some(entry) = verb.and_then(crate::registry::find) {
                let page = crate::cli::verb(entry)
                    .bin_name(format!("ops {}", entry.name))
                    .render_help();
                output.stderr_page(&page.to_string());
            }
            Exit::USAGE
        }
        _ => {
            output.error(&translated(error, verb));
            Exit::USAGE
        }
    }
}

fn rendered(error: &clap::Error, color: bool) -> String {
    let page = error.render();
    if color {
        page.ansi().to_string()
    } else {
        page.to_string()
    }
}

/// A refusal in three parts: clap's sentence, its tips, and where the right usage stands.
fn translated(error: &clap::Error, verb: Option<&str>) -> Error {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let sentence = text.split("\n\n").next().unwrap_or(text);
    let what: Vec<&str> = sentence.lines().map(str::trim).collect();
    let mut ours = Error::usage(backticks(&what.join(" ")));
    if let Some(suggestion) = suggestion(error) {
        ours = ours.hint(hint!("did you mean {}?", suggestion));
    }
    ours.hint(match verb {
        Some(verb) => hint!("see what it takes: ops {} --help", verb),
        None => "see what it takes: ops --help".into(),
    })
}

fn suggestion(error: &clap::Error) -> Option<Hint> {
    let kinds = [
        ContextKind::SuggestedArg,
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedValue,
    ];
    kinds.into_iter().find_map(|kind| match error.get(kind)? {
        ContextValue::String(text) => Some(named(text)),
        ContextValue::Strings(all) if !all.is_empty() => {
            Some(Hint::names(all.iter().map(String::as_str), " or "))
        }
        _ => None,
    })
}

/// clap's `'value'` as house style has it. Apostrophes inside words stay.
fn backticks(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut open = false;
    let mut previous = ' ';
    for c in text.chars() {
        if c == '\'' && (open || !previous.is_alphanumeric()) {
            open = !open;
            out.push('`');
        } else {
            out.push(c);
        }
        previous = c;
    }
    out
}
