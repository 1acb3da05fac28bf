//! DescribeInstanceInformation, and the tags of hybrid nodes, which EC2 does not know.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{page_size, page_start, pairs, required};
use crate::{
    app::{App, Call},
    ec2::page_token,
    error::ApiError,
    filter::Filter,
    fleet::{Instance, PingStatus, Platform},
};

pub(super) fn describe(app: &App, call: &Call, input: &Value) -> Result<Value, ApiError> {
    let filters = read_filters(input)?;
    let (start, count) = (page_start(input)?, page_size(input, 5, 50)?);
    let is_wanted = |instance: &Instance| {
        instance.region == call.region
            && instance.ping().is_some()
            && filters.iter().all(|filter| matches(instance, filter))
    };
    let now = Timestamp::now();
    let mut list = Vec::new();
    let mut next = None;
    if let Some(ids) = filters.iter().find(|filter| filter.name == "InstanceIds") {
        // Asked by id, nobody else needs to be looked at.
        let found: Vec<_> = ids
            .given()
            .iter()
            .filter_map(|id| app.fleet.by_id(id))
            .filter(|instance| is_wanted(instance))
            .collect();
        list.extend(
            found
                .iter()
                .skip(start)
                .take(count)
                .map(|instance| body(instance, now)),
        );
        if found.len() > start.saturating_add(count) {
            next = Some(page_token(start + count));
        }
    } else {
        let mut index = start;
        while let Some(instance) = app.fleet.at(index) {
            if is_wanted(&instance) {
                if list.len() == count {
                    next = Some(page_token(index));
                    break;
                }
                list.push(body(&instance, now));
            }
            index += 1;
        }
    }
    let mut output = json!({ "InstanceInformationList": list });
    if let Some(next) = next {
        output["NextToken"] = json!(next);
    }
    Ok(output)
}

/// ListTagsForResource, for hybrid nodes: the tags of EC2 instances are EC2's.
pub(super) fn tags(app: &App, call: &Call, input: &Value) -> Result<Value, ApiError> {
    let kind = required(input, "ResourceType")?;
    let id = required(input, "ResourceId")?;
    if kind != "ManagedInstance" {
        return Err(ApiError::new(
            "InvalidResourceType",
            format!("The resource type {kind} isn't valid for this call here."),
        ));
    }
    let node = app
        .fleet
        .by_id(id)
        .filter(|node| node.is_hybrid() && node.region == call.region)
        .ok_or_else(|| {
            ApiError::new(
                "InvalidResourceId",
                format!("The resource ID {id} isn't valid. Verify that you entered the correct ID and try again."),
            )
        })?;
    let list: Vec<Value> = node
        .tags
        .iter()
        .map(|(key, value)| json!({ "Key": key, "Value": value }))
        .collect();
    Ok(json!({ "TagList": list }))
}

/// DescribeActivations: one for each hybrid node.
pub(super) fn activations(app: &App, call: &Call, input: &Value) -> Result<Value, ApiError> {
    let filters = pairs(input, "Filters", "FilterKey", "FilterValues")?;
    let is_wanted = |id: &str| {
        filters
            .iter()
            .all(|(key, values)| *key != "ActivationIds" || values.contains(&id))
    };
    let seconds = |time: Timestamp| time.as_duration().as_secs_f64();
    let list: Vec<Value> = app
        .fleet
        .all_listed()
        .iter()
        .filter(|node| node.is_hybrid() && node.region == call.region)
        .filter(|node| is_wanted(activation_id(node)))
        .map(|node| {
            let lasts = jiff::SignedDuration::from_hours(24 * 30);
            json!({
                "ActivationId": activation_id(node),
                "DefaultInstanceName": node.hostname(),
                "IamRole": "SandboxHybridNodes",
                "RegistrationLimit": 1,
                "RegistrationsCount": 1,
                "ExpirationDate": seconds(node.launched + lasts),
                "Expired": node.expired_activation,
                "CreatedDate": seconds(node.launched),
            })
        })
        .collect();
    Ok(json!({ "ActivationList": list }))
}

/// Two are enough to tell an expired one.
fn activation_id(node: &Instance) -> &'static str {
    if node.expired_activation {
        "7c1d9e2f-3b4a-4c5d-9e8f-0a1b2c3d4e5f"
    } else {
        "0f7b2c9d-1e3a-4f6b-8c2d-5e7f9a1b3c4d"
    }
}

fn read_filters(input: &Value) -> Result<Vec<Filter>, ApiError> {
    let new = pairs(input, "Filters", "Key", "Values")?;
    let old = pairs(input, "InstanceInformationFilterList", "key", "valueSet")?;
    if !new.is_empty() && !old.is_empty() {
        return Err(ApiError::validation(
            "Filters and InstanceInformationFilterList cannot be used together",
        ));
    }
    let mut filters = Vec::new();
    for (name, values) in new.into_iter().chain(old) {
        let is_known = name.starts_with("tag:")
            || [
                "InstanceIds",
                "AgentVersion",
                "PingStatus",
                "PlatformTypes",
                "ActivationIds",
                "IamRole",
                "ResourceType",
                "AssociationStatus",
                "SourceIds",
                "SourceTypes",
                "tag-key",
            ]
            .contains(&name);
        if !is_known {
            return Err(ApiError::new(
                "InvalidFilterKey",
                format!("The specified key isn't valid: {name}"),
            ));
        }
        if values.is_empty() || values.len() > 100 {
            return Err(ApiError::validation(format!(
                "Filter {name} takes 1 to 100 values"
            )));
        }
        if name == "InstanceIds" {
            for id in &values {
                check_id(id)?;
            }
        }
        filters.push(Filter::new(name, &values));
    }
    Ok(filters)
}

fn check_id(id: &str) -> Result<(), ApiError> {
    let digits = id.strip_prefix("mi-").or_else(|| id.strip_prefix("i-"));
    let is_id = digits.is_some_and(|digits| {
        matches!(digits.len(), 8 | 17) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    if is_id {
        return Ok(());
    }
    Err(ApiError::new(
        "InvalidInstanceId",
        format!("The following instance ID isn't valid: {id}"),
    ))
}

fn matches(instance: &Instance, filter: &Filter) -> bool {
    let agent = instance.agent.as_ref();
    match filter.name.as_str() {
        "InstanceIds" => filter.equals(&instance.id),
        "AgentVersion" => agent.is_some_and(|agent| filter.equals(&agent.version)),
        "PingStatus" => instance
            .ping()
            .is_some_and(|ping| filter.equals(ping.name())),
        "PlatformTypes" => filter.equals(platform(instance)),
        "ResourceType" => filter.equals(resource_type(instance)),
        "tag-key" => instance.tags.keys().any(|key| filter.equals(key)),
        name => name
            .strip_prefix("tag:")
            .and_then(|key| instance.tags.get(key))
            .is_some_and(|value| filter.equals(value)),
    }
}

fn body(instance: &Instance, now: Timestamp) -> Value {
    let version = instance
        .agent
        .as_ref()
        .map_or("", |agent| agent.version.as_str());
    let last_ping = instance.last_ping(now);
    let mut body = json!({
        "InstanceId": instance.id,
        "PingStatus": instance.ping().unwrap_or(PingStatus::ConnectionLost).name(),
        "LastPingDateTime": last_ping.as_duration().as_secs_f64(),
        "AgentVersion": version,
        "IsLatestVersion": version == "3.3.3572.0",
        "PlatformType": platform(instance),
        "PlatformName": if instance.platform == Platform::Windows { "Microsoft Windows Server 2022 Datacenter" } else { "Amazon Linux" },
        "PlatformVersion": if instance.platform == Platform::Windows { "10.0.20348" } else { "2023" },
        "ResourceType": resource_type(instance),
        "IPAddress": instance.private_ip.to_string(),
        "ComputerName": if instance.is_hybrid() { instance.hostname().to_owned() } else { instance.private_dns.clone() },
        "SourceId": instance.id,
        "SourceType": if instance.is_hybrid() { "AWS::SSM::ManagedInstance" } else { "AWS::EC2::Instance" },
    });
    if instance.is_hybrid() {
        body["ActivationId"] = json!(activation_id(instance));
        body["IamRole"] = json!("SandboxHybridNodes");
        body["RegistrationDate"] = json!(instance.launched.as_duration().as_secs_f64());
        body["Name"] = json!(instance.hostname());
    }
    body
}

const fn platform(instance: &Instance) -> &'static str {
    match instance.platform {
        Platform::Linux => "Linux",
        Platform::Windows => "Windows",
    }
}

fn resource_type(instance: &Instance) -> &'static str {
    if instance.is_hybrid() {
        "ManagedInstance"
    } else {
        "EC2Instance"
    }
}
