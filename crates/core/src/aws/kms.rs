//! `kms:GenerateDataKey`, the one call of KMS that a client of Session Manager makes.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ops_profile::values;
use ops_session::{driver::DataKey, encryption::DATA_KEY_BYTES};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    Aws, Service,
    direct::{DirectAnswer, DirectCall, DirectFailure, Input, Limits},
};

/// The name of the operation in `X-Amz-Target`. Source: the service model of KMS.
const TARGET: &str = "TrentService.GenerateDataKey";
/// The agent waits 15 s for the answer to its demand, and that answer has to travel too. An answer
/// of KMS has less than 9 kB: a ciphertext blob of up to 6,144 bytes in base64, and a key.
const LIMITS: Limits = Limits {
    whole: Duration::from_secs(12),
    exchange: Duration::from_secs(5),
    answer_bytes: 64 << 10,
};

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
    /// A data key of the KMS key `key`, asked for in `region`. Takes 12 s at most.
    pub(crate) async fn generate_data_key(
        &self,
        key: &KeyName<'_>,
        region: &str,
        context: &BTreeMap<&'static str, String>,
    ) -> Result<DataKey, DirectFailure> {
        let body = serde_json::to_vec(&Request {
            key_id: key.text,
            number_of_bytes: DATA_KEY_BYTES,
            encryption_context: context,
        })
        .unwrap_or_default();
        let call = DirectCall {
            service: Service::Kms,
            region,
            input: Input::Json {
                target: TARGET,
                body: &body,
            },
            limits: LIMITS,
        };
        self.ask(&call).await.and_then(key_in)
    }
}

/// The data key in `answer`. What holds the key on its way is wiped.
fn key_in(answer: DirectAnswer) -> Result<DataKey, DirectFailure> {
    let key = serde_json::from_slice::<Answer<'_>>(&answer.bytes)
        .ok()
        .and_then(|answer| {
            let plaintext = Zeroizing::new(STANDARD.decode(answer.plaintext).ok()?);
            let blob = STANDARD.decode(answer.ciphertext_blob).ok()?;
            DataKey::new(plaintext, blob).ok()
        });
    match key {
        Some(key) if !key.ciphertext_blob().is_empty() => Ok(key),
        _ => Err(answer.malformed("no data key in it")),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::direct::tests::answered, *};

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

    #[tokio::test]
    async fn an_answer_is_a_key_or_shows_nothing_of_itself() {
        let read = async |body: &str| answered(200, body).await.and_then(key_in);
        let key = STANDARD.encode([7; 64]);
        let good = format!(r#"{{"CiphertextBlob":"AQI=","KeyId":"k","Plaintext":"{key}"}}"#);
        let found = read(&good).await.ok().expect("a key");
        assert_eq!(found.ciphertext_blob(), [1, 2]);
        let short = STANDARD.encode([7; 32]);
        for body in [
            String::new(),
            "{}".to_owned(),
            format!(r#"{{"CiphertextBlob":"AQI=","Plaintext":"{short}"}}"#),
            format!(r#"{{"CiphertextBlob":"","Plaintext":"{key}"}}"#),
            format!(r#"{{"CiphertextBlob":"AQI=","Plaintext":"{key}*"}}"#),
        ] {
            let Err(DirectFailure::Call(error)) = read(&body).await else {
                panic!("a key was found in {body}");
            };
            let shown = format!("{error:?}");
            assert!(!shown.contains(&key) && !shown.contains(&short), "{shown}");
        }
    }
}
