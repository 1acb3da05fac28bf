//! The parts of a connection, as ssh's and ops's own logs tell them.

use std::{
    io::{self, BufRead as _, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// What is said when a part is over, in order; the parts of a direct connection lack those of
/// `ops`.
const MARKS: [&str; 8] = [
    "asking for a session",
    "the session is started",
    "the web socket is open",
    "the agent is ready",
    "Remote protocol version",
    "SSH2_MSG_NEWKEYS received",
    "Authenticated to ",
    "rtype exit-status",
];

/// The parts that end with [`MARKS`].
pub(crate) const NAMES: [&str; 8] = [
    "start, resolve",
    "StartSession",
    "web socket",
    "agent",
    "banner",
    "keys",
    "login",
    "command",
];

/// How long each part of one connection took, and all of it.
pub(crate) struct Timeline {
    parts: [Option<Duration>; MARKS.len()],
    total: Duration,
}

impl Timeline {
    /// Runs `command`, which logs to stderr, to its end.
    ///
    /// # Errors
    /// It cannot be run, or fails.
    pub(crate) fn measure(command: &mut Command) -> io::Result<Self> {
        let begin = Instant::now();
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child
            .stderr
            .take()
            .ok_or_else(|| io::Error::other("stderr is not piped"))?;
        let (mut parts, mut last, mut said) = ([None; MARKS.len()], begin, String::new());
        let mut next = 0;
        for line in BufReader::new(stderr).lines() {
            let (line, now) = (line?, Instant::now());
            if let Some(at) = MARKS[next..].iter().position(|mark| line.contains(mark)) {
                parts[next + at] = Some(now - last);
                last = now;
                next += at + 1;
            }
            said.push_str(&line);
            said.push('\n');
        }
        let status = child.wait()?;
        if !status.success() {
            return Err(io::Error::other(format!("ended with {status}:\n{said}")));
        }
        Ok(Self {
            parts,
            total: begin.elapsed(),
        })
    }
}

/// The median of each part, and of the whole.
pub(crate) fn medians(timelines: &[Timeline]) -> Vec<Option<Duration>> {
    let mut medians: Vec<Option<Duration>> = (0..MARKS.len())
        .map(|part| {
            let times: Option<Vec<_>> = timelines.iter().map(|one| one.parts[part]).collect();
            times.map(median)
        })
        .collect();
    medians.push(Some(median(
        timelines.iter().map(|one| one.total).collect(),
    )));
    medians
}

/// The middle one.
pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
