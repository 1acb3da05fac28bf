//! The handshake's JSON bodies and what versions and properties decide.

use std::cmp::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::encryption::DataKey;
use crate::wire::lookup;

/// The client version announced by default. It decides the agent's behaviour (smux, keep-alive), so
/// it names a version of the official client whose wire behaviour ours has, never our own.
pub const DEFAULT_CLIENT_VERSION: &str = "1.2.764.0";

/// The plugin that serves a session, as its handshake names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionType {
    /// `Standard_Stream`: a shell.
    Shell,
    /// `InteractiveCommands`: a command on a pty.
    InteractiveCommands,
    /// `NonInteractiveCommands`: a command without terminal.
    NonInteractiveCommands,
    /// `Port`: a tunnel, or the raw stream of the SSH document.
    Port,
}

impl SessionType {
    /// The name on the wire.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Shell => "Standard_Stream",
            Self::InteractiveCommands => "InteractiveCommands",
            Self::NonInteractiveCommands => "NonInteractiveCommands",
            Self::Port => "Port",
        }
    }

    /// `None` for a type this version does not know.
    pub fn parse(name: &str) -> Option<Self> {
        [
            Self::Shell,
            Self::InteractiveCommands,
            Self::NonInteractiveCommands,
            Self::Port,
        ]
        .into_iter()
        .find(|t| t.name() == name)
    }
}

/// Version text of an agent, as it came.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AgentVersion(String);

impl AgentVersion {
    /// Takes any text; comparisons with text that is not a version are false.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text as it came.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the agent speaks smux on `LocalPortForwarding` sessions: newer than 3.0.196.0.
    pub fn speaks_mux(&self) -> bool {
        self.newer_than([3, 0, 196, 0])
    }

    /// Whether smux keep-alive is off: newer than 3.1.1511.0.
    pub fn disables_smux_keepalive(&self) -> bool {
        self.newer_than([3, 1, 1511, 0])
    }

    /// Whether input payloads above 1,024 bytes are worth trying: from 3.3 on, whose source takes
    /// them and of which one (3.3.3572.0) was seen to; nothing is known of older ones.
    pub fn takes_large_payloads(&self) -> bool {
        self.newer_than([3, 2, u32::MAX, 0])
    }

    /// Whether the TerminateSession flag is understood: newer than 2.3.722.0.
    pub fn understands_terminate_flag(&self) -> bool {
        self.newer_than([2, 3, 722, 0])
    }

    /// Whether the agent ignores the parameter for separated output: before 3.1.1511.0. Output and
    /// error output then come as one, when the command has ended.
    pub fn ignores_separated_output(&self) -> bool {
        self.older_than([3, 1, 1511, 0])
    }

    /// Whether the agent keeps the output of sessions on the server's disk, for 14 days, with its
    /// default settings: before 3.3.987.0. Any version does where the account logs sessions.
    pub fn keeps_output_on_disk(&self) -> bool {
        self.older_than([3, 3, 987, 0])
    }

    fn older_than(&self, than: [u32; 4]) -> bool {
        self.compare(than).is_some_and(Ordering::is_lt)
    }

    fn newer_than(&self, than: [u32; 4]) -> bool {
        self.compare(than).is_some_and(Ordering::is_gt)
    }

    /// The official client's rule: numeric part by part, and no answer when the number of parts
    /// differs or when a part that has to be compared is no number. Parts behind the first
    /// difference are never looked at.
    fn compare(&self, than: [u32; 4]) -> Option<Ordering> {
        let parts: Vec<&str> = self.0.split('.').collect();
        if parts.len() != than.len() {
            return None;
        }
        for (part, than) in parts.iter().zip(than) {
            let order = part.parse::<u32>().ok()?.cmp(&than);
            if order.is_ne() {
                return Some(order);
            }
        }
        Some(Ordering::Equal)
    }
}

impl std::fmt::Display for AgentVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether an agent answers a client of this version with smux: at least 1.1.70, compared as the
/// agent compares.
pub fn client_version_speaks_mux(version: &str) -> bool {
    compare_as_agent(version, "1.1.70").is_ge()
}

/// Whether an agent turns its smux keep-alive off for a client of this version: newer than
/// 1.2.331.0.
pub fn client_version_disables_smux_keepalive(version: &str) -> bool {
    compare_as_agent(version, "1.2.331.0").is_gt()
}

/// Whether an agent leaves out the notice to update for separated output: newer than 1.2.295.
pub fn client_version_is_current(version: &str) -> bool {
    compare_as_agent(version, "1.2.295").is_gt()
}

fn compare_as_agent(a: &str, b: &str) -> Ordering {
    let (a, b): (Vec<&str>, Vec<&str>) = (a.split('.').collect(), b.split('.').collect());
    for (x, y) in a.iter().zip(&b) {
        let order = match (x.parse::<u32>(), y.parse::<u32>()) {
            (Ok(x), Ok(y)) => x.cmp(&y),
            _ => x.cmp(y),
        };
        if order.is_ne() {
            return order;
        }
    }
    a.len().cmp(&b.len())
}

/// One requested client action.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// The session type and its properties (`null` except on port sessions).
    SessionType {
        /// The type's name.
        name: String,
        /// The document's properties.
        properties: Value,
    },
    /// Encrypt with a data key of this KMS key.
    KmsEncryption {
        /// Key id or ARN.
        key_id: String,
        /// Text for the encryption context; `None` from older agents.
        challenge: Option<String>,
    },
    /// An action this version does not know.
    Unknown {
        /// Its ActionType.
        name: String,
    },
}

impl Action {
    /// The ActionType on the wire.
    pub fn name(&self) -> &str {
        match self {
            Self::SessionType { .. } => "SessionType",
            Self::KmsEncryption { .. } => "KMSEncryption",
            Self::Unknown { name } => name,
        }
    }
}

/// Body of a HandshakeRequest.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The agent's version text.
    pub agent_version: String,
    /// What the client shall do, in this order.
    pub actions: Vec<Action>,
}

impl Request {
    /// Reads the body; keys without regard to case, `null` for anything. `None` if it is not a JSON
    /// object.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let body: Map<String, Value> = serde_json::from_slice(payload).ok()?;
        let actions = lookup(&body, "RequestedClientActions")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        Some(Self {
            agent_version: text(&body, "AgentVersion"),
            actions: actions
                .iter()
                .filter_map(Value::as_object)
                .map(parse_action)
                .collect(),
        })
    }

    /// The JSON body, keys in the agent's order.
    pub fn payload(&self) -> Bytes {
        let actions: Vec<Value> = self
            .actions
            .iter()
            .map(|action| {
                let parameters = match action {
                    Action::SessionType { name, properties } => {
                        json!({"SessionType": name, "Properties": properties})
                    }
                    Action::KmsEncryption { key_id, challenge } => {
                        json!({"KMSKeyId": key_id, "Challenge": challenge})
                    }
                    Action::Unknown { .. } => Value::Null,
                };
                json!({"ActionType": action.name(), "ActionParameters": parameters})
            })
            .collect();
        json!({"AgentVersion": self.agent_version, "RequestedClientActions": actions})
            .to_string()
            .into()
    }
}

fn parse_action(action: &Map<String, Value>) -> Action {
    let name = text(action, "ActionType");
    let empty = Map::new();
    let parameters = lookup(action, "ActionParameters")
        .and_then(Value::as_object)
        .unwrap_or(&empty);
    match name.as_str() {
        "SessionType" => Action::SessionType {
            name: text(parameters, "SessionType"),
            properties: lookup(parameters, "Properties")
                .cloned()
                .unwrap_or(Value::Null),
        },
        "KMSEncryption" => Action::KmsEncryption {
            key_id: text(parameters, "KMSKeyId"),
            challenge: Some(text(parameters, "Challenge")).filter(|c| !c.is_empty()),
        },
        _ => Action::Unknown { name },
    }
}

/// How the client fared with one action; a number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionStatus {
    /// 1.
    Success,
    /// 2.
    Failed,
    /// 3.
    Unsupported,
    /// Anything else.
    Other(i64),
}

impl ActionStatus {
    /// The number on the wire.
    pub const fn code(self) -> i64 {
        match self {
            Self::Success => 1,
            Self::Failed => 2,
            Self::Unsupported => 3,
            Self::Other(n) => n,
        }
    }
}

/// One element of ProcessedClientActions.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ProcessedAction {
    /// ActionType of the request.
    pub action_type: String,
    /// How it went.
    #[serde(serialize_with = "status_as_number")]
    pub action_status: ActionStatus,
    /// `null`, or the KMS result.
    pub action_result: Value,
    /// Empty on success.
    pub error: String,
}

fn status_as_number<S: serde::Serializer>(
    status: &ActionStatus,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_i64(status.code())
}

/// Body of a HandshakeResponse.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Response {
    /// Four dotted numbers.
    pub client_version: String,
    /// One per requested action, same order.
    pub processed_client_actions: Vec<ProcessedAction>,
    /// The errors again; `null` when there are none.
    pub errors: Option<Vec<String>>,
}

/// What the client says to a demand for encryption.
#[derive(Clone, Copy, Debug)]
pub enum KeyAnswer<'a> {
    /// The data key, in its encrypted form.
    Given(&'a DataKey),
    /// There is none; the reason, for the agent's log and its farewell.
    Refused(&'a str),
}

impl Response {
    /// Answers every action of `request`: a demand for encryption with `key`, an unknown action as
    /// unsupported.
    pub fn answer(request: &Request, client_version: &str, key: KeyAnswer<'_>) -> Self {
        let processed: Vec<ProcessedAction> = request
            .actions
            .iter()
            .map(|action| {
                let mut result = Value::Null;
                let (status, error) = match action {
                    Action::SessionType { name, .. } if SessionType::parse(name).is_some() => {
                        (ActionStatus::Success, String::new())
                    }
                    Action::SessionType { name, .. } => {
                        (ActionStatus::Failed, format!("Unknown session type {name}"))
                    }
                    Action::KmsEncryption { challenge, .. } => match key {
                        KeyAnswer::Given(key) => {
                            result = key_result(key, challenge.is_some());
                            (ActionStatus::Success, String::new())
                        }
                        KeyAnswer::Refused(why) => (ActionStatus::Failed, why.to_owned()),
                    },
                    Action::Unknown { name } => (
                        ActionStatus::Unsupported,
                        format!("Unsupported action {name}"),
                    ),
                };
                ProcessedAction {
                    action_type: action.name().to_owned(),
                    action_status: status,
                    action_result: result,
                    error,
                }
            })
            .collect();
        let errors: Vec<String> = processed
            .iter()
            .filter(|a| !a.error.is_empty())
            .map(|a| a.error.clone())
            .collect();
        Self {
            client_version: client_version.to_owned(),
            processed_client_actions: processed,
            errors: Some(errors).filter(|errors| !errors.is_empty()),
        }
    }

    /// Reads the body as leniently as [`Request::parse`].
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let body: Map<String, Value> = serde_json::from_slice(payload).ok()?;
        let actions = lookup(&body, "ProcessedClientActions")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        Some(Self {
            client_version: text(&body, "ClientVersion"),
            processed_client_actions: actions
                .iter()
                .filter_map(Value::as_object)
                .map(|action| ProcessedAction {
                    action_type: text(action, "ActionType"),
                    action_status: match lookup(action, "ActionStatus")
                        .and_then(Value::as_i64)
                        .unwrap_or_default()
                    {
                        1 => ActionStatus::Success,
                        2 => ActionStatus::Failed,
                        3 => ActionStatus::Unsupported,
                        n => ActionStatus::Other(n),
                    },
                    action_result: lookup(action, "ActionResult")
                        .cloned()
                        .unwrap_or(Value::Null),
                    error: text(action, "Error"),
                })
                .collect(),
            errors: lookup(&body, "Errors")
                .and_then(Value::as_array)
                .map(|errors| {
                    errors
                        .iter()
                        .filter_map(|e| e.as_str().map(str::to_owned))
                        .collect()
                }),
        })
    }

    /// The JSON body, keys in the official client's order.
    pub fn payload(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

/// ActionResult of a KMSEncryption action. The agent does not look at the hash, and the official
/// client leaves it out. `challenged`: the agent's text was part of the encryption context, which
/// the agent has to be told; older agents do not know the key.
fn key_result(key: &DataKey, challenged: bool) -> Value {
    let blob = STANDARD.encode(key.ciphertext_blob());
    let mut result = json!({"KMSCipherTextKey": blob, "KMSCipherTextHash": null});
    if challenged {
        result["ChallengeAcknowledgement"] = json!(true);
    }
    result
}

/// What a client answered to a KMSEncryption action, as the agent reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferedKey {
    /// The data key in its encrypted form.
    pub ciphertext_blob: Bytes,
    /// Whether the agent's text is part of the encryption context.
    pub has_challenge: bool,
}

impl OfferedKey {
    /// Reads an ActionResult; `None` if it has no data key in base64.
    pub fn parse(result: &Value) -> Option<Self> {
        let result = result.as_object()?;
        let blob = STANDARD.decode(text(result, "KMSCipherTextKey")).ok()?;
        Some(Self {
            ciphertext_blob: Some(blob).filter(|blob| !blob.is_empty())?.into(),
            has_challenge: lookup(result, "ChallengeAcknowledgement")
                .and_then(Value::as_bool)
                .unwrap_or_default(),
        })
    }
}

/// Body of a HandshakeComplete.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Complete {
    /// Nanoseconds from request to here.
    #[serde(rename = "HandshakeTimeToComplete")]
    pub time_to_complete_ns: i64,
    /// Text for the user; usually empty.
    pub customer_message: String,
}

impl Complete {
    /// Reads the body; missing keys are zero and empty.
    pub fn parse(payload: &[u8]) -> Self {
        let body: Map<String, Value> = serde_json::from_slice(payload).unwrap_or_default();
        Self {
            time_to_complete_ns: lookup(&body, "HandshakeTimeToComplete")
                .and_then(Value::as_i64)
                .unwrap_or_default(),
            customer_message: text(&body, "CustomerMessage"),
        }
    }

    /// The JSON body.
    pub fn payload(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

/// What is known once a session can be used.
#[derive(Clone, Debug, PartialEq)]
pub struct Ready {
    /// `None` without a handshake (a plain shell): the document asked for tells the type.
    pub session_type: Option<SessionType>,
    /// `None` without a handshake.
    pub agent_version: Option<AgentVersion>,
    /// The document's properties; `null` except on port sessions.
    pub properties: Value,
    /// Text to show; may be empty.
    pub customer_message: String,
    /// Id or ARN of the KMS key that the session is encrypted with; `None` if it is not.
    pub encrypted_with: Option<String>,
}

impl Default for Ready {
    fn default() -> Self {
        Self {
            session_type: None,
            agent_version: None,
            properties: Value::Null,
            customer_message: String::new(),
            encrypted_with: None,
        }
    }
}

impl Ready {
    /// Whether both ends speak smux, by the official client's rule.
    pub fn is_mux(&self) -> bool {
        self.session_type == Some(SessionType::Port)
            && self.properties.get("type").and_then(Value::as_str) == Some("LocalPortForwarding")
            && self
                .agent_version
                .as_ref()
                .is_some_and(AgentVersion::speaks_mux)
    }
}

fn text(body: &Map<String, Value>, key: &str) -> String {
    lookup(body, key)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_agent_does_with_output_begins_with_the_versions_that_its_release_notes_name() {
        let ignores = |version| AgentVersion::new(version).ignores_separated_output();
        assert!(ignores("3.0.1124.0") && ignores("3.1.1510.0"));
        assert!(!ignores("3.1.1511.0") && !ignores("3.3.3572.0"));
        let keeps = |version| AgentVersion::new(version).keeps_output_on_disk();
        assert!(keeps("3.2.2086.0") && keeps("3.3.986.9"));
        assert!(!keeps("3.3.987.0") && !keeps("4.0.0.0"));
        // What is no version is taken for a new agent.
        for odd in ["", "latest", "3.1", "3.x.1.0"] {
            assert!(!ignores(odd) && !keeps(odd), "{odd}");
        }
    }
}
