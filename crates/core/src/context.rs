//! What every command is given: options, settings, AWS and output, each made on first use.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, OnceLock},
};

use ops_profile::{Instance, Profile, Settings, Target, Verbs};
use ops_ui::{Env, Globals, Interrupt, Invocation, Output, Paths, Result};

use crate::{
    BoxFuture,
    aws::Aws,
    inventory::{Inventory, Listing, Query},
};

/// Shared by everything one invocation does; cheap to clone into tasks.
#[derive(Clone)]
pub struct Context(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    invocation: Invocation,
    verbs: Verbs,
    pub(crate) settings: OnceLock<Result<Box<Settings>>>,
    /// Ids of the instances that have been through the guard.
    pub(crate) cleared: Mutex<BTreeSet<String>>,
    /// Instances that came from the cache, by id.
    pub(crate) from_cache: Mutex<BTreeMap<String, FromCache>>,
    /// Ids of the instances to which large payloads do not get through, as far as this process has
    /// found out.
    pub(crate) small_payloads: Mutex<BTreeSet<String>>,
    /// Documents that have refused the parameter for separated output, by the names of their files.
    pub(crate) refused_separation: Mutex<BTreeSet<String>>,
    pub(crate) aws: tokio::sync::OnceCell<Aws>,
}

/// An instance that came from the cache.
#[derive(Clone, Debug)]
pub(crate) enum FromCache {
    /// Nobody has reached it yet; what was typed for it.
    Unproven(Target),
    /// It is gone, and this one answers to what was typed.
    Replaced(Box<Instance>),
}

impl Context {
    /// The way to AWS, made on first use. Asks nobody yet but, for a region that nothing names, the
    /// instance metadata.
    ///
    /// # Errors
    /// An invalid profile, an AWS configuration file that cannot be parsed, an unusable proxy or
    /// certificate setting.
    pub(crate) fn aws<'a>(&'a self) -> BoxFuture<'a, Result<&'a Aws>> {
        Box::pin(self.aws_unboxed())
    }

    async fn aws_unboxed(&self) -> Result<&Aws> {
        self.0
            .aws
            .get_or_try_init(|| async { Aws::load(&self.0.invocation, self.settings()?).await })
            .await
    }

    /// The way to AWS if it was made already.
    pub(crate) fn aws_if_made(&self) -> Option<&Aws> {
        self.0.aws.get()
    }

    /// A context for `globals` in `env`; `verbs` are what a profile may rule. Reads no file and
    /// asks nobody.
    pub fn new(globals: Globals, env: Env, verbs: Verbs) -> Self {
        Self(Arc::new(Inner {
            invocation: Invocation::new(globals, env),
            verbs,
            settings: OnceLock::new(),
            cleared: Mutex::default(),
            from_cache: Mutex::default(),
            small_payloads: Mutex::default(),
            refused_separation: Mutex::default(),
            aws: tokio::sync::OnceCell::new(),
        }))
    }

    /// What this invocation was started with.
    pub fn invocation(&self) -> &Invocation {
        &self.0.invocation
    }

    /// The verbs of this program.
    pub fn verbs(&self) -> Verbs {
        self.0.verbs
    }

    /// The global options as typed.
    pub fn globals(&self) -> &Globals {
        &self.0.invocation.globals
    }

    /// The environment, with what the dispatcher laid over it.
    pub fn env(&self) -> &Env {
        &self.0.invocation.env
    }

    /// The absolute path of this program, for what has to start it again.
    ///
    /// # Errors
    /// Fails where the system does not tell.
    pub fn program(&self) -> Result<std::path::PathBuf> {
        Ok(ops_ui::program::path()?)
    }

    /// The folders of this user.
    pub fn paths(&self) -> &Paths {
        &self.0.invocation.paths
    }

    /// How a signal reaches this invocation, and what has to end before the process does.
    pub fn interrupt(&self) -> &Interrupt {
        &self.0.invocation.interrupt
    }

    /// The way to stdout and stderr, in the effective format and colour; where the settings are
    /// invalid, as the options say.
    pub fn output(&self) -> &Output {
        // Whoever needs the settings meets their error; an error has to be shown in any case.
        let _ = self.settings();
        &self.0.invocation.output
    }

    /// The effective settings, each with where it came from.
    ///
    /// # Errors
    /// An invalid `config.yaml` or profile, or a name that is no profile; the same error each time.
    pub fn settings(&self) -> Result<&Settings> {
        let load = || {
            let settings = Settings::load(&self.0.invocation, self.0.verbs)?;
            let output = &self.0.invocation.output;
            output.settle(settings.output.value, settings.color.value);
            Ok(Box::new(settings))
        };
        let settings = self.0.settings.get_or_init(load);
        settings.as_deref().map_err(Clone::clone)
    }

    /// What the team profile says, with the user's own defaults under it. Empty where there is
    /// neither.
    ///
    /// # Errors
    /// As [`Self::settings`].
    pub fn profile(&self) -> Result<&Profile> {
        self.settings().map(Settings::profile)
    }

    /// A check that the context can be used; settings and profile come with it.
    ///
    /// # Errors
    /// An invalid profile or configuration file.
    pub fn check(&self) -> Result<()> {
        self.settings().map(drop)
    }

    pub(crate) async fn inventory(&self) -> Result<Inventory<'_>> {
        Ok(Inventory {
            aws: self.aws().await?,
            output: self.output(),
            timeout: self.settings()?.timeout.value,
        })
    }

    /// The instances of `regions` that answer to `query`. A region that fails is reported in the
    /// listing, not as an error.
    ///
    /// # Errors
    /// What concerns every region alike: no credentials, an unusable configuration.
    pub fn list<'a>(
        &'a self,
        query: &'a Query,
        regions: &'a [String],
    ) -> BoxFuture<'a, Result<Listing>> {
        Box::pin(self.list_unboxed(query, regions))
    }

    async fn list_unboxed(&self, query: &Query, regions: &[String]) -> Result<Listing> {
        self.inventory().await?.list(query, regions).await
    }

    /// As [`Self::list`], with the rows in `rows` too, page by page. Credentials have to be there
    /// already: nobody is asked for a login meanwhile.
    pub(crate) async fn list_into(
        &self,
        query: &Query,
        regions: &[String],
        rows: tokio::sync::mpsc::UnboundedSender<Vec<Instance>>,
    ) -> Result<Listing> {
        self.inventory()
            .await?
            .list_into(query, regions, rows)
            .await
    }

    /// `instance` with what SSM knows of its agent now: ping, version, and the platform as the
    /// agent names it. `None` where it cannot be asked.
    pub async fn with_agent(&self, instance: &Instance) -> Option<Instance> {
        self.ask_agent(instance).await.ok()
    }

    /// As [`Context::with_agent`], with the reason where it cannot be asked.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`](ops_ui::ErrorKind::Denied) and whatever else
    /// DescribeInstanceInformation fails with.
    pub fn ask_agent<'a>(&'a self, instance: &'a Instance) -> BoxFuture<'a, Result<Instance>> {
        Box::pin(self.ask_agent_unboxed(instance))
    }

    async fn ask_agent_unboxed(&self, instance: &Instance) -> Result<Instance> {
        self.inventory().await?.ask_agent(instance).await
    }
}
