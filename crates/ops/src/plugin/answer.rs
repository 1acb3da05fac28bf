//! A program that is asked something and has to answer soon.

use std::{
    io::Read as _,
    process::{Command, Stdio},
    sync::mpsc,
    time::Instant,
};

/// Runs `command` and gives what it writes to standard output until it closes it, at most
/// `most_bytes` of it. `None` if it cannot be started, or has not come to an end by `until`; it is
/// killed then.
pub(crate) fn bounded_answer(
    command: &mut Command,
    most_bytes: u64,
    until: Instant,
) -> Option<Vec<u8>> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let stdout = child.stdout.take()?;
    let (sender, receiver) = mpsc::channel();
    // A child of its own may keep the pipe open after it was killed: the thread then stays behind,
    // not we.
    std::thread::spawn(move || {
        let mut text = Vec::new();
        if stdout.take(most_bytes).read_to_end(&mut text).is_ok() {
            let _ = sender.send(text);
        }
    });
    let left = until.checked_duration_since(Instant::now());
    let answer = receiver.recv_timeout(left.unwrap_or_default()).ok();
    let _ = child.kill();
    let _ = child.wait();
    answer
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sh(script: &str, most_bytes: u64, patience: Duration) -> Option<Vec<u8>> {
        bounded_answer(
            Command::new("sh").args(["-c", script]),
            most_bytes,
            Instant::now() + patience,
        )
    }

    #[test]
    fn an_answer_comes_whole_up_to_its_bound() {
        let soon = Duration::from_secs(60);
        assert_eq!(
            sh("printf abc; exit 3", 64, soon).as_deref(),
            Some(&b"abc"[..])
        );
        assert_eq!(sh("printf abc", 2, soon).as_deref(), Some(&b"ab"[..]));
        assert_eq!(sh("", 64, soon).as_deref(), Some(&b""[..]));
    }

    #[test]
    fn whoever_does_not_end_in_time_is_not_waited_for() {
        // The grandchild holds the pipe when the child is gone.
        assert_eq!(
            sh("printf abc; sleep 5 & sleep 5", 64, Duration::ZERO),
            None
        );
    }
}
