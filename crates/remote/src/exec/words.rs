//! What a run says to people.

use ops_ui::{Error, ErrorKind, Text, hint, output::escape};

use super::{Signal, controls::Unanswered, line::OutputRoute, run::RunTask};
use crate::pipe;

impl RunTask {
    pub(super) fn label(&self) -> &str {
        self.host.instance.label()
    }

    pub(super) fn detail(&self, text: impl std::fmt::Display) {
        let label = escape(self.label());
        self.host.cx.output().detail(format!("{label}: {text}"));
    }

    pub(super) fn missing(&self, error: impl std::fmt::Display) -> Error {
        Error::target(format!("the output of `{}` is not whole", self.label())).caused_by(error)
    }

    pub(super) fn cut_off(&self, why: &str) -> Error {
        let error = Error::target(format!("the output of `{}` was cut off", self.label()));
        let error = error.caused_by(why).with_source(pipe::CutOff);
        if self.is_direct {
            error.caused_by(if self.way == OutputRoute::Windows {
                "a command on a Windows server ends with its session"
            } else {
                "nothing can be written on the server, so that a command ends with its session"
            })
        } else {
            error
        }
    }

    pub(super) fn gone(&self) -> Error {
        Error::target(format!(
            "the command on `{}` cannot be gone on with",
            self.label()
        ))
        .caused_by(format!(
            "its output is not kept there any more: a server keeps it for {} s after a client has gone",
            self.patience.as_secs()
        ))
    }

    /// ScriptOutput at the start of a run that no other session can go on with.
    pub(super) fn ends_with_session(&self) -> Text {
        let label = self.label();
        Text::from(if self.way == OutputRoute::Windows {
            format!("`{label}` runs Windows: this command ends when its session is lost")
        } else {
            format!(
                "nothing can be written on `{label}`: this command ends when its session is lost"
            )
        })
    }

    /// The command was not started, and is not any more.
    pub(super) fn unstarted(&self) -> Error {
        Error::target(format!("the command on `{}` was not started", self.label()))
            .caused_by("the session that was to start it was ended in that moment")
    }

    /// What kept the command on the server was killed, so that its end cannot be known.
    pub(super) fn killed(&self) -> Error {
        Error::target(format!(
            "how the command on `{}` ended cannot be known",
            self.label()
        ))
        .caused_by("somebody has killed the processes there that kept it; it has been ended")
    }

    /// Nobody can tell whether the command has run.
    pub(super) fn maybe_run(&self) -> Error {
        Error::target(format!(
            "nobody knows whether the command on `{}` has run",
            self.label()
        ))
        .caused_by("its session was lost, and nothing can be written on the server to tell the next one of it")
        .hint("make room on the server, in /tmp")
    }

    /// No session has said a word of the command, which each of them may have begun: its word was
    /// lost on the way.
    pub(super) fn never_began(&self, why: &str) -> Error {
        Error::target(format!(
            "nobody knows whether the command on `{}` has run",
            self.label()
        ))
        .caused_by(why)
        .caused_by(format!(
            "{} sessions were lost before one of them had said a word of it",
            self.turn
        ))
        .hint(hint!(
            "see what is wrong with sessions there: ops doctor {}",
            self.label()
        ))
    }

    /// Sessions are lost one after another, the last one for the reason `why`.
    pub(super) fn taking_up(&self, why: &str, losses: u32) -> Text {
        let times = match losses {
            0 | 1 => String::new(),
            _ => format!(" {losses} times"),
        };
        Text::from(format!(
            "the session on `{}` was lost{times} ({}) and is taken up again; Ctrl-C twice leaves at once",
            self.label(),
            escape(why)
        ))
    }

    /// Every session was lost, the last one for the reason `why`.
    pub(super) fn not_back(&self, why: &str) -> Error {
        Error::target(format!(
            "the session on `{}` was lost, and no other one could be had",
            self.label()
        ))
        .caused_by(escape(why))
        .caused_by(self.kept_words())
    }

    /// As [`Self::not_back`], where another session was refused.
    pub(super) fn not_back_for(&self, error: &Error) -> Error {
        Error::target(format!(
            "the session on `{}` was lost, and no other one could be had",
            self.label()
        ))
        .caused_as(error)
        .caused_by(self.kept_words())
        .hinted_as(error)
    }

    /// A signal that asked the command to end was without an answer for too long.
    pub(super) fn unanswered(&self, unanswered: Unanswered) -> Error {
        let (label, signal) = (self.label(), unanswered.signal);
        let kind = match signal {
            Signal::Interrupt => ErrorKind::Interrupted,
            _ => ErrorKind::Terminated,
        };
        let what = if unanswered.is_delivered {
            format!(
                "`{label}` got SIG{}, and was not heard any more",
                signal.name()
            )
        } else {
            format!("`{label}` did not answer that it got SIG{}", signal.name())
        };
        Error::new(kind, what)
            .with_source(unanswered)
            .caused_by(format!(
                "the command may still run there, and {}",
                self.kept_words()
            ))
            .hint(hint!("see what runs there: ops exec {} -- ps -ef", label))
    }

    /// The session at hand took the end of the command, and no other one a signal.
    pub(super) fn ended_instead(&self, signal: Signal) -> Text {
        Text::from(format!(
            "SIG{} could not be sent to `{}`, and the command there has been ended instead",
            signal.name(),
            self.label()
        ))
    }

    fn kept_words(&self) -> String {
        format!(
            "the server ends the command {} s after its client has gone",
            self.patience.as_secs()
        )
    }
}
