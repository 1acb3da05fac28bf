//! Exit codes, which are an interface: scripts test them, so a number keeps its meaning.

/// The status a command ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(u8);

impl Exit {
    /// Done; an empty list is a success too.
    pub const SUCCESS: Self = Self(0);
    /// An error nobody foresaw.
    pub const UNEXPECTED: Self = Self(1);
    /// Wrong usage (an unknown verb too) or an invalid profile.
    pub const USAGE: Self = Self(2);
    /// No such target.
    pub const NOT_FOUND: Self = Self(3);
    /// Not logged in, or the credentials have expired; the number `gh` uses.
    pub const NOT_LOGGED_IN: Self = Self(4);
    /// AWS denied the call.
    pub const DENIED: Self = Self(5);
    /// Several instances match the target.
    pub const AMBIGUOUS: Self = Self(6);
    /// The target exists and cannot be reached.
    pub const UNREACHABLE: Self = Self(7);
    /// Some hosts, regions or files failed, others did not.
    pub const PARTIAL: Self = Self(8);
    /// Refused by a guard: protected profile, no `--yes`, no reason.
    pub const REFUSED: Self = Self(9);
    /// `--timeout` was reached; the number of timeout(1).
    pub const TIMEOUT: Self = Self(124);
    /// `ops NAME` is neither a command nor a plugin that can run.
    pub const PLUGIN_NOT_FOUND: Self = Self(127);
    /// Ended by SIGINT: 128 + 2.
    pub const INTERRUPTED: Self = Self(130);
    /// Ended by SIGTERM: 128 + 15.
    pub const TERMINATED: Self = Self(143);
    /// A failure of `ops` itself under a verb that returns the far side's status, as in ssh.
    pub const PASS_THROUGH: Self = Self(255);

    /// The status of a remote or child process, returned as it is.
    pub const fn of(code: u8) -> Self {
        Self(code)
    }

    /// The number given to the operating system.
    pub const fn code(self) -> u8 {
        self.0
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.0)
    }
}
