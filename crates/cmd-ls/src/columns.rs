//! The columns of the table: what they are called, what they show, how soon they are left out.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use ops_profile::{Instance, InstanceState, Ping, instance::age_words};
use ops_ui::{
    style::Style,
    table::{Cell, Column},
};

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Name,
    Id,
    State,
    Reach,
    Type,
    Zone,
    PrivateIp,
    Age,
    Region,
    Platform,
    Agent,
    PublicIp,
    PrivateDns,
    Vpc,
    Image,
    Launched,
    /// Every tag but the name.
    Tags,
    /// A tag.
    Tag(String),
}

/// Every column but tags, by the name it is asked for.
const NAMED: [(&str, Field); 17] = [
    ("name", Field::Name),
    ("id", Field::Id),
    ("state", Field::State),
    ("reach", Field::Reach),
    ("type", Field::Type),
    ("zone", Field::Zone),
    ("private-ip", Field::PrivateIp),
    ("age", Field::Age),
    ("region", Field::Region),
    ("platform", Field::Platform),
    ("agent", Field::Agent),
    ("public-ip", Field::PublicIp),
    ("private-dns", Field::PrivateDns),
    ("vpc", Field::Vpc),
    ("image", Field::Image),
    ("launched", Field::Launched),
    ("tags", Field::Tags),
];

/// What `--columns` and `--sort-by` take, for completion.
pub(crate) const NAMES: &[&str] = &{
    let mut names = ["tag:"; NAMED.len() + 1];
    let mut index = 0;
    while index < NAMED.len() {
        names[index] = NAMED[index].0;
        index += 1;
    }
    names
};

const TABLE: [Field; 8] = [
    Field::Name,
    Field::Id,
    Field::State,
    Field::Reach,
    Field::Type,
    Field::Zone,
    Field::PrivateIp,
    Field::Age,
];

const WIDE: [Field; 6] = [
    Field::Region,
    Field::Platform,
    Field::Agent,
    Field::PublicIp,
    Field::Image,
    Field::Launched,
];

impl FromStr for Field {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(key) = text.strip_prefix("tag:").filter(|key| !key.is_empty()) {
            return Ok(Self::Tag(key.to_owned()));
        }
        NAMED
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(text))
            .map(|(_, field)| field.clone())
            .ok_or_else(|| {
                let names: Vec<&str> = NAMED.iter().map(|(name, _)| *name).collect();
                format!(
                    "`{}` is no column; there are {} and tag:KEY",
                    text.escape_debug(),
                    names.join(", ")
                )
            })
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(key) => write!(f, "tag:{key}"),
            named => f.write_str(
                NAMED
                    .iter()
                    .find(|(_, field)| field == named)
                    .map_or("", |(name, _)| name),
            ),
        }
    }
}

impl Field {
    /// The tag it shows.
    pub(crate) fn tag(&self) -> Option<String> {
        match self {
            Self::Tag(key) => Some(key.clone()),
            _ => None,
        }
    }

    fn column(&self) -> Column {
        let title = match self {
            Self::Tag(key) => ops_ui::output::escape(key).to_uppercase(),
            named => named.to_string().to_uppercase(),
        };
        let worth = match self {
            // Who asks for all tags knows that they are long: a part of them is better than none.
            Self::Name | Self::Tags => return Column::new(title, Column::KEPT).shrinking(),
            Self::Id => Column::KEPT,
            Self::State => 90,
            Self::Reach => 85,
            // Whoever has named a tag looks for it.
            Self::Tag(_) => 80,
            Self::PrivateIp => 70,
            Self::Region => 65,
            Self::Age => 50,
            Self::Type => 40,
            Self::Zone => 30,
            Self::Agent => 28,
            Self::PublicIp => 26,
            Self::Platform => 24,
            Self::PrivateDns => 22,
            Self::Vpc => 20,
            Self::Launched => 12,
            Self::Image => 10,
        };
        Column::new(title, worth)
    }

    /// Its title in a table and in CSV.
    pub(crate) fn title(&self) -> String {
        self.column().title
    }

    fn cell(&self, instance: &Instance, now: Timestamp) -> Cell {
        match self {
            Self::Name => Cell::maybe(instance.name.as_deref()),
            Self::Id => Cell::new(&instance.id),
            Self::State => Cell::styled(instance.state.as_str(), state_style(instance.state)),
            Self::Reach => {
                let (text, style) = reach_cell(instance, now);
                Cell::styled(text, style)
            }
            Self::Type => Cell::maybe(instance.instance_type.as_deref()),
            Self::Zone => Cell::maybe(instance.zone.as_deref()),
            Self::PrivateIp => Cell::maybe(instance.private_ip.as_deref()),
            Self::Age => Cell::new(
                instance
                    .launched
                    .map(|at| age_words(now.duration_since(at).as_secs()))
                    .unwrap_or_default(),
            ),
            Self::Region => Cell::new(&instance.region),
            Self::Platform => Cell::maybe(instance.platform.as_deref()),
            Self::Agent => Cell::maybe(instance.agent_version.as_deref()),
            Self::PublicIp => Cell::maybe(instance.public_ip.as_deref()),
            Self::PrivateDns => Cell::maybe(instance.private_dns.as_deref()),
            Self::Vpc => Cell::maybe(instance.vpc.as_deref()),
            Self::Image => Cell::maybe(instance.image.as_deref()),
            Self::Launched => Cell::new(
                instance
                    .launched
                    .map(|at| format!("{at:.0}"))
                    .unwrap_or_default(),
            ),
            Self::Tags => Cell::new(all_tags(instance)),
            Self::Tag(key) => Cell::maybe(instance.tags.get(key).map(String::as_str)),
        }
    }
}

/// `Key=value` of every tag but the name, by key, as kubectl shows labels.
fn all_tags(instance: &Instance) -> String {
    let tags = instance.tags.iter().filter(|(key, _)| *key != "Name");
    let tags: Vec<String> = tags.map(|(key, value)| format!("{key}={value}")).collect();
    tags.join(",")
}

/// The columns of a table: those that the profile has, else the usual ones; more of them if `wide`,
/// the region where there are several, then tags.
pub(crate) fn choose_fields(
    of_profile: Vec<Field>,
    wide: bool,
    several_regions: bool,
    labels: Vec<String>,
) -> Vec<Field> {
    let mut fields = if of_profile.is_empty() {
        TABLE.to_vec()
    } else {
        of_profile
    };
    let mut add = |field: Field| {
        if !fields.contains(&field) {
            fields.push(field);
        }
    };
    if several_regions {
        add(Field::Region);
    }
    if wide {
        WIDE.into_iter().for_each(&mut add);
    }
    labels.into_iter().map(Field::Tag).for_each(add);
    fields
}

/// The columns as a table wants them. Those that were `named` are cut where the terminal is too
/// narrow, and never left out.
pub(crate) fn head_columns(fields: &[Field], named: bool) -> Vec<Column> {
    let of = |field: &Field| {
        let column = field.column();
        if named {
            Column::new(column.title, Column::KEPT).shrinking()
        } else {
            column
        }
    };
    fields.iter().map(of).collect()
}

/// The cells of one instance.
pub(crate) fn row_cells(fields: &[Field], instance: &Instance, now: Timestamp) -> Vec<Cell> {
    fields
        .iter()
        .map(|field| field.cell(instance, now))
        .collect()
}

/// What the columns show of one instance, as it is; nothing for what is missing.
pub(crate) fn field_values(fields: &[Field], instance: &Instance, now: Timestamp) -> Vec<String> {
    fields
        .iter()
        .map(|field| match field {
            Field::Name => instance.name.clone().unwrap_or_default(),
            Field::Tag(key) => instance.tags.get(key).cloned().unwrap_or_default(),
            Field::Tags => all_tags(instance),
            other => match other.cell(instance, now).text() {
                "-" => String::new(),
                text => text.to_owned(),
            },
        })
        .collect()
}

/// Whether a session can be had, in words: the agent's status for what runs, else the state.
pub(crate) fn reach_cell(instance: &Instance, now: Timestamp) -> (String, Style) {
    match (instance.state, instance.ping) {
        (InstanceState::Running | InstanceState::Pending, Ping::Online) => {
            ("ok".to_owned(), Style::Good)
        }
        (InstanceState::Running, Ping::Lost { last: Some(last) }) => (
            format!("offline {}", age_words(now.duration_since(last).as_secs())),
            Style::Bad,
        ),
        (InstanceState::Running, Ping::Lost { last: None }) => ("offline".to_owned(), Style::Bad),
        (InstanceState::Running, Ping::NoAgent) => ("no agent".to_owned(), Style::Warn),
        (InstanceState::Running | InstanceState::Pending, Ping::Unknown) => {
            ("unknown".to_owned(), Style::Dim)
        }
        (state, _) => (state.as_str().to_owned(), state_style(state)),
    }
}

fn state_style(state: InstanceState) -> Style {
    match state {
        InstanceState::Running => Style::Good,
        InstanceState::Pending | InstanceState::Stopping => Style::Warn,
        InstanceState::Stopped => Style::Dim,
        InstanceState::ShuttingDown | InstanceState::Terminated => Style::Bad,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reach_tells_the_agent_of_what_runs_and_the_state_of_what_does_not() {
        let now: Timestamp = "2026-01-04T00:00:00Z".parse().expect("a time");
        let last: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let words = |state, ping| {
            let instance = Instance {
                state,
                ping,
                ..Instance::bare("i-00000000", "eu-west-1")
            };
            reach_cell(&instance, now).0
        };
        assert_eq!(words(InstanceState::Running, Ping::Online), "ok");
        assert_eq!(
            words(InstanceState::Running, Ping::Lost { last: Some(last) }),
            "offline 3d"
        );
        assert_eq!(words(InstanceState::Running, Ping::NoAgent), "no agent");
        assert_eq!(words(InstanceState::Running, Ping::Unknown), "unknown");
        assert_eq!(words(InstanceState::Stopped, Ping::NoAgent), "stopped");
    }

    #[test]
    fn every_column_is_found_by_its_own_name() {
        for (name, field) in NAMED {
            assert_eq!(name.parse(), Ok(field.clone()));
            assert_eq!(field.to_string(), name);
        }
        assert_eq!("tag:Team".parse(), Ok(Field::Tag("Team".to_owned())));
        assert!("tag:".parse::<Field>().is_err());
    }
}
