//! Made-up machines: each is a function of its number, so that a hundred thousand of them cost
//! nothing until they are looked at.

use std::{collections::BTreeMap, net::Ipv4Addr};

use jiff::{SignedDuration, Timestamp};

use super::{Agent, FleetFile, Instance, InstanceStateName, Platform, file, place};

/// An odd factor and its inverse modulo 2^60: a permutation that spreads numbers over ids, and
/// back.
const FACTOR: u64 = 0x09e3_779b_97f4_a7c1;
const MASK: u64 = (1 << 60) - 1;

const ROLES: [&str; 8] = [
    "web", "api", "worker", "cache", "db", "queue", "search", "batch",
];
const TEAMS: [&str; 6] = ["web", "data", "payments", "search", "platform", "mobile"];
const ENVIRONMENTS: [&str; 3] = ["production", "staging", "development"];
const TYPES: [&str; 6] = [
    "t3.micro",
    "t3.large",
    "m6i.large",
    "m7g.xlarge",
    "c6i.2xlarge",
    "r6i.xlarge",
];

/// The machine with this number.
pub(super) fn instance(number: usize, file: &FleetFile, epoch: Timestamp) -> Instance {
    let mixed = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bd1_e995;
    let pick = |shift: u32, count: usize| ((mixed >> shift) % count as u64) as usize;
    let role = ROLES[pick(8, ROLES.len())];
    let name = format!("{role}-{:06}", number + 1);
    let zone = ['a', 'b', 'c'][pick(16, 3)];
    let private_ip =
        Ipv4Addr::from(0x0a40_0000 + u32::try_from(number).unwrap_or(0) % 0x003f_ffff + 4);
    // One in fifty is stopped, one in thirty-three has an agent that went silent.
    let state = if pick(24, 50) == 0 {
        InstanceStateName::Stopped
    } else {
        InstanceStateName::Running
    };
    let online = state == InstanceStateName::Running && pick(28, 33) != 0;
    let age_seconds = i64::try_from(mixed >> 36).unwrap_or(0) % (400 * 86_400) + 3_600;
    let tags = BTreeMap::from([
        ("Name".to_owned(), name.clone()),
        ("Team".to_owned(), TEAMS[pick(12, TEAMS.len())].to_owned()),
        (
            "Env".to_owned(),
            ENVIRONMENTS[pick(20, ENVIRONMENTS.len())].to_owned(),
        ),
        ("Role".to_owned(), role.to_owned()),
    ]);
    Instance {
        id: id(number),
        name: Some(name),
        tags,
        region: file.region.clone(),
        zone: format!("{}{zone}", file.region),
        instance_type: TYPES[pick(32, TYPES.len())].to_owned(),
        image_id: file::IMAGE_ID.to_owned(),
        vpc_id: file::VPC_ID.to_owned(),
        subnet_id: file::subnet_id(zone),
        private_dns: file::private_dns(private_ip, &file.region),
        private_ip,
        public_ip: None,
        launched: epoch - SignedDuration::from_secs(age_seconds),
        platform: Platform::Linux,
        agent: Some(Agent {
            version: file::AGENT_VERSION.to_owned(),
            online,
            last_ping: (!online).then(|| epoch - SignedDuration::from_secs(age_seconds / 3)),
        }),
        ports: BTreeMap::new(),
        state,
        kms_key: None,
        role: Some(place::SERVER_ROLE.to_owned()),
        subnet: place::SubnetEntry::default(),
        closed_egress: false,
        missing_user: None,
        console: Vec::new(),
        expired_activation: false,
        boot: None,
    }
}

fn id(number: usize) -> String {
    // The leading 1 keeps made-up ids apart from those of fleet files by habit, not by rule.
    format!(
        "i-1{:015x}{:x}",
        (number as u64 + 1).wrapping_mul(FACTOR) & MASK,
        number % 16
    )
}

/// The number that has this id, if it is one of ours at all.
pub(super) fn number(id: &str) -> Option<usize> {
    let digits = id.strip_prefix("i-1").filter(|rest| rest.len() == 16)?;
    let mixed = u64::from_str_radix(digits.get(..15)?, 16).ok()?;
    let number = mixed.wrapping_mul(inverse(FACTOR)) & MASK;
    let number = usize::try_from(number.checked_sub(1)?).ok()?;
    (self::id(number) == id).then_some(number)
}

/// The inverse of an odd number modulo 2^64, by Newton's iteration: each step doubles the correct
/// low bits.
const fn inverse(odd: u64) -> u64 {
    let mut inverse = odd;
    let mut step = 0;
    while step < 6 {
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)));
        step += 1;
    }
    inverse
}
