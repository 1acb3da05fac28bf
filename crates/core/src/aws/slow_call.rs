//! A word about a call of AWS that takes its time: the SDK repeats what fails for ten seconds and
//! more, and says nothing meanwhile.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{
            Intercept,
            context::{BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef},
        },
        orchestrator::Metadata,
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::config_bag::{ConfigBag, Storable, StoreReplace};
use ops_ui::Output;
use tokio::task::AbortHandle;

use super::last_try::{FailedTry, LastTry, TryFailure};

/// How long a call is waited for in silence.
const WORTH_A_WORD: Duration = Duration::from_secs(2);

/// Calls of which others speak: an observer of the session tells that it is being resumed, and
/// nobody waits for the end of one.
const TOLD_ELSEWHERE: [&str; 2] = ["ResumeSession", "TerminateSession"];

/// Tells once in a process which call is waited for, and why it takes so long.
#[derive(Clone)]
pub(super) struct SlowCalls {
    output: Output,
    last_try: LastTry,
    was_told: Arc<AtomicBool>,
}

impl SlowCalls {
    pub(super) fn new(output: Output, last_try: LastTry) -> Self {
        Self {
            output,
            last_try,
            was_told: Arc::default(),
        }
    }

    /// Speaks of `call`, such as `StartSession`, unless the value that this gives is dropped
    /// before.
    pub(super) fn watch(&self, call: &str) -> Option<WatchedCall> {
        if TOLD_ELSEWHERE.contains(&call) || self.was_told.load(Ordering::Relaxed) {
            return None;
        }
        let tries = Arc::new(AtomicU32::new(0));
        let (slow, call, so_far) = (self.clone(), call.to_owned(), Arc::clone(&tries));
        let timer = tokio::spawn(async move {
            tokio::time::sleep(WORTH_A_WORD).await;
            // With the first try still on its way, a failure is that of another call.
            let failed = match so_far.load(Ordering::Relaxed) {
                0 | 1 => None,
                _ => slow.last_try.failure(),
            };
            // A spinner says already that something is waited for, and not that it goes wrong.
            let is_news = failed.is_some() || !slow.output.has_spinner();
            if is_news && !slow.was_told.swap(true, Ordering::Relaxed) {
                slow.output.note(waiting_words(&call, failed));
            }
        });
        Some(WatchedCall {
            timer: timer.abort_handle(),
            tries,
        })
    }
}

impl fmt::Debug for SlowCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SlowCalls")
    }
}

/// A call that is under way. When it is dropped nothing is said any more.
#[derive(Debug)]
pub(super) struct WatchedCall {
    timer: AbortHandle,
    tries: Arc<AtomicU32>,
}

impl WatchedCall {
    /// Counts a try that begins.
    pub(super) fn begin_try(&self) {
        self.tries.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for WatchedCall {
    fn drop(&mut self) {
        self.timer.abort();
    }
}

impl Storable for WatchedCall {
    type Storer = StoreReplace<Self>;
}

fn waiting_words(call: &str, failed: Option<FailedTry>) -> String {
    match failed {
        None => format!("waiting for AWS to answer {call}"),
        Some(FailedTry { host, why }) => {
            let why = match why {
                TryFailure::Connection(why) => why,
                TryFailure::Status(status) => format!("it answered with status {status}"),
            };
            format!(
                "waiting for AWS to answer {call}: tried again, as a try at `{host}` failed ({why})"
            )
        }
    }
}

/// Watches every call of a client, from its first try until the last has ended.
impl Intercept for SlowCalls {
    fn name(&self) -> &'static str {
        "SlowCalls"
    }

    /// Not before: until here credentials may have been looked for, which may ask the user.
    fn read_before_transmit(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if bag.load::<WatchedCall>().is_none()
            && let Some(call) = bag.load::<Metadata>().map(|call| call.name().to_owned())
            && let Some(watched) = self.watch(&call)
        {
            // Kept with the call: one that is dropped, as by `--timeout`, is watched no longer.
            bag.interceptor_state().store_put(watched);
        }
        if let Some(watched) = bag.load::<WatchedCall>() {
            watched.begin_try();
        }
        Ok(())
    }

    fn read_after_execution(
        &self,
        _context: &FinalizerInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        bag.interceptor_state().unset::<WatchedCall>();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_the_last_try_is_said_where_there_is_one() {
        let failed = |why| {
            let host = "ssm.eu-west-1.amazonaws.com".to_owned();
            waiting_words("StartSession", Some(FailedTry { host, why }))
        };
        assert_eq!(
            waiting_words("StartSession", None),
            "waiting for AWS to answer StartSession"
        );
        assert_eq!(
            failed(TryFailure::Status(500)),
            "waiting for AWS to answer StartSession: tried again, as a try at `ssm.eu-west-1.amazonaws.com` failed (it answered with status 500)"
        );
        assert!(failed(TryFailure::Connection("refused".to_owned())).ends_with("(refused)"));
    }
}
