//! One instance as its programs and connections see it.

use std::{io, sync::Arc, time::Duration};

use super::{
    environment::Environment,
    port::{self, Stream},
};
use crate::{
    fleet::{Instance, InstanceState},
    network::Network,
    session::SessionSpec,
};

/// The instance, its state on this disk and the network around it; clones are cheap.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub(super) instance: Arc<Instance>,
    pub(super) state: Arc<InstanceState>,
    pub(super) network: Arc<Network>,
    pub(super) slow_dial: Duration,
}

impl Machine {
    /// The instance of a session.
    pub(super) fn of(spec: &SessionSpec) -> Self {
        Self {
            instance: Arc::clone(&spec.instance),
            state: Arc::clone(&spec.state),
            network: Arc::clone(&spec.network),
            slow_dial: spec.slow_dial,
        }
    }

    /// What its programs find in their environment.
    ///
    /// # Errors
    /// The home cannot be made.
    pub(super) fn environment(&self) -> io::Result<Environment> {
        Environment::new(&self.instance, &self.state)
    }

    /// Connects to `port` of `host`, `None` being the instance itself.
    ///
    /// # Errors
    /// Why not, in the words of the agent's language.
    pub(super) async fn dial(&self, host: Option<&str>, port: u16) -> Result<Stream, String> {
        if !self.slow_dial.is_zero() {
            tokio::time::sleep(self.slow_dial).await;
        }
        port::dial(self, host, port).await
    }
}
