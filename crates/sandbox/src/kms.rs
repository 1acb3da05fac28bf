//! Key Management Service, as far as sessions need it: GenerateDataKey for clients, Decrypt for
//! agents.

use std::{collections::BTreeSet, sync::Arc};

use aws_lc_rs::{error::Unspecified, rand};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    app::{App, Call},
    credentials::Identity,
    data_keys::{AgentKms, Context, invalid_ciphertext},
    error::ApiError,
    faults::KeyState,
    fleet::Instance,
    reply::Reply,
    service::Service,
};

/// In front of the action in `X-Amz-Target`.
pub(crate) const TARGET_PREFIX: &str = "TrentService.";
/// Largest random key that GenerateDataKey makes.
const MAX_KEY_BYTES: u64 = 1024;

/// The KMS key that sessions on `instance` have to be encrypted with: of a fault, of the machine,
/// of the account's preferences.
pub(crate) fn session_key(app: &App, instance: &Instance) -> Option<String> {
    let faults = app.faults();
    let own = faults.kms_key.clone().or_else(|| instance.kms_key.clone());
    own.or_else(|| app.fleet.file().session.kms_key.clone())
}

/// The names of all keys that there are.
fn known_keys(app: &App) -> BTreeSet<String> {
    let of_account = app.fleet.file().session.kms_key.clone();
    let named = [app.faults().kms_key.clone(), of_account];
    let of_instances = app.fleet.keys_of_instances();
    named.into_iter().flatten().chain(of_instances).collect()
}

/// The ARN that `key` has in `region`, if the key is there and good for something.
///
/// # Errors
/// It is not there, or not good for anything.
fn usable_key(app: &App, key: &str, region: &str, account: &str) -> Result<String, ApiError> {
    let not_found = |message: String| ApiError::new("NotFoundException", message);
    let arn = if key.starts_with("arn:") {
        let mut parts = key.splitn(6, ':').skip(3);
        if parts.next() != Some(region) {
            return Err(not_found(format!("Invalid arn {region}")));
        }
        key.to_owned()
    } else if key.starts_with("alias/") {
        format!("arn:aws:kms:{region}:{account}:{key}")
    } else {
        format!("arn:aws:kms:{region}:{account}:key/{key}")
    };
    if !known_keys(app).contains(key) {
        return Err(not_found(format!("Key '{arn}' does not exist")));
    }
    match app.faults().kms_state {
        None => Ok(arn),
        Some(KeyState::Disabled) => Err(ApiError::new(
            "DisabledException",
            format!("{arn} is disabled."),
        )),
        Some(KeyState::PendingDeletion) => Err(ApiError::new(
            "KMSInvalidStateException",
            format!("{arn} is pending deletion."),
        )),
        Some(KeyState::Deleted) => Err(not_found(format!("Key '{arn}' does not exist"))),
    }
}

pub(crate) fn answer(
    app: &App,
    call: &Call,
    action: &str,
    input: &Value,
) -> Result<Reply, ApiError> {
    let answer = match action {
        "GenerateDataKey" => generate_data_key(app, call, input)?,
        "Decrypt" => decrypt(app, call, input)?,
        other => return Err(ApiError::unknown_action(call.service, other)),
    };
    Ok(Reply::amz_json(StatusCode::OK, &answer))
}

fn generate_data_key(app: &App, call: &Call, input: &Value) -> Result<Value, ApiError> {
    let key = text(input, "KeyId").ok_or_else(|| null_at("keyId"))?;
    let context = context_of(input)?;
    let length = match (input.get("NumberOfBytes"), text(input, "KeySpec")) {
        (Some(number), None) => number
            .as_u64()
            .filter(|length| (1..=MAX_KEY_BYTES).contains(length)),
        (None, Some("AES_256")) => Some(32),
        (None, Some("AES_128")) => Some(16),
        _ => None,
    };
    let length = length.ok_or_else(|| {
        ApiError::validation("Please specify either number of bytes or key spec.".to_owned())
    })?;
    let arn = usable_key(app, key, &call.region, &call.identity.account)?;
    app.check_resource(call, "GenerateDataKey", key, &arn)?;
    let internal = |_: Unspecified| ApiError::internal(call.service);
    let mut plaintext = vec![0; usize::try_from(length).unwrap_or_default()];
    rand::fill(&mut plaintext).map_err(internal)?;
    let blob = app.kms.seal(&arn, &context, &plaintext).map_err(internal)?;
    Ok(json!({
        "CiphertextBlob": STANDARD.encode(blob),
        "KeyId": arn,
        "Plaintext": STANDARD.encode(plaintext),
    }))
}

fn decrypt(app: &App, call: &Call, input: &Value) -> Result<Value, ApiError> {
    let key = text(input, "KeyId").ok_or_else(|| null_at("keyId"))?;
    let context = context_of(input)?;
    let blob = text(input, "CiphertextBlob")
        .and_then(|blob| STANDARD.decode(blob).ok())
        .ok_or_else(|| null_at("ciphertextBlob"))?;
    let arn = usable_key(app, key, &call.region, &call.identity.account)?;
    app.check_resource(call, "Decrypt", key, &arn)?;
    let plaintext = app
        .kms
        .open(&arn, &context, &blob)
        .ok_or_else(invalid_ciphertext)?;
    Ok(json!({
        "EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
        "KeyId": arn,
        "Plaintext": STANDARD.encode(plaintext),
    }))
}

fn null_at(name: &str) -> ApiError {
    ApiError::validation(format!(
        "1 validation error detected: Value at '{name}' failed to satisfy constraint: Member must not be null"
    ))
}

fn text<'a>(input: &'a Value, name: &str) -> Option<&'a str> {
    input.get(name).and_then(Value::as_str)
}

fn context_of(input: &Value) -> Result<Context, ApiError> {
    let context = input.get("EncryptionContext").cloned().unwrap_or_default();
    match context {
        Value::Null => Ok(Context::new()),
        other => serde_json::from_value(other).map_err(|_| {
            ApiError::new(
                "SerializationException",
                "class java.lang.String can not be converted",
            )
        }),
    }
}

/// How the agent on `instance` reaches KMS for a session with `key`: with the role of its machine,
/// in the machine's region.
pub(crate) fn of_agent(app: &App, call: &Call, instance: &Instance, key: String) -> AgentKms {
    let account = &call.identity.account;
    let role = instance.role.as_deref().unwrap_or("sandbox-server");
    let as_role = Call {
        service: Service::Kms,
        region: instance.region.clone(),
        identity: Identity {
            arn: format!("arn:aws:sts::{account}:assumed-role/{role}/{}", instance.id),
            ..call.identity.clone()
        },
        request_id: call.request_id.clone(),
    };
    let allowed = usable_key(app, &key, &instance.region, account).and_then(|arn| {
        if !app.fleet.file().server_role(role).allows("kms:Decrypt") {
            return Err(ApiError::denied(
                Service::Kms,
                &as_role.identity.arn,
                "kms:Decrypt",
                &arn,
            ));
        }
        app.check_resource(&as_role, "Decrypt", "*", &arn)?;
        app.check_resource(&as_role, "Decrypt", &key, &arn)?;
        Ok(arn)
    });
    AgentKms::new(
        Arc::clone(&app.kms),
        key,
        app.faults().kms_challenge,
        allowed,
    )
}
