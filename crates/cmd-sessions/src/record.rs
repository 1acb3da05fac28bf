//! Sessions as they are shown: with the names of their servers.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use ops_core::{Context, Query, calls::session_list::SessionRecord};
use ops_profile::{Selector, instance::age_words, target::is_instance_id};
use ops_ui::{Format, List, style::Style, table::Column};
use serde_json::{Map, Value, json};

/// Of more servers than one call takes, every server is asked for.
const ASKED_BY_ID: usize = 200;

/// Names of servers by their ids.
#[derive(Default)]
pub(crate) struct Names(BTreeMap<String, String>);

impl Names {
    /// The names of the servers of `sessions`, in any state. Where they cannot be asked for, ids
    /// stand alone: the list of sessions does not depend on them.
    pub(crate) async fn of(cx: &Context, sessions: &[SessionRecord]) -> Self {
        let servers = sessions
            .iter()
            .filter(|session| is_instance_id(&session.target));
        let ids: BTreeSet<&str> = servers
            .clone()
            .map(|session| session.target.as_str())
            .collect();
        let regions: BTreeSet<String> = servers.map(|session| session.region.clone()).collect();
        let Some(profile) = cx.profile().ok().filter(|_| !ids.is_empty()) else {
            return Self::default();
        };
        let mut query = Query::of(profile);
        query.states.clear();
        query.keep_tags = Some(vec!["Name".to_owned()]);
        if ids.len() <= ASKED_BY_ID {
            query.patterns = ids
                .into_iter()
                .map(|id| Selector::Id(id.to_owned()))
                .collect();
        }
        let regions: Vec<String> = regions.into_iter().collect();
        match cx.list(&query, &regions).await {
            Ok(listing) => {
                for (_, error) in &listing.failures {
                    cx.output().detail(error.to_string());
                }
                let named = listing
                    .instances
                    .into_iter()
                    .filter_map(|instance| Some((instance.id, instance.name?)));
                Self(named.collect())
            }
            Err(error) => {
                cx.output().detail(error.to_string());
                Self::default()
            }
        }
    }

    /// The name of the server `target`; its id where it has none.
    pub(crate) fn label<'a>(&'a self, target: &'a str) -> &'a str {
        self.get(target).unwrap_or(target)
    }

    fn get(&self, target: &str) -> Option<&str> {
        self.0.get(target).map(String::as_str)
    }
}

/// A session as programs read it.
pub(crate) fn record_item(session: &SessionRecord, names: &Names) -> Map<String, Value> {
    let fields = [
        ("id", json!(session.id)),
        ("target", json!(session.target)),
        ("name", json!(names.get(&session.target))),
        ("region", json!(session.region)),
        ("owner", json!(session.owner_name())),
        ("ownerArn", json!(session.owner)),
        ("started", json!(session.started)),
        ("ended", json!(session.ended)),
        ("status", json!(session.status)),
        ("document", json!(session.document)),
        ("reason", json!(session.reason)),
    ];
    fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// `sessions` as a list of the kind `kind`.
pub(crate) fn record_list(
    kind: &'static str,
    sessions: &[SessionRecord],
    names: &Names,
    format: Format,
    has_regions: bool,
) -> List {
    let is_wide = matches!(format, Format::Wide | Format::Csv);
    let mut columns = vec![
        Column::new("ID", Column::KEPT),
        Column::new("TARGET", Column::KEPT).shrinking(),
        Column::new("OWNER", 9),
        Column::new("STARTED", 4),
        Column::new("AGE", Column::KEPT),
        Column::new("STATUS", 8),
        Column::new("DOCUMENT", 5),
        Column::new("REASON", 6).shrinking(),
    ];
    if has_regions {
        columns.push(Column::new("REGION", 7));
    }
    if is_wide {
        columns.push(Column::new("INSTANCE", 3));
        columns.push(Column::new("ENDED", 2));
        columns.push(Column::new("OWNER-ARN", 1));
    }
    let now = Timestamp::now();
    let row = |session: &SessionRecord| {
        let plain = |text: &str| (text.to_owned(), Style::Plain);
        let mut row = vec![
            plain(&session.id),
            plain(names.label(&session.target)),
            plain(session.owner_name()),
            plain(&time_text(session.started)),
            plain(&session.started.map_or_else(String::new, |started| {
                age_words(now.duration_since(started).as_secs())
            })),
            (session.status.clone(), style_of(&session.status)),
            plain(&session.document),
            plain(session.reason.as_deref().unwrap_or_default()),
        ];
        if has_regions {
            row.push(plain(&session.region));
        }
        if is_wide {
            row.push(plain(&session.target));
            row.push(plain(&time_text(session.ended)));
            row.push(plain(&session.owner));
        }
        row
    };
    let items = sessions
        .iter()
        .map(|session| Value::Object(record_item(session, names)));
    List {
        kind,
        items: items.collect(),
        beside: Map::new(),
        names: sessions.iter().map(|session| session.id.clone()).collect(),
        columns,
        rows: sessions.iter().map(row).collect(),
    }
}

/// A time in UTC, to the second; nothing for none.
fn time_text(at: Option<Timestamp>) -> String {
    at.map_or_else(String::new, |at| {
        at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    })
}

fn style_of(status: &str) -> Style {
    match status {
        "Connected" => Style::Good,
        "Connecting" | "Disconnected" => Style::Warn,
        "Failed" => Style::Bad,
        _ => Style::Dim,
    }
}
