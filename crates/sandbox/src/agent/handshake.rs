//! The handshake, where the session type or a key asks for one.

use std::time::Duration;

use tokio::time::Instant;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    channel::Channel, cipher::BlockCipher, frame::payload, handshake_response::HandshakeResponse,
    version,
};
use crate::{
    data_keys::{AgentKms, Context},
    faults::RandomChallenge,
    session::{SessionKind, SessionSpec},
};

/// How long the agent waits for the response.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Whether this session begins with a handshake.
pub(super) const fn is_needed(spec: &SessionSpec) -> bool {
    matches!(
        spec.kind,
        SessionKind::NonInteractive { .. } | SessionKind::Port { .. }
    ) || spec.encryption.is_some()
}

/// Shakes hands; yields the version that the client announced.
///
/// # Errors
/// Why the session cannot go on, for `channel_closed`.
pub(super) async fn perform(channel: &Channel, spec: &SessionSpec) -> Result<String, String> {
    exchange(channel, spec)
        .await
        .map_err(|why| format!("Encountered error while initiating handshake. {why}"))
}

async fn exchange(channel: &Channel, spec: &SessionSpec) -> Result<String, String> {
    let started = Instant::now();
    let key = spec
        .encryption
        .as_ref()
        .filter(|_| !matches!(spec.kind, SessionKind::Port { .. }));
    let challenge = match key.map(|key| key.challenge) {
        None | Some(RandomChallenge::None) => None,
        Some(_) => Some(STANDARD.encode(random_bytes::<16>())),
    };
    let response = channel.expect_handshake_response(key.is_some());
    if !spec.late_handshake.is_zero() {
        tokio::time::sleep(spec.late_handshake).await;
    }
    channel
        .send(
            payload::HANDSHAKE_REQUEST,
            written(spec, request(spec, key, challenge.as_deref())),
        )
        .await;
    let Ok(Ok(response)) = tokio::time::timeout(TIMEOUT, response).await else {
        channel.stop_expecting();
        return Err("Handshake timed out. Please ensure that you have the latest version of the session manager plugin.".to_owned());
    };
    for action in response.processed_client_actions.iter().flatten() {
        if action.action_status != 1 {
            return Err(format!(
                "{} failed on client with status {} error: {}",
                action.action_type,
                action.action_status,
                action.error.as_deref().unwrap_or_default()
            ));
        }
    }
    if let Some(key) = key {
        let cipher = fetch_key(spec, key, challenge, &response)?;
        prove_key(channel, cipher).await?;
    }
    let complete = serde_json::json!({
        "HandshakeTimeToComplete": u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX),
        "CustomerMessage": customer_message(spec, &response.client_version),
    });
    channel
        .send(payload::HANDSHAKE_COMPLETE, written(spec, complete))
        .await;
    if !spec.late_open.is_zero() {
        tokio::time::sleep(spec.late_open).await;
    }
    channel.finish_handshake();
    Ok(response.client_version)
}

/// The cipher that the client's answer makes possible.
fn fetch_key(
    spec: &SessionSpec,
    key: &AgentKms,
    challenge: Option<String>,
    response: &HandshakeResponse,
) -> Result<BlockCipher, String> {
    let failed = |why: String| {
        format!(
            "Fetching data key failed: Unable to retrieve data key, Error when decrypting data key {why}"
        )
    };
    let result = response
        .processed_client_actions
        .iter()
        .flatten()
        .find(|action| action.action_type == "KMSEncryption")
        .and_then(|action| action.action_result.clone())
        .unwrap_or_default();
    if key.challenge == RandomChallenge::Required && !result.has_challenge {
        return Err(
            "client does not support required encryption context random challenge".to_owned(),
        );
    }
    let mut context = Context::from([
        ("aws:ssm:SessionId".to_owned(), spec.session_id.clone()),
        ("aws:ssm:TargetId".to_owned(), spec.instance.id.clone()),
    ]);
    if let Some(challenge) = challenge.filter(|_| result.has_challenge) {
        context.insert("aws:ssm:RandomChallenge".to_owned(), challenge);
    }
    let blob = STANDARD
        .decode(result.ciphertext_key.unwrap_or_default())
        .unwrap_or_default();
    let data_key = key.decrypt(&context, &blob).map_err(failed)?;
    BlockCipher::new(&data_key).map_err(|_| failed("of a wrong length".to_owned()))
}

/// Has the client prove that it holds the key too.
async fn prove_key(channel: &Channel, cipher: BlockCipher) -> Result<(), String> {
    let proven = channel
        .challenge(cipher, random_bytes::<64>().to_vec())
        .await;
    let Some(proven) = proven else {
        return Err("Initializing BlockCipher failed".to_owned());
    };
    match tokio::time::timeout(TIMEOUT, proven).await {
        Ok(Ok(())) => Ok(()),
        _ => Err("Timed out waiting for encryption challenge.".to_owned()),
    }
}

/// Not secret here: the sandbox has nothing to protect.
fn random_bytes<const N: usize>() -> [u8; N] {
    std::array::from_fn(|_| fastrand::u8(..))
}

/// A body as text; oddly, if that is ordered.
fn written(spec: &SessionSpec, body: serde_json::Value) -> String {
    if spec.odd_json {
        odd(body).to_string()
    } else {
        body.to_string()
    }
}

/// Allowed all the same: Go reads keys without regard to case, writes `null` for what is empty, and
/// later versions add keys.
fn odd(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(map) => {
            let known = map.into_iter().map(|(key, value)| {
                // Properties are the document's, and pass as they are.
                let value = if key == "Properties" {
                    value
                } else {
                    odd(value)
                };
                (key.to_ascii_lowercase(), value)
            });
            let added = [
                ("zzUnknown".to_owned(), serde_json::json!({ "list": [1] })),
                ("zzEmpty".to_owned(), Value::Null),
            ];
            known.chain(added).collect()
        }
        Value::Array(list) => {
            let nothing = Value::Null;
            list.into_iter().map(odd).chain([nothing]).collect()
        }
        Value::String(text) if text.is_empty() => Value::Null,
        other => other,
    }
}

fn request(
    spec: &SessionSpec,
    key: Option<&AgentKms>,
    challenge: Option<&str>,
) -> serde_json::Value {
    let properties = match &spec.kind {
        SessionKind::Port { properties, .. } => properties.clone(),
        _ => serde_json::Value::Null,
    };
    let mut actions = vec![serde_json::json!({
        "ActionType": "SessionType",
        "ActionParameters": { "SessionType": spec.kind.session_type(), "Properties": properties },
    })];
    if let Some(key) = key {
        let mut parameters = serde_json::json!({ "KMSKeyId": key.key });
        if let Some(challenge) = challenge {
            parameters["Challenge"] = challenge.into();
        }
        actions.push(serde_json::json!({
            "ActionType": "KMSEncryption",
            "ActionParameters": parameters,
        }));
    }
    serde_json::json!({ "AgentVersion": spec.agent_version, "RequestedClientActions": actions })
}

fn customer_message(spec: &SessionSpec, client_version: &str) -> String {
    let separated = matches!(
        spec.kind,
        SessionKind::NonInteractive {
            separate_output: true,
            ..
        }
    );
    let mut message = if separated
        && version::wants_newer_client_for_separate_output(client_version)
    {
        "Please update session manager plugin version (minimum required version 1.2.312.0) for fully support of separate StdOut/StdErr output.\r\n".to_owned()
    } else {
        spec.customer_message.clone().unwrap_or_default()
    };
    if spec.encryption.is_some() {
        message.push_str("This session is encrypted using AWS KMS.");
    }
    message
}
