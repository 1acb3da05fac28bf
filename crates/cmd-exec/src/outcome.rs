//! How a command ended on one server.

use std::time::Duration;

use jiff::Timestamp;
use ops_remote::exec::Status;
use ops_ui::{Error, Exit};

/// How it ended.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// It ran, and this is its status.
    Ended(Status),
    /// `ops` could not run it there, or lost it.
    Failed(Error),
    /// Its logs, or some of them, could not be read.
    Unread(Error),
    /// It was not started, for this reason.
    NotStarted(String),
    /// Somebody cancelled it; whether it had begun is not told.
    Cancelled,
}

/// How and when it ended.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    pub(crate) outcome: Outcome,
    /// When the command was asked for; `None` where it was not started.
    pub(crate) started: Option<Timestamp>,
    /// Since then.
    pub(crate) took: Duration,
    /// `StatusDetails` of Run Command, where that ran it.
    pub(crate) service_status: Option<String>,
    /// Its output is not whole.
    pub(crate) is_cut: bool,
}

impl Ending {
    /// Of a server that was left out.
    pub(crate) fn not_started(why: &str) -> Self {
        Self {
            outcome: Outcome::NotStarted(why.to_owned()),
            started: None,
            took: Duration::ZERO,
            service_status: None,
            is_cut: false,
        }
    }
}

/// Name of a signal of POSIX or Linux, with its `SIG`; `None` for a number without one. The numbers
/// are those of Linux, which the server's shell reports.
fn signal_name(number: u8) -> Option<&'static str> {
    const NAMES: [&str; 31] = [
        "SIGHUP",
        "SIGINT",
        "SIGQUIT",
        "SIGILL",
        "SIGTRAP",
        "SIGABRT",
        "SIGBUS",
        "SIGFPE",
        "SIGKILL",
        "SIGUSR1",
        "SIGSEGV",
        "SIGUSR2",
        "SIGPIPE",
        "SIGALRM",
        "SIGTERM",
        "SIGSTKFLT",
        "SIGCHLD",
        "SIGCONT",
        "SIGSTOP",
        "SIGTSTP",
        "SIGTTIN",
        "SIGTTOU",
        "SIGURG",
        "SIGXCPU",
        "SIGXFSZ",
        "SIGVTALRM",
        "SIGPROF",
        "SIGWINCH",
        "SIGIO",
        "SIGPWR",
        "SIGSYS",
    ];
    NAMES.get(usize::from(number).checked_sub(1)?).copied()
}

impl Outcome {
    /// Whether it ran and gave 0.
    pub(crate) fn is_success(&self) -> bool {
        matches!(self, Self::Ended(Status::Code(0)))
    }

    /// The exit status that stands for it: 255 for a failure of `ops` itself. `None` where it was
    /// not started.
    pub(crate) fn exit(&self) -> Option<Exit> {
        match self {
            Self::Ended(status) => Some(Exit::of(status.as_exit_code())),
            Self::Failed(_) => Some(Exit::PASS_THROUGH),
            Self::Unread(error) => Some(error.kind().exit()),
            Self::NotStarted(_) | Self::Cancelled => None,
        }
    }

    /// One word for programs.
    pub(crate) fn state(&self) -> &'static str {
        match self {
            Self::Ended(Status::Code(0)) => "succeeded",
            Self::Ended(Status::Code(_) | Status::Signal(_)) | Self::Unread(_) => "failed",
            Self::Ended(Status::TimeLimit) => "time-limit",
            Self::Failed(_) => "not-run",
            Self::NotStarted(_) => "not-started",
            Self::Cancelled => "cancelled",
        }
    }

    /// As [`Self::words`] behind the name `label`, which is not said again: servers that failed
    /// alike have the same words.
    pub(crate) fn words_for(&self, label: &str) -> String {
        match self {
            Self::Failed(error) => {
                let what = error.what();
                let named = format!("`{label}` ");
                let why = what.strip_prefix(&named).unwrap_or(what);
                // What a server is says why it was given nothing. Anything else may have come to
                // pass while the command was running.
                why.strip_prefix("is ")
                    .map_or_else(|| why.to_owned(), |is| format!("not run: {is}"))
            }
            Self::Unread(error) => {
                let what = error.what();
                let named = format!(" on `{label}`");
                what.strip_suffix(&named).unwrap_or(what).to_owned()
            }
            _ => self.words(),
        }
    }

    /// What a person reads of it; nothing for a success.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Ended(Status::Code(0)) => String::new(),
            Self::Ended(Status::Code(code)) => format!("exit status {code}"),
            // A shell tells a signal and an exit with the same number alike: both are named.
            Self::Ended(status @ Status::Signal(number)) => {
                let code = status.as_exit_code();
                match signal_name(*number) {
                    Some(name) => format!("exit status {code} ({name})"),
                    None => format!("exit status {code}"),
                }
            }
            Self::Ended(Status::TimeLimit) => "ended by --time-limit".to_owned(),
            Self::Failed(error) | Self::Unread(error) => error.to_string(),
            Self::NotStarted(why) => format!("not started: {why}"),
            Self::Cancelled => "cancelled".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asked of this machine's shell, whose numbers are those of its system.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_signal_is_called_as_a_shell_calls_it() {
        for number in 1..=31 {
            let line = format!("kill -l {number}");
            let told = std::process::Command::new("sh")
                .args(["-c", &line])
                .output();
            let told = String::from_utf8(told.unwrap().stdout).unwrap();
            // Some have another name, or none, in some shells.
            let told = match told.trim() {
                "POLL" => "IO",
                "CLD" => "CHLD",
                "16" => "STKFLT",
                name => name,
            };
            assert_eq!(
                signal_name(number),
                Some(&*format!("SIG{told}")),
                "{number}"
            );
        }
        assert_eq!(signal_name(0), None);
        assert_eq!(signal_name(32), None);
    }

    #[test]
    fn each_end_has_a_status_and_words() {
        let told = |outcome: Outcome| {
            let exit = outcome.exit().map(Exit::code);
            (exit, outcome.words())
        };
        assert_eq!(
            told(Outcome::Ended(Status::Code(0))),
            (Some(0), String::new())
        );
        assert_eq!(
            told(Outcome::Ended(Status::Code(255))),
            (Some(255), "exit status 255".to_owned())
        );
        assert_eq!(
            told(Outcome::Ended(Status::Signal(9))),
            (Some(137), "exit status 137 (SIGKILL)".to_owned())
        );
        assert_eq!(
            told(Outcome::Ended(Status::Signal(34))),
            (Some(162), "exit status 162".to_owned())
        );
        assert_eq!(
            told(Outcome::Ended(Status::TimeLimit)),
            (Some(124), "ended by --time-limit".to_owned())
        );
        assert_eq!(
            told(Outcome::Failed(Error::target("`db-1` is stopped"))),
            (Some(255), "`db-1` is stopped".to_owned())
        );
        assert_eq!(
            Outcome::Failed(Error::target("`db-1` is stopped")).words_for("db-1"),
            "not run: stopped"
        );
        let silent = Error::target("`db-1` did not answer that it got SIGTERM");
        assert_eq!(
            Outcome::Failed(silent).words_for("db-1"),
            "did not answer that it got SIGTERM"
        );
        assert_eq!(
            told(Outcome::NotStarted("a canary failed".to_owned())),
            (None, "not started: a canary failed".to_owned())
        );
    }
}
