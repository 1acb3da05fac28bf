//! The machine that a target resolved to.

use std::collections::BTreeMap;

use jiff::Timestamp;
use ops_ui::text::is_unprintable;
use serde::Serialize;

use crate::target::{Selector, Target};

/// State of an instance as EC2 has it (`instance-state-name`), or of a hybrid node.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceState {
    /// Starting.
    Pending,
    /// Running; a hybrid node that SSM knows counts as running.
    Running,
    /// Stopping.
    Stopping,
    /// Stopped.
    Stopped,
    /// On its way out.
    ShuttingDown,
    /// Gone; EC2 shows it for about an hour.
    Terminated,
}

impl InstanceState {
    /// The name EC2 gives it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::ShuttingDown => "shutting-down",
            Self::Terminated => "terminated",
        }
    }
}

/// What SSM knows of the agent (`PingStatus`, `LastPingDateTime` of DescribeInstanceInformation).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "status")]
pub enum Ping {
    /// The agent answers.
    Online,
    /// It has not answered since.
    Lost {
        /// When it last did.
        last: Option<Timestamp>,
    },
    /// SSM has never heard of it.
    NoAgent,
    /// SSM was not asked, or did not answer.
    Unknown,
}

/// Where a machine comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// EC2, `i-…`.
    Ec2,
    /// A hybrid node, `mi-…`, which only SSM knows.
    Hybrid,
}

/// One machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    /// `i-…` or `mi-…`.
    pub id: String,
    /// The value of the name tag (`names.tag`, by default `Name`), or a hybrid node's computer
    /// name.
    pub name: Option<String>,
    /// Where it comes from.
    pub kind: Kind,
    /// Its state.
    pub state: InstanceState,
    /// What SSM knows of its agent.
    pub ping: Ping,
    /// Its region.
    pub region: String,
    /// Its availability zone.
    pub zone: Option<String>,
    /// Its type, such as `t3.micro`.
    pub instance_type: Option<String>,
    /// Its private IPv4 address.
    pub private_ip: Option<String>,
    /// Its private DNS name.
    pub private_dns: Option<String>,
    /// Its public IPv4 address.
    pub public_ip: Option<String>,
    /// Its VPC.
    pub vpc: Option<String>,
    /// `Linux/UNIX`, `Windows`, or SSM's platform name and version where known.
    pub platform: Option<String>,
    /// Version of its agent.
    pub agent_version: Option<String>,
    /// Its image (AMI).
    pub image: Option<String>,
    /// When it was launched; a hybrid node's registration.
    pub launched: Option<Timestamp>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

impl Instance {
    /// An instance of which only id and region are known; taken to run.
    pub fn bare(id: impl Into<String>, region: &str) -> Self {
        let id = id.into();
        Self {
            kind: if id.starts_with("mi-") {
                Kind::Hybrid
            } else {
                Kind::Ec2
            },
            id,
            name: None,
            state: InstanceState::Running,
            ping: Ping::Unknown,
            region: region.to_owned(),
            zone: None,
            instance_type: None,
            private_ip: None,
            private_dns: None,
            public_ip: None,
            vpc: None,
            platform: None,
            agent_version: None,
            image: None,
            launched: None,
            tags: BTreeMap::new(),
        }
    }

    /// The names it goes by: its name, and its `Name` tag where the profile shortens names.
    pub fn full_names(&self) -> impl Iterator<Item = &str> {
        let name = self.name.as_deref();
        let tag = self.tags.get("Name").map(String::as_str);
        name.into_iter()
            .chain(tag.filter(move |tag| Some(*tag) != name))
    }

    /// The name, if it reads as nothing but a name when it is typed as a target: no option, id,
    /// glob, address or tag, no user before it, no number behind it, and no character that a shell
    /// splits at or a terminal does not show.
    pub fn plain_name(&self) -> Option<&str> {
        let name = self.name.as_deref()?;
        let target: Target = name.parse().ok()?;
        let reads_as_name = target.user.is_none()
            && target.index.is_none()
            && matches!(&target.selector, Selector::Word(word) if word == name)
            && !name.starts_with('-');
        let is_printable = |c: char| !is_unprintable(c) && !c.is_whitespace();
        (reads_as_name && name.chars().all(is_printable)).then_some(name)
    }

    /// What to type in a command to mean it: the name where that reads as one, else the id.
    pub fn target_word(&self) -> &str {
        self.plain_name().unwrap_or(&self.id)
    }

    /// The name if it has one, else the id.
    pub fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.id)
    }
}

/// A length of time in its largest unit: `45s`, `12m`, `3h`, `5d`; of several years `2y`.
pub fn age_words(seconds: i64) -> String {
    let seconds = seconds.max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        86_400..63_072_000 => format!("{}d", seconds / 86_400),
        _ => format!("{}y", seconds / 31_536_000),
    }
}
