//! 10,000 made-up servers by Run Command: calls, memory, the first failure on the screen, and what
//! folding their outputs costs.

use std::{
    io::{self, BufRead, BufReader},
    process::Stdio,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use ops_bench::{report::Report, stage::Stage, usage};
use serde_json::Value;

use crate::{MEGABYTE, shown_memory, start::met};

const SERVERS: usize = 10_000;
/// How long each server takes for the command. The first failures are there then.
const TAKES: Duration = Duration::from_secs(2);
/// Servers at a time, in five turns.
const PARALLEL: usize = 2_000;
const TARGET_CALLS: usize = 250;
/// In megabytes.
const TARGET_MEMORY: f64 = 100.0;
/// Counts are asked for once a second, and failures right after them.
const TARGET_FIRST_FAILURE: Duration = Duration::from_secs(2);
const TARGET_FOLD: Duration = Duration::from_secs(1);
/// Calls that what was sent costs, of all calls of a run.
const CALLS_OF_RUN: [&str; 4] = [
    "SendCommand",
    "ListCommands",
    "ListCommandInvocations",
    "CancelCommand",
];
/// The tag that all made-up servers have, with its values.
const EVERYBODY: &str = "Env=production,staging,development";

pub(crate) fn measure(report: &mut Report) -> io::Result<()> {
    let size = SERVERS.to_string();
    let faults = format!("run-fail=3%,run-delay={}s", TAKES.as_secs());
    let stage = Stage::serve(&[
        "--agent-pace",
        "real",
        "--fleet-size",
        &size,
        "--fault",
        &faults,
    ])?;
    let run = run(&stage)?;
    let calls = Calls::of(&stage)?;
    let first_failure = run
        .first_failure_at
        .zip(calls.sent_at)
        .map(|(seen, sent)| Duration::try_from(seen - sent).unwrap_or_default())
        .map(|since| since.saturating_sub(TAKES));
    let (shown, fold) = fold_times(&stage, &run.id)?;
    report.line(&format!(
        "`ops exec --via run-command --fold --parallel {PARALLEL} --tag {EVERYBODY} -- echo same` on \
         {SERVERS} made-up servers, 3 % of which fail; quotas as documented, and low assumptions \
         where nothing is"
    ));
    let seconds = |time: Option<Duration>| {
        time.map_or("-".to_owned(), |time| {
            format!("{:.2} s", time.as_secs_f64())
        })
    };
    report.table(
        &[
            "",
            "calls",
            "throttled",
            "peak MB",
            "first failure",
            "runs show --fold",
            "fold alone",
        ],
        &[vec![
            "10,000 servers".to_owned(),
            calls.of_run.to_string(),
            calls.throttled.to_string(),
            shown_memory(run.memory_bytes),
            seconds(first_failure),
            seconds(shown),
            seconds(fold),
        ]],
    );
    let is_small = run
        .memory_bytes
        .is_some_and(|bytes| (bytes as f64) < TARGET_MEMORY * MEGABYTE);
    report.line(&format!(
        "target: {TARGET_CALLS} calls at most from SendCommand on ({}), none throttled ({}), under \
         {TARGET_MEMORY} MB ({}), the first failure on stderr within {} s of its end, which is one \
         look and what fetches it ({}), under {} s of processor time for the fold: that of \
         `runs show --fold` without that of `runs show -o jsonl` ({})",
        met(calls.of_run <= TARGET_CALLS),
        met(calls.throttled == 0),
        met(is_small),
        TARGET_FIRST_FAILURE.as_secs(),
        met(first_failure.is_some_and(|time| time <= TARGET_FIRST_FAILURE)),
        TARGET_FOLD.as_secs(),
        met(fold.is_some_and(|time| time < TARGET_FOLD)),
    ));
    Ok(())
}

/// What a run of the command has shown.
struct Run {
    /// Of the command.
    id: String,
    memory_bytes: Option<u64>,
    first_failure_at: Option<Timestamp>,
}

fn run(stage: &Stage) -> io::Result<Run> {
    let parallel = PARALLEL.to_string();
    let mut command = stage.ops();
    command
        .args(["exec", "-n", "--via", "run-command", "--fold"])
        .args(["--parallel", &parallel, "--tag", EVERYBODY, "--"])
        .args(["echo", "same"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let stderr = child.stderr.take();
    let reader = std::thread::spawn(move || {
        let (mut first, mut id) = (None, String::new());
        for line in stderr
            .map(BufReader::new)
            .into_iter()
            .flat_map(BufRead::lines)
        {
            let Ok(line) = line else { break };
            if first.is_none() && line.contains(": exit status 1") {
                first = Some(Timestamp::now());
            }
            if let Some((_, rest)) = line.split_once("by Run Command: ") {
                id = rest.trim().to_owned();
            }
        }
        (first, id)
    });
    let (status, memory_bytes) = crate::watch(&mut child)?;
    let (first_failure_at, id) = reader.join().unwrap_or_default();
    // 8: some have failed, as they were told to.
    if status.code() != Some(8) || id.is_empty() {
        return Err(io::Error::other(format!(
            "the run ended with {status}, id `{id}`"
        )));
    }
    Ok(Run {
        id,
        memory_bytes,
        first_failure_at,
    })
}

/// What the sandbox was asked.
struct Calls {
    of_run: usize,
    throttled: usize,
    sent_at: Option<Timestamp>,
}

impl Calls {
    fn of(stage: &Stage) -> io::Result<Self> {
        let log = stage.ops().args(["sandbox", "log"]).output()?;
        let log: Value = serde_json::from_slice(&log.stdout).map_err(io::Error::other)?;
        let mut calls = Self {
            of_run: 0,
            throttled: 0,
            sent_at: None,
        };
        for call in log["calls"].as_array().into_iter().flatten() {
            let action = call["action"].as_str().unwrap_or_default();
            calls.throttled += usize::from(call["error"] == "ThrottlingException");
            calls.of_run += usize::from(CALLS_OF_RUN.contains(&action));
            if action == "SendCommand" {
                let time = call["time"].as_str();
                calls.sent_at = time.and_then(|time| time.parse().ok());
            }
        }
        Ok(calls)
    }
}

/// Processor time of `runs show --fold`, and how much of it `runs show -o jsonl` does not take,
/// which fetches the same and folds nothing.
fn fold_times(stage: &Stage, id: &str) -> io::Result<(Option<Duration>, Option<Duration>)> {
    let folded = processor_time(stage, &["runs", "show", id, "--fold"])?;
    let plain = processor_time(stage, &["runs", "show", id, "-o", "jsonl"])?;
    let fold = folded.zip(plain);
    let fold = fold.map(|(folded, plain)| folded.saturating_sub(plain));
    Ok((folded, fold))
}

fn processor_time(stage: &Stage, args: &[&str]) -> io::Result<Option<Duration>> {
    let before = usage::time_of_ended_children();
    let begin = Instant::now();
    let status = stage
        .ops()
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    if status.code() != Some(8) {
        return Err(io::Error::other(format!(
            "ops {args:?} ended with {status} after {:?}",
            begin.elapsed()
        )));
    }
    let after = usage::time_of_ended_children();
    Ok(after
        .zip(before)
        .map(|(after, before)| after.saturating_sub(before)))
}
