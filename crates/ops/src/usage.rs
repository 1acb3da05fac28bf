//! What clap refuses, in the words and forms of every other error; and its help pages, to the right
//! stream.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use ops_ui::{Env, Error, Exit, Globals, Hint, Output, globals::ErrorFormat, hint, text::named};

use crate::help;

/// The words of a line that clap did not accept, as far as they are understood.
pub(crate) struct Typed<'a> {
    /// The verb and what is below it, as in `sessions end`; empty where no verb is known.
    pub(crate) path: Vec<&'a str>,
    /// What stands behind these.
    pub(crate) rest: Vec<&'a str>,
    /// `--help` was typed, and not `-h`.
    pub(crate) wants_long_help: bool,
}

/// Shows what clap returned in place of matches.
pub(crate) fn show_usage_error(
    error: &clap::Error,
    output: &Output,
    globals: &Globals,
    env: &Env,
    typed: &Typed<'_>,
) -> Exit {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let page = render_error(error, output.colored());
            let page = help::fill_in(&page, output.colored(), globals, env);
            // A reader that has gone is no failure.
            let _ = if typed.wants_long_help {
                output.through_pager(|| output.page(&page))
            } else {
                output.page(&page)
            };
            Exit::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            output.stderr_page(&render_error(
                error,
                output.stderr_is_terminal() && output.colored(),
            ));
            Exit::USAGE
        }
        // A verb alone, that needs a target: its page says more than the name of what is missing.
        ErrorKind::MissingRequiredArgument if typed.rest.is_empty() => {
            if let Some(page) = short_page(&typed.path) {
                output.stderr_page(&page);
            }
            Exit::USAGE
        }
        _ => {
            let error = translate_error(error, typed);
            // Its other statuses are those of a program: 2 would be grep's, for one.
            let passes_through = typed
                .path
                .first()
                .and_then(|verb| crate::registry::find_entry(verb))
                .is_some_and(|entry| entry.traits.pass_through);
            if passes_through && globals.error_format != Some(ErrorFormat::Json) {
                output.warn_line(error.one_line());
            } else {
                output.error(&error);
            }
            if passes_through {
                Exit::PASS_THROUGH
            } else {
                Exit::USAGE
            }
        }
    }
}

/// The short help page of a verb, or of what is below one.
fn short_page(path: &[&str]) -> Option<String> {
    let (verb, below) = path.split_first()?;
    let entry = crate::registry::find_entry(verb)?;
    let mut command = crate::cli::verb_command(entry).bin_name(format!("ops {}", entry.name));
    command.build();
    let mut command = &mut command;
    for name in below {
        command = command.find_subcommand_mut(name)?;
    }
    Some(command.render_help().to_string())
}

fn render_error(error: &clap::Error, color: bool) -> String {
    let page = error.render();
    if color {
        page.ansi().to_string()
    } else {
        page.to_string()
    }
}

/// A refusal in three parts: what is wrong, what is near, and where the right usage stands.
fn translate_error(error: &clap::Error, typed: &Typed<'_>) -> Error {
    let command = Hint::command(std::iter::once("ops").chain(typed.path.iter().copied()));
    // Without `ops`: a command line in a text is shown with the options in use, and this is none.
    let name = match typed.path.as_slice() {
        [] => "ops".to_owned(),
        path => path.join(" "),
    };
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(all)) => Some(all.join(" ")),
        _ => None,
    };
    let what = match error.kind() {
        ErrorKind::MissingRequiredArgument => text(ContextKind::InvalidArg)
            .map(|missing| format!("`{name}` needs {missing}, which is missing")),
        ErrorKind::InvalidSubcommand => text(ContextKind::InvalidSubcommand)
            .map(|word| format!("`{name}` has no command `{word}`")),
        _ => None,
    };
    let mut ours = Error::usage(what.unwrap_or_else(|| sentence_of_clap(error)));
    if let Some(suggestion) = suggested_hint(error) {
        ours = ours.hint(hint!("did you mean {}?", suggestion));
    }
    if let Some(hint) = command_meant(error, typed) {
        ours = ours.hint(hint);
    }
    ours.hint(hint!("see what it takes: {} --help", command))
}

/// What clap says, without its tips.
fn sentence_of_clap(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let sentence = text.split("\n\n").next().unwrap_or(text);
    let what: Vec<&str> = sentence.lines().map(str::trim).collect();
    in_plain_words(&backticks_for_quotes(&what.join(" ")))
}

/// `ops shell web-1 uptime`: a shell takes no command, and `exec` does.
fn command_meant(error: &clap::Error, typed: &Typed<'_>) -> Option<Hint> {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let is_shell = matches!(typed.path.as_slice(), ["shell" | "sh"]);
    if !is_shell || word.starts_with('-') {
        return None;
    }
    let place = typed.rest.iter().position(|other| other == word)?;
    let command = crate::cli::verb_command(crate::registry::find_entry("shell")?);
    let is_value = |place: usize| place > 0 && takes_next_word(&command, typed.rest[place - 1]);
    let is_target = |place: &usize| !typed.rest[*place].starts_with('-') && !is_value(*place);
    let target = typed.rest[(0..place).find(is_target)?];
    let words = ["ops", "exec", target, "--"].into_iter();
    let line = Hint::command(words.chain(typed.rest[place..].iter().copied()));
    Some(hint!("a command there: {}", line))
}

/// Whether `word` is an option of `command` whose value is the next word.
fn takes_next_word(command: &clap::Command, word: &str) -> bool {
    let is_it = |arg: &&clap::Arg| {
        let long = word.strip_prefix("--").filter(|name| !name.is_empty());
        let short = word.strip_prefix('-').filter(|name| name.len() == 1);
        (long.is_some() && arg.get_long() == long)
            || short.is_some_and(|name| arg.get_short() == name.chars().next())
    };
    let found = command.get_arguments().find(is_it);
    found.is_some_and(|arg| arg.get_action().takes_values())
}

fn suggested_hint(error: &clap::Error) -> Option<Hint> {
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

/// What the standard library says of a text that is no number, which clap passes on, in words that
/// tell what a number is.
fn in_plain_words(text: &str) -> String {
    [
        (
            "invalid digit found in string",
            "write a whole number, of digits alone",
        ),
        (
            "cannot parse integer from empty string",
            "write a whole number",
        ),
        (
            "number too large to fit in target type",
            "the number is too large",
        ),
    ]
    .iter()
    .fold(text.to_owned(), |text, (said, plain)| {
        text.replace(said, plain)
    })
}

/// clap's `'value'` as house style has it. Apostrophes inside words stay.
fn backticks_for_quotes(text: &str) -> String {
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
