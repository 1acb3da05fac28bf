//! How the sessions of a run come about, the first one and those that go on.

use std::time::Duration;

use ops_ui::{ErrorKind, Result};
use tokio::time::Instant;

use super::{
    feed::Feed,
    line::{LineLoss, OutputRoute, ScriptOutput, ScriptSession},
    run::{FeedState, RunTask},
    scripts,
};
use crate::pipe::{self, DownPipe};

/// First and longest pause between attempts to attach again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

impl RunTask {
    /// The session that makes the folder; `None` where nobody waits for it any more.
    pub(super) async fn first_line(&mut self) -> Result<Option<ScriptSession>> {
        if self.host.document.is_some() && !self.host.known.is_learned() {
            // Of a document whose output comes at the end nothing would come before.
            DownPipe::start(&self.host, "").await?.wait().await?;
        }
        let events = self.events.clone();
        tokio::select! {
            line = self.begin() => line.map(Some),
            () = events.closed() => Ok(None),
        }
    }

    pub(super) async fn begin(&mut self) -> Result<ScriptSession> {
        self.is_launched = self.order.is_open();
        let order = &self.order;
        match ScriptSession::open(&self.host, |linger| scripts::begin(order, linger)).await {
            Ok(Some(line)) => {
                self.detail("the output comes by a session of its own");
                Ok(line)
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
            Err(error) if matches!(error.kind(), ErrorKind::Usage | ErrorKind::Unexpected) => {
                self.detail(format!("going by a terminal: {error}"));
                self.is_launched = false;
                // The first error is the one that tells what is wrong.
                self.bootstrap().await.map_err(|_| error)
            }
            Err(error) => Err(error),
        }
    }

    /// Sends the engine by a terminal, for which nothing is too long.
    pub(super) async fn bootstrap(&mut self) -> Result<ScriptSession> {
        let is_way = self.way == OutputRoute::Terminal;
        let (script, engine) = scripts::bootstrap(is_way);
        let mut line = ScriptSession::open_terminal(&self.host, &script).await?;
        let folder = match line.next().await {
            Ok(ScriptOutput::Message(text)) => text.strip_prefix("folder ").map(str::to_owned),
            Ok(_) | Err(LineLoss::Cut(_)) => None,
            Err(LineLoss::Failed(error)) => return Err(error),
        };
        let Some(folder) = folder else {
            return Err(line.not_run().hint("make room on the server, in /tmp"));
        };
        self.folder = Some(pipe::folder(&folder)?.to_owned());
        self.feed_turn = 1;
        let sender = line.sender();
        sender.send(engine).await.map_err(|_| line.not_run())?;
        if is_way {
            self.feed = FeedState::Open(Feed::over(sender, None, None));
            return Ok(line);
        }
        let (session, ending) = line.into_parts();
        self.feed = FeedState::Open(Feed::over(sender, Some(session.events), ending));
        self.open_attached(&folder).await
    }

    /// A session that attaches to the run in `folder`.
    pub(super) async fn open_attached(&mut self, folder: &str) -> Result<ScriptSession> {
        let (turn, out, err) = (self.turn, self.out, self.err);
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

    /// Another session for a run that has lost one; `None` where nobody waits for it any more.
    pub(super) async fn attach(&mut self) -> Result<Option<ScriptSession>> {
        let lost = Instant::now();
        let mut pause = PAUSES.0;
        let Some(folder) = self.folder.clone() else {
            return Ok(None);
        };
        loop {
            self.turn += 1;
            let events = self.events.clone();
            let opened = tokio::select! {
                opened = self.open_attached(&folder) => opened,
                () = events.closed() => return Ok(None),
            };
            let error = match opened {
                Ok(line) => return Ok(Some(line)),
                Err(error) => error,
            };
            let is_passing = matches!(
                error.kind(),
                ErrorKind::Unreachable | ErrorKind::Unexpected | ErrorKind::Timeout
            );
            if !is_passing || lost.elapsed() >= self.patience {
                return Err(self.not_back(&error));
            }
            self.detail(format!("not back yet, trying on: {error}"));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.events.closed() => return Ok(None),
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}
