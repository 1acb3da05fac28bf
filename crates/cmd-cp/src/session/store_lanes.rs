//! A large file for a server, shared out over several dialogues: each takes parts as it gets on;
//! the last to end has the whole verified and put into place.
//!
//! All write into one temporary file beside the destination, each part where it belongs. Whichever
//! dialogue dies takes that file with it, unless it is kept for `--resume`; then the parts of it
//! that are the same are found by their hashes.

use std::{
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use aws_lc_rs::digest;
use ops_ui::{Error, Result};
use tokio::task::JoinHandle;

use super::{
    ShellTransport,
    dialogue::{BeginAnswer, Dialogue, FileEnd, touch_stamp},
    frames::{
        PAUSE, TRIES, choose_codec, compress_frame, read_frame, send_announced, stored_mode,
        usable_dialogue,
    },
};
use crate::{
    hashes,
    hashes::Digest,
    landing,
    lanes::{BLOCK_BYTES, LanedFile, PART_BYTES, Remaining, count_lanes},
    local::LocalFile,
    reading::{FileReading, Reading},
    transport::{Job, Source, Store, StoreKind},
};

/// A lane is worth its session from this size on, in bytes.
const LANE_BYTES: u64 = 32 << 20;
/// Hashes asked for at once: an answer is a line.
const HASHES_AT_ONCE: u64 = 50;

/// A file that lanes share.
pub(super) struct LanedStore {
    item: Store,
    file: LocalFile,
    size: u64,
    tries: u32,
    shared: LanedFile<OpenedStore, LaneFailure>,
}

struct OpenedStore {
    reading: Arc<FileReading>,
    temporary: Vec<u8>,
    /// In whole parts: lanes take one at a time.
    remaining: Remaining,
    /// Of all of it, as it is made.
    digest: Mutex<Option<JoinHandle<Result<Digest>>>>,
    stop: Arc<AtomicBool>,
    /// Bytes sent or found there.
    there: AtomicU64,
}

impl Drop for OpenedStore {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[derive(Clone)]
struct LaneFailure {
    error: Error,
    /// It was the session's: another may do it.
    lost: bool,
}

impl LaneFailure {
    fn of(error: Error, dialogue: &Dialogue) -> Self {
        let lost = dialogue.is_lost();
        Self { error, lost }
    }
}

impl From<Error> for LaneFailure {
    fn from(error: Error) -> Self {
        Self { error, lost: false }
    }
}

/// How many dialogues `item` is worth.
pub(super) fn lane_count(session: &ShellTransport, item: &Store, sessions: usize) -> usize {
    match &item.what {
        StoreKind::File(Source::File { size, .. }) if session.tools.has("blocks") => {
            count_lanes(*size, LANE_BYTES, sessions)
        }
        _ => 1,
    }
}

impl LanedStore {
    /// `item`, to be carried by so many calls of [`carry_lane`]; gives it back if it is no file
    /// here.
    pub(super) fn new(item: Store, lanes: usize) -> Result<Arc<Self>, Box<Store>> {
        let StoreKind::File(Source::File { file, size }) = &item.what else {
            return Err(Box::new(item));
        };
        let (file, size) = (file.clone(), *size);
        Ok(Arc::new(Self::with_lanes(item, file, size, 1, lanes)))
    }

    fn with_lanes(item: Store, file: LocalFile, size: u64, tries: u32, lanes: usize) -> Self {
        Self {
            item,
            file,
            size,
            tries,
            shared: LanedFile::new(lanes),
        }
    }

    /// The same from the beginning, by one lane.
    fn for_another_try(&self) -> Self {
        let item = Store {
            id: self.item.id,
            path: self.item.path.clone(),
            what: StoreKind::Folder,
            mode: self.item.mode,
            mtime: self.item.mtime,
        };
        Self::with_lanes(item, self.file.clone(), self.size, self.tries + 1, 1)
    }
}

/// Carries parts until there are none; the last lane to end reports the file.
pub(super) async fn carry_lane(
    session: &ShellTransport,
    dialogue: &mut Option<Dialogue>,
    split: Arc<LanedStore>,
    job: &Job,
) {
    let mut attached = false;
    let carried = carry_parts(session, dialogue, &split, &mut attached, job).await;
    let is_last = split.shared.end_lane(carried);
    let failed = split.shared.failure();
    if !is_last || failed.is_some() {
        // The file is the others' from here on, or nobody's. A session that fails over this is
        // noticed by whoever uses it next.
        if let Some(dialogue) = dialogue
            .as_mut()
            .filter(|dialogue| attached && dialogue.is_usable())
        {
            let _ = match failed {
                Some(_) => dialogue.leave_file().await,
                None => dialogue.release_file().await,
            };
        }
        if !is_last {
            return;
        }
    }
    let done = match failed {
        Some(failure) => Err(failure),
        None => finish_file(session, dialogue, &split, attached, job).await,
    };
    match done {
        Ok(()) => job.report.mark_done(split.item.id),
        Err(LaneFailure { error, lost: true }) if split.tries < TRIES => {
            session
                .host
                .cx
                .output()
                .detail(format!("sending it again: {error}"));
            if let Some(opened) = split.shared.opened() {
                job.report
                    .take_back(split.item.id, opened.there.load(Ordering::Relaxed));
            }
            tokio::time::sleep(PAUSE).await;
            Box::pin(carry_lane(
                session,
                dialogue,
                Arc::new(split.for_another_try()),
                job,
            ))
            .await;
        }
        Err(LaneFailure { error, .. }) => {
            let error = session.store_error(error, &split.item.path);
            job.report.mark_failed(split.item.id, error);
        }
    }
}

async fn carry_parts(
    session: &ShellTransport,
    dialogue: &mut Option<Dialogue>,
    split: &LanedStore,
    attached: &mut bool,
    job: &Job,
) -> Result<(), LaneFailure> {
    if split.shared.failure().is_some() {
        return Ok(());
    }
    let dialogue = usable_dialogue(session, dialogue)
        .await
        .map_err(|error| LaneFailure { error, lost: true })?;
    let opened = split
        .shared
        .open_once(|| Box::pin(open_temporary(session, dialogue, split, attached, job)))
        .await?;
    let mut codec = None;
    while split.shared.failure().is_none() {
        let Some(part) = opened.remaining.take(PART_BYTES) else {
            // Whoever ends last has the whole verified: by then this lane's last part must be
            // written.
            let written = dialogue.settle_frames().await;
            return written.map_err(|error| LaneFailure::of(error, dialogue));
        };
        attach_dialogue(dialogue, split, opened, attached, job).await?;
        let sent = send_part(session, dialogue, opened, part, &mut codec, job).await;
        sent.map_err(|error| LaneFailure::of(error, dialogue))?;
    }
    Ok(())
}

async fn attach_dialogue(
    dialogue: &mut Dialogue,
    split: &LanedStore,
    opened: &OpenedStore,
    attached: &mut bool,
    job: &Job,
) -> Result<(), LaneFailure> {
    if *attached {
        return Ok(());
    }
    match dialogue
        .join_file(&split.item.path, &opened.temporary, job.resume)
        .await
    {
        Ok(()) => {
            *attached = true;
            Ok(())
        }
        Err(error) => Err(LaneFailure::of(error, dialogue)),
    }
}

/// Makes the temporary file, or finds out what is in the one that is there.
async fn open_temporary(
    session: &ShellTransport,
    dialogue: &mut Dialogue,
    split: &LanedStore,
    attached: &mut bool,
    job: &Job,
) -> Result<OpenedStore, LaneFailure> {
    let source = Source::File {
        file: split.file.clone(),
        size: split.size,
    };
    let Reading::File(reading) = Reading::open(source, split.item.id, job)? else {
        return Err(Error::unexpected("no file").into());
    };
    let reading = Arc::new(reading);
    let last = split.item.path.name_or(b"file");
    let temporary = landing::temporary_name(last, job.resume);
    let begun = dialogue
        .begin_file(&split.item.path, &temporary, job.resume, false)
        .await
        .map_err(|error| LaneFailure::of(error, dialogue))?;
    *attached = true;
    let parts = reading.size().div_ceil(PART_BYTES);
    let mut todo: Vec<u64> = (0..parts).collect();
    let mut there = 0;
    if let BeginAnswer::Part(len, _) = begun {
        if len > 0 && len <= reading.size() && session.tools.hash_command().is_some() {
            let same = same_parts(dialogue, &reading, len.div_ceil(PART_BYTES)).await;
            let same = same.map_err(|error| LaneFailure::of(error, dialogue))?;
            there = same
                .iter()
                .map(|&part| part_range(&reading, part))
                .map(|range| range.end - range.start)
                .sum();
            job.report.add_bytes(split.item.id, there);
            session
                .host
                .cx
                .output()
                .detail(format!("{} of {parts} parts are there already", same.len()));
            todo.retain(|part| !same.contains(part));
        } else {
            let restarted = dialogue.empty_file().await;
            restarted.map_err(|error| LaneFailure::of(error, dialogue))?;
        }
    }
    let stop = Arc::new(AtomicBool::new(false));
    let digest = tokio::task::spawn_blocking({
        let (reading, stop) = (Arc::clone(&reading), Arc::clone(&stop));
        move || {
            let mut hash = digest::Context::new(&digest::SHA256);
            for part in 0..parts {
                if stop.load(Ordering::Relaxed) {
                    return Err(Error::unexpected("nobody waits for it any more"));
                }
                hash_part(&reading, part, &mut hash)?;
            }
            Ok(hashes::finish_hash(hash))
        }
    });
    let remaining = Remaining::new(todo.into_iter().map(|part| part_range(&reading, part)));
    Ok(OpenedStore {
        reading,
        temporary,
        remaining,
        digest: Mutex::new(Some(digest)),
        stop,
        there: AtomicU64::new(there),
    })
}

/// Where a part of `reading` lies; the last one is shorter.
fn part_range(reading: &FileReading, part: u64) -> Range<u64> {
    let start = part * PART_BYTES;
    start..reading.size().min(start + PART_BYTES).max(start)
}

fn hash_part(reading: &FileReading, part: u64, hash: &mut digest::Context) -> Result<()> {
    let range = part_range(reading, part);
    reading.hash_range(range.start, range.end - range.start, hash)
}

/// Which of the first `count` parts are there as they are here.
async fn same_parts(
    dialogue: &mut Dialogue,
    reading: &FileReading,
    count: u64,
) -> Result<Vec<u64>> {
    let mut same = Vec::new();
    let mut first = 0;
    while first < count {
        let some = HASHES_AT_ONCE.min(count - first);
        let hashes = dialogue.hash_parts(first, some).await?;
        for (part, there) in (first..first + some).zip(hashes) {
            let mut hash = digest::Context::new(&digest::SHA256);
            hash_part(reading, part, &mut hash)?;
            if there == Some(hashes::finish_hash(hash)) {
                same.push(part);
            }
        }
        first += some;
    }
    Ok(same)
}

/// Sends a part.
async fn send_part(
    session: &ShellTransport,
    dialogue: &mut Dialogue,
    opened: &OpenedStore,
    part: Range<u64>,
    codec: &mut Option<&'static str>,
    job: &Job,
) -> Result<()> {
    let reading = &opened.reading;
    let Range { start: mut at, end } = part;
    let sent = |len: usize| opened.there.fetch_add(len as u64, Ordering::Relaxed);
    while at < end {
        let block = at / BLOCK_BYTES;
        if *codec == Some("-") {
            dialogue.announce_at(end - at, block).await?;
            return send_announced(dialogue, reading, (at, end), |piece| {
                sent(piece.len());
            })
            .await;
        }
        let frame = read_frame(reading, at, BLOCK_BYTES as usize).await?;
        let len = frame.len();
        let codec = *codec.get_or_insert_with(|| choose_codec(session, job, &frame));
        dialogue
            .frame_at(codec, compress_frame(codec, frame)?, block)
            .await?;
        sent(len);
        at += len as u64;
    }
    Ok(())
}

/// Has the whole verified and put into place.
async fn finish_file(
    session: &ShellTransport,
    dialogue: &mut Option<Dialogue>,
    split: &LanedStore,
    mut attached: bool,
    job: &Job,
) -> Result<(), LaneFailure> {
    let Some(opened) = split.shared.opened() else {
        return Err(Error::unexpected("nothing was sent").into());
    };
    if dialogue
        .as_ref()
        .is_none_or(|dialogue| !dialogue.is_usable())
    {
        attached = false;
    }
    let dialogue = usable_dialogue(session, dialogue)
        .await
        .map_err(|error| LaneFailure { error, lost: true })?;
    attach_dialogue(dialogue, split, opened, &mut attached, job).await?;
    let handle = opened
        .digest
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    let digest = match handle {
        Some(handle) => handle
            .await
            .map_err(|_| Error::unexpected("it could not be hashed"))
            .and_then(|digest| digest),
        None => Err(Error::unexpected("it was not hashed")),
    };
    let whole = match digest {
        Ok(digest) => opened.reading.check_unchanged(&digest).map(|()| digest),
        error => error,
    };
    let digest = match whole {
        Ok(digest) => digest,
        Err(error) => {
            let left = dialogue.leave_file().await;
            left.map_err(|error| LaneFailure::of(error, dialogue))?;
            return Err(error.into());
        }
    };
    let ended = dialogue
        .end_file(&FileEnd {
            digest: session.tools.hash_command().map(|_| digest),
            size: opened.reading.size(),
            mode: stored_mode(session, &split.item, job),
            exact: job.preserve,
            stamp: job.preserve.then(|| touch_stamp(split.item.mtime)),
        })
        .await;
    ended.map_err(|error| LaneFailure::of(error, dialogue))
}
