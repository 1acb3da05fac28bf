//! The keys of a profile, as types; the doc comments are the descriptions in the JSON Schema.
//!
//! Every key may be left out, and what is left out is `None` or empty: defaults belong to those who
//! use a value, so that merging can tell "not said" from "said".

use std::collections::BTreeMap;

use ops_ui::Format;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    guard::{Commands, Guard, SessionRules},
    lists::OneOrMany,
    ssh::{HostSsh, Ssh},
    values::{
        Account, Destination, EndpointUrl, Glob, Listen, Region, Size, TargetText, Time, Words,
        is_default,
    },
};
use crate::instance::InstanceState;

/// A team profile of ops
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Profile {
    /// Shown in lists of profiles
    #[serde(skip_serializing_if = "is_default")]
    pub description: Option<String>,
    /// Profiles to start from, left to right; the keys of this file come last
    #[serde(skip_serializing_if = "is_default")]
    pub extends: OneOrMany<String>,
    /// Account, region and credentials
    #[serde(skip_serializing_if = "is_default")]
    pub aws: Aws,
    /// The instances this team sees by default
    #[serde(skip_serializing_if = "is_default")]
    pub select: Select,
    /// How instances are called
    #[serde(skip_serializing_if = "is_default")]
    pub names: Names,
    /// How ssh, ssh-config and the sftp transport of cp connect
    #[serde(skip_serializing_if = "is_default")]
    pub ssh: Ssh,
    /// Interactive shells
    #[serde(skip_serializing_if = "is_default")]
    pub shell: Shell,
    /// Rules for every session
    #[serde(skip_serializing_if = "is_default")]
    pub session: SessionRules,
    /// Copying files
    #[serde(skip_serializing_if = "is_default")]
    pub copy: Copy,
    /// Running commands
    #[serde(skip_serializing_if = "is_default")]
    pub exec: Exec,
    /// What stands between a slip and a production server; of several values the stricter one holds
    #[serde(skip_serializing_if = "is_default")]
    pub guard: Guard,
    /// Form of lists
    #[serde(skip_serializing_if = "is_default")]
    pub output: OutputDefaults,
    /// Names of this team for servers
    #[serde(skip_serializing_if = "is_default")]
    pub hosts: BTreeMap<String, Host>,
    /// Named forwards
    #[serde(skip_serializing_if = "is_default")]
    pub forwards: BTreeMap<String, Forward>,
    /// Log files, and units of systemd as `unit:NAME`, under names for `ops logs`
    #[serde(skip_serializing_if = "is_default")]
    pub logs: BTreeMap<String, OneOrMany<String>>,
    /// Short names for ops command lines; never for programs or shell strings
    #[serde(skip_serializing_if = "is_default")]
    pub aliases: BTreeMap<String, Words>,
    /// Which commands this team uses
    #[serde(skip_serializing_if = "is_default")]
    pub commands: Commands,
    /// Whether the servers that were used last are remembered on this machine, for the picker,
    /// `ops recent` and the target `-`; without it they are, unless `guard.protect` is set
    #[serde(skip_serializing_if = "is_default")]
    pub recent: Option<bool>,
}

/// Account, region and credentials
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Aws {
    /// AWS profile of the shared configuration files
    #[serde(skip_serializing_if = "is_default")]
    pub profile: Option<String>,
    /// Region in which targets are looked up
    #[serde(skip_serializing_if = "is_default")]
    pub region: Option<Region>,
    /// Regions for lists
    #[serde(skip_serializing_if = "is_default")]
    pub regions: OneOrMany<Region>,
    /// Role to assume
    #[serde(skip_serializing_if = "is_default")]
    pub role_arn: Option<String>,
    /// External id the role asks for
    #[serde(skip_serializing_if = "is_default")]
    pub external_id: Option<String>,
    /// Serial number or ARN of the MFA device; ops then asks for a code
    #[serde(skip_serializing_if = "is_default")]
    pub mfa_serial: Option<String>,
    /// Name of the role's session, seen in CloudTrail
    #[serde(skip_serializing_if = "is_default")]
    pub session_name: Option<String>,
    /// How long the role's credentials last, from 15m to 12h
    #[serde(skip_serializing_if = "is_default")]
    pub duration: Option<Time>,
    /// The account all this is meant for, twelve digits in quotes; in another one ops stops
    #[serde(skip_serializing_if = "is_default")]
    pub account: Option<Account>,
    /// Endpoints of single services
    #[serde(skip_serializing_if = "is_default")]
    pub endpoints: Endpoints,
    /// Endpoint of every service that has none of its own
    #[serde(skip_serializing_if = "is_default")]
    pub endpoint_url: Option<EndpointUrl>,
    /// Whether endpoints may be plain http:, where everybody on the way can read and change what is
    /// said; without it only those of this machine
    #[serde(skip_serializing_if = "is_default")]
    pub allow_plain_http: Option<bool>,
}

/// The variable with which every AWS SDK and the AWS CLI take the endpoint of the service that
/// `key` names under `aws.endpoints`.
pub fn endpoint_variable(key: &str) -> String {
    format!("AWS_ENDPOINT_URL_{}", key.to_ascii_uppercase())
}

/// Endpoints of single services
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Endpoints {
    /// Systems Manager
    #[serde(skip_serializing_if = "is_default")]
    pub ssm: Option<EndpointUrl>,
    /// The web socket of sessions; its host replaces the one that StartSession returns
    #[serde(skip_serializing_if = "is_default")]
    pub ssmmessages: Option<EndpointUrl>,
    /// EC2
    #[serde(skip_serializing_if = "is_default")]
    pub ec2: Option<EndpointUrl>,
    /// Security Token Service
    #[serde(skip_serializing_if = "is_default")]
    pub sts: Option<EndpointUrl>,
    /// Key Management Service
    #[serde(skip_serializing_if = "is_default")]
    pub kms: Option<EndpointUrl>,
    /// EC2 Instance Connect
    #[serde(skip_serializing_if = "is_default")]
    pub ec2_instance_connect: Option<EndpointUrl>,
    /// S3, for copies through a bucket; buckets are in its path
    #[serde(skip_serializing_if = "is_default")]
    pub s3: Option<EndpointUrl>,
    /// Identity and Access Management
    #[serde(skip_serializing_if = "is_default")]
    pub iam: Option<EndpointUrl>,
    /// CloudWatch Logs
    #[serde(skip_serializing_if = "is_default")]
    pub cloudwatch_logs: Option<EndpointUrl>,
    /// Resource Groups
    #[serde(skip_serializing_if = "is_default")]
    pub resource_groups: Option<EndpointUrl>,
}

impl Endpoints {
    /// Each service by its key, which is the name that AWS's SDKs give it too, with its endpoint
    /// where one is set.
    pub fn each(&self) -> [(&'static str, Option<&EndpointUrl>); 10] {
        [
            ("ssm", self.ssm.as_ref()),
            ("ssmmessages", self.ssmmessages.as_ref()),
            ("ec2", self.ec2.as_ref()),
            ("sts", self.sts.as_ref()),
            ("kms", self.kms.as_ref()),
            ("ec2_instance_connect", self.ec2_instance_connect.as_ref()),
            ("s3", self.s3.as_ref()),
            ("iam", self.iam.as_ref()),
            ("cloudwatch_logs", self.cloudwatch_logs.as_ref()),
            ("resource_groups", self.resource_groups.as_ref()),
        ]
    }
}

/// The instances this team sees by default
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Select {
    /// Tags an instance must have: key to pattern, or to patterns of which one has to match
    #[serde(skip_serializing_if = "is_default")]
    pub tags: BTreeMap<String, OneOrMany<Glob>>,
    /// Tags an instance must not have
    #[serde(skip_serializing_if = "is_default")]
    pub exclude_tags: BTreeMap<String, OneOrMany<Glob>>,
    /// States; running where nothing is said
    #[serde(skip_serializing_if = "is_default")]
    pub states: OneOrMany<InstanceState>,
    /// The VPC
    #[serde(skip_serializing_if = "is_default")]
    pub vpc: Option<String>,
    /// The platform, as Systems Manager tells it
    #[serde(skip_serializing_if = "is_default")]
    pub platform: Option<Platform>,
    /// Whether hybrid nodes (mi-…) are among them; they are where nothing is said
    #[serde(skip_serializing_if = "is_default")]
    pub hybrid: Option<bool>,
}

/// What kind of system a server runs (`PlatformType` of Systems Manager)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    /// Linux
    Linux,
    /// Windows
    Windows,
    /// macOS
    Macos,
}

/// How instances are called
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Names {
    /// The tag that holds the name; Name where nothing is said
    #[serde(skip_serializing_if = "is_default")]
    pub tag: Option<String>,
    /// What is taken off the front of names
    #[serde(skip_serializing_if = "is_default")]
    pub strip_prefix: Option<String>,
}

/// Interactive shells
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Shell {
    /// The session document, in place of the account's own settings
    #[serde(skip_serializing_if = "is_default")]
    pub document: Option<String>,
    /// Parameters of the document
    #[serde(skip_serializing_if = "is_default")]
    pub parameters: BTreeMap<String, OneOrMany<String>>,
    /// User to become, with sudo
    #[serde(rename = "as", skip_serializing_if = "is_default")]
    pub run_as: Option<super::values::UserName>,
    /// Whether it is a login shell
    #[serde(skip_serializing_if = "is_default")]
    pub login: Option<bool>,
    /// Folder to start in
    #[serde(skip_serializing_if = "is_default")]
    pub cwd: Option<String>,
    /// Where a lost connection is told of while a full-screen program runs
    #[serde(skip_serializing_if = "is_default")]
    pub notices: Option<Notices>,
}

/// Where a lost connection is told of while a full-screen program runs
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Notices {
    /// On the last line of the screen, which the program has back afterwards
    #[default]
    Line,
    /// In the terminal's title
    Title,
}

/// Copying files
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Copy {
    /// The transport
    #[serde(skip_serializing_if = "is_default")]
    pub via: Option<CopyVia>,
    /// Transports that must not be used
    #[serde(skip_serializing_if = "is_default")]
    pub deny_via: OneOrMany<CopyVia>,
    /// What becomes of links in what is copied
    #[serde(skip_serializing_if = "is_default")]
    pub links: Option<CopyLinks>,
    /// The session document of transport `session`
    #[serde(skip_serializing_if = "is_default")]
    pub document: Option<String>,
    /// Sessions side by side
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(range(min = 1))]
    pub sessions: Option<u16>,
    /// Bucket of transport `s3`
    #[serde(skip_serializing_if = "is_default")]
    pub s3_bucket: Option<String>,
    /// Prefix of the objects in that bucket
    #[serde(skip_serializing_if = "is_default")]
    pub s3_prefix: Option<String>,
    /// Size above which `auto` takes s3
    #[serde(skip_serializing_if = "is_default")]
    pub s3_above: Option<Size>,
}

/// How a copy travels
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CopyVia {
    /// The best one that works
    Auto,
    /// Session Manager commands: no sshd, no key
    Session,
    /// SFTP over an SSH session
    Sftp,
    /// A bucket, with presigned addresses
    S3,
}

/// What becomes of links in what is copied
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CopyLinks {
    /// Copied as links, but for those that are absolute or lead out, which are left out
    Safe,
    /// Copied as links, whatever they point to
    All,
    /// Left out
    Skip,
    /// What they point to is copied
    Follow,
}

/// Running commands
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Exec {
    /// How commands are run
    #[serde(skip_serializing_if = "is_default")]
    pub via: Option<ExecVia>,
    /// The document
    #[serde(skip_serializing_if = "is_default")]
    pub document: Option<String>,
    /// More servers than these are reached by Run Command with `auto`
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(range(min = 1))]
    pub fleet_threshold: Option<u32>,
    /// Servers at the same time
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(range(min = 1))]
    pub parallel: Option<u32>,
    /// Bucket for long outputs
    #[serde(skip_serializing_if = "is_default")]
    pub s3_bucket: Option<String>,
    /// Log group of CloudWatch Logs for long outputs
    #[serde(skip_serializing_if = "is_default")]
    pub log_group: Option<String>,
}

/// How a command is run
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ExecVia {
    /// The best one that works
    Auto,
    /// A session per server
    Session,
    /// Run Command of Systems Manager
    RunCommand,
}

/// Form of lists
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OutputDefaults {
    /// Form of results
    #[serde(skip_serializing_if = "is_default")]
    pub format: Option<Format>,
    /// Columns of tables
    #[serde(skip_serializing_if = "is_default")]
    pub columns: OneOrMany<String>,
    /// Column to sort by
    #[serde(skip_serializing_if = "is_default")]
    pub sort_by: Option<String>,
    /// Tags shown as columns
    #[serde(skip_serializing_if = "is_default")]
    pub label_columns: OneOrMany<String>,
}

/// A server under a name of the team
///
/// Either `target` or `tags`; text in place of the map is its `target`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Host {
    /// A name or an id
    #[serde(skip_serializing_if = "is_default")]
    pub target: Option<TargetText>,
    /// Tags the server has
    #[serde(skip_serializing_if = "is_default")]
    pub tags: BTreeMap<String, OneOrMany<Glob>>,
    /// Which one, if several have the tags; `only` where nothing is said
    #[serde(skip_serializing_if = "is_default")]
    pub pick: Option<Pick>,
    /// What differs from the profile's `ssh` for this server
    #[serde(skip_serializing_if = "is_default")]
    pub ssh: HostSsh,
    /// What differs from the profile's `shell` for this server
    #[serde(skip_serializing_if = "is_default")]
    pub shell: Shell,
}

/// The written form of a [`Host`] that is a map.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename = "Host")]
struct HostMap {
    /// A name or an id
    target: Option<TargetText>,
    /// Tags the server has
    tags: BTreeMap<String, OneOrMany<Glob>>,
    /// Which one, if several have the tags; `only` where nothing is said
    pick: Option<Pick>,
    /// What differs from the profile's `ssh` for this server
    ssh: HostSsh,
    /// What differs from the profile's `shell` for this server
    shell: Shell,
}

impl<'de> Deserialize<'de> for Host {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Host;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a name, an id, or a map with `target` or `tags`")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Host, E> {
                Ok(Host {
                    target: Some(text.parse().map_err(E::custom)?),
                    ..Host::default()
                })
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Host, A::Error> {
                let map = HostMap::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(Host {
                    target: map.target,
                    tags: map.tags,
                    pick: map.pick,
                    ssh: map.ssh,
                    shell: map.shell,
                })
            }
        }
        const FIELDS: &[&str] = &["target", "tags", "pick", "ssh", "shell"];
        deserializer.deserialize_struct("Host", FIELDS, Visitor)
    }
}

impl JsonSchema for Host {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "HostOrTarget".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let text = generator.subschema_for::<TargetText>();
        let map = generator.subschema_for::<HostMap>();
        schemars::json_schema!({ "anyOf": [text, map] })
    }
}

/// Which of several servers with the same tags
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Pick {
    /// There has to be exactly one
    #[default]
    Only,
    /// The one launched last
    Newest,
    /// The one launched first
    Oldest,
    /// Any one
    Any,
}

/// A named forward
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Forward {
    /// The server it goes through: a host alias, a name or an id
    #[serde(skip_serializing_if = "is_default")]
    pub via: Option<TargetText>,
    /// PORT or ADDRESS:PORT to listen on; 0 is any free port
    #[serde(skip_serializing_if = "is_default")]
    pub listen: Option<Listen>,
    /// PORT of the server itself, or HOST:PORT as seen from it
    #[serde(skip_serializing_if = "Destination::is_missing")]
    pub to: Destination,
    /// An address to print once it listens
    #[serde(skip_serializing_if = "is_default")]
    pub open: Option<String>,
    /// A name under which several forwards start together
    #[serde(skip_serializing_if = "is_default")]
    pub group: Option<String>,
}
