//! Folders here that are set right when all is in, on every way out.

use std::{
    fs::{FileTimes, Permissions},
    os::unix::fs::PermissionsExt as _,
    sync::{Mutex, PoisonError},
};

use crate::local::{self, LocalPath};

/// A folder that was made, or was there.
#[derive(Debug)]
pub(crate) struct MadeFolder {
    pub(crate) path: LocalPath,
    /// The source's permissions.
    pub(crate) mode: u32,
    /// Seconds since 1970.
    pub(crate) mtime: i64,
    pub(crate) is_new: bool,
}

/// Folders in which this user must be able to write until all is in. Whoever writes there holds
/// them; when the last one is gone they get the mode, and with `-p` the time, that they should
/// have, whether the copy came to its end or not.
#[derive(Debug)]
pub(crate) struct Folders {
    made: Mutex<Vec<MadeFolder>>,
    mask: u32,
    preserve: bool,
}

impl Folders {
    /// None yet. New ones lose `mask` of their permissions, unless `preserve` keeps all.
    pub(crate) fn new(mask: u32, preserve: bool) -> Self {
        Self {
            made: Mutex::default(),
            mask,
            preserve,
        }
    }

    /// One more, after those that it lies in.
    pub(crate) fn add_folder(&self, made: MadeFolder) {
        self.made
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(made);
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        let made = std::mem::take(self.made.get_mut().unwrap_or_else(PoisonError::into_inner));
        // The deepest first: a folder's time changes with what is made in it.
        for folder in made.iter().rev() {
            finish(folder, self.mask, self.preserve);
        }
    }
}

fn finish(made: &MadeFolder, mask: u32, preserve: bool) {
    if !made.is_new && !preserve {
        return;
    }
    let mode = if preserve {
        made.mode
    } else {
        made.mode & !mask
    };
    // What is in the folder is there; how it looks is not worth a failure. By its handle, so that a
    // link which was put in its place is left alone.
    let Ok(folder) = made.path.open_folder() else {
        return;
    };
    let _ = folder.set_permissions(Permissions::from_mode(mode));
    if preserve {
        let time = local::time(made.mtime);
        let _ = folder.set_times(FileTimes::new().set_modified(time).set_accessed(time));
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, sync::Arc};

    use super::*;
    use crate::local::NamedFolder;

    #[test]
    fn folders_get_their_mode_when_the_last_who_writes_there_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let named = NamedFolder::open(root.path()).unwrap();
        let folders = Arc::new(Folders::new(0o022, false));
        let paths = ["a", "a/b", "a/c"];
        for below in paths {
            let path = LocalPath::new(&named, below.into());
            path.make_folder(0o700).unwrap();
            folders.add_folder(MadeFolder {
                path,
                mode: 0o577,
                mtime: 0,
                is_new: true,
            });
        }
        let outside = tempfile::tempdir().unwrap();
        fs::remove_dir(root.path().join("a/c")).unwrap();
        symlink(outside.path(), root.path().join("a/c")).unwrap();
        let mode = |below| {
            let known = fs::metadata(root.path().join(below)).unwrap();
            known.permissions().mode() & 0o7777
        };
        let before = mode("a/c");
        let writer = Arc::clone(&folders);
        drop(folders);
        assert_ne!(mode("a/b"), 0o555);
        drop(writer);
        assert_eq!(["a", "a/b"].map(mode), [0o555; 2]);
        // What lies behind a link is not ours.
        assert_eq!(mode("a/c"), before);
    }
}
