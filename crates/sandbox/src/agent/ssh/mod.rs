//! The SSH server of each instance. It listens nowhere: the agent hands it connections to the
//! instance's port 22.

mod forward;
mod process;
mod sftp;

use std::{borrow::Cow, io, sync::Arc, time::Duration};

use russh::{
    Channel, ChannelId, ChannelOpenFailure, MethodKind, MethodSet, SshId,
    server::{Auth, Config, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey},
};
use tokio::io::DuplexStream;

use super::{
    keys::{self, host_key},
    machine::Machine,
};

/// Messages of one channel that may wait for a program which does not read. The library gives the
/// client new window as soon as data arrives, and stops reading the whole connection when this many
/// wait; a program that writes before it reads needs the connection to be read, so the bound is
/// generous: 64 MiB in full packets.
const CHANNEL_MESSAGES: usize = 2048;
/// Bytes that a client may send on a channel ahead of its adjustment.
const WINDOW_BYTES: u32 = 2 * 1024 * 1024;

/// Answers one SSH connection.
///
/// # Errors
/// The machine's host key or home cannot be had.
pub(in crate::agent) fn serve(machine: &Machine, stream: DuplexStream) -> io::Result<()> {
    let config = Config {
        server_id: SshId::Standard(Cow::Borrowed("SSH-2.0-ops_sandbox")),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        auth_rejection_time: Duration::ZERO,
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![host_key(&machine.state)?],
        window_size: WINDOW_BYTES,
        channel_buffer_size: CHANNEL_MESSAGES,
        event_buffer_size: 64,
        // As MaxAuthTries of the usual server.
        max_auth_attempts: 6,
        inactivity_timeout: None,
        ..Config::default()
    };
    let connection = Connection {
        machine: machine.clone(),
        user: String::new(),
        forwards: forward::Forwards::default(),
    };
    tokio::spawn(async move {
        let result = match russh::server::run_stream(Arc::new(config), stream, connection).await {
            Ok(session) => session.await,
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            tracing::debug!(%error, "an SSH connection ended");
        }
    });
    Ok(())
}

/// One client.
struct Connection {
    machine: Machine,
    /// The name under which it logged in.
    user: String,
    forwards: forward::Forwards,
}

impl Connection {
    fn judge(&self, user: &str, key: &russh::keys::PublicKey) -> Auth {
        if keys::is_authorized(&self.machine.state, user, key) {
            Auth::Accept
        } else {
            Auth::reject()
        }
    }
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(self.judge(user, offer.public_key))
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        user.clone_into(&mut self.user);
        Ok(self.judge(user, key.public_key))
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: russh::server::ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        reply.accept().await;
        let context = process::Context {
            machine: self.machine.clone(),
            user: self.user.clone(),
            handle: session.handle(),
            agent_socket: self.forwards.agent_socket(),
        };
        tokio::spawn(process::run(channel, context));
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: russh::server::ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Ok(port) = u16::try_from(port) else {
            reply.reject(ChannelOpenFailure::ConnectFailed).await;
            return Ok(());
        };
        tokio::spawn(forward::direct(
            self.machine.clone(),
            host.to_owned(),
            port,
            channel,
            reply,
        ));
        Ok(())
    }

    // Requests are answered here, in the order in which they came; what they ask for happens in the
    // channel's own task, which sees the same requests as messages.

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _term: &str,
        _columns: u32,
        _rows: u32,
        _width: u32,
        _height: u32,
        _modes: &[(russh::Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_success(channel)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        _value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if process::is_accepted_variable(name) {
            session.channel_success(channel)
        } else {
            session.channel_failure(channel)
        }
    }

    async fn shell_request(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_success(channel)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        _command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_success(channel)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if name == process::SFTP {
            session.channel_success(channel)
        } else {
            session.channel_failure(channel)
        }
    }

    async fn agent_request(
        &mut self,
        _channel: ChannelId,
        session: &mut Session,
    ) -> Result<bool, Self::Error> {
        Ok(self.forwards.open_agent(session.handle()).is_ok())
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        session: &mut Session,
    ) -> Result<bool, Self::Error> {
        Ok(self
            .forwards
            .listen(address, port, session.handle())
            .await
            .is_ok())
    }

    async fn cancel_tcpip_forward(
        &mut self,
        address: &str,
        port: u32,
        _session: &mut Session,
    ) -> Result<bool, Self::Error> {
        Ok(self.forwards.cancel(address, port))
    }
}

#[cfg(test)]
mod tests;
