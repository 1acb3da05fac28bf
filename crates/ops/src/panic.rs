//! A bug in `ops` itself: the terminal is restored and one line says how to report it. No
//! backtrace.

use std::io::Write as _;

/// Where bugs are reported.
const REPORT: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/issues");

/// Replaces the standard hook, which prints to a terminal that may be in raw mode.
pub(crate) fn install() {
    std::panic::set_hook(Box::new(|info| {
        ops_ui::terminal::restore();
        let message = info
            .payload_as_str()
            .map_or_else(|| "no message".to_owned(), ops_ui::output::escape);
        let place = info
            .location()
            .map(|place| format!(" at {}:{}", place.file(), place.line()))
            .unwrap_or_default();
        // Nobody is left to tell when stderr is gone.
        let _ = writeln!(
            std::io::stderr().lock(),
            "error: this is a bug in ops {}: {message}{place}; please report it: {REPORT}",
            env!("CARGO_PKG_VERSION"),
        );
    }));
}
