//! Through a bucket: for what is very large.
//!
//! ```text
//! fetch   server ── curl PUT, presigned ──► object ── GET ──► here
//! store   here ── PUT ──► object ── curl GET, presigned ──► server
//! ```
//!
//! Lists, folders, links and what is small go by the session's transport; hashes, temporary names
//! and renames by its dialogue.
//!
//! Small files go together, as archives ([`archives`]).
//!
//! Nothing of S3 is needed on the server but an address, good for a quarter of an hour and for one
//! object. It goes to the server as input of a dialogue, so that it is in no command line there, in
//! no parameter of a call, and in no log of the session's output. Objects are deleted when they
//! have been used, also after a failure and an interruption; what kills this process at once leaves
//! one behind, which a lifecycle rule on the prefix should remove.

mod archives;
mod fetch;
mod store;

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::{self, BoxFuture};
use ops_core::calls::s3::{Bucket, Object};
use ops_profile::CopyVia;
use ops_ui::{Error, Result, output::escape};
use tokio::sync::OnceCell;

use crate::{
    item::{ListRequest, Listing},
    session::{ShellTransport, url_dialogue::UrlDialogue},
    transport::{Fetch, Job, Server, Sink, Source, Store, StoreKind, Transport},
};

/// From here on `auto` takes the bucket where the profile does not say, in bytes.
pub(crate) const ABOVE_BYTES: u64 = 1 << 30;
/// Largest object, in bytes: a part of a file that is larger. What is under way in the bucket is
/// paid for, and lost when a connection breaks.
const PART_BYTES: u64 = 1 << 30;

/// Where the bucket is, of the profile's `copy`.
#[derive(Clone, Debug)]
pub(crate) struct BucketPath {
    pub(crate) bucket: String,
    pub(crate) prefix: String,
}

/// SingleFile server by way of a bucket.
pub(crate) struct BucketTransport {
    server: Server,
    session: Arc<ShellTransport>,
    place: BucketPath,
    /// Files smaller than this take the session's way, in bytes.
    above: u64,
    /// It was asked for: without the bucket nothing is copied.
    named: bool,
    bucket: OnceCell<Bucket>,
}

impl BucketTransport {
    /// For everything; checks that the bucket is there and the server can use it.
    ///
    /// # Errors
    /// No bucket, neither curl nor wget.
    pub(crate) async fn open(
        server: &Server,
        session: Arc<ShellTransport>,
        place: BucketPath,
    ) -> Result<Self> {
        let s3 = Self {
            server: server.clone(),
            session,
            place,
            above: 0,
            named: true,
            bucket: OnceCell::new(),
        };
        s3.open_bucket().await?;
        Ok(s3)
    }

    /// For files of `above` bytes or more; what goes wrong with the bucket is told, and the
    /// session's way taken.
    pub(crate) fn beside(
        server: &Server,
        session: Arc<ShellTransport>,
        place: BucketPath,
        above: u64,
    ) -> Self {
        Self {
            server: server.clone(),
            session,
            place,
            above,
            named: false,
            bucket: OnceCell::new(),
        }
    }

    async fn open_bucket(&self) -> Result<&Bucket> {
        self.bucket
            .get_or_try_init(|| async {
                let region = &self.server.instance.region;
                let BucketPath { bucket, prefix } = &self.place;
                let bucket = self.server.cx.bucket(bucket, prefix, region).await?;
                self.session.check_url_tools()?;
                Ok(bucket)
            })
            .await
    }

    /// The bucket for `count` files, if it is to be used for them.
    async fn bucket_for(&self, count: usize) -> Result<Option<&Bucket>> {
        if count == 0 {
            return Ok(None);
        }
        let label = escape(self.server.instance.label());
        match self.open_bucket().await {
            Ok(bucket) => {
                if !self.named {
                    self.server.cx.output().detail(format!(
                        "{label}: {count} by way of the bucket `{}`, being very large",
                        self.place.bucket
                    ));
                }
                Ok(Some(bucket))
            }
            Err(error) if self.named => Err(error),
            Err(error) => {
                let error = escape(&error.to_string());
                let output = self.server.cx.output();
                output.note(format!("{label}: {error}; going by session instead"));
                Ok(None)
            }
        }
    }

    /// Deletes an object that was used; what cannot be deleted is told.
    async fn delete_object(&self, object: Object) {
        if let Err(error) = object.delete().await {
            self.server.cx.output().warn(error);
        }
    }

    /// Does `tasks`, several at a time; each is reported. With `keep` a dialogue outlives them.
    ///
    /// # Errors
    /// No session.
    async fn do_tasks(
        &self,
        bucket: &Bucket,
        tasks: Vec<Task>,
        keep: bool,
        job: &Job,
    ) -> Result<()> {
        let workers = job.sessions.min(tasks.len());
        let queue = Mutex::new(tasks.into_iter());
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        future::try_join_all((0..workers).map(|_| async {
            let mut dialogue = self.session.url_dialogue().await?;
            while let Some(task) = next() {
                for one in self.move_archives(bucket, &mut dialogue, task, job).await {
                    if !dialogue.is_usable() {
                        dialogue = self.session.url_dialogue().await?;
                    }
                    self.move_file(bucket, &mut dialogue, one, job).await;
                }
                if !dialogue.is_usable() {
                    dialogue = self.session.url_dialogue().await?;
                }
            }
            if keep {
                dialogue.give_back().await;
                return Ok(());
            }
            dialogue.quit_dialogue().await
        }))
        .await
        .map(drop)
    }

    /// Moves what goes together; gives what is to be moved alone.
    async fn move_archives(
        &self,
        bucket: &Bucket,
        dialogue: &mut UrlDialogue<'_>,
        task: Task,
        job: &Job,
    ) -> Vec<SingleFile> {
        match task {
            Task::SingleFile(one) => vec![one],
            Task::FetchArchive(files) => {
                let left = archives::fetch_archive(self, bucket, dialogue, files, job).await;
                left.into_iter().map(SingleFile::Fetch).collect()
            }
            Task::StoreArchive(items) => {
                let left = archives::store_archive(self, bucket, dialogue, items, job).await;
                left.into_iter().map(SingleFile::Store).collect()
            }
        }
    }

    /// Moves one file, and reports it.
    async fn move_file(
        &self,
        bucket: &Bucket,
        dialogue: &mut UrlDialogue<'_>,
        one: SingleFile,
        job: &Job,
    ) {
        let (id, result) = match one {
            SingleFile::Fetch(file) => {
                let result = fetch::fetch_file(self, bucket, dialogue, &file, job).await;
                (file.id, result)
            }
            SingleFile::Store(item) => {
                let id = item.id;
                (
                    id,
                    store::store_file(self, bucket, dialogue, item, job).await,
                )
            }
        };
        match result {
            Ok(()) => job.report.mark_done(id),
            Err(error) => job.report.mark_failed(id, error),
        }
    }

    async fn download_inner(&self, files: Vec<Fetch>, job: &Job) -> Result<()> {
        let is_ours = |file: &Fetch| {
            matches!(file.sink, Sink::File(_)) && file.entry.size >= self.above.max(1)
        };
        let count = files.iter().filter(|file| is_ours(file)).count();
        let Some(bucket) = self.bucket_for(count).await? else {
            return self.session.download(files, job).await;
        };
        let (ours, others): (Vec<_>, Vec<_>) = files.into_iter().partition(is_ours);
        if !others.is_empty() {
            self.session.download(others, job).await?;
        }
        let (archives, ours) = self.session.plan_fetch_archives(ours, job);
        let alone = ours
            .into_iter()
            .map(|file| Task::SingleFile(SingleFile::Fetch(file)));
        let tasks = archives
            .into_iter()
            .map(Task::FetchArchive)
            .chain(alone)
            .collect();
        self.do_tasks(bucket, tasks, false, job).await
    }

    async fn upload_inner(&self, items: Vec<Store>, job: &Job) -> Result<()> {
        let is_ours = |item: &Store| match &item.what {
            StoreKind::File(Source::File { size, .. }) => *size >= self.above.max(1),
            _ => false,
        };
        let count = items.iter().filter(|item| is_ours(item)).count();
        let Some(bucket) = self.bucket_for(count).await? else {
            return self.session.upload(items, job).await;
        };
        let (ours, others): (Vec<_>, Vec<_>) = items.into_iter().partition(is_ours);
        let last = if others.is_empty() {
            Vec::new()
        } else {
            self.session.upload_before_urls(others, job).await?
        };
        let (archives, ours) = self.session.plan_store_archives(ours);
        let alone = ours
            .into_iter()
            .map(|item| Task::SingleFile(SingleFile::Store(item)));
        let tasks = archives
            .into_iter()
            .map(Task::StoreArchive)
            .chain(alone)
            .collect();
        let keep = !last.is_empty();
        let done = self.do_tasks(bucket, tasks, keep, job).await;
        if keep {
            // Where the bucket has failed too: a folder that was opened for its files is closed.
            let mut dialogue = self.session.url_dialogue().await?;
            dialogue.set_last_attributes(&last, job).await?;
            dialogue.quit_dialogue().await?;
        }
        done
    }
}

/// Something to be moved.
enum Task {
    SingleFile(SingleFile),
    FetchArchive(Vec<Fetch>),
    StoreArchive(Vec<Store>),
}

/// SingleFile file to be moved.
enum SingleFile {
    Fetch(Fetch),
    Store(Store),
}

/// Parts of what is left of a file of `size` bytes after `begin`: where each begins and how long it
/// is.
fn parts_left(begin: u64, size: u64) -> impl Iterator<Item = (u64, u64)> {
    let mut at = begin;
    std::iter::from_fn(move || {
        let len = (size - at).min(PART_BYTES);
        let part = (at, len);
        at += len;
        (len > 0).then_some(part)
    })
}

fn no_hash(name: &str) -> Error {
    Error::unexpected(format!("`{name}` could not be verified"))
        .caused_by("the server could not hash it: it may have vanished, or not be readable")
}

impl Transport for BucketTransport {
    fn via(&self) -> CopyVia {
        if self.named {
            CopyVia::S3
        } else {
            CopyVia::Session
        }
    }

    fn list<'a>(&'a self, ask: &'a ListRequest) -> BoxFuture<'a, Result<Listing>> {
        self.session.list(ask)
    }

    fn download<'a>(&'a self, files: Vec<Fetch>, job: &'a Job) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.download_inner(files, job))
    }

    fn upload<'a>(&'a self, items: Vec<Store>, job: &'a Job) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.upload_inner(items, job))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_what_is_left() {
        assert_eq!(parts_left(0, 0).count(), 0);
        assert_eq!(parts_left(5, 5).count(), 0);
        let all: Vec<_> = parts_left(7, 2 * PART_BYTES + 9).collect();
        assert_eq!(
            all,
            [
                (7, PART_BYTES),
                (PART_BYTES + 7, PART_BYTES),
                (2 * PART_BYTES + 7, 2)
            ]
        );
    }
}
