//! Documents of a fleet file.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A document of the fleet file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DocumentEntry {
    #[serde(rename = "type")]
    pub(crate) session_type: EntryType,
    /// What runs; `{{ NAME }}` is replaced by the parameter. Without one, commands take a parameter
    /// `command`.
    pub(crate) command: Option<String>,
    /// `separateOutputStream`, fixed; not given is as the agent's default, false.
    #[serde(default)]
    pub(crate) separate_output: bool,
    /// Names and defaults; `null` makes a parameter required.
    #[serde(default)]
    pub(crate) parameters: BTreeMap<String, Option<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum EntryType {
    #[serde(rename = "Standard_Stream")]
    Shell,
    #[serde(rename = "InteractiveCommands")]
    Interactive,
    #[serde(rename = "NonInteractiveCommands")]
    NonInteractive,
    /// For Run Command, not for sessions.
    Command,
}
