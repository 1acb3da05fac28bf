//! The command.

use std::ffi::OsString;
use std::time::Duration;

use ops_core::{Command, Context, Values, connect::check_remote_host, resolve::SessionArgs};
use ops_ui::{Error, ErrorKind, Exit, Format, Result, globals::parse_duration};

use crate::background;
use crate::control::{self, Request};
use crate::plan::{self, Typed};
use crate::pool::Limits;
use crate::run::{self, Wishes};
use crate::status;

/// Sessions that a busy destination may grow to when nothing else is asked for.
const DEFAULT_SESSIONS: usize = 4;

/// Forward local ports to what an instance can reach
///
/// Listens on 127.0.0.1 and carries every connection through Session Manager: to a port of the
/// instance itself, or to any host and port that it can reach. No open port, no SSH server, no key.
///
/// SPEC is one of PORT a port of the instance, the same port here LOCAL:PORT another port here; 0
/// is any free one, which is printed LOCAL:HOST:PORT a host as the instance knows it
/// BIND:LOCAL:HOST:PORT another address to listen on, `*` for all PATH:HOST:PORT a unix socket here
/// with IPv6 addresses in brackets. If every word is the name of a forward of the team profile,
/// those are started.
///
/// The tunnels stay up: the hourly end of the connection, a lost network and a suspended laptop are
/// waited out, and nothing is lost unless the session itself has ended. Ctrl-C ends it: listeners
/// first, then, after a moment, connections.
///
/// With a command after `--` the tunnels are up as long as it runs, and its exit code is returned.
/// It finds them in OPS_FORWARD_0_ADDR, _HOST and _PORT (by number and by name), or in its
/// arguments: {0.port}, {db.addr}.
#[derive(clap::Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct Forward {
    /// TARGET and SPECs, or names of forwards of the profile
    #[arg(value_name = "NAME|TARGET SPEC")]
    words: Vec<String>,
    /// Start every forward of a group of the profile
    #[arg(long, value_name = "NAME")]
    group: Vec<String>,
    /// List the forwards of the profile
    #[arg(long, conflicts_with_all = ["words", "group", "socks", "status", "stop", "background"])]
    list: bool,
    /// SOCKS5 proxy; names are resolved on the far side
    #[arg(short = 'D', long, value_name = "[BIND:]PORT")]
    socks: Vec<String>,
    /// Return once the listeners are ready, and go on in the background
    #[arg(short = 'd', long, conflicts_with = "command")]
    background: bool,
    /// Show what is being forwarded
    #[arg(long, conflicts_with_all = ["words", "group", "socks", "stop", "background"])]
    status: bool,
    /// Stop a forward: its name, local port, target or process id, or all
    #[arg(long, value_name = "NAME|all", conflicts_with_all = ["words", "group", "socks", "background"])]
    stop: Option<String>,
    /// Sessions side by side for each destination; without this one more than are in use, up to 4
    #[arg(long, value_name = "N", env = "OPS_FORWARD_SESSIONS", value_parser = clap::value_parser!(u8).range(1..=16))]
    sessions: Option<u8>,
    /// How long open connections may take to end
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = parse_duration)]
    grace: Duration,
    /// With -D: when the sessions of a destination without connections are ended
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    idle: Duration,
    /// Start none where one of several cannot start; so it is for a command too
    #[arg(long)]
    all_or_nothing: bool,
    #[command(flatten)]
    session: SessionArgs,
    /// Be the process in the background
    #[arg(long, hide = true)]
    owner: bool,
    /// A command to run while the tunnels are up
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Command for Forward {
    const NAME: &'static str = "forward";
    const ALIASES: &'static [&'static str] = &["fwd"];
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        (
            "ops forward bastion 3307:db.internal:3306",
            "127.0.0.1:3307 is the database behind the bastion",
        ),
        (
            "ops forward reporting-db",
            "a forward that the team profile names",
        ),
        (
            "ops forward -d --group dev",
            "all forwards of a group, in the background",
        ),
        (
            "ops forward web-1 0:5432 -- psql -h {0.host} -p {0.port}",
            "a tunnel as long as a command runs",
        ),
        ("ops forward bastion -D 1080", "a SOCKS5 proxy"),
    ];

    const COMPLETES: &'static [(&'static str, Values)] = &[
        ("words", Values::ForwardWord),
        ("group", Values::ForwardGroup),
    ];

    async fn run(self, cx: Context) -> Result<Exit> {
        let passes_through = !self.command.is_empty();
        match Box::pin(self.go(&cx)).await {
            // As in ssh: the command's own codes must not be mistaken for ours.
            Err(error)
                if passes_through
                    && !matches!(
                        error.kind(),
                        ErrorKind::Interrupted | ErrorKind::Terminated | ErrorKind::BrokenPipe
                    ) =>
            {
                cx.output().error(&error);
                Ok(Exit::PASS_THROUGH)
            }
            result => result,
        }
    }
}

impl Forward {
    async fn go(self, cx: &Context) -> Result<Exit> {
        if self.list {
            return list(cx);
        }
        if self.status {
            return show(cx).await;
        }
        if let Some(name) = &self.stop {
            return stop(cx, name).await;
        }
        // Nothing at all, or a proxy without a server: somebody who is there is asked.
        let mut words = self.words.clone();
        let none = words.is_empty() && self.group.is_empty();
        if none && !self.owner && !self.background && cx.output().may_ask() {
            let instance = cx.pick_server("forward through which server?").await?;
            words.push(instance.id);
            if self.socks.is_empty() {
                let spec = cx.output().ask("To what (PORT, or HOST:PORT)? ").await?;
                words.extend(spec.map(|spec| spec.trim().to_owned()));
            }
        }
        let typed = Typed {
            words: &words,
            groups: &self.group,
            socks: &self.socks,
        };
        let plan = plan::plan(cx, typed)?;
        for remote in plan.iter().filter_map(|forward| forward.remote.as_ref()) {
            // Refused here and not by the service, after a look-up and a call for each.
            remote.host.as_deref().map_or(Ok(()), check_remote_host)?;
        }
        let wishes = Wishes {
            choice: self.session.choice(),
            reason: self.session.reason,
            limits: match self.sessions.map(usize::from) {
                Some(n) => Limits {
                    least: n,
                    most: n,
                    spare: false,
                },
                None => Limits {
                    least: 1,
                    most: DEFAULT_SESSIONS,
                    spare: true,
                },
            },
            grace: self.grace,
            idle: self.idle,
            together: self.all_or_nothing || plan.len() == 1 || !self.command.is_empty(),
            command: self.command,
            owner: self.owner,
        };
        if self.owner {
            background::leave_terminal();
        } else if self.background {
            run::ask_beforehand(cx, &plan, &wishes).await?;
            return background::start(cx).await;
        }
        run::run(cx, plan, wishes).await
    }
}

fn list(cx: &Context) -> Result<Exit> {
    let forwards = &cx.profile()?.forwards;
    let output = cx.output();
    let document = serde_json::json!({
        "apiVersion": "ops/v1",
        "kind": "NamedForwardList",
        "forwards": forwards,
    });
    match output.format() {
        Format::Json => output.json(&document)?,
        Format::Yaml => output.yaml(&document)?,
        Format::Name => forwards.keys().try_for_each(|name| output.line(name))?,
        _ => {
            if forwards.is_empty() {
                output.note("the profile names no forwards");
                return Ok(Exit::SUCCESS);
            }
            let rows = forwards.iter().map(|(name, forward)| {
                let dash = || "-".to_owned();
                let listen = forward.listen.as_ref();
                vec![
                    name.clone(),
                    forward
                        .via
                        .as_ref()
                        .map_or_else(dash, |via| via.as_str().to_owned()),
                    match listen {
                        Some(listen) if listen.port == 0 => "any free port".to_owned(),
                        Some(listen) => listen.to_string(),
                        None => forward.to.port.to_string(),
                    },
                    forward.to.to_string(),
                    forward.group.clone().unwrap_or_else(dash),
                ]
            });
            status::table(
                cx,
                &["NAME", "TARGET", "LOCAL", "REMOTE", "GROUP"],
                rows.collect(),
            )?;
        }
    }
    Ok(Exit::SUCCESS)
}

async fn show(cx: &Context) -> Result<Exit> {
    let answers = control::ask_all(cx, &Request::Status).await;
    let rows: Vec<_> = answers
        .into_iter()
        .flat_map(|(_, answer)| answer.forwards)
        .collect();
    if rows.is_empty() && matches!(cx.output().format(), Format::Table | Format::Wide) {
        cx.output().note("nothing is being forwarded");
        return Ok(Exit::SUCCESS);
    }
    status::write(cx, &rows)?;
    Ok(Exit::SUCCESS)
}

async fn stop(cx: &Context, name: &str) -> Result<Exit> {
    let answers = control::ask_all(cx, &Request::Stop(name.to_owned())).await;
    for (process, answer) in &answers {
        if answer.ends {
            control::ended(cx, *process).await;
        }
    }
    let rows: Vec<_> = answers
        .into_iter()
        .flat_map(|(_, answer)| answer.forwards)
        .collect();
    if rows.is_empty() && name != "all" {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("no running forward is called `{name}`"),
        )
        .hint("see what runs: ops forward --status"));
    }
    for row in &rows {
        cx.output().note(format!("stopped {}", row.ready_line()));
    }
    if rows.is_empty() {
        cx.output().note("nothing is being forwarded");
    }
    Ok(Exit::SUCCESS)
}
