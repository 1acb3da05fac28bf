//! A command on many servers: the engine behind the fleet, the views before it.

use std::{
    collections::BTreeMap,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use ops_core::Context;
use ops_remote::exec::{self, Event, Request};
use ops_ui::{Error, ErrorKind, Exit, Output, Result, confirm::Preset};
use serde_json::Value;

use crate::{
    capture::Stream,
    fleet::{self, Audience, HostEvent, Runner, Teller},
    hosts::Host,
    input::{Feeding, InputHub, ReadFailure},
    outcome::{Ending, Outcome},
    progress::{Progress, summary, tell_failures},
    rollout::RolloutPlan,
    show::{Document, Fold, Folder, Form, Grouped, Live, OutputTerminals, Sink, View},
    signals::Relay,
    single::{PIPE_CLOSED, unknown_end},
};

/// So many servers on a terminal are shown folded.
const FOLDED_ABOVE: usize = 8;
/// To more servers no standard input is sent: each piece of it goes to every one of them.
const MOST_FED: usize = 50;

/// How the output is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum OutputMode {
    /// Folded on a terminal for more than [`FOLDED_ABOVE`] servers, else line by line.
    #[default]
    Usual,
    Lines,
    Grouped,
    Folded,
    Document(Form),
    Folder(PathBuf),
}

/// What is told at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SummaryScope {
    /// A line for all, and those where it failed.
    All,
    /// Those where it failed, unless it was interrupted: that is how a follower ends.
    Failures,
}

/// What is asked for beside the command.
#[derive(Clone, Debug)]
pub(crate) struct RunOptions {
    pub(crate) plan: RolloutPlan,
    pub(crate) parallel: usize,
    /// `--parallel` was typed, or the profile names a number.
    pub(crate) is_parallel_asked: bool,
    pub(crate) shown: OutputMode,
    pub(crate) pause: bool,
    pub(crate) failed_to: Option<PathBuf>,
    pub(crate) pass_status: bool,
    pub(crate) told: SummaryScope,
}

/// Runs the command on all of them.
///
/// # Errors
/// The output cannot be written; an input that cannot be given to all; an interruption.
pub(crate) async fn run(
    cx: &Context,
    hosts: Vec<Host>,
    request: Request,
    mut manner: RunOptions,
) -> Result<Exit> {
    if request.stdin {
        check_input(hosts.len(), &mut manner)?;
    }
    let _handler = cx.interrupt().handle();
    let relay = Arc::new(Relay::listen()?);
    let failure = ReadFailure::default();
    let hub = request.stdin.then(|| {
        let (kept, relay) = (failure.clone(), relay.clone());
        InputHub::start(hosts.len(), move |error| {
            kept.keep(error);
            relay.terminate_all();
        })
    });
    let runner = Arc::new(Engine {
        cx: cx.clone(),
        hosts: hosts.clone(),
        request,
        relay,
        hub,
    });
    run_fleet(cx, hosts, runner, manner, &failure).await
}

/// Has `runner` do its work on all of them, and tells how it went; `failure` is that of an input.
/// Whoever calls holds a handler of the interrupt.
///
/// # Errors
/// As [`run`].
pub(crate) async fn run_fleet<R: Runner>(
    cx: &Context,
    hosts: Vec<Host>,
    runner: Arc<R>,
    manner: RunOptions,
    failure: &ReadFailure,
) -> Result<Exit> {
    check_failed_to(manner.failed_to.as_deref())?;
    let output = cx.output().clone();
    let begin = Instant::now();
    let stop = async {
        cx.interrupt().wait().await;
    };
    let mut hall = ScreenAudience {
        output: output.clone(),
        view: view(&output, &hosts, &manner.shown)?,
        progress: Progress::new(&output, hosts.len()),
        labels: hosts.iter().map(|host| host.label.clone()).collect(),
        plan: manner.plan.clone(),
        pause: manner.pause,
    };
    let (plan, parallel) = (&manner.plan, manner.parallel.max(1));
    let ended = Box::pin(fleet::run(
        runner,
        hosts.len(),
        plan,
        parallel,
        stop,
        &mut hall,
    ))
    .await;
    hall.progress.clear();
    let finished = match ended {
        Ok(endings) => blocking(|| hall.view.finish(&mut ToOutput(&output))).map(|()| endings),
        Err(error) => Err(error),
    };
    let endings = match finished {
        Ok(endings) => endings,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(PIPE_CLOSED),
        Err(error) => return Err(error),
    };
    let is_interrupted = cx.interrupt().requested().is_some();
    if manner.told == SummaryScope::All {
        output.note(summary(&endings, begin.elapsed()));
    }
    let is_expected = is_interrupted && manner.told == SummaryScope::Failures;
    if !is_expected {
        let rows = hosts.iter().zip(&endings);
        let rows = rows.map(|(host, ending)| (host.label.as_str(), ending));
        tell_failures(&output, hall.view.tells_endings(), rows);
    }
    if let Some(path) = &manner.failed_to {
        write_failed(path, &hosts, &endings)?;
    }
    failure.check()?;
    if is_interrupted {
        return Err(cx.interrupt().wait().await);
    }
    Ok(exit_of(&endings, manner.pass_status))
}

/// 0 only if the command succeeded everywhere.
pub(crate) fn exit_of(endings: &[Ending], pass_status: bool) -> Exit {
    if endings.iter().all(|ending| ending.outcome.is_success()) {
        return Exit::SUCCESS;
    }
    if !pass_status {
        return Exit::PARTIAL;
    }
    let exits = endings.iter().filter_map(|ending| ending.outcome.exit());
    exits
        .max_by_key(|exit| exit.code())
        .filter(|exit| *exit != Exit::SUCCESS)
        .unwrap_or(Exit::PARTIAL)
}

/// Every server gets all of the input at the pace of the slowest, so that all have to run at the
/// same time.
fn check_input(servers: usize, manner: &mut RunOptions) -> Result<()> {
    if servers > MOST_FED {
        return Err(
            Error::usage(format!("standard input is not sent to {servers} servers"))
                .caused_by(format!(
                    "it goes to {MOST_FED} at most: each gets all of it"
                ))
                .hint("without input: -n. A file for all of them: ops cp FILE 'TARGET:'")
                .hint("a script for all of them: --script FILE"),
        );
    }
    let all_at_once =
        manner.plan.batches.len() <= 1 && (servers <= manner.parallel || !manner.is_parallel_asked);
    if !all_at_once {
        return Err(Error::usage(
            "standard input goes to all servers at the same time, and here some start later",
        )
        .caused_by("--batch, --canary or --parallel lets them wait for others")
        .hint("without input: -n; or leave these options out"));
    }
    manner.parallel = manner.parallel.max(servers);
    Ok(())
}

pub(crate) fn view(output: &Output, hosts: &[Host], shown: &OutputMode) -> Result<Box<dyn View>> {
    let look = OutputTerminals {
        stdout_is_terminal: output.stdout_is_terminal(),
        stderr_is_terminal: output.stderr_is_terminal(),
        colors_stdout: output.colored(),
        colors_stderr: output.colors_stderr(),
        stdout_columns: output.columns(),
        stderr_columns: output.stderr_columns(),
    };
    let names = || hosts.iter().map(|host| host.label.clone()).collect();
    let is_folded = output.stdout_is_terminal() && hosts.len() > FOLDED_ABOVE;
    Ok(match shown {
        OutputMode::Usual if is_folded => Box::new(Fold::new(names(), look)),
        OutputMode::Folded => Box::new(Fold::new(names(), look)),
        OutputMode::Usual | OutputMode::Lines => Box::new(Live::new(names(), look)),
        OutputMode::Grouped => Box::new(Grouped::new(names(), look)),
        OutputMode::Document(form) => Box::new(Document::new(hosts.to_vec(), *form)),
        OutputMode::Folder(path) => Box::new(Folder::create(path.clone(), hosts.to_vec())?),
    })
}

/// Writes the servers on which it did not succeed, a target on each line.
pub(crate) fn write_failed(path: &Path, hosts: &[Host], endings: &[Ending]) -> Result<()> {
    let targets: BTreeMap<usize, String> = hosts
        .iter()
        .zip(endings)
        .enumerate()
        .filter(|(_, (_, ending))| !ending.outcome.is_success())
        .map(|(index, (host, _))| (index, host.target()))
        .collect();
    let text: String = targets
        .values()
        .map(|target| format!("{target}\n"))
        .collect();
    std::fs::File::create(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| unwritten_list(path, error))
}

/// Checks that the file of `--failed-to` can be written, before anything is started: at the end it
/// would be too late to name another one. What is in it stays until then.
///
/// # Errors
/// It cannot be written.
pub(crate) fn check_failed_to(path: Option<&Path>) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .map(drop)
        .map_err(|error| unwritten_list(path, error))
}

fn unwritten_list(path: &Path, error: std::io::Error) -> Error {
    Error::unexpected(format!("`{}` cannot be written", path.display()))
        .caused_by(error)
        .hint("name another file: --failed-to FILE")
}

/// Runs `work`, which may wait for a slow reader, without holding up the commands.
pub(crate) fn blocking<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

/// Writes what views show. A reader that is slow holds up no command: see [`blocking`].
pub(crate) struct ToOutput<'a>(pub(crate) &'a Output);

impl Sink for ToOutput<'_> {
    fn lines(&mut self, stream: Stream, bytes: &[u8]) -> Result<()> {
        blocking(|| match stream {
            Stream::Stdout => self.0.pass_stdout_lines(bytes),
            Stream::Stderr => {
                self.0.pass_stderr_lines(bytes);
                Ok(())
            }
        })
    }

    fn document(&mut self, form: Form, value: &Value) -> Result<()> {
        blocking(|| match form {
            Form::Json => self.0.json(value),
            Form::Yaml => self.0.yaml(value),
            Form::Jsonl => self.0.json_line(value),
        })
    }
}

/// Shows what is heard, and asks between batches.
struct ScreenAudience {
    output: Output,
    view: Box<dyn View>,
    progress: Progress,
    labels: Vec<String>,
    plan: RolloutPlan,
    pause: bool,
}

impl Audience for ScreenAudience {
    fn hear(&mut self, host: usize, heard: HostEvent) -> Result<()> {
        match heard {
            HostEvent::Starting => self.progress.change(|tally| tally.starting(host)),
            HostEvent::Running => self.progress.change(|tally| tally.running(host)),
            HostEvent::Note(text) => {
                let label = self.labels[host].clone();
                self.output
                    .note(ops_ui::Text::from(format!("{label}: ")).then(text));
            }
            HostEvent::Piece(stream, bytes) => {
                let (view, output) = (&mut self.view, &self.output);
                return blocking(|| view.hear(host, stream, &bytes, &mut ToOutput(output)));
            }
            HostEvent::Ended(ending) => {
                self.progress
                    .change(|tally| tally.ended(host, &ending.outcome));
                let (view, output) = (&mut self.view, &self.output);
                return blocking(|| view.end(host, &ending, &mut ToOutput(output)));
            }
        }
        Ok(())
    }

    async fn may_start(&mut self, batch: usize) -> Result<bool> {
        if !self.pause {
            return Ok(true);
        }
        self.progress.clear();
        let question = self.plan.question_before(batch);
        let answer = self.output.confirm_anew(question, Preset::No).await?;
        Ok(answer.is_yes())
    }
}

/// Runs the command by sessions.
struct Engine {
    cx: Context,
    hosts: Vec<Host>,
    /// Without the user, which is the host's.
    request: Request,
    relay: Arc<Relay>,
    hub: Option<InputHub>,
}

impl Runner for Engine {
    async fn run(&self, host: usize, teller: Teller) -> Outcome {
        // Whatever comes of it: the others must not wait for this one's input.
        let queue = self.hub.as_ref().and_then(|hub| hub.take(host));
        let Host { instance, user, .. } = &self.hosts[host];
        let mut request = self.request.clone();
        request.user.clone_from(user);
        let started = tokio::select! {
            run = Box::pin(exec::start(&self.cx, instance, request)) => run,
            _ = self.cx.interrupt().wait() => {
                return Outcome::NotStarted("interrupted".to_owned());
            }
        };
        let mut run = match started {
            Ok(run) => run,
            Err(error) => return Outcome::Failed(error),
        };
        self.relay.add(run.signals());
        let _feeding = match (queue, run.take_stdin()) {
            (Some(queue), Some(stdin)) => Some(Feeding::start(queue, stdin)),
            _ => None,
        };
        loop {
            let heard = match run.next().await {
                Ok(Some(Event::Started)) => HostEvent::Running,
                Ok(Some(Event::Stdout(bytes))) => HostEvent::Piece(Stream::Stdout, bytes),
                Ok(Some(Event::Stderr(bytes))) => HostEvent::Piece(Stream::Stderr, bytes),
                Ok(Some(Event::Note(text))) => HostEvent::Note(text),
                Ok(Some(Event::Detached { pid, output })) => {
                    let line = format!("{pid} {output}\n");
                    HostEvent::Piece(Stream::Stdout, line.into())
                }
                Ok(Some(Event::Ended(status))) => return Outcome::Ended(status),
                Ok(None) => return Outcome::Failed(unknown_end()),
                Err(error) => return Outcome::Failed(error),
            };
            teller.tell(heard).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use ops_profile::Instance;
    use ops_remote::exec::Status;

    use super::*;
    use crate::rollout::RolloutOptions;

    fn ended(code: u8) -> Ending {
        Ending {
            outcome: Outcome::Ended(Status::Code(code)),
            ..Ending::not_started("")
        }
    }

    #[test]
    fn the_status_is_0_only_if_all_are() {
        let failed = Ending {
            outcome: Outcome::Failed(Error::target("gone")),
            ..Ending::not_started("")
        };
        let of = |endings: &[Ending], pass| exit_of(endings, pass).code();
        assert_eq!(of(&[ended(0), ended(0)], false), 0);
        assert_eq!(of(&[ended(0), ended(3)], false), 8);
        assert_eq!(of(&[ended(0), ended(3), ended(2)], true), 3);
        assert_eq!(of(&[ended(0), failed], true), 255);
        assert_eq!(of(&[ended(0), Ending::not_started("x")], true), 8);
    }

    #[test]
    fn input_goes_to_all_at_once_or_to_none() {
        let manner = |servers, wishes, parallel, is_parallel_asked| RunOptions {
            plan: RolloutPlan::new(servers, wishes),
            parallel,
            is_parallel_asked,
            shown: OutputMode::Usual,
            pause: false,
            failed_to: None,
            pass_status: false,
            told: SummaryScope::All,
        };
        let usual = RolloutOptions::default();
        let mut many = manner(30, usual, 20, false);
        assert!(check_input(30, &mut many).is_ok());
        assert_eq!(many.parallel, 30);
        assert!(check_input(30, &mut manner(30, usual, 20, true)).is_err());
        assert!(check_input(51, &mut manner(51, usual, 99, true)).is_err());
        let canary = RolloutOptions {
            canary: Some(1),
            ..usual
        };
        assert!(check_input(5, &mut manner(5, canary, 20, false)).is_err());
    }

    #[test]
    fn the_failed_ones_are_written_as_targets() {
        let host = |id: &str, name: &str| Host {
            instance: Instance {
                name: Some(name.to_owned()),
                ..Instance::bare(id, "eu-west-1")
            },
            user: None,
            label: name.to_owned(),
        };
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("failed");
        let hosts = [
            host("i-00000001", "a"),
            host("i-00000002", "b c"),
            host("i-00000003", "d"),
        ];
        let endings = [ended(1), ended(2), ended(0)];
        write_failed(&path, &hosts, &endings).expect("written");
        assert_eq!(
            std::fs::read_to_string(&path).expect("a file"),
            "a\ni-00000002\n"
        );
    }
}
