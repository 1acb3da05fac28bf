//! How fast the bytes of a command are, against `ops cp` by session, and its memory at a gigabyte.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use ops_bench::{
    report::Report,
    stage::{Stage, write_fleet_of_one},
};

use crate::{MEGABYTE, Taken, finish, shown_memory, start::met, unpaced};

/// Megabytes that both ways carry.
const COMPARED: usize = 256;
/// Megabytes at which memory is looked at.
const LARGE: usize = 1000;
const TARGET_RATIO: f64 = 0.9;
/// In megabytes.
const TARGET_MEMORY: f64 = 30.0;

pub(crate) fn measure(report: &mut Report) -> io::Result<()> {
    let folder = tempfile::tempdir()?;
    let fleet = write_fleet_of_one(folder.path(), None)?;
    let stage = Stage::serve(&[
        "--agent-pace",
        "real",
        "--fault",
        "tps=off",
        "--fleet",
        &fleet,
    ])?;
    let noise = folder.path().join("noise");
    write_noise(&noise, COMPARED)?;
    let (far, back) = (folder.path().join("far"), folder.path().join("back"));
    let place = format!("web-1:{}", far.display());
    let cp = |from: &Path, to: &Path| {
        let mut command = unpaced(&stage);
        command.args(["cp", "-q", "--via", "session", "--sessions", "1"]);
        command.arg(from).arg(to);
        finish(&mut command)
    };
    let rate = |taken: &Taken, megabytes| megabytes as f64 / taken.time.as_secs_f64();
    let cp_up = rate(&cp(&noise, Path::new(&place))?, COMPARED);
    let cp_down = rate(&cp(Path::new(&place), &back)?, COMPARED);
    fs::remove_file(&back)?;
    let (up, down) = (send(&stage, &noise)?, fetch(&stage, &noise)?);
    let (exec_up, exec_down) = (rate(&up, COMPARED), rate(&down, COMPARED));
    let (ratio_up, ratio_down) = (exec_up / cp_up, exec_down / cp_down);
    report.line(&format!(
        "{COMPARED} MB of noise through one session, MB/s, with the ratio to `ops cp` by session"
    ));
    let row = |name: &str, up: f64, ratio_up: f64, down: f64, ratio_down: f64| {
        vec![
            name.to_owned(),
            format!("{up:.1}"),
            format!("{ratio_up:.2}"),
            format!("{down:.1}"),
            format!("{ratio_down:.2}"),
        ]
    };
    report.table(
        &["", "up", "ratio", "down", "ratio"],
        &[
            row("`ops cp --via session`", cp_up, 1.0, cp_down, 1.0),
            row(
                "`ops exec`: standard input, output",
                exec_up,
                ratio_up,
                exec_down,
                ratio_down,
            ),
        ],
    );
    for path in [&noise, &far] {
        fs::remove_file(path)?;
    }
    let large = folder.path().join("large");
    write_noise(&large, LARGE)?;
    let (up, down) = (send(&stage, &large)?, fetch(&stage, &large)?);
    let memory = up.memory_bytes.max(down.memory_bytes);
    report.line(&format!(
        "{LARGE} MB of noise, MB/s and the most memory, in MB"
    ));
    report.table(
        &["", "MB/s", "peak MB"],
        &[
            vec![
                "standard input".to_owned(),
                format!("{:.1}", rate(&up, LARGE)),
                shown_memory(up.memory_bytes),
            ],
            vec![
                "standard output".to_owned(),
                format!("{:.1}", rate(&down, LARGE)),
                shown_memory(down.memory_bytes),
            ],
        ],
    );
    let is_small = memory.is_some_and(|bytes| (bytes as f64) < TARGET_MEMORY * MEGABYTE);
    report.line(&format!(
        "target: ratios {TARGET_RATIO} at least (up {}, down {}), under {TARGET_MEMORY} MB ({})",
        met(ratio_up >= TARGET_RATIO),
        met(ratio_down >= TARGET_RATIO),
        met(is_small)
    ));
    Ok(())
}

/// Standard input, to its end on the server.
fn send(stage: &Stage, file: &Path) -> io::Result<Taken> {
    let mut command = unpaced(stage);
    command
        .args(["exec", "web-1", "--", "sh", "-c", "cat >/dev/null"])
        .stdin(File::open(file)?);
    finish(&mut command)
}

/// Standard output.
fn fetch(stage: &Stage, file: &Path) -> io::Result<Taken> {
    let mut command = unpaced(stage);
    command.args(["exec", "web-1", "--", "cat"]).arg(file);
    finish(&mut command)
}

/// Bytes that do not compress.
fn write_noise(path: &Path, megabytes: usize) -> io::Result<()> {
    let mut file = io::BufWriter::new(File::create(path)?);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..megabytes * 1_000_000 / 8 {
        // xorshift64 (Marsaglia, 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.write_all(&state.to_le_bytes())?;
    }
    file.flush()
}
