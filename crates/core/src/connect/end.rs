//! Ending a session that this process has not opened.

use ops_ui::{Error, ErrorKind, Result};

use super::gateway::{call_terminate, session_arn};
use crate::{aws::code_of, context::Context};

/// How long the call may take, its turns among others included.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

impl Context {
    /// Ends the session `id` in `region` (TerminateSession). False: the service knows no such
    /// session any more.
    ///
    /// # Errors
    /// A denial; no answer.
    pub async fn end_session(&self, region: &str, id: &str) -> Result<bool> {
        let aws = self.aws().await?;
        let what = || format!("the session `{id}` was not ended");
        let call = Box::pin(call_terminate(aws, region, id));
        let answer = tokio::time::timeout(PATIENCE, call).await;
        let answer = answer.map_err(|_| {
            Error::new(ErrorKind::Unexpected, what()).caused_by(format!(
                "TerminateSession was not answered within {PATIENCE:?}"
            ))
        })?;
        match answer {
            Ok(_) => Ok(true),
            Err(error) if code_of(&error) == Some("DoesNotExistException") => Ok(false),
            Err(error) => {
                let session = session_arn(aws, region, id);
                let call = aws.call("ssm:TerminateSession", Some(session), region);
                Err(call.failed(what(), &error))
            }
        }
    }
}
