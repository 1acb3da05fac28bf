//! The STS query API: GetCallerIdentity and AssumeRole.

use std::time::Duration;

use http::StatusCode;

use crate::{
    app::{App, Call},
    credentials::{Identity, Key, letters},
    error::ApiError,
    query,
    reply::Reply,
    xml::{Form, Xml},
};

/// Lifetime of assumed roles when none is asked for.
const DEFAULT_SECONDS: u64 = 3600;

pub(crate) fn answer(app: &App, call: &Call, action: &str, form: &Form) -> Result<Reply, ApiError> {
    match action {
        "GetCallerIdentity" => Ok(get_caller_identity(call)),
        "AssumeRole" => assume_role(app, call, form),
        "GetSessionToken" => get_session_token(app, call, form),
        "GetFederationToken" => get_federation_token(app, call, form),
        other => Err(ApiError::unknown_action(call.service, other)),
    }
}

fn get_caller_identity(call: &Call) -> Reply {
    query::answer(call, "GetCallerIdentity", |xml| {
        xml.text("Arn", &call.identity.arn)
            .text("UserId", &call.identity.user_id)
            .text("Account", &call.identity.account);
    })
}

fn assume_role(app: &App, call: &Call, form: &Form) -> Result<Reply, ApiError> {
    let required = |name: &str| {
        form.value(name)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| {
                ApiError::new(
                    "ValidationError",
                    format!("1 validation error detected: Value null at '{name}' failed to satisfy constraint: Member must not be null"),
                )
            })
    };
    let role_arn = required("RoleArn")?;
    let session_name = required("RoleSessionName")?;
    let (account, role_name) = role_of(role_arn)
        .ok_or_else(|| ApiError::new("ValidationError", format!("{role_arn} is invalid")))?;
    if session_name.len() < 2
        || !session_name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte))
    {
        return Err(ApiError::new(
            "ValidationError",
            format!(
                "1 validation error detected: Value '{session_name}' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\w+=,.@-]*"
            ),
        ));
    }
    let denied = || {
        ApiError::new(
            "AccessDenied",
            format!(
                "User: {} is not authorized to perform: sts:AssumeRole on resource: {role_arn}",
                call.identity.arn
            ),
        )
        .with_status(StatusCode::FORBIDDEN)
    };
    app.check_resource(call, "AssumeRole", role_name, role_arn)?;
    if let Some(role) = app.fleet.file().roles.get(role_name) {
        if role.deny {
            return Err(denied());
        }
        if role.external_id.is_some() && role.external_id.as_deref() != form.value("ExternalId") {
            return Err(denied());
        }
        if role.mfa && form.value("SerialNumber").is_none() {
            return Err(denied());
        }
    }
    check_mfa(app, form)?;
    let identity = Identity {
        account: account.to_owned(),
        arn: format!("arn:aws:sts::{account}:assumed-role/{role_name}/{session_name}"),
        user_id: format!("AROA{}:{session_name}", random_letters(call)?),
        caller_name: session_name.to_owned(),
    };
    let assumed = identity.clone();
    let key = issue(app, call, form, identity)?;
    Ok(query::answer(call, "AssumeRole", |xml| {
        xml.element("AssumedRoleUser", |xml| {
            xml.text("AssumedRoleId", &assumed.user_id)
                .text("Arn", &assumed.arn);
        });
        write_credentials(xml, &key);
    }))
}

fn get_session_token(app: &App, call: &Call, form: &Form) -> Result<Reply, ApiError> {
    if call.identity != app.keyring.user().identity {
        return Err(ApiError::new(
            "AccessDenied",
            "Cannot call GetSessionToken with session credentials",
        )
        .with_status(StatusCode::FORBIDDEN));
    }
    check_mfa(app, form)?;
    let key = issue(app, call, form, call.identity.clone())?;
    Ok(query::answer(call, "GetSessionToken", |xml| {
        write_credentials(xml, &key);
    }))
}

fn get_federation_token(app: &App, call: &Call, form: &Form) -> Result<Reply, ApiError> {
    let name = form
        .value("Name")
        .filter(|name| (2..=32).contains(&name.len()))
        .ok_or_else(|| {
            ApiError::new("ValidationError", "1 validation error detected: Value at 'name' failed to satisfy constraint: Member must have length between 2 and 32")
        })?;
    if call.identity != app.keyring.user().identity {
        return Err(ApiError::new(
            "AccessDenied",
            "Cannot call GetFederationToken with session credentials",
        )
        .with_status(StatusCode::FORBIDDEN));
    }
    let account = &call.identity.account;
    let identity = Identity {
        account: account.clone(),
        arn: format!("arn:aws:sts::{account}:federated-user/{name}"),
        user_id: format!("{account}:{name}"),
        caller_name: name.to_owned(),
    };
    let federated = identity.clone();
    let key = issue(app, call, form, identity)?;
    Ok(query::answer(call, "GetFederationToken", |xml| {
        write_credentials(xml, &key);
        xml.element("FederatedUser", |xml| {
            xml.text("FederatedUserId", &federated.user_id)
                .text("Arn", &federated.arn);
        });
    }))
}

fn check_mfa(app: &App, form: &Form) -> Result<(), ApiError> {
    let refused = || {
        ApiError::new(
            "AccessDenied",
            "MultiFactorAuthentication failed with invalid MFA one time pass code. ",
        )
        .with_status(StatusCode::FORBIDDEN)
    };
    match (form.value("SerialNumber"), form.value("TokenCode")) {
        (None, None) => Ok(()),
        (Some(_), Some(code)) if code == app.fleet.file().mfa_code => Ok(()),
        (Some(_), Some(code)) if code.len() != 6 => Err(ApiError::new(
            "ValidationError",
            format!(
                "1 validation error detected: Value '{code}' at 'tokenCode' failed to satisfy constraint: Member must have length greater than or equal to 6"
            ),
        )),
        (_, None) | (None, _) => Err(ApiError::new(
            "ValidationError",
            "MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code.",
        )),
        _ => Err(refused()),
    }
}

fn issue(app: &App, call: &Call, form: &Form, identity: Identity) -> Result<Key, ApiError> {
    let seconds = match form.value("DurationSeconds") {
        None => DEFAULT_SECONDS,
        Some(text) => text
            .parse()
            .ok()
            .filter(|seconds| (900..=129_600).contains(seconds))
            .ok_or_else(|| {
                ApiError::new(
                    "ValidationError",
                    format!("1 validation error detected: Value '{text}' at 'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal to 900"),
                )
            })?,
    };
    app.keyring
        .issue(identity, Duration::from_secs(seconds))
        .map_err(|_| ApiError::internal(call.service))
}

fn random_letters(call: &Call) -> Result<String, ApiError> {
    letters(17).map_err(|_| ApiError::internal(call.service))
}

fn write_credentials(xml: &mut Xml, key: &Key) {
    xml.element("Credentials", |xml| {
        xml.text("AccessKeyId", &key.access_key_id)
            .text("SecretAccessKey", &key.secret_access_key)
            .optional("SessionToken", key.session_token.as_deref());
        if let Some(expires) = key.expires {
            xml.text(
                "Expiration",
                &expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            );
        }
    });
}

/// Account and name of `arn:aws:iam::123456789012:role/path/name`.
fn role_of(arn: &str) -> Option<(&str, &str)> {
    let mut parts = arn.splitn(6, ':');
    let (Some("arn"), Some(_), Some("iam"), Some(""), Some(account), Some(resource)) = (
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
    ) else {
        return None;
    };
    let name = resource.strip_prefix("role/")?.rsplit('/').next()?;
    (account.len() == 12 && !name.is_empty()).then_some((account, name))
}
