//! Who is calling, and the check of the account that a profile names.

use ops_ui::{Error, ErrorKind, Result};

use crate::{BoxFuture, aws::Identity, context::Context};

impl Context {
    /// The caller's identity; asked once per set of credentials, also across invocations.
    ///
    /// # Errors
    /// No credentials, or those of the call.
    pub fn identity<'a>(&'a self) -> BoxFuture<'a, Result<&'a Identity>> {
        Box::pin(self.identity_unboxed())
    }

    async fn identity_unboxed(&self) -> Result<&Identity> {
        self.aws().await?.identity().await
    }

    /// Compares the caller's account with `aws.account` of the profile; does nothing where the
    /// profile names none.
    ///
    /// # Errors
    /// Refused (exit 9) on a mismatch.
    pub fn check_account<'a>(&'a self) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.check_account_unboxed())
    }

    async fn check_account_unboxed(&self) -> Result<()> {
        let aws = self.aws().await?;
        let Some(wanted) = aws.options().account.clone() else {
            return Ok(());
        };
        let identity = self.identity().await?;
        if identity.account == wanted {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Refused,
            format!("the credentials belong to account `{}`, not `{wanted}`", identity.account),
        )
        .caused_by(format!(
            "`aws.account` of profile `{}` names `{wanted}`; the caller is `{}`",
            aws.options().team.as_deref().unwrap_or("?"),
            identity.arn
        ))
        .hint("use credentials of that account (see where they come from: ops config show), or another profile: ops config profiles"))
    }
}
