//! Why the last try of a call failed: for a call whose time is up in the midst of its tries.
//!
//! The SDK tells of a failed try only where no other follows. A call that `--timeout` ends between
//! two tries has failed for a reason all the same, and that reason is what has to be mended.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_smithy_runtime_api::client::{
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
};

use super::error_chain::innermost;

/// The newest failure of a try that no success at the same host has followed, and whether anything
/// has answered at all. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastTry(Arc<Mutex<TriesSoFar>>);

#[derive(Debug, Default)]
struct TriesSoFar {
    failed: Option<FailedTry>,
    /// Whether any host has answered, with whatever status.
    has_answer: bool,
}

/// One try that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FailedTry {
    /// The host that was asked.
    pub(crate) host: String,
    pub(crate) why: TryFailure,
}

/// How a try failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TryFailure {
    /// No connection, or one that broke off, in the words of the HTTP client.
    Connection(String),
    /// An answer with this status, which the SDK takes for a reason to try again.
    Status(u16),
}

impl LastTry {
    /// Keeps how the try at `host` has ended.
    pub(super) fn note(&self, host: &str, outcome: &Result<HttpResponse, ConnectorError>) {
        let why = match outcome {
            Err(error) => Some(TryFailure::Connection(innermost(error))),
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(TryFailure::Status(answer.status().as_u16())),
        };
        let mut so_far = self.lock();
        so_far.has_answer |= outcome.is_ok();
        match why {
            Some(why) => {
                so_far.failed = Some(FailedTry {
                    host: host.to_owned(),
                    why,
                });
            }
            None => {
                so_far.failed.take_if(|failed| failed.host == host);
            }
        }
    }

    /// The try that failed last, if any did.
    pub(super) fn failure(&self) -> Option<FailedTry> {
        self.lock().failed.clone()
    }

    /// Whether any try, at any host, was answered. Where none was, a time that is up says nothing
    /// of the call: the way to AWS is what to look at.
    pub(super) fn has_answer(&self) -> bool {
        self.lock().has_answer
    }

    fn lock(&self) -> MutexGuard<'_, TriesSoFar> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The host that `request` goes to; empty where its address has none.
pub(super) fn host_of(request: &HttpRequest) -> String {
    let url = url::Url::parse(request.uri()).ok();
    let host = url.as_ref().and_then(url::Url::host_str);
    host.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use aws_smithy_types::body::SdkBody;

    use super::*;

    fn answer(status: u16) -> Result<HttpResponse, ConnectorError> {
        let status = status.try_into().expect("a status");
        Ok(HttpResponse::new(status, SdkBody::empty()))
    }

    #[test]
    fn a_failure_is_kept_until_the_same_host_answers() {
        let tries = LastTry::default();
        assert_eq!(tries.failure(), None);
        assert!(!tries.has_answer());
        tries.note("ec2", &Err(ConnectorError::io("refused".into())));
        let failed = FailedTry {
            host: "ec2".to_owned(),
            why: TryFailure::Connection("refused".to_owned()),
        };
        assert!(!tries.has_answer());
        tries.note("ssm", &answer(200));
        assert!(tries.has_answer());
        assert_eq!(tries.failure(), Some(failed));
        tries.note("ec2", &answer(503));
        let why = tries.failure().map(|failed| failed.why);
        assert_eq!(why, Some(TryFailure::Status(503)));
        tries.clone().note("ec2", &answer(200));
        assert_eq!(tries.failure(), None);
    }
}
