//! Files on the server that are not in place yet.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{channel::Channel, pool::Pool, wire::Attributes};
use crate::{
    landing::{NAME_MAX_BYTES, random_token},
    remote_path::RemotePath,
};

/// End of the name of a part that is kept for `--resume`.
const PART: &str = ".ops-part";

/// All of them, to be put in order whatever happens.
#[derive(Default)]
pub(super) struct Temporaries(Mutex<BTreeMap<Vec<u8>, Noted>>);

struct Noted {
    written: Arc<AcknowledgedRanges>,
    /// Nobody goes on with it.
    is_left: bool,
}

impl Temporaries {
    /// Notes one that is about to be made.
    pub(super) fn add(&self, path: &[u8], written: Arc<AcknowledgedRanges>) {
        let is_left = false;
        self.map().insert(path.to_vec(), Noted { written, is_left });
    }

    /// It is in place.
    pub(super) fn forget(&self, path: &[u8]) {
        self.map().remove(path);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.map().is_empty()
    }

    /// Nobody goes on with it: it is to be removed, or cut down to what can be gone on from.
    pub(super) fn leave(&self, path: &[u8]) {
        if let Some(noted) = self.map().get_mut(path) {
            noted.is_left = true;
        }
    }

    /// Nobody goes on with any.
    pub(super) fn leave_all(&self) {
        self.map()
            .values_mut()
            .for_each(|noted| noted.is_left = true);
    }

    /// Those that nobody goes on with.
    pub(super) fn left(&self) -> Vec<Vec<u8>> {
        let map = self.map();
        let left = map.iter().filter(|(_, noted)| noted.is_left);
        left.map(|(path, _)| path.clone()).collect()
    }

    /// Puts one in order; `false` where the connection is lost meanwhile: it stays noted.
    pub(super) async fn clear(&self, channel: &Channel, path: &[u8]) -> bool {
        let written = self.map().get(path).map(|noted| Arc::clone(&noted.written));
        let Some(written) = written else { return true };
        put_in_order(channel, path, &written).await;
        if channel.is_lost() {
            return false;
        }
        self.forget(path);
        true
    }

    fn map(&self) -> std::sync::MutexGuard<'_, BTreeMap<Vec<u8>, Noted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts in order what nobody goes on with, over as many sessions as it takes.
pub(super) async fn tidy(pool: &Pool, temporaries: &Temporaries) {
    for path in temporaries.left() {
        loop {
            let session = match pool.connected() {
                Some(session) => session,
                None => match pool.session(0).await {
                    Ok(session) => session,
                    // Nothing can be done there any more.
                    Err(_) => return,
                },
            };
            if temporaries.clear(&session.channel, &path).await {
                session.was_used();
                break;
            }
        }
    }
}

async fn put_in_order(channel: &Channel, path: &[u8], written: &AcknowledgedRanges) {
    let kept = written.kept();
    if kept > 0 {
        let size = Attributes {
            size: Some(kept),
            ..Attributes::default()
        };
        if channel.set(path, &size).await.is_ok() {
            return;
        }
    }
    // It may never have been made, or be gone with its folder.
    let _ = channel.remove(path).await;
}

/// What of a temporary file the server has acknowledged.
pub(super) struct AcknowledgedRanges {
    /// Keep it for `--resume`.
    keep: bool,
    state: Mutex<TemporaryState>,
}

struct TemporaryState {
    /// Bytes from the beginning without a gap.
    prefix: u64,
    /// Ranges beyond, start to end.
    beyond: BTreeMap<u64, u64>,
}

impl AcknowledgedRanges {
    pub(super) fn new(keep: bool) -> Arc<Self> {
        Arc::new(Self {
            keep,
            state: Mutex::new(TemporaryState {
                prefix: 0,
                beyond: BTreeMap::new(),
            }),
        })
    }

    /// `start` to `end` is there.
    pub(super) fn add(&self, start: u64, end: u64) {
        let mut state = self.state();
        state.beyond.insert(start, end);
        while let Some((&start, &end)) = state.beyond.first_key_value()
            && start <= state.prefix
        {
            state.prefix = state.prefix.max(end);
            state.beyond.pop_first();
        }
    }

    /// Nothing of it is worth keeping.
    pub(super) fn spoil(&self) {
        let mut state = self.state();
        state.prefix = 0;
        state.beyond.clear();
    }

    fn kept(&self) -> u64 {
        if self.keep { self.state().prefix } else { 0 }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, TemporaryState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name beside `destination`: `.NAME.ops-…`, no longer than a name may be; the same every time
/// for a part that is kept.
pub(super) fn beside(destination: &RemotePath, kept: bool) -> RemotePath {
    let below = destination.below();
    if below.is_empty() {
        return RemotePath::named(beside_path(destination.whole(), kept));
    }
    RemotePath::new(destination.root(), &beside_path(below, kept))
}

fn beside_path(destination: &[u8], kept: bool) -> Vec<u8> {
    let at = destination
        .iter()
        .rposition(|&byte| byte == b'/')
        .map_or(0, |at| at + 1);
    let (folder, name) = destination.split_at(at);
    let end = if kept {
        PART.to_owned()
    } else {
        format!(".ops-{}", random_token())
    };
    let name = &name[..name.len().min(NAME_MAX_BYTES - 1 - end.len())];
    [folder, b".", name, end.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_ends_at_the_first_gap() {
        let written = AcknowledgedRanges::new(true);
        for (start, end) in [(10, 20), (0, 5), (30, 40), (5, 10)] {
            written.add(start, end);
        }
        assert_eq!(written.kept(), 20);
        written.spoil();
        assert_eq!(written.kept(), 0);
        let written = AcknowledgedRanges::new(false);
        written.add(0, 5);
        assert_eq!(written.kept(), 0);
    }

    #[test]
    fn a_temporary_name_stands_beside_and_is_not_too_long() {
        let path = RemotePath::new(b"/a", b"b/x");
        assert_eq!(
            beside(&path, true),
            RemotePath::new(b"/a", b"b/.x.ops-part")
        );
        let named = RemotePath::named(b"/a/x".to_vec());
        assert_eq!(beside(&named, true).whole(), b"/a/.x.ops-part");
        let long = RemotePath::new(b"/a", &[0xff; NAME_MAX_BYTES]);
        assert_eq!(beside(&long, false).whole().len(), 3 + NAME_MAX_BYTES);
    }
}
