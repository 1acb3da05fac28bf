//! `ops_remote::exec` end to end: over the protocol, against an agent that runs real processes.
//! Here because this crate alone may use both.

#![allow(clippy::unwrap_used)] // In a test's helpers too.

mod losses;
#[path = "../stage/mod.rs"]
mod stage;
mod volumes;

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use ops_remote::exec::{self, Command, Event, Request, Run, Signal, Status};
use ops_test_needs::noise;
use ops_ui::Result;

use stage::{PATIENCE, Stage, soon};

impl Stage {
    async fn start(&self, request: Request) -> Run {
        soon(exec::start(&self.cx, &self.instance, request))
            .await
            .unwrap()
    }

    /// Runs a line to its end.
    async fn line(&self, line: &str) -> RunRecord {
        let request = Request::new(Command::Line(line.as_bytes().to_vec()));
        soon(drain(&mut self.start(request).await)).await.unwrap()
    }
}

/// What a command told.
#[derive(Debug, Default)]
struct RunRecord {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    status: Option<Status>,
}

async fn drain(run: &mut Run) -> Result<RunRecord> {
    let mut told = RunRecord::default();
    assert_eq!(run.next().await?, Some(Event::Started));
    while let Some(event) = run.next().await? {
        assert_eq!(told.status, None);
        match event {
            Event::Stdout(bytes) => told.stdout.extend_from_slice(&bytes),
            Event::Stderr(bytes) => told.stderr.extend_from_slice(&bytes),
            Event::Ended(status) => told.status = Some(status),
            other => panic!("{other:?}"),
        }
    }
    Ok(told)
}

#[tokio::test(flavor = "multi_thread")]
async fn both_streams_arrive_apart_and_the_status_comes_last() {
    let stage = Stage::new().await;
    let all: Vec<u8> = (0..=255).chain(*b"\xef\xbf\xbd\xed\xa0\x80").collect();
    let format: String = all.iter().map(|byte| format!("\\{byte:03o}")).collect();
    let told = stage
        .line(&format!(
            "printf '{format}'; printf 'x{format}' >&2; exit 42"
        ))
        .await;
    assert_eq!(told.stdout, all);
    assert_eq!(told.stderr, [b"x", &all[..]].concat());
    assert_eq!(told.status, Some(Status::Code(42)));
    let told = stage.line("kill -9 $$").await;
    assert_eq!(told.status, Some(Status::Signal(9)));
    stage.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn input_arrives_whole_and_ends() {
    let stage = Stage::new().await;
    let mut request = Request::new(Command::Argv(vec![b"cat".to_vec()]));
    request.stdin = true;
    let mut run = stage.start(request).await;
    let mut stdin = run.take_stdin().unwrap();
    let bytes: Bytes = (0..=255_u8).cycle().take(1_000_000).collect();
    let send = async {
        stdin.send(bytes.clone()).await.unwrap();
        stdin.end().await.unwrap();
    };
    let ((), told) = soon(async { tokio::join!(send, drain(&mut run)) }).await;
    let told = told.unwrap();
    assert!(told.stdout == bytes);
    assert_eq!(told.status, Some(Status::Code(0)));
    stage.settle().await;
}

/// A command with `words`.
fn argv(words: &[&[u8]]) -> Request {
    let words = words.iter().map(|word| word.to_vec()).collect();
    Request::new(Command::Argv(words))
}

fn sh(line: &str) -> Request {
    Request::new(Command::Line(line.as_bytes().to_vec()))
}

/// Sessions that were started so far.
fn starts(stage: &Stage) -> usize {
    let log = stage.running.log();
    let calls = log["calls"].as_array().unwrap();
    calls
        .iter()
        .filter(|call| call["action"] == "StartSession")
        .count()
}

fn is_running(process: i32) -> bool {
    // A dead one that nobody has waited for is not running.
    std::fs::read_to_string(format!("/proc/{process}/stat"))
        .is_ok_and(|stat| !stat.contains(") Z "))
}

async fn until(what: &str, there: impl Fn() -> bool) {
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    let wait = async {
        while !there() {
            tick.tick().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "{what}");
}

/// The next line of standard output; `rest` is what has come beyond it.
async fn next_line(run: &mut Run, rest: &mut Vec<u8>) -> String {
    loop {
        if let Some(end) = rest.iter().position(|&b| b == b'\n') {
            let line = rest.drain(..=end).take(end).collect();
            return String::from_utf8(line).unwrap();
        }
        match soon(run.next()).await.unwrap() {
            Some(Event::Stdout(bytes)) => rest.extend_from_slice(&bytes),
            Some(Event::Started) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Starts a line that first tells its process and, by what its parent was started with, the folder
/// of the run.
async fn started(stage: &Stage, mut request: Request) -> (Run, Traces) {
    let Command::Line(line) = &mut request.command else {
        panic!("a line");
    };
    let tell = b"echo $$ $(tr '\\0' '\\n' </proc/$PPID/cmdline | grep -m1 '/engine$'); ";
    *line = [tell, &line[..]].concat();
    let mut run = stage.start(request).await;
    let mut rest = Vec::new();
    let told = next_line(&mut run, &mut rest).await;
    let (process, engine) = told.split_once(' ').unwrap();
    let traces = Traces {
        process: process.parse().unwrap(),
        folder: engine.strip_suffix("/engine").unwrap().into(),
        rest,
    };
    assert!(is_running(traces.process) && traces.folder.is_dir());
    (run, traces)
}

/// What a run has on the server while it lives.
struct Traces {
    process: i32,
    folder: PathBuf,
    /// What has come of its output beyond the first line.
    rest: Vec<u8>,
}

impl Traces {
    /// Nothing is left of the run.
    async fn gone(&self) {
        until("the command has ended", || !is_running(self.process)).await;
        until("its folder has gone", || !self.folder.exists()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_arrive_as_they_were_given_however_long_they_are() {
    let stage = Stage::new().await;
    let all: Vec<u8> = (1..=255).collect();
    let long: Vec<u8> = (0..100_000_u32).map(|n| (n % 255 + 1) as u8).collect();
    for words in [
        vec![
            &b""[..],
            b" a  b ",
            b"$HOME `id` \"'\\",
            b"*",
            b"-n",
            b"--",
            b"new\nline\n",
        ],
        vec![&all[..], b"!gone", b"~"],
        vec![&long[..], b"", b"x"],
    ] {
        let request = argv(&[&[&b"printf"[..], b"%s\\000"], &words[..]].concat());
        let told = soon(drain(&mut stage.start(request).await)).await.unwrap();
        let expected: Vec<u8> = words
            .iter()
            .flat_map(|word| word.iter().copied().chain([0]))
            .collect();
        assert!(told.stdout == expected);
        assert_eq!(told.status, Some(Status::Code(0)));
    }
    stage.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_input_there_is_one_session_and_the_command_reads_an_end() {
    let stage = Stage::new().await;
    let told = stage.line("cat; echo $?").await;
    assert_eq!(told.stdout, b"0\n");
    assert_eq!(starts(&stage), 1);
    stage.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn folder_and_variables_are_set_and_the_service_never_hears_of_them() {
    let stage = Stage::new().await;
    let mut request = sh("pwd; printf '%s' \"$SECRET\"");
    request.cwd = Some("/usr/lib".to_owned());
    request.env = vec![("SECRET".to_owned(), b"s3cr3t it's\n".to_vec())];
    let told = soon(drain(&mut stage.start(request).await)).await.unwrap();
    assert_eq!(told.stdout, b"/usr/lib\ns3cr3t it's\n");
    let log = stage.running.log().to_string();
    for secret in ["s3cr3t", "SECRET", "/usr/lib"] {
        assert!(!log.contains(secret));
    }
    stage.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_is_run_by_its_first_line() {
    let stage = Stage::new().await;
    let script = |text: &str, args: &[&str]| {
        Request::new(Command::Script {
            name: "fix.sh".to_owned(),
            bytes: text.as_bytes().to_vec(),
            args: args.iter().map(|arg| arg.as_bytes().to_vec()).collect(),
        })
    };
    let short = script(
        "#!/bin/sh -e\necho \"$#:$1:$2\"\nfalse\necho no\n",
        &["a b", ""],
    );
    let told = soon(drain(&mut stage.start(short).await)).await.unwrap();
    assert_eq!(told.stdout, b"2:a b:\n");
    assert_eq!(told.status, Some(Status::Code(1)));
    let long = format!("# {}\necho long $1", "x".repeat(50_000));
    let told = soon(drain(&mut stage.start(script(&long, &["one"])).await))
        .await
        .unwrap();
    assert_eq!(told.stdout, b"long one\n");
    stage.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_reach_the_command_and_its_children() {
    let stage = Stage::new().await;
    for (signal, number) in [
        (Signal::Interrupt, 2),
        (Signal::Terminate, 15),
        (Signal::HangUp, 1),
        (Signal::Kill, 9),
    ] {
        for stdin in [false, true] {
            let mut request = sh("sleep 1000; sleep 1000");
            request.stdin = stdin;
            let (mut run, traces) = started(&stage, request).await;
            run.signals().send(signal);
            let event = soon(run.next()).await.unwrap();
            assert_eq!(event, Some(Event::Ended(Status::Signal(number))), "{stdin}");
            traces.gone().await;
        }
    }
    // One that is caught: the command goes on, and its own status counts.
    let (mut run, mut traces) = started(
        &stage,
        sh("trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.1; done"),
    )
    .await;
    assert_eq!(next_line(&mut run, &mut traces.rest).await, "ready");
    run.signals().send(Signal::Interrupt);
    assert_eq!(next_line(&mut run, &mut traces.rest).await, "caught");
    let event = soon(run.next()).await.unwrap();
    assert_eq!(event, Some(Event::Ended(Status::Code(7))));
    traces.gone().await;
    stage.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_run_that_is_dropped_or_whose_reader_has_gone() {
    let stage = Stage::new().await;
    // It does not want to go, and has a child.
    let stubborn = "trap '' TERM HUP INT PIPE; sleep 1000 & wait; while :; do sleep 0.2; done";
    let mut traces = Vec::new();
    for stdin in [false, true] {
        let mut request = sh(stubborn);
        request.stdin = stdin;
        let (run, trace) = started(&stage, request).await;
        drop(run);
        traces.push(trace);
        let (mut run, trace) = started(&stage, sh("yes")).await;
        run.stdout_closed();
        let status = loop {
            match soon(run.next()).await.unwrap() {
                Some(Event::Ended(status)) => break status,
                Some(Event::Stdout(_)) => {}
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(status.as_exit_code(), 141);
        traces.push(trace);
    }
    for trace in &traces {
        trace.gone().await;
    }
    stage.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_limit_ends_the_command_there() {
    let stage = Stage::new().await;
    let mut request = sh("echo begun; sleep 1000");
    request.time_limit = Some(Duration::from_millis(300));
    let told = soon(drain(&mut stage.start(request).await)).await.unwrap();
    assert_eq!(told.stdout, b"begun\n");
    assert_eq!(told.status, Some(Status::TimeLimit));
    stage.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_does_not_read_its_input_holds_up_nobody() {
    let stage = Stage::new().await;
    let mut request = sh("head -c 10; echo; exit 3");
    request.stdin = true;
    let mut run = stage.start(request).await;
    let mut stdin = run.take_stdin().unwrap();
    let bytes: Bytes = vec![b'x'; 50_000_000].into();
    let send = async { stdin.send(bytes).await };
    let (sent, told) = soon(async { tokio::join!(send, drain(&mut run)) }).await;
    assert!(sent.is_err());
    let told = told.unwrap();
    assert_eq!(told.stdout, b"xxxxxxxxxx\n");
    assert_eq!(told.status, Some(Status::Code(3)));
    stage.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_detached_goes_on_and_keeps_its_output() {
    let stage = Stage::new().await;
    let mut request =
        sh("echo begun; echo err >&2; while [ ! -e go ]; do sleep 0.1; done; echo ended");
    request.detach = true;
    let mut run = stage.start(request).await;
    let mut detached = None;
    let mut status = None;
    while let Some(event) = soon(run.next()).await.unwrap() {
        match event {
            Event::Detached { pid, output } => detached = Some((pid, output)),
            Event::Ended(ended) => status = Some(ended),
            Event::Started => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(status, Some(Status::Code(0)));
    let (pid, output) = detached.unwrap();
    let process = i32::try_from(pid).unwrap();
    drop(run);
    soon(stage.cx.interrupt().finished()).await;
    assert!(is_running(process));
    let home = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
    std::fs::write(home.join("go"), "").unwrap();
    until("it has ended", || !is_running(process)).await;
    until("all is written", || {
        std::fs::read_to_string(&output).unwrap() == "begun\nerr\nended\n"
    })
    .await;
    std::fs::remove_file(&output).unwrap();
    soon(stage.running.stop()).await;
}

/// Both directions at once, then the status.
async fn copies_all(stage: &Stage, len: usize) {
    let mut request = sh("tee /dev/stderr; exit 5");
    request.stdin = true;
    let mut run = stage.start(request).await;
    let mut stdin = run.take_stdin().unwrap();
    let bytes = Bytes::from(noise(len));
    let send = async {
        for piece in bytes.chunks(300_001) {
            stdin.send(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        stdin.end().await.unwrap();
    };
    let ((), told) = soon(async { tokio::join!(send, drain(&mut run)) }).await;
    let told = told.unwrap();
    assert_eq!(told.stdout.len(), bytes.len());
    assert!(told.stdout == bytes && told.stderr == bytes);
    assert_eq!(told.status, Some(Status::Code(5)));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_service_takes_short_parameters_only_the_terminal_carries_the_rest() {
    let stage = Stage::new().await;
    stage
        .running
        .set_faults("max-parameter=2000".parse().unwrap());
    let told = stage.line("echo out; echo err >&2; exit 3").await;
    assert_eq!(
        (&told.stdout[..], &told.stderr[..]),
        (&b"out\n"[..], &b"err\n"[..])
    );
    assert_eq!(told.status, Some(Status::Code(3)));
    copies_all(&stage, 1_000_000).await;
    stage.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_output_is_not_separated_all_of_it_comes_by_a_terminal() {
    for listed in [false, true] {
        let mut stage = Stage::new().await;
        stage
            .running
            .set_faults("agent-version=3.1.1188.0".parse().unwrap());
        if listed {
            stage.instance.agent_version = Some("3.1.1188.0".to_owned());
        }
        copies_all(&stage, 100_000).await;
        let (mut run, traces) = started(&stage, sh("sleep 1000")).await;
        run.signals().send(Signal::Interrupt);
        let event = soon(run.next()).await.unwrap();
        assert_eq!(event, Some(Event::Ended(Status::Signal(2))));
        drop(run);
        traces.gone().await;
        let (run, traces) = started(&stage, sh("sleep 1000")).await;
        drop(run);
        traces.gone().await;
        stage.settle().await;
    }
    let stage = Stage::new().await;
    let mut request = sh("cat; exit 4");
    request.stdin = true;
    request.document = Some("Sandbox-CommandPlain".to_owned());
    let mut run = stage.start(request).await;
    let mut stdin = run.take_stdin().unwrap();
    stdin.send(Bytes::from_static(b"live\n")).await.unwrap();
    assert_eq!(next_line(&mut run, &mut Vec::new()).await, "live");
    stdin.end().await.unwrap();
    let event = soon(run.next()).await.unwrap();
    assert_eq!(event, Some(Event::Ended(Status::Code(4))));
    stage.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_comes_back_to_is_ended() {
    let stage = Stage::new().await;
    let mut request = sh("while :; do sleep 0.1; echo x; done");
    request.patience = Duration::from_secs(1);
    let (mut run, traces) = started(&stage, request).await;
    // The service ends the session, and gives no other one.
    stage
        .running
        .set_faults("end-after=1,deny=ssm:StartSession".parse().unwrap());
    let error = loop {
        match soon(run.next()).await {
            Ok(Some(Event::Stdout(_))) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert!(
        error.what().contains("no other one could be had"),
        "{error}"
    );
    traces.gone().await;
    stage.settle().await;
}
