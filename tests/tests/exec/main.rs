//! `ops exec`: a command on one server and on many, over the sandbox's real shells.

#![allow(clippy::unwrap_used)] // In a test's helpers too.

mod guards;
mod logs;
mod many;
mod run_command;
mod script;
mod servers;
mod single;
mod ways_out;

use std::time::{Duration, Instant};

use ops_tests::lab::PATIENCE;

/// Waits until `is_so`: what ends on a server ends a moment after its client.
#[track_caller]
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(
            begin.elapsed() < PATIENCE,
            "{what}: not within {PATIENCE:?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a process sleeps for so many seconds: a program of its own, no shell that is about to
/// start one.
fn is_sleeping(seconds: &str) -> bool {
    let wanted = format!("sleep\0{seconds}\0");
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(Result::ok)
        // A process that has just ended has no command line.
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .any(|line| line == wanted.as_bytes())
}

/// The status of a child that ends within a test's patience.
#[track_caller]
fn status_of(child: &mut std::process::Child) -> Option<i32> {
    let mut status = None;
    eventually("the client ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.and_then(|status| status.code())
}

/// A number of seconds to sleep that no other test sleeps: processes are found by it.
fn odd_seconds() -> String {
    format!("9{:06}.{}", std::process::id(), rand())
}

fn rand() -> u32 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .subsec_nanos()
}
