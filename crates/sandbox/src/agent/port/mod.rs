//! Port sessions: TCP connections from the instance to itself or to what it can reach.

mod basic;
mod mux;

use super::{channel::Channel, dial, version};
use crate::session::{Closing, SessionSpec};

/// What the document and the handshake said.
pub(super) struct PortRequest<'a> {
    pub(super) host: Option<&'a str>,
    pub(super) port: u16,
    pub(super) port_type: Option<&'a str>,
    pub(super) client_version: String,
}

/// Runs one port session until it ends or the future is dropped.
pub(super) async fn run(channel: &Channel, spec: &SessionSpec, asked: PortRequest<'_>) -> Closing {
    if let Some(host) = asked.host
        && dial::is_forbidden(&spec.instance, host)
    {
        return Closing {
            output: format!("Forwarding to IP address {host} is forbidden."),
        };
    }
    if !spec.late_plugin.is_zero() {
        tokio::time::sleep(spec.late_plugin).await;
    }
    // A type of another spelling, or none, is the raw stream of SSH, as the agent compares it.
    let forwards = asked.port_type == Some("LocalPortForwarding");
    if forwards
        && version::agent_multiplexes(&spec.agent_version)
        && version::client_multiplexes(&asked.client_version)
    {
        mux::run(channel, spec, &asked).await
    } else {
        basic::run(channel, spec, &asked, forwards).await
    }
}
