//! One instance as its programs and connections see it.

use std::{io, sync::Arc, time::Duration};

use tokio::io::DuplexStream;

use super::environment::Environment;
use crate::{
    fleet::{Instance, InstanceState},
    network::Network,
    session::SessionSpec,
};

/// Serves SSH on a stream.
pub(super) type ServeSsh = fn(&Machine, DuplexStream) -> io::Result<()>;

/// The instance, its state on this disk and the network around it; clones are cheap.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub(super) instance: Arc<Instance>,
    pub(super) state: Arc<InstanceState>,
    pub(super) network: Arc<Network>,
    pub(super) slow_dial: Duration,
    /// Serves SSH on a connection to the instance itself. Given from above, since that server dials
    /// on from here for its clients.
    pub(super) serve_ssh: ServeSsh,
}

impl Machine {
    /// The instance of a session.
    pub(super) fn of(spec: &SessionSpec, serve_ssh: ServeSsh) -> Self {
        Self {
            instance: Arc::clone(&spec.instance),
            state: Arc::clone(&spec.state),
            network: Arc::clone(&spec.network),
            slow_dial: spec.slow_dial,
            serve_ssh,
        }
    }

    /// What its programs find in their environment.
    ///
    /// # Errors
    /// The home cannot be made.
    pub(super) fn environment(&self) -> io::Result<Environment> {
        Environment::new(&self.instance, &self.state)
    }
}
