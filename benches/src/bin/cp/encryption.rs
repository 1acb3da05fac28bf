//! What encryption costs: the same copies and the same output of a shell on a server whose sessions
//! are encrypted and on one whose are not, in turn, with agents that do not pace.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use ops_bench::{report::Report, stage::Stage};

use crate::{content, finish, same};

const KEY: &str = "arn:aws:kms:eu-west-1:123456789012:key/bench";
/// Each way is measured so often, and its best counts: what else the machine does costs time and
/// never gives any.
const ROUNDS: usize = 3;

/// Prints a megabyte on the server.
const PRINT: &str = "head -c 1000000 /dev/zero | tr '\\0' x";
/// The same, at most twenty times a second.
const PRINT_AT_20_MB: &str = "head -c 1000000 /dev/zero | tr '\\0' x; sleep 0.05";

/// The servers of the comparison, by name.
const SERVERS: [&str; 2] = ["clear", "encrypted"];

/// Reports on files, and on output of a shell, of `megabytes`.
pub(crate) fn compare(report: &mut Report, folder: &Path, megabytes: usize) -> io::Result<()> {
    let fleet = folder.join("encryption.yaml");
    fs::write(
        &fleet,
        format!(
            "instances:\n  - {{ name: clear }}\n  - {{ name: encrypted, kms_key: \"{KEY}\" }}\n"
        ),
    )?;
    let stage = Stage::serve(&["--fleet", &fleet.to_string_lossy()])?;
    let file = folder.join("encryption-noise");
    fs::write(&file, content(false, megabytes * 1_000_000))?;
    let mut best = [[Duration::MAX; 4]; 2];
    for _ in 0..ROUNDS {
        for (server, best) in SERVERS.into_iter().zip(&mut best) {
            let taken = [
                copy(&stage, folder, &file, server, true)?,
                copy(&stage, folder, &file, server, false)?,
                print(&stage, server, megabytes, PRINT)?,
                print(&stage, server, megabytes, PRINT_AT_20_MB)?,
            ];
            for (best, taken) in best.iter_mut().zip(taken) {
                *best = taken.min(*best);
            }
        }
    }
    let rate = |taken: Duration| megabytes as f64 / taken.as_secs_f64();
    let ways = [
        "cp up, 1 session",
        "cp down, 1 session",
        "output of a shell",
        "output of a shell, at most 20 MB/s",
    ];
    let rows: Vec<Vec<String>> = ways
        .iter()
        .enumerate()
        .map(|(way, name)| {
            let [clear, encrypted] = [rate(best[0][way]), rate(best[1][way])];
            vec![
                (*name).to_owned(),
                format!("{clear:.1}"),
                format!("{encrypted:.1}"),
                format!("{:.2}", encrypted / clear),
            ]
        })
        .collect();
    report.line(&format!(
        "{megabytes} MB with and without encryption, agents unpaced, best of {ROUNDS}"
    ));
    report.table(&["", "clear MB/s", "encrypted MB/s", "ratio"], &rows);
    Ok(())
}

fn copy(stage: &Stage, folder: &Path, file: &Path, server: &str, up: bool) -> io::Result<Duration> {
    let far = folder.join(format!("encryption-{server}"));
    let back = folder.join("encryption-back");
    let remote = format!("{server}:{}", far.display());
    let places = if up {
        [file.display().to_string(), remote]
    } else {
        [remote, back.display().to_string()]
    };
    let arrived = if up { &far } else { &back };
    let _ = fs::remove_file(arrived);
    let mut command = stage.ops();
    command
        .args(["cp", "-q", "--via", "session", "--sessions", "1"])
        .args(places);
    let taken = finish(&mut command)?;
    same(file, arrived)?;
    Ok(taken.time)
}

/// Has a shell on `server` run `print_megabyte` so often.
fn print(
    stage: &Stage,
    server: &str,
    megabytes: usize,
    print_megabyte: &str,
) -> io::Result<Duration> {
    let begin = Instant::now();
    let mut child = stage
        .ops()
        .args(["shell", server])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let bytes = megabytes * 1_000_000;
    let script = format!(
        "stty -echo -opost; for n in $(seq {megabytes}); do {print_megabyte}; done; exit\n"
    );
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(script.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if output.stdout.len() < bytes {
        return Err(io::Error::other("the shell printed too little"));
    }
    Ok(begin.elapsed())
}
