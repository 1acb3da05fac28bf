//! The authorization code grant: the browser of this machine logs in and brings a code back to a
//! port of this process, which exchanges it for the token.
//!
//! The same requests as those of `aws sso login` of the AWS CLI 2.22 and later
//! (`SSOTokenFetcherAuth` of its botocore), which the service allows any public client.

use std::time::Duration;

use aws_lc_rs::{digest, rand};
use aws_sdk_ssooidc::{self as oidc, operation::create_token::CreateTokenOutput};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ops_ui::{Error, ErrorKind, Result};
use url::form_urlencoded;
use zeroize::Zeroizing;

use super::{
    super::login::Login,
    Desk, Registration, cannot,
    loopback::{Callback, Loopback, REGISTERED_REDIRECT},
};

/// How long somebody may take to log in on the page.
const PATIENCE: Duration = Duration::from_secs(600);
/// Of the verifier and of the state, before they are text. RFC 7636, 4.1 recommends 32.
const RANDOM_BYTES: usize = 32;

/// The secret that only whoever began a login has, and what is told of it (RFC 7636).
struct Pkce {
    verifier: Zeroizing<String>,
    challenge: String,
}

impl Pkce {
    fn new() -> Result<Self> {
        let verifier = Zeroizing::new(random_text()?);
        let challenge = challenge_of(&verifier);
        Ok(Self {
            verifier,
            challenge,
        })
    }
}

/// The challenge of method `S256`: base64url of SHA-256, without padding.
fn challenge_of(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()))
}

fn random_text() -> Result<String> {
    let mut bytes = Zeroizing::new([0; RANDOM_BYTES]);
    rand::fill(bytes.as_mut_slice())
        .map_err(|_| Error::unexpected("the system gives no random bytes"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes.as_slice()))
}

/// The page on which somebody logs in.
fn page_of(
    oidc_url: &str,
    client_id: &str,
    redirect: &str,
    scopes: &[String],
    state: &str,
    challenge: &str,
) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query
        .append_pair("response_type", "code")
        .append_pair("client_id", client_id)
        .append_pair("redirect_uri", redirect)
        .append_pair("state", state)
        .append_pair("code_challenge_method", "S256")
        // The AWS CLI spells it so, where RFC 6749 has `scope`.
        .append_pair("scopes", &scopes.join(" "))
        .append_pair("code_challenge", challenge);
    // A blank is `%20` for every server; a plus is one for those that read forms alone.
    let query = query.finish().replace('+', "%20");
    format!("{}/authorize?{query}", oidc_url.trim_end_matches('/'))
}

impl Desk<'_> {
    /// Opens the browser at the page where somebody logs in, and waits until it comes back.
    pub(super) async fn by_authorization_code(
        &self,
        client: &oidc::Client,
        login: &Login,
    ) -> Result<(Registration, CreateTokenOutput)> {
        let loopback = Loopback::listen().await.map_err(|error| {
            cannot(ErrorKind::Unexpected, login)
                .caused_by(format!("no port of this machine can be had: {error}"))
                .hint("confirm a code instead: ops login --use-device-code")
        })?;
        let registration = self
            .register(client, login, |request| {
                request
                    .grant_types("authorization_code")
                    .grant_types("refresh_token")
                    // Without the port, which is another in each login (RFC 8252, 7.3).
                    .redirect_uris(REGISTERED_REDIRECT)
                    .issuer_url(&login.start_url)
            })
            .await?;
        let pkce = Pkce::new()?;
        let state = random_text()?;
        let redirect = loopback.redirect();
        let page = page_of(
            &self.oidc_url,
            &registration.client_id,
            &redirect,
            &login.scopes,
            &state,
            &pkce.challenge,
        );
        self.output.note(format!("log in at {page}"));
        self.output
            .note("without a browser on this machine: ops login --use-device-code");
        let answered = tokio::time::timeout(PATIENCE, loopback.wait_for(&state));
        let browse = async {
            self.open_browser(&page).await;
            std::future::pending::<std::convert::Infallible>().await
        };
        let answered = tokio::select! {
            answered = answered => answered,
            never = browse => match never {},
        };
        let code = match answered {
            Ok(Ok(Callback::Code(code))) => code,
            Ok(Ok(Callback::Refused(why))) => {
                return Err(cannot(ErrorKind::NotLoggedIn, login)
                    .caused_by(format!("the page answered `{why}`"))
                    .hint("run it again, and allow it on the page"));
            }
            Ok(Err(error)) => {
                return Err(cannot(ErrorKind::Unexpected, login)
                    .caused_by(format!("the browser cannot come back: {error}"))
                    .hint("confirm a code instead: ops login --use-device-code"));
            }
            Err(_) => {
                return Err(cannot(ErrorKind::NotLoggedIn, login)
                    .caused_by("nobody logged in on the page within ten minutes")
                    .hint("run it again; without a browser: ops login --use-device-code"));
            }
        };
        let granted = client
            .create_token()
            .client_id(&registration.client_id)
            .client_secret(registration.client_secret.as_str())
            .grant_type("authorization_code")
            .code(code.as_str())
            .code_verifier(pkce.verifier.as_str())
            .redirect_uri(redirect)
            .send()
            .await
            .map_err(|error| self.failed("sso-oauth:CreateToken", login, &error))?;
        Ok((registration, granted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7636, appendix B.
    #[test]
    fn a_challenge_is_that_of_the_rfc() {
        assert_eq!(
            challenge_of("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
        let (one, two) = (Pkce::new().expect("one"), Pkce::new().expect("two"));
        assert_ne!(one.verifier, two.verifier);
        assert_eq!(one.verifier.len(), 43);
    }

    #[test]
    fn the_page_is_that_of_the_aws_cli() {
        let scopes = ["sso:account:access".to_owned(), "extra".to_owned()];
        assert_eq!(
            page_of(
                "https://oidc.eu-west-1.amazonaws.com/",
                "client",
                "http://127.0.0.1:4711/oauth/callback",
                &scopes,
                "state",
                "challenge"
            ),
            "https://oidc.eu-west-1.amazonaws.com/authorize?response_type=code&client_id=client&redirect_uri=http%3A%2F%2F127.0.0.1%3A4711%2Foauth%2Fcallback&state=state&code_challenge_method=S256&scopes=sso%3Aaccount%3Aaccess%20extra&code_challenge=challenge"
        );
    }
}
