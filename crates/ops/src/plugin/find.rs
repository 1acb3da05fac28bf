//! Where external commands are looked for, and which file a command line means.

use std::{
    collections::HashSet,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use ops_ui::{
    Env, Error, ErrorKind, Paths, Result,
    permissions::{self, Exposed},
};

/// What the names of files begin with.
const PREFIX: &str = "ops-";

/// A file to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plugin {
    /// `NAME` of `ops-NAME`.
    pub(crate) name: String,
    /// Absolute.
    pub(crate) path: PathBuf,
    /// It may be asked about itself: it lies in our own folder, or a file beside it says so, and
    /// nobody else may change it.
    pub(crate) may_be_probed: bool,
}

impl Plugin {
    /// Refuses one that somebody else may change: it would run with this user's rights.
    ///
    /// # Errors
    /// Exit 9; the hint mends it.
    pub(crate) fn refuse_exposed(&self) -> Result<()> {
        match permissions::exposed(&self.path) {
            Some(exposed) => Err(Error::new(
                ErrorKind::Refused,
                format!("`{}` is not run", self.path.display()),
            )
            .caused_by(&exposed)
            .hint(exposed.mend())),
            None => Ok(()),
        }
    }
}

/// A file called `ops-NAME`, runnable or not.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) plugin: Plugin,
    pub(crate) executable: bool,
    /// Others may change it, or its folder.
    pub(crate) exposed: Option<Exposed>,
}

/// A folder that is searched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Directory {
    pub(crate) path: PathBuf,
    /// `$XDG_DATA_HOME/ops/plugins/bin`.
    pub(crate) managed: bool,
}

/// The folders in the order they are searched. Relative and empty entries of PATH mean the working
/// directory and are left out.
pub(crate) fn plugin_directories(env: &Env) -> Vec<Directory> {
    let managed = Directory {
        path: Paths::from_env(env).data.join("plugins").join("bin"),
        managed: true,
    };
    let path = env
        .var_os("PATH")
        .map(|path| std::env::split_paths(path).collect::<Vec<_>>());
    let rest = path
        .unwrap_or_default()
        .into_iter()
        .filter(|path| path.is_absolute());
    let mut seen = HashSet::new();
    std::iter::once(managed)
        .chain(rest.map(|path| Directory {
            path,
            managed: false,
        }))
        .filter(|directory| seen.insert(directory.path.clone()))
        .collect()
}

/// The plugin that `words` call, and how many of them are its name: `ops db dump` is `ops-db-dump`,
/// else `ops-db`.
pub(crate) fn find_plugin(env: &Env, words: &[OsString]) -> Option<(Plugin, usize)> {
    let parts: Vec<&str> = words
        .iter()
        .map_while(|word| word.to_str().filter(|text| is_name(text)))
        .collect();
    let directories = plugin_directories(env);
    (1..=parts.len()).rev().find_map(|used| {
        let name = parts[..used].join("-");
        let found = directories
            .iter()
            .find_map(|directory| plugin_at(directory, &name).filter(|found| found.executable));
        found.map(|found| (found.plugin, used))
    })
}

/// Every file called `ops-NAME`, in the order of the search; the same file reached twice counts
/// once.
pub(crate) fn all_plugins(env: &Env) -> Vec<Found> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for directory in plugin_directories(env) {
        let Ok(entries) = fs::read_dir(&directory.path) else {
            continue;
        };
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|file| name_of(&file))
            .collect();
        names.sort();
        names.dedup();
        let files = names.iter().filter_map(|name| plugin_at(&directory, name));
        found.extend(files.filter(|found| {
            let real = found
                .plugin
                .path
                .canonicalize()
                .unwrap_or_else(|_| found.plugin.path.clone());
            seen.insert((found.plugin.name.clone(), real))
        }));
    }
    found
}

/// `[a-z][a-z0-9]*(-[a-z0-9]+)*`
pub(crate) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.split('-').all(|part| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        })
}

fn name_of(file: &str) -> Option<String> {
    let name = file.strip_prefix(PREFIX)?;
    let name = if cfg!(windows) {
        [".exe", ".cmd", ".ps1"]
            .iter()
            .find_map(|end| name.strip_suffix(end))?
    } else {
        name
    };
    is_name(name).then(|| name.to_owned())
}

fn plugin_at(directory: &Directory, name: &str) -> Option<Found> {
    let ends: &[&str] = if cfg!(windows) {
        &[".exe", ".cmd", ".ps1"]
    } else {
        &[""]
    };
    let path = ends
        .iter()
        .map(|end| directory.path.join(format!("{PREFIX}{name}{end}")))
        .find(|path| path.is_file())?;
    let sidecar = path.with_file_name(format!("{PREFIX}{name}.yaml"));
    let executable = is_executable(&path);
    let exposed = permissions::exposed(&path);
    let may_be_probed = exposed.is_none() && (directory.managed || sidecar.is_file());
    let plugin = Plugin {
        name: name.to_owned(),
        path,
        may_be_probed,
    };
    Some(Found {
        plugin,
        executable,
        exposed,
    })
}

#[cfg(unix)]
fn is_executable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(not(unix))]
fn is_executable(_path: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_case_words_joined_by_dashes() {
        for good in ["x", "db-dump", "a1-2b"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "-x", "x-", "x--y", "X", "1x", "x.y", "ü", "x_y"] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn the_working_directory_is_never_searched() {
        let env: Env = [
            ("PATH", ":.:bin:/usr/bin::/usr/bin:/bin"),
            ("HOME", "/home/u"),
        ]
        .into_iter()
        .collect();
        let paths: Vec<PathBuf> = plugin_directories(&env)
            .into_iter()
            .map(|directory| directory.path)
            .collect();
        assert_eq!(
            paths,
            ["/home/u/.local/share/ops/plugins/bin", "/usr/bin", "/bin"].map(PathBuf::from)
        );
    }
}
