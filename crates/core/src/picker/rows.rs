//! Instances as rows of columns, and what of them can be searched.

use nucleo_matcher::Utf32String;
use ops_profile::{Instance, InstanceState, Ping, instance::age_words};
use ops_ui::output::escape;
use unicode_width::UnicodeWidthStr as _;

use crate::recent::Recent;

/// The columns, in the order of `ops ls` as far as they are there; what tells servers apart comes
/// first, so that a narrow terminal cuts the rest.
pub(super) const TITLES: [&str; 9] = [
    "NAME",
    "ID",
    "STATE",
    "REACH",
    "AGE",
    "USED",
    "PRIVATE-IP",
    "TYPE",
    "ZONE",
];
pub(super) const NAME: usize = 0;
const ID: usize = 1;
/// Empty for most.
pub(super) const USED: usize = 5;
/// The first column that gives way to a tag in which something was found.
pub(super) const ADDRESS: usize = 6;
/// What a name is cut to, so that an id stands beside it on every terminal.
pub(super) const NAME_COLUMNS: usize = 32;

/// One server.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) instance: Instance,
    /// A text for each of [`TITLES`], as it is drawn; empty where nothing is known.
    pub(super) cells: [String; TITLES.len()],
    /// Its place among the recents, the last one first.
    pub(super) recent: Option<usize>,
    /// What is searched.
    pub(super) fields: Vec<Field>,
}

/// A text in which something can be found.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) text: Utf32String,
    pub(super) place: FieldPlace,
}

/// Where a [`Field`] is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldPlace {
    /// In a column, by its index.
    Cell(usize),
    /// Only where something is found in it: a tag, or another address.
    Aside,
}

impl Row {
    /// `recents` are those of the profile, the last one first. `names_region`: the list is of
    /// several regions, so that those are shown in place of zones.
    pub(super) fn new(
        instance: Instance,
        recents: &[Recent],
        names_region: bool,
        now: jiff::Timestamp,
    ) -> Self {
        let recent = recents.iter().position(|recent| recent.id == instance.id);
        let since = |at: jiff::Timestamp| age_words(now.duration_since(at).as_secs());
        let place = if names_region {
            Some(instance.region.clone())
        } else {
            instance.zone.clone()
        };
        let cells = [
            instance.name.clone(),
            Some(instance.id.clone()),
            Some(instance.state.as_str().to_owned()),
            reach(&instance, now),
            instance.launched.map(since),
            recent.map(|at| since(recents[at].used)),
            instance.private_ip.clone(),
            instance.instance_type.clone(),
            place,
        ]
        .map(|text| escape(&text.unwrap_or_default()));
        let mut fields: Vec<Field> = [NAME, ID, ADDRESS]
            .into_iter()
            .filter(|&column| !cells[column].is_empty())
            .map(|column| Field {
                text: cells[column].as_str().into(),
                place: FieldPlace::Cell(column),
            })
            .collect();
        // The tag that is the name is in its column already.
        let tags = instance
            .tags
            .iter()
            .filter(|(_, value)| instance.name.as_ref() != Some(value));
        let asides = instance.public_ip.iter().cloned();
        let asides = asides.chain(tags.map(|(key, value)| format!("{key}={value}")));
        fields.extend(asides.map(|text| Field {
            text: escape(&text).into(),
            place: FieldPlace::Aside,
        }));
        Self {
            instance,
            cells,
            recent,
            fields,
        }
    }

    /// What is typed to mean it as a whole, and not part of it.
    pub(super) fn is_called(&self, typed: &str) -> bool {
        [NAME, ID, ADDRESS]
            .iter()
            .any(|&column| self.cells[column].eq_ignore_ascii_case(typed))
    }
}

/// Whether a session can be had, where that is known of a server that runs.
fn reach(instance: &Instance, now: jiff::Timestamp) -> Option<String> {
    match (instance.state, instance.ping) {
        (InstanceState::Running, Ping::Online) => Some("ok".to_owned()),
        (InstanceState::Running, Ping::Lost { last: Some(last) }) => Some(format!(
            "offline {}",
            age_words(now.duration_since(last).as_secs())
        )),
        (InstanceState::Running, Ping::Lost { last: None }) => Some("offline".to_owned()),
        (InstanceState::Running, Ping::NoAgent) => Some("no agent".to_owned()),
        _ => None,
    }
}

/// The width of each column; 0 for one in which no row has anything.
pub(super) fn widths(rows: &[Row]) -> [usize; TITLES.len()] {
    let mut widths = [0; TITLES.len()];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(&row.cells) {
            *width = (*width).max(cell.width());
        }
    }
    widths[NAME] = widths[NAME].min(NAME_COLUMNS);
    for (width, title) in widths.iter_mut().zip(TITLES) {
        if *width > 0 {
            *width = (*width).max(title.len());
        }
    }
    widths
}
