//! `kms:GenerateDataKey`, the one call of KMS that a client of Session Manager makes.
//!
//! Not the SDK's client: one request, which the signer of the SDK signs as well, does not pay for
//! a generated crate of fifty operations in every build and in the binary. Failures are those of
//! the SDK's own type, so that they are told in the same words as every other call's.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use aws_credential_types::Credentials;
use aws_smithy_runtime_api::client::{
    http::{HttpConnector as _, SharedHttpConnector},
    orchestrator::{HttpRequest, HttpResponse},
    result::SdkError,
};
use aws_smithy_types::{body::SdkBody, byte_stream::ByteStream, error::ErrorMetadata};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ops_profile::values;
use ops_session::{driver::DataKey, encryption::DATA_KEY_BYTES};
use ops_ui::Error;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::{
    Aws, Meaning, Service, bounds,
    bounds::AnswerBounds,
    code_of, http, meaning,
    sign::{JsonRequest, sign_json},
};
use crate::partition::Partition;

/// The name of the operation in `X-Amz-Target`. Source: the service model of KMS.
const TARGET: &str = "TrentService.GenerateDataKey";
/// All of the call, credentials and repetitions included: the agent waits 15 s for the answer to
/// its demand, and that answer has to travel too.
const WHOLE_CALL: Duration = Duration::from_secs(12);
/// One exchange: a connection that hangs leaves time for another.
const ONE_EXCHANGE: Duration = Duration::from_secs(5);
/// An answer has less than 9 kB: a ciphertext blob of up to 6,144 bytes in base64, and a key.
const ANSWER_BYTES: usize = 64 << 10;
/// Pauses before a call is repeated, after a throttle or an error of the service; each is drawn
/// from its half to its whole.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(200),
    Duration::from_millis(600),
    Duration::from_millis(1500),
];

pub(crate) type KmsError = SdkError<ErrorMetadata, HttpResponse>;

/// Why there is no data key.
pub(crate) enum Failure {
    /// No credentials; in the words of those who looked for them.
    Credentials(Error),
    Call(Box<KmsError>),
}

/// The name of a KMS key as the account's session preferences write it: an id, an alias, or an ARN
/// of either.
pub(crate) struct KeyName<'a> {
    pub(crate) text: &'a str,
    /// Of an ARN whose region is one.
    pub(crate) region: Option<&'a str>,
    /// Twelve digits, of an ARN.
    pub(crate) account: Option<&'a str>,
}

impl<'a> KeyName<'a> {
    /// Takes any text; the agent says it, and what is not the form of an ARN has no region.
    pub(crate) fn of(text: &'a str) -> Self {
        let mut parts = text.splitn(6, ':');
        let is_arn = parts.next() == Some("arn") && parts.next().is_some();
        let is_of_kms = is_arn && parts.next() == Some("kms");
        let part = |part: Option<&'a str>| part.filter(|part| is_of_kms && !part.is_empty());
        // It becomes a part of a host's name, where nothing else may get in.
        let region = part(parts.next()).filter(|text| text.parse::<values::Region>().is_ok());
        Self {
            text,
            region,
            account: part(parts.next()),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Request<'a> {
    key_id: &'a str,
    number_of_bytes: usize,
    encryption_context: &'a BTreeMap<&'static str, String>,
}

/// An answer, whichever it is. The texts borrow from its bytes, which are wiped: base64 has nothing
/// that JSON escapes.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(rename = "CiphertextBlob", borrow, default)]
    ciphertext_blob: &'a str,
    #[serde(rename = "Plaintext", borrow, default)]
    plaintext: &'a str,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Refusal {
    #[serde(rename = "__type")]
    code: String,
    #[serde(alias = "Message")]
    message: String,
}

/// The host of KMS in `region`. Source: the endpoint rules of KMS.
fn host_of(region: &str, is_fips: bool, is_dual_stack: bool) -> String {
    let service = if is_fips { "kms-fips" } else { "kms" };
    let partition = Partition::of(region);
    let suffix = if is_dual_stack {
        partition.dual_stack_suffix
    } else {
        partition.suffix
    };
    format!("https://{service}.{region}.{suffix}")
}

/// What belongs to the data key of one session, and has to be the same when the agent has it
/// decrypted.
pub(crate) fn encryption_context(
    session_id: &str,
    target: &str,
    challenge: Option<String>,
) -> BTreeMap<&'static str, String> {
    let mut context = BTreeMap::from([
        ("aws:ssm:SessionId", session_id.to_owned()),
        ("aws:ssm:TargetId", target.to_owned()),
    ]);
    if let Some(challenge) = challenge {
        context.insert("aws:ssm:RandomChallenge", challenge);
    }
    context
}

impl Aws {
    /// Where KMS is asked in `region`.
    fn kms_url(&self, region: &str) -> String {
        self.endpoint(Service::Kms)
            .or_else(|| self.kms_url_of_files.clone())
            .unwrap_or_else(|| host_of(region, self.uses_fips(), self.uses_dual_stack()))
    }

    /// A data key of the KMS key `key`, asked for in `region`. Takes 12 s at most.
    pub(crate) async fn generate_data_key(
        &self,
        key: &KeyName<'_>,
        region: &str,
        context: &BTreeMap<&'static str, String>,
    ) -> Result<DataKey, Failure> {
        let limit = bounds::call_limit(self.options.timeout).min(WHOLE_CALL);
        match tokio::time::timeout(limit, self.repeat_call(key, region, context)).await {
            Ok(result) => result,
            Err(elapsed) => Err(Failure::Call(Box::new(SdkError::timeout_error(elapsed)))),
        }
    }

    /// Asks until there is an answer that another try would not change.
    async fn repeat_call(
        &self,
        key: &KeyName<'_>,
        region: &str,
        context: &BTreeMap<&'static str, String>,
    ) -> Result<DataKey, Failure> {
        let mut pauses = PAUSES.into_iter();
        let mut was_renewed = false;
        loop {
            let credentials = self.credentials().await.map_err(Failure::Credentials)?;
            let error = match self.call_once(&credentials, key, region, context).await {
                Err(Failure::Call(error)) => error,
                settled => return settled,
            };
            let class = code_of(&*error).map(meaning);
            if class == Some(Meaning::Expired) && !was_renewed {
                // Before their time, by the service's word alone.
                was_renewed = true;
                self.provider.refused(credentials.access_key_id()).await;
                self.provider
                    .renewed()
                    .await
                    .map_err(Failure::Credentials)?;
                continue;
            }
            let status = error.raw_response().map(|answer| answer.status().as_u16());
            let may_pass = class == Some(Meaning::Throttled)
                || status.is_some_and(|status| status >= 500)
                || matches!(&*error, SdkError::DispatchFailure(failure) if failure.is_io() || failure.is_timeout());
            let Some(pause) = pauses.next().filter(|_| may_pass) else {
                return Err(Failure::Call(error));
            };
            tracing::debug!(?pause, "GenerateDataKey is called again");
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        }
    }

    async fn call_once(
        &self,
        credentials: &Credentials,
        key: &KeyName<'_>,
        region: &str,
        context: &BTreeMap<&'static str, String>,
    ) -> Result<DataKey, Failure> {
        let url = self.kms_url(region);
        let connector = self.kms_connector(&url).map_err(Failure::Credentials)?;
        let body = serde_json::to_vec(&Request {
            key_id: key.text,
            number_of_bytes: DATA_KEY_BYTES,
            encryption_context: context,
        })
        .unwrap_or_default();
        let signed = sign_json(
            &JsonRequest {
                url: &url,
                service: "kms",
                region,
                target: TARGET,
                body: &body,
            },
            credentials,
            SystemTime::now(),
        );
        let failed = |error: KmsError| Failure::Call(Box::new(error));
        let mut request = HttpRequest::new(SdkBody::from(body));
        let headers = signed.map_err(|error| failed(SdkError::construction_failure(error)))?;
        for (name, value) in headers {
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
        match tokio::time::timeout(ONE_EXCHANGE, exchange).await {
            Ok(result) => result.map_err(failed),
            Err(elapsed) => Err(failed(SdkError::timeout_error(elapsed))),
        }
    }

    /// One connector for all data keys of a process, so that connections are used again.
    fn kms_connector(&self, url: &str) -> Result<SharedHttpConnector, Error> {
        if let Some(connector) = self.kms_connector.get() {
            return Ok(connector.clone());
        }
        let plain = url.starts_with("http://");
        let connector = http::connector(&self.network, plain, self.options.allow_plain_http)?;
        let bounds = AnswerBounds {
            bytes: ANSWER_BYTES,
            time: ONE_EXCHANGE,
        };
        let connector = bounds::bounded_connector(connector, bounds);
        Ok(self.kms_connector.get_or_init(|| connector).clone())
    }
}

/// The data key in `answer`, or the error that it tells of. What holds the key on its way is wiped.
async fn read_answer(mut answer: HttpResponse) -> Result<DataKey, KmsError> {
    let body = ByteStream::new(answer.take_body());
    let mut bytes = match body.collect().await {
        // Nobody else has the bytes, so that this copies nothing.
        Ok(bytes) => Zeroizing::new(Vec::from(bytes.into_bytes())),
        Err(error) => return Err(SdkError::response_error(error, answer)),
    };
    if answer.status().is_success() {
        let key = serde_json::from_slice::<Answer<'_>>(&bytes)
            .ok()
            .and_then(|answer| {
                let plaintext = Zeroizing::new(STANDARD.decode(answer.plaintext).ok()?);
                let blob = STANDARD.decode(answer.ciphertext_blob).ok()?;
                DataKey::new(plaintext, blob).ok()
            });
        return match key {
            Some(key) if !key.ciphertext_blob().is_empty() => Ok(key),
            // Nothing of the body may be shown: it may hold a key all the same.
            _ => {
                bytes.zeroize();
                Err(SdkError::response_error("no data key in it", answer))
            }
        };
    }
    let refusal = serde_json::from_slice::<Refusal>(&bytes).unwrap_or_default();
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
mod tests {
    use super::*;

    #[test]
    fn the_request_is_that_of_the_official_client() {
        let file: serde_json::Value = serde_json::from_str(include_str!(
            "../../../session/tests/data/protocol-vectors.json"
        ))
        .expect("the vectors are JSON");
        let vectors = file["vectors"].as_array().expect("a list");
        let find = |id: &str| vectors.iter().find(|v| v["id"] == id).expect("a vector");
        let official = &find("kms-generate-data-key-request")["request"];
        let request = |challenge| {
            let context =
                encryption_context("alice-0123456789abcdef0", "i-0123456789abcdef0", challenge);
            serde_json::to_value(Request {
                key_id: official["KeyId"].as_str().expect("a key"),
                number_of_bytes: DATA_KEY_BYTES,
                encryption_context: &context,
            })
            .expect("JSON")
        };
        assert_eq!(&request(None), official);
        let challenge = &find("kms-random-challenge-text")["challenge_text"];
        let ours = request(challenge.as_str().map(str::to_owned));
        let ours = &ours["EncryptionContext"];
        assert_eq!(&ours["aws:ssm:RandomChallenge"], challenge);
        assert_eq!(ours.as_object().expect("a map").len(), 3);
    }

    #[test]
    fn the_host_is_that_of_the_endpoint_rules() {
        for (region, is_fips, is_dual_stack, host) in [
            (
                "eu-west-1",
                false,
                false,
                "https://kms.eu-west-1.amazonaws.com",
            ),
            (
                "us-east-1",
                true,
                false,
                "https://kms-fips.us-east-1.amazonaws.com",
            ),
            (
                "us-east-1",
                true,
                true,
                "https://kms-fips.us-east-1.api.aws",
            ),
            (
                "cn-north-1",
                false,
                false,
                "https://kms.cn-north-1.amazonaws.com.cn",
            ),
            (
                "cn-north-1",
                false,
                true,
                "https://kms.cn-north-1.api.amazonwebservices.com.cn",
            ),
        ] {
            assert_eq!(host_of(region, is_fips, is_dual_stack), host);
        }
    }

    #[test]
    fn a_region_is_read_from_an_arn_alone_and_is_one() {
        let read = |text| {
            let name = KeyName::of(text);
            (name.region, name.account)
        };
        let (region, account) = (Some("eu-west-1"), Some("111122223333"));
        let arn = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd";
        assert_eq!(read(arn), (region, account));
        let alias = "arn:aws-cn:kms:cn-north-1:111122223333:alias/x:y";
        assert_eq!(read(alias), (Some("cn-north-1"), account));
        for text in [
            "1234abcd",
            "alias/sessions",
            "",
            "arn:aws:kms",
            "arn:aws:s3:eu-west-1:1:key/k",
        ] {
            assert_eq!(read(text), (None, None), "{text}");
        }
        // What an agent makes up leads to no host of its own.
        for region in [
            "evil.example/",
            "eu-west-1.evil.example#",
            "x",
            "EU-WEST-1",
            "a@b-1",
        ] {
            let arn = format!("arn:aws:kms:{region}:1:key/k");
            assert_eq!(KeyName::of(&arn).region, None, "{region}");
        }
    }

    fn answer(status: u16, body: &str) -> HttpResponse {
        HttpResponse::new(status.try_into().expect("a status"), SdkBody::from(body))
    }

    #[tokio::test]
    async fn an_answer_is_a_key_or_an_error_with_its_code() {
        let key = STANDARD.encode([7; 64]);
        let good = format!(r#"{{"CiphertextBlob":"AQI=","KeyId":"k","Plaintext":"{key}"}}"#);
        let read = read_answer(answer(200, &good)).await.expect("a key");
        assert_eq!(read.ciphertext_blob(), [1, 2]);
        let short = STANDARD.encode([7; 32]);
        for body in [
            String::new(),
            "{}".to_owned(),
            format!(r#"{{"CiphertextBlob":"AQI=","Plaintext":"{short}"}}"#),
            format!(r#"{{"CiphertextBlob":"","Plaintext":"{key}"}}"#),
            format!(r#"{{"CiphertextBlob":"AQI=","Plaintext":"{key}*"}}"#),
        ] {
            let error = read_answer(answer(200, &body)).await.expect_err("no key");
            let shown = format!("{error:?}");
            assert!(!shown.contains(&key) && !shown.contains(&short), "{shown}");
        }
        let denied = r#"{"__type":"com.amazon#AccessDeniedException","Message":"no"}"#;
        let error = read_answer(answer(400, denied)).await.expect_err("denied");
        assert_eq!(code_of(&error), Some("AccessDeniedException"));
        let page = read_answer(answer(403, "<html>"))
            .await
            .expect_err("a page");
        assert_eq!(code_of(&page), None);
    }
}
