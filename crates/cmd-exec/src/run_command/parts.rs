//! Which commands reach the servers of a run: one for all by their tags, or one for each fifty ids;
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

/// The commands for the servers of `batch`; `tags` says them all where tags can.
pub(crate) fn divide(hosts: &[Host], batch: Range<usize>, tags: Option<&Tags>) -> Vec<Part> {
    let mut kinds: BTreeMap<Kind, Vec<usize>> = BTreeMap::new();
    for index in batch.clone() {
        kinds
            .entry(Kind::of(&hosts[index]))
            .or_default()
            .push(index);
    }
    if let (Some(tags), 1, true) = (tags, kinds.len(), batch.len() == hosts.len())
        && let Some((kind, all)) = kinds.first_key_value()
        && all.len() > MOST_IDS
    {
        return vec![Part {
            kind: kind.clone(),
            nodes: Nodes::Tags(tags.0.clone()),
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

/// Tags that mean the servers of a selection, and no others that run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tags(pub(crate) Vec<(String, Vec<String>)>);

impl Tags {
    /// The tags of a selection; `None` where it says more than tags with plain values can: names,
    /// ids, globs, what is not to be, or what the profile's own selection leaves out beside.
    pub(crate) fn of(targets: &[Target], tags: &[TagFilter], profile: &Profile) -> Option<Self> {
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
        let select = &profile.select;
        let says_more = select.vpc.is_some()
            || select.hybrid == Some(false)
            || select.platform.is_some()
            || !select.exclude_tags.is_empty();
        if says_more {
            return None;
        }
        for (key, globs) in &profile.select.tags {
            let values = globs.iter().map(|glob| glob.as_str().to_owned());
            add(key, values.collect())?;
        }
        let is_small = found.len() <= MOST_TARGETS
            && found.values().all(|values| values.len() <= MOST_IDS)
            && !found.is_empty();
        is_small.then(|| Self(found.into_iter().collect()))
    }
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

    fn tags(targets: &[&str], filters: &[&str]) -> Option<Tags> {
        let targets: Vec<Target> = targets
            .iter()
            .map(|text| text.parse().expect(text))
            .collect();
        let filters: Vec<TagFilter> = filters
            .iter()
            .map(|text| text.parse().expect(text))
            .collect();
        Tags::of(&targets, &filters, &Profile::default())
    }

    #[test]
    fn ids_go_fifty_to_a_command_and_tags_say_them_all() {
        let hosts = hosts(120);
        let parts = divide(&hosts, 0..120, None);
        let sizes: Vec<usize> = parts.iter().map(|part| part.hosts.len()).collect();
        assert_eq!(sizes, [50, 50, 20]);
        let role = Tags(vec![("Role".to_owned(), vec!["web".to_owned()])]);
        let parts = divide(&hosts, 0..120, Some(&role));
        assert_eq!(parts.len(), 1);
        assert_eq!(parts[0].nodes, Nodes::Tags(role.0.clone()));
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
            Some(Tags(vec![(key.to_owned(), values)]))
        };
        assert_eq!(tags(&["tag:Role=web"], &[]), of("Role", &["web"]));
        assert_eq!(tags(&[], &["Role=web,api"]), of("Role", &["web", "api"]));
        assert_eq!(tags(&["tag:Role=w*"], &[]), None);
        assert_eq!(tags(&["web-1"], &["Role=web"]), None);
        assert_eq!(tags(&[], &["Role!=web"]), None);
        assert_eq!(tags(&["tag:Role=web"], &["Role=api"]), None);
        assert_eq!(tags(&[], &[]), None);
    }
}
