//! `ops ssh-config`: what `~/.ssh/config` needs for plain ssh, and all that speaks it, to reach every server by name.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use ops_core::{
    Command, Context, Error, Exit, Instance, Kind, Result, State, Target,
    inventory::{Ec2Filter, TagFilter},
    profile::{Auth, HostKeys},
    ssh::{KeyPair, Settings, public_path},
};

use crate::{
    config_text::{self, Alias, Host},
    include::{self, Change},
    settings,
};

/// Print or install what ~/.ssh/config needs to reach servers by name
///
/// One entry per instance, under its name and its id, and one for every other id. With it plain ssh, scp, sftp, rsync, git, Ansible and VS Code
/// Remote work without an open port. `ops ssh-config >> ~/.ssh/config` is enough; `--install` keeps the entries in files of their own, can be
/// repeated, and can be taken out again.
#[derive(clap::Args, Debug)]
pub struct SshConfig {
    /// Instances to write entries for; all of the profile unless something is given
    #[arg(value_name = "PATTERN")]
    patterns: Vec<Target>,
    /// Only instances with this tag: Key=Value, globs allowed, Key!=Value for all others
    #[arg(short = 'l', long, value_name = "KEY=VALUE")]
    tag: Vec<TagFilter>,
    /// Filter of EC2: NAME=VALUES
    #[arg(long, value_name = "NAME=VALUES")]
    filter: Vec<Ec2Filter>,
    /// Of several instances with one name, the one launched first gets it
    #[arg(long)]
    first: bool,
    /// Write it to files of its own and include them at the top of ~/.ssh/config
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
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        (
            "ops ssh-config >> ~/.ssh/config",
            "every server of the profile, by name",
        ),
        (
            "ops ssh-config --install",
            "the same in files of its own; repeat it to refresh",
        ),
        ("ops ssh-config --diff", "what --install would change"),
    ];

    async fn run(self, cx: Context) -> Result<Exit> {
        let files = Files::of(&cx)?;
        if self.uninstall {
            return uninstall(&cx, &files);
        }
        let text = self.text(&cx).await?;
        if !self.install && !self.diff {
            let refresh = format!(
                "{} >> ~/.ssh/config, after this block was removed; or once and for all: {0} --install",
                files.again
            );
            let block = config_text::block(
                &files.label,
                &refresh,
                &[text.hosts, vec![text.any]].concat(),
            );
            cx.output().write(block.as_bytes())?;
            return Ok(Exit::SUCCESS);
        }
        let refresh = format!("{} --install", files.again);
        let hosts = config_text::block(&files.label, &refresh, &text.hosts);
        let any = config_text::block(&format!("{} ids", files.label), &refresh, &[text.any]);
        let changes = [
            change(&files.hosts, |_| Some(hosts))?,
            change(&files.any, |_| Some(any))?,
            change(&files.config, |old| Some(include::with_include(old)))?,
        ];
        if self.diff {
            for change in &changes {
                cx.output().write(change.diff().as_bytes())?;
            }
            return Ok(Exit::SUCCESS);
        }
        for other in files.other_ids() {
            cx.output().note(format!(
                "ids that have no entry go through the first of {} and {other}; an id with an entry goes through its own profile",
                files.any.file_name().unwrap_or_default().display()
            ));
        }
        apply(&cx, &changes, &files.config)?;
        cx.output().note(format!(
            "{} servers can be reached by name: ssh NAME",
            text.count
        ));
        Ok(Exit::SUCCESS)
    }
}

/// The entries of one profile.
struct Text {
    hosts: Vec<Host>,
    any: Host,
    count: usize,
}

impl SshConfig {
    async fn text(&self, cx: &Context) -> Result<Text> {
        let mut query = cx.base_query()?;
        if query.states.is_empty() {
            query.states = vec![State::Pending, State::Running];
        }
        for pattern in &self.patterns {
            query.add(pattern);
        }
        query.tags.clone_from(&self.tag);
        query.filters.clone_from(&self.filter);
        let regions = cx.regions().await?;
        let listing = cx.list(&query, &regions).await?;
        let mut instances = listing.instances.clone();
        for note in &listing.notes {
            cx.output().note(note);
        }
        // A configuration that lacks servers would be taken for the truth.
        if let Some(error) = listing.into_failure() {
            return Err(error);
        }
        instances.sort_by(|a, b| (&a.name, a.launched, &a.id).cmp(&(&b.name, b.launched, &b.id)));

        let own_key = own_key(cx)?;
        let names = aliases(cx, &instances, self.first)?;
        let mut hosts = Vec::new();
        let mut hybrid = 0;
        for instance in &instances {
            let settings = Settings::of(cx, instance)?;
            hybrid += usize::from(
                instance.kind == Kind::Hybrid && settings.auth == Some(Auth::InstanceConnect),
            );
            let mut patterns: Vec<String> = names.get(&instance.id).cloned().into_iter().collect();
            patterns.push(instance.id.clone());
            let mut options = vec![
                ("HostName".to_owned(), instance.id.clone()),
                ("HostKeyAlias".to_owned(), instance.id.clone()),
            ];
            options.extend(common(
                cx,
                &settings,
                &instance.region,
                instance.kind,
                own_key.as_deref(),
            )?);
            for forward in &settings.local_forwards {
                options.push(("LocalForward".to_owned(), local_forward(forward)));
            }
            hosts.push(Host { patterns, options });
        }
        if hybrid > 0 {
            cx.output().note(format!(
                "{hybrid} hybrid nodes (mi-…) have no EC2 Instance Connect: they need a key of yours (ssh.identity_file)"
            ));
        }
        let settings = Settings::of_profile(cx)?;
        let region = cx.region().await?;
        let any = Host {
            patterns: vec!["i-*".to_owned(), "mi-*".to_owned()],
            options: common(cx, &settings, &region, Kind::Ec2, own_key.as_deref())?,
        };
        Ok(Text {
            count: hosts.len(),
            hosts,
            any,
        })
    }
}

/// The key that EC2 Instance Connect is told of, made on first use; `None` where the profile does not ask for it.
fn own_key(cx: &Context) -> Result<Option<PathBuf>> {
    let profile = cx.profile()?;
    let wanted = profile.ssh.auth == Some(Auth::InstanceConnect)
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

/// What every entry has, in ssh_config's own form.
fn common(
    cx: &Context,
    settings: &Settings,
    region: &str,
    kind: Kind,
    own_key: Option<&Path>,
) -> Result<Vec<(String, String)>> {
    let mut options = Vec::new();
    let mut put = |key: &str, value: String| options.push((key.to_owned(), value));
    let mut words = settings::program_words(cx, region)?;
    words.push("ssh-proxy".to_owned());
    let push =
        own_key.filter(|_| settings.auth == Some(Auth::InstanceConnect) && kind == Kind::Ec2);
    match (push, &settings.user) {
        // The user is fixed here: `%r` would carry what a URL says (`ssh://USER@web-1`) into a shell.
        (Some(key), Some(user)) => words.extend([
            "--user".to_owned(),
            user.clone(),
            "--push-key".to_owned(),
            text(&public_path(key))?,
        ]),
        (Some(_), None) => {
            return Err(Error::usage("the profile's `ssh.auth: instance-connect` needs `ssh.user`")
                .caused_by("EC2 Instance Connect lets one user in, so it has to be named")
                .hint("add a user to the profile, such as `ssh: { user: ec2-user, auth: instance-connect }`"));
        }
        _ => {}
    }
    put(
        "ProxyCommand",
        config_text::proxy_command(&words, &["%h", "%p"])
            .map_err(unwritable("the path of ops or a profile's name"))?,
    );
    if let Some(user) = &settings.user {
        put("User", argument("ssh.user", user)?);
    }
    if let Some(port) = settings.port {
        put("Port", port.to_string());
    }
    if let Some(key) = push {
        put("IdentityFile", argument("the key's path", &text(key)?)?);
        put("IdentitiesOnly", "yes".to_owned());
    } else if let Some(file) = settings
        .identity
        .as_ref()
        .filter(|_| settings.auth != Some(Auth::Agent))
    {
        put("IdentityFile", argument("ssh.identity_file", &text(file)?)?);
    }
    match settings.host_keys {
        HostKeys::Off => {
            put("StrictHostKeyChecking", "no".to_owned());
            put("UserKnownHostsFile", "/dev/null".to_owned());
        }
        keys => {
            let folder = ops_core::paths::private_dir(cx.paths().state.join("ssh"))?;
            put(
                "UserKnownHostsFile",
                argument(
                    "the state folder's path",
                    &text(&folder.join("known_hosts"))?,
                )?,
            );
            // `ops ssh --host-keys ssm NAME` pins the keys that plain ssh then insists on.
            let strict = if keys == HostKeys::Ssm {
                "yes"
            } else {
                "accept-new"
            };
            put("StrictHostKeyChecking", strict.to_owned());
        }
    }
    if settings.control_master {
        let folders = [
            cx.paths().runtime.clone(),
            cx.paths().state.join("ssh"),
            cx.paths().home.join(".ssh"),
        ];
        let folders: Vec<String> = folders
            .iter()
            .filter_map(|folder| text(folder).ok())
            .collect();
        match config_text::control_path(folders.iter().map(String::as_str)) {
            Some(path) => {
                ops_core::paths::private_dir(cx.paths().runtime.clone())?;
                put("ControlMaster", "auto".to_owned());
                put("ControlPath", path);
                put("ControlPersist", "60".to_owned());
            }
            None => cx.output().note(
                "connections are not shared: no folder's path is short enough for a control socket",
            ),
        }
    }
    for (key, value) in &settings.options {
        put(key, argument(&format!("ssh.options.{key}"), value)?);
    }
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

/// The name each instance gets, written for a `Host` line; those that get none are told of.
fn aliases(cx: &Context, instances: &[Instance], first: bool) -> Result<BTreeMap<String, String>> {
    let prefix = Settings::of_profile(cx)?.host_prefix;
    let mut by_name: BTreeMap<&str, Vec<&Instance>> = BTreeMap::new();
    for instance in instances {
        if let Some(name) = instance.name.as_deref() {
            by_name.entry(name).or_default().push(instance);
        }
    }
    let taken: BTreeSet<&str> = by_name.keys().copied().collect();
    let mut names = BTreeMap::new();
    let mut used = BTreeSet::new();
    for (name, same) in &by_name {
        for (at, instance) in same.iter().enumerate() {
            let mut alias = format!("{prefix}{name}");
            if same.len() > 1 && !(first && at == 0) {
                let tail = &instance.id[instance.id.len().saturating_sub(4)..];
                let short = format!("{name}-{tail}");
                // Two ids may end alike, and another instance may be called so.
                alias = if taken.contains(short.as_str())
                    || used.contains(&format!("{prefix}{short}"))
                {
                    format!("{prefix}{name}-{}", instance.id)
                } else {
                    format!("{prefix}{short}")
                };
            }
            if ops_core::target::is_instance_id(&alias) {
                continue;
            }
            match config_text::alias(&alias) {
                Alias::Written(text) => {
                    if used.insert(alias) {
                        names.insert(instance.id.clone(), text);
                    }
                }
                Alias::LeftOut(why) => cx.output().note(format!(
                    "{} has no entry by its name `{}`: {why}",
                    instance.id,
                    ops_core::output::escape(name)
                )),
            }
        }
    }
    Ok(names)
}

/// Where things are installed.
struct Files {
    label: String,
    again: String,
    config: PathBuf,
    folder: PathBuf,
    hosts: PathBuf,
    any: PathBuf,
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
        let again = match &cx.globals().profile {
            Some(profile) => format!(
                "ops ssh-config --profile {}",
                ops_core::output::escape(profile)
            ),
            None => "ops ssh-config".to_owned(),
        };
        let ssh = cx.paths().home.join(".ssh");
        let folder = ssh.join("ops");
        Ok(Self {
            config: ssh.join("config"),
            // ssh reads them in this order: every profile's entries come before the entry for all ids of any.
            hosts: folder.join(format!("hosts-{label}.conf")),
            any: folder.join(format!("ids-{label}.conf")),
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
        let own = self.any.file_name();
        self.installed()
            .into_iter()
            .filter(|name| name.starts_with("ids-") && Some(name.as_ref()) != own)
            .collect()
    }
}

fn uninstall(cx: &Context, files: &Files) -> Result<Exit> {
    let own = [&files.hosts, &files.any];
    let mut changes = vec![change(own[0], |_| None)?, change(own[1], |_| None)?];
    let others = files.installed().iter().any(|name| {
        own.iter()
            .all(|file| file.file_name() != Some(name.as_ref()))
    });
    if !others && files.config.exists() {
        changes.push(change(&files.config, |old| {
            old.map(include::without_include)
        })?);
    }
    if changes.iter().all(Change::is_empty) {
        cx.output()
            .note(format!("nothing was installed for `{}`", files.label));
        return Ok(Exit::SUCCESS);
    }
    apply(cx, &changes, &files.config)?;
    Ok(Exit::SUCCESS)
}

fn change(path: &Path, new: impl FnOnce(Option<&str>) -> Option<String>) -> Result<Change> {
    Change::plan(path, new).map_err(|error| {
        Error::unexpected(format!("cannot read `{}`", path.display())).caused_by(error)
    })
}

fn apply(cx: &Context, changes: &[Change], config: &Path) -> Result<()> {
    // The user's own file last: an Include must not name what is not there yet.
    for change in changes.iter().filter(|change| !change.is_empty()) {
        let backup = change.path == config
            || config.read_link().is_ok() && !change.path.starts_with(config.with_file_name("ops"));
        change.apply(backup).map_err(|error| {
            Error::unexpected(format!("cannot write `{}`", change.path.display())).caused_by(error)
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

fn argument(name: &str, value: &str) -> Result<String> {
    config_text::argument(value).map_err(unwritable(name))
}

fn unwritable(name: &str) -> impl Fn(&'static str) -> Error {
    let what = format!("{name} cannot stand in an ssh configuration");
    move |why| Error::usage(what.clone()).caused_by(why)
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Error::usage(format!(
            "`{}` is no UTF-8",
            path.to_string_lossy().escape_debug()
        ))
    })
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
