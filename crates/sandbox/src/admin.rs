//! Requests that steer the sandbox itself: faults, machines, the log of calls.
//!
//! | request | body | answer |
//! |---|---|---|
//! | `GET /_sandbox/health` | | `{"status": "ok"}`; the only one that needs no token |
//! | `POST /_sandbox/faults` | faults as text, list or object; `null` or `""` for none | |
//! | `GET /_sandbox/log` | | the calls so far |
//! | `DELETE /_sandbox/log` | | forgets them |
//! | `POST /_sandbox/instances` | a machine as in the fleet file | its id |
//! | `POST /_sandbox/instances/NAME-OR-ID` | `{"state", "online", "agent_version", "boot"}` | its id and state |
//! | `GET /_sandbox/sessions` | | ids, targets and states of sessions |
//! | `POST /_sandbox/expire` | | temporary keys and SSO logins expire now |
//! | `GET /_sandbox/sso` | | codes of SSO logins that wait |
//! | `POST /_sandbox/sso/CODE` | `confirm` or `deny` | |
//! | `POST /_sandbox/stop` | | ends the sandbox |

use aws_lc_rs::constant_time;
use http::{Method, StatusCode, request::Parts};
use serde_json::{Value, json};

use crate::{app::App, faults::Faults, fleet::InstanceEntry, reply::Reply};

pub(crate) const PREFIX: &str = "/_sandbox/";
/// The header that carries the token of the state file.
pub(crate) const TOKEN_HEADER: &str = "x-sandbox-token";

pub(crate) fn answer(app: &App, parts: &Parts, body: &[u8]) -> Reply {
    let path = parts.uri.path().trim_start_matches(PREFIX);
    if path == "health" {
        return Reply::json(StatusCode::OK, &json!({ "status": "ok" }));
    }
    let token = parts
        .headers
        .get(TOKEN_HEADER)
        .map_or(&[][..], |value| value.as_bytes());
    if constant_time::verify_slices_are_equal(token, app.admin_token.as_bytes()).is_err() {
        return fail(
            StatusCode::FORBIDDEN,
            "the token of the state file is missing or wrong",
        );
    }
    let input = if body.is_empty() {
        Value::Null
    } else {
        match serde_json::from_slice(body) {
            Ok(input) => input,
            // Bare text is taken where text makes sense.
            Err(_) if path == "faults" || path.starts_with("sso/") => {
                Value::String(String::from_utf8_lossy(body).into_owned())
            }
            Err(error) => return fail(StatusCode::BAD_REQUEST, &error.to_string()),
        }
    };
    let result = match (&parts.method, path.split_once('/').unwrap_or((path, ""))) {
        (&Method::POST | &Method::PUT, ("faults", "")) => Faults::from_json(&input)
            .map_err(|error| error.to_string())
            .map(|faults| {
                app.set_faults(faults);
                Value::Null
            }),
        (&Method::GET, ("log", "")) => Ok(json!({ "calls": app.log.entries() })),
        (&Method::DELETE, ("log", "")) => {
            app.log.clear();
            Ok(Value::Null)
        }
        (&Method::POST, ("instances", "")) => serde_json::from_value::<InstanceEntry>(input)
            .map_err(|error| error.to_string())
            .and_then(|entry| app.fleet.add(&entry))
            .map(|instance| json!({ "id": instance.id, "state": instance.state().name() })),
        (&Method::POST, ("instances", name)) => serde_json::from_value(input)
            .map_err(|error| error.to_string())
            .and_then(|change| {
                app.fleet
                    .change(name, &change)
                    .ok_or_else(|| format!("no machine of the fleet file is `{name}`"))
            })
            .map(|instance| json!({ "id": instance.id, "state": instance.state().name() })),
        (&Method::GET, ("sessions", "")) => Ok(json!({
            "sessions": app.gateway.sessions().iter().map(|session| json!({
                "id": session.id,
                "target": session.target,
                "document": session.document,
                "status": session.status().name(),
            })).collect::<Vec<_>>(),
        })),
        (&Method::POST, ("expire", "")) => {
            app.keyring.expire_temporary();
            app.sso.expire();
            Ok(Value::Null)
        }
        (&Method::GET, ("sso", "")) => Ok(json!({ "codes": app.sso.codes() })),
        (&Method::POST, ("sso", code)) => match input.as_str().map(str::trim) {
            Some(answer @ ("confirm" | "deny")) => {
                if app.sso.answer(code, answer == "confirm") {
                    Ok(Value::Null)
                } else {
                    Err(format!("no login waits for the code `{code}`"))
                }
            }
            _ => Err("the answer to a code is `confirm` or `deny`".to_owned()),
        },
        (&Method::POST, ("stop", "")) => {
            app.cancel.cancel();
            Ok(Value::Null)
        }
        _ => return fail(StatusCode::NOT_FOUND, "no such request"),
    };
    match result {
        Ok(Value::Null) => Reply::json(StatusCode::OK, &json!({})),
        Ok(output) => Reply::json(StatusCode::OK, &output),
        Err(why) => fail(StatusCode::BAD_REQUEST, &why),
    }
}

fn fail(status: StatusCode, why: &str) -> Reply {
    Reply::json(status, &json!({ "error": why }))
}
