//! What a command wrote, out of the text that the service makes of it.
//!
//! Source: `TruncateOutput` of agent/framework/processor/executer/iohandler, `AppendError` and
//! `runCommands` of agent/plugins/runscript in the public amazon-ssm-agent.

use super::script::STATUS_MARK;

/// Between standard output and error output.
const TITLE: &str = "\n----------ERROR-------\n";
const OUTPUT_CUT: &str = "\n---Output truncated---";
const ERROR_CUT: &str = "\n---Error truncated----";
/// At the end of what GetCommandInvocation cuts.
const CONTENT_CUT: &str = "--output truncated--";
/// Characters of the text in ListCommandInvocations.
const LISTED_CHARACTERS: usize = 2_500;
/// Characters of `StandardOutputContent`.
pub(crate) const STDOUT_CHARACTERS: usize = 24_000;
/// Characters of `StandardErrorContent`.
pub(crate) const STDERR_CHARACTERS: usize = 8_000;
/// What the agent puts behind the error output of a script that failed.
const FAILURE: &str = "failed to run commands: ";

/// Both streams of a command, as far as they are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Streams {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    /// The status that our own script tells.
    pub(crate) status: Option<u8>,
    /// How many bytes of standard output our own script counted.
    pub(crate) stdout_bytes: Option<u64>,
    /// The number of the signal that ended the script itself.
    pub(crate) signal: Option<u8>,
    /// Something is missing of either.
    pub(crate) is_cut: bool,
}

/// Takes the text of ListCommandInvocations apart; `None` where it is cut, or where it cannot be
/// told which stream wrote what.
pub(crate) fn of_list(output: &str) -> Option<Streams> {
    let is_cut = output.ends_with(OUTPUT_CUT)
        || output.ends_with(ERROR_CUT)
        || output.contains(&format!("{OUTPUT_CUT}{TITLE}"))
        || output.chars().count() >= LISTED_CHARACTERS;
    if is_cut {
        return None;
    }
    match output.matches(TITLE).count() {
        0 => Some(of(output, "")),
        1 => output.split_once(TITLE).map(|(out, err)| of(out, err)),
        // The command has written such a line itself.
        _ => None,
    }
}

/// The streams of GetCommandInvocation.
pub(crate) fn of_contents(stdout: &str, stderr: &str) -> Streams {
    let is_cut = stdout.ends_with(CONTENT_CUT)
        || stdout.chars().count() >= STDOUT_CHARACTERS
        || stderr.ends_with(CONTENT_CUT)
        || stderr.chars().count() >= STDERR_CHARACTERS;
    let mut streams = of(
        stdout.strip_suffix(CONTENT_CUT).unwrap_or(stdout),
        stderr.strip_suffix(CONTENT_CUT).unwrap_or(stderr),
    );
    streams.is_cut = is_cut;
    streams
}

/// Both streams as ListCommandInvocations would have them.
pub(crate) fn joined(stdout: &str, stderr: &str) -> String {
    let title = if stderr.is_empty() { "" } else { TITLE };
    let whole = format!("{stdout}{title}{stderr}");
    if whole.chars().count() < LISTED_CHARACTERS {
        whole
    } else {
        OUTPUT_CUT.to_owned()
    }
}

fn of(stdout: &str, stderr: &str) -> Streams {
    let mut streams = Streams {
        stdout: stdout.as_bytes().to_vec(),
        ..Streams::default()
    };
    streams.set_stderr(stderr.as_bytes());
    streams
}

impl Streams {
    /// Takes error output, without what the agent and our script have added to it.
    pub(crate) fn set_stderr(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        if let Some((before, why)) = split_last(rest, FAILURE.as_bytes())
            && let Ok(why) = std::str::from_utf8(why)
        {
            // Read from a log group, the last line has got a line feed.
            let why = why.strip_suffix('\n').unwrap_or(why);
            if let Some(name) = why.strip_prefix("signal: ") {
                self.signal = signal_number(name);
                rest = before;
            } else if why.starts_with("exit status ") && !why.contains('\n') {
                rest = before;
            }
        }
        if let Some((before, told)) = split_last(rest, STATUS_MARK.as_bytes())
            && let Ok(told) = std::str::from_utf8(told)
            && let Some((status, count)) = told.strip_suffix('\n').and_then(status_and_count)
        {
            self.status = Some(status);
            self.stdout_bytes = count;
            rest = before;
        }
        self.stderr = rest.to_vec();
    }
}

/// What our script tells behind its mark: a status, and the bytes of standard output where it has
/// counted them.
fn status_and_count(told: &str) -> Option<(u8, Option<u64>)> {
    match told.split_once(' ') {
        None => Some((told.parse().ok()?, None)),
        Some((status, count)) => Some((status.parse().ok()?, Some(count.parse().ok()?))),
    }
}

/// Splits at the last `mark`.
fn split_last<'a>(bytes: &'a [u8], mark: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(mark.len()).rposition(|part| part == mark)?;
    Some((&bytes[..at], &bytes[at + mark.len()..]))
}

/// Of Go's names, as the agent writes them.
fn signal_number(name: &str) -> Option<u8> {
    match name {
        "hangup" => Some(1),
        "interrupt" => Some(2),
        "quit" => Some(3),
        "aborted" => Some(6),
        "killed" => Some(9),
        "segmentation fault" => Some(11),
        "terminated" => Some(15),
        other => other.strip_prefix("signal ")?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(streams: &Streams) -> (&str, &str, Option<u8>) {
        let text = |bytes| std::str::from_utf8(bytes).expect("text");
        (text(&streams.stdout), text(&streams.stderr), streams.status)
    }

    #[test]
    fn both_streams_are_what_the_command_wrote() {
        let own = "out\n\n----------ERROR-------\nerr\n\nops-exec: 0\n";
        let streams = of_list(own).expect("apart");
        assert_eq!(texts(&streams), ("out\n", "err\n", Some(0)));
        let failed =
            "out\n----------ERROR-------\n\nops-exec: 3\nfailed to run commands: exit status 3";
        let streams = of_list(failed).expect("apart");
        assert_eq!(texts(&streams), ("out", "", Some(3)));
        let foreign = "out\n\n----------ERROR-------\nerrfailed to run commands: exit status 1";
        let streams = of_list(foreign).expect("apart");
        assert_eq!(texts(&streams), ("out\n", "err", None));
        let counted = of_list("out\n----------ERROR-------\n\nops-exec: 0 3\n").expect("apart");
        assert_eq!(texts(&counted), ("out", "", Some(0)));
        assert_eq!(counted.stdout_bytes, Some(3));
        let silent = of_list("out\n").expect("apart");
        assert_eq!(texts(&silent), ("out\n", "", None));
        let mut logged = Streams::default();
        logged.set_stderr(b"err\n\nops-exec: 3 5\nfailed to run commands: exit status 3\n");
        assert_eq!(texts(&logged), ("", "err\n", Some(3)));
        let killed = of_list("\n----------ERROR-------\nfailed to run commands: signal: killed");
        assert_eq!(killed.expect("apart").signal, Some(9));
    }

    #[test]
    fn what_is_cut_or_cannot_be_told_apart_is_not_taken_for_the_whole() {
        let title = "\n----------ERROR-------\n";
        assert_eq!(of_list("x\n---Output truncated---"), None);
        assert_eq!(of_list(&format!("x\n---Output truncated---{title}e")), None);
        assert_eq!(of_list(&format!("x{title}e\n---Error truncated----")), None);
        assert_eq!(of_list(&format!("x{title}y{title}\nops-exec: 0\n")), None);
        assert_eq!(of_list(&"x".repeat(2_500)), None);
        assert!(of_contents(&"x".repeat(24_000), "").is_cut);
        assert!(of_contents("x", &"e".repeat(8_000)).is_cut);
        assert!(!of_contents(&"x".repeat(23_999), "e").is_cut);
    }
}
