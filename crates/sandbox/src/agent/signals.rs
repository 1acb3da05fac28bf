//! Programs on an instance start with the usual signal dispositions.
//!
//! A process started in the background by a script, or under `nohup`, ignores interrupts and
//! hang-ups, and so do all programs it starts: Ctrl-C would do nothing in a shell on the instance.
//! A signal that is caught, however, is back at its default in a new program. So what is ignored
//! here is caught, and nothing done about it.

use std::{fs, sync::Once};

use tokio::signal::unix::{SignalKind, signal};

/// Has to be called, within the runtime, before programs are started; calls after the first do
/// nothing.
pub(super) fn unignore() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        // Only Linux tells what is ignored without installing something first; elsewhere nothing is
        // changed.
        let Ok(status) = fs::read_to_string("/proc/self/status") else {
            return;
        };
        for kind in [
            SignalKind::hangup(),
            SignalKind::interrupt(),
            SignalKind::quit(),
        ] {
            if is_ignored(&status, kind.as_raw_value())
                && let Err(error) = signal(kind)
            {
                tracing::debug!(%error, "a signal stays ignored");
            }
        }
    });
}

fn is_ignored(status: &str, number: i32) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> (number - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_is_read_bit_by_bit() {
        let status = "Name:\tx\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000001006\n";
        assert!(is_ignored(status, 2));
        assert!(is_ignored(status, 3));
        assert!(is_ignored(status, 13));
        assert!(!is_ignored(status, 1));
        assert!(!is_ignored("", 2));
    }
}
