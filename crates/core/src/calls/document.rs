//! What stands around the parameter in the commands of a document, which decides what the agent
//! does to dollar signs.

use aws_sdk_ssm::types::DocumentFormat;
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

impl Context {
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
