//! Errors as people read them: what could not be done, why, and what to do next.

use std::{error::Error as StdError, fmt, sync::Arc};

use crate::{
    exit::Exit,
    text::{Hint, Text},
};

/// The result of everything that can fail in `ops`.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of failure it was; decides the exit code and the stable code in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Nobody foresaw it.
    Unexpected,
    /// Wrong arguments or an invalid profile.
    Usage,
    /// No such target.
    NotFound,
    /// No credentials, or expired ones.
    NotLoggedIn,
    /// AWS denied the call.
    Denied,
    /// Several instances match.
    Ambiguous,
    /// Found, but not reachable.
    Unreachable,
    /// Some parts failed.
    Partial,
    /// Refused by a guard of the profile.
    Refused,
    /// `--timeout` was reached.
    Timeout,
    /// No such plugin.
    PluginNotFound,
    /// SIGINT.
    Interrupted,
    /// SIGTERM or SIGHUP.
    Terminated,
    /// The reader of our output has gone: not an error to show.
    BrokenPipe,
}

impl ErrorKind {
    /// The exit code of `cli-conventions`; pass-through verbs replace it with 255.
    pub const fn exit(self) -> Exit {
        match self {
            Self::Unexpected => Exit::UNEXPECTED,
            Self::Usage => Exit::USAGE,
            Self::NotFound => Exit::NOT_FOUND,
            Self::NotLoggedIn => Exit::NOT_LOGGED_IN,
            Self::Denied => Exit::DENIED,
            Self::Ambiguous => Exit::AMBIGUOUS,
            Self::Unreachable => Exit::UNREACHABLE,
            Self::Partial => Exit::PARTIAL,
            Self::Refused => Exit::REFUSED,
            Self::Timeout => Exit::TIMEOUT,
            Self::PluginNotFound => Exit::PLUGIN_NOT_FOUND,
            Self::Interrupted => Exit::INTERRUPTED,
            Self::Terminated => Exit::TERMINATED,
            Self::BrokenPipe => Exit::SUCCESS,
        }
    }

    /// A stable word for scripts and searches.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Unexpected => "OPS-E-UNEXPECTED",
            Self::Usage => "OPS-E-USAGE",
            Self::NotFound => "OPS-E-NOT-FOUND",
            Self::NotLoggedIn => "OPS-E-NOT-LOGGED-IN",
            Self::Denied => "OPS-E-DENIED",
            Self::Ambiguous => "OPS-E-AMBIGUOUS",
            Self::Unreachable => "OPS-E-UNREACHABLE",
            Self::Partial => "OPS-E-PARTIAL",
            Self::Refused => "OPS-E-REFUSED",
            Self::Timeout => "OPS-E-TIMEOUT",
            Self::PluginNotFound => "OPS-E-PLUGIN-NOT-FOUND",
            Self::Interrupted => "OPS-E-INTERRUPTED",
            Self::Terminated => "OPS-E-TERMINATED",
            Self::BrokenPipe => "OPS-E-BROKEN-PIPE",
        }
    }
}

/// A failure, in three parts. Its texts are lower-case, without a full stop, values in backticks.
///
/// What writes them is [`Text`] and [`Hint`]: values are escaped on their way in, and quoted in
/// hints.
///
/// Nothing secret belongs in one: no token, no stream URL, nothing that was typed into a session.
#[derive(Clone, Debug)]
pub struct Error(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    kind: ErrorKind,
    what: Text,
    why: Vec<Text>,
    hints: Vec<Hint>,
    request_id: Option<String>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
    is_lasting: bool,
    cause: Option<&'static str>,
}

impl Error {
    /// A failure of `kind`; `what` says what could not be done.
    pub fn new(kind: ErrorKind, what: impl Into<Text>) -> Self {
        Self(Box::new(Parts {
            kind,
            what: what.into(),
            why: Vec::new(),
            hints: Vec::new(),
            request_id: None,
            source: None,
            is_lasting: false,
            cause: None,
        }))
    }

    /// Wrong arguments, or an invalid profile.
    pub fn usage(what: impl Into<Text>) -> Self {
        Self::new(ErrorKind::Usage, what)
    }

    /// What another error says, where nobody foresaw it.
    pub fn unforeseen(error: impl fmt::Display) -> Self {
        Self::unexpected(Text::foreign(error))
    }

    /// Something nobody foresaw.
    pub fn unexpected(what: impl Into<Text>) -> Self {
        Self::new(ErrorKind::Unexpected, what)
    }

    /// A target that was found and cannot be reached.
    pub fn target(what: impl Into<Text>) -> Self {
        Self::new(ErrorKind::Unreachable, what)
    }

    /// Adds a line of why. Several are shown in the order they were added.
    #[must_use]
    pub fn caused_by(mut self, why: impl fmt::Display) -> Self {
        self.0.why.push(Text::foreign(why));
        self
    }

    /// As [`Self::caused_by`], for a text of several lines.
    #[must_use]
    pub fn caused_by_lines(mut self, why: Text) -> Self {
        self.0.why.push(why);
        self
    }

    /// Adds the lines of why of `other`.
    #[must_use]
    pub fn caused_as(mut self, other: &Self) -> Self {
        self.0.why.extend_from_slice(&other.0.why);
        self
    }

    /// Adds the hints of `other`.
    #[must_use]
    pub fn hinted_as(mut self, other: &Self) -> Self {
        self.0.hints.extend_from_slice(&other.0.hints);
        self
    }

    /// Adds what to do next; a command whenever one exists. With values in it, made by
    /// [`hint!`](crate::hint).
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Hint>) -> Self {
        self.0.hints.push(hint.into());
        self
    }

    /// Adds a hint where there is one.
    #[must_use]
    pub fn hinted_with(mut self, hint: Option<Hint>) -> Self {
        self.0.hints.extend(hint);
        self
    }

    /// Keeps the request id of the AWS call, shown with `-v` and in JSON.
    #[must_use]
    pub fn with_request_id(mut self, id: Option<&str>) -> Self {
        self.0.request_id = id.map(str::to_owned);
        self
    }

    /// Keeps what it came from, for whoever has to decide something by it: the texts are for
    /// people.
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.0.source = Some(Arc::new(source));
        self
    }

    /// Whether it came from a `T`.
    pub fn came_from<T: StdError + 'static>(&self) -> bool {
        self.0
            .source
            .as_ref()
            .is_some_and(|source| source.is::<T>())
    }

    /// Names the cause by its stable word, where it is known: `no-role`. The words are those of the
    /// table in docs/doctor.md.
    #[must_use]
    pub fn named(mut self, cause: &'static str) -> Self {
        self.0.cause = Some(cause);
        self
    }

    /// The stable word of its cause, where that is known.
    pub fn cause(&self) -> Option<&'static str> {
        self.0.cause
    }

    /// Says that the same will fail again until somebody changes something: waiting does not help.
    #[must_use]
    pub fn lasting(mut self) -> Self {
        self.0.is_lasting = true;
        self
    }

    /// Whether the same will fail again until somebody changes something. False where nobody knows.
    pub fn is_lasting(&self) -> bool {
        self.0.is_lasting
    }

    /// What sort of failure it was.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What could not be done.
    pub fn what(&self) -> &str {
        &self.0.what
    }

    /// Why, in order.
    pub fn why(&self) -> &[Text] {
        &self.0.why
    }

    /// What to do next.
    pub fn hints(&self) -> &[Hint] {
        &self.0.hints
    }

    /// All of it in one line that begins with the stable code: the form for verbs whose stderr is
    /// mostly the far side's.
    pub fn one_line(&self) -> Text {
        let mut line = format!("ops: {}: {}", self.kind().code(), self.what());
        for why in self.why() {
            line.push_str(": ");
            line.push_str(why);
        }
        for hint in self.hints() {
            // Behind a semicolon a command of ours would look like a sentence about `ops`, to
            // people and to what puts the options in use into commands.
            let is_bare = hint.starts_with("ops ");
            line.push_str(if is_bare { "; run: " } else { "; " });
            line.push_str(hint);
        }
        line.split_whitespace().collect::<Vec<_>>().join(" ").into()
    }

    /// The request id of the AWS call that failed.
    pub fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }
}

impl fmt::Display for Error {
    /// One line: what, and why in parentheses; the renderer of [`crate::output::Output`] shows all
    /// parts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one_line = |text: &Text| text.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        f.write_str(&one_line(&self.0.what))?;
        if let Some(why) = self.0.why.first() {
            write!(f, " ({})", one_line(why))?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|source| {
            let source: &(dyn StdError + 'static) = &**source;
            source
        })
    }
}

impl From<Error> for Text {
    fn from(error: Error) -> Self {
        Self::foreign(error)
    }
}

impl From<&Error> for Text {
    fn from(error: &Error) -> Self {
        Self::foreign(error)
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        let kind = if error.kind() == std::io::ErrorKind::BrokenPipe {
            ErrorKind::BrokenPipe
        } else {
            ErrorKind::Unexpected
        };
        Self::new(kind, Text::foreign(error))
    }
}
