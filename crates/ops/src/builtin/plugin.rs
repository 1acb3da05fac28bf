//! `ops plugin`

use std::ffi::OsString;

use ops_core::{Command, Context, Values};
use ops_profile::Verbs;
use ops_ui::{
    Error, ErrorKind, Exit, Format, Output, Paths, Result,
    output::escape,
    table::{self, Cell, Column},
};
use serde::Serialize;

use crate::{
    plugin::{self, Cache, Found},
    policy::Policy,
};

/// List and run external commands
///
/// An executable called `ops-NAME` is the command `ops
/// NAME`. It is looked for in `$XDG_DATA_HOME/ops/plugins/bin`, then in each absolute folder of
/// PATH. Built-in commands and aliases of the profile cannot be replaced by one.
#[derive(clap::Args, Debug)]
pub(crate) struct Plugins {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// List external commands, hidden ones and what is wrong with them
    List,
    /// Run an external command, even one that a built-in command hides
    Run {
        /// NAME of `ops-NAME`
        name: String,
        /// Its arguments, as they are
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    name: String,
    path: String,
    version: Option<String>,
    about: Option<String>,
    problems: Vec<String>,
}

impl Command for Plugins {
    const NAME: &'static str = "plugin";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("ops plugin list", "external commands, with their problems"),
        (
            "ops plugin run ls --all",
            "`ops-ls`, although `ls` is built in",
        ),
    ];

    const COMPLETES: &'static [(&'static str, Values)] = &[("name", Values::ExternalCommand)];

    async fn run(self, cx: Context) -> Result<Exit> {
        match self.action {
            Action::List => list_plugins(&cx),
            Action::Run { name, arguments } => run_plugin(&name, &arguments, &cx).await,
        }
    }
}

async fn run_plugin(name: &str, arguments: &[OsString], cx: &Context) -> Result<Exit> {
    Policy::load(cx)?.check(name)?;
    match plugin::find_plugin(cx.env(), &[OsString::from(name)]) {
        // The sandbox is in this process: it has to stay.
        Some((found, _)) if cx.globals().sandbox => {
            plugin::spawn_plugin(&found, arguments, cx).await
        }
        Some((found, _)) => Err(plugin::exec_plugin(&found, arguments, cx)),
        None => Err(Error::new(
            ErrorKind::PluginNotFound,
            format!("there is no external command `{name}`"),
        )
        .caused_by(format!(
            "no executable `ops-{name}` is in the plugin folder or on PATH"
        ))
        .hint("see those there are: ops plugin list")),
    }
}

fn list_plugins(cx: &Context) -> Result<Exit> {
    let mut cache = Cache::load(&Paths::from_env(cx.env()));
    let aliases = Policy::load(cx)
        .map(|policy| {
            policy
                .aliases()
                .map(|(name, _)| name.to_owned())
                .collect::<Vec<_>>()
        })
        .unwrap_or_default();
    let mut lines: Vec<Line> = Vec::new();
    for found in plugin::all_plugins(cx.env()) {
        let info = found
            .plugin
            .may_be_probed
            .then(|| cache.ask(&found.plugin.path, cx.env()))
            .flatten();
        let mut problems = plugin_problems(&found, cx.verbs(), &aliases, &lines);
        if let Some(info) = info.as_ref().filter(|info| !info.is_spoken()) {
            problems.push(format!(
                "speaks {}, this ops speaks {}",
                info.api_version,
                plugin::API_VERSION
            ));
        }
        lines.push(Line {
            name: found.plugin.name,
            path: found.plugin.path.display().to_string(),
            version: info
                .as_ref()
                .map(|info| info.version.clone())
                .filter(|text| !text.is_empty()),
            about: info.map(|info| info.about).filter(|text| !text.is_empty()),
            problems,
        });
    }
    // Warnings are no failure of the list.
    show_lines(&lines, cx)?;
    Ok(Exit::SUCCESS)
}

fn plugin_problems(
    found: &Found,
    verbs: Verbs,
    aliases: &[String],
    before: &[Line],
) -> Vec<String> {
    let name = &found.plugin.name;
    let mut problems = Vec::new();
    if !found.executable {
        problems.push("not executable".to_owned());
    }
    if verbs.find(name).is_some() {
        problems.push(format!(
            "hidden by the built-in `{name}`; ops plugin run {name} reaches it"
        ));
    } else if aliases.contains(name) {
        problems.push(format!(
            "hidden by the profile's alias `{name}`; ops plugin run {name} reaches it"
        ));
    }
    if let Some(first) = before.iter().find(|line| line.name == *name) {
        problems.push(format!("hidden by {}", first.path));
    }
    if let Some(exposed) = &found.exposed {
        problems.push(format!("not run: {exposed}; {}", exposed.mend()));
    }
    problems
}

fn write_list(lines: &[Line], output: &Output) -> Result<()> {
    let document = || serde_json::json!({ "apiVersion": "ops.plugins/v1", "plugins": lines });
    match output.format() {
        Format::Json => output.json(&document()),
        Format::Yaml => output.yaml(&document()),
        Format::Name => lines.iter().try_for_each(|line| output.line(&line.name)),
        _ if lines.is_empty() => Ok(()),
        _ => {
            let columns = [
                Column::new("NAME", Column::KEPT).shrinking(),
                Column::new("VERSION", 1),
                Column::new("ABOUT", 2).shrinking(),
                Column::new("FILE", Column::KEPT).shrinking(),
            ];
            let rows = lines.iter().map(|line| {
                vec![
                    Cell::new(&line.name),
                    Cell::maybe(line.version.as_deref()),
                    Cell::maybe(line.about.as_deref()),
                    Cell::new(&line.path),
                ]
            });
            table::write(output, &columns, rows)
        }
    }
}

fn show_lines(lines: &[Line], cx: &Context) -> Result<()> {
    let output = cx.output();
    output.through_pager(|| write_list(lines, output))?;
    let is_table = matches!(output.format(), Format::Table | Format::Wide);
    for line in lines.iter().filter(|_| is_table) {
        for problem in &line.problems {
            output.warn(format!("{}: {}", line.name, escape(problem)));
        }
    }
    if lines.is_empty() {
        output.note("no external commands: put an executable called ops-NAME on PATH");
    }
    Ok(())
}
