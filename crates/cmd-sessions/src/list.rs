//! `ops sessions`: the list.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use ops_core::{
    Context, Query,
    calls::session_list::{SessionListing, SessionQuery, SessionRecord},
};
use ops_profile::{Selector, Target};
use ops_ui::{Error, Exit, Format, Result, json_paths};
use serde_json::{Map, json};

use crate::{
    record::{self, Names},
    since::parse_past_span,
};

/// What the list is narrowed to.
#[derive(clap::Args, Clone, Debug, Default, PartialEq)]
pub(crate) struct ListArgs {
    /// Servers: ids, names, globs such as 'web-*', addresses or tag:Key=Value
    #[arg(value_name = "TARGET")]
    targets: Vec<Target>,
    /// Sessions that have ended, in place of open ones
    #[arg(long)]
    history: bool,
    /// Those of the caller
    #[arg(long, conflicts_with = "owner")]
    mine: bool,
    /// Those of this user or role session, by name or ARN
    #[arg(long, value_name = "NAME")]
    owner: Option<String>,
    /// Those begun in this time, such as 30m, 2h or 2d
    #[arg(long, value_name = "TIME", value_parser = parse_past_span, allow_negative_numbers = true)]
    since: Option<Duration>,
    /// Those with this session document
    #[arg(long, value_name = "NAME", hide_short_help = true)]
    document: Option<String>,
    /// connected, connecting, disconnected, terminating, terminated or failed
    #[arg(
        long,
        value_name = "STATUS",
        value_enum,
        hide_possible_values = true,
        hide_short_help = true
    )]
    status: Option<Status>,
    /// Every region that the account has enabled
    #[arg(long, hide_short_help = true)]
    all_regions: bool,
}

/// The statuses that the service knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Status {
    Connected,
    Connecting,
    Disconnected,
    Terminating,
    Terminated,
    Failed,
}

impl Status {
    /// As they are typed.
    pub(crate) const NAMES: &'static [&'static str] = &[
        "connected",
        "connecting",
        "disconnected",
        "terminating",
        "terminated",
        "failed",
    ];

    /// As the service spells it.
    const fn name(self) -> &'static str {
        match self {
            Self::Connected => "Connected",
            Self::Connecting => "Connecting",
            Self::Disconnected => "Disconnected",
            Self::Terminating => "Terminating",
            Self::Terminated => "Terminated",
            Self::Failed => "Failed",
        }
    }

    /// Whether only sessions that have ended have it.
    const fn is_past(self) -> bool {
        matches!(self, Self::Terminated | Self::Failed)
    }
}

/// What the service does not filter.
#[derive(Default)]
pub(crate) struct Rest {
    /// Ids of servers, where there are several; `None` means any.
    pub(crate) targets: Option<BTreeSet<String>>,
    /// The short name of an owner.
    pub(crate) owner: Option<String>,
    pub(crate) document: Option<String>,
}

impl Rest {
    pub(crate) fn lets_through(&self, session: &SessionRecord) -> bool {
        let is = |wanted: &Option<String>, value: &str| {
            wanted
                .as_ref()
                .is_none_or(|wanted| wanted.eq_ignore_ascii_case(value))
        };
        self.targets
            .as_ref()
            .is_none_or(|targets| targets.contains(&session.target))
            && is(&self.owner, session.owner_name())
            && is(&self.document, &session.document)
    }
}

/// Ids of the servers that `targets` mean in `regions`, whatever their state: a server that is gone
/// had sessions too. An id is taken at its word.
///
/// # Errors
/// A target that is none; those of a list.
pub(crate) async fn ids_of(
    cx: &Context,
    targets: &[Target],
    regions: &[String],
) -> Result<BTreeSet<String>> {
    let mut ids = BTreeSet::new();
    for target in targets {
        if let Selector::Id(id) = &target.selector {
            ids.insert(id.clone());
            continue;
        }
        let mut found = Vec::new();
        if target.index.is_none() && target.user.is_none() {
            let mut query = Query::of(cx.profile()?);
            query.states.clear();
            query.keep_tags = Some(Vec::new());
            query.add(target);
            found = cx.list(&query, regions).await?.instances;
        }
        if found.is_empty() {
            // A host of the profile, one of several by its number; or nothing, told in the words of
            // every verb.
            found = cx.resolve_many(std::slice::from_ref(target)).await?;
        }
        ids.extend(found.into_iter().map(|instance| instance.id));
    }
    Ok(ids)
}

pub(crate) async fn list_sessions(cx: &Context, args: &ListArgs) -> Result<Exit> {
    let output = cx.output();
    // A path that is wrong is told before anything is asked.
    json_paths::check(output.format())?;
    if args.all_regions && !cx.globals().region.is_empty() {
        return Err(
            Error::usage("--all-regions and --region exclude each other")
                .hint("leave one of them out"),
        );
    }
    let regions = if args.all_regions {
        cx.all_regions().await?
    } else {
        cx.regions().await?
    };
    let spinner = output.spinner("listing sessions");
    let listing = fetch_sessions(cx, args, &regions).await;
    drop(spinner);
    let SessionListing { sessions, lacks } = listing?;
    let format = output.format();
    let needs_names = !matches!(format, Format::Name);
    let names = if needs_names {
        Names::of(cx, &sessions).await
    } else {
        Names::default()
    };
    let mut list = record::record_list("SessionList", &sessions, &names, format, regions.len() > 1);
    let failures = lacks.failures.iter().map(|(region, error)| {
        json!({"region": region, "code": error.kind().code(), "message": error.to_string()})
    });
    list.beside = Map::from_iter([("failures".to_owned(), failures.collect())]);
    list.write(output)?;
    if sessions.is_empty() && lacks.failures.is_empty() {
        let kind = if args.is_past() { "past" } else { "open" };
        output.note(format!("no {kind} sessions in {}", regions.join(", ")));
    }
    match lacks.into_failure() {
        Some(failure) => Err(failure),
        None => Ok(Exit::SUCCESS),
    }
}

impl ListArgs {
    fn is_past(&self) -> bool {
        self.history || self.status.is_some_and(Status::is_past)
    }
}

/// Asks for what is wanted: what the service filters is filtered there.
async fn fetch_sessions(
    cx: &Context,
    args: &ListArgs,
    regions: &[String],
) -> Result<SessionListing> {
    let mut query = SessionQuery {
        history: args.is_past(),
        after: args
            .since
            .and_then(|since| Timestamp::now().checked_sub(since).ok()),
        status: args.status.map(|status| status.name().to_owned()),
        ..SessionQuery::default()
    };
    let mut rest = Rest {
        document: args.document.clone(),
        ..Rest::default()
    };
    match &args.owner {
        Some(arn) if arn.starts_with("arn:") => query.owner = Some(arn.clone()),
        Some(name) => rest.owner = Some(name.clone()),
        None if args.mine => query.owner = Some(cx.identity().await?.arn.clone()),
        None => {}
    }
    if !args.targets.is_empty() {
        let ids = ids_of(cx, &args.targets, regions).await?;
        // The service takes one.
        match ids.first().filter(|_| ids.len() == 1) {
            Some(only) => query.target = Some(only.clone()),
            None => rest.targets = Some(ids),
        }
    }
    let mut listing = cx.list_sessions(&query, regions).await?;
    listing
        .sessions
        .retain(|session| rest.lets_through(session));
    Ok(listing)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn every_status_completes_and_is_read() {
        let names: Vec<String> = Status::value_variants()
            .iter()
            .filter_map(|status| Some(status.to_possible_value()?.get_name().to_owned()))
            .collect();
        assert_eq!(names, Status::NAMES);
        for status in Status::value_variants() {
            assert!(Status::NAMES.contains(&status.name().to_lowercase().as_str()));
        }
    }

    #[test]
    fn what_the_service_does_not_filter_is_filtered_here() {
        let session = SessionRecord {
            id: "alice-1".to_owned(),
            target: "i-0a1b2c3d4e5f60718".to_owned(),
            region: "eu-west-1".to_owned(),
            owner: "arn:aws:sts::111122223333:assumed-role/Operator/alice".to_owned(),
            started: None,
            ended: None,
            status: "Connected".to_owned(),
            document: "AWS-StartSSHSession".to_owned(),
            reason: None,
        };
        let rest = |owner: Option<&str>, document: Option<&str>, targets: Option<&[&str]>| Rest {
            targets: targets.map(|ids| ids.iter().map(|id| (*id).to_owned()).collect()),
            owner: owner.map(str::to_owned),
            document: document.map(str::to_owned),
        };
        for (rest, is_through) in [
            (rest(None, None, None), true),
            (rest(Some("Alice"), Some("aws-startsshsession"), None), true),
            (rest(Some("bob"), None, None), false),
            (rest(None, Some("AWS-StartInteractiveCommand"), None), false),
            (rest(None, None, Some(&["i-0a1b2c3d4e5f60718"])), true),
            (rest(None, None, Some(&["i-00000000000000000"])), false),
        ] {
            assert_eq!(rest.lets_through(&session), is_through);
        }
    }
}
