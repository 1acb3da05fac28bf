//! StartSession: paced by us and not by the SDK, and never left behind half done.

use std::sync::Arc;

use aws_sdk_ssm::{
    error::{ProvideErrorMetadata, SdkError},
    operation::start_session::{StartSessionError, StartSessionOutput},
};
use aws_smithy_runtime_api::client::{
    interceptors::context::InterceptorContext,
    retries::classifiers::{ClassifyRetry, RetryAction, RetryClassifierPriority},
};
use ops_profile::Instance;
use tokio::sync::oneshot;

use super::ending::Ending;
use crate::{
    aws::{Meaning, meaning},
    context::Context,
};

impl Context {
    /// Waits for StartSession. The call goes on if the caller is dropped meanwhile, by a signal or
    /// a time limit: a session that nobody knows of would stay open at the service, so that it is
    /// ended as soon as its id is known.
    pub(super) async fn start(
        &self,
        instance: &Instance,
        call: impl Future<Output = Result<StartSessionOutput, SdkError<StartSessionError>>>
        + Send
        + 'static,
    ) -> Result<(StartSessionOutput, Ending), SdkError<StartSessionError>> {
        let (cx, region, label) = (
            self.clone(),
            instance.region.clone(),
            instance.label().to_owned(),
        );
        // Everything that ends the session is inside of the task: between the answer and the moment
        // in which the caller has the id, a signal may take the caller away.
        let (done, started) = oneshot::channel();
        self.interrupt().finish_later(async move {
            let result = call.await.map(|started| {
                // Without an id there is nothing that could be ended, and the caller says so.
                let id = started.session_id.clone().unwrap_or_default();
                let ending = Ending {
                    cx,
                    armed: !id.is_empty(),
                    id,
                    region,
                    label,
                    denied: Arc::default(),
                    key: Arc::default(),
                };
                (started, ending)
            });
            // Nobody waits any more: dropping the duty to end the session does it.
            let _ = done.send(result);
        });
        match started.await {
            Ok(result) => result,
            // The runtime is going down, and this with it.
            Err(_) => std::future::pending().await,
        }
    }
}

/// A configuration of a call that [`crate::pace::Pacer`] paces: what the service throttles is not
/// repeated behind the pacer's back.
pub(super) fn paced<E>() -> aws_sdk_ssm::config::Builder
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    aws_sdk_ssm::config::Builder::new()
        .retry_classifier(ThrottledIsPaced::<E>(std::marker::PhantomData))
}

/// Forbids the SDK to repeat calls that were throttled.
#[derive(Debug)]
struct ThrottledIsPaced<E>(std::marker::PhantomData<E>);

impl<E> ClassifyRetry for ThrottledIsPaced<E>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let code = context
            .output_or_error()
            .and_then(std::result::Result::err)
            .and_then(|error| error.as_operation_error())
            .and_then(|error| error.downcast_ref::<E>())
            .and_then(ProvideErrorMetadata::code);
        match code.map(meaning) {
            // The SDK would repeat the call out of turn, after pauses of its own, and give up after
            // a few.
            Some(Meaning::Throttled) => RetryAction::RetryForbidden,
            _ => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "throttled calls wait for their turn"
    }

    fn priority(&self) -> RetryClassifierPriority {
        // After every other, so that this has the last word.
        RetryClassifierPriority::run_after(RetryClassifierPriority::transient_error_classifier())
    }
}

/// What somebody reads who waits for a turn.
pub(super) fn waiting_words(ahead: usize) -> String {
    let before = match ahead {
        0 => String::new(),
        1 => "; one is to start before this one".to_owned(),
        more => format!("; {more} are to start before this one"),
    };
    format!(
        "waiting to start a session: AWS lets three start a second in an account and region{before}"
    )
}
