//! How the output of many servers is shown.

mod document;
mod fold;
mod folder;
mod plain;
mod prefixed;

use std::io;

use ops_ui::Result;
use serde_json::Value;

pub(crate) use self::{
    document::{API_VERSION, Document, Form},
    fold::Fold,
    folder::Folder,
    plain::Plain,
    prefixed::{Grouped, Live},
};
use crate::{capture::Stream, lines::Margins, outcome::Ending};

/// Where a view writes: whole lines on stdout and stderr, or documents on stdout.
pub(crate) trait Sink {
    /// Whole lines, as they are.
    fn lines(&mut self, stream: Stream, bytes: &[u8]) -> Result<()>;
    /// One document in the form that was asked for.
    fn document(&mut self, form: Form, value: &Value) -> Result<()>;
}

/// Shows what happens on the servers, which are known by their numbers.
pub(crate) trait View: Send {
    /// A piece of output has come.
    ///
    /// # Errors
    /// It cannot be written, or not be kept.
    fn hear(
        &mut self,
        host: usize,
        stream: Stream,
        piece: &[u8],
        sink: &mut dyn Sink,
    ) -> Result<()>;

    /// The command on one server has ended, or was not started.
    ///
    /// # Errors
    /// As [`View::hear`].
    fn end(&mut self, host: usize, ending: &Ending, sink: &mut dyn Sink) -> Result<()>;

    /// All have ended.
    ///
    /// # Errors
    /// As [`View::hear`].
    fn finish(&mut self, sink: &mut dyn Sink) -> Result<()> {
        let _ = sink;
        Ok(())
    }

    /// Whether it tells how each server ended, so that no more rows are needed.
    fn tells_endings(&self) -> bool {
        false
    }
}

/// What stdout and stderr are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OutputTerminals {
    pub(crate) stdout_is_terminal: bool,
    pub(crate) stderr_is_terminal: bool,
    pub(crate) colors_stdout: bool,
    pub(crate) colors_stderr: bool,
    /// Columns of the terminal; `None` where it is none.
    pub(crate) stdout_columns: Option<usize>,
    pub(crate) stderr_columns: Option<usize>,
}

impl OutputTerminals {
    fn is_terminal(self, stream: Stream) -> bool {
        match stream {
            Stream::Stdout => self.stdout_is_terminal,
            Stream::Stderr => self.stderr_is_terminal,
        }
    }

    fn colors(self, stream: Stream) -> bool {
        match stream {
            Stream::Stdout => self.colors_stdout,
            Stream::Stderr => self.colors_stderr,
        }
    }

    fn columns(self, stream: Stream) -> Option<usize> {
        match stream {
            Stream::Stdout => self.stdout_columns,
            Stream::Stderr => self.stderr_columns,
        }
    }

    /// How a line on `stream` is written that has `first` columns before it; parts that it is
    /// broken into have `indent`.
    fn line_form(self, stream: Stream, first: usize, indent: usize) -> LineForm {
        if !self.is_terminal(stream) {
            return LineForm::AsItIs;
        }
        LineForm::OnTerminal(Margins {
            columns: self.columns(stream),
            first,
            indent,
        })
    }

    /// Whether both go to one screen, where the order between them can be seen.
    fn is_one_screen(self) -> bool {
        self.stdout_is_terminal && self.stderr_is_terminal
    }
}

/// Colours of names (SGR), the next server's after the last one's again: cyan, yellow, green,
/// magenta, blue, and their bright forms. Red is for errors.
const COLORS: [&str; 10] = ["36", "33", "32", "35", "34", "96", "93", "92", "95", "94"];

/// `name` of the server with this number, in its colour.
fn paint_name(host: usize, name: &str, is_colored: bool) -> String {
    if is_colored {
        format!("\x1b[{}m{name}\x1b[0m", COLORS[host % COLORS.len()])
    } else {
        name.to_owned()
    }
}

/// How a line that a server has printed is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineForm {
    /// For a program.
    AsItIs,
    /// As a terminal may show it.
    OnTerminal(Margins),
}

/// Adds a line to `text`.
pub(crate) fn push_line(text: &mut Vec<u8>, line: &[u8], form: LineForm) {
    match form {
        LineForm::OnTerminal(margins) => {
            text.extend_from_slice(crate::lines::shown(line, margins).as_bytes());
        }
        LineForm::AsItIs => text.extend_from_slice(line),
    }
    text.push(b'\n');
}

/// For `io` closures that call a [`Sink`]: its error, carried through.
fn carried(error: ops_ui::Error) -> io::Error {
    io::Error::other(error)
}

/// The error that [`carried`] put in, or one that says what went wrong with a temporary file.
fn uncarried(error: io::Error) -> ops_ui::Error {
    let kind = error.kind();
    let inner = error.into_inner();
    match inner.map(<dyn std::error::Error + Send + Sync>::downcast::<ops_ui::Error>) {
        Some(Ok(ours)) => *ours,
        _ => ops_ui::Error::unexpected("the output cannot be kept in a temporary file")
            .caused_by(kind)
            .hint("make room in the folder for temporary files, or name another: TMPDIR=FOLDER"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Keeps what is written.
    #[derive(Default)]
    pub(crate) struct RecordedOutput {
        pub(crate) stdout: String,
        pub(crate) stderr: String,
        /// Both, in order.
        pub(crate) screen: String,
        pub(crate) documents: Vec<Value>,
    }

    impl Sink for RecordedOutput {
        fn lines(&mut self, stream: Stream, bytes: &[u8]) -> Result<()> {
            let text = String::from_utf8_lossy(bytes);
            assert!(text.ends_with('\n'), "{text:?} is no whole line");
            match stream {
                Stream::Stdout => self.stdout.push_str(&text),
                Stream::Stderr => self.stderr.push_str(&text),
            }
            self.screen.push_str(&text);
            Ok(())
        }

        fn document(&mut self, _form: Form, value: &Value) -> Result<()> {
            self.documents.push(value.clone());
            Ok(())
        }
    }

    pub(crate) const TERMINAL: OutputTerminals = OutputTerminals {
        stdout_is_terminal: true,
        stderr_is_terminal: true,
        colors_stdout: false,
        colors_stderr: false,
        stdout_columns: Some(80),
        stderr_columns: Some(80),
    };

    pub(crate) fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }
}
