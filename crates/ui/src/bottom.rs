//! The last line of the terminal: a status that is drawn anew, or a question that waits for its
//! answer, below whatever else is told meanwhile.

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::task::JoinHandle;

/// Takes the cursor to the beginning of the line and clears it.
const CLEAR_LINE: &str = "\r\x1b[2K";

/// What stands on the last line. Each method gives the bytes to write; the lock is held by whoever
/// writes them.
#[derive(Debug, Default)]
pub(crate) struct Bottom(Mutex<Lines>);

#[derive(Debug, Default)]
pub(crate) struct Lines {
    status: String,
    question: Option<String>,
    /// How many others have the terminal.
    held: usize,
}

impl Bottom {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    fn shown(&self) -> &str {
        match &self.question {
            Some(question) => question,
            None if self.held == 0 => &self.status,
            None => "",
        }
    }

    fn clear(&self) -> &'static str {
        if self.shown().is_empty() {
            ""
        } else {
            CLEAR_LINE
        }
    }

    /// A line above the last one.
    pub(crate) fn above(&self, line: &str) -> String {
        format!("{}{line}{}", self.clear(), self.shown())
    }

    /// What has to be written before and after lines that go above the last one.
    pub(crate) fn around(&self) -> (&'static str, &str) {
        (self.clear(), self.shown())
    }

    /// Another status; an empty one is none.
    pub(crate) fn set_status(&mut self, text: &str) -> String {
        if self.status == text {
            return String::new();
        }
        text.clone_into(&mut self.status);
        if self.question.is_some() || self.held > 0 {
            return String::new();
        }
        // The first one too: a `^C` may stand there.
        format!("{CLEAR_LINE}{text}")
    }

    /// A question takes the place of the status.
    pub(crate) fn begin_question(&mut self, text: &str) -> String {
        let clear = self.clear();
        // Lines before its last one scroll away like all others.
        self.question = text.rsplit('\n').next().map(str::to_owned);
        format!("{clear}{text}")
    }

    /// The question is over; whoever answered it has ended its line.
    pub(crate) fn end_question(&mut self, answered: bool) -> String {
        self.question = None;
        let end = if answered { "" } else { "\n" };
        format!("{end}{}", self.shown())
    }

    /// Somebody else draws on the terminal from now on.
    pub(crate) fn hold(&mut self) -> String {
        let clear = self.clear();
        self.held += 1;
        clear.to_owned()
    }

    /// And no longer.
    pub(crate) fn release(&mut self) -> String {
        self.held = self.held.saturating_sub(1);
        self.shown().to_owned()
    }
}

/// A read of standard input, which nobody can call back: who asks next takes the line that one left
/// waits for.
static READING: tokio::sync::Mutex<Option<JoinHandle<io::Result<Option<String>>>>> =
    tokio::sync::Mutex::const_new(None);

/// The next line of standard input, without its end; `None` at its end. Can be given up without
/// loss. One at a time.
pub(crate) async fn read_line() -> io::Result<Option<String>> {
    let mut reading = READING.lock().await;
    let task = reading.get_or_insert_with(|| {
        tokio::task::spawn_blocking(|| {
            let mut line = String::new();
            let len = io::stdin().read_line(&mut line)?;
            line.truncate(line.trim_end_matches(['\r', '\n']).len());
            Ok((len > 0).then_some(line))
        })
    });
    let line = task.await;
    *reading = None;
    line.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Forgets what was typed up to now, a line that a given-up question still holds included.
pub(crate) async fn forget_typed() {
    let mut reading = READING.lock().await;
    if reading.as_ref().is_some_and(JoinHandle::is_finished) {
        *reading = None;
    }
    #[cfg(unix)]
    {
        use rustix::termios::{QueueSelector, tcflush};
        // Fails where standard input is no terminal: then nobody is asked either.
        let _ = tcflush(rustix::stdio::stdin(), QueueSelector::IFlush);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an order of events leaves on a terminal's last line and above.
    fn screen(written: &[String]) -> (String, String) {
        let mut above = String::new();
        let mut last = String::new();
        for c in written.concat().replace(CLEAR_LINE, "\r").chars() {
            match c {
                '\r' => last.clear(),
                '\n' => {
                    above.push_str(&last);
                    above.push('\n');
                    last.clear();
                }
                c => last.push(c),
            }
        }
        (above, last)
    }

    #[test]
    fn what_is_told_goes_above_the_status_and_above_a_question() {
        let mut lines = Lines::default();
        let mut written = vec![
            lines.set_status("0 connections"),
            lines.above("lost\n"),
            lines.begin_question("Log in? [Y/n] "),
            lines.set_status("1 connection"),
            lines.above("told\n"),
        ];
        assert_eq!(
            screen(&written),
            ("lost\ntold\n".to_owned(), "Log in? [Y/n] ".to_owned())
        );
        // Answered: the terminal itself has shown the answer and ended the line.
        written.extend(["y\n".to_owned(), lines.end_question(true)]);
        let (above, last) = screen(&written);
        assert!(above.ends_with("Log in? [Y/n] y\n"), "{above}");
        assert_eq!(last, "1 connection");
        written.push(lines.set_status(""));
        assert_eq!(screen(&written).1, "");
    }

    #[test]
    fn a_question_that_is_given_up_leaves_its_line() {
        let mut lines = Lines::default();
        let written = vec![
            lines.begin_question("MFA code: "),
            lines.end_question(false),
            lines.above("going on\n"),
        ];
        assert_eq!(
            screen(&written),
            ("MFA code: \ngoing on\n".to_owned(), String::new())
        );
    }

    #[test]
    fn nothing_is_drawn_while_others_have_the_terminal() {
        let mut lines = Lines::default();
        let _ = lines.set_status("1");
        assert_eq!(lines.hold(), CLEAR_LINE);
        assert_eq!(lines.set_status("2"), "");
        assert_eq!(lines.release(), "2");
    }
}
