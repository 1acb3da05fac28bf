//! Why a target means nothing, or too much: what was searched, what comes near, what exists in
//! another state.

use std::fmt::Write as _;

use ops_profile::{Instance, InstanceState, Selector, Target};
use ops_ui::{Error, ErrorKind, Hint, hint, text::named};

use super::near::{by_tag, did_you_mean, near_names};
use crate::{
    context::Context,
    inventory::{Query, answers_to},
};

/// Candidates listed in an error.
const LISTED: usize = 20;

/// Why a target means no machine.
pub(super) struct Missing {
    pub(super) error: Error,
    /// Machines that are called nearly so, the nearest first. None where the error says what was
    /// meant: a machine that does not run, or a name that has to be typed in another way.
    pub(super) near: Vec<Instance>,
}

impl Missing {
    fn of(error: Error) -> Self {
        Self {
            error,
            near: Vec::new(),
        }
    }
}

/// No machine: looks again without the restrictions, to tell what would have matched and what is
/// spelt alike.
pub(super) async fn none(cx: &Context, target: &Target, regions: &[String]) -> Missing {
    let text = target.as_str();
    let mut query = cx.profile().map(Query::of_targets).unwrap_or_default();
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
    // Everything there is: names that come near can only be found among all. Nothing comes near an
    // id.
    if is_id {
        wide.patterns.push(target.selector.clone());
    }
    let everything = cx
        .list(&wide, regions)
        .await
        .map(|listing| listing.instances)
        .unwrap_or_default();
    let same: Vec<&Instance> = everything
        .iter()
        .filter(|instance| answers_to(instance, &target.selector))
        .collect();

    let searched = searched(cx, &query, regions).await;
    let off: Vec<&&Instance> = same
        .iter()
        .filter(|instance| {
            instance.state != InstanceState::Running && instance.state != InstanceState::Terminated
        })
        .collect();
    // Terminated machines keep their name for an hour, and are nobody's target.
    if let [only] = off.as_slice()
        && same
            .iter()
            .all(|i| i.id == only.id || i.state == InstanceState::Terminated)
    {
        let hint = if only.state == InstanceState::Stopped {
            hint!(
                "start it: aws ec2 start-instances --instance-ids {} --region {}",
                only.id,
                only.region
            )
        } else {
            hint!("see its state: ops ls --state all {}", text)
        };
        let error = Error::new(
            ErrorKind::Unreachable,
            format!("`{text}` is {}", only.state.as_str()),
        );
        let why = format!("{} is the only one of that name; {searched}", only.id);
        return Missing::of(error.caused_by(why).hint(hint).named("stopped"));
    }

    let what = match &target.selector {
        Selector::Id(id) => format!("there is no instance `{id}`"),
        Selector::Glob(_) => format!("no running instance's name matches `{text}`"),
        Selector::Tag { .. } => format!("no running instance has `{text}`"),
        Selector::Word(_) | Selector::Last => {
            format!("no running instance is called `{text}`")
        }
    };
    let mut error = Error::new(ErrorKind::NotFound, what).caused_by(searched);
    for instance in same.iter().take(LISTED) {
        error = error.caused_by(
            // It was not there a moment ago, when the target was looked for.
            if instance.state == InstanceState::Running && query.is_selected(instance) {
                format!("`{}` ({}) has come up since", instance.label(), instance.id)
            } else if instance.state == InstanceState::Running {
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
            },
        );
    }
    let in_reach = || {
        let running = everything
            .iter()
            .filter(|i| i.state == InstanceState::Running);
        running.filter(|i| query.is_selected(i))
    };
    // Taken apart it means nothing; as a whole it is the name of one.
    let whole = target.whole().and_then(|whole| {
        let mut named = in_reach().filter(|instance| answers_to(instance, whole));
        named.next()
    });
    if let Some(instance) = whole {
        error = error.hint(hint!(
            "one has just this name; reach it by its tag or its id: {} or {}",
            by_tag(&query, instance),
            instance.id
        ));
    }
    // A name that would not be found either is no help.
    let near = near_names(text, in_reach());
    error = error.hinted_with(did_you_mean(&query, &near));
    let left_out: Vec<&&Instance> = same
        .iter()
        .filter(|i| i.state == InstanceState::Running && !query.is_selected(i))
        .collect();
    if let [only] = left_out.as_slice() {
        error = error.hint(hint!("its id reaches it all the same: {}", only.id));
    }
    let is_told = whole.is_some() || !same.is_empty();
    let near = near.into_iter().filter(|_| !is_told).cloned().collect();
    let error = match &target.selector {
        Selector::Id(_) => {
            error.hint("it may be in another region or account: ops ls --all-regions --state all")
        }
        _ => error.hint("see what there is: ops ls").hint(hint!(
            "it may be in another region: ops ls --all-regions {}",
            as_argument(text)
        )),
    };
    Missing { error, near }
}

/// `text` as an argument, behind `--` where it would be an option.
fn as_argument(text: &str) -> Hint {
    if text.starts_with('-') {
        hint!("-- {}", text)
    } else {
        hint!("{}", text)
    }
}

/// Where and how was looked, in words.
async fn searched(cx: &Context, query: &Query, regions: &[String]) -> String {
    let several = match regions {
        [_] => String::new(),
        _ => format!("{} regions: ", regions.len()),
    };
    let region = regions.join("`, `");
    let mut text = match cx.aws().await {
        Ok(aws) => format!("searched {several}{}", aws.place(Some(&region))),
        Err(_) => format!("searched {several}region `{region}`"),
    };
    if !query.states.is_empty() {
        let states: Vec<&str> = query.states.iter().map(|state| state.as_str()).collect();
        let _ = write!(text, ", state {}", states.join(" or "));
    }
    for (key, globs) in &query.select.tags {
        let values: Vec<&str> = globs
            .iter()
            .map(ops_profile::values::Glob::as_str)
            .collect();
        let _ = write!(text, ", tag {key}={}", values.join(","));
    }
    for (key, globs) in &query.select.exclude_tags {
        let values: Vec<&str> = globs
            .iter()
            .map(ops_profile::values::Glob::as_str)
            .collect();
        let _ = write!(text, ", tag {key}!={}", values.join(","));
    }
    if let Some(vpc) = &query.select.vpc {
        let _ = write!(text, ", VPC {vpc}");
    }
    text
}

/// Several machines, and nobody to ask.
pub(super) fn several(target: &Target, found: &[Instance]) -> Error {
    let text = target.as_str();
    let mut error = Error::new(
        ErrorKind::Ambiguous,
        format!("`{text}` means {} instances", found.len()),
    );
    for line in lines(found) {
        error = error.caused_by(line);
    }
    let region = if regions_differ(found) {
        Hint::from(" --region,")
    } else {
        Hint::from("")
    };
    match target.selector {
        Selector::Id(_) => error.hint("name one: its id and --region"),
        _ => error.hint(hint!(
            "name one: its id,{} {} (oldest launch first), --first or --newest",
            region,
            indexed(text, 1)
        )),
    }
}

/// `name[N]` picks one of those called `name`, and another is called `name[N]`.
pub(super) fn index_or_name(target: &Target, found: &[Instance]) -> Error {
    let text = target.as_str();
    let mut error = Error::new(
        ErrorKind::Ambiguous,
        format!("`{text}` is the name of one instance, and picks another"),
    );
    for line in lines(found) {
        error = error.caused_by(line);
    }
    error.hint(hint!(
        "name the one by {}, or either by its id",
        indexed(text, 1)
    ))
}

fn regions_differ(found: &[Instance]) -> bool {
    found
        .windows(2)
        .any(|pair| pair[0].region != pair[1].region)
}

/// The machines of an error's list, with their regions where those differ.
fn lines(found: &[Instance]) -> Vec<String> {
    let with_region = regions_differ(found);
    let mut lines: Vec<String> = found
        .iter()
        .take(LISTED)
        .map(|instance| {
            if with_region {
                format!("{}  {}", line(instance), instance.region)
            } else {
                line(instance)
            }
        })
        .collect();
    if found.len() > LISTED {
        lines.push(format!("and {} more", found.len() - LISTED));
    }
    lines
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
    for line in lines(found) {
        error = error.caused_by(line);
    }
    error.hint(hint!("the last is {}", indexed(name, found.len())))
}

/// `name[N]` in a hint. Brackets are quoted only where the name is: shells take them for a pattern,
/// and one without a match, which is what this is, for itself; but zsh refuses it.
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
