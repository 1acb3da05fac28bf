//! The command `logout`.

use ops_core::{
    Command, Context,
    calls::login::{LoginMeans, LogoutOutcome},
};
use ops_ui::{Exit, Result};

use crate::login::profile_names;

/// Log out of the SSO
///
/// Ends the login at IAM Identity Center (SSO) of the AWS profile in use, which is that of every
/// profile of the same sso-session, and removes its token: from where the AWS CLI keeps it, since
/// it is the same one. Credentials of roles that ops has kept are removed too.
///
/// Credentials that were handed out already, also to the AWS CLI, are good until they end.
#[derive(clap::Args, Debug)]
pub struct Logout {
    /// Log out of this sso-session of the AWS configuration
    #[arg(long, value_name = "NAME")]
    sso_session: Option<String>,
}

impl Command for Logout {
    const NAME: &'static str = "logout";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("ops logout", "of the AWS profile in use"),
        ("ops logout --sso-session corp", "of a session by its name"),
    ];

    async fn run(self, cx: Context) -> Result<Exit> {
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
        let name = login.name();
        output.note(match outcome {
            LogoutOutcome::Ended => {
                format!("logged out of `{name}`, for {}", profile_names(&login))
            }
            LogoutOutcome::WasOver => {
                format!("the login to `{name}` had ended already; its token is removed")
            }
            LogoutOutcome::NotLoggedIn => format!("nobody is logged in to `{name}` here"),
        });
        Ok(Exit::SUCCESS)
    }
}
