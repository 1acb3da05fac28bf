//! What a list asks for, and whether an instance answers to it.

use std::{collections::BTreeMap, str::FromStr};

use wildmatch::WildMatch;

use ops_profile::{Instance, InstanceState, Platform, Profile, Select, Selector, Target};

/// A condition on one tag: `Key=VALUE[,VALUE…]` or `Key!=VALUE`; a value may be a glob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagFilter {
    /// The tag's key.
    pub key: String,
    /// Values of which one has to match, or with [`Self::negated`] none may.
    pub values: Vec<String>,
    /// `!=`: matches instances without the tag too.
    pub negated: bool,
}

/// A text that is no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FilterError(String);

impl FromStr for TagFilter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let (key, value) = text.split_once('=').ok_or_else(|| {
            FilterError(format!(
                "`{}` is no condition on a tag; write Key=Value or Key!=Value",
                text.escape_debug()
            ))
        })?;
        let (key, negated) = match key.strip_suffix('!') {
            Some(key) => (key, true),
            None => (key, false),
        };
        if key.is_empty() {
            return Err(FilterError(format!(
                "`{}` names no tag; write Key=Value",
                text.escape_debug()
            )));
        }
        // kubectl's `-l A=b,C=d` wants both; here it would mean one tag with one of two values, and
        // so servers that nobody meant.
        if let Some(second) = value.split(',').skip(1).find(|value| value.contains('=')) {
            return Err(FilterError(format!(
                "`{}` names a second tag behind a comma, which stands between values of one tag; for both conditions write --tag twice, the second time with {}",
                text.escape_debug(),
                second.escape_debug()
            )));
        }
        Ok(Self {
            key: key.to_owned(),
            values: value.split(',').map(str::to_owned).collect(),
            negated,
        })
    }
}

/// A filter of EC2 itself, passed on as it is: `NAME=VALUE[,VALUE…]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ec2Filter {
    /// Its name, such as `instance-type`.
    pub name: String,
    /// Its values, any of which matches.
    pub values: Vec<String>,
}

impl FromStr for Ec2Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        match text.split_once('=') {
            Some((name, values)) if !name.is_empty() && !values.is_empty() => Ok(Self {
                name: name.to_owned(),
                values: values.split(',').map(str::to_owned).collect(),
            }),
            _ => Err(FilterError(format!(
                "`{}` is no filter of EC2; write NAME=VALUES, such as instance-type=t3.micro",
                text.escape_debug()
            ))),
        }
    }
}

/// How tags become names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naming {
    /// The tag that holds the name.
    pub tag: String,
    /// Taken off the front of names.
    pub strip_prefix: String,
}

impl Default for Naming {
    fn default() -> Self {
        Self {
            tag: "Name".to_owned(),
            strip_prefix: String::new(),
        }
    }
}

impl Naming {
    /// The name that `tag_value` stands for.
    pub(crate) fn name<'a>(&self, tag_value: &'a str) -> &'a str {
        match tag_value.strip_prefix(&self.strip_prefix) {
            // A value that is nothing but the prefix would leave a machine without a name.
            Some(rest) if !rest.is_empty() => rest,
            _ => tag_value,
        }
    }

    /// The values of the name tag that `name` or a glob may stand for.
    fn tag_values(&self, name: &str) -> Vec<String> {
        if self.strip_prefix.is_empty() {
            vec![name.to_owned()]
        } else {
            // Machines that were named without the prefix keep their names, and can be reached by
            // them.
            vec![name.to_owned(), format!("{}{name}", self.strip_prefix)]
        }
    }
}

/// What a list asks for. All conditions have to hold; of the patterns one.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Ids, names, globs, addresses, tags: any of them; none means every instance.
    pub patterns: Vec<Selector>,
    /// Conditions on tags. Those on one key, not negated, count as one with all their values.
    pub tags: Vec<TagFilter>,
    /// States; empty means all.
    pub states: Vec<InstanceState>,
    /// Filters of EC2; hybrid nodes, which EC2 does not know, then match nothing.
    pub filters: Vec<Ec2Filter>,
    /// What the profile lets be seen. Asking by id goes past it.
    pub select: Select,
    /// How tags become names.
    pub naming: Naming,
    /// Whether SSM is asked about agents.
    pub reach: bool,
    /// Tags to keep of each row, also in another case, so that a slip can be told; `None` keeps
    /// all. What is dropped needs no memory.
    pub keep_tags: Option<Vec<String>>,
}

impl Query {
    /// A query with the profile's selection and naming, no states but the profile's, no agents
    /// asked about.
    pub fn of(profile: &Profile) -> Self {
        let default = Naming::default();
        Self {
            states: profile.select.states.to_vec(),
            select: profile.select.clone(),
            naming: Naming {
                tag: profile.names.tag.clone().unwrap_or(default.tag),
                strip_prefix: profile
                    .names
                    .strip_prefix
                    .clone()
                    .unwrap_or(default.strip_prefix),
            },
            ..Self::default()
        }
    }

    /// What a target is looked for among: the running machines of the profile's selection.
    pub fn of_targets(profile: &Profile) -> Self {
        let mut query = Self::of(profile);
        if query.states.is_empty() {
            query.states = vec![InstanceState::Running];
        }
        query
    }

    /// Adds what `target` selects, and what it is called as a whole: a list takes no user and no
    /// index.
    pub fn add(&mut self, target: &Target) {
        self.patterns.push(target.selector.clone());
        self.patterns.extend(target.whole().cloned());
    }

    /// Whether anything but states and the profile's selection narrows the list.
    pub(super) fn is_narrow(&self) -> bool {
        !self.patterns.is_empty()
            || !self.filters.is_empty()
            || self.tags.iter().any(|t| !t.negated)
    }

    /// Whether hybrid nodes can be among the results.
    pub(super) fn wants_hybrid(&self) -> bool {
        self.select.hybrid != Some(false)
            && self.filters.is_empty()
            && self.select.vpc.is_none()
            && (self.states.is_empty() || self.states.contains(&InstanceState::Running))
            && (self.patterns.is_empty()
                || self
                    .patterns
                    .iter()
                    .any(|pattern| !matches!(pattern, Selector::Id(id) if id.starts_with("i-"))))
    }

    /// The filters of each DescribeInstances call that together find everything; `None` where only
    /// hybrid nodes can match.
    ///
    /// A filter's name is used once per call: what else there is to the same name is checked here,
    /// as everything is.
    pub(super) fn calls(&self) -> Vec<Vec<Ec2Filter>> {
        // EC2 joins filters of different names by "and", the values of one filter by "or".
        let mut base: Vec<Ec2Filter> = Vec::new();
        let mut put = |name: String, values: Vec<String>| {
            if base.iter().all(|filter| filter.name != name) && !values.is_empty() {
                base.push(Ec2Filter { name, values });
            }
        };
        if !self.states.is_empty() {
            put(
                "instance-state-name".to_owned(),
                self.states.iter().map(|s| s.as_str().to_owned()).collect(),
            );
        }
        for filter in &self.filters {
            put(filter.name.clone(), filter.values.clone());
        }
        for (key, values) in self.wanted_tags() {
            put(
                format!("tag:{key}"),
                values.into_iter().map(escape).collect(),
            );
        }
        // The profile's selection is a view and no permission: whoever has an id from an alarm
        // means that machine.
        let by_id_alone =
            !self.patterns.is_empty() && self.patterns.iter().all(|p| matches!(p, Selector::Id(_)));
        if !by_id_alone {
            for (key, globs) in &self.select.tags {
                put(
                    format!("tag:{key}"),
                    globs.iter().map(|glob| escape(glob.as_str())).collect(),
                );
            }
            if let Some(vpc) = &self.select.vpc {
                put("vpc-id".to_owned(), vec![vpc.clone()]);
            }
        }
        if self.patterns.is_empty() {
            return vec![base];
        }
        let mut calls = Vec::new();
        for (name, values) in self.alternatives() {
            // EC2 takes 200 values per filter (API reference of DescribeInstances).
            for chunk in values.chunks(200) {
                // Where the profile selects by the same tag, the pattern is asked for and the
                // selection is checked here.
                let mut filters: Vec<Ec2Filter> = base
                    .iter()
                    .filter(|filter| filter.name != name)
                    .cloned()
                    .collect();
                filters.push(Ec2Filter {
                    name: name.clone(),
                    values: chunk.to_vec(),
                });
                calls.push(filters);
            }
        }
        calls
    }

    /// Values by the name of the filter that finds them.
    fn alternatives(&self) -> BTreeMap<String, Vec<String>> {
        let name_filter = format!("tag:{}", self.naming.tag);
        let mut map: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut add = |name: &str, value: String| {
            let values = map.entry(name.to_owned()).or_default();
            if !values.contains(&value) {
                values.push(value);
            }
        };
        for pattern in &self.patterns {
            match pattern {
                // EC2 knows no hybrid nodes.
                Selector::Id(id) if id.starts_with("mi-") => {}
                Selector::Last => {}
                Selector::Id(id) => add("instance-id", id.clone()),
                Selector::Tag { key, value } => add(&format!("tag:{key}"), escape(value)),
                Selector::Glob(glob) => {
                    for value in self.naming.tag_values(glob) {
                        add(&name_filter, escape(&value));
                    }
                }
                Selector::Word(word) => {
                    for value in self.naming.tag_values(word) {
                        add(&name_filter, escape(&value));
                    }
                    if word.parse::<std::net::Ipv4Addr>().is_ok() {
                        add("private-ip-address", word.clone());
                    // `ip-10-0-0-7.eu-west-1.compute.internal`; people type its first part, too.
                    } else if word.contains('.') || word.starts_with("ip-") {
                        add("private-dns-name", escape(word));
                        if !word.contains('.') {
                            add("private-dns-name", format!("{word}.*"));
                        }
                    }
                }
            }
        }
        map
    }

    /// Keys with all values that `--tag Key=…` gives, repeated or not.
    fn wanted_tags(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut map: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for filter in self.tags.iter().filter(|filter| !filter.negated) {
            map.entry(&filter.key)
                .or_default()
                .extend(filter.values.iter().map(String::as_str));
        }
        map
    }

    /// Whether `instance`, with all its tags, is one of those asked for. EC2's own filters are
    /// EC2's matter.
    pub(super) fn matches(&self, instance: &Instance) -> bool {
        if !self.states.is_empty() && !self.states.contains(&instance.state) {
            return false;
        }
        let has = |key: &str, glob: &str| {
            instance
                .tags
                .get(key)
                .is_some_and(|value| WildMatch::new(glob).matches(value))
        };
        if !self
            .wanted_tags()
            .iter()
            .all(|(key, values)| values.iter().any(|value| has(key, value)))
        {
            return false;
        }
        if self
            .tags
            .iter()
            .filter(|filter| filter.negated)
            .any(|filter| filter.values.iter().any(|value| has(&filter.key, value)))
        {
            return false;
        }
        if self.patterns.is_empty() {
            return self.is_selected(instance);
        }
        self.patterns.iter().any(|pattern| {
            answers_to(instance, pattern)
                && (matches!(pattern, Selector::Id(_)) || self.is_selected(instance))
        })
    }

    /// Whether the profile's selection has it.
    pub(crate) fn is_selected(&self, instance: &Instance) -> bool {
        let select = &self.select;
        let has = |key: &str, globs: &[ops_profile::values::Glob]| {
            instance
                .tags
                .get(key)
                .is_some_and(|value| globs.iter().any(|glob| glob.matches(value)))
        };
        select.tags.iter().all(|(key, globs)| has(key, globs))
            && !select
                .exclude_tags
                .iter()
                .any(|(key, globs)| has(key, globs))
            && select
                .vpc
                .as_ref()
                .is_none_or(|vpc| instance.vpc.as_ref() == Some(vpc))
            && select
                .platform
                .is_none_or(|platform| platform_of(instance) == platform)
    }
}

/// Whether `pattern` means `instance` in one of its ways.
pub(crate) fn answers_to(instance: &Instance, pattern: &Selector) -> bool {
    match pattern {
        Selector::Id(id) => instance.id == *id,
        Selector::Tag { key, value } => instance
            .tags
            .get(key)
            .is_some_and(|found| WildMatch::new(value).matches(found)),
        Selector::Glob(glob) => instance
            .full_names()
            .any(|name| WildMatch::new(glob).matches(name)),
        Selector::Word(word) => {
            instance.full_names().any(|name| name == word) || has_address(instance, word)
        }
        // Which one that is is decided before anything is listed.
        Selector::Last => false,
    }
}

/// Whether `word` is the private address or DNS name of `instance`, also the first part of the
/// name.
pub(crate) fn has_address(instance: &Instance, word: &str) -> bool {
    instance.private_ip.as_deref() == Some(word)
        || instance.private_dns.as_deref().is_some_and(|dns| {
            dns.eq_ignore_ascii_case(word)
                || (word.starts_with("ip-") && dns.split('.').next() == Some(word))
        })
}

/// The kind of system, from what EC2 and SSM call it.
pub(crate) fn platform_of(instance: &Instance) -> Platform {
    let text = instance
        .platform
        .as_deref()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let is_mac = instance
        .instance_type
        .as_deref()
        .is_some_and(|name| name.starts_with("mac"));
    if text.contains("windows") {
        Platform::Windows
    } else if is_mac || text.contains("macos") {
        Platform::Macos
    } else {
        Platform::Linux
    }
}

/// `value` for a filter. EC2 takes a backslash for an escape; `?` stands for any character, whoever
/// reads the filter, and what it finds too much is left out here.
fn escape(value: impl AsRef<str>) -> String {
    value.as_ref().replace('\\', "?")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(id: &str, tags: &[(&str, &str)]) -> Instance {
        let tags: BTreeMap<String, String> = tags
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        Instance {
            name: tags.get("Name").cloned(),
            tags,
            ..Instance::bare(id, "eu-west-1")
        }
    }

    fn query(tags: &[&str], patterns: &[&str]) -> Query {
        let mut query = Query {
            tags: tags.iter().map(|t| t.parse().expect(t)).collect(),
            ..Query::default()
        };
        for pattern in patterns {
            query.add(&pattern.parse().expect(pattern));
        }
        query
    }

    #[test]
    fn a_second_tag_behind_a_comma_is_refused_and_not_taken_for_a_value() {
        for refused in ["Env=staging,Role=web", "Env!=a,b,Role=", "Env=,=x"] {
            let error = refused.parse::<TagFilter>().expect_err(refused);
            assert!(error.to_string().contains("write --tag twice"), "{error}");
        }
        for (taken, values) in [("Env=a,b", ["a", "b"]), ("Env=a=b,c", ["a=b", "c"])] {
            let filter: TagFilter = taken.parse().expect(taken);
            assert_eq!(filter.values, values, "{taken}");
        }
    }

    #[test]
    fn one_key_repeated_is_or_and_different_keys_are_and() {
        let query = query(&["Team=web", "Team=db*", "Env!=prod"], &[]);
        let is = |tags: &[(&str, &str)]| query.matches(&instance("i-00000000", tags));
        assert!(is(&[("Team", "web")]));
        assert!(is(&[("Team", "db-2"), ("Env", "test")]));
        assert!(!is(&[("Team", "web"), ("Env", "prod")]));
        assert!(!is(&[("Env", "test")]));
        let calls = query.calls();
        assert_eq!(calls.len(), 1);
        assert_eq!(
            calls[0].len(),
            1,
            "the negated one is checked here: {calls:?}"
        );
        assert_eq!(calls[0][0].values, ["web", "db*"]);
    }

    #[test]
    fn patterns_of_several_kinds_are_a_call_each() {
        let query = query(
            &["Team=web"],
            &[
                "web-*",
                "web-9",
                "10.0.0.1",
                "i-0a1b2c3d",
                "mi-0a1b2c3d",
                "tag:Role=db",
            ],
        );
        let mut names: Vec<String> = query
            .calls()
            .iter()
            .map(|call| {
                assert!(call.iter().any(|filter| filter.name == "tag:Team"));
                call.last().expect("a filter").name.clone()
            })
            .collect();
        names.sort();
        assert_eq!(
            names,
            ["instance-id", "private-ip-address", "tag:Name", "tag:Role"]
        );
        assert!(query.wants_hybrid());
        assert!(
            super::tests::query(&[], &["mi-0a1b2c3d"])
                .calls()
                .is_empty()
        );
    }

    #[test]
    fn the_same_key_twice_is_sent_once_and_checked_here() {
        let query = query(&["Name=web*"], &["web-1", "db-1"]);
        let calls = query.calls();
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0][0].values, ["web-1", "db-1"]);
        assert!(!query.matches(&instance("i-00000000", &[("Name", "db-1")])));
        assert!(query.matches(&instance("i-00000000", &[("Name", "web-1")])));
    }

    #[test]
    fn a_condition_is_taken_apart() {
        let filter: TagFilter = "Env!=a,b".parse().expect("a filter");
        assert_eq!((filter.key.as_str(), filter.negated), ("Env", true));
        assert_eq!(filter.values, ["a", "b"]);
        for bad in ["Env", "=x", "!=x"] {
            assert!(bad.parse::<TagFilter>().is_err(), "{bad}");
        }
    }
}
