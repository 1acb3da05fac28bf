//! What there is to say about the connection while a session runs, on stderr and never over what the far side wrote.

use std::time::Duration;

use ops_core::{Output, Text};
use tokio::time::Instant;

use crate::escape::EscapeChar;

/// Between two notes that the agent is still silent.
const STILL: Duration = Duration::from_secs(30);

/// Says it.
pub(crate) struct Notes<'a> {
    output: &'a Output,
    /// What the instance is called.
    label: &'a str,
    /// How the user can leave; nothing where there is no escape.
    way_out: String,
    /// The cursor may stand within a line of the far side's.
    within_line: bool,
    /// Since when the agent is silent, and when to say so again.
    silent: Option<(Instant, Instant)>,
}

impl<'a> Notes<'a> {
    /// For a session on the instance called `label`; `escape` works only where there is a terminal.
    pub(crate) fn new(
        output: &'a Output,
        label: &'a str,
        escape: EscapeChar,
        terminal: bool,
    ) -> Self {
        let way_out = if terminal && escape != EscapeChar::NONE {
            format!("; Enter {escape} . ends the session")
        } else {
            String::new()
        };
        Self {
            output,
            label,
            way_out,
            within_line: false,
            silent: None,
        }
    }

    /// What the instance is called.
    pub(crate) fn label(&self) -> &'a str {
        self.label
    }

    /// The far side has written `bytes`.
    pub(crate) fn wrote(&mut self, bytes: &[u8]) {
        self.within_line = self.output.stdout_is_terminal() && bytes.last() != Some(&b'\n');
    }

    fn say(&mut self, text: String) {
        let start = if std::mem::take(&mut self.within_line) {
            "\n"
        } else {
            ""
        };
        self.output.note(Text::from(start).then(text));
    }

    /// The connection is lost.
    pub(crate) fn disconnected(&mut self, reason: &str) {
        self.say(format!(
            "connection to {} lost, reconnecting ({reason})",
            self.label
        ));
    }

    /// Attempt `attempt` to get it back begins after `delay`.
    pub(crate) fn reconnecting(&mut self, attempt: u32, delay: Duration) {
        // The first one comes at once and mostly succeeds.
        if attempt < 2 {
            return;
        }
        let way_out = if attempt == 2 { &self.way_out } else { "" };
        self.say(format!(
            "reconnecting to {} in {:.0} s (attempt {attempt}){way_out}",
            self.label,
            delay.as_secs_f64().max(1.0)
        ));
    }

    /// The connection is back.
    pub(crate) fn resumed(&mut self) {
        self.silent = None;
        self.say(format!("connection to {} resumed", self.label));
    }

    /// The agent owes an answer and has said nothing for `waited`.
    pub(crate) fn silent(&mut self, waited: Duration) {
        let now = Instant::now();
        let since = now.checked_sub(waited).unwrap_or(now);
        let way_out = if self.silent.is_none() {
            self.way_out.as_str()
        } else {
            ""
        };
        let text = format!(
            "agent on {} not responding for {} s{way_out}",
            self.label,
            waited.as_secs()
        );
        self.silent = Some((since, now + STILL));
        self.say(text);
    }

    /// Waits until it has to be said again that the agent is silent; for ever while it is not. Cancel-safe.
    pub(crate) async fn still_silent(&self) -> Duration {
        match self.silent {
            Some((since, next)) => {
                tokio::time::sleep_until(next).await;
                since.elapsed()
            }
            None => std::future::pending().await,
        }
    }

    /// The agent speaks again.
    pub(crate) fn back(&mut self) {
        if self.silent.take().is_some() {
            self.say(format!("agent on {} responding again", self.label));
        }
    }

    /// The session is over, and not by the user's doing; `text` is what the service says of it, often nothing.
    pub(crate) fn over(&mut self, text: &str) {
        let why = if text.is_empty() {
            "it was ended on the other side, which gave no reason"
        } else {
            text
        };
        self.say(format!("the session on {} is over: {why}", self.label));
    }

    /// What was typed just now went nowhere.
    pub(crate) fn swallowed(&mut self) {
        self.say("what was typed since then is dropped: it was meant for the session".to_owned());
    }
}
