//! Sources that would become one and the same thing.
//!
//! GNU cp copies the first of them and refuses the second; here nothing is touched at all, since
//! the user asked for something that cannot be done.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    os::unix::ffi::OsStrExt as _,
};

use ops_ui::{Error, Result, hint};

use crate::place::{TypedPath, base_name};

/// What is to be made below one destination, by its path there.
pub(crate) struct Claims {
    /// The destination as it was typed.
    destination: String,
    /// By hash, since of many files the names alone are much; two paths with one hash are as likely
    /// as a disk that errs.
    taken: HashMap<u64, Claim>,
    /// Names of what was named itself, by the same hash: few.
    roots: HashMap<u64, String>,
    hasher: RandomState,
}

#[derive(Clone, Copy)]
struct Claim {
    is_folder: bool,
    is_root: bool,
}

/// Something to be made.
pub(crate) struct WantedItem<'a> {
    /// Its path below the destination.
    pub(crate) path: &'a [u8],
    pub(crate) is_folder: bool,
    /// It was named itself, and goes there under its own name.
    pub(crate) is_root: bool,
}

impl Claims {
    /// None so far, below `destination` as it was typed.
    pub(crate) fn below(destination: String) -> Self {
        Self {
            destination,
            taken: HashMap::new(),
            roots: HashMap::new(),
            hasher: RandomState::default(),
        }
    }

    /// Notes one more; `source` is where it comes from, as the user would write that.
    ///
    /// Folders may meet where the contents of several are copied into one (`a/. b/.`), but not
    /// where each was named: `a/src` and `b/src` would be mixed.
    ///
    /// # Errors
    /// Another source becomes the same.
    pub(crate) fn add_claim(
        &mut self,
        wanted: &WantedItem<'_>,
        source: impl Fn() -> String,
    ) -> Result<()> {
        let hash = self.hasher.hash_one(wanted.path);
        let claim = Claim {
            is_folder: wanted.is_folder,
            is_root: wanted.is_root,
        };
        if let Some(other) = self.taken.insert(hash, claim) {
            let may_meet = claim.is_folder && other.is_folder && !(claim.is_root && other.is_root);
            if !may_meet {
                let first = self.roots.get(&hash).map(String::as_str);
                return Err(clash_error(
                    first,
                    &source(),
                    wanted.path,
                    &self.destination,
                ));
            }
        }
        if wanted.is_root {
            self.roots.insert(hash, source());
        }
        Ok(())
    }
}

/// Refuses what can be known from the command line alone: sources whose last names are the same.
/// `several` says of a target whether its servers' files go into folders of their own, each by the
/// server's name.
///
/// # Errors
/// Two sources have one name.
pub(crate) fn refuse_same_names(sources: &[TypedPath], destination: &TypedPath) -> Result<()> {
    let mut seen: HashMap<(String, Vec<u8>), String> = HashMap::new();
    for source in sources {
        let (group, last) = match source {
            TypedPath::Standard => continue,
            TypedPath::Local(path) => match base_name(path.as_os_str().as_bytes()) {
                Some(name) => (String::new(), name.to_vec()),
                None => continue,
            },
            TypedPath::Remote { target, path } => {
                // A pattern stands for names that only the server knows; they are compared later.
                let is_pattern = path.iter().any(|byte| b"*?[".contains(byte));
                let group = if target.is_plural() {
                    target.to_string()
                } else {
                    String::new()
                };
                match base_name(path) {
                    Some(name) if !is_pattern => (group, name.to_vec()),
                    _ => continue,
                }
            }
        };
        let shown = source.shown();
        if let Some(first) = seen.insert((group, last.clone()), shown.clone()) {
            return Err(clash_error(
                Some(&first),
                &shown,
                &last,
                &destination.shown(),
            ));
        }
    }
    Ok(())
}

fn clash_error(first: Option<&str>, second: &str, path: &[u8], destination: &str) -> Error {
    let name = String::from_utf8_lossy(path);
    let error = Error::usage(format!("two sources would become one `{name}`"));
    let error = match first {
        Some(first) => error.caused_by(format!("`{first}` and `{second}`")),
        None => error.caused_by(format!("one of them is `{second}`")),
    };
    error
        .hint(hint!(
            "to keep both, give one a name of its own: ops cp {} {}",
            second,
            below_destination(destination, &format!("{name}.2"))
        ))
        .hint("or name the servers by one pattern: each one's files go into a folder of its own")
}

/// `name` below the folder that was typed as `destination`; below `web-1:` it is in the home there.
fn below_destination(destination: &str, name: &str) -> String {
    match destination {
        "/" => format!("/{name}"),
        home if home.ends_with(':') => format!("{home}{name}"),
        folder => format!("{}/{name}", folder.trim_end_matches('/')),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn names_that_are_the_same_on_the_command_line_are_refused() {
        let refused = |texts: &[&str]| {
            let places: Vec<TypedPath> = texts
                .iter()
                .map(|text| TypedPath::parse(OsStr::new(text)).unwrap())
                .collect();
            refuse_same_names(&places, &TypedPath::Local("there".into())).is_err()
        };
        assert!(refused(&["web-1:README.txt", "web-2:README.txt"]));
        assert!(refused(&["a/f", "b/f"]));
        assert!(refused(&["a/f", "web-1:x/f/"]));
        assert!(refused(&["web-1:f", "web-1:f"]));
        assert!(refused(&["web-*:a/f", "web-*:b/f"]));
        for fine in [
            &["web-1:a", "web-2:b"][..],
            // Each server has a folder of its own.
            &["web-*:f", "db-*:f"],
            &["web-*:f", "db-1:f"],
            // Contents, which are compared by their own names.
            &["a/.", "b/."],
            &["web-1:", "web-2:~"],
            &["web-1:*.log", "web-2:*.log"],
        ] {
            assert!(!refused(fine), "{fine:?}");
        }
    }

    #[test]
    fn the_way_to_keep_both_is_a_command_with_the_users_own_words() {
        for (destination, shown) in [
            ("there/", "ops cp web-2:a/f there/f.2"),
            ("web-3:", "ops cp web-2:a/f web-3:f.2"),
            ("web-3:/srv", "ops cp web-2:a/f web-3:/srv/f.2"),
            ("/", "ops cp web-2:a/f /f.2"),
            ("my files", "ops cp web-2:a/f 'my files/f.2'"),
        ] {
            let error = clash_error(None, "web-2:a/f", b"f", destination);
            assert!(error.hints()[0].ends_with(shown), "{}", error.hints()[0]);
        }
    }

    #[test]
    fn contents_may_meet_in_folders_and_in_nothing_else() {
        let add = |claims: &mut Claims, path: &str, is_folder, is_root| {
            let wanted = WantedItem {
                path: path.as_bytes(),
                is_folder,
                is_root,
            };
            claims.add_claim(&wanted, || format!("web-1:{path}"))
        };
        let mut claims = Claims::below("there".to_owned());
        add(&mut claims, "src", true, false).unwrap();
        add(&mut claims, "src", true, false).unwrap();
        add(&mut claims, "src/a", false, false).unwrap();
        assert!(add(&mut claims, "src/a", false, false).is_err());
        assert!(add(&mut claims, "src/a", true, false).is_err());
        let mut claims = Claims::below("there".to_owned());
        add(&mut claims, "src", true, true).unwrap();
        let error = add(&mut claims, "src", true, true).unwrap_err();
        assert!(error.why()[0].contains("`web-1:src` and `web-1:src`"));
    }
}
