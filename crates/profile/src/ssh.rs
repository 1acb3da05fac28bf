//! The `ssh` section: users, keys, host keys, and which options of ssh_config a profile may set.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::{
    lists::OneOrMany,
    suggest::nearest,
    values::{Glob, LocalForward, UserName, is_default},
};
use crate::instance::Instance;

/// How ssh, ssh-config and the sftp transport of cp connect
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ssh {
    /// User on the server
    #[serde(skip_serializing_if = "is_default")]
    pub user: Option<UserName>,
    /// User by platform or tag; the first that matches, before `user`
    #[serde(skip_serializing_if = "is_default")]
    pub users: Vec<UserRule>,
    /// Port of sshd; 22 where nothing is said
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// Private key; `~/` is the home folder
    #[serde(skip_serializing_if = "is_default")]
    pub identity_file: Option<PathBuf>,
    /// How the user is authenticated
    #[serde(skip_serializing_if = "is_default")]
    pub auth: Option<Auth>,
    /// What precedes instance names in `ops ssh-config`
    #[serde(skip_serializing_if = "is_default")]
    pub host_prefix: Option<String>,
    /// How a server's host key is checked
    #[serde(skip_serializing_if = "is_default")]
    pub host_keys: Option<HostKeys>,
    /// Whether connections to one server are shared
    #[serde(skip_serializing_if = "is_default")]
    pub control_master: Option<bool>,
    /// Further keys of ssh_config, of those that run nothing on this machine
    #[serde(skip_serializing_if = "is_default")]
    pub options: Options,
    /// LocalForward lines
    #[serde(skip_serializing_if = "is_default")]
    pub local_forwards: OneOrMany<LocalForward>,
}

/// What a host of `hosts` says otherwise; the same keys as `ssh`.
pub type HostSsh = Ssh;

impl Ssh {
    /// The user for `instance`: the first of `users` that matches, else `user`.
    pub fn user_for(&self, instance: &Instance) -> Option<&str> {
        self.users
            .iter()
            .find(|rule| rule.on.matches(instance))
            .map(|rule| &rule.user)
            .or(self.user.as_ref())
            .map(UserName::as_str)
    }

    /// `identity_file` with `~/` made `home`.
    pub fn identity_path(&self, home: &Path) -> Option<PathBuf> {
        let path = self.identity_file.as_deref()?;
        Some(match path.strip_prefix("~") {
            Ok(rest) => home.join(rest),
            Err(_) => path.to_owned(),
        })
    }

    /// These settings with what `host` says otherwise laid over them.
    #[must_use]
    pub fn with(&self, host: &Self) -> Self {
        let mut options = self.options.clone();
        options.0.extend(host.options.0.clone());
        let list = |own: &OneOrMany<LocalForward>, other: &OneOrMany<LocalForward>| {
            if own.is_empty() {
                other.clone()
            } else {
                own.clone()
            }
        };
        Self {
            user: host.user.clone().or_else(|| self.user.clone()),
            // A host's user is meant for that host whatever its platform.
            users: if host.user.is_some() || !host.users.is_empty() {
                host.users.clone()
            } else {
                self.users.clone()
            },
            port: host.port.or(self.port),
            identity_file: host
                .identity_file
                .clone()
                .or_else(|| self.identity_file.clone()),
            auth: host.auth.or(self.auth),
            host_prefix: host
                .host_prefix
                .clone()
                .or_else(|| self.host_prefix.clone()),
            host_keys: host.host_keys.or(self.host_keys),
            control_master: host.control_master.or(self.control_master),
            options,
            local_forwards: list(&host.local_forwards, &self.local_forwards),
        }
    }
}

/// A user for servers of a kind
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserRule {
    /// The servers
    #[serde(rename = "match")]
    pub on: UserMatch,
    /// The user
    pub user: UserName,
}

/// Servers by platform, by tags, or both
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UserMatch {
    /// Pattern over the platform as `ops ls -o wide` shows it, such as `Ubuntu*`; case does not
    /// count
    #[serde(skip_serializing_if = "is_default")]
    pub platform: Option<Glob>,
    /// Tags the server has
    #[serde(skip_serializing_if = "is_default")]
    pub tags: BTreeMap<String, OneOrMany<Glob>>,
}

impl UserMatch {
    /// Whether `instance` is meant: every part that is given matches.
    pub fn matches(&self, instance: &Instance) -> bool {
        let platform = self.platform.as_ref().is_none_or(|glob| {
            instance
                .platform
                .as_deref()
                .is_some_and(|platform| glob.matches_any_case(platform))
        });
        platform
            && self.tags.iter().all(|(key, globs)| {
                instance
                    .tags
                    .get(key)
                    .is_some_and(|value| globs.iter().any(|glob| glob.matches(value)))
            })
    }
}

/// How the user is authenticated
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Auth {
    /// A key file
    Key,
    /// The ssh agent
    Agent,
    /// A key made for the moment and pushed by EC2 Instance Connect
    InstanceConnect,
}

/// How a server's host key is checked
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HostKeys {
    /// Trusted on first use, then pinned
    AcceptNew,
    /// Fetched over Session Manager, then pinned
    Ssm,
    /// Not checked
    Off,
}

/// Further keys of ssh_config, of those that run nothing on this machine
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Options(BTreeMap<String, String>);

impl Options {
    /// Keys as ssh_config(5) spells them, and their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

/// The keys of ssh_config(5) that a profile may set. Left out is what runs or loads a program of
/// this machine (ProxyCommand, LocalCommand, KnownHostsCommand, PKCS11Provider, XAuthLocation …),
/// what leads elsewhere (HostName, ProxyJump, Include) and what has a key of its own in `ssh`.
const ALLOWED: &[&str] = &[
    "AddKeysToAgent",
    "AddressFamily",
    "BatchMode",
    "CASignatureAlgorithms",
    "CertificateFile",
    "Ciphers",
    "Compression",
    "ConnectionAttempts",
    "ConnectTimeout",
    "ControlPersist",
    "EscapeChar",
    "ExitOnForwardFailure",
    "ForwardAgent",
    "ForwardX11",
    "ForwardX11Timeout",
    "ForwardX11Trusted",
    "GSSAPIAuthentication",
    "HashKnownHosts",
    "HostbasedAuthentication",
    "HostKeyAlgorithms",
    "IdentitiesOnly",
    "IdentityAgent",
    "IPQoS",
    "KbdInteractiveAuthentication",
    "KexAlgorithms",
    "LogLevel",
    "MACs",
    "NumberOfPasswordPrompts",
    "ObscureKeystrokeTiming",
    "PasswordAuthentication",
    "PreferredAuthentications",
    "PubkeyAcceptedAlgorithms",
    "PubkeyAuthentication",
    "RekeyLimit",
    "RequestTTY",
    "RequiredRSASize",
    "SendEnv",
    "ServerAliveCountMax",
    "ServerAliveInterval",
    "SetEnv",
    "StreamLocalBindMask",
    "StreamLocalBindUnlink",
    "TCPKeepAlive",
    "VisualHostKey",
];

/// Keys of ssh_config that have a key of their own in `ssh`.
const OWN_KEYS: &[(&str, &str)] = &[
    ("User", "ssh.user"),
    ("Port", "ssh.port"),
    ("IdentityFile", "ssh.identity_file"),
    ("StrictHostKeyChecking", "ssh.host_keys"),
    ("UserKnownHostsFile", "ssh.host_keys"),
    ("ControlMaster", "ssh.control_master"),
    ("ControlPath", "ssh.control_master"),
    ("LocalForward", "ssh.local_forwards"),
];

fn allowed_key(key: &str) -> Result<&'static str, String> {
    if let Some(name) = ALLOWED.iter().find(|name| name.eq_ignore_ascii_case(key)) {
        return Ok(name);
    }
    if let Some((_, own)) = OWN_KEYS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(key))
    {
        return Err(format!("`{key}` is not set here but with `{own}`"));
    }
    Err(match nearest(key, ALLOWED.iter().copied()) {
        Some(near) => format!("`{key}` is no option a profile may set; did you mean `{near}`?"),
        None => format!(
            "`{key}` is no option a profile may set: only those that run nothing on this machine and lead nowhere else"
        ),
    })
}

impl<'de> Deserialize<'de> for Options {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(PartialEq, Eq, PartialOrd, Ord)]
        struct Key(&'static str);
        impl<'de> Deserialize<'de> for Key {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let key = String::deserialize(deserializer)?;
                allowed_key(&key).map(Self).map_err(de::Error::custom)
            }
        }

        struct OptionValue(String);
        impl<'de> Deserialize<'de> for OptionValue {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl de::Visitor<'_> for Visitor {
                    type Value = OptionValue;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("text in quotes, or a whole number")
                    }

                    fn visit_u64<E>(self, number: u64) -> Result<OptionValue, E> {
                        Ok(OptionValue(number.to_string()))
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<OptionValue, E> {
                        // A line end would begin another option.
                        if text.trim().is_empty() || text.chars().any(char::is_control) {
                            return Err(E::custom(format!(
                                "`{}` cannot be the value of an ssh option",
                                text.escape_debug()
                            )));
                        }
                        Ok(OptionValue(text.to_owned()))
                    }
                }
                deserializer.deserialize_any(Visitor)
            }
        }

        let map = BTreeMap::<Key, OptionValue>::deserialize(deserializer)?;
        Ok(Self(
            map.into_iter()
                .map(|(key, value)| (key.0.to_owned(), value.0))
                .collect(),
        ))
    }
}

impl JsonSchema for Options {
    fn schema_name() -> Cow<'static, str> {
        "SshOptions".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let keys: serde_json::Map<String, serde_json::Value> = ALLOWED
            .iter()
            .map(|key| {
                (
                    (*key).to_owned(),
                    serde_json::json!({ "type": ["string", "integer"] }),
                )
            })
            .collect();
        schemars::json_schema!({
            "type": "object", "properties": keys, "additionalProperties": false
        })
    }
}
