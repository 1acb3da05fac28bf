//! What the user typed for one end of a copy.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::PathBuf,
};

use ops_profile::Target;
use ops_ui::{Error, Result};

/// One end of a copy: any bytes but NUL, as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TypedPath {
    /// `-`: standard input or output.
    Standard,
    /// A path on this machine.
    Local(PathBuf),
    /// `[user@]TARGET:PATH`.
    Remote {
        /// The server, or servers.
        target: Target,
        /// The path; empty is the home of the session's user. `~`, relative paths and globs are the
        /// server's to expand.
        path: Vec<u8>,
    },
}

impl TypedPath {
    /// Reads one. As in scp, a colon before any slash makes it remote; `./a:b` is local.
    /// `tag:Key=Value:PATH` has its second colon.
    ///
    /// # Errors
    /// A server that is no target.
    pub(crate) fn parse(text: &OsStr) -> Result<Self> {
        let bytes = text.as_bytes();
        if bytes == b"-" {
            return Ok(Self::Standard);
        }
        let Some(colon) = split_at(bytes) else {
            return Ok(Self::Local(PathBuf::from(text)));
        };
        let server = std::str::from_utf8(&bytes[..colon]).map_err(|_| {
            Error::usage(format!(
                "`{}` names no server",
                String::from_utf8_lossy(&bytes[..colon])
            ))
            .hint("a local file with a colon in its name is written ./NAME")
        })?;
        let target = server.parse().map_err(|error| {
            Error::usage(format!("{error}"))
                .hint("a local file with a colon in its name is written ./NAME")
        })?;
        Ok(Self::Remote {
            target,
            path: bytes[colon + 1..].to_vec(),
        })
    }

    /// As it was typed.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Standard => "-".to_owned(),
            Self::Local(path) => path.to_string_lossy().into_owned(),
            Self::Remote { target, path } => {
                format!("{target}:{}", String::from_utf8_lossy(path))
            }
        }
    }
}

/// Where the colon after the server stands.
fn split_at(bytes: &[u8]) -> Option<usize> {
    let from = if bytes.starts_with(b"tag:") {
        // A key has no `=`; the value ends at the next colon.
        4 + bytes[4..].iter().position(|&b| b == b'=')?
    } else {
        0
    };
    let colon = from + bytes[from..].iter().position(|&b| b == b':')?;
    let before = &bytes[..colon];
    let slash = if from > 0 { &[][..] } else { before };
    (!before.is_empty() && !slash.contains(&b'/')).then_some(colon)
}

/// The local path of these bytes.
pub(crate) fn local_path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes.to_vec()))
}

/// `below` under `root`, as a path on a server; an empty `below` is `root` itself.
pub(crate) fn join_paths(root: &[u8], below: &[u8]) -> Vec<u8> {
    if below.is_empty() {
        return root.to_vec();
    }
    let mut path = root.to_vec();
    if !path.is_empty() && !path.ends_with(b"/") {
        path.push(b'/');
    }
    path.extend_from_slice(below);
    path
}

/// The last name in `path`, without slashes behind it; `None` for `/`, `.`, `..`, `~` and nothing.
pub(crate) fn base_name(path: &[u8]) -> Option<&[u8]> {
    let end = path.iter().rposition(|&b| b != b'/').map_or(0, |at| at + 1);
    let path = &path[..end];
    let start = path.iter().rposition(|&b| b == b'/').map_or(0, |at| at + 1);
    match &path[start..] {
        b"" | b"." | b".." | b"~" => None,
        name => Some(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> TypedPath {
        TypedPath::parse(OsStr::new(text)).expect(text)
    }

    fn remote(text: &str) -> (String, Vec<u8>) {
        match parse(text) {
            TypedPath::Remote { target, path } => (target.to_string(), path),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_colon_before_any_slash_makes_a_place_remote() {
        assert_eq!(remote("web-1:/tmp/x"), ("web-1".into(), b"/tmp/x".into()));
        assert_eq!(remote("deploy@web-1:"), ("deploy@web-1".into(), vec![]));
        assert_eq!(remote("web-*:a:b"), ("web-*".into(), b"a:b".into()));
        assert_eq!(
            remote("tag:Role=web:/tmp/x"),
            ("tag:Role=web".into(), b"/tmp/x".into())
        );
        assert_eq!(remote("tag:a/b=c/d:e"), ("tag:a/b=c/d".into(), b"e".into()));
        assert_eq!(remote("web-1[2]:x"), ("web-1[2]".into(), b"x".into()));
        for text in ["a", "./a:b", "/a:b", ":a", "dir/x:y"] {
            assert_eq!(parse(text), TypedPath::Local(text.into()), "{text}");
        }
        assert_eq!(parse("-"), TypedPath::Standard);
        assert!(TypedPath::parse(OsStr::new("@x:/tmp")).is_err());
    }

    #[test]
    fn any_byte_may_stand_in_a_path() {
        let text = OsString::from_vec(b"web-1:/tmp/\xff\n'".to_vec());
        let TypedPath::Remote { path, .. } = TypedPath::parse(&text).unwrap() else {
            panic!("remote");
        };
        assert_eq!(path, b"/tmp/\xff\n'");
    }

    #[test]
    fn the_last_name_is_found_and_dots_are_none() {
        assert_eq!(base_name(b"/var/log/"), Some(&b"log"[..]));
        assert_eq!(base_name(b"x"), Some(&b"x"[..]));
        for path in [&b"/"[..], b"", b".", b"a/..", b"~", b"//"] {
            assert_eq!(base_name(path), None);
        }
        assert_eq!(join_paths(b"/a", b"b/c"), b"/a/b/c");
        assert_eq!(join_paths(b"/", b"b"), b"/b");
        assert_eq!(join_paths(b"", b"b"), b"b");
        assert_eq!(join_paths(b"/a", b""), b"/a");
    }
}
