//! `-o name`: one target per line that every command accepts and that means just this instance.

use std::collections::{BTreeMap, BTreeSet};

use ops_core::{Context, Query};
use ops_profile::{Instance, InstanceState, Selector};
use ops_ui::Result;

/// Of more names than one call takes, everything that runs is asked for.
const ASKED_BY_NAME: usize = 200;

/// The target of each of `instances`: its name where no other instance in its region would answer
/// to it, else its id.
///
/// # Errors
/// Those of a list, as it may take one more to see whether a name is unique.
pub(crate) async fn target_names(
    cx: &Context,
    query: &Query,
    instances: &[Instance],
) -> Result<Vec<String>> {
    let hosts = &cx.profile()?.hosts;
    let mut by_region: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for instance in instances {
        if let Some(name) = usable_name(instance)
            && !hosts.contains_key(name)
        {
            by_region.entry(&instance.region).or_default().insert(name);
        }
    }
    let whole = query.patterns.is_empty() && query.tags.is_empty() && query.filters.is_empty();
    // A name is looked for in all regions of a profile, so that one in two of them means neither.
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    if whole {
        count_names(&mut counts, instances);
    } else {
        // The list may lack others of the same name.
        for (region, names) in &by_region {
            let mut all = Query::of(cx.profile()?);
            all.states = vec![InstanceState::Running];
            all.keep_tags = Some(vec!["Name".to_owned()]);
            if names.len() <= ASKED_BY_NAME {
                all.patterns = names
                    .iter()
                    .map(|name| Selector::Word((*name).to_owned()))
                    .collect();
            }
            let listing = cx.list(&all, &[(*region).to_owned()]).await?;
            count_names(&mut counts, &listing.instances);
        }
    }
    Ok(instances
        .iter()
        .map(|instance| {
            let name = usable_name(instance).filter(|name| {
                by_region
                    .get(instance.region.as_str())
                    .is_some_and(|names| names.contains(name))
                    && counts.get(*name).copied().unwrap_or(0) <= 1
            });
            name.unwrap_or(&instance.id).to_owned()
        })
        .collect())
}

fn count_names(counts: &mut BTreeMap<String, usize>, instances: &[Instance]) {
    for instance in instances {
        for name in instance.full_names() {
            *counts.entry(name.to_owned()).or_default() += 1;
        }
    }
}

/// The name, if it means a running instance by its name when typed.
fn usable_name(instance: &Instance) -> Option<&str> {
    instance
        .plain_name()
        .filter(|_| instance.state == InstanceState::Running)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_that_reads_as_one_is_a_target() {
        let named = |name: &str| Instance {
            name: Some(name.to_owned()),
            ..Instance::bare("i-00000001", "eu-west-1")
        };
        assert_eq!(usable_name(&named("web-1")), Some("web-1"));
        for bad in [
            "web 1",
            "web-*",
            "a@b",
            "web[1]",
            "-x",
            "tag:a=b",
            "i-0a1b2c3d",
            "a\nb",
            "\u{202e}evil",
            "web\u{200b}-1",
        ] {
            assert_eq!(usable_name(&named(bad)), None, "{bad}");
        }
        let stopped = Instance {
            state: InstanceState::Stopped,
            ..named("web-1")
        };
        assert_eq!(usable_name(&stopped), None);
    }
}
