//! The name that an account has given itself: iam:ListAccountAliases.

use crate::{
    aws::{
        Service,
        direct::{DirectCall, Input, Limits, texts_of},
    },
    context::Context,
    partition::Partition,
};

/// The version of IAM's API. Source: its service model.
const IAM_VERSION: &str = "2010-05-08";

impl Context {
    /// The alias of the caller's account. `None` where it has none, where the caller may not read
    /// it, and where IAM does not answer at once: a name is welcome and nothing depends on it.
    pub async fn account_alias(&self) -> Option<String> {
        let aws = self.aws().await.ok()?;
        let call = DirectCall {
            service: Service::Iam,
            region: Partition::of(&aws.any_region()).iam_region,
            input: Input::Query {
                version: IAM_VERSION,
                action: "ListAccountAliases",
                parameters: &[],
            },
            limits: Limits::SHORT,
        };
        let answer = match aws.ask(&call).await {
            Ok(answer) => answer,
            Err(failure) => {
                tracing::debug!(code = failure.code(), "the account's alias is not known");
                return None;
            }
        };
        let aliases = answer.xml(|root| texts_of(root, "AccountAliases", "member"));
        aliases.ok()?.into_iter().next()
    }
}
