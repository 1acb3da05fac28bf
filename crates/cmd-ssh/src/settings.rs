//! What the profile says about ssh for one instance, and how a process of ours finds its way back to the same account and region.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use ops_core::{
    Context, Error, Instance, Origin, Result,
    profile::{Auth, HostKeys, Ssh},
    resolve::Choice,
};

/// The profile's `ssh` section for one instance, defaults filled in.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) user: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) identity: Option<PathBuf>,
    pub(crate) auth: Option<Auth>,
    pub(crate) host_keys: HostKeys,
    pub(crate) control_master: bool,
    pub(crate) host_prefix: String,
    pub(crate) options: Vec<(String, String)>,
    pub(crate) local_forwards: Vec<String>,
}

impl Settings {
    /// For `instance`; what the entry of `hosts` that means it says comes first.
    pub(crate) fn of(cx: &Context, instance: &Instance) -> Result<Self> {
        let profile = cx.profile()?;
        let host = profile.hosts.values().find(|host| {
            host.target.as_ref().is_some_and(|target| {
                target.as_str() == instance.id || Some(target.as_str()) == instance.name.as_deref()
            })
        });
        let ssh = match host {
            Some(host) => profile.ssh.with(&host.ssh),
            None => profile.ssh.clone(),
        };
        let user = ssh.user_for(instance).map(str::to_owned);
        Ok(Self::from_section(cx, &ssh, user))
    }

    /// Whether the profile tells users by the platform, which only Systems Manager knows.
    pub(crate) fn ask_for_platforms(cx: &Context) -> Result<bool> {
        let profile = cx.profile()?;
        let hosts = profile.hosts.values().flat_map(|host| &host.ssh.users);
        let mut rules = profile.ssh.users.iter().chain(hosts);
        Ok(rules.any(|rule| rule.on.platform.is_some()))
    }

    /// For instances that nothing is known of.
    pub(crate) fn of_profile(cx: &Context) -> Result<Self> {
        let ssh = &cx.profile()?.ssh;
        let user = ssh.user.as_ref().map(|user| user.as_str().to_owned());
        Ok(Self::from_section(cx, ssh, user))
    }

    fn from_section(cx: &Context, ssh: &Ssh, user: Option<String>) -> Self {
        Self {
            user,
            port: ssh.port,
            identity: ssh.identity_path(&cx.paths().home),
            auth: ssh.auth,
            host_keys: ssh.host_keys.unwrap_or(HostKeys::AcceptNew),
            control_master: ssh.control_master.unwrap_or(false),
            host_prefix: ssh.host_prefix.clone().unwrap_or_default(),
            options: ssh
                .options
                .iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            local_forwards: ssh.local_forwards.iter().map(ToString::to_string).collect(),
        }
    }
}

/// The words that start this program again with the same profile, account and region, from the environment it has now.
pub(crate) fn program_words(cx: &Context, region: &str) -> Result<Vec<String>> {
    words_for(
        cx,
        region,
        cx.globals().profile.as_deref(),
        cx.globals().aws_profile.as_deref(),
    )
}

/// As [`program_words`], for a file: what the environment and the user's own configuration say now is fixed too.
pub(crate) fn lasting_words(cx: &Context, region: &str) -> Result<Vec<String>> {
    let settings = cx.settings()?;
    let team = settings.profile.value.as_deref();
    let aws = match settings.aws_profile.origin {
        // The team profile, fixed above, says it.
        Origin::Profile(_) => None,
        // Keys in the environment count more than this: naming a profile now would make it stronger than they are.
        Origin::Variable(_) if cx.env().var("AWS_ACCESS_KEY_ID").is_some() => None,
        _ => settings.aws_profile.value.as_deref(),
    };
    words_for(cx, region, team, aws)
}

fn words_for(
    cx: &Context,
    region: &str,
    profile: Option<&str>,
    aws_profile: Option<&str>,
) -> Result<Vec<String>> {
    let program = cx.program()?;
    let program = program.into_os_string().into_string().map_err(|path| {
        Error::unexpected(format!(
            "ops lies at `{}`, which is no UTF-8",
            path.to_string_lossy().escape_debug()
        ))
    })?;
    let globals = cx.globals();
    let mut words = vec![program];
    let mut option = |name: &str, value: &str| words.extend([name.to_owned(), value.to_owned()]);
    if let Some(folders) = globals.profiles_dir.as_ref().and_then(|dirs| dirs.to_str()) {
        option("--profiles-dir", folders);
    }
    if let Some(profile) = profile {
        option("--profile", profile);
    }
    if let Some(profile) = aws_profile {
        option("--aws-profile", profile);
    }
    option("--region", region);
    if globals.sandbox {
        words.push("--sandbox".to_owned());
    }
    Ok(words)
}

/// What `--first` and `--newest` ask for.
pub(crate) fn choice(first: bool, newest: bool) -> Choice {
    match (first, newest) {
        (true, _) => Choice::First,
        (_, true) => Choice::Newest,
        _ => Choice::Ask,
    }
}

/// Reads `accept-new`, `ssm` and `off`.
pub(crate) fn host_keys_parser() -> impl clap::builder::TypedValueParser<Value = HostKeys> {
    PossibleValuesParser::new(["accept-new", "ssm", "off"]).map(|text| match text.as_str() {
        "ssm" => HostKeys::Ssm,
        "off" => HostKeys::Off,
        _ => HostKeys::AcceptNew,
    })
}
