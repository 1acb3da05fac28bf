//! What a shell asks, and what it is offered.

use std::ffi::OsString;

/// Something to offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The whole word it would make of the one being typed, unquoted.
    pub(crate) value: String,
    /// What it is, in one line; may be empty.
    pub(crate) about: String,
    /// More of the same word follows, so no space is wanted behind it.
    pub(crate) open: bool,
}

impl Candidate {
    /// A candidate that is a whole word.
    pub(crate) fn new(value: impl Into<String>, about: impl Into<String>) -> Self {
        Self {
            value: value.into(),
            about: about.into(),
            open: false,
        }
    }

    /// A candidate that more follows.
    pub(crate) fn open(value: impl Into<String>, about: impl Into<String>) -> Self {
        Self {
            open: true,
            ..Self::new(value, about)
        }
    }
}

/// The line up to the cursor, without quotes: the words behind the program's name, and the one that
/// is being typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) words: Vec<OsString>,
    pub(crate) current: String,
    /// Of more candidates the shell does not show what each is.
    pub(crate) described: usize,
}
