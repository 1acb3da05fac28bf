//! Run Command: commands that the service sends to many nodes by itself, and what came of them.
//!
//! Real processes run on the machines of the fleet file. Made-up machines answer by a plan: see
//! [`made_up`].
//!
//! Sources: botocore's model of the service, "Run commands at scale" and "Understanding command
//! statuses" in the Systems Manager user guide.
//!
//! Guessed, since nothing public says it: the `Status` beside the `StatusDetails` NoInstancesInTag;
//! that a command is stopped by the error after `MaxErrors` (so the documentation of SendCommand
//! has it; that of `Command` says "the value of MaxErrors or more"); that what a script printed
//! before it was cancelled or took too long is shown (GetCommandInvocation promises it for
//! Succeeded and Failed alone); the order of invocations, which is the fleet's; the calls a second.

mod answer;
mod cut;
mod delivery;
mod document;
mod invocation;
mod made_up;
mod order;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::{
    cut::{plugin_output, stderr_content},
    document::{CommandDocument, execution_timeout, parameters},
    invocation::{Invocation, InvocationStatus, PluginResult},
    order::{
        DEFAULT_CONCURRENCY, DEFAULT_TIMEOUT_SECONDS, Output, RESOURCE_GROUP, SendOrder, Targets,
    },
};
use crate::{
    faults::Faults,
    fleet::{Fleet, InstanceStates},
    log_groups::LogGroups,
};

/// All commands that were sent.
#[derive(Debug)]
pub(crate) struct RunCommands {
    /// The oldest first.
    sent: RwLock<Vec<Arc<SentCommand>>>,
    world: Arc<World>,
}

/// What commands meet.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) states: Arc<InstanceStates>,
    /// The folder of the minimal S3.
    pub(crate) objects: PathBuf,
    pub(crate) log_groups: Arc<LogGroups>,
    pub(crate) faults: watch::Receiver<Arc<Faults>>,
    pub(crate) cancel: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

/// A command that was sent.
#[derive(Debug)]
pub(crate) struct SentCommand {
    pub(crate) id: String,
    pub(crate) region: String,
    pub(crate) requested: Timestamp,
    pub(crate) order: SendOrder,
    /// When no node gets it any more.
    expires: Instant,
    pub(crate) expires_at: Timestamp,
    state: Mutex<CommandState>,
    changed: watch::Sender<()>,
}

/// How far a command is.
#[derive(Debug, Default)]
struct CommandState {
    /// The nodes are known.
    is_resolved: bool,
    is_cancelled: bool,
    invocations: Vec<Invocation>,
}

/// How many nodes of a command are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) targets: usize,
    pub(crate) completed: usize,
    /// Failed, or over their execution time.
    pub(crate) errors: usize,
    pub(crate) delivery_timed_out: usize,
}

impl RunCommands {
    pub(crate) fn new(world: World) -> Self {
        Self {
            sent: RwLock::default(),
            world: Arc::new(world),
        }
    }

    /// Takes a command and begins to deliver it.
    pub(crate) fn send(&self, region: &str, order: SendOrder) -> Arc<SentCommand> {
        let now = Timestamp::now();
        let lifetime = order.total_timeout();
        let expires_at = jiff::SignedDuration::try_from(lifetime)
            .ok()
            .and_then(|lifetime| now.checked_add(lifetime).ok())
            .unwrap_or(Timestamp::MAX);
        let command = Arc::new(SentCommand {
            id: uuid::Uuid::new_v4().to_string(),
            region: region.to_owned(),
            requested: now,
            order,
            expires: Instant::now() + lifetime,
            expires_at,
            state: Mutex::default(),
            changed: watch::Sender::new(()),
        });
        self.sent
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::clone(&command));
        let delivery = delivery::deliver(Arc::clone(&self.world), Arc::clone(&command));
        let cancel = self.world.cancel.clone();
        self.world.tasks.spawn(async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = delivery => {}
            }
        });
        command
    }

    /// The commands of a region, the newest first.
    pub(crate) fn in_region(&self, region: &str) -> Vec<Arc<SentCommand>> {
        let sent = self.sent.read().unwrap_or_else(PoisonError::into_inner);
        let of_region = sent.iter().rev().filter(|command| command.region == region);
        of_region.cloned().collect()
    }

    pub(crate) fn find(&self, region: &str, id: &str) -> Option<Arc<SentCommand>> {
        let sent = self.sent.read().unwrap_or_else(PoisonError::into_inner);
        sent.iter()
            .find(|command| command.region == region && command.id == id)
            .cloned()
    }
}

impl SentCommand {
    fn state(&self) -> std::sync::MutexGuard<'_, CommandState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends once all that will happen has happened, or `is_enough` says so of the invocations.
    #[cfg(test)]
    pub(crate) async fn until(&self, is_enough: impl Fn(&[Invocation]) -> bool) {
        let mut changes = self.changed.subscribe();
        while !self.is_complete() && !self.look(&is_enough) {
            changes.changed().await.expect("the sender is ours");
        }
    }

    /// Looks at the invocations; none before the service has found out the nodes.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&[Invocation]) -> T) -> T {
        look(&self.state().invocations)
    }

    fn change<T>(&self, change: impl FnOnce(&mut CommandState) -> T) -> T {
        let changed = change(&mut self.state());
        self.changed.send_replace(());
        changed
    }

    pub(crate) fn counts(&self) -> Counts {
        self.look(|invocations| {
            let count = |is: fn(InvocationStatus) -> bool| {
                invocations.iter().filter(|one| is(one.status)).count()
            };
            Counts {
                targets: invocations.len(),
                completed: count(InvocationStatus::is_terminal),
                errors: count(InvocationStatus::is_error),
                delivery_timed_out: count(|status| status == InvocationStatus::DeliveryTimedOut),
            }
        })
    }

    /// `Status` and `StatusDetails` of the command.
    pub(crate) fn status(&self) -> (&'static str, &'static str) {
        let state = self.state();
        let all = || state.invocations.iter().map(|one| one.status);
        if !state.is_resolved {
            return ("Pending", "Pending");
        }
        if state.invocations.is_empty() {
            return ("Failed", "NoInstancesInTag");
        }
        if !all().all(InvocationStatus::is_terminal) {
            return match (
                state.is_cancelled,
                all().all(|s| s == InvocationStatus::Pending),
            ) {
                (true, _) => ("Cancelling", "Cancelling"),
                (false, true) => ("Pending", "Pending"),
                (false, false) => ("InProgress", "InProgress"),
            };
        }
        let most_errors = self.order.most_errors(state.invocations.len());
        let all: Vec<InvocationStatus> = all().collect();
        ended_status(&all, most_errors, state.is_cancelled)
    }

    /// Whether all that will happen has happened.
    pub(crate) fn is_complete(&self) -> bool {
        let state = self.state();
        let mut all = state.invocations.iter();
        state.is_resolved && all.all(|one| one.status.is_terminal())
    }

    /// Cancels it on these nodes, or on all. What runs is stopped by its agent.
    pub(crate) fn cancel(&self, instance_ids: &[&str]) {
        self.change(|state| {
            state.is_cancelled |= instance_ids.is_empty();
            for one in &mut state.invocations {
                if instance_ids.is_empty() || instance_ids.contains(&one.instance_id.as_str()) {
                    one.cancel();
                }
            }
        });
    }

    /// The node's invocation; `None` also before the service shows it.
    pub(crate) fn invocation(&self, instance_id: &str) -> Option<Invocation> {
        self.look(|invocations| {
            let mut all = invocations.iter();
            all.find(|one| one.instance_id == instance_id).cloned()
        })
    }
}

/// How long after SendCommand the service shows invocations; the API is eventually consistent.
fn visible_after(faults: &Faults) -> Duration {
    faults.late_invocations
}

/// `Status` and `StatusDetails` of a command whose invocations are over. Source: the documentation
/// of `StatusDetails` of `Command` and `CommandInvocation` in the service's model.
fn ended_status(
    all: &[InvocationStatus],
    most_errors: usize,
    is_cancelled: bool,
) -> (&'static str, &'static str) {
    let count = |is: &dyn Fn(InvocationStatus) -> bool| all.iter().filter(|one| is(**one)).count();
    let of = |wanted: InvocationStatus| count(&|one| one == wanted);
    if count(&InvocationStatus::is_error) > most_errors {
        return match of(InvocationStatus::Failed) {
            0 => ("TimedOut", "ExecutionTimedOut"),
            _ => ("Failed", "Failed"),
        };
    }
    if is_cancelled {
        return ("Cancelled", "Cancelled");
    }
    // Delivery timeouts stop nothing, and still decide the status.
    if of(InvocationStatus::DeliveryTimedOut) > most_errors {
        return ("TimedOut", "DeliveryTimedOut");
    }
    // Undeliverable invocations do not count for one or the other.
    let counted = all.len() - of(InvocationStatus::Undeliverable);
    if counted > 0 && of(InvocationStatus::Success) == counted {
        ("Success", "Success")
    } else {
        ("Failed", "Incomplete")
    }
}

#[cfg(test)]
mod tests {
    use super::{InvocationStatus as S, ended_status};

    #[test]
    fn the_status_of_a_command_is_that_of_the_documentation() {
        for (all, most_errors, status) in [
            (&[S::Success, S::Success][..], 0, "Success"),
            (&[S::Success, S::Undeliverable], 0, "Success"),
            (&[S::Undeliverable], 0, "Incomplete"),
            (&[S::Success, S::Failed], 0, "Failed"),
            (&[S::Success, S::Failed], 1, "Incomplete"),
            (&[S::Failed, S::Terminated], 0, "Failed"),
            (&[S::Success, S::ExecutionTimedOut], 0, "ExecutionTimedOut"),
            (&[S::Success, S::DeliveryTimedOut], 0, "DeliveryTimedOut"),
            (&[S::Success, S::DeliveryTimedOut], 2, "Incomplete"),
            (&[S::Success, S::InvalidPlatform], 0, "Incomplete"),
        ] {
            assert_eq!(ended_status(all, most_errors, false).1, status, "{all:?}");
        }
        assert_eq!(ended_status(&[S::Cancelled], 0, true).1, "Cancelled");
    }
}
