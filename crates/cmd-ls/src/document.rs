//! The list as a document for programs: `-o json` and `-o yaml`, described in docs/output.md.

use std::collections::BTreeMap;

use jiff::Timestamp;
use ops_core::Listing;
use ops_profile::{Instance, InstanceState, Kind, Ping};
use serde::Serialize;

/// Version of the fields below: within one, fields are only added.
pub(crate) const API_VERSION: &str = "ops/v1";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Document<'a> {
    api_version: &'static str,
    kind: &'static str,
    items: Vec<Item<'a>>,
    /// Regions that could not be listed.
    failures: Vec<Failure<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Failure<'a> {
    region: &'a str,
    code: &'static str,
    message: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Item<'a> {
    id: &'a str,
    name: Option<&'a str>,
    kind: Kind,
    state: InstanceState,
    reach: &'static str,
    agent: Agent<'a>,
    region: &'a str,
    zone: Option<&'a str>,
    #[serde(rename = "type")]
    instance_type: Option<&'a str>,
    private_ip: Option<&'a str>,
    private_dns: Option<&'a str>,
    public_ip: Option<&'a str>,
    vpc: Option<&'a str>,
    platform: Option<&'a str>,
    image: Option<&'a str>,
    launched: Option<Timestamp>,
    tags: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Agent<'a> {
    status: &'static str,
    version: Option<&'a str>,
    last_ping: Option<Timestamp>,
}

/// The document of `listing`.
pub(crate) fn list_document(listing: &Listing) -> Document<'_> {
    Document {
        api_version: API_VERSION,
        kind: "InstanceList",
        items: listing.instances.iter().map(item_of).collect(),
        failures: listing
            .failures
            .iter()
            .map(|(region, error)| Failure {
                region,
                code: error.kind().code(),
                message: error.to_string(),
            })
            .collect(),
    }
}

/// What is said of one instance.
pub(crate) fn item_of(instance: &Instance) -> Item<'_> {
    let (status, last_ping) = match instance.ping {
        Ping::Online => ("online", None),
        Ping::Lost { last } => ("offline", last),
        Ping::NoAgent => ("none", None),
        Ping::Unknown => ("unknown", None),
    };
    let reach = match (instance.state, instance.ping) {
        (InstanceState::Running | InstanceState::Pending, Ping::Online) => "ok",
        (InstanceState::Running, Ping::Lost { .. }) => "offline",
        (InstanceState::Running, Ping::NoAgent) => "no-agent",
        (InstanceState::Running | InstanceState::Pending, Ping::Unknown) => "unknown",
        (state, _) => state.as_str(),
    };
    Item {
        id: &instance.id,
        name: instance.name.as_deref(),
        kind: instance.kind,
        state: instance.state,
        reach,
        agent: Agent {
            status,
            version: instance.agent_version.as_deref(),
            last_ping,
        },
        region: &instance.region,
        zone: instance.zone.as_deref(),
        instance_type: instance.instance_type.as_deref(),
        private_ip: instance.private_ip.as_deref(),
        private_dns: instance.private_dns.as_deref(),
        public_ip: instance.public_ip.as_deref(),
        vpc: instance.vpc.as_deref(),
        platform: instance.platform.as_deref(),
        image: instance.image.as_deref(),
        launched: instance.launched,
        tags: &instance.tags,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_there_also_when_it_is_empty() {
        let listing = Listing {
            instances: vec![Instance::bare("i-00000001", "eu-west-1")],
            regions: 1,
            ..Listing::default()
        };
        let value = serde_json::to_value(list_document(&listing)).expect("JSON");
        assert_eq!(value["apiVersion"], "ops/v1");
        assert_eq!(value["failures"], serde_json::json!([]));
        let item = value["items"][0].as_object().expect("an object");
        let fields: Vec<&str> = item.keys().map(String::as_str).collect();
        assert_eq!(
            fields,
            [
                "id",
                "name",
                "kind",
                "state",
                "reach",
                "agent",
                "region",
                "zone",
                "type",
                "privateIp",
                "privateDns",
                "publicIp",
                "vpc",
                "platform",
                "image",
                "launched",
                "tags"
            ]
        );
        assert_eq!(item["agent"]["status"], "unknown");
    }
}
