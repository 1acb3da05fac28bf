//! Session documents: which parameters they take, and the session that comes of them.

use ops_session::documents;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    error::ApiError,
    fleet::{DocumentEntry, EntryType, FleetFile},
    session::SessionKind,
};

/// The account's preferences, used when no document is named.
pub(crate) const RUN_SHELL: &str = documents::SHELL;

/// Documents of AWS that exist and are not for sessions.
const COMMAND_DOCUMENTS: [&str; 3] = [
    "AWS-RunShellScript",
    "AWS-RunPowerShellScript",
    "AWS-UpdateSSMAgent",
];

/// One parameter of a document.
struct Parameter {
    name: String,
    /// `None`: required.
    default: Option<String>,
    is_valid: fn(&str) -> bool,
    /// The pattern in words of the error.
    pattern: &'static str,
}

impl Parameter {
    fn any(name: &str, default: Option<&str>) -> Self {
        Self {
            name: name.to_owned(),
            default: default.map(str::to_owned),
            is_valid: |_| true,
            pattern: "",
        }
    }

    fn port(name: &str, default: &str) -> Self {
        Self {
            name: name.to_owned(),
            default: Some(default.to_owned()),
            is_valid: |text| {
                !text.is_empty()
                    && text.bytes().all(|byte| byte.is_ascii_digit())
                    && text.parse::<u16>().is_ok()
            },
            pattern: "^([0-9]|[1-9][0-9]{1,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$",
        }
    }

    /// The allowed values are just these, in lower case.
    fn boolean(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            default: Some("false".to_owned()),
            is_valid: |text| matches!(text, "true" | "false"),
            pattern: "^(true|false)$",
        }
    }

    fn prefix(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            default: Some(String::new()),
            is_valid: |text| text.chars().count() <= 30,
            pattern: "^.{0,30}$",
        }
    }

    /// Three characters at least, and none of those that mean something to a shell.
    fn host() -> Self {
        Self {
            name: "host".to_owned(),
            default: Some("localhost".to_owned()),
            is_valid: |text| {
                text.chars().count() >= 3
                    && !text.contains(|c| "\n,$^&()!;'\"<>`{}[]|#=".contains(c))
            },
            pattern: r#"^[^,$^&\(\)!;'"<>`{}\[\]|#=\n]{3,}$"#,
        }
    }
}

/// The parameters of document `name`; `None` if there is no such document.
fn parameters(name: &str, file: &FleetFile) -> Option<Vec<Parameter>> {
    let list = match name {
        RUN_SHELL => Vec::new(),
        documents::INTERACTIVE_COMMAND => vec![Parameter::any("command", None)],
        documents::NON_INTERACTIVE_COMMAND => vec![
            Parameter::any("command", None),
            Parameter::boolean("separateOutputStream"),
            Parameter::prefix("stdoutSeparatorPrefix"),
            Parameter::prefix("stderrSeparatorPrefix"),
        ],
        documents::PORT_FORWARDING => vec![
            Parameter::port("portNumber", "80"),
            Parameter::port("localPortNumber", "0"),
            Parameter::any("localUnixSocket", Some("")),
            Parameter::any("localConnectionType", Some("tcp")),
        ],
        documents::PORT_FORWARDING_TO_REMOTE_HOST => vec![
            Parameter::host(),
            Parameter::port("portNumber", "80"),
            Parameter::port("localPortNumber", "0"),
        ],
        documents::SSH => vec![Parameter::port("portNumber", "22")],
        other => {
            let entry = file.documents.get(other)?;
            let mut list: Vec<Parameter> = entry
                .parameters
                .iter()
                .map(|(name, default)| Parameter::any(name, default.as_deref()))
                .collect();
            if entry.command.is_none() && entry.session_type != EntryType::Shell {
                list.push(Parameter::any("command", None));
            }
            list
        }
    };
    Some(list)
}

/// Checks that no parameter has more than `most` characters. What the service itself takes is not
/// known: its API model says 65,535, and people have met less.
///
/// # Errors
/// `InvalidParameters`.
pub(crate) fn check_lengths(parameters: Option<&Value>, most: u64) -> Result<(), ApiError> {
    let lists = parameters.and_then(Value::as_object);
    for (name, values) in lists.into_iter().flatten() {
        let values = values.as_array().into_iter().flatten();
        for value in values.filter_map(Value::as_str) {
            if value.chars().count() as u64 > most {
                return Err(ApiError::new(
                    "InvalidParameters",
                    format!("Parameter \"{name}\" has value longer than {most} characters"),
                ));
            }
        }
    }
    Ok(())
}

/// The session that StartSession asks for.
///
/// # Errors
/// `InvalidDocument` for an unknown one, `InvalidParameters` for parameters that it does not take.
pub(crate) fn session_kind(
    document: &str,
    given: Option<&Value>,
    file: &FleetFile,
) -> Result<SessionKind, ApiError> {
    let name = document
        .rsplit_once(":document/")
        .map_or(document, |(_, name)| name);
    let is_command = |entry: &DocumentEntry| entry.session_type == EntryType::Command;
    if COMMAND_DOCUMENTS.contains(&name) || file.documents.get(name).is_some_and(is_command) {
        return Err(ApiError::new(
            "InvalidDocument",
            "Document type: 'Command' is not supported. Only type: 'Session' is supported for Session Manager.",
        ));
    }
    let declared = parameters(name, file).ok_or_else(|| {
        ApiError::new(
            "InvalidDocument",
            format!("Document with name {document} does not exist."),
        )
    })?;
    let values = resolve(name, &declared, given)?;
    let value = |name: &str| values.get(name).cloned().unwrap_or_default();
    let port = || value("portNumber").parse().unwrap_or(0);
    let properties = || {
        Value::Object(
            values
                .iter()
                .map(|(name, value)| (name.clone(), json!(value)))
                .collect(),
        )
    };
    Ok(match name {
        RUN_SHELL => SessionKind::Shell { command: None },
        documents::INTERACTIVE_COMMAND => SessionKind::Interactive {
            command: value("command"),
        },
        documents::NON_INTERACTIVE_COMMAND => SessionKind::NonInteractive {
            command: value("command"),
            separate_output: value("separateOutputStream") == "true",
            stdout_prefix: value("stdoutSeparatorPrefix"),
            stderr_prefix: value("stderrSeparatorPrefix"),
        },
        documents::PORT_FORWARDING | documents::PORT_FORWARDING_TO_REMOTE_HOST => {
            let mut properties = properties();
            properties["type"] = json!("LocalPortForwarding");
            SessionKind::Port {
                host: Some(value("host")).filter(|host| !host.is_empty()),
                port: port(),
                port_type: Some("LocalPortForwarding".to_owned()),
                properties,
            }
        }
        documents::SSH => SessionKind::Port {
            host: None,
            port: port(),
            port_type: None,
            properties: properties(),
        },
        other => custom(other, &values, file),
    })
}

fn custom(name: &str, values: &BTreeMap<String, String>, file: &FleetFile) -> SessionKind {
    let Some(entry) = file.documents.get(name) else {
        return SessionKind::Shell { command: None };
    };
    let command = entry
        .command
        .as_ref()
        .map(|template| fill_in(template, values));
    let given = || values.get("command").cloned().unwrap_or_default();
    match entry.session_type {
        EntryType::Shell | EntryType::Command => SessionKind::Shell { command },
        EntryType::Interactive => SessionKind::Interactive {
            command: command.unwrap_or_else(given),
        },
        EntryType::NonInteractive => SessionKind::NonInteractive {
            command: command.unwrap_or_else(given),
            separate_output: entry.separate_output,
            stdout_prefix: String::new(),
            stderr_prefix: String::new(),
        },
    }
}

/// `template` with the values of parameters in it, as the agent does it: one that is a parameter
/// and nothing else becomes its value, and in any other the value is taken for a template of Go's
/// `regexp`, in which `$$` is a dollar sign and `$name` nothing.
///
/// Source: `ReplaceParameters` and `ReplaceParameter` of docparser/parameters in the public
/// amazon-ssm-agent.
fn fill_in(template: &str, values: &BTreeMap<String, String>) -> String {
    let forms = |name: &str| [format!("{{{{ {name} }}}}"), format!("{{{{{name}}}}}")];
    for (name, value) in values {
        if forms(name).iter().any(|form| form == template) {
            return value.clone();
        }
    }
    values
        .iter()
        .fold(template.to_owned(), |text, (name, value)| {
            let value = expand(value);
            forms(name)
                .iter()
                .fold(text, |text, form| text.replace(form, &value))
        })
}

/// A replacement as Go's `Regexp.Expand` reads it, of an expression without groups.
fn expand(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        let braced = rest
            .strip_prefix('{')
            .and_then(|inner| inner.split_once('}'))
            .filter(|(name, _)| !name.is_empty() && name.chars().all(is_name));
        let len = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        match braced {
            Some((_, after)) => rest = after,
            None if len > 0 => rest = &rest[len..],
            // No name: the sign stays.
            None => out.push('$'),
        }
    }
    out + rest
}

/// What the service says of parameters, whatever is wrong with them: not a `ValidationException`,
/// which is of the call's own members.
fn invalid(message: String) -> ApiError {
    ApiError::new("InvalidParameters", message)
}

/// Checks what was given against what is declared, and fills in defaults.
fn resolve(
    document: &str,
    declared: &[Parameter],
    given: Option<&Value>,
) -> Result<BTreeMap<String, String>, ApiError> {
    let mut values = BTreeMap::new();
    if let Some(given) = given.filter(|given| !given.is_null()) {
        let Some(given) = given.as_object() else {
            return Err(ApiError::new(
                "SerializationException",
                "Parameters is not a map",
            ));
        };
        for (name, list) in given {
            let Some(list) = list.as_array() else {
                return Err(ApiError::new(
                    "SerializationException",
                    format!("Expected list for parameter {name}, value is not a list"),
                ));
            };
            let Some(parameter) = declared.iter().find(|parameter| parameter.name == *name) else {
                return Err(invalid(format!(
                    "Parameter \"{name}\" is not supported by document {document}."
                )));
            };
            let [Value::String(value)] = list.as_slice() else {
                return Err(invalid(format!(
                    "Parameter \"{name}\" takes exactly one value."
                )));
            };
            if !(parameter.is_valid)(value) {
                return Err(invalid(format!(
                    "Parameter \"{name}\" has value \"{value}\" not matching \"{}\".",
                    parameter.pattern
                )));
            }
            values.insert(name.clone(), value.clone());
        }
    }
    for parameter in declared {
        if values.contains_key(&parameter.name) {
            continue;
        }
        let Some(default) = &parameter.default else {
            return Err(invalid(format!(
                "Parameter \"{}\" requires a value.",
                parameter.name
            )));
        };
        values.insert(parameter.name.clone(), default.clone());
    }
    Ok(values)
}

/// The content of a document, for those who look before they start:
/// `sessionType`, parameters, `separateOutputStream`.
pub(crate) fn content(name: &str, file: &FleetFile) -> Option<Value> {
    let declared = parameters(name, file)?;
    let mut properties = json!({});
    let session_type = match name {
        RUN_SHELL => "Standard_Stream",
        documents::INTERACTIVE_COMMAND => "InteractiveCommands",
        documents::NON_INTERACTIVE_COMMAND => {
            properties = json!({
                "linux": {
                    "commands": "{{ command }}",
                    "runAsElevated": false,
                    "separateOutputStream": "{{ separateOutputStream }}",
                    "stdoutSeparatorPrefix": "{{ stdoutSeparatorPrefix }}",
                    "stderrSeparatorPrefix": "{{ stderrSeparatorPrefix }}",
                },
            });
            "NonInteractiveCommands"
        }
        _ => match file.documents.get(name) {
            None => "Port",
            Some(entry) => {
                properties["linux"] =
                    json!({ "commands": entry.command.as_deref().unwrap_or("{{ command }}") });
                if entry.separate_output {
                    properties["linux"]["separateOutputStream"] = json!("true");
                }
                match entry.session_type {
                    EntryType::Shell => "Standard_Stream",
                    EntryType::Interactive => "InteractiveCommands",
                    EntryType::NonInteractive => "NonInteractiveCommands",
                    // Another kind of document, which nobody reads here so far.
                    EntryType::Command => return None,
                }
            }
        },
    };
    let parameters: serde_json::Map<String, Value> = declared
        .into_iter()
        .map(|parameter| {
            let mut body = json!({ "type": "String" });
            if let Some(default) = parameter.default {
                body["default"] = json!(default);
            }
            (parameter.name, body)
        })
        .collect();
    let mut content = json!({
        "schemaVersion": "1.0",
        "sessionType": session_type,
        "parameters": parameters,
        "properties": properties,
    });
    if name == RUN_SHELL {
        let session = &file.session;
        content["inputs"] = json!({
            "s3BucketName": session.s3_bucket_name.as_deref().unwrap_or_default(),
            "s3KeyPrefix": session.s3_key_prefix.as_deref().unwrap_or_default(),
            "s3EncryptionEnabled": true,
            "cloudWatchLogGroupName": session.cloud_watch_log_group_name.as_deref().unwrap_or_default(),
            "cloudWatchEncryptionEnabled": true,
            "cloudWatchStreamingEnabled": session.cloud_watch_streaming,
            "kmsKeyId": session.kms_key.as_deref().unwrap_or_default(),
            "runAsEnabled": session.run_as_user.is_some(),
            "runAsDefaultUser": session.run_as_user.as_deref().unwrap_or_default(),
            "idleSessionTimeout": minutes(session.idle_timeout).unwrap_or("20".to_owned()),
            "maxSessionDuration": minutes(session.max_duration).unwrap_or_default(),
            "shellProfile": { "windows": "", "linux": "" },
        });
    }
    Some(content)
}

/// Minutes as text, as the preferences have them.
fn minutes(span: Option<crate::duration::Span>) -> Option<String> {
    Some((span?.0.as_secs() / 60).max(1).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Fleet;

    #[expect(clippy::needless_pass_by_value, reason = "callers write `json!`")]
    fn kind(document: &str, parameters: Value) -> Result<SessionKind, ApiError> {
        let fleet = Fleet::load(None, 0).unwrap();
        session_kind(document, Some(&parameters), fleet.file())
    }

    #[test]
    fn a_port_document_echoes_its_parameters_as_text() {
        let Ok(SessionKind::Port {
            host,
            port,
            port_type,
            properties,
        }) = kind(
            "AWS-StartPortForwardingSession",
            json!({"portNumber": ["7400"], "localPortNumber": ["40889"]}),
        )
        else {
            panic!("refused");
        };
        assert_eq!((host, port), (None, 7400));
        assert_eq!(port_type.as_deref(), Some("LocalPortForwarding"));
        // As the official agent echoed it (recorded conversation `port-mux`).
        assert_eq!(
            properties,
            json!({"localConnectionType": "tcp", "localPortNumber": "40889", "localUnixSocket": "", "portNumber": "7400", "type": "LocalPortForwarding"})
        );
    }

    #[test]
    fn a_template_that_is_more_than_its_parameter_eats_dollar_signs() {
        let values = BTreeMap::from([(
            "command".to_owned(),
            "kill $$; echo $HOME ${x} $? $".to_owned(),
        )]);
        assert_eq!(fill_in("{{ command }}", &values), values["command"]);
        assert_eq!(fill_in("{{command}}", &values), values["command"]);
        assert_eq!(
            fill_in("nice {{ command }}", &values),
            "nice kill $; echo   $? $"
        );
        let doubled =
            BTreeMap::from([("command".to_owned(), values["command"].replace('$', "$$"))]);
        assert_eq!(
            fill_in("nice {{ command }}", &doubled),
            format!("nice {}", values["command"])
        );
    }

    #[test]
    fn an_ssh_session_has_no_type() {
        let Ok(SessionKind::Port {
            port_type,
            port,
            properties,
            ..
        }) = kind("AWS-StartSSHSession", json!({}))
        else {
            panic!("refused");
        };
        assert_eq!((port_type, port), (None, 22));
        assert_eq!(properties, json!({"portNumber": "22"}));
    }

    #[test]
    fn commands_treat_their_output_as_the_document_says() {
        let separate = |document: &str, parameters: Value| match kind(document, parameters) {
            Ok(SessionKind::NonInteractive {
                separate_output, ..
            }) => separate_output,
            other => panic!("{other:?}"),
        };
        let command = json!({"command": ["true"]});
        assert!(!separate("AWS-StartNonInteractiveCommand", command.clone()));
        assert!(separate(
            "AWS-StartNonInteractiveCommand",
            json!({"command": ["true"], "separateOutputStream": ["true"]})
        ));
        assert!(separate("Sandbox-CommandSeparated", command.clone()));
        assert!(!separate("Sandbox-CommandPlain", command));
    }

    #[test]
    fn what_a_document_does_not_take_is_refused_with_its_code() {
        let code = |document: &str, parameters: Value| {
            kind(document, parameters).unwrap_err().code.into_owned()
        };
        assert_eq!(code("AWS-StartNothing", json!({})), "InvalidDocument");
        assert_eq!(
            code("AWS-StartSSHSession", json!({"portNumber": "22"})),
            "SerializationException"
        );
        assert_eq!(
            code("AWS-StartSSHSession", json!({"portNumber": ["70000"]})),
            "InvalidParameters"
        );
        assert_eq!(
            code("AWS-StartSSHSession", json!({"host": ["x"]})),
            "InvalidParameters"
        );
        assert_eq!(code("AWS-RunShellScript", json!({})), "InvalidDocument");
        let host = |host: &str| {
            let document = "AWS-StartPortForwardingSessionToRemoteHost";
            kind(document, json!({ "host": [host] }))
        };
        for wrong in ["db", "a;b", "a|b", "`id`", "a=b"] {
            let error = host(wrong).unwrap_err();
            assert_eq!(error.code, "InvalidParameters");
            let begin = format!("Parameter \"host\" has value \"{wrong}\" not matching \"^[^,$^&");
            assert!(error.message.starts_with(&begin), "{}", error.message);
        }
        for good in ["db1", "10.0.0.1", "fd00::1", "db.internal"] {
            assert!(host(good).is_ok(), "{good}");
        }
        assert_eq!(
            code(
                "AWS-StartNonInteractiveCommand",
                json!({"command": ["true"], "separateOutputStream": ["True"]})
            ),
            "InvalidParameters"
        );
        assert_eq!(
            code("AWS-StartInteractiveCommand", json!({})),
            "InvalidParameters"
        );
    }
}
