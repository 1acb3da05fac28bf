//! Logs of one server, across the runs that read them.
//!
//! The engine of `ops exec` carries a run over lost connections for as long as the server keeps it.
//! Where the run itself is gone (the server was restarted, its processes were ended, the client was
//! away for longer) another one is started, which goes on behind the last piece that came: by
//! inode and offset in a file, by cursor in the journal.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use ops_core::Context;
use ops_remote::exec::{self, Command, Event, Request, Run, Status};
use ops_ui::{Error, ErrorKind, Hint, Result, hint};
use tokio::time::Instant;

use super::{
    file_frames::{FileFrames, Garbled, LogFrame, LogTrouble},
    journal_lines::JournalLines,
    script::LogRequest,
};
use crate::{hosts::Host, signals::Relay, single::unknown_end};

/// A server that cannot be reached for so long is given up. A laptop that sleeps is not away: its
/// clock stands still.
const AWAY: Duration = Duration::from_secs(3600);
/// First and longest pause between two attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(20));
/// So many runs may end, one after another, without having sent anything.
const MOST_IDLE_RUNS: u32 = 8;

/// What reads the script's lines.
enum LogReader {
    Files(FileFrames),
    Journal(JournalLines),
}

/// Why another run is needed.
struct LostRun {
    why: Error,
    /// No run could be had at all.
    is_away: bool,
}

/// Reads logs of one server.
pub(crate) struct LogFollower {
    cx: Context,
    host: Host,
    /// Everything but the command.
    run_request: Request,
    log_request: LogRequest,
    relay: Arc<Relay>,
    reader: LogReader,
    run: Option<Run>,
    pending: VecDeque<Event>,
    troubles: Vec<LogTrouble>,
    /// The script has sent all that it was asked for.
    is_complete: bool,
    /// A run has begun, so that a loss is one that may be made good.
    has_begun: bool,
    idle_runs: u32,
    away_since: Option<Instant>,
    pause: Duration,
}

impl LogFollower {
    /// Nothing is started before the first [`Self::next`]. `run_request` says everything but the
    /// command; signals that `relay` hears go to each run.
    pub(crate) fn new(
        cx: &Context,
        host: &Host,
        run_request: Request,
        log_request: LogRequest,
        relay: Arc<Relay>,
    ) -> Self {
        let reader = if log_request.sources.units.is_empty() {
            LogReader::Files(FileFrames::default())
        } else {
            LogReader::Journal(JournalLines::new(log_request.lines.is_some()))
        };
        Self {
            cx: cx.clone(),
            host: host.clone(),
            run_request,
            log_request,
            relay,
            reader,
            run: None,
            pending: VecDeque::new(),
            troubles: Vec::new(),
            is_complete: false,
            has_begun: false,
            idle_runs: 0,
            away_since: None,
            pause: PAUSES.0,
        }
    }

    /// What happens next; `None` after [`Event::Ended`]. May be cancelled.
    ///
    /// # Errors
    /// Something could not be read, or the server is given up.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(Some(event));
            }
            let lost = match self.step().await {
                Ok(Some(event)) => return Ok(Some(event)),
                Ok(None) => continue,
                Err(lost) => lost,
            };
            self.run = None;
            self.go_on_after(lost).await?;
        }
    }

    /// Ends what runs on the server: nobody reads the lines any more.
    pub(crate) fn stdout_closed(&self) {
        if let Some(run) = &self.run {
            run.stdout_closed();
        }
    }

    /// One event of the run, or a run to begin with.
    async fn step(&mut self) -> Result<Option<Event>, LostRun> {
        let Some(run) = &mut self.run else {
            let run = self
                .start()
                .await
                .map_err(|why| LostRun { why, is_away: true })?;
            self.run = Some(run);
            return Ok(None);
        };
        let event = run.next().await;
        let lost = |why| LostRun {
            why,
            is_away: false,
        };
        match event {
            Ok(Some(Event::Stdout(bytes))) => {
                let mut frames = Vec::new();
                let read = match &mut self.reader {
                    LogReader::Files(files) => files.push(&bytes, &mut frames),
                    LogReader::Journal(journal) => journal.push(&bytes, &mut frames),
                };
                if !frames.is_empty() {
                    self.idle_runs = 0;
                    self.pause = PAUSES.0;
                }
                self.take(frames);
                match read {
                    Ok(()) => Ok(None),
                    Err(Garbled) => Err(lost(self.garbled())),
                }
            }
            Ok(Some(Event::Started)) if self.has_begun => Ok(None),
            Ok(Some(Event::Started)) => {
                self.has_begun = true;
                Ok(Some(Event::Started))
            }
            Ok(Some(Event::Ended(status))) => self.ended(status).map_err(lost),
            Ok(Some(event)) => Ok(Some(event)),
            Ok(None) => Err(lost(unknown_end())),
            Err(error) => Err(lost(error)),
        }
    }

    async fn start(&mut self) -> Result<Run> {
        let script = match &mut self.reader {
            LogReader::Files(files) => {
                files.begin_run();
                let is_resumed = files.is_begun();
                self.log_request.files_script(files.places(), is_resumed)
            }
            LogReader::Journal(journal) => {
                journal.begin_run();
                self.log_request.journal_script(journal.position())
            }
        };
        let mut request = self.run_request.clone();
        request.command = Command::Line(script.into_bytes());
        request.user.clone_from(&self.host.user);
        let started = Box::pin(exec::start(&self.cx, &self.host.instance, request));
        let run = tokio::select! {
            run = started => run?,
            // Nothing runs there yet that could be told.
            error = self.cx.interrupt().wait() => return Err(error),
        };
        self.relay.add(run.signals());
        self.away_since = None;
        Ok(run)
    }

    fn take(&mut self, frames: Vec<LogFrame>) {
        for frame in frames {
            match frame {
                LogFrame::Bytes(bytes) => self.pending.push_back(Event::Stdout(bytes.into())),
                LogFrame::Note(text) => self.pending.push_back(Event::Note(text.into())),
                LogFrame::End => self.is_complete = true,
                LogFrame::Trouble(trouble) => self.take_trouble(trouble),
            }
        }
    }

    /// What cannot be read now may be there later, where it is followed; each run tells it again.
    fn take_trouble(&mut self, trouble: LogTrouble) {
        if self.troubles.contains(&trouble) {
            return;
        }
        if self.log_request.follow && trouble.may_pass() {
            let text = format!("{}; it is read as soon as it can be", trouble.words());
            self.pending.push_back(Event::Note(text.into()));
        }
        self.troubles.push(trouble);
    }

    /// The script has ended.
    fn ended(&mut self, status: Status) -> Result<Option<Event>> {
        let is_interrupted = self.cx.interrupt().requested().is_some();
        let failure = self.failure();
        if is_interrupted {
            return Ok(Some(Event::Ended(status)));
        }
        if let Some(error) = failure {
            return Err(error);
        }
        if self.is_complete {
            return Ok(Some(Event::Ended(Status::Code(0))));
        }
        // Whoever shuts a server down ends its processes before its sessions.
        Err(Error::target(format!(
            "the reader of the logs on `{}` was ended there",
            self.host.instance.label()
        ))
        .caused_by(format!("exit status {}", status.as_exit_code())))
    }

    /// What no other run would do better.
    fn failure(&self) -> Option<Error> {
        let follows = self.log_request.follow;
        let mut lasting = self
            .troubles
            .iter()
            .filter(|trouble| !(follows && trouble.may_pass()));
        let first = lasting.next()?;
        let label = self.host.instance.label();
        let target = self.host.instance.plain_name().unwrap_or(label);
        let mut error = self.error_of(first, label, target);
        for other in lasting {
            error = error.caused_by(other.words());
        }
        let is_unreadable = self
            .troubles
            .iter()
            .any(|trouble| matches!(trouble, LogTrouble::Unreadable(_)));
        if is_unreadable && self.host.user.as_deref() != Some("root") {
            let mut words = vec!["ops", "logs", "--user", "root", target];
            words.extend(self.log_request.sources.files.iter().map(String::as_str));
            error = error.hint(hint!("read it as root: {}", Hint::command(words)));
        }
        Some(error)
    }

    /// The error for a trouble that lasts, with a command that looks at the cause.
    fn error_of(&self, trouble: &LogTrouble, label: &str, target: &str) -> Error {
        let units = &self.log_request.sources.units;
        match trouble {
            // With --quiet, without which its notes would be among the lines, journalctl says
            // nothing of a server that keeps no journal.
            LogTrouble::Journal(_) => Error::new(
                ErrorKind::Unexpected,
                format!(
                    "no journal of {} can be read on `{label}`",
                    units
                        .iter()
                        .map(|unit| format!("`{unit}`"))
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
            )
            .caused_by(trouble.words())
            .hint(hint!(
                "see whether the unit is there, and who may read: {}",
                Hint::command(
                    ["ops", "exec", target, "--", "systemctl", "status"]
                        .into_iter()
                        .chain(units.iter().map(String::as_str))
                )
            )),
            LogTrouble::Missing(path) => trouble.error(label).hint(hint!(
                "see what is there: {}",
                Hint::command(["ops", "exec", target, "--", "ls", "-lt", folder_of(path)])
            )),
            _ => trouble.error(label),
        }
    }

    /// Waits until another run may be tried.
    ///
    /// # Errors
    /// There is no use in another one.
    async fn go_on_after(&mut self, lost: LostRun) -> Result<()> {
        let LostRun { why, is_away } = lost;
        let is_passing = matches!(
            why.kind(),
            ErrorKind::Unreachable | ErrorKind::Unexpected | ErrorKind::Timeout
        );
        let has_failed = self.failure().is_some();
        if !self.has_begun || !is_passing || has_failed {
            return Err(why);
        }
        if is_away {
            let since = *self.away_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= AWAY {
                return Err(why);
            }
        } else {
            self.idle_runs += 1;
            if self.idle_runs > MOST_IDLE_RUNS {
                return Err(why);
            }
        }
        let label = self.host.label.clone();
        self.cx
            .output()
            .detail(format!("{label}: going on from the last line: {why}"));
        let pause = self.pause;
        self.pause = (self.pause * 2).min(PAUSES.1);
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            error = self.cx.interrupt().wait() => Err(error),
        }
    }

    fn garbled(&self) -> Error {
        Error::target(format!(
            "`{}` did not read its logs as asked",
            self.host.instance.label()
        ))
    }
}

/// The folder in which a path, or a glob of paths, is looked for: what is in front of the part
/// with the first wildcard.
fn folder_of(path: &str) -> &str {
    let plain = path.find(['*', '?', '[']).map_or(path, |at| &path[..at]);
    match plain.rfind('/') {
        Some(0) => "/",
        Some(at) => &plain[..at],
        None => ".",
    }
}

impl LogTrouble {
    /// Whether it may be otherwise a moment later.
    fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Missing(_) | Self::Unreadable(_) | Self::Folder(_) | Self::Special(_)
        )
    }

    fn words(&self) -> String {
        match self {
            Self::Missing(path) => format!("`{path}` is not there"),
            Self::Unreadable(path) => format!("`{path}` may not be read by this user"),
            Self::Folder(path) => format!("`{path}` is a folder"),
            Self::Special(path) => format!("`{path}` is no regular file"),
            Self::Pattern => "--grep is no extended regular expression".to_owned(),
            Self::Many => "these are more files than can be read at once".to_owned(),
            Self::NoJournal => "there is no journalctl".to_owned(),
            Self::Journal(status) => format!("journalctl ended with {status}"),
        }
    }

    fn error(&self, label: &str) -> Error {
        let kind = match self {
            Self::Pattern => ErrorKind::Usage,
            _ => ErrorKind::Unexpected,
        };
        match self {
            Self::Pattern | Self::Many => Error::new(kind, self.words()),
            _ => Error::new(kind, format!("{} on `{label}`", self.words())),
        }
        .hinted_with(match self {
            Self::Folder(path) => Some(hint!("name the files in it: {}", format!("{path}/*.log"))),
            Self::NoJournal => Some("it has no systemd: name a file in place of --unit".into()),
            Self::Many => Some("name fewer of them: 100 at most".into()),
            _ => None,
        })
    }
}
