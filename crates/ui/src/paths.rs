//! Where `ops` keeps things: the XDG folders, on macOS too.

use std::{io, path::PathBuf};

use crate::env::Env;

/// The folders of this user. Nothing is created until something is written.
#[derive(Clone, Debug)]
pub struct Paths {
    /// `$HOME`.
    pub home: PathBuf,
    /// `$XDG_CONFIG_HOME/ops`.
    pub config: PathBuf,
    /// `$XDG_CACHE_HOME/ops`.
    pub cache: PathBuf,
    /// `$XDG_STATE_HOME/ops`.
    pub state: PathBuf,
    /// `$XDG_DATA_HOME/ops`.
    pub data: PathBuf,
    /// `$XDG_RUNTIME_DIR/ops`, else a folder of this user under the state folder.
    pub runtime: PathBuf,
}

impl Paths {
    /// The folders that `env` names. A relative XDG value is ignored, as the specification demands.
    pub fn from_env(env: &Env) -> Self {
        let home = env.path("HOME").unwrap_or_else(|| PathBuf::from("/"));
        let xdg = |name: &str, default: &str| {
            env.path(name)
                .filter(|path| path.is_absolute())
                .unwrap_or_else(|| home.join(default))
                .join("ops")
        };
        let state = xdg("XDG_STATE_HOME", ".local/state");
        let runtime = env
            .path("XDG_RUNTIME_DIR")
            .filter(|path| path.is_absolute())
            .map_or_else(|| state.join("run"), |path| path.join("ops"));
        Self {
            config: xdg("XDG_CONFIG_HOME", ".config"),
            cache: xdg("XDG_CACHE_HOME", ".cache"),
            data: xdg("XDG_DATA_HOME", ".local/share"),
            state,
            runtime,
            home,
        }
    }
}

impl Paths {
    /// A path that somebody wrote into a file: `~` at its beginning is the home folder.
    pub fn expand(&self, path: &str) -> PathBuf {
        match path.strip_prefix('~') {
            Some("") => self.home.clone(),
            Some(rest) if rest.starts_with('/') => self.home.join(&rest[1..]),
            _ => PathBuf::from(path),
        }
    }
}

/// Creates `path` and its parents, `path` itself for this user alone (0700), and gives it back.
///
/// # Errors
/// Fails if the folder cannot be made, or exists and belongs to others' permissions that cannot be taken away.
pub fn private_dir(path: PathBuf) -> io::Result<PathBuf> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)?;
        if std::fs::metadata(&path)?.permissions().mode() & 0o077 != 0 {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700))?;
        }
    }
    #[cfg(not(unix))]
    std::fs::create_dir_all(&path)?;
    Ok(path)
}

/// Writes `bytes` to `path` for this user alone (0600), atomically: readers see the old file or the new one.
///
/// # Errors
/// Fails if the folder cannot be made or the file cannot be written; the old file then stays.
pub fn write_private(path: &std::path::Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, bytes, true)
}

/// As [`write_private`] for what can be had again: after a crash of the system the file may be empty.
///
/// # Errors
/// As [`write_private`].
pub fn replace_private(path: &std::path::Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, bytes, false)
}

fn replace(path: &std::path::Path, bytes: &[u8], durable: bool) -> io::Result<()> {
    use std::io::Write as _;
    let dir = path
        .parent()
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    private_dir(dir.to_owned())?;
    // tempfile makes its files 0600.
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(bytes)?;
    if durable {
        file.as_file().sync_all()?;
    }
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
