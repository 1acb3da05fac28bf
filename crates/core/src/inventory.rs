//! Which instances there are: EC2 and SSM asked side by side, several regions at the same time.

mod ec2;
mod managed;
mod query;
mod states;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use self::managed::{Heard, Which};
pub use self::query::{Ec2Filter, FilterError, Naming, Query, TagFilter, platform_of};
pub(crate) use self::query::{answers_to, has_address};
pub use self::states::StateFilter;
use crate::{
    context::Context,
    error::{Error, ErrorKind, Result},
    instance::{Instance, Ping},
    output::Spinner,
};

/// How much longer than EC2 SSM may take for a list, before the list comes without the rest of it.
const SSM_PATIENCE: Duration = Duration::from_secs(6);
/// Up to so many instances, asking by id is quicker than the rest of a list of all agents.
const BY_ID_LIMIT: usize = 200;

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
    /// The error to end with after the list has been shown: that of the only region, or one that counts them (exit 8). `None` if all went well.
    pub fn into_failure(mut self) -> Option<Error> {
        let failed = self.failures.len();
        if failed == 0 {
            return None;
        }
        if self.regions == 1 {
            return self.failures.pop().map(|(_, error)| error);
        }
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

/// Pages fetched so far, shown while a list takes long.
pub(crate) struct Progress {
    pages: AtomicUsize,
    spinner: Spinner,
}

impl Progress {
    fn new(cx: &Context) -> Self {
        Self {
            pages: AtomicUsize::new(0),
            spinner: cx.output().spinner("listing instances"),
        }
    }

    fn page(&self) {
        let pages = self.pages.fetch_add(1, Ordering::Relaxed) + 1;
        self.spinner.say(format!("listing instances, page {pages}"));
    }
}

impl Context {
    /// The instances of `regions` that answer to `query`. A region that fails is reported in the listing, not as an error.
    ///
    /// # Errors
    /// What concerns every region alike: no credentials, an unusable configuration.
    pub async fn list(&self, query: &Query, regions: &[String]) -> Result<Listing> {
        self.aws().await?.credentials().await?;
        let progress = Arc::new(Progress::new(self));
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
        progress: &Arc<Progress>,
    ) -> Result<(Vec<Instance>, Option<String>)> {
        let aws = self.aws().await?;
        let wants_hybrid = query.wants_hybrid();
        let heard = Arc::new(Heard::default());
        let all = (query.reach || wants_hybrid).then(|| {
            let which = if query.reach {
                Which::All
            } else {
                Which::Hybrid
            };
            let (cx, region) = (self.clone(), region.to_owned());
            let (heard, progress) = (heard.clone(), progress.clone());
            // A task of its own, so that it can be given up.
            AbortOnDrop(tokio::spawn(async move {
                let aws = cx.aws().await?;
                managed::ask(aws, &region, &which, &heard, &progress).await
            }))
        });
        let mut rows = ec2::instances(aws, region, query, progress).await?;
        let Some(mut all) = all else {
            return Ok((rows, None));
        };
        let by_id =
            query.reach && query.is_narrow() && rows.len() <= BY_ID_LIMIT && !all.0.is_finished();
        if by_id {
            drop(all);
            let note = self
                .agents_by_id(query, region, &mut rows, progress)
                .await?;
            return Ok((rows, note));
        }
        let result = tokio::time::timeout(SSM_PATIENCE, &mut all.0).await.ok();
        let (complete, note) = outcome(result.map(|joined| match joined {
            Ok(result) => result,
            Err(_) => Err(Error::unexpected("asking Systems Manager failed")),
        }));
        drop(all);
        if query.reach {
            heard.apply(&mut rows, complete);
        }
        if wants_hybrid {
            rows.extend(managed::hybrid(aws, region, query, &heard).await);
        }
        Ok((rows, note))
    }

    /// Asks SSM about `rows` and the hybrid nodes alone.
    async fn agents_by_id(
        &self,
        query: &Query,
        region: &str,
        rows: &mut Vec<Instance>,
        progress: &Progress,
    ) -> Result<Option<String>> {
        let aws = self.aws().await?;
        let wants_hybrid = query.wants_hybrid();
        let heard = Heard::default();
        let ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
        let asked = tokio::time::timeout(SSM_PATIENCE, async {
            let by_id = managed::ask_ids(aws, region, &ids, &heard, progress);
            let nodes = async {
                if wants_hybrid {
                    managed::ask(aws, region, &Which::Hybrid, &heard, progress).await?;
                }
                Ok(())
            };
            futures_util::future::try_join(by_id, nodes)
                .await
                .map(|_| ())
        })
        .await;
        let (complete, note) = outcome(asked.ok());
        heard.apply(rows, complete);
        if wants_hybrid {
            rows.extend(managed::hybrid(aws, region, query, &heard).await);
        }
        Ok(note)
    }

    /// What SSM knows of one agent now; `None` where it cannot be asked.
    pub async fn ping_of(&self, instance: &Instance) -> Option<Ping> {
        self.with_agent(instance).await.map(|known| known.ping)
    }

    /// `instance` with what SSM knows of its agent now: ping, version, and the platform as the agent names it. `None` where it cannot be asked.
    pub async fn with_agent(&self, instance: &Instance) -> Option<Instance> {
        let aws = self.aws().await.ok()?;
        let heard = Heard::default();
        let progress = Progress::new(self);
        let which = Which::Ids(vec![instance.id.clone()]);
        managed::ask(aws, &instance.region, &which, &heard, &progress)
            .await
            .ok()?;
        if let Some(node) = heard.take_hybrid().pop() {
            return Some(Instance {
                ping: node.ping,
                agent_version: node.agent_version,
                platform: node.platform,
                ..instance.clone()
            });
        }
        let mut rows = [instance.clone()];
        heard.apply(&mut rows, true);
        let [row] = rows;
        Some(row)
    }
}

/// Whether SSM told everything, and if not, why.
fn outcome(result: Option<Result<()>>) -> (bool, Option<String>) {
    match result {
        Some(Ok(())) => (true, None),
        Some(Err(error)) => (
            false,
            Some(
                error
                    .why()
                    .first()
                    .map_or_else(|| error.to_string(), ToString::to_string),
            ),
        ),
        None => (
            false,
            Some(format!(
                "Systems Manager took more than {} s longer than EC2",
                SSM_PATIENCE.as_secs()
            )),
        ),
    }
}

/// A task that ends with its owner.
struct AbortOnDrop(tokio::task::JoinHandle<Result<()>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
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
                .any(|pattern| matches!(pattern, crate::target::Selector::Tag { .. }))
    }

    /// Drops the tags that nobody will look at.
    fn trim(&self, row: &mut Instance) {
        if let Some(keep) = &self.keep_tags {
            row.tags
                .retain(|key, _| keep.iter().any(|kept| kept == key));
        }
    }
}
