//! Candidates of each kind of value, from profile, files and the cached fleet.

use std::{
    ffi::{OsStr, OsString},
    fmt::Write as _,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use clap_complete::engine::{self, CompletionCandidate, PathCompleter, ValueCompleter as _};
use ops_core::{
    Context, Values,
    cache::{self, Patience, Row},
};
use ops_profile::{
    Settings,
    aws_files::AwsFiles,
    settings::{self, ProfileKind},
    values::TargetText,
};
use ops_ui::{Invocation, text::is_unprintable};

use super::regions::REGIONS;
use crate::plugin;
use crate::shells::Candidate;

/// Stands for all candidates of a [`Source`] in what clap's engine gives back: tens of thousands of
/// them would take their time there.
const MARK: &str = "\u{0}";

/// How long a key waits for the names in a folder of a server.
const FOLDER_PATIENCE: Duration = Duration::from_secs(1);

/// Where candidates come from, and the ones that were asked for last.
pub(super) struct Source {
    cx: Context,
    patience: Patience,
    /// The words behind the verb, before the one being typed.
    before: Vec<OsString>,
    /// Of more instances the shell does not show what each is.
    described: usize,
    found: Mutex<Vec<Candidate>>,
}

impl Source {
    pub(super) fn new(
        cx: Context,
        patience: Patience,
        before: &[OsString],
        described: usize,
    ) -> Self {
        Self {
            cx,
            patience,
            before: before.to_vec(),
            described,
            found: Mutex::default(),
        }
    }

    /// Lets clap's engine find out what `current` behind `words` is, and gives the candidates for
    /// it.
    pub(super) fn run(
        &self,
        mut command: clap::Command,
        words: Vec<OsString>,
        current: &str,
    ) -> Vec<Candidate> {
        let mut line = vec![OsString::from("ops")];
        line.extend(words);
        line.push(current.into());
        let index = line.len() - 1;
        let folder = std::env::current_dir().ok();
        let offered =
            engine::complete(&mut command, line, index, folder.as_deref()).unwrap_or_default();
        let mut all = Vec::with_capacity(offered.len());
        for candidate in offered {
            let Some(value) = candidate.get_value().to_str() else {
                continue;
            };
            if let Some(prefix) = value.strip_suffix(MARK) {
                let found = std::mem::take(&mut *self.found());
                if prefix.is_empty() {
                    all.extend(found);
                } else {
                    all.extend(found.into_iter().map(|one| Candidate {
                        value: format!("{prefix}{}", one.value),
                        ..one
                    }));
                }
                continue;
            }
            // Options are offered to who begins one.
            if value.starts_with('-') && !current.starts_with('-') {
                continue;
            }
            let about = candidate.get_help().map(ToString::to_string);
            let about = about.unwrap_or_default();
            all.push(Candidate {
                open: value.ends_with(['=', '/']),
                ..Candidate::new(value, first_line(&about))
            });
        }
        all
    }

    /// Finds the candidates of `kind` and keeps them; gives the mark that stands for them.
    pub(super) fn put(
        &self,
        kind: Values,
        index: usize,
        current: &str,
    ) -> Vec<CompletionCandidate> {
        let found = self.values(kind, index, current);
        if found.is_empty() {
            return Vec::new();
        }
        *self.found() = found;
        vec![CompletionCandidate::new(MARK).tag(Some("values".into()))]
    }

    fn found(&self) -> MutexGuard<'_, Vec<Candidate>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn values(&self, kind: Values, index: usize, current: &str) -> Vec<Candidate> {
        match kind {
            // The beginning of an option: clap's engine asks all the same.
            Values::Target
            | Values::RemotePath
            | Values::ForwardWord
            | Values::LogWord
            | Values::Session
                if current.starts_with('-') =>
            {
                Vec::new()
            }
            Values::Target => self.targets(current),
            Values::RemotePath => self.remote_paths(current),
            Values::ForwardWord => self.forward_words(index, current),
            Values::LogWord => self.log_words(current),
            Values::Session => self.sessions(current),
            Values::ForwardGroup => self.groups(current),
            Values::TagFilter => self.tag_filters(current),
            Values::TagKey => self.tag_keys(current),
            Values::Region => region_candidates(current),
            Values::Profile => self.profiles(current, |_| true),
            Values::TeamProfile => self.profiles(current, |kind| kind == ProfileKind::Team),
            Values::AwsProfile => self.aws_profiles(current),
            Values::ExternalCommand => self.external_commands(current),
            Values::Words(words) => words
                .iter()
                .filter(|word| starts_with(word, current))
                .map(|word| Candidate {
                    open: word.ends_with(':'),
                    ..Candidate::new(*word, "")
                })
                .collect(),
        }
    }

    /// Ids of open sessions, then servers.
    fn sessions(&self, current: &str) -> Vec<Candidate> {
        let Ok(settings) = self.cx.settings() else {
            return Vec::new();
        };
        let open = cache::open_sessions(self.cx.invocation(), settings, self.patience);
        let mut found: Vec<Candidate> = open
            .unwrap_or_default()
            .into_iter()
            .filter(|(id, _)| starts_with(id, current))
            .map(|(id, about)| Candidate::new(id, about))
            .collect();
        found.extend(self.targets(current));
        found
    }

    /// `[USER@]` and a name, an id, a host alias or `tag:Key=Value`.
    fn targets(&self, current: &str) -> Vec<Candidate> {
        let (user, rest) = match current.split_once('@') {
            Some((user, rest)) if !current.starts_with("tag:") => (&current[..=user.len()], rest),
            _ => ("", current),
        };
        if let Some(condition) = rest.strip_prefix("tag:") {
            let mut found = self.tag_filters(condition);
            for one in &mut found {
                one.value = format!("{user}tag:{}", one.value);
            }
            return found;
        }
        let mut found: Vec<Candidate> = Vec::new();
        if let Ok(profile) = self.cx.profile() {
            for (name, host) in &profile.hosts {
                if starts_with(name, rest) {
                    let target = host.target.as_ref().map(TargetText::as_str);
                    let about = target.map_or_else(
                        || "host of the profile".to_owned(),
                        |target| format!("host of the profile: {target}"),
                    );
                    found.push(Candidate::new(format!("{user}{name}"), about));
                }
            }
        }
        let aliases = found.len();
        if let Some(names) = self.fleet(cache::names)
            && let Some(rows) = names.rows()
        {
            add_rows(&rows, user, rest, self.described, &mut found);
        }
        if aliases > 0 {
            // An alias outranks a name that is the same.
            let (hosts, names) = found.split_at(aliases);
            let hidden: Vec<usize> = names
                .iter()
                .enumerate()
                .filter(|(_, one)| hosts.iter().any(|host| host.value == one.value))
                .map(|(at, _)| aliases + at)
                .collect();
            for at in hidden.into_iter().rev() {
                found.remove(at);
            }
        }
        if !rest.is_empty() && "tag:".starts_with(rest) {
            found.push(Candidate::open(format!("{user}tag:"), "by a tag"));
        }
        found
    }

    fn remote_paths(&self, current: &str) -> Vec<Candidate> {
        let colon = current.find(':');
        let slash = current.find('/');
        // Behind the colon begins a path that only the server knows; a slash before it makes it a
        // path here.
        if let Some(colon) = colon
            && slash.is_none_or(|slash| colon < slash)
            && !current.starts_with("tag:")
        {
            return self.paths_there(&current[..colon], &current[colon + 1..]);
        }
        let mut found = Vec::new();
        if slash.is_none() {
            found = self.targets(current);
            for one in &mut found {
                if !one.open {
                    one.value.push(':');
                    one.open = true;
                }
            }
        }
        let here = PathCompleter::any().complete(OsStr::new(current));
        let name = current.rsplit('/').next().unwrap_or_default();
        found.extend(here.into_iter().filter_map(|path| {
            let value = path.get_value().to_str()?;
            // Hidden files are offered to who begins one.
            let wanted = value != "." && (!path.is_hide_set() || name.starts_with('.'));
            wanted.then(|| Candidate {
                open: value.ends_with('/'),
                ..Candidate::new(value, "")
            })
        }));
        found
    }

    /// Paths on a server, folder by folder: `TARGET:/va` becomes `TARGET:/var/`.
    fn paths_there(&self, target: &str, path: &str) -> Vec<Candidate> {
        // Each of several servers has paths of its own.
        if target.is_empty() || target.contains(['*', '?', '[']) {
            return Vec::new();
        }
        let (folder, begun) = match path.rfind('/') {
            Some(slash) => path.split_at(slash + 1),
            None => ("", path),
        };
        let patience = Patience {
            until: self.patience.until.min(Instant::now() + FOLDER_PATIENCE),
        };
        let place = format!("{target}:{folder}");
        let Ok(settings) = self.cx.settings() else {
            return Vec::new();
        };
        let names = cache::names_in_folder(self.cx.invocation(), settings, &place, patience);
        let names = names.unwrap_or_default().into_iter();
        names
            .filter(|name| starts_with(name, begun))
            // Hidden files are offered to who begins one.
            .filter(|name| begun.starts_with('.') || !name.starts_with('.'))
            .map(|name| Candidate {
                open: name.ends_with('/'),
                ..Candidate::new(format!("{place}{name}"), "")
            })
            .collect()
    }

    /// The first word is a target or a forward's name; names may follow names.
    /// Servers, and names under `logs` of the profile.
    fn log_words(&self, current: &str) -> Vec<Candidate> {
        let mut found = self.targets(current);
        if let Ok(profile) = self.cx.profile() {
            let named = profile.logs.iter();
            found.extend(named.filter(|(name, _)| starts_with(name, current)).map(
                |(name, sources)| Candidate::new(name, format!("log: {}", sources.0.join(", "))),
            ));
        }
        found
    }

    fn forward_words(&self, index: usize, current: &str) -> Vec<Candidate> {
        let Ok(profile) = self.cx.profile() else {
            return Vec::new();
        };
        let given: Vec<&str> = self
            .before
            .iter()
            .filter_map(|word| word.to_str())
            .collect();
        let mut found: Vec<Candidate> = profile
            .forwards
            .iter()
            .filter(|(name, _)| starts_with(name, current) && !given.contains(&name.as_str()))
            .map(|(name, forward)| {
                let via = forward.via.as_ref().map(|via| via.as_str().to_owned());
                Candidate::new(
                    name,
                    match via {
                        Some(via) => format!("forward via {via}"),
                        None => "forward of the profile".to_owned(),
                    },
                )
            })
            .collect();
        let is_first = index == 0 && !given.iter().any(|word| !word.starts_with('-'));
        let after_name = given
            .iter()
            .any(|word| profile.forwards.contains_key(*word));
        if is_first {
            found.extend(self.targets(current));
        } else if !after_name {
            found.clear();
        }
        found
    }

    fn groups(&self, current: &str) -> Vec<Candidate> {
        let Ok(profile) = self.cx.profile() else {
            return Vec::new();
        };
        let mut groups: std::collections::BTreeMap<&str, Vec<&str>> = Default::default();
        for (name, forward) in &profile.forwards {
            if let Some(group) = &forward.group {
                groups.entry(group).or_default().push(name);
            }
        }
        groups
            .into_iter()
            .filter(|(group, _)| starts_with(group, current))
            .map(|(group, names)| Candidate::new(group, names.join(", ")))
            .collect()
    }

    /// A part of the fleet, as far as the cache can have it in time.
    fn fleet<T>(&self, part: fn(&Invocation, &Settings, Patience) -> Option<T>) -> Option<T> {
        part(
            self.cx.invocation(),
            self.cx.settings().ok()?,
            self.patience,
        )
    }

    fn tag_keys(&self, current: &str) -> Vec<Candidate> {
        let Some(tags) = self.fleet(cache::tags) else {
            return Vec::new();
        };
        let rows = tags.rows().unwrap_or_default();
        rows.iter()
            .filter(|row| starts_with(row.key, current))
            .map(|row| Candidate::new(row.key, values_in_words(row.values.len())))
            .collect()
    }

    /// `KEY=`, then `KEY=VALUE`; of several values the last.
    fn tag_filters(&self, current: &str) -> Vec<Candidate> {
        let Some(tags) = self.fleet(cache::tags) else {
            return Vec::new();
        };
        let rows = tags.rows().unwrap_or_default();
        let Some((key, value)) = current.split_once('=') else {
            return rows
                .iter()
                .filter(|row| starts_with(row.key, current) && !row.key.contains('='))
                .map(|row| {
                    Candidate::open(format!("{}=", row.key), values_in_words(row.values.len()))
                })
                .collect();
        };
        let plain = key.strip_suffix('!').unwrap_or(key);
        let (before, last) = match value.rfind(',') {
            Some(comma) => value.split_at(comma + 1),
            None => ("", value),
        };
        rows.iter()
            .filter(|row| row.key == plain)
            .flat_map(|row| &row.values)
            .filter(|(value, _)| starts_with(value, last) && !value.contains(','))
            .map(|(value, count)| {
                Candidate::new(format!("{key}={before}{value}"), instances_in_words(*count))
            })
            .collect()
    }

    fn profiles(&self, current: &str, wanted: impl Fn(ProfileKind) -> bool) -> Vec<Candidate> {
        let rows = settings::profiles(
            self.cx.invocation(),
            self.cx.verbs(),
            self.cx.settings().ok(),
        )
        .unwrap_or_default();
        rows.into_iter()
            .filter(|row| {
                wanted(row.kind) && row.hidden_by.is_none() && starts_with(&row.name, current)
            })
            .map(|row| {
                let kind = match row.kind {
                    ProfileKind::Team => "team profile",
                    ProfileKind::Aws => "AWS profile",
                };
                let about = row.description.or(row.region);
                Candidate::new(
                    row.name,
                    match about {
                        Some(about) => format!("{kind}: {about}"),
                        None => kind.to_owned(),
                    },
                )
            })
            .collect()
    }

    fn aws_profiles(&self, current: &str) -> Vec<Candidate> {
        let files = AwsFiles::read(self.cx.env(), self.cx.paths());
        files
            .names()
            .filter(|name| starts_with(name, current))
            .map(|name| Candidate::new(name, files.region(name).unwrap_or_default()))
            .collect()
    }

    fn external_commands(&self, current: &str) -> Vec<Candidate> {
        let mut names: Vec<String> = plugin::all_plugins(self.cx.env())
            .into_iter()
            .filter(|found| found.executable && starts_with(&found.plugin.name, current))
            .map(|found| found.plugin.name)
            .collect();
        names.sort();
        names.dedup();
        names
            .into_iter()
            .map(|name| Candidate::new(name, "external command"))
            .collect()
    }
}

/// Names, each once; ids where one is begun, or where there is no name.
fn add_rows(
    rows: &[Row<'_>],
    user: &str,
    typed: &str,
    described_up_to: usize,
    found: &mut Vec<Candidate>,
) {
    let matches = |row: &&Row<'_>| row.name.is_some_and(|name| starts_with(name, typed));
    let describes = rows.iter().filter(matches).nth(described_up_to).is_none();
    let mut index = 0;
    while let Some(row) = rows.get(index) {
        let same = match row.name {
            Some(name) => rows[index..]
                .iter()
                .take_while(|row| row.name == Some(name))
                .count(),
            None => 1,
        };
        // Of other names the ids are offered.
        if let Some(name) = row.name
            && starts_with(name, typed)
            && !name.contains(is_unprintable)
        {
            let about = if !describes {
                String::new()
            } else if same == 1 {
                describe_row(row, row.id)
            } else {
                format!("{same} instances")
            };
            found.push(Candidate::new(format!("{user}{name}"), about));
        }
        index += same;
    }
    let by_id = rows.iter().filter(|row| {
        let has_name = row.name.is_some_and(|name| !name.contains(is_unprintable));
        (!typed.is_empty() || !has_name) && row.id.starts_with(typed)
    });
    let describes = by_id.clone().nth(described_up_to).is_none();
    found.extend(by_id.map(|row| {
        let about = if describes {
            describe_row(row, row.name.unwrap_or_default())
        } else {
            String::new()
        };
        Candidate::new(format!("{user}{}", row.id), about)
    }));
}

/// `running  i-0a1b2c3d4e5f60718  t3.medium`
fn describe_row(row: &Row<'_>, middle: &str) -> String {
    let mut text = row.state.as_str().to_owned();
    for part in [Some(middle), row.instance_type].into_iter().flatten() {
        if !part.is_empty() {
            let _ = write!(text, "  {part}");
        }
    }
    text
}

fn values_in_words(count: usize) -> String {
    match count {
        1 => "1 value".to_owned(),
        count => format!("{count} values"),
    }
}

fn instances_in_words(count: u32) -> String {
    match count {
        1 => "1 instance".to_owned(),
        count => format!("{count} instances"),
    }
}

fn region_candidates(current: &str) -> Vec<Candidate> {
    REGIONS
        .iter()
        .filter(|(name, _)| starts_with(name, current))
        .map(|(name, place)| Candidate::new(*name, *place))
        .collect()
}

/// Whether `text` can become of `typed`.
pub(super) fn starts_with(text: &str, typed: &str) -> bool {
    text.starts_with(typed)
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
