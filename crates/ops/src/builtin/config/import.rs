//! `ops config import`: what people have, turned into a profile.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use ops_core::Context;
use ops_profile::{aws_files::AwsFiles, is_name, target::is_instance_id};
use ops_ui::{
    Error, Exit, Result, hint,
    yaml::{self, Node, Source, Value},
};
use serde_json::{Map, Value as Json, json};

use super::file::{ConfigFile, mistake_reason, team_profiles};

/// Where a profile is made from.
#[derive(clap::ValueEnum, Clone, Copy, Debug)]
pub(super) enum From {
    /// The configuration of aws-gate
    AwsGate,
    /// A profile of the AWS configuration
    AwsConfig,
    /// Hosts of an OpenSSH configuration that are reached through Session Manager
    SshConfig,
}

#[derive(clap::Args, Debug)]
pub(super) struct ImportArgs {
    /// What the file is
    from: From,
    /// The file, such as ~/.aws-gate/config
    file: PathBuf,
    /// Write a profile of this name, in place of printing it
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

/// A profile in the making, and what found no place in it.
#[derive(Default)]
struct Imported {
    profile: Map<String, Json>,
    left_out: Vec<String>,
}

pub(super) fn import_profile(cx: &Context, args: &ImportArgs) -> Result<Exit> {
    let path = cx.paths().expand(&args.file.to_string_lossy());
    let text = fs::read_to_string(&path).map_err(|error| {
        Error::usage(format!("cannot read {}", path.display())).caused_by(error)
    })?;
    let wanted = cx.globals().aws_profile.as_deref();
    let imported = match args.from {
        From::AwsGate => aws_gate(&path, &text, wanted)?,
        From::AwsConfig => aws_config(&path, &text, wanted)?,
        From::SshConfig => ssh_config(&text),
    };
    if imported.profile.is_empty() {
        return Err(Error::usage(format!(
            "nothing of {} belongs into a profile",
            path.display()
        ))
        .caused_by(match imported.left_out.as_slice() {
            [] => "no entry was found in it".to_owned(),
            left_out => left_out.join("; "),
        })
        .hint("write one by answering questions: ops config init"));
    }
    let text = format!(
        "# Made from {} by `ops config import`.\n{}",
        path.display().to_string().replace(['\n', '\r'], " "),
        yaml::to_string(&imported.profile)?
    );
    let name = args.name.as_deref().unwrap_or("imported");
    if !is_name(name) {
        return Err(Error::usage(format!(
            "`{name}` cannot be the name of a profile"
        )));
    }
    let file = ConfigFile::new_profile(cx, name);
    for left in &imported.left_out {
        cx.output().warn(format!("left out: {left}"));
    }
    if let Some(mistake) = file.mistakes(cx, &text)?.first() {
        return Err(
            Error::usage("what is there makes no profile").caused_by(mistake_reason(mistake))
        );
    }
    if args.name.is_none() {
        cx.output().through_pager(|| cx.output().page(&text))?;
        cx.output()
            .note("written nowhere yet: --name NAME makes it a profile");
        return Ok(Exit::SUCCESS);
    }
    if team_profiles(cx)?.iter().any(|found| found.name == name) {
        return Err(Error::usage(format!("there is a profile `{name}` already"))
            .hint(hint!("change it: ops config edit {}", name)));
    }
    file.write(&text)?;
    cx.output()
        .note(format!("written: {}", file.path.display()));
    Ok(Exit::SUCCESS)
}

/// `{profile, region}` under `aws`, without what is not known.
fn aws_section(profile: Option<&str>, region: Option<&str>) -> Map<String, Json> {
    let mut aws = Map::new();
    for (key, value) in [("profile", profile), ("region", region)] {
        if let Some(value) = value {
            aws.insert(key.to_owned(), json!(value));
        }
    }
    aws
}

/// aws-gate: `defaults: {profile, region}` and `hosts`, a list of `{alias, name, profile, region}`.
/// A profile of ours has one AWS profile: the hosts of others are left out.
fn aws_gate(path: &Path, text: &str, wanted: Option<&str>) -> Result<Imported> {
    let source = Arc::new(Source {
        path: path.to_owned(),
        text: text.to_owned(),
    });
    let tree = yaml::parse(&source).map_err(|problem| {
        Error::usage(format!("{} is no YAML", path.display())).caused_by(&problem.message)
    })?;
    let text_of = |node: Option<&Node>, key: &str| match &node?.get(key)?.value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    };
    let defaults = tree.get("defaults");
    let empty = Vec::new();
    let hosts = match tree.get("hosts").map(|node| &node.value) {
        Some(Value::List(hosts)) => hosts,
        _ => &empty,
    };
    let profile_of =
        |host: &Node| text_of(Some(host), "profile").or_else(|| text_of(defaults, "profile"));
    let region_of =
        |host: &Node| text_of(Some(host), "region").or_else(|| text_of(defaults, "region"));
    let profile = wanted
        .map(str::to_owned)
        .or_else(|| text_of(defaults, "profile"))
        .or_else(|| hosts.first().and_then(profile_of));
    let is_ours = |host: &&Node| profile_of(host) == profile;
    let region = hosts
        .iter()
        .find(is_ours)
        .and_then(region_of)
        .or_else(|| text_of(defaults, "region"));

    let mut imported = Imported::default();
    let mut names = Map::new();
    for host in hosts {
        let Some(alias) = text_of(Some(host), "alias") else {
            imported.left_out.push("a host without an alias".to_owned());
            continue;
        };
        if profile_of(host) != profile || region_of(host) != region {
            let other = profile_of(host).unwrap_or_else(|| "none".to_owned());
            let region = region_of(host).unwrap_or_else(|| "no region".to_owned());
            imported.left_out.push(format!(
                "{alias}: AWS profile {other}, {region}; a profile of its own is needed"
            ));
            continue;
        }
        match text_of(Some(host), "name") {
            Some(name) => {
                names.insert(alias, json!({ "target": name }));
            }
            None => imported
                .left_out
                .push(format!("{alias}: it names no server")),
        }
    }
    let aws = aws_section(profile.as_deref(), region.as_deref());
    if !aws.is_empty() {
        imported.profile.insert("aws".to_owned(), aws.into());
    }
    if !names.is_empty() {
        imported.profile.insert("hosts".to_owned(), names.into());
    }
    Ok(imported)
}

/// A profile of the AWS configuration. Credentials, roles and log-ins stay there: ours names it.
fn aws_config(path: &Path, text: &str, wanted: Option<&str>) -> Result<Imported> {
    let files = AwsFiles::of_config(text);
    let names: Vec<&str> = files.names().collect();
    let name = match (wanted, names.as_slice()) {
        (Some(wanted), _) if files.has(wanted) => wanted,
        (None, [one]) => one,
        _ => {
            return Err(
                Error::usage(format!("which profile of {}?", path.display()))
                    .caused_by(format!("there are: {}", names.join(", ")))
                    .hint("name one: --aws-profile NAME"),
            );
        }
    };
    let mut imported = Imported::default();
    let mut aws = aws_section(Some(name), files.region(name));
    let of_role = files
        .get(name, "role_arn")
        .and_then(|arn| arn.split(':').nth(4));
    if let Some(account) = files.get(name, "sso_account_id").or(of_role) {
        aws.insert("account".to_owned(), json!(account));
    }
    imported
        .profile
        .insert("description".to_owned(), json!(name));
    imported.profile.insert("aws".to_owned(), aws.into());
    if let Some(output) = files.get(name, "output") {
        imported
            .left_out
            .push(format!("output = {output}: it is a form of the AWS CLI"));
    }
    imported.left_out.push(format!(
        "credentials, roles and log-ins: they stay in {}, which this profile names",
        path.display()
    ));
    Ok(imported)
}

/// Hosts with an instance's id, or a ProxyCommand that starts a session. Each becomes a name of the
/// team with what ssh is told for it; `LocalForward` becomes a forward.
fn ssh_config(text: &str) -> Imported {
    let mut imported = Imported::default();
    let (mut hosts, mut forwards) = (Map::new(), Map::new());
    let mut regions = BTreeMap::new();
    for (aliases, options) in host_blocks(text) {
        let option = |key: &str| options.iter().find(|(name, _)| name == key).map(|(_, v)| v);
        let proxy = option("proxycommand")
            .map(String::as_str)
            .unwrap_or_default();
        let is_session = ["ssm", "session-manager", "aws-gate", "ops ssh-proxy"]
            .iter()
            .any(|word| proxy.contains(word));
        for alias in &aliases {
            let hostname = option("hostname").unwrap_or(alias);
            if alias.contains(['*', '?', '!']) {
                imported
                    .left_out
                    .push(format!("Host {alias}: a pattern is no server"));
                continue;
            }
            if !is_session && !is_instance_id(hostname) {
                imported
                    .left_out
                    .push(format!("Host {alias}: it is not reached by a session"));
                continue;
            }
            let mut host = Map::new();
            host.insert("target".to_owned(), json!(hostname));
            let mut ssh = Map::new();
            for (key, ours) in [("user", "user"), ("identityfile", "identity_file")] {
                if let Some(value) = option(key) {
                    ssh.insert(ours.to_owned(), json!(value));
                }
            }
            if let Some(port) = option("port").and_then(|port| port.parse::<u16>().ok()) {
                ssh.insert("port".to_owned(), json!(port));
            }
            if !ssh.is_empty() {
                host.insert("ssh".to_owned(), ssh.into());
            }
            hosts.insert(alias.clone(), host.into());
            for (_, value) in options.iter().filter(|(name, _)| name == "localforward") {
                match value.split_once(char::is_whitespace) {
                    Some((listen, to)) => {
                        let port = listen.rsplit(':').next().unwrap_or(listen);
                        let listen = listen
                            .parse::<u16>()
                            .map_or(json!(listen), |port| json!(port));
                        let forward = json!({ "via": alias, "listen": listen, "to": to.trim() });
                        forwards.insert(format!("{alias}-{port}"), forward);
                    }
                    None => imported
                        .left_out
                        .push(format!("Host {alias}: LocalForward {value}")),
                }
            }
            for (name, _) in &options {
                let known = [
                    "hostname",
                    "user",
                    "identityfile",
                    "port",
                    "localforward",
                    "proxycommand",
                ];
                if !known.contains(&name.as_str()) {
                    imported.left_out.push(format!("Host {alias}: {name}"));
                }
            }
            for (flag, key) in [("--profile", "profile"), ("--region", "region")] {
                let mut words = proxy.split_whitespace().skip_while(|word| *word != flag);
                if let Some(value) = words.nth(1) {
                    regions
                        .entry(key)
                        .or_insert_with(Vec::new)
                        .push(value.to_owned());
                }
            }
        }
    }
    let mut aws = Map::new();
    for (key, mut values) in regions {
        values.sort();
        values.dedup();
        match values.as_slice() {
            [one] => {
                aws.insert(key.to_owned(), json!(one));
            }
            several => imported
                .left_out
                .push(format!("{key}: there are {}", several.join(", "))),
        }
    }
    for (key, map) in [("aws", aws), ("hosts", hosts), ("forwards", forwards)] {
        if !map.is_empty() {
            imported.profile.insert(key.to_owned(), map.into());
        }
    }
    imported
}

/// The names of a `Host`, and what is said for them: keywords in small letters and their values.
type HostBlock = (Vec<String>, Vec<(String, String)>);

/// The blocks of an OpenSSH configuration: the names of `Host`, and what is said for them with
/// keywords in small letters. `Match` is a block of nobody.
fn host_blocks(text: &str) -> Vec<HostBlock> {
    let mut blocks: Vec<HostBlock> = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let end = line
            .find(|c: char| c.is_whitespace() || c == '=')
            .unwrap_or(line.len());
        let (keyword, value) = line.split_at(end);
        let value = value
            .trim_start_matches(|c: char| c.is_whitespace() || c == '=')
            .trim();
        let value = value.trim_matches('"');
        match keyword.to_ascii_lowercase().as_str() {
            "host" => {
                let names = value
                    .split_whitespace()
                    .map(|name| name.trim_matches('"').to_owned());
                blocks.push((names.collect(), Vec::new()));
            }
            "match" => blocks.push((Vec::new(), Vec::new())),
            keyword => {
                if let Some((_, options)) = blocks.last_mut() {
                    options.push((keyword.to_owned(), value.to_owned()));
                }
            }
        }
    }
    blocks
}
