//! `ops ssh-proxy`: ssh's ProxyCommand.

use std::{path::PathBuf, time::Duration};

use crate::settings::choice;
use ops_core::{
    Command, Context, Document, Error, ErrorKind, Exit, Instance, OpenOptions, Result, Selector,
    Target, Traits, resolve::Choice, stdio,
};
use ops_session::{
    driver::{Event, Sender},
    wire::Flag,
};
use tokio::time::Instant;

/// How long the far side may go on once our input has ended; ssh itself ends its connection long before.
const GRACE_AFTER_EOF: Duration = Duration::from_secs(10);
/// How long the agent gets to answer the request to end.
const GRACE_AFTER_FLAG: Duration = Duration::from_secs(2);

/// Carry ssh's connection over a session, as its ProxyCommand
///
/// Connects standard input and output to a port of the instance, 22 unless another is given. Nothing else is ever written to standard
/// output. An id needs no look-up: the first byte goes out after StartSession and the web socket handshake alone.
#[derive(clap::Args, Debug)]
pub struct SshProxy {
    /// Instance id, name or any other target
    #[arg(value_name = "TARGET")]
    target: Target,
    /// Port on the instance
    #[arg(value_name = "PORT", default_value_t = 22, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Public key to push by EC2 Instance Connect first; it is valid for 60 seconds
    #[arg(long, value_name = "FILE", requires = "user")]
    push_key: Option<PathBuf>,
    /// User whom the pushed key lets in
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Why, for the session's history
    #[arg(long, value_name = "TEXT", env = "OPS_REASON")]
    reason: Option<String>,
    /// Of several matches the first by name, then the oldest launch
    #[arg(long, conflicts_with = "newest")]
    first: bool,
    /// Of several matches the newest launch
    #[arg(long)]
    newest: bool,
}

impl Command for SshProxy {
    const NAME: &'static str = "ssh-proxy";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[(
        "ssh -o ProxyCommand='ops ssh-proxy %h %p' i-0a1b2c3d4e5f60718",
        "plain ssh through a session",
    )];
    const TRAITS: Traits = Traits {
        pass_through: true,
        ..Traits::NONE
    };

    async fn run(self, cx: Context) -> Result<Exit> {
        let instance = find(&cx, &self.target, choice(self.first, self.newest)).await?;
        if let (Some(file), Some(user)) = (&self.push_key, &self.user) {
            push(&cx, &instance, user, file).await?;
        }
        cx.guard(
            "ssh-proxy",
            std::slice::from_ref(&instance),
            self.reason.as_deref(),
        )
        .await?;
        let options = OpenOptions::reason(self.reason);
        let document = Document::Ssh { port: self.port };
        let connection = cx.open(&instance, document, options).await?;
        let label = instance.label().to_owned();
        let (session, ending) = connection.into_parts();
        let (sender, mut events) = (session.sender, session.events);

        let handler = cx.interrupt().handle();
        let mut stdin = Some(stdio::read_stdin());
        let mut stdout = stdio::StdoutWriter::start();
        let mut deadline: Option<Instant> = None;
        let outcome = loop {
            let input = async {
                match stdin.as_mut() {
                    Some(stdin) => stdin.recv().await,
                    None => std::future::pending().await,
                }
            };
            let late = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = events.next() => match event {
                    Some(Event::Output(bytes)) => if let Err(error) = stdout.write(bytes).await {
                        break Err(error);
                    },
                    Some(Event::Closed { output }) => match ending.closed(&output) {
                        Some(error) => break Err(error),
                        None => break Ok(true),
                    },
                    Some(Event::Failed(error)) => break Err(ending.failed(&error)),
                    Some(Event::Disconnected { reason }) => cx.output().note(format!("ops: {label}: connection lost ({reason}), reconnecting")),
                    Some(Event::Resumed) => cx.output().note(format!("ops: {label}: connection resumed")),
                    Some(_) => {}
                    None => break Ok(false),
                },
                piece = input => match piece {
                    Some(Ok(bytes)) => if sender.send(bytes).await.is_err() {
                        // The event that says why comes next.
                        stdin = None;
                    },
                    // A half-closed connection cannot be told apart at the agent, so the far side gets the time to finish.
                    Some(Err(_)) | None => {
                        stdin = None;
                        deadline = Some(Instant::now() + GRACE_AFTER_EOF);
                    }
                },
                () = late => break Ok(false),
                error = handler.wait() => break Err(error),
            }
        };
        match outcome {
            Ok(true) => {
                ending.ended();
                stdout.finish().await?;
                Ok(Exit::SUCCESS)
            }
            Ok(false) => {
                end_in_order(&sender).await;
                ending.terminate().await;
                stdout.finish().await?;
                Ok(Exit::SUCCESS)
            }
            Err(error) => {
                ending.terminate().await;
                // ssh has gone, and with it who would read an error.
                if error.kind() == ErrorKind::BrokenPipe {
                    return Ok(Exit::SUCCESS);
                }
                Err(error)
            }
        }
    }
}

/// The instance that `target` means; an id is taken at its word, so that nothing is asked before the session.
async fn find(cx: &Context, target: &Target, choice: Choice) -> Result<Instance> {
    match &target.selector {
        Selector::Id(id) => Ok(Instance::bare(id.as_str(), &cx.region().await?)),
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

async fn push(cx: &Context, instance: &Instance, user: &str, file: &std::path::Path) -> Result<()> {
    let key = tokio::fs::read_to_string(file).await.map_err(|error| {
        Error::usage(format!("cannot read the public key `{}`", file.display()))
            .caused_by(error)
            .hint("write the configuration anew: ops ssh-config --install")
    })?;
    cx.send_ssh_public_key(instance, user, key.trim()).await
}
