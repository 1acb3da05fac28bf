//! `ops ssh-proxy`: ssh's ProxyCommand.

use std::{path::PathBuf, pin::pin, time::Duration};

use bytes::{Bytes, BytesMut};
use ops_core::{
    Choice, Command, Connection, Context, Document, Forms, OpenOptions, Traits, Values,
    connect::Ending, resolve::SessionArgs, trouble::Observer,
};
use ops_profile::{Instance, Selector, Target};
use ops_remote::ssh::{self, KeyWatch, host_keys};
use ops_session::closing::ClosingReason;
use ops_session::{
    driver::{Event, Events, Sender},
    wire::{Flag, PayloadType, size_payload},
};
use ops_ui::{Error, ErrorKind, Exit, Result, follower, hint, stdio, voice};
use tokio::time::Instant;

/// How long the far side may go on once our input has ended; ssh itself ends its connection long
/// before.
const GRACE_AFTER_EOF: Duration = Duration::from_secs(10);
/// Input that comes at once in this length is bulk, in bytes.
const BULK_BYTES: usize = 8 << 10;
/// Bytes written at once if as many are there.
const WRITE_BYTES: usize = 64 << 10;
/// How long the agent gets to answer the request to end.
const GRACE_AFTER_FLAG: Duration = Duration::from_secs(2);

/// Carry ssh's connection over a session, as its ProxyCommand
///
/// Connects standard input and output to a port of the instance, 22 unless another is given.
/// Nothing else is ever written to standard output. An id needs no look-up: the first byte goes out
/// after StartSession and the web socket handshake alone.
#[derive(clap::Args, Debug)]
pub struct SshProxy {
    /// Instance id, name or any other target
    #[arg(value_name = "TARGET")]
    target: Target,
    /// Port on the instance
    #[arg(value_name = "PORT", default_value_t = 22, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Public key to push by EC2 Instance Connect first
    ///
    /// It is good for 60 seconds.
    #[arg(long, value_name = "FILE", requires = "user")]
    push_key: Option<PathBuf>,
    /// User whom the pushed key lets in
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Availability zone to name when a key is pushed
    ///
    /// An id alone does not tell it.
    #[arg(long, value_name = "ZONE", requires = "push_key")]
    zone: Option<String>,
    /// Add the server's host keys to this file first
    ///
    /// They are fetched over a session, unless the file of known hosts has some.
    #[arg(long, value_name = "FILE")]
    pin_host_keys: Option<PathBuf>,
    /// Say on the terminal why there is no connection: ssh silences its ProxyCommand where
    /// connections are shared
    #[arg(long, hide = true)]
    on_terminal: bool,
    /// Say it in this file where it cannot be said; for ops ssh
    #[arg(long, value_name = "FILE", hide = true)]
    report: Option<PathBuf>,
    /// Process of the `ops ssh` that this belongs to; the session ends with it
    #[arg(long, value_name = "PID", hide = true)]
    owner: Option<i32>,
    #[command(flatten)]
    session: SessionArgs,
}

impl Command for SshProxy {
    const NAME: &'static str = "ssh-proxy";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[(
        "ssh -o ProxyCommand='ops ssh-proxy %h %p' i-0a1b2c3d4e5f60718",
        "plain ssh through a session",
    )];
    const TRAITS: Traits = Traits {
        pass_through: true,
        ruled_as: Some("ssh"),
        forms: Forms::Nothing,
        ..Traits::NONE
    };

    const COMPLETES: &'static [(&'static str, Values)] = &[("target", Values::Target)];

    async fn run(self, cx: Context) -> Result<Exit> {
        let raised = self.on_terminal && voice::raise();
        let result = self.carry(&cx, raised).await;
        if let (Err(error), Some(file)) = (&result, &self.report)
            && voice::is_silenced()
        {
            // Whoever waits for it misses a line, as without it.
            let _ = std::fs::write(file, error.one_line().as_str());
        }
        result
    }
}

impl SshProxy {
    /// What carries a connection to `port` of `target` for a program that is not ssh.
    pub(crate) fn for_program(target: Target, port: u16, session: SessionArgs) -> Self {
        Self {
            target,
            port,
            push_key: None,
            user: None,
            zone: None,
            pin_host_keys: None,
            on_terminal: false,
            report: None,
            owner: None,
            session,
        }
    }
}

/// A session that ssh can be connected to.
struct Opened {
    connection: Connection,
    id: String,
    label: String,
}

impl SshProxy {
    /// Carries bytes between the standard streams and the port until either side ends.
    pub(crate) async fn carry(&self, cx: &Context, raised: bool) -> Result<Exit> {
        let handler = cx.interrupt().handle();
        let opened = tokio::select! {
            opened = self.open(cx) => opened?,
            // ssh has given up, and said so.
            error = handler.wait() => return Ok(error.kind().exit()),
        };
        let (session, ending) = opened.connection.into_parts();
        // ssh has the terminal in raw mode sooner or later, and our notes appear in the middle of
        // its output.
        cx.output()
            .raw_lines()
            .set(cx.output().stderr_is_terminal());
        // The user's own entry for every host may tell ssh to check no host key; what the profile
        // demands is made sure of here as well.
        let mut watch = match &self.pin_host_keys {
            Some(file) => Some(KeyWatch::new(file, &opened.id, &opened.label)?),
            None => None,
        };
        let answered = || {
            tracing::debug!("the first bytes have come from the far side");
            if raised {
                voice::lower();
            }
        };
        let end = tokio::select! {
            // What the far side has said comes first, so that its end is not taken for ours.
            biased;
            end = copy_down(cx, session.events, &ending, &opened.label, self.port, &mut watch, answered) => end,
            () = copy_up(&session.sender) => ProxyEnd::Input,
            error = handler.wait() => ProxyEnd::Asked(error.kind().exit()),
            () = self.owner_gone() => ProxyEnd::Asked(Exit::TERMINATED),
        };
        cx.output().raw_lines().set(false);
        match end {
            ProxyEnd::FarSide => {
                ending.ended();
                Ok(Exit::SUCCESS)
            }
            ProxyEnd::Input => {
                end_in_order(&session.sender).await;
                ending.terminate().await;
                Ok(Exit::SUCCESS)
            }
            // ssh hangs up on its ProxyCommand whenever it ends: nothing that anybody wants to read
            // about.
            ProxyEnd::Asked(exit) => {
                ending.terminate().await;
                Ok(exit)
            }
            ProxyEnd::Failed(error) => {
                ending.terminate().await;
                // ssh has gone, and with it who would read an error.
                if error.kind() == ErrorKind::BrokenPipe {
                    return Ok(Exit::SUCCESS);
                }
                Err(error)
            }
        }
    }

    /// Ends when the `ops ssh` that this belongs to is gone. A connection that is shared with later
    /// commands outlives it: ssh silences the ProxyCommand of one.
    async fn owner_gone(&self) {
        match self.owner.and_then(rustix::process::Pid::from_raw) {
            Some(owner) if !voice::is_silenced() => follower::gone(owner).await,
            _ => std::future::pending().await,
        }
    }

    async fn open(&self, cx: &Context) -> Result<Opened> {
        let mut instance = find_instance(cx, &self.target, self.session.choice()).await?;
        if let Some(zone) = &self.zone {
            instance.zone = Some(zone.clone());
        }
        cx.guard(
            "ssh-proxy",
            std::slice::from_ref(&instance),
            self.session.reason.as_deref(),
        )
        .await
        .map_err(|error| match error.kind() {
            ErrorKind::Refused => error
                .hint("for ssh, scp and rsync these are variables: OPS_REASON=TEXT and OPS_YES=1"),
            _ => error,
        })?;
        if let Some(file) = &self.pin_host_keys {
            host_keys::pin(cx, &instance, self.port, file, self.session.reason.clone()).await?;
        }
        if let (Some(file), Some(user)) = (&self.push_key, &self.user) {
            push_key(cx, &instance, user, file).await?;
        }
        let options = OpenOptions::reason(self.session.reason.clone());
        let document = Document::Ssh { port: self.port };
        let connection = cx.open(&instance, document, options).await?;
        Ok(Opened {
            connection,
            label: instance.label().to_owned(),
            id: instance.id,
        })
    }
}

/// Why nothing is carried any more.
enum ProxyEnd {
    /// The far side closed the connection; all of its output is written.
    FarSide,
    /// Our input ended a while ago, or everything did.
    Input,
    /// A signal.
    Asked(Exit),
    /// The session failed, or our output cannot be written.
    Failed(Error),
}

/// From the far side to standard output. Waits for a slow reader, which holds back the session in
/// turn, but not the other direction.
async fn copy_down(
    cx: &Context,
    mut events: Events,
    ending: &Ending,
    label: &str,
    port: u16,
    watch: &mut Option<KeyWatch>,
    answered: impl FnOnce(),
) -> ProxyEnd {
    let mut stdout = stdio::StdoutWriter::start();
    let mut answered = Some(answered);
    // Taken with the output before it.
    let mut ahead = None;
    let mut observer = Observer::patient();
    let say = |text: &dyn std::fmt::Display| cx.output().note(format!("ops: {label}: {text}"));
    let mut unanswered = pin!(tokio::time::sleep(ssh::UNANSWERED));
    let mut may_be_unanswered = true;
    loop {
        let event = match ahead.take() {
            Some(event) => Some(event),
            None => tokio::select! {
                biased;
                event = events.next() => event,
                () = observer.wake() => {
                    while let Some(notice) = observer.poll(Instant::now()) {
                        say(&notice);
                    }
                    continue;
                }
                () = &mut unanswered, if may_be_unanswered && answered.is_some() => {
                    may_be_unanswered = false;
                    // Of a connection that is lost something else is said.
                    if !observer.has_told_loss() {
                        say(&ssh::unanswered(label, port));
                    }
                    continue;
                }
            },
        };
        if let Some(event) = &event
            && let Some(notice) = observer.hear(Instant::now(), event)
        {
            say(&notice);
        }
        match event {
            Some(Event::Output(bytes)) => {
                let (bytes, next) = gather_bytes(bytes, &mut events);
                ahead = next;
                if let Some(answered) = answered.take() {
                    answered();
                }
                let bytes = match watch.as_mut().map(|watch| watch.pass(bytes.clone())) {
                    None => bytes,
                    Some(Ok(bytes)) => bytes,
                    Some(Err(error)) => return ProxyEnd::Failed(error),
                };
                if let Err(error) = stdout.write(bytes).await {
                    return ProxyEnd::Failed(error);
                }
            }
            Some(Event::Closed(closing)) => {
                let written = stdout.finish().await;
                let is_no_connection = match closing.reason() {
                    ClosingReason::NoConnection => true,
                    // The agent says so of a connection that it could not make.
                    ClosingReason::DeadWorker => answered.is_some(),
                    _ => false,
                };
                return match (ending.closed(&closing), written) {
                    (Some(_), _) if is_no_connection => ProxyEnd::Failed(
                        Error::target(format!("nothing answers on port {port} of `{label}`"))
                            .caused_by(closing.text())
                            .hint(hint!("see what listens there: ops shell {}", label)),
                    ),
                    (Some(error), _) | (None, Err(error)) => ProxyEnd::Failed(error),
                    (None, Ok(())) => ProxyEnd::FarSide,
                };
            }
            Some(Event::Failed(error)) => {
                // What came before the failure is still good.
                let _ = stdout.finish().await;
                return ProxyEnd::Failed(ending.failed(&error));
            }
            Some(_) => {}
            None => return ProxyEnd::Input,
        }
    }
}

/// `first` with the output that is there already, up to [`WRITE_BYTES`], and the event that ended
/// it: agents send a kilobyte at a time, and each write costs a system call and a change of
/// threads.
fn gather_bytes(first: Bytes, events: &mut Events) -> (Bytes, Option<Event>) {
    let mut whole = BytesMut::new();
    loop {
        let len = first.len().max(whole.len());
        let more = if len < WRITE_BYTES {
            events.try_next()
        } else {
            None
        };
        match more {
            Some(Event::Output(more)) => {
                if whole.is_empty() {
                    whole.reserve(WRITE_BYTES + more.len());
                    whole.extend_from_slice(&first);
                }
                whole.extend_from_slice(&more);
            }
            next if whole.is_empty() => return (first, next),
            next => return (whole.freeze(), next),
        }
    }
}

/// From standard input to the far side, until a while after its end.
async fn copy_up(sender: &Sender) {
    let mut stdin = stdio::read_stdin();
    let mut asked = false;
    while let Some(Ok(bytes)) = stdin.recv().await {
        if bytes.len() >= BULK_BYTES && !asked {
            asked = true;
            ask_for_large_payloads(sender);
        }
        if sender.send(bytes).await.is_err() {
            // The event that says why comes next.
            std::future::pending::<()>().await;
        }
    }
    // A half-closed connection cannot be told apart at the agent, so the far side gets the time to
    // finish.
    tokio::time::sleep(GRACE_AFTER_EOF).await;
}

/// Asks whether the agent takes payloads above a kilobyte, by a size padded with blanks: its port
/// plugin acknowledges and ignores every payload that is neither output nor a flag. Source:
/// `HandleStreamMessage` of BasicPortSession in the public amazon-ssm-agent.
fn ask_for_large_payloads(sender: &Sender) {
    if let Some(len) = sender.probe_len() {
        let small = size_payload(80, 24);
        let mut large = small.to_vec();
        large.resize(len.max(small.len()), b' ');
        // If the session has ended, the next send says so.
        let _ = sender.probe_payload(PayloadType::Size, large, small);
    }
}

/// The instance that `target` means; an id is taken at its word where there is one region, so that
/// nothing is asked before the session.
async fn find_instance(cx: &Context, target: &Target, choice: Choice) -> Result<Instance> {
    match (&target.selector, cx.regions_of(target).await?.as_slice()) {
        (Selector::Id(id), [region]) => Ok(Instance::bare(id.as_str(), region)),
        _ => cx.resolve(target, choice).await,
    }
}

/// Asks the agent to end the session; the call to the service comes after it in any case.
async fn end_in_order(sender: &Sender) {
    if sender.send_flag(Flag::TerminateSession).await.is_ok() {
        // What the agent has not acknowledged by then, TerminateSession ends.
        let _ = tokio::time::timeout(GRACE_AFTER_FLAG, sender.drained()).await;
    }
}

async fn push_key(
    cx: &Context,
    instance: &Instance,
    user: &str,
    file: &std::path::Path,
) -> Result<()> {
    let key = tokio::fs::read_to_string(file).await.map_err(|error| {
        Error::usage(format!("cannot read the public key `{}`", file.display()))
            .caused_by(error)
            .hint("write the configuration anew: ops ssh-config --install")
    })?;
    cx.send_ssh_public_key(instance, user, key.trim()).await
}
