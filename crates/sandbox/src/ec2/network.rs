//! What stands around an instance: route tables, interface endpoints, security groups, and its
//! console.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::StatusCode;
use jiff::Timestamp;

use super::{NAMESPACE, by_ids, read_filters};
use crate::{
    app::{App, Call},
    error::ApiError,
    filter::Filter,
    fleet::{Instance, SubnetEntry, WayOut, network_id},
    reply::Reply,
    xml::{Form, Xml},
};

/// The security group of the machines in a VPC, and of those whose egress is closed.
const SERVERS: &str = "servers";
const CLOSED: &str = "closed";
/// That of the interface endpoints.
const ENDPOINTS: &str = "endpoints";

/// A subnet with its VPC, as the machines in it have them.
struct Place {
    vpc: String,
    subnet: String,
    entry: SubnetEntry,
}

/// Every subnet of the region in which a machine stands.
fn places(app: &App, call: &Call) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    for instance in app.fleet.all_listed() {
        let is_here = instance.region == call.region && !instance.is_hybrid();
        if is_here
            && places
                .iter()
                .all(|place| place.subnet != instance.subnet_id)
        {
            places.push(Place {
                vpc: instance.vpc_id.clone(),
                subnet: instance.subnet_id.clone(),
                entry: instance.subnet.clone(),
            });
        }
    }
    places
}

/// The id of the security group `kind` in `vpc`.
fn group_id(vpc: &str, kind: &str) -> String {
    network_id("sg", &format!("{vpc}/{kind}"))
}

/// The one security group of `instance`.
pub(super) fn group_of(instance: &Instance) -> (String, &'static str) {
    let kind = if instance.closed_egress {
        CLOSED
    } else {
        SERVERS
    };
    (group_id(&instance.vpc_id, kind), kind)
}

fn respond(call: &Call, action: &str, set: &str, inside: impl FnOnce(&mut Xml)) -> Reply {
    let mut xml = Xml::new();
    xml.root(&format!("{action}Response"), NAMESPACE, |xml| {
        xml.text("requestId", &call.request_id).element(set, inside);
    });
    Reply::xml(StatusCode::OK, xml.finish())
}

/// One route table for each subnet, associated with that alone.
pub(super) fn route_tables(app: &App, call: &Call, form: &Form) -> Result<Reply, ApiError> {
    let filters = read_filters(form, |name| {
        ["vpc-id", "association.subnet-id", "association.main"].contains(&name)
    })?;
    let is_wanted = |place: &Place| {
        filters.iter().all(|filter| match filter.name.as_str() {
            "vpc-id" => filter.matches(&place.vpc),
            "association.main" => filter.matches("false"),
            _ => filter.matches(&place.subnet),
        })
    };
    let places = places(app, call);
    Ok(respond(
        call,
        "DescribeRouteTables",
        "routeTableSet",
        |xml| {
            for place in places.iter().filter(|place| is_wanted(place)) {
                xml.element("item", |xml| write_table(xml, app.fleet.account(), place));
            }
        },
    ))
}

fn write_table(xml: &mut Xml, account: &str, place: &Place) {
    let table = network_id("rtb", &place.subnet);
    let route = |xml: &mut Xml, to: &str, gateway: (&str, &str), state: &str| {
        xml.element("item", |xml| {
            xml.text("destinationCidrBlock", to)
                .text(gateway.0, gateway.1)
                .text("state", state)
                .text("origin", "CreateRoute");
        });
    };
    let nat = network_id("nat", &place.subnet);
    let internet = network_id("igw", &place.vpc);
    xml.text("routeTableId", &table)
        .text("vpcId", &place.vpc)
        .text("ownerId", account)
        .element("routeSet", |xml| {
            route(xml, "10.0.0.0/8", ("gatewayId", "local"), "active");
            match place.entry.way {
                WayOut::Nat => route(xml, "0.0.0.0/0", ("natGatewayId", &nat), "active"),
                WayOut::Deleted => route(xml, "0.0.0.0/0", ("natGatewayId", &nat), "blackhole"),
                WayOut::Internet => route(xml, "0.0.0.0/0", ("gatewayId", &internet), "active"),
                WayOut::None => {}
            }
        })
        .element("associationSet", |xml| {
            xml.element("item", |xml| {
                xml.text(
                    "routeTableAssociationId",
                    &network_id("rtbassoc", &place.subnet),
                )
                .text("routeTableId", &table)
                .text("subnetId", &place.subnet)
                .text("main", "false");
            });
        });
}

pub(super) fn endpoints(app: &App, call: &Call, form: &Form) -> Result<Reply, ApiError> {
    let filters = read_filters(form, |name| {
        [
            "vpc-id",
            "vpc-endpoint-type",
            "service-name",
            "vpc-endpoint-state",
        ]
        .contains(&name)
    })?;
    let mut found = Vec::new();
    for place in places(app, call) {
        for service in &place.entry.endpoints {
            let name = format!("com.amazonaws.{}.{service}", call.region);
            let is_wanted = filters.iter().all(|filter| match filter.name.as_str() {
                "vpc-id" => filter.matches(&place.vpc),
                "service-name" => filter.matches(&name),
                "vpc-endpoint-state" => filter.matches("available"),
                _ => filter.matches("Interface"),
            });
            if is_wanted {
                found.push((place.vpc.clone(), place.subnet.clone(), name));
            }
        }
    }
    Ok(respond(
        call,
        "DescribeVpcEndpoints",
        "vpcEndpointSet",
        |xml| {
            for (vpc, subnet, name) in &found {
                xml.element("item", |xml| {
                    xml.text(
                        "vpcEndpointId",
                        &network_id("vpce", &format!("{vpc}/{name}")),
                    )
                    .text("vpcEndpointType", "Interface")
                    .text("vpcId", vpc)
                    .text("serviceName", name)
                    .text("state", "available")
                    .text("privateDnsEnabled", "true")
                    .element("subnetIdSet", |xml| {
                        xml.text("item", subnet);
                    })
                    .element("groupSet", |xml| {
                        xml.element("item", |xml| {
                            xml.text("groupId", &group_id(vpc, ENDPOINTS))
                                .text("groupName", ENDPOINTS);
                        });
                    });
                });
            }
        },
    ))
}

pub(super) fn security_groups(app: &App, call: &Call, form: &Form) -> Result<Reply, ApiError> {
    let filters = read_filters(form, |name| {
        ["vpc-id", "group-id", "group-name"].contains(&name)
    })?;
    let ids = form.list("GroupId");
    let mut groups: Vec<(String, &str, String, bool)> = Vec::new();
    for place in places(app, call) {
        for kind in [SERVERS, CLOSED, ENDPOINTS] {
            let id = group_id(&place.vpc, kind);
            if groups.iter().all(|(known, ..)| *known != id) {
                groups.push((id, kind, place.vpc.clone(), place.entry.closed_endpoints));
            }
        }
    }
    if let Some(missing) = ids
        .iter()
        .find(|id| groups.iter().all(|(known, ..)| known != *id))
    {
        return Err(ApiError::new(
            "InvalidGroup.NotFound",
            format!("The security group '{missing}' does not exist"),
        ));
    }
    let is_wanted = |id: &str, kind: &str, vpc: &str| {
        let passes = |filter: &Filter| match filter.name.as_str() {
            "vpc-id" => filter.matches(vpc),
            "group-name" => filter.matches(kind),
            _ => filter.matches(id),
        };
        (ids.is_empty() || ids.contains(&id)) && filters.iter().all(passes)
    };
    let rule = |xml: &mut Xml, protocol: &str, port: Option<&str>, range: &str| {
        xml.element("item", |xml| {
            xml.text("ipProtocol", protocol)
                .optional("fromPort", port)
                .optional("toPort", port)
                .element("groups", |_| {})
                .element("ipRanges", |xml| {
                    xml.element("item", |xml| {
                        xml.text("cidrIp", range);
                    });
                })
                .element("ipv6Ranges", |_| {})
                .element("prefixListIds", |_| {});
        });
    };
    Ok(respond(
        call,
        "DescribeSecurityGroups",
        "securityGroupInfo",
        |xml| {
            for (id, kind, vpc, closed) in &groups {
                if !is_wanted(id, kind, vpc) {
                    continue;
                }
                xml.element("item", |xml| {
                    xml.text("ownerId", app.fleet.account())
                        .text("groupId", id)
                        .text("groupName", kind)
                        .text("groupDescription", "of the sandbox")
                        .text("vpcId", vpc)
                        .element("ipPermissions", |xml| {
                            if *kind == ENDPOINTS && !closed {
                                rule(xml, "tcp", Some("443"), "10.0.0.0/8");
                            }
                        })
                        .element("ipPermissionsEgress", |xml| {
                            if *kind != CLOSED {
                                rule(xml, "-1", None, "0.0.0.0/0");
                            }
                        });
                });
            }
        },
    ))
}

pub(super) fn console(app: &App, call: &Call, form: &Form) -> Result<Reply, ApiError> {
    let id = form.value("InstanceId").unwrap_or_default();
    let instance = by_ids(app, call, &[id])?.remove(0);
    let mut lines = instance.console.join("\r\n");
    if lines.is_empty() && instance.agent.is_some() {
        // What systemd writes on the console of Amazon Linux 2023.
        lines = "[    2.104211] systemd[1]: Detected virtualization amazon.\r\n[  OK  ] Started amazon-ssm-agent.service - amazon-ssm-agent.\r\n".to_owned();
    }
    let mut xml = Xml::new();
    xml.root("GetConsoleOutputResponse", NAMESPACE, |xml| {
        xml.text("requestId", &call.request_id)
            .text("instanceId", &instance.id)
            .text(
                "timestamp",
                &Timestamp::now()
                    .strftime("%Y-%m-%dT%H:%M:%S.000Z")
                    .to_string(),
            )
            .text("output", &STANDARD.encode(lines));
    });
    Ok(Reply::xml(StatusCode::OK, xml.finish()))
}
