//! The agent's side of the data channel.
//!
//! It does what the official SSM agent does on Linux, habits and traps included, with real programs
//! and real connections: shells run as the user of this process, ports are ports of this machine's
//! loopback interface.

mod channel;
mod cipher;
mod command;
mod dial;
mod environment;
mod frame;
mod handshake;
mod handshake_response;
mod keys;
mod machine;
mod pace;
mod port;
mod pty;
mod retransmission;
pub(crate) mod run_command;
mod shell;
mod signals;
mod ssh;
mod utf8;
mod version;
mod words;

use crate::session::{AgentLink, Closing, SessionKind, SessionSpec};

use channel::Channel;

/// Whether an agent of this version is older than `than`; one without a version is not.
pub(crate) fn is_older(version: &str, than: &str) -> bool {
    !version.is_empty() && version::compare(version, than).is_lt()
}

/// Runs one session until it ends by itself or is cancelled; the gateway then sends
/// `channel_closed` with the output given here.
pub(crate) async fn run(spec: SessionSpec, link: AgentLink) -> Closing {
    let needs_handshake = handshake::is_needed(&spec);
    let (channel, running) = Channel::start(link, needs_handshake, spec.strict);
    let closing = tokio::select! {
        biased;
        output = channel.ended() => {
            channel.drain_acknowledgements().await;
            Closing { output }
        }
        closing = execute(&channel, &spec, needs_handshake) => {
            channel.drain().await;
            closing
        }
    };
    // First the tasks: one that cannot deliver its input would hold the handler for ever.
    drop(running);
    channel.uninstall().await;
    closing
}

async fn execute(channel: &Channel, spec: &SessionSpec, needs_handshake: bool) -> Closing {
    if matches!(spec.kind, SessionKind::NonInteractive { .. })
        && !version::runs_commands(&spec.agent_version)
    {
        let name = spec.kind.session_type();
        return Closing {
            output: format!(
                "Plugin with name {name} is not supported by this version of ssm agent, please update to latest version. Step name: {name}"
            ),
        };
    }
    let client_version = if needs_handshake {
        match handshake::perform(channel, spec).await {
            Ok(version) => version,
            Err(output) => {
                return Closing { output };
            }
        }
    } else {
        String::new()
    };
    if (version::keeps_output(&spec.agent_version) || spec.is_logged)
        && !matches!(spec.kind, SessionKind::Port { .. })
        && let Err(error) = channel.keep_output(&spec.state, &spec.session_id)
    {
        tracing::warn!(%error, "the output of a session is not kept");
    }
    // Source: `StartPty` of the shell plugin in the public amazon-ssm-agent.
    if let Some(user) = &spec.instance.missing_user
        && !matches!(spec.kind, SessionKind::Port { .. })
    {
        let why = format!("failed to start pty since RunAs user {user} does not exist");
        return shell::start_failure(spec.pace, &why).await;
    }
    match &spec.kind {
        SessionKind::Shell { command } => shell::run(channel, spec, command.as_deref()).await,
        SessionKind::Interactive { command } if command.trim().is_empty() => Closing {
            output: "Commands cannot be empty for session type InteractiveCommands".to_owned(),
        },
        SessionKind::Interactive { command } => shell::run(channel, spec, Some(command)).await,
        SessionKind::NonInteractive {
            command,
            separate_output,
            stdout_prefix,
            stderr_prefix,
        } => {
            let asked = command::NonInteractive {
                command,
                separate_output: *separate_output && version::separates_output(&spec.agent_version),
                stdout_prefix,
                stderr_prefix,
            };
            command::run(channel, spec, asked).await
        }
        SessionKind::Port {
            host,
            port,
            port_type,
            ..
        } => {
            port::run(
                channel,
                spec,
                port::PortRequest {
                    host: host.as_deref(),
                    port: *port,
                    port_type: port_type.as_deref(),
                    client_version,
                },
            )
            .await
        }
    }
}

#[cfg(test)]
mod tests;
