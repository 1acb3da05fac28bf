//! EC2 Instance Connect: SendSSHPublicKey.

use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    app::{App, Call},
    error::ApiError,
    fleet::InstanceStateName,
    reply::Reply,
};

/// In front of the action in `X-Amz-Target`.
pub(crate) const TARGET_PREFIX: &str = "AWSEC2InstanceConnectService.";

pub(crate) fn answer(
    app: &App,
    call: &Call,
    action: &str,
    input: &Value,
) -> Result<Reply, ApiError> {
    if action != "SendSSHPublicKey" {
        return Err(ApiError::unknown_action(call.service, action));
    }
    let text = |name: &str| {
        input
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let invalid = |why: &str| ApiError::new("InvalidArgsException", why.to_owned());
    let (id, user, key) = (
        text("InstanceId"),
        text("InstanceOSUser"),
        text("SSHPublicKey"),
    );
    let arn = format!(
        "arn:aws:ec2:{}:{}:instance/{id}",
        call.region, call.identity.account
    );
    app.check_resource(call, action, &id, &arn)?;
    app.check_resource(call, action, &user, &arn)?;
    if !id.starts_with("i-") || !matches!(id.len(), 10 | 19) {
        return Err(invalid("Invalid instance id"));
    }
    let is_user = user.len() <= 32
        && user.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && user
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"@._-".contains(&byte));
    if !is_user {
        return Err(invalid("Invalid OS user"));
    }
    if !is_public_key(&key) {
        return Err(invalid("Invalid SSH public key"));
    }
    let instance = app
        .fleet
        .by_id(&id)
        .filter(|instance| instance.region == call.region)
        .ok_or_else(|| {
            ApiError::new("EC2InstanceNotFoundException", "Instance not found")
                .with_status(StatusCode::NOT_FOUND)
        })?;
    if let Some(zone) = input.get("AvailabilityZone").and_then(Value::as_str)
        && zone != instance.zone
    {
        return Err(invalid("Invalid availability zone"));
    }
    if instance.state() != InstanceStateName::Running {
        return Err(ApiError::new(
            "EC2InstanceStateInvalidException",
            "Unable to connect to the instance because it is not in the running state",
        ));
    }
    app.states.of(&instance).push_key(&user, key.trim());
    Ok(Reply::amz_json(
        StatusCode::OK,
        &json!({ "RequestId": call.request_id, "Success": true }),
    ))
}

/// OpenSSH form: a type, base64, and perhaps a comment.
fn is_public_key(text: &str) -> bool {
    use base64::Engine as _;
    let mut parts = text.split_whitespace();
    let (Some(kind), Some(body)) = (parts.next(), parts.next()) else {
        return false;
    };
    ["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256"].contains(&kind)
        && (80..=4096).contains(&text.len())
        && base64::engine::general_purpose::STANDARD
            .decode(body)
            .is_ok_and(|blob| blob.len() > 4 + kind.len() && blob[4..].starts_with(kind.as_bytes()))
}
