//! Data keys and their encrypted form.
//!
//! A ciphertext blob is the data key sealed under a key of this sandbox, with the KMS key's ARN and
//! the encryption context as further authenticated data: another context, or another key, does not
//! open it, as at the real service.

use std::{collections::BTreeMap, sync::Arc};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, RandomizedNonceKey},
    error::Unspecified,
    rand,
};
use serde_json::json;

use crate::{error::ApiError, faults::RandomChallenge};

/// The encryption context of a call.
pub(crate) type Context = BTreeMap<String, String>;

/// What makes and opens ciphertext blobs.
#[derive(Debug)]
pub(crate) struct Kms(RandomizedNonceKey);

impl Kms {
    /// With a key of its own.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub(crate) fn new() -> Result<Self, Unspecified> {
        let mut key = [0; 32];
        rand::fill(&mut key)?;
        Ok(Self(RandomizedNonceKey::new(&AES_256_GCM, &key)?))
    }

    pub(crate) fn seal(
        &self,
        arn: &str,
        context: &Context,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, Unspecified> {
        let mut sealed = plaintext.to_vec();
        let aad = Aad::from(bound_to(arn, context));
        let nonce = self.0.seal_in_place_append_tag(aad, &mut sealed)?;
        Ok([&nonce.as_ref()[..], &sealed].concat())
    }

    pub(crate) fn open(&self, arn: &str, context: &Context, blob: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = blob.split_first_chunk::<NONCE_LEN>()?;
        let mut sealed = sealed.to_vec();
        let aad = Aad::from(bound_to(arn, context));
        let plaintext = self.0.open_in_place(nonce.into(), aad, &mut sealed).ok()?;
        Some(plaintext.to_vec())
    }
}

fn bound_to(arn: &str, context: &Context) -> String {
    json!([arn, context]).to_string()
}

/// As the service: not a word of what is wrong with it.
pub(crate) fn invalid_ciphertext() -> ApiError {
    ApiError::new("InvalidCiphertextException", "")
}

/// How the agent of one session has its data key decrypted: with the role of its machine, in the
/// machine's region.
#[derive(Clone, Debug)]
pub(crate) struct AgentKms {
    /// The KMS key, as the account's preferences name it.
    pub(crate) key: String,
    /// Whether the agent offers a text for the encryption context, and insists on it.
    pub(crate) challenge: RandomChallenge,
    kms: Arc<Kms>,
    /// The key's ARN, or why the role may not use it.
    allowed: Result<String, ApiError>,
}

impl AgentKms {
    /// For a session whose agent may use the key under this ARN, or not.
    pub(crate) fn new(
        kms: Arc<Kms>,
        key: String,
        challenge: RandomChallenge,
        allowed: Result<String, ApiError>,
    ) -> Self {
        Self {
            key,
            challenge,
            kms,
            allowed,
        }
    }

    /// For a test of the agent alone: a key that it may use.
    #[cfg(test)]
    pub(crate) fn of_test(key: &str) -> Self {
        Self {
            key: key.to_owned(),
            challenge: RandomChallenge::Offered,
            kms: Arc::new(Kms::new().expect("random bytes")),
            allowed: Ok(key.to_owned()),
        }
    }

    /// As a client of [`AgentKms::of_test`] has one made.
    #[cfg(test)]
    pub(crate) fn blob_of(&self, context: &Context, plaintext: &[u8]) -> Vec<u8> {
        let sealed = self.kms.seal(&self.key, context, plaintext);
        sealed.expect("AES-GCM seals")
    }

    /// The data key in `blob`.
    ///
    /// # Errors
    /// What KMS says, as the agent's library writes it.
    pub(crate) fn decrypt(&self, context: &Context, blob: &[u8]) -> Result<Vec<u8>, String> {
        let words = |error: &ApiError| format!("{}: {}", error.code, error.message);
        let arn = self.allowed.as_ref().map_err(words)?;
        let opened = self.kms.open(arn, context, blob);
        opened.ok_or_else(|| words(&invalid_ciphertext()))
    }
}
