//! Which instances there are: EC2 and SSM asked side by side, several regions at the same time.

mod ec2;
mod managed;
mod pages;
mod query;
mod states;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use ops_profile::{Instance, Ping};
use ops_ui::{Error, ErrorKind, Output, Result, output::Spinner};
use tokio::{sync::mpsc, time::Instant};

pub(crate) use self::pages::Pages;
pub use self::query::{Ec2Filter, FilterError, Naming, Query, TagFilter};
pub use self::states::StateFilter;
pub(crate) use self::{
    ec2::state_of,
    managed::{ping_of, platform_of},
    query::{answers_to, has_address},
};
use self::{
    managed::{AgentSelection, AgentsSoFar, PAGE_LEN},
    pages::LIST_LIMIT,
};
use crate::aws::{Aws, CallPlace};

/// How long Systems Manager may give no answer, once EC2 has told everything, before the list comes
/// without the rest of it.
const SSM_PATIENCE: Duration = Duration::from_secs(6);

/// A list and what it lacks.
#[derive(Debug, Default)]
pub struct Listing {
    /// The instances, in no order.
    pub instances: Vec<Instance>,
    /// Regions that could not be listed, each with its error.
    pub failures: Vec<(String, Error)>,
    /// What the reader should know: why the state of agents is missing.
    pub notes: Vec<String>,
    /// How many regions were asked.
    pub regions: usize,
}

impl Listing {
    /// The error to end with after the list has been shown: that of the only region, or one that
    /// counts them (exit 8). `None` if all went well.
    pub fn into_failure(mut self) -> Option<Error> {
        let failed = self.failures.len();
        if failed == 0 {
            return None;
        }
        if self.regions == 1 {
            return self.failures.pop().map(|(_, error)| error);
        }
        // One exit code for all of them, where they failed alike: nobody who may not list anything
        // should have to read "partial".
        let same_kind = self.failures.iter().map(|(_, error)| error.kind());
        let kind = if failed == self.regions {
            let first = self.failures[0].1.kind();
            if same_kind.into_iter().all(|kind| kind == first) {
                first
            } else {
                ErrorKind::Partial
            }
        } else {
            ErrorKind::Partial
        };
        let mut error = Error::new(
            kind,
            format!("{failed} of {} regions could not be listed", self.regions),
        );
        for (region, failure) in &self.failures {
            error = error.caused_by(format!("{region}: {failure}"));
        }
        if let Some(hint) = self.failures[0].1.hints().first() {
            error = error.hint(hint);
        }
        Some(error)
    }
}

/// Pages fetched so far, shown while a list takes long; or handed on, page by page, to somebody who
/// shows the list itself.
pub(crate) struct Progress {
    pages: AtomicUsize,
    shown: Shown,
}

/// Where a list is seen while it grows.
enum Shown {
    Spinner(Spinner),
    Rows(mpsc::UnboundedSender<Vec<Instance>>),
}

impl Progress {
    fn new(output: &Output) -> Self {
        Self {
            pages: AtomicUsize::new(0),
            shown: Shown::Spinner(output.spinner("listing instances")),
        }
    }

    fn to(rows: mpsc::UnboundedSender<Vec<Instance>>) -> Self {
        Self {
            pages: AtomicUsize::new(0),
            shown: Shown::Rows(rows),
        }
    }

    fn page(&self) {
        let pages = self.pages.fetch_add(1, Ordering::Relaxed) + 1;
        if let Shown::Spinner(spinner) = &self.shown {
            spinner.say(format!("listing instances, page {pages}"));
        }
    }

    /// `rows` have come with a page.
    fn rows(&self, rows: &[Instance]) {
        if let Shown::Rows(shown) = &self.shown {
            // Whoever has seen enough does not listen any more.
            let _ = shown.send(rows.to_vec());
        }
    }
}

/// EC2 and SSM as one list of instances.
pub(crate) struct Inventory<'a> {
    pub(crate) aws: &'a Aws,
    pub(crate) output: &'a Output,
    /// `--timeout`: the longest that a list may take, where that is less than [`LIST_LIMIT`].
    pub(crate) timeout: Option<Duration>,
}

impl Inventory<'_> {
    /// The instances of `regions` that answer to `query`. A region that fails is reported in the
    /// listing, not as an error.
    ///
    /// # Errors
    /// What concerns every region alike: no credentials, an unusable configuration.
    pub(crate) async fn list(&self, query: &Query, regions: &[String]) -> Result<Listing> {
        // Before the regions: each of them would report the same missing credentials.
        self.aws.credentials().await?;
        self.list_with(query, regions, Progress::new(self.output))
            .await
    }

    /// As [`Self::list`], with the rows of EC2 in `rows` too, as soon as the page has come on which
    /// they are, and nothing drawn. Nothing is known of their agents by then.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub(crate) async fn list_into(
        &self,
        query: &Query,
        regions: &[String],
        rows: mpsc::UnboundedSender<Vec<Instance>>,
    ) -> Result<Listing> {
        self.list_with(query, regions, Progress::to(rows)).await
    }

    async fn list_with(
        &self,
        query: &Query,
        regions: &[String],
        progress: Progress,
    ) -> Result<Listing> {
        let lists = futures_util::future::join_all(
            regions
                .iter()
                .map(|region| self.list_region(query, region, &progress)),
        )
        .await;
        let mut listing = Listing {
            regions: regions.len(),
            ..Listing::default()
        };
        let mut silent: Vec<(String, &str)> = Vec::new();
        for (region, result) in regions.iter().zip(lists) {
            match result {
                Ok((rows, note)) => {
                    // Mostly there is one region, whose rows need not be moved.
                    if listing.instances.is_empty() {
                        listing.instances = rows;
                    } else {
                        listing.instances.extend(rows);
                    }
                    if let Some(why) = note {
                        silent.push((why, region));
                    }
                }
                Err(error) => listing.failures.push((region.clone(), error)),
            }
        }
        if let Some((why, _)) = silent.first() {
            let names: Vec<&str> = silent.iter().map(|(_, region)| *region).collect();
            listing.notes.push(format!(
                "agents and hybrid nodes are not all known in {}: {why}",
                names.join(", ")
            ));
        }
        Ok(listing)
    }

    /// One region's rows, and why agents are unknown if they are.
    async fn list_region(
        &self,
        query: &Query,
        region: &str,
        progress: &Progress,
    ) -> Result<(Vec<Instance>, Option<String>)> {
        let (aws, timeout) = (self.aws, self.timeout);
        let limit = timeout.unwrap_or(LIST_LIMIT).min(LIST_LIMIT);
        let deadline = Instant::now() + limit;
        let too_slow = || list_too_slow(&aws.place(Some(region)), region, limit, timeout);
        let heard = AgentsSoFar::default();
        // Unbounded: what goes through it are ids of rows that are held anyway.
        let (ids, rows_to_ask) = mpsc::unbounded_channel();
        let wants_hybrid = query.wants_hybrid();
        let mut agents = std::pin::pin!(async {
            if query.reach {
                let narrow = query.is_narrow();
                let asking = managed::ask_as_rows_come(
                    aws,
                    region,
                    rows_to_ask,
                    wants_hybrid,
                    narrow,
                    &heard,
                    progress,
                );
                asking.await
            } else if wants_hybrid {
                // Hybrid nodes are rows of the list, and EC2 does not know them.
                let asking = managed::ask(aws, region, AgentSelection::Hybrid, &heard, progress);
                asking.await.map(drop)
            } else {
                Ok(())
            }
        });
        let listing = ec2::instances(aws, region, query, progress, query.reach.then_some(ids));
        // EC2 decides whether there is a list; Systems Manager only adds to it. A failure of the
        // second is therefore kept as the reason for what is unknown, and never ends the first.
        let (mut rows, early) = {
            let mut listing = std::pin::pin!(tokio::time::timeout_at(deadline, listing));
            let mut early = None;
            let listed = loop {
                tokio::select! {
                    listed = &mut listing => break listed,
                    outcome = &mut agents, if early.is_none() => early = Some(outcome),
                }
            };
            (listed.map_err(|_| too_slow())??, early)
        };
        let told = match early {
            Some(outcome) => AgentCoverage::of(outcome),
            // What has been heard until one of these ends is used: `heard` is filled page by page.
            None => tokio::select! {
                outcome = &mut agents => AgentCoverage::of(outcome),
                () = heard.silent_for(SSM_PATIENCE) => AgentCoverage::silent(SSM_PATIENCE),
                () = tokio::time::sleep_until(deadline) => AgentCoverage::silent(limit),
            },
        };
        if query.reach {
            heard.apply(&mut rows, told.is_complete());
        }
        if wants_hybrid {
            let nodes = managed::hybrid(aws, region, query, &heard);
            let nodes = tokio::time::timeout_at(deadline, nodes).await;
            rows.extend(nodes.map_err(|_| too_slow())?);
        }
        let note = told.why.map(|why| {
            let unknown = rows.iter().filter(|row| row.ping == Ping::Unknown).count();
            match query.reach {
                true => format!("{why}; {unknown} of {} are unknown", rows.len()),
                false => why,
            }
        });
        Ok((rows, note))
    }

    /// `instances` with what SSM knows of their agents. Those about which it does not answer in
    /// time stay as they are.
    pub(crate) async fn with_agents(&self, mut instances: Vec<Instance>) -> Vec<Instance> {
        let mut by_region: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for one in instances.iter().filter(|one| one.ping == Ping::Unknown) {
            let ids = by_region.entry(one.region.clone()).or_default();
            ids.push(one.id.clone());
        }
        let groups: Vec<(&str, &[String])> = by_region
            .iter()
            .flat_map(|(region, ids)| ids.chunks(PAGE_LEN).map(|ids| (region.as_str(), ids)))
            .collect();
        let calls = groups
            .iter()
            .map(|(region, ids)| self.agents_of(region, ids.to_vec()));
        let answers = futures_util::future::join_all(calls).await;
        for ((_, ids), heard) in groups.iter().zip(answers) {
            let Some(heard) = heard else { continue };
            // Of these alone the answer is complete: whoever is not in it has no agent.
            for row in instances.iter_mut().filter(|row| ids.contains(&row.id)) {
                heard.apply(std::slice::from_mut(row), true);
            }
        }
        instances
    }

    /// What SSM knows of the agents of these instances of a region; `None` where it does not say.
    async fn agents_of(&self, region: &str, ids: Vec<String>) -> Option<AgentsSoFar> {
        let heard = AgentsSoFar::default();
        // Nothing is drawn: a list is on the terminal.
        let (rows, _) = mpsc::unbounded_channel();
        let progress = Progress::to(rows);
        let asking = managed::ask(
            self.aws,
            region,
            AgentSelection::Ids(ids),
            &heard,
            &progress,
        );
        let answered = tokio::time::timeout(SSM_PATIENCE, asking).await;
        answered.ok()?.ok().map(|_| heard)
    }

    /// `instance` with what SSM knows of its agent now: ping, version, and the platform as the
    /// agent names it.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] and whatever else DescribeInstanceInformation fails with.
    pub(crate) async fn ask_agent(&self, instance: &Instance) -> Result<Instance> {
        let heard = AgentsSoFar::default();
        let progress = Progress::new(self.output);
        let which = AgentSelection::Ids(vec![instance.id.clone()]);
        managed::ask(self.aws, &instance.region, which, &heard, &progress).await?;
        if let Some(node) = heard.take_hybrid().pop() {
            // Its tags and name take a call of their own, and were read when it was listed.
            return Ok(Instance {
                ping: node.ping,
                agent_version: node.agent_version,
                platform: node.platform,
                ..instance.clone()
            });
        }
        let mut rows = [instance.clone()];
        heard.apply(&mut rows, true);
        let [row] = rows;
        Ok(row)
    }
}

/// How far Systems Manager has told of the agents.
struct AgentCoverage {
    /// Why it has not told everything; `None` where it has.
    why: Option<String>,
}

impl AgentCoverage {
    fn of(outcome: Result<()>) -> Self {
        Self {
            why: outcome.err().map(|error| {
                error
                    .why()
                    .first()
                    .map_or_else(|| error.to_string(), ToString::to_string)
            }),
        }
    }

    fn silent(patience: Duration) -> Self {
        Self {
            why: Some(format!("Systems Manager gave no answer for {patience:?}")),
        }
    }

    fn is_complete(&self) -> bool {
        self.why.is_none()
    }
}

/// The list of `region` took longer than `limit`, which is `--timeout` where that is given.
fn list_too_slow(
    place: &CallPlace,
    region: &str,
    limit: Duration,
    timeout: Option<Duration>,
) -> Error {
    let what = format!("the list of instances in `{region}` was not complete within {limit:?}");
    match timeout {
        Some(_) => place.with_last_try(
            Error::new(ErrorKind::Timeout, what).caused_by("--timeout was reached"),
            "give it longer: --timeout 2m, or narrow the list by a pattern, --tag or --filter",
        ),
        None => place.with_last_try(
            Error::unexpected(what).caused_by("ec2:DescribeInstances has pages upon pages"),
            "narrow the list by a pattern, --tag or --filter",
        ),
    }
}

impl Query {
    /// Whether tags decide what matches.
    fn needs_tags(&self) -> bool {
        !self.tags.is_empty()
            || !self.select.tags.is_empty()
            || !self.select.exclude_tags.is_empty()
            || self
                .patterns
                .iter()
                .any(|pattern| matches!(pattern, ops_profile::Selector::Tag { .. }))
    }

    /// Drops the tags that nobody will look at.
    fn trim(&self, row: &mut Instance) {
        if let Some(keep) = &self.keep_tags {
            row.tags
                .retain(|key, _| keep.iter().any(|kept| kept.eq_ignore_ascii_case(key)));
        }
    }
}
