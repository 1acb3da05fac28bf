//! `ops ssh-config`: what `~/.ssh/config` needs for plain ssh, and all that speaks it, to reach
//! every server by name.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use ops_core::{
    Command, Context, Forms, Query, Traits, Values,
    inventory::{Ec2Filter, StateFilter, TagFilter},
};
use ops_profile::{Auth, HostKeys, Instance, InstanceState, Kind, Ping, Target};
use ops_remote::ssh::{KeyPair, KnownNames, SshSettings, public_path};
use ops_ui::{Error, Exit, Result};

use crate::{
    config_text::{self, Host},
    include::{self, Change},
    meaning,
    names::{self, Groups, Names},
    options::{self, KnownHosts, Options, checked_argument, config_error, path_text},
    settings, words,
};

/// Print or install what ~/.ssh/config needs to reach servers by name
///
/// One entry per instance, under its name and its id, and one for every other id. With it plain
/// ssh, scp, sftp, rsync, git, Ansible and VS Code Remote work without an open port.
/// `ops ssh-config >> ~/.ssh/config` is enough; `--install` keeps the entries in files of their
/// own, can be repeated, and can be taken out again.
#[derive(clap::Args, Debug)]
pub struct SshConfig {
    /// Instances to write entries for; without one all of the profile
    #[arg(value_name = "PATTERN")]
    patterns: Vec<Target>,
    /// Only instances with this tag; globs and != too
    ///
    /// Key=Value, where the value may be a glob, or Key!=Value for all others.
    #[arg(short = 'l', long, value_name = "KEY=VALUE")]
    tag: Vec<TagFilter>,
    /// States, as for ops ls [default: pending, running]
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    state: Vec<StateFilter>,
    /// Filter of EC2: NAME=VALUES
    #[arg(long, value_name = "NAME=VALUES")]
    filter: Vec<Ec2Filter>,
    /// Only instances whose agent answers
    #[arg(long)]
    online: bool,
    /// Every region that the account has enabled
    #[arg(long)]
    all_regions: bool,
    /// A name that several have goes to the oldest
    ///
    /// Without this no entry has a name that several instances have.
    #[arg(long)]
    first: bool,
    /// Write it to files that ~/.ssh/config includes
    ///
    /// The Include stands at its end, so that your own entries win.
    #[arg(long, conflicts_with_all = ["uninstall", "diff"])]
    install: bool,
    /// Take out what --install wrote for this profile
    #[arg(long, conflicts_with = "diff")]
    uninstall: bool,
    /// Show what --install would change
    #[arg(long)]
    diff: bool,
}

impl Command for SshConfig {
    const NAME: &'static str = "ssh-config";
    const TRAITS: Traits = Traits {
        forms: Forms::Nothing,
        ..Traits::NONE
    };
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        (
            "ops ssh-config >> ~/.ssh/config",
            "every server of the profile, by name",
        ),
        (
            "ops ssh-config --install",
            "in files of its own; repeat it to refresh",
        ),
        ("ops ssh-config --diff", "what --install would change"),
    ];

    const COMPLETES: &'static [(&'static str, Values)] = &[
        ("patterns", Values::Target),
        ("tag", Values::TagFilter),
        ("state", Values::Words(StateFilter::NAMES)),
    ];

    async fn run(self, cx: Context) -> Result<Exit> {
        let files = Files::of(&cx)?;
        if self.uninstall {
            return uninstall_block(&cx, &files);
        }
        let taken = if self.install || self.diff {
            files.taken()
        } else {
            BTreeMap::new()
        };
        let text = self.text(&cx, &taken, &files.config).await?;
        if let Some(entry) = text.hosts.first()
            && let Some(name) = entry.patterns.first()
        {
            meaning::tell_what_wins(&cx, &files.config, name.trim_matches('"'), entry).await?;
        }
        if !self.install && !self.diff {
            let refresh = format!(
                "{} >> ~/.ssh/config, after this block was removed; or once and for all: {0} --install",
                files.again
            );
            let block =
                config_text::hosts_block(&files.label, &refresh, &[text.hosts, text.ids].concat());
            cx.output().through_pager(|| cx.output().page(&block))?;
            return Ok(Exit::SUCCESS);
        }
        let refresh = format!("{} --install", files.again);
        let hosts = config_text::hosts_block(&files.label, &refresh, &text.hosts);
        let ids = config_text::hosts_block(&format!("{} ids", files.label), &refresh, &text.ids);
        let changes = [
            plan_config_change(&cx, &files.hosts, |_| Some(hosts))?,
            plan_config_change(&cx, &files.ids, |_| Some(ids))?,
            plan_config_change(&cx, &files.config, |old| Some(include::with_include(old)))?,
        ];
        if self.diff {
            let differences: String = changes.iter().map(Change::diff).collect();
            cx.output()
                .through_pager(|| cx.output().page(&differences))?;
            return Ok(Exit::SUCCESS);
        }
        for other in files.other_ids() {
            cx.output().note(format!(
                "ids that have no entry go through the first of {} and {other}; an id with an entry goes through its own profile",
                files.ids.file_name().unwrap_or_default().display()
            ));
        }
        apply_changes(&cx, &changes, &files.config)?;
        cx.output().note(format!(
            "{} servers can be reached by name or id: ssh NAME",
            text.hosts.len()
        ));
        Ok(Exit::SUCCESS)
    }
}

/// The entries of one profile.
struct Text {
    hosts: Vec<Host>,
    ids: Vec<Host>,
}

impl SshConfig {
    async fn text(
        &self,
        cx: &Context,
        taken: &BTreeMap<String, String>,
        config: &Path,
    ) -> Result<Text> {
        let instances = self.instances(cx).await?;
        let own_key = own_key(cx)?;
        let any = SshSettings::of_profile(cx)?;
        let names = Names {
            prefix: &any.host_prefix,
            first: self.first,
            known_hosts: &KnownNames::read(&known_hosts_files(cx)),
            taken,
        };
        let mut names = names::give_names(cx, &instances, &names);
        let mut groups = Groups::new();
        for (id, why) in meaning::taken_names(cx, config, &names, &instances).await? {
            if let Some(name) = names.remove(&id) {
                groups.entry(why).or_default().push(name);
            }
        }
        names::tell_left_out(cx, &groups);
        let (mut hosts, mut hybrid, mut userless) = (Vec::new(), 0, 0);
        for instance in &instances {
            let settings = SshSettings::of(cx, instance)?;
            let wants_push = settings.auth == Some(Auth::InstanceConnect);
            hybrid += usize::from(wants_push && instance.kind == Kind::Hybrid);
            userless += usize::from(wants_push && settings.user.is_none());
            let mut patterns: Vec<String> = names.get(&instance.id).cloned().into_iter().collect();
            patterns.push(instance.id.clone());
            let mut options = vec![
                ("HostName".to_owned(), instance.id.clone()),
                ("HostKeyAlias".to_owned(), instance.id.clone()),
            ];
            options.extend(common_options(cx, &settings, instance, own_key.as_deref())?);
            for forward in &settings.local_forwards {
                options.push(("LocalForward".to_owned(), local_forward(forward)));
            }
            hosts.push(Host {
                comment: head_comment(&settings, instance.kind),
                patterns,
                options,
            });
        }
        if hybrid > 0 {
            cx.output().note(format!(
                "{hybrid} hybrid nodes (mi-…) have no EC2 Instance Connect: they need a key of yours (ssh.identity_file)"
            ));
        }
        if userless > 0 {
            cx.output().note(format!(
                "no key is pushed to {userless} servers: EC2 Instance Connect lets one user in, and the profile names none for them (ssh.user)"
            ));
        }
        let region = cx.region().await?;
        let pattern = |pattern: &str, like: &Instance, patterns: &[&str]| {
            Ok::<_, Error>(Host {
                comment: head_comment(&any, like.kind),
                patterns: patterns
                    .iter()
                    .map(|one| (*one).to_owned())
                    .chain([pattern.to_owned()])
                    .collect(),
                options: common_options(cx, &any, like, own_key.as_deref())?,
            })
        };
        // Of the right kind, and of no zone that is known.
        let ec2 = Instance::bare("i-", &region);
        let node = Instance::bare("mi-", &region);
        let ids = if any.auth == Some(Auth::InstanceConnect) {
            vec![pattern("i-*", &ec2, &[])?, pattern("mi-*", &node, &[])?]
        } else {
            vec![pattern("mi-*", &ec2, &["i-*"])?]
        };
        Ok(Text { hosts, ids })
    }

    /// The instances to write entries for, in an order that stays.
    async fn instances(&self, cx: &Context) -> Result<Vec<Instance>> {
        let mut query = Query::of(cx.profile()?);
        if !self.state.is_empty() {
            query.states = StateFilter::states(&self.state);
        } else if query.states.is_empty() {
            query.states = vec![InstanceState::Pending, InstanceState::Running];
        }
        for pattern in &self.patterns {
            query.add(pattern);
        }
        query.tags.clone_from(&self.tag);
        query.filters.clone_from(&self.filter);
        query.reach = self.online || SshSettings::ask_for_platforms(cx)?;
        let regions = if self.all_regions {
            cx.all_regions().await?
        } else {
            cx.regions().await?
        };
        let listing = cx.list(&query, &regions).await?;
        let mut instances = listing.instances.clone();
        for note in &listing.notes {
            cx.output().note(note);
        }
        // A configuration that lacks servers would be taken for the truth.
        if let Some(error) = listing.into_failure() {
            return Err(error);
        }
        if self.online {
            instances.retain(|instance| instance.ping == Ping::Online);
        }
        instances.sort_by(|a, b| (&a.name, a.launched, &a.id).cmp(&(&b.name, b.launched, &b.id)));
        Ok(instances)
    }
}

/// The files in which ssh looks for known hosts unless it is told otherwise (ssh_config(5),
/// `UserKnownHostsFile` and `GlobalKnownHostsFile`).
fn known_hosts_files(cx: &Context) -> Vec<PathBuf> {
    let own = ["known_hosts", "known_hosts2"].map(|name| cx.paths().home.join(".ssh").join(name));
    let global =
        ["ssh_known_hosts", "ssh_known_hosts2"].map(|name| Path::new("/etc/ssh").join(name));
    own.into_iter().chain(global).collect()
}

/// The key that EC2 Instance Connect is told of, made on first use; `None` where the profile does
/// not ask for it.
fn own_key(cx: &Context) -> Result<Option<PathBuf>> {
    let profile = cx.profile()?;
    let wanted = SshSettings::of_profile(cx)?.auth == Some(Auth::InstanceConnect)
        || profile
            .hosts
            .values()
            .any(|host| host.ssh.auth == Some(Auth::InstanceConnect));
    if !wanted {
        return Ok(None);
    }
    let path = cx.paths().state.join("ssh/instance-connect");
    KeyPair::load_or_generate(&path)?;
    Ok(Some(path))
}

/// What has to be said above an entry.
fn head_comment(settings: &SshSettings, kind: Kind) -> Vec<String> {
    match (settings.auth, kind) {
        (Some(Auth::InstanceConnect), Kind::Hybrid) => vec![
            "EC2 Instance Connect knows no hybrid nodes: this takes a key of yours.".to_owned(),
        ],
        _ => Vec::new(),
    }
}

/// What every entry has, in ssh_config's own form.
fn common_options(
    cx: &Context,
    settings: &SshSettings,
    instance: &Instance,
    own_key: Option<&Path>,
) -> Result<Options> {
    let mut options = Options::new();
    let mut words = settings::lasting_words(cx, &instance.region)?;
    words.push("ssh-proxy".to_owned());
    // The user is fixed here: `%r` would carry what a URL says (`ssh://USER@web-1`) into a shell.
    let push = match (own_key, &settings.user) {
        (Some(key), Some(user))
            if settings.auth == Some(Auth::InstanceConnect) && instance.kind == Kind::Ec2 =>
        {
            words.extend(["--user".to_owned(), user.clone(), "--push-key".to_owned()]);
            words.push(path_text(&public_path(key))?.to_owned());
            if let Some(zone) = &instance.zone {
                words.extend(["--zone".to_owned(), zone.clone()]);
            }
            Some(key)
        }
        _ => None,
    };
    if settings.host_keys == HostKeys::Ssm {
        words.push("--pin-host-keys".to_owned());
        words.push(path_text(&ops_remote::ssh::known_hosts::file(cx))?.to_owned());
    }
    let sharing = options::sharing_options(cx, settings)?;
    if !sharing.is_empty() {
        words.push("--on-terminal".to_owned());
    }
    let command = config_text::proxy_command(&words, &["--", "%h", "%p"])
        .map_err(config_error("the path of ops or a profile's name"))?;
    options.push(("ProxyCommand".to_owned(), command));
    if let Some(user) = &settings.user {
        options.push(("User".to_owned(), checked_argument("ssh.user", user)?));
    }
    if let Some(port) = settings.port {
        options.push(("Port".to_owned(), port.to_string()));
    }
    options.extend(match push {
        Some(key) => options::pushed_identity(key)?,
        None => options::identity_options(settings)?,
    });
    options.extend(options::host_keys(
        settings.host_keys,
        &KnownHosts::lasting(cx)?,
    )?);
    options.extend(options::agent_forwarding(settings));
    options.extend(sharing);
    options.extend(options::further_options(settings)?);
    Ok(options)
}

/// `PORT:HOST:PORT` in the two words that ssh_config takes.
fn local_forward(text: &str) -> String {
    // The last two parts are host and port; brackets keep an IPv6 address together.
    let port = text.rfind(':').unwrap_or(0);
    let host = if text[..port].ends_with(']') {
        text[..port].rfind('[').unwrap_or(0)
    } else {
        text[..port].rfind(':').map_or(0, |at| at + 1)
    };
    format!("{} {}", text[..host].trim_end_matches(':'), &text[host..])
}

/// Where things are installed.
struct Files {
    label: String,
    again: String,
    config: PathBuf,
    folder: PathBuf,
    hosts: PathBuf,
    ids: PathBuf,
}

impl Files {
    fn of(cx: &Context) -> Result<Self> {
        let settings = cx.settings()?;
        let label: String = settings
            .profile_label()
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') {
                    c
                } else {
                    '_'
                }
            })
            .collect();
        let again = refresh_command(settings.profile.value.as_deref());
        let ssh = cx.paths().home.join(".ssh");
        let folder = ssh.join("ops");
        Ok(Self {
            config: ssh.join("config"),
            // ssh reads them in this order: every profile's entries come before the entry for all
            // ids of any.
            hosts: folder.join(format!("hosts-{label}.conf")),
            ids: folder.join(format!("ids-{label}.conf")),
            folder,
            label,
            again,
        })
    }

    fn installed(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(&self.folder) else {
            return Vec::new();
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| name.ends_with(".conf")).collect();
        names.sort();
        names
    }

    /// The files of other profiles that also say something about every id.
    fn other_ids(&self) -> Vec<String> {
        let own = self.ids.file_name();
        self.installed()
            .into_iter()
            .filter(|name| name.starts_with("ids-") && Some(name.as_ref()) != own)
            .collect()
    }
}

impl Files {
    /// Names that already mean something to ssh, written as in a `Host` line, and what gives them
    /// their meaning: the user's own entries, and those of other profiles. The first entry counts
    /// for ssh, and options of both would mix.
    fn taken(&self) -> BTreeMap<String, String> {
        let mut taken = BTreeMap::new();
        let own = self.hosts.file_name();
        let others = self
            .installed()
            .into_iter()
            .filter(|name| name.starts_with("hosts-") && Some(name.as_ref()) != own)
            .map(|name| self.folder.join(name));
        for file in std::iter::once(self.config.clone()).chain(others) {
            // What is not there or no text takes no names.
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let text = if file == self.config {
                include::without_blocks(&text)
            } else {
                text
            };
            let whose = file.display().to_string();
            for name in names::named_by(&text) {
                taken.entry(name).or_insert_with(|| whose.clone());
            }
        }
        taken
    }
}

/// The command line that wrote this, without what says where to.
fn refresh_command(profile: Option<&str>) -> String {
    let mut words = ops_ui::program::arguments();
    words.retain(|word| word != "--install" && word != "--diff");
    let names_profile = words.iter().any(|word| {
        word == "-p" || word == "--profile" || word.to_string_lossy().starts_with("--profile=")
    });
    if let Some(profile) = profile.filter(|_| !names_profile) {
        words.extend(["--profile".into(), profile.into()]);
    }
    format!(
        "ops {}",
        words::shown_words(words.iter().map(std::ffi::OsString::as_os_str))
    )
}

fn uninstall_block(cx: &Context, files: &Files) -> Result<Exit> {
    let own = [&files.hosts, &files.ids];
    let mut changes = vec![
        plan_config_change(cx, own[0], |_| None)?,
        plan_config_change(cx, own[1], |_| None)?,
    ];
    let others = files.installed().iter().any(|name| {
        own.iter()
            .all(|file| file.file_name() != Some(name.as_ref()))
    });
    if !others && files.config.exists() {
        changes.push(plan_config_change(cx, &files.config, |old| {
            old.map(include::without_include)
        })?);
    }
    if changes.iter().all(Change::is_empty) {
        cx.output()
            .note(format!("nothing was installed for `{}`", files.label));
        return Ok(Exit::SUCCESS);
    }
    apply_changes(cx, &changes, &files.config)?;
    // Other profiles' files keep it.
    let _ = std::fs::remove_dir(&files.folder);
    Ok(Exit::SUCCESS)
}

fn plan_config_change(
    cx: &Context,
    path: &Path,
    new: impl FnOnce(Option<&str>) -> Option<String>,
) -> Result<Change> {
    Change::plan(path, new).map_err(|error| match error.kind() {
        // The folder of somebody else, whose HOME is set, or none at all: what cannot be read there
        // cannot be kept there either.
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::NotADirectory => {
            cx.paths().cannot_keep("entries for ssh", path, &error)
        }
        _ => Error::unexpected(format!("cannot read `{}`", path.display())).caused_by(error),
    })
}

fn apply_changes(cx: &Context, changes: &[Change], config: &Path) -> Result<()> {
    // The user's own file last: an Include must not name what is not there yet.
    for change in changes.iter().filter(|change| !change.is_empty()) {
        let backup = change.path == config
            || config.read_link().is_ok() && !change.path.starts_with(config.with_file_name("ops"));
        change.apply(backup).map_err(|error| {
            let paths = cx.paths();
            paths.cannot_keep("entries for ssh", &change.path, &error)
        })?;
        let what = if change.new.is_some() {
            "wrote"
        } else {
            "removed"
        };
        cx.output()
            .note(format!("{what} {}", change.path.display()));
    }
    if changes.iter().all(Change::is_empty) {
        cx.output().note("everything is up to date");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forward_is_split_where_the_host_begins() {
        assert_eq!(local_forward("3307:db:3306"), "3307 db:3306");
        assert_eq!(
            local_forward("127.0.0.1:3307:db:3306"),
            "127.0.0.1:3307 db:3306"
        );
        assert_eq!(local_forward("3307:[fd00::1]:3306"), "3307 [fd00::1]:3306");
    }
}
