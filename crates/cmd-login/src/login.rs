//! The command `login`.

use jiff::Timestamp;
use ops_core::{
    Command, Context, Forms, Traits,
    calls::login::{LoginFlow, LoginMeans, SourceKind, SsoLogin},
};
use ops_ui::{Error, ErrorKind, Exit, Result, hint};

/// Log in at the SSO
///
/// Logs in at IAM Identity Center (SSO) for the AWS profile in use, and with it for every profile
/// of the same sso-session. The browser opens, and comes back by itself. Where there is none, a
/// code is shown that is confirmed on any device.
///
/// The token is kept where the AWS CLI keeps it: `aws` works after `ops login`, and `ops` after
/// `aws sso login`. Profiles with other credentials have nothing to log in to: their credentials
/// are tried, and an MFA code is asked for where a role wants one.
#[derive(clap::Args, Debug)]
pub struct Login {
    /// Log in to this sso-session of the AWS configuration
    #[arg(long, value_name = "NAME")]
    sso_session: Option<String>,
    /// Confirm a code, on this or another device
    #[arg(long)]
    use_device_code: bool,
    /// Show the address, and open no browser
    #[arg(long)]
    no_browser: bool,
}

impl Command for Login {
    const NAME: &'static str = "login";
    const TRAITS: Traits = Traits {
        forms: Forms::Nothing,
        ..Traits::NONE
    };
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("ops login", "for the AWS profile in use"),
        (
            "ops login --use-device-code",
            "without a browser on this machine",
        ),
        (
            "ops login --sso-session corp",
            "for all profiles of a session, by its name",
        ),
    ];
    async fn run(self, cx: Context) -> Result<Exit> {
        match cx.login_means(self.sso_session.as_deref()).await? {
            LoginMeans::Sso(login) => self.log_in(&cx, &login).await?,
            LoginMeans::Console(profile) => of_console(&cx, &profile).await?,
            LoginMeans::None => try_credentials(&cx).await?,
        }
        Ok(Exit::SUCCESS)
    }
}

impl Login {
    async fn log_in(&self, cx: &Context, login: &SsoLogin) -> Result<()> {
        let flow = self.use_device_code.then_some(LoginFlow::DeviceCode);
        let end = Box::pin(cx.log_in(login, flow, !self.no_browser)).await?;
        let output = cx.output();
        output.note(format!(
            "logged in to `{}` until {}, for {}",
            login.name(),
            clock_time(end),
            in_words(&login.profiles)
        ));
        if self.sso_session.is_none() && uses_environment(cx).await {
            output.warn("credentials of the environment (AWS_ACCESS_KEY_ID) are used in place of this login: unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN, or name the profile with -p");
        }
        Ok(())
    }
}

/// Whether something outranks the login.
async fn uses_environment(cx: &Context) -> bool {
    let credentials = cx.effective_credentials().await;
    credentials.is_ok_and(|found| found.source.kind == SourceKind::Environment)
}

/// A profile with `login_session`: the login is the AWS CLI's to make.
async fn of_console(cx: &Context, profile: &str) -> Result<()> {
    match cx.effective_credentials().await {
        Ok(_) => {
            cx.output().note(format!(
                "AWS profile `{profile}` has the console login of `aws login`, which is good"
            ));
            Ok(())
        }
        Err(error) => Err(Error::new(
            ErrorKind::NotLoggedIn,
            format!("AWS profile `{profile}` logs in with the credentials of the console (login_session), which the AWS CLI does"),
        )
        .caused_as(&error)
        .hint(hint!("log in: aws login --profile {}", profile))),
    }
}

/// Credentials that no login brings: they are tried.
async fn try_credentials(cx: &Context) -> Result<()> {
    // A role that wants MFA has its code asked for here, and is kept for the commands that follow.
    let found = cx.effective_credentials().await?;
    let until = found.expires.map_or_else(String::new, |end| {
        format!(", good until {}", clock_time(end))
    });
    cx.output().note(format!(
        "there is nothing to log in to: the credentials come from {}{until}",
        found.source.words
    ));
    Ok(())
}

/// The profiles that a login is good for, in words.
pub(crate) fn in_words(profiles: &[String]) -> String {
    let names: Vec<String> = profiles.iter().map(|name| format!("`{name}`")).collect();
    match names.len() {
        1 => format!("AWS profile {}", names[0]),
        _ => format!("AWS profiles {}", names.join(", ")),
    }
}

/// A time as people read it, in UTC.
pub(crate) fn clock_time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}
