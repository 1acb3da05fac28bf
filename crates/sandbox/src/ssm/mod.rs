//! The Systems Manager JSON API: sessions, managed nodes, Run Command, and documents.

mod command_lists;
mod commands;
mod nodes;
mod sessions;

use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    app::{App, Call},
    documents,
    error::ApiError,
    reply::Reply,
};

/// In front of the action in `X-Amz-Target`.
pub(crate) const TARGET_PREFIX: &str = "AmazonSSM.";

pub(crate) fn answer(
    app: &App,
    call: &Call,
    action: &str,
    input: &Value,
) -> Result<Reply, ApiError> {
    let output = match action {
        "StartSession" => sessions::start(app, call, input)?,
        "ResumeSession" => sessions::resume(app, call, input)?,
        "TerminateSession" => sessions::terminate(app, call, input)?,
        "DescribeSessions" => sessions::describe(app, call, input)?,
        "GetConnectionStatus" => sessions::connection_status(app, call, input)?,
        "DescribeInstanceInformation" => nodes::describe(app, call, input)?,
        "ListTagsForResource" => nodes::tags(app, call, input)?,
        "GetDocument" => get_document(app, call, input)?,
        "DescribeActivations" => nodes::activations(app, call, input)?,
        "GetServiceSetting" => get_service_setting(app, call, input)?,
        "SendCommand" => commands::send(app, call, input)?,
        "CancelCommand" => commands::cancel(app, call, input)?,
        "ListCommands" => command_lists::commands(app, call, input)?,
        "ListCommandInvocations" => command_lists::invocations(app, call, input)?,
        "GetCommandInvocation" => command_lists::invocation(app, call, input)?,
        other => return Err(ApiError::unknown_action(call.service, other)),
    };
    Ok(Reply::amz_json(StatusCode::OK, &output))
}

fn get_document(app: &App, call: &Call, input: &Value) -> Result<Value, ApiError> {
    let name = required(input, "Name")?;
    let short = name
        .rsplit_once(":document/")
        .map_or(name, |(_, short)| short);
    app.check_resource(call, "GetDocument", short, &document_arn(call, short))?;
    let mut content = documents::content(short, app.fleet.file()).ok_or_else(|| {
        ApiError::new(
            "InvalidDocument",
            format!("Document with name {name} does not exist."),
        )
    })?;
    // What sessions demand is what the preferences say, whoever has set it.
    if let (Some(inputs), Some(key)) = (content.get_mut("inputs"), &app.faults().kms_key) {
        inputs["kmsKeyId"] = json!(key);
    }
    Ok(json!({
        "Name": name,
        "DocumentVersion": "1",
        "Status": "Active",
        "Content": content.to_string(),
        "DocumentType": "Session",
        "DocumentFormat": "JSON",
    }))
}

/// The setting of Default Host Management; `$None` is what the service says where no role is set.
/// Source: "Default Host Management Configuration" of the Systems Manager user guide.
fn get_service_setting(app: &App, call: &Call, input: &Value) -> Result<Value, ApiError> {
    let id = required(input, "SettingId")?;
    let short = id
        .rsplit_once("servicesetting")
        .map_or(id, |(_, short)| short);
    let role = app.fleet.file().default_host_management.as_deref();
    let value = match short {
        "/ssm/managed-instance/default-ec2-instance-management-role" => role.unwrap_or("$None"),
        "/ssm/managed-instance/activation-tier" if app.faults().standard_tier => "standard",
        "/ssm/managed-instance/activation-tier" => "advanced",
        _ => {
            return Err(ApiError::new(
                "ServiceSettingNotFound",
                format!("{id} is not a valid service setting"),
            ));
        }
    };
    Ok(json!({
        "ServiceSetting": {
            "SettingId": short,
            "SettingValue": value,
            "LastModifiedDate": 1_700_000_000.0,
            "LastModifiedUser": "System",
            "ARN": format!(
                "arn:aws:ssm:{}:{}:servicesetting{short}",
                call.region, call.identity.account
            ),
            "Status": "Default",
        }
    }))
}

/// AWS's own documents have no account in their ARN.
fn document_arn(call: &Call, name: &str) -> String {
    let account = if name.starts_with("AWS-") {
        ""
    } else {
        &call.identity.account
    };
    format!("arn:aws:ssm:{}:{account}:document/{name}", call.region)
}

/// A text that must be there.
fn required<'a>(input: &'a Value, name: &str) -> Result<&'a str, ApiError> {
    match input.get(name) {
        Some(Value::String(text)) => Ok(text),
        None | Some(Value::Null) => Err(ApiError::validation(format!(
            "1 validation error detected: Value null at '{}' failed to satisfy constraint: Member must not be null",
            member(name)
        ))),
        Some(_) => Err(not_a_string(name)),
    }
}

/// A text of `least` to `most` characters that may be left out.
fn optional<'a>(
    input: &'a Value,
    name: &str,
    least: usize,
    most: usize,
) -> Result<Option<&'a str>, ApiError> {
    match input.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => check_length(text, name, least, most).map(Some),
        Some(_) => Err(not_a_string(name)),
    }
}

fn check_length<'a>(
    text: &'a str,
    name: &str,
    least: usize,
    most: usize,
) -> Result<&'a str, ApiError> {
    let len = text.chars().count();
    let bound = if len < least {
        format!("greater than or equal to {least}")
    } else if len > most {
        format!("less than or equal to {most}")
    } else {
        return Ok(text);
    };
    Err(ApiError::validation(format!(
        "1 validation error detected: Value '{text}' at '{}' failed to satisfy constraint: Member must have length {bound}",
        member(name)
    )))
}

/// `MaxResults` within the bounds of its call.
fn page_size(input: &Value, least: u64, most: u64) -> Result<usize, ApiError> {
    let asked = match input.get("MaxResults") {
        None | Some(Value::Null) => most,
        Some(value) => value
            .as_u64()
            .ok_or_else(|| ApiError::new("SerializationException", "MaxResults is no number"))?,
    };
    let bound = if asked < least {
        format!("greater than or equal to {least}")
    } else if asked > most {
        format!("less than or equal to {most}")
    } else {
        return Ok(usize::try_from(asked).unwrap_or(usize::MAX));
    };
    Err(ApiError::validation(format!(
        "1 validation error detected: Value '{asked}' at 'maxResults' failed to satisfy constraint: Member must have value {bound}"
    )))
}

/// Where the page begins that `NextToken` asks for.
fn page_start(input: &Value) -> Result<usize, ApiError> {
    match input
        .get("NextToken")
        .and_then(Value::as_str)
        .filter(|token| !token.is_empty())
    {
        None => Ok(0),
        Some(token) => crate::ec2::page_start(token)
            .ok_or_else(|| ApiError::new("InvalidNextToken", "The specified token isn't valid.")),
    }
}

/// A list of objects such as `Filters`: pairs of a name and texts.
fn pairs<'a>(
    input: &'a Value,
    list: &str,
    name_key: &str,
    values_key: &str,
) -> Result<Vec<(&'a str, Vec<&'a str>)>, ApiError> {
    let Some(list) = input.get(list).filter(|list| !list.is_null()) else {
        return Ok(Vec::new());
    };
    let malformed = || ApiError::new("SerializationException", "The filters are malformed");
    list.as_array()
        .ok_or_else(malformed)?
        .iter()
        .map(|pair| {
            let name = pair
                .get(name_key)
                .and_then(Value::as_str)
                .ok_or_else(malformed)?;
            let values = match pair.get(values_key) {
                Some(Value::String(value)) => vec![value.as_str()],
                Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).collect(),
                _ => return Err(malformed()),
            };
            Ok((name, values))
        })
        .collect()
}

fn not_a_string(name: &str) -> ApiError {
    ApiError::new(
        "SerializationException",
        format!("STRING_VALUE expected for {name}"),
    )
}

/// Validation messages spell members in lower camel case.
fn member(name: &str) -> String {
    let mut characters = name.chars();
    characters
        .next()
        .map(|first| first.to_lowercase().chain(characters).collect())
        .unwrap_or_default()
}
