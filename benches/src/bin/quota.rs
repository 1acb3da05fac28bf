//! What the quota of StartSession costs, in one run: a small file copied to forty servers, and a
//! hundred `ops ssh-proxy` at once, as an Ansible run starts them.
//!
//! `cargo run --release -p ops-bench --bin bench-quota` takes about a minute. The sandbox enforces
//! the documented quota (`--agent-pace real`): three starts a second, three at once. For as many
//! sessions as were started the quota allows a time; the target is a tenth more. Nothing may fail,
//! and a call that was throttled is one that the pacer let out too early.

use std::{
    fmt::Write as _,
    fs, io,
    net::TcpListener,
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use ops_bench::{
    report::Report,
    stage::{self, Stage},
};
use serde_json::Value;

const SERVERS: usize = 40;
const PROXIES: usize = 100;
/// Calls of StartSession a second, and as many at once. Source: "AWS Systems Manager endpoints and
/// quotas" in the AWS General Reference; the burst is not documented.
const QUOTA: usize = 3;
/// What may be added to the time that the quota allows.
const MARGIN: f64 = 1.1;

fn main() -> ExitCode {
    if let Some(end) = stage::act() {
        return end;
    }
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("quota: {error}");
            ExitCode::FAILURE
        }
    }
}

/// True: every target was met.
fn run() -> io::Result<bool> {
    let runs: [(&str, Work); 2] = [
        ("a small file to 40 servers", copies),
        ("100 ssh-proxy at once", proxies),
    ];
    let (mut rows, mut are_met) = (Vec::new(), true);
    for (what, work) in runs {
        let bench = Bench::new()?;
        let begin = Instant::now();
        let failed: usize = work(&bench)?;
        let took = begin.elapsed();
        let starts = bench.starts()?;
        let allowed = allowed(starts.answered);
        let ratio = took.as_secs_f64() / allowed.as_secs_f64();
        are_met &= failed == 0 && ratio <= MARGIN;
        rows.push(vec![
            what.to_owned(),
            failed.to_string(),
            starts.answered.to_string(),
            starts.throttled.to_string(),
            format!("{:.1} s", allowed.as_secs_f64()),
            format!("{:.1} s", took.as_secs_f64()),
            format!("{ratio:.2}"),
        ]);
    }
    let head = [
        "",
        "failed",
        "sessions",
        "throttled",
        "quota allows",
        "took",
        "ratio",
    ];
    let mut report = Report::of("bench-quota");
    report.table(&head, &rows);
    report.line(&format!("target: none failed, ratio {MARGIN} at most"));
    report.finish()?;
    Ok(are_met)
}

/// Starts sessions; gives how many commands failed.
type Work = fn(&Bench) -> io::Result<usize>;

/// How long so many starts take if none waits longer than the quota demands: the first few are
/// there at once.
fn allowed(starts: usize) -> Duration {
    let in_turn = starts.saturating_sub(QUOTA).max(1);
    Duration::from_secs_f64(in_turn as f64 / QUOTA as f64)
}

/// What became of the calls of StartSession.
#[derive(Default)]
struct Starts {
    answered: usize,
    throttled: usize,
}

/// A sandbox of forty servers, with nothing used up of its quota.
struct Bench {
    stage: Stage,
    _fleet: tempfile::TempDir,
    /// A port of this machine, and so of every server's, that closes each connection.
    port: u16,
}

impl Bench {
    fn new() -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("fleet.yaml");
        let mut fleet = String::from("instances:\n");
        for number in 1..=SERVERS {
            let _ = writeln!(fleet, "  - name: node-{number}");
        }
        fs::write(&path, fleet)?;
        let path = path.display().to_string();
        let stage = Stage::serve(&["--fleet", &path, "--agent-pace", "real"])?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        thread::spawn(move || listener.incoming().for_each(drop));
        Ok(Self {
            stage,
            _fleet: folder,
            port,
        })
    }

    fn starts(&self) -> io::Result<Starts> {
        let log = self.stage.ops().args(["sandbox", "log"]).output()?;
        let log: Value = serde_json::from_slice(&log.stdout).map_err(io::Error::other)?;
        let mut starts = Starts::default();
        for call in log["calls"].as_array().into_iter().flatten() {
            if call["action"] == "StartSession" {
                match call["error"].is_null() {
                    true => starts.answered += 1,
                    false => starts.throttled += 1,
                }
            }
        }
        Ok(starts)
    }
}

/// How many commands failed; one failed if one server did.
fn copies(bench: &Bench) -> io::Result<usize> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("small");
    fs::write(&file, "a small file\n")?;
    let mut command = bench.stage.ops();
    command.arg("cp").arg(&file).arg("node-*:small");
    Ok(usize::from(!succeeded(command)?))
}

fn proxies(bench: &Bench) -> io::Result<usize> {
    let port = bench.port.to_string();
    let started: Vec<_> = (0..PROXIES)
        .map(|_| {
            let mut command = bench.stage.ops();
            command.args(["ssh-proxy", "node-1", &port]);
            thread::spawn(move || succeeded(command))
        })
        .collect();
    let mut failed = 0;
    for thread in started {
        let succeeded = thread
            .join()
            .map_err(|_| io::Error::other("a thread ended"))??;
        failed += usize::from(!succeeded);
    }
    Ok(failed)
}

/// Runs a command to its end; shows what it said if that was a failure.
fn succeeded(mut command: Command) -> io::Result<bool> {
    let output = command.stdout(Stdio::null()).output()?;
    if !output.status.success() {
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(output.status.success())
}
