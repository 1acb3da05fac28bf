//! What can be known of a failure, each piece by its own call.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use ops_profile::{Instance, InstanceState, Ping};
use ops_ui::Error;

use crate::calls::SessionPreferences;

/// What is known of one thing.
#[derive(Clone, Debug, Default)]
pub enum Learned<T> {
    /// Nobody has asked.
    #[default]
    Unasked,
    /// So it is.
    Is(T),
    /// It was asked and not told: a denial, mostly.
    Untold(Error),
}

impl<T> Learned<T> {
    /// What is known, if anything is.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Unasked | Self::Untold(_) => None,
        }
    }

    /// Why nothing is known although it was asked.
    pub fn refusal(&self) -> Option<&Error> {
        match self {
            Self::Untold(error) => Some(error),
            Self::Unasked | Self::Is(_) => None,
        }
    }
}

impl<T> From<Result<T, Error>> for Learned<T> {
    fn from(result: Result<T, Error>) -> Self {
        match result {
            Ok(value) => Self::Is(value),
            Err(error) => Self::Untold(error),
        }
    }
}

/// Everything that rules look at. What nobody has asked is [`Learned::Unasked`].
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// When it was looked.
    pub now: Timestamp,
    /// How far the clock of AWS is ahead of this machine's; negative where it is behind.
    pub clock_ahead: Option<SignedDuration>,
    /// What was seen on the way to the services.
    pub endpoints: Vec<EndpointLook>,
    /// Whether the account has enabled the region.
    pub region: Learned<RegionStatus>,
    /// The server.
    pub instance: Option<Instance>,
    /// The server as EC2 has it now.
    pub ec2: Learned<Ec2Machine>,
    /// Its agent as Systems Manager has it now.
    pub agent: Learned<AgentReport>,
    /// What its role is allowed.
    pub role: Learned<RoleReach>,
    /// What leads from its subnet to Systems Manager.
    pub way_out: Learned<WayOut>,
    /// Lines of its console that are about the agent.
    pub console: Learned<Vec<String>>,
    /// The role that Default Host Management gives to instances without a profile.
    pub default_role: Learned<Option<String>>,
    /// Whether the activation of a hybrid node has expired.
    pub activation_expired: Learned<bool>,
    /// The account's session preferences.
    pub preferences: Learned<SessionPreferences>,
}

impl Facts {
    /// Nothing known yet.
    pub fn none() -> Self {
        Self {
            now: Timestamp::now(),
            ..Self::default()
        }
    }

    /// Nothing known but the server.
    pub fn of(instance: &Instance) -> Self {
        Self {
            instance: Some(instance.clone()),
            ..Self::none()
        }
    }

    /// What SSM says of the agent: by the call for it, else as the server was listed.
    pub fn ping(&self) -> Ping {
        match &self.agent {
            Learned::Is(agent) => agent.ping,
            _ => self
                .instance
                .as_ref()
                .map_or(Ping::Unknown, |instance| instance.ping),
        }
    }
}

/// What was seen on the way to one service.
#[derive(Clone, Debug)]
pub struct EndpointLook {
    /// `ec2`, `ssm` or `ssmmessages`.
    pub service: &'static str,
    /// The host.
    pub host: String,
    /// The proxy on the way, without its password, and the variable that names it.
    pub proxy: Option<String>,
    /// Name resolution, connecting and TLS, as far as they went.
    pub times: [Option<Duration>; 3],
    /// Who issued the certificate that was shown.
    pub issuer: Option<String>,
    /// Whether nobody whom this machine trusts vouches for that certificate.
    pub is_issuer_unknown: bool,
    /// Whether the host is one of AWS outside China, whose certificates Amazon issues itself.
    pub is_of_amazon: bool,
    /// What ended it.
    pub failure: Option<String>,
}

/// Whether a region may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionStatus {
    /// Its name.
    pub name: String,
    /// Whether the account has enabled it.
    pub is_enabled: bool,
    /// Whether AWS knows of such a region.
    pub exists: bool,
}

/// An instance as EC2 has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ec2Machine {
    /// Its state now.
    pub state: Option<InstanceState>,
    /// The ARN of its instance profile.
    pub instance_profile: Option<String>,
    /// Its subnet.
    pub subnet: Option<String>,
    /// Its VPC.
    pub vpc: Option<String>,
    /// Its private address.
    pub private_ip: Option<String>,
    /// Whether it has a public address.
    pub has_public_ip: bool,
    /// Its security groups.
    pub groups: Vec<String>,
    /// Whether its metadata service is switched off, from which the agent has its credentials.
    pub metadata_is_off: bool,
}

/// An agent as Systems Manager has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentReport {
    /// Whether it reports.
    pub ping: Ping,
    /// Its version.
    pub version: Option<String>,
    /// The platform as it names it.
    pub platform: Option<String>,
    /// The activation that a hybrid node was registered with.
    pub activation: Option<String>,
    /// The role that a hybrid node was registered with.
    pub hybrid_role: Option<String>,
}

/// What the role of a server is allowed, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleReach {
    /// Its name.
    pub name: String,
    /// What an agent needs and it lacks, by the policy simulator; `None` where that was not asked.
    pub missing: Option<Vec<String>>,
    /// Its managed policies, where those were asked for.
    pub policies: Option<Vec<String>>,
}

/// What leads from a server's subnet to Systems Manager.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WayOut {
    /// Where the default route leads to: `nat-…`, `igw-…`, `tgw-…`. `None` without one.
    pub default_route: Option<String>,
    /// Whether what it leads to is gone.
    pub is_black_hole: bool,
    /// Services with an interface endpoint in the VPC whose private name is switched on.
    pub endpoints: Vec<String>,
    /// Those of them whose security groups do not let the server in; `None` where the groups may
    /// not be read.
    pub closed_endpoints: Option<Vec<String>>,
    /// A security group of the first of those.
    pub closed_group: Option<String>,
    /// Whether the server's own security groups let HTTPS out; `None` where they may not be read.
    pub lets_https_out: Option<bool>,
}

impl WayOut {
    /// What an agent has to reach for sessions. Source: "Improve the security of EC2 instances by
    /// using VPC endpoints for Systems Manager"; ec2messages is for agents before 3.3.40.0 alone.
    pub const NEEDED: [&'static str; 2] = ["ssm", "ssmmessages"];

    /// The services that neither an endpoint nor a route leads to.
    pub fn unreached(&self) -> Vec<&'static str> {
        let has_route = self.default_route.is_some() && !self.is_black_hole;
        let has_endpoint = |service: &&str| self.endpoints.iter().any(|name| name == *service);
        Self::NEEDED
            .into_iter()
            .filter(|service| !has_route && !has_endpoint(service))
            .collect()
    }
}
