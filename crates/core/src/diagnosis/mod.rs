//! Why something does not work: what is asked ([`facts`]), what it means ([`rules`]), and the
//! words for people.
//!
//! There is one table of rules. `ops doctor` holds it against everything that it may ask, and the
//! error of any other command against what two calls tell ([`cheap`]).

mod account;
mod agents;
mod cheap;
mod facts;
mod machine;
mod permissions;
mod readings;
mod rules;
mod server;
mod surroundings;

pub(crate) use self::cheap::{denied, not_connected, not_running};
pub use self::{
    account::meanings_of_preferences,
    agents::{ABILITIES, keeps_output, too_old_for},
    facts::{
        AgentReport, Ec2Machine, EndpointLook, Facts, Learned, RegionStatus, RoleReach, WayOut,
    },
    machine::CredentialsFound,
    permissions::{Permission, Permissions, Verdict},
    readings::{is_skew_fatal, silence, update_agent},
    rules::{Explanation, RULES, Rule, Symptom, explain, explain_all},
};
