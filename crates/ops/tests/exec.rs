//! `ops_remote::exec` end to end: over the protocol, against an agent that runs real processes.
//! Here because this crate alone may use both.

#![allow(clippy::unwrap_used)] // In a test's helpers too.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use ops_core::{Choice, Context};
use ops_profile::Instance;
use ops_remote::exec::{self, Command, Event, Request, Run, Status};
use ops_sandbox::{Options, Running, Sandbox};
use ops_ui::{Env, Globals, Result};

/// Only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A sandbox, and one of its machines.
struct Stage {
    running: Running,
    cx: Context,
    instance: Instance,
    // Last: the machines' folders are in it.
    _home: tempfile::TempDir,
}

impl Stage {
    async fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let running = Sandbox::start(Options::new(home.path().join("sandbox")))
            .await
            .unwrap();
        let env: Env = running
            .environment()
            .into_iter()
            .chain([("HOME".to_owned(), home.path().display().to_string())])
            .collect();
        let cx = Context::new(Globals::default(), env, ops_profile::Verbs::default());
        let instance = cx
            .resolve(&"web-1".parse().unwrap(), Choice::Ask)
            .await
            .unwrap();
        Self {
            running,
            cx,
            instance,
            _home: home,
        }
    }

    async fn start(&self, request: Request) -> Run {
        soon(exec::start(&self.cx, &self.instance, request))
            .await
            .unwrap()
    }

    /// Runs a line to its end.
    async fn line(&self, line: &str) -> Told {
        let request = Request::new(Command::Line(line.as_bytes().to_vec()));
        soon(drain(&mut self.start(request).await)).await.unwrap()
    }

    /// Ends everything that was dropped.
    async fn settle(self) {
        soon(self.cx.interrupt().finished()).await;
        soon(self.running.stop()).await;
    }
}

/// What a command told.
#[derive(Debug, Default)]
struct Told {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    status: Option<Status>,
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("in time")
}

async fn drain(run: &mut Run) -> Result<Told> {
    let mut told = Told::default();
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
