//! The log behind `-vv`, on stderr.

use ops_ui::text::escape;
use tracing_subscriber::{EnvFilter, fmt};

/// Our own crates only: the SDK's log holds whole requests, and with them tokens.
const OURS: [&str; 4] = ["ops", "ops_core", "ops_session", "cmd_"];

/// Switches the log on for `-vv`; a further `-v` says more.
pub(crate) fn start_tracing(verbose: u8) {
    let level = match verbose {
        0 | 1 => return,
        2 => "debug",
        _ => "trace",
    };
    let directives: Vec<String> = OURS.iter().map(|name| format!("{name}={level}")).collect();
    let subscriber = fmt()
        .with_env_filter(EnvFilter::new(directives.join(",")))
        .with_ansi(false)
        .without_time()
        // In raw mode a line feed alone does not return to the left; the extra byte does no harm
        // elsewhere.
        .with_writer(|| LineEnds(std::io::stderr()))
        .finish();
    // Set before: by a test in this process.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

struct LineEnds(std::io::Stderr);

impl std::io::Write for LineEnds {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // One event at a time: line ends within it are somebody else's.
        let text = String::from_utf8_lossy(bytes);
        let text = escape(text.trim_end_matches('\n'));
        write!(self.0, "{text}\r\n")?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}
