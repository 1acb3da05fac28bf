//! How a signal reaches a running command, and what has to end before the process does.
//!
//! The first SIGINT, SIGTERM or SIGHUP asks. A command that has something to put in order holds a
//! [`Handler`] and waits for the request; one that holds none is dropped where it is. A second
//! SIGINT or SIGTERM ends the process at once; a hang-up never does, since ssh sends one after its
//! ProxyCommand whatever else it did. Work that must outlive the command, such as ending its
//! session at the service, goes into [`Interrupt::finish_later`]: the dispatcher waits for it, for
//! a bounded time, on every way out.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::error::{Error, ErrorKind};

/// The request to stop, shared by one invocation; cheap to clone.
#[derive(Clone, Debug)]
pub struct Interrupt(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    request: watch::Sender<Option<ErrorKind>>,
    handlers: AtomicUsize,
    tasks: TaskTracker,
}

impl Default for Interrupt {
    fn default() -> Self {
        Self(Arc::new(Inner {
            request: watch::Sender::new(None),
            handlers: AtomicUsize::new(0),
            tasks: TaskTracker::new(),
        }))
    }
}

impl Interrupt {
    /// Says that the caller ends in order by itself once asked; holds as long as the value lives.
    pub fn handle(&self) -> Handler {
        self.0.handlers.fetch_add(1, Ordering::SeqCst);
        Handler(self.clone())
    }

    /// Whether anybody holds a [`Handler`].
    pub fn is_handled(&self) -> bool {
        self.0.handlers.load(Ordering::SeqCst) > 0
    }

    /// Asks everything to stop; [`ErrorKind::Interrupted`] or [`ErrorKind::Terminated`].
    pub fn request(&self, kind: ErrorKind) {
        self.0.request.send_replace(Some(kind));
    }

    /// Takes the request back: whoever made it was asked, and wants it to go on. The next signal
    /// asks anew.
    pub fn withdraw(&self) {
        self.0.request.send_replace(None);
    }

    /// Ends when the request has been taken back.
    pub async fn withdrawn(&self) {
        let mut request = self.0.request.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = request.wait_for(Option::is_none).await;
    }

    /// What was asked for, if anything was.
    pub fn requested(&self) -> Option<ErrorKind> {
        *self.0.request.borrow()
    }

    /// Ends when a stop is asked for; gives the error to return then.
    pub async fn wait(&self) -> Error {
        let mut request = self.0.request.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let kind = request
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|kind| *kind);
        let kind = kind.unwrap_or(ErrorKind::Interrupted);
        Error::new(
            kind,
            if kind == ErrorKind::Interrupted {
                "interrupted"
            } else {
                "terminated"
            },
        )
    }

    /// Runs `task` to its end even when the command that started it is dropped; the process waits
    /// for it a few seconds at most.
    ///
    /// Must be called within the runtime; outside of one the task is dropped.
    pub fn finish_later(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            self.0.tasks.spawn_on(task, &runtime);
        }
    }

    /// Waits until every task given to [`Self::finish_later`] has ended.
    pub async fn finished(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}

/// Held by whoever ends in order by itself; see [`Interrupt::handle`].
#[derive(Debug)]
pub struct Handler(Interrupt);

impl Handler {
    /// Ends when a stop is asked for; gives the error to return then.
    pub async fn wait(&self) -> Error {
        self.0.wait().await
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.0.0.handlers.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_reaches_who_waits_and_who_comes_later() {
        let interrupt = Interrupt::default();
        let handler = interrupt.handle();
        assert!(interrupt.is_handled());
        interrupt.request(ErrorKind::Terminated);
        assert_eq!(handler.wait().await.kind(), ErrorKind::Terminated);
        drop(handler);
        assert!(!interrupt.is_handled());
        assert_eq!(interrupt.wait().await.kind(), ErrorKind::Terminated);
    }

    #[tokio::test]
    async fn a_request_that_is_taken_back_asks_nobody_any_more() {
        let interrupt = Interrupt::default();
        interrupt.request(ErrorKind::Interrupted);
        interrupt.withdraw();
        interrupt.withdrawn().await;
        assert_eq!(interrupt.requested(), None);
        interrupt.request(ErrorKind::Interrupted);
        assert_eq!(interrupt.wait().await.kind(), ErrorKind::Interrupted);
    }

    #[tokio::test]
    async fn what_is_to_finish_later_has_finished() {
        let interrupt = Interrupt::default();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        interrupt.finish_later(async move {
            tokio::task::yield_now().await;
            let _ = sender.send(());
        });
        interrupt.finished().await;
        assert_eq!(receiver.await, Ok(()));
    }
}
