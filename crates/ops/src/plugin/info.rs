//! What a plugin says about itself, and the cache of it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant, UNIX_EPOCH},
};

use ops_ui::{Env, Paths};
use serde::{Deserialize, Serialize};

use super::bounded_answer;

/// How long a plugin may take to answer.
const PATIENCE: Duration = Duration::from_millis(300);
/// Longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 64 * 1024;

/// The answer to `ops-NAME --ops-plugin-info`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Info {
    /// Such as `ops.plugin/v1`.
    pub(crate) api_version: String,
    /// One line for help.
    #[serde(default)]
    pub(crate) about: String,
    #[serde(default)]
    pub(crate) version: String,
    /// It answers `__complete WORD...`.
    #[serde(default)]
    pub(crate) completes: bool,
}

impl Info {
    /// Whether this program speaks its interface: the same major version, whatever the minor one.
    pub(crate) fn is_spoken(&self) -> bool {
        let ours = super::API_VERSION;
        self.api_version == ours || self.api_version.starts_with(&format!("{ours}."))
    }
}

/// Asks the plugin about itself. `None` if it does not answer in time with the JSON that is
/// expected.
pub(crate) fn probe_info(path: &Path, env: &Env) -> Option<Info> {
    let mut command = Command::new(path);
    command
        .arg("--ops-plugin-info")
        .env_clear()
        .envs(env.iter())
        .env("OPS_API", "1");
    let answer = bounded_answer(&mut command, MAX_ANSWER, Instant::now() + PATIENCE)?;
    serde_json::from_slice(&answer).ok()
}

/// What plugins said, by path, time of change and size of the file.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    file: PathBuf,
    entries: BTreeMap<PathBuf, Entry>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    modified_ms: u128,
    len_bytes: u64,
    info: Option<Info>,
}

impl Cache {
    /// Reads it; a missing or damaged one is empty.
    pub(crate) fn load(paths: &Paths) -> Self {
        let file = paths.cache.join("plugins.json");
        let entries = std::fs::read(&file)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self {
            file,
            entries: entries.unwrap_or_default(),
        }
    }

    /// What the file at `path` said, unless it has changed since.
    pub(crate) fn get(&self, path: &Path) -> Option<&Info> {
        self.known(path)?.info.as_ref()
    }

    /// What the plugin says; asked now if the cache does not know. A silence is remembered too.
    pub(crate) fn ask(&mut self, path: &Path, env: &Env) -> Option<Info> {
        if let Some(entry) = self.known(path) {
            return entry.info.clone();
        }
        let (modified_ms, len_bytes) = file_stamp(path)?;
        let info = probe_info(path, env);
        self.entries.insert(
            path.to_owned(),
            Entry {
                modified_ms,
                len_bytes,
                info: info.clone(),
            },
        );
        self.save();
        info
    }

    fn known(&self, path: &Path) -> Option<&Entry> {
        let entry = self.entries.get(path)?;
        (file_stamp(path)? == (entry.modified_ms, entry.len_bytes)).then_some(entry)
    }

    fn save(&mut self) {
        self.entries.retain(|path, _| path.exists());
        if let Ok(bytes) = serde_json::to_vec(&self.entries) {
            // Without a cache everything works, only slower.
            let _ = ops_ui::paths::write_private(&self.file, &bytes);
        }
    }
}

fn file_stamp(path: &Path) -> Option<(u128, u64)> {
    let data = path.metadata().ok()?;
    let modified = data.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some((modified.as_millis(), data.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minor_version_is_spoken_and_another_major_is_not() {
        let info = |version: &str| Info {
            api_version: version.to_owned(),
            ..Info::default()
        };
        assert!(info("ops.plugin/v1").is_spoken());
        assert!(info("ops.plugin/v1.3").is_spoken());
        assert!(!info("ops.plugin/v2").is_spoken());
        assert!(!info("ops.plugin/v10").is_spoken());
    }
}
