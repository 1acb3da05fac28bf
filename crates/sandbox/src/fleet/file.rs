//! The fleet file (YAML): strict, with defaults that make a machine of a bare name.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
};

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::{
    Agent, BootEntry, DocumentEntry, Instance, InstanceStateName, Platform, Service,
    place::{REPORTING, SERVER_ROLE, ServerRole, SubnetEntry, network_id},
};
use crate::duration::{Span, parse_duration};

pub(super) const AGENT_VERSION: &str = "3.3.3572.0";
pub(super) const IMAGE_ID: &str = "ami-0c1f44f890950b53c";
pub(super) const VPC_ID: &str = "vpc-06d4f1a2b3c5e7890";

/// A fleet file as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FleetFile {
    /// Where machines are that name no region of their own.
    #[serde(default = "default_region")]
    pub(crate) region: String,
    /// Twelve digits, as text.
    #[serde(default = "default_account")]
    pub(crate) account: String,
    /// What the account's session preferences say.
    #[serde(default)]
    pub(crate) session: Preferences,
    /// What the account calls itself; `None` where it has no name.
    #[serde(default)]
    pub(crate) account_alias: Option<String>,
    /// Roles by name; a role that is not here can be assumed by anyone with keys.
    #[serde(default)]
    pub(crate) roles: BTreeMap<String, Role>,
    /// The code that MFA devices show.
    #[serde(default = "default_mfa_code")]
    pub(crate) mfa_code: String,
    /// Buckets of the minimal S3.
    #[serde(default)]
    pub(crate) buckets: Vec<String>,
    /// `host:port` to what answers there: `http`, `echo`, `mysql`, `closed`, or a loopback address
    /// with port.
    #[serde(default)]
    pub(crate) names: BTreeMap<String, String>,
    /// Session documents beside those of AWS.
    #[serde(default)]
    pub(crate) documents: BTreeMap<String, DocumentEntry>,
    /// Roles of machines by name; one that is not here has the policy that agents need.
    #[serde(default)]
    pub(crate) server_roles: BTreeMap<String, ServerRole>,
    /// Subnets by name, each in a VPC of its own; machines that name none are in one with a NAT
    /// gateway.
    #[serde(default)]
    pub(crate) subnets: BTreeMap<String, SubnetEntry>,
    /// Resource groups by name: the tags that their members have, all of them.
    #[serde(default)]
    pub(crate) resource_groups: BTreeMap<String, BTreeMap<String, String>>,
    /// CloudFormation stacks by name: the names of the machines that are resources of the stack.
    #[serde(default)]
    pub(crate) stacks: BTreeMap<String, Vec<String>>,
    /// Resource groups by name whose members are the resources of a stack, which may be gone.
    #[serde(default)]
    pub(crate) stack_groups: BTreeMap<String, String>,
    /// Regions that the account has not enabled.
    #[serde(default)]
    pub(crate) disabled_regions: Vec<String>,
    /// The role of Default Host Management, where the account uses that.
    #[serde(default)]
    pub(crate) default_host_management: Option<String>,
    #[serde(default)]
    pub(crate) instances: Vec<InstanceEntry>,
}

/// The account's session preferences (`SSM-SessionManagerRunShell`).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Preferences {
    /// Default 20 minutes.
    pub(crate) idle_timeout: Option<Span>,
    pub(crate) max_duration: Option<Span>,
    /// Sessions demand encryption with this key.
    pub(crate) kms_key: Option<String>,
    /// Bucket that the account logs its sessions to; then agents keep their output on the disk.
    pub(crate) s3_bucket_name: Option<String>,
    /// In front of the names of the logs in it.
    pub(crate) s3_key_prefix: Option<String>,
    /// The log group of CloudWatch Logs that the account logs its sessions to.
    pub(crate) cloud_watch_log_group_name: Option<String>,
    /// Its events are objects of JSON, a line of output each in a list.
    pub(crate) cloud_watch_streaming: bool,
    /// The user of the machine that sessions run as.
    pub(crate) run_as_user: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Role {
    /// AssumeRole needs `SerialNumber` and `TokenCode`.
    pub(crate) mfa: bool,
    /// Nobody may assume it.
    pub(crate) deny: bool,
    pub(crate) external_id: Option<String>,
}

/// One machine as written. Only the name is needed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct InstanceEntry {
    name: Option<String>,
    id: Option<String>,
    /// A node outside EC2 (`mi-…`).
    hybrid: bool,
    region: Option<String>,
    /// The zone's letter.
    zone: Option<char>,
    state: Option<InstanceStateName>,
    #[serde(rename = "type")]
    instance_type: Option<String>,
    image_id: Option<String>,
    private_ip: Option<Ipv4Addr>,
    public_ip: Option<Ipv4Addr>,
    /// An age (`41d`) or a time (RFC 3339).
    launched: Option<String>,
    platform: Platform,
    tags: BTreeMap<String, String>,
    agent: AgentEntry,
    ports: BTreeMap<u16, String>,
    boot: Option<BootEntry>,
    /// Sessions on this machine demand encryption with this key.
    kms_key: Option<String>,
    /// Its role; `none` for a machine without an instance profile.
    role: Option<String>,
    /// One of `subnets`.
    subnet: Option<String>,
    /// Its security group lets nothing out.
    closed_egress: bool,
    /// Users that sessions run as elsewhere and this machine lacks.
    lacks_users: Vec<String>,
    /// Lines of its console.
    console: Vec<String>,
    /// The activation that a hybrid node was registered with has expired.
    expired_activation: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AgentEntry {
    /// `false`: the machine has no agent.
    installed: bool,
    version: String,
    online: bool,
    /// How long ago it reported, when it is not online.
    last_ping: Option<Span>,
}

impl Default for AgentEntry {
    fn default() -> Self {
        Self {
            installed: true,
            version: AGENT_VERSION.to_owned(),
            online: true,
            last_ping: None,
        }
    }
}

fn default_region() -> String {
    "eu-west-1".to_owned()
}

fn default_account() -> String {
    "123456789012".to_owned()
}

fn default_mfa_code() -> String {
    "123456".to_owned()
}

impl FleetFile {
    /// Whether the machine is a member of the resource group.
    pub(crate) fn is_in_group(&self, group: &str, instance: &Instance) -> bool {
        if let Some(tags) = self.resource_groups.get(group) {
            return tags
                .iter()
                .all(|(key, value)| instance.tags.get(key) == Some(value));
        }
        let stack = self.stack_groups.get(group);
        let machines = stack.and_then(|stack| self.stacks.get(stack));
        machines.is_some_and(|names| {
            let name = instance.tags.get("Name");
            name.is_some_and(|name| names.contains(name))
        })
    }

    /// What the role `name` of machines is allowed.
    pub(crate) fn server_role(&self, name: &str) -> ServerRole {
        self.server_roles.get(name).cloned().unwrap_or_default()
    }

    /// # Errors
    /// The parser's words, with line, column and excerpt.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    /// What the types cannot say.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.account.len() != 12 || !self.account.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(format!("account: `{}` is not twelve digits", self.account));
        }
        for (name, service) in &self.names {
            let port = name.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(_))) {
                return Err(format!("names: `{name}` is not HOST:PORT"));
            }
            parse_service(service).map_err(|message| format!("names: {name}: {message}"))?;
        }
        let mut groups = self.stack_groups.keys();
        if let Some(name) = groups.find(|name| self.resource_groups.contains_key(*name)) {
            return Err(format!("stack_groups: `{name}` has tags too"));
        }
        Ok(())
    }

    /// What answers at `host:port` by the name table.
    pub(crate) fn named(&self, host: &str, port: u16) -> Option<Service> {
        let wanted = format!("{}:{port}", host.trim_end_matches('.'));
        self.names
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(&wanted))
            .and_then(|(_, service)| parse_service(service).ok())
    }

    /// The name table knows this host, on whatever port.
    pub(crate) fn knows_host(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.');
        self.names
            .keys()
            .filter_map(|name| name.rsplit_once(':'))
            .any(|(name, _)| name.eq_ignore_ascii_case(host))
    }
}

impl InstanceEntry {
    pub(super) fn instance(
        &self,
        file: &FleetFile,
        index: usize,
        now: Timestamp,
    ) -> Result<Instance, String> {
        let region = self.region.clone().unwrap_or_else(|| file.region.clone());
        let zone = self.zone.unwrap_or(['a', 'b'][index % 2]);
        let id = match &self.id {
            Some(id) => id.clone(),
            None => made_id(self.hybrid, self.name.as_deref().unwrap_or(""), index),
        };
        let prefix = if self.hybrid { "mi-" } else { "i-" };
        let digits = id.strip_prefix(prefix).unwrap_or("");
        if !matches!(digits.len(), 8 | 17) || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(format!(
                "id: `{id}` is not `{prefix}` and 8 or 17 hexadecimal digits"
            ));
        }
        let launched = match &self.launched {
            None => now - SignedDuration::from_hours(24 * 41),
            Some(text) => parse_time(text, now)
                .ok_or_else(|| format!("launched: `{text}` is neither an age (41d) nor a time"))?,
        };
        let mut tags = self.tags.clone();
        if let Some(name) = &self.name {
            tags.insert("Name".to_owned(), name.clone());
        }
        let host = u32::try_from(index).unwrap_or(0);
        let private_ip = self
            .private_ip
            .unwrap_or_else(|| Ipv4Addr::from(0x0a00_0a0a + host));
        let mut ports = BTreeMap::new();
        for (port, service) in &self.ports {
            let service =
                parse_service(service).map_err(|message| format!("ports: {port}: {message}"))?;
            ports.insert(*port, service);
        }
        // As the services of a plain machine: a web server for its own port 80.
        ports.entry(80).or_insert(Service::Http);
        let agent = &self.agent;
        if agent.version.split('.').count() != 4
            || agent
                .version
                .split('.')
                .any(|part| part.parse::<u32>().is_err())
        {
            return Err(format!(
                "agent: version `{}` is not four dotted numbers",
                agent.version
            ));
        }
        let subnet = match &self.subnet {
            None => SubnetEntry::default(),
            Some(name) => file
                .subnets
                .get(name)
                .cloned()
                .ok_or_else(|| format!("subnet: `{name}` is none of `subnets`"))?,
        };
        let role = match self.role.as_deref() {
            _ if self.hybrid => None,
            Some("none") => file.default_host_management.clone(),
            Some(name) => Some(name.to_owned()),
            None => Some(SERVER_ROLE.to_owned()),
        };
        // Without permissions or a way out an agent never reports, whatever else is right.
        let reports = self.hybrid
            || (role.as_deref().is_some_and(|role| {
                let role = file.server_role(role);
                REPORTING.iter().all(|action| role.allows(action))
            }) && subnet.reaches_systems_manager()
                && !self.closed_egress);
        let last_ping = agent
            .last_ping
            .and_then(|span| SignedDuration::try_from(span.0).ok())
            .and_then(|ago| now.checked_sub(ago).ok());
        Ok(Instance {
            name: self.name.clone(),
            tags,
            zone: if self.hybrid {
                String::new()
            } else {
                format!("{region}{zone}")
            },
            instance_type: self
                .instance_type
                .clone()
                .unwrap_or_else(|| "t3.small".to_owned()),
            image_id: self.image_id.clone().unwrap_or_else(|| IMAGE_ID.to_owned()),
            vpc_id: self
                .subnet
                .as_ref()
                .map_or_else(|| VPC_ID.to_owned(), |name| network_id("vpc", name)),
            subnet_id: self
                .subnet
                .as_ref()
                .map_or_else(|| subnet_id(zone), |name| network_id("subnet", name)),
            private_dns: private_dns(private_ip, &region),
            region,
            private_ip,
            public_ip: self.public_ip,
            launched,
            platform: self.platform,
            agent: (agent.installed && reports).then(|| Agent {
                version: agent.version.clone(),
                online: agent.online,
                last_ping,
            }),
            ports,
            state: self.state.unwrap_or(InstanceStateName::Running),
            boot: self.boot.map(BootEntry::begin),
            kms_key: self.kms_key.clone(),
            role: role.filter(|_| self.role.as_deref() != Some("none")),
            subnet,
            closed_egress: self.closed_egress,
            missing_user: file
                .session
                .run_as_user
                .clone()
                .filter(|user| self.lacks_users.contains(user)),
            console: self.console.clone(),
            expired_activation: self.expired_activation,
            id,
        })
    }
}

/// An age or a time.
fn parse_time(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Some(age) = parse_duration(text) {
        return now.checked_sub(SignedDuration::try_from(age).ok()?).ok();
    }
    text.parse().ok()
}

fn parse_service(text: &str) -> Result<Service, String> {
    Ok(match text {
        "http" => Service::Http,
        "echo" => Service::Echo,
        "mysql" => Service::Mysql,
        "ssh" => Service::Ssh,
        "closed" => Service::Closed,
        other => {
            let address: SocketAddr = other.parse().map_err(|_| {
                format!("`{other}` is none of http, echo, mysql, ssh, closed, and no address with a port")
            })?;
            if !address.ip().is_loopback() {
                return Err(format!("`{other}` is not a loopback address"));
            }
            Service::Address(address)
        }
    })
}

/// The same id for the same name and place, so that host keys and homes are found again.
fn made_id(hybrid: bool, name: &str, index: usize) -> String {
    let hash = crate::sigv4::sha256_hex(format!("{name}#{index}").as_bytes());
    let prefix = if hybrid { "mi" } else { "i" };
    format!("{prefix}-0{}", &hash[..16])
}

/// The name that EC2 gives a private address.
pub(super) fn private_dns(address: Ipv4Addr, region: &str) -> String {
    let dashed = address.to_string().replace('.', "-");
    if region == "us-east-1" {
        format!("ip-{dashed}.ec2.internal")
    } else {
        format!("ip-{dashed}.{region}.compute.internal")
    }
}

pub(super) fn subnet_id(zone: char) -> String {
    match zone {
        'a' => "subnet-0f1e2d3c4b5a69788",
        'b' => "subnet-08796a5b4c3d2e1f0",
        _ => "subnet-0c0ffee1234567890",
    }
    .to_owned()
}
