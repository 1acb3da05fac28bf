//! ListCommands, ListCommandInvocations, GetCommandInvocation.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{check_length, optional, page_size, page_start, pairs, required};
use crate::{
    app::{App, Call},
    ec2::page_token,
    error::ApiError,
    run_command::{Invocation, PluginResult, SentCommand, Targets, plugin_output, stderr_content},
};

/// Most filters of a list.
const MOST_FILTERS: usize = 5;

/// A filter of one of the lists.
enum Wanted {
    After(Timestamp),
    Before(Timestamp),
    /// `Status` or `StatusDetails`.
    Status(String),
    /// Whether all that will happen has happened.
    Complete(bool),
    Document(String),
}

pub(super) fn commands(app: &App, call: &Call, input: &Value) -> Result<Value, ApiError> {
    let filters = read_filters(input, true)?;
    let (start, count) = (page_start(input)?, page_size(input, 1, 50)?);
    let instance_id = optional(input, "InstanceId", 10, 20)?;
    let all = match optional(input, "CommandId", 36, 36)? {
        Some(id) => vec![find(app, call, id)?],
        None => app.run_commands.in_region(&call.region),
    };
    let found: Vec<_> = all
        .iter()
        .filter(|command| instance_id.is_none_or(|id| command.invocation(id).is_some()))
        .filter(|command| {
            let (status, details) = command.status();
            filters
                .iter()
                .all(|filter| filter.admits(command, status, details))
        })
        .collect();
    let page = found.iter().skip(start).take(count);
    let mut output =
        json!({ "Commands": page.map(|command| command_body(command)).collect::<Vec<_>>() });
    if found.len() > start.saturating_add(count) {
        output["NextToken"] = json!(page_token(start + count));
    }
    Ok(output)
}

pub(super) fn invocations(app: &App, call: &Call, input: &Value) -> Result<Value, ApiError> {
    let filters = read_filters(input, false)?;
    let (start, count) = (page_start(input)?, page_size(input, 1, 50)?);
    let instance_id = optional(input, "InstanceId", 10, 20)?;
    let has_details = input.get("Details").and_then(Value::as_bool) == Some(true);
    let all = match optional(input, "CommandId", 36, 36)? {
        Some(id) => vec![find(app, call, id)?],
        None => app.run_commands.in_region(&call.region),
    };
    let mut skip = start;
    let mut list = Vec::new();
    let mut is_cut = false;
    for command in &all {
        command.look(|invocations| {
            let wanted = invocations.iter().filter(|one| {
                instance_id.is_none_or(|id| one.instance_id == id)
                    && filters.iter().all(|filter| {
                        filter.admits(command, one.status.status(), one.status.details())
                    })
            });
            for one in wanted {
                if skip > 0 {
                    skip -= 1;
                } else if list.len() == count {
                    is_cut = true;
                    return;
                } else {
                    list.push(invocation_body(command, one, has_details));
                }
            }
        });
        if is_cut {
            break;
        }
    }
    let mut output = json!({ "CommandInvocations": list });
    if is_cut {
        output["NextToken"] = json!(page_token(start + count));
    }
    Ok(output)
}

pub(super) fn invocation(app: &App, call: &Call, input: &Value) -> Result<Value, ApiError> {
    let instance_id = required(input, "InstanceId")?;
    let missing = || ApiError::new("InvocationDoesNotExist", "");
    let command = find(app, call, required(input, "CommandId")?).map_err(|error| {
        if error.code == "InvalidCommandId" {
            missing()
        } else {
            error
        }
    })?;
    let one = command.invocation(instance_id).ok_or_else(missing)?;
    let plugin = command.order.document.plugin();
    if optional(input, "PluginName", 4, 500)?.is_some_and(|name| name != plugin) {
        return Err(ApiError::new("InvalidPluginName", ""));
    }
    let text = |of: fn(&PluginResult) -> String| {
        let ended = one
            .result
            .as_ref()
            .filter(|result| result.finished.is_some());
        ended.map(of).unwrap_or_default()
    };
    // The model takes one digit of a second.
    let started = one
        .result
        .as_ref()
        .map_or_else(String::new, |result| format!("{:.1}", result.started));
    let ended = one
        .result
        .as_ref()
        .and_then(|result| result.finished)
        .map_or_else(String::new, |end| format!("{end:.1}"));
    let mut body = json!({
        "CommandId": command.id,
        "InstanceId": one.instance_id,
        "Comment": command.order.comment,
        "DocumentName": command.order.document_name,
        "DocumentVersion": "$DEFAULT",
        "PluginName": plugin,
        "ResponseCode": one.result.as_ref().map_or(-1, |result| result.code),
        "ExecutionStartDateTime": started,
        "ExecutionElapsedTime": if ended.is_empty() { "" } else { "PT0S" },
        "ExecutionEndDateTime": ended,
        "Status": one.status.status(),
        "StatusDetails": one.status.details(),
        "StandardOutputContent": text(|result| result.stdout.to_string()),
        "StandardErrorContent": text(|result| stderr_content(&result.stderr)),
        "StandardOutputUrl": url(&command, &one, "stdout"),
        "StandardErrorUrl": url(&command, &one, "stderr"),
    });
    body["CloudWatchOutputConfig"] = log_config(&command);
    Ok(body)
}

/// The command with this id.
///
/// # Errors
/// `ValidationException` for a text that is no id, `InvalidCommandId` for an unknown one.
pub(super) fn find(
    app: &App,
    call: &Call,
    id: &str,
) -> Result<std::sync::Arc<SentCommand>, ApiError> {
    check_length(id, "CommandId", 36, 36)?;
    app.run_commands
        .find(&call.region, id)
        .ok_or_else(|| ApiError::new("InvalidCommandId", ""))
}

/// A command as ListCommands and SendCommand tell it.
pub(super) fn command_body(command: &SentCommand) -> Value {
    let order = &command.order;
    let (status, details) = command.status();
    let counts = command.counts();
    let (ids, targets) = match &order.targets {
        Targets::Ids(ids) => (ids.clone(), Vec::new()),
        Targets::Criteria(criteria) => (
            Vec::new(),
            criteria
                .iter()
                .map(|(key, values)| json!({ "Key": key, "Values": values }))
                .collect(),
        ),
    };
    json!({
        "CommandId": command.id,
        "DocumentName": order.document_name,
        "DocumentVersion": "$DEFAULT",
        "Comment": order.comment,
        "ExpiresAfter": seconds(command.expires_at),
        "Parameters": order.parameters,
        "InstanceIds": ids,
        "Targets": targets,
        "RequestedDateTime": seconds(command.requested),
        "Status": status,
        "StatusDetails": details,
        "OutputS3BucketName": order.output.bucket.as_deref().unwrap_or_default(),
        "OutputS3KeyPrefix": order.output.key_prefix,
        "MaxConcurrency": order.max_concurrency,
        "MaxErrors": order.max_errors,
        "TargetCount": counts.targets,
        "CompletedCount": counts.completed,
        "ErrorCount": counts.errors,
        "DeliveryTimedOutCount": counts.delivery_timed_out,
        "ServiceRole": "",
        "NotificationConfig": { "NotificationArn": "", "NotificationEvents": [], "NotificationType": "" },
        "CloudWatchOutputConfig": log_config(command),
        "TimeoutSeconds": order.timeout_seconds,
    })
}

fn log_config(command: &SentCommand) -> Value {
    json!({
        "CloudWatchLogGroupName": command.order.output.log_group.as_deref().unwrap_or_default(),
        "CloudWatchOutputEnabled": command.order.output.log_group.is_some(),
    })
}

fn invocation_body(command: &SentCommand, one: &Invocation, has_details: bool) -> Value {
    let order = &command.order;
    let mut body = json!({
        "CommandId": command.id,
        "InstanceId": one.instance_id,
        "InstanceName": one.instance_name,
        "Comment": order.comment,
        "DocumentName": order.document_name,
        "DocumentVersion": "$DEFAULT",
        "RequestedDateTime": seconds(one.requested),
        "Status": one.status.status(),
        "StatusDetails": one.status.details(),
        "StandardOutputUrl": url(command, one, "stdout"),
        "StandardErrorUrl": url(command, one, "stderr"),
        "CommandPlugins": [],
        "ServiceRole": "",
        "NotificationConfig": { "NotificationArn": "", "NotificationEvents": [], "NotificationType": "" },
        "CloudWatchOutputConfig": log_config(command),
    });
    if !has_details {
        return body;
    }
    // A node that never took the command has no plugin that could tell anything.
    if let Some(result) = &one.result {
        let status = match one.status.status() {
            "Delayed" | "Cancelling" => "InProgress",
            other => other,
        };
        let output = if result.finished.is_some() {
            plugin_output(&result.stdout, &result.stderr)
        } else {
            String::new()
        };
        let mut plugin = json!({
            "Name": order.document.plugin(),
            "Status": status,
            "StatusDetails": one.status.details(),
            "ResponseCode": result.code,
            "ResponseStartDateTime": seconds(result.started),
            "Output": output,
            "StandardOutputUrl": url(command, one, "stdout"),
            "StandardErrorUrl": url(command, one, "stderr"),
            "OutputS3Region": command.region,
            "OutputS3BucketName": order.output.bucket.as_deref().unwrap_or_default(),
            "OutputS3KeyPrefix": order.output.key_prefix,
        });
        if let Some(finished) = result.finished {
            plugin["ResponseFinishDateTime"] = seconds(finished);
        }
        body["CommandPlugins"] = json!([plugin]);
    }
    body
}

/// The address of an output in S3; nothing without a bucket, or before the command has ended.
fn url(command: &SentCommand, one: &Invocation, stream: &str) -> String {
    let has_ended = one
        .result
        .as_ref()
        .is_some_and(|result| result.finished.is_some());
    match &command.order.output.bucket {
        Some(bucket) if has_ended => format!(
            "https://s3.{}.amazonaws.com/{bucket}/{}",
            command.region,
            command.key(&one.instance_id, stream)
        ),
        _ => String::new(),
    }
}

/// As the JSON protocol writes times.
fn seconds(at: Timestamp) -> Value {
    json!((at.as_duration().as_secs_f64() * 1000.0).round() / 1000.0)
}

impl Wanted {
    fn admits(&self, command: &SentCommand, status: &str, details: &str) -> bool {
        match self {
            Self::After(time) => command.requested >= *time,
            Self::Before(time) => command.requested <= *time,
            Self::Status(wanted) => wanted == status || wanted == details,
            Self::Complete(wanted) => command.is_complete() == *wanted,
            Self::Document(name) => command.order.document_name == *name,
        }
    }
}

/// `Filters`; stages of execution are for commands alone.
fn read_filters(input: &Value, of_commands: bool) -> Result<Vec<Wanted>, ApiError> {
    let pairs = pairs(input, "Filters", "key", "value")?;
    if pairs.len() > MOST_FILTERS {
        return Err(ApiError::validation(
            "1 validation error detected: Value at 'filters' failed to satisfy constraint: Member must have length less than or equal to 5",
        ));
    }
    pairs
        .into_iter()
        .map(|(key, values)| {
            let value = values.first().copied().unwrap_or_default();
            let time = || {
                value.parse::<Timestamp>().map_err(|_| {
                    ApiError::new("InvalidFilterValue", format!("{value} is no timestamp"))
                })
            };
            Ok(match key {
                "InvokedAfter" => Wanted::After(time()?),
                "InvokedBefore" => Wanted::Before(time()?),
                "Status" => Wanted::Status(value.to_owned()),
                "DocumentName" => Wanted::Document(value.to_owned()),
                "ExecutionStage" if of_commands => Wanted::Complete(value == "Complete"),
                _ => return Err(ApiError::new("InvalidFilterKey", "")),
            })
        })
        .collect()
}
