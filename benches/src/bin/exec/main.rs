//! `ops exec`: how long a command takes to start, how fast its bytes are, and many servers at once;
//! ratios within one run, agents paced as real ones are.
//!
//! `cargo run --release -p ops-bench --bin bench-exec [-- start|bytes|fleet|fleet-run-command]`
//! makes one of the four tables, or all of them in under six minutes. With `OPS_BENCH_RECORD=1`
//! only a run of all is kept.

mod bytes;
mod fleet;
mod fleet_run_command;
#[path = "../ssh/server.rs"]
mod server;
mod start;

use std::{
    io,
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use ops_bench::{
    report::Report,
    stage::{self, Stage},
    usage,
};

const MEGABYTE: f64 = 1_000_000.0;

fn main() -> ExitCode {
    stage::main(run)
}

fn run() -> io::Result<()> {
    type Table = (&'static str, fn(&mut Report) -> io::Result<()>);
    const TABLES: [Table; 4] = [
        ("start", start::measure),
        ("bytes", bytes::measure),
        ("fleet", fleet::measure),
        ("fleet-run-command", fleet_run_command::measure),
    ];
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) = wanted
        .iter()
        .find(|name| TABLES.iter().all(|(known, _)| known != name))
    {
        return Err(io::Error::other(format!(
            "there is no table `{unknown}`: start, bytes, fleet, fleet-run-command"
        )));
    }
    let mut report = Report::of("bench-exec");
    for (name, measure) in TABLES {
        if wanted.is_empty() || wanted.iter().any(|one| one == name) {
            measure(&mut report)?;
        }
    }
    // The section holds all tables, or none is replaced.
    if wanted.is_empty() {
        report.finish()
    } else {
        Ok(())
    }
}

/// `ops` over the sandbox, which takes no turns with others to start a session.
fn unpaced(stage: &Stage) -> Command {
    let mut command = stage.ops();
    command.env("OPS_START_RATE", "0");
    command
}

/// How long a command took, and the most memory it had meanwhile.
struct Taken {
    time: Duration,
    memory_bytes: Option<u64>,
}

/// Runs `command` to its end; what it writes goes nowhere.
fn finish(command: &mut Command) -> io::Result<Taken> {
    let begin = Instant::now();
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stderr = child.stderr.take();
    let said = std::thread::spawn(move || {
        let mut text = String::new();
        if let Some(stderr) = &mut stderr {
            let _ = io::Read::read_to_string(stderr, &mut text);
        }
        text
    });
    let (status, memory_bytes) = watch(&mut child)?;
    let time = begin.elapsed();
    if !status.success() {
        let said = said.join().unwrap_or_default();
        return Err(io::Error::other(format!("{command:?}: {status}\n{said}")));
    }
    Ok(Taken { time, memory_bytes })
}

/// Waits for its end, and looks at its memory on the way.
fn watch(child: &mut Child) -> io::Result<(std::process::ExitStatus, Option<u64>)> {
    let mut memory_bytes = None;
    // Short at first: a command that is over in a moment is not made longer by this.
    let mut pause = Duration::from_millis(1);
    loop {
        memory_bytes = usage::peak_memory_bytes(child.id()).or(memory_bytes);
        if let Some(status) = child.try_wait()? {
            return Ok((status, memory_bytes));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

fn shown_memory(bytes: Option<u64>) -> String {
    bytes.map_or("-".to_owned(), |bytes| {
        format!("{:.1}", bytes as f64 / MEGABYTE)
    })
}
