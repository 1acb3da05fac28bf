//! From a server to this machine.

use std::{
    collections::{HashSet, VecDeque},
    io,
    sync::Arc,
};

use ops_core::Context;
use ops_ui::{Error, ErrorKind, Result, stdio::StdoutWriter};
use tokio::sync::mpsc;

use crate::{
    clashes::{Claims, WantedItem},
    existing::{self, Version},
    goal::{LocalBase, LocalGoal, open_stream},
    hashes,
    item::{FileId, Found, Kind, ListRequest, Listing},
    landing,
    links::judge_links,
    local::umask,
    local::{LocalPath, Occupant, words},
    made::{Folders, MadeFolder},
    names::Gate,
    options::Options,
    place::{base_name, join_paths},
    transport::{Fetch, Job, Server, Sink, Transport},
};

/// Pieces on their way to standard output, or what is like it.
const QUEUE: usize = 4;

/// What was found and passed the gate, with the place it was asked for.
pub(crate) struct CheckedListing {
    pub(crate) found: Vec<Found>,
    /// Places that matched something.
    pub(crate) roots: usize,
}

/// What [`list_sources`] asks about `places`.
pub(crate) fn listing_request(places: &[Vec<u8>], options: &Options) -> ListRequest {
    let (digests, digests_below) = options.digests();
    ListRequest {
        places: places.to_vec(),
        globs: true,
        recursive: options.recursive,
        follow: options.follow,
        keep_links: options.keep_links,
        digests,
        digests_below,
    }
}

/// Lists places on a server, and reports what is not there or not to be had. `ask` is the
/// [`listing_request`] about them.
///
/// # Errors
/// The server cannot be asked.
pub(crate) async fn list_sources(
    server: &Server,
    transport: &dyn Transport,
    ask: &ListRequest,
    options: &Options,
) -> Result<CheckedListing> {
    let (label, places) = (server.instance.label(), &ask.places);
    let spinner = server.cx.output().spinner(format!("looking on {label}"));
    let Listing {
        found, complaints, ..
    } = transport.list(ask).await?;
    drop(spinner);
    let report = &options.report;
    let shown = |path: &[u8]| format!("{label}:{}", String::from_utf8_lossy(path));
    for (index, place) in places.iter().enumerate() {
        if found.iter().all(|found| found.place != index) {
            let mut error = Error::unexpected(format!("`{}` is not there", shown(place)));
            for complaint in &complaints {
                error = error.caused_by(complaint);
            }
            let id = report.add_item(shown(place), "", 0);
            report.mark_failed(id, error);
        }
    }
    if !found.is_empty() {
        // What could not be looked into is missing in the list: it must not pass for all there is.
        for complaint in &complaints {
            let id = report.add_item(shown(b""), "", 0);
            report.mark_failed(
                id,
                Error::unexpected(format!("`{label}` says: {complaint}")),
            );
        }
    }
    let mut gate = Gate::default();
    let mut roots = HashSet::new();
    let mut passed = found;
    passed.retain(|found| {
        let path = join_paths(&found.root, &found.below);
        let place = places.get(found.place).map_or(&b""[..], Vec::as_slice);
        if options
            .excluded
            .excludes(base_name(&found.root).unwrap_or_default(), &found.below)
        {
            // Folders that are left out are known all the same: what is in them is left out too.
            return false;
        }
        let refused = gate.check_name(place, found).and_then(|()| {
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
                let id = report.add_item(shown(&path), "", 0);
                report.mark_failed(id, error);
                false
            }
        }
    });
    Ok(CheckedListing {
        found: passed,
        roots: roots.len(),
    })
}

/// Notes what `passed` of a server becomes below the destination.
///
/// # Errors
/// Another source becomes the same.
pub(crate) fn claim_names(
    server: &Server,
    passed: &CheckedListing,
    claims: &mut Claims,
    place: impl Fn(&Found) -> Vec<u8>,
) -> Result<()> {
    for found in &passed.found {
        let wanted = WantedItem {
            path: &place(found),
            is_folder: found.entry.kind == Kind::Folder,
            is_root: found.below.is_empty() && base_name(&found.root).is_some(),
        };
        claims.add_claim(&wanted, || {
            let source = join_paths(&found.root, &found.below);
            let label = server.instance.label();
            format!("{label}:{}", String::from_utf8_lossy(&source))
        })?;
    }
    Ok(())
}

/// Copies what `passed` of a server here. `several`: other sources go to the same goal.
///
/// # Errors
/// The server as a whole, or a destination that cannot be; failures of files are reported.
pub(crate) async fn copy_to_here(
    server: &Server,
    transport: &dyn Transport,
    passed: CheckedListing,
    goal: &LocalGoal,
    several: bool,
    options: &Options,
) -> Result<()> {
    if passed.found.is_empty() {
        return Ok(());
    }
    let LocalGoal::Path { path, under } = goal else {
        let found = passed.found;
        return to_stream(server, transport, found, "-", StdoutWriter::start, options).await;
    };
    let several = several || passed.roots > 1;
    match LocalBase::find_base(path, under.as_deref(), several, options.dry_run)? {
        LocalBase::Stream(path) => {
            let shown = path.display().to_string();
            let is_folder = |found: &Found| found.entry.kind == Kind::Folder;
            if passed.found.iter().any(is_folder) {
                return Err(Error::usage(format!("`{shown}` is no folder"))
                    .hint("a folder goes into a folder"));
            }
            let writer = || StdoutWriter::start_with(move || open_stream(&path));
            to_stream(server, transport, passed.found, &shown, writer, options).await
        }
        base => to_folder(server, transport, passed.found, &base, options).await,
    }
}

/// With `--resume`: `found` with the hashes of files that seem to be here already.
async fn with_known_hashes(
    transport: &dyn Transport,
    mut found: Vec<Found>,
    base: &LocalBase,
    options: &Options,
) -> Result<Vec<Found>> {
    let is_candidate = |found: &Found| {
        let entry = &found.entry;
        entry.kind == Kind::File
            && entry.sha256.is_none()
            && base.path_of(found).is_some_and(|path| {
                matches!(path.occupant(), Ok(Occupant::File(known)) if known.size == entry.size)
            })
    };
    let paths: Vec<Vec<u8>> = found
        .iter()
        .filter(|found| options.resume && is_candidate(found))
        .map(|found| join_paths(&found.root, &found.below))
        .collect();
    let digests = existing::list_digests(transport, &paths).await?;
    if !digests.is_empty() {
        for found in &mut found {
            let path = join_paths(&found.root, &found.below);
            found.entry.sha256 = found.entry.sha256.or(digests.get(&path).copied());
        }
    }
    Ok(found)
}

async fn to_folder(
    server: &Server,
    transport: &dyn Transport,
    found: Vec<Found>,
    base: &LocalBase,
    options: &Options,
) -> Result<()> {
    let label = server.instance.label().to_owned();
    let (cx, report) = (&server.cx, &options.report);
    let mut fetches = Vec::new();
    let mut links = Vec::new();
    let folders = Arc::new(Folders::new(umask(), options.preserve));
    // Folders that could not be made: what is in them is not tried.
    let mut barred: Vec<Vec<u8>> = Vec::new();
    let found = with_known_hashes(transport, found, base, options).await?;
    let leads = judge_links(found.iter().map(Found::as_entry));
    for (position, found) in found.into_iter().enumerate() {
        let source = join_paths(&found.root, &found.below);
        let path = base.path_of(&found);
        let shown = path
            .as_ref()
            .map_or_else(|| base.shown(), LocalPath::to_path);
        let id = report.add_item(
            format!("{label}:{}", String::from_utf8_lossy(&source)),
            shown.to_string_lossy(),
            if found.entry.kind == Kind::File {
                found.entry.size
            } else {
                0
            },
        );
        let Some(path) = path else { continue };
        if barred.iter().any(|bar| is_in(path.below(), bar)) {
            report.mark_failed(
                id,
                Error::unexpected(format!(
                    "the folder of `{}` could not be made",
                    shown.display()
                )),
            );
            continue;
        }
        match &found.entry.kind {
            Kind::Folder => match make_folder(&path, options.dry_run) {
                Ok(is_new) => {
                    if !options.dry_run {
                        folders.add_folder(MadeFolder {
                            path,
                            mode: found.entry.mode & 0o777,
                            mtime: found.entry.mtime,
                            is_new,
                        });
                    }
                    report.mark_done(id);
                }
                Err(error) => {
                    barred.push(path.below().to_vec());
                    report.mark_failed(id, error);
                }
            },
            Kind::Link(target) => match options.links.leave_out(leads.get(&position)) {
                None => links.push((id, path, target.clone())),
                Some(why) => report.mark_skipped(id, why),
            },
            Kind::File => match reason_to_stay(cx, options, &path, &found).await {
                // Nothing is fetched of what is only told.
                Ok(None) if options.dry_run => {}
                Ok(None) => fetches.push(Fetch {
                    id,
                    path: found.path(options.follow),
                    entry: found.entry,
                    sink: Sink::File(path),
                }),
                Ok(Some(why)) => report.mark_skipped(id, why),
                Err(error) => report.mark_failed(id, error),
            },
            Kind::Other => {}
        }
    }
    if options.dry_run {
        return Ok(());
    }
    drop(barred);
    let job = Job {
        folders: Some(Arc::clone(&folders)),
        ..options.job()
    };
    transport.download(fetches, &job).await?;
    for (id, path, target) in links {
        let temporary = landing::temporary_link(path.name());
        match path.make_link(&target, &temporary) {
            Ok(()) => report.mark_done(id),
            Err(error) => report.mark_failed(
                id,
                Error::unexpected(format!(
                    "cannot make the link `{}`",
                    path.to_path().display()
                ))
                .caused_by(words(error)),
            ),
        }
    }
    Ok(())
}

/// Whether `below` is `folder` or lies in it.
fn is_in(below: &[u8], folder: &[u8]) -> bool {
    below
        .strip_prefix(folder)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Makes a folder if it is missing; says whether. A link to one is not followed.
fn make_folder(path: &LocalPath, dry_run: bool) -> Result<bool> {
    let shown = path.to_path();
    let cannot_make = |error: io::Error| {
        Error::unexpected(format!("cannot make `{}`", shown.display())).caused_by(words(error))
    };
    let in_the_way = |what: &str| {
        Err(Error::unexpected(format!(
            "`{}` is {what} here, and no folder",
            shown.display()
        )))
    };
    if path.below().is_empty() {
        // The contents of a folder go into the one that was named, which is there.
        return Ok(false);
    }
    match path.occupant().map_err(cannot_make)? {
        Occupant::Folder => return Ok(false),
        Occupant::Link => return in_the_way("a link, which is not followed,"),
        Occupant::File(_) => return in_the_way("a file"),
        Occupant::Special(what) => return in_the_way(what),
        Occupant::Nothing => {}
    }
    if !dry_run {
        // Until all is in, this user must be able to write there.
        path.make_folder(0o700).map_err(cannot_make)?;
    }
    Ok(true)
}

/// Why the file at `path` stays, if it does.
///
/// # Errors
/// It is nothing that a file replaces, which is refused before anything is fetched.
async fn reason_to_stay(
    cx: &Context,
    options: &Options,
    path: &LocalPath,
    found: &Found,
) -> Result<Option<&'static str>> {
    let shown = path.to_path();
    let refused = |what: &str| {
        Err(
            Error::unexpected(format!("`{}` is {what} here", shown.display()))
                .caused_by("a file does not replace it"),
        )
    };
    let known = match path.occupant() {
        Ok(Occupant::File(known)) => known,
        Ok(Occupant::Folder) => return refused("a folder"),
        Ok(Occupant::Special(what)) => return refused(what),
        Ok(Occupant::Nothing | Occupant::Link) => return Ok(None),
        Err(error) => {
            let what = format!("cannot write `{}`", shown.display());
            return Err(Error::unexpected(what).caused_by(error));
        }
    };
    if !options.compares() {
        return Ok(None);
    }
    let new = Version {
        size: found.entry.size,
        mtime: found.entry.mtime,
    };
    let old = Version {
        size: known.size,
        mtime: known.mtime,
    };
    existing::reason_to_stay(cx, options, &shown.to_string_lossy(), new, old, || {
        let wanted = found.entry.sha256;
        Ok(wanted.is_some() && Some(hashes::hash_reader(path.open_file()?)?) == wanted)
    })
    .await
}

/// Writes `found`, one after another, into what `start` opens; `shown` is its name.
async fn to_stream(
    server: &Server,
    transport: &dyn Transport,
    found: Vec<Found>,
    shown: &str,
    start: impl FnOnce() -> StdoutWriter,
    options: &Options,
) -> Result<()> {
    let label = server.instance.label();
    let report = &options.report;
    let mut fetches = Vec::new();
    let mut streams = Vec::new();
    for found in found {
        let path = join_paths(&found.root, &found.below);
        let source = format!("{label}:{}", String::from_utf8_lossy(&path));
        if found.entry.kind != Kind::File {
            if !matches!(found.entry.kind, Kind::Folder) {
                let id = report.add_item(&source, shown, 0);
                report.mark_failed(id, Error::unexpected(format!("`{source}` is no file")));
            }
            continue;
        }
        let id = report.add_item(source, shown, found.entry.size);
        let (sender, receiver) = mpsc::channel(QUEUE);
        streams.push((id, receiver));
        fetches.push(Fetch {
            id,
            path: found.path(options.follow),
            entry: found.entry,
            sink: Sink::Stream(sender),
        });
    }
    if options.dry_run || fetches.is_empty() {
        return Ok(());
    }
    let mut job = options.job();
    job.sessions = 1;
    let mut unwritten: VecDeque<FileId> = streams.iter().map(|(id, _)| *id).collect();
    let write = async {
        let mut writer = start();
        for (_, mut stream) in streams {
            while let Some(piece) = stream.recv().await {
                match piece {
                    Ok(piece) => writer.write(piece).await?,
                    Err(_) => break,
                }
            }
            // A transport says that a file is done when the last piece of it was taken here.
            writer.flush().await?;
            unwritten.pop_front();
        }
        writer.finish().await
    };
    let (moved, written) = tokio::join!(transport.download(fetches, &job), write);
    match written {
        Ok(()) => moved,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(error),
        Err(error) => {
            for id in unwritten {
                report.mark_unwritten(id, error.clone());
            }
            Ok(())
        }
    }
}
