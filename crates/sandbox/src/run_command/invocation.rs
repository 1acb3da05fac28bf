//! A command on one node.

use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

/// Where a command on one node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InvocationStatus {
    Pending,
    InProgress,
    /// The node did not take it so far.
    Delayed,
    Success,
    Failed,
    Cancelling,
    Cancelled,
    DeliveryTimedOut,
    ExecutionTimedOut,
    Undeliverable,
    /// Too many others failed before it began.
    Terminated,
    InvalidPlatform,
}

impl InvocationStatus {
    /// `Status`.
    pub(crate) const fn status(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::InProgress => "InProgress",
            Self::Delayed => "Delayed",
            Self::Success => "Success",
            Self::Failed | Self::Undeliverable | Self::InvalidPlatform => "Failed",
            Self::Cancelling => "Cancelling",
            Self::Cancelled | Self::Terminated => "Cancelled",
            Self::DeliveryTimedOut | Self::ExecutionTimedOut => "TimedOut",
        }
    }

    /// `StatusDetails`.
    pub(crate) const fn details(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::InProgress => "InProgress",
            Self::Delayed => "Delayed",
            Self::Success => "Success",
            Self::Failed => "Failed",
            Self::Cancelling => "Cancelling",
            Self::Cancelled => "Cancelled",
            Self::DeliveryTimedOut => "DeliveryTimedOut",
            Self::ExecutionTimedOut => "ExecutionTimedOut",
            Self::Undeliverable => "Undeliverable",
            Self::Terminated => "Terminated",
            Self::InvalidPlatform => "InvalidPlatform",
        }
    }

    pub(crate) const fn is_terminal(self) -> bool {
        !matches!(
            self,
            Self::Pending | Self::InProgress | Self::Delayed | Self::Cancelling
        )
    }

    /// Whether `MaxErrors` counts it.
    pub(crate) const fn is_error(self) -> bool {
        matches!(self, Self::Failed | Self::ExecutionTimedOut)
    }
}

/// A command on one node.
#[derive(Clone, Debug)]
pub(crate) struct Invocation {
    pub(crate) instance_id: String,
    /// The node's host name.
    pub(crate) instance_name: String,
    pub(crate) requested: Timestamp,
    pub(crate) status: InvocationStatus,
    pub(crate) result: Option<PluginResult>,
    /// Stops what runs there.
    pub(super) stop: CancellationToken,
}

/// What the agent reported.
#[derive(Clone, Debug)]
pub(crate) struct PluginResult {
    pub(crate) code: i32,
    pub(crate) started: Timestamp,
    /// `None` while it runs.
    pub(crate) finished: Option<Timestamp>,
    /// The beginning, of 24,000 bytes at most.
    pub(crate) stdout: Arc<str>,
    pub(crate) stderr: Arc<str>,
}

impl Invocation {
    pub(super) fn new(
        instance_id: String,
        instance_name: String,
        status: InvocationStatus,
    ) -> Self {
        Self {
            instance_id,
            instance_name,
            requested: Timestamp::now(),
            status,
            result: None,
            stop: CancellationToken::new(),
        }
    }

    /// What has not begun is over at once; what runs is to be stopped by its agent.
    pub(super) fn cancel(&mut self) {
        match self.status {
            InvocationStatus::Pending | InvocationStatus::Delayed => {
                self.status = InvocationStatus::Cancelled;
            }
            InvocationStatus::InProgress => self.status = InvocationStatus::Cancelling,
            _ => return,
        }
        self.stop.cancel();
    }
}
