//! Which links of a tree lead out of it.
//!
//! A link is judged against the whole list that it came with, never by its own text alone: `a/b/top
//! -> ../..` and `notes -> a/b/top/../.bashrc` each stay within the tree when they are looked at
//! alone, and together they lead out of it. The judgement is pure (it looks at no disk), and the
//! same for copies down, up and from server to server.
//!
//! The judgement decides which links are *made*. It does not make writing safe: the destination may
//! hold links from an earlier copy or from somebody else. Whoever writes therefore follows no link
//! below what the user named; a link that lies where a file is to go is replaced by the file, and
//! one that lies where a folder is to go is an error.

use std::collections::HashMap;

use clap::ValueEnum;
use ops_profile::CopyLinks;

use crate::item::Kind;

/// Links that one target may pass through, as many as Linux allows (`MAXSYMLINKS`). Source:
/// path_resolution(7).
const HOPS_MAX: usize = 40;

/// Why [`Links::Safe`] leaves out an absolute link.
pub(crate) const ABSOLUTE: &str = "an absolute link";
/// Why [`Links::Safe`] leaves out a link that is not absolute.
pub(crate) const LEADS_OUT: &str = "a link that leads out of what is copied";

/// `--links`, or `copy.links` of the profile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Links {
    /// Copied as links, but for those that are absolute or lead out, which are left out
    #[default]
    Safe,
    /// Copied as links, whatever they point to
    All,
    /// Left out
    Skip,
    /// What they point to is copied
    Follow,
}

impl Links {
    /// Why a link is left out that leads where the judgement says; `None` where it is copied as a
    /// link.
    pub(crate) fn leave_out(self, leads: Option<&LinkReach>) -> Option<&'static str> {
        match (self, leads) {
            // What could not be followed, since it leads nowhere, is a link like any other.
            (Self::Safe | Self::Follow, Some(LinkReach::Within)) | (Self::All, _) => None,
            (Self::Safe | Self::Follow, Some(LinkReach::Absolute)) => Some(ABSOLUTE),
            (Self::Safe | Self::Follow, _) => Some(LEADS_OUT),
            (Self::Skip, _) => Some("a link"),
        }
    }
}

impl From<CopyLinks> for Links {
    fn from(links: CopyLinks) -> Self {
        match links {
            CopyLinks::Safe => Self::Safe,
            CopyLinks::All => Self::All,
            CopyLinks::Skip => Self::Skip,
            CopyLinks::Follow => Self::Follow,
        }
    }
}

/// Where a link leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkReach {
    /// To something in the tree, or to a name in it that nothing has: a dangling link harms nobody.
    Within,
    /// To an absolute path, by itself or by way of another link of the tree.
    Absolute,
    /// Above the root of the tree, by itself or by way of another link; or nobody can say: `..`
    /// stands behind a name that is no folder of the list.
    Outside,
}

/// Judges all links of a list. `entries` are the root that each belongs to, the path below that
/// root (empty for the root itself) and the kind, in any order; the answer has the positions of
/// links only.
///
/// A tree ends at its own root: a link from one root into another one leads out. A root that is a
/// link itself may point to a single name beside it.
pub(crate) fn judge_links<'a, I>(entries: I) -> HashMap<usize, LinkReach>
where
    I: Iterator<Item = (&'a [u8], &'a [u8], &'a Kind)> + Clone,
{
    let mut verdicts = HashMap::new();
    let is_link = |kind: &Kind| matches!(kind, Kind::Link(_));
    // Most trees have no link, and a list may be long: nothing is kept for those.
    if !entries.clone().any(|(_, _, kind)| is_link(kind)) {
        return verdicts;
    }
    let mut trees: HashMap<&[u8], Tree<'a>> = HashMap::new();
    for (root, below, kind) in entries.clone() {
        trees.entry(root).or_default().0.insert(below, kind);
    }
    for (position, (root, below, kind)) in entries.enumerate() {
        if let (Kind::Link(target), Some(tree)) = (kind, trees.get(root)) {
            verdicts.insert(position, tree.judge_link(below, target));
        }
    }
    verdicts
}

/// What one root holds, by the path below it.
#[derive(Default)]
struct Tree<'a>(HashMap<&'a [u8], &'a Kind>);

impl Tree<'_> {
    /// Follows `target` of the link at `below` as a kernel would, over the links of the list.
    fn judge_link(&self, below: &[u8], target: &[u8]) -> LinkReach {
        if below.is_empty() {
            // The root has no folder in the list around it, so that every slash leads to where
            // nothing is known.
            let is_name = !target.contains(&b'/') && !matches!(target, b"" | b"." | b"..");
            return match (is_name, target.starts_with(b"/")) {
                (true, _) => LinkReach::Within,
                (false, true) => LinkReach::Absolute,
                (false, false) => LinkReach::Outside,
            };
        }
        // The path so far, without any link in it.
        let mut path: Vec<u8> = below[..parent_len(below)].to_vec();
        // Parts that are still to be walked, the next one last; targets of links are put on top.
        let mut rest: Vec<&[u8]> = Vec::new();
        if let Some(leads) = push_target(&mut rest, target) {
            return leads;
        }
        let mut hops = 0;
        // Whether `path` is a folder of the list: only then does `..` mean its parent, whatever
        // lies at the destination already.
        let mut is_folder = true;
        while let Some(part) = rest.pop() {
            match part {
                b"" | b"." => {}
                b".." if path.is_empty() || !is_folder => return LinkReach::Outside,
                b".." => path.truncate(parent_len(&path)),
                name => {
                    let parent = path.len();
                    if parent > 0 {
                        path.push(b'/');
                    }
                    path.extend_from_slice(name);
                    match self.0.get(path.as_slice()) {
                        Some(Kind::Link(target)) => {
                            hops += 1;
                            if hops > HOPS_MAX {
                                // No kernel follows it to an end.
                                return LinkReach::Within;
                            }
                            path.truncate(parent);
                            if let Some(leads) = push_target(&mut rest, target) {
                                return leads;
                            }
                        }
                        known => is_folder = matches!(known, Some(Kind::Folder)),
                    }
                }
            }
        }
        LinkReach::Within
    }
}

/// Puts the parts of `target` on top of `rest`; an absolute or empty target is judged at once.
fn push_target<'t>(rest: &mut Vec<&'t [u8]>, target: &'t [u8]) -> Option<LinkReach> {
    match target.first() {
        None => Some(LinkReach::Outside),
        Some(b'/') => Some(LinkReach::Absolute),
        Some(_) => {
            rest.extend(target.split(|&byte| byte == b'/').rev());
            None
        }
    }
}

/// The length of the parent of `path`: 0 for a path of one name.
fn parent_len(path: &[u8]) -> usize {
    path.iter().rposition(|&byte| byte == b'/').unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn link(target: &str) -> Kind {
        Kind::Link(target.into())
    }

    /// The verdicts on the links of a tree, by path.
    fn judged<'a>(tree: &'a [(&'a str, Kind)]) -> HashMap<&'a str, LinkReach> {
        let entries = tree
            .iter()
            .map(|(below, kind)| (&b"/srv/t"[..], below.as_bytes(), kind));
        judge_links(entries)
            .into_iter()
            .map(|(position, leads)| (tree[position].0, leads))
            .collect()
    }

    #[test]
    fn links_that_lead_out_together_are_found() {
        let tree = [
            ("", Kind::Folder),
            ("a", Kind::Folder),
            ("a/b", Kind::Folder),
            ("a/b/top", link("../..")),
            ("notes", link("a/b/top/../.bashrc")),
            ("inner", link("a/b/top/a/b")),
            ("second", link("notes")),
            ("a/third", link("../second")),
            ("fine", link("a/../a/b")),
            ("conf", link("/etc/hosts")),
            ("a/by-way", link("../conf")),
            ("gone", link("nothing/here")),
            ("gone-up", link("nothing/../here")),
        ];
        let judged = judged(&tree);
        let leads = |path: &str| judged[path];
        for path in ["a/b/top", "inner", "fine", "gone"] {
            assert_eq!(leads(path), LinkReach::Within, "{path}");
        }
        for path in ["notes", "second", "a/third", "gone-up"] {
            assert_eq!(leads(path), LinkReach::Outside, "{path}");
        }
        for path in ["conf", "a/by-way"] {
            assert_eq!(leads(path), LinkReach::Absolute, "{path}");
        }
    }

    #[test]
    fn a_link_alone_is_judged_by_where_it_ends() {
        for (below, target, leads) in [
            ("a/b/l", "../../x", LinkReach::Within),
            ("l", "a/../b", LinkReach::Within),
            ("l", "../x", LinkReach::Outside),
            ("a/l", "../../x", LinkReach::Outside),
            ("l", "file/../x", LinkReach::Outside),
            ("l", "", LinkReach::Outside),
            ("l", "/etc", LinkReach::Absolute),
            ("l", "l", LinkReach::Within),
            ("l", ".", LinkReach::Within),
        ] {
            let tree = [
                ("", Kind::Folder),
                ("a", Kind::Folder),
                ("a/b", Kind::Folder),
                ("file", Kind::File),
                (below, link(target)),
            ];
            assert_eq!(judged(&tree)[below], leads, "{below} -> {target}");
        }
    }

    #[test]
    fn a_root_that_is_a_link_may_name_its_neighbour_and_nothing_else() {
        for (target, leads) in [
            ("v1", LinkReach::Within),
            ("../v1", LinkReach::Outside),
            ("a/b", LinkReach::Outside),
            ("..", LinkReach::Outside),
            ("/v1", LinkReach::Absolute),
        ] {
            assert_eq!(judged(&[("", link(target))])[""], leads, "{target}");
        }
    }

    #[test]
    fn each_root_is_a_tree_of_its_own() {
        let (folder, to_b) = (Kind::Folder, link("../b/f"));
        let entries = [
            (&b"/x/a"[..], &b""[..], &folder),
            (b"/x/a", b"l", &to_b),
            (b"/x/b", b"", &folder),
        ];
        let judged = judge_links(entries.into_iter());
        assert_eq!(judged, HashMap::from([(1, LinkReach::Outside)]));
    }

    proptest! {
        /// The judgement against the kernel's own: in a real folder, a link that is `Within` never
        /// resolves to something outside of it.
        #[test]
        fn what_is_within_stays_within_for_the_kernel_too(
            links in prop::collection::vec(("[abl]{1}(/[abl]){0,2}", "(\\.\\.|[abl])(/(\\.\\.|[abl])){0,4}"), 1..6)
        ) {
            let outer = tempfile::tempdir().unwrap();
            let root = outer.path().join("root");
            let mut tree = vec![(String::new(), Kind::Folder)];
            std::fs::create_dir(&root).unwrap();
            for folder in ["a", "a/b", "b"] {
                std::fs::create_dir(root.join(folder)).unwrap();
                tree.push((folder.to_owned(), Kind::Folder));
            }
            for (path, target) in links {
                // Only a name that is free in a folder that is one.
                let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
                let is_free = tree.iter().all(|(known, _)| *known != path)
                    && tree.iter().any(|(known, kind)| known == parent && *kind == Kind::Folder);
                if is_free {
                    std::os::unix::fs::symlink(&target, root.join(&path)).unwrap();
                    tree.push((path, Kind::Link(target.into_bytes())));
                }
            }
            let entries = tree.iter().map(|(below, kind)| (&b"root"[..], below.as_bytes(), kind));
            let real_root = root.canonicalize().unwrap();
            for (position, leads) in judge_links(entries) {
                if let Ok(real) = root.join(&tree[position].0).canonicalize()
                    && leads == LinkReach::Within
                {
                    prop_assert!(real.starts_with(&real_root), "{:?} of {tree:?}", tree[position]);
                }
            }
        }
    }
}
