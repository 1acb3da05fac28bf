//! SigV4 signatures that the SDK's clients do not make: the web-socket upgrade, and URLs that carry
//! their own signature.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{
        PayloadChecksumKind, PercentEncodingMode, SessionTokenMode, SignableBody, SignableRequest,
        SignatureLocation, SigningSettings, UriPathNormalizationMode, sign,
    },
    sign::v4,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use ops_ui::{Error, Result};

/// The service name in signatures of the data channel.
const SERVICE: &str = "ssmmessages";

/// Names of query parameters of a URL that is signed already; such a URL gets no headers.
const SIGNED_QUERY: [&str; 7] = [
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-signedheaders",
    "x-amz-signature",
    "x-amz-security-token",
];

/// The headers that sign a web-socket upgrade of `stream_url` in `region` at
/// `now`: `authorization`, `x-amz-date`, and the session token of temporary credentials. Empty for
/// a URL that carries a signature, or one that cannot be signed; the service may accept it all the
/// same.
///
/// The query is read form-style, so that a `+` is signed as a space, as the official client does.
/// Source: protocol.md §2.1; pinned by the `sigv4` vectors.
pub(crate) fn sign_upgrade(
    stream_url: &str,
    region: &str,
    credentials: &Credentials,
    now: SystemTime,
) -> HeaderMap {
    if has_signature(stream_url) {
        return HeaderMap::new();
    }
    match upgrade_headers(stream_url, region, credentials, now) {
        Ok(headers) => headers,
        // The text may hold the URL, which is secret.
        Err(_) => {
            tracing::warn!("the web-socket upgrade could not be signed");
            HeaderMap::new()
        }
    }
}

fn upgrade_headers(
    stream_url: &str,
    region: &str,
    credentials: &Credentials,
    now: SystemTime,
) -> Result<HeaderMap, Box<dyn std::error::Error + Send + Sync>> {
    let identity = credentials.clone().into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(SERVICE)
        .time(now)
        .settings(SigningSettings::default())
        .build()?
        .into();
    let request = SignableRequest::new(
        "GET",
        stream_url,
        std::iter::empty(),
        SignableBody::Bytes(b""),
    )?;
    let (instructions, _signature) = sign(request, &params)?.into_parts();
    let (signed, _query) = instructions.into_parts();
    let mut headers = HeaderMap::new();
    for header in signed {
        let mut value = HeaderValue::from_str(header.value())?;
        value.set_sensitive(header.name() != "x-amz-date");
        headers.insert(HeaderName::from_bytes(header.name().as_bytes())?, value);
    }
    Ok(headers)
}

/// A POST as it is signed.
pub(super) struct SignedPost<'a> {
    /// The endpoint.
    pub(super) url: &'a str,
    /// The service's name in signatures.
    pub(super) service: &'a str,
    pub(super) region: &'a str,
    /// Those of the protocol, in lower case; the signature covers them.
    pub(super) headers: &'a [(&'static str, &'a str)],
    pub(super) body: &'a [u8],
}

/// The headers that sign `post`, beside its own.
///
/// # Errors
/// A URL that cannot be parsed.
pub(super) fn sign_post(
    post: &SignedPost<'_>,
    credentials: &Credentials,
    now: SystemTime,
) -> Result<Vec<(&'static str, String)>, Box<dyn std::error::Error + Send + Sync>> {
    let identity = credentials.clone().into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(post.region)
        .name(post.service)
        .time(now)
        .settings(SigningSettings::default())
        .build()?
        .into();
    let signable = SignableRequest::new(
        "POST",
        post.url,
        post.headers.iter().copied(),
        SignableBody::Bytes(post.body),
    )?;
    let (instructions, _signature) = sign(signable, &params)?.into_parts();
    let (signed, _query) = instructions.into_parts();
    let headers = signed
        .into_iter()
        .map(|header| (header.name(), header.value().to_owned()));
    Ok(headers.collect())
}

fn has_signature(url: &str) -> bool {
    url.split_once('?').is_some_and(|(_, query)| {
        query.split('&').any(|pair| {
            let name = pair.split('=').next().unwrap_or_default();
            SIGNED_QUERY
                .iter()
                .any(|signed| name.eq_ignore_ascii_case(signed))
        })
    })
}

/// A URL that allows `method` on an S3 object until `valid_for` has passed, without credentials of
/// its holder. A secret while it lasts.
///
/// # Errors
/// A URL that cannot be parsed.
pub(crate) fn presign_s3(
    method: &str,
    url: &str,
    region: &str,
    credentials: &Credentials,
    valid_for: Duration,
    now: SystemTime,
) -> Result<String> {
    let fail = || Error::unexpected("cannot sign an S3 URL");
    let identity = credentials.clone().into();
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.payload_checksum_kind = PayloadChecksumKind::NoHeader;
    settings.signature_location = SignatureLocation::QueryParams;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.session_token_mode = SessionTokenMode::Include;
    settings.expires_in = Some(valid_for);
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("s3")
        .time(now)
        .settings(settings)
        .build()
        .map_err(|_| fail())?
        .into();
    let request = SignableRequest::new(
        method,
        url,
        std::iter::empty(),
        SignableBody::UnsignedPayload,
    )
    .map_err(|_| fail())?;
    let (instructions, _signature) = sign(request, &params).map_err(|_| fail())?.into_parts();
    let (_headers, query) = instructions.into_parts();
    let mut signed = url::Url::parse(url).map_err(|_| fail())?;
    {
        let mut pairs = signed.query_pairs_mut();
        for (name, value) in query {
            pairs.append_pair(name, &value);
        }
    }
    Ok(signed.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vectors() -> Vec<serde_json::Value> {
        serde_json::from_str(include_str!("../../tests/data/sigv4-vectors.json"))
            .expect("the vectors are JSON")
    }

    fn time(text: &str) -> SystemTime {
        let timestamp: jiff::Timestamp = format!(
            "{}-{}-{}T{}:{}:{}Z",
            &text[..4],
            &text[4..6],
            &text[6..8],
            &text[9..11],
            &text[11..13],
            &text[13..15]
        )
        .parse()
        .expect(text);
        timestamp.try_into().expect(text)
    }

    #[test]
    fn an_upgrade_is_signed_as_the_official_client_signs_it() {
        let vectors = vectors();
        assert_eq!(vectors.len(), 3);
        for vector in &vectors {
            let text = |name: &str| vector[name].as_str().unwrap_or_default();
            let token = text("session_token");
            let credentials = Credentials::new(
                text("access_key_id"),
                text("secret_access_key"),
                (!token.is_empty()).then(|| token.to_owned()),
                None,
                "test",
            );
            let headers = sign_upgrade(
                text("url"),
                text("region"),
                &credentials,
                time(text("time")),
            );
            let expected = vector["headers"].as_object().expect("headers");
            assert_eq!(headers.len(), expected.len(), "{}", text("id"));
            for (name, value) in expected {
                assert_eq!(
                    headers
                        .get(name.to_ascii_lowercase())
                        .and_then(|v| v.to_str().ok()),
                    value.as_str(),
                    "{} {name}",
                    text("id")
                );
            }
        }
    }

    #[test]
    fn a_url_that_is_signed_already_gets_no_headers() {
        let credentials = Credentials::new("AKIDEXAMPLE", "secret", None, None, "test");
        for url in [
            "wss://h/v1/data-channel/a?role=x&X-Amz-Signature=0",
            "wss://h/v1/data-channel/a?x-amz-algorithm=AWS4-HMAC-SHA256",
        ] {
            assert!(
                sign_upgrade(url, "eu-west-1", &credentials, SystemTime::UNIX_EPOCH).is_empty()
            );
        }
    }

    #[test]
    fn a_presigned_url_is_the_one_of_the_s3_documentation() {
        // The example of "Authenticating Requests: Using Query Parameters" in the S3 API reference.
        let credentials = Credentials::new(
            "AKIAIOSFODNN7EXAMPLE",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            None,
            None,
            "test",
        );
        let url = presign_s3(
            "GET",
            "https://examplebucket.s3.amazonaws.com/test.txt",
            "us-east-1",
            &credentials,
            Duration::from_secs(86_400),
            time("20130524T000000Z"),
        )
        .expect("signs");
        assert!(url.contains("X-Amz-Expires=86400"), "{url}");
        assert!(
            url.ends_with(
                "X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
            ),
            "{url}"
        );
    }
}
