//! The EC2 query API: DescribeInstances and DescribeRegions, what stands around an instance, and
//! enough of StartInstances and StopInstances to try what happens then.

mod network;

use std::{collections::BTreeSet, sync::Arc};

use http::StatusCode;

use crate::{
    app::{App, Call},
    error::ApiError,
    filter::Filter,
    fleet::{Instance, InstanceStateName, MachineChange, Platform},
    reply::Reply,
    xml::{Form, Xml},
};

const NAMESPACE: &str = "http://ec2.amazonaws.com/doc/2016-11-15/";
/// The most instances of one page, also when no number is asked for.
const PAGE_BOUND: usize = 1000;
/// The least that `MaxResults` may be.
const PAGE_LEAST: usize = 5;
/// Regions that exist whatever the fleet has in them.
const REGIONS: [&str; 8] = [
    "ap-south-1",
    "ap-southeast-1",
    "eu-central-1",
    "eu-north-1",
    "eu-west-1",
    "us-east-1",
    "us-east-2",
    "us-west-2",
];

pub(crate) fn answer(app: &App, call: &Call, action: &str, form: &Form) -> Result<Reply, ApiError> {
    match action {
        "DescribeInstances" => describe_instances(app, call, form),
        "StartInstances" => change_state(app, call, action, form, &MachineChange::start()),
        "StopInstances" => change_state(app, call, action, form, &MachineChange::stop()),
        "DescribeRegions" => Ok(describe_regions(app, call, form)),
        "DescribeRouteTables" => network::route_tables(app, call, form),
        "DescribeVpcEndpoints" => network::endpoints(app, call, form),
        "DescribeSecurityGroups" => network::security_groups(app, call, form),
        "GetConsoleOutput" => network::console(app, call, form),
        other => Err(ApiError::unknown_action(call.service, other)),
    }
}

fn describe_instances(app: &App, call: &Call, form: &Form) -> Result<Reply, ApiError> {
    let ids = form.list("InstanceId");
    let filters = read_filters(form, is_filter)?;
    let page = match form.value("MaxResults") {
        None => PAGE_BOUND,
        Some(_) if !ids.is_empty() => {
            return Err(ApiError::new(
                "InvalidParameterCombination",
                "The parameter instancesSet cannot be used with the parameter maxResults",
            ));
        }
        Some(text) => match text.parse::<usize>() {
            Ok(count) if count >= PAGE_LEAST => count.min(PAGE_BOUND),
            _ => {
                return Err(ApiError::new(
                    "InvalidParameterValue",
                    format!(
                        "Value ( {text} ) for parameter maxResults is invalid. Expecting a value greater than or equal to {PAGE_LEAST}."
                    ),
                ));
            }
        },
    };
    let start = match form.value("NextToken").filter(|token| !token.is_empty()) {
        None => 0,
        Some(token) => page_start(token).ok_or_else(|| {
            ApiError::new("InvalidNextToken", "The token is invalid or has expired.")
        })?,
    };
    let mut next = None;
    let mut xml = Xml::new();
    let mut found = Vec::new();
    let is_wanted = |instance: &Instance| {
        !instance.is_hybrid()
            && instance.region == call.region
            && filters.iter().all(|filter| matches(instance, filter))
    };
    if ids.is_empty() {
        let mut index = start;
        while let Some(instance) = app.fleet.at(index) {
            if is_wanted(&instance) {
                if found.len() == page {
                    next = Some(page_token(index));
                    break;
                }
                found.push(instance);
            }
            index += 1;
        }
    } else {
        found = by_ids(app, call, &ids)?;
        found.retain(|instance| is_wanted(instance));
    }
    xml.root("DescribeInstancesResponse", NAMESPACE, |xml| {
        xml.text("requestId", &call.request_id);
        xml.element("reservationSet", |xml| {
            for instance in &found {
                write_reservation(xml, app.fleet.account(), instance);
            }
        });
        xml.optional("nextToken", next.as_deref());
    });
    Ok(Reply::xml(StatusCode::OK, xml.finish()))
}

/// All of them, or none and an error.
fn by_ids(app: &App, call: &Call, ids: &[&str]) -> Result<Vec<Arc<Instance>>, ApiError> {
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for id in ids {
        if !is_instance_id(id) {
            return Err(ApiError::new(
                "InvalidInstanceID.Malformed",
                format!("Invalid id: \"{id}\""),
            ));
        }
        match app.fleet.by_id(id) {
            Some(instance) if instance.region == call.region => found.push(instance),
            _ => missing.push(*id),
        }
    }
    let message = match missing.as_slice() {
        [] => return Ok(found),
        [one] => format!("The instance ID '{one}' does not exist"),
        several => format!("The instance IDs '{}' do not exist", several.join(", ")),
    };
    Err(ApiError::new("InvalidInstanceID.NotFound", message))
}

fn change_state(
    app: &App,
    call: &Call,
    action: &str,
    form: &Form,
    change: &MachineChange,
) -> Result<Reply, ApiError> {
    let ids = form.list("InstanceId");
    let before = by_ids(app, call, &ids)?;
    let wanted = if action == "StartInstances" {
        InstanceStateName::Stopped
    } else {
        InstanceStateName::Running
    };
    if let Some(terminated) = before
        .iter()
        .find(|instance| instance.state() == InstanceStateName::Terminated)
    {
        return Err(ApiError::new(
            "IncorrectInstanceState",
            format!(
                "The instance '{}' is not in a state from which it can be started or stopped.",
                terminated.id
            ),
        ));
    }
    let mut xml = Xml::new();
    xml.root(&format!("{action}Response"), NAMESPACE, |xml| {
        xml.text("requestId", &call.request_id);
        xml.element("instancesSet", |xml| {
            for instance in &before {
                // What is so already stays so; made-up machines never change.
                let after = (instance.state() == wanted)
                    .then(|| app.fleet.change(&instance.id, change))
                    .flatten();
                let after = after.as_ref().unwrap_or(instance);
                xml.element("item", |xml| {
                    xml.text("instanceId", &instance.id);
                    for (name, state) in [
                        ("currentState", after.state()),
                        ("previousState", instance.state()),
                    ] {
                        xml.element(name, |xml| write_state(xml, state));
                    }
                });
            }
        });
    });
    Ok(Reply::xml(StatusCode::OK, xml.finish()))
}

fn write_state(xml: &mut Xml, state: InstanceStateName) {
    xml.text("code", &state.code().to_string())
        .text("name", state.name());
}

fn read_filters(form: &Form, is_known: fn(&str) -> bool) -> Result<Vec<Filter>, ApiError> {
    let mut filters = Vec::new();
    for index in 1.. {
        let Some(name) = form.value(&format!("Filter.{index}.Name")) else {
            break;
        };
        let values = form.list(&format!("Filter.{index}.Value"));
        if !is_known(name) {
            return Err(ApiError::new(
                "InvalidParameterValue",
                format!("The filter '{name}' is invalid"),
            ));
        }
        if values.is_empty() {
            return Err(ApiError::new(
                "InvalidParameterValue",
                format!("The filter '{name}' has no values"),
            ));
        }
        filters.push(Filter::new(name, &values));
    }
    Ok(filters)
}

fn is_filter(name: &str) -> bool {
    name.strip_prefix("tag:").is_some_and(|key| !key.is_empty())
        || [
            "tag-key",
            "instance-state-name",
            "instance-state-code",
            "instance-id",
            "instance-type",
            "image-id",
            "vpc-id",
            "subnet-id",
            "network-interface.addresses.private-ip-address",
            "private-ip-address",
            "private-dns-name",
            "ip-address",
            "dns-name",
            "availability-zone",
            "architecture",
            "platform",
            "platform-details",
            "owner-id",
            "key-name",
            "launch-time",
            "root-device-type",
            "virtualization-type",
            "instance-lifecycle",
            "tenancy",
        ]
        .contains(&name)
}

fn matches(instance: &Instance, filter: &Filter) -> bool {
    let public_ip = || {
        instance
            .public_ip
            .map(|ip| ip.to_string())
            .unwrap_or_default()
    };
    match filter.name.as_str() {
        "tag-key" => instance.tags.keys().any(|key| filter.matches(key)),
        "instance-state-name" => filter.matches(instance.state().name()),
        "instance-state-code" => filter.matches(&instance.state().code().to_string()),
        "instance-id" => filter.matches(&instance.id),
        "instance-type" => filter.matches(&instance.instance_type),
        "image-id" => filter.matches(&instance.image_id),
        "vpc-id" => filter.matches(&instance.vpc_id),
        "subnet-id" => filter.matches(&instance.subnet_id),
        "private-ip-address" | "network-interface.addresses.private-ip-address" => {
            filter.matches(&instance.private_ip.to_string())
        }
        "private-dns-name" => filter.matches(&instance.private_dns),
        "ip-address" => filter.matches(&public_ip()),
        "dns-name" => filter.matches(&public_dns(instance).unwrap_or_default()),
        "availability-zone" => filter.matches(&instance.zone),
        "architecture" => filter.matches("x86_64"),
        // Only Windows machines have one.
        "platform" => instance.platform == Platform::Windows && filter.matches("windows"),
        "platform-details" => filter.matches(platform_details(instance)),
        "launch-time" => filter.matches(&time(instance)),
        "root-device-type" => filter.matches("ebs"),
        "virtualization-type" => filter.matches("hvm"),
        "tenancy" => filter.matches("default"),
        name => name
            .strip_prefix("tag:")
            .and_then(|key| instance.tags.get(key))
            .is_some_and(|value| filter.matches(value)),
    }
}

fn write_reservation(xml: &mut Xml, account: &str, instance: &Instance) {
    xml.element("item", |xml| {
        let digits = instance.id.trim_start_matches("i-");
        xml.text("reservationId", &format!("r-{digits}"))
            .text("ownerId", account)
            .element("groupSet", |_| {})
            .element("instancesSet", |xml| {
                xml.element("item", |xml| write_instance(xml, account, instance));
            });
    });
}

fn write_instance(xml: &mut Xml, account: &str, instance: &Instance) {
    let state = instance.state();
    let has_address = state != InstanceStateName::Terminated;
    let address = instance.private_ip.to_string();
    xml.text("instanceId", &instance.id)
        .text("imageId", &instance.image_id)
        .element("instanceState", |xml| write_state(xml, state))
        .text(
            "privateDnsName",
            if has_address {
                &instance.private_dns
            } else {
                ""
            },
        )
        .text("dnsName", &public_dns(instance).unwrap_or_default())
        .text("reason", "")
        .text("amiLaunchIndex", "0")
        .text("instanceType", &instance.instance_type)
        .text("launchTime", &time(instance))
        .element("placement", |xml| {
            xml.text("availabilityZone", &instance.zone)
                .text("groupName", "")
                .text("tenancy", "default");
        });
    if instance.platform == Platform::Windows {
        xml.text("platform", "windows");
    }
    xml.element("monitoring", |xml| {
        xml.text("state", "disabled");
    });
    if has_address {
        xml.text("subnetId", &instance.subnet_id)
            .text("vpcId", &instance.vpc_id)
            .text("privateIpAddress", &address);
        if state == InstanceStateName::Running
            && let Some(public) = instance.public_ip
        {
            xml.text("ipAddress", &public.to_string());
        }
    }
    if let Some(role) = &instance.role {
        xml.element("iamInstanceProfile", |xml| {
            xml.text(
                "arn",
                &format!("arn:aws:iam::{account}:instance-profile/{role}"),
            )
            .text("id", "AIPAEXAMPLEOFTHESANDBX");
        });
    }
    let (group, group_name) = network::group_of(instance);
    xml.element("groupSet", |xml| {
        xml.element("item", |xml| {
            xml.text("groupId", &group).text("groupName", group_name);
        });
    })
    .element("metadataOptions", |xml| {
        xml.text("state", "applied")
            .text("httpTokens", "required")
            .text("httpPutResponseHopLimit", "2")
            .text("httpEndpoint", "enabled");
    });
    xml.text("architecture", "x86_64")
        .text("rootDeviceType", "ebs")
        .text("virtualizationType", "hvm");
    if !instance.tags.is_empty() {
        xml.element("tagSet", |xml| {
            for (key, value) in &instance.tags {
                xml.element("item", |xml| {
                    xml.text("key", key).text("value", value);
                });
            }
        });
    }
    xml.text("hypervisor", "xen")
        .text("ebsOptimized", "false")
        .text("platformDetails", platform_details(instance));
}

fn describe_regions(app: &App, call: &Call, form: &Form) -> Reply {
    let asked = form.list("RegionName");
    let mut regions: BTreeSet<String> = REGIONS.iter().map(|name| (*name).to_owned()).collect();
    regions.insert(app.fleet.region().to_owned());
    let disabled = &app.fleet.file().disabled_regions;
    // Those that are not enabled are told of on demand alone.
    let wants_all = form.value("AllRegions") == Some("true");
    regions.extend(disabled.iter().filter(|_| wants_all).cloned());
    let opt_in = |region: &String| match disabled.contains(region) {
        true => "not-opted-in",
        false => "opt-in-not-required",
    };
    let mut xml = Xml::new();
    xml.root("DescribeRegionsResponse", NAMESPACE, |xml| {
        xml.text("requestId", &call.request_id);
        xml.element("regionInfo", |xml| {
            for region in &regions {
                if asked.is_empty() || asked.contains(&region.as_str()) {
                    xml.element("item", |xml| {
                        xml.text("regionName", region)
                            .text("regionEndpoint", &format!("ec2.{region}.amazonaws.com"))
                            .text("optInStatus", opt_in(region));
                    });
                }
            }
        });
    });
    Reply::xml(StatusCode::OK, xml.finish())
}

fn time(instance: &Instance) -> String {
    instance
        .launched
        .strftime("%Y-%m-%dT%H:%M:%S.000Z")
        .to_string()
}

const fn platform_details(instance: &Instance) -> &'static str {
    match instance.platform {
        Platform::Linux => "Linux/UNIX",
        Platform::Windows => "Windows",
    }
}

fn public_dns(instance: &Instance) -> Option<String> {
    let ip = instance.public_ip?.to_string().replace('.', "-");
    (instance.state() == InstanceStateName::Running)
        .then(|| format!("ec2-{ip}.{}.compute.amazonaws.com", instance.region))
}

fn is_instance_id(id: &str) -> bool {
    id.strip_prefix("i-").is_some_and(|digits| {
        matches!(digits.len(), 8 | 17) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// Opaque to clients: where the next page begins.
pub(crate) fn page_token(index: usize) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(format!("page+from/{index}"))
}

pub(crate) fn page_start(token: &str) -> Option<usize> {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD
        .decode(token)
        .ok()?;
    std::str::from_utf8(&text)
        .ok()?
        .strip_prefix("page+from/")?
        .parse()
        .ok()
}
