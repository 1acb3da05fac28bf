//! Calls that had no credentials to be signed with.

use std::error::Error as StdError;

use ops_ui::Error;

/// Why a call had no credentials, as their provider says it. The SDK asks for them by itself, and
/// wraps what comes back as if no connection had come about.
pub(crate) fn failure_of<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Error> {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(failure) = cause.downcast_ref() {
            return Some(failure);
        }
        source = cause.source();
    }
    None
}
