//! Signature Version 4, the verifying side.
//!
//! Written from the public description, apart from the signer that the client uses, so that each
//! checks the other.

use std::fmt::Write as _;

use aws_lc_rs::{constant_time, digest, hmac};
use http::request::Parts;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;

use crate::{
    credentials::{Identity, Key, Keyring, hex},
    error::ApiError,
    service::Service,
};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// How far the clocks may be apart; the service's own limit for header signatures.
const SKEW_SECONDS: i64 = 300;
/// Payload hash of presigned URLs and of bodies that are not signed.
pub(crate) const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";
/// SHA-256 of nothing.
pub(crate) const EMPTY_SHA256: &str =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// What a request says about its signature, not yet believed.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) access_key_id: String,
    /// `YYYYMMDD` of the scope.
    pub(crate) date: String,
    pub(crate) region: String,
    pub(crate) service: String,
    signed_headers: Vec<String>,
    signature: String,
    /// `YYYYMMDDTHHMMSSZ`.
    amz_date: String,
    token: Option<String>,
    /// Presigned: the signature is in the query, good for so many seconds.
    expires_seconds: Option<i64>,
}

/// Why a request is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("no signature")]
    Missing,
    #[error("signature lacks parts")]
    Incomplete,
    #[error("unknown access key")]
    UnknownKey,
    #[error("session token is missing or wrong")]
    WrongToken,
    #[error("signature differs")]
    WrongSignature,
    #[error("clocks are too far apart")]
    Skewed,
    #[error("temporary keys have expired")]
    Expired,
    #[error("presigned URL has expired")]
    UrlExpired,
}

impl Refusal {
    /// As `service` answers it.
    pub(crate) fn error(self, service: Service) -> ApiError {
        let denied = http::StatusCode::FORBIDDEN;
        match service {
            Service::Ec2 => match self {
                Self::Missing => ApiError::new("MissingAuthenticationToken", "Request is missing Authentication Token").with_status(denied),
                Self::Expired | Self::Skewed | Self::UrlExpired => ApiError::new("RequestExpired", "Request has expired."),
                Self::Incomplete => ApiError::new("IncompleteSignature", "The request signature does not conform to AWS standards."),
                Self::UnknownKey | Self::WrongToken | Self::WrongSignature => {
                    ApiError::new("AuthFailure", "AWS was not able to validate the provided access credentials").with_status(http::StatusCode::UNAUTHORIZED)
                }
            },
            Service::Sts | Service::Iam => match self {
                Self::Missing => ApiError::new("MissingAuthenticationToken", "Request is missing Authentication Token"),
                Self::Incomplete => ApiError::new("IncompleteSignature", "The request signature does not conform to AWS standards."),
                Self::Expired => ApiError::new("ExpiredToken", "The security token included in the request is expired"),
                Self::UnknownKey | Self::WrongToken => ApiError::new("InvalidClientTokenId", "The security token included in the request is invalid."),
                Self::Skewed | Self::UrlExpired => ApiError::new("SignatureDoesNotMatch", "Signature expired: the request's time is too far from the server's"),
                Self::WrongSignature => ApiError::new("SignatureDoesNotMatch", SIGNATURE_DIFFERS),
            }
            .with_status(denied),
            Service::S3 => match self {
                Self::Missing | Self::Incomplete => ApiError::new("AccessDenied", "Access Denied"),
                Self::UnknownKey => ApiError::new("InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."),
                Self::WrongToken => ApiError::new("InvalidToken", "The provided token is malformed or otherwise invalid."),
                Self::Expired => ApiError::new("ExpiredToken", "The provided token has expired."),
                Self::UrlExpired => ApiError::new("AccessDenied", "Request has expired"),
                Self::Skewed => ApiError::new("RequestTimeTooSkewed", "The difference between the request time and the current time is too large."),
                Self::WrongSignature => ApiError::new("SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided. Check your key and signing method."),
            }
            .with_status(denied),
            _ => match self {
                Self::Missing => ApiError::new("MissingAuthenticationTokenException", "Missing Authentication Token"),
                Self::Incomplete => ApiError::new("IncompleteSignatureException", "Authorization header requires 'Credential', 'Signature', 'SignedHeaders' and a date."),
                Self::Expired => ApiError::new("ExpiredTokenException", "The security token included in the request is expired"),
                Self::UnknownKey | Self::WrongToken => ApiError::new("UnrecognizedClientException", "The security token included in the request is invalid."),
                Self::Skewed | Self::UrlExpired => ApiError::new("InvalidSignatureException", "Signature expired: the request's time is too far from the server's"),
                Self::WrongSignature => ApiError::new("InvalidSignatureException", SIGNATURE_DIFFERS),
            },
        }
    }
}

const SIGNATURE_DIFFERS: &str = "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.";

/// How a `+` in the query was meant when it was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plus {
    /// A plus sign.
    Literal,
    /// A space, as form decoders have it; the official client signs its upgrade so.
    Space,
}

impl Claim {
    /// Reads the Authorization header, else the query. `Ok(None)` means that there is no signature
    /// at all.
    ///
    /// # Errors
    /// [`Refusal::Incomplete`] if there is one with parts missing.
    pub(crate) fn read(parts: &Parts) -> Result<Option<Self>, Refusal> {
        let header = |name: &str| {
            parts
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        if let Some(authorization) = header("authorization") {
            let Some(rest) = authorization.strip_prefix(ALGORITHM) else {
                return Err(Refusal::Incomplete);
            };
            let field = |name: &str| {
                rest.split(',').find_map(|part| {
                    part.trim()
                        .strip_prefix(name)
                        .and_then(|value| value.strip_prefix('='))
                })
            };
            let (Some(credential), Some(signed), Some(signature)) = (
                field("Credential"),
                field("SignedHeaders"),
                field("Signature"),
            ) else {
                return Err(Refusal::Incomplete);
            };
            let amz_date = header("x-amz-date").ok_or(Refusal::Incomplete)?;
            let claim = Self::assemble(credential, signed, signature, amz_date)?;
            return Ok(Some(Self {
                token: header("x-amz-security-token"),
                ..claim
            }));
        }
        let query = parts.uri.query().unwrap_or("");
        let value = |name: &str| {
            query.split('&').find_map(|pair| {
                let (key, value) = pair.split_once('=')?;
                (key == name).then(|| percent_decode_str(value).decode_utf8_lossy().into_owned())
            })
        };
        if value("X-Amz-Algorithm").is_none_or(|algorithm| algorithm != ALGORITHM) {
            return Ok(None);
        }
        let (Some(credential), Some(signed), Some(signature), Some(amz_date), Some(expires)) = (
            value("X-Amz-Credential"),
            value("X-Amz-SignedHeaders"),
            value("X-Amz-Signature"),
            value("X-Amz-Date"),
            value("X-Amz-Expires").and_then(|text| text.parse::<i64>().ok()),
        ) else {
            return Err(Refusal::Incomplete);
        };
        let claim = Self::assemble(&credential, &signed, &signature, amz_date)?;
        Ok(Some(Self {
            token: value("X-Amz-Security-Token"),
            expires_seconds: Some(expires),
            ..claim
        }))
    }

    /// The signature is in the URL.
    pub(crate) const fn is_presigned(&self) -> bool {
        self.expires_seconds.is_some()
    }

    fn assemble(
        credential: &str,
        signed_headers: &str,
        signature: &str,
        amz_date: String,
    ) -> Result<Self, Refusal> {
        let mut scope = credential.split('/');
        let mut next = || scope.next().filter(|part| !part.is_empty());
        let (
            Some(access_key_id),
            Some(date),
            Some(region),
            Some(service),
            Some("aws4_request"),
            None,
        ) = (next(), next(), next(), next(), next(), next())
        else {
            return Err(Refusal::Incomplete);
        };
        if amz_date.get(..8) != Some(date) {
            return Err(Refusal::Incomplete);
        }
        Ok(Self {
            access_key_id: access_key_id.to_owned(),
            date: date.to_owned(),
            region: region.to_owned(),
            service: service.to_owned(),
            signed_headers: signed_headers.split(';').map(str::to_owned).collect(),
            signature: signature.to_owned(),
            amz_date,
            token: None,
            expires_seconds: None,
        })
    }

    /// Checks the signature over a request whose payload has the hash `payload_sha256`.
    ///
    /// # Errors
    /// See [`Refusal`]; nothing of the request is to be believed then.
    pub(crate) fn verify(
        &self,
        parts: &Parts,
        payload_sha256: &str,
        plus: Plus,
        keyring: &Keyring,
        now: Timestamp,
    ) -> Result<Identity, Refusal> {
        let key = keyring
            .key(&self.access_key_id)
            .ok_or(Refusal::UnknownKey)?;
        if !same(key.session_token.as_deref(), self.token.as_deref()) {
            return Err(Refusal::WrongToken);
        }
        let host_is_signed = self.signed_headers.iter().any(|name| name == "host");
        let date_is_signed = self.expires_seconds.is_some()
            || self.signed_headers.iter().any(|name| name == "x-amz-date");
        if !host_is_signed || !date_is_signed {
            return Err(Refusal::Incomplete);
        }
        let expected = self.signature_of(parts, payload_sha256, plus, &key);
        if constant_time::verify_slices_are_equal(expected.as_bytes(), self.signature.as_bytes())
            .is_err()
        {
            return Err(Refusal::WrongSignature);
        }
        let signed_at = parse_amz_date(&self.amz_date).ok_or(Refusal::Incomplete)?;
        let age_seconds = now.as_second() - signed_at.as_second();
        match self.expires_seconds {
            Some(lifetime) if age_seconds > lifetime => return Err(Refusal::UrlExpired),
            Some(_) if age_seconds < -SKEW_SECONDS => return Err(Refusal::Skewed),
            None if age_seconds.abs() > SKEW_SECONDS => return Err(Refusal::Skewed),
            _ => {}
        }
        if key.expires.is_some_and(|expires| expires <= now) {
            return Err(Refusal::Expired);
        }
        Ok(key.identity)
    }

    fn signature_of(&self, parts: &Parts, payload_sha256: &str, plus: Plus, key: &Key) -> String {
        let canonical = self.canonical_request(parts, payload_sha256, plus);
        let scope = format!(
            "{}/{}/{}/aws4_request",
            self.date, self.region, self.service
        );
        let text = format!(
            "{ALGORITHM}\n{}\n{scope}\n{}",
            self.amz_date,
            sha256_hex(canonical.as_bytes())
        );
        let mut signing_key = format!("AWS4{}", key.secret_access_key).into_bytes();
        for part in [&self.date, &self.region, &self.service, "aws4_request"] {
            signing_key = hmac_sha256(&signing_key, part.as_bytes());
        }
        hex(&hmac_sha256(&signing_key, text.as_bytes()))
    }

    fn canonical_request(&self, parts: &Parts, payload_sha256: &str, plus: Plus) -> String {
        let method = parts.method.as_str();
        let path = if self.service == "s3" {
            // S3 alone encodes a path once; what was sent is normalised, so that both spellings of
            // a byte agree.
            encode(
                &percent_decode_str(parts.uri.path()).collect::<Vec<u8>>(),
                true,
            )
        } else {
            encode(parts.uri.path().as_bytes(), true)
        };
        let mut canonical = format!("{method}\n{path}\n{}\n", canonical_query(parts, plus));
        for name in &self.signed_headers {
            let values: Vec<String> = parts
                .headers
                .get_all(name.as_str())
                .iter()
                .map(|value| {
                    String::from_utf8_lossy(value.as_bytes())
                        .split_whitespace()
                        .collect::<Vec<_>>()
                        .join(" ")
                })
                .collect();
            let _ = writeln!(canonical, "{name}:{}", values.join(","));
        }
        let _ = write!(
            canonical,
            "\n{}\n{payload_sha256}",
            self.signed_headers.join(";")
        );
        canonical
    }
}

fn canonical_query(parts: &Parts, plus: Plus) -> String {
    let decode = |part: &str| -> Vec<u8> {
        match plus {
            Plus::Literal => percent_decode_str(part).collect(),
            Plus::Space => percent_decode_str(&part.replace('+', " ")).collect(),
        }
    };
    let mut pairs: Vec<(String, String)> = parts
        .uri
        .query()
        .unwrap_or("")
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (encode(&decode(name), false), encode(&decode(value), false))
        })
        .filter(|(name, _)| name != "X-Amz-Signature")
        .collect();
    pairs.sort();
    pairs
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect::<Vec<_>>()
        .join("&")
}

/// Percent-encodes all but the unreserved characters of RFC 3986, in upper-case hexadecimal.
fn encode(bytes: &[u8], keep_slash: bool) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'_' | b'.' | b'~')
            || (keep_slash && byte == b'/')
        {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

fn same(expected: Option<&str>, given: Option<&str>) -> bool {
    match (expected, given) {
        (None, None) => true,
        (Some(expected), Some(given)) => {
            constant_time::verify_slices_are_equal(expected.as_bytes(), given.as_bytes()).is_ok()
        }
        _ => false,
    }
}

fn parse_amz_date(text: &str) -> Option<Timestamp> {
    if text.len() != 16 || !text.is_ascii() {
        return None;
    }
    let (date, time) = text.split_once('T')?;
    format!(
        "{}-{}-{}T{}:{}:{}Z",
        date.get(..4)?,
        date.get(4..6)?,
        date.get(6..8)?,
        time.get(..2)?,
        time.get(2..4)?,
        time.get(4..6)?
    )
    .parse()
    .ok()
}

pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hmac_sha256(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text)
        .as_ref()
        .to_vec()
}

/// Signs as a client would: for tests, which must not share a signer with what they test.
#[cfg(test)]
pub(crate) fn authorize(
    mut request: http::Request<Vec<u8>>,
    key: &Key,
    region: &str,
    service: &str,
    now: Timestamp,
) -> http::Request<Vec<u8>> {
    let amz_date = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let payload = sha256_hex(request.body());
    let mut signed = vec!["host".to_owned(), "x-amz-date".to_owned()];
    let headers = request.headers_mut();
    headers.insert("x-amz-date", amz_date.parse().unwrap());
    if let Some(token) = &key.session_token {
        headers.insert("x-amz-security-token", token.parse().unwrap());
        signed.push("x-amz-security-token".to_owned());
    }
    let claim = Claim {
        access_key_id: key.access_key_id.clone(),
        date: amz_date[..8].to_owned(),
        region: region.to_owned(),
        service: service.to_owned(),
        signed_headers: signed.clone(),
        signature: String::new(),
        amz_date: amz_date.clone(),
        token: key.session_token.clone(),
        expires_seconds: None,
    };
    let (mut parts, body) = request.into_parts();
    let signature = claim.signature_of(&parts, &payload, Plus::Literal, key);
    let value = format!(
        "{ALGORITHM} Credential={}/{}/{region}/{service}/aws4_request, SignedHeaders={}, Signature={signature}",
        key.access_key_id,
        &amz_date[..8],
        signed.join(";")
    );
    parts
        .headers
        .insert("authorization", value.parse().unwrap());
    http::Request::from_parts(parts, body)
}

/// A presigned path and query for an object, as a client would make it.
#[cfg(test)]
pub(crate) fn presign(
    method: &http::Method,
    path: &str,
    host: &str,
    key: &Key,
    seconds: i64,
    now: Timestamp,
) -> String {
    let amz_date = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let scope = format!("{}/eu-west-1/s3/aws4_request", &amz_date[..8]);
    let query = format!(
        "X-Amz-Algorithm={ALGORITHM}&X-Amz-Credential={}%2F{}&X-Amz-Date={amz_date}&X-Amz-Expires={seconds}&X-Amz-SignedHeaders=host",
        key.access_key_id,
        scope.replace('/', "%2F")
    );
    let request = http::Request::builder()
        .method(method)
        .uri(format!("{path}?{query}&X-Amz-Signature=0"))
        .header("host", host)
        .body(())
        .unwrap();
    let parts = request.into_parts().0;
    let claim = Claim::read(&parts).unwrap().unwrap();
    let signature = claim.signature_of(&parts, UNSIGNED_PAYLOAD, Plus::Literal, key);
    format!("{path}?{query}&X-Amz-Signature={signature}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key `AKIDEXAMPLE`, which the published examples have.
    fn example_key(secret: &str) -> Key {
        Key {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: secret.to_owned(),
            session_token: None,
            expires: None,
            identity: Keyring::new("123456789012")
                .unwrap()
                .user()
                .identity
                .clone(),
        }
    }

    /// The first example of AWS's published test suite (`get-vanilla`): its keys, date, scope and
    /// signature.
    #[test]
    fn the_published_example_has_the_published_signature() {
        let request = http::Request::get("http://example.amazonaws.com/")
            .header("host", "example.amazonaws.com")
            .header("x-amz-date", "20150830T123600Z")
            .header("authorization", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31")
            .body(())
            .unwrap();
        let (parts, ()) = request.into_parts();
        let claim = Claim::read(&parts).unwrap().unwrap();
        let key = example_key("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        assert_eq!(
            claim.signature_of(&parts, EMPTY_SHA256, Plus::Literal, &key),
            claim.signature
        );
    }

    /// The official client's signature over a stream URL with a bare
    /// `+` (`sigv4-upgrade-cell-number` of the protocol vectors).
    #[test]
    fn the_official_client_reads_a_plus_as_a_space() {
        let request = http::Request::get("/v1/data-channel/alice-0123456789abcdef0?role=publish_subscribe&cell-number=AAEAAf+Zb/x8CV0=")
            .header("host", "ssmmessages.eu-west-1.amazonaws.com")
            .header("x-amz-date", "20260919T123456Z")
            .header("authorization", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260919/eu-west-1/ssmmessages/aws4_request, SignedHeaders=host;x-amz-date, Signature=e9768d8d27b3ca35fc2e7c21f76f0f947e363cd6a596c9971dc4f7e6c28a2c2b")
            .body(())
            .unwrap();
        let (parts, ()) = request.into_parts();
        let claim = Claim::read(&parts).unwrap().unwrap();
        let key = example_key("example-secret-not-a-real-key");
        assert_eq!(
            claim.signature_of(&parts, EMPTY_SHA256, Plus::Space, &key),
            claim.signature
        );
        assert_ne!(
            claim.signature_of(&parts, EMPTY_SHA256, Plus::Literal, &key),
            claim.signature
        );
    }

    fn signed(now: Timestamp, keyring: &Keyring) -> http::request::Parts {
        let request = http::Request::post("http://127.0.0.1:1/")
            .header("host", "127.0.0.1:1")
            .body(b"{}".to_vec())
            .unwrap();
        authorize(request, keyring.user(), "eu-west-1", "ssm", now)
            .into_parts()
            .0
    }

    #[test]
    fn a_changed_header_path_body_or_key_is_noticed() {
        let keyring = Keyring::new("123456789012").unwrap();
        let now = Timestamp::now();
        let parts = signed(now, &keyring);
        let claim = Claim::read(&parts).unwrap().unwrap();
        let body = sha256_hex(b"{}");
        let verify = |parts: &Parts, body: &str, keyring: &Keyring| {
            claim.verify(parts, body, Plus::Literal, keyring, now)
        };
        assert!(verify(&parts, &body, &keyring).is_ok());
        assert_eq!(
            verify(&parts, EMPTY_SHA256, &keyring),
            Err(Refusal::WrongSignature)
        );
        let mut other = parts.clone();
        other.headers.insert("host", "localhost:1".parse().unwrap());
        assert_eq!(
            verify(&other, &body, &keyring),
            Err(Refusal::WrongSignature)
        );
        let mut other = parts.clone();
        other.uri = "/?a=b".parse().unwrap();
        assert_eq!(
            verify(&other, &body, &keyring),
            Err(Refusal::WrongSignature)
        );
        assert_eq!(
            verify(&parts, &body, &Keyring::new("123456789012").unwrap()),
            Err(Refusal::UnknownKey)
        );
    }

    #[test]
    fn a_clock_six_minutes_off_is_refused() {
        let keyring = Keyring::new("123456789012").unwrap();
        let now = Timestamp::now();
        let then = now - jiff::SignedDuration::from_secs(360);
        let parts = signed(then, &keyring);
        let claim = Claim::read(&parts).unwrap().unwrap();
        assert_eq!(
            claim.verify(&parts, &sha256_hex(b"{}"), Plus::Literal, &keyring, now),
            Err(Refusal::Skewed)
        );
    }

    #[test]
    fn temporary_keys_need_their_token_and_expire() {
        let keyring = Keyring::new("123456789012").unwrap();
        let key = keyring
            .issue(
                keyring.user().identity.clone(),
                std::time::Duration::from_secs(900),
            )
            .unwrap();
        let now = Timestamp::now();
        let request = http::Request::post("http://127.0.0.1:1/")
            .header("host", "127.0.0.1:1")
            .body(Vec::new())
            .unwrap();
        let (parts, _) = authorize(request, &key, "eu-west-1", "sts", now).into_parts();
        let claim = Claim::read(&parts).unwrap().unwrap();
        let verify = |parts: &Parts, now| {
            Claim::read(parts).unwrap().unwrap().verify(
                parts,
                EMPTY_SHA256,
                Plus::Literal,
                &keyring,
                now,
            )
        };
        assert!(verify(&parts, now).is_ok());
        let mut bare = parts.clone();
        bare.headers.remove("x-amz-security-token");
        assert_eq!(verify(&bare, now), Err(Refusal::WrongToken));
        keyring.expire_temporary();
        assert_eq!(
            claim.verify(
                &parts,
                EMPTY_SHA256,
                Plus::Literal,
                &keyring,
                Timestamp::now()
            ),
            Err(Refusal::Expired)
        );
    }
}
