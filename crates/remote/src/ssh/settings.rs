//! What the profile says about ssh for one instance.

use std::path::PathBuf;

use ops_core::Context;
use ops_profile::{Auth, HostKeys, Instance, Kind, Ssh};
use ops_ui::Result;

use super::image_user;

/// The profile's `ssh` section for one instance, defaults filled in.
#[derive(Clone, Debug)]
pub struct SshSettings {
    /// Who logs in, where the profile says so.
    pub user: Option<String>,
    /// The port of sshd; `None` is 22.
    pub port: Option<u16>,
    /// The private key's file.
    pub identity: Option<PathBuf>,
    /// How the user is authenticated; `None` leaves it to what is there.
    pub auth: Option<Auth>,
    /// How the server's key is checked.
    pub host_keys: HostKeys,
    /// Whether connections to one server are shared.
    pub control_master: bool,
    /// What precedes names in `ops ssh-config`.
    pub host_prefix: String,
    /// Further keys of ssh_config and their values.
    pub options: Vec<(String, String)>,
    /// LocalForward lines.
    pub local_forwards: Vec<String>,
}

impl SshSettings {
    /// For `instance`; what the entry of `hosts` that means it says comes first.
    ///
    /// # Errors
    /// An invalid profile.
    pub fn of(cx: &Context, instance: &Instance) -> Result<Self> {
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
        let mut settings = Self::from_section(cx, &ssh, user);
        if instance.kind == Kind::Ec2 {
            settings.settle_for_sandbox(cx, instance.platform.as_deref());
        }
        Ok(settings)
    }

    /// The embedded sandbox needs no set-up: where neither a key nor another way to log in is
    /// named, EC2 Instance Connect lets the image's user in. AWS itself is asked for nothing that
    /// nobody has asked for.
    fn settle_for_sandbox(&mut self, cx: &Context, platform: Option<&str>) {
        if !cx.globals().sandbox || self.auth.is_some() || self.identity.is_some() {
            return;
        }
        self.auth = Some(Auth::InstanceConnect);
        if self.user.is_none() {
            let user = platform.and_then(image_user::of_platform);
            self.user = Some(user.unwrap_or(image_user::USUAL).to_owned());
        }
    }

    /// Whether the profile tells users by the platform, which only Systems Manager knows.
    ///
    /// # Errors
    /// An invalid profile.
    pub fn ask_for_platforms(cx: &Context) -> Result<bool> {
        let profile = cx.profile()?;
        let hosts = profile.hosts.values().flat_map(|host| &host.ssh.users);
        let mut rules = profile.ssh.users.iter().chain(hosts);
        Ok(rules.any(|rule| rule.on.platform.is_some()))
    }

    /// For instances that nothing is known of.
    ///
    /// # Errors
    /// An invalid profile.
    pub fn of_profile(cx: &Context) -> Result<Self> {
        let ssh = &cx.profile()?.ssh;
        let user = ssh.user.as_ref().map(|user| user.as_str().to_owned());
        let mut settings = Self::from_section(cx, ssh, user);
        settings.settle_for_sandbox(cx, None);
        Ok(settings)
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
