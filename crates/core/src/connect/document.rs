//! The SSM documents that a session is started with, their parameters, and what is known of the
//! agent's first message.

use std::collections::{BTreeMap, HashMap};

use ops_session::{documents, driver::Expect};
use ops_ui::{Error, Result};

/// The SSM document that selects what a session is, with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// A shell; without a name the account's own `SSM-SessionManagerRunShell`.
    Shell {
        /// A session document of type `Standard_Stream`.
        name: Option<String>,
        /// Its parameters, each a list.
        parameters: BTreeMap<String, Vec<String>>,
    },
    /// `AWS-StartInteractiveCommand`: a command on a terminal.
    Interactive {
        /// The command line.
        command: String,
    },
    /// `AWS-StartNonInteractiveCommand`: a command without a terminal.
    NonInteractive {
        /// The command line.
        command: String,
    },
    /// `AWS-StartPortForwardingSession`: a port of the instance itself, many connections over one
    /// session.
    PortForwarding {
        /// The instance's port.
        port: u16,
    },
    /// `AWS-StartPortForwardingSessionToRemoteHost`: a port that the instance can reach.
    PortForwardingToRemoteHost {
        /// The host as the instance knows it.
        host: String,
        /// Its port.
        port: u16,
    },
    /// `AWS-StartSSHSession`: one raw connection to the instance's SSH server.
    Ssh {
        /// The SSH server's port.
        port: u16,
    },
    /// Any other document.
    Custom {
        /// Its name.
        name: String,
        /// Its parameters, each a list.
        parameters: BTreeMap<String, Vec<String>>,
        /// Whether its agent begins with a handshake for certain: false for shells.
        handshake: bool,
    },
}

impl Document {
    /// The account's own shell.
    pub fn shell() -> Self {
        Self::Shell {
            name: None,
            parameters: BTreeMap::new(),
        }
    }

    /// The document's name; what StartSession takes for none is `SSM-SessionManagerRunShell`.
    pub fn name(&self) -> &str {
        match self {
            Self::Shell { name, .. } => name.as_deref().unwrap_or(documents::SHELL),
            Self::Interactive { .. } => documents::INTERACTIVE_COMMAND,
            Self::NonInteractive { .. } => documents::NON_INTERACTIVE_COMMAND,
            Self::PortForwarding { .. } => documents::PORT_FORWARDING,
            Self::PortForwardingToRemoteHost { .. } => documents::PORT_FORWARDING_TO_REMOTE_HOST,
            Self::Ssh { .. } => documents::SSH,
            Self::Custom { name, .. } => name,
        }
    }

    pub(super) fn name_to_send(&self) -> Option<String> {
        match self {
            Self::Shell { name, .. } => name.clone(),
            other => Some(other.name().to_owned()),
        }
    }

    /// Every parameter is a list of text. Ports are always sent: the documents' defaults are not to
    /// be relied on.
    pub(super) fn parameters(&self) -> Option<HashMap<String, Vec<String>>> {
        let one = |name: &str, value: String| (name.to_owned(), vec![value]);
        // `None` in place of an empty map leaves the member out of the request.
        let map: HashMap<String, Vec<String>> = match self {
            Self::Shell { parameters, .. } | Self::Custom { parameters, .. } => parameters
                .iter()
                .map(|(name, values)| (name.clone(), values.clone()))
                .collect(),
            Self::Interactive { command } | Self::NonInteractive { command } => {
                HashMap::from([one("command", command.clone())])
            }
            Self::PortForwarding { port } => HashMap::from([
                one("portNumber", port.to_string()),
                // The agent gives it back in the handshake and has no other use for it: the
                // listener is here.
                one("localPortNumber", "0".to_owned()),
            ]),
            Self::PortForwardingToRemoteHost { host, port } => HashMap::from([
                one("host", host.clone()),
                one("portNumber", port.to_string()),
                one("localPortNumber", "0".to_owned()),
            ]),
            Self::Ssh { port } => HashMap::from([one("portNumber", port.to_string())]),
        };
        (!map.is_empty()).then_some(map)
    }

    /// Whether agents encrypt its sessions where the account's preferences demand it. Those of
    /// ports, and so of SSH, they never do.
    pub(super) fn can_be_encrypted(&self) -> bool {
        !matches!(
            self,
            Self::PortForwarding { .. }
                | Self::PortForwardingToRemoteHost { .. }
                | Self::Ssh { .. }
        )
    }

    pub(super) fn expect(&self) -> Expect {
        match self {
            // A terminal has no handshake unless the account demands encryption: its first output
            // says which it is. Ports, and commands without a terminal, always begin with one.
            Self::Shell { .. }
            | Self::Interactive { .. }
            | Self::Custom {
                handshake: false, ..
            } => Expect::MaybePlain,
            _ => Expect::Handshake,
        }
    }
}

/// What to give in place of a host that the document does not take.
pub(super) const FULL_NAME: &str =
    "a remote host has three characters or more: use its full name or address";

/// Characters that the document for ports of remote hosts does not take in a host.
const NOT_IN_A_HOST: &str = ",$^&()!;'\"<>`{}[]|#=";

/// Refuses a host that `AWS-StartPortForwardingSessionToRemoteHost` does not take, before anything
/// is asked of the service.
///
/// # Errors
/// Fewer than three characters, or one that the document's pattern forbids.
pub fn check_remote_host(host: &str) -> Result<()> {
    let what = || format!("`{host}` cannot be the host of a forward");
    if host.chars().count() < 3 {
        return Err(Error::usage(what())
            .caused_by("Session Manager takes hosts of three characters and more")
            .hint(FULL_NAME));
    }
    let wrong = |c: char| c.is_whitespace() || c.is_control() || NOT_IN_A_HOST.contains(c);
    match host.chars().find(|&c| wrong(c)) {
        Some(c) => Err(Error::usage(what())
            .caused_by(format!("Session Manager takes no `{c}` in a host"))
            .hint("use its full name or address: db.internal, 10.0.0.7, fd00::7")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use ops_ui::ErrorKind;

    use super::*;

    #[test]
    fn a_host_that_the_document_does_not_take_is_refused_here() {
        for host in ["db.internal", "db1", "10.0.0.7", "fd00::7", "::1"] {
            assert!(check_remote_host(host).is_ok(), "{host}");
        }
        for host in [
            "",
            "x",
            "db",
            "a;b.c",
            "$(id)",
            "a b c",
            "[fd00::7]",
            "a=b",
            "a`b`",
        ] {
            let error = check_remote_host(host).expect_err(host);
            assert_eq!(error.kind(), ErrorKind::Usage, "{host}");
            assert!(error.hints()[0].contains("full name"), "{host}");
        }
    }

    #[test]
    fn each_document_sends_its_parameters_as_lists_of_text() {
        assert_eq!(Document::shell().name_to_send(), None);
        assert_eq!(Document::shell().parameters(), None);
        let document = Document::PortForwardingToRemoteHost {
            host: "db".to_owned(),
            port: 3306,
        };
        assert_eq!(
            document.name(),
            "AWS-StartPortForwardingSessionToRemoteHost"
        );
        let parameters = document.parameters().expect("parameters");
        assert_eq!(parameters["portNumber"], ["3306"]);
        assert_eq!(parameters["host"], ["db"]);
        assert_eq!(document.expect(), Expect::Handshake);
        let ssh = Document::Ssh { port: 22 };
        assert_eq!(ssh.parameters().expect("parameters").len(), 1);
    }
}
