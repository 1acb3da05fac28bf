//! The fleet as it was a moment ago: what completion offers, and what `--cached` resolves names
//! from.
//!
//! One file under `$XDG_CACHE_HOME/ops/fleet` for each set of profile, role, region, endpoint and
//! source of credentials. It is written whole beside its place and moved there, so any number of
//! shells may read and refresh it at once; what is damaged, of another version or not this user's
//! is as good as not there.

mod file;
mod folder;
mod key;
mod read;
mod refresh;
#[cfg(test)]
mod tests;
mod view;

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use ops_profile::{Instance, Selector, Settings};
use ops_ui::{Invocation, Paths, Result};

pub use self::{
    file::{Head, Row, TagRow},
    folder::{FolderFile, names_in_folder, open_sessions},
    key::{EMBEDDED, SANDBOX_STATE},
    read::{Patience, REFRESH, REFRESH_FOLDER, REFRESH_SESSIONS, VARIABLE, names, tags},
    refresh::{Refreshed, refresh},
    view::{Names, Tags},
};

/// Younger ones are taken as they are.
pub const FRESH: Duration = Duration::from_secs(60);
/// Up to this age one is shown at once, and refreshed behind.
pub(crate) const STALE: Duration = Duration::from_secs(600);
/// Files that nobody has refreshed for so long are deleted by the next refresh.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// Where one fleet is kept, and under which key.
#[derive(Clone, Debug)]
pub struct FleetFile {
    folder: PathBuf,
    /// Hexadecimal digest of all that decides which fleet is meant.
    key: String,
    /// The account that the profile demands; a fleet of another one is ignored.
    account: Option<String>,
}

/// A file of the cache, for `ops cache info`.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The file.
    pub path: PathBuf,
    /// What it says of itself.
    pub head: Head,
    /// Its size in bytes.
    pub len_bytes: u64,
    /// Whether it is the one of this invocation.
    pub is_current: bool,
}

impl Entry {
    /// How old it is.
    pub fn age(&self) -> Duration {
        Duration::from_millis(now_ms().saturating_sub(self.head.created_ms))
    }
}

impl FleetFile {
    /// Where the fleet of this invocation is kept. Asks nobody.
    pub(crate) fn of(invocation: &Invocation, settings: &Settings) -> Self {
        key::fleet_file(invocation, settings)
    }

    fn file(&self) -> PathBuf {
        self.folder.join(format!("{}.fleet", self.key))
    }

    fn lock(&self) -> PathBuf {
        self.folder.join(format!("{}.lock", self.key))
    }

    fn failure(&self) -> PathBuf {
        self.folder.join(format!("{}.failed", self.key))
    }

    /// The one machine that `selector` means in the cache, if exactly one is known there.
    pub(crate) fn instance(&self, selector: &Selector, region: &str) -> Option<Instance> {
        let view = view::View::of(self, STALE)?;
        let found = view.instances(|row| match selector {
            Selector::Id(id) => row.id == id,
            Selector::Word(word) => row.name == Some(word),
            _ => false,
        })?;
        match <[Instance; 1]>::try_from(found) {
            Ok([instance]) if instance.region == region => Some(instance),
            _ => None,
        }
    }
}

/// The files of the cache, by profile and region. `settings` are those of this invocation, where
/// they are valid.
pub fn fleets(invocation: &Invocation, settings: Option<&Settings>) -> Vec<Entry> {
    let current = settings.map(|settings| FleetFile::of(invocation, settings).file());
    let Ok(entries) = std::fs::read_dir(folder(&invocation.paths)) else {
        return Vec::new();
    };
    let mut found: Vec<Entry> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let view = view::View::open(&path)?;
            Some(Entry {
                len_bytes: view.len_bytes,
                is_current: current.as_ref() == Some(&path),
                head: view.head,
                path,
            })
        })
        .collect();
    found.sort_by(|a, b| {
        (&a.head.profile, &a.head.regions, &a.path).cmp(&(
            &b.head.profile,
            &b.head.regions,
            &b.path,
        ))
    });
    found
}

/// Deletes the whole cache; gives how many fleets there were.
///
/// # Errors
/// A file cannot be deleted.
pub fn clear(paths: &Paths) -> Result<usize> {
    let folder = folder(paths);
    let mut count = 0;
    // What is remembered of single servers and documents goes with them; mostly there is nothing.
    let _ = std::fs::remove_dir_all(paths.cache.join("small-payloads"));
    let _ = std::fs::remove_dir_all(paths.cache.join("refused-separation"));
    let _ = std::fs::remove_dir_all(paths.cache.join("folders"));
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error.into()),
    };
    for entry in entries {
        let path = entry?.path();
        let is_fleet = path.extension().is_some_and(|end| end == "fleet");
        match std::fs::remove_file(&path) {
            Ok(()) => count += usize::from(is_fleet),
            // Another process was quicker.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(count)
}

/// Where all fleets are kept.
fn folder(paths: &Paths) -> PathBuf {
    paths.cache.join("fleet")
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}
