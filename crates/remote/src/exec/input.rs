//! The input of a run on its way into the session that takes it.

use ops_ui::{Error, Result};
use tokio::sync::{mpsc, oneshot};

use super::{
    Input, PIECE_BYTES,
    feed::Feed,
    run::{FeedChange, FeedState, InputReady, RunTask},
};

/// Sessions for the input that may end one after another without any progress.
const FEED_TRIES: u32 = 4;

impl RunTask {
    pub(super) fn open_feed(&mut self) {
        let Some(folder) = self.folder.clone() else {
            return;
        };
        self.feed_turn += 1;
        let (heard, hears) = oneshot::channel();
        let heard_of = async {
            if hears.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let opening = Feed::open(self.host.clone(), folder, self.feed_turn, heard_of);
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
            FeedChange::Opened(Err(error)) => self.feed_failed(error),
            FeedChange::Ended(why) => {
                if self.input.is_none() && self.is_running {
                    // Nobody needs it.
                    self.feed = FeedState::None;
                    return Ok(());
                }
                self.detail(format!("the input goes on in another session: {why}"));
                let error = Error::target(format!("`{}` takes no input", self.label()));
                self.feed_failed(error.caused_by(why))
            }
        }
    }

    /// Tries again, unless that has come to nothing several times.
    pub(super) fn feed_failed(&mut self, error: Error) -> Result<()> {
        self.feed_tries += 1;
        if self.feed_tries >= FEED_TRIES {
            return Err(error);
        }
        self.open_feed();
        Ok(())
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
    }

    pub(super) fn input_told(&mut self, words: &str) {
        let mut words = words.split(' ');
        let mut number = || words.next().and_then(|word| word.parse().ok());
        if let (Some(stored), Some(handed)) = (number(), number()) {
            self.frames.told(stored, handed);
            self.feed_tries = 0;
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
