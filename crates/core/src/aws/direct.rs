//! Calls that no client of the SDK makes: one request, which the signer of the SDK signs as well.
//!
//! A generated crate of fifty operations for one of them would be paid for in every build and in
//! the binary. Endpoints, proxies, certificates, renewal of credentials and repetition are those
//! of every other call, and failures are of the SDK's own type, so that they are told in the same
//! words.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_smithy_runtime_api::client::{
    http::{HttpConnector as _, SharedHttpConnector},
    orchestrator::{HttpRequest, HttpResponse},
    result::SdkError,
};
use aws_smithy_types::{body::SdkBody, byte_stream::ByteStream, error::ErrorMetadata};
use aws_smithy_xml::decode::{Document, ScopedDecoder, XmlDecodeError, try_data};
use ops_ui::Error;
use serde::{Deserialize, de::DeserializeOwned};
use url::form_urlencoded;
use zeroize::Zeroizing;

use super::{
    Aws, Call, Meaning, Service, bounds,
    bounds::AnswerBounds,
    code_of, http, meaning,
    sign::{SignedPost, sign_post},
};

/// Pauses before a call is repeated, after a throttle or an error of the service; each is drawn
/// from its half to its whole.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(200),
    Duration::from_millis(600),
    Duration::from_millis(1500),
];

/// The failure of a call, as of those that the SDK makes.
pub(crate) type DirectError = SdkError<ErrorMetadata, HttpResponse>;

/// Why a call has no answer.
pub(crate) enum DirectFailure {
    /// No credentials, or no way to make a connection; in the words of those who looked for them.
    Unasked(Error),
    /// The call was made, or could not be.
    Call(Box<DirectError>),
}

impl DirectFailure {
    /// The error in words. `what` says what could not be done, `call` which call it was.
    pub(crate) fn told(&self, call: &Call, what: impl Into<String>) -> Error {
        match self {
            Self::Unasked(error) => Error::new(error.kind(), what.into())
                .caused_by(error.what())
                .caused_as(error)
                .hinted_as(error),
            Self::Call(error) => call.failed(what, error),
        }
    }

    /// The service's own error code, where it answered with one.
    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Self::Unasked(_) => None,
            Self::Call(error) => code_of(error),
        }
    }
}

/// One call: of which service, where, what, and what it may cost.
pub(crate) struct DirectCall<'a> {
    pub(crate) service: Service,
    /// Of the endpoint and the signature.
    pub(crate) region: &'a str,
    pub(crate) input: Input<'a>,
    pub(crate) limits: Limits,
}

impl DirectCall<'_> {
    /// The operation, or the path that stands for it.
    fn name(&self) -> &str {
        match self.input {
            Input::Json { target, .. } => target.rsplit('.').next().unwrap_or(target),
            Input::Query { action, .. } => action,
            Input::RestJson { path, .. } | Input::WithSsoToken { path, .. } => path,
        }
    }
}

/// What is asked, in the protocol of the service.
pub(crate) enum Input<'a> {
    /// AWS JSON 1.1.
    Json {
        /// The operation as `X-Amz-Target` names it: `TrentService.GenerateDataKey`.
        target: &'static str,
        body: &'a [u8],
    },
    /// AWS Query: a form, answered in XML.
    Query {
        /// The version of the API, which is a date.
        version: &'static str,
        /// The operation: `ListAccountAliases`.
        action: &'static str,
        parameters: &'a [(String, String)],
    },
    /// REST with JSON: a POST to `path`.
    RestJson { path: &'static str, body: &'a [u8] },
    /// A POST to `path` without a signature: the token of an SSO login is all it carries.
    WithSsoToken { path: &'static str, token: &'a str },
}

/// What a call may cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// All of it, credentials and repetitions included; `--timeout` shortens it.
    pub(crate) whole: Duration,
    /// One exchange: a connection that hangs leaves time for another.
    pub(crate) exchange: Duration,
    /// The body of an answer.
    pub(crate) answer_bytes: usize,
}

impl Limits {
    /// Those of a call that somebody waits for and that nothing else hurries.
    pub(crate) const USUAL: Self = Self {
        whole: Duration::from_secs(60),
        exchange: Duration::from_secs(20),
        answer_bytes: 4 << 20,
    };
    /// Those of a call whose answer is welcome and not needed.
    pub(crate) const SHORT: Self = Self {
        whole: Duration::from_secs(3),
        exchange: Duration::from_secs(2),
        answer_bytes: 256 << 10,
    };
}

/// An answer that tells of success.
pub(crate) struct DirectAnswer {
    /// The body; wiped when it is dropped.
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    /// Head of the answer; its body has been taken.
    response: HttpResponse,
}

impl DirectAnswer {
    /// The answer's JSON.
    pub(crate) fn json<T: DeserializeOwned>(self) -> Result<T, DirectFailure> {
        serde_json::from_slice(&self.bytes).map_err(|_| self.malformed("not the JSON expected"))
    }

    /// What `read` finds in the answer's XML, given its outermost element.
    pub(crate) fn xml<T>(
        self,
        read: impl FnOnce(&mut ScopedDecoder<'_, '_>) -> Result<T, XmlDecodeError>,
    ) -> Result<T, DirectFailure> {
        let parsed = read_xml(&self.bytes, read);
        parsed.map_err(|_| self.malformed("not the XML expected"))
    }

    /// An answer that is not what the operation gives. Nothing of its body is shown, which may hold
    /// a secret all the same.
    pub(crate) fn malformed(self, why: &'static str) -> DirectFailure {
        DirectFailure::Call(Box::new(SdkError::response_error(why, self.response)))
    }
}

fn read_xml<T>(
    bytes: &[u8],
    read: impl FnOnce(&mut ScopedDecoder<'_, '_>) -> Result<T, XmlDecodeError>,
) -> Result<T, XmlDecodeError> {
    let mut document = Document::try_from(bytes)?;
    read(&mut document.root_element()?)
}

/// Every text of the elements `name` of the query protocol's lists, wherever they are below
/// `parent`: `<AccountAliases><member>text</member>…`.
pub(crate) fn texts_of(
    parent: &mut ScopedDecoder<'_, '_>,
    list: &str,
    member: &str,
) -> Result<Vec<String>, XmlDecodeError> {
    let mut texts = Vec::new();
    while let Some(mut child) = parent.next_tag() {
        if !child.start_el().matches(list) {
            texts.extend(texts_of(&mut child, list, member)?);
            continue;
        }
        while let Some(mut entry) = child.next_tag() {
            if entry.start_el().matches(member) {
                texts.push(try_data(&mut entry)?.into_owned());
            }
        }
    }
    Ok(texts)
}

impl Aws {
    /// Makes `call`, again after what another try may change.
    ///
    /// # Errors
    /// No credentials; no connection; what the service answered.
    pub(crate) async fn ask(&self, call: &DirectCall<'_>) -> Result<DirectAnswer, DirectFailure> {
        let limit = bounds::call_limit(self.options.timeout).min(call.limits.whole);
        match tokio::time::timeout(limit, self.repeat_call(call)).await {
            Ok(result) => result,
            Err(elapsed) => Err(DirectFailure::Call(Box::new(SdkError::timeout_error(
                elapsed,
            )))),
        }
    }

    /// Asks until there is an answer that another try would not change.
    async fn repeat_call(&self, call: &DirectCall<'_>) -> Result<DirectAnswer, DirectFailure> {
        let is_signed = !matches!(call.input, Input::WithSsoToken { .. });
        let mut pauses = PAUSES.into_iter();
        let mut was_renewed = false;
        let mut watched = None;
        loop {
            let credentials = match is_signed {
                true => Some(self.credentials().await.map_err(DirectFailure::Unasked)?),
                false => None,
            };
            // Once there are credentials, for which the user may have been asked.
            watched.get_or_insert_with(|| self.slow_calls.watch(call.name()));
            let error = match self.call_once(credentials.as_ref(), call).await {
                Err(DirectFailure::Call(error)) => error,
                settled => return settled,
            };
            let class = code_of(&error).map(meaning);
            if let Some(credentials) = &credentials
                && class == Some(Meaning::Expired)
                && !was_renewed
            {
                // Before their time, by the service's word alone.
                was_renewed = true;
                self.provider.refused(credentials.access_key_id()).await;
                self.provider
                    .renewed()
                    .await
                    .map_err(DirectFailure::Unasked)?;
                continue;
            }
            let status = error.raw_response().map(|answer| answer.status().as_u16());
            let may_pass = class == Some(Meaning::Throttled)
                || status.is_some_and(|status| status >= 500)
                || matches!(&*error, SdkError::DispatchFailure(failure) if failure.is_io() || failure.is_timeout());
            let Some(pause) = pauses.next().filter(|_| may_pass) else {
                return Err(DirectFailure::Call(error));
            };
            tracing::debug!(service = call.service.key(), ?pause, "a call is repeated");
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        }
    }

    /// One exchange. Without `credentials` it is not signed.
    async fn call_once(
        &self,
        credentials: Option<&Credentials>,
        call: &DirectCall<'_>,
    ) -> Result<DirectAnswer, DirectFailure> {
        let mut url = self.url_of(call.service, call.region);
        let connector = self.connector(&url).map_err(DirectFailure::Unasked)?;
        let bounds = AnswerBounds {
            bytes: call.limits.answer_bytes,
            time: call.limits.exchange,
        };
        let connector = bounds::bounded_connector(connector, bounds);
        let form;
        let (headers, body): (Vec<(&'static str, &str)>, &[u8]) = match &call.input {
            Input::Json { target, body } => (
                vec![
                    ("content-type", "application/x-amz-json-1.1"),
                    ("x-amz-target", target),
                ],
                body,
            ),
            Input::Query {
                version,
                action,
                parameters,
            } => {
                form = form_of(version, action, parameters);
                let content_type = "application/x-www-form-urlencoded; charset=utf-8";
                (vec![("content-type", content_type)], form.as_bytes())
            }
            Input::RestJson { path, body } => {
                url = format!("{}{path}", url.trim_end_matches('/'));
                (vec![("content-type", "application/json")], body)
            }
            Input::WithSsoToken { path, token } => {
                url = format!("{}{path}", url.trim_end_matches('/'));
                (vec![("x-amz-sso_bearer_token", token)], b"")
            }
        };
        let failed = |error: DirectError| DirectFailure::Call(Box::new(error));
        let signed = match credentials {
            None => Vec::new(),
            Some(credentials) => {
                let post = SignedPost {
                    url: &url,
                    service: call.service.signing_name(),
                    region: call.region,
                    headers: &headers,
                    body,
                };
                sign_post(&post, credentials, SystemTime::now())
                    .map_err(|error| failed(SdkError::construction_failure(error)))?
            }
        };
        let mut request = HttpRequest::new(SdkBody::from(body.to_vec()));
        // The signature covers the first of these, so that both go out exactly as they are here.
        for (name, value) in headers {
            request.headers_mut().insert(name, value.to_owned());
        }
        for (name, value) in signed {
            request.headers_mut().insert(name, value);
        }
        request
            .set_method("POST")
            .and_then(|()| request.set_uri(url))
            .map_err(|error| failed(SdkError::construction_failure(error)))?;
        let exchange = async {
            let answer = connector.call(request).await;
            read_answer(answer.map_err(SdkError::dispatch_failure)?).await
        };
        match tokio::time::timeout(call.limits.exchange, exchange).await {
            Ok(result) => result.map_err(failed),
            Err(elapsed) => Err(failed(SdkError::timeout_error(elapsed))),
        }
    }

    /// One connector for all such calls of a process, so that connections are used again.
    fn connector(&self, url: &str) -> Result<SharedHttpConnector, Error> {
        let is_plain = url.starts_with("http://");
        let kept = &self.connectors[usize::from(!is_plain)];
        if let Some(connector) = kept.get() {
            return Ok(connector.clone());
        }
        let connector = http::connector(&self.network, is_plain, self.options.allow_plain_http)?;
        Ok(kept.get_or_init(|| connector).clone())
    }
}

fn form_of(version: &str, action: &str, parameters: &[(String, String)]) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("Action", action);
    form.append_pair("Version", version);
    form.extend_pairs(parameters);
    form.finish()
}

/// A refusal, as the JSON and the REST services write it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Refusal {
    #[serde(rename = "__type")]
    code: String,
    #[serde(alias = "Message")]
    message: String,
}

impl Refusal {
    /// A refusal of a query service: `<ErrorResponse><Error><Code>…`.
    fn of_xml(bytes: &[u8]) -> Option<Self> {
        let mut refusal = Self::default();
        read_xml(bytes, |root| refusal.read(root)).ok()?;
        Some(refusal)
    }

    fn read(&mut self, parent: &mut ScopedDecoder<'_, '_>) -> Result<(), XmlDecodeError> {
        while let Some(mut child) = parent.next_tag() {
            match child.start_el().local() {
                "Code" => self.code = try_data(&mut child)?.into_owned(),
                "Message" => self.message = try_data(&mut child)?.into_owned(),
                "Error" | "Errors" => self.read(&mut child)?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// What `answer` holds, or the error that it tells of. The body on its way is wiped.
async fn read_answer(mut answer: HttpResponse) -> Result<DirectAnswer, DirectError> {
    let body = ByteStream::new(answer.take_body());
    let mut bytes = match body.collect().await {
        // Nobody else has the bytes, so that this copies nothing.
        Ok(bytes) => Zeroizing::new(Vec::from(bytes.into_bytes())),
        Err(error) => return Err(SdkError::response_error(error, answer)),
    };
    if answer.status().is_success() {
        return Ok(DirectAnswer {
            bytes,
            response: answer,
        });
    }
    let refusal = serde_json::from_slice::<Refusal>(&bytes)
        .ok()
        .or_else(|| Refusal::of_xml(&bytes))
        .unwrap_or_default();
    // JSON services say their code in the body, in a header, or in both, with a namespace before
    // `#`.
    let code = match refusal.code.as_str() {
        "" => answer.headers().get("x-amzn-errortype").unwrap_or_default(),
        code => code,
    };
    let mut metadata = ErrorMetadata::builder().message(refusal.message);
    if !code.is_empty() {
        metadata = metadata.code(code.rsplit('#').next().unwrap_or(code));
    }
    let metadata = metadata.build();
    *answer.body_mut() = SdkBody::from(std::mem::take(&mut *bytes));
    Err(SdkError::service_error(metadata, answer))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::aws) async fn answered(
        status: u16,
        body: &str,
    ) -> Result<DirectAnswer, DirectFailure> {
        let status = status.try_into().expect("a status");
        let response = HttpResponse::new(status, SdkBody::from(body));
        let answer = read_answer(response).await;
        answer.map_err(|error| DirectFailure::Call(Box::new(error)))
    }

    #[tokio::test]
    async fn a_refusal_has_its_code_in_the_form_of_each_protocol() {
        for (body, code) in [
            (
                r#"{"__type":"com.amazon#AccessDeniedException","Message":"no"}"#,
                Some("AccessDeniedException"),
            ),
            (
                r#"<?xml version="1.0"?><ErrorResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>no</Message></Error><RequestId>r</RequestId></ErrorResponse>"#,
                Some("AccessDenied"),
            ),
            ("<html>", None),
            ("", None),
        ] {
            let failure = answered(403, body).await.err().expect("a refusal");
            assert_eq!(failure.code(), code, "{body}");
        }
    }

    #[tokio::test]
    async fn the_texts_of_a_list_are_found_below_whatever_is_around_it() {
        let body = "<ListAccountAliasesResponse xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\"><ListAccountAliasesResult><IsTruncated>false</IsTruncated><AccountAliases><member>pay&amp;go</member></AccountAliases></ListAccountAliasesResult></ListAccountAliasesResponse>";
        let answer = answered(200, body).await.ok().expect("an answer");
        let texts = answer.xml(|root| texts_of(root, "AccountAliases", "member"));
        assert_eq!(texts.ok().expect("XML"), ["pay&go"]);
        let page = answered(200, "<html>").await.ok().expect("an answer");
        let texts = page.xml(|root| texts_of(root, "AccountAliases", "member"));
        assert!(texts.is_ok_and(|texts| texts.is_empty()));
        let page = answered(200, "nothing").await.ok().expect("an answer");
        assert!(page.xml(|root| texts_of(root, "a", "b")).is_err());
    }

    #[test]
    fn a_form_escapes_what_is_put_into_it() {
        let parameters = [(
            "ActionNames.member.1".to_owned(),
            "ssm:Start&x=1".to_owned(),
        )];
        assert_eq!(
            form_of("2010-05-08", "SimulatePrincipalPolicy", &parameters),
            "Action=SimulatePrincipalPolicy&Version=2010-05-08&ActionNames.member.1=ssm%3AStart%26x%3D1"
        );
    }
}
