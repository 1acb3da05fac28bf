//! Logging in at the SSO because somebody asks for it, and ending what a login has brought.

use std::{path::Path, time::SystemTime};

use ops_ui::{Error, ErrorKind, Result, hint};

use super::{
    Aws, Call, Meaning, Service,
    direct::{DirectCall, DirectFailure, Input, Limits},
    login::{Login, LoginWay, way_of},
    meaning,
    sso::{CachedToken, KeptToken, LoginFlow, remove_token},
};

/// A login at IAM Identity Center.
#[derive(Clone, Debug)]
pub struct SsoLogin {
    login: Login,
    /// The AWS profiles that it is good for, by name.
    pub profiles: Vec<String>,
}

impl SsoLogin {
    /// What it is called: the name of its `sso-session`, else its start URL.
    pub fn name(&self) -> &str {
        let login = &self.login;
        login.session.as_deref().unwrap_or(&login.start_url)
    }
}

/// What a login means for the AWS profile in use.
#[derive(Clone, Debug)]
pub enum LoginMeans {
    /// One at IAM Identity Center, which `ops` makes.
    Sso(SsoLogin),
    /// One with the credentials of the console, which `aws login` makes. Holds the AWS profile.
    Console(String),
    /// None: the credentials come from elsewhere.
    None,
}

/// What there was to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogoutOutcome {
    /// The service has ended the login, and nothing is kept here.
    Ended,
    /// The login had ended already; its token is gone from here.
    WasOver,
    /// Nobody was logged in here.
    NotLoggedIn,
}

/// One of the logins that were to be ended together.
#[derive(Clone, Debug)]
pub struct EndedLogin {
    /// The name of its `sso-session`, else its start URL.
    pub name: String,
    /// The AWS profiles that it was good for; none where the configuration knows it no longer.
    pub profiles: Vec<String>,
    /// What came of it.
    pub outcome: Result<LogoutOutcome>,
}

impl Aws {
    /// What a login means for the AWS profile in use, or which one the sso-session `session` is.
    ///
    /// # Errors
    /// There is no such session.
    pub(crate) fn login_means(&self, session: Option<&str>) -> Result<LoginMeans> {
        let files = self.provider.files();
        let sso = |login: Login| {
            let profiles = login.profiles(files);
            LoginMeans::Sso(SsoLogin { login, profiles })
        };
        if let Some(session) = session {
            return Login::of_session(files, session).map(sso).ok_or_else(|| {
                Error::usage(format!("there is no SSO session `{session}` to log in to"))
                    .caused_by("no [sso-session] section of that name has sso_start_url and sso_region, or no AWS profile names it with sso_session")
                    .hint(hint!("write one: aws configure sso-session, then aws configure sso"))
            });
        }
        let name = self.options.profile_name();
        if way_of(files, name) == LoginWay::Console {
            return Ok(LoginMeans::Console(files.source_of(name).to_owned()));
        }
        Ok(Login::of(files, name).map_or(LoginMeans::None, sso))
    }

    /// Logs in by `flow`, or by the usual one. Gives the end of the login.
    ///
    /// # Errors
    /// Nobody confirms in time, or somebody refuses; the service cannot be reached; the token
    /// cannot be kept.
    pub(crate) async fn log_in(
        &self,
        login: &SsoLogin,
        flow: Option<LoginFlow>,
        opens_browser: bool,
    ) -> Result<SystemTime> {
        self.provider
            .log_in(&login.login, flow, opens_browser)
            .await
    }

    /// When the login that is kept ends; `None` where there is none, or one that is over.
    pub(crate) fn login_end(&self, login: &SsoLogin, home: &Path) -> Option<jiff::Timestamp> {
        let end = CachedToken::read(&login.login.file(home))?.end()?;
        (end > jiff::Timestamp::now()).then_some(end)
    }

    /// Ends the login at the service, and removes its token here. Where the service cannot be
    /// asked, the token is removed all the same.
    ///
    /// # Errors
    /// The service was not reached, so that the login lasts until its end there; the token cannot
    /// be removed.
    pub(crate) async fn log_out(&self, login: &SsoLogin, home: &Path) -> Result<LogoutOutcome> {
        let sso = &login.login;
        let file = sso.file(home);
        let Some(token) = CachedToken::read(&file) else {
            // A file that is no token is of no use to anybody.
            remove_token(&file)?;
            return Ok(LogoutOutcome::NotLoggedIn);
        };
        self.end_login(login.name(), &sso.region, &token, &file)
            .await
    }

    /// Ends every login whose token is kept here, those of sessions too that the AWS configuration
    /// knows no longer. One that fails holds no other one up.
    pub(crate) async fn log_out_of_all(&self, home: &Path) -> Vec<EndedLogin> {
        let files = self.provider.files();
        let mut ended = Vec::new();
        let mut known = Vec::new();
        for name in files.names() {
            let Some(login) = Login::of(files, name) else {
                continue;
            };
            let file = login.file(home);
            if known.contains(&file) {
                continue;
            }
            known.push(file);
            let profiles = login.profiles(files);
            let login = SsoLogin { login, profiles };
            ended.push(EndedLogin {
                name: login.name().to_owned(),
                outcome: self.log_out(&login, home).await,
                profiles: login.profiles,
            });
        }
        for kept in KeptToken::all(home) {
            let outcome = self
                .end_login(&kept.start_url, &kept.region, &kept.token, &kept.file)
                .await;
            ended.push(EndedLogin {
                name: kept.start_url,
                profiles: Vec::new(),
                outcome,
            });
        }
        ended
    }

    /// Ends the login called `name` at the service in `region`, and removes its token in `file`.
    async fn end_login(
        &self,
        name: &str,
        region: &str,
        token: &CachedToken,
        file: &Path,
    ) -> Result<LogoutOutcome> {
        let call = DirectCall {
            service: Service::Sso,
            region,
            input: Input::WithSsoToken {
                path: "/logout",
                token: &token.access_token,
            },
            limits: Limits::USUAL,
        };
        let answer = self.ask(&call).await;
        remove_token(file)?;
        self.provider.forget().await;
        match answer {
            Ok(_) => Ok(LogoutOutcome::Ended),
            Err(failure) if is_over(&failure) => Ok(LogoutOutcome::WasOver),
            Err(failure) => {
                let call = Call {
                    action: "sso:Logout",
                    resource: None,
                    place: self.place(Some(region)),
                };
                let what = format!("the SSO login `{name}` could not be ended at the service");
                let told = failure.told(&call, what.clone());
                let error = Error::new(ErrorKind::Unexpected, what).caused_as(&told);
                Err(match token.end() {
                    Some(end) => error.caused_by(format!(
                        "its token is gone from here, and good until {end} for whoever has it"
                    )),
                    None => error,
                }
                .hint("end it in the browser: sign out of the access portal of your SSO"))
            }
        }
    }
}

/// Whether the service says that the token is good for nothing any more.
fn is_over(failure: &DirectFailure) -> bool {
    // Source: the errors of Logout in the service model of SSO.
    let code = failure.code();
    code.is_some_and(|code| meaning(code) == Meaning::Denied || code == "InvalidRequestException")
}
