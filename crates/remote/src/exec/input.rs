//! The input of a run on its way into the session that takes it.

use std::time::Duration;

use ops_ui::{Error, Result, hint};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    Input, PIECE_BYTES,
    feed::Feed,
    opening::is_passing,
    run::{FeedChange, FeedState, InputReady, RunTask},
};

impl RunTask {
    /// Opens a session for the input after `pause`.
    pub(super) fn open_feed(&mut self, pause: Duration) {
        self.feed_turn += 1;
        let (heard, hears) = oneshot::channel();
        let heard_of = async {
            if hears.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let (host, folder, turn) = (self.host.clone(), self.folder.clone(), self.feed_turn);
        let opening = async move {
            tokio::time::sleep(pause).await;
            Feed::open(host, folder, turn, heard_of).await
        };
        self.feed = FeedState::Opening {
            opening: tokio::spawn(opening),
            heard: Some(heard),
            up: None,
        };
    }

    pub(super) fn feed_is_up(&mut self, words: &str) {
        let mut words = words.split(' ');
        let mut number = || words.next().and_then(|word| word.parse().ok());
        let (Some(turn), Some(stored)) = (number(), number()) else {
            return;
        };
        let up = InputReady {
            turn: u32::try_from(turn).unwrap_or(0),
            stored,
            is_exact: words.next() == Some("exact"),
        };
        // Of a session that was replaced meanwhile.
        if up.turn != self.feed_turn {
            return;
        }
        match &mut self.feed {
            FeedState::None => {}
            FeedState::Opening {
                heard, up: told, ..
            } => {
                *told = Some(up);
                if let Some(heard) = heard.take() {
                    let _ = heard.send(());
                }
            }
            FeedState::Open(feed) => {
                if !feed.is_ready() {
                    feed.ready(&mut self.frames, up.stored, up.is_exact);
                    self.give_orders();
                }
            }
        }
    }

    pub(super) fn feed_changed(&mut self, change: FeedChange) -> Result<()> {
        match change {
            FeedChange::Opened(Ok(mut feed)) => {
                if let FeedState::Opening { up: Some(up), .. } = self.feed {
                    feed.ready(&mut self.frames, up.stored, up.is_exact);
                }
                self.feed = FeedState::Open(feed);
                self.give_orders();
                Ok(())
            }
            FeedChange::Opened(Err(error)) if !is_passing(&error) => Err(error),
            FeedChange::Opened(Err(error)) => {
                let pause = self.feed_setbacks.not_opened(Instant::now(), self.patience);
                self.open_feed_again(pause, error)
            }
            FeedChange::Ended(why) => {
                if self.input.is_none() && self.is_running {
                    // Nobody needs it.
                    self.feed = FeedState::None;
                    return Ok(());
                }
                self.detail(format!("the input goes on in another session: {why}"));
                self.note_feed_progress();
                let error = input_not_taken(self.label(), self.feed_turn, self.feed_progress, &why);
                let pause = self.feed_setbacks.closed(Instant::now(), self.patience);
                self.open_feed_again(pause, error)
            }
        }
    }

    fn open_feed_again(&mut self, pause: Option<Duration>, error: Error) -> Result<()> {
        self.open_feed(pause.ok_or(error)?);
        Ok(())
    }

    /// What the session at hand has gained makes good for those that were lost before it.
    fn note_feed_progress(&mut self) {
        let has_lasted = matches!(&self.feed, FeedState::Open(feed) if feed.has_lasted());
        let progress = self.frames.progress();
        if has_lasted || progress != self.feed_progress {
            self.feed_setbacks.clear();
            self.feed_progress = progress;
        }
    }

    /// Sends the command by the terminal, if it did not come another way.
    pub(super) fn give_orders(&mut self) {
        let FeedState::Open(feed) = &self.feed else {
            return;
        };
        if !feed.is_ready() || self.is_running || self.is_launched {
            return;
        }
        let command = &self.order.command;
        feed.order(format!("put command {}\n", command.len()), Some(command));
        if let Some(script) = &self.order.script {
            feed.order(format!("put script {}\n", script.len()), Some(script));
        }
        feed.order(format!("run {}\n", self.order.settings()), None);
        self.has_given_orders = true;
    }

    pub(super) fn input_told(&mut self, words: &str) {
        let mut words = words.split(' ');
        let mut number = || words.next().and_then(|word| word.parse().ok());
        if let (Some(stored), Some(handed)) = (number(), number()) {
            self.frames.told(stored, handed);
        }
        if words.next() == Some("closed") {
            self.input = None;
        }
    }

    pub(super) fn take_input(&mut self, piece: Option<Input>) {
        match piece {
            Some(Input::Bytes(mut bytes)) => {
                // What is there already travels in the same frame: each costs the server processes.
                let mut is_end = false;
                while bytes.len() < PIECE_BYTES
                    && let Some(Ok(more)) = self.input.as_mut().map(mpsc::Receiver::try_recv)
                {
                    match more {
                        Input::Bytes(more) => bytes = [bytes, more].concat().into(),
                        Input::End => {
                            is_end = true;
                            break;
                        }
                    }
                }
                self.frames.push(bytes);
                if is_end {
                    self.frames.end();
                }
            }
            Some(Input::End) => self.frames.end(),
            // Dropped without an end: the command never reads one.
            None => self.input = None,
        }
    }
}

/// Every session that was to carry the input of a command to `label` was lost, the last one, the
/// `sessions`th of the run, for the reason `why`. `progress` is how many frames the server has, and
/// how many it has handed on.
fn input_not_taken(label: &str, sessions: u32, progress: (u64, u64), why: &str) -> Error {
    let lost = match progress {
        (0, 0) => format!(
            "{sessions} sessions were lost, one after another, before any of it came through"
        ),
        _ => "one session after another was lost, and no more of it came through".to_owned(),
    };
    Error::target(format!("the input does not reach the command on `{label}`"))
        .caused_by(lost)
        .caused_by(format!("of the last one: {why}"))
        .hint(hint!(
            "see what is wrong with sessions there: ops doctor {}",
            label
        ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_that_are_lost_before_the_input_are_counted() {
        let told = |progress| {
            let error = input_not_taken("web-1", 11, progress, "the session has ended");
            error
                .why()
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        let nothing = told((0, 0));
        assert_eq!(
            nothing[0],
            "11 sessions were lost, one after another, before any of it came through"
        );
        assert_eq!(nothing[1], "of the last one: the session has ended");
        let a_part = told((3, 2));
        assert_eq!(
            a_part[0],
            "one session after another was lost, and no more of it came through"
        );
    }
}
