//! The two ends of a session.

/// Which end this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Sends input, receives output.
    Client,
    /// Sends output, receives input.
    Agent,
}
