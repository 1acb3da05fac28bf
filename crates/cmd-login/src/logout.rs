//! The command `logout`.

use ops_core::{
    Command, Context, Forms, Traits,
    calls::login::{LoginMeans, LogoutOutcome},
};
use ops_ui::{Exit, Result};

use crate::login::in_words;

/// Log out of the SSO
///
/// Ends the login at IAM Identity Center (SSO) of the AWS profile in use, which is that of every
/// profile of the same sso-session, and removes its token: from where the AWS CLI keeps it, since
/// it is the same one. Credentials of roles that ops has kept are removed too.
///
/// With --all every login ends whose token is kept on this machine.
///
/// Credentials that were handed out already, also to the AWS CLI, are good until they end.
#[derive(clap::Args, Debug)]
pub struct Logout {
    /// Log out of this sso-session of the AWS configuration
    #[arg(long, value_name = "NAME", conflicts_with = "all")]
    sso_session: Option<String>,
    /// Log out of every SSO session whose token is kept here
    #[arg(long)]
    all: bool,
}

impl Command for Logout {
    const NAME: &'static str = "logout";
    const TRAITS: Traits = Traits {
        forms: Forms::Nothing,
        ..Traits::NONE
    };
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("ops logout", "of the AWS profile in use"),
        ("ops logout --sso-session corp", "of a session by its name"),
        ("ops logout --all", "of all sessions"),
    ];

    async fn run(self, cx: Context) -> Result<Exit> {
        if self.all {
            return of_all(&cx).await;
        }
        let output = cx.output();
        let LoginMeans::Sso(login) = cx.login_means(self.sso_session.as_deref()).await? else {
            let count = cx.forget_roles()?;
            output.note(match count {
                0 => "there is nothing to log out of: the credentials come from no SSO login".to_owned(),
                _ => "there is no SSO login to end; the credentials of roles that were kept here are removed".to_owned(),
            });
            return Ok(Exit::SUCCESS);
        };
        let outcome = Box::pin(cx.log_out(&login)).await?;
        output.note(told(login.name(), &login.profiles, &outcome));
        Ok(Exit::SUCCESS)
    }
}

/// Ends every login; where some could not be ended the others are all the same.
async fn of_all(cx: &Context) -> Result<Exit> {
    let mut exit = Exit::SUCCESS;
    let mut was_any = false;
    for login in Box::pin(cx.log_out_of_all()).await? {
        match &login.outcome {
            // Of twenty sessions in a configuration most were never used here.
            Ok(LogoutOutcome::NotLoggedIn) => continue,
            Ok(outcome) => cx
                .output()
                .note(told(&login.name, &login.profiles, outcome)),
            Err(error) => {
                cx.output().error(error);
                exit = Exit::PARTIAL;
            }
        }
        was_any = true;
    }
    if !was_any {
        cx.output().note("nobody is logged in here");
    }
    Ok(exit)
}

fn told(name: &str, profiles: &[String], outcome: &LogoutOutcome) -> String {
    match outcome {
        LogoutOutcome::Ended if profiles.is_empty() => format!("logged out of `{name}`"),
        LogoutOutcome::Ended => format!("logged out of `{name}`, for {}", in_words(profiles)),
        LogoutOutcome::WasOver => {
            format!("the login to `{name}` had ended already; its token is removed")
        }
        LogoutOutcome::NotLoggedIn => format!("nobody is logged in to `{name}` here"),
    }
}
