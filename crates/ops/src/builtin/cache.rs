//! `ops cache`

use ops_core::{
    Command, Context, Traits,
    cache::{self, Entry},
};
use ops_profile::instance::age_words;
use ops_ui::{
    Exit, Format, Result,
    table::{self, Cell, Column},
};
use serde_json::json;

/// The cache of instances behind completion and --cached
///
/// Completion offers names from it, and with --cached single targets are looked up in it. Lists,
/// and targets that mean several servers, never come from it. There is a file for each profile,
/// role, region, endpoint and source of credentials, readable by you alone; what is older than ten
/// minutes is not used.
#[derive(clap::Args, Debug)]
pub(crate) struct Cache {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// Ask for the instances of this profile and region now
    Refresh,
    /// Delete all of it
    Clear,
    /// What is in it, how old it is, and where
    Info,
}

impl Command for Cache {
    const NAME: &'static str = "cache";
    const TRAITS: Traits = Traits {
        without_forms: &["refresh", "clear"],
        ..Traits::NONE
    };
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        (
            "ops cache refresh",
            "after a launch, to complete the new name",
        ),
        ("ops cache info", "what completion knows, and how old it is"),
    ];

    async fn run(self, cx: Context) -> Result<Exit> {
        match self.action {
            Action::Refresh => refresh_cache(&cx).await,
            Action::Clear => {
                let count = cache::clear(cx.paths())?;
                cx.output().note(match count {
                    0 => "there was nothing to delete".to_owned(),
                    1 => "deleted 1 list of instances".to_owned(),
                    count => format!("deleted {count} lists of instances"),
                });
                Ok(Exit::SUCCESS)
            }
            Action::Info => show_cache(&cx),
        }
    }
}

async fn refresh_cache(cx: &Context) -> Result<Exit> {
    if let Some(found) = Box::pin(cache::refresh(cx, true)).await? {
        for note in &found.notes {
            cx.output().warn(note);
        }
        let count = match found.count {
            1 => "1 running instance".to_owned(),
            count => format!("{count} running instances"),
        };
        cx.output()
            .note(format!("{count} in {}", found.regions.join(", ")));
    }
    Ok(Exit::SUCCESS)
}

fn show_cache(cx: &Context) -> Result<Exit> {
    let entries = cache::fleets(cx.invocation(), cx.settings().ok());
    let output = cx.output();
    match output.format() {
        Format::Json => output.json(&cache_document(&entries))?,
        Format::Yaml => output.yaml(&cache_document(&entries))?,
        Format::Name => {
            for entry in &entries {
                output.line(entry.path.to_string_lossy())?;
            }
        }
        format => {
            let mut columns = vec![
                Column::new("PROFILE", Column::KEPT).shrinking(),
                Column::new("REGION", Column::KEPT),
                Column::new("ACCOUNT", 3),
                Column::new("INSTANCES", Column::KEPT),
                Column::new("AGE", Column::KEPT),
                Column::new("NOW", 2),
            ];
            if format == Format::Wide {
                columns.push(Column::new("FILE", 1));
            }
            let rows = entries.iter().map(|entry| {
                let head = &entry.head;
                let mut cells = vec![
                    Cell::new(&head.profile),
                    Cell::new(head.regions.join(",")),
                    Cell::new(&head.account),
                    Cell::new(head.count.to_string()),
                    Cell::new(age_words(age_seconds(entry))),
                    Cell::new(if entry.is_current { "in use" } else { "" }),
                ];
                if format == Format::Wide {
                    cells.push(Cell::new(entry.path.to_string_lossy()));
                }
                cells
            });
            if !entries.is_empty() {
                output.through_pager(|| table::write(output, &columns, rows))?;
            }
        }
    }
    if entries.is_empty() {
        output.note(
            "nothing is cached: the first completion of a name fills it, and ops cache refresh",
        );
    }
    Ok(Exit::SUCCESS)
}

fn age_seconds(entry: &Entry) -> i64 {
    i64::try_from(entry.age().as_secs()).unwrap_or(i64::MAX)
}

fn cache_document(entries: &[Entry]) -> serde_json::Value {
    let fleets: Vec<_> = entries
        .iter()
        .map(|entry| {
            json!({
                "profile": entry.head.profile,
                "regions": entry.head.regions,
                "account": entry.head.account,
                "instances": entry.head.count,
                "ageSeconds": age_seconds(entry),
                "current": entry.is_current,
                "bytes": entry.len_bytes,
                "path": entry.path,
            })
        })
        .collect();
    json!({ "apiVersion": "ops.cache/v1", "fleets": fleets })
}
