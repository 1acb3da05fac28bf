//! The same work for each of several servers, some of them at a time.

use futures_util::{StreamExt as _, stream};
use ops_ui::{ErrorKind, Result, output::escape};

use crate::{options::Options, transport::Server};

/// A job that concerns one server.
pub(super) trait HasServer {
    fn server(&self) -> &Server;
}

impl HasServer for &Server {
    fn server(&self) -> &Server {
        self
    }
}

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
