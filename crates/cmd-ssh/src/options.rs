//! Options that entries of ssh_config and `ops ssh` have in common.

use std::path::{Path, PathBuf};

use ops_core::Context;
use ops_profile::{Auth, HostKeys};
use ops_remote::ssh::{SshSettings, known_hosts};
use ops_ui::{Error, Result};

use crate::config_text;

/// Options of ssh_config with their values written.
pub(crate) type Options = Vec<(String, String)>;

fn config_option(key: &str, value: impl Into<String>) -> (String, String) {
    (key.to_owned(), value.into())
}

/// Where ssh looks for the keys of servers, the file first to which it adds new ones.
pub(crate) struct KnownHosts(Vec<PathBuf>);

impl KnownHosts {
    /// The file that lasts.
    ///
    /// # Errors
    /// Its folder cannot be made or written to.
    pub(crate) fn lasting(cx: &Context) -> Result<Self> {
        Ok(Self(vec![known_hosts::writable_file(cx)?]))
    }

    /// The file that lasts, or, where nothing can be written to it, one for this run in `folder`
    /// before it, which is told.
    pub(crate) fn of(cx: &Context, label: &str, folder: &Path, policy: HostKeys) -> Self {
        match known_hosts::writable_file(cx) {
            Ok(file) => Self(vec![file]),
            Err(error) => {
                if policy != HostKeys::Off {
                    known_hosts::tell_of_no_memory(cx, label, &error);
                }
                // Keys that were pinned once still count.
                Self(vec![folder.join("known_hosts"), known_hosts::file(cx)])
            }
        }
    }

    /// The file to which new keys are added.
    pub(crate) fn written(&self) -> &Path {
        &self.0[0]
    }
}

/// How host keys are checked.
///
/// # Errors
/// A path of known hosts cannot be named.
pub(crate) fn host_keys(policy: HostKeys, known: &KnownHosts) -> Result<Options> {
    if policy == HostKeys::Off {
        return Ok(vec![
            config_option("StrictHostKeyChecking", "no"),
            config_option("UserKnownHostsFile", "/dev/null"),
        ]);
    }
    let files: Result<Vec<String>> = known
        .0
        .iter()
        .map(|file| checked_path("the state folder's path", file))
        .collect();
    let strict = match policy {
        // The keys are pinned before ssh asks for them.
        HostKeys::Ssm => "yes",
        _ => "accept-new",
    };
    Ok(vec![
        config_option("UserKnownHostsFile", files?.join(" ")),
        config_option("StrictHostKeyChecking", strict),
    ])
}

/// No forwarding of the ssh agent, unless the profile wants it: whoever is root on a server could
/// use the user's keys.
pub(crate) fn agent_forwarding(settings: &SshSettings) -> Options {
    if settings
        .options
        .iter()
        .any(|(key, _)| key == "ForwardAgent")
    {
        return Options::new();
    }
    vec![config_option("ForwardAgent", "no")]
}

/// Who is let in by what, unless a key is pushed.
///
/// # Errors
/// The key's path cannot be written.
pub(crate) fn identity_options(settings: &SshSettings) -> Result<Options> {
    match &settings.identity {
        Some(file) if settings.auth != Some(Auth::Agent) => Ok(vec![config_option(
            "IdentityFile",
            checked_path("ssh.identity_file", file)?,
        )]),
        _ => Ok(Vec::new()),
    }
}

/// The key that is pushed, and no other: a server counts the keys it is offered.
///
/// # Errors
/// The key's path cannot be written.
pub(crate) fn pushed_identity(key: &Path) -> Result<Options> {
    Ok(vec![
        config_option("IdentityFile", checked_path("the key's path", key)?),
        config_option("IdentitiesOnly", "yes"),
    ])
}

/// Connection sharing, where the profile wants it.
///
/// # Errors
/// The folder of the sockets cannot be made.
pub(crate) fn sharing_options(cx: &Context, settings: &SshSettings) -> Result<Options> {
    if !settings.control_master {
        return Ok(Vec::new());
    }
    let paths = cx.paths();
    // Not the runtime folder if it can be helped: it goes with the last login, and ssh ends where a
    // socket's folder is missing.
    let folders = [
        paths.state.join("ssh"),
        paths.home.join(".ssh"),
        paths.runtime.clone(),
    ];
    let fitting = folders.into_iter().find_map(|folder| {
        let written = config_text::control_path(folder.to_str()?)?;
        Some((folder, written))
    });
    let Some((folder, written)) = fitting else {
        cx.output().note(
            "connections are not shared: no folder's path is short enough for a control socket",
        );
        return Ok(Vec::new());
    };
    paths.private_dir_for("sockets of shared connections", &folder)?;
    let mut options = vec![
        config_option("ControlMaster", "auto"),
        config_option("ControlPath", written),
    ];
    if !settings
        .options
        .iter()
        .any(|(key, _)| key == "ControlPersist")
    {
        options.push(config_option("ControlPersist", "60"));
    }
    Ok(options)
}

/// The profile's own `ssh.options`.
///
/// # Errors
/// A value that cannot stand in a configuration.
pub(crate) fn further_options(settings: &SshSettings) -> Result<Options> {
    let written = settings.options.iter().map(|(key, value)| {
        let value = config_text::option_value(key, value)
            .map_err(config_error(&format!("ssh.options.{key}")))?;
        Ok((key.clone(), value))
    });
    written.collect()
}

/// `text` as an argument.
///
/// # Errors
/// It has characters that cannot stand in one; `name` says what it is.
pub(crate) fn checked_argument(name: &str, text: &str) -> Result<String> {
    config_text::config_argument(text).map_err(config_error(name))
}

fn checked_path(name: &str, path: &Path) -> Result<String> {
    checked_argument(name, path_text(path)?)
}

/// A path as text.
///
/// # Errors
/// It is no UTF-8.
pub(crate) fn path_text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| {
        Error::usage(format!(
            "`{}` is no UTF-8",
            path.to_string_lossy().escape_debug()
        ))
    })
}

/// The error for what cannot stand in a configuration.
pub(crate) fn config_error(name: &str) -> impl Fn(&'static str) -> Error + use<> {
    let what = format!("{name} cannot stand in an ssh configuration");
    move |why| Error::usage(what.clone()).caused_by(why)
}
