//! What is known of every file of a command: how far it is, and what became of it.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ops_ui::Error;
use tokio::time::Instant;

use crate::{
    item::FileId,
    item::{Item, Outcome, SharedPath},
    progress::Progress,
};

/// All files of a command; shared by its transfers.
pub(crate) struct Report {
    items: Mutex<Vec<Item>>,
    /// The folders of all paths, each once.
    folders: Mutex<HashSet<Arc<str>>>,
    progress: Progress,
    begun: Instant,
    /// Held while somebody thinks about a question.
    asking: tokio::sync::Mutex<()>,
}

impl Report {
    /// One that shows `progress`.
    pub(crate) fn new(progress: Progress) -> Self {
        Self {
            items: Mutex::new(Vec::new()),
            folders: Mutex::default(),
            progress,
            begun: Instant::now(),
            asking: tokio::sync::Mutex::default(),
        }
    }

    /// One that shows nothing.
    pub(crate) fn silent() -> Self {
        Self::new(Progress::hidden())
    }

    /// Counts a file in.
    pub(crate) fn add_item(
        &self,
        source: impl AsRef<str>,
        destination: impl AsRef<str>,
        size: u64,
    ) -> FileId {
        let source = self.share_path(source.as_ref(), None);
        let destination = self.share_path(destination.as_ref(), Some(&source.name));
        let mut items = self.items();
        self.progress.add_expected(size);
        items.push(Item {
            source,
            destination,
            size,
            moved: 0,
            outcome: None,
        });
        items.len() - 1
    }

    /// `path` with a folder that others have too, and `name` if it has that one.
    fn share_path(&self, path: &str, name: Option<&Arc<str>>) -> SharedPath {
        let (folder, last) = path.split_at(path.rfind('/').map_or(0, |slash| slash + 1));
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = match folders.get(folder) {
            Some(known) => Arc::clone(known),
            None => {
                let new = Arc::from(folder);
                folders.insert(Arc::clone(&new));
                new
            }
        };
        let name = match name.filter(|name| &***name == last) {
            Some(name) => Arc::clone(name),
            None => Arc::from(last),
        };
        SharedPath { folder, name }
    }

    /// `len` more bytes of a file are there.
    pub(crate) fn add_bytes(&self, id: FileId, len: u64) {
        let mut items = self.items();
        if let Some(item) = items.get_mut(id) {
            item.moved += len;
            // Some files hold more than they say, or than they had when they were listed.
            if item.moved > item.size {
                self.progress.add_expected(item.moved - item.size);
                item.size = item.moved;
            }
            self.progress.add_moved(id, item, len);
        }
    }

    /// `len` bytes of a file count no more: it begins again.
    pub(crate) fn take_back(&self, id: FileId, len: u64) {
        let mut items = self.items();
        if let Some(item) = items.get_mut(id) {
            item.moved = item.moved.saturating_sub(len);
            self.progress.take_back(id, item, len);
        }
    }

    /// A file is in place.
    pub(crate) fn mark_done(&self, id: FileId) {
        self.set_outcome(id, Outcome::Done);
    }

    /// A file is left as it is.
    pub(crate) fn mark_skipped(&self, id: FileId, why: &'static str) {
        self.set_outcome(id, Outcome::Skipped(why));
    }

    /// A file could not be copied. The first outcome counts.
    pub(crate) fn mark_failed(&self, id: FileId, error: Error) {
        self.set_outcome(id, Outcome::Failed(Box::new(error)));
    }

    /// What has arrived of a file could not be written where it goes: it has failed, whatever its
    /// outcome was.
    pub(crate) fn mark_unwritten(&self, id: FileId, error: Error) {
        if let Some(item) = self.items().get_mut(id) {
            item.outcome = None;
        }
        self.mark_failed(id, error);
    }

    /// Every file so far. Nothing is reported as long as it is held.
    pub(crate) fn items(&self) -> std::sync::MutexGuard<'_, Vec<Item>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since the report was made.
    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Waits for its turn to ask: one question at a time.
    pub(crate) async fn wait_to_ask(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.asking.lock().await
    }

    /// Takes the bars away.
    pub(crate) fn clear_bars(&self) {
        self.progress.clear_bars();
    }

    fn set_outcome(&self, id: FileId, outcome: Outcome) {
        let mut items = self.items();
        if let Some(item) = items.get_mut(id)
            && item.outcome.is_none()
        {
            item.outcome = Some(outcome);
            self.progress.end_bar(id, item);
        }
    }
}

/// Counts of outcomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) copied: usize,
    pub(crate) skipped: usize,
    pub(crate) failed: usize,
    /// Of what was copied.
    pub(crate) bytes: u64,
}

impl Totals {
    /// Counts `items`; what has no outcome failed.
    pub(crate) fn of(items: &[Item]) -> Self {
        let mut totals = Self::default();
        for item in items {
            match &item.outcome {
                Some(Outcome::Done) => {
                    totals.copied += 1;
                    totals.bytes += item.moved;
                }
                Some(Outcome::Skipped(_)) => totals.skipped += 1,
                Some(Outcome::Failed(_)) | None => totals.failed += 1,
            }
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_siblings_share_their_folder_and_both_ends_their_names() {
        let report = Report::silent();
        for n in 0..3 {
            report.add_item(format!("web-1:/srv/{n}"), format!("here/srv/{n}"), 0);
        }
        report.add_item("-", "web-1:x", 0);
        let items = report.items();
        let (first, second) = (&items[0], &items[1]);
        assert_eq!(first.source.to_string(), "web-1:/srv/0");
        assert_eq!(second.destination.to_string(), "here/srv/1");
        assert!(Arc::ptr_eq(&first.source.folder, &second.source.folder));
        assert!(Arc::ptr_eq(&first.source.name, &first.destination.name));
        assert_eq!(items[3].source.to_string(), "-");
        assert_eq!(items[3].destination.to_string(), "web-1:x");
    }
}
