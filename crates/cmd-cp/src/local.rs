//! Paths of this machine below a folder that the user named, reached by handles.
//!
//! What lies below such a folder may have been put there by a server, in this copy or an earlier
//! one, and may be exchanged by somebody else while the copy runs. Therefore a path below it is
//! never handed to the kernel as a whole: its folder is opened relative to the handle of the folder
//! that was named, no link is followed on the way, and files are made, renamed and removed by their
//! last name in the handle of that folder. A link that is put in a folder's place meanwhile is then
//! an error, and one that is put there later changes nothing.

use std::{
    ffi::OsStr,
    fs::{File, Metadata},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, RawMode},
    io::Errno,
};

use crate::place::{join_paths, local_path};

/// A folder is only passed through: the right to read its names is not needed for that.
#[cfg(any(target_os = "linux", target_os = "android"))]
const PASS: OFlags = OFlags::PATH;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const PASS: OFlags = OFlags::RDONLY;

/// A folder that the user named, open. Links in the path as typed are followed: they are the
/// user's.
#[derive(Debug)]
pub(crate) struct NamedFolder {
    handle: OwnedFd,
    /// As typed, for people.
    path: PathBuf,
    /// The folder below it that was used last, with its handle: neighbours come one after another.
    last: Mutex<Option<(Vec<u8>, Arc<OwnedFd>)>>,
}

impl NamedFolder {
    /// Opens `path`; an empty one is the working directory.
    ///
    /// # Errors
    /// The path is not there, is no folder, or may not be passed through.
    pub(crate) fn open(path: &Path) -> io::Result<Arc<Self>> {
        let typed = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let flags = PASS | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::open(typed, flags, Mode::empty())?;
        Ok(Arc::new(Self {
            handle,
            path: path.to_owned(),
            last: Mutex::default(),
        }))
    }

    /// The handle of the folder at `below`, which is empty for the named folder itself.
    fn pass_to(&self, below: &[u8]) -> io::Result<Arc<OwnedFd>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((path, handle)) = &*last
            && path == below
        {
            return Ok(Arc::clone(handle));
        }
        let handle = if below.is_empty() {
            self.handle.try_clone()?
        } else {
            open_beneath(self.handle.as_fd(), below)?
        };
        let handle = Arc::new(handle);
        *last = Some((below.to_vec(), Arc::clone(&handle)));
        Ok(handle)
    }
}

/// Opens the folder at `below` of `root` without following any link.
fn open_beneath(root: BorrowedFd<'_>, below: &[u8]) -> io::Result<OwnedFd> {
    refuse_dots(below)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use rustix::fs::{ResolveFlags, openat2};
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let flags = PASS | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match openat2(root, below, flags, Mode::empty(), resolve) {
            // ENOSYS: a kernel before 5.6. EPERM: what seccomp filters that do not know the call
            // answer. EAGAIN: something was renamed meanwhile. Going name by name is as safe.
            Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN | Errno::INVAL) => {}
            opened => return Ok(opened?),
        }
    }
    open_name_by_name(root, below)
}

/// As [`open_beneath`], for systems without `openat2`: each name by itself, none of them a link.
fn open_name_by_name(root: BorrowedFd<'_>, below: &[u8]) -> io::Result<OwnedFd> {
    let flags = PASS | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut folder: Option<OwnedFd> = None;
    for name in below.split(|&byte| byte == b'/') {
        let parent = folder.as_ref().map_or(root, AsFd::as_fd);
        let opened = rustix::fs::openat(parent, name, flags, Mode::empty());
        folder = Some(match opened {
            // With O_DIRECTORY beside O_NOFOLLOW Linux calls a link "not a directory".
            Err(Errno::NOTDIR) if is_link(parent, name) => return Err(Errno::LOOP.into()),
            opened => opened?,
        });
    }
    folder.ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

fn is_link(parent: BorrowedFd<'_>, name: &[u8]) -> bool {
    let known = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
    known.is_ok_and(|known| FileType::from_raw_mode(known.st_mode) == FileType::Symlink)
}

/// Lists pass a gate before anything is done with them; this holds even if something slips through.
fn refuse_dots(below: &[u8]) -> io::Result<()> {
    let is_bad = |name: &[u8]| matches!(name, b"" | b"." | b"..");
    if below.split(|&byte| byte == b'/').any(is_bad) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(())
}

/// The words for `error`, met on the way to or at something below a named folder.
pub(crate) fn words(error: io::Error) -> io::Error {
    match Errno::from_io_error(&error) {
        Some(Errno::LOOP | Errno::XDEV) => {
            io::Error::new(error.kind(), "a link is in the way, which is not followed")
        }
        _ => error,
    }
}

/// What a name of a folder stands for, a link for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occupant {
    Nothing,
    File(Stat),
    Folder,
    Link,
    /// A device, FIFO or socket, by its name for people.
    Special(&'static str),
}

/// What is known of a file without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// In bytes.
    pub(crate) size: u64,
    /// Permission bits, `0o7777` at most.
    pub(crate) mode: u32,
    /// Seconds since 1970.
    pub(crate) mtime: i64,
}

/// A path below a folder that the user named.
#[derive(Clone, Debug)]
pub(crate) struct LocalPath {
    root: Arc<NamedFolder>,
    below: Vec<u8>,
}

impl LocalPath {
    /// `below`, one name or several with slashes between them, in `root`.
    pub(crate) fn new(root: &Arc<NamedFolder>, below: Vec<u8>) -> Self {
        Self {
            root: Arc::clone(root),
            below,
        }
    }

    /// Its path below the named folder.
    pub(crate) fn below(&self) -> &[u8] {
        &self.below
    }

    /// `below` in it.
    pub(crate) fn join(&self, below: &[u8]) -> Self {
        Self::new(&self.root, join_paths(&self.below, below))
    }

    /// As the user would write it.
    pub(crate) fn to_path(&self) -> PathBuf {
        if self.below.is_empty() {
            return self.root.path.clone();
        }
        self.root.path.join(local_path(&self.below))
    }

    fn split(&self) -> (&[u8], &[u8]) {
        match self.below.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (&self.below[..slash], &self.below[slash + 1..]),
            None => (&[], &self.below),
        }
    }

    /// Its last name.
    pub(crate) fn name(&self) -> &OsStr {
        OsStr::from_bytes(self.split().1)
    }

    /// The folder that it lies in.
    ///
    /// # Errors
    /// A folder on the way is missing, or is a link.
    pub(crate) fn parent(&self) -> io::Result<Arc<OwnedFd>> {
        let (parent, name) = self.split();
        refuse_dots(name)?;
        self.root.pass_to(parent).map_err(words)
    }

    /// What is there; nothing, where the folder around it is missing too.
    ///
    /// # Errors
    /// It cannot be looked at; a link is on the way.
    pub(crate) fn occupant(&self) -> io::Result<Occupant> {
        match self.parent() {
            Ok(parent) => occupant(parent.as_fd(), self.name()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Occupant::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Opens the file for reading, never a link.
    ///
    /// # Errors
    /// It is not there, is a link, may not be read.
    pub(crate) fn open_file(&self) -> io::Result<File> {
        // Something that is no file any more must not block us.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(self.parent()?, self.name(), flags, Mode::empty());
        opened.map(File::from).map_err(|error| words(error.into()))
    }

    /// Opens the folder for reading, never a link.
    ///
    /// # Errors
    /// It is not there, is none, may not be read.
    pub(crate) fn open_folder(&self) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = if self.below.is_empty() {
            rustix::fs::openat(&self.root.handle, ".", flags, Mode::empty())
        } else {
            rustix::fs::openat(self.parent()?, self.name(), flags, Mode::empty())
        };
        opened.map(File::from).map_err(|error| words(error.into()))
    }

    /// Makes a folder with the permissions `mode`, less the umask.
    ///
    /// # Errors
    /// Something is there, no permission.
    pub(crate) fn make_folder(&self, mode: u32) -> io::Result<()> {
        #[allow(clippy::cast_possible_truncation, reason = "it has 16 bits on macOS")]
        let mode = Mode::from_raw_mode((mode & 0o7777) as RawMode);
        Ok(rustix::fs::mkdirat(self.parent()?, self.name(), mode)?)
    }

    /// Makes a link in one step, in the place of a file or link that is there.
    ///
    /// # Errors
    /// A folder is there, or something else that is not replaced.
    pub(crate) fn make_link(&self, target: &[u8], temporary: &OsStr) -> io::Result<()> {
        let parent = self.parent()?;
        check_replaceable(parent.as_fd(), self.name())?;
        rustix::fs::symlinkat(target, &*parent, temporary)?;
        let renamed = rustix::fs::renameat(&*parent, temporary, &*parent, self.name());
        if renamed.is_err() {
            // The error that counts is the first one.
            let _ = rustix::fs::unlinkat(&*parent, temporary, AtFlags::empty());
        }
        Ok(renamed?)
    }
}

/// What `name` in `parent` stands for.
///
/// # Errors
/// It cannot be looked at.
pub(crate) fn occupant(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<Occupant> {
    let known = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(known) => known,
        Err(Errno::NOENT) => return Ok(Occupant::Nothing),
        Err(error) => return Err(error.into()),
    };
    Ok(match FileType::from_raw_mode(known.st_mode) {
        FileType::RegularFile => Occupant::File(Stat {
            size: u64::try_from(known.st_size).unwrap_or(0),
            mode: permissions(known.st_mode),
            mtime: known.st_mtime,
        }),
        FileType::Directory => Occupant::Folder,
        FileType::Symlink => Occupant::Link,
        other => Occupant::Special(special_name(other)),
    })
}

/// The permission bits of a raw mode, which has 16 bits on macOS.
#[allow(clippy::useless_conversion, reason = "it is one there")]
fn permissions(raw: RawMode) -> u32 {
    u32::from(raw) & 0o7777
}

/// What is neither file, folder nor link, for people.
pub(crate) fn special_name(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        _ => "neither file nor folder",
    }
}

/// Checks that a rename may put something in the place of `name`: a file or link may go, a folder
/// is not emptied, and a device, FIFO or socket means something to whoever made it.
///
/// # Errors
/// It may not.
pub(crate) fn check_replaceable(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<Occupant> {
    let there = occupant(parent, name)?;
    match there {
        Occupant::Nothing | Occupant::File(_) | Occupant::Link => Ok(there),
        Occupant::Folder => Err(io::ErrorKind::IsADirectory.into()),
        Occupant::Special(what) => Err(io::Error::other(format!(
            "{what} is there, which is not replaced"
        ))),
    }
}

/// Something to be sent: where it is, and which links are followed to it.
#[derive(Clone, Debug)]
pub(crate) struct LocalFile {
    path: LocalPath,
    follow: Follow,
}

/// Which links are followed to something that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follow {
    /// None: it lies below what was named.
    Nothing,
    /// One that stands at its own name: the user named it.
    Last,
    /// All, as the user asked (`-L`).
    Everything,
}

impl LocalFile {
    /// `path`; an empty one is the named folder itself.
    pub(crate) fn new(path: LocalPath, follow: Follow) -> Self {
        Self { path, follow }
    }

    /// `name` in it.
    pub(crate) fn child(&self, name: &[u8], follow: Follow) -> Self {
        Self::new(self.path.join(name), follow)
    }

    /// As the user would write it.
    pub(crate) fn to_path(&self) -> PathBuf {
        self.path.to_path()
    }

    /// Opens it for reading, without waiting for anything.
    ///
    /// # Errors
    /// It is not there, is a link that is not followed, may not be read.
    pub(crate) fn open(&self) -> io::Result<File> {
        self.open_as(OFlags::RDONLY | OFlags::NONBLOCK)
    }

    /// Opens the folder for reading.
    ///
    /// # Errors
    /// It is not there, is none or a link that is not followed, may not be read.
    pub(crate) fn open_folder(&self) -> io::Result<File> {
        self.open_as(OFlags::RDONLY | OFlags::DIRECTORY)
    }

    fn open_as(&self, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::CLOEXEC;
        let opened = match self.follow {
            _ if self.path.below.is_empty() => {
                rustix::fs::openat(&self.path.root.handle, ".", flags, Mode::empty())
            }
            // With -L the user trusts the tree; handles are of no use where links lead anywhere.
            Follow::Everything => rustix::fs::open(self.to_path(), flags, Mode::empty()),
            Follow::Nothing | Follow::Last => {
                let last = if self.follow == Follow::Nothing {
                    OFlags::NOFOLLOW
                } else {
                    OFlags::empty()
                };
                let parent = self.path.parent()?;
                rustix::fs::openat(parent, self.path.name(), flags | last, Mode::empty())
            }
        };
        opened.map(File::from).map_err(|error| words(error.into()))
    }

    /// What is known of it; of a link that is followed, what is known of its target.
    ///
    /// # Errors
    /// It is not there.
    pub(crate) fn metadata(&self) -> io::Result<Metadata> {
        match self.follow {
            Follow::Everything => std::fs::metadata(self.to_path()),
            // Opened as a mere name, which needs no right to read and waits for nothing.
            #[cfg(any(target_os = "linux", target_os = "android"))]
            Follow::Nothing => self.open_as(OFlags::PATH | OFlags::NOFOLLOW)?.metadata(),
            #[cfg(not(any(target_os = "linux", target_os = "android")))]
            Follow::Nothing => std::fs::symlink_metadata(self.to_path()),
            Follow::Last => std::fs::metadata(self.to_path()),
        }
    }

    /// The target of the link that it is.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn read_link(&self) -> io::Result<Vec<u8>> {
        let target = rustix::fs::readlinkat(self.path.parent()?, self.path.name(), Vec::new())?;
        Ok(target.into_bytes())
    }
}

/// The time of `mtime` seconds since 1970; before that it is 1970.
pub(crate) fn time(mtime: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(mtime).unwrap_or(0))
}

/// The umask of this process, which `main` asked for while there was one thread.
pub(crate) fn umask() -> u32 {
    ops_ui::program::umask()
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use super::*;

    /// A folder `in` with `a/b`, and a folder `out` beside it.
    fn planted() -> (tempfile::TempDir, Arc<NamedFolder>) {
        let outer = tempfile::tempdir().unwrap();
        fs::create_dir_all(outer.path().join("in/a/b")).unwrap();
        fs::create_dir(outer.path().join("out")).unwrap();
        fs::write(outer.path().join("out/f"), "theirs").unwrap();
        let root = NamedFolder::open(&outer.path().join("in")).unwrap();
        (outer, root)
    }

    #[test]
    fn a_link_below_what_was_named_is_followed_in_no_place_of_the_path() {
        let (outer, root) = planted();
        symlink("../out", outer.path().join("in/first")).unwrap();
        symlink("../../../out", outer.path().join("in/a/b/middle")).unwrap();
        symlink("../out/f", outer.path().join("in/last")).unwrap();
        let path = |below: &str| LocalPath::new(&root, below.into());
        for below in ["first/f", "a/b/middle/f", "a/b/middle/x/y"] {
            assert!(path(below).open_file().is_err(), "{below}");
            assert!(path(below).occupant().is_err(), "{below}");
            assert!(path(below).make_folder(0o700).is_err(), "{below}");
            assert!(path(below).make_link(b"x", OsStr::new("t")).is_err());
            let parent = path(below).split().0.to_vec();
            let error = open_name_by_name(root.handle.as_fd(), &parent).unwrap_err();
            assert_eq!(Errno::from_io_error(&error), Some(Errno::LOOP), "{below}");
        }
        assert!(path("last").open_file().is_err());
        assert_eq!(path("last").occupant().unwrap(), Occupant::Link);
        assert_eq!(path("a/b").occupant().unwrap(), Occupant::Folder);
        assert_eq!(path("no/where").occupant().unwrap(), Occupant::Nothing);
        assert_eq!(fs::read_dir(outer.path().join("out")).unwrap().count(), 1);
    }

    #[test]
    fn dots_lead_nowhere_even_if_a_list_should_hold_them() {
        let (_outer, root) = planted();
        for below in ["../out/f", "a/../../out/f", "..", ".", "a//b", ""] {
            let path = LocalPath::new(&root, below.into());
            assert!(path.open_file().is_err(), "{below}");
            assert!(path.make_folder(0o700).is_err(), "{below}");
        }
    }

    #[test]
    fn both_ways_to_a_folder_end_in_the_same_one() {
        use std::os::unix::fs::MetadataExt as _;
        let (outer, root) = planted();
        let wanted = fs::metadata(outer.path().join("in/a/b")).unwrap().ino();
        for open in [open_beneath, open_name_by_name] {
            let folder = open(root.handle.as_fd(), b"a/b").unwrap();
            assert_eq!(File::from(folder).metadata().unwrap().ino(), wanted);
        }
    }

    #[test]
    fn a_folder_that_only_may_be_passed_through_is_enough() {
        let (outer, root) = planted();
        let folder = outer.path().join("in/a");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o300)).unwrap();
        let path = LocalPath::new(&root, b"a/new".to_vec());
        path.make_folder(0o700).unwrap();
        assert_eq!(path.occupant().unwrap(), Occupant::Folder);
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    }

    #[test]
    fn links_replace_files_and_links_and_nothing_else() {
        let (outer, root) = planted();
        fs::write(outer.path().join("in/file"), "x").unwrap();
        symlink("a", outer.path().join("in/link")).unwrap();
        rustix::fs::mkfifoat(&root.handle, "fifo", Mode::RWXU).unwrap();
        let make = |below: &str| {
            LocalPath::new(&root, below.into()).make_link(b"target", OsStr::new(".t"))
        };
        for below in ["file", "link", "new"] {
            make(below).unwrap();
            let made = fs::read_link(outer.path().join("in").join(below)).unwrap();
            assert_eq!(made, Path::new("target"));
        }
        assert!(make("a").is_err());
        let error = make("fifo").unwrap_err().to_string();
        assert!(error.contains("a FIFO is there"), "{error}");
        assert!(!outer.path().join("in/.t").is_symlink());
    }
}
