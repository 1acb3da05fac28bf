//! What session documents say of their sessions: the account's preferences, which are the document
//! of its shells, and the account's own documents.

use aws_sdk_ssm::{operation::get_document::GetDocumentError, types::DocumentFormat};
use ops_session::documents;
use ops_ui::{Error, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::context::Context;

/// What one session document says of its sessions. Empty texts name nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionPreferences {
    /// The KMS key that sessions are encrypted with.
    pub kms_key: Option<String>,
    /// Where sessions are logged.
    pub logs: SessionLogs,
    /// The user that sessions run as; empty where each caller's tag names the user.
    pub run_as: Option<String>,
    /// Minutes without input after which a session ends.
    pub idle_minutes: Option<String>,
    /// Minutes after which any session ends.
    pub most_minutes: Option<String>,
    /// Whether commands of the account run at the begin of each shell.
    pub has_shell_profile: bool,
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
    /// Whether sessions are logged anywhere.
    pub fn are_kept(&self) -> bool {
        self.bucket.is_some() || self.log_group.is_some()
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Content {
    inputs: Inputs,
}

/// The part of a session document that is read here. Each value may be of any type: booleans and
/// numbers are written as texts too, and one value of a wrong type must not hide the others, the
/// key above all.
///
/// Source: "Session document schema" of the Systems Manager user guide.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Inputs {
    s3_bucket_name: Value,
    s3_key_prefix: Value,
    cloud_watch_log_group_name: Value,
    cloud_watch_streaming_enabled: Value,
    kms_key_id: Value,
    run_as_enabled: Value,
    run_as_default_user: Value,
    idle_session_timeout: Value,
    max_session_duration: Value,
    shell_profile: Value,
}

fn text(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    Some(text).filter(|text| !text.is_empty())
}

fn is_true(value: &Value) -> bool {
    value == true || value == "true"
}

impl SessionPreferences {
    /// Reads the content of a session document.
    ///
    /// # Errors
    /// The content is no JSON, or no object.
    pub(crate) fn of(content: &str) -> serde_json::Result<Self> {
        // As an object first: serde reads a struct from an array too, by the order of its fields,
        // and `[]` would be preferences that demand nothing.
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(content)?;
        let Content { inputs } = serde_json::from_value(object.into())?;
        let prefix = text(&inputs.s3_key_prefix).unwrap_or_default();
        let run_as = is_true(&inputs.run_as_enabled)
            .then(|| text(&inputs.run_as_default_user).unwrap_or_default());
        let has_shell_profile = ["linux", "windows"].iter().any(|system| {
            let of_system = inputs.shell_profile.get(system);
            of_system.and_then(text).is_some()
        });
        Ok(Self {
            kms_key: text(&inputs.kms_key_id),
            logs: SessionLogs {
                bucket: text(&inputs.s3_bucket_name).map(|bucket| (bucket, prefix)),
                log_group: text(&inputs.cloud_watch_log_group_name),
                is_streamed: is_true(&inputs.cloud_watch_streaming_enabled),
            },
            run_as,
            idle_minutes: text(&inputs.idle_session_timeout),
            most_minutes: text(&inputs.max_session_duration),
            has_shell_profile,
        })
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
    /// What the session document `name` in `region` says of its sessions (GetDocument). An account
    /// that has never set preferences has no document of them, and prefers nothing.
    ///
    /// # Errors
    /// A denial; a document that cannot be read, or one of the account's own that is not there.
    pub async fn session_preferences(
        &self,
        name: &str,
        region: &str,
    ) -> Result<SessionPreferences> {
        match self.session_document(name, region).await? {
            Some(content) => SessionPreferences::of(&content)
                .map_err(|error| Error::unexpected(unread(name)).caused_by(error)),
            None => Ok(SessionPreferences::default()),
        }
    }

    /// The account's own preferences in `region`, those of its shells.
    ///
    /// # Errors
    /// As [`Self::session_preferences`].
    pub async fn account_preferences(&self, region: &str) -> Result<SessionPreferences> {
        self.session_preferences(documents::SHELL, region).await
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &str) -> SessionPreferences {
        SessionPreferences::of(content).expect(content)
    }

    #[test]
    fn preferences_are_read_in_every_spelling() {
        // The console writes booleans, the documentation's example texts.
        let set = read(
            r#"{"schemaVersion":"1.0","inputs":{"kmsKeyId":"arn:k","runAsEnabled":"true","runAsDefaultUser":"ops","idleSessionTimeout":"20","maxSessionDuration":60,"s3BucketName":"","shellProfile":{"linux":"cd /"}}}"#,
        );
        assert_eq!(set.run_as.as_deref(), Some("ops"));
        assert_eq!(set.idle_minutes.as_deref(), Some("20"));
        assert_eq!(set.most_minutes.as_deref(), Some("60"));
        assert!(set.has_shell_profile && !set.logs.are_kept());
        let by_tag = read(r#"{"inputs":{"runAsEnabled":true,"runAsDefaultUser":""}}"#);
        assert_eq!(by_tag.run_as.as_deref(), Some(""));
        let off = read(r#"{"inputs":{"runAsEnabled":false,"runAsDefaultUser":"ops"}}"#);
        assert_eq!(off, SessionPreferences::default());
        assert_eq!(
            read(r#"{"schemaVersion":"1.0"}"#),
            SessionPreferences::default()
        );
    }

    #[test]
    fn a_document_names_its_key_or_none() {
        for (content, key) in [
            (r#"{"inputs":{"kmsKeyId":" arn:k "}}"#, Some("arn:k")),
            (r#"{"inputs":{"kmsKeyId":""}}"#, None),
            (r#"{"inputs":{"kmsKeyId":null}}"#, None),
            (r#"{"schemaVersion":"1.0"}"#, None),
            // What is wrong beside the key does not hide it.
            (
                r#"{"inputs":{"kmsKeyId":"arn:k","s3BucketName":7,"shellProfile":"x"}}"#,
                Some("arn:k"),
            ),
        ] {
            assert_eq!(read(content).kms_key.as_deref(), key, "{content}");
        }
        for content in ["", "no JSON", "[]"] {
            assert!(SessionPreferences::of(content).is_err(), "{content}");
        }
    }

    #[test]
    fn preferences_that_name_a_bucket_or_a_log_group_log_sessions() {
        for (content, are_kept) in [
            (r#"{"inputs":{"s3BucketName":"logs"}}"#, true),
            (
                r#"{"inputs":{"s3BucketName":"","cloudWatchLogGroupName":"/ssm"}}"#,
                true,
            ),
            (
                r#"{"inputs":{"s3BucketName":"","cloudWatchLogGroupName":null}}"#,
                false,
            ),
        ] {
            assert_eq!(read(content).logs.are_kept(), are_kept, "{content}");
        }
    }

    #[test]
    fn booleans_of_the_preferences_may_be_texts() {
        for (value, is_streamed) in [("true", true), ("\"true\"", true), ("\"false\"", false)] {
            let content = format!("{{\"inputs\":{{\"cloudWatchStreamingEnabled\":{value}}}}}");
            assert_eq!(read(&content).logs.is_streamed, is_streamed, "{value}");
        }
    }
}
