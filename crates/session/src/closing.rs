//! Why a session has ended, as the service or the agent says.
//!
//! Both say it in one text for people (`Output` of the `channel_closed` message). The text is read
//! here and nowhere else; whoever has to decide something looks at [`ClosingReason`].

/// The end of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    reason: ClosingReason,
    text: String,
}

/// What the text of an end means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosingReason {
    /// An ordinary end: no text, or one that only names the session.
    Ordinary,
    /// Nothing was typed for the time that the account's session preferences allow.
    Idle,
    /// The longest duration of the session preferences is over.
    Expired,
    /// The agent forwards to no such address: that of the instance metadata and its like.
    ForbiddenDestination,
    /// The agent's dial failed: nobody listens on the port.
    NoConnection,
    /// The agent cannot use the KMS key of the session preferences.
    Encryption,
    /// The user that the session preferences name does not exist on the instance.
    RunAsUser,
    /// The agent's worker died, which it says of a connection too that it could not make; the
    /// service hears of that a minute later. Source: `Messaging` of the executer in the public
    /// amazon-ssm-agent.
    DeadWorker,
    /// The agent does not know this kind of session.
    AgentTooOld,
    /// The agent speaks of a failure in words that nobody here knows.
    Failure,
}

/// Parts of texts, in small letters, and what they mean; the first that is found counts. Sources:
/// the agent's own sources for words about encryption, `Unable to connect to specified port`,
/// `is forbidden` and `is not supported by this version of ssm agent`; the service's observed texts
/// for the rest.
const KNOWN: &[(&str, ClosingReason)] = &[
    ("timed out due to inactivity", ClosingReason::Idle),
    ("maximum duration", ClosingReason::Expired),
    ("maximum session duration", ClosingReason::Expired),
    ("kms", ClosingReason::Encryption),
    // What KMS refused need not say its name.
    ("data key", ClosingReason::Encryption),
    ("blockcipher", ClosingReason::Encryption),
    ("encryption challenge", ClosingReason::Encryption),
    ("encryption context", ClosingReason::Encryption),
    (
        "is not supported by this version of ssm agent",
        ClosingReason::AgentTooOld,
    ),
    ("run as", ClosingReason::RunAsUser),
    ("runas", ClosingReason::RunAsUser),
    (
        "ipc messaging received timeout signal",
        ClosingReason::DeadWorker,
    ),
    ("is forbidden", ClosingReason::ForbiddenDestination),
    ("unable to connect", ClosingReason::NoConnection),
];

/// Longest text that is kept, in characters: whoever is at the far end chooses it, and people read
/// it. The longest that is known has 150.
const TEXT_CHARS: usize = 2000;

/// Words that no text of an ordinary end has.
const FAILURES: &[&str] = &[
    "error",
    "failed",
    "unable",
    "denied",
    "not found",
    "cannot",
    "unsupported",
];

impl Closing {
    /// The end that `output`, the text of the service, tells of.
    pub fn of(output: &str) -> Self {
        let text: String = output.trim().chars().take(TEXT_CHARS).collect();
        let lower = text.to_lowercase();
        let known = KNOWN.iter().find(|(part, _)| lower.contains(part));
        let reason = match known {
            Some((_, reason)) => *reason,
            None if FAILURES.iter().any(|word| lower.contains(word)) => ClosingReason::Failure,
            None => ClosingReason::Ordinary,
        };
        Self { reason, text }
    }

    /// What it means.
    pub fn reason(&self) -> ClosingReason {
        self.reason
    }

    /// The text for people, without blanks around it; empty after an ordinary end.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether what the session was for has not been done. A session that has reached its time has
    /// ended in order.
    pub fn is_failure(&self) -> bool {
        !matches!(
            self.reason,
            ClosingReason::Ordinary | ClosingReason::Idle | ClosingReason::Expired
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endless_text_is_cut() {
        let closing = Closing::of(&"no ".repeat(100_000));
        assert_eq!(closing.text().chars().count(), TEXT_CHARS);
    }

    #[test]
    fn the_texts_of_service_and_agent_are_told_apart() {
        for (text, reason) in [
            ("", ClosingReason::Ordinary),
            (
                "Exiting session with sessionId: alice-0.",
                ClosingReason::Ordinary,
            ),
            (
                "Your session timed out due to inactivity and has been terminated.",
                ClosingReason::Idle,
            ),
            (
                "Your session has been terminated because it reached its maximum duration.",
                ClosingReason::Expired,
            ),
            (
                "Forwarding to IP address 169.254.169.254 is forbidden.",
                ClosingReason::ForbiddenDestination,
            ),
            (
                "Unable to connect to specified port: dial tcp [::1]:1: connect: connection refused",
                ClosingReason::NoConnection,
            ),
            (
                "Plugin with name Port is not supported by this version of ssm agent, please update to latest version. Step name: Port",
                ClosingReason::AgentTooOld,
            ),
            (
                "Unable to start command: Failed to start pty since RunAs user nobody-here does not exist",
                ClosingReason::RunAsUser,
            ),
            (
                "Encountered error while initiating handshake. Fetching data key failed: Unable to retrieve data key, KMS error",
                ClosingReason::Encryption,
            ),
            (
                "Encountered error while initiating handshake. Fetching data key failed: Unable to retrieve data key, Error when decrypting data key NotFoundException: Invalid arn us-east-1",
                ClosingReason::Encryption,
            ),
            (
                "Encountered error while initiating handshake. Timed out waiting for encryption challenge.",
                ClosingReason::Encryption,
            ),
            (
                "Encountered error while initiating handshake. client does not support required encryption context random challenge",
                ClosingReason::Encryption,
            ),
            ("Something was denied.", ClosingReason::Failure),
        ] {
            let closing = Closing::of(text);
            assert_eq!(closing.reason(), reason, "{text}");
            assert_eq!(closing.text(), text);
        }
    }
}
