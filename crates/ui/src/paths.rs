//! Where `ops` keeps things: the XDG folders, on macOS too.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{env::Env, permissions};

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
    /// Sockets and logs of running processes: `$XDG_RUNTIME_DIR/ops` if that folder is this user's
    /// alone, else a folder of this user under the state folder, else one of this user in the
    /// folder for temporary files. To be made with [`private_dir`].
    pub runtime: PathBuf,
}

impl Paths {
    /// The folders that `env` names. A relative XDG value is ignored, as the specification demands;
    /// so is a relative `HOME`: settings would be read from the working directory, and a cloned
    /// repository could bring its own.
    pub fn from_env(env: &Env) -> Self {
        let home = env
            .path("HOME")
            .filter(|home| home.is_absolute())
            .unwrap_or_else(|| PathBuf::from("/"));
        let xdg = |name: &str, default: &str| {
            env.path(name)
                .filter(|path| path.is_absolute())
                .unwrap_or_else(|| home.join(default))
                .join("ops")
        };
        let state = xdg("XDG_STATE_HOME", ".local/state");
        let runtime = runtime(env, &state);
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

/// Where sockets and logs of running processes are kept.
///
/// `sudo -E` leaves the variables of the user who called it: neither that user's runtime folder nor
/// a state folder in that user's home is ours, and a link that its owner has planted there would be
/// followed by us.
fn runtime(env: &Env, state: &Path) -> PathBuf {
    if let Some(folder) = env
        .path("XDG_RUNTIME_DIR")
        .filter(|path| path.is_absolute() && permissions::is_own_folder(path))
    {
        return folder.join("ops");
    }
    if let Some(there) = state.ancestors().find(|path| path.exists())
        && permissions::is_own_folder(there)
    {
        return state.join("run");
    }
    own_temporary(env).unwrap_or_else(|| state.join("run"))
}

/// A folder of this user among the temporary files, by the user's number as tmux and screen have
/// theirs; [`private_dir`] refuses one that somebody else has made.
#[cfg(unix)]
fn own_temporary(env: &Env) -> Option<PathBuf> {
    let folder = env.path("TMPDIR").filter(|path| path.is_absolute());
    let own = rustix::process::geteuid().as_raw();
    Some(
        folder
            .unwrap_or_else(|| PathBuf::from("/tmp"))
            .join(format!("ops-{own}")),
    )
}

#[cfg(not(unix))]
fn own_temporary(_env: &Env) -> Option<PathBuf> {
    None
}

/// Creates `path` and its parents, `path` itself for this user alone (0700), and gives it back.
///
/// # Errors
/// The folder cannot be made, or is somebody else's, or a link that somebody else has put there.
pub fn private_dir(path: PathBuf) -> io::Result<PathBuf> {
    make_private(&path)?;
    #[cfg(unix)]
    tighten(&path)?;
    permissions::own_folder(&path)?;
    Ok(path)
}

/// Creates `path` and its parents where they are missing, for this user alone.
fn make_private(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path)
}

/// Takes others' permissions from a folder of this user. Somebody else's is left alone.
#[cfg(unix)]
fn tighten(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    // By the open folder, so that what is looked at is what is changed.
    let folder = std::fs::File::open(path)?;
    let data = folder.metadata()?;
    let is_own = data.is_dir() && data.uid() == rustix::process::geteuid().as_raw();
    if is_own && data.mode() & 0o077 != 0 {
        folder.set_permissions(std::fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// A new file for this user alone (0600), never one that is there already and never through a link.
///
/// # Errors
/// There is something of that name already, or it cannot be made.
pub fn create_private(path: &Path) -> io::Result<std::fs::File> {
    let mut options = std::fs::OpenOptions::new();
    // Without `create_new` (O_EXCL) a link that was planted would be followed.
    options.append(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Listens at `path` with a socket that nobody else can connect to, at no moment and under any
/// umask.
///
/// # Errors
/// There is something of that name already ([`io::ErrorKind::AddrInUse`]), or the path is too long
/// for a socket.
#[cfg(unix)]
pub fn listen_private(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    let socket = bind_private(path)?;
    // As many as the standard library lets wait.
    rustix::net::listen(&socket, 128)?;
    Ok(socket.into())
}

/// A socket at `path` that does not listen yet.
#[cfg(unix)]
fn bind_private(path: &Path) -> io::Result<std::os::fd::OwnedFd> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, socket};
    let address = SocketAddrUnix::new(path)?;
    let socket = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    bind(&socket, &address)?;
    // The socket has the umask's mode for a moment. Nobody can connect in it: that takes a socket
    // that listens.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    if let Err(error) = std::fs::set_permissions(path, mode) {
        let _ = std::fs::remove_file(path);
        return Err(error);
    }
    Ok(socket)
}

/// Writes `bytes` to `path` for this user alone (0600), atomically: readers see the old file or the
/// new one.
///
/// # Errors
/// Fails if the folder cannot be made or the file cannot be written; the old file then stays.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, bytes, true)
}

/// As [`write_private`] for what can be had again: after a crash of the system the file may be
/// empty.
///
/// # Errors
/// As [`write_private`].
pub fn replace_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, bytes, false)
}

fn replace(path: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
    use std::io::Write as _;
    let dir = path
        .parent()
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    make_private(dir)?;
    #[cfg(unix)]
    tighten(dir)?;
    // tempfile makes its files 0600, under a new name; the last step replaces a link and does not
    // follow it.
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(bytes)?;
    if durable {
        file.as_file().sync_all()?;
    }
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::{
            fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
            net::UnixStream,
        },
    };

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    fn runtime_of(runtime: &Path, home: &Path) -> PathBuf {
        let env: Env = [
            ("HOME", home.to_str().unwrap()),
            ("XDG_RUNTIME_DIR", runtime.to_str().unwrap()),
            ("TMPDIR", "/var/tmp"),
        ]
        .into_iter()
        .collect();
        Paths::from_env(&env).runtime
    }

    #[test]
    fn a_runtime_folder_that_others_may_write_is_not_used() {
        let root = tempfile::tempdir().unwrap();
        let (run, home) = (root.path().join("run"), root.path().join("home"));
        fs::create_dir(&run).unwrap();
        fs::create_dir(&home).unwrap();
        fs::set_permissions(&run, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(runtime_of(&run, &home), run.join("ops"));
        fs::set_permissions(&run, fs::Permissions::from_mode(0o777)).unwrap();
        let instead = home.join(".local/state/ops/run");
        assert_eq!(runtime_of(&run, &home), instead);
        assert_eq!(runtime_of(&root.path().join("none"), &home), instead);
    }

    #[test]
    fn another_users_folders_are_not_used() {
        ops_test_needs::needs_root!();
        let root = tempfile::tempdir().unwrap();
        let (run, home) = (root.path().join("run"), root.path().join("home"));
        for folder in [&run, &home] {
            fs::create_dir(folder).unwrap();
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
        }
        chown(&run, Some(65_534), None).unwrap();
        assert_eq!(runtime_of(&run, &home), home.join(".local/state/ops/run"));
        // What `sudo -E` leaves: the home of the user who called it.
        chown(&home, Some(65_534), None).unwrap();
        assert_eq!(runtime_of(&run, &home), Path::new("/var/tmp/ops-0"));
        let error = private_dir(run.clone()).unwrap_err();
        assert!(error.to_string().contains("65534"), "{error}");
        // A link of somebody else's to a folder of ours.
        let own = root.path().join("own");
        fs::create_dir(&own).unwrap();
        let link = root.path().join("link");
        symlink(&own, &link).unwrap();
        assert!(private_dir(link.clone()).is_ok());
        std::os::unix::fs::lchown(&link, Some(65_534), None).unwrap();
        assert!(private_dir(link).is_err());
    }

    #[test]
    fn a_folder_of_ours_is_closed_to_others_and_a_file_is_no_folder() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a/b");
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(mode(&private_dir(folder).unwrap()), 0o700);
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(private_dir(file).is_err());
    }

    #[test]
    fn a_file_is_never_made_through_a_link() {
        let root = tempfile::tempdir().unwrap();
        let victim = root.path().join("victim");
        fs::write(&victim, "kept").unwrap();
        let log = root.path().join("log");
        symlink(&victim, &log).unwrap();
        assert!(create_private(&log).is_err());
        // Where it leads nowhere, nothing is made at its goal either.
        fs::remove_file(&victim).unwrap();
        assert!(create_private(&log).is_err());
        assert!(!victim.exists());
    }

    #[test]
    fn a_socket_that_is_not_private_yet_takes_no_connection() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("s");
        let bound = bind_private(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert!(UnixStream::connect(&path).is_err());
        drop(bound);
        fs::remove_file(&path).unwrap();
        let listener = listen_private(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        let error = listen_private(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(listener);
    }
}
