//! Keeps large copies by session away from servers that would keep them on their disks.
//!
//! Agents before 3.3.987.0 write all that a session prints to a file below `/var/lib/amazon/ssm`
//! and keep it for 14 days; any agent does where the account logs its sessions. A large download
//! fills the disk, and a server with a full disk lets nobody in. What is sent to a server is no
//! output.

use std::sync::Arc;

use futures_util::{FutureExt as _, future::BoxFuture};
use ops_profile::CopyVia;
use ops_ui::{Error, ErrorKind, Result, output::escape};
use tokio::sync::OnceCell;

use crate::{
    item::{ListRequest, Listing},
    progress::human_bytes,
    s3::{BucketPath, BucketTransport},
    session::ShellTransport,
    sftp::SftpTransport,
    transport::{Fetch, Job, Server, Store, Transport},
    transport_options::{TransportOptions, transport_name},
};

/// What may be fetched by session whatever the server keeps of it, in bytes.
const ALWAYS_BYTES: u64 = 100_000_000;
/// The part of the free space there that may be filled.
const FREE_SHARE: u64 = 10;

/// The session as `auto` chose it, with the ways that may stand in for it.
pub(crate) struct GuardedSession {
    server: Server,
    transport_options: TransportOptions,
    session: Arc<ShellTransport>,
    /// The session, or the session with a bucket beside it for what is very large.
    inner: Box<dyn Transport>,
    /// Files from this size on go by way of the bucket anyway, in bytes.
    by_bucket_from_bytes: u64,
    /// The bucket, where the profile names one and permits it.
    bucket: Option<BucketPath>,
    /// What stands in for the session, once that was needed.
    other: OnceCell<Box<dyn Transport>>,
}

impl GuardedSession {
    /// `by_bucket_from_bytes` counts where there is a `bucket`.
    pub(crate) fn new(
        server: &Server,
        transport_options: &TransportOptions,
        session: ShellTransport,
        bucket: Option<(BucketPath, u64)>,
    ) -> Self {
        let session = Arc::new(session);
        let (bucket, by_bucket_from_bytes) = match bucket {
            Some((place, from)) => (Some(place), from),
            None => (None, u64::MAX),
        };
        let inner: Box<dyn Transport> = match &bucket {
            Some(place) => Box::new(BucketTransport::beside(
                server,
                Arc::clone(&session),
                place.clone(),
                by_bucket_from_bytes,
            )),
            None => Box::new(Arc::clone(&session)),
        };
        Self {
            server: server.clone(),
            transport_options: transport_options.clone(),
            session,
            inner,
            by_bucket_from_bytes,
            bucket,
            other: OnceCell::new(),
        }
    }

    /// Why `files` must not go by session, if they must not.
    async fn find_objection(&self, files: &[Fetch]) -> Option<Objection> {
        let by_session = files.iter().map(|file| file.entry.size);
        let len_bytes = by_session
            .filter(|&size| size < self.by_bucket_from_bytes)
            .sum();
        let free_bytes = self.session.free_bytes();
        let most_bytes = most_bytes(free_bytes);
        if len_bytes <= most_bytes {
            return None;
        }
        let keeper = match self.session.version_that_keeps_output() {
            Some(version) => Keeper::Agent(version),
            None if self.account_logs_sessions().await => Keeper::Account,
            None => return None,
        };
        Some(Objection {
            label: self.server.instance.label().to_owned(),
            keeper,
            len_bytes,
            most_bytes,
        })
    }

    /// Whether the account logs its sessions, as far as its preferences may be read.
    async fn account_logs_sessions(&self) -> bool {
        let cx = &self.server.cx;
        let region = &self.server.instance.region;
        match Box::pin(cx.account_preferences(region)).await {
            // Agents of any version then keep all output of a session on the server's disk.
            Ok(preferences) => preferences.logs.are_kept(),
            Err(error) => {
                cx.output().detail(format!("not known: {error}"));
                false
            }
        }
    }

    /// The first other way that works.
    async fn go_round(&self, objection: &Objection) -> Result<Box<dyn Transport>> {
        let mut refusal = objection.to_error();
        for via in [CopyVia::S3, CopyVia::Sftp] {
            if self.transport_options.deny.contains(&via) {
                continue;
            }
            match self.open_other(via).await {
                Ok(Some(transport)) => {
                    self.server.cx.output().note(format!(
                        "{}; going by {} instead",
                        escape(&objection.words()),
                        transport_name(via)
                    ));
                    return Ok(transport);
                }
                Ok(None) => {}
                Err(error) => {
                    let tried = format!(
                        "going by {} instead failed too: {error}",
                        transport_name(via)
                    );
                    refusal = refusal.caused_by(tried);
                }
            }
        }
        Err(refusal)
    }

    /// `None` for a way that was not set up.
    async fn open_other(&self, via: CopyVia) -> Result<Option<Box<dyn Transport>>> {
        let server = &self.server;
        if via == CopyVia::Sftp {
            let sftp = Box::pin(SftpTransport::open(
                server,
                self.transport_options.login.clone(),
            ))
            .await?;
            return Ok(Some(Box::new(sftp)));
        }
        let Some(bucket) = self.bucket.clone() else {
            return Ok(None);
        };
        let s3 = BucketTransport::open(server, Arc::clone(&self.session), bucket).await?;
        Ok(Some(Box::new(s3)))
    }
}

/// What may be fetched by session from a server that keeps it and has so much room, in bytes.
fn most_bytes(free_bytes: Option<u64>) -> u64 {
    free_bytes.map_or(ALWAYS_BYTES, |free| ALWAYS_BYTES.min(free / FREE_SHARE))
}

/// For whose sake output is kept.
enum Keeper {
    /// The agent of this version does so.
    Agent(String),
    /// The account logs sessions.
    Account,
}

/// Why files must not go by session.
struct Objection {
    label: String,
    keeper: Keeper,
    len_bytes: u64,
    most_bytes: u64,
}

impl Objection {
    fn words(&self) -> String {
        let label = &self.label;
        match &self.keeper {
            Keeper::Agent(version) => format!(
                "{label}: its agent, {version}, keeps all output of sessions on the server's disk"
            ),
            Keeper::Account => format!(
                "{label}: the account logs sessions, for which agents keep all output on the server's disk"
            ),
        }
    }

    fn to_error(&self) -> Error {
        let what = format!(
            "{} of `{}` would stay on its disk for 14 days",
            human_bytes(self.len_bytes),
            self.label
        );
        let why = match &self.keeper {
            Keeper::Agent(version) => {
                format!(
                    "its agent, {version}, keeps all output of sessions there; from 3.3.987.0 on none does"
                )
            }
            Keeper::Account => {
                "the account logs sessions, for which agents keep all output of sessions there"
                    .to_owned()
            }
        };
        Error::new(ErrorKind::Refused, what)
            .caused_by(why)
            .caused_by(format!(
                "by session `auto` fetches {} at most from such a server: 100 MB, or a tenth of its free space where that is less",
                human_bytes(self.most_bytes)
            ))
            .hint("if the server has the room, insist on it: --via session")
    }
}

impl Transport for GuardedSession {
    fn via(&self) -> CopyVia {
        self.inner.via()
    }

    fn list<'a>(&'a self, ask: &'a ListRequest) -> BoxFuture<'a, Result<Listing>> {
        self.inner.list(ask)
    }

    fn download<'a>(&'a self, files: Vec<Fetch>, job: &'a Job) -> BoxFuture<'a, Result<()>> {
        async move {
            let Some(objection) = self.find_objection(&files).await else {
                return self.inner.download(files, job).await;
            };
            let other = self.other.get_or_try_init(|| self.go_round(&objection));
            other.await?.download(files, job).await
        }
        .boxed()
    }

    fn upload<'a>(&'a self, items: Vec<Store>, job: &'a Job) -> BoxFuture<'a, Result<()>> {
        self.inner.upload(items, job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_of_the_room_may_be_filled_and_100_mb_at_most() {
        assert_eq!(most_bytes(None), 100_000_000);
        assert_eq!(most_bytes(Some(50_000_000_000)), 100_000_000);
        assert_eq!(most_bytes(Some(200_000_000)), 20_000_000);
        assert_eq!(most_bytes(Some(0)), 0);
    }
}
