//! What is read of documents: what stands around the parameter in the commands of one, which
//! decides what the agent does to dollar signs, and whether the account's preferences log sessions.

use aws_sdk_ssm::{operation::get_document::GetDocumentError, types::DocumentFormat};
use ops_ui::{Error, Result};
use serde::Deserialize;

use crate::{BoxFuture, context::Context};

/// The parts of a session document that are read here.
#[derive(Deserialize)]
struct Content {
    #[serde(default)]
    properties: Properties,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Properties {
    linux: Commands,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Commands {
    commands: String,
}

/// The account's preferences: the part of them that logs sessions.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Preferences {
    inputs: LogInputs,
}

/// Empty texts, and absent ones, name nothing.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct LogInputs {
    s3_bucket_name: Option<String>,
    cloud_watch_log_group_name: Option<String>,
}

impl LogInputs {
    fn log_sessions(&self) -> bool {
        let named = |name: &Option<String>| name.as_ref().is_some_and(|name| !name.is_empty());
        named(&self.s3_bucket_name) || named(&self.cloud_watch_log_group_name)
    }
}

/// The document that holds the account's preferences.
const PREFERENCES: &str = "SSM-SessionManagerRunShell";

impl Context {
    /// Whether the account logs its sessions to S3 or CloudWatch (GetDocument of the preferences).
    /// Agents of any version then keep all output of a session on the server's disk.
    ///
    /// # Errors
    /// A denial; preferences that cannot be read.
    pub fn account_logs_sessions<'a>(&'a self, region: &'a str) -> BoxFuture<'a, Result<bool>> {
        Box::pin(self.account_logs_sessions_unboxed(region))
    }

    async fn account_logs_sessions_unboxed(&self, region: &str) -> Result<bool> {
        let aws = self.aws().await?;
        let what = || "cannot read the account's session preferences";
        let answer = aws
            .clients(region)
            .ssm
            .get_document()
            .name(PREFERENCES)
            .document_format(DocumentFormat::Json)
            .send()
            .await;
        let text = match answer {
            Ok(answer) => answer.content.unwrap_or_default(),
            // An account that has never set any has no such document.
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(GetDocumentError::is_invalid_document) =>
            {
                return Ok(false);
            }
            Err(error) => {
                return Err(aws
                    .call("ssm:GetDocument", None, region)
                    .failed(what(), &error));
            }
        };
        let preferences: Preferences = serde_json::from_str(&text)
            .map_err(|error| Error::unexpected(what()).caused_by(error))?;
        Ok(preferences.inputs.log_sessions())
    }

    /// Whether the commands of the document `name` are more than its parameter `command`
    /// (GetDocument). Then the agent reads what is put there as a template of Go's
    /// `regexp`, in which `$$` is a dollar sign and `$HOME` is nothing.
    ///
    /// Source: `ReplaceParameters` of docparser/parameters in the public amazon-ssm-agent.
    ///
    /// # Errors
    /// A denial; a document that is not there, or none of a session.
    pub fn document_expands_dollars<'a>(
        &'a self,
        name: &'a str,
        region: &'a str,
    ) -> BoxFuture<'a, Result<bool>> {
        Box::pin(self.document_expands_dollars_unboxed(name, region))
    }

    async fn document_expands_dollars_unboxed(&self, name: &str, region: &str) -> Result<bool> {
        let aws = self.aws().await?;
        let what = || format!("cannot read the document `{name}`");
        let answer = aws
            .clients(region)
            .ssm
            .get_document()
            .name(name)
            .document_format(DocumentFormat::Json)
            .send()
            .await
            .map_err(|error| {
                aws.call("ssm:GetDocument", None, region)
                    .failed(what(), &error)
            })?;
        let text = answer.content.unwrap_or_default();
        let content: Content = serde_json::from_str(&text)
            .map_err(|error| Error::unexpected(what()).caused_by(error))?;
        Ok(!is_bare(&content.properties.linux.commands))
    }
}

/// Whether `template` is a parameter and nothing else. Nothing at all is bare too: such a document
/// runs no commands of ours.
fn is_bare(template: &str) -> bool {
    let inside = template
        .strip_prefix("{{")
        .and_then(|rest| rest.strip_suffix("}}"))
        .map(str::trim);
    template.is_empty()
        || inside.is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_that_name_a_bucket_or_a_log_group_log_sessions() {
        for (text, logs) in [
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
            let preferences: Preferences = serde_json::from_str(text).unwrap();
            assert_eq!(preferences.inputs.log_sessions(), logs, "{text}");
        }
    }

    #[test]
    fn a_parameter_alone_is_told_from_one_within_a_command() {
        for bare in ["{{ command }}", "{{command}}", "{{  command}}", ""] {
            assert!(is_bare(bare), "{bare}");
        }
        for more in [
            "nice {{ command }}",
            " {{ command }}",
            "{{ a }}{{ b }}",
            "{{ command }}\n",
        ] {
            assert!(!is_bare(more), "{more}");
        }
    }
}
