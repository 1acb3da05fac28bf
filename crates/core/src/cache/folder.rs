//! Folders of servers as they were a moment ago: what completion of remote paths offers.
//!
//! One file under `$XDG_CACHE_HOME/ops/folders` for each folder of a server, in the same way as the
//! fleet.

use std::{
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant, SystemTime},
};

use ops_profile::Settings;
use ops_ui::{Invocation, Result, paths::private_dir, paths::replace_private};

use super::{
    FRESH, FleetFile, KEPT, Patience, STALE,
    read::{AFTER_FAILURE, REFRESH_FOLDER, refresh_and_wait, start_refresh},
};
use crate::aws::hex_digest;

/// Longest listing that is kept, in bytes.
const MAX_BYTES: usize = 1 << 20;

/// Where the names in one folder of a server are kept.
pub struct FolderFile {
    folder: PathBuf,
    key: String,
}

impl FolderFile {
    /// That of `place`, `TARGET:FOLDER` as it was typed, for this invocation.
    pub fn of(invocation: &Invocation, settings: &Settings, place: &str) -> Self {
        let fleet = FleetFile::of(invocation, settings);
        Self {
            folder: invocation.paths.cache.join("folders"),
            key: hex_digest(format!("{}\0{place}", fleet.key).as_bytes()),
        }
    }

    fn names(&self) -> PathBuf {
        self.folder.join(format!("{}.names", self.key))
    }

    fn failure(&self) -> PathBuf {
        self.folder.join(format!("{}.failed", self.key))
    }

    /// Keeps `names`, each ended by a NUL, folders with a slash at their end; `None` for a folder
    /// that could not be listed, after which nobody asks for a moment.
    ///
    /// # Errors
    /// No place to keep them.
    pub fn keep(&self, names: Option<&[u8]>) -> Result<()> {
        private_dir(self.folder.clone())?;
        match names {
            Some(names) if names.len() <= MAX_BYTES => replace_private(&self.names(), names)?,
            _ => replace_private(&self.failure(), b"")?,
        }
        self.sweep();
        Ok(())
    }

    /// The names, and how old they are.
    fn read(&self) -> Option<(Vec<String>, Duration)> {
        let path = self.names();
        let age = age_of(&path)?;
        if age > STALE {
            return None;
        }
        let bytes = std::fs::read(path).ok()?;
        let names = bytes.split(|&byte| byte == 0);
        // A name that is no text could not be typed.
        let names = names.filter_map(|name| std::str::from_utf8(name).ok());
        let names = names.filter(|name| !name.is_empty());
        Some((names.map(str::to_owned).collect(), age))
    }

    fn has_failed(&self) -> bool {
        age_of(&self.failure()).is_some_and(|age| age < AFTER_FAILURE)
    }

    /// Deletes what nobody has asked for since long.
    fn sweep(&self) {
        let Ok(entries) = std::fs::read_dir(&self.folder) else {
            return;
        };
        for entry in entries.filter_map(std::result::Result::ok) {
            if age_of(&entry.path()).is_some_and(|age| age > KEPT) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

/// Since a file was written.
fn age_of(path: &std::path::Path) -> Option<Duration> {
    let written = std::fs::metadata(path).and_then(|data| data.modified());
    SystemTime::now().duration_since(written.ok()?).ok()
}

/// The names in a folder of a server, `TARGET:FOLDER` as it was typed: at once if they are not
/// older than ten minutes, else as soon as a session has told them, or not at all.
pub fn names_in_folder(
    invocation: &Invocation,
    settings: &Settings,
    place: &str,
    patience: Patience,
) -> Option<Vec<String>> {
    let file = FolderFile::of(invocation, settings, place);
    if let Some((names, age)) = file.read() {
        if age > FRESH && !file.has_failed() {
            // Without it the folder is shown as it was.
            let _ = start_refresh(invocation, REFRESH_FOLDER, Some(place), Stdio::null());
        }
        return Some(names);
    }
    if file.has_failed() || patience.until <= Instant::now() {
        return None;
    }
    refresh_and_wait(invocation, REFRESH_FOLDER, Some(place), patience)?;
    file.read().map(|(names, _)| names)
}
