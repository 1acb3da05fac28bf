//! `ops sandbox`

use std::path::PathBuf;

use clap::ValueEnum;
use ops_core::{Command, Context, Traits};
use ops_sandbox::{Access, Options, Pace, UNSET, discover, served_file};
use ops_ui::{Error, ErrorKind, Exit, Format, Result};
use serde_json::{Value, json};

use crate::sandbox::{self, admin};

/// Run the embedded stand-in for AWS
///
/// `ops --sandbox VERB` runs any verb against a stand-in for EC2, SSM and STS inside this very
/// process, reached over the wire as AWS is. `ops sandbox serve` runs one for several commands and
/// for other AWS clients.
///
/// It is NO isolation: the shells are real and run as you, on this machine, in your files. It
/// listens on the loopback interface only and answers nobody without the random keys of its run.
#[derive(clap::Args, Debug)]
pub(crate) struct SandboxCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// Run it until it is stopped, and print the environment that AWS clients need
    ///
    /// It is no isolation: shells run as you, on this machine. While it runs, `ops --sandbox` uses
    /// it.
    Serve(Serve),
    /// Print the environment of the running one: eval "$(ops sandbox env)"
    Env {
        /// The lines that take it back
        #[arg(long)]
        unset: bool,
    },
    /// Say whether one runs, where, and which sessions are open
    Status,
    /// Stop the running one
    Stop,
    /// Have things go wrong: delay=20ms, drop=1%, cut-after=100, refuse-resume …; none takes all
    /// back
    ///
    /// Keys: seed=N, delay=T, jitter=T, drop=P%, duplicate=P%, reorder=P%, drop-acks=P%,
    /// garbage=P%, max-input=BYTES, max-parameter=N, max-frame=BYTES[/close|/reset|/drop],
    /// rate=BYTES, queue=BYTES, cut-after=N, bye-after=N, cuts=N, end-after=N, end-text=TEXT,
    /// customer-message=TEXT, refuse-resume[=gone|timed-out|N], silent-after=N, silent-for=T,
    /// pauses, no-start, late-handshake=T, odd-json, late-open=T, late-plugin=T, slow-dial=T,
    /// agent-version=X, strict, standard-tier, just-in-time, document-check,
    /// refuse-dial[=signed|all|clock], stream-host=HOST, kms=ARN, deny=ACTION[/RESOURCE],
    /// throttle=ACTION[/N], tps=ACTION/RATE[/BURST], fail=ACTION[/N], slow=ACTION/T, deny-region=R,
    /// expired, clock=T.
    Fault {
        /// KEY or KEY=VALUE; they replace those of before
        #[arg(required = true, value_name = "FAULT")]
        faults: Vec<String>,
    },
    /// Print the API calls that the running one has answered
    Log,
}

#[derive(clap::Args, Debug)]
struct Serve {
    /// Loopback port, 0 for a free one
    ///
    /// By default that of the last time, so that tunnels come back.
    #[arg(long, env = "OPS_SANDBOX_PORT")]
    port: Option<u16>,
    /// Fleet in place of the default one, as YAML; broken for one to try ops doctor on
    #[arg(long, value_name = "FILE", env = "OPS_SANDBOX_FLEET")]
    fleet: Option<PathBuf>,
    /// How many machines there are at least
    ///
    /// Made-up ones fill the fleet up.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        env = "OPS_SANDBOX_FLEET_SIZE"
    )]
    fleet_size: usize,
    /// How fast agents send
    ///
    /// None holds them back, or they send as real ones do, at most 1,024 bytes in a millisecond;
    /// with real, calls keep to the documented quotas too.
    #[arg(long, value_enum, default_value_t = AgentPace::None, env = "OPS_SANDBOX_PACE")]
    agent_pace: AgentPace,
    /// A fault from the start; see ops sandbox fault --help
    #[arg(long = "fault", value_name = "FAULT", env = "OPS_SANDBOX_FAULT")]
    faults: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AgentPace {
    None,
    Real,
}

impl Command for SandboxCommand {
    const NAME: &'static str = "sandbox";
    const TRAITS: Traits = Traits {
        without_forms: &["stop", "fault"],
        ..Traits::NONE
    };
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        (
            "ops --sandbox shell web-1",
            "a shell with no AWS account; nothing else is needed",
        ),
        ("ops sandbox serve", "run one for other clients"),
        (
            "eval \"$(ops sandbox env)\"; aws ec2 describe-instances",
            "such as the AWS CLI",
        ),
        ("ops sandbox fault delay=20ms drop=1%", "a bad line"),
    ];

    async fn run(self, cx: Context) -> Result<Exit> {
        match self.action {
            Action::Serve(options) => serve_sandbox(options, &cx).await,
            Action::Env { unset: true } => print_unset(&cx),
            Action::Env { unset: false } => {
                print_environment(&cx, &running_sandbox(&cx)?)?;
                Ok(Exit::SUCCESS)
            }
            Action::Status => show_status(&cx),
            Action::Stop => {
                let access = running_sandbox(&cx)?;
                admin::admin_request(&access, "POST", "stop", None)?;
                cx.output().note("stopped");
                Ok(Exit::SUCCESS)
            }
            Action::Fault { faults } => order_faults(&cx, &faults),
            Action::Log => {
                let log = admin::admin_request(&running_sandbox(&cx)?, "GET", "log", None)?;
                let output = cx.output();
                output.through_pager(|| match output.format() {
                    Format::Yaml => output.yaml(&log),
                    _ => output.json(&log),
                })?;
                Ok(Exit::SUCCESS)
            }
        }
    }
}

async fn serve_sandbox(options: Serve, cx: &Context) -> Result<Exit> {
    let state = sandbox::state_dir(cx.paths());
    if let Some(access) = discover(&state) {
        return Err(
            Error::new(ErrorKind::Refused, "a sandbox is served already")
                .caused_by(format!(
                    "process {} listens at {}",
                    access.pid, access.endpoint
                ))
                .hint("stop it first: ops sandbox stop"),
        );
    }
    let handler = cx.interrupt().handle();
    let running = sandbox::start_sandbox(
        Options {
            fleet: options.fleet,
            fleet_size: options.fleet_size,
            port: options.port.unwrap_or(0),
            comes_back: options.port.is_none(),
            pace: match options.agent_pace {
                AgentPace::None => Pace::Unpaced,
                AgentPace::Real => Pace::Real,
            },
            faults: sandbox::parse_faults(options.faults.iter().map(String::as_str))?,
            access_file: Some(served_file(&state)),
            ..Options::new(state)
        },
        cx.paths(),
    )
    .await?;
    let output = cx.output();
    output.note(format!(
        "sandbox: listening at http://{}, until it is stopped",
        running.address()
    ));
    output.note("sandbox: no isolation: its shells are yours, on this machine");
    output.note("sandbox: in another terminal: ops --sandbox ls, or for any AWS client: eval \"$(ops sandbox env)\"");
    print_environment(cx, running.access())?;
    let result = tokio::select! {
        () = running.stopped() => Ok(Exit::SUCCESS),
        error = handler.wait() => Err(error),
    };
    running.stop().await;
    result
}

/// The running one.
fn running_sandbox(cx: &Context) -> Result<Access> {
    discover(&sandbox::state_dir(cx.paths())).ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "no sandbox is served")
            .hint("run one in another terminal: ops sandbox serve")
    })
}

fn print_environment(cx: &Context, access: &Access) -> Result<()> {
    let output = cx.output();
    if matches!(output.format(), Format::Json | Format::Yaml) {
        let all: serde_json::Map<String, Value> = access
            .environment()
            .into_iter()
            .map(|(name, value)| (name, value.into()))
            .collect();
        return match output.format() {
            Format::Yaml => output.yaml(&all),
            _ => output.json(&all),
        };
    }
    let mut text = String::new();
    for name in UNSET {
        text.push_str(&format!("unset {name}\n"));
    }
    for (name, value) in access.environment() {
        text.push_str(&format!(
            "export {name}={}\n",
            ops_ui::text::sh_word(&value)
        ));
    }
    output.page(&text)
}

fn print_unset(cx: &Context) -> Result<Exit> {
    let names = running_sandbox(cx)
        .map(|access| access.environment())
        .unwrap_or_default();
    for (name, _) in names {
        cx.output().line(format!("unset {name}"))?;
    }
    Ok(Exit::SUCCESS)
}

fn show_status(cx: &Context) -> Result<Exit> {
    let access = running_sandbox(cx)?;
    let sessions = admin::admin_request(&access, "GET", "sessions", None)?;
    let sessions = sessions
        .get("sessions")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let open =
        |session: &&Value| session.get("status").and_then(Value::as_str) == Some("Connected");
    let count = sessions.iter().filter(open).count();
    let output = cx.output();
    let whole = json!({
        "apiVersion": "ops.sandbox/v1",
        "endpoint": access.endpoint,
        "region": access.region,
        "pid": access.pid,
        "sessions": sessions,
    });
    match output.format() {
        Format::Json => output.json(&whole)?,
        Format::Yaml => output.yaml(&whole)?,
        _ => {
            let sessions = match count {
                1 => "1 open session".to_owned(),
                count => format!("{count} open sessions"),
            };
            output.line(format!(
                "running at {}, process {}, {sessions}",
                access.endpoint, access.pid
            ))?;
        }
    }
    Ok(Exit::SUCCESS)
}

fn order_faults(cx: &Context, faults: &[String]) -> Result<Exit> {
    let access = running_sandbox(cx)?;
    let none = faults.len() == 1 && faults[0] == "none";
    if !none {
        sandbox::parse_faults(faults.iter().map(String::as_str))?;
    }
    let body = if none { Value::Null } else { json!(faults) };
    admin::admin_request(&access, "POST", "faults", Some(&body))?;
    Ok(Exit::SUCCESS)
}
