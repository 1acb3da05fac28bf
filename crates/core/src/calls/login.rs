//! Logging in and out, and whose credentials are in use.

use aws_credential_types::Credentials;
use jiff::Timestamp;
use ops_ui::Result;
use zeroize::Zeroizing;

pub use crate::aws::{
    CredentialsSource, EndedLogin, LoginFlow, LoginMeans, LogoutOutcome, SourceKind, SsoLogin,
};
use crate::{aws::Aws, context::Context};

/// Credentials as other programs take them. Not to be shown, but by who asked for it.
pub struct EffectiveCredentials {
    /// The id of the access key.
    pub access_key_id: String,
    /// The secret.
    pub secret_access_key: Zeroizing<String>,
    /// Of temporary ones.
    pub session_token: Option<Zeroizing<String>>,
    /// When they end; `None` where they do not, or nothing tells.
    pub expires: Option<Timestamp>,
    /// Where they come from.
    pub source: CredentialsSource,
    /// The AWS profile that they are of; `None` where they are none of a profile's.
    pub aws_profile: Option<String>,
}

impl Context {
    /// What a login means for the AWS profile in use, or which login the sso-session `session` is.
    ///
    /// # Errors
    /// There is no such session; an AWS configuration that cannot be used.
    pub async fn login_means(&self, session: Option<&str>) -> Result<LoginMeans> {
        self.aws().await?.login_means(session)
    }

    /// Logs in by `flow`, or by the usual one: in the browser where there is one. With
    /// `opens_browser` unset, the address is shown alone. Gives the end of the login.
    ///
    /// # Errors
    /// Nobody confirms in time, or somebody refuses; the service cannot be reached; the token
    /// cannot be kept.
    pub async fn log_in(
        &self,
        login: &SsoLogin,
        flow: Option<LoginFlow>,
        opens_browser: bool,
    ) -> Result<Timestamp> {
        let aws = self.aws().await?;
        let end = Box::pin(aws.log_in(login, flow, opens_browser)).await?;
        Ok(Timestamp::try_from(end).unwrap_or_default())
    }

    /// Ends the login at the service, and removes its token and the credentials of roles that are
    /// kept here: any of them may have been had with it.
    ///
    /// # Errors
    /// The service was not reached, or what is kept cannot be removed.
    pub async fn log_out(&self, login: &SsoLogin) -> Result<LogoutOutcome> {
        let aws = self.aws().await?;
        let outcome = aws.log_out(login, &self.paths().home).await;
        self.forget_roles()?;
        outcome
    }

    /// Ends every login whose token is kept here, and removes the credentials of roles that are
    /// kept here. Gives what came of each.
    ///
    /// # Errors
    /// An AWS configuration that cannot be used; credentials that cannot be removed.
    pub async fn log_out_of_all(&self) -> Result<Vec<EndedLogin>> {
        let aws = self.aws().await?;
        let ended = aws.log_out_of_all(&self.paths().home).await;
        self.forget_roles()?;
        Ok(ended)
    }

    /// Removes the credentials of assumed roles that are kept for later invocations. Gives how
    /// many there were.
    ///
    /// # Errors
    /// They cannot be removed.
    pub fn forget_roles(&self) -> Result<usize> {
        crate::aws::remove_kept_roles(&self.paths().cache)
    }

    /// The end of the SSO login behind the AWS profile in use; `None` where there is none.
    ///
    /// # Errors
    /// An AWS configuration that cannot be used.
    pub async fn login_end(&self) -> Result<Option<Timestamp>> {
        let aws = self.aws().await?;
        Ok(match aws.login_means(None)? {
            LoginMeans::Sso(login) => aws.login_end(&login, &self.paths().home),
            LoginMeans::Console(_) | LoginMeans::None => None,
        })
    }

    /// The credentials of this invocation, for another program.
    ///
    /// # Errors
    /// None found, expired ones, a refused role, a wrong MFA code.
    pub async fn effective_credentials(&self) -> Result<EffectiveCredentials> {
        let aws = self.aws().await?;
        let credentials = aws.credentials().await?;
        let source = aws.source(Some(&credentials));
        let expires = self.end_of(&credentials, source.kind);
        let profile = Aws::profile_in_use(aws.options(), source.kind);
        Ok(EffectiveCredentials {
            access_key_id: credentials.access_key_id().to_owned(),
            secret_access_key: Zeroizing::new(credentials.secret_access_key().to_owned()),
            session_token: credentials
                .session_token()
                .map(|token| Zeroizing::new(token.to_owned())),
            expires,
            aws_profile: profile.map(str::to_owned),
            source,
        })
    }

    /// When `credentials` end. Those of the environment say it in a variable, if anywhere.
    fn end_of(&self, credentials: &Credentials, kind: SourceKind) -> Option<Timestamp> {
        let told = credentials
            .expiry()
            .and_then(|end| Timestamp::try_from(end).ok());
        let of_environment = || {
            let text = self.env().var("AWS_CREDENTIAL_EXPIRATION")?;
            text.parse().ok()
        };
        told.or_else(|| {
            (kind == SourceKind::Environment)
                .then(of_environment)
                .flatten()
        })
    }
}
