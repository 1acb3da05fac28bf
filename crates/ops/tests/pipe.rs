//! `ops_remote::pipe` end to end: over the protocol, against an agent that runs real processes.
//! Here because this crate alone may use both.

#![allow(clippy::unwrap_used)] // In a test's helpers too.

mod stage;

use std::{path::PathBuf, time::Duration};

use aws_lc_rs::digest;
use bytes::Bytes;
use ops_core::connect::Urgency;
use ops_remote::pipe::{
    Chunk, CutOff, DocumentHabits, DownPipe, FRAME_BYTES, Pipe, ScriptHost, UpPipe,
};
use ops_test_needs::noise;
use ops_ui::Result;
use rustix::process::{Pid, test_kill_process};

use stage::{PATIENCE, Stage, soon};

/// A sandbox, and a pipe's far side on one of its machines.
struct PipeStage {
    stage: Stage,
    host: ScriptHost,
}

impl PipeStage {
    async fn new() -> Self {
        let stage = Stage::new().await;
        let host = ScriptHost {
            cx: stage.cx.clone(),
            instance: stage.instance.clone(),
            user: None,
            document: None,
            reason: None,
            urgency: Urgency::default(),
            known: DocumentHabits::default(),
        };
        Self { stage, host }
    }

    /// Starts `script`, which first tells the pipe's folder, its own process and its home.
    async fn pipe(&self, script: &str) -> (Pipe, Traces) {
        let script = format!(
            "printf \"!at %s %s %s\\n\" \"$private\" \"$(cat \"$private/process\")\" \"$PWD\" >&6\n\
             while [ ! -e \"$private/go\" ]; do sleep 0.02; done\n{script}"
        );
        let mut pipe = soon(Pipe::start(&self.host, &script)).await.unwrap();
        let text = message(&mut pipe.down).await;
        let mut words = text.split(' ').skip(1);
        let traces = Traces {
            folder: words.next().unwrap().into(),
            process: Pid::from_raw(words.next().unwrap().parse().unwrap()).unwrap(),
            home: words.next().unwrap().into(),
        };
        assert!(traces.folder.is_dir() && traces.is_running());
        // Messages and output do not wait for each other.
        std::fs::write(traces.folder.join("go"), "").unwrap();
        (pipe, traces)
    }

    /// Ends everything that was dropped.
    async fn settle(self, traces: &[Traces]) {
        soon(self.host.cx.interrupt().finished()).await;
        for traces in traces {
            until("nothing is left", || {
                !traces.folder.exists() && !traces.is_running()
            })
            .await;
        }
        self.stage.settle().await;
    }
}

/// What a pipe leaves on the server while it lives.
struct Traces {
    folder: PathBuf,
    process: Pid,
    /// Of the machine's user.
    home: PathBuf,
}

impl Traces {
    fn is_running(&self) -> bool {
        is_running(self.process)
    }
}

fn is_running(process: Pid) -> bool {
    // A dead one that nobody has waited for is not running.
    test_kill_process(process).is_ok()
        && std::fs::read_to_string(format!("/proc/{process}/stat"))
            .map_or(true, |stat| !stat.contains(") Z "))
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

/// The script's next message.
async fn message(down: &mut DownPipe) -> String {
    match soon(down.next()).await.unwrap() {
        Some(Chunk::Message(text)) => text,
        other => panic!("{other:?} is no message"),
    }
}

/// Exactly `len` bytes of output.
async fn exactly(down: &mut DownPipe, len: usize) -> Vec<u8> {
    let mut read = Vec::new();
    while read.len() < len {
        match soon(down.next()).await.unwrap() {
            Some(Chunk::Bytes(bytes)) => read.extend_from_slice(&bytes),
            other => panic!("{other:?} after {} bytes", read.len()),
        }
    }
    assert_eq!(read.len(), len);
    read
}

/// All output to the end, and how many bytes it was: the hash alone is kept.
async fn drain(mut down: DownPipe) -> Result<(usize, Vec<u8>, Option<i32>)> {
    let (mut len, mut hash) = (0, digest::Context::new(&digest::SHA256));
    while let Some(chunk) = down.next().await? {
        if let Chunk::Bytes(bytes) = chunk {
            len += bytes.len();
            hash.update(&bytes);
        }
    }
    Ok((len, hash.finish().as_ref().to_vec(), down.status()))
}

async fn feed(up: &mut UpPipe, bytes: &Bytes, frame_bytes: usize) -> Result<()> {
    for at in (0..bytes.len()).step_by(frame_bytes) {
        let end = bytes.len().min(at + frame_bytes);
        up.send(bytes.slice(at..end)).await?;
    }
    Ok(())
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, bytes).as_ref().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_passes_both_ways_and_the_status_comes_last() {
    let stage = PipeStage::new().await;
    let (pipe, traces) = stage.pipe("cat; echo gone >&2; exit 42").await;
    let Pipe { mut down, mut up } = pipe;
    // What is written arrives before anything else is: nobody waits for a buffer to be full.
    for piece in [&b"\x00"[..], b"ping", &(0..=255).collect::<Vec<u8>>()] {
        soon(up.send(Bytes::copy_from_slice(piece))).await.unwrap();
        assert_eq!(exactly(&mut down, piece.len()).await, piece);
    }
    let invalid =
        Bytes::from(b"\xff\xfe\xed\xa0\x80\xef\xbf\xbd!\r\n\x03\x1c\x04\x1a".repeat(5000));
    let bytes = Bytes::from(noise(9_000_000));
    let send = async {
        feed(&mut up, &invalid, 4096 + 1).await?;
        feed(&mut up, &bytes, FRAME_BYTES).await?;
        up.end().await?;
        up.wait().await
    };
    let (sent, got) = soon(async { tokio::join!(send, drain(down)) }).await;
    assert_eq!(sent.unwrap(), Some(0));
    let (len, hash, status) = got.unwrap();
    assert_eq!(len, invalid.len() + bytes.len());
    assert_eq!(hash, sha256(&[&invalid[..], &bytes[..]].concat()));
    assert_eq!(status, Some(42));
    drop(up);
    stage.settle(&[traces]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_holds_the_other_back_and_loses_nothing() {
    let stage = PipeStage::new().await;
    // Towards the server: the process reads a little, then waits for a file.
    let script =
        "head -c 10 >/dev/null; echo wait; while [ ! -e go ]; do sleep 0.05; done; cat | sha256sum";
    let (pipe, traces) = stage.pipe(script).await;
    let Pipe { mut down, mut up } = pipe;
    let bytes = Bytes::from(noise(5 * (1 << 20)));
    let accepted = std::sync::atomic::AtomicUsize::new(0);
    let send = async {
        for at in (0..bytes.len()).step_by(1 << 20) {
            up.send(bytes.slice(at..at + (1 << 20))).await?;
            accepted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
        up.end().await
    };
    let watch = async {
        exactly(&mut down, 5).await;
        // For a while nothing but the one frame without credit is taken; however busy the machine
        // is, never more.
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        for _ in 0..50 {
            tick.tick().await;
            assert!(accepted.load(std::sync::atomic::Ordering::SeqCst) <= 1);
        }
        std::fs::write(traces.home.join("go"), "").unwrap();
        let mut text = Vec::new();
        while let Some(chunk) = down.next().await? {
            if let Chunk::Bytes(bytes) = chunk {
                text.extend_from_slice(&bytes);
            }
        }
        Ok(text)
    };
    let (sent, told) = soon(async { tokio::join!(send, watch) }).await;
    let told: Result<Vec<u8>> = told;
    sent.unwrap();
    // Somewhere past the ten bytes: head takes a whole buffer from a pipe.
    let told = String::from_utf8(told.unwrap()).unwrap();
    let rest = |skip: usize| {
        sha256(&bytes[skip..])
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    assert!(
        [10, 512, 1024, 4096, 8192]
            .iter()
            .any(|&skip| told.starts_with(&rest(skip))),
        "{told}"
    );
    drop((down, up));

    // From the server: nobody takes what the process writes, so that it does not get far.
    let script = "i=0; while [ $i -lt 48 ]; do head -c 1048576 /dev/zero; i=$((i + 1)); echo $i >written; done";
    let (pipe, more) = stage.pipe(script).await;
    let Pipe { down, mut up } = pipe;
    up.end().await.unwrap();
    let path = more.home.join("written");
    let written = || {
        std::fs::read_to_string(&path)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0)
    };
    until("something is written", || written() > 0).await;
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    for _ in 0..100 {
        tick.tick().await;
        assert!(written() < 24, "{} MiB wait somewhere", written());
    }
    let (len, _, status) = soon(drain(down)).await.unwrap();
    assert_eq!(len, 48 << 20);
    assert_eq!(status, Some(0));
    drop(up);
    stage.settle(&[traces, more]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_dies_ends_both_halves() {
    let stage = PipeStage::new().await;
    let (pipe, traces) = stage.pipe("head -c 100000 | wc -c; exit 7").await;
    let Pipe { down, mut up } = pipe;
    let bytes = Bytes::from(noise(4_000_000));
    let send = async {
        let sent = feed(&mut up, &bytes, 1 << 20).await;
        match sent {
            Ok(()) => up.end().await,
            other => other,
        }
    };
    let (sent, got) = soon(async { tokio::join!(send, drain(down)) }).await;
    let error = sent.unwrap_err();
    assert!(error.what().contains("takes no more"), "{error}");
    let (_, hash, status) = got.unwrap();
    assert_eq!((hash, status), (sha256(b"100000\n"), Some(7)));
    drop(up);
    // By a signal that nobody can catch: the status of its shell.
    let (pipe, more) = stage.pipe("exec sleep 1000").await;
    rustix::process::kill_process(more.process, rustix::process::Signal::KILL).unwrap();
    let Pipe { down, up } = pipe;
    let (len, _, status) = soon(drain(down)).await.unwrap();
    assert_eq!((len, status), (0, Some(137)));
    drop(up);
    stage.settle(&[traces, more]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_pipe_that_is_dropped() {
    let stage = PipeStage::new().await;
    // One that reads and writes, one that does neither, one that does not want to go.
    let (reads, first) = stage.pipe("cat; touch end").await;
    let child = "sleep 1000 & echo $! >&2; printf \"!child %s\\n\" $! >&6; wait; touch end";
    let (mut sleeps, second) = stage.pipe(child).await;
    let (stays, third) = stage
        .pipe("trap \"\" TERM HUP INT PIPE; while :; do sleep 0.2; done")
        .await;
    let child = message(&mut sleeps.down).await;
    let child: i32 = child.strip_prefix("child ").unwrap().parse().unwrap();
    let child = Pid::from_raw(child).unwrap();
    assert!(is_running(child));
    let Pipe { mut down, mut up } = reads;
    soon(up.send(Bytes::from_static(b"half of it")))
        .await
        .unwrap();
    exactly(&mut down, 10).await;
    drop((down, up, sleeps, stays));
    until("children are gone too", || !is_running(child)).await;
    let traces = [first, second, third];
    for traces in &traces {
        until("it is gone", || !traces.is_running()).await;
    }
    // Nobody took the end of the pipe for the end of the input.
    assert!(!traces[0].home.join("end").exists());
    stage.settle(&traces).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_download_that_is_dropped_while_its_output_is_blocked() {
    let stage = PipeStage::new().await;
    let script = "sh -c \"echo \\$PPID\" | { read -r process; printf \"!at %s\\n\" \"$process\" >&6; }\n\
                  exec cat /dev/zero";
    let mut down = soon(DownPipe::start(&stage.host, script)).await.unwrap();
    let text = message(&mut down).await;
    let process: i32 = text.strip_prefix("at ").unwrap().parse().unwrap();
    let process = Pid::from_raw(process).unwrap();
    // Nothing is read from here on, so that the agent is left with something to send.
    let counters = || std::fs::read_to_string(format!("/proc/{process}/io")).unwrap_or_default();
    let mut before = String::new();
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = counters();
        if std::mem::replace(&mut before, now.clone()) == now {
            break;
        }
    }
    assert!(is_running(process));
    drop(down);
    soon(stage.host.cx.interrupt().finished()).await;
    until("nothing is left", || !is_running(process)).await;
    stage.settle(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_loses_nothing_unnoticed() {
    let stage = PipeStage::new().await;
    // The session upwards is taken up again where it was; of the one downwards the agent may have
    // lost something, and then that is an error.
    let (pipe, traces) = stage.pipe("cat | tee got").await;
    stage
        .stage
        .running
        .set_faults("cut-after=400,cuts=1".parse().unwrap());
    let Pipe { down, mut up } = pipe;
    let bytes = Bytes::from(noise(3_000_000));
    let send = async {
        feed(&mut up, &bytes, 256 << 10).await?;
        up.end().await
    };
    let failed = tokio::sync::Notify::new();
    let send = async {
        tokio::select! {
            sent = send => Some(sent),
            // What nobody takes any more must not hold the other half.
            () = failed.notified() => None,
        }
    };
    let got = async {
        let got = drain(down).await;
        if got.is_err() {
            failed.notify_one();
        }
        got
    };
    let (sent, got) = Box::pin(soon(async { tokio::join!(send, got) })).await;
    match got {
        Ok((len, hash, status)) => {
            sent.unwrap().unwrap();
            assert_eq!((len, status), (bytes.len(), Some(0)));
            assert_eq!(hash, sha256(&bytes));
            assert!(std::fs::read(traces.home.join("got")).unwrap() == bytes);
        }
        Err(error) => assert!(error.came_from::<CutOff>(), "{error}"),
    }
    drop(up);
    stage.settle(&[traces]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_without_live_output_is_refused_at_once() {
    let stage = PipeStage::new().await;
    let host = ScriptHost {
        document: Some("Sandbox-CommandPlain".to_owned()),
        known: DocumentHabits::default(),
        ..stage.host.clone()
    };
    let Err(error) = soon(Pipe::start(&host, "cat")).await else {
        panic!("a pipe without live output");
    };
    assert!(error.what().contains("only when it has ended"), "{error}");
    stage.settle(&[]).await;
}

/// Sessions that were started so far.
fn starts(stage: &PipeStage) -> usize {
    let log = stage.stage.running.log();
    let calls = log["calls"].as_array().unwrap();
    calls
        .iter()
        .filter(|call| call["action"] == "StartSession")
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_before_separated_output_is_known_by_its_version_and_nothing_lingers() {
    for version in ["3.0.1124.0", "3.1.1188.0"] {
        let stage = PipeStage::new().await;
        let faults = format!("agent-version={version}");
        stage.stage.running.set_faults(faults.parse().unwrap());
        let down = soon(DownPipe::start(&stage.host, "printf hello; exit 3"))
            .await
            .unwrap();
        // The version says so before anything has come, and the first session is used as it is.
        let known = &stage.host.known;
        assert!(known.is_joined(), "{version}");
        assert_eq!(known.agent_version().unwrap().as_str(), version);
        assert_eq!(starts(&stage), 1);
        let (len, hash, status) = soon(drain(down)).await.unwrap();
        assert_eq!((len, status), (5, Some(3)));
        assert_eq!(hash, sha256(b"hello"));
        let again = soon(DownPipe::start(&stage.host, "true")).await.unwrap();
        soon(drain(again)).await.unwrap();
        assert_eq!(starts(&stage), 2);
        let Err(error) = soon(Pipe::start(&stage.host, "cat")).await else {
            panic!("a pipe without live output");
        };
        assert!(error.why()[0].contains(version), "{error}");
        stage.settle(&[]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_version_in_the_list_of_agents_saves_a_start_and_the_handshake_corrects_it() {
    for (agent, expected) in [("3.1.1188.0", 1), ("3.3.987.0", 2)] {
        let stage = PipeStage::new().await;
        let faults = format!("agent-version={agent}");
        stage.stage.running.set_faults(faults.parse().unwrap());
        let mut host = stage.host.clone();
        host.instance.agent_version = Some("3.1.1188.0".to_owned());
        let down = soon(DownPipe::start(&host, "printf hello")).await.unwrap();
        let (len, _, status) = soon(drain(down)).await.unwrap();
        assert_eq!((len, status), (5, Some(0)), "{agent}");
        assert_eq!(starts(&stage), expected, "{agent}");
        assert_eq!(host.known.is_joined(), expected == 1);
        stage.settle(&[]).await;
    }
}
