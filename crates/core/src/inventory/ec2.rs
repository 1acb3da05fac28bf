//! DescribeInstances, page by page; of each instance only what a row needs is kept.

use std::collections::HashSet;

use aws_sdk_ec2::types::{Filter, Instance as Ec2Instance, InstanceStateName};
use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use ops_profile::{Instance, InstanceState, Kind, Ping, target::is_instance_id};
use ops_ui::Result;
use tokio::sync::mpsc::UnboundedSender;

use super::{
    Progress,
    pages::{EC2_PAGES, Pages},
    query::{Ec2Filter, Query},
};
use crate::aws::Aws;

/// The most that DescribeInstances gives a page.
const PAGE: i32 = 1000;
/// Calls at the same time, where patterns of several kinds take several.
const CALLS: usize = 4;

/// Everything in `region` that answers to `query`, by one call per kind of pattern. The ids of each
/// page go to `ids` at once, so that Systems Manager is asked about them while the next page is on
/// its way.
pub(super) async fn instances(
    aws: &Aws,
    region: &str,
    query: &Query,
    progress: &Progress,
    ids: Option<UnboundedSender<Vec<String>>>,
) -> Result<Vec<Instance>> {
    let calls = query.calls();
    let ids = ids.as_ref();
    if let [only] = calls.as_slice() {
        return pages(aws, region, only, query, progress, ids).await;
    }
    let mut found = stream::iter(calls)
        .map(|filters| async move { pages(aws, region, &filters, query, progress, ids).await })
        .buffer_unordered(CALLS);
    // A machine may answer to two of the patterns, by name and by address.
    let mut known = HashSet::new();
    let mut rows: Vec<Instance> = Vec::new();
    while let Some(part) = found.next().await {
        rows.extend(part?.into_iter().filter(|row| known.insert(row.id.clone())));
    }
    Ok(rows)
}

async fn pages(
    aws: &Aws,
    region: &str,
    filters: &[Ec2Filter],
    query: &Query,
    progress: &Progress,
    ids: Option<&UnboundedSender<Vec<String>>>,
) -> Result<Vec<Instance>> {
    let client = aws.clients(region).ec2;
    let filters: Vec<Filter> = filters
        .iter()
        .map(|filter| {
            Filter::builder()
                .name(&filter.name)
                .set_values(Some(filter.values.clone()))
                .build()
        })
        .collect();
    let filters = (!filters.is_empty()).then_some(filters);
    let mut rows: Vec<Instance> = Vec::new();
    let mut following = Pages::of("ec2:DescribeInstances", EC2_PAGES);
    let mut token = None;
    loop {
        let page = client
            .describe_instances()
            .max_results(PAGE)
            .set_filters(filters.clone())
            .set_next_token(token)
            .send()
            .await
            .map_err(|error| {
                aws.call("ec2:DescribeInstances", None, region)
                    .failed(format!("cannot list the instances in `{region}`"), &error)
            })?;
        progress.page();
        let known = rows.len();
        for reservation in page.reservations.unwrap_or_default() {
            for instance in reservation.instances.unwrap_or_default() {
                let Some(mut row) = row(instance, region, query) else {
                    continue;
                };
                // EC2's filters are wider than what is asked: they know no negation, and a `*` in a
                // name means something to them.
                if query.matches(&row) {
                    query.trim(&mut row);
                    following.hold(&row)?;
                    rows.push(row);
                }
            }
        }
        progress.rows(&rows[known..]);
        if let Some(ids) = ids {
            // Nobody may be listening any more: then the state of agents is known already, or
            // nobody could tell it.
            let _ = ids.send(rows[known..].iter().map(|row| row.id.clone()).collect());
        }
        token = following.next(page.next_token)?;
        if token.is_none() {
            return Ok(rows);
        }
    }
}

fn row(instance: Ec2Instance, region: &str, query: &Query) -> Option<Instance> {
    // An id goes into ssh configurations and command lines: what is none is no instance of ours,
    // whoever answered.
    let id = instance.instance_id.filter(|id| is_instance_id(id))?;
    let tags = instance
        .tags
        .unwrap_or_default()
        .into_iter()
        .filter_map(|tag| Some((tag.key?, tag.value.unwrap_or_default())))
        .collect();
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
    let mut row = Instance {
        kind: Kind::Ec2,
        state: instance
            .state
            .and_then(|state| state.name)
            // EC2 always tells it. What has no state cannot be opened, whatever it is.
            .map_or(InstanceState::Terminated, |name| state_of(&name)),
        ping: Ping::Unknown,
        zone: instance
            .placement
            .and_then(|placement| placement.availability_zone),
        instance_type: instance.instance_type.map(|name| name.as_str().to_owned()),
        private_ip: filled(instance.private_ip_address),
        private_dns: filled(instance.private_dns_name),
        public_ip: filled(instance.public_ip_address),
        vpc: filled(instance.vpc_id),
        platform: filled(instance.platform_details),
        image: filled(instance.image_id),
        launched: instance.launch_time.and_then(|time| timestamp(&time)),
        tags,
        ..Instance::bare(id, region)
    };
    row.name = row
        .tags
        .get(&query.naming.tag)
        .filter(|name| !name.is_empty())
        .map(|name| query.naming.name(name).to_owned());
    Some(row)
}

pub(crate) fn state_of(name: &InstanceStateName) -> InstanceState {
    match name {
        InstanceStateName::Pending => InstanceState::Pending,
        InstanceStateName::Running => InstanceState::Running,
        InstanceStateName::Stopping => InstanceState::Stopping,
        InstanceStateName::Stopped => InstanceState::Stopped,
        InstanceStateName::ShuttingDown => InstanceState::ShuttingDown,
        _ => InstanceState::Terminated,
    }
}

/// The SDK's time as ours; `None` for one out of range.
pub(super) fn timestamp(time: &aws_smithy_types::DateTime) -> Option<Timestamp> {
    Timestamp::new(time.secs(), i32::try_from(time.subsec_nanos()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_instance_id_is_no_row() {
        let row_of = |id: &str| {
            let instance = Ec2Instance::builder().instance_id(id).build();
            row(instance, "eu-west-1", &Query::default()).map(|row| row.id)
        };
        for id in ["i-0a1b2c3d4e5f60718", "i-0a1b2c3d"] {
            assert_eq!(row_of(id).as_deref(), Some(id));
        }
        for id in [
            "",
            "i-",
            "i-0a1b2c3d4e5f60718\n  ProxyCommand touch /tmp/x",
            "-oProxyCommand=x",
            "i-0A1B2C3D",
            "i-0a1b2c3d4e5f607180",
            "i-0a1b2c3d$(x)",
        ] {
            assert_eq!(row_of(id), None, "{id:?}");
        }
    }
}
