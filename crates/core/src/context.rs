//! What every command is given: options, settings, AWS and output, each made on first use.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, OnceLock},
};

use crate::{
    aws::Aws, config::Settings, env::Env, error::Result, globals::Globals, interrupt::Interrupt,
    output::Output, paths::Paths, resolve::FromCache,
};

/// Shared by everything one invocation does; cheap to clone into tasks.
#[derive(Clone)]
pub struct Context(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) globals: Globals,
    pub(crate) env: Env,
    pub(crate) paths: Paths,
    pub(crate) output: OnceLock<Output>,
    pub(crate) settings: OnceLock<Result<Box<Settings>>>,
    /// Ids of the instances that have been through the guard.
    pub(crate) cleared: Mutex<BTreeSet<String>>,
    /// Instances that came from the cache, by id.
    pub(crate) from_cache: Mutex<BTreeMap<String, FromCache>>,
    /// Ids of the instances to which large payloads do not get through, as far as this process has found out.
    pub(crate) small_payloads: Mutex<BTreeSet<String>>,
    pub(crate) interrupt: Interrupt,
    pub(crate) aws: tokio::sync::OnceCell<Aws>,
}

impl Context {
    /// A context for `globals` in `env`. Reads no file and asks nobody.
    pub fn new(globals: Globals, env: Env) -> Self {
        let paths = Paths::from_env(&env);
        Self(Arc::new(Inner {
            globals,
            env,
            paths,
            output: OnceLock::new(),
            settings: OnceLock::new(),
            cleared: Mutex::default(),
            from_cache: Mutex::default(),
            small_payloads: Mutex::default(),
            interrupt: Interrupt::default(),
            aws: tokio::sync::OnceCell::new(),
        }))
    }

    /// The global options as typed.
    pub fn globals(&self) -> &Globals {
        &self.0.globals
    }

    /// The environment, with what the dispatcher laid over it.
    pub fn env(&self) -> &Env {
        &self.0.env
    }

    /// The absolute path of this program, for what has to start it again.
    ///
    /// # Errors
    /// Fails where the system does not tell.
    pub fn program(&self) -> Result<std::path::PathBuf> {
        Ok(std::env::current_exe()?)
    }

    /// The folders of this user.
    pub fn paths(&self) -> &Paths {
        &self.0.paths
    }

    /// How a signal reaches this invocation, and what has to end before the process does.
    pub fn interrupt(&self) -> &Interrupt {
        &self.0.interrupt
    }

    /// The way to stdout and stderr, in the effective format and colour; where the settings are invalid, as the options say.
    pub fn output(&self) -> &Output {
        self.0.output.get_or_init(|| {
            let globals = &self.0.globals;
            // Whoever needs the settings meets their error; an error has to be shown in any case.
            let (format, color) = match self.settings() {
                Ok(settings) => (Some(settings.output.value), Some(settings.color.value)),
                Err(_) => (globals.output, globals.color),
            };
            Output::new(globals, &self.0.env, format, color)
        })
    }

    /// A check that the context can be used; settings and profile come with it.
    ///
    /// # Errors
    /// An invalid profile or configuration file.
    pub fn check(&self) -> Result<()> {
        self.settings().map(drop)
    }
}
