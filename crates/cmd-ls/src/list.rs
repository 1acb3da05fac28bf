//! A list as it is asked for: asking, and showing what came, once or again and again.

use ops_core::{Context, Listing, Query};
use ops_profile::{Instance, InstanceState, Ping, Target};
use ops_ui::{Format, Output, Result, table};

use crate::{
    columns::{self, Field},
    document, names, paths,
    sort::SortKey,
};

/// Whose agents answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Agent {
    /// It does not matter.
    Any,
    /// Those that do.
    Online,
    /// Running instances whose agent does not.
    Offline,
}

/// A list as it is asked for, ready to be repeated.
pub(crate) struct List {
    pub(crate) query: Query,
    pub(crate) patterns: Vec<Target>,
    pub(crate) agent: Agent,
    /// Whether `--state` was given.
    pub(crate) names_state: bool,
    pub(crate) regions: Vec<String>,
    pub(crate) fields: Vec<Field>,
    /// The columns were named on the command line: those are shown, and no others.
    pub(crate) named: bool,
    pub(crate) sort: SortKey,
}

impl List {
    /// Asks once, sorted.
    pub(crate) async fn fetch(&self, cx: &Context) -> Result<Listing> {
        let mut listing = cx.list(&self.query, &self.regions).await?;
        match self.agent {
            Agent::Any => {}
            Agent::Online => listing.instances.retain(|i| i.ping == Ping::Online),
            Agent::Offline => listing.instances.retain(|i| {
                i.state == InstanceState::Running
                    && matches!(i.ping, Ping::Lost { .. } | Ping::NoAgent)
            }),
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
        // Of the usual columns there are more than a narrow terminal holds; who asks for more has
        // to know.
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

    /// Says on stderr that nothing was found, and where and for what was looked.
    pub(crate) fn say_empty(&self, cx: &Context) {
        let mut what = Vec::new();
        if !self.query.states.is_empty() {
            let states: Vec<&str> = self.query.states.iter().map(|s| s.as_str()).collect();
            what.push(format!("state {}", states.join(" or ")));
        }
        for tag in &self.query.tags {
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
                .map(ops_profile::values::Glob::as_str)
                .collect();
            what.push(format!("tag {key}={} of the profile", values.join(",")));
        }
        for pattern in &self.patterns {
            what.push(format!("`{}`", pattern.as_str()));
        }
        match self.agent {
            Agent::Any => {}
            Agent::Online => what.push("agent online".to_owned()),
            Agent::Offline => what.push("agent not online".to_owned()),
        }
        let regions = match self.regions.as_slice() {
            [one] => format!("region {one}"),
            many => format!("{} regions", many.len()),
        };
        let widen = if self.names_state {
            ""
        } else {
            "; stopped ones too: --state all"
        };
        cx.output().note(format!(
            "no instances in {regions} ({}){widen}",
            what.join(", ")
        ));
    }
}
