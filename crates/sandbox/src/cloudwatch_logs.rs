//! CloudWatch Logs: streams that the agents of this sandbox write, read by GetLogEvents.

use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::{
    app::{App, Call},
    error::ApiError,
    reply::Reply,
};

/// In front of the action in `X-Amz-Target`.
pub(crate) const TARGET_PREFIX: &str = "Logs_20140328.";
/// Events of an answer where no `limit` is given, and the most that one may ask for.
const MAX_EVENTS: usize = 10_000;
/// All messages of an answer together, in bytes.
const MAX_ANSWER_BYTES: usize = 1 << 20;

pub(crate) fn answer(
    app: &App,
    call: &Call,
    action: &str,
    input: &Value,
) -> Result<Reply, ApiError> {
    let answer = match action {
        "GetLogEvents" => get_log_events(app, call, input)?,
        other => return Err(ApiError::unknown_action(call.service, other)),
    };
    Ok(Reply::amz_json(StatusCode::OK, &answer))
}

/// Tokens are `f/NUMBER` and `b/NUMBER`, the number of the event they stand before. At the end the
/// forward token is the one that was given, as the service has it.
fn get_log_events(app: &App, call: &Call, input: &Value) -> Result<Value, ApiError> {
    let text = |name: &str| input.get(name).and_then(Value::as_str);
    let required = |name: &str| {
        text(name).filter(|text| !text.is_empty()).ok_or_else(|| {
            ApiError::new(
                "InvalidParameterException",
                format!("1 validation error detected: Value null at '{name}' failed to satisfy constraint: Member must not be null"),
            )
        })
    };
    let (group, stream) = (required("logGroupName")?, required("logStreamName")?);
    let (region, account) = (&call.region, &call.identity.account);
    let arn = format!("arn:aws:logs:{region}:{account}:log-group:{group}:log-stream:{stream}");
    app.check_resource(call, "GetLogEvents", group, &arn)?;
    // A stream exists as soon as its first event is seen: an agent makes both in one go.
    let late = SignedDuration::try_from(app.faults().late_logs).unwrap_or_default();
    let seen = app.log_groups.events(group, stream).map(|mut events| {
        events.retain(|event| event.at + late <= Timestamp::now());
        events
    });
    let events = seen.filter(|events| late.is_zero() || !events.is_empty());
    let events = events.ok_or_else(|| {
        ApiError::new(
            "ResourceNotFoundException",
            "The specified log stream does not exist.",
        )
    })?;
    let limit = match input.get("limit") {
        None | Some(Value::Null) => MAX_EVENTS,
        Some(number) => number
            .as_u64()
            .and_then(|number| usize::try_from(number).ok())
            .filter(|number| (1..=MAX_EVENTS).contains(number))
            .ok_or_else(|| ApiError::new("InvalidParameterException", "limit is out of range"))?,
    };
    let from_head = input.get("startFromHead") == Some(&Value::Bool(true));
    let start = match text("nextToken") {
        None if from_head => 0,
        None => events.len().saturating_sub(limit),
        Some(token) => token
            .strip_prefix("f/")
            .or_else(|| token.strip_prefix("b/"))
            .and_then(|number| number.parse::<usize>().ok())
            .filter(|start| *start <= events.len())
            .ok_or_else(|| {
                ApiError::new(
                    "InvalidParameterException",
                    "The specified nextToken is invalid.",
                )
            })?,
    };
    let mut bytes = 0;
    let page: Vec<Value> = events[start..]
        .iter()
        .take(limit)
        .take_while(|event| {
            bytes += event.message.len();
            bytes <= MAX_ANSWER_BYTES
        })
        .map(|event| {
            let time_ms = event.at.as_millisecond();
            json!({ "timestamp": time_ms, "message": event.message, "ingestionTime": time_ms })
        })
        .collect();
    let end = start + page.len();
    Ok(json!({
        "events": page,
        "nextForwardToken": format!("f/{end}"),
        "nextBackwardToken": format!("b/{start}"),
    }))
}
