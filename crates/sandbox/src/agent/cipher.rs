//! The agent's cipher on an encrypted session: AES-256-GCM, written as the official agent has it
//! and not taken from the client's code.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    error::Unspecified,
    rand,
};
use bytes::Bytes;

/// Of the data key: the agent's half first, the client's behind it.
const DATA_KEY_BYTES: usize = 64;

/// Both directions, and the nonce counter of the agent's own.
#[derive(Debug)]
pub(super) struct BlockCipher {
    encryption: LessSafeKey,
    decryption: LessSafeKey,
    /// Three words, the least significant first; each is written little-endian.
    nonce: [u32; 3],
}

impl BlockCipher {
    /// # Errors
    /// The data key has not its length, or the system gives no random bytes.
    pub(super) fn new(data_key: &[u8]) -> Result<Self, Unspecified> {
        if data_key.len() != DATA_KEY_BYTES {
            return Err(Unspecified);
        }
        let key = |bytes| UnboundKey::new(&AES_256_GCM, bytes).map(LessSafeKey::new);
        let mut start = [0; NONCE_LEN];
        rand::fill(&mut start)?;
        let word = |at: usize| {
            u32::from_le_bytes([start[at], start[at + 1], start[at + 2], start[at + 3]])
        };
        Ok(Self {
            encryption: key(&data_key[..DATA_KEY_BYTES / 2])?,
            decryption: key(&data_key[DATA_KEY_BYTES / 2..])?,
            nonce: [word(0), word(4), word(8)],
        })
    }

    /// Nonce, ciphertext, tag.
    ///
    /// # Errors
    /// A payload that is too long for AES-GCM.
    pub(super) fn encrypt(&mut self, payload: &[u8]) -> Result<Bytes, Unspecified> {
        let mut nonce = [0; NONCE_LEN];
        for (bytes, word) in nonce.chunks_exact_mut(4).zip(self.nonce) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        for word in &mut self.nonce {
            *word = word.wrapping_add(1);
            if *word != 0 {
                break;
            }
        }
        let mut sealed = payload.to_vec();
        self.encryption.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::empty(),
            &mut sealed,
        )?;
        Ok([&nonce[..], &sealed].concat().into())
    }

    /// `None`: it was not encrypted with the client's half.
    pub(super) fn decrypt(&self, sealed: &[u8]) -> Option<Bytes> {
        let (nonce, rest) = sealed.split_first_chunk()?;
        let mut rest = rest.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let payload = self
            .decryption
            .open_in_place(nonce, Aad::empty(), &mut rest)
            .ok()?;
        Some(Bytes::copy_from_slice(payload))
    }
}
