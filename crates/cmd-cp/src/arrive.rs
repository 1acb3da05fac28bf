//! From a server to this machine.

use std::{
    collections::HashSet,
    fs,
    hash::{BuildHasher as _, RandomState},
    io,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use ops_core::{Context, Error, Result, hint, stdio::StdoutWriter};
use tokio::sync::mpsc;

use crate::{
    existing::{self, Version},
    landing,
    links::{Leads, judge_links},
    made::{Folders, Made},
    names::Gate,
    options::Options,
    place::{join, local, name},
    transport::{Ask, Fetch, Found, Job, Kind, Listing, Server, Sink, Transport},
};

/// Pieces on their way to standard output.
const QUEUE: usize = 4;

/// Where files of one server go.
#[derive(Clone, Debug)]
pub(crate) enum Goal {
    /// A path as typed. `into`: it is a folder by all means, made if it is missing.
    Path { path: PathBuf, into: bool },
    /// Standard output.
    Standard,
}

/// What was found and passed the gate, with the place it was asked for.
pub(crate) struct Passed {
    pub(crate) found: Vec<Found>,
    /// Places that matched something.
    pub(crate) roots: usize,
}

/// Lists `places` on a server, and reports what is not there or not to be had.
///
/// # Errors
/// The server cannot be asked.
pub(crate) async fn look(
    server: &Server,
    transport: &dyn Transport,
    places: &[Vec<u8>],
    options: &Options,
) -> Result<Passed> {
    let label = server.instance.label();
    let (digests, digests_below) = options.digests();
    let ask = Ask {
        places: places.to_vec(),
        globs: true,
        recursive: options.recursive,
        follow: options.follow,
        keep_links: options.keep_links,
        digests,
        digests_below,
    };
    let spinner = server.cx.output().spinner(format!("looking on {label}"));
    let Listing {
        found, complaints, ..
    } = transport.list(&ask).await?;
    drop(spinner);
    let report = &options.report;
    let shown = |path: &[u8]| format!("{label}:{}", String::from_utf8_lossy(path));
    for (index, place) in places.iter().enumerate() {
        if found.iter().all(|found| found.place != index) {
            let mut error = Error::unexpected(format!("`{}` is not there", shown(place)));
            for complaint in &complaints {
                error = error.caused_by(complaint);
            }
            let id = report.add(shown(place), "", 0);
            report.fail(id, error);
        }
    }
    if !found.is_empty() {
        // What could not be looked into is missing in the list: it must not pass for all there is.
        for complaint in &complaints {
            let id = report.add(shown(b""), "", 0);
            report.fail(
                id,
                Error::unexpected(format!("`{label}` says: {complaint}")),
            );
        }
    }
    let mut gate = Gate::default();
    let mut roots = HashSet::new();
    let mut passed = found;
    passed.retain(|found| {
        let path = join(&found.root, &found.below);
        let place = places.get(found.place).map_or(&b""[..], Vec::as_slice);
        if options
            .excluded
            .has(name(&found.root).unwrap_or_default(), &found.below)
        {
            // Folders that are left out are known all the same: what is in them is left out too.
            return false;
        }
        let refused = gate.check(place, found).and_then(|()| {
            if found.entry.kind == Kind::Folder && !options.recursive {
                return Err(Error::unexpected(format!("`{}` is a folder", shown(&path)))
                    .hint("copy folders with all that is in them: -r"));
            }
            if found.entry.kind == Kind::Other {
                return Err(Error::unexpected(format!(
                    "`{}` is neither file, folder nor link",
                    shown(&path)
                )));
            }
            Ok(())
        });
        match refused {
            Ok(()) => {
                if !roots.contains(&found.root) {
                    roots.insert(found.root.clone());
                }
                true
            }
            Err(error) => {
                let id = report.add(shown(&path), "", 0);
                report.fail(id, error);
                false
            }
        }
    });
    Ok(Passed {
        found: passed,
        roots: roots.len(),
    })
}

/// Copies `places` of a server here. `several`: other sources go to the same goal.
///
/// # Errors
/// The server as a whole, or a destination that cannot be; failures of files are reported.
pub(crate) async fn arrive(
    server: &Server,
    transport: &dyn Transport,
    places: &[Vec<u8>],
    goal: &Goal,
    several: bool,
    options: &Options,
) -> Result<()> {
    let passed = look(server, transport, places, options).await?;
    if passed.found.is_empty() {
        return Ok(());
    }
    match goal {
        Goal::Standard => to_stdout(server, transport, passed.found, options).await,
        Goal::Path { path, into } => {
            let several = several || passed.roots > 1;
            let base = base(path, *into, several, options.dry_run)?;
            to_folder(server, transport, passed.found, &base, options).await
        }
    }
}

/// What a destination turns out to be.
enum Base {
    /// Things go into it, under their own names.
    Folder(PathBuf),
    /// The one thing gets this name.
    Name(PathBuf),
}

fn base(path: &Path, into: bool, several: bool, dry_run: bool) -> Result<Base> {
    let slash = path.as_os_str().as_bytes().ends_with(b"/");
    match fs::metadata(path) {
        Ok(known) if known.is_dir() => Ok(Base::Folder(path.to_owned())),
        Ok(_) if into || several || slash => {
            Err(Error::usage(format!("`{}` is no folder", path.display()))
                .hint("several things go into a folder"))
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::unexpected(format!("cannot reach `{}`", path.display())).caused_by(error))
        }
        Err(_) if into => {
            if !dry_run {
                fs::create_dir_all(path).map_err(|error| cannot_make(path, error))?;
            }
            Ok(Base::Folder(path.to_owned()))
        }
        Err(_) if several || slash => {
            Err(Error::usage(format!("`{}` is not there", path.display()))
                .hint(hint!("make it first: mkdir -p {}", path)))
        }
        Ok(_) | Err(_) => Ok(Base::Name(path.to_owned())),
    }
}

fn cannot_make(path: &Path, error: io::Error) -> Error {
    Error::unexpected(format!("cannot make `{}`", path.display())).caused_by(error)
}

impl Base {
    /// Where something goes.
    fn path(&self, found: &Found) -> PathBuf {
        let root = match (self, name(&found.root)) {
            (Self::Folder(folder), Some(name)) => folder.join(local(name)),
            (Self::Folder(folder), None) => folder.clone(),
            (Self::Name(path), _) => path.clone(),
        };
        if found.below.is_empty() {
            root
        } else {
            root.join(local(&found.below))
        }
    }
}

/// With `--resume`: `found` with the hashes of files that seem to be here already.
async fn hashed(
    transport: &dyn Transport,
    mut found: Vec<Found>,
    base: &Base,
    options: &Options,
) -> Result<Vec<Found>> {
    let is_candidate = |found: &Found| {
        let entry = &found.entry;
        entry.kind == Kind::File
            && entry.sha256.is_none()
            && fs::metadata(base.path(found)).is_ok_and(|known| known.len() == entry.size)
    };
    let paths: Vec<Vec<u8>> = found
        .iter()
        .filter(|found| options.resume && is_candidate(found))
        .map(|found| join(&found.root, &found.below))
        .collect();
    let digests = existing::digests(transport, &paths).await?;
    if !digests.is_empty() {
        for found in &mut found {
            let path = join(&found.root, &found.below);
            found.entry.sha256 = found.entry.sha256.or(digests.get(&path).copied());
        }
    }
    Ok(found)
}

async fn to_folder(
    server: &Server,
    transport: &dyn Transport,
    found: Vec<Found>,
    base: &Base,
    options: &Options,
) -> Result<()> {
    let label = server.instance.label().to_owned();
    let (cx, report) = (&server.cx, &options.report);
    let mut fetches = Vec::with_capacity(found.len());
    let mut links = Vec::new();
    let folders = Arc::new(Folders::new(umask(), options.preserve));
    // Hashes, since of many files the names alone are much.
    let mut taken: HashSet<u64> = HashSet::new();
    let hasher = RandomState::new();
    let mut barred: Vec<PathBuf> = Vec::new();
    let found = hashed(transport, found, base, options).await?;
    let leads = judge_links(found.iter().map(Found::as_entry));
    for (position, found) in found.into_iter().enumerate() {
        let source = join(&found.root, &found.below);
        let path = base.path(&found);
        let id = report.add(
            format!("{label}:{}", String::from_utf8_lossy(&source)),
            path.to_string_lossy(),
            if found.entry.kind == Kind::File {
                found.entry.size
            } else {
                0
            },
        );
        if !taken.insert(hasher.hash_one(&path)) && found.entry.kind != Kind::Folder {
            report.fail(
                id,
                Error::unexpected(format!("two sources would become `{}`", path.display())),
            );
            continue;
        }
        if barred.iter().any(|bar| path.starts_with(bar)) {
            report.fail(
                id,
                Error::unexpected(format!(
                    "the folder of `{}` could not be made",
                    path.display()
                )),
            );
            continue;
        }
        match &found.entry.kind {
            Kind::Folder => match folder(&path, found.below.is_empty(), options.dry_run) {
                Ok(is_new) => {
                    if !options.dry_run {
                        folders.add(Made {
                            path,
                            mode: found.entry.mode & 0o777,
                            mtime: found.entry.mtime,
                            is_new,
                        });
                    }
                    report.done(id);
                }
                Err(error) => {
                    barred.push(path);
                    report.fail(id, error);
                }
            },
            Kind::Link(target) => {
                if leads.get(&position) == Some(&Leads::Within) {
                    links.push((id, path, target.clone()));
                } else {
                    report.fail(
                        id,
                        Error::unexpected(format!(
                            "the link `{}` leads out of what is copied",
                            path.display()
                        ))
                        .hint("copy what links point to: -L"),
                    );
                }
            }
            Kind::File => match stays(cx, options, &path, &found).await {
                Ok(None) => fetches.push(Fetch {
                    id,
                    path: found.path(options.follow),
                    entry: found.entry,
                    sink: Sink::File(path),
                }),
                Ok(Some(why)) => report.skip(id, why),
                Err(error) => report.fail(id, error),
            },
            Kind::Other => {}
        }
    }
    if options.dry_run {
        return Ok(());
    }
    drop((taken, barred));
    let job = Job {
        folders: Some(Arc::clone(&folders)),
        ..options.job()
    };
    transport.download(fetches, &job).await?;
    for (id, path, target) in links {
        match link(&path, &target) {
            Ok(()) => report.done(id),
            Err(error) => report.fail(
                id,
                Error::unexpected(format!("cannot make the link `{}`", path.display()))
                    .caused_by(error),
            ),
        }
    }
    Ok(())
}

/// Makes a folder if it is missing; says whether. Below what was named no link is followed.
fn folder(path: &Path, is_root: bool, dry_run: bool) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(known) if known.is_dir() => return Ok(false),
        Ok(known) if known.file_type().is_symlink() && is_root && path.is_dir() => {
            return Ok(false);
        }
        Ok(known) if known.file_type().is_symlink() => {
            return Err(Error::unexpected(format!(
                "`{}` is a link here, which is not followed",
                path.display()
            )));
        }
        Ok(_) => {
            return Err(Error::unexpected(format!(
                "`{}` is no folder",
                path.display()
            )));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(cannot_make(path, error)),
    }
    if !dry_run {
        // Until all is in, this user must be able to write there.
        let mut builder = fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder
            .create(path)
            .map_err(|error| cannot_make(path, error))?;
    }
    Ok(true)
}

fn link(path: &Path, target: &[u8]) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(known) if !known.is_dir() => fs::remove_file(path)?,
        _ => {}
    }
    std::os::unix::fs::symlink(local(target), path)
}

async fn stays(
    cx: &Context,
    options: &Options,
    path: &Path,
    found: &Found,
) -> Result<Option<&'static str>> {
    if !options.compares() {
        return Ok(None);
    }
    let Ok(known) = fs::metadata(path) else {
        return Ok(None);
    };
    if !known.is_file() {
        return Ok(None);
    }
    let new = Version {
        size: found.entry.size,
        mtime: found.entry.mtime,
    };
    let old = Version {
        size: known.len(),
        mtime: known.mtime(),
    };
    existing::stays(cx, options, &path.to_string_lossy(), new, old, || {
        Ok(found.entry.sha256.is_some() && Some(landing::sha256(path)?) == found.entry.sha256)
    })
    .await
}

async fn to_stdout(
    server: &Server,
    transport: &dyn Transport,
    found: Vec<Found>,
    options: &Options,
) -> Result<()> {
    let label = server.instance.label();
    let report = &options.report;
    let mut fetches = Vec::new();
    let mut streams = Vec::new();
    for found in found {
        let path = join(&found.root, &found.below);
        let shown = format!("{label}:{}", String::from_utf8_lossy(&path));
        if found.entry.kind != Kind::File {
            if !matches!(found.entry.kind, Kind::Folder) {
                let id = report.add(&shown, "-", 0);
                report.fail(id, Error::unexpected(format!("`{shown}` is no file")));
            }
            continue;
        }
        let id = report.add(shown, "-", found.entry.size);
        let (sender, receiver) = mpsc::channel(QUEUE);
        streams.push(receiver);
        fetches.push(Fetch {
            id,
            path: found.path(options.follow),
            entry: found.entry,
            sink: Sink::Stream(sender),
        });
    }
    if options.dry_run {
        return Ok(());
    }
    let mut job = options.job();
    job.sessions = 1;
    let write = async {
        let mut stdout = StdoutWriter::start();
        for mut stream in streams {
            while let Some(piece) = stream.recv().await {
                match piece {
                    Ok(piece) => stdout.write(piece).await?,
                    Err(_) => break,
                }
            }
        }
        stdout.finish().await
    };
    let (moved, written) = tokio::join!(transport.download(fetches, &job), write);
    written?;
    moved
}

/// The umask of this process. The system tells it only by setting another, so it is set twice.
pub(crate) fn umask() -> u32 {
    let mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    rustix::process::umask(mask);
    mask.bits() & 0o777
}
