//! Many small files for a server: as archives, unpacked into a private folder, verified, and moved
//! into place folder by folder.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use ops_ui::{Error, Result};
use tokio::sync::mpsc;

use super::{
    ShellTransport,
    dialogue::Dialogue,
    fetch_archive::{SMALL_BYTES, common_folder},
    frames::{choose_codec, compress_frame, stored_mode, usable_dialogue},
    refusal::store_error,
};
use crate::{
    hashes,
    hashes::{Digest, hex},
    landing,
    place::local_path,
    reading::Reading,
    remote_path::RemotePath,
    transport::{Job, Source, Store, StoreKind},
};

/// Most that one archive holds, in bytes of files.
const ARCHIVE_BYTES: u64 = 8 << 20;
/// Most that one archive holds.
const ARCHIVE_FILES: usize = 4000;
/// Fewer are sent one by one.
const WORTH_FILES: usize = 4;
/// A frame of the archive, in bytes.
const FRAME_BYTES: usize = 512 << 10;

/// Puts small files together.
pub(super) struct StoreCollector {
    works: bool,
    items: Vec<Store>,
    bytes: u64,
}

impl StoreCollector {
    pub(super) fn new(session: &ShellTransport) -> Self {
        Self {
            works: session.tools.has("tar")
                && session.tools.has("handles")
                && session.tools.hash_command().is_some(),
            items: Vec::new(),
            bytes: 0,
        }
    }

    /// Takes a file if it is a small one, and gives the archive that is full by then; gives the
    /// file back otherwise.
    pub(super) fn take_if_small(&mut self, item: Store) -> Result<Option<Vec<Store>>, Store> {
        let size = match &item.what {
            StoreKind::File(Source::File { size, .. }) => Some(*size),
            StoreKind::File(Source::Stream { size, .. }) => *size,
            StoreKind::Folder | StoreKind::Link(_) => None,
        };
        // Programs that print hashes and names write some names in another way.
        let plain = !item.path.whole().iter().any(|b| b"\n\\".contains(b));
        // An archive is unpacked below one folder that was named; what is named itself may be a
        // link, which is followed.
        let root = self.items.first().map(|first| first.path.root());
        let below = !item.path.is_named() && root.is_none_or(|root| root == item.path.root());
        let fits = |&size: &u64| self.works && plain && below && size <= SMALL_BYTES;
        let Some(size) = size.filter(fits) else {
            return Err(item);
        };
        let full = (self.bytes + size > ARCHIVE_BYTES || self.items.len() >= ARCHIVE_FILES)
            .then(|| self.take_rest())
            .flatten();
        self.bytes += size;
        self.items.push(item);
        Ok(full)
    }

    /// What is left.
    pub(super) fn take_rest(&mut self) -> Option<Vec<Store>> {
        self.bytes = 0;
        let items = std::mem::take(&mut self.items);
        (!items.is_empty()).then_some(items)
    }
}

/// Another way for an archive than through the session: something that holds it for the server to
/// fetch.
pub(crate) trait ArchiveCarrier: Send {
    /// Appends to it.
    fn put_bytes(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<()>>;

    /// Puts it where the server can fetch it; gives the address and the SHA-256 of what is there.
    fn send_object(&mut self) -> BoxFuture<'_, Result<(String, Digest)>>;
}

/// A file that has been read.
struct ArchivedItem {
    item: Store,
    /// Kept where it cannot be read again.
    content: Option<Bytes>,
    size: u64,
}

/// Sends `items` as one archive, through the session or by a `carrier`; gives back those that are
/// to be sent one by one.
pub(super) async fn send_archive(
    session: &ShellTransport,
    dialogue: &mut Option<Dialogue>,
    items: Vec<Store>,
    carrier: Option<&mut (dyn ArchiveCarrier + '_)>,
    job: &Job,
) -> Vec<Store> {
    if items.len() < WORTH_FILES {
        return items;
    }
    let mut files = Vec::new();
    match Box::pin(unpack_archive(
        session, dialogue, items, &mut files, carrier, job,
    ))
    .await
    {
        Ok(left) => left,
        Err((error, mut left)) => {
            session.host.cx.output().detail(format!(
                "an archive was not taken, its files are sent one by one: {error}"
            ));
            let mut again: Vec<Store> = files
                .into_iter()
                .map(|file| {
                    job.report.take_back(file.item.id, file.size);
                    unread_item(file)
                })
                .collect();
            again.append(&mut left);
            again
        }
    }
}

/// The file as it was before it was read.
fn unread_item(file: ArchivedItem) -> Store {
    let ArchivedItem {
        mut item, content, ..
    } = file;
    if let Some(content) = content {
        let size = Some(content.len() as u64);
        let (sender, bytes) = mpsc::channel(1);
        // There is room for one.
        let _ = sender.try_send(Ok(content));
        item.what = StoreKind::File(Source::Stream { bytes, size });
    }
    item
}

type Refused = (Error, Vec<Store>);

/// Gives what is to be sent one by one although the archive arrived; `files` is what is in it.
async fn unpack_archive(
    session: &ShellTransport,
    dialogue: &mut Option<Dialogue>,
    items: Vec<Store>,
    files: &mut Vec<ArchivedItem>,
    mut carrier: Option<&mut (dyn ArchiveCarrier + '_)>,
    job: &Job,
) -> Result<Vec<Store>, Refused> {
    let Some(root) = items.first().map(|first| first.path.root().to_vec()) else {
        return Ok(items);
    };
    // Beside the files, so that they can be renamed into place; the folders up to it are among
    // those that were made.
    let common = common_folder(items.iter().map(|item| item.path.below()));
    let token = format!(".ops-{}", landing::random_token());
    let stage = RemotePath::new(&root, &common).join(token.as_bytes());
    let direct = carrier.is_none();
    let begun = async {
        let dialogue = usable_dialogue(session, dialogue).await?;
        dialogue.make_stage(&stage).await?;
        if direct {
            dialogue.begin_unpacking(job.preserve).await?;
        }
        Ok(dialogue)
    };
    let dialogue = match begun.await {
        Ok(dialogue) => dialogue,
        Err(error) => return Err((error, items)),
    };
    let mut items = items.into_iter();
    let mut archive = ArchiveWriter::new();
    let mut hashes = Vec::new();
    let mut codec = None;
    while let Some(item) = items.next() {
        let id = item.id;
        let (file, human_bytes) = match read_item(item, job).await {
            Ok(read_item) => read_item,
            Err(error) => {
                job.report.mark_failed(id, error);
                continue;
            }
        };
        hashes.push(sha256(&human_bytes));
        let below = path_within(&common, file.item.path.below()).to_vec();
        let added = archive.add(
            &below,
            &human_bytes,
            stored_mode(session, &file.item, job),
            file.item.mtime,
        );
        files.push(file);
        let sent = match added {
            Ok(()) if archive.bytes.len() >= FRAME_BYTES => {
                let frame = archive.take();
                let codec = *codec.get_or_insert_with(|| choose_codec(session, job, &frame));
                send_part(dialogue, &mut carrier, codec, frame).await
            }
            other => other,
        };
        if let Err(error) = sent {
            dialogue.give_up();
            return Err((error, items.collect()));
        }
    }
    let done = async {
        let frame = archive.end();
        let codec = *codec.get_or_insert_with(|| choose_codec(session, job, &frame));
        send_part(dialogue, &mut carrier, codec, frame).await?;
        match carrier {
            None => dialogue.end_unpacking().await?,
            Some(carrier) => {
                let (url, digest) = carrier.send_object().await?;
                dialogue
                    .unpack_from(&url, codec, digest, job.preserve)
                    .await?;
            }
        }
        hashes.sort_unstable();
        let mut text = digest::Context::new(&digest::SHA256);
        for hash in &hashes {
            text.update(hex(hash).as_bytes());
            text.update(b"\n");
        }
        if dialogue.hash_unpacked().await? != Some(hashes::finish_hash(text)) {
            dialogue.clear_stage().await?;
            return Err(Error::unexpected("what arrived is not what was sent"));
        }
        spread_files(dialogue, &root, &common, files, job).await
    };
    match done.await {
        Ok(left) => Ok(left),
        Err(error) => {
            if dialogue.is_usable() {
                // What cannot be asked for now is done at the dialogue's end.
                let _ = dialogue.clear_stage().await;
            }
            Err((error, Vec::new()))
        }
    }
}

async fn send_part(
    dialogue: &mut Dialogue,
    carrier: &mut Option<&mut (dyn ArchiveCarrier + '_)>,
    codec: &str,
    frame: Bytes,
) -> Result<()> {
    let bytes = compress_frame(codec, frame)?;
    match carrier {
        None => dialogue.send_archive_part(codec, bytes).await,
        Some(carrier) => carrier.put_bytes(bytes).await,
    }
}

/// Moves what was unpacked into place; gives what could not be.
async fn spread_files(
    dialogue: &mut Dialogue,
    root: &[u8],
    common: &[u8],
    files: &mut Vec<ArchivedItem>,
    job: &Job,
) -> Result<Vec<Store>> {
    let mut folders: BTreeMap<Vec<u8>, Vec<ArchivedItem>> = BTreeMap::new();
    for file in files.drain(..) {
        let below = file.item.path.below();
        let end = below.iter().rposition(|&b| b == b'/').unwrap_or(0);
        let folder = below[..end].to_vec();
        folders.entry(folder).or_default().push(file);
    }
    for folder in folders.keys() {
        let sub = path_within(common, folder);
        let folder = RemotePath::new(root, folder);
        dialogue.spread_files(sub, &folder, job.preserve).await?;
    }
    let mut left = Vec::new();
    for (_, files) in folders {
        match dialogue.next_answer().await {
            Ok(_) => files
                .iter()
                .for_each(|file| job.report.mark_done(file.item.id)),
            Err(error) if dialogue.is_usable() => {
                // One by one each gets its own answer.
                drop(error);
                left.extend(files.into_iter().map(|file| {
                    job.report.take_back(file.item.id, file.size);
                    unread_item(file)
                }));
            }
            Err(error) => {
                for file in files {
                    let error = store_error(error.clone(), dialogue.label(), &file.item.path);
                    job.report.mark_failed(file.item.id, error);
                }
            }
        }
    }
    if dialogue.is_usable() {
        dialogue.clear_stage().await?;
    }
    Ok(left)
}

/// `path` below `common`, which is a folder above it or that itself.
fn path_within<'a>(common: &[u8], path: &'a [u8]) -> &'a [u8] {
    let below = path.strip_prefix(common).unwrap_or(path);
    below.strip_prefix(b"/").unwrap_or(below)
}

async fn read_item(mut item: Store, job: &Job) -> Result<(ArchivedItem, Bytes)> {
    let StoreKind::File(source) = std::mem::replace(&mut item.what, StoreKind::Folder) else {
        return Err(Error::unexpected("no file"));
    };
    let again = match &source {
        Source::File { file, size } => Some(Source::File {
            file: file.clone(),
            size: *size,
        }),
        Source::Stream { .. } => None,
    };
    let bytes = match Reading::open(source, item.id, job)? {
        Reading::File(file) => {
            let len = usize::try_from(file.size()).unwrap_or(usize::MAX);
            if file.size() > 4 * SMALL_BYTES {
                return Err(Error::unexpected("it has grown while others were read"));
            }
            let bytes = file.read_at(0, len).await?;
            file.check_unchanged(&sha256(&bytes))?;
            bytes
        }
        Reading::Stream(mut stream) => {
            let most = usize::try_from(4 * SMALL_BYTES).unwrap_or(usize::MAX);
            stream.next(most).await?
        }
    };
    let content = again.is_none().then(|| bytes.clone());
    if let Some(source) = again {
        item.what = StoreKind::File(source);
    }
    let size = bytes.len() as u64;
    Ok((
        ArchivedItem {
            item,
            content,
            size,
        },
        bytes,
    ))
}

fn sha256(bytes: &[u8]) -> Digest {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(bytes);
    hashes::finish_hash(hash)
}

/// A tar archive as it grows.
pub(super) struct ArchiveWriter {
    bytes: Vec<u8>,
}

impl ArchiveWriter {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    pub(super) fn add(&mut self, path: &[u8], content: &[u8], mode: u32, mtime: i64) -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        header.set_mtime(u64::try_from(mtime).unwrap_or(0));
        let mut builder = tar::Builder::new(std::mem::take(&mut self.bytes));
        let added = builder.append_data(&mut header, local_path(path), content);
        // Without the end of the archive, which `into_inner` would write.
        self.bytes = std::mem::take(builder.get_mut());
        added.map_err(Error::from)
    }

    fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.bytes).into()
    }

    pub(super) fn end(mut self) -> Bytes {
        // Two empty blocks.
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes.into()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn an_archive_in_parts_is_one_archive() {
        let mut archive = ArchiveWriter::new();
        let long = [&b"d/"[..], &[b'x'; 200], b"/\xff"].concat();
        archive.add(b"a", b"1", 0o600, 5).unwrap();
        let mut bytes = archive.take().to_vec();
        archive.add(&long, b"22", 0o755, -1).unwrap();
        bytes.extend_from_slice(&archive.end());
        let mut archive = tar::Archive::new(&bytes[..]);
        let read: Vec<(Vec<u8>, String)> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let mut text = String::new();
                entry.read_to_string(&mut text).unwrap();
                (entry.path_bytes().into_owned(), text)
            })
            .collect();
        assert_eq!(
            read,
            [(b"a".to_vec(), "1".to_owned()), (long, "22".to_owned())]
        );
    }
}
