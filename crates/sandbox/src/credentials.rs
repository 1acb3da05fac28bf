//! The keys of this run: one user's, and those that AssumeRole and its like hand out.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::rand;
use base64::Engine as _;
use jiff::Timestamp;

/// One access key.
#[derive(Clone)]
pub(crate) struct Key {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
    /// Temporary keys only: must come along with each request.
    pub(crate) session_token: Option<String>,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) identity: Identity,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Key")
            .field("access_key_id", &self.access_key_id)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

/// Who a key belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) account: String,
    pub(crate) arn: String,
    pub(crate) user_id: String,
    /// What session ids begin with: the user's name, or the role session's.
    pub(crate) caller_name: String,
}

/// All keys that are good in this run.
#[derive(Debug)]
pub(crate) struct Keyring {
    user: Key,
    temporary: Mutex<HashMap<String, Key>>,
}

impl Keyring {
    /// A user `sandbox` of `account` with random keys.
    pub(crate) fn new(account: &str) -> Result<Self, aws_lc_rs::error::Unspecified> {
        let identity = Identity {
            account: account.to_owned(),
            arn: format!("arn:aws:iam::{account}:user/sandbox"),
            user_id: format!("AIDA{}", letters(17)?),
            caller_name: "sandbox".to_owned(),
        };
        Ok(Self {
            user: Key {
                access_key_id: format!("AKIA{}", letters(16)?),
                secret_access_key: random_base64(30)?,
                session_token: None,
                expires: None,
                identity,
            },
            temporary: Mutex::default(),
        })
    }

    /// The same user with keys of before.
    pub(crate) fn with_keys(mut self, access_key_id: String, secret_access_key: String) -> Self {
        self.user.access_key_id = access_key_id;
        self.user.secret_access_key = secret_access_key;
        self
    }

    pub(crate) const fn user(&self) -> &Key {
        &self.user
    }

    pub(crate) fn key(&self, access_key_id: &str) -> Option<Key> {
        if access_key_id == self.user.access_key_id {
            return Some(self.user.clone());
        }
        self.temporary
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(access_key_id)
            .cloned()
    }

    /// Makes temporary keys for `identity`.
    pub(crate) fn issue(
        &self,
        identity: Identity,
        lifetime: Duration,
    ) -> Result<Key, aws_lc_rs::error::Unspecified> {
        let key = Key {
            access_key_id: format!("ASIA{}", letters(16)?),
            secret_access_key: random_base64(30)?,
            session_token: Some(random_base64(120)?),
            expires: Timestamp::now().checked_add(lifetime).ok(),
            identity,
        };
        self.temporary
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key.access_key_id.clone(), key.clone());
        Ok(key)
    }

    /// Lets all temporary keys expire now.
    pub(crate) fn expire_temporary(&self) {
        let now = Timestamp::now();
        for key in self
            .temporary
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values_mut()
        {
            key.expires = Some(now);
        }
    }
}

/// Random upper-case letters and digits, as in AWS's ids.
pub(crate) fn letters(count: usize) -> Result<String, aws_lc_rs::error::Unspecified> {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut bytes = vec![0; count];
    rand::fill(&mut bytes)?;
    Ok(bytes
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte % 32)]))
        .collect())
}

/// Random bytes as lower-case hexadecimal text.
pub(crate) fn random_hex(len_bytes: usize) -> Result<String, aws_lc_rs::error::Unspecified> {
    let mut bytes = vec![0; len_bytes];
    rand::fill(&mut bytes)?;
    Ok(hex(&bytes))
}

/// Random bytes as base64 text.
pub(crate) fn random_base64(len_bytes: usize) -> Result<String, aws_lc_rs::error::Unspecified> {
    let mut bytes = vec![0; len_bytes];
    rand::fill(&mut bytes)?;
    Ok(base64::engine::general_purpose::STANDARD.encode(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
