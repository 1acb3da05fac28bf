//! `ops ssh`: the system's ssh, with the right options for one instance.

use std::{
    ffi::OsString,
    process::{ExitStatus, Stdio},
};

use ops_core::{
    Command, Context, Forms, Traits, Values,
    guard::{WorkLine, words_line},
    resolve::SessionArgs,
};
use ops_profile::{Auth, HostKeys, Instance, Target};
use ops_remote::ssh::{SshSettings, TemporaryKey, host_keys, image_user, public_path};
use ops_ui::{Error, ErrorKind, Exit, Hint, Result, Text, follower, hint, unwritable};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    log::Log,
    nameless, openssh,
    options::{self, KnownHosts, Options, path_text},
    refused, settings, words,
};

/// Run ssh to a server, through a session
///
/// Runs the system's ssh with the options that this target needs; no configuration has to be
/// installed. All of ssh's own options pass through, before or after the target (`-L`, `-R`,
/// `-D`, `-A`, `-t`, `-N`, `-v`, …), and its exit status comes back. Long options are those of ops.
#[derive(clap::Args, Debug)]
pub struct Ssh {
    /// Id, Name, tag:Key=Value, IP or DNS name; USER@ is who logs in
    #[arg(value_name = "TARGET", required_unless_present = "about_ssh")]
    target: Option<Target>,
    /// User on the server
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Log in with a key for the moment
    ///
    /// The key is made here, pushed by EC2 Instance Connect, and good for a minute.
    #[arg(long)]
    instance_connect: bool,
    /// How host keys are checked: accept-new, ssm, off
    ///
    /// accept-new trusts the first contact, ssm fetches them over a session first, off does not
    /// check.
    #[arg(long, value_name = "HOW", hide_possible_values = true, value_parser = settings::host_keys_parser())]
    host_keys: Option<HostKeys>,
    #[command(flatten)]
    session: SessionArgs,
    /// Words of ssh's own options, put here by `arrange`
    #[arg(long = "ssh-option", hide = true, allow_hyphen_values = true)]
    options: Vec<OsString>,
    /// ssh is asked about itself (`-V`, `-Q`), which takes no target; put here by `arrange`
    #[arg(long = "about-ssh", hide = true)]
    about_ssh: bool,
    /// Command to run there; ssh's own options stand before it
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Command for Ssh {
    const NAME: &'static str = "ssh";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("ops ssh web-1", "a login on web-1"),
        (
            "ops ssh deploy@web-1 -L 8080:localhost:80 -N",
            "with ssh's own options",
        ),
        (
            "ops ssh --instance-connect web-1 uptime",
            "no long-lived key needed",
        ),
    ];
    const TRAITS: Traits = Traits {
        pass_through: true,
        own_short_options: true,
        forms: Forms::Nothing,
        ..Traits::NONE
    };

    const COMPLETES: &'static [(&'static str, Values)] = &[("target", Values::Target)];

    fn arrange(args: Vec<OsString>, clap: &clap::Command) -> Vec<OsString> {
        words::arrange_words(args, |name| {
            clap.get_arguments().any(|arg| {
                arg.get_long_and_visible_aliases()
                    .is_some_and(|names| names.contains(&name))
                    && arg.get_action().takes_values()
            })
        })
    }

    async fn run(self, cx: Context) -> Result<Exit> {
        let Some(target) = self.target.as_ref().filter(|_| !self.about_ssh) else {
            return run_ssh(&cx, &self.options).await;
        };
        // Never from the cache: ssh keeps host keys by id, and the session is opened by a process
        // that knows nothing but the id.
        let mut instance = cx.resolve_now(target, self.session.choice()).await?;
        let only = std::slice::from_ref(&instance);
        let reason = self.session.reason.as_deref();
        cx.guard_work("ssh", only, reason, &self.work()).await?;
        let typed = words::option_value(&self.options, b'l', "User")
            .map(|user| String::from_utf8_lossy(user).into_owned());
        let asked = typed
            .clone()
            .or_else(|| target.user.clone())
            .or_else(|| self.user.clone());
        // The sandbox's image has a user too, and there nothing is slow.
        if asked.is_none()
            && (cx.globals().sandbox || SshSettings::ask_for_platforms(&cx)?)
            && let Some(known) = cx.with_agent(&instance).await
        {
            instance = known;
        }
        let settings = SshSettings::of(&cx, &instance)?;
        let user = asked.or_else(|| settings.user.clone());
        let own_key = words::option_value(&self.options, b'i', "IdentityFile").is_some();
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
        if cx.globals().quiet {
            // Errors only, as all of `ops` then. ssh's own `-q` would keep those back too.
            line.raw("LogLevel=ERROR");
        }
        let mut proxy = asked_words(&cx);
        proxy.push("ssh-proxy".to_owned());
        if let Some(key) = &key {
            let user = match &user {
                Some(user) => user.clone(),
                None => return Err(no_user(&cx, &instance).await),
            };
            let public = public_path(&key.path());
            proxy.extend(["--user".to_owned(), user, "--push-key".to_owned()]);
            proxy.push(path_text(&public)?.to_owned());
            if let Some(zone) = &instance.zone {
                proxy.extend(["--zone".to_owned(), zone.clone()]);
            }
            line.options(options::pushed_identity(&key.path())?);
        } else if !own_key {
            line.options(options::identity_options(&settings)?);
        }
        let folder =
            unwritable::temporary_dir_for("what ssh and ops ssh-proxy report", "ops-ssh-")?;
        let report = folder.path().join("report");
        proxy.extend(["--report".to_owned(), path_text(&report)?.to_owned()]);
        if let Some(reason) = &self.session.reason {
            proxy.extend(["--reason".to_owned(), reason.clone()]);
        }
        // Only Linux tells ssh when this process is gone. ssh in the background is meant to stay.
        if cfg!(not(target_os = "linux")) && !words::has_flag(&self.options, b'f') {
            proxy.extend(["--owner".to_owned(), std::process::id().to_string()]);
        }
        line.proxy(&cx, &instance, &proxy)?;
        if let Some(user) = user.filter(|_| typed.is_none()) {
            line.words.extend(["-l".into(), user.into()]);
        }
        let port = words::option_value(&self.options, b'p', "Port");
        if let Some(port) = settings.port.filter(|_| port.is_none()) {
            line.words.extend(["-p".into(), port.to_string().into()]);
        }
        let policy = self.host_keys.unwrap_or(settings.host_keys);
        let known = KnownHosts::of(&cx, instance.label(), folder.path(), policy);
        if policy == HostKeys::Ssm {
            // Under its alias a server is known without its port.
            let reason = self.session.reason.clone();
            host_keys::pin(&cx, &instance, 22, known.written(), reason).await?;
        }
        line.options(options::host_keys(policy, &known)?);
        line.raw(&format!("HostKeyAlias={}", instance.id));
        line.options(options::agent_forwarding(&settings));
        line.options(options::sharing_options(&cx, &settings)?);
        line.options(options::further_options(&settings)?);
        for forward in &settings.local_forwards {
            line.words.extend(["-L".into(), forward.into()]);
        }
        // ssh looks for options behind the host too, unless `--` stands in front of it: neither an
        // id nor a command is ever one.
        line.words.extend(["--".into(), instance.id.clone().into()]);
        line.words.extend(self.command.iter().cloned());
        cx.output().detail(format!(
            "ssh {}",
            words::shown_words(line.words.iter().map(OsString::as_os_str))
        ));
        // ssh in the background goes on writing its messages after our end, and who names a log for
        // them (`-E`, `-y`) has them there.
        let has_own_log = words::option_value(&self.options, b'E', "").is_some()
            || [b'y', b'f']
                .into_iter()
                .any(|flag| words::has_flag(&self.options, flag));
        let log = match has_own_log {
            true => None,
            false => Log::open(&cx, folder.path()).ok(),
        };
        let logging = log.iter().flat_map(Log::words);
        let all: Vec<OsString> = logging.chain(line.words.iter().cloned()).collect();
        // Until the end: the status of an ssh that was interrupted is ssh's, and not that of an
        // interrupted `ops`.
        let _handled = cx.interrupt().handle();
        let exit = run_ssh(&cx, &all).await?;
        let is_refused = log.is_some_and(Log::finish);
        if exit == Exit::PASS_THROUGH {
            let said = std::fs::read_to_string(&report).unwrap_or_default();
            if !said.is_empty() {
                cx.output().warn_line(Text::foreign(said));
            } else if cx.interrupt().requested().is_some() {
                // Whoever ended it knows why it ended.
            } else if is_refused {
                refused::tell_refused(&cx, &instance, &line.words, key.is_some()).await;
            } else {
                nameless::tell_nameless(&cx, &instance).await;
            }
        }
        Ok(exit)
    }
}

impl Ssh {
    /// What is run there, for whoever has to confirm it. ssh itself joins the words for the shell
    /// of the server, so that none of them is quoted.
    fn work(&self) -> Vec<WorkLine> {
        let words: Vec<_> = self
            .command
            .iter()
            .map(|word| word.to_string_lossy())
            .collect();
        if words.is_empty() {
            return Vec::new();
        }
        vec![words_line("command:", &Hint::document(&words.join(" ")))]
    }
}

/// EC2 Instance Connect was asked for, and nobody has said for whom.
async fn no_user(cx: &Context, instance: &Instance) -> Error {
    let of_image = image_user::of_instance(cx, instance).await;
    Error::usage(format!("no user is known for `{}`", instance.label()))
        .caused_by("EC2 Instance Connect lets one user in, so it has to be named")
        .hint(hint!(
            "ops ssh --instance-connect {}@{}",
            of_image.unwrap_or(image_user::USUAL),
            instance.target_word()
        ))
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

    fn options(&mut self, options: Options) {
        for (key, value) in options {
            self.raw(&format!("{key}={value}"));
        }
    }

    fn proxy(&mut self, cx: &Context, instance: &Instance, rest: &[String]) -> Result<()> {
        let mut words = settings::program_words(cx, &instance.region)?;
        words.extend_from_slice(rest);
        let command = crate::config_text::proxy_command(&words, &["--", "%h", "%p"])
            .map_err(|why| Error::usage("ssh cannot be told how to run ops").caused_by(why))?;
        self.raw(&format!("ProxyCommand={command}"));
        Ok(())
    }
}

/// Global options for the ssh-proxy under ssh: how much it says, how long it may take, and that
/// what the guard asks has been answered here.
fn asked_words(cx: &Context) -> Vec<String> {
    let mut words = vec!["--yes".to_owned()];
    words.extend((0..cx.globals().verbose).map(|_| "--verbose".to_owned()));
    if cx.globals().quiet {
        words.push("--quiet".to_owned());
    }
    if let Some(limit) = cx.globals().timeout {
        words.extend(["--timeout".to_owned(), format!("{}ms", limit.as_millis())]);
    }
    words
}

/// Runs ssh on this terminal and gives its status; a signal's is 128 and its number, as a shell has
/// it.
async fn run_ssh(cx: &Context, words: &[OsString]) -> Result<Exit> {
    let program = openssh::find_program(cx, "ssh").ok_or_else(|| {
        Error::new(ErrorKind::Unexpected, "no ssh client was found on PATH")
            .hint("install one: apt install openssh-client, dnf install openssh-clients, brew install openssh")
            .hint("or do without: ops shell TARGET")
    })?;
    let handler = cx.interrupt().handle();
    // ssh, and with it the session, must not outlive this process: nobody could end them then but
    // by their process ids.
    let mut follower = follower::start(&program, words, |command| {
        command
            .env_clear()
            .envs(cx.env().iter())
            .stdin(Stdio::inherit())
            .stdout(Stdio::inherit())
            .stderr(Stdio::inherit());
    })
    .await
    .map_err(|error| Error::unexpected("cannot run ssh").caused_by(error))?;
    let child = &mut follower.child;
    let mut children = signal(SignalKind::child())?;
    let mut told = false;
    loop {
        tokio::select! {
            status = child.wait() => return Ok(exit_of(status?)),
            // `~^Z` stops ssh alone; the shell that started us waits for us to stop too.
            _ = children.recv() => if let Some(pid) = pid_of(child) && has_stopped(pid) {
                rustix::process::kill_process(rustix::process::getpid(), Signal::STOP).map_err(std::io::Error::from)?;
            },
            // A terminal's Ctrl-C reaches ssh by itself; what is sent to ops alone is passed on,
            // and ssh decides how to end.
            error = handler.wait(), if !told => {
                told = true;
                let signal = match error.kind() {
                    ErrorKind::Interrupted => Signal::INT,
                    _ => Signal::TERM,
                };
                if let Some(pid) = pid_of(child) {
                    // It may have ended this moment.
                    let _ = rustix::process::kill_process(pid, signal);
                }
            }
        }
    }
}

fn pid_of(child: &tokio::process::Child) -> Option<Pid> {
    Pid::from_raw(child.id()?.cast_signed())
}

/// Whether `pid` has been stopped since this was last asked. An end is left for whoever waits for
/// it.
fn has_stopped(pid: Pid) -> bool {
    let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
    matches!(waitid(WaitId::Pid(pid), options), Ok(Some(_)))
}

fn exit_of(status: ExitStatus) -> Exit {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok())
        .map_or(Exit::PASS_THROUGH, Exit::of)
}
