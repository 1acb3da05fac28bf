//! Sessions that are lost, at any moment and again and again.

use std::{fs, path::Path, time::Duration};

use bytes::Bytes;
use ops_remote::exec::{self, Event, Request, Signal, Status};
use ops_ui::{Error, ErrorKind};

use super::{PATIENCE, RunRecord, Stage, drain, noise, sh, soon, started, starts, until};

impl Stage {
    /// What a command has written into this file of its home, if it has.
    fn written(&self, name: &str) -> String {
        let home = self.cx.env().var_os("HOME").unwrap();
        let home = Path::new(home).join("sandbox");
        let mut found = String::new();
        let mut folders = vec![home];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                let path = entry.path();
                if path.is_dir() && !path.is_symlink() {
                    folders.push(path);
                } else if path.file_name().is_some_and(|file| file == name) {
                    found.push_str(&fs::read_to_string(path).unwrap());
                }
            }
        }
        found
    }
}

/// Nobody has told then whether the command runs: it must neither be lost nor run twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_session_that_is_lost_is_replaced_and_the_command_runs_once() {
    let stage = Stage::new().await;
    let mut number = 0;
    for (fault, counts) in [
        ("cut-after", &[2, 4, 5, 6, 7][..]),
        ("bye-after", &[8]),
        ("end-after", &[6, 7]),
        ("agent-version=3.1.1188.0,end-after", &[6]),
    ] {
        for (index, count) in counts.iter().enumerate() {
            for stdin in [false, true] {
                if stdin && index % 2 == 1 {
                    continue;
                }
                number += 1;
                let mut request = sh(&format!("cat; echo ran >>ran-{number}; echo out; exit 3"));
                request.stdin = stdin;
                let faults = format!("{fault}={count},first=1");
                stage.running.set_faults(faults.parse().unwrap());
                let told = run_with_input(&stage, request, b"in\n").await;
                let expected: &[u8] = if stdin { b"in\nout\n" } else { b"out\n" };
                let what = format!("{faults}, input {stdin}");
                assert_eq!(told.stdout, expected, "{what}");
                assert_eq!(told.status, Some(Status::Code(3)), "{what}");
                assert_eq!(stage.written(&format!("ran-{number}")), "ran\n", "{what}");
            }
        }
    }
    stage.settle().await;
}

async fn run_with_input(stage: &Stage, request: Request, bytes: &'static [u8]) -> RunRecord {
    let mut run = stage.start(request).await;
    let stdin = run.take_stdin();
    let send = async {
        if let Some(mut stdin) = stdin {
            let _ = stdin.send(Bytes::from_static(bytes)).await;
            let _ = stdin.end().await;
        }
    };
    let ((), told) = soon(async { tokio::join!(send, drain(&mut run)) }).await;
    told.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_close_at_once_are_tried_with_growing_pauses_and_not_for_ever() {
    let stage = Stage::new().await;
    let mut request = sh("sleep 1000");
    request.patience = Duration::from_secs(3);
    let (mut run, traces) = started(&stage, request).await;
    let before = starts(&stage);
    // Behind the handshake, so that each is open for a moment.
    stage.running.set_faults("end-after=6".parse().unwrap());
    let error = loop {
        match soon(run.next()).await {
            Ok(Some(Event::Stdout(_))) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    // Under load the server may have given up first.
    let is_said = ["no other one could be had", "cannot be gone on with"]
        .iter()
        .any(|words| error.what().contains(words));
    assert!(is_said, "{error}");
    // Pauses of 0, 0.2, 0.4, 0.8, 1.6 seconds, and one session to end the command.
    let tried = starts(&stage) - before;
    assert!((3..=8).contains(&tried), "{tried} sessions");
    traces.gone().await;
    stage.settle().await;
}

/// A command that copies its input to both streams, `len` bytes, with its sessions cut and closed;
/// in the middle of it the service starts none for `away`.
async fn copies_through_losses(len: usize, cuts: &str, away: Duration) {
    let stage = Stage::new().await;
    stage.running.set_faults(cuts.parse().unwrap());
    let mut request = sh("tee /dev/stderr; exit 5");
    request.stdin = true;
    let mut run = stage.start(request).await;
    let mut stdin = run.take_stdin().unwrap();
    let bytes = noise(len);
    let send = async {
        for piece in bytes.chunks(300_001) {
            stdin.send(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        stdin.end().await.unwrap();
    };
    let absence = async {
        until("sessions were lost", || starts(&stage) > 5).await;
        let gone = "end-after=1,fail=ssm:StartSession";
        stage.running.set_faults(gone.parse().unwrap());
        tokio::time::sleep(away).await;
        stage.running.set_faults(cuts.parse().unwrap());
    };
    let patience = PATIENCE + 20 * away;
    let all = async { tokio::join!(send, absence, drain(&mut run)) };
    let ((), (), told) = tokio::time::timeout(patience, all).await.expect("in time");
    let told = told.unwrap();
    assert_eq!((told.stdout.len(), told.stderr.len()), (len, len));
    assert!(told.stdout == bytes && told.stderr == bytes);
    assert_eq!(told.status, Some(Status::Code(5)));
    assert!(starts(&stage) > 20, "{} sessions", starts(&stage));
    stage.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_directions_are_whole_after_cuts_and_closes_and_a_time_away() {
    let cuts = "cut-after=400,bye-after=250";
    copies_through_losses(3_000_000, cuts, Duration::from_secs(1)).await;
}

/// Takes more than a minute: to be run by hand.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: cargo test -p ops --test exec long_ -- --ignored"]
async fn long_both_directions_are_whole_after_a_minute_away() {
    let cuts = "cut-after=4000,bye-after=9000,cuts=2";
    copies_through_losses(50_000_000, cuts, Duration::from_secs(60)).await;
}

/// Runs a line, sends `signal` once nothing can reach the server any more, and gives what comes of
/// it.
async fn signalled_behind(stage: &Stage, faults: &str, signal: Signal) -> Error {
    let mut request = sh("sleep 1000");
    request.patience = Duration::from_secs(5);
    request.signal_patience = Duration::from_millis(500);
    let (mut run, _) = started(stage, request).await;
    stage.running.set_faults(faults.parse().unwrap());
    run.signals().send(signal);
    let error = soon(run.next()).await.expect_err("no word of the server");
    stage.running.set_faults("".parse().unwrap());
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_that_no_server_answers_ends_the_wait() {
    let stage = Stage::new().await;
    let silent = "silent-after=1";
    let unreachable = "cut-after=1,cuts=100,fail=ssm:StartSession,fail=ssm:ResumeSession";
    for (faults, signal, kind) in [
        (silent, Signal::Terminate, ErrorKind::Terminated),
        (silent, Signal::Interrupt, ErrorKind::Interrupted),
        (silent, Signal::HangUp, ErrorKind::Terminated),
        (unreachable, Signal::Terminate, ErrorKind::Terminated),
        (unreachable, Signal::Interrupt, ErrorKind::Interrupted),
    ] {
        let error = signalled_behind(&stage, faults, signal).await;
        assert!(error.came_from::<exec::Unanswered>(), "{faults}: {error}");
        assert_eq!(error.kind(), kind);
        let line = error.one_line().to_string();
        assert!(line.contains(&format!("SIG{}", signal.name())), "{line}");
        for words in [
            "may still run there",
            "the server ends the command 5 s after its client has gone",
            "ops exec web-1 -- ps -ef",
        ] {
            assert!(line.contains(words), "{line}");
        }
    }
}

/// The command needs longer than a signal may be without a word of the server.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_ends_cleanly_after_a_signal_is_waited_for() {
    let stage = Stage::new().await;
    for (signal, stdin) in [(Signal::Terminate, false), (Signal::Interrupt, true)] {
        let name = signal.name();
        let cleaning = "i=0; while [ $i -lt 30 ]; do sleep 0.1; echo; i=$((i + 1)); done; exit 7";
        let mut request = sh(&format!(
            "trap '{cleaning}' {name}; while :; do sleep 0.1; echo; done"
        ));
        request.stdin = stdin;
        request.signal_patience = Duration::from_millis(1500);
        let (mut run, traces) = started(&stage, request).await;
        let _stdin = run.take_stdin();
        run.signals().send(signal);
        let status = loop {
            match soon(run.next()).await.unwrap() {
                Some(Event::Ended(status)) => break status,
                // The sleep at hand gets the signal too, and the shell may say so.
                Some(Event::Stdout(_) | Event::Stderr(_)) => {}
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(status, Status::Code(7), "{name}");
        traces.gone().await;
    }
    stage.settle().await;
}
