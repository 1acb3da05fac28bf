//! What only the agent does: it asks for the handshake, and acknowledges input once its owner has
//! used it.

use std::time::Duration;

use bytes::Bytes;

use super::{ChannelError, DataChannel, Event, Phase, session_type_of};
use crate::handshake::{
    ActionStatus, AgentVersion, Complete, Ready, Request, Response, SessionType,
};
use crate::wire::{Acknowledge, PayloadType};

impl DataChannel {
    /// Agent: begins the handshake. Until it is over, input is acknowledged and thrown away, as the
    /// official agent does.
    pub fn start_handshake(&mut self, now: Duration, request: &Request) {
        let (session_type, properties) = session_type_of(request);
        let ready = Ready {
            session_type: session_type.as_deref().and_then(SessionType::parse),
            agent_version: Some(AgentVersion::new(request.agent_version.clone())),
            properties,
            ..Ready::default()
        };
        self.phase = Phase::Handshaking { since: now, ready };
        self.outgoing
            .push(PayloadType::HandshakeRequest, request.payload());
    }

    /// Agent: the data event last polled has been used; it is acknowledged and the next one, if
    /// stored, becomes an event.
    pub fn acknowledge(&mut self, now: Duration) {
        if let Some(ack) = self.unsettled.take() {
            if let Some(ack) = ack {
                self.push_ack(now, ack);
            }
            self.incoming.advance();
            self.drain_as_agent(now);
        }
    }

    /// Agent: the data event last polled could not be used now. It is not acknowledged, so the
    /// client repeats it. (One that had come early was acknowledged when it was stored; it is lost
    /// and blocks the input for good, as it does at the official agent.)
    pub fn refuse(&mut self) {
        self.unsettled = None;
    }

    /// Agent: whether the data event last polled came in its turn, so that refusing it makes the
    /// client repeat it.
    pub fn may_refuse(&self) -> bool {
        matches!(self.unsettled, Some(Some(_)))
    }

    /// Agent: hands one message to the owner, or uses it itself. Leaves it unsettled or advances.
    pub(super) fn take_as_agent(
        &mut self,
        now: Duration,
        ack: Option<Acknowledge>,
        payload_type: PayloadType,
        payload: Bytes,
    ) {
        match &self.phase {
            Phase::Handshaking { since, ready }
                if payload_type == PayloadType::HandshakeResponse =>
            {
                let (since, ready) = (*since, ready.clone());
                self.finish_handshake(now, since, ready, &payload);
            }
            Phase::Open if payload_type == PayloadType::HandshakeResponse => {
                self.phase = Phase::Deaf;
                return;
            }
            Phase::Open if !payload.is_empty() => {
                self.stats.bytes_in += payload.len() as u64;
                self.events.push_back(Event::Data {
                    payload_type,
                    payload,
                });
                self.unsettled = Some(ack);
                return;
            }
            _ => {}
        }
        if let Some(ack) = ack {
            self.push_ack(now, ack);
        }
        self.incoming.advance();
    }

    pub(super) fn drain_as_agent(&mut self, now: Duration) {
        while self.unsettled.is_none() && self.phase != Phase::Deaf {
            let Some((payload_type, payload)) = self.incoming.take_stored() else {
                return;
            };
            self.take_as_agent(now, None, payload_type, payload);
        }
    }

    pub(super) fn finish_handshake(
        &mut self,
        now: Duration,
        since: Duration,
        ready: Ready,
        payload: &[u8],
    ) {
        let Some(response) = Response::parse(payload) else {
            self.fail(ChannelError::MalformedHandshake);
            return;
        };
        if let Some(failed) = response
            .processed_client_actions
            .iter()
            .find(|a| a.action_status != ActionStatus::Success)
        {
            self.fail(ChannelError::HandshakeRefused(format!(
                "Encountered error while initiating handshake. {} failed on client with status {} error: {}",
                failed.action_type,
                failed.action_status.code(),
                failed.error
            )));
            return;
        }
        let complete = Complete {
            time_to_complete_ns: i64::try_from(now.saturating_sub(since).as_nanos())
                .unwrap_or(i64::MAX),
            customer_message: ready.customer_message.clone(),
        };
        self.outgoing
            .push(PayloadType::HandshakeComplete, complete.payload());
        self.phase = Phase::Open;
        self.events.push_back(Event::Ready(Ready {
            client_version: Some(response.client_version),
            ..ready
        }));
    }
}
