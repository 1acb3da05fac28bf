//! Fetching: large files in lanes over several sessions, single ones over one, many small ones as
//! archives.

use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use ops_remote::pipe::{Chunk, DownPipe};
use ops_remote::script::compact;
use ops_ui::{Error, Result};
use tokio::sync::{Semaphore, mpsc};

use super::{ShellTransport, fetch_archive, frames::PAUSE, inflate::Inflate, probe::Tools, script};
use crate::{
    hashes,
    hashes::{Digest, hex, parse_hash},
    landing::Landing,
    lanes::{BLOCK_BYTES, Lane, LanedFile, PART_BLOCKS, PART_BYTES, count_lanes},
    remote_path::RemotePath,
    transport::{Fetch, Job, Sink},
};

/// A lane is worth its session from this size on, in bytes.
const LANE_BYTES: u64 = 24 << 20;
/// Archives under way at the same time: each has a window of the compressor's and a thread, and
/// more of them are hardly faster.
const ARCHIVES: usize = 3;
/// Of this size, in bytes, compression is tried.
const COMPRESS_FROM_BYTES: u64 = 64 << 10;
/// A file listed as smaller than this, in bytes, is read once and to its end, and hashed as it is
/// sent: files of `/proc` say 0, those of `/sys` a page of 4,096 or 65,536, and what they hold may
/// be another thing each time they are read.
const READ_ONCE_BELOW_BYTES: u64 = 1 << 20;
/// Times a transfer is taken up where it was cut off, without any progress in between.
const TRIES: u32 = 4;

/// Something for one session.
enum Task {
    Lane(Arc<LanedFetch>, u64),
    Archive(Vec<Fetch>),
}

/// A file that lanes share.
struct LanedFetch {
    fetch: Fetch,
    lanes: usize,
    shared: LanedFile<OpenedFetch, Error>,
    sha256: Mutex<Option<Digest>>,
    /// Where the file ended beyond its listed size, and the hash of all of it.
    grown: Mutex<Option<Grown>>,
}

#[derive(Clone, Copy)]
struct Grown {
    size: u64,
    /// `None` where the server does not hash.
    sha256: Option<Digest>,
}

struct OpenedFetch {
    out: FetchOutput,
    /// Bytes at the beginning that an earlier run has left.
    have: u64,
}

enum FetchOutput {
    File(Box<Landing>),
    Stream(mpsc::Sender<Result<Bytes>>, Mutex<digest::Context>),
}

/// Fetches `files`; every one of them is reported.
pub(super) async fn download_files(session: &ShellTransport, files: Vec<Fetch>, job: &Job) {
    let tasks = plan_tasks(session, files, job);
    let turns = Semaphore::new(ARCHIVES);
    let turns = &turns;
    stream::iter(tasks)
        .map(|task| async move {
            match task {
                Task::Lane(laned, index) => carry_lane(session, laned, index, job).await,
                Task::Archive(files) => {
                    // Never closed.
                    let _turn = turns.acquire().await;
                    for fetch in Box::pin(fetch_archive::fetch_files(session, files, job)).await {
                        let laned = LanedFetch::new(fetch, 1);
                        Box::pin(carry_lane(session, Arc::new(laned), 0, job)).await;
                    }
                }
            }
        })
        .buffer_unordered(job.sessions.max(1))
        .collect::<()>()
        .await;
}

fn plan_tasks(session: &ShellTransport, files: Vec<Fetch>, job: &Job) -> Vec<Task> {
    let mut tasks = Vec::new();
    let mut small = fetch_archive::FetchCollector::new(session, job);
    for fetch in files {
        let fetch = match small.take_if_small(fetch) {
            Ok(full) => {
                tasks.extend(full.map(Task::Archive));
                continue;
            }
            Err(fetch) => fetch,
        };
        if job.sessions <= 1 {
            // In the order given.
            tasks.extend(small.take_rest().map(Task::Archive));
        }
        let lanes = match fetch.sink {
            Sink::File(_) => count_lanes(fetch.entry.size, LANE_BYTES, job.sessions),
            Sink::Stream(_) => 1,
        };
        let laned = Arc::new(LanedFetch::new(fetch, lanes));
        tasks.extend((0..lanes as u64).map(|index| Task::Lane(Arc::clone(&laned), index)));
    }
    tasks.extend(small.take_rest().map(Task::Archive));
    tasks
}

impl LanedFetch {
    fn new(fetch: Fetch, lanes: usize) -> Self {
        Self {
            fetch,
            lanes,
            shared: LanedFile::new(lanes),
            sha256: Mutex::new(None),
            grown: Mutex::new(None),
        }
    }
}

/// Carries one lane; the last to end puts the file into place.
async fn carry_lane(session: &ShellTransport, laned: Arc<LanedFetch>, index: u64, job: &Job) {
    let carried = match laned.shared.failure() {
        Some(_) => Ok(()),
        None => carry_to_end(session, &laned, index, job).await,
    };
    if !laned.shared.end_lane(carried) {
        return;
    }
    let id = laned.fetch.id;
    let done = match laned.shared.failure() {
        Some(error) => Err(error),
        None => finish_file(&laned),
    };
    match done {
        Ok(()) => job.report.mark_done(id),
        Err(error) => {
            if let Sink::Stream(sender) = &laned.fetch.sink {
                // Nobody may be left to be told.
                let _ = sender.send(Err(error.clone())).await;
            }
            job.report.mark_failed(id, error);
        }
    }
}

fn finish_file(laned: &LanedFetch) -> Result<()> {
    let grown = *laned.grown.lock().unwrap_or_else(PoisonError::into_inner);
    let sha256 = match grown {
        Some(grown) => grown.sha256,
        None => *laned.sha256.lock().unwrap_or_else(PoisonError::into_inner),
    };
    let Some(opened) = laned.shared.opened() else {
        return Err(Error::unexpected("nothing arrived"));
    };
    match &opened.out {
        FetchOutput::File(landing) => landing.commit_file(sha256),
        FetchOutput::Stream(_, hash) => {
            let hash = hash.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let digest = hashes::finish_hash(hash);
            match sha256 {
                Some(expected) if expected != digest => Err(Error::unexpected(
                    "the file did not arrive as it was sent",
                )
                .caused_by(format!(
                    "SHA-256 is {} here and {} there",
                    hex(&digest),
                    hex(&expected)
                ))),
                _ => Ok(()),
            }
        }
    }
}

async fn open_output(
    session: &ShellTransport,
    laned: &LanedFetch,
    job: &Job,
) -> Result<OpenedFetch> {
    let fetch = &laned.fetch;
    let path = match &fetch.sink {
        Sink::Stream(sender) => {
            let hash = Mutex::new(digest::Context::new(&digest::SHA256));
            return Ok(OpenedFetch {
                out: FetchOutput::Stream(sender.clone(), hash),
                have: 0,
            });
        }
        Sink::File(path) => path,
    };
    let mode = session.local_mode(fetch.entry.mode);
    let landing = Landing::open(path, fetch.id, &fetch.entry, mode, job)?;
    let mut have = 0;
    if let Some((len, digest)) = landing.resumable_part()? {
        if begins_with(session, &fetch.path, len, digest).await? {
            have = len;
            session.host.cx.output().detail(format!(
                "going on from byte {len} of {}",
                path.to_path().display()
            ));
        } else {
            landing.start_over()?;
        }
    }
    Ok(OpenedFetch {
        out: FetchOutput::File(Box::new(landing)),
        have,
    })
}

/// Whether the first `len` bytes over there have this hash.
async fn begins_with(
    session: &ShellTransport,
    path: &RemotePath,
    len: u64,
    digest: Digest,
) -> Result<bool> {
    if session.tools.hash_command().is_none() {
        return Ok(false);
    }
    let script = format!(
        "{}go_to_file\ntell \"sha $(head -c {len} <\"$file\" | hash_input)\"\n",
        fetching_script(&session.tools, path),
    );
    let mut down = DownPipe::start(&session.host, &script).await?;
    let mut told = None;
    while let Some(chunk) = down.next().await? {
        if let Chunk::Message(text) = chunk {
            told = text.strip_prefix("sha ").and_then(parse_hash).or(told);
        }
    }
    Ok(told == Some(digest))
}

/// Carries a lane to its end, over as many sessions as it takes.
async fn carry_to_end(
    session: &ShellTransport,
    laned: &LanedFetch,
    index: u64,
    job: &Job,
) -> Result<()> {
    let opened = laned
        .shared
        .open_once(|| Box::pin(open_output(session, laned, job)))
        .await?;
    let lane = Lane {
        index,
        count: laned.lanes as u64,
        size: laned.fetch.entry.size,
    };
    let mut at = lane.start(opened.have);
    if index == 0 && at < lane.len() {
        // What is fetched a second time counts once.
        let (offset, _) = lane.place(at);
        job.report
            .take_back(laned.fetch.id, opened.have.saturating_sub(offset));
    }
    let mut tries = 0;
    loop {
        let before = at;
        match run_lane(session, laned, opened, lane, &mut at, job).await {
            Ok(()) => return Ok(()),
            Err(LaneError::Failed(error)) => return Err(error),
            Err(LaneError::Short(error)) => {
                let begins_again =
                    matches!(opened.out, FetchOutput::File(_)) && at > 0 && lane.is_read_once(0);
                // What begins again makes no progress, however far it came.
                tries = if at > before && !begins_again {
                    1
                } else {
                    tries + 1
                };
                if tries >= TRIES || laned.shared.failure().is_some() {
                    return Err(error);
                }
                if let FetchOutput::File(landing) = &opened.out
                    && begins_again
                {
                    // Hashed as a whole or not at all.
                    landing.start_over()?;
                    at = 0;
                }
                session.host.cx.output().detail(format!(
                    "taking up {} at byte {at}: {error}",
                    String::from_utf8_lossy(laned.fetch.path.whole()).escape_debug()
                ));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Why a lane did not come to its end.
enum LaneError {
    /// Worth another session: the output was cut off.
    Short(Error),
    Failed(Error),
}

/// One session of a lane, from position `at` on.
async fn run_lane(
    session: &ShellTransport,
    laned: &LanedFetch,
    opened: &OpenedFetch,
    lane: Lane,
    at: &mut u64,
    job: &Job,
) -> Result<(), LaneError> {
    let text = lane_script(session, laned, lane, *at, job);
    let is_read_once = lane.is_read_once(*at);
    let mut is_whole = false;
    let mut grown: Option<Grown> = None;
    let mut down = DownPipe::start(session.next_carrier(), &text)
        .await
        .map_err(LaneError::Short)?
        .strict();
    let mut inflate = Inflate::Plain;
    loop {
        let chunk = match down.next().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            Err(error) => return Err(LaneError::Short(error)),
        };
        let bytes = match chunk {
            Chunk::Bytes(bytes) => bytes,
            Chunk::Message(text) => {
                if let Some(codec) = text.strip_prefix("z ") {
                    inflate = Inflate::new(codec).map_err(|error| {
                        LaneError::Failed(
                            down.failed("the server compresses in an unknown way")
                                .caused_by(error),
                        )
                    })?;
                } else if let Some(digest) = text.strip_prefix("sha ").and_then(parse_hash) {
                    *laned.sha256.lock().unwrap_or_else(PoisonError::into_inner) = Some(digest);
                } else if text == "whole" {
                    is_whole = true;
                } else if let Some(words) = text.strip_prefix("grown ") {
                    grown = read_grown(words);
                }
                continue;
            }
        };
        let mut bytes = bytes;
        while let Some(out) = inflate.next(&mut bytes).map_err(|error| {
            LaneError::Failed(
                down.failed("what the server compressed cannot be read")
                    .caused_by(error),
            )
        })? {
            deliver_bytes(opened, lane, at, out, job, laned.fetch.id)
                .await
                .map_err(LaneError::Failed)?;
        }
        if laned.shared.failure().is_some() {
            return Ok(());
        }
    }
    let has_ended = down.status() == Some(0);
    if has_ended && is_read_once && is_whole {
        if let FetchOutput::File(landing) = &opened.out {
            landing.ends_at(*at);
        }
        return Ok(());
    }
    if has_ended && !is_read_once {
        let beyond = at.saturating_sub(lane.len());
        let is_end = match grown {
            Some(grown) => beyond > 0 && lane.size + beyond == grown.size,
            None => *at == lane.len(),
        };
        if is_end {
            if grown.is_some() {
                *laned.grown.lock().unwrap_or_else(PoisonError::into_inner) = grown;
            }
            return Ok(());
        }
    }
    let label = session.host.instance.label();
    let shown = String::from_utf8_lossy(laned.fetch.path.whole()).into_owned();
    if down.status().is_none() {
        return Err(LaneError::Short(down.cut_off()));
    }
    let complained = down.complaints().next().is_some();
    let error = down.failed(format!("cannot read `{shown}` on `{label}`"));
    Err(LaneError::Failed(if complained {
        error
    } else {
        error
            .caused_by("its size changed while it was read")
            .hint("copy it again when nobody writes to it")
    }))
}

/// `SIZE HASH`, as the script tells of a file that has grown.
fn read_grown(words: &str) -> Option<Grown> {
    let (size, sha256) = words.split_once(' ')?;
    Some(Grown {
        size: size.parse().ok()?,
        sha256: parse_hash(sha256),
    })
}

async fn deliver_bytes(
    opened: &OpenedFetch,
    lane: Lane,
    at: &mut u64,
    mut bytes: Bytes,
    job: &Job,
    id: usize,
) -> Result<()> {
    if *at + bytes.len() as u64 > lane.len() && !lane.is_last() {
        return Err(Error::unexpected(
            "the server sent more than the file had when it was listed",
        ));
    }
    while !bytes.is_empty() {
        // What lies behind the listed end follows the last part without a gap.
        let beyond = at.checked_sub(lane.len());
        let (offset, room) = match beyond {
            Some(beyond) => (lane.size + beyond, u64::MAX),
            None => {
                let (offset, room) = lane.place(*at);
                (offset, room.min(lane.len() - *at))
            }
        };
        let piece =
            bytes.split_to(usize::try_from(room).map_or(bytes.len(), |room| room.min(bytes.len())));
        *at += piece.len() as u64;
        match &opened.out {
            FetchOutput::File(landing) if beyond.is_some() => {
                landing.write_tail(offset, &piece).await?;
            }
            FetchOutput::File(landing) => landing.write_at(offset, &piece).await?,
            FetchOutput::Stream(sender, hash) => {
                job.pace.wait_for_bytes(piece.len()).await;
                hash.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .update(&piece);
                job.report.add_bytes(id, piece.len() as u64);
                sender.send(Ok(piece)).await.map_err(|_| {
                    Error::new(ops_ui::ErrorKind::BrokenPipe, "nobody reads any more")
                })?;
            }
        }
    }
    Ok(())
}

pub(super) const FETCH: &str = include_str!("scripts/fetch.sh");

/// The beginning of a script that reads the file at `path`: see `scripts/fetch.sh`.
pub(super) fn fetching_script(tools: &Tools, path: &RemotePath) -> String {
    format!(
        "{}{}{}{}",
        tools.prelude_script(),
        compact(script::ENTER),
        script::name_file(path),
        compact(FETCH)
    )
}

/// The script of a lane, from position `at` on.
fn lane_script(
    session: &ShellTransport,
    laned: &LanedFetch,
    lane: Lane,
    at: u64,
    job: &Job,
) -> String {
    let size = lane.size;
    let left = lane.len() - at.min(lane.len());
    let codec = session
        .tools
        .best_codec()
        .filter(|_| job.compress && left >= COMPRESS_FROM_BYTES);
    let mut text = fetching_script(&session.tools, &laned.fetch.path);
    text.push_str(&format!(
        "codec={}\ngo_to_file\n\
         exec 4<\"$file\" || exit 1\nchoose_compressor {size}\n",
        codec.unwrap_or_default()
    ));
    if lane.is_read_once(at) {
        text.push_str("fetch_whole\n");
        return text;
    }
    if lane.index == 0 && session.tools.hash_command().is_some() {
        text.push_str(&format!("hash_beside {size}\n"));
    }
    text.push_str(&format!("{{\n{}", copying_script(lane, at, left)));
    if lane.is_last() {
        let from = size + at.saturating_sub(lane.len());
        text.push_str(&format!("copy_growth {size} {from}\n"));
    }
    text.push_str("} | compress\nwait\n");
    text
}

impl Lane {
    /// Whether the file is read in one go from position `at` on, to wherever it ends.
    fn is_read_once(&self, at: u64) -> bool {
        at == 0 && self.count == 1 && self.size < READ_ONCE_BELOW_BYTES
    }
}

/// The commands that write a lane from position `at` on, `left` bytes.
fn copying_script(lane: Lane, at: u64, left: u64) -> String {
    if left == 0 {
        // Braces hold a command at least.
        return ":\n".to_owned();
    }
    let (offset, room) = lane.place(at);
    if lane.count == 1 {
        return format!("copy_range {offset} {left}\n");
    }
    // To the end of its part first, so that dd can count in blocks from there.
    if !at.is_multiple_of(BLOCK_BYTES) {
        let head = room.min(left);
        let rest = copying_script(lane, at + head, left - head);
        return format!("copy_range {offset} {head}\n{rest}");
    }
    let (part, block) = lane.block(at);
    let (last_offset, _) = lane.place(lane.len() - 1);
    let last = last_offset / PART_BYTES;
    let first_of_last = if last == part { block } else { 0 };
    let rest =
        lane.size.min((last + 1) * PART_BYTES) - (last * PART_BLOCKS + first_of_last) * BLOCK_BYTES;
    format!("copy_parts {part} {block} {} {last} {rest}\n", lane.count)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_commands_of_all_lanes_give_the_file_from_wherever_they_begin() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let size = 19 * BLOCK_BYTES + 4711;
        let bytes: Vec<u8> = (0..size).map(|n| (n / 1000 % 251) as u8).collect();
        // It has grown since.
        std::fs::write(&path, [&bytes[..], b"more"].concat()).unwrap();
        for count in [1, 2, 3] {
            for index in 0..count {
                let lane = Lane { index, count, size };
                for at in [
                    0,
                    3,
                    BLOCK_BYTES,
                    9 * BLOCK_BYTES + 1,
                    lane.len() - 1,
                    lane.len(),
                ] {
                    let at = at.min(lane.len());
                    let mut expected = Vec::new();
                    let mut position = at;
                    while position < lane.len() {
                        let (offset, room) = lane.place(position);
                        let len = room.min(lane.len() - position);
                        let range = usize::try_from(offset).unwrap()
                            ..usize::try_from(offset + len).unwrap();
                        expected.extend_from_slice(&bytes[range]);
                        position += len;
                    }
                    let script = format!(
                        "file={}\n{}{}",
                        path.display(),
                        compact(FETCH),
                        copying_script(lane, at, lane.len() - at)
                    );
                    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
                    assert!(output.stdout == expected, "{script}");
                }
            }
        }
    }
}
