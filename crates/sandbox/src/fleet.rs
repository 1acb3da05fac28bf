//! The machines of the sandbox.

mod document;
mod file;
mod place;
mod state;
mod synthetic;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

pub(crate) use document::{DocumentEntry, EntryType};
pub(crate) use file::{FleetFile, InstanceEntry};
pub(crate) use place::{SubnetEntry, WayOut, network_id};
pub(crate) use state::{InstanceState, InstanceStates, make_folder};

/// The fleet that is used when none is given, as a file to start one's own from.
pub const DEFAULT_FLEET: &str = include_str!("fleet/default.yaml");
/// A fleet in which nearly every machine is broken, each in its own way.
const BROKEN_FLEET: &str = include_str!("fleet/broken.yaml");
/// What is given in place of a file to have [`BROKEN_FLEET`].
const BROKEN: &str = "broken";

/// The first agent that takes sessions. Source: the prerequisites of Session Manager.
const SESSIONS_SINCE: &str = "2.3.68.0";

/// One machine: an EC2 instance or a hybrid node.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    /// `i-` and 17 hexadecimal digits, or `mi-` and 17 for a hybrid node.
    pub(crate) id: String,
    /// The Name tag.
    pub(crate) name: Option<String>,
    /// All tags, Name included.
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) region: String,
    /// Such as `eu-west-1a`; empty for hybrid nodes.
    pub(crate) zone: String,
    pub(crate) instance_type: String,
    pub(crate) image_id: String,
    pub(crate) vpc_id: String,
    pub(crate) subnet_id: String,
    pub(crate) private_ip: Ipv4Addr,
    pub(crate) private_dns: String,
    pub(crate) public_ip: Option<Ipv4Addr>,
    pub(crate) launched: Timestamp,
    pub(crate) platform: Platform,
    /// `None`: nothing on the machine reports to SSM.
    pub(crate) agent: Option<Agent>,
    /// What listens on the machine's ports; port 22 is the embedded SSH server unless it is named
    /// here.
    pub(crate) ports: BTreeMap<u16, Service>,
    /// The KMS key that sessions on it demand, where it has one of its own.
    pub(crate) kms_key: Option<String>,
    /// The role of its instance profile; `None` without one.
    pub(crate) role: Option<String>,
    /// What leads out of its subnet.
    pub(crate) subnet: SubnetEntry,
    /// Its security group lets nothing out.
    pub(crate) closed_egress: bool,
    /// The user that sessions are to run as, where the machine lacks it.
    pub(crate) missing_user: Option<String>,
    /// What its console shows.
    pub(crate) console: Vec<String>,
    /// The activation of a hybrid node has expired.
    pub(crate) expired_activation: bool,
    /// EC2's state when `boot` is `None`.
    state: InstanceStateName,
    /// Set while the machine comes up.
    boot: Option<Boot>,
}

/// EC2's instance states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum InstanceStateName {
    Pending,
    Running,
    ShuttingDown,
    Terminated,
    Stopping,
    Stopped,
}

impl InstanceStateName {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::ShuttingDown => "shutting-down",
            Self::Terminated => "terminated",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }

    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Pending => 0,
            Self::Running => 16,
            Self::ShuttingDown => 32,
            Self::Terminated => 48,
            Self::Stopping => 64,
            Self::Stopped => 80,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Platform {
    #[default]
    Linux,
    Windows,
}

/// The SSM agent of a machine.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    /// Four dotted numbers.
    pub(crate) version: String,
    /// Reports and takes sessions, as long as the machine runs.
    pub(crate) online: bool,
    /// When it last reported, if it no longer does.
    last_ping: Option<Timestamp>,
}

/// A machine on its way up.
#[derive(Clone, Copy, Debug)]
struct Boot {
    since: Instant,
    running_after: Duration,
    online_after: Duration,
}

/// What answers on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// A small web server.
    Http,
    /// Sends back what it gets.
    Echo,
    /// Greets as a MySQL server does, and refuses the login.
    Mysql,
    /// The SSH server embedded in the agent.
    Ssh,
    /// Nothing: connections are refused.
    Closed,
    /// A listener of this computer, on a loopback address.
    Address(SocketAddr),
}

/// As the agent reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PingStatus {
    Online,
    ConnectionLost,
}

impl PingStatus {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Online => "Online",
            Self::ConnectionLost => "ConnectionLost",
        }
    }
}

impl Instance {
    /// What the machine calls itself: for `HOSTNAME`, `PS1` and `uname`-like texts.
    pub(crate) fn hostname(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.id)
    }

    /// A node outside EC2, registered with SSM by an activation.
    pub(crate) fn is_hybrid(&self) -> bool {
        self.id.starts_with("mi-")
    }

    pub(crate) fn state(&self) -> InstanceStateName {
        match self.boot {
            Some(boot) if boot.since.elapsed() < boot.running_after => InstanceStateName::Pending,
            Some(_) => InstanceStateName::Running,
            None => self.state,
        }
    }

    /// The agent's ping status; `None` without an agent, or before it first reported.
    pub(crate) fn ping(&self) -> Option<PingStatus> {
        let agent = self
            .agent
            .as_ref()
            .filter(|_| self.state() != InstanceStateName::Terminated)?;
        if let Some(boot) = self.boot
            && boot.since.elapsed() < boot.online_after.max(boot.running_after)
        {
            return None;
        }
        if agent.online && self.state() == InstanceStateName::Running {
            Some(PingStatus::Online)
        } else {
            Some(PingStatus::ConnectionLost)
        }
    }

    /// When the agent last reported: within the last few minutes if it is online.
    pub(crate) fn last_ping(&self, now: Timestamp) -> Timestamp {
        let recent = now - SignedDuration::from_secs(90);
        match self.ping() {
            Some(PingStatus::Online) => recent,
            _ => self
                .agent
                .as_ref()
                .and_then(|agent| agent.last_ping)
                .unwrap_or(recent),
        }
    }

    /// A session can be started on it now.
    pub(crate) fn is_connected(&self) -> bool {
        let knows_sessions =
            |agent: &Agent| !crate::agent::is_older(&agent.version, SESSIONS_SINCE);
        self.ping() == Some(PingStatus::Online) && self.agent.as_ref().is_some_and(knows_sessions)
    }

    pub(crate) fn owns_address(&self, address: IpAddr) -> bool {
        address == IpAddr::V4(self.private_ip)
    }
}

/// All machines: those of the fleet file, and as many made-up ones as asked for, made when they are
/// looked at.
#[derive(Debug)]
pub(crate) struct Fleet {
    file: FleetFile,
    listed: RwLock<Vec<Arc<Instance>>>,
    /// How many made-up machines follow the listed ones.
    synthetic: usize,
    epoch: Timestamp,
}

/// What is wrong with a fleet file.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The file cannot be read.
    #[error("cannot read the fleet file `{path}`")]
    Read {
        /// The file as given.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is no YAML of the right shape; the text has line, column and an excerpt.
    #[error("{path}: {message}")]
    Shape {
        /// The file as given, or `<default>`.
        path: String,
        /// What the parser says.
        message: String,
    },
    /// It has the right shape and says something impossible.
    #[error("{path}: {message}")]
    Meaning {
        /// The file as given, or `<default>`.
        path: String,
        /// Which entry, and what is wrong with it.
        message: String,
    },
}

impl Fleet {
    /// Loads `path`, or the default fleet. `size` is the number of machines wanted in all: made-up
    /// ones fill it up.
    ///
    /// # Errors
    /// See [`FleetError`].
    pub(crate) fn load(path: Option<&Path>, size: usize) -> Result<Self, FleetError> {
        let (name, text) = match path {
            None => ("<default>".to_owned(), DEFAULT_FLEET.to_owned()),
            Some(path) if path.as_os_str() == BROKEN => {
                ("<broken>".to_owned(), BROKEN_FLEET.to_owned())
            }
            Some(path) => {
                let name = path.display().to_string();
                let text = std::fs::read_to_string(path).map_err(|source| FleetError::Read {
                    path: name.clone(),
                    source,
                })?;
                (name, text)
            }
        };
        Self::parse(&name, &text, size)
    }

    fn parse(name: &str, text: &str, size: usize) -> Result<Self, FleetError> {
        let file = FleetFile::parse(text).map_err(|message| FleetError::Shape {
            path: name.to_owned(),
            message,
        })?;
        let epoch = Timestamp::now();
        let mut listed: Vec<Arc<Instance>> = Vec::new();
        for (index, entry) in file.instances.iter().enumerate() {
            let instance = entry
                .instance(&file, index, epoch)
                .and_then(|instance| {
                    if listed.iter().any(|other| other.id == instance.id) {
                        return Err(format!("the id {} occurs twice", instance.id));
                    }
                    Ok(instance)
                })
                .map_err(|message| FleetError::Meaning {
                    path: name.to_owned(),
                    message: format!("instance {}: {message}", index + 1),
                })?;
            listed.push(Arc::new(instance));
        }
        file.check().map_err(|message| FleetError::Meaning {
            path: name.to_owned(),
            message,
        })?;
        Ok(Self {
            synthetic: size.saturating_sub(listed.len()),
            file,
            listed: RwLock::new(listed),
            epoch,
        })
    }

    /// What the fleet file says beside its machines.
    pub(crate) const fn file(&self) -> &FleetFile {
        &self.file
    }

    pub(crate) fn region(&self) -> &str {
        &self.file.region
    }

    pub(crate) fn account(&self) -> &str {
        &self.file.account
    }

    /// Machine number `index`, counted from 0 over listed and made-up ones; `None` past the last.
    pub(crate) fn at(&self, index: usize) -> Option<Arc<Instance>> {
        let listed = self.listed();
        if let Some(instance) = listed.get(index) {
            return Some(Arc::clone(instance));
        }
        let number = index - listed.len();
        (number < self.synthetic)
            .then(|| Arc::new(synthetic::instance(number, &self.file, self.epoch)))
    }

    pub(crate) fn by_id(&self, id: &str) -> Option<Arc<Instance>> {
        if let Some(instance) = self.listed().iter().find(|instance| instance.id == id) {
            return Some(Arc::clone(instance));
        }
        let number = synthetic::number(id).filter(|number| *number < self.synthetic)?;
        Some(Arc::new(synthetic::instance(
            number, &self.file, self.epoch,
        )))
    }

    /// Whether a machine of this id is a made-up one.
    pub(crate) fn is_made_up(&self, id: &str) -> bool {
        !self.listed().iter().any(|instance| instance.id == id)
            && synthetic::number(id).is_some_and(|number| number < self.synthetic)
    }

    /// The KMS keys that machines have of their own.
    pub(crate) fn keys_of_instances(&self) -> Vec<String> {
        let listed = self.listed();
        listed
            .iter()
            .filter_map(|instance| instance.kms_key.clone())
            .collect()
    }

    /// The listed machine with this id or Name.
    #[cfg(test)]
    pub(crate) fn listed_as(&self, id_or_name: &str) -> Option<Arc<Instance>> {
        self.listed()
            .iter()
            .find(|instance| {
                instance.id == id_or_name || instance.name.as_deref() == Some(id_or_name)
            })
            .cloned()
    }

    /// Every machine of the fleet file.
    pub(crate) fn all_listed(&self) -> Vec<Arc<Instance>> {
        self.listed().clone()
    }

    /// The machine that has this private address.
    pub(crate) fn by_address(&self, address: IpAddr) -> Option<Arc<Instance>> {
        self.listed()
            .iter()
            .find(|instance| instance.owns_address(address))
            .cloned()
    }

    /// The machine that has this private DNS name.
    pub(crate) fn by_dns(&self, name: &str) -> Option<Arc<Instance>> {
        self.listed()
            .iter()
            .find(|instance| instance.private_dns.eq_ignore_ascii_case(name))
            .cloned()
    }

    /// Adds a machine.
    ///
    /// # Errors
    /// Its entry says something impossible, or its id is taken.
    pub(crate) fn add(&self, entry: &InstanceEntry) -> Result<Arc<Instance>, String> {
        let mut listed = self.listed.write().unwrap_or_else(PoisonError::into_inner);
        let instance = entry.instance(&self.file, listed.len(), Timestamp::now())?;
        if listed.iter().any(|other| other.id == instance.id) {
            return Err(format!("the id {} is taken", instance.id));
        }
        let instance = Arc::new(instance);
        listed.push(Arc::clone(&instance));
        Ok(instance)
    }

    /// Changes a listed machine; `None` if there is none of this id or Name.
    pub(crate) fn change(&self, id_or_name: &str, change: &MachineChange) -> Option<Arc<Instance>> {
        let mut listed = self.listed.write().unwrap_or_else(PoisonError::into_inner);
        let slot = listed.iter_mut().find(|instance| {
            instance.id == id_or_name || instance.name.as_deref() == Some(id_or_name)
        })?;
        let mut instance = Instance::clone(slot);
        let now = Timestamp::now();
        if let Some(state) = change.state {
            if instance.ping() == Some(PingStatus::Online)
                && let Some(agent) = &mut instance.agent
            {
                agent.last_ping = Some(now);
            }
            instance.boot = None;
            if state == InstanceStateName::Running && instance.state() != InstanceStateName::Running
            {
                instance.launched = now;
            }
            instance.state = state;
        }
        if let Some(online) = change.online
            && let Some(agent) = &mut instance.agent
        {
            if agent.online && !online {
                agent.last_ping = Some(now);
            }
            agent.online = online;
        }
        if let (Some(version), Some(agent)) = (&change.agent_version, &mut instance.agent) {
            agent.version.clone_from(version);
        }
        if let Some(key) = &change.kms_key {
            instance.kms_key = Some(key.clone()).filter(|key| !key.is_empty());
        }
        if let Some(boot) = &change.boot {
            instance.launched = now;
            instance.state = InstanceStateName::Running;
            instance.boot = Some(boot.begin());
            if let Some(agent) = &mut instance.agent {
                agent.online = true;
            }
        }
        *slot = Arc::new(instance);
        Some(Arc::clone(slot))
    }

    fn listed(&self) -> std::sync::RwLockReadGuard<'_, Vec<Arc<Instance>>> {
        self.listed.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A change of a machine while the sandbox runs, as an admin request gives it.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MachineChange {
    state: Option<InstanceStateName>,
    online: Option<bool>,
    agent_version: Option<String>,
    kms_key: Option<String>,
    boot: Option<BootEntry>,
}

impl MachineChange {
    /// As StartInstances: a machine takes a moment to run, and its agent another.
    pub(crate) fn start() -> Self {
        let span = |seconds| crate::duration::Span(Duration::from_secs(seconds));
        Self {
            boot: Some(BootEntry {
                running_after: span(2),
                online_after: span(6),
            }),
            ..Self::default()
        }
    }

    /// As StopInstances, at once.
    pub(crate) fn stop() -> Self {
        Self {
            state: Some(InstanceStateName::Stopped),
            ..Self::default()
        }
    }
}

/// How long a machine takes to come up, counted from the request that starts it.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BootEntry {
    running_after: crate::duration::Span,
    online_after: crate::duration::Span,
}

impl BootEntry {
    fn begin(self) -> Boot {
        Boot {
            since: Instant::now(),
            running_after: self.running_after.0,
            online_after: self.online_after.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(size: usize) -> Fleet {
        Fleet::load(None, size).unwrap()
    }

    #[test]
    fn an_agent_without_permissions_or_a_way_out_never_reports() {
        let fleet = Fleet::load(Some(Path::new(BROKEN)), 0).unwrap();
        let named = |name: &str| fleet.listed_as(name).unwrap();
        for name in [
            "no-role",
            "wrong-role",
            "no-route",
            "deleted-nat",
            "endpoint-closed",
            "endpoint-missing",
            "egress-closed",
        ] {
            assert_eq!(named(name).ping(), None, "{name}");
        }
        for number in 1..=5 {
            assert!(named(&format!("fine-{number}")).is_connected(), "{number}");
        }
        assert_eq!(named("agent-too-old").ping(), Some(PingStatus::Online));
        assert!(!named("agent-too-old").is_connected());
    }

    #[test]
    fn the_default_fleet_has_each_kind_of_trouble() {
        let fleet = fleet(0);
        let named = |name: &str| fleet.listed_as(name).unwrap();
        assert!(named("web-1").is_connected());
        assert_eq!(named("web-4").state(), InstanceStateName::Stopped);
        assert!(!named("web-4").is_connected());
        assert_eq!(named("worker-1").ping(), Some(PingStatus::ConnectionLost));
        assert!(named("build-1").agent.is_none());
        assert!(named("depot-1").is_hybrid());
        assert_eq!(
            named("legacy-1").agent.as_ref().unwrap().version,
            "3.0.196.0"
        );
        assert_ne!(named("web-1").zone, named("web-2").zone);
    }

    #[test]
    fn made_up_machines_are_found_by_number_and_by_id() {
        let fleet = fleet(100_000);
        let last = fleet.at(99_999).unwrap();
        assert!(fleet.at(100_000).is_none());
        assert_eq!(fleet.by_id(&last.id).unwrap().name, last.name);
        let ids: std::collections::HashSet<String> = (0..100_000)
            .step_by(7)
            .map(|index| fleet.at(index).unwrap().id.clone())
            .collect();
        assert_eq!(ids.len(), 100_000_usize.div_ceil(7));
        assert!(ids.iter().all(|id| id.len() == 19));
        assert!(fleet.by_id("i-00000000000000000").is_none());
    }

    #[test]
    fn a_fleet_file_with_a_typo_is_refused_with_its_place() {
        let text = "region: eu-west-1\ninstances:\n  - name: web-1\n    zoen: a\n";
        let Err(FleetError::Shape { message, .. }) = Fleet::parse("my.yaml", text, 0) else {
            panic!("accepted");
        };
        assert!(message.contains("zoen"), "{message}");
        assert!(message.contains('4'), "{message}");
    }

    #[test]
    fn an_impossible_entry_is_refused_by_its_number() {
        let text = "instances:\n  - name: a\n  - name: b\n    ports: { 80: carrier-pigeon }\n";
        let Err(FleetError::Meaning { message, .. }) = Fleet::parse("my.yaml", text, 0) else {
            panic!("accepted");
        };
        assert!(message.contains("instance 2"), "{message}");
        assert!(message.contains("carrier-pigeon"), "{message}");
    }

    #[test]
    fn a_booting_machine_is_pending_then_running_then_online() {
        let fleet = fleet(0);
        let change =
            serde_json::from_str(r#"{"boot":{"running_after":"20s","online_after":"60s"}}"#)
                .unwrap();
        let mut instance = Instance::clone(&fleet.change("web-4", &change).unwrap());
        let mut pass = |seconds| {
            instance.boot.as_mut().unwrap().since -= Duration::from_secs(seconds);
            (instance.state(), instance.is_connected())
        };
        assert_eq!(pass(0), (InstanceStateName::Pending, false));
        assert_eq!(pass(21), (InstanceStateName::Running, false));
        assert_eq!(pass(40), (InstanceStateName::Running, true));
    }
}
