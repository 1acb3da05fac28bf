//! Who is calling: GetCallerIdentity.

use std::path::PathBuf;

use ops_ui::{Result, paths::write_private};
use serde::{Deserialize, Serialize};

use super::Aws;

/// The caller as STS knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Twelve digits.
    pub account: String,
    /// The caller's ARN.
    pub arn: String,
    /// The caller's unique id.
    pub user_id: String,
}

impl Aws {
    /// The caller's identity; asked once per set of credentials, also across invocations.
    ///
    /// # Errors
    /// No credentials, or those of the call.
    pub(crate) async fn identity(&self) -> Result<&Identity> {
        self.identity.get_or_try_init(|| self.ask_identity()).await
    }

    async fn ask_identity(&self) -> Result<Identity> {
        let credentials = self.credentials().await?;
        let file = self.identity_file(credentials.access_key_id());
        if let Some(identity) = file
            .as_ref()
            .and_then(|file| std::fs::read(file).ok())
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        {
            return Ok(identity);
        }
        let region = self
            .region
            .clone()
            .unwrap_or_else(|| "us-east-1".to_owned());
        let answer = self
            .clients(&region)
            .sts
            .get_caller_identity()
            .send()
            .await
            .map_err(|error| {
                self.call("sts:GetCallerIdentity", None, &region)
                    .failed("cannot find out whose credentials these are", &error)
            })?;
        let identity = Identity {
            account: answer.account.unwrap_or_default(),
            arn: answer.arn.unwrap_or_default(),
            user_id: answer.user_id.unwrap_or_default(),
        };
        if let (Some(file), Ok(bytes)) = (file, serde_json::to_vec(&identity))
            && let Err(error) = write_private(&file, &bytes)
        {
            tracing::debug!(%error, "the caller's identity could not be cached");
        }
        Ok(identity)
    }

    /// An access key belongs to one account for ever. The sandbox's are new in every run: nothing
    /// to keep.
    fn identity_file(&self, access_key_id: &str) -> Option<PathBuf> {
        (!self.options.sandbox).then(|| {
            let sts = super::endpoint(&self.options, &self.env, super::Service::Sts);
            let key = super::hex_digest(
                format!("{access_key_id}\n{}", sts.unwrap_or_default()).as_bytes(),
            );
            self.cache.join("identity").join(format!("{key}.json"))
        })
    }
}
