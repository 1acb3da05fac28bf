//! The file that a change goes into, and the way into it: nothing wrong is ever put in place.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use ops_core::Context;
use ops_profile::{Found, folders, list, nearest, settings};
use ops_ui::{Error, Invocation, Result, Source, hint, temporary::TemporaryFolder, text::named};

use crate::plugin;

/// A file of settings.
pub(super) struct ConfigFile {
    pub(super) path: PathBuf,
    /// The profile's name; `None` for the user's own config.yaml.
    pub(super) profile: Option<String>,
}

impl ConfigFile {
    /// The user's own.
    pub(super) fn own(cx: &Context) -> Self {
        Self {
            path: cx.paths().config.join("config.yaml"),
            profile: None,
        }
    }

    /// The team profile `name`.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn team(cx: &Context, name: &str) -> Result<Self> {
        let all = team_profiles(cx)?;
        if let Some(found) = all.iter().find(|found| found.name == name) {
            return Ok(Self {
                path: found.path.clone(),
                profile: Some(found.name.clone()),
            });
        }
        let error = Error::usage(format!("there is no team profile `{name}`"));
        let error = match nearest(name, all.iter().map(|found| found.name.as_str())) {
            Some(near) => error.hint(hint!("did you mean {}?", named(near))),
            None => error.hint("see the profiles there are: ops config profiles"),
        };
        Err(error.hint(hint!("make one: ops config init {}", name)))
    }

    /// The user's own team profile `name`, which need not be there yet.
    pub(super) fn new_profile(cx: &Context, name: &str) -> Self {
        let folder = cx.paths().config.join("profiles");
        Self {
            path: folder.join(format!("{name}.yaml")),
            profile: Some(name.to_owned()),
        }
    }

    /// What `-p` on the command line names, and without it the user's own: a profile that a
    /// variable names for the day is not what somebody who changes a setting looks at.
    ///
    /// # Errors
    /// As [`Self::team`].
    pub(super) fn typed(cx: &Context) -> Result<Self> {
        let globals = cx.globals();
        match &globals.profile {
            Some(name) if matches!(globals.source("profile"), Some(Source::Flag(_))) => {
                Self::team(cx, name)
            }
            _ => Ok(Self::own(cx)),
        }
    }

    /// What is in it; nothing where it is not there.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn read(&self) -> Result<String> {
        match fs::read_to_string(&self.path) {
            Ok(text) => Ok(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(Error::usage(format!("cannot read {}", self.path.display()))
                .caused_by(error)
                .hint(hint!("see whose it is: ls -ld {}", self.path))),
        }
    }

    /// All that would be wrong with it if `text` were in it. It is checked as a file of its name in
    /// a folder of its own, before any other sees it.
    ///
    /// # Errors
    /// No temporary file can be made.
    pub(super) fn mistakes(&self, cx: &Context, text: &str) -> Result<Vec<Error>> {
        let folder = TemporaryFolder::new("ops-config-").map_err(no_temporary_folder)?;
        let path = folder.path().join(self.file_name());
        fs::write(&path, text).map_err(|error| cannot_write(&path, error))?;
        self.mistakes_of(cx, &path)
    }

    /// All that is wrong with what stands in `path`, which has the name of this file.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn mistakes_of(&self, cx: &Context, path: &Path) -> Result<Vec<Error>> {
        let is_external = |verb: &str| plugin::find_plugin(cx.env(), &[verb.into()]).is_some();
        let mut invocation = Invocation::new(cx.globals().clone(), cx.env().clone());
        if self.profile.is_none() {
            // Where a user's own file is looked for.
            invocation.paths.config = path.parent().map(Path::to_owned).unwrap_or_default();
        }
        let names = [path.to_string_lossy().into_owned()];
        let found = settings::validate(&invocation, cx.verbs(), &names, &is_external)?;
        Ok(found
            .into_iter()
            .flat_map(|result| result.problems)
            .collect())
    }

    /// Puts `text` into it, whole or not at all. A link stays one, and the file's permissions stay.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn write(&self, text: &str) -> Result<()> {
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let failed = |error| cannot_write(&path, error);
        let folder = path.parent().unwrap_or_else(|| Path::new("/"));
        fs::create_dir_all(folder).map_err(failed)?;
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        if let Ok(known) = fs::metadata(&path) {
            fs::set_permissions(file.path(), known.permissions()).map_err(failed)?;
        }
        file.persist(&path).map_err(|error| failed(error.error))?;
        Ok(())
    }

    pub(super) fn file_name(&self) -> PathBuf {
        self.path
            .file_name()
            .map_or_else(|| "config.yaml".into(), PathBuf::from)
    }
}

/// Why a file is wrong, in one line: its name is that of a copy, which nobody knows.
pub(super) fn mistake_reason(mistake: &Error) -> String {
    let why = mistake.why().first().map(ToString::to_string);
    let why = why.unwrap_or_else(|| mistake.what().to_string());
    why.lines().next().unwrap_or_default().to_owned()
}

/// Every team profile there is.
///
/// # Errors
/// A folder cannot be read.
pub(super) fn team_profiles(cx: &Context) -> Result<Vec<Found>> {
    list(&folders(cx.globals(), cx.paths()))
}

/// The error where no temporary folder can be made.
pub(super) fn no_temporary_folder(error: std::io::Error) -> Error {
    Error::unexpected("cannot make a temporary folder").caused_by(error)
}

pub(super) fn cannot_write(path: &Path, error: std::io::Error) -> Error {
    Error::usage(format!("cannot write {}", path.display()))
        .caused_by(error)
        .hint(hint!("see who may write it: ls -ld {}", path))
}
