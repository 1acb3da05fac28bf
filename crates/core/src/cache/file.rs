//! The file's form: a magic number, then sections, each with its length and digest in front. Who
//! wants names reads the names alone.

use std::{borrow::Cow, collections::BTreeMap};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use ops_profile::{Instance, InstanceState, Kind, Ping};

/// Eight bytes that no other file begins with; the last is the version of the form.
pub(super) const MAGIC: [u8; 8] = *b"opsflt\0\x01";
/// In front of each section: its length as a little-endian `u32`, and the SHA-256 of its bytes.
pub(super) const SECTION_HEAD: usize = 4 + 32;
/// No section is longer; a hundred thousand instances with many tags stay far below.
pub(super) const MAX_SECTION: usize = 256 << 20;

/// What a file says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The key that is also its name.
    pub key: String,
    /// The account of the credentials; empty if STS did not tell.
    pub account: String,
    /// What messages call the profile.
    pub profile: String,
    /// The regions that were asked.
    pub regions: Vec<String>,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    /// How many instances there are.
    pub count: u32,
}

/// An instance as completion shows it. Rows are sorted by name; those without one come last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row<'a> {
    /// `i-…` or `mi-…`.
    pub id: &'a str,
    /// Its name.
    pub name: Option<&'a str>,
    /// Its state.
    pub state: InstanceState,
    /// Its type.
    pub instance_type: Option<&'a str>,
    /// Its availability zone.
    pub zone: Option<&'a str>,
}

/// A tag's key and the values it has, both sorted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagRow<'a> {
    /// The key.
    pub key: &'a str,
    /// Its values and how many instances have each.
    #[serde(borrow)]
    pub values: Vec<(&'a str, u32)>,
}

/// What else an instance has, in the order of the rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Detail<'a> {
    region: &'a str,
    private_ip: Option<&'a str>,
    private_dns: Option<&'a str>,
    public_ip: Option<&'a str>,
    vpc: Option<&'a str>,
    platform: Option<&'a str>,
    agent_version: Option<&'a str>,
    image: Option<&'a str>,
    /// RFC 3339, as the type of the time has it.
    launched: Option<Cow<'a, str>>,
    tags: Vec<(&'a str, &'a str)>,
}

/// The whole file. `instances` are put into order.
pub(super) fn encode(head: &Head, instances: &mut [Instance]) -> Option<Vec<u8>> {
    instances.sort_by(|a, b| {
        (a.name.is_none(), &a.name, &a.id).cmp(&(b.name.is_none(), &b.name, &b.id))
    });
    let rows: Vec<Row<'_>> = instances
        .iter()
        .map(|instance| Row {
            id: &instance.id,
            name: instance.name.as_deref(),
            state: instance.state,
            instance_type: instance.instance_type.as_deref(),
            zone: instance.zone.as_deref(),
        })
        .collect();
    let details: Vec<Detail<'_>> = instances
        .iter()
        .map(|instance| Detail {
            region: &instance.region,
            private_ip: instance.private_ip.as_deref(),
            private_dns: instance.private_dns.as_deref(),
            public_ip: instance.public_ip.as_deref(),
            vpc: instance.vpc.as_deref(),
            platform: instance.platform.as_deref(),
            agent_version: instance.agent_version.as_deref(),
            image: instance.image.as_deref(),
            launched: instance.launched.map(|time| Cow::Owned(time.to_string())),
            tags: instance
                .tags
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str()))
                .collect(),
        })
        .collect();
    let mut bytes = MAGIC.to_vec();
    section(&mut bytes, head)?;
    section(&mut bytes, &rows)?;
    section(&mut bytes, &tags(instances))?;
    section(&mut bytes, &details)?;
    Some(bytes)
}

fn tags(instances: &[Instance]) -> Vec<TagRow<'_>> {
    let mut map: BTreeMap<&str, BTreeMap<&str, u32>> = BTreeMap::new();
    for instance in instances {
        for (key, value) in &instance.tags {
            *map.entry(key).or_default().entry(value).or_default() += 1;
        }
    }
    map.into_iter()
        .map(|(key, values)| TagRow {
            key,
            values: values.into_iter().collect(),
        })
        .collect()
}

fn section(bytes: &mut Vec<u8>, content: &impl Serialize) -> Option<()> {
    let content = postcard::to_extend(content, Vec::new()).ok()?;
    let len = u32::try_from(content.len()).ok()?;
    bytes.extend(len.to_le_bytes());
    bytes.extend(digest(&content));
    bytes.extend(content);
    Some(())
}

/// SHA-256.
pub(super) fn digest(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    out
}

/// A row and its details as the instance they were made of; what SSM knew is not kept.
pub(super) fn instance(row: &Row<'_>, detail: &Detail<'_>) -> Instance {
    let text = |text: Option<&str>| text.map(str::to_owned);
    Instance {
        id: row.id.to_owned(),
        name: text(row.name),
        kind: if row.id.starts_with("mi-") {
            Kind::Hybrid
        } else {
            Kind::Ec2
        },
        state: row.state,
        ping: Ping::Unknown,
        region: detail.region.to_owned(),
        zone: text(row.zone),
        instance_type: text(row.instance_type),
        private_ip: text(detail.private_ip),
        private_dns: text(detail.private_dns),
        public_ip: text(detail.public_ip),
        vpc: text(detail.vpc),
        platform: text(detail.platform),
        agent_version: text(detail.agent_version),
        image: text(detail.image),
        launched: detail
            .launched
            .as_deref()
            .and_then(|time| time.parse::<Timestamp>().ok()),
        tags: detail
            .tags
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
    }
}
