//! What leads from a server's subnet to Systems Manager: its route table, the interface endpoints
//! of its VPC, and the security groups on both ends.

use std::net::Ipv4Addr;

use aws_sdk_ec2::types::{
    Filter, IpPermission, Route, RouteState, RouteTable, SecurityGroup, VpcEndpoint,
};
use ops_ui::Result;

use super::facts::{Ec2Machine, WayOut};
use crate::context::Context;

/// HTTPS.
const PORT: i32 = 443;

fn of_vpc(vpc: &str) -> Filter {
    Filter::builder().name("vpc-id").values(vpc).build()
}

impl Context {
    /// What leads from `machine` to Systems Manager in `region`: DescribeRouteTables and
    /// DescribeVpcEndpoints side by side, then DescribeSecurityGroups.
    ///
    /// # Errors
    /// Route tables or endpoints may not be read, without which nothing can be said. Security
    /// groups that may not be read are unknown.
    pub async fn way_out(&self, machine: &Ec2Machine, region: &str) -> Result<WayOut> {
        let vpc = machine.vpc.as_deref().unwrap_or_default();
        let (tables, endpoints) = tokio::join!(
            Box::pin(self.route_tables(vpc, region)),
            Box::pin(self.interface_endpoints(vpc, region))
        );
        let (tables, endpoints) = (tables?, endpoints?);
        let subnet = machine.subnet.as_deref().unwrap_or_default();
        let route = table_of(&tables, subnet).and_then(default_route);
        // Without a private name the endpoint is there for whoever is told its address.
        let named: Vec<(&VpcEndpoint, String)> = endpoints
            .iter()
            .filter(|endpoint| endpoint.private_dns_enabled == Some(true))
            .filter_map(|endpoint| Some((endpoint, service_of(endpoint)?)))
            .collect();
        let mut ids: Vec<String> = machine.groups.clone();
        for (endpoint, _) in &named {
            ids.extend(groups_of(endpoint));
        }
        let groups = self.security_groups(ids, region).await.ok();
        let closed: Option<Vec<&(&VpcEndpoint, String)>> = groups.as_ref().map(|groups| {
            named
                .iter()
                .filter(|(endpoint, _)| !lets_in(endpoint, groups, machine))
                .collect()
        });
        let closed_group = closed
            .as_ref()
            .and_then(|closed| groups_of(closed.first()?.0).next());
        let closed = closed.map(|closed| {
            let services = closed.into_iter().map(|(_, service)| service.clone());
            services.collect()
        });
        let lets_https_out = groups.as_ref().map(|groups| {
            groups
                .iter()
                .filter(|group| is_one_of(group, &machine.groups))
                .flat_map(SecurityGroup::ip_permissions_egress)
                .any(is_for_https)
        });
        Ok(WayOut {
            is_black_hole: route.is_some_and(|route| route.state == Some(RouteState::Blackhole)),
            default_route: route.and_then(goal_of),
            endpoints: named.into_iter().map(|(_, service)| service).collect(),
            closed_endpoints: closed,
            closed_group,
            lets_https_out,
        })
    }

    async fn route_tables(&self, vpc: &str, region: &str) -> Result<Vec<RouteTable>> {
        let aws = self.aws().await?;
        let call = aws.clients(region).ec2;
        let answer = call
            .describe_route_tables()
            .filters(of_vpc(vpc))
            .send()
            .await;
        let answer = answer.map_err(|error| {
            aws.call("ec2:DescribeRouteTables", None, region)
                .failed("the routes of its subnet are not known", &error)
        })?;
        Ok(answer.route_tables.unwrap_or_default())
    }

    async fn interface_endpoints(&self, vpc: &str, region: &str) -> Result<Vec<VpcEndpoint>> {
        let aws = self.aws().await?;
        let call = aws.clients(region).ec2;
        let answer = call
            .describe_vpc_endpoints()
            .filters(of_vpc(vpc))
            .send()
            .await;
        let answer = answer.map_err(|error| {
            aws.call("ec2:DescribeVpcEndpoints", None, region)
                .failed("the endpoints of its VPC are not known", &error)
        })?;
        Ok(answer.vpc_endpoints.unwrap_or_default())
    }

    async fn security_groups(
        &self,
        mut ids: Vec<String>,
        region: &str,
    ) -> Result<Vec<SecurityGroup>> {
        ids.sort_unstable();
        ids.dedup();
        let aws = self.aws().await?;
        let call = aws.clients(region).ec2;
        let answer = call
            .describe_security_groups()
            .set_group_ids(Some(ids))
            .send()
            .await;
        let answer = answer.map_err(|error| {
            aws.call("ec2:DescribeSecurityGroups", None, region)
                .failed("the security groups are not known", &error)
        })?;
        Ok(answer.security_groups.unwrap_or_default())
    }
}

/// The table that is associated with `subnet`, else the main one of its VPC.
fn table_of<'a>(tables: &'a [RouteTable], subnet: &str) -> Option<&'a RouteTable> {
    let own = |table: &&RouteTable| {
        let mut associations = table.associations().iter();
        associations.any(|association| association.subnet_id.as_deref() == Some(subnet))
    };
    let main = |table: &&RouteTable| {
        let mut associations = table.associations().iter();
        associations.any(|association| association.main == Some(true))
    };
    tables.iter().find(own).or_else(|| tables.iter().find(main))
}

fn default_route(table: &RouteTable) -> Option<&Route> {
    table
        .routes()
        .iter()
        .find(|route| route.destination_cidr_block.as_deref() == Some("0.0.0.0/0"))
}

/// What `route` leads to.
fn goal_of(route: &Route) -> Option<String> {
    [
        &route.nat_gateway_id,
        &route.gateway_id,
        &route.transit_gateway_id,
        &route.network_interface_id,
        &route.instance_id,
        &route.vpc_peering_connection_id,
        &route.local_gateway_id,
        &route.carrier_gateway_id,
        &route.core_network_arn,
    ]
    .into_iter()
    .flatten()
    .next()
    .cloned()
}

/// `ssm` of `com.amazonaws.eu-west-1.ssm`.
fn service_of(endpoint: &VpcEndpoint) -> Option<String> {
    let name = endpoint.service_name.as_deref()?;
    Some(name.rsplit('.').next().unwrap_or(name).to_owned())
}

fn groups_of(endpoint: &VpcEndpoint) -> impl Iterator<Item = String> {
    endpoint
        .groups()
        .iter()
        .filter_map(|group| group.group_id.clone())
}

fn is_one_of(group: &SecurityGroup, ids: &[String]) -> bool {
    group.group_id.as_ref().is_some_and(|id| ids.contains(id))
}

/// Whether a security group of `endpoint` has a rule for `machine`.
fn lets_in(endpoint: &VpcEndpoint, groups: &[SecurityGroup], machine: &Ec2Machine) -> bool {
    let own: Vec<String> = groups_of(endpoint).collect();
    groups
        .iter()
        .filter(|group| is_one_of(group, &own))
        .flat_map(SecurityGroup::ip_permissions)
        .any(|rule| is_for_https(rule) && names(rule, machine))
}

/// Whether `rule` is about TCP and port 443, or about everything.
fn is_for_https(rule: &IpPermission) -> bool {
    match rule.ip_protocol.as_deref() {
        Some("-1") => true,
        Some("tcp" | "6") => {
            rule.from_port.is_none_or(|from| from <= PORT)
                && rule.to_port.is_none_or(|to| to >= PORT)
        }
        _ => false,
    }
}

/// Whether `rule` is for the address or a group of `machine`. A list of prefixes is taken to hold
/// it: its entries take a call of their own, and nobody is accused on a guess.
fn names(rule: &IpPermission, machine: &Ec2Machine) -> bool {
    let address = machine
        .private_ip
        .as_deref()
        .and_then(|ip| ip.parse::<Ipv4Addr>().ok());
    let in_range =
        |range: &str| address.is_none_or(|address| contains(range, address).unwrap_or(true));
    !rule.prefix_list_ids().is_empty()
        || rule
            .ip_ranges()
            .iter()
            .any(|range| range.cidr_ip.as_deref().is_some_and(in_range))
        || rule.user_id_group_pairs().iter().any(|pair| {
            pair.group_id
                .as_ref()
                .is_some_and(|id| machine.groups.contains(id))
        })
}

/// Whether the network `range` has `address`; `None` for what is no network.
fn contains(range: &str, address: Ipv4Addr) -> Option<bool> {
    let (network, bits) = range.split_once('/')?;
    let network: Ipv4Addr = network.parse().ok()?;
    let bits: u32 = bits.parse().ok().filter(|bits| *bits <= 32)?;
    let differing = u32::from(network) ^ u32::from(address);
    Some(differing.checked_shr(32 - bits).unwrap_or(0) == 0)
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::{IpRange, RouteTableAssociation, SecurityGroupIdentifier};

    use super::*;

    fn machine() -> Ec2Machine {
        Ec2Machine {
            private_ip: Some("10.0.1.7".to_owned()),
            groups: vec!["sg-1".to_owned()],
            ..Ec2Machine::default()
        }
    }

    fn rule(protocol: &str, port: Option<i32>, range: &str) -> IpPermission {
        IpPermission::builder()
            .ip_protocol(protocol)
            .set_from_port(port)
            .set_to_port(port)
            .ip_ranges(IpRange::builder().cidr_ip(range).build())
            .build()
    }

    #[test]
    fn an_endpoint_is_open_where_a_rule_names_the_server() {
        let endpoint = VpcEndpoint::builder()
            .groups(SecurityGroupIdentifier::builder().group_id("sg-9").build())
            .build();
        let opens = |rule: IpPermission| {
            let group = SecurityGroup::builder()
                .group_id("sg-9")
                .ip_permissions(rule)
                .build();
            lets_in(&endpoint, &[group], &machine())
        };
        assert!(opens(rule("tcp", Some(443), "10.0.0.0/16")));
        assert!(opens(rule("-1", None, "0.0.0.0/0")));
        assert!(!opens(rule("tcp", Some(443), "10.1.0.0/16")));
        assert!(!opens(rule("tcp", Some(22), "10.0.0.0/16")));
        assert!(!opens(rule("udp", Some(443), "10.0.0.0/16")));
        assert!(!lets_in(&endpoint, &[], &machine()));
    }

    #[test]
    fn the_main_table_is_that_of_a_subnet_without_one() {
        let table = |id: &str, subnet: Option<&str>, main: bool| {
            RouteTable::builder()
                .route_table_id(id)
                .associations(
                    RouteTableAssociation::builder()
                        .set_subnet_id(subnet.map(str::to_owned))
                        .main(main)
                        .build(),
                )
                .routes(
                    Route::builder()
                        .destination_cidr_block("0.0.0.0/0")
                        .nat_gateway_id(format!("nat-{id}"))
                        .build(),
                )
                .build()
        };
        let tables = [table("m", None, true), table("a", Some("subnet-a"), false)];
        let goal = |subnet| {
            let route = table_of(&tables, subnet).and_then(default_route);
            route.and_then(goal_of).expect("a route")
        };
        assert_eq!(goal("subnet-a"), "nat-a");
        assert_eq!(goal("subnet-b"), "nat-m");
    }

    #[test]
    fn a_network_has_the_addresses_that_its_bits_say() {
        let address = "10.0.1.7".parse().expect("an address");
        assert_eq!(contains("10.0.0.0/8", address), Some(true));
        assert_eq!(contains("10.0.1.8/32", address), Some(false));
        assert_eq!(contains("0.0.0.0/0", address), Some(true));
        assert_eq!(contains("pl-1", address), None);
    }
}
