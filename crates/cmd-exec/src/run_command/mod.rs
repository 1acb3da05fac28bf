//! Commands on many servers by Run Command: the service fans out, keeps to the limits and goes on
//! when nobody looks.

mod parts;
pub(crate) mod screen;
mod script;
mod streams;
mod verdict;
pub(crate) mod watch;
mod whole;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
    time::Duration,
};

use ops_core::{
    Context,
    calls::run_command::{COMMENT_CHARACTERS, Nodes, OutputPlaces, SendRequest, SentCommand},
    inventory::TagFilter,
};
use ops_profile::{Instance, Target};
use ops_remote::exec::Command;
use ops_ui::{Error, ErrorKind, Exit, Result, Text, confirm::Preset, hint};

pub(crate) use self::{parts::Criteria, watch::counted};
use self::{
    parts::{Kind, Part, divide},
    screen::Screen,
    script::RunScript,
    watch::{ORDER_EVERY, UnderWay, Watched, Watcher, numbers},
};
use crate::{
    hosts::{Host, Hosts},
    many::{RunOptions, check_failed_to, exit_of, view, write_failed},
    outcome::Outcome,
    progress::{summary, tell_failures},
    show::{Plain, View},
    single::PIPE_CLOSED,
};

/// The shortest `--time-limit`: the agent takes less for nothing said.
const SHORTEST_EXECUTION: Duration = Duration::from_secs(5);
/// The longest.
const LONGEST_EXECUTION: Duration = Duration::from_secs(172_800);
/// Servers at a time where nobody says how many; the service's own number.
const PARALLEL: usize = 50;

/// What is run.
pub(crate) enum Order {
    /// A command of the user's.
    Command {
        command: Command,
        cwd: Option<String>,
        env: Vec<(String, Vec<u8>)>,
    },
    /// A document with its parameters.
    Document {
        name: String,
        parameters: BTreeMap<String, Vec<String>>,
    },
}

impl Order {
    /// The names of the variables that a command gets.
    pub(crate) fn variables(&self) -> Vec<String> {
        match self {
            Self::Command { env, .. } => env.iter().map(|(name, _)| name.clone()).collect(),
            Self::Document { .. } => Vec::new(),
        }
    }
}

/// A run and what is asked for beside it.
pub(crate) struct FleetRequest {
    pub(crate) order: Order,
    pub(crate) comment: Option<String>,
    pub(crate) time_limit: Option<Duration>,
    /// Until when a server may take it.
    pub(crate) delivery_timeout: Option<Duration>,
    pub(crate) detach: bool,
    /// What means all servers, and no others that run.
    pub(crate) criteria: Option<Criteria>,
}

/// The criteria that a selection consists of, if it does.
///
/// # Errors
/// The profile is invalid.
pub(crate) fn criteria(
    cx: &Context,
    targets: &[Target],
    tags: &[TagFilter],
    group: Option<&str>,
) -> Result<Option<Criteria>> {
    Ok(Criteria::of(targets, tags, group, cx.profile()?))
}

/// Whom commands run as: `root`, `SYSTEM` on Windows, or the users that were named.
pub(crate) fn runs_as(hosts: &[Host]) -> String {
    let mut users: Vec<String> = hosts
        .iter()
        .map(|host| {
            let kind = Kind::of(host);
            let default = if kind.is_windows { "SYSTEM" } else { "root" };
            kind.user.unwrap_or_else(|| default.to_owned())
        })
        .collect();
    users.sort_unstable();
    users.dedup();
    users.join(", ")
}

/// Checks what needs no server.
///
/// # Errors
/// A time limit that Run Command has not.
pub(crate) fn check(request: &FleetRequest) -> Result<()> {
    if let Some(limit) = request.time_limit
        && !(SHORTEST_EXECUTION..=LONGEST_EXECUTION).contains(&limit)
    {
        return Err(Error::usage("Run Command has no such --time-limit")
            .caused_by("it takes 5 seconds to 48 hours")
            .hint("give another one, or run it by sessions: --via session"));
    }
    Ok(())
}

/// Runs it on all of them.
///
/// # Errors
/// A command cannot be sent; the output cannot be written; an interruption.
pub(crate) async fn run(
    cx: &Context,
    hosts: Hosts,
    request: &FleetRequest,
    options: RunOptions,
) -> Result<Exit> {
    check_failed_to(options.failed_to.as_deref())?;
    let mut run = FleetRun {
        cx,
        away: BTreeSet::new(),
        are_many: hosts.are_many,
        hosts: hosts.all,
        group_members: hosts.group_members,
        request,
        places: places(cx)?,
        comment: comment(cx, request.comment.as_deref()).await,
        options,
    };
    run.find_those_away().await;
    run.tell_differences();
    if request.detach {
        return run.send_and_leave().await;
    }
    Box::pin(run.send_and_watch()).await
}

/// Where whole outputs go, as the profile says.
fn places(cx: &Context) -> Result<OutputPlaces> {
    let profile = cx.profile()?;
    Ok(OutputPlaces {
        bucket: profile.exec.s3_bucket.clone(),
        key_prefix: String::new(),
        log_group: profile.exec.log_group.clone(),
    })
}

/// In front of the sender's name, at the end of a comment.
const SENDER_MARK: &str = "[ops ";

/// The comment with who sent it, which the service keeps nowhere else that could be listed.
async fn comment(cx: &Context, comment: Option<&str>) -> String {
    let Ok(identity) = cx.identity().await else {
        return comment.unwrap_or_default().to_owned();
    };
    let mark = sender_mark(&identity.arn);
    let room = COMMENT_CHARACTERS.saturating_sub(mark.chars().count() + 1);
    let text: String = comment.unwrap_or("").chars().take(room).collect();
    if text.is_empty() {
        mark
    } else {
        format!("{text} {mark}")
    }
}

/// How comments tell the caller of this ARN: by the last part of it.
pub(crate) fn sender_mark(arn: &str) -> String {
    let name = arn.rsplit('/').next().unwrap_or(arn);
    let name: String = name.chars().take(64).collect();
    format!("{SENDER_MARK}{name}]")
}

struct FleetRun<'a> {
    cx: &'a Context,
    hosts: Vec<Host>,
    /// Ids of all members of the resource group that was named.
    group_members: BTreeSet<String>,
    are_many: bool,
    /// Ids of nodes that are left out: what is sent must not reach them later.
    away: BTreeSet<String>,
    request: &'a FleetRequest,
    places: OutputPlaces,
    comment: String,
    options: RunOptions,
}

impl FleetRun<'_> {
    /// Servers that Run Command cannot reach: the service would wait for them for an hour and more.
    fn is_reachable(&self, host: usize) -> bool {
        !self.away.contains(&self.hosts[host].instance.id)
    }

    /// Finds the servers whose agent does not answer, and those that the criteria mean beside and
    /// nobody has seen. Whoever says how long to wait for them wants them waited for.
    async fn find_those_away(&mut self) {
        if self.request.delivery_timeout.is_some() {
            return;
        }
        let mut regions: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for host in &self.hosts {
            let Instance { id, region, .. } = &host.instance;
            regions.entry(region.clone()).or_default().push(id.clone());
        }
        for (region, ids) in regions {
            let away = match self.criteria_of_all() {
                Some(Criteria::Tags(tags)) => self.cx.lost_nodes(&region, tags).await,
                // The list of agents knows no groups.
                Some(Criteria::ResourceGroup(_)) => {
                    self.cx.lost_nodes(&region, &[]).await.map(|mut lost| {
                        lost.retain(|id| self.group_members.contains(id));
                        lost
                    })
                }
                None => self.cx.online_nodes(&region, &ids).await.map(|online| {
                    let away = ids.into_iter().filter(|id| !online.contains(id));
                    away.collect()
                }),
            };
            match away {
                Ok(away) => self.away.extend(away),
                // Whoever may send commands need not be allowed to ask: then the service decides.
                Err(error) => self.cx.output().detail(error.one_line()),
            }
        }
    }

    /// The criteria, where one command for them reaches everybody.
    fn criteria_of_all(&self) -> Option<&Criteria> {
        let criteria = self.request.criteria.as_ref()?;
        let parts = divide(&self.hosts, 0..self.hosts.len(), Some(criteria));
        let is_one = self.options.plan.batches.len() <= 1
            && matches!(parts.as_slice(), [only] if only.nodes == criteria.nodes());
        is_one.then_some(criteria)
    }

    /// Says which servers the service would reach later, or beside those found here.
    fn tell_differences(&self) {
        let named = |id: &String| {
            let host = self.hosts.iter().find(|host| host.instance.id == *id);
            host.map(|host| host.label.as_str())
        };
        let away: Vec<&str> = self.away.iter().filter_map(named).collect();
        if let Some(first) = away.first() {
            let text = match away.len() {
                1 => format!("{first} is left out: its agent does not answer"),
                many => format!(
                    "{many} servers are left out, {first} among them: their agents do not answer"
                ),
            };
            self.cx.output().note(format!(
                "{text}; with --timeout TIME Run Command waits for them"
            ));
        }
        let beside: Vec<&String> = self.away.iter().filter(|id| named(id).is_none()).collect();
        if let Some(first) = beside.first() {
            let subject = self.subject_of_criteria();
            self.cx.output().note(format!(
                "{subject} {} more for Systems Manager, {first} among them, which do not run: they are left out",
                beside.len()
            ));
        }
    }

    fn subject_of_criteria(&self) -> &'static str {
        let criteria = self.request.criteria.as_ref();
        criteria.map_or("the criteria mean", Criteria::subject)
    }

    /// The commands for a batch, without servers that are away.
    fn parts(&self, batch: Range<usize>) -> Vec<Part> {
        let parts = divide(&self.hosts, batch, self.request.criteria.as_ref());
        let parts = parts.into_iter().filter_map(|mut part| {
            if let Nodes::Ids(ids) = &mut part.nodes {
                part.hosts.retain(|&host| self.is_reachable(host));
                *ids = part
                    .hosts
                    .iter()
                    .map(|&host| self.hosts[host].instance.id.clone())
                    .collect();
            }
            (!part.hosts.is_empty()).then_some(part)
        });
        parts.collect()
    }

    fn parallel(&self) -> usize {
        if self.options.is_parallel_asked {
            self.options.parallel
        } else {
            PARALLEL
        }
    }

    async fn send(
        &self,
        part: &Part,
        parallel: usize,
        max_errors: Option<usize>,
    ) -> Result<SentCommand> {
        let (document, mut parameters) = match &self.request.order {
            Order::Document { name, parameters } => (name.clone(), parameters.clone()),
            Order::Command { command, cwd, env } => {
                let script = RunScript {
                    command,
                    user: part.kind.user.as_deref(),
                    cwd: cwd.as_deref(),
                    env,
                    counts_output: self.places.log_group.is_some(),
                };
                let (document, lines) = if part.kind.is_windows {
                    ("AWS-RunPowerShellScript", script.for_powershell()?)
                } else {
                    ("AWS-RunShellScript", script.for_sh()?)
                };
                let parameters = BTreeMap::from([("commands".to_owned(), lines)]);
                (document.to_owned(), parameters)
            }
        };
        if let Some(limit) = self.request.time_limit {
            let seconds = limit.as_secs().max(SHORTEST_EXECUTION.as_secs());
            parameters.insert("executionTimeout".to_owned(), vec![seconds.to_string()]);
        }
        let request = SendRequest {
            document,
            parameters,
            nodes: part.nodes.clone(),
            comment: self.comment.clone(),
            max_concurrency: parallel,
            max_errors,
            delivery_timeout: self.request.delivery_timeout,
            outputs: self.places.clone(),
        };
        self.cx.send_command(&part.kind.region, &request).await
    }

    /// Criteria mean servers that are away too: those are cancelled as soon as the service has
    /// found them, or they would run the command when they come back.
    fn unwanted(&self, part: &Part) -> Vec<String> {
        match part.nodes {
            Nodes::Tags(_) | Nodes::ResourceGroup(_) => self.away.iter().cloned().collect(),
            Nodes::Ids(_) => Vec::new(),
        }
    }

    /// Sends everything and prints the ids.
    async fn send_and_leave(&self) -> Result<Exit> {
        if self.options.plan.batches.len() > 1 {
            return Err(
                Error::usage("--detach and --batch or --canary do not go together")
                    .caused_by("somebody has to see how one batch ends before the next one begins")
                    .hint("leave out one of them"),
            );
        }
        let parts = self.parts(0..self.hosts.len());
        let most = self.options.plan.max_failures;
        if parts.len() > 1 && most.is_some() {
            return Err(
                Error::usage("--detach and --max-fail do not go together here")
                    .caused_by(format!(
                        "{} commands are needed, and each counts its own failures",
                        parts.len()
                    ))
                    .hint("mean the servers by a tag: --tag KEY=VALUE"),
            );
        }
        if parts.is_empty() {
            return Err(
                Error::new(ErrorKind::Unreachable, "no server can take the command")
                    .hint("see what their agents do: ops ls -o wide"),
            );
        }
        let each = self.parallel().div_ceil(parts.len()).max(1);
        let mut watcher = Watcher::new(self.cx, self.hosts.len());
        let mut last = String::new();
        for part in &parts {
            watcher.pace_for(ORDER_EVERY).await;
            let command = self.send(part, each, most).await?;
            self.cx.output().line(&command.id)?;
            last.clone_from(&command.id);
            let mut one = UnderWay::new(command, HashMap::new(), self.unwanted(part));
            watcher.leave_out(&mut one).await?;
        }
        let which = if parts.len() > 1 { "ID" } else { &last };
        self.cx
            .output()
            .note(hint!("see what comes of it: ops runs show {}", which));
        Ok(Exit::SUCCESS)
    }

    async fn send_and_watch(self) -> Result<Exit> {
        let _handler = self.cx.interrupt().handle();
        let output = self.cx.output().clone();
        let begin = std::time::Instant::now();
        let is_plain = !self.are_many && self.options.shown == crate::many::OutputMode::Usual;
        let shown: Box<dyn View> = if is_plain {
            Box::new(Plain)
        } else {
            view(&output, &self.hosts, &self.options.shown)?
        };
        let labels = self.hosts.iter().map(|host| host.label.clone()).collect();
        let mut screen = Screen::new(&output, shown, labels);
        let mut watcher = Watcher::new(self.cx, self.hosts.len());
        watcher.max_failures = self.options.plan.max_failures;
        let mut ids = Vec::new();
        let (end, stopped) = match self.go(&mut watcher, &mut screen, &mut ids).await {
            Ok(end) => end,
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                return self.left(&ids, Ok(PIPE_CLOSED));
            }
            Err(error) => {
                screen.clear();
                return self.left(&ids, Err(error));
            }
        };
        if end == Watched::Detached {
            screen.clear();
            let error = self.cx.interrupt().wait().await;
            // Whoever chose to leave has what he asked for.
            let is_asked = error.kind() == ErrorKind::Interrupted && output.may_ask();
            return self.left(
                &ids,
                if is_asked {
                    Ok(Exit::SUCCESS)
                } else {
                    Err(error)
                },
            );
        }
        let finished = screen.finish(|host| {
            if !self.is_reachable(host) {
                let label = &self.hosts[host].label;
                let why = format!("`{label}` is not connected to Systems Manager");
                return Outcome::Failed(Error::target(why));
            }
            match &stopped {
                Some(why) => Outcome::NotStarted(why.clone()),
                None if end == Watched::Cancelled => Outcome::Cancelled,
                None => Outcome::Failed(Error::target(format!(
                    "`{}` has no agent that Systems Manager knows of",
                    self.hosts[host].label
                ))),
            }
        });
        let endings = match finished {
            Ok(endings) => endings,
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(PIPE_CLOSED),
            Err(error) => return Err(error),
        };
        screen.tell_cut();
        if is_plain {
            return plain_exit(endings.into_iter().next().map(|ending| ending.outcome));
        }
        output.note(summary(&endings, begin.elapsed()));
        let rows = self.hosts.iter().zip(&endings);
        let rows = rows.map(|(host, ending)| (host.label.as_str(), ending));
        tell_failures(&output, screen.view.tells_endings(), rows);
        if !ids.is_empty() {
            output.note(format!("by Run Command: {}", ids.join(", ")));
        }
        if let Some(path) = &self.options.failed_to {
            write_failed(path, &self.hosts, &endings)?;
        }
        Ok(exit_of(&endings, self.options.pass_status))
    }

    /// What runs goes on at AWS; says how to find it.
    fn left(&self, ids: &[String], result: Result<Exit>) -> Result<Exit> {
        if let Some(id) = ids.last() {
            self.cx
                .output()
                .note(format!("it goes on at AWS: {}", ids.join(", ")));
            self.cx
                .output()
                .note(Text::from("its results: ").then(hint!("ops runs show {}", id)));
            self.cx
                .output()
                .note(Text::from("to end it: ").then(hint!("ops runs cancel {}", id)));
        }
        result
    }

    /// Sends batch after batch and looks after each; tells why the rest was left out, if it was.
    async fn go(
        &self,
        watcher: &mut Watcher<'_>,
        screen: &mut Screen,
        ids: &mut Vec<String>,
    ) -> Result<(Watched, Option<String>)> {
        let plan = &self.options.plan;
        for (number, batch) in plan.batches.iter().enumerate() {
            if number > 0 {
                if let Some(why) = plan.stopped_by(screen.failures(), number - 1) {
                    return Ok((Watched::Over, Some(why)));
                }
                if self.options.pause && !self.may_start(number, screen).await? {
                    let why = format!("{} was not confirmed", plan.name_of(number));
                    return Ok((Watched::Over, Some(why)));
                }
            }
            let parts = self.parts(batch.clone());
            // Servers that are away fail at once, before anything is sent.
            let bound = self.error_bound(number);
            let at_a_time = match bound {
                // Commands count their errors apart: one after the other, they can be added up.
                Some(_) => 1,
                None => self.parallel().div_ceil(PARALLEL).max(1),
            };
            let each = self.parallel().div_ceil(at_a_time).max(1);
            for some in parts.chunks(at_a_time) {
                let failures_now = screen.failures();
                if let Some(why) = plan.stopped_by(failures_now, number) {
                    return Ok((Watched::Over, Some(why)));
                }
                let mut under_way = Vec::new();
                for part in some {
                    let most = bound.map(|most| most.saturating_sub(failures_now));
                    // One command for everybody keeps to the number by itself.
                    let most_at_a_time = match part.nodes {
                        Nodes::Tags(_) | Nodes::ResourceGroup(_) => self.parallel(),
                        Nodes::Ids(_) => each,
                    };
                    watcher.pace_for(ORDER_EVERY).await;
                    let command = self.send(part, most_at_a_time, most).await?;
                    self.cx.output().detail(format!(
                        "sent `{}` ({}) to {} servers in {}",
                        command.id,
                        command.document,
                        part.hosts.len(),
                        command.region
                    ));
                    ids.push(command.id.clone());
                    watcher.sent += part.hosts.len();
                    let hosts = part
                        .hosts
                        .iter()
                        .filter(|&&host| self.is_reachable(host))
                        .map(|&host| (self.hosts[host].instance.id.as_str(), host));
                    let unwanted = self.unwanted(part);
                    under_way.push(UnderWay::new(command, numbers(hosts), unwanted));
                }
                let end = watcher.watch(&mut under_way, screen).await?;
                self.tell_extra(&under_way);
                if end != Watched::Over {
                    return Ok((end, None));
                }
            }
            // What the service stopped within the batch has its endings already.
            if let Some(why) = plan.stopped_by(screen.failures(), number) {
                return Ok((Watched::Over, Some(why)));
            }
        }
        Ok((Watched::Over, None))
    }

    /// How many failures the service bears in this batch; `None`: all.
    fn error_bound(&self, batch: usize) -> Option<usize> {
        let plan = &self.options.plan;
        if plan.has_canary && batch == 0 {
            return Some(0);
        }
        plan.max_failures
    }

    /// Names what the service took for a target and nobody saw here.
    fn tell_extra(&self, under_way: &[UnderWay]) {
        let known = |id: &&String| {
            !self.away.contains(*id) && !self.hosts.iter().any(|host| host.instance.id == **id)
        };
        let extra: Vec<&String> = under_way
            .iter()
            .flat_map(UnderWay::extra)
            .filter(known)
            .collect();
        let Some(first) = extra.first() else { return };
        self.cx.output().warn_line(format!(
            "{} {} more for Systems Manager than were found here, {first} among them: see ops runs show {}",
            self.subject_of_criteria(),
            extra.len(),
            under_way[0].command().id
        ));
    }

    async fn may_start(&self, batch: usize, screen: &mut Screen) -> Result<bool> {
        screen.clear();
        let plan = &self.options.plan;
        let question = plan.question_before(batch);
        let answer = self.cx.output().confirm_anew(question, Preset::No).await?;
        Ok(answer.is_yes())
    }
}

/// The status of one server, as by a session.
fn plain_exit(outcome: Option<Outcome>) -> Result<Exit> {
    match outcome {
        Some(Outcome::Failed(error)) => Err(error),
        Some(Outcome::Ended(status)) => Ok(Exit::of(status.as_exit_code())),
        Some(other) => Err(Error::unexpected(format!(
            "the command was {}",
            other.words()
        ))),
        None => Err(crate::single::unknown_end()),
    }
}
