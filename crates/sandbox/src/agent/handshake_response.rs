//! What the client answers to a handshake.

use serde::Deserialize;

/// The body of a handshake response, as far as the agent looks at it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct HandshakeResponse {
    pub(super) client_version: String,
    pub(super) processed_client_actions: Option<Vec<ProcessedAction>>,
}

/// What the client did about one requested action.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ProcessedAction {
    pub(super) action_type: String,
    /// 1 success, 2 failed, 3 unsupported.
    pub(super) action_status: i64,
    pub(super) action_result: Option<KmsResult>,
    pub(super) error: Option<String>,
}

/// The result of a `KMSEncryption` action; bytes are base64.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct KmsResult {
    #[serde(rename = "KMSCipherTextKey")]
    pub(super) ciphertext_key: Option<String>,
    #[serde(rename = "ChallengeAcknowledgement")]
    pub(super) has_challenge: bool,
}
