//! How long a build of `ops` takes, and how much memory its largest compiler process.
//!
//! `cargo run --release -p ops-bench --bin bench-build [-- PROFILE…]` (`release`) builds into a
//! folder of its own, from nothing, and once more after a change in a command crate. It takes a
//! quarter of an hour and more for each profile. Nothing else should run meanwhile.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use ops_bench::{report::Report, stage, usage};

/// What is changed for the second build: a command crate, that little waits for.
const CHANGED: &str = "crates/cmd-ls/src/ls.rs";
/// Between two looks at the compiler's processes.
const LOOK_EVERY: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    stage::end(run())
}

fn run() -> io::Result<()> {
    let mut profiles: Vec<String> = std::env::args().skip(1).collect();
    if profiles.is_empty() {
        profiles.push("release".to_owned());
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .ok_or_else(|| io::Error::other("the workspace is not there"))?;
    let mut rows = Vec::new();
    for profile in &profiles {
        let target = tempfile::Builder::new()
            .prefix("bench-build-")
            .tempdir_in(workspace.join("target"))?;
        let first = build(workspace, target.path(), profile)?;
        let changed = File::options().append(true).open(workspace.join(CHANGED))?;
        changed.set_modified(SystemTime::now())?;
        let again = build(workspace, target.path(), profile)?;
        let folder = match profile.as_str() {
            "dev" => "debug",
            other => other,
        };
        let len_bytes = fs::metadata(target.path().join(folder).join("ops"))?.len();
        rows.push(vec![
            format!("`{profile}`"),
            minutes(Some(first.time)),
            minutes(first.processor),
            first
                .memory_bytes
                .map_or("-".to_owned(), |bytes| format!("{:.1}", bytes as f64 / 1e9)),
            format!("{:.0} s", again.time.as_secs_f64()),
            format!("{:.1} MB", len_bytes as f64 / 1e6),
        ]);
    }
    let mut report = Report::of("bench-build");
    report.table(
        &[
            "profile",
            "from nothing",
            "of processor time",
            "largest process GB",
            "after a change in cmd-ls",
            "binary",
        ],
        &rows,
    );
    report.finish()
}

struct Built {
    time: Duration,
    processor: Option<Duration>,
    memory_bytes: Option<u64>,
}

/// Builds the binary with `profile` into `target`.
fn build(workspace: &Path, target: &Path, profile: &str) -> io::Result<Built> {
    eprintln!("building with profile {profile}");
    let before = usage::time_of_ended_children();
    let largest = Watched::start();
    let begin = Instant::now();
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--locked", "-p", "ops", "--profile", profile])
        .current_dir(workspace)
        .env("CARGO_TARGET_DIR", target)
        .status()?;
    let time = begin.elapsed();
    if !status.success() {
        return Err(io::Error::other(format!("cargo build ended with {status}")));
    }
    let after = usage::time_of_ended_children();
    Ok(Built {
        time,
        processor: after.zip(before).map(|(after, before)| after - before),
        memory_bytes: largest.stop(),
    })
}

/// Looks at the compiler's processes until it is stopped.
struct Watched {
    is_over: Arc<AtomicBool>,
    largest_bytes: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<()>,
}

impl Watched {
    fn start() -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let largest_bytes = Arc::new(AtomicU64::new(0));
        let (over, largest) = (Arc::clone(&is_over), Arc::clone(&largest_bytes));
        let thread = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let most = compilers()
                    .filter_map(usage::peak_memory_bytes)
                    .max()
                    .unwrap_or(0);
                largest.fetch_max(most, Ordering::Relaxed);
                std::thread::sleep(LOOK_EVERY);
            }
        });
        Self {
            is_over,
            largest_bytes,
            thread,
        }
    }

    /// The most that one process was seen to have, in bytes.
    fn stop(self) -> Option<u64> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().ok()?;
        Some(self.largest_bytes.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0)
    }
}

/// All processes of rustc on this machine, where `/proc` tells.
fn compilers() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let process = entry.file_name().to_str()?.parse().ok()?;
        let name: PathBuf = entry.path().join("comm");
        (fs::read_to_string(name).ok()?.trim() == "rustc").then_some(process)
    })
}

fn minutes(time: Option<Duration>) -> String {
    time.map_or("-".to_owned(), |time| {
        format!("{} min {} s", time.as_secs() / 60, time.as_secs() % 60)
    })
}
