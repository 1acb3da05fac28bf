//! What programs on an instance find in their environment: little, and nothing of the user's own
//! secrets.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use super::{keys, signals};
use crate::{fleet::Instance, fleet::InstanceState};

/// Variables of this machine that programs need to run at all.
const INHERITED: [&str; 5] = ["PATH", "USER", "LOGNAME", "TZ", "TMPDIR"];

/// Environment, home and shell of sessions on one instance.
#[derive(Clone, Debug)]
pub(super) struct Environment {
    pub(super) home: PathBuf,
    pub(super) variables: Vec<(OsString, OsString)>,
    hostname: String,
    shell: PathBuf,
}

impl Environment {
    /// # Errors
    /// The home or the host key cannot be made.
    pub(super) fn new(instance: &Instance, state: &InstanceState) -> io::Result<Self> {
        let home = state.home()?;
        let hostname = instance.hostname().to_owned();
        let shell = state.shell().map_or_else(shell_of_the_user, Path::to_owned);
        let mut variables: Vec<(OsString, OsString)> = std::env::vars_os()
            .filter(|(name, _)| {
                name.to_str().is_some_and(|name| {
                    INHERITED.contains(&name) || name == "LANG" || name.starts_with("LC_")
                })
            })
            .collect();
        if !variables
            .iter()
            .any(|(name, value)| name == "LANG" && !value.is_empty())
        {
            variables.push(("LANG".into(), "C.UTF-8".into()));
        }
        for (name, value) in [
            ("HOME", home.as_os_str()),
            ("SHELL", shell.as_os_str()),
            ("HOSTNAME", OsStr::new(&hostname)),
        ] {
            variables.push((name.into(), value.into()));
        }
        variables.push(("TERM".into(), "xterm-256color".into()));
        // Instances share one /etc here. Their host keys lie where this says, and are there before
        // the first connection, as on a real server.
        keys::host_key(state)?;
        variables.push(("OPS_SANDBOX_HOST_KEYS".into(), state.folder()?.into()));
        Ok(Self {
            home,
            variables,
            hostname,
            shell,
        })
    }

    /// A program with this environment, started in the home.
    pub(super) fn command(&self, program: impl AsRef<OsStr>) -> tokio::process::Command {
        signals::unignore();
        let program = program.as_ref();
        // With a name in place of a path, and a PATH of its own, std forks this whole process to
        // look for the program. A path is spawned without a copy of the sandbox's memory tables.
        let path = self.find_program(program);
        let mut command = tokio::process::Command::new(path.as_deref().unwrap_or(program.as_ref()));
        command
            .arg0(program)
            .env_clear()
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.home)
            .kill_on_drop(true);
        command
    }

    /// The first file of that name in the folders of `PATH` that may be run. `None` for what is a
    /// path already, and for what is not there.
    fn find_program(&self, name: &OsStr) -> Option<PathBuf> {
        let (_, folders) = self.variables.iter().find(|(name, _)| name == "PATH")?;
        if name.as_encoded_bytes().contains(&b'/') {
            return None;
        }
        std::env::split_paths(folders)
            .map(|folder| folder.join(name))
            // A relative folder would be one of the home, where the program begins.
            .filter(|path| path.is_absolute())
            .find(|path| {
                path.metadata()
                    .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
            })
    }

    /// The user's shell, interactive, with the instance's prompt whatever the user's own start
    /// files say.
    pub(super) fn interactive_shell(&self) -> tokio::process::Command {
        let name = self
            .shell
            .file_name()
            .and_then(OsStr::to_str)
            .unwrap_or("sh");
        let hostname = &self.hostname;
        let mut command = self.command(&self.shell);
        match name {
            "bash" => {
                command
                    .args(["--noprofile", "--norc", "-i"])
                    .env("PS1", format!(r"{}:\w$ ", quoted_for_bash(hostname)));
            }
            "zsh" => {
                command
                    .args(["-f", "-i"])
                    .env("PS1", format!("{}:%~$ ", hostname.replace('%', "%%")));
            }
            "fish" => {
                command
                    .args(["--no-config", "-i"])
                    .env("OPS_PROMPT", hostname)
                    .args([
                        "--init-command",
                        r#"function fish_prompt; echo -n "$OPS_PROMPT:"(prompt_pwd)"\$ "; end"#,
                    ]);
            }
            _ => {
                command.env(
                    "PS1",
                    format!("{}$ ", hostname.replace(['$', '`', '\\', '!'], "")),
                );
            }
        }
        command
    }

    /// The user's shell reading commands from a pipe.
    pub(super) fn plain_shell(&self) -> tokio::process::Command {
        self.command(&self.shell)
    }

    /// `script` run by `sh`, as the agent does it.
    pub(super) fn sh(&self, script: &str) -> tokio::process::Command {
        let mut command = self.command("sh");
        command.arg("-c").arg(script);
        command
    }

    /// `script` run by the user's shell, as an SSH server does it.
    pub(super) fn shell_command(&self, script: &OsStr) -> tokio::process::Command {
        let mut command = self.command(&self.shell);
        command.arg("-c").arg(script);
        command
    }

    /// The home with which paths begin that are not absolute.
    pub(super) fn home(&self) -> &Path {
        &self.home
    }
}

/// What `SHELL` names. Services and containers often have none set: bash then, where it is, as it
/// is what servers give.
fn shell_of_the_user() -> PathBuf {
    std::env::var_os("SHELL")
        .map(PathBuf::from)
        .into_iter()
        .chain(["/bin/bash".into(), "/usr/bin/bash".into()])
        .find(|shell| shell.is_file())
        .unwrap_or_else(|| "/bin/sh".into())
}

/// A name as part of bash's PS1, where backslashes and expansions would be read.
fn quoted_for_bash(name: &str) -> String {
    name.replace(['\\', '$', '`'], "")
}
