//! The service's part: who gets a command when, and what is made of the agents' reports.

use std::{io, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{sync::Semaphore, task::JoinSet, time::Instant};

use super::{
    Invocation, InvocationStatus, PluginResult, RESOURCE_GROUP, SentCommand, Targets, World,
    answer::Answer, made_up, made_up::SharedAnswer, visible_after,
};
use crate::{
    agent::run_command::{self, Ran, Script, Verdict},
    fleet::{FleetFile, Instance, InstanceStateName, MachineChange, PingStatus},
    log_groups::LogEvent,
    objects::object_path,
};

/// How often the service looks whether a node that was away is back.
const RETRY_EVERY: Duration = Duration::from_millis(100);
/// Real processes at a time, of all commands together.
static PROCESSES: Semaphore = Semaphore::const_new(16);

/// Finds the nodes of `command` and brings it to them.
pub(super) async fn deliver(world: Arc<World>, command: Arc<SentCommand>) {
    let late = visible_after(&world.faults.borrow());
    if !late.is_zero() {
        tokio::time::sleep(late).await;
    }
    let found = find(&world, &command);
    command.change(|state| {
        state.is_resolved = true;
        state.invocations = found;
        // CancelCommand may come before the service has found the nodes.
        // CancelCommand may come before the service has found the nodes.
        if state.is_cancelled {
            for one in &mut state.invocations {
                one.cancel();
            }
        }
    });
    let nodes = command.look(<[Invocation]>::len);
    let most = command.order.most_at_a_time(nodes);
    let shared = Arc::new(SharedAnswer::default());
    let mut running = JoinSet::new();
    for index in 0..nodes {
        // MaxConcurrency counts nodes that have begun and not ended, whatever came of the others.
        // MaxConcurrency counts nodes that have begun and not ended, whatever came of the others.
        while running.len() >= most {
            running.join_next().await;
        }
        // Before each start, since a node that failed meanwhile may have been one too many.
        // Before each start, since a node that failed meanwhile may have been one too many.
        stop_after_errors(&command, nodes);
        if command.look(|all| all[index].status) != InvocationStatus::Pending {
            continue;
        }
        running.spawn(bring(
            Arc::clone(&world),
            Arc::clone(&command),
            Arc::clone(&shared),
            index,
        ));
    }
    while running.join_next().await.is_some() {
        stop_after_errors(&command, nodes);
    }
}

/// Once more nodes failed than are borne, those that have not begun never do.
fn stop_after_errors(command: &SentCommand, nodes: usize) {
    let most = command.order.most_errors(nodes);
    command.change(|state| {
        let all = &mut state.invocations;
        // SendCommand's text: "the system stops sending the command after the number of errors is
        // exceeded"; with `MaxErrors` 3 the fourth error stops it. What has begun goes on.
        // SendCommand's text: "the system stops sending the command after the number of errors is
        // exceeded"; with `MaxErrors` 3 the fourth error stops it. What has begun goes on.
        if all.iter().filter(|one| one.status.is_error()).count() <= most {
            return;
        }
        let waiting = all
            .iter_mut()
            .filter(|one| one.status == InvocationStatus::Pending);
        for one in waiting {
            one.status = InvocationStatus::Terminated;
        }
    });
}

/// The nodes of a command, in no order that anybody promises.
fn find(world: &World, command: &SentCommand) -> Vec<Invocation> {
    let new = |instance: &Instance| {
        let status = if command.order.document.runs_on(instance.platform) {
            InvocationStatus::Pending
        } else {
            InvocationStatus::InvalidPlatform
        };
        Invocation::new(instance.id.clone(), host_name(instance), status)
    };
    let by_ids = |ids: &[String]| {
        // An id that reported once and is gone keeps its row; one that was never known was refused
        // by SendCommand.
        // An id that reported once and is gone keeps its row; one that was never known was refused
        // by SendCommand.
        let all = ids.iter().map(|id| match managed(world, command, id) {
            Some(instance) => new(&instance),
            None => Invocation::new(id.clone(), String::new(), InvocationStatus::Undeliverable),
        });
        all.collect()
    };
    match &command.order.targets {
        Targets::Ids(ids) => by_ids(ids),
        Targets::Criteria(criteria) => {
            if let [(key, ids)] = criteria.as_slice()
                && key.eq_ignore_ascii_case("InstanceIds")
            {
                return by_ids(ids);
            }
            let mut found = Vec::new();
            let mut index = 0;
            while let Some(instance) = world.fleet.at(index) {
                index += 1;
                let is_meant = instance.region == command.region
                    && instance.ping().is_some()
                    && criteria
                        .iter()
                        .all(|(key, values)| answers(world.fleet.file(), &instance, key, values));
                if is_meant {
                    found.push(new(&instance));
                }
            }
            found
        }
    }
}

fn answers(file: &FleetFile, instance: &Instance, key: &str, values: &[String]) -> bool {
    if key.eq_ignore_ascii_case("InstanceIds") {
        return values.contains(&instance.id);
    }
    if key == "tag-key" {
        return instance.tags.keys().any(|tag| values.contains(tag));
    }
    if key == RESOURCE_GROUP {
        return values.iter().any(|group| file.is_in_group(group, instance));
    }
    key.strip_prefix("tag:")
        .and_then(|tag| instance.tags.get(tag))
        .is_some_and(|value| values.contains(value))
}

fn managed(world: &World, command: &SentCommand, id: &str) -> Option<Arc<Instance>> {
    world
        .fleet
        .by_id(id)
        .filter(|instance| instance.region == command.region && instance.ping().is_some())
}

fn host_name(instance: &Instance) -> String {
    if instance.is_hybrid() {
        instance.hostname().to_owned()
    } else {
        instance.private_dns.clone()
    }
}

/// Brings the command to the node number `index`, and notes what becomes of it.
async fn bring(
    world: Arc<World>,
    command: Arc<SentCommand>,
    shared: Arc<SharedAnswer>,
    index: usize,
) {
    let (id, stop) = command.look(|all| (all[index].instance_id.clone(), all[index].stop.clone()));
    loop {
        let Some(instance) = take(&world, &command, index, &id).await else {
            return;
        };
        let started = Timestamp::now();
        note_start(&command, index, started);
        let script = command
            .order
            .document
            .script(&command.id, &command.order.parameters);
        let answer = tokio::select! {
            answer = answer(&world, &command, &shared, &instance, &script, &stop) => answer,
            // A made-up machine has nothing that could be stopped.
            () = stop.cancelled(), if world.fleet.is_made_up(&id) => None,
        };
        let status = match answer.as_ref().map(|answer| answer.verdict) {
            None | Some(Verdict::Cancelled) => InvocationStatus::Cancelled,
            Some(Verdict::Success) => InvocationStatus::Success,
            Some(Verdict::Failed) => InvocationStatus::Failed,
            Some(Verdict::TimedOut) => InvocationStatus::ExecutionTimedOut,
            Some(Verdict::Reboot) => {
                // A script that ends with 194 has its machine restarted and is run again, from its
                // begin, once the agent is back.
                // A script that ends with 194 has its machine restarted and is run again, from its
                // begin, once the agent is back.
                world.fleet.change(&id, &MachineChange::start());
                continue;
            }
        };
        command.change(|state| {
            let one = &mut state.invocations[index];
            one.status = status;
            one.result = answer.map(|answer| PluginResult {
                code: answer.code,
                started,
                finished: Some(finish(started, answer.took)),
                stdout: answer.stdout,
                stderr: answer.stderr,
            });
        });
        return;
    }
}

fn finish(started: Timestamp, took: Duration) -> Timestamp {
    let now = Timestamp::now();
    jiff::SignedDuration::try_from(took)
        .ok()
        .and_then(|took| started.checked_add(took).ok())
        .map_or(now, |end| end.max(now))
}

fn note_start(command: &SentCommand, index: usize, started: Timestamp) {
    command.change(|state| {
        let one = &mut state.invocations[index];
        // Whoever cancelled between delivery and start sees Cancelling until the node answers.
        // Whoever cancelled between delivery and start sees Cancelling until the node answers.
        if one.status != InvocationStatus::Cancelling {
            one.status = InvocationStatus::InProgress;
        }
        one.result = Some(PluginResult {
            // What GetCommandInvocation says of a command that has not ended.
            // What GetCommandInvocation says of a command that has not ended.
            code: -1,
            started,
            finished: None,
            stdout: Arc::from(""),
            stderr: Arc::from(""),
        });
    });
}

/// Waits until the node takes the command; `None` where it never does.
async fn take(
    world: &World,
    command: &SentCommand,
    index: usize,
    id: &str,
) -> Option<Arc<Instance>> {
    loop {
        let status = command.look(|all| all[index].status);
        if status.is_terminal() {
            return None;
        }
        let instance = managed(world, command, id);
        let is_gone = instance
            .as_ref()
            .is_none_or(|instance| instance.state() == InstanceStateName::Terminated);
        if is_gone {
            return settle(command, index, InvocationStatus::Undeliverable);
        }
        if Instant::now() >= command.expires {
            return settle(command, index, InvocationStatus::DeliveryTimedOut);
        }
        if instance
            .as_ref()
            .is_some_and(|instance| instance.ping() == Some(PingStatus::Online))
        {
            return instance;
        }
        command.change(|state| {
            let one = &mut state.invocations[index];
            // A cancellation may have come since the status was looked at.
            // A cancellation may have come since the status was looked at.
            if !one.status.is_terminal() && one.status != InvocationStatus::Cancelling {
                one.status = InvocationStatus::Delayed;
            }
        });
        tokio::time::sleep(RETRY_EVERY).await;
    }
}

fn settle(command: &SentCommand, index: usize, status: InvocationStatus) -> Option<Arc<Instance>> {
    command.change(|state| state.invocations[index].status = status);
    None
}

/// What the node reports; `None` where it could not even try.
async fn answer(
    world: &World,
    command: &SentCommand,
    shared: &SharedAnswer,
    instance: &Instance,
    script: &Script,
    stop: &tokio_util::sync::CancellationToken,
) -> Option<Answer> {
    if world.fleet.is_made_up(&instance.id) {
        let plan = {
            let faults = world.faults.borrow();
            made_up::plan(&faults, instance)
        };
        let answer = if plan.fails {
            Some(made_up::failure())
        } else {
            shared.get(world, instance, script).await
        };
        tokio::time::sleep(plan.takes).await;
        return answer;
    }
    let _permit = PROCESSES.acquire().await.ok()?;
    let state = world.states.of(instance);
    let mut ran = run_command::run(script, instance, &state, stop)
        .await
        .ok()?;
    if let Err(error) = keep_outputs(world, command, &instance.id, &mut ran) {
        tracing::debug!(%error, "outputs of a command could not be kept");
    }
    Answer::of(ran).ok()
}

/// Outputs that are not empty go to S3 and CloudWatch, as far as the command says so.
fn keep_outputs(
    world: &World,
    command: &SentCommand,
    instance_id: &str,
    ran: &mut Ran,
) -> io::Result<()> {
    let output = &command.order.output;
    let document = &command.order.document;
    for (name, stream) in [("stdout", &mut ran.stdout), ("stderr", &mut ran.stderr)] {
        if let Some(bucket) = &output.bucket {
            let key = command.key(instance_id, name);
            stream.copy_to(&object_path(&world.objects, bucket, &key))?;
        }
        if let Some(group) = &output.log_group {
            let at = Timestamp::now();
            let messages = messages(&stream.bytes()?);
            let events: Vec<LogEvent> = messages
                .into_iter()
                .map(|message| LogEvent { at, message })
                .collect();
            let stream = format!("{}/{instance_id}/{}/{name}", command.id, document.stream());
            if !events.is_empty() {
                world.log_groups.put(group, &stream, events);
            }
        }
    }
    Ok(())
}

/// The events of an output: whole lines, as many as fit into one, and longer lines in pieces. What
/// is sent after the command has ended loses the line feed at the end of each event, and carriage
/// returns before line feeds are lost everywhere. An agent sends once a second, so that this is so
/// for all that a short command writes.
///
/// Source: `getNextMessage` and `buildEventInfo` of the agent's cloudwatchlogspublisher.
fn messages(bytes: &[u8]) -> Vec<String> {
    const MESSAGE_BYTES: usize = 200 * 1000;
    let mut messages: Vec<Vec<u8>> = Vec::new();
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    for piece in lines.flat_map(|line| line.chunks(MESSAGE_BYTES)) {
        match messages.last_mut() {
            Some(last) if last.len() + piece.len() <= MESSAGE_BYTES => last.extend(piece),
            _ => messages.push(piece.to_vec()),
        }
    }
    let messages = messages.into_iter().map(|message| {
        let text = String::from_utf8_lossy(&message).replace("\r\n", "\n");
        text.strip_suffix('\n').unwrap_or(&text).to_owned()
    });
    messages.collect()
}

impl SentCommand {
    /// The key of an output in the command's bucket.
    pub(crate) fn key(&self, instance_id: &str, stream: &str) -> String {
        let folders = self.order.document.folders();
        let key = format!("{}/{instance_id}/{folders}/{stream}", self.id);
        match self.order.output.key_prefix.trim_matches('/') {
            "" => key,
            prefix => format!("{prefix}/{key}"),
        }
    }
}
