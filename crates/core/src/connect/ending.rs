//! The duty to end a session at the service.

use std::sync::{Arc, OnceLock};

use ops_session::{
    closing::{Closing, ClosingReason},
    data_channel::ChannelError,
    driver::SessionError,
};
use ops_ui::Error;
use tokio::sync::oneshot;

use super::{
    data_key::{self, KeyRecord},
    failure, gateway,
};
use crate::{BoxFuture, context::Context};

/// The duty to end a session at the service. Dropping it does so in the background, which the
/// dispatcher waits for.
pub struct Ending {
    pub(super) cx: Context,
    /// The session's id at the service.
    pub(super) id: String,
    pub(super) region: String,
    /// The instance as errors call it.
    pub(super) label: String,
    /// Why the session cannot be taken up again, where the service has denied it.
    pub(super) denied: Arc<OnceLock<Error>>,
    /// What is known of the session's encryption.
    pub(super) key: Arc<KeyRecord>,
    /// Whether a drop still has to end the session.
    pub(super) armed: bool,
}

impl Ending {
    /// TerminateSession; a denial is told once, any other failure with `-v` only, since the service
    /// ends idle sessions itself.
    pub fn terminate(self) -> BoxFuture<'static, ()> {
        Box::pin(self.terminate_unboxed())
    }

    async fn terminate_unboxed(mut self) {
        self.armed = false;
        let (done, is_done) = oneshot::channel();
        self.terminate_in_background(done);
        let _ = is_done.await;
    }

    /// The call goes on where the caller is dropped meanwhile, by a signal that comes while it
    /// waits: the session would stay open at the service. `done` hears of the end.
    fn terminate_in_background(&self, done: oneshot::Sender<()>) {
        let (cx, id, region) = (self.cx.clone(), self.id.clone(), self.region.clone());
        self.cx.interrupt().finish_later(async move {
            gateway::terminate(&cx, &region, &id).await;
            // Nobody waits where the duty was dropped.
            let _ = done.send(());
        });
    }

    /// The session has ended by itself (`Event::Closed`): nothing is left to do.
    pub fn ended(mut self) {
        self.armed = false;
    }

    /// Words for [`Event::Failed`](ops_session::driver::Event::Failed) of this session.
    pub fn failed(&self, error: &SessionError) -> Error {
        let told = match error {
            SessionError::Gone(_) => self.denied.get(),
            SessionError::Channel(ChannelError::NoDataKey { .. }) => self.key.refused.get(),
            _ => None,
        };
        told.cloned()
            .unwrap_or_else(|| failure::session_failed(&self.label, error))
    }

    /// Words for [`Event::Closed`](ops_session::driver::Event::Closed), if it tells of a failure.
    pub fn closed(&self, closing: &Closing) -> Option<Error> {
        if closing.reason() == ClosingReason::Encryption {
            let words = data_key::decryption_failed;
            return Some(words(&self.label, &self.region, &self.key, closing.text()));
        }
        failure::closed(&self.label, closing)
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if self.armed {
            self.terminate_in_background(oneshot::channel().0);
        }
    }
}
