//! The handshake, where the session type or a key asks for one.

use std::time::Duration;

use tokio::time::Instant;

use super::{channel::Channel, frame::payload, version};
use crate::session::{SessionKind, SessionSpec};

/// How long the agent waits for the response.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Whether this session begins with a handshake.
pub(super) const fn is_needed(spec: &SessionSpec) -> bool {
    matches!(
        spec.kind,
        SessionKind::NonInteractive { .. } | SessionKind::Port { .. }
    ) || spec.kms_key_id.is_some()
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
        .kms_key_id
        .as_deref()
        .filter(|_| !matches!(spec.kind, SessionKind::Port { .. }));
    let response = channel.expect_handshake_response(key.is_some());
    if !spec.late_handshake.is_zero() {
        tokio::time::sleep(spec.late_handshake).await;
    }
    channel
        .send(
            payload::HANDSHAKE_REQUEST,
            written(spec, request(spec, key)),
        )
        .await;
    let Ok(Ok(response)) = tokio::time::timeout(TIMEOUT, response).await else {
        channel.stop_expecting();
        return Err("Handshake timed out. Please ensure that you have the latest version of the session manager plugin.".to_owned());
    };
    for action in response.processed_client_actions.unwrap_or_default() {
        if action.action_status != 1 {
            return Err(format!(
                "{} failed on client with status {} error: {}",
                action.action_type,
                action.action_status,
                action.error.unwrap_or_default()
            ));
        }
    }
    if key.is_some() {
        return Err("Fetching data key failed: the sandbox has no KMS.".to_owned());
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

fn request(spec: &SessionSpec, key: Option<&str>) -> serde_json::Value {
    let properties = match &spec.kind {
        SessionKind::Port { properties, .. } => properties.clone(),
        _ => serde_json::Value::Null,
    };
    let mut actions = vec![serde_json::json!({
        "ActionType": "SessionType",
        "ActionParameters": { "SessionType": spec.kind.session_type(), "Properties": properties },
    })];
    if let Some(key) = key {
        let challenge: [u8; 16] = std::array::from_fn(|_| fastrand::u8(..));
        actions.push(serde_json::json!({
            "ActionType": "KMSEncryption",
            "ActionParameters": { "KMSKeyId": key, "Challenge": base64::Engine::encode(&base64::engine::general_purpose::STANDARD, challenge) },
        }));
    }
    serde_json::json!({ "AgentVersion": spec.agent_version, "RequestedClientActions": actions })
}

fn customer_message<'a>(spec: &'a SessionSpec, client_version: &str) -> &'a str {
    let separated = matches!(
        spec.kind,
        SessionKind::NonInteractive {
            separate_output: true,
            ..
        }
    );
    if separated && version::wants_newer_client_for_separate_output(client_version) {
        "Please update session manager plugin version (minimum required version 1.2.312.0) for fully support of separate StdOut/StdErr output.\r\n"
    } else {
        spec.customer_message.as_deref().unwrap_or_default()
    }
}
