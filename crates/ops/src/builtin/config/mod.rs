//! `ops config`

mod change;
mod diff;
mod editor;
mod file;
mod import;
mod init;

use std::path::Path;

use ops_core::{Command, Context, Traits, Values};
use ops_profile::settings::{self as show, GitClone, ProfileKind, ProfileRow};
use ops_ui::{
    Error, Exit, Format, Result,
    output::escape,
    table::{Cell, Column},
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::plugin;

/// Show and change settings and profiles
///
/// Precedence: flag, `OPS_*` variable, team profile, AWS configuration (`AWS_*` variables and
/// files), default. A team profile is one YAML file; `ops config path` says where they are looked
/// for, and nothing is ever read from the working directory.
#[derive(clap::Args, Debug)]
pub(crate) struct Config {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// Each effective value, and where it comes from
    Show,
    /// Every profile that -p can name, and what each hides
    Profiles,
    /// Where ops looks for and keeps things
    Path,
    /// Check profiles, and say file, line and column of what is wrong
    Validate {
        /// Names or files of team profiles; all there are without one
        profiles: Vec<String>,
    },
    /// Write a first profile, from at most five answers
    ///
    /// Asks on a terminal for what is not said on the line; elsewhere NAME has to be there. The
    /// profile goes into your own folder of profiles.
    Init(init::InitArgs),
    /// Open a profile, or your own config.yaml, in your editor
    ///
    /// The editor gets a copy, which takes the place of the file once nothing is wrong with it. It
    /// is that of OPS_EDITOR, VISUAL or EDITOR, else vi.
    Edit {
        /// Team profile; without one that of -p, else your own config.yaml
        // `profile` is the id of the global option, which it would take the place of.
        #[arg(value_name = "PROFILE")]
        edited: Option<String>,
    },
    /// Set a key; comments and all the rest of the file stay
    ///
    /// In your own config.yaml, or with -p on the line in that team profile. VALUE is text where
    /// the key takes text, else what YAML takes it for: 5, true, [a, b].
    Set {
        /// Such as output, or with -p ssh.user
        key: String,
        /// The value
        value: String,
    },
    /// Take a key out; comments and all the rest of the file stay
    Unset {
        /// Such as output, or with -p ssh.user
        key: String,
    },
    /// Use a profile where -p and OPS_PROFILE name none
    Use {
        /// Team profile or AWS profile
        #[arg(value_name = "PROFILE", required_unless_present = "none")]
        used: Option<String>,
        /// Use none
        #[arg(long, conflicts_with = "used")]
        none: bool,
    },
    /// Show in which keys two profiles differ, with all that they extend
    Diff {
        /// A team profile
        first: String,
        /// The other one
        second: String,
    },
    /// Turn what other tools have into a profile, and say what is left out
    Import(import::ImportArgs),
    /// JSON Schema of a team profile, for editors
    Schema {
        /// That of your own config.yaml
        #[arg(long)]
        user: bool,
    },
}

impl Command for Config {
    const NAME: &'static str = "config";
    const TRAITS: Traits = Traits {
        always_allowed: true,
        without_forms: &["init", "edit", "set", "unset", "use", "import"],
        ..Traits::NONE
    };
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        (
            "ops config show",
            "each effective value, and where it comes from",
        ),
        ("ops config profiles", "what -p can name"),
        ("ops config init shop --region eu-west-1", "a first profile"),
        ("ops config validate payments-prod", "is it right?"),
        (
            "ops config schema > ops-profile.json",
            "for an editor that knows JSON Schema",
        ),
    ];

    const COMPLETES: &'static [(&'static str, Values)] = &[
        ("profiles", Values::TeamProfile),
        ("edited", Values::TeamProfile),
        ("used", Values::TeamProfile),
        ("first", Values::TeamProfile),
        ("second", Values::TeamProfile),
    ];

    async fn run(self, cx: Context) -> Result<Exit> {
        match self.action {
            Action::Show => show_settings(&cx),
            Action::Profiles => list_profiles(&cx),
            Action::Path => show_path(&cx),
            Action::Validate { profiles } => validate_profiles(&cx, &profiles),
            Action::Init(args) => init::init_profile(&cx, &args).await,
            Action::Edit { edited } => editor::edit_profile(&cx, edited.as_deref()).await,
            Action::Set { key, value } => change::set_value(&cx, &key, &value),
            Action::Unset { key } => change::unset_value(&cx, &key),
            Action::Use { used, none: _ } => change::use_profile(&cx, used.as_deref()),
            Action::Diff { first, second } => diff::diff_profiles(&cx, &first, &second),
            Action::Import(args) => import::import_profile(&cx, &args),
            Action::Schema { user } => {
                let schema = if user {
                    show::user_schema()
                } else {
                    show::schema()
                };
                let output = cx.output();
                output.through_pager(|| match output.format() {
                    Format::Yaml => output.yaml(&schema),
                    _ => output.json(&schema),
                })?;
                Ok(Exit::SUCCESS)
            }
        }
    }
}

fn show_settings(cx: &Context) -> Result<Exit> {
    let rows = show::show(cx.invocation(), cx.settings()?)?;
    if print_document(cx, "settings", &rows)? {
        return Ok(Exit::SUCCESS);
    }
    let lines = rows
        .iter()
        .map(|row| vec![row.name.clone(), value_text(&row.value), row.source.clone()]);
    print_table(cx, &["NAME", "VALUE", "SOURCE"], lines)
}

fn list_profiles(cx: &Context) -> Result<Exit> {
    let rows = show::profiles(cx.invocation(), cx.verbs(), cx.settings().ok())?;
    if print_document(cx, "profiles", &rows)? {
        return Ok(Exit::SUCCESS);
    }
    let output = cx.output();
    write_profiles(cx, &rows)?;
    for row in &rows {
        for hidden in &row.hides {
            output.warn(escape(&format!(
                "`{}` hides {}",
                row.name,
                hidden.display()
            )));
        }
        if let Some(by) = &row.hidden_by {
            output.warn(escape(&format!(
                "-p {} means the team profile {}; --aws-profile reaches this one",
                row.name,
                by.display()
            )));
        }
        if let Some(problem) = &row.problem {
            output.warn(escape(&format!("`{}`: {problem}", row.name)));
        }
    }
    if rows.is_empty() {
        output.note("no profiles; see where they are looked for: ops config path");
    }
    Ok(Exit::SUCCESS)
}

/// So many digits of a commit are shown, as `git log --oneline` does.
const SHORT_COMMIT: usize = 7;

/// The table of profiles. The clone of a team is told where one of the folders is in a clone.
fn write_profiles(cx: &Context, rows: &[ProfileRow]) -> Result<()> {
    let mut columns = vec![
        Column::new("", Column::KEPT),
        Column::new("NAME", Column::KEPT).shrinking(),
        Column::new("KIND", 2),
        Column::new("REGION", 3),
        Column::new("DESCRIPTION", 4).shrinking(),
        Column::new("FILE", Column::KEPT).shrinking(),
    ];
    let has_clones = rows.iter().any(|row| row.clone.is_some());
    if has_clones {
        // On a narrow terminal what tells whose state this is outlives the place of the file.
        columns[5] = Column::new("FILE", 1).shrinking();
        columns.extend([
            Column::new("SOURCE", Column::KEPT).shrinking(),
            Column::new("COMMIT", Column::KEPT),
            Column::new("AGE", Column::KEPT),
        ]);
    }
    let cells = rows.iter().map(|row| {
        let kind = match row.kind {
            ProfileKind::Team => "team",
            ProfileKind::Aws => "aws",
        };
        let path = at_home(&row.path.display().to_string(), &cx.paths().home);
        let mut cells = vec![
            Cell::new(if row.active { "*" } else { "" }),
            Cell::new(&row.name),
            Cell::new(kind),
            Cell::maybe(row.region.as_deref()),
            Cell::maybe(row.description.as_deref()),
            Cell::new(path),
        ];
        if has_clones {
            let clone = row.clone.as_ref();
            let commit = clone.map(|clone| clone.commit.chars().take(SHORT_COMMIT).collect());
            cells.extend([
                Cell::maybe(clone.and_then(|clone| clone.source.as_deref())),
                Cell::new(commit.unwrap_or_else(String::new)),
                Cell::new(clone.map(GitClone::age).unwrap_or_default()),
            ]);
        }
        cells
    });
    if rows.is_empty() {
        return Ok(());
    }
    let output = cx.output();
    output.through_pager(|| ops_ui::table::write(output, &columns, cells))
}

fn show_path(cx: &Context) -> Result<Exit> {
    let rows = show::files(cx.invocation());
    if print_document(cx, "files", &rows)? {
        return Ok(Exit::SUCCESS);
    }
    let lines = rows.iter().map(|row| {
        let there = if row.exists { "yes" } else { "no" };
        vec![
            row.what.to_owned(),
            row.path.display().to_string(),
            there.to_owned(),
        ]
    });
    print_table(cx, &["WHAT", "PATH", "EXISTS"], lines)
}

fn validate_profiles(cx: &Context, names: &[String]) -> Result<Exit> {
    let is_external = |verb: &str| plugin::find_plugin(cx.env(), &[verb.into()]).is_some();
    let results = show::validate(cx.invocation(), cx.verbs(), names, &is_external)?;
    let output = cx.output();
    let described = |error: &Error| json!({ "message": error.what(), "why": error.why(), "hint": error.hints() });
    let rows: Vec<Value> = results
        .iter()
        .map(|result| {
            let problems: Vec<Value> = result.problems.iter().map(described).collect();
            json!({
                "name": result.name,
                "path": result.path,
                "problem": problems.first(),
                "problems": problems,
            })
        })
        .collect();
    if !print_document(cx, "files", &rows)? {
        for result in &results {
            if result.problems.is_empty() {
                output.line(format!(
                    "ok  {}",
                    escape(&result.path.display().to_string())
                ))?;
            }
            for problem in &result.problems {
                output.error(problem);
            }
        }
        if results.is_empty() {
            output.note("nothing to check; see where profiles are looked for: ops config path");
        }
    }
    let right = results.iter().all(|result| result.problems.is_empty());
    Ok(if right { Exit::SUCCESS } else { Exit::USAGE })
}

/// Writes `rows` as a document if that form was asked for.
fn print_document(cx: &Context, name: &str, rows: &impl Serialize) -> Result<bool> {
    let output = cx.output();
    let whole = json!({ "apiVersion": "ops.config/v1", name: rows });
    match output.format() {
        Format::Json => output.through_pager(|| output.json(&whole))?,
        Format::Yaml => output.through_pager(|| output.yaml(&whole))?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// Aligned columns, cut where the terminal is too narrow. The user's home folder is `~` here, which
/// leaves room on it.
fn print_table(
    cx: &Context,
    head: &[&str],
    lines: impl Iterator<Item = Vec<String>>,
) -> Result<Exit> {
    let rows: Vec<Vec<Cell>> = lines
        .map(|line| {
            line.iter()
                .map(|cell| Cell::new(at_home(cell, &cx.paths().home)))
                .collect()
        })
        .collect();
    if rows.is_empty() {
        return Ok(Exit::SUCCESS);
    }
    let columns: Vec<Column> = head
        .iter()
        .map(|title| Column::new(*title, Column::KEPT).shrinking())
        .collect();
    let output = cx.output();
    output.through_pager(|| ops_ui::table::write(output, &columns, rows.iter().cloned()))?;
    Ok(Exit::SUCCESS)
}

/// `text` with `~` for the home folder, at its beginning or behind a blank.
fn at_home(text: &str, home: &Path) -> String {
    let Some(home) = home.to_str().filter(|home| home.len() > 1) else {
        return text.to_owned();
    };
    match text.split_once(home) {
        Some((before, path))
            if path.starts_with('/') && (before.is_empty() || before.ends_with(' ')) =>
        {
            format!("{before}~{path}")
        }
        _ => text.to_owned(),
    }
}

fn value_text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(all) if all.is_empty() => "-".to_owned(),
        Value::Array(all) => all.iter().map(value_text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_home_folder_is_a_tilde_where_a_path_begins() {
        let shown = |text| at_home(text, Path::new("/home/me"));
        assert_eq!(shown("/home/me/.config"), "~/.config");
        assert_eq!(
            shown("team profile /home/me/a.yaml:3"),
            "team profile ~/a.yaml:3"
        );
        assert_eq!(shown("/home/mel/.config"), "/home/mel/.config");
        assert_eq!(shown("/srv/home/me/x"), "/srv/home/me/x");
        assert_eq!(at_home("/etc/x", Path::new("/")), "/etc/x");
    }
}
