//! The scripts of a pipe as they are sent: written to be read in files of their own, which say what
//! each one does, and sent without comments and indentation.

use crate::script::{compact, fill_in};

const PROCESSES: &str = include_str!("scripts/processes.sh");
const WATCHED: &str = include_str!("scripts/watched.sh");
const KEEPER: &str = include_str!("scripts/keeper.sh");
const JOIN: &str = include_str!("scripts/join.sh");
const RELAY: &str = include_str!("scripts/relay.sh");
const ENCODE_IN_BULK: &str = include_str!("scripts/encode_in_bulk.sh");
const ENCODE_LIVE: &str = include_str!("scripts/encode_live.sh");
const DOWN: &str = include_str!("scripts/down.sh");
const PROCESS: &str = include_str!("scripts/process.sh");
const UP: &str = include_str!("scripts/up.sh");
const DIALOGUE: &str = include_str!("scripts/dialogue.sh");

/// The line that ends the script of a dialogue, as `dialogue.sh` looks for it.
pub(super) const SCRIPT_END: &str = ".";

/// How output becomes text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encode {
    /// A whole buffer at a time: the fastest.
    InBulk,
    /// Each piece as it is written.
    Live,
}

/// `script` with its output made text and its complaints and status made messages; with
/// `is_kept` a keeper looks after it. With `linger` it waits for the end of its session.
pub(super) fn down(encode: Encode, is_kept: bool, script: &str, linger: bool) -> String {
    let encode = match encode {
        Encode::InBulk => ENCODE_IN_BULK,
        Encode::Live => ENCODE_LIVE,
    };
    let keeper = if is_kept {
        compact(KEEPER)
    } else {
        String::new()
    };
    let text = fill_in(&compact(DOWN), "ENCODE", &compact(encode));
    let text = fill_in(&text, "PROCESSES", &compact(PROCESSES));
    let text = fill_in(&text, "KEEPER", &keeper);
    let text = fill_in(&text, "WATCHED", &compact(WATCHED));
    let linger = if linger { "1" } else { "" };
    format!("linger={linger}\n{}", fill_in(&text, "SCRIPT", script))
}

/// The functions by which a script does its `run_all` watched: as `run_watched`.
pub(crate) fn watched() -> String {
    compact(PROCESSES) + &compact(WATCHED)
}

/// The script of a kept [`down`] that runs `script` with the FIFO as its input.
pub(super) fn process(script: &str) -> String {
    fill_in(&compact(PROCESS), "SCRIPT", script)
}

/// The script of a kept [`down`] by which a dialogue's answers leave.
pub(super) fn relay() -> String {
    compact(RELAY)
}

/// Feeds the [`process`] of which the keeper's folder is this.
pub(super) fn up(folder: &str) -> String {
    format!("private=\"{folder}\"\n{}", compact(UP))
}

/// A dialogue whose answers leave by the terminal.
pub(super) fn dialogue() -> String {
    format!(
        "joined=\n{}{}{}",
        compact(PROCESSES),
        compact(KEEPER),
        compact(DIALOGUE)
    )
}

/// A dialogue whose answers leave by the [`relay`] in `folder` too.
pub(super) fn joined_dialogue(folder: &str) -> String {
    format!(
        "private=\"{folder}\"\n{}{}",
        compact(JOIN),
        compact(DIALOGUE)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_script_leaves_the_quotes_that_it_travels_in() {
        for text in [
            down(Encode::Live, true, &process("cat"), true),
            down(Encode::InBulk, false, "ls", false),
            down(Encode::Live, true, &relay(), true),
            up("/tmp/ops-pipe.x"),
            dialogue(),
            joined_dialogue("/tmp/ops-pipe.x"),
        ] {
            assert!(!text.contains('\''), "{text}");
            assert!(!text.lines().any(|line| line.starts_with('#')), "{text}");
        }
    }

    #[test]
    fn the_end_of_a_script_is_the_line_that_is_looked_for() {
        assert!(compact(DIALOGUE).contains(&format!("\"$line\" != {SCRIPT_END} ]")));
    }
}
