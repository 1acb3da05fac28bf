//! `ops runs`: commands that Run Command was sent, by whomever.

use std::{collections::BTreeSet, time::Duration};

use jiff::{SignedDuration, Timestamp};
use ops_core::{
    Command, Context, Forms, Traits,
    calls::run_command::{HistoryQuery, Invocation, SentCommand},
};
use ops_profile::{Confirm, Instance, instance::age_words};
use ops_ui::{
    Error, ErrorKind, Exit, Format, Result, Text,
    globals::parse_time_limit,
    hint,
    table::{self, Cell, Column},
};
use serde_json::{Value, json};

use crate::{
    hosts::{Host, Hosts},
    many::{OutputMode, exit_of, view, write_failed},
    options,
    outcome::Outcome,
    progress::{summary, tell_failures},
    run_command::{
        counted,
        screen::Screen,
        sender_mark,
        watch::{UnderWay, Watched, Watcher, numbers},
    },
    show::API_VERSION,
    single::PIPE_CLOSED,
};

/// How far back the list goes where nothing is said.
const SINCE: Duration = Duration::from_secs(24 * 3600);
/// Commands of a list.
const MOST: usize = 200;

/// Commands of Run Command: list, show, wait for, cancel
///
/// Lists what was sent to servers by Run Command, by `ops exec --via run-command`, by others or in
/// the console: when, to how many, with what result. The service keeps it for 30 days.
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Runs {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: List,
}

/// What `ops runs` lists.
#[derive(clap::Args, Debug, Default)]
struct List {
    /// How far back: 30m, 12h, 7d [default: 1d]
    #[arg(long, value_name = "TIME", value_parser = parse_time_limit, allow_negative_numbers = true)]
    since: Option<Duration>,
    /// Those that you have sent with ops alone
    #[arg(long)]
    mine: bool,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// What each server answered so far
    Show(Show),
    /// Wait for the end, and show what each server answered
    Wait(Show),
    /// Cancel it: what has not begun never does, what runs is killed
    Cancel(Cancel),
}

/// Which command ends.
#[derive(clap::Args, Debug)]
struct Cancel {
    /// Id of the command
    #[arg(value_name = "ID")]
    id: String,
    /// Reason, where the profile demands one
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Which command, and how it is shown.
#[derive(clap::Args, Debug)]
struct Show {
    /// Id of the command
    #[arg(value_name = "ID")]
    id: String,
    /// Show servers whose output and status are the same once
    #[arg(long, conflicts_with_all = ["group", "no_fold"])]
    fold: bool,
    /// Show each line behind the name of its server
    #[arg(long, conflicts_with = "group")]
    no_fold: bool,
    /// Show one server after the other
    #[arg(long)]
    group: bool,
    /// Write two files for each server, and index.json, into this folder
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath, conflicts_with_all = ["fold", "no_fold", "group"])]
    out: Option<std::path::PathBuf>,
    /// Write the servers where it failed into this file, for --targets-from
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    failed_to: Option<std::path::PathBuf>,
}

impl Command for Runs {
    const NAME: &'static str = "runs";
    const TRAITS: Traits = Traits {
        forms: Forms::WithJsonl,
        ..Traits::NONE
    };
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("ops runs", "what was sent within a day"),
        ("ops runs --since 7d --mine", "by you, within a week"),
        (
            "ops runs show 8f2c1d3e-5a6b-4c7d-8e9f-0a1b2c3d4e5f --fold",
            "what its servers answered",
        ),
        (
            "ops runs wait 8f2c1d3e-5a6b-4c7d-8e9f-0a1b2c3d4e5f",
            "its end, and its status",
        ),
        (
            "ops runs cancel 8f2c1d3e-5a6b-4c7d-8e9f-0a1b2c3d4e5f",
            "ends it on the servers",
        ),
    ];

    async fn run(self, cx: Context) -> Result<Exit> {
        match self.action {
            None => list(&cx, &self.list).await,
            Some(Action::Show(show)) => Box::pin(show.run(&cx, false)).await,
            Some(Action::Wait(show)) => Box::pin(show.run(&cx, true)).await,
            Some(Action::Cancel(cancel)) => Box::pin(cancel.run(&cx)).await,
        }
    }
}

async fn list(cx: &Context, asked: &List) -> Result<Exit> {
    let since = SignedDuration::try_from(asked.since.unwrap_or(SINCE))
        .ok()
        .and_then(|ago| Timestamp::now().checked_sub(ago).ok());
    let query = HistoryQuery { since, limit: MOST };
    let mut found = Vec::new();
    for region in cx.regions().await? {
        found.extend(cx.command_history(&region, query).await?);
    }
    if asked.mine {
        let mark = sender_mark(&cx.identity().await?.arn);
        found.retain(|command| command.comment.ends_with(&mark));
    }
    found.sort_by_key(|command| std::cmp::Reverse(command.requested));
    cx.output().through_pager(|| write_list(cx, &found))?;
    if found.is_empty() && matches!(cx.output().format(), Format::Table | Format::Wide) {
        cx.output().note(match asked.since {
            None => "no command was sent within a day; further back: ops runs --since 7d",
            Some(_) => "no command was sent in that time",
        });
    }
    Ok(Exit::SUCCESS)
}

fn write_list(cx: &Context, found: &[SentCommand]) -> Result<()> {
    let output = cx.output();
    match output.format() {
        Format::Json => output.json(&list_document(found)),
        Format::Yaml => output.yaml(&list_document(found)),
        Format::Jsonl => found
            .iter()
            .try_for_each(|command| output.json_line(&command_object(command))),
        Format::Name => found
            .iter()
            .try_for_each(|command| output.line(&command.id)),
        _ if found.is_empty() => Ok(()),
        _ => table(cx, found),
    }
}

fn table(cx: &Context, found: &[SentCommand]) -> Result<()> {
    let columns = [
        Column::new("ID", Column::KEPT),
        Column::new("SENT", 8),
        Column::new("STATUS", Column::KEPT),
        Column::new("SERVERS", 9),
        Column::new("FAILED", 7),
        Column::new("DOCUMENT", 3).shrinking(),
        Column::new("COMMENT", 4).shrinking(),
    ];
    let rows = found.iter().map(|command| {
        let age = command
            .requested
            .map(|at| age_words(Timestamp::now().as_second() - at.as_second()));
        vec![
            Cell::new(&command.id),
            Cell::maybe(age.as_deref()),
            Cell::new(&command.status),
            Cell::new(format!("{}/{}", command.completed, command.targets)),
            Cell::new(command.errors.to_string()),
            Cell::new(&command.document),
            Cell::new(&command.comment),
        ]
    });
    table::write(cx.output(), &columns, rows)
}

fn list_document(found: &[SentCommand]) -> Value {
    let items: Vec<Value> = found.iter().map(command_object).collect();
    json!({ "apiVersion": API_VERSION, "kind": "RunList", "items": items })
}

fn command_object(command: &SentCommand) -> Value {
    json!({
        "id": command.id,
        "region": command.region,
        "sent": command.requested.map(|at| at.to_string()),
        "status": command.status,
        "document": command.document,
        "comment": command.comment,
        "servers": command.targets,
        "completed": command.completed,
        "failed": command.errors,
        "deliveryTimedOut": command.delivery_timed_out,
        "bucket": command.outputs.bucket,
        "logGroup": command.outputs.log_group,
    })
}

/// The command with this id, in the first region that has it.
///
/// # Errors
/// A text that is no id; no region has it.
async fn find(cx: &Context, id: &str) -> Result<SentCommand> {
    let is_id = id.len() == 36
        && id
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    if !is_id {
        return Err(Error::usage(format!("`{id}` is no id of a command"))
            .hint("see the ids: ops runs -o name"));
    }
    let regions = cx.regions().await?;
    for region in &regions {
        if let Some(command) = cx.sent_command(region, id).await? {
            return Ok(command);
        }
    }
    Err(
        Error::new(ErrorKind::NotFound, format!("no command has the id `{id}`"))
            .caused_by(format!("looked in {}", regions.join(", ")))
            .hint("see what there is: ops runs --since 30d; in another region: --region REGION"),
    )
}

/// How long Systems Manager may take to find the servers of a command that was just sent.
const FINDS_SERVERS_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks for them.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Cancel {
    async fn run(self, cx: &Context) -> Result<Exit> {
        let command = find(cx, &self.id).await?;
        if command.is_over() {
            cx.output()
                .note(format!("it is over already: {}", command.status));
            return Ok(Exit::SUCCESS);
        }
        // Whoever sees to the servers before something runs there does so before it is killed too.
        let servers = servers_of(cx, &command).await?;
        let work = [
            ("cancels:", Text::from(command.id.clone())),
            ("document:", Text::from(command.document.clone())),
            ("comment:", Text::from(command.comment.clone())),
        ];
        cx.guard_work(Runs::NAME, &servers, self.reason.as_deref(), &work)
            .await?;
        cx.cancel_command(&command.region, &command.id, &[]).await?;
        cx.output().note(hint!(
            "cancelled; see what came of it: ops runs show {}",
            command.id
        ));
        Ok(Exit::SUCCESS)
    }
}

/// The servers of a command, as the guard wants to see them. A command for a tag has none for a
/// moment; that is waited for where somebody has to confirm which they are.
///
/// # Errors
/// A call fails. Systems Manager finds no server, and the profile demands a confirmation.
async fn servers_of(cx: &Context, command: &SentCommand) -> Result<Vec<Instance>> {
    let is_asked = cx.profile()?.guard.confirmation() != Confirm::None && !cx.globals().yes;
    let begin = std::time::Instant::now();
    loop {
        let found = invocations(cx, command).await?;
        if !found.is_empty() || !is_asked {
            let hosts = hosts(cx, command, &found).await?;
            return Ok(hosts.all.into_iter().map(|host| host.instance).collect());
        }
        if begin.elapsed() > FINDS_SERVERS_WITHIN {
            return Err(Error::new(
                ErrorKind::Refused,
                format!(
                    "nobody can see which servers the command `{}` is for",
                    command.id
                ),
            )
            .caused_by(
                "Systems Manager has not found them yet, and the profile demands a confirmation",
            )
            .hint(hint!(
                "see whether it has by now: ops runs show {}",
                command.id
            ))
            .hint("cancel it without being asked: --yes"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

impl Show {
    async fn run(self, cx: &Context, waits: bool) -> Result<Exit> {
        let form = options::form(cx, Runs::NAME)?;
        let command = find(cx, &self.id).await?;
        let invocations = invocations(cx, &command).await?;
        let hosts = hosts(cx, &command, &invocations).await?;
        let mode = match (form, &self.out) {
            (Some(form), _) => OutputMode::Document(form),
            (None, Some(path)) => OutputMode::Folder(path.clone()),
            (None, None) if self.fold => OutputMode::Folded,
            (None, None) if self.no_fold => OutputMode::Lines,
            (None, None) if self.group => OutputMode::Grouped,
            (None, None) => OutputMode::Usual,
        };
        let output = cx.output().clone();
        output.note(format!(
            "{} on {} servers: {}",
            command.document,
            hosts.all.len(),
            counted(invocations.iter().map(|one| one.status.as_str()))
        ));
        let labels = hosts.all.iter().map(|host| host.label.clone()).collect();
        let mut screen = Screen::new(&output, view(&output, &hosts.all, &mode)?, labels);
        let begin = std::time::Instant::now();
        let all = numbers(
            hosts
                .all
                .iter()
                .enumerate()
                .map(|(number, host)| (host.instance.id.as_str(), number)),
        );
        let unfinished = |host: usize| {
            let status = invocations
                .iter()
                .find(|one| one.instance_id == hosts.all[host].instance.id);
            let status = status.map_or("Pending", |one| one.status.as_str());
            Outcome::NotStarted(format!("{status} so far"))
        };
        let is_open = !command.is_over();
        let finished = if waits {
            let _handler = cx.interrupt().handle();
            let mut watcher = Watcher::new(cx, hosts.all.len());
            watcher.sent = hosts.all.len();
            let mut under_way = [UnderWay::new(command, all, Vec::new())];
            let end = watcher.watch(&mut under_way, &mut screen).await?;
            if end == Watched::Detached {
                screen.clear();
                return Err(cx.interrupt().wait().await);
            }
            screen.finish(unfinished).map(Some)
        } else {
            screen = screen.without_early_failures();
            let mut endings = None;
            let shown = output.stream_through_pager(async {
                for invocation in &invocations {
                    if let Some(&host) = all.get(&invocation.instance_id) {
                        screen.take(cx, &command, host, invocation).await?;
                    }
                }
                endings = Some(screen.finish(unfinished)?);
                Ok(())
            });
            let shown = Box::pin(shown).await;
            shown.map(|()| endings)
        };
        let endings = match finished {
            Ok(Some(endings)) => endings,
            // The pager was left before the last line.
            Ok(None) => return Ok(Exit::SUCCESS),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(PIPE_CLOSED),
            Err(error) => return Err(error),
        };
        screen.tell_cut();
        if waits {
            output.note(summary(&endings, begin.elapsed()));
        }
        let rows = hosts.all.iter().zip(&endings);
        let rows = rows.map(|(host, ending)| (host.label.as_str(), ending));
        tell_failures(&output, screen.view.tells_endings(), rows);
        if let Some(path) = &self.failed_to {
            write_failed(path, &hosts.all, &endings)?;
        }
        // A look at what is under way has seen what there was to see.
        if is_open && !waits {
            return Ok(Exit::SUCCESS);
        }
        Ok(exit_of(&endings, false))
    }
}

/// All invocations of a command.
async fn invocations(cx: &Context, command: &SentCommand) -> Result<Vec<Invocation>> {
    let mut all = Vec::new();
    let mut token = None;
    loop {
        let page = cx
            .invocation_page(&command.region, &command.id, None, token)
            .await?;
        all.extend(page.invocations);
        token = page.next;
        if token.is_none() {
            return Ok(all);
        }
    }
}

/// The servers of invocations, by their names where the account's list has them.
async fn hosts(cx: &Context, command: &SentCommand, all: &[Invocation]) -> Result<Hosts> {
    let mut query = ops_core::Query::of(cx.profile()?);
    query.patterns = all
        .iter()
        .map(|one| ops_profile::Selector::Id(one.instance_id.clone()))
        .collect();
    query.states.clear();
    let known = if all.is_empty() {
        Vec::new()
    } else {
        let regions = [command.region.clone()];
        // Without names the ids do.
        cx.list(&query, &regions)
            .await
            .map(|listing| listing.instances)
            .unwrap_or_default()
    };
    let known: std::collections::HashMap<&str, &Instance> = known
        .iter()
        .map(|instance| (instance.id.as_str(), instance))
        .collect();
    let found = all.iter().map(|one| {
        let id = one.instance_id.as_str();
        let instance = known.get(id).map(|instance| (*instance).clone());
        instance.unwrap_or_else(|| Instance::bare(id, &command.region))
    });
    let mut found: Vec<Instance> = found.collect();
    found.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    let all: Vec<Host> = crate::hosts::named(found.into_iter().map(|one| (one, None)).collect());
    Ok(Hosts {
        all,
        are_many: true,
        group_members: BTreeSet::new(),
    })
}
