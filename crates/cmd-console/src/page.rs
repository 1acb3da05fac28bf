//! URLs of the console's pages, in each partition.

use clap::ValueEnum;
use ops_profile::{Instance, Kind};

/// A page about an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Page {
    /// EC2's Connect page; for a hybrid node its shell in the browser
    Connect,
    /// The Session Manager shell in the browser
    Session,
    /// The instance itself; for a hybrid node its page in Fleet Manager
    Instance,
    /// Its metrics in CloudWatch
    Metrics,
    /// Its page in Fleet Manager
    Fleet,
}

/// A part of AWS with a console of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Partition {
    console: &'static str,
    /// Where temporary credentials are exchanged for a sign-in token.
    pub(crate) federation: &'static str,
}

/// By the beginning of the region's name; the last one takes every region.
const PARTITIONS: &[(&str, Partition)] = &[
    (
        "cn-",
        Partition {
            console: "console.amazonaws.cn",
            federation: "https://signin.amazonaws.cn/federation",
        },
    ),
    (
        "us-gov-",
        Partition {
            console: "console.amazonaws-us-gov.com",
            federation: "https://signin.amazonaws-us-gov.com/federation",
        },
    ),
    (
        "eusc-",
        Partition {
            console: "console.amazonaws-eusc.eu",
            federation: "https://signin.amazonaws-eusc.eu/federation",
        },
    ),
    (
        "",
        Partition {
            console: "console.aws.amazon.com",
            federation: "https://signin.aws.amazon.com/federation",
        },
    ),
];

impl Partition {
    /// The partition of `region`.
    pub(crate) fn of(region: &str) -> Self {
        PARTITIONS
            .iter()
            .find(|(prefix, _)| region.starts_with(prefix))
            .map_or(PARTITIONS[PARTITIONS.len() - 1].1, |(_, partition)| {
                *partition
            })
    }
}

/// The URL of `page` about `instance`.
pub(crate) fn page_url(page: Page, instance: &Instance) -> String {
    let (id, region) = (&instance.id, &instance.region);
    let console = format!("https://{region}.{}", Partition::of(region).console);
    let hybrid = instance.kind == Kind::Hybrid;
    match page {
        Page::Connect if !hybrid => {
            format!("{console}/ec2/home?region={region}#ConnectToInstance:instanceId={id}")
        }
        Page::Connect | Page::Session => {
            format!("{console}/systems-manager/session-manager/{id}?region={region}")
        }
        Page::Instance if !hybrid => {
            format!("{console}/ec2/home?region={region}#InstanceDetails:instanceId={id}")
        }
        Page::Instance | Page::Fleet => format!(
            "{console}/systems-manager/fleet-manager/managed-nodes/{id}/general?region={region}"
        ),
        // The console's own way to write `{AWS/EC2,InstanceId} ID`; a hybrid node has metrics of
        // the CloudWatch agent only.
        Page::Metrics if !hybrid => format!(
            "{console}/cloudwatch/home?region={region}#metricsV2:graph=~();query=~'*7bAWS*2fEC2*2cInstanceId*7d*20{id}"
        ),
        Page::Metrics => {
            format!("{console}/cloudwatch/home?region={region}#metricsV2:graph=~();query=~'{id}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ops_profile::{InstanceState, Ping};

    fn instance(id: &str, region: &str) -> Instance {
        Instance {
            id: id.to_owned(),
            name: None,
            kind: if id.starts_with("mi-") {
                Kind::Hybrid
            } else {
                Kind::Ec2
            },
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
            tags: std::collections::BTreeMap::new(),
        }
    }

    #[test]
    fn each_partition_has_its_console() {
        for (region, host) in [
            ("eu-west-1", "eu-west-1.console.aws.amazon.com"),
            ("cn-north-1", "cn-north-1.console.amazonaws.cn"),
            (
                "us-gov-west-1",
                "us-gov-west-1.console.amazonaws-us-gov.com",
            ),
            ("eusc-de-east-1", "eusc-de-east-1.console.amazonaws-eusc.eu"),
        ] {
            assert_eq!(
                page_url(Page::Connect, &instance("i-0a1b2c3d4e5f60718", region)),
                format!(
                    "https://{host}/ec2/home?region={region}#ConnectToInstance:instanceId=i-0a1b2c3d4e5f60718"
                )
            );
        }
    }

    #[test]
    fn a_hybrid_node_has_pages_of_its_own() {
        let node = instance("mi-0a1b2c3d4e5f60718", "eu-west-1");
        assert_eq!(
            page_url(Page::Connect, &node),
            page_url(Page::Session, &node)
        );
        assert_eq!(
            page_url(Page::Instance, &node),
            page_url(Page::Fleet, &node)
        );
        for page in Page::value_variants() {
            assert!(!page_url(*page, &node).contains("/ec2/"), "{page:?}");
        }
    }
}
