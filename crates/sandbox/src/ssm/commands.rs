//! SendCommand and CancelCommand.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{command_lists::find, document_arn, optional, required};
use crate::{
    app::{App, Call},
    error::ApiError,
    run_command::{
        CommandDocument, DEFAULT_CONCURRENCY, DEFAULT_TIMEOUT_SECONDS, Output, RESOURCE_GROUP,
        SendOrder, Targets, execution_timeout, parameters,
    },
};

/// Most ids, and most values of one target.
const MOST_IDS: usize = 50;
/// Most targets, which all have to hold.
const MOST_TARGETS: usize = 5;

pub(super) fn send(app: &App, call: &Call, input: &Value) -> Result<Value, ApiError> {
    let document_name = document_name(input)?;
    let short = document_name
        .rsplit_once(":document/")
        .map_or(document_name, |(_, short)| short);
    let targets = targets(input)?;
    let comment = optional(input, "Comment", 0, 100)?.unwrap_or_default();
    let timeout_seconds = timeout_seconds(input)?;
    let max_concurrency = control(input, "MaxConcurrency", 1)?;
    let max_errors = control(input, "MaxErrors", 0)?;
    let output = output(app, input, short)?;
    let given = parameters(input.get("Parameters"))?;
    app.check_resource(call, "SendCommand", short, &document_arn(call, short))?;
    // After the permission: whoever may not run a document is not told whether there is one.
    let document = CommandDocument::find(short, app.fleet.file())?;
    let parameters = document.resolve(short, &given, app.fleet.file())?;
    if let Targets::Ids(ids) = &targets {
        check_nodes(app, call, &document, ids)?;
    }
    let order = SendOrder {
        document_name: short.to_owned(),
        document,
        comment: comment.to_owned(),
        execution_timeout: execution_timeout(&parameters),
        parameters,
        targets,
        max_concurrency: max_concurrency.unwrap_or_else(|| DEFAULT_CONCURRENCY.to_string()),
        max_errors: max_errors.unwrap_or_else(|| "0".to_owned()),
        timeout_seconds,
        output,
    };
    let command = app.run_commands.send(&call.region, order);
    // What the service has not found out yet is not in its first answer.
    let mut body = super::command_lists::command_body(&command);
    for (member, value) in [
        ("Status", json!("Pending")),
        ("StatusDetails", json!("Pending")),
        ("TargetCount", json!(0)),
        ("CompletedCount", json!(0)),
        ("ErrorCount", json!(0)),
        ("DeliveryTimedOutCount", json!(0)),
    ] {
        body[member] = value;
    }
    Ok(json!({ "Command": body }))
}

pub(super) fn cancel(app: &App, call: &Call, input: &Value) -> Result<Value, ApiError> {
    let command = find(app, call, required(input, "CommandId")?)?;
    let ids = ids(input)?;
    // All or nothing: with one wrong id no node is cancelled.
    for id in &ids {
        if command.invocation(id).is_none() {
            return Err(invalid_instances(call, &[id]));
        }
    }
    command.cancel(&ids);
    Ok(json!({}))
}

fn document_name(input: &Value) -> Result<&str, ApiError> {
    let name = required(input, "DocumentName")?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_-.:/".contains(c);
    if (3..=128).contains(&name.chars().count()) && name.chars().all(is_name) {
        return Ok(name);
    }
    Err(mismatch(
        name,
        "documentName",
        "^[a-zA-Z0-9_\\-.:/]{3,128}$",
    ))
}

fn mismatch(value: &str, member: &str, pattern: &str) -> ApiError {
    ApiError::validation(format!(
        "1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: Member must satisfy regular expression pattern: {pattern}"
    ))
}

fn too_many(member: &str, most: usize) -> ApiError {
    ApiError::validation(format!(
        "1 validation error detected: Value at '{member}' failed to satisfy constraint: Member must have length less than or equal to {most}"
    ))
}

/// `InstanceIds`.
fn ids(input: &Value) -> Result<Vec<&str>, ApiError> {
    let list = input.get("InstanceIds").and_then(Value::as_array);
    let ids: Vec<&str> = list
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if ids.len() > MOST_IDS {
        return Err(too_many("instanceIds", MOST_IDS));
    }
    let distinct: BTreeSet<&&str> = ids.iter().collect();
    if distinct.len() < ids.len() {
        return Err(ApiError::new("DuplicateInstanceId", ""));
    }
    Ok(ids)
}

fn targets(input: &Value) -> Result<Targets, ApiError> {
    let ids = ids(input)?;
    let criteria = super::pairs(input, "Targets", "Key", "Values")?;
    if criteria.len() > MOST_TARGETS {
        return Err(too_many("targets", MOST_TARGETS));
    }
    for (key, values) in &criteria {
        if values.len() > MOST_IDS {
            return Err(too_many("targets.1.member.values", MOST_IDS));
        }
        let is_known = key.eq_ignore_ascii_case("InstanceIds")
            || *key == "tag-key"
            || *key == RESOURCE_GROUP
            || key.strip_prefix("tag:").is_some_and(|key| !key.is_empty());
        if !is_known {
            return Err(ApiError::validation(format!("Invalid target key: {key}")));
        }
    }
    match (ids.is_empty(), criteria.is_empty()) {
        (false, true) => Ok(Targets::Ids(ids.into_iter().map(str::to_owned).collect())),
        (true, false) => Ok(Targets::Criteria(
            criteria
                .into_iter()
                .map(|(key, values)| {
                    let values = values.into_iter().map(str::to_owned).collect();
                    (key.to_owned(), values)
                })
                .collect(),
        )),
        _ => Err(ApiError::validation(
            "Exactly one of InstanceIds and Targets has to be given",
        )),
    }
}

fn timeout_seconds(input: &Value) -> Result<u64, ApiError> {
    let seconds = match input.get("TimeoutSeconds") {
        None | Some(Value::Null) => return Ok(DEFAULT_TIMEOUT_SECONDS),
        Some(value) => value.as_u64().unwrap_or_default(),
    };
    let bound = match seconds {
        ..30 => "greater than or equal to 30",
        30..=2_592_000 => return Ok(seconds),
        _ => "less than or equal to 2592000",
    };
    Err(ApiError::validation(format!(
        "1 validation error detected: Value '{seconds}' at 'timeoutSeconds' failed to satisfy constraint: Member must have value {bound}"
    )))
}

/// `MaxConcurrency` or `MaxErrors`: a number of `least` at least, or a part from `least` to 100
/// percent.
fn control(input: &Value, name: &str, least: u32) -> Result<Option<String>, ApiError> {
    let Some(text) = optional(input, name, 1, 7)? else {
        return Ok(None);
    };
    let digits = text.strip_suffix('%').unwrap_or(text);
    // The service's pattern takes no leading zeros.
    let is_plain = digits == "0" || !digits.starts_with('0');
    let is_good = is_plain
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && digits
            .parse::<u32>()
            .is_ok_and(|number| number >= least && (!text.ends_with('%') || number <= 100));
    if is_good {
        return Ok(Some(text.to_owned()));
    }
    let pattern = if least == 0 {
        "^([1-9][0-9]*|[0]|[1-9][0-9]%|[0-9]%|100%)$"
    } else {
        "^([1-9][0-9]*|[1-9][0-9]%|[1-9]%|100%)$"
    };
    let member = format!("{}{}", name[..1].to_ascii_lowercase(), &name[1..]);
    Err(mismatch(text, &member, pattern))
}

fn output(app: &App, input: &Value, document: &str) -> Result<Output, ApiError> {
    let bucket = optional(input, "OutputS3BucketName", 3, 63)?;
    let key_prefix = optional(input, "OutputS3KeyPrefix", 0, 500)?.unwrap_or_default();
    if let Some(bucket) = bucket
        && !app.fleet.file().buckets.iter().any(|name| name == bucket)
    {
        return Err(ApiError::new("InvalidOutputFolder", ""));
    }
    let logs = input.get("CloudWatchOutputConfig");
    let is_logged = logs
        .and_then(|logs| logs.get("CloudWatchOutputEnabled"))
        .and_then(Value::as_bool)
        .unwrap_or(false);
    let group = logs
        .and_then(|logs| logs.get("CloudWatchLogGroupName"))
        .and_then(Value::as_str)
        // An empty name is none.
        .filter(|group| !group.is_empty());
    let is_name = |group: &str| {
        group.len() <= 512
            && group
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || ".-_/#".contains(c))
    };
    if let Some(group) = group
        && !is_name(group)
    {
        return Err(mismatch(
            group,
            "cloudWatchOutputConfig.cloudWatchLogGroupName",
            "[\\.\\-_/#A-Za-z0-9]+",
        ));
    }
    Ok(Output {
        bucket: bucket.map(str::to_owned),
        key_prefix: key_prefix.to_owned(),
        log_group: is_logged.then(|| match group {
            Some(group) => group.to_owned(),
            None => format!("/aws/ssm/{document}"),
        }),
    })
}

/// One id that is no managed node, or one of the wrong platform, spoils the whole call.
fn check_nodes(
    app: &App,
    call: &Call,
    document: &CommandDocument,
    ids: &[String],
) -> Result<(), ApiError> {
    let node = |id: &str| {
        app.fleet
            .by_id(id)
            .filter(|node| node.region == call.region && node.ping().is_some())
    };
    let unknown: Vec<&str> = ids
        .iter()
        .map(String::as_str)
        .filter(|id| node(id).is_none())
        .collect();
    if !unknown.is_empty() {
        return Err(invalid_instances(call, &unknown));
    }
    let fits = |id: &String| node(id).is_some_and(|node| document.runs_on(node.platform));
    if !ids.iter().all(fits) {
        return Err(ApiError::new("UnsupportedPlatformType", ""));
    }
    Ok(())
}

fn invalid_instances(call: &Call, ids: &[&str]) -> ApiError {
    ApiError::new(
        "InvalidInstanceId",
        format!(
            "Instances [[{}]] not in a valid state for account {}",
            ids.join(", "),
            call.identity.account
        ),
    )
}
