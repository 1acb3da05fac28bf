//! What is read of documents for commands: how commands are sent by one, and how their output
//! comes.

use ops_ui::{Error, Result};
use serde::Deserialize;
use serde_json::Value;

use super::preferences::unread;
use crate::{BoxFuture, context::Context};

/// The name of the parameter that separates output from error output, in AWS's own document for
/// commands and in those that are made after it.
const SEPARATE_PARAMETER: &str = "separateOutputStream";

/// What a document for commands without a terminal says of them. The default is what is taken to
/// hold of one that cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandDocument {
    /// Its commands are more than the parameter `command`. Then the agent reads what is put there
    /// as a template of Go's `regexp`, in which `$$` is a dollar sign and `$HOME` is nothing.
    ///
    /// Source: `ReplaceParameters` of docparser/parameters in the public amazon-ssm-agent.
    pub expands_dollars: bool,
    /// Whether output and error output come apart.
    pub separation: Separation,
}

/// Whether a document has output and error output come apart, as it is produced. Where it does not,
/// both come as one, once the command has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Separation {
    /// That shows when a command has run.
    #[default]
    Unknown,
    /// The parameter `separateOutputStream` decides.
    ByParameter,
    /// They always do; it takes no parameter for that.
    Always,
    /// They never do.
    Never,
}

/// The parts of a session document that are read here.
#[derive(Deserialize)]
struct Content {
    #[serde(default)]
    parameters: serde_json::Map<String, Value>,
    #[serde(default)]
    properties: Properties,
}

impl Content {
    fn command_document(&self) -> CommandDocument {
        let Commands {
            commands,
            separate_output_stream,
        } = &self.properties.linux;
        let separation = match separate_output_stream {
            None | Some(Value::Null | Value::Bool(false)) => Separation::Never,
            Some(Value::Bool(true)) => Separation::Always,
            Some(Value::String(text)) => match text.trim() {
                "" | "false" => Separation::Never,
                "true" => Separation::Always,
                template if is_bare(template) && template.contains(SEPARATE_PARAMETER) => {
                    if self.parameters.contains_key(SEPARATE_PARAMETER) {
                        Separation::ByParameter
                    } else {
                        Separation::Unknown
                    }
                }
                _ => Separation::Unknown,
            },
            Some(_) => Separation::Unknown,
        };
        CommandDocument {
            expands_dollars: !is_bare(commands),
            separation,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Properties {
    linux: Commands,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Commands {
    commands: String,
    /// A text, `true` or `false`, or a parameter in braces.
    separate_output_stream: Option<Value>,
}

impl Context {
    /// What the document `name` says of commands (GetDocument).
    ///
    /// # Errors
    /// A denial; a document that is not there, or none of a session.
    pub fn command_document<'a>(
        &'a self,
        name: &'a str,
        region: &'a str,
    ) -> BoxFuture<'a, Result<CommandDocument>> {
        Box::pin(self.command_document_unboxed(name, region))
    }

    async fn command_document_unboxed(&self, name: &str, region: &str) -> Result<CommandDocument> {
        let text = self
            .session_document(name, region)
            .await?
            .unwrap_or_default();
        let content: Content = serde_json::from_str(&text)
            .map_err(|error| Error::unexpected(unread(name)).caused_by(error))?;
        Ok(content.command_document())
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
    fn a_document_tells_whether_its_commands_come_with_separated_output() {
        let with = |property: &str| {
            let text = format!(
                r#"{{"parameters":{{"command":{{}},"separateOutputStream":{{}}}},
                    "properties":{{"linux":{{"commands":"{{{{ command }}}}"{property}}}}}}}"#
            );
            let content: Content = serde_json::from_str(&text).unwrap();
            content.command_document().separation
        };
        for (property, expected) in [
            ("", Separation::Never),
            (r#","separateOutputStream":"false""#, Separation::Never),
            (r#","separateOutputStream":false"#, Separation::Never),
            (r#","separateOutputStream":"true""#, Separation::Always),
            (r#","separateOutputStream":true"#, Separation::Always),
            (
                r#","separateOutputStream":"{{ separateOutputStream }}""#,
                Separation::ByParameter,
            ),
            (
                r#","separateOutputStream":"{{ apart }}""#,
                Separation::Unknown,
            ),
            (r#","separateOutputStream":7"#, Separation::Unknown),
        ] {
            assert_eq!(with(property), expected, "{property}");
        }
        // It names a parameter that it does not declare.
        let content: Content = serde_json::from_str(
            r#"{"properties":{"linux":{"separateOutputStream":"{{ separateOutputStream }}"}}}"#,
        )
        .unwrap();
        assert_eq!(content.command_document().separation, Separation::Unknown);
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
