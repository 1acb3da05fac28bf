//! Where files of one server go on this machine.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileTypeExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use ops_ui::{Error, Result, hint};

use crate::{
    item::Found,
    local::{LocalPath, NamedFolder, Occupant},
    place::{base_name, join_paths},
};

/// Where files of one server go, as the user said it.
#[derive(Clone, Debug)]
pub(crate) enum LocalGoal {
    /// A path as typed. `under`: a folder of this name in it, which is made by all means, as is the
    /// path itself: each of several servers has its own.
    Path {
        path: PathBuf,
        under: Option<String>,
    },
    /// Standard output.
    Standard,
}

impl LocalGoal {
    /// Where `found` goes, from the destination on, as [`crate::clashes`] compares it.
    pub(crate) fn claimed_path(&self, found: &Found) -> Vec<u8> {
        let under = match self {
            Self::Path { under, .. } => under.as_deref().unwrap_or_default(),
            Self::Standard => "",
        };
        let root = base_name(&found.root).map_or_else(
            || under.as_bytes().to_vec(),
            |name| join_paths(under.as_bytes(), name),
        );
        join_paths(&root, &found.below)
    }
}

/// What a destination turns out to be.
#[derive(Debug)]
pub(crate) enum LocalBase {
    /// Things go into it, under their own names: a folder that was named, and the path in it.
    Folder(Arc<NamedFolder>, Vec<u8>),
    /// The one thing gets this name.
    Name(LocalPath),
    /// Bytes are written into what is there and stays: a device, FIFO or open descriptor.
    Stream(PathBuf),
}

impl LocalBase {
    /// Finds out what `path` is. `several`: more than one thing goes there. Nothing is touched but
    /// the folder that each of several servers gets.
    ///
    /// # Errors
    /// A destination that cannot be.
    pub(crate) fn find_base(
        goal: &Path,
        under: Option<&str>,
        several: bool,
        dry_run: bool,
    ) -> Result<Self> {
        if let Some(under) = under {
            return own_folder(goal, under, dry_run);
        }
        let typed = goal.as_os_str().as_bytes();
        let wants_folder = several
            || [&b"/"[..], b"/.", b"/.."]
                .iter()
                .any(|end| typed.ends_with(end));
        let shown = goal.display();
        let known = match fs::metadata(goal) {
            Ok(known) => known,
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(cannot_reach(goal, error));
            }
            Err(_) if wants_folder => {
                return Err(Error::usage(format!("`{shown}` is not there"))
                    .hint(hint!("make it first: mkdir -p {}", goal)));
            }
            Err(_) if goal.is_symlink() => {
                return Err(Error::usage(format!("`{shown}` is a link to nothing"))
                    .caused_by("what it points to is not made by way of it")
                    .hint("name the file itself, or remove the link"));
            }
            Err(_) => return named_base(goal),
        };
        let kind = known.file_type();
        if kind.is_dir() {
            let root = NamedFolder::open(goal).map_err(|error| cannot_reach(goal, error))?;
            return Ok(Self::Folder(root, Vec::new()));
        }
        if wants_folder {
            return Err(Error::usage(format!("`{shown}` is no folder"))
                .hint("several things go into a folder"));
        }
        if kind.is_fifo() || kind.is_char_device() || is_descriptor(goal) {
            return Ok(Self::Stream(goal.to_owned()));
        }
        if kind.is_socket() {
            return Err(Error::usage(format!("`{shown}` is a socket"))
                .caused_by("a file has no way into it, and does not replace it")
                .hint("send it there by a pipe: ops cp SRC - | …"));
        }
        if kind.is_block_device() {
            return Err(Error::usage(format!("`{shown}` is a block device"))
                .caused_by("a mistyped name would cost a disk")
                .hint(hint!("if you mean it: ops cp SRC - | dd of={}", goal)));
        }
        // A link that the user named himself is followed: the file behind it is replaced, as with
        // scp, and stays where it is.
        if goal.is_symlink() {
            let real = fs::canonicalize(goal).map_err(|error| cannot_reach(goal, error))?;
            return named_base(&real);
        }
        named_base(goal)
    }

    /// Where something goes; `None` where bytes go into what is there.
    pub(crate) fn path_of(&self, found: &Found) -> Option<LocalPath> {
        match self {
            Self::Folder(root, prefix) => {
                let mut below = prefix.clone();
                if let Some(name) = base_name(&found.root) {
                    below = join_paths(&below, name);
                }
                Some(LocalPath::new(root, join_paths(&below, &found.below)))
            }
            Self::Name(path) if found.below.is_empty() => Some(path.clone()),
            Self::Name(path) => Some(path.join(&found.below)),
            Self::Stream(_) => None,
        }
    }

    /// The destination itself, for people.
    pub(crate) fn shown(&self) -> PathBuf {
        match self {
            Self::Folder(root, below) => LocalPath::new(root, below.clone()).to_path(),
            Self::Name(path) => path.to_path(),
            Self::Stream(path) => path.clone(),
        }
    }
}

/// A name in a folder that the user named with it.
fn named_base(path: &Path) -> Result<LocalBase> {
    let parent = path.parent().unwrap_or(Path::new(""));
    let Some(last) = path.file_name() else {
        return Err(cannot_reach(path, io::ErrorKind::NotFound.into()));
    };
    let root = NamedFolder::open(parent).map_err(|error| cannot_reach(parent, error))?;
    Ok(LocalBase::Name(LocalPath::new(
        &root,
        last.as_bytes().to_vec(),
    )))
}

/// A server's own folder `under` in `path`, both made if they are missing.
fn own_folder(path: &Path, under: &str, dry_run: bool) -> Result<LocalBase> {
    let cannot_make = |path: &Path, error: io::Error| {
        Error::unexpected(format!("cannot make `{}`", path.display())).caused_by(error)
    };
    let no_folder = |path: &Path| {
        Error::usage(format!("`{}` is no folder", path.display()))
            .hint("several things go into a folder")
    };
    if path.exists() && !path.is_dir() {
        return Err(no_folder(path));
    }
    if !dry_run {
        fs::create_dir_all(path).map_err(|error| cannot_make(path, error))?;
    }
    let (mut there, mut missing) = (path, Vec::new());
    // Without `--dry-run` it is there by now.
    while !there.exists() {
        let last = there.file_name().unwrap_or_default();
        missing = join_paths(last.as_bytes(), &missing);
        there = there.parent().unwrap_or(Path::new(""));
        if there.as_os_str().is_empty() {
            break;
        }
    }
    let root = NamedFolder::open(there).map_err(|error| cannot_reach(there, error))?;
    let below = join_paths(&missing, under.as_bytes());
    let own = LocalPath::new(&root, below.clone());
    let shown = own.to_path();
    match own
        .occupant()
        .map_err(|error| cannot_reach(&shown, error))?
    {
        Occupant::Folder => {}
        Occupant::Nothing if dry_run => {}
        Occupant::Nothing => own
            .make_folder(0o777)
            .map_err(|error| cannot_make(&shown, error))?,
        Occupant::Link => {
            return Err(no_folder(&shown).caused_by("it is a link, which is not followed"));
        }
        Occupant::File(_) | Occupant::Special(_) => return Err(no_folder(&shown)),
    }
    Ok(LocalBase::Folder(root, below))
}

fn cannot_reach(path: &Path, error: io::Error) -> Error {
    Error::unexpected(format!("cannot reach `{}`", path.display())).caused_by(error)
}

/// Whether `path` stands for a descriptor of this process: what is behind it is open already, and
/// is written to where it stands, whatever it is.
pub(crate) fn is_descriptor(path: &Path) -> bool {
    let folders = ["/dev/fd", "/proc/self/fd", "/proc/thread-self/fd"];
    folders
        .iter()
        .any(|folder| path.parent() == Some(Path::new(folder)))
        || ["/dev/stdin", "/dev/stdout", "/dev/stderr"]
            .iter()
            .any(|name| path == Path::new(name))
}

/// Whether `path` is standard output under another name.
pub(crate) fn is_stdout(path: &Path) -> bool {
    ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"]
        .iter()
        .any(|name| path == Path::new(name))
}

/// Opens what [`LocalBase::Stream`] names for writing. Of a FIFO this waits for a reader.
///
/// # Errors
/// It cannot be opened.
pub(crate) fn open_stream(path: &Path) -> io::Result<File> {
    // Neither made nor cut: what is there stays what it is.
    OpenOptions::new()
        .append(is_descriptor(path))
        .write(true)
        .custom_flags(rustix::fs::OFlags::NOCTTY.bits().cast_signed())
        .open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::symlink, net::UnixListener};

    use super::*;

    fn find(path: &Path) -> Result<LocalBase> {
        LocalBase::find_base(path, None, false, false)
    }

    #[test]
    fn what_is_no_file_is_written_into_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), rustix::fs::Mode::RWXU).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        fs::write(at("file"), "x").unwrap();
        symlink("fifo", at("to-fifo")).unwrap();
        symlink("/dev/null", at("to-null")).unwrap();
        for stream in ["fifo", "to-fifo", "to-null", "/dev/null", "/dev/fd/2"] {
            assert!(
                matches!(find(&at(stream)).unwrap(), LocalBase::Stream(_)),
                "{stream}"
            );
        }
        assert_eq!(
            find(&at("socket")).unwrap_err().kind(),
            ops_ui::ErrorKind::Usage
        );
        for several in ["fifo", "file", "/dev/null", "socket"] {
            let error = LocalBase::find_base(&at(several), None, true, false).unwrap_err();
            assert_eq!(error.kind(), ops_ui::ErrorKind::Usage, "{several}");
        }
        assert!(
            find(&at("file/")).is_err()
                && find(&at("new/")).is_err()
                && find(&at("new/.")).is_err()
        );
    }

    #[test]
    fn a_link_that_was_named_is_followed_to_a_file_and_not_to_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("there")).unwrap();
        fs::write(at("there/file"), "x").unwrap();
        symlink("there/file", at("link")).unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        symlink("there", at("to-folder")).unwrap();
        let LocalBase::Name(path) = find(&at("link")).unwrap() else {
            panic!("a name");
        };
        assert_eq!(path.to_path(), at("there/file").canonicalize().unwrap());
        assert!(find(&at("dangling")).is_err());
        assert!(matches!(
            find(&at("to-folder")).unwrap(),
            LocalBase::Folder(..)
        ));
        assert!(matches!(find(&at("new")).unwrap(), LocalBase::Name(_)));
    }

    #[test]
    fn the_folder_of_a_server_is_never_reached_by_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("x/y");
        assert!(matches!(
            LocalBase::find_base(&to, Some("web-1"), true, true).unwrap(),
            LocalBase::Folder(..)
        ));
        assert!(!folder.path().join("x").exists());
        LocalBase::find_base(&to, Some("web-1"), true, false).unwrap();
        assert!(to.join("web-1").is_dir());
        LocalBase::find_base(&to, Some("web-1"), true, false).unwrap();
        symlink("/tmp", to.join("web-2")).unwrap();
        let error = LocalBase::find_base(&to, Some("web-2"), true, false).unwrap_err();
        assert!(error.why()[0].contains("a link"), "{error:?}");
    }
}
