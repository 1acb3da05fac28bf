//! Encryption of a session with a data key of KMS.
//!
//! Where the account's session preferences name a KMS key, the agent asks for encryption in its
//! HandshakeRequest. The client has KMS make a data key of 64 bytes and hands the agent the
//! encrypted form of it; the agent has KMS decrypt that. From then on each direction has a key of
//! its own for AES-256-GCM:
//!
//! | bytes of the data key | who seals with them |
//! |---|---|
//! | 0–31 | the agent |
//! | 32–63 | the client |
//!
//! A sealed payload is 12 bytes of nonce, the ciphertext, and 16 bytes of tag; there is no further
//! authenticated data. [`is_encrypted`] says which payloads are sealed. Digest and length in the
//! header are those of the sealed payload.
//!
//! # Nonces
//!
//! The sender counts its nonces up, as numbers of 96 bits, from a start that differs from session
//! to session. A message takes one nonce when it gets its number and keeps its ciphertext for every
//! repetition; a channel has fewer than 2⁶³ numbers, so that no nonce comes twice under one key.
//! The receiver refuses a nonce that it has seen: without that, whoever sits between the two ends
//! could send an old ciphertext again under a new number.
//!
//! # What it does not protect
//!
//! Numbers, order, sizes, and the payloads that stay in clear are not authenticated: the service in
//! between can hold messages back, or let them arrive in another order. That is the protocol's, and
//! both official programs have it so.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::wire::{PayloadType, lookup};

/// Length of a data key: two keys for AES-256.
pub const DATA_KEY_BYTES: usize = 64;
/// What sealing adds to a payload: the nonce before it, the tag behind it.
pub const SEAL_BYTES: usize = NONCE_BYTES + TAG_BYTES;

const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
/// Opened payloads share buffers of this size, in bytes.
const BUFFER_LEN: usize = 64 << 10;
/// Ranges of seen nonces that are kept. An agent that counts, as the official one does, makes one
/// range, or two where its number overflows; only one that draws each nonce at random makes more.
/// Beyond this many some are forgotten, so that memory stays below 4 MiB.
const MAX_NONCE_RANGES: usize = 1 << 16;

/// The two ends of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Sends input, receives output.
    Client,
    /// Sends output, receives input.
    Agent,
}

/// Whether a payload of this type is sealed on an encrypted session when `sender` sends it.
pub const fn is_encrypted(sender: Role, payload_type: PayloadType) -> bool {
    match sender {
        Role::Client => matches!(payload_type, PayloadType::Output),
        Role::Agent => matches!(
            payload_type,
            PayloadType::Output | PayloadType::StdErr | PayloadType::ExitCode
        ),
    }
}

/// What KMS is asked for on behalf of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataKeyRequest {
    /// Id or ARN of the KMS key. The agent's word: any text.
    pub key_id: String,
    /// Text that belongs into the encryption context as `aws:ssm:RandomChallenge`; `None` from
    /// older agents.
    pub challenge: Option<String>,
}

/// What KMS has made for a session. The key itself is wiped from memory when dropped, and never
/// printed.
pub struct DataKey {
    plaintext: Zeroizing<Vec<u8>>,
    ciphertext_blob: Bytes,
}

/// A data key has another length than [`DATA_KEY_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the data key has {0} bytes, not {DATA_KEY_BYTES}")]
pub struct WrongKeyLength(usize);

impl DataKey {
    /// Takes the key, and the encrypted form of it that the agent gets.
    ///
    /// # Errors
    /// It has not [`DATA_KEY_BYTES`] bytes.
    pub fn new(
        plaintext: Zeroizing<Vec<u8>>,
        ciphertext_blob: impl Into<Bytes>,
    ) -> Result<Self, WrongKeyLength> {
        if plaintext.len() != DATA_KEY_BYTES {
            return Err(WrongKeyLength(plaintext.len()));
        }
        Ok(Self {
            plaintext,
            ciphertext_blob: ciphertext_blob.into(),
        })
    }

    /// The encrypted form, as KMS gave it.
    pub fn ciphertext_blob(&self) -> &[u8] {
        &self.ciphertext_blob
    }

    /// The two halves for one end. `seed` says where its nonces start. `None`: the library refuses
    /// the key.
    pub(crate) fn split(&self, role: Role, seed: u128) -> Option<(Sealer, Opener)> {
        let (of_agent, of_client) = self.plaintext.split_at(DATA_KEY_BYTES / 2);
        let (sealing, opening) = match role {
            Role::Client => (of_client, of_agent),
            Role::Agent => (of_agent, of_client),
        };
        // The library wipes what it copies when its context is freed.
        let key = |bytes| UnboundKey::new(&AES_256_GCM, bytes).ok();
        Some((
            Sealer {
                key: LessSafeKey::new(key(sealing)?),
                next_nonce: first_nonce(seed),
            },
            Opener {
                key: LessSafeKey::new(key(opening)?),
                seen: SeenNonces::default(),
                buffer: BytesMut::new(),
            },
        ))
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(…)")
    }
}

/// Body of the two messages that prove the encryption key: bytes in base64.
#[derive(Clone, Copy, Debug)]
pub struct Challenge;

impl Challenge {
    /// The bytes of a body, still sealed; `None` if it has none.
    pub fn parse(payload: &[u8]) -> Option<Vec<u8>> {
        let body: Map<String, Value> = serde_json::from_slice(payload).ok()?;
        let bytes = STANDARD
            .decode(lookup(&body, "Challenge")?.as_str()?)
            .ok()?;
        Some(bytes).filter(|bytes| !bytes.is_empty())
    }

    /// The JSON body around sealed bytes.
    pub fn payload(sealed: &[u8]) -> Bytes {
        json!({"Challenge": STANDARD.encode(sealed)})
            .to_string()
            .into()
    }
}

/// A start for nonces. It need not be secret, and even zero would do under a key that nobody else
/// has; a different one for each session guards against a KMS that gives one key twice.
fn first_nonce(seed: u128) -> u128 {
    let mut start = [0; 16];
    let hash = digest::digest(&digest::SHA256, &seed.to_le_bytes());
    start[..NONCE_BYTES].copy_from_slice(&hash.as_ref()[..NONCE_BYTES]);
    u128::from_le_bytes(start)
}

/// The nonce that `number`, of 96 bits, is written as: little-endian, as the official agent counts.
fn nonce_of(number: u128) -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    nonce.copy_from_slice(&number.to_le_bytes()[..NONCE_BYTES]);
    nonce
}

fn number_of(nonce: [u8; NONCE_BYTES]) -> u128 {
    let mut bytes = [0; 16];
    bytes[..NONCE_BYTES].copy_from_slice(&nonce);
    u128::from_le_bytes(bytes)
}

/// Seals what one end sends.
pub(crate) struct Sealer {
    key: LessSafeKey,
    next_nonce: u128,
}

impl Sealer {
    /// Appends to `out` what `write` appends, sealed.
    pub(crate) fn seal(&mut self, out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
        let start = out.len();
        let nonce = nonce_of(self.next_nonce);
        // Whatever becomes of this payload, its nonce is used up.
        self.next_nonce = (self.next_nonce + 1) & ((1 << (8 * NONCE_BYTES)) - 1);
        out.put_slice(&nonce);
        write(out);
        let sealed = self.key.seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::empty(),
            &mut out[start + NONCE_BYTES..],
        );
        match sealed {
            Ok(tag) => out.put_slice(tag.as_ref()),
            // AES-GCM refuses payloads of 64 GiB alone. Nothing ever goes out in clear instead.
            Err(_) => out.truncate(start),
        }
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(…)")
    }
}

/// Why a payload was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenFailure {
    /// Its tag is wrong, or it is too short to have one.
    Forged,
    /// Another payload had the same nonce.
    RepeatedNonce,
}

/// Opens what one end receives.
pub(crate) struct Opener {
    key: LessSafeKey,
    seen: SeenNonces,
    buffer: BytesMut,
}

impl Opener {
    /// The payload in `sealed`.
    ///
    /// # Errors
    /// It was not sealed with this key, or it has been opened before. Nothing of it is to be shown,
    /// and the session is to be ended.
    pub(crate) fn open(&mut self, sealed: &[u8]) -> Result<Bytes, OpenFailure> {
        let (nonce, rest) = sealed
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or(OpenFailure::Forged)?;
        let (ciphertext, tag) = rest
            .split_last_chunk::<TAG_BYTES>()
            .ok_or(OpenFailure::Forged)?;
        if !self.seen.insert(number_of(*nonce)) {
            return Err(OpenFailure::RepeatedNonce);
        }
        if self.buffer.capacity() < ciphertext.len() {
            self.buffer.reserve(ciphertext.len().max(BUFFER_LEN));
        }
        self.buffer.resize(ciphertext.len(), 0);
        let opened = self.key.open_separate_gather(
            Nonce::assume_unique_for_key(*nonce),
            Aad::empty(),
            ciphertext,
            tag,
            &mut self.buffer,
        );
        let payload = self.buffer.split().freeze();
        match opened {
            Ok(()) => Ok(payload),
            Err(_) => Err(OpenFailure::Forged),
        }
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opener(…)")
    }
}

/// The nonces that one sender has used, as numbers of 96 bits, in ranges without gaps: from the
/// first to the last, both included.
#[derive(Default)]
struct SeenNonces(BTreeMap<u128, u128>);

impl SeenNonces {
    /// Adds one; false if it was there.
    fn insert(&mut self, number: u128) -> bool {
        let below = self.0.range_mut(..=number).next_back();
        let first = match below {
            Some((_, last)) if number <= *last => return false,
            Some((first, last)) if number == *last + 1 => {
                *last = number;
                *first
            }
            _ => {
                self.0.insert(number, number);
                number
            }
        };
        // The range behind it may begin at the very next number.
        if let Some(last) = self.0.remove(&(number + 1)) {
            self.0.insert(first, last);
        }
        if self.0.len() > MAX_NONCE_RANGES {
            self.0.pop_first();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vectors(kind: &str) -> Vec<Value> {
        let file: Value =
            serde_json::from_str(include_str!("../tests/data/protocol-vectors.json")).unwrap();
        let vectors = file["vectors"].as_array().unwrap().iter();
        let found: Vec<Value> = vectors.filter(|v| v["kind"] == kind).cloned().collect();
        assert!(!found.is_empty(), "no vector of kind {kind}");
        found
    }

    fn bytes(vector: &Value, name: &str) -> Vec<u8> {
        let hex = vector[name].as_str().unwrap();
        let digits = (0..hex.len()).step_by(2);
        digits
            .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
            .collect()
    }

    fn key(plaintext: Vec<u8>) -> DataKey {
        DataKey::new(Zeroizing::new(plaintext), &b"blob"[..]).unwrap()
    }

    /// Both halves of one end of a vector, the sealing one at the nonce `nonce`.
    fn end(role: Role, vector: &Value, nonce: &str) -> (Sealer, Opener) {
        let (mut sealer, opener) = key(bytes(vector, "data_key_hex")).split(role, 1).unwrap();
        if let Ok(nonce) = bytes(vector, nonce).try_into() {
            sealer.next_nonce = number_of(nonce);
        }
        (sealer, opener)
    }

    fn sealed(sealer: &mut Sealer, payload: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::from(&b"before"[..]);
        sealer.seal(&mut out, |out| out.put_slice(payload));
        assert_eq!(out[..6], b"before"[..], "what is there stays");
        out[6..].to_vec()
    }

    #[test]
    fn payloads_are_sealed_and_opened_as_the_official_programs_do() {
        for vector in vectors("kms") {
            let id = &vector["id"];
            let (sender, receiver) = match vector["direction"].as_str().unwrap() {
                "client to agent" => (Role::Client, Role::Agent),
                _ => (Role::Agent, Role::Client),
            };
            let (plain, cipher) = (
                bytes(&vector, "plaintext_hex"),
                bytes(&vector, "ciphertext_hex"),
            );
            let (mut sealer, _) = end(sender, &vector, "nonce_hex");
            assert_eq!(sealed(&mut sealer, &plain), cipher, "{id}");
            let (_, mut opener) = end(receiver, &vector, "nonce_hex");
            assert_eq!(opener.open(&cipher).unwrap(), plain, "{id}");
        }
    }

    #[test]
    fn nonces_are_counted_up_as_the_official_agent_counts() {
        let of_agent: Vec<Value> = vectors("kms")
            .into_iter()
            .filter(|v| v["id"].as_str().unwrap().starts_with("kms-agent-encrypt"))
            .collect();
        assert_eq!(of_agent.len(), 3);
        let (mut sealer, _) = end(Role::Agent, &of_agent[0], "nonce_hex");
        for vector in &of_agent {
            let payload = sealed(&mut sealer, &bytes(vector, "plaintext_hex"));
            assert_eq!(payload, bytes(vector, "ciphertext_hex"), "{}", vector["id"]);
        }
    }

    #[test]
    fn what_was_not_sealed_with_the_key_is_refused() {
        for vector in vectors("kms_negative") {
            let (_, mut opener) = key(bytes(&vector, "data_key_hex"))
                .split(Role::Client, 1)
                .unwrap();
            assert_eq!(
                opener.open(&bytes(&vector, "ciphertext_hex")),
                Err(OpenFailure::Forged),
                "{}",
                vector["id"]
            );
        }
    }

    #[test]
    fn a_challenge_is_answered_as_the_official_client_does() {
        for vector in vectors("kms_challenge") {
            let (mut sealer, mut opener) = end(Role::Client, &vector, "client_nonce_hex");
            let asked = Challenge::parse(vector["request_json"].as_str().unwrap().as_bytes());
            let challenge = opener.open(&asked.unwrap()).unwrap();
            assert_eq!(challenge, bytes(&vector, "challenge_hex"));
            let answer = Challenge::payload(&sealed(&mut sealer, &challenge));
            assert_eq!(answer, vector["response_json"].as_str().unwrap());
        }
    }

    #[test]
    fn a_nonce_is_taken_once_whatever_the_order() {
        let mut seen = SeenNonces::default();
        let last = (1_u128 << 96) - 1;
        for number in [5, 7, 6, 0, last, 1, 4, last - 1] {
            assert!(seen.insert(number), "{number}");
            assert!(!seen.insert(number), "{number} again");
        }
        for number in [5, 6, 7, 0, 1, 4, last, last - 1] {
            assert!(!seen.insert(number), "{number} at the end");
        }
        assert!(seen.insert(2) && seen.insert(3));
        // 0 to 7, and the two at the end.
        assert_eq!(seen.0.len(), 2);
    }

    #[test]
    fn memory_for_random_nonces_is_bounded() {
        let mut seen = SeenNonces::default();
        for number in 0..MAX_NONCE_RANGES as u128 + 10 {
            assert!(seen.insert(2 * number));
        }
        assert_eq!(seen.0.len(), MAX_NONCE_RANGES);
    }

    #[test]
    fn each_payload_takes_a_nonce_of_its_own_and_the_number_wraps() {
        let key = key((0..64).collect());
        let (mut sealer, _) = key.split(Role::Client, 3).unwrap();
        let (_, mut opener) = key.split(Role::Agent, 3).unwrap();
        sealer.next_nonce = (1 << 96) - 2;
        for payload in [&b"one"[..], b"two", b"three", b""] {
            assert_eq!(opener.open(&sealed(&mut sealer, payload)).unwrap(), payload);
        }
    }

    #[test]
    fn two_sessions_start_elsewhere() {
        assert_ne!(first_nonce(1), first_nonce(2));
        assert!(first_nonce(1) < 1 << 96);
    }

    #[test]
    fn keys_are_never_printed_and_have_their_length() {
        let key = key(vec![0x5a; 64]);
        let (sealer, opener) = key.split(Role::Client, 1).unwrap();
        let text = format!("{key:?} {sealer:?} {opener:?}");
        assert_eq!(text, "DataKey(…) Sealer(…) Opener(…)");
        let short = DataKey::new(Zeroizing::new(vec![0; 32]), Bytes::new());
        assert_eq!(short.unwrap_err(), WrongKeyLength(32));
    }
}
