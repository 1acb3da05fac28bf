//! The channel's own part in a session: it answers the handshake, delivers output, asks for large
//! payloads, and watches for silence.

use std::time::Duration;

use bytes::Bytes;

use super::key_round::{KeyRound, key_demand};
use super::{ChannelError, DataChannel, Event, Expect, Phase, earliest};
use crate::encryption::{Role, is_encrypted};
use crate::handshake::{
    Action, AgentVersion, Complete, KeyAnswer, Ready, Request, Response, SessionType,
};
use crate::wire::PayloadType;

/// Actions of one handshake: two kinds are known. Each is answered with more bytes than it takes to
/// ask for it.
const MAX_ACTIONS: usize = 32;
/// Longest name of the far end's that is repeated in an error, in characters.
const NAME_CHARS: usize = 80;
/// From opening to the first stream data.
const FIRST_MESSAGE_TIMEOUT: Duration = Duration::from_secs(60);
/// A silent shell is asked for a sign of life with its size after this long.
const SIZE_AFTER: Duration = Duration::from_secs(3);
/// Once that was acknowledged, a handshake that has not begun after this long does not come.
const PLAIN_AFTER: Duration = Duration::from_secs(2);
/// The agent counts as silent when nothing came from it for this long although it owes an
/// acknowledgement.
const SILENT_AFTER: Duration = Duration::from_secs(10);

impl DataChannel {
    /// Sends, ahead of what is pending, one large message that proves whether large payloads
    /// arrive; until it is acknowledged they stay at 1,024 bytes.
    /// `small` must mean the same to the agent as `large` (a Size with and without padding, many
    /// keep-alive frames and one), because it takes the large one's number if that does not get
    /// through: a numbered message cannot be cut up afterwards without risking that its bytes
    /// arrive twice.
    ///
    /// Does nothing when large payloads are not wanted or were asked for before.
    pub fn probe_payload(
        &mut self,
        now: Duration,
        payload_type: PayloadType,
        large: &[u8],
        small: Bytes,
    ) {
        if self.phase == Phase::Open && self.outgoing.wants_probe() {
            let frame = self
                .outgoing
                .send_probe(now, &mut self.stamp, payload_type, large, small);
            self.urgent.push_back(frame);
        }
    }

    /// The size a probe should have, in bytes; `None` when no probe is wanted.
    pub fn probe_len(&self) -> Option<usize> {
        (self.phase == Phase::Open && self.outgoing.wants_probe())
            .then(|| self.outgoing.wanted_payload())
    }

    /// Uses one message in its turn. It is acknowledged already; acting twice is impossible
    /// since its number has passed.
    pub(super) fn deliver(&mut self, now: Duration, payload_type: PayloadType, payload: Bytes) {
        match payload_type {
            PayloadType::HandshakeRequest if self.phase == Phase::Waiting => {
                self.answer_handshake(now, &payload);
            }
            PayloadType::HandshakeComplete => {
                if let Phase::Handshaking { ready, key, .. } = &self.phase {
                    if self.failed {
                        return;
                    }
                    // An agent that skips the round has shown that it holds no key.
                    if *key != KeyRound::Settled {
                        self.end_over_encryption(ChannelError::KeyRoundSkipped);
                        return;
                    }
                    let mut ready = Ready::clone(ready);
                    ready.customer_message = Complete::parse(&payload).customer_message;
                    self.open(now, ready);
                }
            }
            PayloadType::EncryptionChallengeRequest => self.answer_challenge(now, &payload),
            PayloadType::HandshakeRequest
            | PayloadType::HandshakeResponse
            | PayloadType::EncryptionChallengeResponse => {
                tracing::debug!(?payload_type, "skipped a handshake message out of turn");
            }
            PayloadType::Other(_) | PayloadType::None => {
                tracing::debug!(?payload_type, "skipped a payload of unknown type");
            }
            _ => {
                // What comes before the end of an encrypted handshake is not the agent's, or comes
                // from one that does not keep its own demand.
                if is_encrypted(Role::Agent, payload_type)
                    && matches!(&self.phase, Phase::Handshaking { ready, .. } if ready.encrypted_with.is_some())
                {
                    self.end_over_encryption(ChannelError::KeyRoundSkipped);
                    return;
                }
                let Some(payload) = self.open_received(payload_type, payload) else {
                    return;
                };
                if self.phase == Phase::Waiting {
                    self.open(now, Ready::default());
                }
                if !payload.is_empty() {
                    self.stats.bytes_in += payload.len() as u64;
                    self.events.push_back(Event::Data {
                        payload_type,
                        payload,
                    });
                }
            }
        }
    }

    pub(super) fn answer_handshake(&mut self, now: Duration, payload: &[u8]) {
        let request =
            Request::parse(payload).filter(|request| request.actions.len() <= MAX_ACTIONS);
        let Some(request) = request else {
            self.fail(ChannelError::MalformedHandshake);
            return;
        };
        let (session_type, properties) = session_type_of(&request);
        let demand = key_demand(&request);
        let key_id = |demand: &crate::encryption::DataKeyRequest| demand.key_id.clone();
        let ready = Ready {
            session_type: session_type.as_deref().and_then(SessionType::parse),
            agent_version: Some(AgentVersion::new(shorten(&request.agent_version))),
            properties,
            encrypted_with: demand.as_ref().ok().and_then(Option::as_ref).map(key_id),
            ..Ready::default()
        };
        let failure = request.actions.iter().find_map(|action| match action {
            Action::Unknown { name } => Some(ChannelError::UnknownAction(shorten(name))),
            Action::SessionType { name, .. } if SessionType::parse(name).is_none() => {
                Some(ChannelError::UnknownSessionType(shorten(name)))
            }
            Action::SessionType { .. } | Action::KmsEncryption { .. } => None,
        });
        let failure = failure.or(demand.as_ref().err().cloned());
        // A key is fetched only where the session can come about: KMS keeps a record of each.
        if let (None, Ok(Some(wanted))) = (&failure, demand) {
            self.phase = Phase::Handshaking {
                since: now,
                ready: Box::new(ready),
                key: KeyRound::Fetching(request),
            };
            self.events.push_back(Event::DataKeyWanted(wanted));
            return;
        }
        self.phase = Phase::Handshaking {
            since: now,
            ready: Box::new(ready),
            key: KeyRound::Settled,
        };
        let refused = KeyAnswer::Refused("No data key was fetched");
        let response = Response::answer(&request, &self.client_version, refused).payload();
        self.send_urgently(now, PayloadType::HandshakeResponse, &response);
        // The answer names what failed; the agent then closes the session by itself.
        if let Some(failure) = failure {
            self.fail(failure);
        }
    }

    /// Sends `payload` before everything pending.
    pub(super) fn send_urgently(
        &mut self,
        now: Duration,
        payload_type: PayloadType,
        payload: &[u8],
    ) {
        let frame = self
            .outgoing
            .send_now(now, &mut self.stamp, payload_type, payload);
        self.urgent.push_back(frame);
    }

    pub(super) fn open(&mut self, now: Duration, ready: Ready) {
        let after_handshake = ready.agent_version.is_some();
        self.phase = Phase::Open;
        self.heard_at = now;
        if after_handshake {
            // The round trip is no help: where it is long because the agent's machine is busy, the
            // agent is late too.
            let wait = self.settle_after_handshake;
            self.input_from = (!wait.is_zero()).then(|| now + wait);
        }
        // A size sent before the handshake was acknowledged and thrown away.
        if let (true, Some(_), Some(size)) =
            (after_handshake, self.early_size.take(), self.size.clone())
        {
            self.send_urgently(now, PayloadType::Size, &size);
        }
        self.events.push_back(Event::Ready(ready));
    }

    /// The session can be used as it is: its program is known to run, so that the time of
    /// a handshake is over. Without this its first output says so, which a silent program never
    /// sends. Does nothing once something came.
    pub fn assume_plain(&mut self, now: Duration) {
        if self.expect == Expect::MaybePlain && self.phase == Phase::Waiting {
            self.open(now, Ready::default());
        }
    }

    /// Nothing has come yet.
    pub(super) fn wait_for_agent(&mut self, now: Duration) {
        if now >= self.connected_at + FIRST_MESSAGE_TIMEOUT {
            self.fail(ChannelError::NoAnswer(FIRST_MESSAGE_TIMEOUT));
        } else if matches!(self.early_size, Some(Some(at)) if now >= at + PLAIN_AFTER) {
            self.open(now, Ready::default());
        } else if self.wants_early_size() && now >= self.connected_at + SIZE_AFTER {
            // The agent takes a size at any time, or throws it away: then it is repeated after the
            // handshake.
            if let Some(size) = self.outgoing.take_pending(PayloadType::Size) {
                self.send_urgently(now, PayloadType::Size, &size);
                self.early_size = Some(None);
            }
        }
    }

    /// When [`DataChannel::wait_for_agent`] has something to do.
    pub(super) fn waits_until(&self) -> Option<Duration> {
        let early = match self.early_size {
            Some(Some(at)) => Some(at + PLAIN_AFTER),
            Some(None) => None,
            None => self
                .wants_early_size()
                .then(|| self.connected_at + SIZE_AFTER),
        };
        earliest([early, Some(self.connected_at + FIRST_MESSAGE_TIMEOUT)])
    }

    pub(super) fn probe_with_size(&mut self, now: Duration) {
        // Blanks after JSON mean nothing, so a padded size is a size.
        let (Some(size), Some(len)) = (self.size.clone(), self.probe_len()) else {
            return;
        };
        let mut large = size.to_vec();
        large.resize(len.max(size.len()), b' ');
        self.probe_payload(now, PayloadType::Size, &large, size);
    }

    /// When [`DataChannel::watch`] has something to say.
    pub(super) fn watches_until(&self) -> Option<Duration> {
        match self.owed_since()? {
            _ if self.failed => None,
            since if self.silent => Some(since + self.give_up_after),
            since => Some(since + SILENT_AFTER.min(self.give_up_after)),
        }
    }

    /// Since when the agent has owed a word; `None` if it owes none.
    pub(super) fn owed_since(&self) -> Option<Duration> {
        Some(self.outgoing.head_sent_at()?.max(self.heard_at))
    }

    pub(super) fn watch(&mut self, now: Duration) {
        let Some(since) = self.owed_since() else {
            return;
        };
        let waited = now.saturating_sub(since);
        if waited >= self.give_up_after {
            self.fail(ChannelError::GaveUp(self.give_up_after));
        } else if waited >= SILENT_AFTER && !self.silent {
            self.silent = true;
            self.events.push_back(Event::Silent(waited));
        }
    }

    pub(super) fn wants_early_size(&self) -> bool {
        self.expect == Expect::MaybePlain && self.early_size.is_none() && self.size.is_some()
    }
}

fn session_type_of(request: &Request) -> (Option<String>, serde_json::Value) {
    request
        .actions
        .iter()
        .find_map(|action| match action {
            Action::SessionType { name, properties } => {
                Some((Some(name.clone()), properties.clone()))
            }
            _ => None,
        })
        .unwrap_or_default()
}

/// The beginning of a name that the far end has chosen, which may be as long as a payload.
fn shorten(name: &str) -> String {
    match name.char_indices().nth(NAME_CHARS) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}
