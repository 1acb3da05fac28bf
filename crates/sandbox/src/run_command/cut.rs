//! How the service and the agent cut outputs.
//!
//! Source: `TruncateOutput` of agent/framework/processor/executer/iohandler in the public
//! amazon-ssm-agent; bounds of `CommandPluginOutput`, `StandardOutputContent` and
//! `StandardErrorContent` in the service's model.

/// Bytes of `Output` in ListCommandInvocations.
const PLUGIN_OUTPUT_BYTES: usize = 2_500;
/// Characters of `StandardErrorContent` in GetCommandInvocation; the agent sends more.
const STDERR_CHARACTERS: usize = 8_000;
const ERROR_TITLE: &str = "\n----------ERROR-------\n";
const OUTPUT_CUT: &str = "\n---Output truncated---";
const ERROR_CUT: &str = "\n---Error truncated----";

/// `Output` of a plugin: both streams in one text.
pub(crate) fn plugin_output(stdout: &str, stderr: &str) -> String {
    let title = if stderr.is_empty() { "" } else { ERROR_TITLE };
    let room = PLUGIN_OUTPUT_BYTES - title.len();
    if stdout.len() + stderr.len() < room {
        return format!("{stdout}{title}{stderr}");
    }
    if stdout.len() > room / 2 && stderr.len() > room / 2 {
        let each = (room - ERROR_CUT.len() - OUTPUT_CUT.len()) / 2;
        let (stdout, stderr) = (head(stdout, each), head(stderr, each));
        return format!("{stdout}{OUTPUT_CUT}{title}{stderr}{ERROR_CUT}");
    }
    if stdout.len() <= room / 2 {
        let left = room - ERROR_CUT.len() - stdout.len();
        return format!("{stdout}{title}{}{ERROR_CUT}", head(stderr, left));
    }
    let left = room - OUTPUT_CUT.len() - stderr.len();
    format!("{}{OUTPUT_CUT}{title}{stderr}", head(stdout, left))
}

/// `StandardErrorContent`.
pub(crate) fn stderr_content(stderr: &str) -> String {
    stderr.chars().take(STDERR_CHARACTERS).collect()
}

/// At most so many bytes. The agent cuts within characters, and its JSON has a replacement then.
fn head(text: &str, bytes: usize) -> String {
    let kept = &text.as_bytes()[..text.len().min(bytes)];
    String::from_utf8_lossy(kept).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_whole_and_error_output_has_a_title() {
        assert_eq!(plugin_output("out\n", ""), "out\n");
        assert_eq!(
            plugin_output("out\n", "err"),
            "out\n\n----------ERROR-------\nerr"
        );
        assert_eq!(plugin_output("", "err"), "\n----------ERROR-------\nerr");
    }

    #[test]
    fn what_does_not_fit_says_which_stream_was_cut() {
        let long = "x".repeat(3000);
        let cut = plugin_output(&long, "");
        assert_eq!(cut.len(), PLUGIN_OUTPUT_BYTES);
        assert!(cut.ends_with(OUTPUT_CUT), "{cut}");
        let cut = plugin_output("short", &long);
        assert_eq!(cut.len(), PLUGIN_OUTPUT_BYTES);
        assert!(cut.starts_with("short\n----------ERROR"), "{cut}");
        assert!(cut.ends_with(ERROR_CUT), "{cut}");
        let cut = plugin_output(&long, "short");
        assert!(cut.ends_with("\n---Output truncated---\n----------ERROR-------\nshort"));
        let cut = plugin_output(&long, &long);
        assert!(cut.contains(OUTPUT_CUT) && cut.ends_with(ERROR_CUT));
        assert!(cut.len() <= PLUGIN_OUTPUT_BYTES);
    }
}
