//! The account's session preferences, and what they mean for a session.

use ops_session::documents;
use ops_ui::{Error, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::context::Context;

/// The preferences, of which empty texts name nothing. Source: "Session document schema" of the
/// Systems Manager user guide.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preferences {
    /// The KMS key that sessions are encrypted with.
    pub kms_key: Option<String>,
    /// The bucket that sessions are logged to.
    pub bucket: Option<String>,
    /// The log group of CloudWatch that sessions are logged to.
    pub log_group: Option<String>,
    /// The user that sessions run as; empty where each caller's tag names it.
    pub run_as: Option<String>,
    /// Minutes without input after which a session ends.
    pub idle_minutes: Option<String>,
    /// Minutes after which any session ends.
    pub most_minutes: Option<String>,
    /// Whether commands of the account run at the begin of each shell.
    pub has_shell_profile: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Content {
    inputs: Inputs,
}

/// Booleans may be texts, and numbers are.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Inputs {
    s3_bucket_name: Value,
    cloud_watch_log_group_name: Value,
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
    value == &Value::Bool(true) || value.as_str().is_some_and(|text| text == "true")
}

impl Preferences {
    fn parse(content: &str) -> serde_json::Result<Self> {
        let inputs = serde_json::from_str::<Content>(content)?.inputs;
        let run_as = is_true(&inputs.run_as_enabled)
            .then(|| text(&inputs.run_as_default_user).unwrap_or_default());
        let profiles = ["linux", "windows"];
        let has_shell_profile = profiles.iter().any(|system| {
            let of_system = inputs.shell_profile.get(system);
            of_system.and_then(text).is_some()
        });
        Ok(Self {
            kms_key: text(&inputs.kms_key_id),
            bucket: text(&inputs.s3_bucket_name),
            log_group: text(&inputs.cloud_watch_log_group_name),
            run_as,
            idle_minutes: text(&inputs.idle_session_timeout),
            most_minutes: text(&inputs.max_session_duration),
            has_shell_profile,
        })
    }

    /// What each of them means for whoever opens a session, a line each.
    pub fn meanings(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(key) = &self.kms_key {
            lines.push(format!("sessions are encrypted with `{key}`: the caller needs kms:GenerateDataKey and the server's role kms:Decrypt on it"));
        }
        match self.run_as.as_deref() {
            None => {}
            Some("") => lines.push("sessions run as the user that the caller's tag SSMSessionRunAs names; without the tag none starts".to_owned()),
            Some(user) => lines.push(format!("sessions run as `{user}`: on a server without that user they end at once")),
        }
        if let Some(bucket) = &self.bucket {
            lines.push(format!("what sessions print is logged to the bucket `{bucket}`, and kept on the server's disk meanwhile"));
        }
        if let Some(group) = &self.log_group {
            lines.push(format!(
                "what sessions print is logged to the log group `{group}`"
            ));
        }
        if let Some(minutes) = &self.idle_minutes {
            lines.push(format!(
                "sessions end after {minutes} minutes without input"
            ));
        }
        if let Some(minutes) = &self.most_minutes {
            lines.push(format!(
                "sessions end after {minutes} minutes, whatever runs in them"
            ));
        }
        if self.has_shell_profile {
            lines.push("commands of the account run at the begin of each shell".to_owned());
        }
        lines
    }
}

impl Context {
    /// The account's session preferences in `region` (GetDocument); all defaults where the account
    /// has never set any.
    ///
    /// # Errors
    /// A denial; preferences that cannot be read.
    pub async fn session_preferences(&self, region: &str) -> Result<Preferences> {
        let Some(content) = self.session_document(documents::SHELL, region).await? else {
            return Ok(Preferences::default());
        };
        Preferences::parse(&content).map_err(|error| {
            Error::unexpected("cannot read the account's session preferences").caused_by(error)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_are_read_in_every_spelling() {
        // The console writes booleans, the documentation's example texts.
        let read = |text| Preferences::parse(text).expect("preferences");
        let set = read(
            r#"{"schemaVersion":"1.0","inputs":{"kmsKeyId":"arn:k","runAsEnabled":"true","runAsDefaultUser":"ops","idleSessionTimeout":"20","maxSessionDuration":60,"s3BucketName":"","shellProfile":{"linux":"cd /"}}}"#,
        );
        assert_eq!(set.kms_key.as_deref(), Some("arn:k"));
        assert_eq!(set.run_as.as_deref(), Some("ops"));
        assert_eq!(set.most_minutes.as_deref(), Some("60"));
        assert!(set.has_shell_profile && set.bucket.is_none());
        assert_eq!(set.meanings().len(), 5);
        let by_tag = read(r#"{"inputs":{"runAsEnabled":true,"runAsDefaultUser":""}}"#);
        assert_eq!(by_tag.run_as.as_deref(), Some(""));
        let off = read(r#"{"inputs":{"runAsEnabled":false,"runAsDefaultUser":"ops"}}"#);
        assert_eq!(off, Preferences::default());
        assert_eq!(read(r#"{"schemaVersion":"1.0"}"#), Preferences::default());
    }
}
