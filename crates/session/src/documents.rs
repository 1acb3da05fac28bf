//! Names of the session documents that AWS provides (`aws ssm list-documents --filters
//! Key=Owner,Values=Amazon`).

/// The account's preferences of a shell.
pub const SHELL: &str = "SSM-SessionManagerRunShell";
/// A command on a terminal.
pub const INTERACTIVE_COMMAND: &str = "AWS-StartInteractiveCommand";
/// A command without a terminal.
pub const NON_INTERACTIVE_COMMAND: &str = "AWS-StartNonInteractiveCommand";
/// A port of the instance.
pub const PORT_FORWARDING: &str = "AWS-StartPortForwardingSession";
/// A port of another host, as the instance sees it.
pub const PORT_FORWARDING_TO_REMOTE_HOST: &str = "AWS-StartPortForwardingSessionToRemoteHost";
/// The port of sshd.
pub const SSH: &str = "AWS-StartSSHSession";
