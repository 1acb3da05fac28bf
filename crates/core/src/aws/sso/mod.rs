//! Logging in to IAM Identity Center (SSO) without the AWS CLI, by the grants of the SSO OIDC
//! service: an authorization code that the browser brings back (RFC 6749, with PKCE of RFC 7636),
//! or a code that somebody confirms on any device (RFC 8628).
//!
//! The token is kept where every AWS tool looks for it, in the form in which the AWS CLI writes it.

mod code_grant;
mod loopback;
mod token;

pub(super) use self::token::{CachedToken, KeptToken, remove_token};

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use aws_sdk_ssooidc::{
    self as oidc,
    error::{ProvideErrorMetadata, SdkError},
    operation::{
        create_token::{CreateTokenError, CreateTokenOutput},
        register_client::builders::RegisterClientFluentBuilder,
    },
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_types::{SdkConfig, region::Region};
use ops_ui::{Env, Error, ErrorKind, Output, Result, browser, hint, text::named};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{failure::Call, login::Login, options::AwsOptions};

/// What the sign-in page calls us.
const CLIENT_NAME: &str = "ops";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// Between polls where the service names no interval, and what `slow_down` adds to it (RFC 8628,
/// 3.2 and 3.5).
const INTERVAL: Duration = Duration::from_secs(5);
/// How long a code is good where the service does not tell.
const LIFETIME: Duration = Duration::from_secs(600);

/// How somebody logs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginFlow {
    /// An authorization code, which the browser of this machine brings back to this process.
    Browser,
    /// A code that is confirmed on a page, on any device.
    DeviceCode,
}

impl LoginFlow {
    /// The flow that newer AWS CLIs take too: the browser's wherever there is one to be had. A
    /// profile of the old form, without `sso_session`, has no registration that allows it.
    pub(super) fn usual(env: &Env, login: &Login) -> Self {
        if login.session.is_some() && browser::is_there(env) {
            Self::Browser
        } else {
            Self::DeviceCode
        }
    }
}

/// This program as the service knows it.
struct Registration {
    client_id: String,
    client_secret: Zeroizing<String>,
    /// When it ends, in seconds since 1970.
    ends_at: i64,
}

/// What a login is made with.
pub(super) struct Desk<'a> {
    pub(super) options: &'a AwsOptions,
    pub(super) env: &'a Env,
    pub(super) output: &'a Output,
    pub(super) home: &'a Path,
    /// HTTP client, retries and endpoint settings (`AWS_ENDPOINT_URL_SSO_OIDC`).
    pub(super) base: &'a SdkConfig,
    /// Where the token service of the login is asked, without a path.
    pub(super) oidc_url: String,
    /// The browser is started; else the address is shown alone.
    pub(super) opens_browser: bool,
}

impl Desk<'_> {
    /// Logs in by `flow` and keeps the token. Gives its end.
    ///
    /// # Errors
    /// Nobody confirms in time, or somebody refuses; the service cannot be reached; the token
    /// cannot be kept.
    pub(super) async fn log_in(&self, login: &Login, flow: LoginFlow) -> Result<SystemTime> {
        let config = oidc::config::Builder::from(self.base)
            .region(Region::new(login.region.clone()))
            .build();
        let client = oidc::Client::from_conf(config);
        let (registration, granted) = match flow {
            LoginFlow::Browser => self.by_authorization_code(&client, login).await?,
            LoginFlow::DeviceCode => self.by_device_code(&client, login).await?,
        };
        self.keep(login, &registration, granted)
    }

    /// Registers this program; `add` is what the grant wants beside the rest.
    async fn register(
        &self,
        client: &oidc::Client,
        login: &Login,
        add: impl FnOnce(RegisterClientFluentBuilder) -> RegisterClientFluentBuilder,
    ) -> Result<Registration> {
        let scopes = (!login.scopes.is_empty()).then(|| login.scopes.clone());
        let request = client
            .register_client()
            .client_name(CLIENT_NAME)
            .client_type("public")
            .set_scopes(scopes);
        let registered = add(request)
            .send()
            .await
            .map_err(|error| self.failed("sso-oauth:RegisterClient", login, &error))?;
        let (Some(client_id), Some(client_secret)) =
            (registered.client_id, registered.client_secret)
        else {
            return Err(incomplete(login, "RegisterClient"));
        };
        Ok(Registration {
            client_id,
            client_secret: Zeroizing::new(client_secret),
            ends_at: registered.client_secret_expires_at,
        })
    }

    /// Shows a code and where to confirm it, opens the browser there, and waits for the
    /// confirmation.
    async fn by_device_code(
        &self,
        client: &oidc::Client,
        login: &Login,
    ) -> Result<(Registration, CreateTokenOutput)> {
        let registration = self.register(client, login, |request| request).await?;
        let started = client
            .start_device_authorization()
            .client_id(&registration.client_id)
            .client_secret(registration.client_secret.as_str())
            .start_url(&login.start_url)
            .send()
            .await
            .map_err(|error| self.failed("sso-oauth:StartDeviceAuthorization", login, &error))?;
        let (Some(device_code), Some(user_code), Some(page)) = (
            started.device_code,
            started.user_code,
            started
                .verification_uri_complete
                .or(started.verification_uri),
        ) else {
            return Err(incomplete(login, "StartDeviceAuthorization"));
        };
        let device_code = Zeroizing::new(device_code);

        self.output
            .note(format!("confirm the code {user_code} at {page}"));
        let mut wait = Wait::new(started.interval, started.expires_in, Instant::now());
        let poll = async {
            loop {
                tokio::time::sleep(wait.interval).await;
                let answer = client
                    .create_token()
                    .client_id(&registration.client_id)
                    .client_secret(registration.client_secret.as_str())
                    .grant_type(GRANT)
                    .device_code(device_code.as_str())
                    .send()
                    .await;
                match wait.next(answer, Instant::now()) {
                    PollOutcome::Granted(token) => return Ok(token),
                    PollOutcome::Again => {}
                    PollOutcome::Late => {
                        return Err(over(login, "nobody confirmed the code in time"));
                    }
                    PollOutcome::Refused => {
                        return Err(over(login, "it was refused in the browser"));
                    }
                    PollOutcome::Failed(error) => {
                        return Err(self.failed("sso-oauth:CreateToken", login, &error));
                    }
                }
            }
        };
        // The page is on the screen: a browser that does not open is no failure, and one that stays
        // open holds nothing up.
        let browse = async {
            self.open_browser(&page).await;
            std::future::pending::<std::convert::Infallible>().await
        };
        let granted = tokio::select! {
            granted = poll => granted?,
            never = browse => match never {},
        };
        Ok((registration, granted))
    }

    /// Opens `page` in the browser, where one is wanted and there is one.
    async fn open_browser(&self, page: &str) {
        if self.opens_browser && is_page(page) && browser::is_there(self.env) {
            browser::open(self.env, self.output, page).await;
        }
    }

    fn failed<E>(
        &self,
        action: &'static str,
        login: &Login,
        error: &SdkError<E, HttpResponse>,
    ) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let call = Call {
            action,
            resource: None,
            place: self.options.place(Some(&login.region)),
        };
        let why = call.failed("", error);
        // A network that is not there says nothing about the login.
        let kind = match error {
            SdkError::DispatchFailure(_) | SdkError::TimeoutError(_) => ErrorKind::Unexpected,
            _ => ErrorKind::NotLoggedIn,
        };
        let failure = cannot(kind, login).caused_as(&why);
        match why.hints().first() {
            Some(hint) => failure.hint(hint),
            None => failure.hint(hint!(
                "check `sso_start_url` and `sso_region` of AWS profile {}",
                named(&login.profile)
            )),
        }
    }
}

fn cannot(kind: ErrorKind, login: &Login) -> Error {
    Error::new(
        kind,
        format!(
            "cannot log in to the SSO of AWS profile `{}`",
            login.profile
        ),
    )
}

fn over(login: &Login, why: &str) -> Error {
    cannot(ErrorKind::NotLoggedIn, login)
        .caused_by(why)
        .hint("run it again to have another code")
}

fn incomplete(login: &Login, action: &str) -> Error {
    cannot(ErrorKind::NotLoggedIn, login).caused_by(format!("the answer to {action} is incomplete"))
}

/// Whether it is safe to open in a browser.
fn is_page(url: &str) -> bool {
    url::Url::parse(url).is_ok_and(|url| {
        url.scheme() == "https"
            || url.scheme() == "http"
                && matches!(url.host_str(), Some("127.0.0.1" | "[::1]" | "localhost"))
    })
}

fn seconds(count: i32) -> Duration {
    Duration::from_secs(u64::try_from(count).unwrap_or(0))
}

/// When to ask for the token again, and how long.
struct Wait {
    interval: Duration,
    until: Instant,
}

/// What an answer to a poll means.
#[derive(Debug)]
enum PollOutcome {
    Granted(CreateTokenOutput),
    /// Wait for the interval and ask again.
    Again,
    /// The code is not good any more.
    Late,
    Refused,
    Failed(Box<SdkError<CreateTokenError, HttpResponse>>),
}

impl Wait {
    /// Both in seconds, as the service tells them; 0 is not told.
    fn new(interval: i32, lifetime: i32, now: Instant) -> Self {
        let or = |told: i32, default| {
            Some(seconds(told))
                .filter(|t| !t.is_zero())
                .unwrap_or(default)
        };
        Self {
            interval: or(interval, INTERVAL),
            until: now + or(lifetime, LIFETIME),
        }
    }

    fn next(
        &mut self,
        answer: Result<CreateTokenOutput, SdkError<CreateTokenError, HttpResponse>>,
        now: Instant,
    ) -> PollOutcome {
        let error = match answer {
            Ok(token) => return PollOutcome::Granted(token),
            Err(error) => error,
        };
        let again = match error.as_service_error() {
            Some(CreateTokenError::AuthorizationPendingException(_)) => true,
            Some(CreateTokenError::SlowDownException(_)) => {
                self.interval += INTERVAL;
                true
            }
            Some(CreateTokenError::ExpiredTokenException(_)) => return PollOutcome::Late,
            Some(CreateTokenError::AccessDeniedException(_)) => return PollOutcome::Refused,
            Some(_) => false,
            // The network may come back while somebody types the code.
            None => matches!(
                error,
                SdkError::DispatchFailure(_) | SdkError::TimeoutError(_)
            ),
        };
        match again {
            true if now < self.until => PollOutcome::Again,
            true => PollOutcome::Late,
            false => PollOutcome::Failed(Box::new(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    #[allow(deprecated)] // As in the parent module: the types have moved.
    use aws_sdk_ssooidc::types::error as oidc_error;
    use aws_smithy_runtime_api::http::StatusCode;
    use aws_smithy_types::body::SdkBody;

    use super::*;

    const CONFIG: &str = "\
[profile new]
sso_session = my-sso
sso_account_id = 111122223333
[sso-session my-sso]
sso_region = us-east-1
sso_start_url = https://my-sso-portal.awsapps.com/start
sso_registration_scopes = sso:account:access, extra
[profile old]
sso_start_url = https://d-92671207e4.awsapps.com/start
sso_region = eu-west-1
[profile role]
role_arn = arn:aws:iam::111122223333:role/x
source_profile = new
[profile loop]
source_profile = loop
[profile keys]
aws_access_key_id = x
";

    fn login(profile: &str) -> Option<Login> {
        Login::of(
            &ops_profile::aws_files::AwsFiles::of_config(CONFIG),
            profile,
        )
    }

    #[test]
    fn the_login_of_a_profile_is_found_in_both_forms_and_behind_a_role() {
        let new = login("new").expect("a login");
        assert_eq!(new.session.as_deref(), Some("my-sso"));
        assert_eq!(new.region, "us-east-1");
        assert_eq!(new.scopes, ["sso:account:access", "extra"]);
        assert_eq!(login("role"), Some(new));
        let old = login("old").expect("a login");
        assert_eq!(old.session, None);
        assert_eq!(old.start_url, "https://d-92671207e4.awsapps.com/start");
        for none in ["loop", "keys", "missing"] {
            assert_eq!(login(none), None, "{none}");
        }
    }

    /// The names are those that `printf NAME | sha1sum` gives, as the AWS CLI makes them.
    #[test]
    fn the_token_lies_where_the_aws_cli_keeps_it() {
        let home = Path::new("/home/user");
        assert_eq!(
            login("new").expect("a login").file(home),
            home.join(".aws/sso/cache/0ad374308c5a4e22f723adf10145eafad7c4031c.json")
        );
        assert_eq!(
            login("old").expect("a login").file(home),
            home.join(".aws/sso/cache/13f9d35043871d073ab260e020f0ffde092cb14b.json")
        );
    }

    fn refused(error: CreateTokenError) -> SdkError<CreateTokenError, HttpResponse> {
        let status = StatusCode::try_from(400).expect("a status");
        SdkError::service_error(error, HttpResponse::new(status, SdkBody::empty()))
    }

    #[test]
    fn polls_wait_for_the_interval_and_longer_when_told_to_slow_down() {
        let now = Instant::now();
        let mut wait = Wait::new(1, 60, now);
        let pending = || {
            refused(CreateTokenError::AuthorizationPendingException(
                oidc_error::AuthorizationPendingException::builder().build(),
            ))
        };
        let slow = refused(CreateTokenError::SlowDownException(
            oidc_error::SlowDownException::builder().build(),
        ));
        assert!(matches!(wait.next(Err(pending()), now), PollOutcome::Again));
        assert_eq!(wait.interval, Duration::from_secs(1));
        assert!(matches!(wait.next(Err(slow), now), PollOutcome::Again));
        assert_eq!(wait.interval, Duration::from_secs(6));
        // The network may be away for a while.
        let timeout = SdkError::timeout_error("no answer");
        assert!(matches!(wait.next(Err(timeout), now), PollOutcome::Again));
        let late = now + Duration::from_secs(60);
        assert!(matches!(wait.next(Err(pending()), late), PollOutcome::Late));
    }

    #[test]
    fn a_service_that_names_no_times_has_those_of_the_rfc() {
        let now = Instant::now();
        let wait = Wait::new(0, 0, now);
        assert_eq!(wait.interval, INTERVAL);
        assert_eq!(wait.until, now + LIFETIME);
    }

    #[test]
    fn what_ends_the_wait_is_told_apart() {
        let now = Instant::now();
        let next = |error| Wait::new(1, 60, now).next(Err(refused(error)), now);
        let expired = oidc_error::ExpiredTokenException::builder().build();
        assert!(matches!(
            next(CreateTokenError::ExpiredTokenException(expired)),
            PollOutcome::Late
        ));
        let denied = oidc_error::AccessDeniedException::builder().build();
        assert!(matches!(
            next(CreateTokenError::AccessDeniedException(denied)),
            PollOutcome::Refused
        ));
        let client = oidc_error::InvalidClientException::builder().build();
        assert!(matches!(
            next(CreateTokenError::InvalidClientException(client)),
            PollOutcome::Failed(_)
        ));
    }

    #[test]
    fn only_a_page_that_cannot_be_read_on_the_way_is_opened() {
        assert!(is_page(
            "https://device.sso.eu-west-1.amazonaws.com/?user_code=A"
        ));
        assert!(is_page("http://127.0.0.1:1/x"));
        assert!(!is_page("http://example.com/"));
        assert!(!is_page("file:///etc/passwd"));
        assert!(!is_page("--help"));
    }
}
