//! What a process has used, as Linux tells it in `/proc`. Elsewhere nothing is known, and the
//! tables say so.

use std::time::Duration;

/// `/proc` counts processor time in hundredths of a second on every Linux that Rust runs on
/// (USER_HZ).
const TICK: Duration = Duration::from_millis(10);

/// Processor time so far, in user and kernel mode.
pub fn processor_time(process: u32) -> Option<Duration> {
    two_times(process, 11)
}

/// Processor time of the children of this process that have ended, and of theirs.
pub fn time_of_ended_children() -> Option<Duration> {
    two_times(std::process::id(), 13)
}

/// The sum of two neighbouring times in `/proc/PROCESS/stat`. `at` counts the fields behind the
/// name, from 0: `utime` and `stime` are 11 and 12, `cutime` and `cstime` 13 and 14 (proc(5)).
fn two_times(process: u32, at: usize) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in brackets may hold blanks.
    let ticks: u32 = stat
        .rsplit(')')
        .next()?
        .split_ascii_whitespace()
        .skip(at)
        .take(2)
        .filter_map(|n| n.parse::<u32>().ok())
        .sum();
    Some(TICK * ticks)
}

/// The most memory it has ever had resident, in bytes.
pub fn peak_memory_bytes(process: u32) -> Option<u64> {
    status_bytes(process, "VmHWM:")
}

/// What it has resident now of files, its own program first of all: memory that the system shares
/// and can take back at any time.
pub fn file_memory_bytes(process: u32) -> Option<u64> {
    status_bytes(process, "RssFile:")
}

fn status_bytes(process: u32, field: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
