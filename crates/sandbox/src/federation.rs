//! The federation endpoint of the console: sign-in tokens for temporary keys, and the page that
//! takes them.

use std::time::Duration;

use http::{Method, StatusCode, header, request::Parts};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use crate::{app::App, credentials::random_base64, log, reply::Reply, xml::Form};

pub(crate) const PATH: &str = "/federation";
/// How long a sign-in token is good.
const TOKEN_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// `Session` of a request, as it is written in JSON.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Session {
    session_id: String,
    session_key: String,
    session_token: String,
}

pub(crate) fn answer(app: &App, parts: &Parts, body: &[u8], request_id: &str) -> Reply {
    let text = if parts.method == Method::POST {
        String::from_utf8_lossy(body)
    } else {
        parts.uri.query().unwrap_or("").into()
    };
    let form = Form::parse(&text);
    let action = form.value("Action").unwrap_or_default();
    let mut caller = String::new();
    let result = match action {
        "getSigninToken" => sign_in_token(app, &form, &mut caller),
        "login" => login(app, &form),
        _ => Err("Action"),
    };
    let (reply, error) = match result {
        Ok(reply) => (reply, None),
        // The real endpoint says no more than this either.
        Err(parameter) => (
            Reply::text(
                StatusCode::BAD_REQUEST,
                format!("Invalid parameter: {parameter}\n"),
            ),
            Some(format!("Invalid {parameter}")),
        ),
    };
    app.log.add(log::Entry {
        time: Timestamp::now(),
        service: "signin",
        action: action.to_owned(),
        region: String::new(),
        caller,
        status: reply.status.as_u16(),
        error,
        request_id: request_id.to_owned(),
        user_agent: String::new(),
    });
    reply
}

fn sign_in_token(app: &App, form: &Form, caller: &mut String) -> Result<Reply, &'static str> {
    let session: Session = form
        .value("Session")
        .and_then(|text| serde_json::from_str(text).ok())
        .ok_or("Session")?;
    if let Some(seconds) = form.value("SessionDuration") {
        seconds
            .parse::<u32>()
            .ok()
            .filter(|seconds| (900..=43_200).contains(seconds))
            .ok_or("SessionDuration")?;
    }
    let key = app
        .keyring
        .key(&session.session_id)
        .filter(|key| {
            key.secret_access_key == session.session_key
                && key.session_token.as_ref() == Some(&session.session_token)
                && key.expires.is_none_or(|expires| expires > Timestamp::now())
        })
        .ok_or("Session")?;
    caller.clone_from(&key.identity.arn);
    // Without padding and signs that a query would have to escape: as opaque as the real one.
    let token = random_base64(240)
        .map_err(|_| "Session")?
        .replace(['+', '/'], "-");
    app.sign_in_tokens
        .lock()
        .insert(token.clone(), Instant::now());
    Ok(Reply::json(
        StatusCode::OK,
        &json!({ "SigninToken": token }),
    ))
}

fn login(app: &App, form: &Form) -> Result<Reply, &'static str> {
    let token = form.value("SigninToken").ok_or("SigninToken")?;
    let is_good = app
        .sign_in_tokens
        .lock()
        .get(token)
        .is_some_and(|issued| issued.elapsed() < TOKEN_LIFETIME);
    if !is_good {
        return Err("SigninToken");
    }
    let destination = form
        .value("Destination")
        .filter(|destination| destination.starts_with("https://"))
        .ok_or("Destination")?;
    Ok(Reply::empty(StatusCode::FOUND).header(header::LOCATION, destination))
}
