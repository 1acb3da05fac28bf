//! Several servers of one copy.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};
use ops_ui::{ErrorKind, Result, output::escape};

use super::{Group, ListedSource, Servers};
use crate::{goal::LocalGoal, names::folder_name, options::Options, transport::Server};

/// Runs `work` for each of `jobs`. Alone, its failure is the command's; otherwise it is reported,
/// and the others go on.
pub(super) async fn run_for_each<J: HasServer, F: Future<Output = Result<()>>>(
    jobs: Vec<J>,
    parallel: usize,
    alone: bool,
    options: &Options,
    work: impl Fn(J) -> F,
) -> Result<()> {
    let mut running = stream::iter(jobs)
        .map(|job| {
            let label = job.server().instance.label().to_owned();
            let work = work(job);
            async move { (label, Box::pin(work).await) }
        })
        .buffer_unordered(parallel.max(1));
    while let Some((label, done)) = running.next().await {
        match done {
            Ok(()) => {}
            Err(error) if alone || error.kind() == ErrorKind::BrokenPipe => {
                // What was reported already is told all the same.
                if options
                    .report
                    .items()
                    .iter()
                    .all(|item| item.outcome.is_none())
                    || error.kind() == ErrorKind::BrokenPipe
                {
                    return Err(error);
                }
                let id = options.report.add_item(label, "", 0);
                options.report.mark_failed(id, error);
            }
            Err(error) => {
                let id = options.report.add_item(escape(&label), "", 0);
                options.report.mark_failed(id, error);
            }
        }
    }
    Ok(())
}

pub(super) trait HasServer {
    fn server(&self) -> &Server;
}

impl HasServer for &Server {
    fn server(&self) -> &Server {
        self
    }
}

impl HasServer for ListedSource {
    fn server(&self) -> &Server {
        &self.server
    }
}

impl HasServer for (&Group, &Server, LocalGoal) {
    fn server(&self) -> &Server {
        self.1
    }
}

/// The folder of each server's files, where a target could mean several: its name, with the end of
/// its id where another has the same.
pub(super) fn server_folders(from: &Servers) -> Vec<Option<String>> {
    if !from.plural {
        return vec![None; from.servers.len()];
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let name = |server: &Server| folder_name(server.instance.label(), &server.instance.id);
    for server in &from.servers {
        *counts.entry(name(server)).or_default() += 1;
    }
    from.servers
        .iter()
        .map(|server| {
            let name = name(server);
            let id = &server.instance.id;
            Some(if counts.get(&name).copied() > Some(1) {
                format!("{name}-{}", &id[id.len().saturating_sub(4)..])
            } else {
                name
            })
        })
        .collect()
}
