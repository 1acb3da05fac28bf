//! `ops ssh-config --install`: files of our own, and one `Include` at the end of the user's
//! configuration.
//!
//! ssh takes the first value it finds for an option, so at the end the user's own entries win over
//! ours.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// First line of what is added to the user's file; what stands between the marks is ours.
const MARK_OPEN: &str =
    "# >>> ops >>> added by `ops ssh-config --install`; `ops ssh-config --uninstall` takes it out";
/// Last line of it.
const MARK_CLOSE: &str = "# <<< ops <<<";
/// Included by the mark's block; a relative path is looked up in `~/.ssh`.
pub(crate) const INCLUDE: &str = "Include ops/*.conf";
/// In front of it: behind the user's last `Host` line the Include would count for the hosts of that
/// line alone.
const FOR_ALL: &str = "Match all";

/// A file as it is, and as it shall be (`None`: not at all).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Where it is, symbolic links followed.
    pub(crate) path: PathBuf,
    /// Its text now.
    pub(crate) old: Option<String>,
    /// Its text then.
    pub(crate) new: Option<String>,
}

impl Change {
    /// What it would take to make `path` hold `new`.
    ///
    /// # Errors
    /// Fails if the file exists and cannot be read as text.
    pub(crate) fn plan(
        path: &Path,
        new: impl FnOnce(Option<&str>) -> Option<String>,
    ) -> io::Result<Self> {
        let path = follow_links(path)?;
        let old = match fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let new = new(old.as_deref());
        Ok(Self { path, old, new })
    }

    /// Whether there is anything to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.old == self.new
    }

    /// Does it: atomically, permissions kept (a new file is 0600).
    /// `backup` keeps the old text beside it, as `NAME.ops-backup`.
    ///
    /// # Errors
    /// Fails if the folder or the file cannot be written; the old file then stays.
    pub(crate) fn apply(&self, backup: bool) -> io::Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let Some(new) = &self.new else {
            return fs::remove_file(&self.path);
        };
        let dir = self
            .path
            .parent()
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mode = match fs::metadata(&self.path) {
            Ok(metadata) => Some(metadata.permissions()),
            Err(_) => None,
        };
        if !dir.exists() {
            ops_ui::paths::private_dir(dir.to_owned())?;
        }
        if backup && self.old.is_some() {
            let mut name = self.path.file_name().unwrap_or_default().to_owned();
            name.push(".ops-backup");
            fs::copy(&self.path, dir.join(name))?;
        }
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        io::Write::write_all(&mut file, new.as_bytes())?;
        if let Some(mode) = mode {
            file.as_file().set_permissions(mode)?;
        }
        file.as_file().sync_all()?;
        file.persist(&self.path).map_err(|error| error.error)?;
        Ok(())
    }

    /// The change as lines that begin with `-` and `+`, with a head that names the file; empty
    /// where nothing changes.
    pub(crate) fn diff(&self) -> String {
        if self.is_empty() {
            return String::new();
        }
        let old: Vec<&str> = self.old.as_deref().unwrap_or_default().lines().collect();
        let new: Vec<&str> = self.new.as_deref().unwrap_or_default().lines().collect();
        // What is added stands together, so the common ends are all that has to be found.
        let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
        let tail = old[head..]
            .iter()
            .rev()
            .zip(new[head..].iter().rev())
            .take_while(|(a, b)| a == b)
            .count();
        let mut text = format!(
            "--- {0}\n+++ {0}\n@@ line {1} @@\n",
            self.path.display(),
            head + 1
        );
        for (sign, lines) in [
            ('-', &old[head..old.len() - tail]),
            ('+', &new[head..new.len() - tail]),
        ] {
            for line in lines {
                text.push(sign);
                text.push_str(&ops_ui::output::escape(line));
                text.push('\n');
            }
        }
        text
    }
}

/// The user's file with our `Include` at its end, once.
pub(crate) fn with_include(old: Option<&str>) -> String {
    let mut text = without_include(old.unwrap_or_default());
    // One line feed more than the user's text has, which `without_include` takes away again.
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(&format!(
        "{MARK_OPEN}\n{FOR_ALL}\n{INCLUDE}\n{MARK_CLOSE}\n"
    ));
    text
}

/// The user's file without our block; everything else as it was.
pub(crate) fn without_include(old: &str) -> String {
    let mut kept = String::with_capacity(old.len());
    let mut lines = old.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        if !line.starts_with("# >>> ops >>>") {
            kept.push_str(line);
            continue;
        }
        let mut stood_last = false;
        for inner in lines.by_ref() {
            stood_last |= inner.trim_end() == FOR_ALL;
            if inner.trim_end() == MARK_CLOSE {
                break;
            }
        }
        if !stood_last {
            // Versions before put the block at the top, with an empty line behind it.
            lines.next_if(|line| line.trim().is_empty());
        } else if lines.peek().is_none() {
            // The line feed in front of the block is ours. With text behind the block it is needed,
            // if the user's own line had none.
            if kept.ends_with('\n') {
                kept.pop();
            }
        } else if kept.ends_with("\n\n") {
            kept.pop();
        }
    }
    kept
}

/// The user's file without the blocks that `ops ssh-config >> ~/.ssh/config` put there, and without
/// our `Include`.
pub(crate) fn without_blocks(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut inside = false;
    for line in text.split_inclusive('\n') {
        inside |= line.starts_with("# >>> ops ");
        if !inside {
            kept.push_str(line);
        }
        inside &= !line.starts_with("# <<< ops ");
    }
    kept
}

/// `path` with symbolic links followed, also where the last one's goal does not exist yet.
fn follow_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    // As many as Linux follows.
    for _ in 0..40 {
        match fs::read_link(&path) {
            Ok(goal) => path = path.parent().unwrap_or(Path::new("/")).join(goal),
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other(format!(
        "too many symbolic links at `{}`",
        path.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installing_twice_is_installing_once_and_uninstalling_gives_the_old_text_back() {
        for old in [
            "",
            "\n",
            "Host *\n  User me\n",
            "Host *\n  User me\n\n",
            "\n\n# mine\nHost x",
            "Include ops/*.conf\n",
        ] {
            let once = with_include(Some(old));
            assert_eq!(with_include(Some(&once)), once);
            assert_eq!(without_include(&once), old);
            assert!(once.starts_with(old), "{once}");
            assert!(once.contains("\nMatch all\nInclude ops/*.conf\n"), "{once}");
        }
    }

    #[test]
    fn a_block_at_the_top_moves_to_the_end_and_so_does_one_with_text_behind_it() {
        let own = "Host a\n  User me\n";
        let last = with_include(Some(own));
        let first = format!("{MARK_OPEN}\n{INCLUDE}\n{MARK_CLOSE}\n\n{own}");
        assert_eq!(with_include(Some(&first)), last);
        assert_eq!(without_include(&first), own);
        let more = format!("{last}Host b\n");
        assert_eq!(
            with_include(Some(&more)),
            with_include(Some("Host a\n  User me\nHost b\n"))
        );
        let more = format!("{}Host b\n", with_include(Some("Host a")));
        assert_eq!(without_include(&more), "Host a\nHost b\n");
    }

    #[test]
    fn what_was_appended_before_is_not_the_users_own() {
        let text = "Host a\n# >>> ops web >>>\nHost b\n# <<< ops web <<<\nHost c\n";
        assert_eq!(without_blocks(text), "Host a\nHost c\n");
    }

    #[cfg(unix)]
    #[test]
    fn a_linked_file_is_changed_where_it_lies_and_keeps_its_permissions() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("dotfiles");
        fs::write(&real, "Host a\n").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        let link = dir.path().join("config");
        std::os::unix::fs::symlink("dotfiles", &link).unwrap();
        let change = Change::plan(&link, |old| Some(with_include(old))).unwrap();
        assert!(
            change.diff().contains("+Include ops/*.conf"),
            "{}",
            change.diff()
        );
        change.apply(true).unwrap();
        assert!(
            fs::symlink_metadata(&link)
                .unwrap()
                .file_type()
                .is_symlink()
        );
        assert_eq!(
            fs::metadata(&real).unwrap().permissions().mode() & 0o777,
            0o640
        );
        assert_eq!(
            fs::read_to_string(dir.path().join("dotfiles.ops-backup")).unwrap(),
            "Host a\n"
        );
        assert!(
            Change::plan(&link, |old| Some(with_include(old)))
                .unwrap()
                .is_empty()
        );
    }
}
