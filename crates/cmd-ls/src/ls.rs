//! The command: what is asked for, the list, its forms.

use std::time::Duration;

use ops_core::{
    Command, Context, Error, Exit, Format, Instance, Listing, Output, Ping, Query, Result, State,
    Target, Values, hint,
    inventory::{Ec2Filter, StateFilter, TagFilter},
    table,
};

use crate::{
    columns::{self, Field},
    document, names, paths,
    sort::SortKey,
    watch,
};

/// List instances
///
/// Lists EC2 instances and hybrid nodes, with what Session Manager knows of their agents. Patterns are ids, names, globs over names, private
/// addresses or tag:Key=Value; an instance is listed if one of them means it. Without --state, pending and running instances are listed, or
/// those in the states that the profile's `select.states` names.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Ls {
    /// Ids, names, globs such as 'web-*', private addresses or tag:Key=Value
    #[arg(value_name = "PATTERN")]
    patterns: Vec<Target>,
    /// Condition on a tag: Key=GLOB[,GLOB] or Key!=GLOB; one key repeated is or, different keys are and
    #[arg(short = 'l', long = "tag", value_name = "KEY=VALUE")]
    tags: Vec<TagFilter>,
    /// States: pending, running, stopping, stopped, shutting-down, terminated; all leaves terminated out
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    state: Vec<StateFilter>,
    /// Filter of EC2, passed on as it is
    #[arg(long, value_name = "NAME=VALUES")]
    filter: Vec<Ec2Filter>,
    /// Only instances whose agent answers
    #[arg(long, conflicts_with = "offline")]
    online: bool,
    /// Only running instances whose agent does not answer
    #[arg(long)]
    offline: bool,
    /// Every region that the account has enabled
    #[arg(long)]
    all_regions: bool,
    /// Column to sort by, or tag:KEY; with - in front from the end
    #[arg(long, value_name = "COLUMN", allow_hyphen_values = true)]
    sort_by: Option<SortKey>,
    /// Columns of the table, in this order
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    columns: Vec<Field>,
    /// Tags shown as columns
    #[arg(short = 'L', long, value_name = "KEY", value_delimiter = ',')]
    label_columns: Vec<String>,
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
    #[arg(long)]
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
                .map_err(|error: ops_core::target::TargetError| error.to_string()),
        }
    }
}

/// Between lists where no interval is given.
const INTERVAL: Duration = Duration::from_secs(5);

impl Command for Ls {
    const NAME: &'static str = "ls";
    const ALIASES: &'static [&'static str] = &["list"];
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        (
            "ops ls 'web-*'",
            "running instances whose name begins with web-",
        ),
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
        let list = List::new(ls, &cx).await?;
        match interval {
            Some(interval) => watch::run(&cx, &list, interval).await,
            None => list.once(&cx).await,
        }
    }
}

/// A list as it is asked for, ready to be repeated.
pub(crate) struct List {
    ls: Ls,
    query: Query,
    pub(crate) regions: Vec<String>,
    pub(crate) fields: Vec<Field>,
    /// The columns were named on the command line: those are shown, and no others.
    named: bool,
    sort: SortKey,
}

impl List {
    async fn new(ls: Ls, cx: &Context) -> Result<Self> {
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

        let mut query = cx.base_query()?;
        for pattern in &ls.patterns {
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
            query.states = vec![State::Pending, State::Running];
        }
        query.reach = !matches!(format, Format::Name) || ls.online || ls.offline;

        let named = !ls.columns.is_empty();
        let fields = if named {
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
            columns::choose(of_profile, is_wide, regions.len() > 1, labels)
        };
        // A path that is wrong is told before anything is asked.
        paths::check(format)?;
        let sort = match (&ls.sort_by, &profile.output.sort_by) {
            (Some(sort), _) => sort.clone(),
            (None, Some(name)) => name.parse().map_err(|why: String| {
                Error::usage("`output.sort_by` of the profile is no column").caused_by(why)
            })?,
            (None, None) => SortKey::default(),
        };
        if matches!(
            format,
            Format::Table | Format::Wide | Format::Name | Format::Csv
        ) {
            let mut keep: Vec<String> = fields.iter().filter_map(Field::tag).collect();
            keep.extend(sort.tag());
            // The full name of instances whose name the profile shortens.
            keep.push("Name".to_owned());
            query.keep_tags = Some(keep);
        }
        Ok(Self {
            ls,
            query,
            regions,
            fields,
            named,
            sort,
        })
    }

    /// Asks once, sorted.
    pub(crate) async fn fetch(&self, cx: &Context) -> Result<Listing> {
        let mut listing = cx.list(&self.query, &self.regions).await?;
        if self.ls.online {
            listing.instances.retain(|i| i.ping == Ping::Online);
        } else if self.ls.offline {
            listing.instances.retain(|i| {
                i.state == State::Running && matches!(i.ping, Ping::Lost { .. } | Ping::NoAgent)
            });
        }
        self.sort.sort(&mut listing.instances);
        Ok(listing)
    }

    /// Writes one list in the form that is asked for.
    pub(crate) async fn show(&self, cx: &Context, listing: &Listing) -> Result<()> {
        let output = cx.output();
        match output.format() {
            Format::Json => output.json(&document::list(listing)),
            Format::Yaml => output.yaml(&document::list(listing)),
            Format::Name => {
                for target in names::targets(cx, &self.query, &listing.instances).await? {
                    output.line(target)?;
                }
                Ok(())
            }
            Format::Jsonl => paths::lines(output, &listing.instances),
            Format::Csv => self.csv(output, &listing.instances),
            Format::JsonPath(template) => paths::template(output, listing, template.text()),
            Format::CustomColumns(spec) => paths::columns(output, &listing.instances, spec.text()),
            Format::Table | Format::Wide => self.table(output, &listing.instances, |_| false),
        }
    }

    /// A table; what is `marked` stands out.
    pub(crate) fn table(
        &self,
        output: &Output,
        instances: &[Instance],
        marked: impl Fn(&Instance) -> bool + Clone,
    ) -> Result<()> {
        if instances.is_empty() {
            return Ok(());
        }
        let now = jiff::Timestamp::now();
        let rows = instances.iter().map(|instance| {
            let row = columns::row(&self.fields, instance, now);
            if marked(instance) {
                row.into_iter().map(table::Cell::marked).collect()
            } else {
                row
            }
        });
        let head = columns::head(&self.fields, self.named);
        let left_out = table::write_and_tell(output, &head, rows)?;
        // Of the usual columns there are more than a narrow terminal holds; who asks for more has to know.
        if output.format() == Format::Wide && !left_out.is_empty() {
            output.note(format!(
                "left out for want of room: {}; name the columns you want: --columns",
                left_out.join(", ").to_lowercase()
            ));
        }
        Ok(())
    }

    /// RFC 4180: a header, then a line for each, in quotes where a value needs them.
    fn csv(&self, output: &Output, instances: &[Instance]) -> Result<()> {
        let quoted = |text: &str| {
            if text.contains(['"', ',', '\n', '\r']) {
                format!("\"{}\"", text.replace('"', "\"\""))
            } else {
                text.to_owned()
            }
        };
        let line = |values: Vec<String>| {
            let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
            format!("{}\r\n", values.join(","))
        };
        let now = jiff::Timestamp::now();
        let mut text = String::new();
        if output.headers() {
            text.push_str(&line(self.fields.iter().map(Field::title).collect()));
        }
        for instance in instances {
            text.push_str(&line(columns::values(&self.fields, instance, now)));
        }
        output.page(&text)
    }

    async fn once(&self, cx: &Context) -> Result<Exit> {
        let listing = self.fetch(cx).await?;
        self.show(cx, &listing).await?;
        for note in &listing.notes {
            cx.output().note(format!("note: {note}"));
        }
        let is_empty = listing.instances.is_empty();
        if is_empty && listing.failures.len() < listing.regions {
            if let Some(pattern) = self.ls.patterns.iter().find(|p| p.whole().is_some()) {
                return Err(no_pattern(pattern));
            }
            self.say_empty(cx);
        }
        if let Some(failure) = listing.into_failure() {
            return Err(failure);
        }
        Ok(if is_empty && self.ls.fail_empty {
            Exit::NOT_FOUND
        } else {
            Exit::SUCCESS
        })
    }

    /// Says on stderr that nothing was found, and where and for what was looked.
    pub(crate) fn say_empty(&self, cx: &Context) {
        let mut what = Vec::new();
        if !self.query.states.is_empty() {
            let states: Vec<&str> = self.query.states.iter().map(|s| s.as_str()).collect();
            what.push(format!("state {}", states.join(" or ")));
        }
        for tag in &self.ls.tags {
            what.push(format!(
                "tag {}{}={}",
                tag.key,
                if tag.negated { "!" } else { "" },
                tag.values.join(",")
            ));
        }
        for (key, values) in &self.query.select.tags {
            let values: Vec<&str> = values
                .iter()
                .map(ops_core::profile::values::Glob::as_str)
                .collect();
            what.push(format!("tag {key}={} of the profile", values.join(",")));
        }
        for pattern in &self.ls.patterns {
            what.push(format!("`{}`", pattern.as_str()));
        }
        if self.ls.online {
            what.push("agent online".to_owned());
        }
        if self.ls.offline {
            what.push("agent not online".to_owned());
        }
        let regions = match self.regions.as_slice() {
            [one] => format!("region {one}"),
            many => format!("{} regions", many.len()),
        };
        let widen = if self.ls.state.is_empty() {
            "; stopped ones too: --state all"
        } else {
            ""
        };
        cx.output().note(format!(
            "no instances in {regions} ({}){widen}",
            what.join(", ")
        ));
    }
}

/// A user and an index, where no name has them.
fn no_pattern(pattern: &Target) -> Error {
    Error::usage(format!("`{}` is no pattern", pattern.as_str()))
        .caused_by("a user before @ and [N] are for commands that work on one instance")
        .hint(hint!(
            "list without them: ops ls {}",
            bare(pattern.as_str())
        ))
}

/// A target without its user and index.
fn bare(text: &str) -> &str {
    let text = text.split_once('@').map_or(text, |(_, rest)| rest);
    text.rsplit_once('[').map_or(text, |(head, _)| head)
}

/// Whether something that a list shows has changed.
pub(crate) fn same(a: &Instance, b: &Instance) -> bool {
    a == b
}
