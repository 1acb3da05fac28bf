//! `ops man`

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command as Process,
    sync::OnceLock,
};

use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};
use ops_core::{Command, Context, Entry, Forms, Traits};
use ops_ui::{Error, ErrorKind, Exit, Result, hint};

use crate::globals;

/// What the pages are made of.
pub(crate) struct Source {
    /// The command line as clap sees it.
    pub(crate) root: fn() -> clap::Command,
    /// The verb that is called so.
    pub(crate) find: fn(&str) -> Option<&'static Entry>,
}

/// Handed in by the program's start: the registry names this command, so that this command cannot
/// name the registry.
pub(crate) static SOURCE: OnceLock<Source> = OnceLock::new();

/// Show the manual page of a verb
///
/// On a terminal `man` shows it, elsewhere the page is printed in man's own language (roff).
/// Without a VERB it is the page of `ops` itself. --dir writes the pages of all verbs into a
/// folder, `ops.1`, `ops-cp.1` and so on: into `man1` of a folder that MANPATH names, `man ops-cp`
/// finds them.
#[derive(clap::Args, Debug)]
pub(crate) struct Manual {
    /// The verb, and what is below it: config show
    #[arg(value_name = "VERB")]
    verb: Vec<String>,
    /// Write all pages into this folder
    #[arg(long, value_name = "DIR", conflicts_with = "verb")]
    dir: Option<PathBuf>,
}

impl Command for Manual {
    const NAME: &'static str = "man";
    const TRAITS: Traits = Traits {
        always_allowed: true,
        forms: Forms::Nothing,
        ..Traits::NONE
    };
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("ops man cp", "the page of `ops cp`"),
        (
            "ops man --dir ~/.local/share/man/man1",
            "all pages, where man looks for them",
        ),
    ];

    async fn run(self, cx: Context) -> Result<Exit> {
        let source = SOURCE.get().ok_or_else(|| {
            Error::new(ErrorKind::Unexpected, "nothing says which verbs there are")
        })?;
        let mut root = (source.root)();
        root.build();
        if let Some(dir) = &self.dir {
            write_all(source, &root, dir)?;
            return Ok(Exit::SUCCESS);
        }
        let mut command = &root;
        for word in &self.verb {
            command = command.find_subcommand(word).ok_or_else(|| {
                Error::new(ErrorKind::Usage, format!("there is no command `{word}`"))
                    .hint(hint!("see all commands: ops --help"))
            })?;
        }
        let page = render_page(source, command);
        if !(cx.output().stdout_is_terminal() && show_in_man(&page, command, &cx)) {
            cx.output().page(&page)?;
        }
        Ok(Exit::SUCCESS)
    }
}

/// Writes the page of `command` and of all that is below it and not hidden.
fn write_all(source: &Source, command: &clap::Command, dir: &Path) -> Result<()> {
    let failed = |path: &Path, error| {
        Error::new(ErrorKind::Usage, format!("cannot write {}", path.display())).caused_by(error)
    };
    fs::create_dir_all(dir).map_err(|error| failed(dir, error))?;
    let mut waiting = vec![command];
    while let Some(command) = waiting.pop() {
        let path = dir.join(file_name(command));
        fs::write(&path, render_page(source, command)).map_err(|error| failed(&path, error))?;
        waiting.extend(
            command
                .get_subcommands()
                .filter(|below| !below.is_hide_set()),
        );
    }
    Ok(())
}

/// The name of the whole program.
const ROOT: &str = "ops";

/// `ops-config-show.1`
fn file_name(command: &clap::Command) -> String {
    format!("{}.1", page_name(command))
}

/// `ops-config-show`
fn page_name(command: &clap::Command) -> &str {
    command
        .get_display_name()
        .unwrap_or_else(|| command.get_name())
}

/// The page in roff. Examples stand in a section of their own, which clap does not know of; global
/// options stand on the page of `ops` alone.
fn render_page(source: &Source, command: &clap::Command) -> String {
    let is_root = command.get_name() == ROOT;
    let globals: Vec<_> = globals::global_args()
        .into_iter()
        .map(|arg| arg.get_id().clone())
        .collect();
    let mut shown = command.clone().mut_args(|arg| {
        let is_elsewhere = !is_root && globals.contains(arg.get_id());
        // What the short help leaves out has its text here.
        arg.hide_short_help(false).hide(is_elsewhere)
    });
    // The first line is the page's NAME; a page that says no more has no DESCRIPTION.
    let description = description(command);
    if let Some(text) = &description {
        shown = shown.long_about(text.clone());
    }
    let usage = shown.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").to_owned();
    let man = Man::new(shown)
        .title(page_name(command).to_uppercase())
        .manual("ops")
        .source(format!("ops {}", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    // A vector takes all that is written.
    let _ = man.render_title(&mut text);
    let _ = man.render_name_section(&mut text);
    // Clap's synopsis names each option once more.
    let mut synopsis = Roff::new();
    synopsis.control("SH", ["SYNOPSIS"]);
    synopsis.text([roman(usage)]);
    let _ = synopsis.to_writer(&mut text);
    if description.is_some() {
        let _ = man.render_description_section(&mut text);
    }
    let _ = man.render_options_section(&mut text);
    if command.get_subcommands().any(|below| !below.is_hide_set()) {
        let _ = man.render_subcommands_section(&mut text);
    }
    let mut more = Roff::new();
    if let Some(entry) =
        (source.find)(command.get_name()).filter(|entry| is_page_of(entry, command))
    {
        more.control("SH", ["EXAMPLES"]);
        for (line, what) in entry.examples {
            more.control("TP", []);
            more.text([bold(*line)]);
            more.text([roman(*what)]);
        }
    }
    if !is_root {
        more.control("SH", ["GLOBAL OPTIONS"]);
        more.text([
            bold("-p"),
            roman(", "),
            bold("--region"),
            roman(", "),
            bold("--sandbox"),
            roman(", "),
            bold("-o"),
            roman(", "),
            bold("-v"),
            roman(" and others are on the page "),
            bold("ops"),
            roman("(1), and so are the exit codes."),
        ]);
    }
    let _ = more.to_writer(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// What is said of `command` beyond its first line; `None` for nothing.
fn description(command: &clap::Command) -> Option<String> {
    let long = command.get_long_about()?.to_string();
    let first = command.get_about().map(ToString::to_string);
    let rest = match first.as_deref().and_then(|first| long.strip_prefix(first)) {
        Some(rest) => rest.trim_start(),
        None => &long,
    };
    (!rest.is_empty()).then(|| rest.to_owned())
}

/// Not that of a command of the same name below another verb.
fn is_page_of(entry: &Entry, command: &clap::Command) -> bool {
    page_name(command) == format!("ops-{}", entry.name)
}

/// Whether `man` has shown the page. It takes a path with a slash as a file, by man-db and by
/// mandoc alike.
fn show_in_man(page: &str, command: &clap::Command, cx: &Context) -> bool {
    let Ok(folder) = tempfile::tempdir() else {
        return false;
    };
    let path = folder.path().join(file_name(command));
    if fs::write(&path, page).is_err() {
        return false;
    }
    Process::new("man")
        .arg(AsRef::<OsStr>::as_ref(&path))
        .env_clear()
        .envs(cx.env().iter())
        .status()
        .is_ok_and(|status| status.success())
}
