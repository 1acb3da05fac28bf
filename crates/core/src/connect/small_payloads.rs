//! Servers to which large payloads do not get through: their sessions stay at the official client's
//! 1,024 bytes.
//!
//! This process remembers each for as long as it runs; one where a session was lost over it has a
//! file of its name under `$XDG_CACHE_HOME/ops/small-payloads`, which is good for a day.

use std::{
    path::PathBuf,
    sync::PoisonError,
    time::{Duration, SystemTime},
};

use ops_ui::paths;

use crate::context::Context;

/// How long a file is good. Whatever is in the way may be gone by then.
const GOOD_FOR: Duration = Duration::from_secs(24 * 3600);

impl Context {
    /// Whether sessions to this instance are to try no large payloads.
    pub(super) fn wants_small_payloads(&self, instance_id: &str) -> bool {
        let known = self.0.small_payloads.lock();
        if known
            .unwrap_or_else(PoisonError::into_inner)
            .contains(instance_id)
        {
            return true;
        }
        let Some(file) = file(self, instance_id) else {
            return false;
        };
        let Ok(written) = file.metadata().and_then(|data| data.modified()) else {
            return false;
        };
        // A time in the future is of a clock that was wrong.
        let is_good = SystemTime::now()
            .duration_since(written)
            .is_ok_and(|age| age < GOOD_FOR);
        if !is_good {
            let _ = std::fs::remove_file(file);
        }
        is_good
    }

    /// Remembers that large payloads to this instance were lost; `lasting`: for other processes
    /// too.
    pub(super) fn remember_small_payloads(&self, instance_id: &str, lasting: bool) {
        let known = self.0.small_payloads.lock();
        known
            .unwrap_or_else(PoisonError::into_inner)
            .insert(instance_id.to_owned());
        if lasting && let Some(file) = file(self, instance_id) {
            // Without it the next process loses a session over the same.
            if let Err(error) = paths::replace_private(&file, b"") {
                tracing::debug!(%error, "the limit on payloads is not remembered");
            }
        }
    }
}

/// Where an instance is remembered; `None` for an id that is none, which must not become a path.
fn file(cx: &Context, instance_id: &str) -> Option<PathBuf> {
    let is_id = |c: char| c.is_ascii_alphanumeric() || c == '-';
    (!instance_id.is_empty() && instance_id.chars().all(is_id))
        .then(|| cx.paths().cache.join("small-payloads").join(instance_id))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use ops_profile::Verbs;

    use super::*;
    use ops_ui::Globals;

    const ID: &str = "i-0123456789abcdef0";

    fn context(cache: &std::path::Path) -> Context {
        let env = [("XDG_CACHE_HOME", cache)].into_iter().collect();
        Context::new(Globals::default(), env, Verbs::default())
    }

    #[test]
    fn a_server_is_remembered_for_a_day_and_by_other_processes_where_that_was_proven() {
        let folder = tempfile::tempdir().unwrap();
        let process = context(folder.path());
        assert!(!process.wants_small_payloads(ID));
        process.remember_small_payloads(ID, false);
        assert!(process.wants_small_payloads(ID));
        assert!(!process.wants_small_payloads("i-1"));
        assert!(!context(folder.path()).wants_small_payloads(ID));
        process.remember_small_payloads(ID, true);
        assert!(context(folder.path()).wants_small_payloads(ID));
        let file = folder.path().join("ops/small-payloads").join(ID);
        let yesterday = SystemTime::now() - GOOD_FOR;
        let open = File::options().write(true).open(&file).unwrap();
        open.set_modified(yesterday).unwrap();
        assert!(!context(folder.path()).wants_small_payloads(ID));
        assert!(!file.exists());
    }

    #[test]
    fn what_is_no_id_becomes_no_path() {
        let folder = tempfile::tempdir().unwrap();
        let process = context(folder.path());
        for id in ["../evil", "", "/etc/passwd"] {
            process.remember_small_payloads(id, true);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
