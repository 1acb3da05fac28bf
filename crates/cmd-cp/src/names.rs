//! What a server may call things. Nothing it names lies outside of the destination, whatever it
//! says.

use std::{
    collections::HashSet,
    hash::{BuildHasher as _, RandomState},
};

use ops_ui::{Error, Result, output::escape};
use wildmatch::WildMatch;

use crate::{
    item::{Found, Kind},
    landing::NAME_MAX_BYTES,
    place::base_name,
};

/// Longest path below a destination, in bytes.
const PATH_MAX_BYTES: usize = 3800;

/// Patterns of `--exclude`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Excluded(Vec<(bool, WildMatch)>);

impl Excluded {
    /// One with a slash is for a whole path below what was named, any other for a name anywhere.
    pub(crate) fn new(patterns: &[String]) -> Self {
        Self(
            patterns
                .iter()
                .map(|pattern| {
                    let pattern = pattern.trim_end_matches('/');
                    (
                        pattern.contains('/'),
                        WildMatch::new(pattern.trim_start_matches('/')),
                    )
                })
                .collect(),
        )
    }

    /// Whether `below`, or a folder it lies in, is left out. `root` is the name of what was named
    /// itself.
    pub(crate) fn excludes(&self, root: &[u8], below: &[u8]) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let mut names = vec![String::from_utf8_lossy(root)];
        let mut ends = Vec::new();
        if !below.is_empty() {
            names.extend(below.split(|&b| b == b'/').map(String::from_utf8_lossy));
            ends.extend(
                below
                    .iter()
                    .enumerate()
                    .filter(|&(_, &b)| b == b'/')
                    .map(|(at, _)| at),
            );
            ends.push(below.len());
        }
        self.0.iter().any(|(whole, pattern)| {
            if *whole {
                ends.iter()
                    .any(|&end| pattern.matches(&String::from_utf8_lossy(&below[..end])))
            } else {
                names.iter().any(|name| pattern.matches(name))
            }
        })
    }
}

/// Checks everything that one server listed, in order: folders come before what is in them.
#[derive(Default)]
pub(crate) struct Gate {
    /// Paths by their hashes, with keys that no server knows: of a long list the paths are much.
    folders: HashSet<u64>,
    seen: HashSet<u64>,
    hasher: RandomState,
}

impl Gate {
    /// Lets `found` through, which the server listed for `place` as it was typed.
    ///
    /// # Errors
    /// A name that nobody asked for, that leads elsewhere, or that no file system takes.
    pub(crate) fn check_name(&mut self, place: &[u8], found: &Found) -> Result<()> {
        let refused = |why: &str| {
            Err(Error::unexpected(format!(
                "`{}` is refused",
                escape(&String::from_utf8_lossy(&crate::place::join_paths(
                    &found.root,
                    &found.below
                )))
            ))
            .caused_by(why))
        };
        if !answers(place, &found.root) {
            return refused("the server lists what was not asked for");
        }
        let below = &found.below;
        if below.len() > PATH_MAX_BYTES {
            return refused("the path is too long");
        }
        if !below.is_empty() {
            for part in below.split(|&b| b == b'/') {
                if matches!(part, b"" | b"." | b"..") {
                    return refused("the path leads out of its folder");
                }
                if part.len() > NAME_MAX_BYTES {
                    return refused("a name is too long");
                }
            }
            let end = below.iter().rposition(|&b| b == b'/').unwrap_or(0);
            let parent = self.hasher.hash_one((&found.root, &below[..end]));
            if !self.folders.contains(&parent) {
                return refused("it lies in nothing that is a folder");
            }
        }
        let key = self.hasher.hash_one((&found.root, &below[..]));
        if !self.seen.insert(key) {
            return refused("the server lists it twice");
        }
        if found.entry.kind == Kind::Folder {
            self.folders.insert(key);
        }
        Ok(())
    }
}

/// Whether `root` can be what `place` means, by its last name: a server must not answer `*.gz` with
/// `.bashrc`.
fn answers(place: &[u8], root: &[u8]) -> bool {
    let Some(asked) = base_name(place) else {
        // A home, `/` or `.`: its content is taken, under no name of its own.
        return true;
    };
    let Some(told) = base_name(root) else {
        return asked.starts_with(b"~");
    };
    if asked == told || (asked.starts_with(b"~") && base_name(place) == Some(place)) {
        return true;
    }
    if told.len() > NAME_MAX_BYTES {
        return false;
    }
    // `[…]` stands for one character, whichever.
    let mut pattern = String::new();
    let text = String::from_utf8_lossy(asked);
    let mut rest = text.as_ref();
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match (c, rest.find(']')) {
            ('[', Some(end)) => {
                pattern.push('?');
                rest = &rest[end + 1..];
            }
            _ => pattern.push(c),
        }
    }
    WildMatch::new(&pattern).matches(&String::from_utf8_lossy(told))
}

/// A server's label as the name of a folder.
pub(crate) fn folder_name(label: &str, id: &str) -> String {
    let name: String = label
        .chars()
        .map(|c| if c == '/' || c.is_control() { '_' } else { c })
        .collect();
    if matches!(name.as_str(), "" | "." | "..") || name.len() > NAME_MAX_BYTES - 8 {
        return id.to_owned();
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::Entry;

    fn found(root: &str, below: &str, kind: Kind) -> Found {
        Found {
            place: 0,
            root: root.as_bytes().into(),
            below: below.into(),
            entry: Entry {
                kind,
                size: 0,
                mode: 0o644,
                mtime: 0,
                sha256: None,
            },
        }
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        let mut gate = Gate::default();
        let mut check = |below: &str, kind| {
            gate.check_name(b"/tmp/x", &found("/tmp/x", below, kind))
                .is_ok()
        };
        assert!(check("", Kind::Folder));
        assert!(check("a", Kind::Folder));
        assert!(check("a/b", Kind::File));
        assert!(check("l", Kind::Link(b"/etc".to_vec())));
        for bad in [
            "../x",
            "a/../../x",
            "./y",
            "a//b",
            "l/passwd",
            "nowhere/x",
            "a/b",
            "a/b/c",
        ] {
            assert!(!check(bad, Kind::File), "{bad}");
        }
        assert!(!check(&"n".repeat(256), Kind::File));
    }

    #[test]
    fn an_answer_to_another_question_is_refused() {
        let ok = |place: &str, root: &str| answers(place.as_bytes(), root.as_bytes());
        assert!(ok("/var/log/*.gz", "/var/log/a.gz"));
        assert!(!ok("/var/log/*.gz", "/home/me/.bashrc"));
        assert!(ok("a[0-9].txt", "/h/a1.txt"));
        assert!(ok("x", "/h/x") && !ok("x", "/h/y") && !ok("x", "/h/.."));
        assert!(ok("", "/home/me") && ok("~bob", "/home/bob") && ok("/srv/.", "/srv/."));
    }

    #[test]
    fn patterns_leave_out_names_and_paths() {
        let excluded = Excluded::new(&[
            "*.log".to_owned(),
            "cache/old".to_owned(),
            ".git/".to_owned(),
        ]);
        let has = |below: &str| excluded.excludes(b"app", below.as_bytes());
        assert!(has("x.log") && has("a/x.log") && has(".git/config") && has("cache/old/y"));
        assert!(!has("x.txt") && !has("a/cache/old") && !has(""));
        assert!(Excluded::new(&["app".to_owned()]).excludes(b"app", b"x"));
    }

    #[test]
    fn a_label_becomes_a_harmless_folder() {
        assert_eq!(folder_name("web-1", "i-1"), "web-1");
        assert_eq!(folder_name("../../etc", "i-1"), ".._.._etc");
        assert_eq!(folder_name("..", "i-1"), "i-1");
    }
}
