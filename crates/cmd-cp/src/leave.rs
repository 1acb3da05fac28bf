//! From this machine to a server.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::File,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use ops_core::Context;
use ops_ui::{
    Error, Hint, Result, hint,
    stdio::{read_from, read_stdin},
};
use tokio::sync::mpsc;

use crate::{
    clashes::{Claims, WantedItem},
    existing::{self, Version},
    goal::is_descriptor,
    hashes,
    item::{Entry, FileId, Kind, ListRequest},
    links::judge_links,
    options::Options,
    place::{base_name, join_paths},
    remote_path::RemotePath,
    transport::{Server, Source, Store, StoreKind, Transport},
    walk::{Local, Walked, walk_tree},
};

/// Pieces of a stream on their way.
const QUEUE: usize = 4;

/// What is sent.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    Path(PathBuf),
    /// Standard input.
    Standard,
}

/// What is sent, once it was looked at.
pub(crate) enum Outgoing {
    /// Under the name of what the user named, if it has one: of `.` the contents are taken.
    Tree {
        name: Option<Vec<u8>>,
        found: Vec<Result<Local, (PathBuf, Error)>>,
    },
    /// Read once, to its end: standard input, or a FIFO, device or descriptor at `path`.
    Stream {
        name: Option<Vec<u8>>,
        path: Option<PathBuf>,
    },
}

impl Outgoing {
    /// Looks at `origin`.
    pub(crate) fn look_at(origin: &Origin, options: &Options) -> Self {
        let Origin::Path(path) = origin else {
            return Self::Stream {
                name: None,
                path: None,
            };
        };
        // Of `a/.` the contents are taken, as cp does; the standard library would call it `a`.
        let name = base_name(path.as_os_str().as_bytes()).map(<[u8]>::to_vec);
        match walk_tree(path, options) {
            Walked::Tree(found) => Self::Tree { name, found },
            // `63` of /dev/fd/63 and `stdin` are no names for a file.
            Walked::Stream if is_descriptor(path) => Self::Stream {
                name: None,
                path: Some(path.clone()),
            },
            Walked::Stream => Self::Stream {
                name,
                path: Some(path.clone()),
            },
        }
    }

    fn name(&self) -> Option<&[u8]> {
        match self {
            Self::Tree { name, .. } | Self::Stream { name, .. } => name.as_deref(),
        }
    }

    /// Notes what it becomes below the destination.
    ///
    /// # Errors
    /// Another source becomes the same.
    pub(crate) fn claim_names(&self, claims: &mut Claims) -> Result<()> {
        match self {
            Self::Stream { name, path } => {
                let Some(name) = name else { return Ok(()) };
                let wanted = WantedItem {
                    path: name,
                    is_folder: false,
                    is_root: true,
                };
                claims.add_claim(&wanted, || shown_here(path.as_deref()))
            }
            Self::Tree { name, found } => {
                for local in found.iter().flatten() {
                    let wanted = WantedItem {
                        path: &join_paths(name.as_deref().unwrap_or_default(), &local.below),
                        is_folder: local.kind == Kind::Folder,
                        is_root: local.below.is_empty() && name.is_some(),
                    };
                    claims.add_claim(&wanted, || shown_here(Some(&local.file.to_path())))?;
                }
                Ok(())
            }
        }
    }
}

fn shown_here(path: Option<&Path>) -> String {
    path.map_or("-".to_owned(), |path| path.to_string_lossy().into_owned())
}

/// What a destination on a server turns out to be.
#[derive(Clone, Debug)]
pub(crate) enum RemoteBase {
    /// Things go into it, under their own names.
    Folder(RemotePath),
    /// The one thing gets this name.
    Name(RemotePath),
}

impl RemoteBase {
    /// Where something called `root` goes, or what is `below` it.
    pub(crate) fn path_of(&self, root: Option<&[u8]>, below: &[u8]) -> RemotePath {
        let root = match (self, root) {
            (Self::Folder(folder), Some(name)) => folder.join(name),
            (Self::Folder(path), None) | (Self::Name(path), _) => path.clone(),
        };
        root.join(below)
    }
}

/// Finds out what `path` is. `several`: more than one thing goes there.
///
/// # Errors
/// The server cannot be asked; several things and no folder.
pub(crate) async fn find_destination(
    server: &Server,
    transport: &dyn Transport,
    path: &[u8],
    several: bool,
) -> Result<RemoteBase> {
    let label = server.instance.label();
    let (folder, _) = split_typed(path);
    let ask = ListRequest {
        // The folder it lies in too: one that is missing is said before anything is read.
        places: vec![path.to_vec(), folder.to_vec()],
        ..ListRequest::default()
    };
    let spinner = server.cx.output().spinner(format!("looking on {label}"));
    let listing = transport.list(&ask).await?;
    drop(spinner);
    let absolute = listing.places.first().cloned().unwrap_or_default();
    let folder_there = listing.places.get(1).map_or(folder, Vec::as_slice);
    let shown = format!("{label}:{}", String::from_utf8_lossy(path));
    if !absolute.starts_with(b"/") {
        return Err(Error::target(format!(
            "`{label}` does not say what `{shown}` is"
        )));
    }
    let slash = path.ends_with(b"/");
    let kind_of = |place: usize| {
        let mut found = listing.found.iter();
        let found = found.find(|found| found.place == place);
        found.map(|found| &found.entry.kind)
    };
    match kind_of(0) {
        Some(Kind::Folder) => Ok(RemoteBase::Folder(RemotePath::named(absolute))),
        Some(Kind::Other) => Err(Error::usage(format!(
            "`{shown}` is neither file nor folder"
        ))),
        Some(_) if several || slash => {
            Err(Error::usage(format!("`{shown}` is no folder"))
                .hint("several things go into a folder"))
        }
        None if several || slash => Err(Error::usage(format!("`{shown}` is not there"))
            .hint(to_make(server, &absolute))
            .hint("or name a folder that is there")),
        None if kind_of(1) != Some(&Kind::Folder) => {
            let shown = format!("{label}:{}", String::from_utf8_lossy(folder));
            let what = match kind_of(1) {
                None => format!("there is no folder `{shown}`"),
                Some(_) => format!("`{shown}` is no folder"),
            };
            let error = Error::usage(what);
            Err(match kind_of(1) {
                None => error.hint(to_make(server, folder_there)),
                Some(_) => error,
            })
        }
        _ => Ok(RemoteBase::Name(RemotePath::named(absolute))),
    }
}

/// The command that makes `folder`, an absolute path, on a server, as the user who copies.
fn to_make(server: &Server, folder: &[u8]) -> Hint {
    let word = server.instance.target_word();
    let user = server.user.as_deref();
    let target = match user.or(server.sudo.then_some("root")) {
        Some(user) => format!("{user}@{word}"),
        None => word.to_owned(),
    };
    hint!(
        "make it first: ops exec {} -- mkdir -p {}",
        target,
        OsStr::from_bytes(folder)
    )
}

/// A path as it was typed: its folder, and its last name. The folder of a name alone is the home.
fn split_typed(path: &[u8]) -> (&[u8], &[u8]) {
    let end = path
        .iter()
        .rposition(|&byte| byte != b'/')
        .map_or(0, |at| at + 1);
    match path[..end].iter().rposition(|&byte| byte == b'/') {
        Some(0) => (b"/", &path[1..end]),
        Some(slash) => (&path[..slash], &path[slash + 1..end]),
        // `~user` is a home itself, and lies in no folder that could be named.
        None if path.starts_with(b"~") => (&path[..end], b""),
        None => (b"", &path[..end]),
    }
}

/// What is at the destination already, by path; empty where it does not matter.
pub(crate) async fn list_existing(
    transport: &dyn Transport,
    roots: &[RemotePath],
    options: &Options,
) -> Result<HashMap<Vec<u8>, Entry>> {
    let mut known = HashMap::new();
    if !options.compares() {
        return Ok(known);
    }
    let (digests, digests_below) = options.digests();
    for places in roots.chunks(existing::PLACES_AT_ONCE) {
        let ask = ListRequest {
            places: places.iter().map(|root| root.whole().to_vec()).collect(),
            recursive: options.recursive,
            // What is behind a link that nobody named is not what a copy would replace.
            keep_links: !places.iter().all(RemotePath::is_named),
            digests,
            digests_below,
            ..ListRequest::default()
        };
        for found in transport.list(&ask).await?.found {
            known.insert(join_paths(&found.root, &found.below), found.entry);
        }
    }
    Ok(known)
}

/// Copies `outgoing` to a server.
///
/// # Errors
/// The server as a whole; failures of files are reported.
pub(crate) async fn send_outgoing(
    server: &Server,
    transport: &dyn Transport,
    outgoing: Vec<Outgoing>,
    base: &RemoteBase,
    options: &Options,
) -> Result<()> {
    let label = server.instance.label().to_owned();
    let report = &options.report;
    let roots = outgoing
        .iter()
        .map(|outgoing| base.path_of(outgoing.name(), b""))
        .collect::<Vec<_>>();
    let mut known = list_existing(transport, &roots, options).await?;
    let mut stores = Vec::new();
    for outgoing in outgoing {
        let (root, walked) = match outgoing {
            Outgoing::Tree { name, found } => (name, found),
            Outgoing::Stream { name, path } => {
                let target = match (base, name) {
                    (RemoteBase::Name(target), _) => target.clone(),
                    (RemoteBase::Folder(_), Some(name)) => base.path_of(Some(&name), b""),
                    (RemoteBase::Folder(_), None) => {
                        let what = match path {
                            None => "standard input".to_owned(),
                            Some(path) => format!("`{}`", path.display()),
                        };
                        return Err(Error::usage(format!(
                            "{what} needs the name of a file to become"
                        ))
                        .hint(hint!("ops cp - {}:FOLDER/NAME", label)));
                    }
                };
                let id = report.add_item(
                    shown_here(path.as_deref()),
                    shown_there(&label, target.whole()),
                    0,
                );
                if !options.dry_run {
                    stores.push(stream_store(id, path, target));
                }
                continue;
            }
        };
        if options.resume {
            let paths = walked.iter().flatten().filter_map(|local| {
                let path = base.path_of(root.as_deref(), &local.below);
                let there = known.get(path.whole())?;
                let may_be_same = there.sha256.is_none()
                    && there.kind == Kind::File
                    && local.kind == Kind::File
                    && there.size == local.size;
                may_be_same.then(|| path.whole().to_vec())
            });
            let paths: Vec<Vec<u8>> = paths.collect();
            for (path, digest) in existing::list_digests(transport, &paths).await? {
                if let Some(entry) = known.get_mut(&path) {
                    entry.sha256 = Some(digest);
                }
            }
        }
        // What cannot be read is no folder of the list, and no link.
        let unread = (&b""[..], &b"/"[..], &Kind::Other);
        let leads = judge_links(walked.iter().map(|local| match local {
            Ok(local) => (&b""[..], &local.below[..], &local.kind),
            Err(_) => unread,
        }));
        for (position, local) in walked.into_iter().enumerate() {
            let local = match local {
                Ok(local) => local,
                Err((path, error)) => {
                    let id = report.add_item(path.to_string_lossy(), "", 0);
                    report.mark_failed(id, error);
                    continue;
                }
            };
            let path = base.path_of(root.as_deref(), &local.below);
            let size = if local.kind == Kind::File {
                local.size
            } else {
                0
            };
            let source = shown_here(Some(&local.file.to_path()));
            let id = report.add_item(source, shown_there(&label, path.whole()), size);
            let there = known.get(path.whole());
            let stays = reason_to_stay(&server.cx, options, &label, &local, there).await;
            match stays {
                Ok(None) => {}
                Ok(Some(why)) => {
                    report.mark_skipped(id, why);
                    continue;
                }
                Err(error) => {
                    report.mark_failed(id, error);
                    continue;
                }
            }
            let (mode, mtime) = (local.mode, local.mtime);
            let what = match local.kind {
                Kind::Folder => StoreKind::Folder,
                Kind::Link(target) => match options.links.leave_out(leads.get(&position)) {
                    None => StoreKind::Link(target),
                    Some(why) => {
                        report.mark_skipped(id, why);
                        continue;
                    }
                },
                _ => StoreKind::File(Source::File {
                    file: local.file,
                    size: local.size,
                }),
            };
            stores.push(Store {
                id,
                path,
                what,
                mode,
                mtime,
            });
        }
    }
    if options.dry_run || stores.is_empty() {
        return Ok(());
    }
    transport.upload(stores, &options.job()).await
}

/// A path on a server for people.
pub(crate) fn shown_there(label: &str, path: &[u8]) -> String {
    format!("{label}:{}", String::from_utf8_lossy(path))
}

async fn reason_to_stay(
    cx: &Context,
    options: &Options,
    label: &str,
    local: &Local,
    known: Option<&Entry>,
) -> Result<Option<&'static str>> {
    let Some(known) = known.filter(|known| known.kind == Kind::File && local.kind == Kind::File)
    else {
        return Ok(None);
    };
    let new = Version {
        size: local.size,
        mtime: local.mtime,
    };
    let old = Version {
        size: known.size,
        mtime: known.mtime,
    };
    let shown = format!("{} on {label}", local.file.to_path().display());
    existing::reason_to_stay(cx, options, &shown, new, old, || {
        Ok(
            known.sha256.is_some()
                && Some(hashes::hash_reader(local.file.open()?)?) == known.sha256,
        )
    })
    .await
}

/// What is read once, to its end.
fn stream_store(id: FileId, from: Option<PathBuf>, path: RemotePath) -> Store {
    let (sender, bytes) = mpsc::channel::<Result<Bytes>>(QUEUE);
    let (mut pieces, shown) = match from {
        None => (read_stdin(), "standard input".to_owned()),
        Some(from) => {
            let shown = format!("`{}`", from.display());
            // Opening a FIFO waits for whoever writes into it.
            (read_from(move || File::open(from)), shown)
        }
    };
    tokio::spawn(async move {
        while let Some(piece) = pieces.recv().await {
            let piece = piece.map_err(|error| {
                Error::unexpected(format!("cannot read {shown}")).caused_by(error)
            });
            if sender.send(piece).await.is_err() {
                return;
            }
        }
    });
    Store {
        id,
        path,
        what: StoreKind::File(Source::Stream { bytes, size: None }),
        // What a shell's redirection would make.
        mode: 0o666,
        mtime: 0,
    }
}

/// What is stored for a folder that several servers' files go into, each its own.
pub(crate) fn folder_store(id: usize, path: RemotePath) -> Store {
    Store {
        id,
        path,
        what: StoreKind::Folder,
        mode: 0o777,
        mtime: 0,
    }
}

/// The last name of a path on a server.
pub(crate) fn last_name(path: &[u8]) -> Option<&[u8]> {
    base_name(path)
}
