//! What the driver asks for while a session lasts: signed headers for each dial, and fresh tokens.

use std::time::SystemTime;

use aws_sdk_ssm::{
    config::{retry::RetryConfig, timeout::TimeoutConfig},
    operation::{resume_session::ResumeSessionError, terminate_session::TerminateSessionError},
};
use futures_util::future::BoxFuture;
use http::HeaderMap;
use ops_session::driver::{Gateway, LargePayloads, ResumeError, Resumed, Token};

use super::{TERMINATE_TIMEOUT, paced};
use crate::{
    aws::{Aws, Meaning, code_of, meaning, sign_upgrade},
    context::Context,
    pace::{Operation, Urgency},
};

/// For one ResumeSession; the driver asks again itself.
const RESUME_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

pub(super) struct SessionGateway {
    pub(super) cx: Context,
    pub(super) region: String,
    pub(super) instance: String,
}

impl Gateway for SessionGateway {
    fn headers<'a>(&'a self, stream_url: &'a str) -> BoxFuture<'a, HeaderMap> {
        Box::pin(async move {
            let Ok(aws) = self.cx.aws().await else {
                return HeaderMap::new();
            };
            match aws.credentials().await {
                Ok(credentials) => {
                    sign_upgrade(stream_url, &self.region, &credentials, SystemTime::now())
                }
                Err(error) => {
                    tracing::warn!(%error, "the web-socket upgrade goes unsigned");
                    HeaderMap::new()
                }
            }
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
        let retry = |error: crate::Error| ResumeError::Retry(error.to_string());
        let aws = self.cx.aws().await.map_err(retry)?;
        // The credentials of an hour ago may have been replaced in the meantime.
        renew(aws).await?;
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
        let mut place = pacer.place(Operation::ResumeSession, Urgency::Interactive);
        place.turn(|_| {}).await;
        let mut answer = call().await;
        // Before their time, by the service's word alone.
        if answer.as_ref().err().and_then(code_of).map(meaning) == Some(Meaning::Expired) {
            aws.provider().refused().await;
            renew(aws).await?;
            answer = call().await;
        }
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let call = aws.call("ssm:ResumeSession", None, &self.region);
                let code = code_of(&error).map(str::to_owned);
                let words = call.failed("cannot resume the session", &error);
                let text = words
                    .why()
                    .first()
                    .map_or_else(|| words.to_string(), ToString::to_string);
                return Err(match code.as_deref() {
                    Some("DoesNotExistException") => {
                        ResumeError::Gone("the service no longer knows the session".to_owned())
                    }
                    Some(code) if meaning(code) == Meaning::Denied => ResumeError::Gone(text),
                    Some(code) if meaning(code) == Meaning::Throttled => {
                        place.throttled().await;
                        ResumeError::Retry(text)
                    }
                    _ => ResumeError::Retry(text),
                });
            }
        };
        // No token: the session has timed out.
        let token = answer.token_value.filter(|token| !token.is_empty());
        match token {
            Some(token) => Ok(Resumed {
                stream_url: answer
                    .stream_url
                    .filter(|url| !url.is_empty())
                    .map(|url| aws.stream_url(url)),
                token: Token::new(token),
            }),
            None => Err(ResumeError::Gone("the session has timed out".to_owned())),
        }
    }
}

/// Finds credentials that are good; the reason why there are none says what to do.
async fn renew(aws: &Aws) -> Result<(), ResumeError> {
    match aws.provider().renewed().await {
        Ok(_) => Ok(()),
        Err(error) => Err(ResumeError::Retry(match error.hints().first() {
            Some(hint) => format!("{error}; {hint}"),
            None => error.to_string(),
        })),
    }
}

/// TerminateSession, for a few seconds at most.
pub(super) async fn terminate(cx: &Context, region: &str, id: &str) {
    let Ok(aws) = cx.aws().await else {
        return;
    };
    let pacer = aws.pacer(region).await;
    let mut place = pacer.place(Operation::TerminateSession, Urgency::Interactive);
    let call = async {
        loop {
            place.turn(|_| {}).await;
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
                Some(Meaning::Throttled) => place.throttled().await,
                _ => return answer,
            }
        }
    };
    match tokio::time::timeout(TERMINATE_TIMEOUT, call).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) if code_of(&error) == Some("DoesNotExistException") => {}
        Ok(Err(error)) => {
            let words = aws
                .call("ssm:TerminateSession", None, region)
                .failed("the session was not terminated at the service", &error);
            cx.output().detail(words.to_string());
        }
        Err(_) => cx
            .output()
            .detail("the session was not terminated at the service: no answer in time"),
    }
}
