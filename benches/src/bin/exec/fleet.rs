//! 200 servers, a session to each: without a limit on starts, and with AWS's own.

use std::{fmt::Write as _, fs, io, time::Duration};

use ops_bench::{report::Report, stage::Stage};

use crate::{MEGABYTE, Taken, finish, shown_memory, start::met};

const SERVERS: usize = 200;
/// Calls of StartSession a second, and as many at once. Source: "AWS Systems Manager endpoints and
/// quotas" in the AWS General Reference; the burst is not documented.
const QUOTA: usize = 3;
/// What may be added to the time that the quota allows.
const MARGIN: f64 = 1.1;
const TARGET_WALL: Duration = Duration::from_secs(3);
/// In megabytes.
const TARGET_MEMORY: f64 = 100.0;

pub(crate) fn measure(report: &mut Report) -> io::Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("fleet.yaml");
    let mut fleet = String::from("instances:\n");
    for number in 1..=SERVERS {
        let _ = writeln!(fleet, "  - name: node-{number}");
    }
    fs::write(&path, fleet)?;
    let fleet = path.to_string_lossy().into_owned();
    let serve = |faults: &[&str]| {
        let options = ["--agent-pace", "real", "--fleet", &fleet];
        Stage::serve(&[&options, faults].concat())
    };
    let stage = serve(&["--fault", "tps=off"])?;
    let unlimited = uptime(&stage, &[("OPS_START_RATE", "0")])?;
    drop(stage);
    let stage = serve(&[])?;
    let limited = uptime(&stage, &[])?;
    // The first few are there at once.
    let allowed = Duration::from_secs_f64((SERVERS - QUOTA) as f64 / QUOTA as f64);
    let ratio = limited.time.as_secs_f64() / allowed.as_secs_f64();
    let row = |name: &str, allowed: String, taken: &Taken, ratio: String| {
        vec![
            name.to_owned(),
            allowed,
            format!("{:.2} s", taken.time.as_secs_f64()),
            ratio,
            shown_memory(taken.memory_bytes),
        ]
    };
    report.line(&format!(
        "`ops exec --via session 'node-*' -- uptime` on {SERVERS} servers of one sandbox, which \
         shares the processors"
    ));
    report.table(
        &["", "quota allows", "took", "ratio", "peak MB"],
        &[
            row(
                "no limit on starts",
                "-".to_owned(),
                &unlimited,
                "-".to_owned(),
            ),
            row(
                "three starts a second",
                format!("{:.1} s", allowed.as_secs_f64()),
                &limited,
                format!("{ratio:.2}"),
            ),
        ],
    );
    let memory = unlimited.memory_bytes.max(limited.memory_bytes);
    let is_small = memory.is_some_and(|bytes| (bytes as f64) < TARGET_MEMORY * MEGABYTE);
    report.line(&format!(
        "target: under {} s without a limit ({}), ratio {MARGIN} at most with one ({}), under \
         {TARGET_MEMORY} MB ({})",
        TARGET_WALL.as_secs(),
        met(unlimited.time < TARGET_WALL),
        met(ratio <= MARGIN),
        met(is_small)
    ));
    Ok(())
}

fn uptime(stage: &Stage, variables: &[(&str, &str)]) -> io::Result<Taken> {
    let mut command = stage.ops();
    command
        .envs(variables.iter().copied())
        .args(["exec", "-n", "--via", "session", "node-*", "--", "uptime"]);
    finish(&mut command)
}
