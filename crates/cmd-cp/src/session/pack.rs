//! Many small files for a server: as archives, unpacked into a private folder, verified, and moved
//! into place folder by folder.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use ops_ui::{Error, Result};
use tokio::sync::mpsc;

use super::{
    Session,
    bundle::{SMALL_BYTES, common},
    dialogue::Dialogue,
    frames::{choose_codec, compress_frame, stored_mode, usable_dialogue},
};
use crate::{
    hashes,
    hashes::{Digest, hex},
    landing,
    place::local,
    reading::Reading,
    remote_path::RemotePath,
    transport::{Job, Source, Store, What},
};

/// Most that one archive holds, in bytes of files.
const PACK_BYTES: u64 = 8 << 20;
/// Most that one archive holds.
const PACK_FILES: usize = 4000;
/// Fewer are sent one by one.
const WORTH_FILES: usize = 4;
/// A frame of the archive, in bytes.
const FRAME_BYTES: usize = 512 << 10;

/// Puts small files together.
pub(super) struct Collector {
    works: bool,
    items: Vec<Store>,
    bytes: u64,
}

impl Collector {
    pub(super) fn new(session: &Session) -> Self {
        Self {
            works: session.tools.has("tar")
                && session.tools.has("handles")
                && session.tools.hash().is_some(),
            items: Vec::new(),
            bytes: 0,
        }
    }

    /// Takes a file if it is a small one, and gives the pack that is full by then; gives the file
    /// back otherwise.
    pub(super) fn take(&mut self, item: Store) -> Result<Option<Vec<Store>>, Store> {
        let size = match &item.what {
            What::File(Source::File { size, .. }) => Some(*size),
            What::File(Source::Stream { size, .. }) => *size,
            What::Folder | What::Link(_) => None,
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
        let full = (self.bytes + size > PACK_BYTES || self.items.len() >= PACK_FILES)
            .then(|| self.rest())
            .flatten();
        self.bytes += size;
        self.items.push(item);
        Ok(full)
    }

    /// What is left.
    pub(super) fn rest(&mut self) -> Option<Vec<Store>> {
        self.bytes = 0;
        let items = std::mem::take(&mut self.items);
        (!items.is_empty()).then_some(items)
    }
}

/// Another way for an archive than through the session: something that holds it for the server to
/// fetch.
pub(crate) trait Parcel: Send {
    /// Appends to it.
    fn put(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<()>>;

    /// Puts it where the server can fetch it; gives the address and the SHA-256 of what is there.
    fn send(&mut self) -> BoxFuture<'_, Result<(String, Digest)>>;
}

/// A file that has been read.
struct Packed {
    item: Store,
    /// Kept where it cannot be read again.
    content: Option<Bytes>,
    size: u64,
}

/// Sends `items` as one archive, through the session or as a `parcel`; gives back those that are to
/// be sent one by one.
pub(super) async fn send(
    session: &Session,
    dialogue: &mut Option<Dialogue>,
    items: Vec<Store>,
    parcel: Option<&mut (dyn Parcel + '_)>,
    job: &Job,
) -> Vec<Store> {
    if items.len() < WORTH_FILES {
        return items;
    }
    let mut files = Vec::new();
    match Box::pin(unpack(session, dialogue, items, &mut files, parcel, job)).await {
        Ok(left) => left,
        Err((error, mut left)) => {
            session.far.cx.output().detail(format!(
                "an archive was not taken, its files are sent one by one: {error}"
            ));
            let mut again: Vec<Store> = files
                .into_iter()
                .map(|file| {
                    job.report.back(file.item.id, file.size);
                    restored(file)
                })
                .collect();
            again.append(&mut left);
            again
        }
    }
}

/// The file as it was before it was read.
fn restored(file: Packed) -> Store {
    let Packed {
        mut item, content, ..
    } = file;
    if let Some(content) = content {
        let size = Some(content.len() as u64);
        let (sender, bytes) = mpsc::channel(1);
        // There is room for one.
        let _ = sender.try_send(Ok(content));
        item.what = What::File(Source::Stream { bytes, size });
    }
    item
}

type Refused = (Error, Vec<Store>);

/// Gives what is to be sent one by one although the archive arrived; `files` is what is in it.
async fn unpack(
    session: &Session,
    dialogue: &mut Option<Dialogue>,
    items: Vec<Store>,
    files: &mut Vec<Packed>,
    mut parcel: Option<&mut (dyn Parcel + '_)>,
    job: &Job,
) -> Result<Vec<Store>, Refused> {
    let Some(root) = items.first().map(|first| first.path.root().to_vec()) else {
        return Ok(items);
    };
    // Beside the files, so that they can be renamed into place; the folders up to it are among
    // those that were made.
    let common = common(items.iter().map(|item| item.path.below()));
    let token = format!(".ops-{}", landing::token());
    let stage = RemotePath::new(&root, &common).join(token.as_bytes());
    let direct = parcel.is_none();
    let begun = async {
        let dialogue = usable_dialogue(session, dialogue).await?;
        dialogue.stage(&stage).await?;
        if direct {
            dialogue.unpack(job.preserve).await?;
        }
        Ok(dialogue)
    };
    let dialogue = match begun.await {
        Ok(dialogue) => dialogue,
        Err(error) => return Err((error, items)),
    };
    let mut items = items.into_iter();
    let mut archive = Archive::new();
    let mut hashes = Vec::new();
    let mut codec = None;
    while let Some(item) = items.next() {
        let id = item.id;
        let (file, bytes) = match read(item, job).await {
            Ok(read) => read,
            Err(error) => {
                job.report.fail(id, error);
                continue;
            }
        };
        hashes.push(sha256(&bytes));
        let below = within(&common, file.item.path.below()).to_vec();
        let added = archive.add(
            &below,
            &bytes,
            stored_mode(session, &file.item, job),
            file.item.mtime,
        );
        files.push(file);
        let sent = match added {
            Ok(()) if archive.bytes.len() >= FRAME_BYTES => {
                let frame = archive.take();
                let codec = *codec.get_or_insert_with(|| choose_codec(session, job, &frame));
                send_part(dialogue, &mut parcel, codec, frame).await
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
        send_part(dialogue, &mut parcel, codec, frame).await?;
        match parcel {
            None => dialogue.unpacked().await?,
            Some(parcel) => {
                let (url, digest) = parcel.send().await?;
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
        if dialogue.sum().await? != Some(hashes::finish(text)) {
            dialogue.clear().await?;
            return Err(Error::unexpected("what arrived is not what was sent"));
        }
        spread(dialogue, &root, &common, files, job).await
    };
    match done.await {
        Ok(left) => Ok(left),
        Err(error) => {
            if dialogue.is_usable() {
                // What cannot be asked for now is done at the dialogue's end.
                let _ = dialogue.clear().await;
            }
            Err((error, Vec::new()))
        }
    }
}

async fn send_part(
    dialogue: &mut Dialogue,
    parcel: &mut Option<&mut (dyn Parcel + '_)>,
    codec: &str,
    frame: Bytes,
) -> Result<()> {
    let bytes = compress_frame(codec, frame)?;
    match parcel {
        None => dialogue.part(codec, bytes).await,
        Some(parcel) => parcel.put(bytes).await,
    }
}

/// Moves what was unpacked into place; gives what could not be.
async fn spread(
    dialogue: &mut Dialogue,
    root: &[u8],
    common: &[u8],
    files: &mut Vec<Packed>,
    job: &Job,
) -> Result<Vec<Store>> {
    let mut folders: BTreeMap<Vec<u8>, Vec<Packed>> = BTreeMap::new();
    for file in files.drain(..) {
        let below = file.item.path.below();
        let end = below.iter().rposition(|&b| b == b'/').unwrap_or(0);
        let folder = below[..end].to_vec();
        folders.entry(folder).or_default().push(file);
    }
    for folder in folders.keys() {
        let sub = within(common, folder);
        let folder = RemotePath::new(root, folder);
        dialogue.spread(sub, &folder, job.preserve).await?;
    }
    let mut left = Vec::new();
    for (_, files) in folders {
        match dialogue.answer().await {
            Ok(_) => files.iter().for_each(|file| job.report.done(file.item.id)),
            Err(error) if dialogue.is_usable() => {
                // One by one each gets its own answer.
                drop(error);
                left.extend(files.into_iter().map(|file| {
                    job.report.back(file.item.id, file.size);
                    restored(file)
                }));
            }
            Err(error) => {
                for file in files {
                    job.report.fail(file.item.id, error.clone());
                }
            }
        }
    }
    if dialogue.is_usable() {
        dialogue.clear().await?;
    }
    Ok(left)
}

/// `path` below `common`, which is a folder above it or that itself.
fn within<'a>(common: &[u8], path: &'a [u8]) -> &'a [u8] {
    let below = path.strip_prefix(common).unwrap_or(path);
    below.strip_prefix(b"/").unwrap_or(below)
}

async fn read(mut item: Store, job: &Job) -> Result<(Packed, Bytes)> {
    let What::File(source) = std::mem::replace(&mut item.what, What::Folder) else {
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
            file.unchanged(&sha256(&bytes))?;
            bytes
        }
        Reading::Stream(mut stream) => {
            let most = usize::try_from(4 * SMALL_BYTES).unwrap_or(usize::MAX);
            stream.next(most).await?
        }
    };
    let content = again.is_none().then(|| bytes.clone());
    if let Some(source) = again {
        item.what = What::File(source);
    }
    let size = bytes.len() as u64;
    Ok((
        Packed {
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
    hashes::finish(hash)
}

/// A tar archive as it grows.
pub(super) struct Archive {
    bytes: Vec<u8>,
}

impl Archive {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    pub(super) fn add(&mut self, path: &[u8], content: &[u8], mode: u32, mtime: i64) -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        header.set_mtime(u64::try_from(mtime).unwrap_or(0));
        let mut builder = tar::Builder::new(std::mem::take(&mut self.bytes));
        let added = builder.append_data(&mut header, local(path), content);
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
        let mut archive = Archive::new();
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
