//! What a user may choose of a session on a terminal.

use ops_profile::Notices;

use super::escape::EscapeChar;

/// How a session on a terminal is carried, as its user likes it.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Begins an escape.
    pub escape: EscapeChar,
    /// Where a lost connection is told of while a full-screen program runs.
    pub notices: Notices,
}
