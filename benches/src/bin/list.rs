//! Lists of a large fleet, and how soon `ops` is there at all.
//!
//! `cargo run --release -p ops-bench --bin bench-list [-- INSTANCES]` (100,000) takes about a
//! minute. The sandbox that answers is a process of its own on the same processors.

use std::{
    io,
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use ops_bench::{
    report::Report,
    stage::{self, Stage},
    usage,
};

/// Runs of what takes milliseconds, and of what takes seconds.
const SHORT_RUNS: usize = 20;
const LONG_RUNS: usize = 3;

fn main() -> ExitCode {
    stage::main(run)
}

fn run() -> io::Result<()> {
    let instances = stage::numbers()(100_000)?.to_string();
    let stage = Stage::serve(&["--fleet-size", &instances])?;
    let verbs: [(&str, &[&str], usize); 5] = [
        ("ops --help", &["--help"], SHORT_RUNS),
        ("ops version", &["version"], SHORT_RUNS),
        ("ops ls", &["ls"], LONG_RUNS),
        ("ops ls -o json", &["ls", "-o", "json"], LONG_RUNS),
        ("ops ls web-00001", &["ls", "web-00001"], LONG_RUNS),
    ];
    let mut rows = Vec::new();
    for (name, words, runs) in verbs {
        eprintln!("measuring: {name}");
        let mut times = Vec::new();
        let mut memory_bytes = None;
        for _ in 0..runs {
            let (time, memory) = finish(stage.ops().args(words))?;
            times.push(time);
            memory_bytes = memory.max(memory_bytes);
        }
        times.sort_unstable();
        rows.push(vec![
            format!("`{name}`"),
            format!("{:.1}", times[runs / 2].as_secs_f64() * 1000.0),
            format!("{:.1}", times[runs - 1].as_secs_f64() * 1000.0),
            memory_bytes.map_or("-".to_owned(), |bytes| {
                format!("{:.0}", bytes as f64 / 1_000_000.0)
            }),
        ]);
    }
    let mut report = Report::of("bench-list");
    report.line(&format!("whole processes over {instances} instances"));
    report.table(&["", "median ms", "worst ms", "peak MB"], &rows);
    report.finish()
}

/// Runs a command to its end; how long it took, and the most memory that it was seen to have.
fn finish(command: &mut Command) -> io::Result<(Duration, Option<u64>)> {
    let begin = Instant::now();
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let mut memory_bytes = None;
    // A pause this short costs a short run no more than a tenth.
    let pause = Duration::from_micros(300);
    let status = loop {
        memory_bytes = usage::peak_memory_bytes(child.id()).or(memory_bytes);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(pause);
    };
    if !status.success() {
        return Err(io::Error::other(format!("{command:?} failed: {status}")));
    }
    Ok((begin.elapsed(), memory_bytes))
}
