//! What the driver asks for while a session lasts: signed headers for each dial, the data key of an
//! encrypted session, and fresh tokens.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use aws_sdk_ssm::{
    config::{retry::RetryConfig, timeout::TimeoutConfig},
    operation::{
        resume_session::ResumeSessionError,
        terminate_session::{TerminateSessionError, TerminateSessionOutput},
    },
};
use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use futures_util::future::BoxFuture;
use http::HeaderMap;
use ops_session::driver::{
    DataKey, DataKeyRequest, Gateway, LargePayloads, NoDataKey, ResumeError, Resumed, Token,
};
use ops_ui::{Error, ErrorKind, Text};

use super::{
    TERMINATE_TIMEOUT,
    data_key::{KeyRecord, SessionKey},
    failure, paced, stream_url, trusted,
};
use crate::{
    aws::{Aws, Meaning, code_of, failure_of, meaning, sign_upgrade},
    context::Context,
    pace::{Operation, Urgency},
    partition::Partition,
};

/// For one ResumeSession; the driver asks again itself.
const RESUME_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

pub(super) struct SessionGateway {
    pub(super) cx: Context,
    pub(super) region: String,
    pub(super) instance: String,
    /// Of the server, for what is told.
    pub(super) label: String,
    /// The last dial carried a signature.
    pub(super) signed: AtomicBool,
    /// Why the session cannot be taken up again, where the service has denied it.
    pub(super) denied: Arc<OnceLock<Error>>,
    pub(super) key: Arc<KeyRecord>,
}

impl Gateway for SessionGateway {
    fn headers<'a>(&'a self, stream_url: &'a str) -> BoxFuture<'a, HeaderMap> {
        Box::pin(async move {
            self.signed.store(false, Ordering::Relaxed);
            let Ok(aws) = self.cx.aws().await else {
                return HeaderMap::new();
            };
            if aws.dials_unsigned() {
                return HeaderMap::new();
            }
            match aws.credentials().await {
                Ok(credentials) => {
                    let now = SystemTime::now();
                    let headers = sign_upgrade(stream_url, &self.region, &credentials, now);
                    self.signed.store(!headers.is_empty(), Ordering::Relaxed);
                    headers
                }
                Err(error) => {
                    tracing::warn!(%error, "the web-socket upgrade goes unsigned");
                    HeaderMap::new()
                }
            }
        })
    }

    fn dials_again(&self, status: u16) -> bool {
        // A policy written before the middle of 2025 allows no `ssmmessages:OpenDataChannel`, which
        // a signature asks for; the token alone may do.
        let was_signed = self.signed.load(Ordering::Relaxed);
        if was_signed && let Some(aws) = self.cx.aws_if_made() {
            tracing::debug!(status, "dialling again without a signature");
            aws.set_dials_unsigned(true);
        }
        was_signed
    }

    fn data_key<'a>(
        &'a self,
        session_id: &'a str,
        wanted: DataKeyRequest,
    ) -> BoxFuture<'a, Result<DataKey, NoDataKey>> {
        Box::pin(async move {
            let of_session = SessionKey {
                session_id,
                target: &self.instance,
                region: &self.region,
                label: &self.label,
            };
            Box::pin(of_session.fetch(&self.cx, &self.key, wanted)).await
        })
    }

    fn resume<'a>(&'a self, session_id: &'a str) -> BoxFuture<'a, Result<Resumed, ResumeError>> {
        Box::pin(self.resume_session(session_id))
    }

    fn large_payloads_lost(&self, loss: LargePayloads) {
        tracing::debug!(?loss, "large payloads do not get through");
        let lasting = match loss {
            // It may have been an ordinary cut: the next process may find out anew.
            LargePayloads::Probe => false,
            LargePayloads::Numbered => true,
        };
        self.cx.remember_small_payloads(&self.instance, lasting);
    }
}

impl SessionGateway {
    async fn resume_session(&self, session_id: &str) -> Result<Resumed, ResumeError> {
        let retry = |error: ops_ui::Error| ResumeError::Retry(error.to_string());
        let aws = self.cx.aws().await.map_err(retry)?;
        // The credentials of an hour ago may have been replaced in the meantime.
        let access_key_id = renew(aws).await?;
        let override_config = paced::<ResumeSessionError>()
            .retry_config(RetryConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder()
                    .operation_timeout(RESUME_TIMEOUT)
                    .build(),
            );
        let call = || {
            aws.clients(&self.region)
                .ssm
                .resume_session()
                .session_id(session_id)
                .customize()
                .config_override(override_config.clone())
                .send()
        };
        // After an hourly close every session of a tunnel resumes at once.
        let pacer = aws.pacer(&self.region).await;
        let mut ticket = pacer.take_ticket(Operation::ResumeSession, Urgency::Interactive);
        ticket.turn(|_| {}).await;
        let mut answer = call().await;
        // Before their time, by the service's word alone.
        if answer.as_ref().err().and_then(code_of).map(meaning) == Some(Meaning::Expired) {
            aws.provider().refused(&access_key_id).await;
            renew(aws).await?;
            answer = call().await;
        }
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let session = session_arn(aws, &self.region, session_id);
                let call = aws.call("ssm:ResumeSession", Some(session), &self.region);
                let code = code_of(&error).map(str::to_owned);
                let words = call.failed("cannot resume the session", &error);
                // Another session may have found just now that the credentials are no longer good.
                if let Some(failure) = failure_of(&error) {
                    return Err(not_renewed(failure));
                }
                let text = words
                    .why()
                    .first()
                    .map_or_else(|| words.to_string(), ToString::to_string);
                return Err(match code.as_deref() {
                    Some("DoesNotExistException") => {
                        ResumeError::Gone("the service no longer knows the session".to_owned())
                    }
                    Some(code) if meaning(code) == Meaning::Denied => {
                        let words = failure::resume_denied(&self.label, session_id, &words);
                        let _ = self.denied.set(words);
                        ResumeError::Gone(text)
                    }
                    Some(code) if meaning(code) == Meaning::Throttled => {
                        ticket.throttled().await;
                        ResumeError::Retry(text)
                    }
                    _ => ResumeError::Retry(text),
                });
            }
        };
        // No token: the session has timed out.
        let token = answer.token_value.filter(|token| !token.is_empty());
        match token {
            Some(token) => {
                let stream_url = answer
                    .stream_url
                    .filter(|url| !url.is_empty())
                    .map(|url| aws.stream_url(url));
                if let Some(url) = &stream_url {
                    stream_url::check(url, &trusted(aws)).map_err(|error| {
                        ResumeError::Gone(format!("its new stream URL is not dialled: {error}"))
                    })?;
                }
                Ok(Resumed {
                    stream_url,
                    token: Token::new(token),
                })
            }
            None => Err(ResumeError::Gone("the session has timed out".to_owned())),
        }
    }
}

/// Finds credentials that are good, and gives their access key; the reason why there are none says
/// what to do.
async fn renew(aws: &Aws) -> Result<String, ResumeError> {
    match aws.provider().renewed().await {
        Ok(credentials) => Ok(credentials.access_key_id().to_owned()),
        Err(error) => Err(not_renewed(&error)),
    }
}

fn not_renewed(error: &Error) -> ResumeError {
    ResumeError::Retry(match error.hints().first() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    })
}

/// TerminateSession, for a few seconds at most.
pub(super) async fn terminate(cx: &Context, region: &str, id: &str) {
    let Ok(aws) = cx.aws().await else {
        return;
    };
    let call = call_terminate(aws, region, id);
    match tokio::time::timeout(TERMINATE_TIMEOUT, Box::pin(call)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) if code_of(&error) == Some("DoesNotExistException") => {}
        Ok(Err(error)) => {
            let session = session_arn(aws, region, id);
            let words = aws
                .call("ssm:TerminateSession", Some(session), region)
                .failed("the session was not terminated at the service", &error);
            let is_denied = words.kind() == ErrorKind::Denied;
            // Once, however many sessions a command has: they all meet the same.
            if is_denied && !aws.told_unended.swap(true, Ordering::Relaxed) {
                cx.output().note(unended(&words));
            } else {
                cx.output().detail(words.to_string());
            }
        }
        Err(_) => cx
            .output()
            .detail("the session was not terminated at the service: no answer in time"),
    }
}

/// TerminateSession, in its turn among this user's calls and again after a throttle.
pub(super) async fn call_terminate(
    aws: &Aws,
    region: &str,
    id: &str,
) -> Result<TerminateSessionOutput, SdkError<TerminateSessionError, HttpResponse>> {
    let pacer = aws.pacer(region).await;
    let mut ticket = pacer.take_ticket(Operation::TerminateSession, Urgency::Interactive);
    loop {
        ticket.turn(|_| {}).await;
        let answer = aws
            .clients(region)
            .ssm
            .terminate_session()
            .session_id(id)
            .customize()
            .config_override(paced::<TerminateSessionError>())
            .send()
            .await;
        match answer.as_ref().err().and_then(code_of).map(meaning) {
            Some(Meaning::Throttled) => ticket.throttled().await,
            _ => return answer,
        }
    }
}

/// What is told of a session that may not be ended.
fn unended(words: &Error) -> Text {
    let mut lines = vec![Text::foreign(words)];
    lines.push(
        "it ends by itself once it is idle (after 20 minutes, unless the account says otherwise)"
            .into(),
    );
    lines.extend(words.hints().last().map(|hint| Text::from(hint.clone())));
    Text::lines(lines)
}

/// The ARN of a session.
pub(super) fn session_arn(aws: &Aws, region: &str, id: &str) -> String {
    let account = aws.known_account().unwrap_or("*");
    let partition = Partition::of(region).name;
    format!("arn:{partition}:ssm:{region}:{account}:session/{id}")
}
