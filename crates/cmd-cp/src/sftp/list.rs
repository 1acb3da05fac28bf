//! What a server has.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use ops_ui::{Result, output::escape};

use super::{
    SftpTransport,
    channel::{Answered, Channel, Failure},
    glob,
    pool::SftpSession,
    wire::{Attributes, Name, code},
};
use crate::{
    budget::{ListBudget, too_long},
    item::{Entry, Found, Kind, ListRequest, Listing},
    place::join_paths,
};

/// Folders that are read at the same time.
const FOLDERS: usize = 16;
/// Links that are looked at at the same time.
const LINKS: usize = 32;
/// Deepest tree: more than a path can name. A server's tree need not end by itself.
const DEPTH_MAX: usize = 2048;
/// Why a list is given up as a whole.
const TOO_LONG: &str = "the list is too long";
/// Files that are hashed by one command.
const HASHED: usize = 500;

const TYPE: u32 = 0o170_000;
const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// Whether this is a folder.
pub(super) fn is_folder(attributes: &Attributes) -> bool {
    attributes.mode.is_some_and(|mode| mode & TYPE == FOLDER)
}

/// Whether this is a regular file, or a server does not tell.
pub(super) fn is_file(attributes: &Attributes) -> bool {
    attributes.mode.is_none_or(|mode| mode & TYPE == FILE)
}

/// Whether this is a link.
pub(super) fn is_link(attributes: &Attributes) -> bool {
    attributes.mode.is_some_and(|mode| mode & TYPE == LINK)
}

/// Whether this can be the name of something in a folder.
fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && !name.iter().any(|byte| b"/\0".contains(byte))
}

/// Whether `path` is `folder`, or in it.
fn is_within(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.is_empty() || rest[0] == b'/' || folder == b"/")
}

/// Looks at all places of `ask`.
///
/// # Errors
/// The connection is lost.
pub(super) async fn list(sftp: &SftpTransport, ask: &ListRequest) -> Result<Listing> {
    loop {
        let session = sftp.pool.session(0).await?;
        match list_over(sftp, &session, ask).await {
            Err(_) if !session.is_alive().await => {}
            listed => return listed,
        }
    }
}

async fn list_over(
    sftp: &SftpTransport,
    session: &SftpSession,
    ask: &ListRequest,
) -> Result<Listing> {
    let mut lister = Lister {
        sftp,
        session,
        channel: &session.channel,
        ask,
        listing: Listing::default(),
        budget: ListBudget::default(),
    };
    for (index, place) in ask.places.iter().enumerate() {
        let looked = match sftp.absolute(&session.channel, place).await {
            Ok(path) => {
                lister.listing.places.push(path.clone());
                lister.place(index, path).await
            }
            Err(failure) => {
                // What cannot be named in full is no place.
                lister.listing.places.push(Vec::new());
                Err(failure)
            }
        };
        if let Err(failure) = looked {
            if matches!(failure, Failure::Ours(ref why) if why == TOO_LONG) {
                return Err(too_long(sftp.pool.label()));
            }
            lister.complain(place, &failure)?;
        }
    }
    if ask.digests {
        lister.hash().await?;
    }
    Ok(lister.listing)
}

struct Lister<'a> {
    sftp: &'a SftpTransport,
    session: &'a SftpSession,
    channel: &'a Channel,
    ask: &'a ListRequest,
    listing: Listing,
    budget: ListBudget,
}

/// A folder to be read.
struct Folder {
    below: Vec<u8>,
    depth: usize,
    /// Its path without links, to find those that lead back. Known where links are followed.
    real: Vec<u8>,
}

/// Something in a folder.
struct Content {
    name: Bytes,
    entry: Answered<Entry>,
    /// Of a folder.
    real: Vec<u8>,
}

impl Lister<'_> {
    async fn place(&mut self, index: usize, path: Vec<u8>) -> Answered<()> {
        let exact = self.channel.stat(&path, false).await;
        let roots = match exact {
            Ok(_) => vec![path],
            Err(failure) if failure.is(code::NO_SUCH_FILE) => {
                if !self.ask.globs || !glob::is_pattern(&path) {
                    return Ok(());
                }
                self.expand(&path).await?
            }
            Err(failure) => return Err(failure),
        };
        for root in roots {
            self.root(index, root).await?;
        }
        Ok(())
    }

    /// Matches of an absolute pattern, in order.
    async fn expand(&self, pattern: &[u8]) -> Answered<Vec<Vec<u8>>> {
        let mut found = vec![b"/".to_vec()];
        for part in pattern
            .split(|&byte| byte == b'/')
            .filter(|part| !part.is_empty())
        {
            if let Some(name) = glob::literal(part) {
                for path in &mut found {
                    *path = join_paths(path, &name);
                }
                continue;
            }
            let mut next = Vec::new();
            for folder in &found {
                // What is no folder, or may not be read, matches nothing, as in a shell.
                let names = match self.names(folder).await {
                    Ok(names) => names,
                    Err(failure @ Failure::Lost(_)) => return Err(failure),
                    Err(_) => continue,
                };
                let mut names: Vec<Vec<u8>> = names
                    .into_iter()
                    .map(|entry| entry.name.to_vec())
                    .filter(|name| is_name(name) && glob::matches(part, name))
                    .collect();
                names.sort_unstable();
                next.extend(names.iter().map(|name| join_paths(folder, name)));
            }
            found = next;
        }
        let mut existing = Vec::new();
        for path in found {
            match self.channel.stat(&path, false).await {
                Ok(_) => existing.push(path),
                Err(failure @ Failure::Lost(_)) => return Err(failure),
                Err(_) => {}
            }
        }
        Ok(existing)
    }

    async fn root(&mut self, place: usize, root: Vec<u8>) -> Answered<()> {
        let followed = if self.ask.keep_links {
            self.channel.stat(&root, false).await?
        } else {
            match self.channel.stat(&root, true).await {
                // A link to nothing is taken as a link.
                Err(failure) if failure.is(code::NO_SUCH_FILE) => {
                    self.channel.stat(&root, false).await?
                }
                other => other?,
            }
        };
        let entry = self.entry(&root, &followed).await?;
        let root: Arc<[u8]> = root.into();
        let is_folder = entry.kind == Kind::Folder;
        self.listing.found.push(Found {
            place,
            root: Arc::clone(&root),
            below: Vec::new(),
            entry,
        });
        if is_folder && self.ask.recursive {
            self.walk(place, &root).await?;
        }
        Ok(())
    }

    /// Everything below `root`, level by level.
    async fn walk(&mut self, place: usize, root: &Arc<[u8]>) -> Answered<()> {
        let real = if self.ask.follow {
            self.channel.real_path(root).await?.to_vec()
        } else {
            Vec::new()
        };
        let mut level = vec![Folder {
            below: Vec::new(),
            depth: 0,
            real,
        }];
        while !level.is_empty() {
            let mut next = Vec::new();
            let mut read = stream::iter(level)
                .map(|folder| async {
                    let content = self.content(root, &folder).await;
                    (folder, content)
                })
                .buffered(FOLDERS);
            let (mut found, mut complaints) = (Vec::new(), Vec::new());
            while let Some((folder, content)) = read.next().await {
                let content = match content {
                    Ok(content) => content,
                    Err(failure @ Failure::Lost(_)) => return Err(failure),
                    Err(Failure::Ours(why)) if why == TOO_LONG => {
                        return Err(Failure::Ours(why));
                    }
                    Err(failure) => {
                        complaints.push((folder.below, failure));
                        continue;
                    }
                };
                for Content { name, entry, real } in content {
                    let below = join_paths(&folder.below, &name);
                    if !self.budget.bytes(below.len()) {
                        return Err(Failure::Ours(TOO_LONG.to_owned()));
                    }
                    match entry {
                        Ok(entry) => {
                            if entry.kind == Kind::Folder {
                                next.push(Folder {
                                    below: below.clone(),
                                    depth: folder.depth + 1,
                                    real,
                                });
                            }
                            found.push((below, entry));
                        }
                        Err(failure) => complaints.push((below, failure)),
                    }
                }
            }
            drop(read);
            self.listing
                .found
                .extend(found.into_iter().map(|(below, entry)| Found {
                    place,
                    root: Arc::clone(root),
                    below,
                    entry,
                }));
            for (below, failure) in complaints {
                self.listing
                    .complaints
                    .push(said(&join_paths(root, &below), &failure));
            }
            level = next;
        }
        Ok(())
    }

    /// What is in one folder, by name.
    async fn content(&self, root: &[u8], folder: &Folder) -> Answered<Vec<Content>> {
        if folder.depth == DEPTH_MAX {
            return Err(Failure::Ours("it is too deep".to_owned()));
        }
        let path = join_paths(root, &folder.below);
        let mut names = self.names(&path).await?;
        names.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let path = &path;
        stream::iter(names)
            .map(|name| self.look(path, folder, name))
            .buffered(LINKS)
            .try_collect()
            .await
    }

    /// Looks at one name in a folder.
    async fn look(&self, path: &[u8], folder: &Folder, name: Name) -> Answered<Content> {
        let mut content = Content {
            entry: Err(Failure::Ours("it has a name that can be none".to_owned())),
            name: name.name,
            real: Vec::new(),
        };
        if !is_name(&content.name) {
            return Ok(content);
        }
        let path = join_paths(path, &content.name);
        let followed = self.ask.follow && is_link(&name.attributes);
        let looked = async {
            let attributes = match name.attributes.mode {
                Some(_) if !followed => name.attributes,
                _ => self.channel.stat(&path, self.ask.follow).await?,
            };
            let mut real = Vec::new();
            if self.ask.follow && is_folder(&attributes) {
                real = if followed {
                    self.channel.real_path(&path).await?.to_vec()
                } else {
                    join_paths(&folder.real, &content.name)
                };
                if followed && is_within(&folder.real, &real) {
                    let why = "the link leads back to a folder that it is in";
                    return Err(Failure::Ours(why.to_owned()));
                }
            }
            Ok((self.entry(&path, &attributes).await?, real))
        };
        match looked.await {
            Ok((entry, real)) => {
                content.entry = Ok(entry);
                content.real = real;
            }
            Err(failure @ Failure::Lost(_)) => return Err(failure),
            Err(failure) => content.entry = Err(failure),
        }
        Ok(content)
    }

    /// The names in a folder, without `.` and `..`. What the server says is a name need be none.
    async fn names(&self, folder: &[u8]) -> Answered<Vec<Name>> {
        let handle = self.channel.open_folder(folder).await?;
        let mut names = Vec::new();
        let result = loop {
            match self.channel.read_folder(&handle).await {
                Ok(more) if more.is_empty() => break Ok(()),
                Ok(more) => {
                    // `.` and `..` count too: a server may send them without end.
                    if !more.iter().all(|entry| self.budget.entry(entry.name.len())) {
                        break Err(Failure::Ours(TOO_LONG.to_owned()));
                    }
                    names.extend(more);
                }
                Err(failure) => break Err(failure),
            }
        };
        // It was only read.
        let _ = self.channel.close(&handle).await;
        result?;
        names.retain(|entry: &Name| !matches!(&entry.name[..], b"." | b".."));
        Ok(names)
    }

    async fn entry(&self, path: &[u8], attributes: &Attributes) -> Answered<Entry> {
        let mode = attributes.mode.unwrap_or(0);
        let kind = match mode & TYPE {
            FILE => Kind::File,
            FOLDER => Kind::Folder,
            LINK => Kind::Link(self.channel.read_link(path).await?.to_vec()),
            _ => Kind::Other,
        };
        Ok(Entry {
            kind,
            size: attributes.size.unwrap_or(0),
            mode: mode & 0o7777,
            mtime: attributes.times.map_or(0, |(_, time)| time.into()),
            sha256: None,
        })
    }

    async fn hash(&mut self) -> Result<()> {
        let files: Vec<(usize, Vec<u8>)> = self
            .listing
            .found
            .iter()
            .enumerate()
            .filter(|(_, found)| found.entry.kind == Kind::File)
            .map(|(index, found)| (index, join_paths(&found.root, &found.below)))
            .collect();
        for some in files.chunks(HASHED) {
            let paths: Vec<&[u8]> = some.iter().map(|(_, path)| &path[..]).collect();
            let hasher = &self.sftp.hasher;
            let Some(digests) = hasher.files(self.session, &paths).await? else {
                return Ok(());
            };
            for (index, path) in some {
                self.listing.found[*index].entry.sha256 = digests.get(path).copied();
            }
        }
        Ok(())
    }

    /// Keeps a failure as a complaint.
    ///
    /// # Errors
    /// The connection is lost.
    fn complain(&mut self, path: &[u8], failure: &Failure) -> Result<()> {
        if let Failure::Lost(why) = failure {
            return Err(self.session.client.lost(why));
        }
        self.listing.complaints.push(said(path, failure));
        Ok(())
    }
}

fn said(path: &[u8], failure: &Failure) -> String {
    format!(
        "{}: {}",
        escape(&String::from_utf8_lossy(path)),
        failure.words()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_within_itself_and_its_parents_only() {
        assert!(is_within(b"/a/b", b"/a/b") && is_within(b"/a/b", b"/a"));
        assert!(is_within(b"/a", b"/"));
        assert!(!is_within(b"/a/bc", b"/a/b") && !is_within(b"/a", b"/a/b"));
    }

    #[test]
    fn what_would_lead_elsewhere_is_no_name() {
        for name in [&b""[..], b"a/b", b"/", b"../x", b"a\0"] {
            assert!(!is_name(name));
        }
        assert!(is_name(b"\xff\n"));
    }
}
