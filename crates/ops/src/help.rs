//! What help pages say beyond what clap makes of the arguments: examples first, verbs in groups,
//! external commands beside them.

use std::fmt::Write as _;

use clap::{Arg, ArgAction, Command};
use ops_core::Entry;
use ops_ui::{Env, Globals, output::escape, text::cut};

use crate::{plugin, policy::Policy, registry};

/// Stands in the root's help where external commands and aliases go: they are looked for only when
/// that page is shown.
const EXTERNAL: &str = "<external commands>";

/// Verbs about servers that share one line of the short page, where each line counts: what other
/// programs call, or what goes with another verb.
const ON_ONE_LINE: [&str; 6] = ["api", "console", "recent", "runs", "ssh-config", "wait"];
/// What the short page begins with.
const SHORT_ABOUT: &str = "Reach servers on AWS through Session Manager";
/// Of the narrowest terminal that is common.
const SCREEN_COLUMNS: usize = 80;

const ROOT_EXAMPLES: [(&str, &str); 4] = [
    ("ops ls --tag 'Name=web*'", "list servers"),
    ("ops shell web-1", "a shell on one of them"),
    (
        "ops --sandbox shell web-1",
        "the same without AWS: a shell of the embedded stand-in",
    ),
    ("ops -p payments-prod ls", "as a team profile sees it"),
];

const EXIT_CODES: &str = "0 success, 1 unexpected error, 2 usage or invalid profile, 3 target not found, 4 not logged in, 5 denied by AWS, \
6 ambiguous target, 7 not reachable, 8 some parts failed, 9 refused by a guard, 124 time-out, 127 plugin not found, 130 interrupted, \
143 terminated. Verbs that run a command elsewhere return its status, and 255 for a failure of their own.";

/// The root's pages.
pub(crate) fn for_root(root: Command) -> Command {
    let about = root
        .get_about()
        .map(ToString::to_string)
        .unwrap_or_default();
    let all = verb_list(None);
    let page = |examples: &[(&str, &str)]| {
        format!(
            "{about}\n\n{}\n{} ops [OPTIONS] VERB [TARGET]... [-- COMMAND...]\n\n{all}{EXTERNAL}",
            list_examples(examples),
            heading_line("Usage"),
        )
    };
    // The short page fits a screen of 24 rows: the verbs first, a line for each; its options are
    // hidden, and what stands in for them is at its end.
    let short = format!(
        "{SHORT_ABOUT}\nUsage: ops [OPTIONS] VERB [TARGET]... [-- COMMAND...]\n\n{}{EXTERNAL}",
        verb_list(Some(SCREEN_COLUMNS)),
    );
    let root = root.mut_args(|arg| arg.hide_short_help(true));
    root.help_template("{before-help}{options}{after-help}")
        .before_help(short)
        .before_long_help(format!("{}\n{}", page(&ROOT_EXAMPLES), heading_line("Options")))
        .after_help(
            "All of it: ops --help, ops VERB -h. Without AWS: ops --sandbox shell web-1",
        )
        .after_long_help(format!(
            "{}\n{EXIT_CODES}\n\nOptions work before and after the verb and its target; what follows -- is left alone. Each has a variable: OPS_PROFILE for --profile.",
            heading_line("Exit codes")
        ))
}

/// The pages of one verb.
pub(crate) fn for_verb(command: Command, entry: &Entry) -> Command {
    let mut command = with_help_option(command).help_template(
        "{before-help}{about-with-newline}\n{usage-heading} {usage}\n\n{all-args}{after-help}",
    );
    if !entry.examples.is_empty() {
        let first = &entry.examples[..entry.examples.len().min(2)];
        command = command
            .before_help(list_examples(first))
            // The long page begins with what the verb does, and has all examples at its end.
            .before_long_help("")
            .after_long_help(list_examples(entry.examples));
    }
    command.after_help(format!(
        "Also -p, --region, --sandbox, -o, -v and others: ops {} --help",
        entry.name
    ))
}

/// `command` and what is below it with `-h` and `--help` of our own: the short page has to fit a
/// screen, and whoever reads it knows the option.
fn with_help_option(command: Command) -> Command {
    let help = Arg::new("help")
        .short('h')
        .long("help")
        .help("Print this page; the short one with -h")
        .hide_short_help(true)
        .action(ArgAction::Help);
    let mut command = command.disable_help_flag(true).arg(help);
    let below: Vec<String> = command
        .get_subcommands()
        .map(|sub| sub.get_name().to_owned())
        .collect();
    for name in below {
        command = command.mut_subcommand(name, with_help_option);
    }
    command
}

/// The root's rendered page with external commands and aliases in their place.
pub(crate) fn fill_in(page: &str, color: bool, globals: &Globals, env: &Env) -> String {
    if !page.contains(EXTERNAL) {
        return page.to_owned();
    }
    // The page is rendered already: nobody drops the codes after us.
    let plain = |title: &str| {
        if color {
            heading_line(title)
        } else {
            format!("{title}:")
        }
    };
    let mut text = String::new();
    let plugins = plugin::listed_plugins(env, registry::known_verbs());
    if !plugins.is_empty() {
        let _ = writeln!(text, "\n{}", plain("Plugins"));
        let width = plugins
            .iter()
            .map(|(name, _)| name.len())
            .max()
            .unwrap_or_default();
        for (name, about) in plugins {
            let _ = writeln!(text, "{}", format!("  {name:width$}  {about}").trim_end());
        }
    }
    // A profile that is wrong shows with the next command; help comes without its aliases.
    let cx = registry::new_context(globals.clone(), env.clone());
    if let Ok(policy) = Policy::load(&cx) {
        let aliases: Vec<(&str, String)> = policy.aliases().collect();
        if !aliases.is_empty() {
            let _ = writeln!(text, "\n{}", plain("Aliases of the profile"));
        }
        let width = aliases
            .iter()
            .map(|(name, _)| name.len())
            .max()
            .unwrap_or_default();
        for (name, meaning) in &aliases {
            let _ = writeln!(text, "  {name:width$}  ops {}", escape(meaning));
        }
    }
    let mut page = page.replacen(EXTERNAL, &text, 1);
    // Options that clap adds by itself cannot be hidden on the short page, where each line counts.
    if page.lines().next() == Some(SHORT_ABOUT) {
        let is_claps_own = |line: &&str| {
            let line = strip_colors(line);
            line.starts_with("  -h, --help") || line.starts_with("  -V, --version")
        };
        let lines: Vec<&str> = page.lines().filter(|line| !is_claps_own(line)).collect();
        page = lines.join("\n") + "\n";
    }
    // Where a part of the page is empty, the blank lines around it would stand together.
    while page.contains("\n\n\n") {
        page = page.replace("\n\n\n", "\n\n");
    }
    page
}

/// The verbs in their groups. On a screen of so many columns the first group, which people come
/// for, has a line for each but those [`ON_ONE_LINE`], and the other groups have one line of names.
fn verb_list(columns: Option<usize>) -> String {
    // Only ssh calls it.
    let is_for_ssh = |entry: &Entry| columns.is_some() && entry.name == "ssh-proxy";
    let is_more = |entry: &Entry| columns.is_some() && ON_ONE_LINE.contains(&entry.name);
    let is_named = |entry: &&Entry| !entry.traits.hidden && !is_for_ssh(entry);
    let is_shown = |entry: &&Entry| is_named(entry) && !is_more(entry);
    let shown = |group: &'static crate::Group| group.entries().filter(is_shown);
    let label = |entry: &Entry| match entry.aliases {
        [] => entry.name.to_owned(),
        aliases => format!("{}, {}", entry.name, aliases.join(", ")),
    };
    let width = registry::groups()
        .flat_map(shown)
        .map(|entry| label(entry).len())
        .max();
    let width = width.unwrap_or_default();
    let mut text = String::new();
    for (number, group) in registry::groups().enumerate() {
        if shown(group).next().is_none() {
            continue;
        }
        if columns.is_some() && number > 0 {
            let names: Vec<&str> = shown(group).map(|entry| entry.name).collect();
            // Plain: clap counts the codes of a heading, and breaks a line that has more behind it.
            let _ = writeln!(text, "{}: {}", group.title, names.join(", "));
            continue;
        }
        let _ = writeln!(text, "{}", heading_line(group.title));
        for entry in shown(group) {
            let about = (entry.clap)()
                .get_about()
                .map(ToString::to_string)
                .unwrap_or_default();
            let about = about.lines().next().unwrap_or_default();
            let about = match columns {
                Some(columns) => cut(about, columns.saturating_sub(width + 5)),
                None => about.to_owned(),
            };
            let _ = writeln!(text, "  {:width$}  {about}", label(entry));
        }
        let more: Vec<&str> = group
            .entries()
            .filter(|entry| is_named(entry) && is_more(entry))
            .map(|entry| entry.name)
            .collect();
        if !more.is_empty() {
            let _ = writeln!(text, "  {}", more.join(", "));
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn list_examples(examples: &[(&str, &str)]) -> String {
    let length = |text: &str| text.chars().count();
    let width = examples
        .iter()
        .map(|(line, _)| length(line))
        .max()
        .unwrap_or_default();
    let fits = examples
        .iter()
        .all(|(_, what)| 2 + width + 2 + length(what) <= SCREEN_COLUMNS);
    let mut text = format!("{}\n", heading_line("Examples"));
    for (line, what) in examples {
        let _ = if fits {
            writeln!(text, "  {line:width$}  {what}")
        } else {
            writeln!(text, "  {line}\n      {what}")
        };
    }
    text
}

/// `line` without what sets colours: `ESC [ … m`.
fn strip_colors(line: &str) -> String {
    let mut parts = line.split('\x1b');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        text + part.split_once('m').map_or("", |(_, rest)| rest)
    })
}

/// As clap styles its own headings; the codes are dropped where there is no colour.
fn heading_line(title: &str) -> String {
    format!("\x1b[1m\x1b[4m{title}:\x1b[0m")
}
