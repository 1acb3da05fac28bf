//! What credentials need from a person: a login at the SSO, an MFA code; asked once, and not where
//! nobody can answer.

use std::{
    sync::atomic::Ordering,
    time::{Duration, SystemTime},
};

use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials as _, error::CredentialsError},
};
use ops_profile::aws_files::AwsFiles;
use ops_ui::{Error, ErrorKind, Result, confirm::Preset};

use super::{
    super::{
        assume,
        credentials_failure::{credentials_failed, is_sso_over},
        endpoint,
        hosts::{self, HostKind},
        ignores_configured_endpoints,
        login::Login,
        options::Service,
        recipe::{Asking, Recipe},
        sso::{Desk, LoginFlow},
    },
    Base, MARGIN, Provider, ProviderState,
};

/// Between looks for what another `ops` may have put into the cache while a question stands.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Provider {
    /// The AWS configuration files; empty in the sandbox.
    pub(in crate::aws) fn files(&self) -> &AwsFiles {
        &self.0.recipe.files
    }

    /// Where `service` is asked in `region` by a call that no client of the SDK makes.
    pub(in crate::aws) fn url_of(&self, service: Service, region: &str) -> String {
        self.0.recipe.url_of(service, region)
    }

    /// Logs in at the SSO because somebody has asked for it, by `flow` or the usual one. What was
    /// known of credentials is forgotten. Gives the end of the login.
    ///
    /// # Errors
    /// As [`Desk::log_in`].
    pub(in crate::aws) async fn log_in(
        &self,
        login: &Login,
        flow: Option<LoginFlow>,
        opens_browser: bool,
    ) -> Result<SystemTime> {
        let recipe = &self.0.recipe;
        let flow = flow.unwrap_or_else(|| LoginFlow::usual(&recipe.env, login));
        let end = recipe.log_in_by(login, flow, opens_browser).await?;
        self.forget().await;
        Ok(end)
    }

    /// Forgets the credentials in memory.
    pub(in crate::aws) async fn forget(&self) {
        *self.0.state.lock().await = ProviderState::default();
    }

    pub(super) fn asking(&self, state: &ProviderState) -> Asking {
        let may_ask = self.0.recipe.output.may_ask() && ops_ui::terminal::is_foreground();
        let is_taken = self.0.quiet.load(Ordering::Relaxed)
            || state.asked
            || self.0.recipe.interrupt.requested().is_some();
        match self.0.is_later.load(Ordering::Relaxed) {
            true if may_ask && !is_taken => Asking::Anew,
            true => Asking::Over,
            false if !may_ask => Asking::Never,
            false if is_taken => Asking::Over,
            false => Asking::Allowed,
        }
    }

    /// The credentials after a new login, where that is what they want and somebody agrees to it;
    /// else the translation of `error`.
    pub(super) async fn after_login(
        &self,
        state: &mut ProviderState,
        error: &CredentialsError,
    ) -> Result<Credentials> {
        let recipe = &self.0.recipe;
        let translated = |error: &CredentialsError| {
            credentials_failed(error, &recipe.options, &recipe.files, &recipe.home)
        };
        let failure = translated(error);
        let login = Login::of(&recipe.files, recipe.options.profile_name())
            .filter(|_| is_sso_over(error, true));
        let Some(login) = login else {
            return Err(failure);
        };
        if !self.asking(state).is_allowed() || recipe.output.quiet() {
            return Err(failure);
        }
        let made = tokio::select! {
            made = recipe.log_in(&login) => made,
            () = login.made_elsewhere(&recipe.home) => Ok(true),
            error = recipe.interrupt.wait() => Err(error),
        };
        state.asked = is_answer(made.as_ref().err());
        if !made? {
            return Err(failure);
        }
        // Anew: the old source may know the old token by heart.
        match recipe.plan(None).await?.base {
            Base::Static(credentials) => Ok(credentials),
            Base::Sdk(provider) => {
                state.base = Some(provider.clone());
                provider
                    .provide_credentials()
                    .await
                    .map_err(|error| translated(&error))
            }
        }
    }
}

/// Whether a question is over: nobody wants it at every attempt, unless it is the network that
/// failed.
pub(super) fn is_answer(error: Option<&Error>) -> bool {
    error.is_none_or(|error| error.kind() != ErrorKind::Unexpected)
}

/// Ends when somebody interrupts a question. A role that asks nothing is assumed to the end:
/// sessions are ended with it.
pub(super) async fn asked_and_interrupted(recipe: &Recipe, asking: Asking) -> Error {
    if !asking.is_allowed() {
        std::future::pending::<()>().await;
    }
    recipe.interrupt.wait().await
}

/// Ends once another `ops` has assumed the role that `key` names.
pub(super) async fn cached_elsewhere(
    recipe: &Recipe,
    key: &str,
    refused: Option<String>,
) -> Credentials {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if let Some(cached) = assume::cached(&recipe.cache, key, MARGIN)
            && refused.as_deref() != Some(cached.access_key_id())
        {
            return cached;
        }
    }
}

impl Recipe {
    /// Asks whether to log in, and does. False: nobody wants to.
    async fn log_in(&self, login: &Login) -> Result<bool> {
        let profile = ops_ui::output::escape(&login.profile);
        let state = if login.was_made(&self.home) {
            format!("The SSO login of AWS profile `{profile}` has expired.")
        } else {
            format!("AWS profile `{profile}` wants a login at its SSO.")
        };
        let answer = self
            .output
            .confirm_anew(format!("{state} Log in now?"), Preset::Yes)
            .await?;
        let agreed = answer.is_yes();
        if agreed {
            let flow = LoginFlow::usual(&self.env, login);
            Box::pin(self.log_in_by(login, flow, true)).await?;
            self.output.note("logged in");
        }
        Ok(agreed)
    }

    /// Logs in by `flow`, asked for or agreed to. Gives the end of the login.
    async fn log_in_by(
        &self,
        login: &Login,
        flow: LoginFlow,
        opens_browser: bool,
    ) -> Result<SystemTime> {
        let desk = Desk {
            options: &self.options,
            env: &self.env,
            output: &self.output,
            home: &self.home,
            base: &self.base,
            oidc_url: self.url_of(Service::SsoOidc, &login.region),
            opens_browser,
        };
        desk.log_in(login, flow).await
    }

    /// Where `service` is asked in `region` by a call that no client of the SDK makes.
    fn url_of(&self, service: Service, region: &str) -> String {
        let of_files = || {
            let url = self
                .files
                .endpoint(self.options.profile_name(), service.key())?;
            (!ignores_configured_endpoints(&self.env)).then(|| url.to_owned())
        };
        let kind = HostKind {
            is_fips: self.base.use_fips() == Some(true),
            is_dual_stack: self.base.use_dual_stack() == Some(true),
        };
        endpoint(&self.options, &self.env, service)
            .or_else(of_files)
            .unwrap_or_else(|| hosts::url_of(service, region, kind))
    }
}
