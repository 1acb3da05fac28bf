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

/// Where the attempts to resume begin.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ResumeStart {
    /// Attempts that count already, because the connections they made carried nothing.
    pub(super) attempts: u32,
    /// The pause before the first attempt of these.
    pub(super) pause: Duration,
}

impl Resumer {
    /// Asks for a new token and dials, again and again, until it works, the session is gone, or
    /// time is up. Returns the connection and the number of attempts.
    pub(super) async fn resume(
        &mut self,
        beginning: ResumeStart,
        progress: &mpsc::UnboundedSender<Event>,
    ) -> Result<(Connection, u32), SessionError> {
        let mut last = None;
        let limit = self.options.resume_for;
        let attempts = async {
            let mut attempt = beginning.attempts;
            let mut least = beginning.pause;
            // Attempts that count already had tokens.
            let mut answered = true;
            loop {
                attempt = attempt.saturating_add(1);
                let pauses = Pauses::of(&self.options, answered);
                let delay = pauses.before(attempt, fastrand::f64()).max(least);
                // The least pause is between two connections, not between attempts.
                least = Duration::ZERO;
                let _ = progress.send(Event::Reconnecting {
                    attempt,
                    delay,
                    why: last.clone(),
                });
                tokio::time::sleep(delay).await;
                match self.attempt(&mut answered).await {
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

    /// `answered`: whether ResumeSession gave a token.
    async fn attempt(&mut self, answered: &mut bool) -> Result<Connection, ResumeError> {
        // Until the service answers: a call that fails is what long pauses are for.
        *answered = false;
        let resumed = self.gateway.resume(&self.opening.session_id).await?;
        *answered = true;
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
}

/// The pauses between attempts.
#[derive(Clone, Copy, Debug)]
struct Pauses {
    first: Duration,
    longest: Duration,
}

impl Pauses {
    fn of(options: &Options, answered: bool) -> Self {
        let (first, longest) = options.resume_delays;
        let longest = if answered {
            longest.min(options.answered_delay)
        } else {
            longest
        };
        Self { first, longest }
    }

    /// The first attempt at once: the service closes healthy connections every hour. Then doubled,
    /// within half and whole of it; `jitter` is from 0 to 1.
    fn before(self, attempt: u32, jitter: f64) -> Duration {
        let Self { first, longest } = self;
        match attempt {
            0 | 1 => Duration::ZERO,
            n => {
                let full = first.saturating_mul(1 << (n - 2).min(16)).min(longest);
                full.mul_f64(0.5 + jitter / 2.0).max(first.min(longest))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn longest_pause(answered: bool) -> Duration {
        let pauses = Pauses::of(&Options::default(), answered);
        (1..40)
            .map(|attempt| pauses.before(attempt, 1.0))
            .max()
            .unwrap_or_default()
    }

    #[test]
    fn pauses_stay_short_while_the_service_gives_tokens() {
        assert_eq!(longest_pause(true), Duration::from_millis(2500));
        assert_eq!(longest_pause(false), Duration::from_secs(30));
    }

    #[test]
    fn a_cut_and_one_failed_attempt_take_less_than_three_seconds() {
        for answered in [true, false] {
            let pauses = Pauses::of(&Options::default(), answered);
            for jitter in [0.0, 0.5, 1.0] {
                assert_eq!(pauses.before(1, jitter), Duration::ZERO);
                assert_eq!(pauses.before(2, jitter), Duration::from_secs(1));
            }
        }
    }
}
