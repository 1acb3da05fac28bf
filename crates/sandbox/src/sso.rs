//! IAM Identity Center (SSO): the device authorization grant and the authorization code grant of
//! the SSO OIDC service, and the portal that gives credentials for its tokens.
//!
//! Neither takes signed requests. Nobody gets a token without an admin request that confirms the
//! code, which needs this run's admin token: `POST /_sandbox/sso/CODE` with `confirm` or `deny`.
//! The page of an authorization shows its code, and leads the browser on once that has happened.

use std::time::Duration;

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Method, StatusCode, header, request::Parts};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    app::App,
    credentials::{Identity, letters, random_base64},
    log,
    logins::{AccessToken, Answer, Authorization, Client, Device, Logins},
    reply::Reply,
    xml::Form,
};

/// Where the portal gives out credentials.
const PORTAL: &str = "/federation/credentials";
/// Where the portal ends a login.
const LOGOUT: &str = "/logout";
/// The page on which a person would confirm the code.
const DEVICE_PAGE: &str = "/sso/device";
/// The page on which a browser begins a login, and the one on which it waits.
const AUTHORIZE: &str = "/authorize";
const WAITING_PAGE: &str = "/sso/authorize";
/// The grants that are known.
const AUTHORIZATION_CODE: &str = "authorization_code";
const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";
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
        "/client/register"
            | "/device_authorization"
            | "/token"
            | PORTAL
            | LOGOUT
            | DEVICE_PAGE
            | AUTHORIZE
            | WAITING_PAGE
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
const UNAUTHORIZED_CLIENT: Failure = (
    "UnauthorizedClientException",
    StatusCode::BAD_REQUEST,
    "unauthorized_client",
);
const INVALID_REDIRECT_URI: Failure = (
    "InvalidRedirectUriException",
    StatusCode::BAD_REQUEST,
    "invalid_redirect_uri",
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
        (&Method::POST, LOGOUT) => ("sso", "Logout", log_out(app, parts)),
        (&Method::GET, AUTHORIZE) => return authorize(app, parts),
        (&Method::GET, WAITING_PAGE) => return wait(app, parts),
        (&Method::GET, DEVICE_PAGE) => {
            return Reply::text(
                StatusCode::OK,
                "Nobody is asked here. Confirm a code with an admin request: POST /_sandbox/sso/CODE, body \"confirm\" or \"deny\"\n",
            );
        }
        _ => ("sso", "", Err(INVALID_REQUEST)),
    };
    let (reply, error) = match result {
        Ok(Value::Null) => (Reply::empty(StatusCode::OK), None),
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
    let texts = |name: &str| -> Vec<String> {
        let list = input.get(name).and_then(Value::as_array);
        let texts = list.into_iter().flatten().filter_map(Value::as_str);
        texts.map(str::to_owned).collect()
    };
    let (grant_types, redirect_uris) = (texts("grantTypes"), texts("redirectUris"));
    if grant_types.iter().any(|grant| grant == AUTHORIZATION_CODE) {
        text(input, "issuerUrl")?;
        if redirect_uris.is_empty() {
            return Err(INVALID_REDIRECT_URI);
        }
    }
    let (id, secret) = (random(15)?, random(60)?);
    let client = Client {
        secret: secret.clone(),
        grant_types,
        redirect_uris,
    };
    app.sso.lock().clients.insert(id.clone(), client);
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
        Some(known) if known.secret == secret => Ok(id),
        _ => Err(INVALID_CLIENT),
    }
}

/// Whether a client may use a grant.
fn check_grant(state: &Logins, client: &str, grant: &str) -> Result<(), Failure> {
    let known = state.clients.get(client).ok_or(INVALID_CLIENT)?;
    let is_registered = known.grant_types.iter().any(|known| known == grant);
    if known.grant_types.is_empty() || is_registered {
        Ok(())
    } else {
        Err(UNAUTHORIZED_CLIENT)
    }
}

/// Whether `redirect` is `registered`, whose port does not count on loopback (RFC 8252, 7.3).
fn is_redirect(registered: &str, redirect: &str) -> bool {
    let without_port = |text: &str| -> Option<String> {
        let rest = text.strip_prefix("http://127.0.0.1")?;
        let path = rest.find('/').map_or("", |at| &rest[at..]);
        let port = &rest[..rest.len() - path.len()];
        let is_port = port.is_empty()
            || port
                .strip_prefix(':')
                .is_some_and(|port| port.parse::<u16>().is_ok());
        is_port.then(|| path.to_owned())
    };
    registered == redirect
        || without_port(registered).is_some() && without_port(registered) == without_port(redirect)
}

/// The page where a browser begins: what it asks for is checked, and it is led on to the page where
/// it waits.
fn authorize(app: &App, parts: &Parts) -> Reply {
    let form = Form::parse(parts.uri.query().unwrap_or_default());
    match begin(app, &form) {
        Ok(code) => Reply::empty(StatusCode::FOUND).header(
            header::LOCATION,
            &format!("http://{}{WAITING_PAGE}?user_code={code}", app.address),
        ),
        // Nothing may be led to an address that nobody has registered.
        Err((name, status, code)) => Reply::text(status, format!("{name}: {code}\n")),
    }
}

fn begin(app: &App, form: &Form) -> Result<String, Failure> {
    let value = |name: &str| {
        let value = form.value(name).filter(|value| !value.is_empty());
        value.map(str::to_owned).ok_or(INVALID_REQUEST)
    };
    if value("response_type")? != "code" || value("code_challenge_method")? != "S256" {
        return Err(INVALID_REQUEST);
    }
    // The AWS CLI spells it so.
    value("scopes")?;
    let (client, redirect_uri) = (value("client_id")?, value("redirect_uri")?);
    let mut state = app.sso.lock();
    check_grant(&state, &client, AUTHORIZATION_CODE)?;
    let known = state.clients.get(&client).ok_or(INVALID_CLIENT)?;
    let is_known = |registered: &String| is_redirect(registered, &redirect_uri);
    if !known.redirect_uris.iter().any(is_known) {
        return Err(INVALID_REDIRECT_URI);
    }
    let letters = letters(8).map_err(|_| INVALID_REQUEST)?;
    let code = format!("{}-{}", &letters[..4], &letters[4..]);
    let authorization = Authorization {
        client,
        redirect_uri,
        state: value("state")?,
        challenge: value("code_challenge")?,
        answer: Answer::None,
        ends: in_seconds(CODE_SECONDS),
    };
    state.authorizations.insert(code.clone(), authorization);
    Ok(code)
}

/// The page where a browser waits until somebody has answered for the person before it.
fn wait(app: &App, parts: &Parts) -> Reply {
    let form = Form::parse(parts.uri.query().unwrap_or_default());
    let user_code = form.value("user_code").unwrap_or_default();
    let mut state = app.sso.lock();
    let Some(browser) = state.authorizations.get(user_code).cloned() else {
        return Reply::text(StatusCode::NOT_FOUND, "no login waits for this code\n");
    };
    let answer = match browser.answer {
        Answer::None => {
            return Reply::new(
                StatusCode::OK,
                "text/html; charset=utf-8",
                format!(
                    "<meta http-equiv=refresh content=1>Nobody is asked here. Confirm the login with an admin request: POST /_sandbox/sso/{user_code}, body \"confirm\" or \"deny\"\n"
                ),
            );
        }
        Answer::Denied => "error=access_denied".to_owned(),
        Answer::Confirmed => match random(30) {
            Ok(code) => {
                state.codes.insert(code.clone(), user_code.to_owned());
                format!("code={}", percent_encode(&code))
            }
            Err((name, status, _)) => return Reply::text(status, name),
        },
    };
    let location = format!(
        "{}?{answer}&state={}",
        browser.redirect_uri,
        percent_encode(&browser.state)
    );
    Reply::empty(StatusCode::FOUND).header(header::LOCATION, &location)
}

fn percent_encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// Whether an authorization code is good for who brings it.
fn redeem(state: &mut Logins, client: &str, input: &Value) -> Result<(), Failure> {
    let code = text(input, "code")?;
    let (redirect_uri, verifier) = (text(input, "redirectUri")?, text(input, "codeVerifier")?);
    // A code is good once, whatever comes of it.
    let user_code = state.codes.remove(code).ok_or(INVALID_GRANT)?;
    let browser = state
        .authorizations
        .remove(&user_code)
        .ok_or(INVALID_GRANT)?;
    let digest = digest::digest(&digest::SHA256, verifier.as_bytes());
    let is_good = browser.client == client
        && browser.redirect_uri == redirect_uri
        && browser.challenge == URL_SAFE_NO_PAD.encode(digest)
        && browser.ends > Timestamp::now();
    is_good.then_some(()).ok_or(INVALID_GRANT)
}

/// Ends a login: its token, and the one that would bring another.
fn log_out(app: &App, parts: &Parts) -> Result<Value, Failure> {
    let token = bearer(parts)?;
    let mut state = app.sso.lock();
    let ended = state.tokens.remove(token).ok_or(UNAUTHORIZED)?;
    state.refresh.remove(&ended.refresh);
    if ended.ends > Timestamp::now() {
        Ok(Value::Null)
    } else {
        Err(UNAUTHORIZED)
    }
}

fn bearer(parts: &Parts) -> Result<&str, Failure> {
    parts
        .headers
        .get("x-amz-sso_bearer_token")
        .and_then(|value| value.to_str().ok())
        .ok_or(UNAUTHORIZED)
}

fn start(app: &App, input: &Value) -> Result<Value, Failure> {
    let mut state = app.sso.lock();
    let client = client(&state, input)?.to_owned();
    text(input, "startUrl")?;
    check_grant(&state, &client, DEVICE_CODE)?;
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
        AUTHORIZATION_CODE => redeem(&mut state, &client, input)?,
        DEVICE_CODE => {
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
    let token = AccessToken {
        ends: in_seconds(TOKEN_SECONDS),
        refresh: refresh.clone(),
    };
    state.tokens.insert(access.clone(), token);
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
    let token = bearer(parts)?;
    let is_good = app
        .sso
        .lock()
        .tokens
        .get(token)
        .is_some_and(|token| token.ends > Timestamp::now());
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
