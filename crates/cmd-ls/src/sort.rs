//! The order of rows.

use std::{cmp::Ordering, net::IpAddr, str::FromStr};

use ops_profile::Instance;

use crate::columns::Field;

/// What to sort by, and whether from the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SortKey {
    field: Field,
    reverse: bool,
}

impl Default for SortKey {
    fn default() -> Self {
        Self {
            field: Field::Name,
            reverse: false,
        }
    }
}

impl FromStr for SortKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (text, reverse) = match text.strip_prefix('-') {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        Ok(Self {
            field: text.parse()?,
            reverse,
        })
    }
}

impl SortKey {
    /// The tag it looks at.
    pub(crate) fn tag(&self) -> Option<String> {
        self.field.tag()
    }

    /// Sorts `instances`; equal ones by name, then oldest launch, then id. What has no value comes
    /// last.
    pub(crate) fn sort(&self, instances: &mut [Instance]) {
        instances.sort_by(|a, b| {
            let order = self.compare(a, b);
            let order = if self.reverse { order.reverse() } else { order };
            order
                .then_with(|| missing_last(a.name.as_deref(), b.name.as_deref()))
                .then_with(|| a.launched.cmp(&b.launched))
                .then_with(|| a.id.cmp(&b.id))
        });
    }

    fn compare(&self, a: &Instance, b: &Instance) -> Ordering {
        let text = |get: fn(&Instance) -> Option<&str>| missing_last(get(a), get(b));
        let address = |get: fn(&Instance) -> Option<&str>| {
            let parse = |i| get(i).and_then(|text| text.parse::<IpAddr>().ok());
            missing_last(parse(a), parse(b))
        };
        match &self.field {
            Field::Name => text(|i| i.name.as_deref()),
            Field::Id => a.id.cmp(&b.id),
            Field::State => a.state.cmp(&b.state),
            Field::Reach => {
                let rank =
                    |i: &Instance| match crate::columns::reach_cell(i, jiff::Timestamp::now()).0 {
                        text if text == "ok" => 0,
                        text if text.starts_with("offline") => 1,
                        text if text == "no agent" => 2,
                        text if text == "unknown" => 3,
                        _ => 4,
                    };
                rank(a).cmp(&rank(b))
            }
            Field::Type => text(|i| i.instance_type.as_deref()),
            Field::Zone => text(|i| i.zone.as_deref()),
            Field::PrivateIp => address(|i| i.private_ip.as_deref()),
            Field::PublicIp => address(|i| i.public_ip.as_deref()),
            // Young first: ages grow downwards.
            Field::Age => missing_last(
                a.launched.map(std::cmp::Reverse),
                b.launched.map(std::cmp::Reverse),
            ),
            Field::Launched => missing_last(a.launched, b.launched),
            Field::Region => a.region.cmp(&b.region),
            Field::Platform => text(|i| i.platform.as_deref()),
            Field::Agent => missing_last(agent_version(a), agent_version(b)),
            Field::PrivateDns => text(|i| i.private_dns.as_deref()),
            Field::Vpc => text(|i| i.vpc.as_deref()),
            Field::Image => text(|i| i.image.as_deref()),
            Field::Tags => a.tags.cmp(&b.tags),
            Field::Tag(key) => missing_last(a.tags.get(key), b.tags.get(key)),
        }
    }
}

fn agent_version(instance: &Instance) -> Option<Vec<u64>> {
    let text = instance.agent_version.as_deref()?;
    Some(
        text.split('.')
            .map(|part| part.parse().unwrap_or(0))
            .collect(),
    )
}

fn missing_last<T: Ord>(a: Option<T>, b: Option<T>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(id: &str, name: Option<&str>, ip: &str) -> Instance {
        Instance {
            name: name.map(str::to_owned),
            private_ip: Some(ip.to_owned()),
            ..Instance::bare(id, "eu-west-1")
        }
    }

    #[test]
    fn addresses_sort_as_numbers_and_missing_names_come_last() {
        let mut rows = vec![
            instance("i-00000001", None, "10.0.0.10"),
            instance("i-00000002", Some("b"), "10.0.0.9"),
            instance("i-00000003", Some("a"), "9.0.0.1"),
        ];
        let mut order = |key: &str| -> Vec<String> {
            key.parse::<SortKey>().expect(key).sort(&mut rows);
            rows.iter().map(|i| i.id[9..].to_owned()).collect()
        };
        assert_eq!(order("name"), ["3", "2", "1"]);
        assert_eq!(order("private-ip"), ["3", "2", "1"]);
        assert_eq!(order("-private-ip"), ["1", "2", "3"]);
    }
}
