//! Which servers a command is for, and what each is called in its output.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    io::Read as _,
    path::Path,
};

use ops_core::{Choice, Context, inventory::TagFilter};
use ops_profile::{Instance, InstanceState, Target, target::Selector};
use ops_ui::{Error, ErrorKind, Result, stdio};

/// One server of a run.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) instance: Instance,
    /// The user to become there.
    pub(crate) user: Option<String>,
    /// What it is called in the output; no other server of the run is called so.
    pub(crate) label: String,
}

impl Host {
    /// What to type to mean this server, and the same user there.
    pub(crate) fn target(&self) -> String {
        // A label that is no plain name of its own names more than this server, or none.
        let word = match self.instance.plain_name() {
            Some(name) if name == self.label => name,
            _ => &self.instance.id,
        };
        match &self.user {
            Some(user) => format!("{user}@{word}"),
            None => word.to_owned(),
        }
    }
}

/// What the command line says of servers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    pub(crate) targets: Vec<Target>,
    pub(crate) tags: Vec<TagFilter>,
    /// `--resource-group`.
    pub(crate) group: Option<String>,
    pub(crate) choice: Choice,
    /// `--user`, where a target names none.
    pub(crate) user: Option<String>,
    /// Some of the targets come from a file.
    pub(crate) is_file: bool,
}

/// The servers of a run.
#[derive(Clone, Debug)]
pub(crate) struct Hosts {
    /// In the order of the targets, then by name.
    pub(crate) all: Vec<Host>,
    /// Whether several could be meant: output and status are then those of many, even where one
    /// was found.
    pub(crate) are_many: bool,
    /// Ids of all members of the resource group that was named, those that do not run too.
    pub(crate) group_members: BTreeSet<String>,
}

impl Selection {
    /// Looks the servers up.
    ///
    /// # Errors
    /// As [`Context::resolve`]; no target at all.
    pub(crate) async fn resolve(&self, cx: &Context) -> Result<Hosts> {
        let are_many = match self.targets.as_slice() {
            [only] => {
                !self.tags.is_empty()
                    || self.group.is_some()
                    || self.is_file
                    || (only.is_plural() && self.choice == Choice::Ask)
            }
            _ => true,
        };
        let mut found: Vec<(Instance, Option<String>)> = Vec::new();
        // Targets may overlap. A set tells, because a fleet that is compared with itself server by
        // server takes its square of comparisons.
        let mut known: HashSet<(String, Option<String>)> = HashSet::new();
        let mut add = |instance: Instance, user: Option<&String>| {
            let user = user.or(self.user.as_ref()).cloned();
            if known.insert((instance.id.clone(), user.clone())) {
                found.push((instance, user));
            }
        };
        if let ([only], false) = (self.targets.as_slice(), are_many) {
            add(cx.resolve(only, self.choice).await?, only.user.as_ref());
        } else {
            let plain = look_up_plain(cx, &self.targets).await?;
            for target in &self.targets {
                let instances = if target.is_plural() {
                    cx.resolve_many(std::slice::from_ref(target)).await?
                } else if let Some(instance) = plain.get(target.as_str()) {
                    vec![instance.clone()]
                } else {
                    vec![resolve_in_any_state(cx, target, self.choice).await?]
                };
                for instance in instances {
                    add(instance, target.user.as_ref());
                }
            }
        }
        if !self.tags.is_empty() {
            let tagged = tagged(cx, &self.tags).await?;
            if self.targets.is_empty() {
                // A list has each server once.
                let user = self.user.as_ref();
                found.extend(tagged.into_iter().map(|one| (one, user.cloned())));
            } else {
                // Targets and tags have to hold both, as in a list.
                let tagged: BTreeSet<&str> = tagged.iter().map(|one| one.id.as_str()).collect();
                found.retain(|(instance, _)| tagged.contains(instance.id.as_str()));
            }
            if found.is_empty() {
                return Err(
                    Error::new(ErrorKind::NotFound, "no running instance has these tags")
                        .hint("see what is there: ops ls --show-tags"),
                );
            }
        }
        let mut group_members = BTreeSet::new();
        if let Some(group) = &self.group {
            group_members = cx.members_of_group(group).await?;
            if self.targets.is_empty() && self.tags.is_empty() {
                let user = self.user.as_ref();
                let members = running_among(cx, &group_members).await?;
                found.extend(members.into_iter().map(|one| (one, user.cloned())));
            } else {
                found.retain(|(instance, _)| group_members.contains(&instance.id));
            }
            if found.is_empty() {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    format!("no running server is meant in the resource group `{group}`"),
                )
                .caused_by(match group_members.len() {
                    0 => "no server is a member of the group".to_owned(),
                    members => format!(
                        "{members} servers are members of the group, and none of them runs, is seen by the profile and is named here"
                    ),
                })
                .hint("see what is there: ops ls --state all"));
            }
        }
        Ok(Hosts {
            all: named(found),
            are_many,
            group_members,
        })
    }
}

/// The targets that the user marks on the terminal, where none was named.
///
/// # Errors
/// Those of a list; nothing was chosen.
pub(crate) async fn pick_targets(cx: &Context, question: &str) -> Result<Vec<Target>> {
    let chosen = cx.pick_servers(question).await?;
    let targets = chosen
        .into_iter()
        .map(|one| Target::of_id(None, one.id, one.region));
    Ok(targets.collect())
}

/// The servers that `targets` call plainly by id or name, by the target's text, with one list for
/// all of them: a file may name hundreds, and each alone is a call or two. What is not found so as
/// one running server is missing here; looked up alone it tells why.
///
/// # Errors
/// A profile that cannot be read.
async fn look_up_plain(cx: &Context, targets: &[Target]) -> Result<BTreeMap<String, Instance>> {
    let profile = cx.profile()?;
    let is_plain = |target: &&Target| {
        let is_known_by_list = match &target.selector {
            Selector::Id(_) => true,
            Selector::Word(word) => !profile.hosts.contains_key(word),
            _ => false,
        };
        is_known_by_list && target.index.is_none() && target.region.is_none()
    };
    let plain: Vec<&Target> = targets.iter().filter(is_plain).collect();
    let mut found = BTreeMap::new();
    if plain.len() < 2 || cx.globals().cached {
        return Ok(found);
    }
    let is_id = |target: &&Target| matches!(target.selector, Selector::Id(_));
    // The profile's selection holds for names and not for ids, which therefore have their own list.
    let (ids, names): (Vec<&Target>, Vec<&Target>) = plain.into_iter().partition(is_id);
    for part in [ids, names] {
        let mut query = ops_core::Query::of_targets(profile);
        query.patterns = part.iter().map(|target| target.selector.clone()).collect();
        if part.is_empty() {
            continue;
        }
        let mut listing = cx.list(&query, &cx.regions().await?).await?;
        let instances = std::mem::take(&mut listing.instances);
        // In the region that failed there may be another one of the same name.
        if listing.into_failure().is_some() {
            continue;
        }
        for target in part {
            let is_meant = |instance: &&Instance| match &target.selector {
                Selector::Id(id) => instance.id == *id,
                Selector::Word(word) => instance.full_names().any(|name| name == word),
                _ => false,
            };
            let mut meant = instances.iter().filter(is_meant);
            if let (Some(only), None) = (meant.next(), meant.next())
                && only.state == InstanceState::Running
            {
                found.insert(target.as_str().to_owned(), only.clone());
            }
        }
    }
    Ok(found)
}

/// The server that `target` means, beside others: one that is stopped is a row of its own in the
/// end, and never the end of the others.
async fn resolve_in_any_state(cx: &Context, target: &Target, choice: Choice) -> Result<Instance> {
    let target = &*cx.with_last(target)?;
    let error = match cx.resolve(target, choice).await {
        Err(error) if error.kind() == ErrorKind::Unreachable => error,
        resolved => return resolved,
    };
    let mut query = ops_core::Query::of_targets(cx.profile()?);
    query.states.clear();
    query.select.states = Default::default();
    query.patterns.push(target.selector.clone());
    let regions = cx.regions_of(target).await?;
    let mut listing = cx.list(&query, &regions).await?;
    let mut there = std::mem::take(&mut listing.instances);
    there.retain(|instance| instance.state != InstanceState::Terminated);
    match there.as_slice() {
        [_] => Ok(there.remove(0)),
        _ => Err(error),
    }
}

/// The running servers with these tags, by name.
async fn tagged(cx: &Context, tags: &[TagFilter]) -> Result<Vec<Instance>> {
    let mut query = ops_core::Query::of_targets(cx.profile()?);
    query.tags = tags.to_vec();
    let regions = cx.regions().await?;
    let mut listing = cx.list(&query, &regions).await?;
    let mut instances = std::mem::take(&mut listing.instances);
    // A region that cannot be searched may hold servers that are meant: better none than a part.
    if let Some(error) = listing.into_failure() {
        return Err(error);
    }
    instances.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    Ok(instances)
}

/// The running servers of the profile's selection among these, by name.
async fn running_among(cx: &Context, ids: &BTreeSet<String>) -> Result<Vec<Instance>> {
    let query = ops_core::Query::of_targets(cx.profile()?);
    let regions = cx.regions().await?;
    let mut listing = cx.list(&query, &regions).await?;
    let mut instances = std::mem::take(&mut listing.instances);
    if let Some(error) = listing.into_failure() {
        return Err(error);
    }
    instances.retain(|instance| ids.contains(&instance.id));
    instances.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    Ok(instances)
}

/// Gives each server a label of its own: its name, with the user or the id where another is called
/// the same.
pub(crate) fn named(found: Vec<(Instance, Option<String>)>) -> Vec<Host> {
    let labels = labels_of(&found);
    let hosts = found.into_iter().zip(labels);
    hosts
        .map(|((instance, user), label)| Host {
            instance,
            user,
            label,
        })
        .collect()
}

/// The label of each server, in the order of `found`, told apart from all others.
fn labels_of(found: &[(Instance, Option<String>)]) -> Vec<String> {
    // Borrowed keys: a fleet has ten thousand names and as many ids.
    let mut names: HashMap<&str, usize> = HashMap::new();
    let mut ids: HashMap<&str, usize> = HashMap::new();
    for (instance, _) in found {
        *names.entry(instance.label()).or_default() += 1;
        *ids.entry(&instance.id).or_default() += 1;
    }
    let label_of = |(instance, user): &(Instance, Option<String>)| {
        let name = instance.label();
        let of_name = names.get(name).copied().unwrap_or_default();
        let of_id = ids.get(instance.id.as_str()).copied().unwrap_or_default();
        let is_shared = of_name > of_id || is_misleading(name);
        let mut label = if is_shared && name != instance.id {
            format!("{name}/{}", instance.id)
        } else {
            name.to_owned()
        };
        if let (2.., Some(user)) = (of_id, user) {
            label = format!("{user}@{label}");
        }
        ops_ui::text::escape(&label)
    };
    let mut labels: Vec<String> = found.iter().map(label_of).collect();
    tell_apart(&mut labels, found);
    labels
}

/// Whether a name looks like several, like a name with its output behind it, or holds what an id of
/// a server looks like. Names are tags, which whoever runs a server may set: with an id of its own
/// behind it, none of them passes for another server.
fn is_misleading(name: &str) -> bool {
    name.contains([',', ':']) || names_an_id(name)
}

fn names_an_id(name: &str) -> bool {
    let mut words = name.split(|c: char| !c.is_ascii_alphanumeric());
    let mut before = "";
    words.any(|word| {
        let is_id = matches!(before, "i" | "mi")
            && word.len() >= 8
            && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        before = word;
        is_id
    })
}

/// Adds the id to labels that are the same: two names that differ in a character which cannot be
/// shown, or one that looks like a user and another server's name. Those that are the same with
/// their ids too get a number.
fn tell_apart(labels: &mut [String], found: &[(Instance, Option<String>)]) {
    let twice = |labels: &[String]| -> Vec<usize> {
        let mut uses: HashMap<&str, usize> = HashMap::new();
        for label in labels {
            *uses.entry(label).or_default() += 1;
        }
        (0..labels.len())
            .filter(|&at| uses[labels[at].as_str()] > 1)
            .collect()
    };
    for at in twice(labels) {
        labels[at] = format!("{}/{}", labels[at], found[at].0.id);
    }
    for at in twice(labels) {
        labels[at] = format!("{}#{at}", labels[at]);
    }
}

/// Reads `--targets-from`: a target a line, `#` begins a comment, `-` is standard input.
///
/// # Errors
/// The file cannot be read, a line is no target, or there is none.
pub(crate) fn read_targets(path: &Path) -> Result<Vec<Target>> {
    let shown = path.display().to_string();
    let unread =
        |error: std::io::Error| Error::usage(format!("`{shown}` cannot be read")).caused_by(error);
    let mut text = String::new();
    if path.as_os_str() == "-" {
        stdio::stdin_file()
            .and_then(|mut stdin| stdin.read_to_string(&mut text))
            .map_err(unread)?;
    } else {
        std::fs::File::open(path)
            .and_then(|mut file| file.read_to_string(&mut text))
            .map_err(unread)?;
    }
    let targets = targets_in(&text).map_err(|(line, why)| {
        Error::usage(format!("`{shown}` does not hold a target in line {line}")).caused_by(why)
    })?;
    if targets.is_empty() {
        return Err(
            Error::new(ErrorKind::NotFound, format!("`{shown}` names no server"))
                .hint("write a target on each line, as `ops ls -o name` and --failed-to do"),
        );
    }
    Ok(targets)
}

/// The targets of a text, or the number of the first line that holds none, and why.
fn targets_in(text: &str) -> Result<Vec<Target>, (usize, String)> {
    let mut targets = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let target = line
            .parse()
            .map_err(|error: ops_profile::target::TargetError| (index + 1, error.to_string()))?;
        targets.push(target);
    }
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(id: &str, name: &str) -> Instance {
        Instance {
            name: (!name.is_empty()).then(|| name.to_owned()),
            ..Instance::bare(id, "eu-west-1")
        }
    }

    #[test]
    fn each_server_has_a_label_of_its_own_and_a_target_that_means_it() {
        let me = Some("me".to_owned());
        let hosts = named(vec![
            (instance("i-00000001", "web-1"), None),
            (instance("i-00000002", "twin"), None),
            (instance("i-00000003", "twin"), me.clone()),
            (instance("i-00000004", ""), None),
            (instance("i-00000005", "db"), me.clone()),
            (instance("i-00000005", "db"), Some("root".to_owned())),
        ]);
        let told: Vec<(&str, String)> = hosts
            .iter()
            .map(|host| (host.label.as_str(), host.target()))
            .collect();
        assert_eq!(
            told,
            [
                ("web-1", "web-1".to_owned()),
                ("twin/i-00000002", "i-00000002".to_owned()),
                ("twin/i-00000003", "me@i-00000003".to_owned()),
                ("i-00000004", "i-00000004".to_owned()),
                ("me@db", "me@i-00000005".to_owned()),
                ("root@db", "root@i-00000005".to_owned()),
            ]
        );
    }

    #[test]
    fn no_name_passes_for_another_server() {
        let me = Some("me".to_owned());
        let twin = "twin/i-0000000a";
        let hosts = named(vec![
            (instance("i-0000000a", "twin"), None),
            (instance("i-0000000b", "twin"), None),
            (instance("i-0000000c", twin), None),
            (instance("i-0000000d", ""), None),
            (instance("i-0000000e", "i-0000000d"), None),
            // One has the character, and the other how that is shown.
            (instance("i-0000000f", "web\u{200b}"), None),
            (instance("i-00000010", "web\\u{200b}"), None),
            (instance("i-00000011", "db"), me),
            (instance("i-00000011", "db"), None),
            (instance("i-00000012", "me@db"), None),
            (instance("i-00000013", "mi-fortune-i-see"), None),
            (instance("i-00000014", "web-1,web-2"), None),
            (instance("i-00000015", "web-1: active"), None),
        ]);
        let labels: Vec<&str> = hosts.iter().map(|host| host.label.as_str()).collect();
        assert_eq!(
            labels,
            [
                "twin/i-0000000a",
                "twin/i-0000000b",
                "twin/i-0000000a/i-0000000c",
                "i-0000000d",
                "i-0000000d/i-0000000e",
                "web\\u{200b}/i-0000000f",
                "web\\u{200b}/i-00000010",
                "me@db/i-00000011",
                "db",
                "me@db/i-00000012",
                "mi-fortune-i-see",
                "web-1,web-2/i-00000014",
                "web-1: active/i-00000015",
            ]
        );
    }

    #[test]
    fn a_file_of_targets_has_comments_and_blank_lines() {
        let targets = targets_in("# failed\n\nweb-1\n  me@web-2 \n").expect("targets");
        let texts: Vec<&str> = targets.iter().map(Target::as_str).collect();
        assert_eq!(texts, ["web-1", "me@web-2"]);
        assert_eq!(targets_in("web-1\n@\n").expect_err("no target").0, 2);
    }
}
