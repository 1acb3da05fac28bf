//! What a name means to this user already: asked of ssh itself with the user's configuration as it
//! is without ours, and of DNS.
//!
//! Names come from tags, which anybody with `ec2:CreateTags` can write. Whoever calls an instance
//! `git.corp.example` must not get what the user types for that host, so a name that leads anywhere
//! already gets no entry.

use std::{
    collections::BTreeMap,
    io::Write as _,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use ops_core::Context;
use ops_profile::Instance;
use ops_ui::{Env, Result, output::escape, paths, temporary::TemporaryFolder, unwritable};
use tokio::{
    process::Command,
    time::{Instant, timeout, timeout_at},
};

use crate::{config_text, include};

/// Names that are asked about at most; more get no entry. A call takes some milliseconds of a
/// processor.
pub(crate) const MAX_NAMES: usize = 4000;
/// Calls of ssh and of DNS at the same time.
const SSH_CALLS: usize = 8;
const DNS_CALLS: usize = 32;
/// For one call of ssh: a `Match exec` of the user's may take its time.
const SSH_PATIENCE: Duration = Duration::from_secs(10);
/// For DNS in all. Where it does not answer, nobody is led astray by it either.
const DNS_PATIENCE: Duration = Duration::from_secs(10);
/// Where the system's own configuration lies; it counts after the user's.
const SYSTEM_CONFIG: &str = "/etc/ssh/ssh_config";

/// Options that say where a connection goes, or what the server there gets, with what a note calls
/// them. All others may differ: they are the user's wishes for a server of ours.
const TELLING: &[(&str, &str)] = &[
    ("hostname", "HostName"),
    ("port", "Port"),
    ("user", "User"),
    ("proxycommand", "ProxyCommand"),
    ("proxyjump", "ProxyJump"),
    ("hostkeyalias", "HostKeyAlias"),
    ("forwardagent", "ForwardAgent"),
];

/// Options as `ssh -G` tells them: keys in lower case, the first value of each.
pub(crate) type SshOptions = BTreeMap<String, String>;

/// A configuration that ssh is asked with.
pub(crate) struct Configuration {
    env: Env,
    file: PathBuf,
    /// Holds `file`.
    _folder: TemporaryFolder,
}

impl Configuration {
    /// The user's configuration in `file` without what was written into it for us.
    ///
    /// # Errors
    /// No temporary file can be written.
    pub(crate) fn without_ours(cx: &Context, file: &Path) -> Result<Self> {
        Self::new(cx, &own_text(file))
    }

    /// The user's configuration with these entries of ours.
    ///
    /// # Errors
    /// No temporary file can be written.
    pub(crate) fn with_entries(cx: &Context, file: &Path, entries: &str) -> Result<Self> {
        let own = own_text(file);
        Self::new(cx, &format!("{own}\nMatch all\n{entries}"))
    }

    fn new(cx: &Context, text: &str) -> Result<Self> {
        let folder = unwritable::temporary_dir_for("a configuration for ssh", "ops-ssh-")?;
        let file = folder.path().join("config");
        // With `-F` ssh reads no other file, so the system's is included where it would come next.
        let system = if Path::new(SYSTEM_CONFIG).exists() {
            format!("\nMatch all\nInclude {SYSTEM_CONFIG}\n")
        } else {
            String::new()
        };
        paths::create_private(&file)?.write_all(format!("{text}{system}").as_bytes())?;
        Ok(Self {
            env: cx.env().clone(),
            file,
            _folder: folder,
        })
    }

    /// What ssh makes of `name`; `None` if it refuses the name, or there is no ssh.
    pub(crate) async fn ask(&self, name: &str) -> Option<SshOptions> {
        let mut command = Command::new("ssh");
        command
            .arg("-F")
            .arg(&self.file)
            .args(["-G", "--", name])
            .env_clear()
            .envs(self.env.iter())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let output = timeout(SSH_PATIENCE, command.output()).await.ok()?.ok()?;
        if !output.status.success() {
            return None;
        }
        let mut told = SshOptions::new();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            if let Some((key, value)) = line.split_once(' ') {
                told.entry(key.to_owned())
                    .or_insert_with(|| value.to_owned());
            }
        }
        Some(told)
    }
}

/// The user's own lines. What is not there or no text says nothing.
fn own_text(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let text = include::without_blocks(&text);
    // An Include of ours that was moved out of its block.
    let own = text
        .split_inclusive('\n')
        .filter(|line| !line.trim().eq_ignore_ascii_case(include::INCLUDE));
    own.collect()
}

/// A name that no host has, and what it means.
struct Nobody {
    name: String,
    told: SshOptions,
}

/// Why names get no entry, by instance id.
pub(crate) type TakenNames = BTreeMap<String, String>;

/// Of `names` (by instance id, as they are typed) those that mean something already, and what.
///
/// # Errors
/// No temporary file can be written.
pub(crate) async fn taken_names(
    cx: &Context,
    config: &Path,
    names: &BTreeMap<String, String>,
    instances: &[Instance],
) -> Result<TakenNames> {
    let mut taken = TakenNames::new();
    if names.is_empty() {
        return Ok(taken);
    }
    for id in names.keys().skip(MAX_NAMES) {
        taken.insert(
            id.clone(),
            format!("no more than {MAX_NAMES} names are compared with what they mean already"),
        );
    }
    let _spinner = cx
        .output()
        .spinner("asking ssh what the names mean already");
    taken.extend(taken_in_ssh(cx, config, names).await?);
    taken.extend(taken_in_dns(names, instances).await);
    Ok(taken)
}

async fn taken_in_ssh(
    cx: &Context,
    config: &Path,
    names: &BTreeMap<String, String>,
) -> Result<TakenNames> {
    let configuration = Arc::new(Configuration::without_ours(cx, config)?);
    let name = nobodys_name();
    let Some(told) = configuration.ask(&name).await else {
        cx.output().note(
            "ssh does not answer (ssh -G), so the names are not compared with what they mean to it already",
        );
        return Ok(TakenNames::new());
    };
    let nobody = Arc::new(Nobody { name, told });
    // Owned, so that the future of the whole command stays `Send`.
    let names: Vec<(String, String)> = names
        .iter()
        .take(MAX_NAMES)
        .map(|(id, name)| (id.clone(), name.clone()))
        .collect();
    let answers = stream::iter(names)
        .map(|(id, name)| {
            let (configuration, nobody) = (configuration.clone(), nobody.clone());
            async move {
                // A name that ssh refuses leads nowhere.
                let told = configuration.ask(&name).await?;
                let key = option_difference(&nobody, &name, &told)?;
                Some((
                    id,
                    format!("your ssh configuration has its own {key} for them"),
                ))
            }
        })
        .buffer_unordered(SSH_CALLS)
        .filter_map(std::future::ready)
        .collect()
        .await;
    Ok(answers)
}

/// The option that makes `name` another host than any that is not mentioned.
fn option_difference(nobody: &Nobody, name: &str, told: &SshOptions) -> Option<&'static str> {
    TELLING.iter().find_map(|(key, shown)| {
        let without = nobody.told.get(*key);
        // `HostName %h.example` under `Host *` means another host for each name, and none for this
        // one in particular.
        let expected = without.map(|value| value.replace(&nobody.name, name));
        let same = match (&expected, told.get(*key)) {
            // ssh takes brackets off a host and writes it in lower case.
            (Some(expected), Some(value)) => {
                bare_host(expected).eq_ignore_ascii_case(bare_host(value))
            }
            (None, None) => true,
            _ => false,
        };
        (!same).then_some(*shown)
    })
}

/// A host without the brackets around it.
fn bare_host(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

/// A name that nobody has given to anything.
fn nobodys_name() -> String {
    format!("zz{}", uuid::Uuid::new_v4().simple())
}

/// The names that DNS, or a file of hosts, leads to another machine than the instance.
async fn taken_in_dns(names: &BTreeMap<String, String>, instances: &[Instance]) -> TakenNames {
    let until = Instant::now() + DNS_PATIENCE;
    // Some resolvers have an answer for every name.
    let of_nobody = resolve_addresses(&nobodys_name(), until).await;
    let own: BTreeMap<&str, &Instance> = instances
        .iter()
        .map(|instance| (instance.id.as_str(), instance))
        .collect();
    let names: Vec<(String, String, Vec<IpAddr>)> = names
        .iter()
        .take(MAX_NAMES)
        .map(|(id, name)| {
            let own = own.get(id.as_str()).map(|instance| {
                [&instance.private_ip, &instance.public_ip]
                    .into_iter()
                    .filter_map(|ip| ip.as_deref()?.parse().ok())
                    .collect()
            });
            (id.clone(), name.clone(), own.unwrap_or_default())
        })
        .collect();
    stream::iter(names)
        .map(|(id, name, own)| async move { (id, own, resolve_addresses(&name, until).await) })
        .buffer_unordered(DNS_CALLS)
        .filter_map(|(id, own, found)| {
            let leads_elsewhere = found
                .iter()
                .any(|ip| !own.contains(ip) && !of_nobody.contains(ip));
            let why = "they are hosts already, by DNS or this machine's file of hosts";
            std::future::ready(leads_elsewhere.then(|| (id, why.to_owned())))
        })
        .collect()
        .await
}

/// What `name` leads to; nothing where that is not known in time.
async fn resolve_addresses(name: &str, until: Instant) -> Vec<IpAddr> {
    match timeout_at(until, tokio::net::lookup_host((name, 22))).await {
        Ok(Ok(found)) => found.map(|address| address.ip().to_canonical()).collect(),
        _ => Vec::new(),
    }
}

/// Says what the user's configuration takes from `entry`, which is one of ours for `name`: what
/// stands for every host there comes first.
///
/// # Errors
/// No temporary file can be written.
pub(crate) async fn tell_what_wins(
    cx: &Context,
    config: &Path,
    name: &str,
    entry: &config_text::Host,
) -> Result<()> {
    let block = config_text::hosts_block("check", "", std::slice::from_ref(entry));
    let configuration = Configuration::with_entries(cx, config, &block)?;
    let Some(told) = configuration.ask(name).await else {
        return Ok(());
    };
    let mut lost = Vec::new();
    for (key, value) in &entry.options {
        let unquoted = value.trim_matches('"');
        let wanted = match (key.as_str(), unquoted) {
            ("StrictHostKeyChecking", "yes") => "true",
            ("StrictHostKeyChecking", "no") => "false",
            (
                "HostName"
                | "HostKeyAlias"
                | "ProxyCommand"
                | "User"
                | "Port"
                | "ForwardAgent"
                | "UserKnownHostsFile"
                | "StrictHostKeyChecking",
                value,
            ) => value,
            _ => continue,
        };
        let key_told = key.to_lowercase();
        let in_force = match told.get(&key_told) {
            Some(value) => value.clone(),
            // ssh tells a jump in place of the command.
            None if key == "ProxyCommand" => match told.get("proxyjump") {
                Some(jump) => format!("none, but ProxyJump {jump}"),
                None => "none".to_owned(),
            },
            None => continue,
        };
        if in_force != wanted && in_force.replace("%%", "%") != wanted.replace("%%", "%") {
            lost.push((key.as_str(), in_force));
        }
    }
    if lost.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = lost
        .iter()
        .map(|(key, value)| format!("{key} {}", escape(value)))
        .collect();
    cx.output().warn(format!(
        "your ssh configuration says for every host what wins over these entries: {}; move it to the hosts it is for",
        list.join(", ")
    ));
    if lost.iter().any(|(key, _)| *key == "ForwardAgent") {
        cx.output().warn(
            "with ForwardAgent whoever is root on a server can use the keys of your ssh agent while you are logged in there",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lines: &[(&str, &str)]) -> SshOptions {
        lines
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn what_holds_for_every_host_makes_no_difference() {
        let nobody = Nobody {
            name: "zz1".to_owned(),
            told: told(&[
                ("hostname", "zz1.corp.example"),
                ("user", "me"),
                ("proxycommand", "nc %h %p"),
            ]),
        };
        let same = told(&[
            ("hostname", "web-1.corp.example"),
            ("user", "me"),
            ("proxycommand", "nc %h %p"),
            ("compression", "yes"),
        ]);
        assert_eq!(option_difference(&nobody, "Web-1", &same), None);
        for (key, value, shown) in [
            ("hostname", "10.0.0.1", "HostName"),
            ("user", "root", "User"),
            ("port", "2222", "Port"),
            ("proxyjump", "bastion", "ProxyJump"),
        ] {
            let mut other = same.clone();
            other.insert(key.to_owned(), value.to_owned());
            assert_eq!(option_difference(&nobody, "web-1", &other), Some(shown));
        }
    }
}
