//! Completion: the shell calls `ops` with `OPS_COMPLETE` set, as the script of `ops completion` tells it to.

use clap_complete::env::CompleteEnv;

/// The variable that turns a call into a request for candidates.
pub(crate) const VARIABLE: &str = "OPS_COMPLETE";

/// Answers a shell's request for candidates, if this is one. Never an error on the terminal.
pub(crate) fn answer() -> bool {
    if std::env::var_os(VARIABLE).is_none() {
        return false;
    }
    let current = std::env::current_dir().ok();
    // On a failure the shell offers nothing.
    CompleteEnv::with_factory(crate::cli::root)
        .var(VARIABLE)
        .try_complete(std::env::args_os(), current.as_deref())
        .unwrap_or(true)
}
