//! The command.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use ops_core::{Command, Context, Values, connect::check_remote_host, resolve::SessionArgs};
use ops_profile as profile;
use ops_ui::{
    Error, ErrorKind, Exit, Format, Result,
    globals::{ErrorFormat, parse_duration},
};

use crate::background;
use crate::control::{self, ControlRequest};
use crate::plan::{self, TypedForwards};
use crate::pool::Limits;
use crate::run::{self, RunOptions};
use crate::spec::Spec;
use crate::status;

/// Sessions that a busy destination may grow to when nothing else is asked for.
const DEFAULT_SESSIONS: usize = 4;

/// Forward local ports to what a server can reach
///
/// Listens on 127.0.0.1 and carries every connection through Session Manager: to a port of the
/// instance itself, or to any host and port that it can reach. No open port, no SSH server, no key.
///
/// If every word is the name of a forward of the team profile, those are started.
///
/// The tunnels stay up: the hourly end of the connection, a lost network and a suspended laptop are
/// waited out, and nothing is lost unless the session itself has ended. Ctrl-C ends it: listeners
/// first, then, after a moment, connections.
///
/// A KMS key of the account's session preferences encrypts shells and commands, never tunnels and
/// ssh: those have TLS, as with any client.
///
/// With a command after `--` the tunnels are up as long as it runs, and its exit code is returned.
/// It finds them in OPS_FORWARD_0_ADDR, _HOST and _PORT (by number and by name), or in its
/// arguments: {0.port}, {db.addr}.
#[derive(clap::Args, Debug)]
pub struct Forward {
    /// TARGET and SPECs, or names of the profile's forwards
    ///
    /// A SPEC is one of these, IPv6 addresses in brackets:
    ///
    ///   PORT                  a port of the server, the same one here
    ///   LOCAL:PORT            another port here; 0 is any free one
    ///   LOCAL:HOST:PORT       a host as the server knows it
    ///   BIND:LOCAL:HOST:PORT  another address to listen on, `*` for all; BIND:LOCAL:PORT too
    ///   PATH:HOST:PORT        a unix socket here
    #[arg(value_name = "NAME|TARGET SPEC", verbatim_doc_comment)]
    words: Vec<String>,
    /// Start the forwards of a group of the profile
    #[arg(long, value_name = "NAME")]
    group: Vec<String>,
    /// List the forwards of the profile
    #[arg(long, conflicts_with_all = ["words", "group", "socks", "status", "stop", "background"])]
    list: bool,
    /// SOCKS5 proxy; names are resolved on the far side
    #[arg(short = 'D', long, value_name = "[BIND:]PORT")]
    socks: Vec<String>,
    /// Go on in the background once it listens
    #[arg(short = 'd', long, conflicts_with = "command")]
    background: bool,
    /// Show what is being forwarded
    #[arg(long, conflicts_with_all = ["words", "group", "socks", "stop", "background"])]
    status: bool,
    /// Stop one, by name, local port, target or process id
    #[arg(long, value_name = "NAME|all", conflicts_with_all = ["words", "group", "socks", "background"])]
    stop: Option<String>,
    /// Sessions side by side for each destination; without this one more than are in use, up to 4
    #[arg(hide_short_help = true, long, value_name = "N", env = "OPS_FORWARD_SESSIONS", value_parser = clap::value_parser!(u8).range(1..=16), allow_negative_numbers = true)]
    sessions: Option<u8>,
    /// How long open connections may take to end
    #[arg(hide_short_help = true, long, value_name = "TIME", default_value = "3s", value_parser = parse_duration, allow_negative_numbers = true)]
    grace: Duration,
    /// With -D: when the sessions of a destination without connections are ended
    #[arg(hide_short_help = true, long, value_name = "TIME", default_value = "60s", value_parser = parse_duration, allow_negative_numbers = true)]
    idle: Duration,
    /// Start none where one of several cannot start; so it is for a command too
    #[arg(hide_short_help = true, long)]
    all_or_nothing: bool,
    #[command(flatten)]
    session: SessionArgs,
    /// The server that somebody has chosen already, for the process in the background
    #[arg(long, hide = true, requires = "owner")]
    through: Option<String>,
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
            "a database behind the bastion",
        ),
        ("ops forward reporting-db", "a forward of the team profile"),
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
                // The rest of standard error is the command's.
                if cx.globals().error_format == Some(ErrorFormat::Json) {
                    cx.output().error(&error);
                } else {
                    cx.output().warn_line(error.one_line());
                }
                Ok(Exit::PASS_THROUGH)
            }
            result => result,
        }
    }
}

impl Forward {
    /// Whether no server was named: no words at all, or nothing but SPECs, of which none is the
    /// name of a forward.
    fn lacks_target(&self, cx: &Context) -> Result<bool> {
        let named = &cx.profile()?.forwards;
        let is_spec = |word: &String| word.parse::<Spec>().is_ok() && !named.contains_key(word);
        Ok(self.group.is_empty() && self.words.iter().all(is_spec))
    }

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
        // Nothing at all, or SPECs and proxies without a server: somebody who is there is asked.
        if let Some(format) = cx
            .globals()
            .typed_output()
            .filter(|_| !self.command.is_empty())
        {
            return Err(Error::usage(format!(
                "`ops forward … -- COMMAND` has no output format `{}`",
                format.name()
            ))
            .caused_by("standard output is the command's")
            .hint("leave --output out"));
        }
        let mut words = self.words.clone();
        words.splice(0..0, self.through.clone());
        let mut answers = Vec::new();
        if !self.owner && self.lacks_target(cx)? && cx.output().may_ask() {
            let instance = cx.pick_server("forward through which server?").await?;
            words.insert(0, instance.id.clone());
            answers.extend(["--through".to_owned(), instance.id]);
            if self.words.is_empty() && self.socks.is_empty() {
                let spec = cx.output().ask("To what (PORT, or HOST:PORT)? ").await?;
                let spec = spec.map(|spec| spec.trim().to_owned());
                words.extend(spec.clone());
                answers.extend(spec);
            }
        }
        let typed = TypedForwards {
            words: &words,
            groups: &self.group,
            socks: &self.socks,
        };
        let plan = plan::plan(cx, typed)?;
        for remote in plan.iter().filter_map(|forward| forward.remote.as_ref()) {
            // Refused here and not by the service, after a look-up and a call for each.
            remote.host.as_deref().map_or(Ok(()), check_remote_host)?;
        }
        let wishes = RunOptions {
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
            return background::start(cx, &answers).await;
        }
        run::run(cx, plan, wishes).await
    }
}

fn list(cx: &Context) -> Result<Exit> {
    let forwards = &cx.profile()?.forwards;
    let output = cx.output();
    // Every field of every forward, the port that the destination's stands for too.
    let documents: BTreeMap<&String, _> = forwards
        .iter()
        .map(|(name, forward)| {
            let described = serde_json::json!({
                "via": forward.via,
                "listen": local_text(forward),
                "to": forward.to,
                "open": forward.open,
                "group": forward.group,
            });
            (name, described)
        })
        .collect();
    let document = serde_json::json!({
        "apiVersion": "ops/v1",
        "kind": "NamedForwardList",
        "forwards": documents,
    });
    output.through_pager(|| match output.format() {
        Format::Json => output.json(&document),
        Format::Yaml => output.yaml(&document),
        Format::Name => forwards.keys().try_for_each(|name| output.line(name)),
        _ => {
            if forwards.is_empty() {
                output.note("the profile names no forwards");
                return Ok(());
            }
            let rows = forwards.iter().map(|(name, forward)| {
                let dash = || "-".to_owned();
                vec![
                    name.clone(),
                    forward
                        .via
                        .as_ref()
                        .map_or_else(dash, |via| via.as_str().to_owned()),
                    match &forward.listen {
                        Some(listen) if listen.port == 0 => "any free port".to_owned(),
                        _ => local_text(forward),
                    },
                    forward.to.to_string(),
                    forward.group.clone().unwrap_or_else(dash),
                ]
            });
            status::table(
                cx,
                &["NAME", "TARGET", "LOCAL", "REMOTE", "GROUP"],
                &rows.collect::<Vec<_>>(),
            )
        }
    })?;
    Ok(Exit::SUCCESS)
}

/// `PORT` or `ADDRESS:PORT` on which a forward of the profile listens; where it does not say, the
/// port of its destination.
fn local_text(forward: &profile::Forward) -> String {
    match &forward.listen {
        Some(listen) => listen.to_string(),
        None => forward.to.port.to_string(),
    }
}

async fn show(cx: &Context) -> Result<Exit> {
    let answers = control::ask_all(cx, &ControlRequest::Status).await;
    let rows: Vec<_> = answers
        .into_iter()
        .flat_map(|(_, answer)| answer.forwards)
        .collect();
    if rows.is_empty() && matches!(cx.output().format(), Format::Table | Format::Wide) {
        cx.output().note("nothing is being forwarded");
        return Ok(Exit::SUCCESS);
    }
    cx.output().through_pager(|| status::write(cx, &rows))?;
    Ok(Exit::SUCCESS)
}

async fn stop(cx: &Context, name: &str) -> Result<Exit> {
    let answers = control::ask_all(cx, &ControlRequest::Stop(name.to_owned())).await;
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
