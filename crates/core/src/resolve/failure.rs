//! Why a target means nothing, or too much: what was searched, what comes near, what exists in another state.

use std::fmt::Write as _;

use crate::{
    context::Context,
    error::{Error, ErrorKind},
    hint,
    instance::{Instance, State},
    inventory::{Query, answers_to},
    target::{Selector, Target},
    text::{Hint, named},
};

/// Near names shown.
const NEAR: usize = 3;
/// Candidates listed in an error.
const LISTED: usize = 20;

/// No machine: looks again without the restrictions, to tell what would have matched and what is spelt alike.
pub(super) async fn none(cx: &Context, target: &Target, region: &str) -> Error {
    let text = target.as_str();
    let mut query = cx.target_query().unwrap_or_default();
    let is_id = matches!(target.selector, Selector::Id(_));
    if is_id {
        // It is looked for in any state and whatever the profile selects.
        query.states.clear();
        query.select = Default::default();
    }
    let mut wide = Query {
        naming: query.naming.clone(),
        ..Query::default()
    };
    // Everything there is: names that come near can only be found among all. Nothing comes near an id.
    if is_id {
        wide.patterns.push(target.selector.clone());
    }
    let regions = [region.to_owned()];
    let everything = cx
        .list(&wide, &regions)
        .await
        .map(|listing| listing.instances)
        .unwrap_or_default();
    let same: Vec<&Instance> = everything
        .iter()
        .filter(|instance| answers_to(instance, &target.selector))
        .collect();

    let searched = searched(cx, &query, region).await;
    let off: Vec<&&Instance> = same
        .iter()
        .filter(|instance| instance.state != State::Running && instance.state != State::Terminated)
        .collect();
    if let [only] = off.as_slice()
        && same
            .iter()
            .all(|i| i.id == only.id || i.state == State::Terminated)
    {
        let hint = if only.state == State::Stopped {
            hint!(
                "start it: aws ec2 start-instances --instance-ids {} --region {}",
                only.id,
                region
            )
        } else {
            hint!("see its state: ops ls --state all {}", text)
        };
        return Error::new(
            ErrorKind::Unreachable,
            format!("`{text}` is {}", only.state.as_str()),
        )
        .caused_by(format!(
            "{} is the only one of that name; {searched}",
            only.id
        ))
        .hint(hint);
    }

    let what = match &target.selector {
        Selector::Id(id) => format!("there is no instance `{id}`"),
        Selector::Glob(_) => format!("no running instance's name matches `{text}`"),
        Selector::Tag { .. } => format!("no running instance has `{text}`"),
        Selector::Word(_) => format!("no running instance is called `{text}`"),
    };
    let mut error = Error::new(ErrorKind::NotFound, what).caused_by(searched);
    for instance in same.iter().take(LISTED) {
        error = error.caused_by(if instance.state == State::Running {
            format!(
                "`{}` ({}) runs, but the profile's `select` leaves it out",
                instance.label(),
                instance.id
            )
        } else {
            format!(
                "`{}` ({}) is {}",
                instance.label(),
                instance.id,
                instance.state.as_str()
            )
        });
    }
    // A name that would not be found either is no help.
    let near = near(
        text,
        everything
            .iter()
            .filter(|i| i.state == State::Running && query.is_selected(i)),
    );
    if !near.is_empty() {
        error = error.hint(hint!(
            "did you mean {}?",
            Hint::names(near.iter().map(String::as_str), " or ")
        ));
    }
    let left_out: Vec<&&Instance> = same
        .iter()
        .filter(|i| i.state == State::Running && !query.is_selected(i))
        .collect();
    if let [only] = left_out.as_slice() {
        error = error.hint(hint!("its id reaches it all the same: {}", only.id));
    }
    match &target.selector {
        Selector::Id(_) => {
            error.hint("it may be in another region or account: ops ls --all-regions --state all")
        }
        _ => error.hint("see what there is: ops ls"),
    }
}

/// Where and how was looked, in words.
async fn searched(cx: &Context, query: &Query, region: &str) -> String {
    let mut text = match cx.aws().await {
        Ok(aws) => format!("searched {}", aws.place(Some(region))),
        Err(_) => format!("searched region `{region}`"),
    };
    if !query.states.is_empty() {
        let states: Vec<&str> = query.states.iter().map(|state| state.as_str()).collect();
        let _ = write!(text, ", state {}", states.join(" or "));
    }
    for (key, globs) in &query.select.tags {
        let values: Vec<&str> = globs
            .iter()
            .map(crate::profile::values::Glob::as_str)
            .collect();
        let _ = write!(text, ", tag {key}={}", values.join(","));
    }
    for (key, globs) in &query.select.exclude_tags {
        let values: Vec<&str> = globs
            .iter()
            .map(crate::profile::values::Glob::as_str)
            .collect();
        let _ = write!(text, ", tag {key}!={}", values.join(","));
    }
    if let Some(vpc) = &query.select.vpc {
        let _ = write!(text, ", VPC {vpc}");
    }
    text
}

/// Names spelt much like `text`.
fn near<'a>(text: &str, instances: impl Iterator<Item = &'a Instance>) -> Vec<String> {
    let lower = text.to_lowercase();
    let mut scored: Vec<(usize, &str)> = instances
        .filter_map(|instance| instance.name.as_deref())
        .filter_map(|name| {
            let other = name.to_lowercase();
            let distance = if other.contains(&lower) || (other.len() > 2 && lower.contains(&other))
            {
                1
            } else {
                strsim::damerau_levenshtein(&lower, &other)
            };
            (distance <= 1 + lower.chars().count() / 4).then_some((distance, name))
        })
        .collect();
    scored.sort_unstable();
    scored.dedup();
    scored
        .into_iter()
        .take(NEAR)
        .map(|(_, name)| name.to_owned())
        .collect()
}

/// Several machines, and nobody to ask.
pub(super) fn several(target: &Target, found: &[Instance]) -> Error {
    let text = target.as_str();
    let mut error = Error::new(
        ErrorKind::Ambiguous,
        format!("`{text}` means {} instances", found.len()),
    );
    for instance in found.iter().take(LISTED) {
        error = error.caused_by(line(instance));
    }
    if found.len() > LISTED {
        error = error.caused_by(format!("and {} more", found.len() - LISTED));
    }
    error.hint(hint!(
        "name one: its id, {} (oldest launch first), --first or --newest",
        indexed(text, 1)
    ))
}

/// The picker was left without a choice.
pub(super) fn not_picked(target: &Target) -> Error {
    Error::new(
        ErrorKind::Ambiguous,
        format!("none of those that match `{}` was chosen", target.as_str()),
    )
}

/// `[N]` beyond the end.
pub(super) fn index(target: &Target, found: &[Instance]) -> Error {
    let text = target.as_str();
    let name = text.rsplit_once('[').map_or(text, |(name, _)| name);
    let mut error = Error::new(
        ErrorKind::NotFound,
        format!("`{text}` picks nothing: {} match `{name}`", found.len()),
    );
    for instance in found.iter().take(LISTED) {
        error = error.caused_by(line(instance));
    }
    error.hint(hint!("the last is {}", indexed(name, found.len())))
}

/// `name[N]` in a hint. Brackets are quoted only where the name is: shells take them for a pattern, and one without a match, which
/// is what this is, for itself; but zsh refuses it.
fn indexed(name: &str, number: usize) -> Hint {
    named(&format!("{name}[{number}]"))
}

/// One machine in an error's list.
fn line(instance: &Instance) -> String {
    let mut text = format!("{}  {}", instance.label(), instance.id);
    if let Some(zone) = &instance.zone {
        let _ = write!(text, "  {zone}");
    }
    if let Some(ip) = &instance.private_ip {
        let _ = write!(text, "  {ip}");
    }
    if let Some(launched) = instance.launched {
        let _ = write!(text, "  launched {launched:.0}");
    }
    text
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
        assert_eq!(near("wbe-1", all.iter())[0], "web-1");
        assert_eq!(near("Web-1", all.iter()), ["web-1", "web-2"]);
        assert_eq!(near("data", all.iter()), ["database"]);
        assert!(near("nosuch", all.iter()).is_empty());
    }
}
