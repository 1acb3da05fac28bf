//! Folders of this user that cannot be written to: which one, what for, and the variable that names
//! another.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    error::{Error, Result},
    hint,
    paths::{Paths, private_dir},
    temporary::TemporaryFolder,
};

/// A [`TemporaryFolder`] for `purpose`, which completes the sentence "cannot keep …".
///
/// # Errors
/// The folder cannot be made; with the variable that names another place.
pub fn temporary_dir_for(purpose: &str, prefix: &str) -> Result<TemporaryFolder> {
    TemporaryFolder::new(prefix).map_err(|error| {
        let folder = std::env::temp_dir();
        Error::unexpected(format!("cannot keep {purpose} in `{}`", folder.display()))
            .caused_by(error)
            .hint("name a folder of yours that can be written to: export TMPDIR=FOLDER")
    })
}

impl Paths {
    /// [`private_dir`] for `purpose`, which completes the sentence "cannot keep …".
    ///
    /// # Errors
    /// As [`Self::cannot_keep`].
    pub fn private_dir_for(&self, purpose: &str, folder: &Path) -> Result<PathBuf> {
        private_dir(folder.to_owned()).map_err(|error| self.cannot_keep(purpose, folder, &error))
    }

    /// The error where `purpose`, such as "known hosts", cannot be written at `path`: it names the
    /// variable that leads elsewhere.
    pub fn cannot_keep(&self, purpose: &str, path: &Path, error: &io::Error) -> Error {
        let failure = Error::unexpected(format!("cannot keep {purpose} in `{}`", path.display()))
            .caused_by(error);
        match self.variable_of(path) {
            Some(variable) => failure.hint(hint!(
                "name a folder of yours that can be written to: export {}=FOLDER",
                variable
            )),
            None => failure,
        }
    }

    /// The variable that decides where `path` lies.
    fn variable_of(&self, path: &Path) -> Option<&'static str> {
        // Without a runtime folder of the system its files lie in the state folder, or, where that
        // is somebody else's, among the temporary files.
        let runtime = if self.runtime.starts_with(&self.state) {
            "XDG_STATE_HOME"
        } else if self.runtime.ends_with("ops") {
            "XDG_RUNTIME_DIR"
        } else {
            "TMPDIR"
        };
        // The home folder is last: by default the others lie in it.
        [
            (&self.runtime, runtime),
            (&self.state, "XDG_STATE_HOME"),
            (&self.cache, "XDG_CACHE_HOME"),
            (&self.config, "XDG_CONFIG_HOME"),
            (&self.data, "XDG_DATA_HOME"),
            (&self.home, "HOME"),
        ]
        .into_iter()
        .find(|(folder, _)| path.starts_with(folder))
        .map(|(_, variable)| variable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Env;

    #[test]
    fn a_folder_that_cannot_be_made_is_named_with_its_purpose_and_its_variable() {
        let root = tempfile::tempdir().unwrap();
        // A file where a folder has to be: not even root can write below it.
        let home = root.path().join("home");
        std::fs::write(&home, "").unwrap();
        let env: Env = [("HOME", home.to_str().unwrap())].into_iter().collect();
        let paths = Paths::from_env(&env);
        for (folder, variable) in [
            (paths.state.join("ssh"), "XDG_STATE_HOME"),
            (paths.cache.join("fleet"), "XDG_CACHE_HOME"),
            (home.join(".ssh/ops"), "HOME"),
        ] {
            let error = paths.private_dir_for("known hosts", &folder).unwrap_err();
            let what = format!("cannot keep known hosts in `{}`", folder.display());
            assert_eq!(error.what(), what);
            assert!(
                error.hints()[0].ends_with(&format!("export {variable}=FOLDER")),
                "{error:?}"
            );
        }
    }
}
