//! `ops exec`: a command on one server and on many, over the sandbox's real shells.

#![allow(clippy::unwrap_used)] // In a test's helpers too.

mod guards;
mod many;
mod script;
mod single;
mod ways_out;

use std::{
    path::Path,
    time::{Duration, Instant},
};

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

/// Whether a process runs whose command line holds `mark`.
fn is_running(mark: &str) -> bool {
    let own = std::process::id().to_string();
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(Result::ok)
        .filter(|entry| {
            let name = entry.file_name();
            name.as_encoded_bytes().iter().all(u8::is_ascii_digit) && name != *own
        })
        .any(|entry| command_line(&entry.path()).contains(mark))
}

fn command_line(process: &Path) -> String {
    // A process that has just ended has none.
    let bytes = std::fs::read(process.join("cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
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
