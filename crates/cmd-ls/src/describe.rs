//! `ops describe`: everything that is known of one server.

use std::fmt::Write as _;

use jiff::Timestamp;
use ops_core::{Command, Context, Forms, Listing, Query, Traits, Values, resolve::ChoiceArgs};
use ops_profile::{Instance, InstanceState, Ping, Target};
use ops_ui::{Error, ErrorKind, Exit, Format, Result, output::escape};

use crate::{columns, document, paths};

/// Show everything that is known of one server
///
/// Its state and addresses, what Session Manager knows of its agent, and all its tags. A stopped
/// server is shown too. With -o json and the like it is the one item of what `ops ls` gives.
#[derive(clap::Args, Debug)]
pub(crate) struct Describe {
    /// Name, id, private address or tag:Key=Value
    target: Target,
    #[command(flatten)]
    choice: ChoiceArgs,
}

impl Command for Describe {
    const NAME: &'static str = "describe";
    const TRAITS: Traits = Traits {
        forms: Forms::Rows,
        ..Traits::NONE
    };
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("ops describe web-1", "all of it"),
        (
            "ops describe web-1 -o jsonpath='{.items[0].privateIp}'",
            "one field of it",
        ),
    ];

    const COMPLETES: &'static [(&'static str, Values)] = &[("target", Values::Target)];

    async fn run(self, cx: Context) -> Result<Exit> {
        let format = cx.output().format();
        paths::check(format)?;
        let target = &*cx.with_last(&self.target)?;
        let found = match cx.resolve_whole(target, self.choice.choice()).await {
            Err(error) if error.kind() == ErrorKind::Unreachable => {
                in_any_state(&cx, target, error).await?
            }
            resolved => resolved?,
        };
        let instance = cx.with_agent(&found).await.unwrap_or(found);
        match format {
            Format::Table | Format::Wide => {
                let page = page_text(&instance, Timestamp::now());
                cx.output().through_pager(|| cx.output().page(&page))?;
            }
            _ => cx
                .output()
                .through_pager(|| write_pages(&cx, vec![instance.clone()]))?,
        }
        Ok(Exit::SUCCESS)
    }
}

/// Writes instances in the form that is asked for: their ids, unless that is a document.
///
/// # Errors
/// Lists alone have CSV; a path that is wrong; a closed pipe.
pub(crate) fn write_pages(cx: &Context, instances: Vec<Instance>) -> Result<()> {
    let output = cx.output();
    let listing = Listing {
        instances,
        regions: 1,
        ..Listing::default()
    };
    match output.format() {
        Format::Json => output.json(&document::list_document(&listing)),
        Format::Yaml => output.yaml(&document::list_document(&listing)),
        Format::Jsonl => paths::write_names(output, &listing.instances),
        Format::JsonPath(template) => paths::write_template(output, &listing, template.text()),
        Format::CustomColumns(spec) => {
            paths::write_columns(output, &listing.instances, spec.text())
        }
        Format::Csv => Err(Error::usage("one instance has no output format `csv`")
            .hint("a line of it: ops ls -o csv NAME")),
        Format::Name | Format::Table | Format::Wide => listing
            .instances
            .iter()
            .try_for_each(|one| output.line(&one.id)),
    }
}

/// The one instance that `target` means in whatever state; else `error`.
async fn in_any_state(cx: &Context, target: &Target, error: Error) -> Result<Instance> {
    let mut query = Query::of(cx.profile()?);
    query.states.clear();
    query.add(target);
    let mut found = cx
        .list(&query, &cx.regions_of(target).await?)
        .await?
        .instances;
    match (found.pop(), found.is_empty()) {
        (Some(instance), true) => Ok(instance),
        _ => Err(error),
    }
}

/// A line for each thing that is known, then the tags.
fn page_text(instance: &Instance, now: Timestamp) -> String {
    let with_age = |at: Timestamp| {
        let age = ops_profile::instance::age_words(now.duration_since(at).as_secs());
        format!("{at:.0} ({age} ago)")
    };
    let last_ping = match instance.ping {
        Ping::Lost { last } => last.map(with_age),
        _ => None,
    };
    let launched = instance.launched.map(with_age);
    let (reach, _) = columns::reach_cell(instance, now);
    let reach = Some(reach).filter(|_| instance.state == InstanceState::Running);
    let kind = match instance.kind {
        ops_profile::Kind::Ec2 => "EC2 instance",
        ops_profile::Kind::Hybrid => "hybrid node",
    };
    let rows = [
        ("name", instance.name.clone()),
        ("id", Some(instance.id.clone())),
        ("kind", Some(kind.to_owned())),
        ("state", Some(instance.state.as_str().to_owned())),
        ("reach", reach),
        ("agent", instance.agent_version.clone()),
        ("last ping", last_ping),
        ("platform", instance.platform.clone()),
        ("type", instance.instance_type.clone()),
        ("image", instance.image.clone()),
        ("launched", launched),
        ("region", Some(instance.region.clone())),
        ("zone", instance.zone.clone()),
        ("vpc", instance.vpc.clone()),
        ("private ip", instance.private_ip.clone()),
        ("private dns", instance.private_dns.clone()),
        ("public ip", instance.public_ip.clone()),
    ];
    let mut text = String::new();
    for (title, value) in rows {
        if let Some(value) = value {
            let _ = writeln!(text, "{title:<12} {}", escape(&value));
        }
    }
    let width = instance.tags.keys().map(|key| key.chars().count()).max();
    for (number, (key, value)) in instance.tags.iter().enumerate() {
        let title = if number == 0 { "tags" } else { "" };
        let _ = writeln!(
            text,
            "{title:<12} {:<width$}  {}",
            escape(key),
            escape(value),
            width = width.unwrap_or_default()
        );
    }
    text
}
