//! Temporary folders of this user, and what processes that were killed have left of theirs.
//!
//! A process that ends in order removes its folder. One that is killed (SIGKILL, the kernel short
//! of memory, a power cut) cannot, and a private key may lie in it: whoever makes the next folder
//! of the same kind removes what is left. Each folder is locked as long as its process lives, which
//! the system ends with the process, and which holds across containers that share the folder for
//! temporary files without seeing each other's process ids.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// How long a folder without a lock is left alone: its maker may not have come to lock it yet.
const UNLOCKED_FOR: Duration = Duration::from_secs(60);
/// Folders that are looked at: what is in a crowded `/tmp` must not hold anybody up.
const LOOKED_AT: usize = 10_000;

/// A folder for this user alone (0700) that is removed when dropped.
#[derive(Debug)]
pub struct TemporaryFolder {
    folder: tempfile::TempDir,
    /// Says to the sweeps of others that this process lives. `None` where the file system has no
    /// locks: there nobody can take one either, and nothing is swept.
    _lock: Option<File>,
}

impl TemporaryFolder {
    /// Makes one, whatever the umask, in the folder for temporary files; `prefix` begins its name.
    /// What killed processes have left under the same prefix is removed first.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn new(prefix: &str) -> io::Result<Self> {
        Self::new_in(&std::env::temp_dir(), prefix)
    }

    /// As [`Self::new`], for what the user has written and may want back: nothing is removed under
    /// this prefix but by the value itself.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn without_sweep(prefix: &str) -> io::Result<Self> {
        Self::make(&std::env::temp_dir(), prefix)
    }

    fn new_in(parent: &Path, prefix: &str) -> io::Result<Self> {
        sweep(parent, prefix, SystemTime::now());
        Self::make(parent, prefix)
    }

    fn make(parent: &Path, prefix: &str) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        // Without this a folder has the mode that the umask leaves, and whoever is let in can plant
        // links in it.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
        let folder = builder.prefix(prefix).tempdir_in(parent)?;
        let lock = lock(folder.path());
        Ok(Self {
            folder,
            _lock: lock,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves it to the user; gives where it is.
    pub fn keep(self) -> PathBuf {
        self.folder.keep()
    }
}

/// The folder at `path`, opened and locked; `None` where somebody has the lock, where there are no
/// locks, and where `path` is no folder of this user that is closed to all others. The lock ends
/// with the file, and so with the process at the latest.
#[cfg(unix)]
fn lock(path: &Path) -> Option<File> {
    use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
    // A link that somebody has put there is not followed, and no FIFO is waited for.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::DIRECTORY;
    let mut options = File::options();
    options.read(true);
    options.custom_flags(i32::try_from(flags.bits()).ok()?);
    let folder = options.open(path).ok()?;
    let data = folder.metadata().ok()?;
    let is_ours = data.uid() == rustix::process::geteuid().as_raw() && data.mode() & 0o077 == 0;
    (is_ours && folder.try_lock().is_ok()).then_some(folder)
}

/// Other systems do not let a folder be locked.
#[cfg(not(unix))]
fn lock(_path: &Path) -> Option<File> {
    None
}

/// Removes the folders below `parent` whose names begin with `prefix` and whose processes are gone.
/// Failures are of no account: the next one tries again.
fn sweep(parent: &Path, prefix: &str, now: SystemTime) {
    let Ok(entries) = std::fs::read_dir(parent) else {
        return;
    };
    let named = entries.take(LOOKED_AT).flatten().filter(|entry| {
        let name = entry.file_name();
        name.to_str().is_some_and(|name| name.starts_with(prefix))
    });
    for entry in named {
        let path = entry.path();
        let Some(folder) = lock(&path) else { continue };
        let changed = folder.metadata().and_then(|data| data.modified());
        let is_old = changed.is_ok_and(|changed| {
            now.duration_since(changed)
                .is_ok_and(|age| age >= UNLOCKED_FOR)
        });
        // Removed while it is locked: nobody else removes it at the same time. What is in it may be
        // links; the links are removed, and nothing that they lead to.
        if is_old {
            let _ = std::fs::remove_dir_all(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use super::*;

    /// A folder as a process leaves it that was killed: nobody has it locked any more.
    fn leave_folder(parent: &Path, name: &str, mode: u32) -> PathBuf {
        let path = parent.join(name);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("key"), "secret").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_folder_of_ours_is_private_and_goes_with_its_value() {
        let parent = tempfile::tempdir().unwrap();
        let folder = TemporaryFolder::new_in(parent.path(), "t-").unwrap();
        let path = folder.path().to_owned();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_killed_process_has_left_goes_and_everything_else_stays() {
        let parent = tempfile::tempdir().unwrap();
        let parent = parent.path();
        let living = TemporaryFolder::new_in(parent, "t-").unwrap();
        let killed = leave_folder(parent, "t-killed", 0o700);
        let open = leave_folder(parent, "t-open", 0o755);
        let other = leave_folder(parent, "u-other", 0o700);
        let behind = leave_folder(parent, "behind", 0o700);
        let link = parent.join("t-link");
        symlink(&behind, &link).unwrap();
        fs::write(parent.join("t-file"), "").unwrap();
        symlink(&behind, killed.join("link")).unwrap();
        // One that has just been made is not locked for a moment.
        sweep(parent, "t-", SystemTime::now());
        assert!(killed.exists());
        sweep(parent, "t-", SystemTime::now() + UNLOCKED_FOR);
        assert!(!killed.exists());
        for path in [living.path(), &open, &other, &behind.join("key"), &link] {
            assert!(path.exists(), "{}", path.display());
        }
        assert!(parent.join("t-file").exists());
    }

    #[test]
    fn somebody_elses_folder_is_left_alone() {
        ops_test_needs::needs_root!();
        let parent = tempfile::tempdir().unwrap();
        let theirs = leave_folder(parent.path(), "t-theirs", 0o700);
        std::os::unix::fs::chown(&theirs, Some(65_534), None).unwrap();
        sweep(parent.path(), "t-", SystemTime::now() + UNLOCKED_FOR);
        assert!(theirs.exists());
    }
}
