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
    /// The tags that the command line wants as columns.
    pub(crate) labels: Vec<String>,
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
        let names = self.names(cx, listing).await?;
        let left_out = self.write(cx.output(), listing, &names)?;
        self.tell_what_is_missing(cx.output(), listing, &left_out);
        Ok(())
    }

    /// As [`Self::show`]; through the pager where the list is longer than the screen.
    pub(crate) async fn show_in_pager(&self, cx: &Context, listing: &Listing) -> Result<()> {
        let output = cx.output();
        let names = self.names(cx, listing).await?;
        let mut left_out = Vec::new();
        output.through_pager(|| {
            left_out = self.write(output, listing, &names)?;
            Ok(())
        })?;
        self.tell_what_is_missing(output, listing, &left_out);
        Ok(())
    }

    /// What `-o name` writes.
    async fn names(&self, cx: &Context, listing: &Listing) -> Result<Vec<String>> {
        match cx.output().format() {
            Format::Name => names::target_names(cx, &self.query, &listing.instances).await,
            _ => Ok(Vec::new()),
        }
    }

    /// Writes the list; gives the columns for which the terminal is too narrow.
    fn write(&self, output: &Output, listing: &Listing, names: &[String]) -> Result<Vec<String>> {
        match output.format() {
            Format::Json => output.json(&document::list_document(listing))?,
            Format::Yaml => output.yaml(&document::list_document(listing))?,
            Format::Name => names.iter().try_for_each(|name| output.line(name))?,
            Format::Jsonl => paths::write_names(output, &listing.instances)?,
            Format::Csv => self.csv(output, &listing.instances)?,
            Format::JsonPath(template) => paths::write_template(output, listing, template.text())?,
            Format::CustomColumns(spec) => {
                paths::write_columns(output, &listing.instances, spec.text())?;
            }
            Format::Table | Format::Wide => {
                return self.table(output, &listing.instances, |_| false);
            }
        }
        Ok(Vec::new())
    }

    /// A table; what is `marked` stands out. Gives the columns for which the terminal is too
    /// narrow.
    pub(crate) fn table(
        &self,
        output: &Output,
        instances: &[Instance],
        marked: impl Fn(&Instance) -> bool + Clone,
    ) -> Result<Vec<String>> {
        if instances.is_empty() {
            return Ok(Vec::new());
        }
        let now = jiff::Timestamp::now();
        let rows = instances.iter().map(|instance| {
            let row = columns::row_cells(&self.fields, instance, now);
            if marked(instance) {
                row.into_iter().map(table::Cell::marked).collect()
            } else {
                row
            }
        });
        let head = columns::head_columns(&self.fields, self.named);
        let left_out = table::write_and_tell(output, &head, rows)?;
        Ok(left_out.into_iter().map(str::to_lowercase).collect())
    }

    /// Notes what somebody who has asked for more columns does not see.
    fn tell_what_is_missing(&self, output: &Output, listing: &Listing, left_out: &[String]) {
        // Of the usual columns there are more than a narrow terminal holds; who asks for more has
        // to know.
        let wanted = |title: &String| {
            output.format() == Format::Wide
                || self.labels.iter().any(|key| key.to_lowercase() == *title)
        };
        if left_out.iter().any(wanted) {
            output.note(format!(
                "left out for want of room: {}; name the columns you want: --columns",
                left_out.join(", ")
            ));
        }
        if !matches!(output.format(), Format::Table | Format::Wide) {
            return;
        }
        for key in &self.labels {
            if let Some(near) = near_tag(key, &listing.instances) {
                output.note(format!(
                    "nothing in this list has a tag `{key}`; there is `{near}`: -L {near}"
                ));
            }
        }
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
            text.push_str(&line(columns::field_values(&self.fields, instance, now)));
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
        let by_part = match self.patterns.as_slice() {
            [one] if is_plain_word(one.as_str()) => {
                format!("; names with that in them: ops ls '*{}*'", one.as_str())
            }
            _ => String::new(),
        };
        cx.output().note(format!(
            "no instances in {regions} ({}){widen}{by_part}",
            what.join(", ")
        ));
    }

    /// Says what may have been meant, where something comes near.
    pub(crate) async fn say_near(&self, cx: &Context) {
        if let Some(near) = cx.suggest_for(&self.query, &self.regions).await {
            cx.output().note(near);
        }
    }
}

/// Whether `text` is a part of a name, as typed by somebody who is used to searches: no glob, no
/// id, no tag, and nothing that a shell would read.
fn is_plain_word(text: &str) -> bool {
    let is_id = text.starts_with("i-") || text.starts_with("mi-");
    !is_id
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// The tag that differs from `key` in its case alone, where none of `instances` has `key` itself.
fn near_tag<'a>(key: &str, instances: &'a [Instance]) -> Option<&'a str> {
    if instances.iter().any(|one| one.tags.contains_key(key)) {
        return None;
    }
    let mut keys = instances.iter().flat_map(|one| one.tags.keys());
    keys.find(|other| other.eq_ignore_ascii_case(key))
        .map(String::as_str)
}
