//! Who besides this user could change a file that is about to be trusted.
//!
//! A profile says which role is assumed and which endpoint is asked, and a plugin is run with this
//! user's rights: whoever may write one of them, or put another into its folder, acts as this user.
//! The rule is that of OpenSSH's `StrictModes`, with the exception that Debian makes for a group of
//! the user's own.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use crate::{hint, text::Hint};

/// A file or folder that somebody else may write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposed {
    /// The file or folder.
    pub path: PathBuf,
    writer: Writer,
    is_folder: bool,
}

/// Who besides this user and root may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    Everybody,
    /// The group with this id.
    Group(u32),
    /// The owner, with this user id.
    Owner(u32),
}

impl Exposed {
    /// A command that mends it.
    pub fn mend(&self) -> Hint {
        match self.writer {
            Writer::Everybody => hint!("chmod o-w {}", self.path),
            Writer::Group(_) => hint!("chmod g-w {}", self.path),
            Writer::Owner(_) => hint!("sudo chown \"$(id -un)\" {}", self.path),
        }
    }
}

impl fmt::Display for Exposed {
    /// Such as "everybody may write the folder `/srv/profiles`".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.is_folder { "folder" } else { "file" };
        let path = self.path.display();
        match self.writer {
            Writer::Everybody => write!(f, "everybody may write the {what} `{path}`"),
            Writer::Group(gid) => {
                write!(f, "others in the group {gid} may write the {what} `{path}`")
            }
            Writer::Owner(uid) => write!(
                f,
                "the {what} `{path}` belongs to the user {uid}, who is neither you nor root"
            ),
        }
    }
}

/// Whoever may change the file at `path`, replace it in its folder, or do so behind a symbolic link
/// that `path` is. `None` where only this user and root may, or where there is no such file.
pub fn exposed(path: &Path) -> Option<Exposed> {
    let real = path.canonicalize().ok();
    let mut places = vec![path.to_owned()];
    places.extend(path.parent().map(Path::to_owned));
    if let Some(real) = real.filter(|real| real != path) {
        places.extend(real.parent().map(Path::to_owned));
    }
    places.iter().find_map(|place| one(place))
}

/// As [`exposed`] for one file or folder alone; a symbolic link is followed.
#[cfg(unix)]
fn one(path: &Path) -> Option<Exposed> {
    use std::os::unix::fs::MetadataExt as _;
    // A relative file without a folder in front of it lies in the working directory.
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let data = std::fs::metadata(path).ok()?;
    let own = rustix::process::geteuid().as_raw();
    // The sticky bit keeps others from replacing a file of ours, and not from putting one of theirs
    // beside it.
    let writer = if data.uid() != own && data.uid() != 0 {
        Writer::Owner(data.uid())
    } else if data.mode() & 0o002 != 0 {
        Writer::Everybody
    } else if data.mode() & 0o020 != 0 && !is_group_without_others(data.gid(), data.uid(), own) {
        Writer::Group(data.gid())
    } else {
        return None;
    };
    Some(Exposed {
        path: path.to_owned(),
        writer,
        is_folder: data.is_dir(),
    })
}

/// Other systems tell permissions in other ways.
#[cfg(not(unix))]
fn one(_path: &Path) -> Option<Exposed> {
    None
}

/// Whether nobody but the user `own`, root and whoever may become root is in the group: writing as
/// this group is no more than they can do anyhow.
#[cfg(unix)]
fn is_group_without_others(gid: u32, owner: u32, own: u32) -> bool {
    if cfg!(target_os = "macos") {
        // `wheel` and `admin`: whoever is in them may use sudo, and Homebrew's folders are of
        // `admin`. The other groups are kept in Open Directory, which no file tells of; `staff`
        // holds every user.
        return matches!(gid, 0 | 80);
    }
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let primary = rustix::process::getgid().as_raw();
    Accounts {
        passwd: &read("/etc/passwd"),
        group: &read("/etc/group"),
    }
    .is_without_others(gid, owner, own, primary)
}

/// The databases of users and groups, as files have them.
#[cfg(unix)]
struct Accounts<'a> {
    passwd: &'a str,
    group: &'a str,
}

#[cfg(unix)]
impl Accounts<'_> {
    /// Ids of groups that a system makes for itself end below this one. Source: `SYS_GID_MAX` of
    /// login.defs(5) and its counterparts.
    const FIRST_USERS_GROUP: u32 = 1000;

    /// As [`is_group_without_others`]; `owner` is that of the file,
    /// `primary` the primary group of `own`.
    fn is_without_others(&self, gid: u32, owner: u32, own: u32, primary: u32) -> bool {
        // name:password:uid:gid:…
        let users = || {
            self.passwd.lines().filter_map(|line| {
                let mut fields = line.split(':');
                let name = fields.next()?;
                Some((
                    name,
                    fields.nth(1)?.parse::<u32>().ok()?,
                    fields.next()?.parse::<u32>().ok()?,
                ))
            })
        };
        // name:password:gid:member,member
        let mut groups = self.group.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let id: u32 = fields.get(2)?.parse().ok()?;
            Some((id, fields[0], fields.get(3).copied().unwrap_or_default()))
        });
        let own_name = users()
            .find(|(_, uid, _)| *uid == own)
            .map(|(name, ..)| name);
        let Some((_, name, members)) = groups.find(|(id, ..)| *id == gid) else {
            // A group that a directory service keeps. One with the number of the user is the user's
            // own, as all such services have it.
            return gid == own && gid == primary;
        };
        let others = members
            .split(',')
            .filter(|member| !member.is_empty())
            .any(|member| member != "root" && Some(member) != own_name)
            || users().any(|(_, uid, group)| group == gid && uid != own && uid != 0);
        // Of a group of users the files alone do not tell everybody: a directory service may put
        // more of them into `users`.
        let is_own = own_name == Some(name) || (gid == own && gid == primary);
        let is_of_system = gid == 0 || (owner == 0 && gid < Self::FIRST_USERS_GROUP);
        !others && (is_own || is_of_system)
    }
}

/// Whether the folder at `path` is there, is this user's, and nobody else may write it.
pub(crate) fn is_own_folder(path: &Path) -> bool {
    own_folder(path).is_ok()
}

/// Checks that `path` is a folder of this user that nobody else may write, and no link that
/// somebody else has put there.
///
/// # Errors
/// Says who else has to do with it.
#[cfg(unix)]
pub(crate) fn own_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let own = rustix::process::geteuid().as_raw();
    let foreign = |uid: u32| {
        io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "`{}` belongs to the user {uid}, and this process runs as the user {own} (under sudo: leave `-E` out, or add `-H`)",
                path.display()
            ),
        )
    };
    let link = std::fs::symlink_metadata(path)?;
    if link.uid() != own && link.uid() != 0 {
        return Err(foreign(link.uid()));
    }
    let data = std::fs::metadata(path)?;
    if !data.is_dir() {
        return Err(io::Error::other(format!(
            "`{}` is no folder",
            path.display()
        )));
    }
    if data.uid() != own {
        return Err(foreign(data.uid()));
    }
    match one(path) {
        Some(exposed) => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            exposed.to_string(),
        )),
        None => Ok(()),
    }
}

/// Other systems tell permissions in other ways.
#[cfg(not(unix))]
pub(crate) fn own_folder(path: &Path) -> io::Result<()> {
    std::fs::metadata(path).map(drop)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\nbob:x:1001:100::/home/bob:/bin/sh\neve:x:1002:100::/home/eve:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nstaff:x:50:\nadm:x:4:eve\nusers:x:100:\nann:x:1000:\nbob:x:1001:bob\ndevs:x:1500:ann\nshared:x:1600:ann,bob\n";

    fn alone(gid: u32, owner: u32, own: u32, primary: u32) -> bool {
        Accounts {
            passwd: PASSWD,
            group: GROUP,
        }
        .is_without_others(gid, owner, own, primary)
    }

    #[test]
    fn a_group_of_the_users_own_may_write_and_others_may_not() {
        // umask 002 and a group named like the user.
        assert!(alone(1000, 1000, 1000, 1000));
        assert!(alone(1001, 1001, 1001, 100));
        // Debian's /usr/local is root:staff, with nobody in it; this group has somebody.
        assert!(alone(50, 0, 1000, 1000));
        assert!(!alone(4, 0, 1000, 1000));
        // Of ours but in a group with others, now or by a directory service.
        assert!(!alone(100, 1001, 1001, 100));
        assert!(!alone(1600, 1000, 1000, 1000));
        assert!(!alone(1500, 1000, 1000, 1000));
        // A group without a name: the user's own by its number.
        assert!(alone(70_001, 70_001, 70_001, 70_001));
        assert!(!alone(70_002, 70_001, 70_001, 70_002));
        // Somebody else's own group.
        assert!(!alone(1000, 1001, 1001, 100));
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_file_is_exposed_by_itself_by_its_folder_and_by_what_it_links_to() {
        let root = tempfile::tempdir().unwrap();
        let (near, far) = (root.path().join("near"), root.path().join("far dir"));
        for folder in [&near, &far] {
            fs::create_dir(folder).unwrap();
            mode(folder, 0o755);
        }
        let file = far.join("x");
        fs::write(&file, "").unwrap();
        mode(&file, 0o644);
        let link = near.join("x");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(exposed(&file), None);
        assert_eq!(exposed(&link), None);
        assert_eq!(exposed(&root.path().join("none")), None);

        mode(&file, 0o666);
        for path in [&file, &link] {
            let found = exposed(path).unwrap();
            assert_eq!(found.writer, Writer::Everybody);
            assert_eq!(found.path, *path);
        }
        assert!(exposed(&file).unwrap().mend().starts_with("chmod o-w '"));
        mode(&file, 0o644);

        mode(&far, 0o1777);
        assert_eq!(exposed(&link).unwrap().path, far.canonicalize().unwrap());
        mode(&far, 0o755);
        mode(&near, 0o777);
        let found = exposed(&link).unwrap();
        assert_eq!(found.path, near);
        assert!(found.to_string().contains("the folder"), "{found}");
        assert_eq!(exposed(&file), None);
    }

    #[test]
    fn what_belongs_to_somebody_else_is_exposed() {
        ops_test_needs::needs_root!();
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("x");
        fs::write(&file, "").unwrap();
        mode(&file, 0o664);
        std::os::unix::fs::chown(&file, None, Some(65_533)).unwrap();
        assert_eq!(exposed(&file).unwrap().writer, Writer::Group(65_533));
        assert!(exposed(&file).unwrap().mend().starts_with("chmod g-w "));
        mode(&file, 0o644);
        assert_eq!(exposed(&file), None);
        std::os::unix::fs::chown(&file, Some(65_533), None).unwrap();
        assert_eq!(exposed(&file).unwrap().writer, Writer::Owner(65_533));
        assert!(!is_own_folder(&file));
        std::os::unix::fs::chown(root.path(), Some(65_533), None).unwrap();
        let error = own_folder(root.path()).unwrap_err();
        assert!(error.to_string().contains("the user 65533"), "{error}");
    }
}
