//! What the tests of core and remote over a sandbox share.

use std::{future::Future, time::Duration};

use ops_core::{Choice, Context};
use ops_profile::Instance;
use ops_sandbox::{Options, RunningSandbox, Sandbox};
use ops_ui::{Env, Globals};

/// Only a failing test waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A sandbox, and one of its machines.
pub(crate) struct Stage {
    pub(crate) running: RunningSandbox,
    pub(crate) cx: Context,
    pub(crate) instance: Instance,
    // Last: the machines' folders are in it.
    _home: tempfile::TempDir,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let running = Sandbox::start(Options::new(home.path().join("sandbox")))
            .await
            .unwrap();
        let env: Env = running
            .environment()
            .into_iter()
            .chain([("HOME".to_owned(), home.path().display().to_string())])
            .collect();
        let cx = Context::new(Globals::default(), env, ops_profile::Verbs::default());
        let instance = cx
            .resolve(&"web-1".parse().unwrap(), Choice::Ask)
            .await
            .unwrap();
        Self {
            running,
            cx,
            instance,
            _home: home,
        }
    }

    /// Ends everything that was dropped.
    pub(crate) async fn settle(self) {
        soon(self.cx.interrupt().finished()).await;
        soon(self.running.stop()).await;
    }
}

pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("in time")
}
