//! Getting a lost connection back.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::dial::Dialer;
use super::error::SessionError;
use super::socket::{self, Connection};
use super::{Event, Gateway, Opening, Options, ResumeError, Token};

/// What a resumption needs, kept from the opening.
pub(super) struct Resumer {
    pub(super) gateway: Arc<dyn Gateway>,
    pub(super) dialer: Dialer,
    pub(super) opening: Opening,
    /// The same on every connection of a session.
    pub(super) client_id: String,
    pub(super) options: Options,
}

impl Resumer {
    /// Asks for a new token and dials, again and again, until it works, the session is gone, or time is up. Returns the
    /// connection and the number of attempts. `before` are attempts
    /// that count already, because the connections they made did not last.
    pub(super) async fn resume(
        &mut self,
        before: u32,
        progress: &mpsc::UnboundedSender<Event>,
    ) -> Result<(Connection, u32), SessionError> {
        let mut last = None;
        let limit = self.options.resume_for;
        let attempts = async {
            let mut attempt = before;
            loop {
                attempt = attempt.saturating_add(1);
                let delay = self.delay(attempt);
                let _ = progress.send(Event::Reconnecting {
                    attempt,
                    delay,
                    why: last.clone(),
                });
                tokio::time::sleep(delay).await;
                match self.attempt().await {
                    Ok(connection) => return Ok((connection, attempt)),
                    Err(ResumeError::Gone(reason)) => return Err(SessionError::Gone(reason)),
                    Err(ResumeError::Retry(reason)) => {
                        tracing::debug!(attempt, reason, "could not resume");
                        last = Some(reason);
                    }
                }
            }
        };
        match tokio::time::timeout(limit, attempts).await {
            Ok(result) => result,
            Err(_) => Err(SessionError::NotResumed(
                last.unwrap_or_else(|| "no attempt was made".to_owned()),
            )),
        }
    }

    async fn attempt(&mut self) -> Result<Connection, ResumeError> {
        let resumed = self.gateway.resume(&self.opening.session_id).await?;
        if let Some(stream_url) = resumed.stream_url {
            self.opening.stream_url = stream_url;
        }
        self.dial(&resumed.token).await
    }

    async fn dial(&self, token: &Token) -> Result<Connection, ResumeError> {
        let url = &self.opening.stream_url;
        socket::open_for(
            &*self.gateway,
            &self.dialer,
            url,
            token,
            &self.client_id,
            &self.options.client_version,
        )
        .await
        .map_err(|error| ResumeError::Retry(chain(&error)))
    }

    /// The first attempt at once: the service closes healthy connections every hour. Then doubled, within half and whole of it.
    fn delay(&self, attempt: u32) -> Duration {
        let (first, longest) = self.options.resume_delays;
        match attempt {
            0 | 1 => Duration::ZERO,
            n => {
                let full = first.saturating_mul(1 << (n - 2).min(16)).min(longest);
                full.mul_f64(0.5 + fastrand::f64() / 2.0)
                    .max(first.min(longest))
            }
        }
    }
}

/// An error with its sources, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
