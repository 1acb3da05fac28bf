//! What there is to send: files, folders and links here.
//!
//! Folders below what was named are opened by their handles, and no link in them is followed, so
//! that a link which is put in a folder's place while the copy runs brings nothing from elsewhere.

use std::{
    ffi::OsString,
    fs::{File, Metadata},
    io,
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        fs::{FileTypeExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use ops_ui::{Error, Result};

use crate::{
    item::Kind,
    local::{Follow, LocalFile, LocalPath, NamedFolder, words},
    names::Excluded,
    options::Options,
    place::join_paths,
};

/// Folders within folders, at most.
const DEPTH_MAX: usize = 512;

/// Something here.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) file: LocalFile,
    /// Below what was named, as for a server; empty for what was named itself.
    pub(crate) below: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) size: u64,
    pub(crate) mode: u32,
    pub(crate) mtime: i64,
}

/// What something that the user named turns out to be.
pub(crate) enum Walked {
    /// Files, folders and links, folders before what is in them; what cannot be read is given with
    /// its error.
    Tree(Vec<Result<Local, (PathBuf, Error)>>),
    /// Something that is read once, from here on to its end: a FIFO, a device, a descriptor.
    Stream,
}

/// Everything that `source` means.
pub(crate) fn walk_tree(source: &Path, options: &Options) -> Walked {
    let failed = |error: Error| Walked::Tree(vec![Err((source.to_owned(), error))]);
    let known = if options.keep_links {
        std::fs::symlink_metadata(source)
    } else {
        std::fs::metadata(source)
    };
    let known = match known {
        Ok(known) => known,
        Err(error) => return failed(unreadable(source, error)),
    };
    let kind = known.file_type();
    if kind.is_fifo() || kind.is_char_device() || kind.is_block_device() {
        return Walked::Stream;
    }
    if kind.is_socket() {
        let what = format!("`{}` is a socket, which holds no bytes", source.display());
        return failed(Error::unexpected(what));
    }
    if known.is_dir() && !options.recursive {
        let error = Error::usage(format!("`{}` is a folder", source.display()))
            .hint("copy folders with all that is in them: -r");
        return failed(error);
    }
    // A folder is its own root; anything else is a name in the folder that it was named with.
    let (folder, name) = if known.is_dir() {
        (source, OsString::new())
    } else {
        let name = source.file_name().unwrap_or_default().to_owned();
        (source.parent().unwrap_or(Path::new("")), name)
    };
    let root = match NamedFolder::open(folder) {
        Ok(root) => root,
        Err(error) => return failed(unreadable(source, error)),
    };
    let mut walker = Walker {
        root,
        name: source.file_name().unwrap_or_default().as_bytes().to_vec(),
        excluded: &options.excluded,
        follow: if options.follow {
            Follow::Everything
        } else {
            Follow::Nothing
        },
        trail: Vec::new(),
        found: Vec::new(),
    };
    let path = LocalPath::new(&walker.root, name.into_vec());
    let file = match (options.follow, options.keep_links) {
        (true, _) => LocalFile::new(path, Follow::Everything),
        (false, true) => LocalFile::new(path, Follow::Nothing),
        (false, false) => LocalFile::new(path, Follow::Last),
    };
    walker.add(&file, b"", &known);
    Walked::Tree(walker.found)
}

struct Walker<'a> {
    root: Arc<NamedFolder>,
    /// Of what was named.
    name: Vec<u8>,
    excluded: &'a Excluded,
    follow: Follow,
    /// Device and number of the folders above, so that a link to one of them is seen.
    trail: Vec<(u64, u64)>,
    found: Vec<Result<Local, (PathBuf, Error)>>,
}

impl Walker<'_> {
    fn fail(&mut self, file: &LocalFile, error: io::Error) {
        let path = file.to_path();
        let error = unreadable(&path, error);
        self.found.push(Err((path, error)));
    }

    fn add(&mut self, file: &LocalFile, below: &[u8], known: &Metadata) {
        if self.excluded.excludes(&self.name, below) {
            return;
        }
        let kind = if known.is_file() {
            Kind::File
        } else if known.is_dir() {
            Kind::Folder
        } else if known.file_type().is_symlink() {
            match file.read_link() {
                Ok(target) => Kind::Link(target),
                Err(error) => return self.fail(file, error),
            }
        } else {
            let path = file.to_path();
            let error = Error::unexpected(format!(
                "`{}` is neither file, folder nor link",
                path.display()
            ));
            self.found.push(Err((path, error)));
            return;
        };
        let is_folder = kind == Kind::Folder;
        self.found.push(Ok(Local {
            file: file.clone(),
            below: below.to_vec(),
            kind,
            size: if is_folder { 0 } else { known.len() },
            mode: known.mode() & 0o7777,
            mtime: known.mtime(),
        }));
        if is_folder {
            let identity = (known.dev(), known.ino());
            if self.trail.contains(&identity) || self.trail.len() >= DEPTH_MAX {
                let path = file.to_path();
                let error = Error::unexpected(format!("`{}` contains itself", path.display()))
                    .caused_by("a link leads back to a folder above it");
                self.found.pop();
                self.found.push(Err((path, error)));
                return;
            }
            self.trail.push(identity);
            self.folder(file, below, identity);
            self.trail.pop();
        }
    }

    fn folder(&mut self, file: &LocalFile, below: &[u8], identity: (u64, u64)) {
        let names = file.open_folder().and_then(|folder| {
            let now = folder.metadata()?;
            // Another folder was put in its place since its parent was read.
            if (now.dev(), now.ino()) != identity {
                return Err(io::Error::other("it is another folder by now"));
            }
            names(&folder)
        });
        let names = match names {
            Ok(names) => names,
            Err(error) => return self.fail(file, error),
        };
        for name in names {
            let below = join_paths(below, name.as_bytes());
            let child = file.child(name.as_bytes(), self.follow);
            match child.metadata() {
                Ok(known) => self.add(&child, &below, &known),
                Err(error) => self.fail(&child, error),
            }
        }
    }
}

/// The names in an open folder, in order.
fn names(folder: &File) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(folder)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if !matches!(&name[..], b"." | b"..") {
            names.push(OsString::from_vec(name));
        }
    }
    names.sort();
    Ok(names)
}

fn unreadable(path: &Path, error: io::Error) -> Error {
    Error::unexpected(format!("cannot read `{}`", path.display())).caused_by(words(error))
}
