//! The key round of a handshake: the client has a data key made, the agent has it decrypted, and
//! each shows the other that it holds the same key.
//!
//! ```text
//!  agent:  HandshakeRequest (KMS key)      -> client: Event::DataKeyWanted
//!  client: provide_data_key, Response      -> agent:  has the key decrypted
//!  agent:  challenge, sealed with its half -> client: opens it, seals it with its own half
//!  client: challenge response              -> agent:  compares, HandshakeComplete
//! ```
//!
//! Whatever fails in it ends the session: none ever goes on in clear.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{ChannelError, DataChannel, Phase};
use crate::encryption::{Challenge, DataKey, DataKeyRequest, OpenFailure, Role, is_encrypted};
use crate::handshake::{Action, KeyAnswer, Request, Response};
use crate::wire::PayloadType;

/// Where the key round of a handshake stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum KeyRound {
    /// Nobody asks for encryption, or both ends have shown that they hold the key.
    Settled,
    /// The owner fetches a data key, and the request waits for its answer.
    Fetching(Request),
    /// The data key is given; the agent's challenge is on its way.
    Challenged,
}

/// The demand for encryption in `request`.
///
/// # Errors
/// There are several, and one session has one key.
pub(super) fn key_demand(request: &Request) -> Result<Option<DataKeyRequest>, ChannelError> {
    let mut demands = request.actions.iter().filter_map(|action| match action {
        Action::KmsEncryption { key_id, challenge } => Some(DataKeyRequest {
            key_id: key_id.clone(),
            challenge: challenge.clone(),
        }),
        _ => None,
    });
    let first = demands.next();
    match demands.next() {
        None => Ok(first),
        Some(_) => Err(ChannelError::MalformedHandshake),
    }
}

impl DataChannel {
    /// Gives the data key that [`Event::DataKeyWanted`](super::Event::DataKeyWanted) asked for.
    /// Does nothing when none is asked for (any more).
    pub fn provide_data_key(&mut self, now: Duration, key: &DataKey) {
        let Phase::Handshaking {
            key: KeyRound::Fetching(request),
            ..
        } = &self.phase
        else {
            return;
        };
        let answer = KeyAnswer::Given(key);
        let response = Response::answer(request, &self.client_version, answer).payload();
        let Some((sealer, opener)) = key.split(Role::Client, self.seed) else {
            self.end_over_encryption(ChannelError::Undecryptable);
            return;
        };
        self.outgoing.set_sealer(sealer);
        self.opener = Some(opener);
        self.send_urgently(now, PayloadType::HandshakeResponse, &response);
        self.set_key_round(KeyRound::Challenged);
    }

    /// There is no data key: the agent is told `why`, and the session fails.
    pub fn refuse_data_key(&mut self, now: Duration, why: &str) {
        let Phase::Handshaking {
            key: KeyRound::Fetching(request),
            ready,
            ..
        } = &self.phase
        else {
            return;
        };
        let key_id = ready.encrypted_with.clone().unwrap_or_default();
        // The agent closes the session by itself once it has read this.
        let answer = KeyAnswer::Refused(why);
        let response = Response::answer(request, &self.client_version, answer).payload();
        self.send_urgently(now, PayloadType::HandshakeResponse, &response);
        self.fail(ChannelError::NoDataKey {
            key_id,
            reason: why.to_owned(),
        });
    }

    /// Proves to the agent that this end holds the key.
    pub(super) fn answer_challenge(&mut self, now: Duration, payload: &[u8]) {
        let is_asked_for = matches!(
            &self.phase,
            Phase::Handshaking {
                key: KeyRound::Challenged,
                ..
            }
        );
        if !is_asked_for {
            tracing::debug!("skipped a challenge out of turn");
            return;
        }
        let Some(sealed) = Challenge::parse(payload) else {
            self.end_over_encryption(ChannelError::MalformedHandshake);
            return;
        };
        let Some(challenge) = self.open_payload(&sealed) else {
            return;
        };
        let answer = self.sealed_challenge(&challenge);
        self.send_urgently(now, PayloadType::EncryptionChallengeResponse, &answer);
        self.set_key_round(KeyRound::Settled);
    }

    /// A payload as its receiver may use it: opened, if it was sealed. `None`: it is not to be
    /// used, and if it was sealed and could not be opened, the session is over.
    pub(super) fn open_received(
        &mut self,
        payload_type: PayloadType,
        payload: Bytes,
    ) -> Option<Bytes> {
        if self.opener.is_none() {
            return Some(payload);
        }
        if is_encrypted(Role::Agent, payload_type) {
            return self.open_payload(&payload);
        }
        // Text for people that nobody has sealed could be anybody's; no current agent sends any.
        if payload_type == PayloadType::Error {
            tracing::debug!("skipped a text in clear on an encrypted session");
            return None;
        }
        Some(payload)
    }

    fn open_payload(&mut self, sealed: &[u8]) -> Option<Bytes> {
        match self.opener.as_mut()?.open(sealed) {
            Ok(payload) => Some(payload),
            Err(failure) => {
                self.end_over_encryption(match failure {
                    OpenFailure::Forged => ChannelError::Undecryptable,
                    OpenFailure::RepeatedNonce => ChannelError::RepeatedCiphertext,
                });
                None
            }
        }
    }

    /// The session ends here: nothing more is sent or taken, and the keys are wiped.
    pub(super) fn end_over_encryption(&mut self, error: ChannelError) {
        self.fail(error);
        self.phase = Phase::Over;
        self.opener = None;
        self.outgoing.forget_sealer();
        self.acks.clear();
    }

    fn sealed_challenge(&mut self, challenge: &[u8]) -> Bytes {
        let mut sealed = BytesMut::new();
        self.outgoing.seal(challenge, &mut sealed);
        Challenge::payload(&sealed)
    }

    fn set_key_round(&mut self, round: KeyRound) {
        if let Phase::Handshaking { key, .. } = &mut self.phase {
            *key = round;
        }
    }
}
