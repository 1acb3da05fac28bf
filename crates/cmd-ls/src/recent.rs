//! `ops recent`: the servers that were used last.

use jiff::Timestamp;
use ops_core::{Command, Context, recent::Recent as Use};
use ops_profile::instance::age_words;
use ops_ui::{
    Exit, Format, Result,
    table::{self, Cell, Column},
};
use serde::Serialize;

use crate::document::API_VERSION;

/// List the servers that were used last
///
/// The target `-` means the first of them: `ops shell -` is a shell on the server that was used
/// last, with whatever verb, and `ops cp -:app.log .` copies from it. They come first in the list
/// of `ops pick` too. What was used with another profile is another list; jobs without a terminal
/// are not remembered.
///
/// They are kept in a file on this machine that you alone can read. `recent: false` in config.yaml
/// or in a profile keeps none. Those of a profile with `guard: { protect: true }` are kept only
/// where it says `recent: true`.
#[derive(clap::Args, Debug)]
pub(crate) struct Recent {
    /// Those of all profiles
    #[arg(long)]
    all: bool,
    /// Forget all of them, of every profile
    #[arg(long, conflicts_with = "all")]
    clear: bool,
}

impl Command for Recent {
    const NAME: &'static str = "recent";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        (
            "ops recent",
            "those of the profile in use, the last one first",
        ),
        ("ops shell -", "a shell on the one that was used last"),
    ];

    async fn run(self, cx: Context) -> Result<Exit> {
        if self.clear {
            cx.forget_recents()?;
            return Ok(Exit::SUCCESS);
        }
        let uses = if self.all {
            cx.recents_of_all_profiles()
        } else {
            cx.recents()?
        };
        let output = cx.output();
        match output.format() {
            Format::Json => output.json(&recent_document(&uses))?,
            Format::Yaml => output.yaml(&recent_document(&uses))?,
            Format::Name => uses.iter().try_for_each(|one| output.line(&one.id))?,
            _ if uses.is_empty() => output.note(reason_for_none(&cx)?),
            format => {
                let names_profile = self.all || format == Format::Wide;
                output.through_pager(|| write_table(&cx, &uses, names_profile))?;
            }
        }
        Ok(Exit::SUCCESS)
    }
}

fn write_table(cx: &Context, uses: &[Use], names_profile: bool) -> Result<()> {
    let mut columns = vec![
        Column::new("NAME", Column::KEPT).shrinking(),
        Column::new("ID", Column::KEPT),
        Column::new("REGION", 3),
        Column::new("VERB", 2),
        Column::new("USED", 4),
    ];
    if names_profile {
        columns.push(Column::new("PROFILE", 1));
    }
    let now = Timestamp::now();
    let rows = uses.iter().map(|one| {
        let mut cells = vec![
            Cell::maybe(one.name.as_deref()),
            Cell::new(&one.id),
            Cell::new(&one.region),
            Cell::new(&one.verb),
            Cell::new(age_words(now.duration_since(one.used).as_secs())),
        ];
        if names_profile {
            cells.push(Cell::new(profile_of(one)));
        }
        cells
    });
    table::write(cx.output(), &columns, rows)
}

fn profile_of(one: &Use) -> &str {
    if one.sandbox {
        "the sandbox"
    } else {
        &one.profile
    }
}

/// Why there are none: nothing was used, or nothing is kept.
fn reason_for_none(cx: &Context) -> Result<String> {
    let settings = cx.settings()?;
    Ok(if settings.recent.value {
        format!(
            "no server was used with profile {} so far",
            settings.profile_label()
        )
    } else {
        format!("none is remembered: {} says so", settings.recent.origin)
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    api_version: &'static str,
    kind: &'static str,
    items: &'a [Use],
}

fn recent_document(uses: &[Use]) -> Document<'_> {
    Document {
        api_version: API_VERSION,
        kind: "RecentList",
        items: uses,
    }
}
