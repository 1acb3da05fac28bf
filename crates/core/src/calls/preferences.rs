//! Where the account keeps the logs of sessions: the preferences in its documents.

use aws_sdk_ssm::{operation::get_document::GetDocumentError, types::DocumentFormat};
use ops_session::documents;
use ops_ui::{Error, Result};
use serde::Deserialize;

use crate::context::Context;

/// The part of a session document that says where sessions are logged. Empty texts, and absent
/// ones, name nothing; booleans may be texts.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Inputs {
    s3_bucket_name: Option<String>,
    s3_key_prefix: Option<String>,
    cloud_watch_log_group_name: Option<String>,
    cloud_watch_streaming_enabled: Option<serde_json::Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Content {
    inputs: Inputs,
}

/// Where sessions with one document are logged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionLogs {
    /// The bucket, and what stands in front of the keys in it.
    pub bucket: Option<(String, String)>,
    /// The log group of CloudWatch Logs.
    pub log_group: Option<String>,
    /// The log group gets the output while the session lasts, line by line; else at its end.
    pub is_streamed: bool,
}

impl SessionLogs {
    fn of(content: &str) -> serde_json::Result<Self> {
        let Content { inputs } = serde_json::from_str(content)?;
        let named = |name: Option<String>| name.filter(|name| !name.is_empty());
        let prefix = inputs.s3_key_prefix.unwrap_or_default();
        Ok(Self {
            bucket: named(inputs.s3_bucket_name).map(|bucket| (bucket, prefix)),
            log_group: named(inputs.cloud_watch_log_group_name),
            is_streamed: inputs
                .cloud_watch_streaming_enabled
                .is_some_and(|value| value == true || value == "true"),
        })
    }

    /// Whether sessions are logged anywhere.
    pub fn are_kept(&self) -> bool {
        self.bucket.is_some() || self.log_group.is_some()
    }
}

/// What could not be done with the session document `name`.
pub(super) fn unread(name: &str) -> String {
    match name {
        documents::SHELL => "cannot read the account's session preferences".to_owned(),
        name => format!("cannot read the document `{name}`"),
    }
}

impl Context {
    /// Where sessions in `region` with the session document `name` are logged (GetDocument). An
    /// account that has never set preferences has no document of them, and logs nothing.
    ///
    /// # Errors
    /// A denial; a document that cannot be read, or one of the account's own that is not there.
    pub async fn session_logs(&self, name: &str, region: &str) -> Result<SessionLogs> {
        match self.session_document(name, region).await? {
            Some(text) => SessionLogs::of(&text)
                .map_err(|error| Error::unexpected(unread(name)).caused_by(error)),
            None => Ok(SessionLogs::default()),
        }
    }

    /// The content of the session document `name` in `region` (GetDocument); `None` for the
    /// preferences of an account that has never set any.
    ///
    /// # Errors
    /// A denial; a document of the account's own that is not there.
    pub(crate) async fn session_document(
        &self,
        name: &str,
        region: &str,
    ) -> Result<Option<String>> {
        let aws = self.aws().await?;
        let answer = aws
            .clients(region)
            .ssm
            .get_document()
            .name(name)
            .document_format(DocumentFormat::Json)
            .send()
            .await;
        match answer {
            Ok(answer) => {
                let content = answer.content.unwrap_or_default();
                // Whoever has read it for another reason knows better what a session has to be.
                self.learn_encryption(region, name, &content).await;
                Ok(Some(content))
            }
            Err(error)
                if name == documents::SHELL
                    && error
                        .as_service_error()
                        .is_some_and(GetDocumentError::is_invalid_document) =>
            {
                Ok(None)
            }
            Err(error) => Err(aws
                .call("ssm:GetDocument", None, region)
                .failed(unread(name), &error)),
        }
    }

    /// Whether the account logs its sessions to S3 or CloudWatch (GetDocument of the preferences).
    /// Agents of any version then keep all output of a session on the server's disk.
    ///
    /// # Errors
    /// As [`Self::session_logs`].
    pub async fn account_logs_sessions(&self, region: &str) -> Result<bool> {
        let logs = self.session_logs(documents::SHELL, region).await?;
        Ok(logs.are_kept())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_that_name_a_bucket_or_a_log_group_log_sessions() {
        for (text, are_kept) in [
            (r#"{"inputs":{"s3BucketName":"logs"}}"#, true),
            (
                r#"{"inputs":{"s3BucketName":"","cloudWatchLogGroupName":"/ssm"}}"#,
                true,
            ),
            (
                r#"{"inputs":{"s3BucketName":"","cloudWatchLogGroupName":null}}"#,
                false,
            ),
            (r#"{"schemaVersion":"1.0"}"#, false),
        ] {
            let logs = SessionLogs::of(text).expect(text);
            assert_eq!(logs.are_kept(), are_kept, "{text}");
        }
    }

    #[test]
    fn booleans_of_the_preferences_may_be_texts() {
        for (value, is_streamed) in [("true", true), ("\"true\"", true), ("\"false\"", false)] {
            let text = format!("{{\"inputs\":{{\"cloudWatchStreamingEnabled\":{value}}}}}");
            let logs = SessionLogs::of(&text).expect("JSON");
            assert_eq!(logs.is_streamed, is_streamed, "{value}");
        }
    }
}
