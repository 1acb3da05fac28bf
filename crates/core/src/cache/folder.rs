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
    read::{AFTER_FAILURE, REFRESH_FOLDER, REFRESH_SESSIONS, refresh_and_wait, start_refresh},
};
use crate::aws::hex_digest;

/// Stands in the place of a folder for the open sessions; no target begins so.
const OPEN_SESSIONS: &str = "\0open sessions";
/// Open sessions are live: what is older is asked for anew, and waited for.
const LIVE: Duration = Duration::from_secs(5);
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

    /// That of the open sessions of this invocation: `ID`, a tab, and in words what each is.
    pub fn of_sessions(invocation: &Invocation, settings: &Settings) -> Self {
        Self::of(invocation, settings, OPEN_SESSIONS)
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

/// The open sessions, each with what it is in words, as the service has told them just now; or not
/// at all.
pub fn open_sessions(
    invocation: &Invocation,
    settings: &Settings,
    patience: Patience,
) -> Option<Vec<(String, String)>> {
    let file = FolderFile::of_sessions(invocation, settings);
    let is_live = |file: &FolderFile| file.read().is_some_and(|(_, age)| age <= LIVE);
    if !is_live(&file) {
        if file.has_failed() || patience.until <= Instant::now() {
            return None;
        }
        refresh_and_wait(invocation, REFRESH_SESSIONS, None, patience)?;
    }
    let (entries, _) = file.read().filter(|(_, age)| *age <= STALE)?;
    let entries = entries.into_iter().filter_map(|entry| {
        let (id, about) = entry.split_once('\t')?;
        Some((id.to_owned(), about.to_owned()))
    });
    Some(entries.collect())
}
