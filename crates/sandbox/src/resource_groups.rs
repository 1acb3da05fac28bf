//! Resource groups of this sandbox: machines that have the tags of a group, or that are resources
//! of its CloudFormation stack, and what ListGroupResources answers.
//!
//! Source: botocore's model of the service; `QueryError` and the minimum permissions of
//! ListGroupResources in the API reference of AWS Resource Groups.

use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    app::{App, Call},
    error::ApiError,
    reply::Reply,
};

/// Where ListGroupResources is posted to.
const LIST_GROUP_RESOURCES: &str = "/list-group-resources";
/// What a caller needs beside, for a group that is a stack.
const STACK_PERMISSIONS: [&str; 2] = [
    "cloudformation:DescribeStacks",
    "cloudformation:ListStackResources",
];
/// Most resources of a page, and what a page has where nothing is said.
const PAGE: usize = 50;

/// The operation of a path; the path itself where it is none.
pub(crate) fn action(path: &str) -> &str {
    match path {
        LIST_GROUP_RESOURCES => "ListGroupResources",
        other => other,
    }
}

pub(crate) fn answer(
    app: &App,
    call: &Call,
    action: &str,
    input: &Value,
) -> Result<Reply, ApiError> {
    let answer = match action {
        "ListGroupResources" => list_group_resources(app, call, input)?,
        other => {
            return Err(ApiError::new(
                "MethodNotAllowedException",
                format!("{other} is not implemented"),
            )
            .with_status(StatusCode::METHOD_NOT_ALLOWED));
        }
    };
    Ok(Reply::json(StatusCode::OK, &answer))
}

fn list_group_resources(app: &App, call: &Call, input: &Value) -> Result<Value, ApiError> {
    let text = |name: &str| input.get(name).and_then(Value::as_str);
    let bad = |message: &str| {
        ApiError::new("BadRequestException", message).with_status(StatusCode::BAD_REQUEST)
    };
    let group = text("Group")
        .or_else(|| text("GroupName"))
        .ok_or_else(|| bad("Group is missing"))?;
    // A group may be named by its ARN too.
    let group = group.rsplit(":group/").next().unwrap_or(group);
    let (region, account) = (&call.region, &call.identity.account);
    let arn = format!("arn:aws:resource-groups:{region}:{account}:group/{group}");
    app.check_resource(call, "ListGroupResources", group, &arn)?;
    let file = app.fleet.file();
    let stack = file.stack_groups.get(group);
    if stack.is_none() && !file.resource_groups.contains_key(group) {
        return Err(
            ApiError::new("NotFoundException", format!("Cannot find group: {group}"))
                .with_status(StatusCode::NOT_FOUND),
        );
    }
    if let Some(stack) = stack {
        check_stack(app, call, stack)?;
    }
    let count = match input.get("MaxResults") {
        None | Some(Value::Null) => PAGE,
        Some(number) => number
            .as_u64()
            .and_then(|number| usize::try_from(number).ok())
            .filter(|number| (1..=PAGE).contains(number))
            .ok_or_else(|| bad("MaxResults is out of range"))?,
    };
    let start: usize = match text("NextToken") {
        None => 0,
        Some(token) => token.parse().map_err(|_| bad("NextToken is invalid"))?,
    };
    let types: Vec<&str> = filtered_types(input);
    let mut members = Vec::new();
    let mut query_errors = Vec::new();
    match stack.map(|stack| (stack, file.stacks.contains_key(stack))) {
        // A stack has more than machines in it, and all of that is a member.
        Some((stack, true)) => members.push(json!({
            "ResourceArn": format!("arn:aws:ec2:{region}:{account}:security-group/sg-0{stack}"),
            "ResourceType": "AWS::EC2::SecurityGroup",
        })),
        Some((stack, false)) => query_errors.push(json!({
            "ErrorCode": "CLOUDFORMATION_STACK_NOT_EXISTING",
            "Message": format!("Stack with id {stack} does not exist"),
        })),
        None => {}
    }
    let mut index = 0;
    while let Some(instance) = app.fleet.at(index) {
        index += 1;
        let (kind, arn) = if instance.is_hybrid() {
            let arn = format!(
                "arn:aws:ssm:{region}:{account}:managed-instance/{}",
                instance.id
            );
            ("AWS::SSM::ManagedInstance", arn)
        } else {
            let arn = format!("arn:aws:ec2:{region}:{account}:instance/{}", instance.id);
            ("AWS::EC2::Instance", arn)
        };
        let is_wanted = types.is_empty() || types.contains(&kind);
        if is_wanted && instance.region == *region && file.is_in_group(group, &instance) {
            members.push(json!({ "ResourceArn": arn, "ResourceType": kind }));
        }
    }
    let page: Vec<&Value> = members.iter().skip(start).take(count).collect();
    let resources: Vec<Value> = page
        .iter()
        .map(|member| json!({ "Identifier": member }))
        .collect();
    let mut answer = json!({
        "Resources": resources,
        "ResourceIdentifiers": page,
        "QueryErrors": query_errors,
    });
    if members.len() > start.saturating_add(count) {
        answer["NextToken"] = json!((start + count).to_string());
    }
    Ok(answer)
}

/// The service looks into a stack as its caller, who needs permissions of CloudFormation for it.
fn check_stack(app: &App, call: &Call, stack: &str) -> Result<(), ApiError> {
    let (region, account) = (&call.region, &call.identity.account);
    let arn = format!("arn:aws:cloudformation:{region}:{account}:stack/{stack}/*");
    for permission in STACK_PERMISSIONS {
        if app.faults().deny.iter().any(|rule| rule == permission) {
            let caller = &call.identity.arn;
            return Err(ApiError::denied(call.service, caller, permission, &arn));
        }
    }
    Ok(())
}

/// Values of the filter `resource-type`.
fn filtered_types(input: &Value) -> Vec<&str> {
    let filters = input.get("Filters").and_then(Value::as_array);
    filters
        .into_iter()
        .flatten()
        .filter(|filter| filter.get("Name").and_then(Value::as_str) == Some("resource-type"))
        .filter_map(|filter| filter.get("Values").and_then(Value::as_array))
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}
