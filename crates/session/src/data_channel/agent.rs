//! What only the agent does: it asks for the handshake, and acknowledges input once its owner has
//! used it.

use std::time::Duration;

use bytes::Bytes;

use super::key_round::{KeyRound, key_demand};
use super::{ChannelError, DataChannel, Event, Phase, session_type_of};
use crate::handshake::{
    ActionStatus, AgentVersion, Complete, Ready, Request, Response, SessionType,
};
use crate::wire::{Acknowledge, PayloadType};

impl DataChannel {
    /// Agent: begins the handshake. Until it is over, input is acknowledged and thrown away, as the
    /// official agent does. With a demand for encryption, bytes that come before there is a key end
    /// its reading, as theirs do.
    pub fn start_handshake(&mut self, now: Duration, request: &Request) {
        let (session_type, properties) = session_type_of(request);
        let ready = Ready {
            session_type: session_type.as_deref().and_then(SessionType::parse),
            agent_version: Some(AgentVersion::new(request.agent_version.clone())),
            properties,
            encrypted_with: key_demand(request).ok().flatten().map(|key| key.key_id),
            ..Ready::default()
        };
        let key = match ready.encrypted_with {
            Some(_) => KeyRound::Demanded {
                client_version: None,
            },
            None => KeyRound::Settled,
        };
        self.phase = Phase::Handshaking {
            since: now,
            ready: Box::new(ready),
            key,
        };
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
            self.opened = None;
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

    /// As [`DataChannel::open_received`]; what the owner has refused comes again as the same
    /// ciphertext, and is not opened a second time.
    fn open_once(&mut self, payload_type: PayloadType, payload: Bytes) -> Option<Bytes> {
        if self.opened.is_none() {
            self.opened = Some(self.open_received(payload_type, payload)?);
        }
        self.opened.clone()
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
        let is_encrypted = matches!(&self.phase, Phase::Handshaking { ready, .. } if ready.encrypted_with.is_some());
        match (&self.phase, payload_type) {
            (Phase::Handshaking { key, .. }, PayloadType::HandshakeResponse) => {
                if matches!(
                    key,
                    KeyRound::Settled
                        | KeyRound::Demanded {
                            client_version: None
                        }
                ) {
                    self.take_response(now, &payload);
                } else {
                    self.phase = Phase::Deaf;
                    return;
                }
            }
            (Phase::Handshaking { .. }, PayloadType::EncryptionChallengeResponse) => {
                if let Some(client_version) = self.check_challenge(&payload) {
                    self.complete_handshake(now, client_version.unwrap_or_default());
                }
            }
            (Phase::Handshaking { .. }, PayloadType::Output)
                if is_encrypted && self.opener.is_none() =>
            {
                self.phase = Phase::Deaf;
                return;
            }
            (Phase::Open, PayloadType::HandshakeResponse) => {
                self.phase = Phase::Deaf;
                return;
            }
            (Phase::Open, _) if !payload.is_empty() => {
                if let Some(payload) = self.open_once(payload_type, payload) {
                    self.stats.bytes_in += payload.len() as u64;
                    self.events.push_back(Event::Data {
                        payload_type,
                        payload,
                    });
                    self.unsettled = Some(ack);
                    return;
                }
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

    fn take_response(&mut self, now: Duration, payload: &[u8]) {
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
        let is_encrypted = matches!(&self.phase, Phase::Handshaking { ready, .. } if ready.encrypted_with.is_some());
        if !is_encrypted {
            self.complete_handshake(now, response.client_version);
            return;
        }
        let result = response
            .processed_client_actions
            .iter()
            .find(|action| action.action_type == "KMSEncryption")
            .map(|action| action.action_result.clone());
        self.take_offered_key(&result.unwrap_or_default(), response.client_version);
    }

    fn complete_handshake(&mut self, now: Duration, client_version: String) {
        let Phase::Handshaking { since, ready, .. } = &self.phase else {
            return;
        };
        let (since, ready) = (*since, Ready::clone(ready));
        let complete = Complete {
            time_to_complete_ns: i64::try_from(now.saturating_sub(since).as_nanos())
                .unwrap_or(i64::MAX),
            customer_message: ready.customer_message.clone(),
        };
        self.outgoing
            .push(PayloadType::HandshakeComplete, complete.payload());
        self.phase = Phase::Open;
        self.events.push_back(Event::Ready(Ready {
            client_version: Some(client_version),
            ..ready
        }));
    }
}
