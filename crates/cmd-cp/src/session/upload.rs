//! Storing: folders, then files, small ones in archives, then links and what is set when all is in.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::digest;
use bytes::Bytes;
use futures_util::future::join_all;
use ops_ui::Result;

use super::{
    ShellTransport,
    dialogue::{BeginAnswer, Dialogue, FileEnd, MADE, touch_stamp},
    frames::{
        PAUSE, TRIES, choose_codec, compress_frame, read_frame, send_announced, stored_mode,
        usable_dialogue,
    },
    probe, store_archive,
    store_lanes::{self, LanedStore},
};
use crate::{
    hashes,
    item::FileId,
    landing,
    reading::Reading,
    remote_path::RemotePath,
    transport::{Job, OWNER, Source, Store, StoreKind},
};

/// A frame before compression, in bytes: half of what a pipe takes at once, for the sake of memory.
const FRAME_BYTES: usize = ops_remote::pipe::FRAME_BYTES / 2;
/// A frame that is not compressed is never in memory as a whole, and may be longer, in bytes: each
/// costs the server a process.
const LONG_FRAME_BYTES: u64 = 16 << 20;
/// More dialogues than one are worth it for each so many bytes.
const WORKER_BYTES: u64 = 16 << 20;
/// Commands that may wait for their answers.
const PIPELINED: usize = 64;

/// Something for one dialogue.
enum Task {
    File(Box<Store>),
    /// One of the lanes of a large file.
    Lane(Arc<LanedStore>),
    Archive(Vec<Store>),
}

/// What a folder gets when all that belongs into it is there.
pub(crate) struct LastAttributes {
    id: FileId,
    path: RemotePath,
    mode: u32,
    /// For `touch -t`; none where the time stays as it is.
    stamp: Option<String>,
}

/// What is left when items have been stored.
pub(super) struct Uploaded {
    /// One that is still of use. There is one wherever there are `last` attributes.
    pub(super) dialogue: Option<Dialogue>,
    /// Of the deepest folder first: a folder's time changes with what is made in it.
    pub(super) last: Vec<LastAttributes>,
}

/// Stores `items`; every one of them is reported but the folders that get [`LastAttributes`], which
/// is for the caller: he may put more into them first.
///
/// # Errors
/// Nothing can be stored at all.
pub(super) async fn upload_items(
    session: &ShellTransport,
    items: Vec<Store>,
    job: &Job,
) -> Result<Uploaded> {
    probe::needed_to_send(&session.tools, session.host.instance.label())?;
    let (mut folders, mut links, mut files) = (Vec::new(), Vec::new(), Vec::new());
    for item in items {
        match item.what {
            StoreKind::Folder => folders.push(item),
            StoreKind::Link(_) => links.push(item),
            StoreKind::File(_) => files.push(item),
        }
    }
    let mut dialogue = session.take_dialogue().await?;
    let new = make_folders(session, &mut dialogue, &folders, job).await?;
    let mut first = Some(dialogue);

    let total: u64 = files.iter().map(size_of).sum();
    let tasks = plan_tasks(session, files, job);
    let workers = usize::try_from(total / WORKER_BYTES)
        .unwrap_or(1)
        .min(job.sessions)
        .min(tasks.len())
        .max(1);
    let queue = Mutex::new(VecDeque::from(tasks));
    let mut idle = join_all((0..workers).map(|index| {
        let dialogue = if index == 0 { first.take() } else { None };
        Box::pin(do_tasks(session, &queue, dialogue, job))
    }))
    .await
    .into_iter()
    .flatten();

    let mut dialogue = match idle.next() {
        Some(dialogue) => dialogue,
        None if links.is_empty() && folders.is_empty() => {
            return Ok(Uploaded {
                dialogue: None,
                last: Vec::new(),
            });
        }
        None => session.take_dialogue().await?,
    };
    for item in links {
        let StoreKind::Link(target) = &item.what else {
            continue;
        };
        let temporary = landing::temporary_name(item.path.name_or(b"link"), false);
        match dialogue.make_link(&item.path, &temporary, target).await {
            Ok(()) => job.report.mark_done(item.id),
            Err(error) if dialogue.is_usable() => {
                job.report
                    .mark_failed(item.id, session.store_error(error, &item.path));
            }
            Err(error) => return Err(error),
        }
    }
    let mut last = Vec::new();
    for (item, is_new) in folders.iter().zip(&new).rev() {
        match last_attributes(session, item, *is_new, job) {
            Some(attributes) => last.push(attributes),
            None => job.report.mark_done(item.id),
        }
    }
    for dialogue in idle {
        dialogue.quit_dialogue().await?;
    }
    Ok(Uploaded {
        dialogue: Some(dialogue),
        last,
    })
}

/// Sets what folders get when all is in, in the order given; each folder is reported.
///
/// # Errors
/// The session.
pub(super) async fn set_last_attributes(
    dialogue: &mut Dialogue,
    last: &[LastAttributes],
    job: &Job,
) -> Result<()> {
    for folder in last {
        let done = dialogue.set_attributes(&folder.path, folder.mode, folder.stamp.as_deref());
        match done.await {
            Ok(()) => job.report.mark_done(folder.id),
            Err(error) if dialogue.is_usable() => job.report.mark_failed(folder.id, error),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Makes those that are missing: for each, whether it was.
async fn make_folders(
    session: &ShellTransport,
    dialogue: &mut Dialogue,
    folders: &[Store],
    job: &Job,
) -> Result<Vec<bool>> {
    let mut new = Vec::with_capacity(folders.len());
    for group in folders.chunks(PIPELINED) {
        for item in group {
            // Until all is in, its owner must be able to write there.
            let mode = masked_mode(session, item) | OWNER;
            dialogue.folder_later(&item.path, mode).await?;
        }
        for item in group {
            match dialogue.next_answer().await {
                Ok(answer) => new.push(answer == MADE),
                Err(error) if dialogue.is_usable() => {
                    new.push(false);
                    job.report
                        .mark_failed(item.id, session.store_error(error, &item.path));
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(new)
}

/// What a folder gets when all is in: with `-p` mode and time of the source, else its mode if the
/// owner's part of it had to be widened.
fn last_attributes(
    session: &ShellTransport,
    item: &Store,
    is_new: bool,
    job: &Job,
) -> Option<LastAttributes> {
    let mode = masked_mode(session, item);
    let (mode, stamp) = if job.preserve {
        (item.mode & 0o7777, Some(touch_stamp(item.mtime)))
    } else if is_new && mode & OWNER != OWNER {
        (mode, None)
    } else {
        return None;
    };
    Some(LastAttributes {
        id: item.id,
        path: item.path.clone(),
        mode,
        stamp,
    })
}

/// The source's permissions without what the far side's umask takes away.
fn masked_mode(session: &ShellTransport, item: &Store) -> u32 {
    item.mode & 0o777 & !session.tools.umask
}

fn size_of(item: &Store) -> u64 {
    match &item.what {
        StoreKind::File(Source::File { size, .. }) => *size,
        StoreKind::File(Source::Stream { size, .. }) => size.unwrap_or(0),
        StoreKind::Folder | StoreKind::Link(_) => 0,
    }
}

fn plan_tasks(session: &ShellTransport, files: Vec<Store>, job: &Job) -> Vec<Task> {
    let mut tasks = Vec::new();
    let mut small = store_archive::StoreCollector::new(session);
    for item in files {
        match small.take_if_small(item) {
            Ok(full) => tasks.extend(full.map(Task::Archive)),
            Err(item) => {
                // In the order given, where it matters: what is streamed from elsewhere comes so.
                if matches!(item.what, StoreKind::File(Source::Stream { .. })) {
                    tasks.extend(small.take_rest().map(Task::Archive));
                }
                let lanes = store_lanes::lane_count(session, &item, job.sessions);
                if lanes == 1 {
                    tasks.push(Task::File(Box::new(item)));
                    continue;
                }
                match LanedStore::new(item, lanes) {
                    Ok(split) => tasks.extend((0..lanes).map(|_| Task::Lane(Arc::clone(&split)))),
                    Err(item) => tasks.push(Task::File(item)),
                }
            }
        }
    }
    tasks.extend(small.take_rest().map(Task::Archive));
    tasks
}

/// Takes tasks until there are none; gives back a dialogue that can still be used.
async fn do_tasks(
    session: &ShellTransport,
    queue: &Mutex<VecDeque<Task>>,
    mut dialogue: Option<Dialogue>,
    job: &Job,
) -> Option<Dialogue> {
    loop {
        let task = queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front();
        match task {
            None => return dialogue.filter(Dialogue::is_usable),
            Some(Task::File(item)) => store_with_retries(session, &mut dialogue, *item, job).await,
            Some(Task::Lane(split)) => {
                Box::pin(store_lanes::carry_lane(session, &mut dialogue, split, job)).await;
            }
            Some(Task::Archive(items)) => {
                for item in
                    store_archive::send_archive(session, &mut dialogue, items, None, job).await
                {
                    store_with_retries(session, &mut dialogue, item, job).await;
                }
            }
        }
    }
}

/// Stores one file, again where a session was lost under it, and reports it.
async fn store_with_retries(
    session: &ShellTransport,
    dialogue: &mut Option<Dialogue>,
    mut item: Store,
    job: &Job,
) {
    let mut tries = 0;
    loop {
        tries += 1;
        let StoreKind::File(source) = std::mem::replace(&mut item.what, StoreKind::Folder) else {
            return;
        };
        let again = match &source {
            Source::File { file, size } => Some(Source::File {
                file: file.clone(),
                size: *size,
            }),
            Source::Stream { .. } => None,
        };
        let mut sent = 0;
        let done = match usable_dialogue(session, dialogue).await {
            Ok(dialogue) => {
                let done = store_file(session, dialogue, &item, source, &mut sent, job).await;
                done.map_err(|error| (error, dialogue.is_lost()))
            }
            Err(error) => Err((error, true)),
        };
        match (done, again) {
            (Ok(()), _) => return job.report.mark_done(item.id),
            // Words of the server are the same the next time; a session that was lost is another
            // one then.
            (Err((error, true)), Some(source)) if tries < TRIES => {
                session
                    .host
                    .cx
                    .output()
                    .detail(format!("sending it again: {error}"));
                job.report.take_back(item.id, sent);
                item.what = StoreKind::File(source);
                tokio::time::sleep(PAUSE).await;
            }
            (Err((error, _)), _) => {
                let error = session.store_error(error, &item.path);
                return job.report.mark_failed(item.id, error);
            }
        }
    }
}

async fn store_file(
    session: &ShellTransport,
    dialogue: &mut Dialogue,
    item: &Store,
    source: Source,
    sent: &mut u64,
    job: &Job,
) -> Result<()> {
    let mut reading = Reading::open(source, item.id, job)?;
    let last = item.path.name_or(b"file");
    // Only what can be read again can be gone on with.
    let kept = job.resume && matches!(reading, Reading::File(_));
    let temporary = landing::temporary_name(last, kept);
    let begun = dialogue
        .begin_file(&item.path, &temporary, kept, true)
        .await?;
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut at = 0;
    if let (BeginAnswer::Part(len, there), Reading::File(file)) = (begun, &reading) {
        let same = len > 0
            && len <= file.size()
            && there.is_some()
            && file.hash_prefix(len, &mut hash)? == there;
        if same {
            at = len;
            job.report.add_bytes(item.id, len);
            session
                .host
                .cx
                .output()
                .detail(format!("going on from byte {len}"));
        } else {
            hash = digest::Context::new(&digest::SHA256);
            dialogue.empty_file().await?;
        }
    }
    *sent = at;
    let mut codec = None;
    loop {
        if let (Some("-"), Reading::File(file)) = (codec, &reading) {
            let end = file.size().min(at + LONG_FRAME_BYTES);
            if at == end {
                break;
            }
            dialogue.announce_frame(end - at).await?;
            let announced = send_announced(dialogue, file, (at, end), |piece| {
                hash.update(piece);
                *sent += piece.len() as u64;
            });
            announced.await?;
            at = end;
            continue;
        }
        let frame = match next_frame(&mut reading, at).await {
            Ok(frame) => frame,
            Err(error) => {
                dialogue.leave_file().await?;
                return Err(error);
            }
        };
        if frame.is_empty() {
            break;
        }
        hash.update(&frame);
        at += frame.len() as u64;
        *sent = at;
        let codec = *codec.get_or_insert_with(|| choose_codec(session, job, &frame));
        dialogue
            .write_frame(codec, compress_frame(codec, frame)?)
            .await?;
    }
    let digest = hashes::finish_hash(hash);
    if let Reading::File(file) = &reading
        && let Err(error) = file.check_unchanged(&digest)
    {
        dialogue.leave_file().await?;
        return Err(error);
    }
    let digest = session.tools.hash_command().map(|_| digest);
    dialogue
        .end_file(&FileEnd {
            digest,
            size: at,
            mode: stored_mode(session, item, job),
            exact: job.preserve,
            stamp: job.preserve.then(|| touch_stamp(item.mtime)),
        })
        .await
}

/// The next frame, empty at the end.
async fn next_frame(reading: &mut Reading, at: u64) -> Result<Bytes> {
    match reading {
        Reading::Stream(stream) => stream.next(FRAME_BYTES).await,
        Reading::File(file) => read_frame(file, at, FRAME_BYTES).await,
    }
}
