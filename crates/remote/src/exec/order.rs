//! What a server is to do, as it travels there.

use std::time::Duration;

use super::{Command, Request, text};
use ops_ui::Result;

/// A command of more bytes than this, script included, goes by the terminal, for which nothing is
/// too long. A parameter of a document may have 65,535 characters by the API's model; what the
/// service takes is not known for certain. The text around the command takes thirty kilobytes of
/// it, and where the service refuses all of it the terminal is tried then.
const LONGEST_OPEN_BYTES: usize = 12 << 10;

/// A command as lines of sh, and what belongs to it.
#[derive(Debug)]
pub(super) struct PreparedCommand {
    /// Lines that become the command.
    pub(super) command: Vec<u8>,
    /// The file that they run, if they run one.
    pub(super) script: Option<Vec<u8>>,
    /// Whether it has input.
    pub(super) input: bool,
    /// Whether it is left running.
    detach: bool,
    /// Whether it holds values that are nobody's business.
    is_secret: bool,
    /// How long the command may run.
    limit: Option<Duration>,
    /// How long it is kept for a client that is away.
    patience: Duration,
}

impl PreparedCommand {
    /// # Errors
    /// As [`text::of`].
    pub(super) fn new(request: &Request) -> Result<Self> {
        Ok(Self {
            command: text::of(request)?,
            script: match &request.command {
                Command::Script { bytes, .. } => Some(bytes.clone()),
                _ => None,
            },
            // What is left running has nobody to read from.
            input: request.stdin && !request.detach,
            detach: request.detach,
            is_secret: !request.env.is_empty() || request.cwd.is_some(),
            limit: request.time_limit,
            patience: request.patience,
        })
    }

    /// Whether it may travel as a parameter of a document, which the service keeps in its history
    /// and `ps` shows on the server.
    pub(super) fn is_open(&self) -> bool {
        let len = self.command.len() + self.script.as_ref().map_or(0, Vec::len);
        !self.is_secret && len <= LONGEST_OPEN_BYTES
    }

    /// Whether a terminal is needed beside the session that brings the output.
    pub(super) fn needs_terminal(&self) -> bool {
        self.input || !self.is_open()
    }

    /// Whether it cannot be run where nothing can be written.
    pub(super) fn needs_folder(&self) -> bool {
        self.script.is_some() || self.input || self.detach || self.limit.is_some()
    }

    /// The arguments of the engine's `launch`.
    pub(super) fn settings(&self) -> String {
        let limit = match self.limit {
            None => "0".to_owned(),
            // Zero would be no limit.
            Some(limit) => format!("{:.3}", limit.as_secs_f64().max(0.001)),
        };
        let input = match (self.detach, self.input) {
            (true, _) => "detach",
            (false, true) => "1",
            (false, false) => "0",
        };
        format!("{} {limit} {input}", self.patience.as_secs())
    }
}
