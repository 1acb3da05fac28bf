//! Paths on servers, in which links are followed up to what the user named and nowhere below it.

use crate::place::{base_name, join_paths};

/// An absolute path on a server. The beginning is what the user named: links in it are followed,
/// the last one too. What lies below came with a list, of this machine or of a server, and no link
/// there is ever followed, neither for reading nor for writing: whoever may write to a folder could
/// otherwise lead the copy out of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RemotePath {
    whole: Vec<u8>,
    /// The length of what was named, in bytes.
    named: usize,
}

/// A path as a server's script and SFTP walk it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Steps<'a> {
    /// An absolute folder that is reached over any links.
    pub(crate) root: &'a [u8],
    /// Folders below it, with slashes between them, none of which may be a link; may be empty.
    pub(crate) folders: &'a [u8],
    /// The last name; empty for `/` alone.
    pub(crate) name: &'a [u8],
    /// Whether a link at the last name is followed: it is what the user named.
    pub(crate) follow: bool,
}

impl RemotePath {
    /// What lies `below` what was `named`; an empty `below` is what was named itself.
    pub(crate) fn new(named: &[u8], below: &[u8]) -> Self {
        Self {
            whole: join_paths(named, below),
            named: named.len(),
        }
    }

    /// A path all of which was named, so that every link in it is followed.
    pub(crate) fn named(whole: Vec<u8>) -> Self {
        Self {
            named: whole.len(),
            whole,
        }
    }

    /// What lies `below` this path; as much is named as of this one.
    pub(crate) fn join(&self, below: &[u8]) -> Self {
        Self {
            whole: join_paths(&self.whole, below),
            named: self.named,
        }
    }

    /// The path as one text of bytes.
    pub(crate) fn whole(&self) -> &[u8] {
        &self.whole
    }

    /// What the user named of it.
    pub(crate) fn root(&self) -> &[u8] {
        &self.whole[..self.named]
    }

    /// What lies below that, without a leading slash; empty for what was named itself.
    pub(crate) fn below(&self) -> &[u8] {
        let below = &self.whole[self.named..];
        below.strip_prefix(b"/").unwrap_or(below)
    }

    /// Whether it is what the user named itself.
    pub(crate) fn is_named(&self) -> bool {
        self.below().is_empty()
    }

    /// The last name, or a word where there is none.
    pub(crate) fn name_or(&self, otherwise: &'static [u8]) -> &[u8] {
        base_name(&self.whole).unwrap_or(otherwise)
    }

    /// How it is reached.
    pub(crate) fn steps(&self) -> Steps<'_> {
        let below = self.below();
        if below.is_empty() {
            let (root, name) = split_last(&self.whole);
            return Steps {
                root: if root.is_empty() { b"/" } else { root },
                folders: b"",
                name,
                follow: true,
            };
        }
        let (folders, name) = split_last(below);
        Steps {
            root: self.root(),
            folders,
            name,
            follow: false,
        }
    }

    /// The folders below what was named that it lies in, as whole paths, the outermost first.
    pub(crate) fn folders_below(&self) -> impl Iterator<Item = &[u8]> {
        let start = self.whole.len() - self.below().len();
        let slashes = self.whole[start..].iter().enumerate();
        slashes
            .filter(|&(_, &byte)| byte == b'/')
            .map(move |(at, _)| &self.whole[..start + at])
    }
}

/// A path in front of its last slash, and behind it.
fn split_last(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(root: &str, below: &str) -> (String, String, String, bool) {
        let path = RemotePath::new(root.as_bytes(), below.as_bytes());
        let steps = path.steps();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (
            text(steps.root),
            text(steps.folders),
            text(steps.name),
            steps.follow,
        )
    }

    #[test]
    fn a_path_is_walked_from_what_was_named() {
        let expected = |root: &str, folders: &str, name: &str, follow| {
            (root.to_owned(), folders.to_owned(), name.to_owned(), follow)
        };
        for (root, below, walked) in [
            ("/srv/app", "", expected("/srv", "", "app", true)),
            ("/srv/app", "a", expected("/srv/app", "", "a", false)),
            ("/srv/app", "a/b/c", expected("/srv/app", "a/b", "c", false)),
            ("/", "a/b", expected("/", "a", "b", false)),
            ("/", "", expected("/", "", "", true)),
            ("/x", "", expected("/", "", "x", true)),
        ] {
            assert_eq!(steps(root, below), walked, "{root} {below}");
        }
    }

    #[test]
    fn the_folders_below_what_was_named_are_told_from_the_outermost_in() {
        let folders = |path: &RemotePath| -> Vec<Vec<u8>> {
            path.folders_below().map(<[u8]>::to_vec).collect()
        };
        let path = RemotePath::new(b"/srv", b"a/b/c");
        assert_eq!(folders(&path), [b"/srv/a".to_vec(), b"/srv/a/b".to_vec()]);
        assert_eq!(folders(&path.join(b"d")).len(), 3);
        assert_eq!(folders(&RemotePath::new(b"/", b"a/b")), [b"/a".to_vec()]);
        assert_eq!(folders(&RemotePath::named(b"/srv/a/b".to_vec())).len(), 0);
        assert!(RemotePath::new(b"/srv", b"").is_named() && !path.is_named());
        assert_eq!(
            (path.root(), path.below(), path.name_or(b"x")),
            (&b"/srv"[..], &b"a/b/c"[..], &b"c"[..])
        );
    }
}
