//! Which commands reach the servers of a run: one for all by what they have in common (tags, a
//! resource group), or one for each fifty ids;
//! of one region, one platform and one user each.

use std::{collections::BTreeMap, ops::Range};

use ops_core::{
    calls::run_command::{MOST_IDS, MOST_TARGETS, Nodes},
    inventory::TagFilter,
};
use ops_profile::{Instance, Profile, Selector, Target};

use crate::hosts::Host;

/// What makes a server need a command of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    pub(crate) region: String,
    pub(crate) is_windows: bool,
    pub(crate) user: Option<String>,
}

impl Kind {
    pub(crate) fn of(host: &Host) -> Self {
        Self {
            region: host.instance.region.clone(),
            is_windows: is_windows(&host.instance),
            user: host.user.clone(),
        }
    }
}

fn is_windows(instance: &Instance) -> bool {
    let platform = instance.platform.as_deref().unwrap_or_default();
    platform.to_ascii_lowercase().contains("windows")
}

/// The servers of one command, by their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) kind: Kind,
    pub(crate) nodes: Nodes,
    pub(crate) hosts: Vec<usize>,
}

/// The commands for the servers of `batch`; `criteria` mean all hosts, where there are such.
pub(crate) fn divide(
    hosts: &[Host],
    batch: Range<usize>,
    criteria: Option<&Criteria>,
) -> Vec<Part> {
    let mut kinds: BTreeMap<Kind, Vec<usize>> = BTreeMap::new();
    for index in batch.clone() {
        kinds
            .entry(Kind::of(&hosts[index]))
            .or_default()
            .push(index);
    }
    if let (Some(criteria), 1, true) = (criteria, kinds.len(), batch.len() == hosts.len())
        && let Some((kind, all)) = kinds.first_key_value()
        && all.len() > MOST_IDS
    {
        return vec![Part {
            kind: kind.clone(),
            nodes: criteria.nodes(),
            hosts: all.clone(),
        }];
    }
    let mut parts = Vec::new();
    for (kind, all) in kinds {
        for hosts_of_part in all.chunks(MOST_IDS) {
            let ids = hosts_of_part
                .iter()
                .map(|&index| hosts[index].instance.id.clone());
            parts.push(Part {
                kind: kind.clone(),
                nodes: Nodes::Ids(ids.collect()),
                hosts: hosts_of_part.to_vec(),
            });
        }
    }
    parts
}

/// What the servers of a selection have in common, and no others that run: Systems Manager finds
/// them by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Criteria {
    /// Tags with their values, of which a server has one each.
    Tags(Vec<(String, Vec<String>)>),
    /// Membership in the resource group of this name.
    ResourceGroup(String),
}

impl Criteria {
    /// The criteria of a selection; `None` where it says more than they can: names, ids, globs,
    /// what is not to be, a group and tags at once, or what the profile's own selection leaves out
    /// beside.
    pub(crate) fn of(
        targets: &[Target],
        tags: &[TagFilter],
        group: Option<&str>,
        profile: &Profile,
    ) -> Option<Self> {
        let Some(group) = group else {
            return Self::of_tags(targets, tags, profile);
        };
        let is_all = targets.is_empty() && tags.is_empty();
        let select = &profile.select;
        let leaves_out = says_more_than_tags(profile) || !select.tags.is_empty();
        (is_all && !leaves_out).then(|| Self::ResourceGroup(group.to_owned()))
    }

    /// How SendCommand is told.
    pub(crate) fn nodes(&self) -> Nodes {
        match self {
            Self::Tags(tags) => Nodes::Tags(tags.clone()),
            Self::ResourceGroup(name) => Nodes::ResourceGroup(name.clone()),
        }
    }

    /// The subject of a sentence with `mean`.
    pub(crate) const fn subject(&self) -> &'static str {
        match self {
            Self::Tags(_) => "the tags mean",
            Self::ResourceGroup(_) => "the resource group means",
        }
    }

    fn of_tags(targets: &[Target], tags: &[TagFilter], profile: &Profile) -> Option<Self> {
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut add = |key: &str, values: Vec<String>| {
            let is_plain = values.iter().all(|value| !value.contains(['*', '?', '\\']));
            // Two conditions on one tag are more than a target can say.
            (is_plain && found.insert(key.to_owned(), values).is_none()).then_some(())
        };
        match targets {
            [] => {}
            [only] => match &only.selector {
                Selector::Tag { key, value } if only.index.is_none() => {
                    add(key, vec![value.clone()])?;
                }
                _ => return None,
            },
            _ => return None,
        }
        for tag in tags {
            if tag.negated {
                return None;
            }
            add(&tag.key, tag.values.clone())?;
        }
        if says_more_than_tags(profile) {
            return None;
        }
        for (key, globs) in &profile.select.tags {
            let values = globs.iter().map(|glob| glob.as_str().to_owned());
            add(key, values.collect())?;
        }
        let is_small = found.len() <= MOST_TARGETS
            && found.values().all(|values| values.len() <= MOST_IDS)
            && !found.is_empty();
        is_small.then(|| Self::Tags(found.into_iter().collect()))
    }
}

/// Whether the profile's own selection leaves out servers by something that is no tag.
fn says_more_than_tags(profile: &Profile) -> bool {
    let select = &profile.select;
    select.vpc.is_some()
        || select.hybrid == Some(false)
        || select.platform.is_some()
        || !select.exclude_tags.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(count: usize) -> Vec<Host> {
        (0..count)
            .map(|number| Host {
                instance: Instance::bare(format!("i-{number:017x}"), "eu-west-1"),
                user: None,
                label: format!("web-{number}"),
            })
            .collect()
    }

    fn criteria(targets: &[&str], filters: &[&str], group: Option<&str>) -> Option<Criteria> {
        let targets: Vec<Target> = targets
            .iter()
            .map(|text| text.parse().expect(text))
            .collect();
        let filters: Vec<TagFilter> = filters
            .iter()
            .map(|text| text.parse().expect(text))
            .collect();
        Criteria::of(&targets, &filters, group, &Profile::default())
    }

    #[test]
    fn ids_go_fifty_to_a_command_and_tags_say_them_all() {
        let hosts = hosts(120);
        let parts = divide(&hosts, 0..120, None);
        let sizes: Vec<usize> = parts.iter().map(|part| part.hosts.len()).collect();
        assert_eq!(sizes, [50, 50, 20]);
        let role = Criteria::Tags(vec![("Role".to_owned(), vec!["web".to_owned()])]);
        let parts = divide(&hosts, 0..120, Some(&role));
        assert_eq!(parts.len(), 1);
        assert_eq!(parts[0].nodes, role.nodes());
        // A batch is a part of what the tags mean.
        assert_eq!(divide(&hosts, 0..60, Some(&role)).len(), 2);
    }

    #[test]
    fn regions_platforms_and_users_have_commands_of_their_own() {
        let mut hosts = hosts(4);
        hosts[1].instance.platform = Some("Microsoft Windows Server 2022".to_owned());
        hosts[2].instance.region = "us-east-1".to_owned();
        hosts[3].user = Some("app".to_owned());
        let parts = divide(&hosts, 0..4, None);
        assert_eq!(parts.len(), 4);
        assert_eq!(parts.iter().filter(|part| part.kind.is_windows).count(), 1);
    }

    #[test]
    fn tags_are_used_where_they_say_it_all() {
        let of = |key: &str, values: &[&str]| {
            let values = values.iter().map(ToString::to_string).collect();
            Some(Criteria::Tags(vec![(key.to_owned(), values)]))
        };
        assert_eq!(criteria(&["tag:Role=web"], &[], None), of("Role", &["web"]));
        assert_eq!(
            criteria(&[], &["Role=web,api"], None),
            of("Role", &["web", "api"])
        );
        assert_eq!(criteria(&["tag:Role=w*"], &[], None), None);
        assert_eq!(criteria(&["web-1"], &["Role=web"], None), None);
        assert_eq!(criteria(&[], &["Role!=web"], None), None);
        assert_eq!(criteria(&["tag:Role=web"], &["Role=api"], None), None);
        assert_eq!(criteria(&[], &[], None), None);
    }

    #[test]
    fn a_resource_group_is_used_where_it_says_it_all() {
        let group = Some(Criteria::ResourceGroup("web".to_owned()));
        assert_eq!(criteria(&[], &[], Some("web")), group);
        assert_eq!(criteria(&["web-1"], &[], Some("web")), None);
        assert_eq!(criteria(&[], &["Role=web"], Some("web")), None);
        let mut profile = Profile::default();
        profile.select.hybrid = Some(false);
        assert_eq!(Criteria::of(&[], &[], Some("web"), &profile), None);
    }
}
