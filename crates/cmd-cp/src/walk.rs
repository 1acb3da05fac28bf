//! What there is to send: files, folders and links here.

use std::{
    fs::Metadata,
    io,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use ops_core::{Error, Result};

use crate::{names::Excluded, options::Options, transport::Kind};

/// Folders within folders, at most.
const DEPTH_MAX: usize = 512;

/// Something here.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) path: PathBuf,
    /// Below what was named, as for a server; empty for what was named itself.
    pub(crate) below: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) size: u64,
    pub(crate) mode: u32,
    pub(crate) mtime: i64,
}

/// Everything that `source` means, folders before what is in them; what cannot be read is given with its error.
pub(crate) fn walk(source: &Path, options: &Options) -> Vec<Result<Local, (PathBuf, Error)>> {
    let mut found = Vec::new();
    let root = source.file_name().unwrap_or_default().as_bytes().to_vec();
    let known = if options.keep_links {
        std::fs::symlink_metadata(source)
    } else {
        std::fs::metadata(source)
    };
    let known = match known {
        Ok(known) => known,
        Err(error) => {
            found.push(Err((source.to_owned(), unreadable(source, error))));
            return found;
        }
    };
    if known.is_dir() && !options.recursive {
        let error = Error::usage(format!("`{}` is a folder", source.display()))
            .hint("copy folders with all that is in them: -r");
        found.push(Err((source.to_owned(), error)));
        return found;
    }
    let mut walker = Walker {
        root,
        excluded: &options.excluded,
        follow: options.follow,
        trail: Vec::new(),
        found,
    };
    walker.add(source.to_owned(), b"", &known);
    walker.found
}

struct Walker<'a> {
    root: Vec<u8>,
    excluded: &'a Excluded,
    follow: bool,
    /// Device and number of the folders above, so that a link to one of them is seen.
    trail: Vec<(u64, u64)>,
    found: Vec<Result<Local, (PathBuf, Error)>>,
}

impl Walker<'_> {
    fn add(&mut self, path: PathBuf, below: &[u8], known: &Metadata) {
        if self.excluded.has(&self.root, below) {
            return;
        }
        let kind = if known.is_file() {
            Kind::File
        } else if known.is_dir() {
            Kind::Folder
        } else if known.file_type().is_symlink() {
            match std::fs::read_link(&path) {
                Ok(target) => Kind::Link(target.into_os_string().as_bytes().to_vec()),
                Err(error) => {
                    let error = unreadable(&path, error);
                    self.found.push(Err((path, error)));
                    return;
                }
            }
        } else {
            let error = Error::unexpected(format!(
                "`{}` is neither file, folder nor link",
                path.display()
            ));
            self.found.push(Err((path, error)));
            return;
        };
        let is_folder = kind == Kind::Folder;
        self.found.push(Ok(Local {
            path: path.clone(),
            below: below.to_vec(),
            kind,
            size: if is_folder { 0 } else { known.len() },
            mode: known.mode() & 0o7777,
            mtime: known.mtime(),
        }));
        if is_folder {
            let identity = (known.dev(), known.ino());
            if self.trail.contains(&identity) || self.trail.len() >= DEPTH_MAX {
                let error = Error::unexpected(format!("`{}` contains itself", path.display()))
                    .caused_by("a link leads back to a folder above it");
                self.found.pop();
                self.found.push(Err((path, error)));
                return;
            }
            self.trail.push(identity);
            self.folder(&path, below);
            self.trail.pop();
        }
    }

    fn folder(&mut self, path: &Path, below: &[u8]) {
        let names = std::fs::read_dir(path)
            .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
        let mut names: Vec<_> = match names {
            Ok(names) => names,
            Err(error) => {
                let error = unreadable(path, error);
                self.found.push(Err((path.to_owned(), error)));
                return;
            }
        };
        names.sort();
        for name in names {
            let path = path.join(&name);
            let below = crate::place::join(below, name.as_bytes());
            let known = if self.follow {
                std::fs::metadata(&path)
            } else {
                std::fs::symlink_metadata(&path)
            };
            match known {
                Ok(known) => self.add(path, &below, &known),
                Err(error) => {
                    let error = unreadable(&path, error);
                    self.found.push(Err((path, error)));
                }
            }
        }
    }
}

fn unreadable(path: &Path, error: io::Error) -> Error {
    Error::unexpected(format!("cannot read `{}`", path.display())).caused_by(error)
}
