//! Where machines stand: their roles, and what leads out of their subnets.

use serde::Deserialize;

/// The role of machines that name none.
pub(crate) const SERVER_ROLE: &str = "sandbox-server";
/// The policy that gives an agent what it needs.
const CORE: &str = "AmazonSSMManagedInstanceCore";
/// What an agent calls before Systems Manager knows of it. Source: the policy
/// AmazonSSMManagedInstanceCore and "Reference: ec2messages, ssmmessages, and other API
/// operations" of the Systems Manager user guide.
pub(crate) const REPORTING: &[&str] = &[
    "ssm:UpdateInstanceInformation",
    "ssmmessages:CreateControlChannel",
    "ssmmessages:OpenControlChannel",
];
/// What an agent calls for a session.
const SESSIONS: &[&str] = &[
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenDataChannel",
];

/// What the role of a machine is allowed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ServerRole {
    /// Managed policies of AWS, by name.
    pub(crate) policies: Vec<String>,
    /// Actions that it lacks whatever its policies say: `kms:Decrypt`.
    pub(crate) lacks: Vec<String>,
}

impl Default for ServerRole {
    fn default() -> Self {
        Self {
            policies: vec![CORE.to_owned()],
            lacks: Vec::new(),
        }
    }
}

impl ServerRole {
    /// Whether `action` is allowed. KMS keys allow it by their own policies unless it is lacked.
    pub(crate) fn allows(&self, action: &str) -> bool {
        if self.lacks.iter().any(|lacked| lacked == action) {
            return false;
        }
        let of_agents = REPORTING.contains(&action) || SESSIONS.contains(&action);
        action == "kms:Decrypt" || (of_agents && self.policies.iter().any(|name| name == CORE))
    }
}

/// What leads out of a subnet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WayOut {
    /// A NAT gateway.
    #[default]
    Nat,
    /// A NAT gateway that was deleted: its route is a black hole.
    Deleted,
    /// An internet gateway, good for machines with a public address.
    Internet,
    /// Nothing.
    None,
}

/// A subnet, and the interface endpoints of its VPC.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SubnetEntry {
    pub(crate) way: WayOut,
    /// Services with an interface endpoint: `ssm`, `ssmmessages`, `ec2messages`.
    pub(crate) endpoints: Vec<String>,
    /// The security group of the endpoints lets nobody in.
    pub(crate) closed_endpoints: bool,
}

impl SubnetEntry {
    /// Whether an agent here reaches the services that it reports to.
    pub(crate) fn reaches_systems_manager(&self) -> bool {
        let has = |service: &str| self.endpoints.iter().any(|name| name == service);
        // With endpoints of private DNS names nothing goes another way.
        let by_endpoint = |service: &str| has(service) && !self.closed_endpoints;
        let by_route =
            |service: &str| !has(service) && matches!(self.way, WayOut::Nat | WayOut::Internet);
        ["ssm", "ssmmessages"]
            .iter()
            .all(|service| by_endpoint(service) || by_route(service))
    }
}

/// The id that a part of the network has by its name in the fleet file.
pub(crate) fn network_id(kind: &str, name: &str) -> String {
    let hash = crate::sigv4::sha256_hex(format!("{kind}/{name}").as_bytes());
    format!("{kind}-0{}", &hash[..16])
}
