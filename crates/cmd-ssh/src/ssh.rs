//! `ops ssh`: the system's ssh, with the right options for one instance.

use std::{
    ffi::OsString,
    path::PathBuf,
    process::{ExitStatus, Stdio},
};

use ops_core::{
    Command, Context, Error, ErrorKind, Exit, Instance, Result, Target, Traits,
    profile::{Auth, HostKeys},
    ssh::{Settings, TemporaryKey, host_keys, known_hosts, public_path},
};

use crate::{
    settings::{self, choice},
    words,
};

/// Run ssh to an instance, through a session
///
/// Runs the system's ssh with the options that this target needs; no configuration has to be installed. All of ssh's own options pass through,
/// before or after the target (`-L`, `-R`, `-D`, `-A`, `-t`, `-N`, `-v`, …), and its exit status comes back. Long options are those of ops.
#[derive(clap::Args, Debug)]
pub struct Ssh {
    /// Instance id, Name, tag:Key=Value, IP or DNS name; USER@ logs in as that user
    #[arg(value_name = "TARGET")]
    target: Target,
    /// User on the instance
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Log in with a key made for the moment, pushed by EC2 Instance Connect
    #[arg(long)]
    instance_connect: bool,
    /// Host keys: accept-new trusts the first contact, ssm fetches them over a session first, off does not check
    #[arg(long, value_name = "HOW", value_parser = settings::host_keys_parser())]
    host_keys: Option<HostKeys>,
    /// Why, for the session's history
    #[arg(long, value_name = "TEXT", env = "OPS_REASON")]
    reason: Option<String>,
    /// Of several matches the first by name, then the oldest launch
    #[arg(long, conflicts_with = "newest")]
    first: bool,
    /// Of several matches the newest launch
    #[arg(long)]
    newest: bool,
    /// Words of ssh's own options, put here by `arrange`
    #[arg(long = "ssh-option", hide = true, allow_hyphen_values = true)]
    options: Vec<OsString>,
    /// Command to run on the instance; all of ssh's options may stand before it
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Command for Ssh {
    const NAME: &'static str = "ssh";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("ops ssh web-1", "a login on web-1"),
        (
            "ops ssh deploy@web-1 -L 8080:localhost:80 -N",
            "ssh's own options pass through",
        ),
        (
            "ops ssh --instance-connect web-1 uptime",
            "no long-lived key needed",
        ),
    ];
    const TRAITS: Traits = Traits {
        pass_through: true,
        own_short_options: true,
        hidden: false,
    };

    fn arrange(args: Vec<OsString>, clap: &clap::Command) -> Vec<OsString> {
        words::arrange(args, |name| {
            clap.get_arguments().any(|arg| {
                arg.get_long_and_visible_aliases()
                    .is_some_and(|names| names.contains(&name))
                    && arg.get_action().takes_values()
            })
        })
    }

    async fn run(self, cx: Context) -> Result<Exit> {
        let instance = cx
            .resolve(&self.target, choice(self.first, self.newest))
            .await?;
        cx.guard(
            "ssh",
            std::slice::from_ref(&instance),
            self.reason.as_deref(),
        )
        .await?;
        let settings = Settings::of(&cx, &instance)?;
        let user = self
            .target
            .user
            .clone()
            .or_else(|| self.user.clone())
            .or_else(|| settings.user.clone());
        let own_key = words::has(&self.options, b'i');
        let connect =
            self.instance_connect || (settings.auth == Some(Auth::InstanceConnect) && !own_key);
        let key = if connect {
            Some(TemporaryKey::new()?)
        } else {
            None
        };

        let mut line = Line::default();
        // ssh takes the first value it is given for an option, so the user's own come first.
        line.words.extend(self.options.iter().cloned());
        let mut proxy = vec!["ssh-proxy".to_owned()];
        if let Some(key) = &key {
            let user = user.clone().ok_or_else(|| {
                Error::usage(format!("no user is known for `{}`", instance.label()))
                    .caused_by("EC2 Instance Connect lets one user in, so it has to be named")
                    .hint(format!(
                        "ops ssh --instance-connect ec2-user@{}",
                        instance.label()
                    ))
            })?;
            proxy.extend(["--user".to_owned(), user, "--push-key".to_owned()]);
            proxy.push(text(public_path(&key.path()))?);
            line.option("IdentityFile", &text(key.path())?)?;
            line.raw("IdentitiesOnly=yes");
        } else if let Some(file) = settings
            .identity
            .as_ref()
            .filter(|_| !own_key && settings.auth != Some(Auth::Agent))
        {
            line.option("IdentityFile", &text(file.clone())?)?;
        }
        if let Some(reason) = &self.reason {
            proxy.extend(["--reason".to_owned(), reason.clone()]);
        }
        line.proxy(&cx, &instance, &proxy)?;
        if let Some(user) = user.as_deref().filter(|_| !words::has(&self.options, b'l')) {
            line.words.extend(["-l".into(), user.into()]);
        }
        if let Some(port) = settings.port.filter(|_| !words::has(&self.options, b'p')) {
            line.words.extend(["-p".into(), port.to_string().into()]);
        }
        let policy = self.host_keys.unwrap_or(settings.host_keys);
        let known_hosts = known_hosts::file(&cx);
        match policy {
            HostKeys::Off => {
                line.raw("StrictHostKeyChecking=no");
                line.raw("UserKnownHostsFile=/dev/null");
            }
            HostKeys::AcceptNew | HostKeys::Ssm => {
                ops_core::paths::private_dir(cx.paths().state.join("ssh"))?;
                line.option("UserKnownHostsFile", &text(known_hosts.clone())?)?;
                if policy == HostKeys::Ssm {
                    host_keys::pin(&cx, &instance, &known_hosts, self.reason.clone()).await?;
                    line.raw("StrictHostKeyChecking=yes");
                } else {
                    line.raw("StrictHostKeyChecking=accept-new");
                }
            }
        }
        line.raw(&format!("HostKeyAlias={}", instance.id));
        for (key, value) in &settings.options {
            line.option(key, value)?;
        }
        for forward in &settings.local_forwards {
            line.words.extend(["-L".into(), forward.into()]);
        }
        line.words.push(instance.id.clone().into());
        if !self.command.is_empty() {
            line.words.push("--".into());
            line.words.extend(self.command.iter().cloned());
        }
        cx.output().detail(format!(
            "ssh {}",
            words::shown(line.words.iter().map(OsString::as_os_str))
        ));
        run(&cx, &line.words).await
    }
}

/// ssh's command line as it grows.
#[derive(Default)]
struct Line {
    words: Vec<OsString>,
}

impl Line {
    fn raw(&mut self, option: &str) {
        self.words.extend(["-o".into(), option.into()]);
    }

    fn option(&mut self, key: &str, value: &str) -> Result<()> {
        let value = crate::config_text::argument(value)
            .map_err(|why| Error::usage(format!("ssh cannot be given `{key}`")).caused_by(why))?;
        self.raw(&format!("{key}={value}"));
        Ok(())
    }

    fn proxy(&mut self, cx: &Context, instance: &Instance, rest: &[String]) -> Result<()> {
        let mut words = settings::program_words(cx, &instance.region)?;
        words.extend_from_slice(rest);
        let command = crate::config_text::proxy_command(&words, &["%h", "%p"])
            .map_err(|why| Error::usage("ssh cannot be told how to run ops").caused_by(why))?;
        self.raw(&format!("ProxyCommand={command}"));
        Ok(())
    }
}

fn text(path: PathBuf) -> Result<String> {
    path.into_os_string().into_string().map_err(|path| {
        Error::usage(format!(
            "`{}` is no UTF-8",
            path.to_string_lossy().escape_debug()
        ))
    })
}

/// Runs ssh on this terminal and gives its status; a signal's is 128 and its number, as a shell has it.
async fn run(cx: &Context, words: &[OsString]) -> Result<Exit> {
    let mut command = tokio::process::Command::new("ssh");
    command
        .args(words)
        .env_clear()
        .envs(cx.env().iter())
        .stdin(Stdio::inherit())
        .stdout(Stdio::inherit())
        .stderr(Stdio::inherit());
    let handler = cx.interrupt().handle();
    let mut child = command.spawn().map_err(|error| {
        if error.kind() == std::io::ErrorKind::NotFound {
            Error::new(ErrorKind::Unexpected, "no ssh client was found on PATH")
                .hint("install one: apt install openssh-client, dnf install openssh-clients, brew install openssh")
                .hint("or do without: ops shell TARGET")
        } else {
            Error::unexpected("cannot run ssh").caused_by(error)
        }
    })?;
    let mut told = false;
    loop {
        tokio::select! {
            status = child.wait() => return Ok(exit_of(status?)),
            // A terminal's Ctrl-C reaches ssh by itself; what is sent to ops alone is passed on, and ssh decides how to end.
            error = handler.wait(), if !told => {
                told = true;
                let signal = match error.kind() {
                    ErrorKind::Interrupted => rustix::process::Signal::INT,
                    _ => rustix::process::Signal::TERM,
                };
                if let Some(pid) = child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed())) {
                    // It may have ended this moment.
                    let _ = rustix::process::kill_process(pid, signal);
                }
            }
        }
    }
}

fn exit_of(status: ExitStatus) -> Exit {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok())
        .map_or(Exit::PASS_THROUGH, Exit::of)
}
