//! `ops config diff`

use std::collections::BTreeMap;

use ops_core::Context;
use ops_profile::{Found, Loaded, settings};
use ops_ui::{Exit, Result};
use serde::Serialize;
use serde_json::Value;

use super::{
    file::{ConfigFile, team_profiles},
    print_document, print_table, value_text,
};

/// A key whose value is not the same in both; null where a profile does not have it.
#[derive(Serialize)]
struct Difference {
    key: String,
    first: Value,
    second: Value,
}

/// Shows in which keys two profiles differ, with all that they extend.
pub(super) fn diff_profiles(cx: &Context, first: &str, second: &str) -> Result<Exit> {
    let all = team_profiles(cx)?;
    let mut one = profile_keys(cx, &all, first)?;
    let mut other = profile_keys(cx, &all, second)?;
    one.retain(|key, value| match other.get(key) {
        Some(theirs) if theirs == value => {
            other.remove(key);
            false
        }
        _ => true,
    });
    let mut differences: Vec<Difference> = one
        .into_iter()
        .map(|(key, first)| {
            let second = other.remove(&key).unwrap_or_default();
            Difference { key, first, second }
        })
        .collect();
    differences.extend(other.into_iter().map(|(key, second)| Difference {
        key,
        first: Value::Null,
        second,
    }));
    differences.sort_by(|one, other| one.key.cmp(&other.key));
    if print_document(cx, "differences", &differences)? {
        return Ok(Exit::SUCCESS);
    }
    if differences.is_empty() {
        cx.output()
            .note(format!("{first} and {second} say the same"));
    }
    let lines = differences.iter().map(|row| {
        vec![
            row.key.clone(),
            value_text(&row.first),
            value_text(&row.second),
        ]
    });
    print_table(cx, &["KEY", first, second], lines)
}

fn profile_keys(cx: &Context, all: &[Found], name: &str) -> Result<BTreeMap<String, Value>> {
    let file = ConfigFile::team(cx, name)?;
    let found = Found {
        name: name.to_owned(),
        path: file.path,
        hides: Vec::new(),
    };
    let loaded = Loaded::load(&found, all, None, cx.verbs())?;
    Ok(settings::keys(&loaded).into_iter().collect())
}
