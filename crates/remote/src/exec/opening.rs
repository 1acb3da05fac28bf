//! How the sessions of a run come about, the first one and those that go on.

use ops_ui::{Error, ErrorKind, Result};
use tokio::time::Instant;

use super::{
    Event,
    feed::Feed,
    line::{LineLoss, OutputRoute, ScriptOutput, ScriptSession},
    run::{FeedState, RunTask},
    scripts,
};
use crate::pipe::{self, DownPipe};

/// Sessions that may fail to start a command: each has come as far as the agent.
const STARTS: u32 = 3;

/// Whether what has failed may go well the next time.
pub(super) fn is_passing(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Unreachable | ErrorKind::Unexpected | ErrorKind::Timeout
    )
}

impl RunTask {
    /// The session that makes the folder; `None` where nobody waits for it any more.
    pub(super) async fn first_line(&mut self) -> Result<Option<ScriptSession>> {
        if self.way != OutputRoute::Windows
            && self.host.document.is_some()
            && !self.host.known.is_learned()
        {
            // Of a document whose output comes at the end nothing would come before.
            DownPipe::start(&self.host, "").await?.wait().await?;
        }
        if self.way == OutputRoute::Windows {
            let line = ScriptSession::open_windows(&self.host, &self.words).await?;
            self.pending
                .push_back(Event::Note(self.ends_with_session()));
            return Ok(Some(line));
        }
        self.host.known.forget_reached();
        let events = self.events.clone();
        let error = tokio::select! {
            line = self.begin() => match line {
                Ok(line) => return Ok(Some(line)),
                Err(error) => error,
            },
            () = events.closed() => return Ok(None),
        };
        // What was lost while it was being opened may have begun all the same.
        if is_passing(&error) && self.host.known.has_reached() {
            self.detail(format!("asking whether the command runs: {error}"));
            return self.replace_line(error.to_string()).await;
        }
        Err(error)
    }

    /// Opens a session that starts the command, if none before it has done so. Each does all of
    /// that, with the same name for the folder, and the server sees to it that the command is
    /// started once.
    async fn begin(&mut self) -> Result<ScriptSession> {
        self.is_launched = self.order.is_open();
        if self.way == OutputRoute::Terminal {
            self.is_launched = false;
            return self.bootstrap().await;
        }
        let (order, folder, turn) = (&self.order, &self.folder, self.turn);
        let begin = |linger| scripts::begin(order, folder, turn, linger);
        match ScriptSession::open(&self.host, begin).await {
            Ok(Some(line)) => {
                self.detail("the output comes by a session of its own");
                Ok(line.with_patience_of(turn))
            }
            Ok(None) => {
                self.way = OutputRoute::Terminal;
                self.detail(
                    "no separated output: everything goes by a terminal, a kilobyte a millisecond",
                );
                self.is_launched = false;
                self.bootstrap().await
            }
            // Among other things this is what the service says of a parameter that is too long.
            Err(error)
                if matches!(error.kind(), ErrorKind::Usage | ErrorKind::Unexpected)
                    && !self.host.known.has_reached() =>
            {
                self.detail(format!("going by a terminal: {error}"));
                self.is_launched = false;
                match self.bootstrap().await {
                    Err(lost) if is_passing(&lost) && self.host.known.has_reached() => Err(lost),
                    // The first error is the one that tells what is wrong.
                    opened => opened.map_err(|_| error),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Sends the engine by a terminal, for which nothing is too long.
    async fn bootstrap(&mut self) -> Result<ScriptSession> {
        let is_way = self.way == OutputRoute::Terminal;
        let (script, engine) = scripts::bootstrap(&self.order, &self.folder, self.turn, is_way);
        let mut line = ScriptSession::open_terminal(&self.host, &script).await?;
        let said = match line.next().await {
            Ok(said) => said,
            Err(LineLoss::Cut(why)) => return Err(self.cut_off(&why)),
            Err(LineLoss::Failed(error)) => return Err(error),
        };
        let ScriptOutput::Message(text) = said else {
            return Err(line.not_run());
        };
        match text.strip_prefix("folder ") {
            Some(path) => self.folder.told(path)?,
            None if text == "gone" => return Err(self.gone()),
            None => return Err(line.not_run().hint("make room on the server, in /tmp")),
        }
        self.feed_turn = self.turn;
        let sender = line.sender();
        sender.send(engine).await.map_err(|_| line.not_run())?;
        if is_way {
            self.feed = FeedState::Open(Feed::over(sender, None, None));
            return Ok(line);
        }
        let (session, ending) = line.into_parts();
        self.feed = FeedState::Open(Feed::over(sender, Some(session.events), ending));
        self.open_attached().await
    }

    /// A session that attaches to the run.
    async fn open_attached(&mut self) -> Result<ScriptSession> {
        let (folder, turn, out, err) = (&self.folder, self.turn, self.out, self.err);
        if self.way == OutputRoute::Terminal {
            let script = scripts::enter(folder, turn, Some((&out, &err)));
            let line = ScriptSession::open_terminal(&self.host, &script).await?;
            self.feed_turn = turn;
            self.feed = FeedState::Open(Feed::over(line.sender(), None, None));
            return Ok(line);
        }
        let attach = |linger| scripts::attach(folder, turn, &out, &err, linger);
        let line = ScriptSession::open(&self.host, attach).await?;
        line.ok_or_else(|| pipe::no_live_output(&self.host))
    }

    /// A session in the place of one that was lost, for the reason `why`; `None` where nobody waits
    /// for it any more.
    pub(super) async fn replace_line(&mut self, mut why: String) -> Result<Option<ScriptSession>> {
        let mut pause = self.setbacks.closed(Instant::now(), self.patience);
        loop {
            let Some(wait) = pause else {
                let error = self.not_back(&why);
                self.stop(None).await;
                return Err(error);
            };
            if let Some(losses) = self.setbacks.losses_to_tell(Instant::now()) {
                self.host.cx.output().note(self.taking_up(&why, losses));
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.events.closed() => return Ok(None),
                unanswered = self.controls.unanswered() => return Err(self.unanswered(unanswered)),
            }
            // What starts the command is sent once more, unless it is known to be there.
            let is_start = !self.folder.is_told() || !self.is_ordered();
            if is_start && self.turn >= STARTS {
                let error = self.never_began(&why);
                self.stop(None).await;
                return Err(error);
            }
            self.turn += 1;
            let events = self.events.clone();
            // Apart from the rest, which the opening needs.
            let mut controls = std::mem::take(&mut self.controls);
            let open = async {
                if is_start {
                    self.begin().await
                } else {
                    self.open_attached().await
                }
            };
            let opened = tokio::select! {
                opened = open => Ok(opened),
                () = events.closed() => return Ok(None),
                unanswered = controls.unanswered() => Err(unanswered),
            };
            self.controls = controls;
            let opened = opened.map_err(|unanswered| self.unanswered(unanswered))?;
            let error = match opened {
                Ok(line) => return Ok(Some(line)),
                Err(error) => error,
            };
            if !is_passing(&error) {
                return Err(self.not_back_for(&error));
            }
            self.detail(format!("not back yet, trying on: {error}"));
            why = error.to_string();
            pause = self.setbacks.not_opened(Instant::now(), self.patience);
        }
    }
}
