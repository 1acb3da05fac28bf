//! What a run says to people.

use ops_ui::{Error, output::escape};

use super::run::RunTask;
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
            error.caused_by(
                "nothing can be written on the server, so that a command ends with its session",
            )
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

    pub(super) fn not_back(&self, error: &Error) -> Error {
        Error::target(format!(
            "the session on `{}` was lost, and no other one could be had",
            self.label()
        ))
        .caused_as(error)
        .hinted_as(error)
    }
}
