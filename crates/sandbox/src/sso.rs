//! IAM Identity Center (SSO): the device authorization grant of the SSO OIDC service, and the
//! portal that gives credentials for its tokens.
//!
//! Neither takes signed requests. Nobody gets a token without an admin request that confirms the
//! code, which needs this run's admin token: `POST /_sandbox/sso/CODE` with `confirm` or `deny`.

use std::time::Duration;

use http::{Method, StatusCode, request::Parts};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    app::App,
    credentials::{Identity, letters, random_base64},
    log,
    logins::{Answer, Device, Logins},
    reply::Reply,
    xml::Form,
};

/// Where the portal gives out credentials.
const PORTAL: &str = "/federation/credentials";
/// The page on which a person would confirm the code.
const DEVICE_PAGE: &str = "/sso/device";
/// How long a code is good, and a token, in seconds.
const CODE_SECONDS: u64 = 600;
const TOKEN_SECONDS: u64 = 8 * 3600;
const REGISTRATION_SECONDS: i64 = 90 * 24 * 3600;
/// Least time between two polls, in seconds.
const INTERVAL_SECONDS: u64 = 1;
/// Of a role's credentials.
const ROLE_LIFETIME: Duration = Duration::from_secs(3600);

/// Whether a request is for these services.
pub(crate) fn is_meant(path: &str) -> bool {
    matches!(
        path,
        "/client/register" | "/device_authorization" | "/token" | PORTAL | DEVICE_PAGE
    )
}

/// An error's type, status and OAuth code.
type Failure = (&'static str, StatusCode, &'static str);

const INVALID_REQUEST: Failure = (
    "InvalidRequestException",
    StatusCode::BAD_REQUEST,
    "invalid_request",
);
const INVALID_CLIENT: Failure = (
    "InvalidClientException",
    StatusCode::UNAUTHORIZED,
    "invalid_client",
);
const INVALID_GRANT: Failure = (
    "InvalidGrantException",
    StatusCode::BAD_REQUEST,
    "invalid_grant",
);
const UNAUTHORIZED: Failure = (
    "UnauthorizedException",
    StatusCode::UNAUTHORIZED,
    "Session token not found or invalid",
);

pub(crate) fn answer(app: &App, parts: &Parts, body: &[u8], request_id: &str) -> Reply {
    let path = parts.uri.path();
    let input: Value = serde_json::from_slice(body).unwrap_or_default();
    let (service, action, result) = match (&parts.method, path) {
        (&Method::POST, "/client/register") => {
            ("sso-oauth", "RegisterClient", register(app, &input))
        }
        (&Method::POST, "/device_authorization") => {
            ("sso-oauth", "StartDeviceAuthorization", start(app, &input))
        }
        (&Method::POST, "/token") => ("sso-oauth", "CreateToken", token(app, &input)),
        (&Method::GET, PORTAL) => ("sso", "GetRoleCredentials", role_credentials(app, parts)),
        (&Method::GET, DEVICE_PAGE) => {
            return Reply::text(
                StatusCode::OK,
                "Nobody is asked here. Confirm a code with an admin request: POST /_sandbox/sso/CODE, body \"confirm\" or \"deny\"\n",
            );
        }
        _ => ("sso", "", Err(INVALID_REQUEST)),
    };
    let (reply, error) = match result {
        Ok(value) => (Reply::json(StatusCode::OK, &value), None),
        Err((name, status, code)) => (
            Reply::json(
                status,
                &json!({ "error": code, "error_description": code, "message": code }),
            )
            .header(http::HeaderName::from_static("x-amzn-errortype"), name),
            Some(name.to_owned()),
        ),
    };
    app.log.add(log::Entry {
        time: Timestamp::now(),
        service,
        action: action.to_owned(),
        region: String::new(),
        caller: String::new(),
        status: reply.status.as_u16(),
        error,
        request_id: request_id.to_owned(),
        user_agent: String::new(),
    });
    reply
}

fn text<'a>(input: &'a Value, name: &str) -> Result<&'a str, Failure> {
    input
        .get(name)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
        .ok_or(INVALID_REQUEST)
}

fn random(len_bytes: usize) -> Result<String, Failure> {
    random_base64(len_bytes).map_err(|_| INVALID_REQUEST)
}

fn register(app: &App, input: &Value) -> Result<Value, Failure> {
    text(input, "clientName")?;
    if text(input, "clientType")? != "public" {
        return Err((
            "InvalidClientMetadataException",
            StatusCode::BAD_REQUEST,
            "invalid_client_metadata",
        ));
    }
    let (id, secret) = (random(15)?, random(60)?);
    app.sso.lock().clients.insert(id.clone(), secret.clone());
    let now = Timestamp::now().as_second();
    Ok(json!({
        "clientId": id,
        "clientSecret": secret,
        "clientIdIssuedAt": now,
        "clientSecretExpiresAt": now + REGISTRATION_SECONDS,
    }))
}

fn client<'a>(state: &Logins, input: &'a Value) -> Result<&'a str, Failure> {
    let (id, secret) = (text(input, "clientId")?, text(input, "clientSecret")?);
    match state.clients.get(id) {
        Some(known) if known == secret => Ok(id),
        _ => Err(INVALID_CLIENT),
    }
}

fn start(app: &App, input: &Value) -> Result<Value, Failure> {
    let mut state = app.sso.lock();
    let client = client(&state, input)?.to_owned();
    text(input, "startUrl")?;
    let device_code = random(30)?;
    let code = letters(8).map_err(|_| INVALID_REQUEST)?;
    let user_code = format!("{}-{}", &code[..4], &code[4..]);
    let page = format!("http://{}{DEVICE_PAGE}", app.address);
    let answer = json!({
        "deviceCode": device_code,
        "userCode": user_code,
        "verificationUri": page,
        "verificationUriComplete": format!("{page}?user_code={user_code}"),
        "expiresIn": CODE_SECONDS,
        "interval": INTERVAL_SECONDS,
    });
    state.devices.insert(
        device_code,
        Device {
            client,
            user_code,
            answer: Answer::None,
            ends: in_seconds(CODE_SECONDS),
        },
    );
    Ok(answer)
}

fn in_seconds(seconds: u64) -> Timestamp {
    Timestamp::now()
        .checked_add(Duration::from_secs(seconds))
        .unwrap_or(Timestamp::MAX)
}

fn token(app: &App, input: &Value) -> Result<Value, Failure> {
    let mut state = app.sso.lock();
    let client = client(&state, input)?.to_owned();
    match text(input, "grantType")? {
        "urn:ietf:params:oauth:grant-type:device_code" => {
            let code = text(input, "deviceCode")?;
            let device = state.devices.get(code).ok_or(INVALID_GRANT)?;
            if device.client != client {
                return Err(INVALID_GRANT);
            }
            let late = device.ends < Timestamp::now();
            let answer = device.answer;
            if late {
                return Err((
                    "ExpiredTokenException",
                    StatusCode::BAD_REQUEST,
                    "expired_token",
                ));
            }
            match answer {
                Answer::None => {
                    return Err((
                        "AuthorizationPendingException",
                        StatusCode::BAD_REQUEST,
                        "authorization_pending",
                    ));
                }
                Answer::Denied => {
                    return Err((
                        "AccessDeniedException",
                        StatusCode::BAD_REQUEST,
                        "access_denied",
                    ));
                }
                // A code is good once.
                Answer::Confirmed => drop(state.devices.remove(code)),
            }
        }
        "refresh_token" => {
            let refresh = text(input, "refreshToken")?;
            if state.refresh.remove(refresh).as_deref() != Some(&client) {
                return Err(INVALID_GRANT);
            }
        }
        _ => {
            return Err((
                "UnsupportedGrantTypeException",
                StatusCode::BAD_REQUEST,
                "unsupported_grant_type",
            ));
        }
    }
    let (access, refresh) = (random(90)?, random(90)?);
    state
        .tokens
        .insert(access.clone(), in_seconds(TOKEN_SECONDS));
    state.refresh.insert(refresh.clone(), client);
    Ok(json!({
        "accessToken": access,
        "tokenType": "Bearer",
        "expiresIn": TOKEN_SECONDS,
        "refreshToken": refresh,
    }))
}

fn role_credentials(app: &App, parts: &Parts) -> Result<Value, Failure> {
    let form = Form::parse(parts.uri.query().unwrap_or_default());
    let token = parts
        .headers
        .get("x-amz-sso_bearer_token")
        .and_then(|value| value.to_str().ok())
        .ok_or(UNAUTHORIZED)?;
    let is_good = app
        .sso
        .lock()
        .tokens
        .get(token)
        .is_some_and(|ends| *ends > Timestamp::now());
    if !is_good {
        return Err(UNAUTHORIZED);
    }
    let role = form.value("role_name").ok_or(INVALID_REQUEST)?;
    let account = form.value("account_id").ok_or(INVALID_REQUEST)?;
    let key = app
        .keyring
        .issue(
            Identity {
                account: account.to_owned(),
                arn: format!(
                    "arn:aws:sts::{account}:assumed-role/AWSReservedSSO_{role}_0123456789abcdef/sandbox"
                ),
                user_id: format!("AROA{}:sandbox", letters(17).map_err(|_| INVALID_REQUEST)?),
                caller_name: "sandbox".to_owned(),
            },
            ROLE_LIFETIME,
        )
        .map_err(|_| INVALID_REQUEST)?;
    Ok(json!({
        "roleCredentials": {
            "accessKeyId": key.access_key_id,
            "secretAccessKey": key.secret_access_key,
            "sessionToken": key.session_token,
            "expiration": key.expires.map(Timestamp::as_millisecond),
        }
    }))
}
