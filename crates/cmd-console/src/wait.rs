//! The command `wait`.

use std::time::{Duration, Instant};

use clap::ValueEnum;
use ops_core::{Command, Context, Document, OpenOptions, Values, resolve::SessionArgs};
use ops_profile::{Instance, InstanceState, Ping, Target};
use ops_ui::{Error, ErrorKind, Exit, Format, Result, hint, output::Spinner};
use tokio::time::{sleep, timeout};

/// How long without `--timeout`.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);
/// Between two looks, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Goal {
    /// EC2 says that the instance runs
    Running,
    /// Its agent has reported to Systems Manager
    Online,
    /// A session can be opened; proven by opening one and closing it
    Session,
}

impl Goal {
    const fn reached(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Online => "online",
            Self::Session => "ready for sessions",
        }
    }
}

/// Wait until a server can be used
///
/// For scripts, after a launch: the server need not even be there yet. Ends with 0 as soon as it
/// is so far, and with 124 when --timeout (5 minutes by default) is over.
#[derive(clap::Args, Debug)]
pub struct Wait {
    /// Id, Name, glob, tag:Key=Value, IP or DNS name
    #[arg(value_name = "TARGET")]
    target: Target,
    /// What to wait for: running, online, session
    #[arg(
        long = "for",
        value_name = "WHAT",
        value_enum,
        default_value = "session",
        hide_possible_values = true
    )]
    goal: Goal,
    #[command(flatten)]
    session: SessionArgs,
}

impl Command for Wait {
    const NAME: &'static str = "wait";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("ops wait web-1", "until a session can be opened"),
        (
            "ops wait i-0a1b2c3d4e5f60718 --for online --timeout 10m",
            "until its agent has reported, ten minutes at most",
        ),
    ];

    const COMPLETES: &'static [(&'static str, Values)] = &[("target", Values::Target)];

    async fn run(self, cx: Context) -> Result<Exit> {
        let limit = cx.settings()?.timeout.value.unwrap_or(DEFAULT_TIMEOUT);
        let started = Instant::now();
        let mut known = WaitedInstance::default();
        let outcome = timeout(limit, self.until(&cx, &mut known)).await;
        known.spinner = None;
        match outcome {
            Ok(Ok(label)) => {
                let output = cx.output();
                let seconds = started.elapsed().as_secs();
                let document = known.instance.as_ref().map(|instance| {
                    serde_json::json!({
                        "apiVersion": "ops/v1",
                        "kind": "Waited",
                        "id": instance.id,
                        "name": instance.name,
                        "region": instance.region,
                        "reached": self.goal.reached(),
                        "seconds": seconds,
                    })
                });
                match (output.format(), document) {
                    (Format::Json, Some(document)) => output.json(&document)?,
                    (Format::Yaml, Some(document)) => output.yaml(&document)?,
                    _ => output.note(format!(
                        "{label} is {} after {seconds} s",
                        self.goal.reached(),
                    )),
                }
                Ok(Exit::SUCCESS)
            }
            Ok(Err(error)) => Err(error),
            Err(_) => {
                let error = Error::new(
                    ErrorKind::Timeout,
                    format!(
                        "`{}` is not {} within {limit:?}",
                        self.target,
                        self.goal.reached()
                    ),
                );
                let error = [known.seen, known.why]
                    .into_iter()
                    .flatten()
                    .fold(error, Error::caused_by);
                Err(error.hint(hint!(
                    "see what is known of it: ops ls --state all -o wide {}",
                    self.target.as_str()
                )))
            }
        }
    }
}

/// What is known so far.
#[derive(Default)]
struct WaitedInstance {
    instance: Option<Instance>,
    /// The guard has been asked.
    guarded: bool,
    /// How far it was the last time, for people.
    seen: Option<String>,
    /// Why, where that takes more words.
    why: Option<String>,
    /// Says so while it is waited; gone before anything is asked.
    spinner: Option<Spinner>,
}

impl Wait {
    /// Looks again and again; gives what the instance is called.
    async fn until(&self, cx: &Context, known: &mut WaitedInstance) -> Result<String> {
        let mut pause = PAUSE.0;
        loop {
            known.why = None;
            known.seen = match self.look(cx, known).await {
                Ok(None) => {
                    return Ok(known.instance.as_ref().map_or_else(
                        || self.target.to_string(),
                        |instance| instance.label().to_owned(),
                    ));
                }
                Ok(seen) => seen,
                // Encryption that is demanded, an agent that is too old: time changes nothing about
                // it.
                Err(error) if error.is_lasting() => return Err(error),
                // Not there yet, or not yet reachable: what is waited for.
                Err(error)
                    if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unreachable) =>
                {
                    known.why = error.why().first().map(ToString::to_string);
                    Some(error.what().to_owned())
                }
                // One session that took too long is not the whole wait.
                Err(error) if error.kind() == ErrorKind::Timeout => Some(error.what().to_owned()),
                Err(error) => return Err(error),
            };
            let seen = known.seen.as_deref().unwrap_or_default();
            let text = format!("waiting for {}: {seen}", self.target);
            match &known.spinner {
                Some(spinner) => spinner.say(text),
                None => known.spinner = Some(cx.output().spinner(text)),
            }
            sleep(pause).await;
            pause = (pause * 3 / 2).min(PAUSE.1);
        }
    }

    /// One look: `None` when it is so far, else how far it is.
    async fn look(&self, cx: &Context, known: &mut WaitedInstance) -> Result<Option<String>> {
        // A name is looked up once: from then on the id is asked, which means its instance in any
        // state.
        let target = match &known.instance {
            Some(instance) => {
                let mut target: Target = instance.id.parse().map_err(Error::unforeseen)?;
                target.region = Some(instance.region.clone());
                target
            }
            None => {
                // Of several the user is asked which.
                known.spinner = None;
                self.target.clone()
            }
        };
        // Never from the cache: what is waited for is what is true now.
        let instance = cx.resolve_now(&target, self.session.choice()).await?;
        let instance = known.instance.insert(instance);
        match instance.state {
            InstanceState::Running => {}
            InstanceState::Terminated | InstanceState::ShuttingDown => {
                return Err(Error::unexpected(format!(
                    "`{}` is {}",
                    instance.label(),
                    instance.state.as_str()
                ))
                .caused_by("a terminated instance never runs again")
                .hint("see what is there: ops ls"));
            }
            state => return Ok(Some(format!("its state is {}", state.as_str()))),
        }
        if self.goal == Goal::Running {
            return Ok(None);
        }
        let ping = match cx.ask_agent(instance).await {
            Ok(known) => known.ping,
            // Whoever may not ask is not told later either.
            Err(error) if self.goal == Goal::Online && error.kind() == ErrorKind::Denied => {
                return Err(error);
            }
            Err(_) => Ping::Unknown,
        };
        let how = match ping {
            Ping::Online => None,
            Ping::Lost { .. } => Some("its agent does not answer"),
            Ping::NoAgent => Some("no agent has reported"),
            // A session may be possible all the same.
            Ping::Unknown => (self.goal == Goal::Online).then_some("Systems Manager does not tell"),
        };
        if let Some(how) = how {
            return Ok(Some(how.to_owned()));
        }
        if self.goal == Goal::Online {
            return Ok(None);
        }
        if !known.guarded {
            // Asked once, however often a session is tried.
            known.spinner = None;
            cx.guard(
                Self::NAME,
                std::slice::from_ref(instance),
                self.session.reason.as_deref(),
            )
            .await?;
            known.guarded = true;
        }
        let opened = cx
            .open(
                instance,
                Document::shell(),
                OpenOptions::reason(self.session.reason.clone()),
            )
            .await?;
        opened.terminate().await;
        Ok(None)
    }
}
