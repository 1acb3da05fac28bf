//! What a command draws on the terminal, such as progress bars, makes room for what is told and
//! asked meanwhile.

use std::sync::{Mutex, PoisonError, Weak};

/// Something drawn at the bottom of the terminal that stderr is.
pub trait Drawing: Send + Sync {
    /// Whether there is something to be seen.
    fn is_visible(&self) -> bool;

    /// Runs `write`, which writes whole lines to stderr, with the drawing out of the way, and
    /// brings it back below them.
    fn aside(&self, write: &mut dyn FnMut());

    /// Takes the drawing away while somebody is asked something, and brings it back. May be called
    /// again before that; then as often to bring it back.
    fn hold(&self, held: bool);
}

/// The one that is there, if any.
#[derive(Default)]
pub(crate) struct Present(Mutex<Option<Weak<dyn Drawing>>>);

impl std::fmt::Debug for Present {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Present")
    }
}

impl Present {
    pub(crate) fn set(&self, drawing: Weak<dyn Drawing>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(drawing);
    }

    fn get(&self) -> Option<std::sync::Arc<dyn Drawing>> {
        let present = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        present.as_ref().and_then(Weak::upgrade)
    }

    pub(crate) fn is_visible(&self) -> bool {
        self.get().is_some_and(|drawing| drawing.is_visible())
    }

    pub(crate) fn aside(&self, mut write: impl FnMut()) {
        match self.get() {
            Some(drawing) => drawing.aside(&mut write),
            None => write(),
        }
    }

    pub(crate) fn hold(&self, held: bool) {
        if let Some(drawing) = self.get() {
            drawing.hold(held);
        }
    }
}
