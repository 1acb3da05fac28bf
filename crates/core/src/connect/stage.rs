//! How far the opening of a session has come, for whoever has to say why it is late.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ops_profile::Instance;
use ops_ui::{Error, ErrorKind, hint};

/// What a session that is being opened waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum OpeningStage {
    /// The answer of StartSession.
    #[default]
    Start,
    /// A turn to call StartSession, or once more after it was throttled.
    Turn,
    /// The web socket.
    Dial,
    /// The agent.
    Agent,
}

/// The present stage, which one task sets and another one reads when its patience is over.
#[derive(Debug, Default)]
pub(super) struct OpeningProgress(Mutex<OpeningStage>);

impl OpeningProgress {
    pub(super) fn reach(&self, stage: OpeningStage) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = stage;
    }

    fn stage(&self) -> OpeningStage {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The error for a session that was not ready within `limit`.
    pub(super) fn too_late(&self, instance: &Instance, limit: Duration) -> Error {
        let region = &instance.region;
        let error = Error::new(
            ErrorKind::Timeout,
            format!("no session on `{}` within {limit:?}", instance.label()),
        )
        .caused_by("--timeout was reached before the session was ready");
        match self.stage() {
            OpeningStage::Start => error
                .caused_by(format!("StartSession had not answered in `{region}` by then"))
                .hint("see whether AWS can be reached from here: ops doctor"),
            OpeningStage::Turn => error
                .caused_by(format!(
                    "it was not its turn by then: AWS lets three sessions start a second in an account and region, and others start some in `{region}` too"
                ))
                .hint("give it more time, or none at all: without --timeout it waits for its turn"),
            OpeningStage::Dial => error
                .caused_by(format!("the connection to Session Manager in `{region}` was not open by then"))
                .hint("see what is in the way: ops doctor"),
            OpeningStage::Agent => error
                .caused_by("the agent on the server had not answered by then")
                .hint(hint!(
                    "see when its agent last reported: ops ls -o wide {}",
                    instance.target_word()
                )),
        }
    }
}
