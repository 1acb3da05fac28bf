//! Sign-in URLs of the console: temporary credentials exchanged for a page that opens in their
//! account.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_smithy_runtime_api::client::{
    http::HttpConnector as _, orchestrator::HttpRequest, result::ConnectorError,
};
use aws_smithy_types::body::SdkBody;
use ops_ui::{Error, ErrorKind, Result, hint};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use crate::{
    BoxFuture,
    aws::{
        Aws,
        bounds::{AnswerBounds, bounded_connector},
        chain, http,
    },
    context::Context,
};

/// In place of the partition's federation endpoint.
const ENDPOINT_VARIABLE: &str = "OPS_FEDERATION_ENDPOINT";
/// How long the endpoint may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a sign-in URL is good: the endpoint's documented limit.
const URL_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// How long the keys of an IAM user's federation last; the console's session ends with them. An
/// hour, as for a role.
const FEDERATION_SECONDS: i32 = 3600;
/// Keys of GetFederationToken can do what both the user and this policy allow; without one they can
/// do nothing.
const FEDERATION_POLICY: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
/// What RFC 3986 leaves unescaped.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A way into the console. Whoever has the URL is in: a secret while it lasts.
pub struct SignIn {
    /// The URL.
    pub url: String,
    /// How long it can be used.
    pub lifetime: Duration,
}

impl Context {
    /// A URL that signs in to the console with the credentials of this invocation and goes on to
    /// `destination`; `default_endpoint` is the federation endpoint of the partition, unless
    /// `OPS_FEDERATION_ENDPOINT` names another. An IAM user's own keys are exchanged for temporary
    /// ones first (GetFederationToken).
    ///
    /// # Errors
    /// No credentials, a denial of GetFederationToken, an endpoint that does not answer or refuses.
    pub fn sign_in<'a>(
        &'a self,
        destination: &'a str,
        default_endpoint: &'a str,
    ) -> BoxFuture<'a, Result<SignIn>> {
        Box::pin(self.sign_in_unboxed(destination, default_endpoint))
    }

    async fn sign_in_unboxed(&self, destination: &str, default_endpoint: &str) -> Result<SignIn> {
        let aws = self.aws().await?;
        let mut credentials = aws.credentials().await?;
        if credentials.session_token().is_none() {
            credentials = federate(self, aws).await?;
        }
        let endpoint = self
            .env()
            .var(ENDPOINT_VARIABLE)
            .unwrap_or(default_endpoint);
        let token = sign_in_token(self, endpoint, &credentials).await?;
        let escape = |text: &str| utf8_percent_encode(text, QUERY).to_string();
        Ok(SignIn {
            url: format!(
                "{endpoint}?Action=login&Issuer=ops&Destination={}&SigninToken={}",
                escape(destination),
                escape(&token)
            ),
            lifetime: URL_LIFETIME,
        })
    }
}

async fn federate(cx: &Context, aws: &Aws) -> Result<Credentials> {
    let region = cx.region().await?;
    let answer = aws
        .clients(&region)
        .sts
        .get_federation_token()
        .name("ops")
        .policy(FEDERATION_POLICY)
        .duration_seconds(FEDERATION_SECONDS)
        .send()
        .await
        .map_err(|error| {
            aws.call("sts:GetFederationToken", None, &region)
                .failed("cannot make temporary credentials for the console", &error)
                .hint("use a role instead: --aws-profile NAME with role_arn, or `aws.role_arn` in the team profile")
        })?;
    let keys = answer.credentials.ok_or_else(|| {
        Error::unexpected("cannot make temporary credentials for the console")
            .caused_by("GetFederationToken answered without credentials")
    })?;
    Ok(Credentials::new(
        keys.access_key_id,
        keys.secret_access_key,
        Some(keys.session_token),
        None,
        "GetFederationToken",
    ))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    signin_token: String,
}

async fn sign_in_token(cx: &Context, endpoint: &str, credentials: &Credentials) -> Result<String> {
    let fail = || {
        Error::new(
            ErrorKind::Unexpected,
            "cannot get a sign-in token for the console",
        )
    };
    // Nothing of a request may get into an error: it holds the keys.
    let session = serde_json::json!({
        "sessionId": credentials.access_key_id(),
        "sessionKey": credentials.secret_access_key(),
        "sessionToken": credentials.session_token(),
    })
    .to_string();
    let uri = format!(
        "{endpoint}?Action=getSigninToken&Session={}",
        utf8_percent_encode(&session, QUERY)
    );
    let bad_endpoint = || {
        fail()
            .caused_by(format!("`{}` is no URL", ops_ui::output::escape(endpoint)))
            .hint(hint!(
                "unset {}, or name an https:// URL with it",
                ENDPOINT_VARIABLE
            ))
    };
    let secure = url::Url::parse(endpoint).is_ok_and(|url| {
        url.scheme() == "https"
            || url.scheme() == "http"
                && matches!(url.host_str(), Some("127.0.0.1" | "[::1]" | "localhost"))
    });
    if !secure {
        return Err(bad_endpoint());
    }
    let mut request = HttpRequest::new(SdkBody::empty());
    request.set_uri(uri).map_err(|_| bad_endpoint())?;
    let bounds = AnswerBounds::usual(cx.settings()?.timeout.value);
    let limit = bounds.time.min(PATIENCE);
    let connector = http::connector(
        &cx.aws().await?.network,
        endpoint.starts_with("http://"),
        false,
    )?;
    let connector = bounded_connector(connector, bounds);
    let unreachable = |why: String| {
        fail().caused_by(why).hint(
            "check the network: HTTPS to the federation endpoint must be open, or HTTPS_PROXY set",
        )
    };
    let answer = async {
        let response = connector
            .call(request)
            .await
            .map_err(|error: ConnectorError| unreachable(chain(&error)))?;
        let status = response.status().as_u16();
        let body = aws_smithy_types::byte_stream::ByteStream::new(response.into_body())
            .collect()
            .await
            .map_err(|_| unreachable("the answer broke off".to_owned()))?
            .to_vec();
        Ok::<_, Error>((status, body))
    };
    let (status, body) = tokio::time::timeout(limit, answer)
        .await
        .map_err(|_| unreachable(format!("no answer within {limit:?}")))??;
    if status != 200 {
        return Err(fail()
            .caused_by(format!(
                "the federation endpoint answered with status {status}; it takes temporary credentials that have not expired"
            ))
            .hint("log in again, then repeat the command"));
    }
    serde_json::from_slice::<Answer>(&body)
        .map(|answer| answer.signin_token)
        .map_err(|_| fail().caused_by("the federation endpoint answered without a sign-in token"))
}
