//! Laying one profile over another, before either is typed.
//!
//! Maps merge by key; text, numbers and lists replace;
//! `null` removes. A removed key stays in the tree as `null`, so that a profile named later in
//! `extends` removes what an earlier one says; reading a tree takes `null` for "not there". In
//! `guard` nothing is ever relaxed: the stricter value holds, whatever the order.

use ops_ui::yaml::{Key, Node, Value};

use super::{de, guard::Confirm};

/// `over` laid over `base`.
pub(crate) fn merge(base: Node, over: Node) -> Node {
    lay(base, over, true)
}

fn lay(base: Node, over: Node, top: bool) -> Node {
    let (mut entries, over_entries, place) = match (base.value, over.value) {
        (Value::Map(base), Value::Map(entries)) => (base, entries, over.place),
        // A `null` lands here too, and stays as a value: it also has to remove what a profile that
        // is merged before this one says.
        (_, value) => {
            return Node {
                value,
                place: over.place,
            };
        }
    };
    for (key, node) in over_entries {
        // A key goes to where the later profile has it, with its place: what is wrong with a value
        // is told of the file that says it.
        let old = take(&mut entries, &key.text);
        let merged = match old {
            // Only at the top: a tag or an alias may be called `guard` as well.
            Some(old) if top && key.text == "guard" => merge_guard(old, node),
            Some(old) => lay(old, node, false),
            None => node,
        };
        entries.push((key, merged));
    }
    Node {
        value: Value::Map(entries),
        place,
    }
}

fn take(entries: &mut Vec<(Key, Node)>, key: &str) -> Option<Node> {
    let index = entries.iter().position(|(name, _)| name.text == key)?;
    Some(entries.remove(index).1)
}

/// Each key of `guard` by what makes it strict; the mark's colour, which protects nothing, is
/// replaced as elsewhere.
fn merge_guard(base: Node, over: Node) -> Node {
    let place = base.place;
    let (mut entries, over_entries) = match (base.value, over.value) {
        (Value::Map(entries), Value::Map(over_entries)) => (entries, over_entries),
        // `guard: null` would be the shortest way around every rule.
        (Value::Map(entries), _) => (entries, Vec::new()),
        (_, value) => {
            return Node {
                value,
                place: over.place,
            };
        }
    };
    for (key, node) in over_entries {
        let Some(old) = take(&mut entries, &key.text) else {
            entries.push((key, node));
            continue;
        };
        let merged = match key.text.as_str() {
            // `null` is no rule, so that the other one holds, whichever comes first.
            _ if matches!(node.value, Value::Null) => old,
            _ if matches!(old.value, Value::Null) => node,
            "color" => node,
            "deny" => union(old, node),
            // Fewer is stricter. Each file was checked by itself, so that nothing but a number is
            // here; if it were, it would be the weakest.
            "max_targets" => stricter(old, node, |node| match node.value {
                Value::Int(most) => -most,
                _ => i128::MIN,
            }),
            "confirm" => stricter(old, node, strictness),
            // What is left is `protect`, and a key of the future, which is a switch in all
            // likelihood.
            _ => stricter(old, node, |node| {
                i128::from(matches!(node.value, Value::Bool(true)))
            }),
        };
        entries.push((key, merged));
    }
    Node {
        value: Value::Map(entries),
        place,
    }
}

/// How strict a value of `confirm` is: what it means, not how it is spelt (`"type\u002dname"`), by
/// the reader that the profile is read by.
fn strictness(confirm: &Node) -> i128 {
    // Each file was checked by itself before it is merged; one that cannot be read stops everything
    // there.
    de::read::<Confirm>(confirm).unwrap_or_default() as i128
}

fn stricter(old: Node, new: Node, rank: impl Fn(&Node) -> i128) -> Node {
    // Of two that are alike the later one is kept: errors about it name the file that people edit.
    if rank(&old) > rank(&new) { old } else { new }
}

fn union(old: Node, new: Node) -> Node {
    let items = |node: Node| match node.value {
        Value::List(items) => items,
        _ => vec![node],
    };
    let (old_place, new_place) = (old.place.clone(), new.place.clone());
    let mut all = items(old);
    let before = all.len();
    for item in items(new) {
        let same = |other: &Node| match (&other.value, &item.value) {
            (Value::Text(a), Value::Text(b)) => a == b,
            _ => false,
        };
        if !all.iter().any(same) {
            all.push(item);
        }
    }
    // A list that adds nothing forbids nothing: whoever asks who says so is led to the other file.
    let place = if all.len() > before {
        new_place
    } else {
        old_place
    };
    Node {
        value: Value::List(all),
        place,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::{Guard, Profile, de};
    use ops_ui::yaml::{self, Source};

    fn node(text: &str) -> Node {
        let source = Arc::new(Source {
            path: "x.yaml".into(),
            text: text.to_owned(),
        });
        yaml::parse(&source).expect("yaml")
    }

    fn guard(node: &Node) -> Guard {
        let profile: Profile = de::read(node).expect("a profile");
        profile.guard
    }

    #[test]
    fn a_list_of_verbs_is_told_of_where_it_gets_its_last_one() {
        let place_of_deny = |base: &str, over: &str| {
            let merged = merge(node(base), node(over));
            let Value::Map(mut entries) = merged.value else {
                panic!("a map");
            };
            let Some(Value::Map(mut guard)) = take(&mut entries, "guard").map(|node| node.value)
            else {
                panic!("a guard");
            };
            let deny = take(&mut guard, "deny").expect("deny");
            deny.place.source.text.clone()
        };
        let base = "guard: { deny: [cp] }\n";
        for adds_nothing in ["guard: { deny: [] }\n", "guard:\n  deny: cp\n"] {
            assert_eq!(place_of_deny(base, adds_nothing), base);
        }
        let over = "guard: { deny: [exec] }\n";
        assert_eq!(place_of_deny(base, over), over);
    }

    /// A `guard` section with any of its keys said, unsaid or null; colours apart, as they replace.
    fn any_guard() -> impl Strategy<Value = String> {
        let one = |key: &'static str, values: &'static [&'static str]| {
            prop_oneof![
                Just(String::new()),
                prop::sample::select(values).prop_map(move |value| format!("  {key}: {value}\n")),
            ]
        };
        (
            one("protect", &["true", "false", "null"]),
            one(
                "confirm",
                &[
                    "none",
                    "yes",
                    "\"yes\"",
                    "type-name",
                    "\"type\\u002dname\"",
                    "!!str type-name",
                    ">-\n    type-name",
                    "null",
                ],
            ),
            one("max_targets", &["1", "5", "500", "null"]),
            one(
                "deny",
                &["cp", "[]", "[cp, exec]", "[forward]", "[exec, cp]", "null"],
            ),
        )
            .prop_map(|(a, b, c, d)| match format!("{a}{b}{c}{d}") {
                keys if keys.is_empty() => "guard: {}\n".to_owned(),
                keys => format!("guard:\n{keys}"),
            })
    }

    /// `a` allows nothing that `b` forbids.
    fn at_least_as_strict(a: &Guard, b: &Guard) -> bool {
        a.confirmation() >= b.confirmation()
            && (b.protect != Some(true) || a.protect == Some(true))
            && b.max_targets
                .is_none_or(|most| a.max_targets.is_some_and(|own| own <= most))
            && b.deny.iter().all(|verb| a.deny.contains(verb))
    }

    proptest! {
        #[test]
        fn a_merged_guard_is_as_strict_as_each_part_in_either_order(a in any_guard(), b in any_guard(), c in any_guard()) {
            let (a, b, c) = (node(&a), node(&b), node(&c));
            let one = guard(&merge(merge(a.clone(), b.clone()), c.clone()));
            let other = guard(&merge(c.clone(), merge(b.clone(), a.clone())));
            for part in [&a, &b, &c] {
                prop_assert!(at_least_as_strict(&one, &guard(part)), "{one:?} {part:?}");
            }
            prop_assert!(at_least_as_strict(&one, &other) && at_least_as_strict(&other, &one), "{one:?} {other:?}");
        }

        #[test]
        fn maps_merge_key_by_key_with_the_later_value_and_null_takes_away(
            a in prop::collection::btree_map("[a-d]", prop::option::of(0u8..9), 0..4),
            b in prop::collection::btree_map("[a-d]", prop::option::of(0u8..9), 0..4),
        ) {
            let write = |map: &std::collections::BTreeMap<String, Option<u8>>| {
                let mut text = String::from("names: {tag: x}\nselect:\n  tags:\n    z: z\n");
                for (key, value) in map {
                    text.push_str(&match value {
                        Some(value) => format!("    {key}: \"{value}\"\n"),
                        None => format!("    {key}: null\n"),
                    });
                }
                text
            };
            let merged: Profile = de::read(&merge(node(&write(&a)), node(&write(&b)))).expect("a profile");
            let mut expected = a.clone();
            expected.extend(b.clone());
            let expected: Vec<(String, String)> = expected
                .into_iter()
                .filter_map(|(key, value)| Some((key, value?.to_string())))
                .chain([("z".to_owned(), "z".to_owned())])
                .collect();
            let found: Vec<(String, String)> = merged
                .select
                .tags
                .iter()
                .map(|(key, globs)| (key.clone(), globs[0].to_string()))
                .collect();
            prop_assert_eq!(found, expected);
        }
    }
}
