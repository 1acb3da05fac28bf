//! What may have been meant where nothing is called or tagged as it was typed.

use std::collections::BTreeSet;

use ops_profile::{Instance, Selector, Target, nearest};
use ops_ui::{Hint, hint};

use crate::{
    context::Context,
    inventory::{Query, TagFilter},
};

/// Near names shown.
const NEAR: usize = 3;

impl Context {
    /// What may have been meant by `query`, which has found nothing in `regions`: names that come
    /// near its words, else a tag that comes near one of its conditions. Only what the rest of the
    /// query lets be found is proposed. One more list is asked for; a failure of that is no matter.
    pub async fn suggest_for(&self, query: &Query, regions: &[String]) -> Option<Hint> {
        let words: Vec<&str> = query
            .patterns
            .iter()
            .filter_map(|pattern| match pattern {
                Selector::Word(word) => Some(word.as_str()),
                _ => None,
            })
            .collect();
        let conditions = || query.tags.iter().filter(|tag| !tag.negated);
        if words.is_empty() && (!query.patterns.is_empty() || conditions().next().is_none()) {
            return None;
        }
        let mut wide = Query {
            reach: false,
            keep_tags: None,
            ..query.clone()
        };
        if words.is_empty() {
            wide.tags.clear();
        } else {
            wide.patterns.clear();
        }
        let found = self.list(&wide, regions).await.ok()?.instances;
        if words.is_empty() {
            return conditions().find_map(|condition| near_tag(condition, &found));
        }
        words
            .iter()
            .find_map(|word| did_you_mean(query, &near_names(word, found.iter())))
    }
}

/// The question whether one of `near` was meant; `None` where there is none.
pub(super) fn did_you_mean(query: &Query, near: &[&Instance]) -> Option<Hint> {
    if near.is_empty() {
        return None;
    }
    let names: Vec<String> = near
        .iter()
        .map(|instance| typed_target(query, instance))
        .collect();
    Some(hint!(
        "did you mean {}?",
        Hint::names(names.iter().map(String::as_str), " or ")
    ))
}

/// The condition that was meant by `condition`, if a key or a value of `instances` comes near it.
fn near_tag(condition: &TagFilter, instances: &[Instance]) -> Option<Hint> {
    let TagFilter { key, values, .. } = condition;
    let keys: BTreeSet<&str> = instances
        .iter()
        .flat_map(|one| one.tags.keys())
        .map(String::as_str)
        .collect();
    let meant = if keys.contains(key.as_str()) {
        let known: BTreeSet<&str> = instances
            .iter()
            .filter_map(|one| one.tags.get(key))
            .map(String::as_str)
            .collect();
        // What comes near a glob is no other glob.
        let mut plain = values
            .iter()
            .filter(|value| !value.contains(['*', '?', '[']));
        let near = plain.find_map(|value| nearest(value, known.iter().copied()))?;
        format!("{key}={near}")
    } else {
        format!("{}={}", nearest(key, keys)?, values.join(","))
    };
    Some(hint!("did you mean --tag {}?", meant))
}

/// Those whose names are spelt much like `text`, and not just so. How far a name may be from it is
/// a third of its length, so that nothing is near one or two letters.
pub(super) fn near_names<'a>(
    text: &str,
    instances: impl Iterator<Item = &'a Instance>,
) -> Vec<&'a Instance> {
    let lower = text.to_lowercase();
    let length = lower.chars().count();
    let mut scored: Vec<(usize, &str, &Instance)> = instances
        .filter_map(|instance| Some((instance.name.as_deref()?, instance)))
        .filter(|(name, _)| *name != text)
        .filter_map(|(name, instance)| {
            let other = name.to_lowercase();
            let is_part = length > 2 && other.contains(&lower)
                || other.chars().count() > 2 && lower.contains(&other);
            let distance = if is_part {
                1
            } else {
                strsim::damerau_levenshtein(&lower, &other)
            };
            (is_part || distance <= length / 3).then_some((distance, name, instance))
        })
        .collect();
    scored.sort_unstable_by_key(|(distance, name, _)| (*distance, *name));
    scored.dedup_by_key(|(_, name, _)| *name);
    scored
        .into_iter()
        .take(NEAR)
        .map(|(_, _, instance)| instance)
        .collect()
}

/// The target that means an instance by its tag, whatever its name looks like.
pub(super) fn by_tag(query: &Query, instance: &Instance) -> String {
    let key = &query.naming.tag;
    let value = instance.tags.get(key).or(instance.name.as_ref());
    format!("tag:{key}={}", value.map_or("", String::as_str))
}

/// What reaches an instance when it is typed: its name, unless that would be taken apart.
fn typed_target(query: &Query, instance: &Instance) -> String {
    let name = instance.name.as_deref().unwrap_or(&instance.id);
    // An index at its end would be one of a tag's value, too.
    if name.ends_with(']') {
        return instance.id.clone();
    }
    let is_plain = name.parse::<Target>().is_ok_and(|target| {
        target.whole().is_none() && matches!(target.selector, Selector::Word(_) | Selector::Id(_))
    });
    if is_plain && !name.starts_with('-') {
        name.to_owned()
    } else {
        by_tag(query, instance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_come_near_are_found_and_others_are_not() {
        let named = |name: &str| Instance {
            name: Some(name.to_owned()),
            ..Instance::bare("i-00000000", "eu-west-1")
        };
        let all = [
            named("web-1"),
            named("web-2"),
            named("database"),
            named("bastion"),
        ];
        let near = |text: &str| {
            let found = near_names(text, all.iter());
            let names = found.iter().map(|instance| instance.name.as_deref());
            names.map(|name| name.expect("a name")).collect::<Vec<_>>()
        };
        assert_eq!(near("wbe-1"), ["web-1"]);
        assert_eq!(near("Web-1"), ["web-1", "web-2"]);
        assert_eq!(near("data"), ["database"]);
        for none in ["nosuch", "a", "w", "xy"] {
            assert!(near(none).is_empty(), "{none}");
        }
        assert_eq!(near("web-1"), ["web-2"], "what was typed is no correction");
    }

    #[test]
    fn a_name_that_would_be_taken_apart_is_proposed_by_its_tag() {
        let query = Query::default();
        let typed = |name: &str| {
            super::typed_target(
                &query,
                &Instance {
                    name: Some(name.to_owned()),
                    ..Instance::bare("i-00000000", "eu-west-1")
                },
            )
        };
        assert_eq!(typed("web-1"), "web-1");
        assert_eq!(typed("bracket[1]"), "i-00000000");
        for name in ["user@name", "-dash", "star*", "tag:a=b"] {
            assert_eq!(typed(name), format!("tag:Name={name}"));
        }
    }

    #[test]
    fn a_tag_that_comes_near_is_proposed_by_its_key_or_its_value() {
        let tagged = |key: &str, value: &str| Instance {
            tags: [(key.to_owned(), value.to_owned())].into(),
            ..Instance::bare("i-00000000", "eu-west-1")
        };
        let all = [tagged("Team", "checkout"), tagged("Env", "production")];
        let near = |text: &str| {
            let condition = text.parse().expect("a condition");
            near_tag(&condition, &all).map(|hint| hint.to_string())
        };
        assert_eq!(
            near("Team=chekout").as_deref(),
            Some("did you mean --tag Team=checkout?")
        );
        assert_eq!(
            near("team=checkout").as_deref(),
            Some("did you mean --tag Team=checkout?")
        );
        assert_eq!(
            near("Env=prod").as_deref(),
            Some("did you mean --tag Env=production?")
        );
        for nothing in ["Team=payments", "Owner=ann", "Team=x*"] {
            assert_eq!(near(nothing), None, "{nothing}");
        }
    }
}
