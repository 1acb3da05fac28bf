//! Command documents: which parameters they take, and the script that comes of them.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use crate::{
    agent::run_command::{Language, Script},
    error::ApiError,
    fleet::{EntryType, FleetFile, Platform},
};

/// The service's own limit of a document, parameters included.
const DOCUMENT_BYTES: usize = 64 << 10;
/// What surrounds the parameters in the documents of AWS, in bytes.
const SURROUNDINGS_BYTES: usize = 1 << 10;
/// `executionTimeout` where nothing is said.
const EXECUTION_TIMEOUT: Duration = Duration::from_secs(3600);

/// A command document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CommandDocument {
    /// `AWS-RunShellScript`.
    Shell,
    /// `AWS-RunPowerShellScript`.
    PowerShell,
    /// One of the fleet file: its command, with `{{ NAME }}` for parameters.
    Own(String),
}

impl CommandDocument {
    /// The document called `name`.
    ///
    /// # Errors
    /// `InvalidDocument`.
    pub(crate) fn find(name: &str, file: &FleetFile) -> Result<Self, ApiError> {
        match name {
            "AWS-RunShellScript" => Ok(Self::Shell),
            "AWS-RunPowerShellScript" => Ok(Self::PowerShell),
            other => {
                let entry = file.documents.get(other);
                let entry = entry.filter(|entry| entry.session_type == EntryType::Command);
                let command = entry.and_then(|entry| entry.command.clone());
                command.map(Self::Own).ok_or_else(|| {
                    ApiError::new(
                        "InvalidDocument",
                        format!("Document with name {name} does not exist."),
                    )
                })
            }
        }
    }

    /// Whether the nodes of this platform run it.
    pub(crate) fn runs_on(&self, platform: Platform) -> bool {
        match self {
            Self::Shell | Self::Own(_) => platform == Platform::Linux,
            // PowerShell runs on Linux nodes too, where it is installed.
            Self::PowerShell => true,
        }
    }

    /// `PluginName` in GetCommandInvocation, `Name` in ListCommandInvocations.
    pub(crate) const fn plugin(&self) -> &'static str {
        match self {
            Self::Shell | Self::Own(_) => "aws:runShellScript",
            Self::PowerShell => "aws:runPowerShellScript",
        }
    }

    /// The folders of the outputs in S3, below those of the command and the node: the name of the
    /// plugin and that of its step, without colons.
    pub(crate) const fn folders(&self) -> &'static str {
        match self {
            Self::Shell | Self::Own(_) => "awsrunShellScript/0.awsrunShellScript",
            Self::PowerShell => "awsrunPowerShellScript/0.awsrunPowerShellScript",
        }
    }

    /// The part of the names of log streams behind the node, in which colons are hyphens.
    pub(crate) const fn stream(&self) -> &'static str {
        match self {
            Self::Shell | Self::Own(_) => "aws-runShellScript",
            Self::PowerShell => "aws-runPowerShellScript",
        }
    }

    /// The parameters that were given, with defaults for the others.
    ///
    /// # Errors
    /// `InvalidParameters`, `MaxDocumentSizeExceeded`.
    pub(crate) fn resolve(
        &self,
        name: &str,
        given: &BTreeMap<String, Vec<String>>,
        file: &FleetFile,
    ) -> Result<BTreeMap<String, Vec<String>>, ApiError> {
        let bytes: usize = given.values().flatten().map(String::len).sum();
        if bytes + SURROUNDINGS_BYTES > DOCUMENT_BYTES {
            return Err(ApiError::new(
                "MaxDocumentSizeExceeded",
                "The size limit of a document is 64 KB.",
            ));
        }
        let declared: BTreeMap<&str, Option<String>> = match self {
            Self::Shell | Self::PowerShell => [
                ("commands", None),
                ("workingDirectory", Some(String::new())),
                ("executionTimeout", Some("3600".to_owned())),
            ]
            .into(),
            Self::Own(_) => {
                let entry = file.documents.get(name);
                let declared = entry.into_iter().flat_map(|entry| &entry.parameters);
                declared
                    .map(|(name, default)| (name.as_str(), default.clone()))
                    .collect()
            }
        };
        let invalid = |message: String| ApiError::new("InvalidParameters", message);
        for (parameter, values) in given {
            if !declared.contains_key(parameter.as_str()) {
                return Err(invalid(format!(
                    "document {name} does not support parameters {parameter}."
                )));
            }
            // References to the Parameter Store are the service's to read, wherever they stand.
            if let Some(reference) = values.iter().find_map(|value| stored_parameter(value)) {
                return Err(invalid(format!(
                    "Parameters [{reference}] referenced in the request do not exist."
                )));
            }
        }
        if let Some(timeout) = given.get("executionTimeout")
            && self != &Self::Own(String::new())
            && !timeout.first().is_some_and(|text| is_timeout(text))
        {
            return Err(invalid(format!(
                "Parameter \"executionTimeout\" has value \"{}\" not matching \"([1-9][0-9]{{0,4}})|(1[0-6][0-9]{{4}})|(17[0-1][0-9]{{3}})|(172[0-7][0-9]{{2}})|(172800)\".",
                timeout.join(",")
            )));
        }
        let mut values = given.clone();
        for (parameter, default) in declared {
            if values.contains_key(parameter) {
                continue;
            }
            let Some(default) = default else {
                return Err(invalid(format!(
                    "Parameter \"{parameter}\" requires a value."
                )));
            };
            values.insert(parameter.to_owned(), vec![default]);
        }
        Ok(values)
    }

    /// The script of a command with this id and with resolved parameters.
    pub(crate) fn script(
        &self,
        command_id: &str,
        values: &BTreeMap<String, Vec<String>>,
    ) -> Script {
        let lines = match self {
            // The parameter stands alone in the document, and nothing in it is replaced.
            Self::Shell | Self::PowerShell => values.get("commands").cloned().unwrap_or_default(),
            Self::Own(template) => vec![fill_in(template, values)],
        };
        let first = |name: &str| values.get(name).and_then(|list| list.first());
        Script {
            command_id: command_id.to_owned(),
            lines,
            working_directory: first("workingDirectory").cloned().unwrap_or_default(),
            execution_timeout: execution_timeout(values),
            language: match self {
                Self::PowerShell => Language::PowerShell,
                Self::Shell | Self::Own(_) => Language::Shell,
            },
        }
    }
}

/// `executionTimeout`; less than five seconds counts as nothing said (`ValidateExecutionTimeout` of
/// the agent).
pub(crate) fn execution_timeout(values: &BTreeMap<String, Vec<String>>) -> Duration {
    let given = values.get("executionTimeout").and_then(|list| list.first());
    given
        .and_then(|text| text.parse().ok())
        .filter(|seconds| (5..=172_800).contains(seconds))
        .map_or(EXECUTION_TIMEOUT, Duration::from_secs)
}

fn is_timeout(text: &str) -> bool {
    !text.starts_with('0')
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && text.parse::<u32>().is_ok_and(|seconds| seconds <= 172_800)
}

/// The name in the first `{{ssm:NAME}}` of a text.
fn stored_parameter(text: &str) -> Option<&str> {
    text.split("{{").skip(1).find_map(|rest| {
        let inside = rest.split_once("}}")?.0.trim();
        inside.strip_prefix("ssm:")
    })
}

/// `template` with the values of parameters in it: `$$` of a value becomes `$`, and lists are JSON.
///
/// Source: `ReplaceParameter` of docparser/parameters in the public amazon-ssm-agent.
fn fill_in(template: &str, values: &BTreeMap<String, Vec<String>>) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some(at) = rest.find("{{") {
        let inside = rest[at + 2..].split_once("}}");
        let found = inside.and_then(|(name, after)| Some((values.get(name.trim())?, after)));
        let Some((value, after)) = found else {
            out.push_str(&rest[..at + 2]);
            rest = &rest[at + 2..];
            continue;
        };
        let value = match value.as_slice() {
            [one] => one.clone(),
            many => json!(many).to_string(),
        };
        out.push_str(&rest[..at]);
        out.push_str(&value.replace("$$", "$"));
        rest = after;
    }
    out + rest
}

/// Lists of texts by name.
///
/// # Errors
/// `SerializationException`.
pub(crate) fn parameters(input: Option<&Value>) -> Result<BTreeMap<String, Vec<String>>, ApiError> {
    let Some(input) = input.filter(|input| !input.is_null()) else {
        return Ok(BTreeMap::new());
    };
    let malformed = || ApiError::new("SerializationException", "Parameters is malformed");
    serde_json::from_value(input.clone()).map_err(|_| malformed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, Vec<String>> {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()]))
            .collect()
    }

    #[test]
    fn a_template_takes_values_once_and_halves_their_dollars() {
        let values = values(&[("A", "$$x {{ B }}"), ("B", "b")]);
        assert_eq!(
            fill_in("echo {{ A }} {{B}} {{ C }}", &values),
            "echo $x {{ B }} b {{ C }}"
        );
    }

    #[test]
    fn a_reference_to_the_parameter_store_is_found() {
        assert_eq!(
            stored_parameter("echo {{ ssm:db-password }}"),
            Some("db-password")
        );
        assert_eq!(stored_parameter("{{x}} {{ssm:a}}"), Some("a"));
        assert_eq!(stored_parameter("echo {{ name }}"), None);
    }

    #[test]
    fn a_short_execution_timeout_counts_as_none() {
        let of = |text| execution_timeout(&values(&[("executionTimeout", text)])).as_secs();
        assert_eq!(of("5"), 5);
        assert_eq!(of("4"), 3600);
        assert_eq!(of("172800"), 172_800);
        assert!(is_timeout("172800") && !is_timeout("172801") && !is_timeout("0"));
    }
}
