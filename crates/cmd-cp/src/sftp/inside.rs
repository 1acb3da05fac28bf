//! No link is followed below what the user named.
//!
//! SFTP opens by path alone, from the root each time: it has no way to hold a folder and to name
//! things relative to it. So each folder below what was named is asked for by LSTAT before
//! something in it is made, opened, renamed or removed. Somebody who may write to one of these
//! folders and puts a link in its place between the look and the request behind it is not seen:
//! `docs/security.md` tells what that means.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::future;
use ops_ui::output::escape;
use tokio::time::Instant;

use super::{
    channel::{Answered, Channel, Failure},
    list::{is_folder, is_link},
    wire::open,
};
use crate::remote_path::RemotePath;

/// How long a folder that was looked at counts as one. Files of a folder come one after another:
/// each look at every folder above would double what a server has to answer.
const FRESH: Duration = Duration::from_secs(1);
/// Folders that are remembered, which bounds the memory.
const REMEMBERED: usize = 4096;

/// Folders below what was named that were folders a moment ago.
#[derive(Default)]
pub(super) struct Inside(Mutex<HashMap<Vec<u8>, Instant>>);

impl Inside {
    /// Looks at the folders below what was named that `path` lies in.
    ///
    /// # Errors
    /// One of them is a link, or no folder.
    pub(super) async fn no_link_above(&self, channel: &Channel, path: &RemotePath) -> Answered<()> {
        let unknown: Vec<&[u8]> = path
            .folders_below()
            .filter(|folder| !self.is_known(folder))
            .collect();
        // One after another on the wire, but nobody waits for one before asking for the next.
        let looks = unknown.iter().map(|folder| look(channel, folder));
        future::try_join_all(looks).await?;
        for folder in unknown {
            self.know(folder);
        }
        Ok(())
    }

    /// As [`Inside::no_link_above`], and looks at `path` itself: a link there is followed only
    /// where it was named.
    pub(super) async fn no_link(&self, channel: &Channel, path: &RemotePath) -> Answered<()> {
        let itself = async {
            if path.is_named() {
                return Ok(());
            }
            no_link_at(channel, path.whole()).await
        };
        future::try_join(self.no_link_above(channel, path), itself)
            .await
            .map(drop)
    }

    /// Opens a file that exists. A link at its name is followed only for reading, and where it was
    /// named.
    ///
    /// # Errors
    /// A link; what the server answers.
    pub(super) async fn open(
        &self,
        channel: &Channel,
        path: &RemotePath,
        flags: u32,
    ) -> Answered<bytes::Bytes> {
        let itself = async {
            if path.is_named() && flags & open::WRITE == 0 {
                return Ok(());
            }
            no_link_at(channel, path.whole()).await
        };
        // The server handles requests in their order: the looks come right before the opening.
        let looked = future::try_join(self.no_link_above(channel, path), itself);
        let (looked, opened) =
            future::join(looked, channel.open_file(path.whole(), flags, None)).await;
        match (looked, opened) {
            (Ok(_), opened) => opened,
            (Err(failure), Ok(handle)) => {
                // Nothing was read or written.
                let _ = channel.close(&handle).await;
                Err(failure)
            }
            (Err(failure), Err(_)) => Err(failure),
        }
    }

    /// `folder` was made a moment ago.
    pub(super) fn know(&self, folder: &[u8]) {
        let mut known = self.known();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(folder.to_vec(), Instant::now());
    }

    fn is_known(&self, folder: &[u8]) -> bool {
        self.known()
            .get(folder)
            .is_some_and(|looked| looked.elapsed() < FRESH)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<Vec<u8>, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn look(channel: &Channel, folder: &[u8]) -> Answered<()> {
    let known = channel.stat(folder, false).await?;
    if is_link(&known) {
        return Err(not_followed(folder));
    }
    if !is_folder(&known) {
        return Err(Failure::Ours(format!(
            "`{}` is no folder",
            escape(&String::from_utf8_lossy(folder))
        )));
    }
    Ok(())
}

async fn no_link_at(channel: &Channel, path: &[u8]) -> Answered<()> {
    let known = channel.stat(path, false).await?;
    if is_link(&known) {
        return Err(not_followed(path));
    }
    Ok(())
}

/// What is said of a link below what was named.
pub(super) fn not_followed(path: &[u8]) -> Failure {
    Failure::Ours(format!(
        "`{}` is a link on the server, which is not followed",
        escape(&String::from_utf8_lossy(path))
    ))
}
