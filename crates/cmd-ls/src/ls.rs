//! The command: what is asked for.

use std::time::Duration;

use ops_core::{
    Command, Context, Forms, Query, Traits, Values,
    inventory::{Ec2Filter, StateFilter, TagFilter},
};
use ops_profile::{InstanceState, Target};
use ops_ui::{Error, Exit, Format, Result, hint};

use crate::{
    columns::{self, Field},
    list::{Agent, List},
    paths,
    sort::SortKey,
    watch,
};

/// List servers
///
/// Lists EC2 instances and hybrid nodes, with what Session Manager knows of their agents. Patterns
/// are ids, names, globs over names, private addresses or tag:Key=Value; an instance is listed if
/// one of them means it. Without --state, pending and running instances are listed, or those in the
/// states that the profile's `select.states` names.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Ls {
    /// Ids, names, globs such as 'web-*', addresses or tag:Key=Value
    #[arg(value_name = "PATTERN")]
    patterns: Vec<Target>,
    // The brackets are those of a help page, and no link.
    #[allow(rustdoc::broken_intra_doc_links)]
    /// Condition on a tag: Key=GLOB[,GLOB] or Key!=GLOB
    ///
    /// Where one key is repeated, one of its conditions has to hold; of different keys all.
    #[arg(short = 'l', long = "tag", value_name = "KEY=VALUE")]
    tags: Vec<TagFilter>,
    /// States: running, stopped and so on, or all
    ///
    /// pending, running, stopping, stopped, shutting-down, terminated. `all` leaves terminated out.
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    state: Vec<StateFilter>,
    /// Filter of EC2, passed on as it is
    #[arg(hide_short_help = true, long, value_name = "NAME=VALUES")]
    filter: Vec<Ec2Filter>,
    /// Only instances whose agent answers
    #[arg(long, conflicts_with = "offline")]
    online: bool,
    /// Only running instances whose agent does not answer
    #[arg(long, hide_short_help = true)]
    offline: bool,
    /// Every region that the account has enabled
    #[arg(long)]
    all_regions: bool,
    /// Column to sort by, or tag:KEY; -COLUMN from the end
    #[arg(long, value_name = "COLUMN", allow_hyphen_values = true)]
    sort_by: Option<SortKey>,
    /// Columns of the table, in this order
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    columns: Vec<Field>,
    /// Tags shown as columns
    #[arg(short = 'L', long, value_name = "KEY", value_delimiter = ',')]
    label_columns: Vec<String>,
    /// All tags in one more column
    #[arg(long, hide_short_help = true)]
    show_tags: bool,
    /// Keep listing, every so many seconds; q ends it
    #[arg(
        short,
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        default_missing_value = "5"
    )]
    watch: Option<Watch>,
    /// Exit 3 when nothing is found
    #[arg(long, hide_short_help = true)]
    fail_empty: bool,
}

/// What stands behind `--watch`: an interval, or the first pattern already.
#[derive(Clone, Debug)]
enum Watch {
    Every(Duration),
    Pattern(Target),
}

impl std::str::FromStr for Watch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<u64>() {
            Ok(seconds @ 1..=86_400) => Ok(Self::Every(Duration::from_secs(seconds))),
            Ok(_) => Err("an interval is of 1 to 86400 seconds".to_owned()),
            Err(_) => text
                .parse()
                .map(Self::Pattern)
                .map_err(|error: ops_profile::target::TargetError| error.to_string()),
        }
    }
}

/// Between lists where no interval is given.
const INTERVAL: Duration = Duration::from_secs(5);

impl Command for Ls {
    const NAME: &'static str = "ls";
    const ALIASES: &'static [&'static str] = &["list"];
    const TRAITS: Traits = Traits {
        forms: Forms::Rows,
        ..Traits::NONE
    };
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("ops ls 'web-*'", "running, with a name like this"),
        (
            "ops ls --tag Team=web --tag 'Env!=prod'",
            "those of team web outside of prod",
        ),
        (
            "ops ls --state all -o wide",
            "everything, with more columns",
        ),
        (
            "ops ls 'web-*' -o name | xargs -I{} ops cp app.conf {}:/etc/app/",
            "a target per line for other commands",
        ),
        (
            "ops ls -o custom-columns=NAME:.name,TEAM:.tags.Team",
            "any of the fields of -o json as columns",
        ),
    ];

    const COMPLETES: &'static [(&'static str, Values)] = &[
        ("patterns", Values::Target),
        ("tags", Values::TagFilter),
        ("state", Values::Words(StateFilter::NAMES)),
        ("columns", Values::Words(columns::NAMES)),
        ("sort_by", Values::Words(columns::NAMES)),
        ("label_columns", Values::TagKey),
    ];

    async fn run(self, cx: Context) -> Result<Exit> {
        let mut ls = self;
        let interval = match ls.watch.take() {
            Some(Watch::Every(interval)) => Some(interval),
            Some(Watch::Pattern(pattern)) => {
                ls.patterns.push(pattern);
                Some(INTERVAL)
            }
            None => None,
        };
        let fail_empty = ls.fail_empty;
        let list = ls.list(&cx).await?;
        match interval {
            Some(interval) => watch::watch_list(&cx, &list, interval).await,
            None => list_once(&cx, &list, fail_empty).await,
        }
    }
}

impl Ls {
    /// What is asked for, checked.
    async fn list(self, cx: &Context) -> Result<List> {
        let ls = self;
        let regions = if ls.all_regions {
            if !cx.globals().region.is_empty() {
                return Err(
                    Error::usage("--all-regions and --region exclude each other")
                        .hint("leave one of them out"),
                );
            }
            cx.all_regions().await?
        } else {
            cx.regions().await?
        };
        let profile = cx.profile()?;
        let format = cx.output().format();

        let mut query = Query::of(cx.profile()?);
        for pattern in &ls.patterns {
            let pattern = &*cx.with_last(pattern)?;
            // `bracket[1]` and `user@name` can be names.
            if let Some(whole) = pattern.whole() {
                query.patterns.push(whole.clone());
                continue;
            }
            if pattern.user.is_some() || pattern.index.is_some() {
                return Err(no_pattern(pattern));
            }
            query.add(pattern);
        }
        query.tags.clone_from(&ls.tags);
        query.filters.clone_from(&ls.filter);
        if !ls.state.is_empty() {
            query.states = StateFilter::states(&ls.state);
        } else if query.states.is_empty() {
            query.states = vec![InstanceState::Pending, InstanceState::Running];
        }
        query.reach = !matches!(format, Format::Name) || ls.online || ls.offline;

        let named = !ls.columns.is_empty();
        let mut fields = if named {
            let mut fields = ls.columns.clone();
            fields.extend(ls.label_columns.iter().cloned().map(Field::Tag));
            fields
        } else {
            let labels = if ls.label_columns.is_empty() {
                profile.output.label_columns.to_vec()
            } else {
                ls.label_columns.clone()
            };
            let of_profile = profile
                .output
                .columns
                .iter()
                .map(|name| name.parse().map_err(Error::usage))
                .collect::<Result<Vec<Field>>>()
                .map_err(|error| error.caused_by("`output.columns` of the profile names it"))?;
            let is_wide = matches!(format, Format::Wide | Format::Csv);
            columns::choose_fields(of_profile, is_wide, regions.len() > 1, labels)
        };
        if ls.show_tags && !fields.contains(&Field::Tags) {
            fields.push(Field::Tags);
        }
        // A path that is wrong is told before anything is asked.
        paths::check(format)?;
        let sort = match (&ls.sort_by, &profile.output.sort_by) {
            (Some(sort), _) => sort.clone(),
            (None, Some(name)) => name.parse().map_err(|why: String| {
                Error::usage("`output.sort_by` of the profile is no column").caused_by(why)
            })?,
            (None, None) => SortKey::default(),
        };
        let is_table = matches!(
            format,
            Format::Table | Format::Wide | Format::Name | Format::Csv
        );
        if is_table && !fields.contains(&Field::Tags) {
            let mut keep: Vec<String> = fields.iter().filter_map(Field::tag).collect();
            keep.extend(sort.tag());
            // The full name of instances whose name the profile shortens.
            keep.push("Name".to_owned());
            query.keep_tags = Some(keep);
        }
        Ok(List {
            query,
            agent: match (ls.online, ls.offline) {
                (true, _) => Agent::Online,
                (_, true) => Agent::Offline,
                _ => Agent::Any,
            },
            names_state: !ls.state.is_empty(),
            patterns: ls.patterns,
            regions,
            fields,
            named,
            labels: ls.label_columns,
            sort,
        })
    }
}

async fn list_once(cx: &Context, list: &List, fail_empty: bool) -> Result<Exit> {
    let listing = list.fetch(cx).await?;
    list.show_in_pager(cx, &listing).await?;
    for note in &listing.notes {
        cx.output().note(format!("note: {note}"));
    }
    let is_empty = listing.instances.is_empty();
    if is_empty && listing.failures.len() < listing.regions {
        if let Some(pattern) = list.patterns.iter().find(|p| p.whole().is_some()) {
            return Err(no_pattern(pattern));
        }
        list.say_empty(cx);
        list.say_near(cx).await;
    }
    if let Some(failure) = listing.into_failure() {
        return Err(failure);
    }
    Ok(if is_empty && fail_empty {
        Exit::NOT_FOUND
    } else {
        Exit::SUCCESS
    })
}

/// A user and an index, where no name has them.
fn no_pattern(pattern: &Target) -> Error {
    Error::usage(format!("`{}` is no pattern", pattern.as_str()))
        .caused_by("a user before @ and [N] are for commands that work on one instance")
        .hint(hint!(
            "list without them: ops ls {}",
            bare_target(pattern.as_str())
        ))
}

/// A target without its user and index.
fn bare_target(text: &str) -> &str {
    let text = text.split_once('@').map_or(text, |(_, rest)| rest);
    text.rsplit_once('[').map_or(text, |(head, _)| head)
}
