//! From one server to another, streamed through this machine and never stored here.

use std::sync::Arc;

use ops_ui::Result;
use tokio::sync::mpsc;

use crate::{
    arrive::CheckedListing,
    existing::{self, Version},
    item::{Found, Kind},
    leave::{RemoteBase, folder_store, last_name, list_existing, shown_there},
    links::judge_links,
    options::Options,
    pace::Pace,
    place::join_paths,
    report::Report,
    transport::{Fetch, Server, Sink, Source, Store, StoreKind, Transport},
};

/// Pieces of a file on their way.
const QUEUE: usize = 4;

/// A server with the transport to it.
pub(crate) type RelayEnd<'a> = (&'a Server, &'a dyn Transport);

/// Copies what `passed` of one server to another. `under`: into a folder of that name there, as one
/// of several sources.
///
/// # Errors
/// One of the servers as a whole; failures of files are reported.
pub(crate) async fn copy_between_servers(
    from: RelayEnd<'_>,
    passed: CheckedListing,
    to: RelayEnd<'_>,
    base: &RemoteBase,
    under: Option<&str>,
    options: &Options,
) -> Result<()> {
    if passed.found.is_empty() {
        return Ok(());
    }
    let mut base = base.clone();
    let (source_label, label) = (from.0.instance.label(), to.0.instance.label());
    let report = &options.report;
    let mut stores = Vec::new();
    if let (Some(name), RemoteBase::Folder(path)) = (under, &base) {
        let path = path.join(name.as_bytes());
        let id = report.add_item(source_label, shown_there(label, path.whole()), 0);
        stores.push(folder_store(id, path.clone()));
        base = RemoteBase::Folder(path);
    }
    let roots = passed
        .found
        .iter()
        .filter(|found| found.below.is_empty())
        .map(|found| base.path_of(last_name(&found.root), b""))
        .collect::<Vec<_>>();
    let known = list_existing(to.1, &roots, options).await?;

    // The other end of each file counts here too, but is shown nowhere.
    let mut source_job = options.job();
    source_job.sessions = 1;
    source_job.report = Arc::new(Report::silent());
    source_job.pace = Arc::new(Pace::new(None));
    let mut job = options.job();
    job.sessions = 1;
    let mut fetches = Vec::new();
    let leads = judge_links(passed.found.iter().map(Found::as_entry));
    for (position, found) in passed.found.into_iter().enumerate() {
        let target = base.path_of(last_name(&found.root), &found.below);
        let source = join_paths(&found.root, &found.below);
        let is_file = found.entry.kind == Kind::File;
        let size = if is_file { found.entry.size } else { 0 };
        let id = report.add_item(
            shown_there(source_label, &source),
            shown_there(label, target.whole()),
            size,
        );
        if is_file
            && let Some(there) = known
                .get(target.whole())
                .filter(|there| there.kind == Kind::File)
        {
            let version = |entry: &crate::item::Entry| Version {
                size: entry.size,
                mtime: entry.mtime,
            };
            let same = || Ok(there.sha256.is_some() && there.sha256 == found.entry.sha256);
            let question = shown_there(label, target.whole());
            let (new, old) = (version(&found.entry), version(there));
            if let Some(why) =
                existing::reason_to_stay(&to.0.cx, options, &question, new, old, same).await?
            {
                report.mark_skipped(id, why);
                continue;
            }
        }
        let what = match &found.entry.kind {
            Kind::Folder => StoreKind::Folder,
            Kind::Link(link) => match options.links.leave_out(leads.get(&position)) {
                None => StoreKind::Link(link.clone()),
                Some(why) => {
                    report.mark_skipped(id, why);
                    continue;
                }
            },
            _ => {
                let (sender, bytes) = mpsc::channel(QUEUE);
                fetches.push(Fetch {
                    id: source_job.report.add_item("", "", size),
                    path: found.path(options.follow),
                    entry: found.entry.clone(),
                    sink: Sink::Stream(sender),
                });
                StoreKind::File(Source::Stream {
                    bytes,
                    size: Some(size),
                })
            }
        };
        stores.push(Store {
            id,
            path: target,
            what,
            // As from any server: no setuid, setgid or sticky bit.
            mode: found.entry.mode & 0o777,
            mtime: found.entry.mtime,
        });
    }
    if options.dry_run {
        return Ok(());
    }
    let (read, written) = tokio::join!(
        from.1.download(fetches, &source_job),
        to.1.upload(stores, &job)
    );
    written?;
    read
}
