//! Which instance gets which name in `~/.ssh/config`.

use std::collections::{BTreeMap, BTreeSet};

use ops_core::Context;
use ops_profile::Instance;
use ops_remote::ssh::KnownNames;
use ops_ui::output::escape;

use crate::config_text::{self, Alias};

/// Names shown where several are left out for one reason.
const SHOWN: usize = 3;

/// How names are given.
pub(crate) struct Names<'a> {
    /// In front of each.
    pub(crate) prefix: &'a str,
    /// Of several instances with one name the one launched first gets it.
    pub(crate) first: bool,
    /// What the files of known hosts speak of.
    pub(crate) known_hosts: &'a KnownNames,
    /// Names as they are written that mean something else already, and where.
    pub(crate) taken: &'a BTreeMap<String, String>,
}

/// The name each instance gets, by id, written for a `Host` line. Instances that get none are told
/// of; they are reached by their ids.
pub(crate) fn give_names(
    cx: &Context,
    instances: &[Instance],
    how: &Names<'_>,
) -> BTreeMap<String, String> {
    let mut by_name: BTreeMap<&str, Vec<&Instance>> = BTreeMap::new();
    for instance in instances {
        if let Some(name) = instance.name.as_deref() {
            by_name.entry(name).or_default().push(instance);
        }
    }
    let mut given = BTreeMap::new();
    let mut used = BTreeSet::new();
    let mut elsewhere = Groups::new();
    for (name, same) in &by_name {
        for (at, instance) in same.iter().enumerate() {
            let mut alias = format!("{}{name}", how.prefix);
            if same.len() > 1 && !(how.first && at == 0) {
                let tail = &instance.id[instance.id.len().saturating_sub(4)..];
                let short = format!("{name}-{tail}");
                // Two ids may end alike, and another instance may be called so.
                alias = if by_name.contains_key(short.as_str())
                    || used.contains(&format!("{}{short}", how.prefix))
                {
                    format!("{}{name}-{}", how.prefix, instance.id)
                } else {
                    format!("{}{short}", how.prefix)
                };
            }
            if ops_profile::target::is_instance_id(&alias) {
                continue;
            }
            let left_out = |why: &str| {
                cx.output().note(format!(
                    "{} has no entry by its name `{}`: {why}",
                    instance.id,
                    escape(name)
                ));
            };
            match config_text::host_alias(&alias) {
                Alias::LeftOut(why) => left_out(why),
                // Whoever may write tags must not get what the user types for another host:
                // `Name=github.com`.
                Alias::Written(_) if how.known_hosts.contains(&alias) => {
                    left_out(
                        "a host of that name is among the known hosts; give ours a prefix (ssh.host_prefix), or forget that one: ssh-keygen -R NAME",
                    );
                }
                Alias::Written(text) => match how.taken.get(&text) {
                    Some(whose) => elsewhere
                        .entry(format!("{whose} has them"))
                        .or_default()
                        .push(text),
                    None => {
                        if used.insert(alias) {
                            given.insert(instance.id.clone(), text);
                        }
                    }
                },
            }
        }
    }
    tell_left_out(cx, &elsewhere);
    given
}

/// Names that get no entry, by why.
pub(crate) type Groups = BTreeMap<String, Vec<String>>;

/// Tells of names that mean something already, a line for each reason.
pub(crate) fn tell_left_out(cx: &Context, groups: &Groups) {
    for (why, names) in groups {
        let more = match names.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        cx.output().note(format!(
            "no entry here for {}{more}: {why}; ssh.host_prefix of the profile makes names distinct",
            names[..names.len().min(SHOWN)].join(", ")
        ));
    }
}

/// The names that the `Host` lines of a configuration give, as they are written, patterns among
/// them. Lines as ssh reads them: the keyword in any case, white space or one `=` behind it.
pub(crate) fn named_by(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        let Some((keyword, rest)) = line.split_at_checked(4) else {
            continue;
        };
        if !keyword.eq_ignore_ascii_case("host") || !rest.starts_with([' ', '\t', '=']) {
            continue;
        }
        let mut rest = rest.trim_start();
        rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
        while !rest.is_empty() && !rest.starts_with('#') {
            let len = match rest.strip_prefix('"') {
                Some(open) => open.find('"').map_or(rest.len(), |at| at + 2),
                None => rest.find(char::is_whitespace).unwrap_or(rest.len()),
            };
            names.push(rest[..len].to_owned());
            rest = rest[len..].trim_start();
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_host_lines_are_read_as_ssh_reads_them() {
        let text = "Host a \"b c\" i-*\n  HostName x\n\thOST=d # e\nHosts f\nMatch host g\nHost";
        assert_eq!(named_by(text), ["a", "\"b c\"", "i-*", "d"]);
    }
}
