//! DescribeInstanceInformation: which agents report, and the hybrid nodes that only SSM knows.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_sdk_ssm::types::{
    InstanceInformation, InstanceInformationStringFilter, PingStatus, ResourceType,
    ResourceTypeForTagging,
};
use futures_util::{
    StreamExt as _,
    stream::{self, FuturesUnordered},
};
use ops_profile::{Instance, InstanceState, Kind, Ping, target::is_instance_id};
use ops_ui::Result;
use tokio::{sync::mpsc::UnboundedReceiver, time::Instant};

use super::{
    Progress,
    ec2::timestamp,
    pages::{Pages, SSM_PAGES},
    query::Query,
};
use crate::aws::Aws;

/// The most that DescribeInstanceInformation gives a page.
const PAGE: i32 = 50;
/// The same as a length.
pub(super) const PAGE_LEN: usize = 50;
/// Calls by id at the same time. The service's quota for them is not documented; a call that is
/// throttled is made again by the SDK.
const ID_CALLS: usize = 8;
/// Calls for the tags of hybrid nodes at the same time; each node takes one.
const TAG_CALLS: usize = 8;
/// Tags of more hybrid nodes are read only where a condition needs them.
const TAGS_WITHOUT_NEED: usize = 50;

/// What SSM says of one agent.
#[derive(Clone, Debug)]
pub(super) struct Agent {
    pub(super) ping: Ping,
    pub(super) version: Option<Arc<str>>,
    pub(super) platform: Option<Arc<str>>,
}

/// What has been heard so far; filled by a task that may be given up.
#[derive(Default)]
pub(super) struct AgentsSoFar(Mutex<AgentsFound>);

#[derive(Default)]
struct AgentsFound {
    agents: HashMap<String, Agent>,
    hybrid: Vec<Instance>,
    /// Versions and platforms are the same few texts over and over.
    texts: HashMap<String, Arc<str>>,
    /// When the service last answered.
    answered: Option<Instant>,
    /// How many of `hybrid` have been counted into the bound of the list.
    counted: usize,
}

impl AgentsSoFar {
    fn lock(&self) -> MutexGuard<'_, AgentsFound> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is known into `rows`; whoever is missing has no agent if `complete`, else
    /// nothing is known.
    pub(super) fn apply(&self, rows: &mut [Instance], complete: bool) {
        let parts = self.lock();
        for row in rows {
            match parts.agents.get(&row.id) {
                Some(agent) => {
                    row.ping = agent.ping;
                    row.agent_version = agent.version.as_deref().map(str::to_owned);
                    if let Some(platform) = &agent.platform {
                        row.platform = Some(platform.to_string());
                    }
                }
                // An agent that has never reported is in no page, so that only the end of the pages
                // tells it from one that was not reached.
                None if complete => row.ping = Ping::NoAgent,
                None => {}
            }
        }
    }

    /// The hybrid nodes heard of.
    pub(super) fn take_hybrid(&self) -> Vec<Instance> {
        let mut parts = self.lock();
        parts.counted = 0;
        std::mem::take(&mut parts.hybrid)
    }

    /// Whether the agent on `id` is known.
    fn has(&self, id: &str) -> bool {
        self.lock().agents.contains_key(id)
    }

    /// Ends once the service has given no answer for `patience`, counted from now at the earliest.
    pub(super) async fn silent_for(&self, patience: Duration) {
        let mut since = Instant::now();
        loop {
            tokio::time::sleep_until(since + patience).await;
            // Each page is an answer: a long list is no silence.
            match self.lock().answered {
                Some(answered) if answered > since => since = answered,
                _ => return,
            }
        }
    }

    /// Counts the nodes that came since the last call.
    fn within_bounds(&self, following: &mut Pages) -> Result<()> {
        let mut parts = self.lock();
        let counted = parts.counted;
        for node in &parts.hybrid[counted.min(parts.hybrid.len())..] {
            following.hold(node)?;
        }
        parts.counted = parts.hybrid.len();
        Ok(())
    }

    fn add(&self, information: Vec<InstanceInformation>, region: &str) {
        let mut parts = self.lock();
        parts.answered = Some(Instant::now());
        for one in information {
            // As for EC2: what is no id is no instance.
            let Some(id) = one.instance_id.clone().filter(|id| is_instance_id(id)) else {
                continue;
            };
            // Every member of the answer is optional; the id of a hybrid node begins with `mi-`.
            if one.resource_type == Some(ResourceType::ManagedInstance) || id.starts_with("mi-") {
                let row = hybrid_row(id, one, region);
                parts.hybrid.push(row);
            } else {
                let agent = Agent {
                    ping: ping_of(&one),
                    platform: platform_of(&one).map(|text| parts.intern(text)),
                    version: one
                        .agent_version
                        .filter(|text| !text.is_empty())
                        .map(|text| parts.intern(text)),
                };
                parts.agents.insert(id, agent);
            }
        }
    }
}

impl AgentsFound {
    fn intern(&mut self, text: String) -> Arc<str> {
        if let Some(known) = self.texts.get(&text) {
            return known.clone();
        }
        let shared: Arc<str> = text.as_str().into();
        self.texts.insert(text, shared.clone());
        shared
    }
}

/// Which agents to ask about.
#[derive(Clone, Debug)]
pub(super) enum AgentSelection {
    /// Fifty of all, whichever the service names first.
    First,
    Hybrid,
    /// At most fifty.
    Ids(Vec<String>),
}

/// Asks about `which`, page by page, into `heard`; gives whether there are no more pages.
pub(super) async fn ask(
    aws: &Aws,
    region: &str,
    which: AgentSelection,
    heard: &AgentsSoFar,
    progress: &Progress,
) -> Result<bool> {
    let filter = |key: &str, values: Vec<String>| {
        InstanceInformationStringFilter::builder()
            .key(key)
            .set_values(Some(values))
            .build()
            .ok()
    };
    let filters = match &which {
        AgentSelection::First => None,
        AgentSelection::Hybrid => filter("ResourceType", vec!["ManagedInstance".to_owned()]),
        AgentSelection::Ids(ids) => filter("InstanceIds", ids.clone()),
    }
    .map(|filter| vec![filter]);
    let client = aws.clients(region).ssm;
    let mut following = Pages::of("ssm:DescribeInstanceInformation", SSM_PAGES);
    let mut token = None;
    loop {
        let page = client
            .describe_instance_information()
            .max_results(PAGE)
            .set_filters(filters.clone())
            .set_next_token(token)
            .send()
            .await
            .map_err(|error| {
                aws.call("ssm:DescribeInstanceInformation", None, region)
                    .failed(
                        format!("cannot ask which agents report in `{region}`"),
                        &error,
                    )
            })?;
        progress.page();
        heard.add(page.instance_information_list.unwrap_or_default(), region);
        token = following.next(page.next_token)?;
        if token.is_none() {
            return Ok(true);
        }
        // Another page would follow; asking by id is quicker from here on.
        if matches!(which, AgentSelection::First) {
            return Ok(false);
        }
        heard.within_bounds(&mut following)?;
    }
}

/// Asks about the agents of the instances whose ids come by `ids` while EC2 still lists, and about
/// hybrid nodes if `wants_hybrid`.
///
/// The pages of a list of all agents come one after another, fifty each: 2,400 of them take twelve
/// seconds where a page takes a quarter of one. Asked by id, [`ID_CALLS`] pages come at the same
/// time. An account of up to fifty agents is known by one page of all, which is asked for beside
/// EC2; `is_narrow` says that few ids are to be expected, so that this page is not waited for once
/// they are there.
pub(super) async fn ask_as_rows_come(
    aws: &Aws,
    region: &str,
    mut ids: UnboundedReceiver<Vec<String>>,
    wants_hybrid: bool,
    is_narrow: bool,
    heard: &AgentsSoFar,
    progress: &Progress,
) -> Result<()> {
    let mut waiting: Vec<String> = Vec::new();
    let mut are_all_there = false;
    {
        let mut first = std::pin::pin!(ask(aws, region, AgentSelection::First, heard, progress));
        loop {
            tokio::select! {
                is_complete = &mut first => match is_complete? {
                    true => return Ok(()),
                    false => break,
                },
                more = ids.recv(), if !are_all_there => match more {
                    Some(more) => waiting.extend(more),
                    None => {
                        are_all_there = true;
                        // One call by id answers for them. Without a condition the page of all may
                        // still turn out to be the only one, which saves that call.
                        if is_narrow && waiting.len() <= PAGE_LEN {
                            break;
                        }
                    }
                },
            }
        }
    }
    // Those of the page of all come again.
    heard.take_hybrid();
    let by_id = async {
        let mut calls = FuturesUnordered::new();
        loop {
            // The page of all has told of some already.
            waiting.retain(|id| !heard.has(id));
            // Full pages while ids still come, since every call costs the same; what is left over
            // goes once they have all come.
            while calls.len() < ID_CALLS
                && (waiting.len() >= PAGE_LEN || are_all_there && !waiting.is_empty())
            {
                // From the end, which moves nothing; in which order they are asked is all the same.
                let chunk = waiting.split_off(waiting.len().saturating_sub(PAGE_LEN));
                calls.push(ask(
                    aws,
                    region,
                    AgentSelection::Ids(chunk),
                    heard,
                    progress,
                ));
            }
            tokio::select! {
                Some(result) = calls.next(), if !calls.is_empty() => {
                    result?;
                }
                more = ids.recv(), if !are_all_there => match more {
                    Some(more) => waiting.extend(more),
                    None => are_all_there = true,
                },
                else => return Ok(()),
            }
        }
    };
    let nodes = async {
        if wants_hybrid {
            ask(aws, region, AgentSelection::Hybrid, heard, progress).await?;
        }
        Ok(())
    };
    futures_util::future::try_join(by_id, nodes)
        .await
        .map(|_| ())
}

/// Of the hybrid nodes in `heard` those that answer to `query`, with their tags. Tags that cannot
/// be read count as none.
pub(super) async fn hybrid(
    aws: &Aws,
    region: &str,
    query: &Query,
    heard: &AgentsSoFar,
) -> Vec<Instance> {
    let nodes = heard.take_hybrid();
    let need = query.needs_tags();
    // A call for each node: where no tag decides anything, a long list goes without them.
    let nodes = if need || nodes.len() <= TAGS_WITHOUT_NEED {
        stream::iter(nodes)
            .map(|node| with_tags(aws, region, node, query))
            .buffered(TAG_CALLS)
            .collect()
            .await
    } else {
        nodes
    };
    nodes
        .into_iter()
        .filter(|node| query.matches(node))
        .map(|mut node| {
            query.trim(&mut node);
            node
        })
        .collect()
}

async fn with_tags(aws: &Aws, region: &str, mut node: Instance, query: &Query) -> Instance {
    let answer = aws
        .clients(region)
        .ssm
        .list_tags_for_resource()
        .resource_type(ResourceTypeForTagging::ManagedInstance)
        .resource_id(&node.id)
        .send()
        .await;
    match answer {
        Ok(answer) => {
            node.tags = answer
                .tag_list
                .unwrap_or_default()
                .into_iter()
                .map(|tag| (tag.key, tag.value))
                .collect();
            if let Some(name) = node
                .tags
                .get(&query.naming.tag)
                .filter(|name| !name.is_empty())
            {
                node.name = Some(query.naming.name(name).to_owned());
            }
        }
        // Many roles may list nodes and not read their tags. The node is shown by its computer's
        // name then.
        Err(error) => {
            let words = aws
                .call("ssm:ListTagsForResource", Some(node.id.clone()), region)
                .failed("the tags of a hybrid node are unknown", &error);
            tracing::info!(node = node.id, error = %words);
        }
    }
    node
}

fn hybrid_row(id: String, one: InstanceInformation, region: &str) -> Instance {
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
    let ping = ping_of(&one);
    let platform = platform_of(&one);
    let computer_name = filled(one.computer_name);
    Instance {
        name: filled(one.name).or_else(|| computer_name.clone()),
        kind: Kind::Hybrid,
        // Nobody tells whether the machine is on; what reports is.
        state: InstanceState::Running,
        ping,
        private_ip: filled(one.ip_address),
        private_dns: computer_name,
        platform,
        agent_version: filled(one.agent_version),
        launched: one.registration_date.and_then(|time| timestamp(&time)),
        ..Instance::bare(id, region)
    }
}

pub(crate) fn ping_of(one: &InstanceInformation) -> Ping {
    match one.ping_status {
        Some(PingStatus::Online) => Ping::Online,
        _ => Ping::Lost {
            last: one.last_ping_date_time.as_ref().and_then(timestamp),
        },
    }
}

pub(crate) fn platform_of(one: &InstanceInformation) -> Option<String> {
    let name = one
        .platform_name
        .as_deref()
        .filter(|name| !name.is_empty())?;
    Some(match one.platform_version.as_deref() {
        Some(version) if !version.is_empty() => format!("{name} {version}"),
        _ => name.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_instance_id_is_neither_an_agent_nor_a_node() {
        let heard = AgentsSoFar::default();
        let ids = [
            "mi-0a4b5c6d7e8f90123",
            "mi-0a4b5c6d7e8f90123\nHost *",
            "mi-*",
            "i-0a1b2c3d4e5f60718",
            "i-x",
        ];
        let information = ids.map(|id| InstanceInformation::builder().instance_id(id).build());
        heard.add(information.to_vec(), "eu-west-1");
        let hybrid: Vec<String> = heard.take_hybrid().into_iter().map(|row| row.id).collect();
        assert_eq!(hybrid, ["mi-0a4b5c6d7e8f90123"]);
        let agents: Vec<String> = heard.lock().agents.keys().cloned().collect();
        assert_eq!(agents, ["i-0a1b2c3d4e5f60718"]);
    }
}
