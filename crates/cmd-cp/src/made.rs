//! Folders here that are set right when all is in, on every way out.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use crate::landing;

/// A folder that was made, or was there.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) path: PathBuf,
    /// The source's permissions.
    pub(crate) mode: u32,
    /// Seconds since 1970.
    pub(crate) mtime: i64,
    pub(crate) is_new: bool,
}

/// Folders in which this user must be able to write until all is in. Whoever writes there holds them; when the last one is gone they get the mode,
/// and with `-p` the time, that they should have, whether the copy came to its end or not.
#[derive(Debug)]
pub(crate) struct Folders {
    made: Mutex<Vec<Made>>,
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
    pub(crate) fn add(&self, made: Made) {
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

fn finish(made: &Made, mask: u32, preserve: bool) {
    if !made.is_new && !preserve {
        return;
    }
    let mode = if preserve {
        made.mode
    } else {
        made.mode & !mask
    };
    // What is in the folder is there; how it looks is not worth a failure.
    let _ = fs::set_permissions(&made.path, Permissions::from_mode(mode));
    if preserve && let Ok(folder) = fs::File::open(&made.path) {
        let time = landing::time(made.mtime);
        let _ = folder.set_times(fs::FileTimes::new().set_modified(time).set_accessed(time));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn folders_get_their_mode_when_the_last_who_writes_there_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let paths = ["a", "a/b"].map(|name| root.path().join(name));
        let folders = Arc::new(Folders::new(0o022, false));
        for path in &paths {
            fs::create_dir(path).unwrap();
            folders.add(Made {
                path: path.clone(),
                mode: 0o577,
                mtime: 0,
                is_new: true,
            });
        }
        let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let writer = Arc::clone(&folders);
        drop(folders);
        assert_ne!(mode(&paths[1]), 0o555);
        drop(writer);
        assert_eq!(paths.each_ref().map(mode), [0o555; 2]);
    }
}
