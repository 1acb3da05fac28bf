//! A file that arrives: written beside its destination, verified, renamed.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs::{File, Permissions},
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{
            ffi::{OsStrExt as _, OsStringExt as _},
            fs::{FileExt as _, MetadataExt as _, PermissionsExt as _},
        },
    },
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use aws_lc_rs::digest;
use ops_ui::{Error, Result};
use rustix::fs::{AtFlags, Mode, OFlags};

use crate::{
    hashes::finish_hash,
    hashes::{Digest, hex},
    item::{Entry, FileId},
    local::time,
    local::{LocalPath, Occupant, check_replaceable, words},
    transport::Job,
};

/// Longest file name, in bytes, on the file systems there are.
pub(crate) const NAME_MAX_BYTES: usize = 255;
/// End of the name of a part that is kept for `--resume`.
const PART: &str = ".ops-part";

/// A file on its way. Dropped without [`Landing::commit_file`] its temporary file goes, or with
/// `--resume` is cut down to what arrived without a gap.
///
/// The temporary file is made, renamed and removed in the handle of the folder that was opened in
/// the beginning: whatever is put in that folder's place meanwhile, nothing is written elsewhere.
pub(crate) struct Landing {
    parent: Arc<OwnedFd>,
    temporary: OsString,
    name: OsString,
    /// The destination, for people.
    shown: PathBuf,
    file: File,
    id: FileId,
    entry: Entry,
    job: Job,
    /// What a new file gets, before the umask.
    mode: u32,
    state: Mutex<Arrived>,
    committed: AtomicBool,
}

struct Arrived {
    /// What the file has in the end, in bytes: as listed, until its source says otherwise.
    size: u64,
    /// Hash of the first `hashed` bytes.
    hash: digest::Context,
    hashed: u64,
    /// Ranges that have arrived, start to end, coalesced.
    have: BTreeMap<u64, u64>,
}

impl Landing {
    /// Makes the temporary file beside `destination`, whose folder exists. With `--resume` a part
    /// of an earlier run is taken up: see [`Landing::resumable_part`].
    ///
    /// A link at `destination` is not followed: the file replaces it.
    ///
    /// # Errors
    /// No permission, no space, a link on the way, a destination that is neither file nor link.
    pub(crate) fn open(
        destination: &LocalPath,
        id: FileId,
        entry: &Entry,
        mode: u32,
        job: &Job,
    ) -> Result<Self> {
        let shown = destination.to_path();
        let failed = |error: io::Error| {
            Error::unexpected(format!("cannot write `{}`", shown.display())).caused_by(words(error))
        };
        let parent = destination.parent().map_err(failed)?;
        let name = destination.name().to_owned();
        check_replaceable(parent.as_fd(), &name).map_err(failed)?;
        let temporary = OsString::from_vec(temporary_name(name.as_bytes(), job.resume));
        // Without NONBLOCK a FIFO under the name of a part of an earlier run would hold us up.
        let mut flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        if !job.resume {
            flags |= OFlags::EXCL;
        }
        let file = rustix::fs::openat(&*parent, &temporary, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| failed(error.into()))?;
        let mut file = File::from(file);
        let known = file.metadata().map_err(failed)?;
        if !known.is_file() {
            return Err(failed(io::Error::other(format!(
                "`{}` is no file",
                temporary.display()
            ))));
        }
        // A part under the name of ours that is another file's second name, or somebody else's: to
        // go on with it would change that file, or leave the new one in the hands of its owner.
        let is_ours = known.uid() == rustix::process::geteuid().as_raw() && known.nlink() == 1;
        if job.resume && !is_ours {
            rustix::fs::unlinkat(&*parent, &temporary, AtFlags::empty())
                .map_err(|error| failed(error.into()))?;
            let flags = flags | OFlags::EXCL;
            file = rustix::fs::openat(&*parent, &temporary, flags, Mode::RUSR | Mode::WUSR)
                .map(File::from)
                .map_err(|error| failed(error.into()))?;
        }
        Ok(Self {
            parent,
            temporary,
            name,
            shown,
            file,
            id,
            entry: entry.clone(),
            job: job.clone(),
            mode,
            state: Mutex::new(Arrived::new(entry.size)),
            committed: AtomicBool::new(false),
        })
    }

    /// How much of an earlier run is there, and its hash: to be taken up if the far side's first
    /// bytes have the same. They count as arrived until [`Landing::start_over`].
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn resumable_part(&self) -> Result<Option<(u64, Digest)>> {
        if !self.job.resume {
            return Ok(None);
        }
        let len = self.file.metadata()?.len();
        if len == 0 || len > self.entry.size {
            self.file.set_len(0)?;
            return Ok(None);
        }
        let mut state = self.lock();
        state.hash_to(&self.file, len)?;
        state.have = BTreeMap::from([(0, len)]);
        self.job.report.add_bytes(self.id, len);
        Ok(Some((len, state.digest())))
    }

    /// Forgets all that has arrived.
    ///
    /// # Errors
    /// The file cannot be cut.
    pub(crate) fn start_over(&self) -> Result<()> {
        let mut state = self.lock();
        let had: u64 = state.have.iter().map(|(start, end)| end - start).sum();
        self.job.report.take_back(self.id, had);
        *state = Arrived::new(self.entry.size);
        self.file.set_len(0)?;
        Ok(())
    }

    /// Writes a piece; several sessions may write at once. Keeps to `--limit-rate`.
    ///
    /// # Errors
    /// No space, a quota, more than was announced.
    pub(crate) async fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.job.pace.wait_for_bytes(bytes.len()).await;
        self.put_bytes(offset, bytes)
    }

    /// As [`Landing::write_at`], without the wait.
    ///
    /// # Errors
    /// As for [`Landing::write_at`].
    pub(crate) fn put_bytes(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let end = offset + bytes.len() as u64;
        if end > self.lock().size {
            return Err(self.changed());
        }
        self.file.write_all_at(bytes, offset).map_err(|error| {
            let is_full = matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            );
            let what = format!("cannot write `{}`", self.shown.display());
            let error = Error::unexpected(what).caused_by(error);
            if is_full {
                error.hint("make room, or copy to another folder")
            } else {
                error
            }
        })?;
        let mut state = self.lock();
        if state.hashed == offset {
            state.hash.update(bytes);
            state.hashed = end;
        }
        state.add(offset, end);
        drop(state);
        self.job.report.add_bytes(self.id, bytes.len() as u64);
        Ok(())
    }

    /// Writes what the file has behind all that is there so far, although it was listed as shorter:
    /// it has grown, or is of a kind that does not say its size (`/proc`). Keeps to `--limit-rate`.
    ///
    /// # Errors
    /// As for [`Landing::write_at`].
    pub(crate) async fn write_tail(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.job.pace.wait_for_bytes(bytes.len()).await;
        {
            let mut state = self.lock();
            state.size = state.size.max(offset + bytes.len() as u64);
        }
        self.put_bytes(offset, bytes)
    }

    /// The source has come to its end at `size`, which may be less than was listed: files of `/sys`
    /// say 4096 and hold a few bytes.
    pub(crate) fn ends_at(&self, size: u64) {
        self.lock().size = size;
    }

    /// Puts the file into place, if all of it is there and has the far side's hash.
    ///
    /// # Errors
    /// Something is missing or differs; the file cannot be renamed.
    pub(crate) fn commit_file(&self, sha256: Option<Digest>) -> Result<()> {
        let digest = {
            let mut state = self.lock();
            let size = state.size;
            let is_whole = state.prefix() == size;
            if !is_whole {
                drop(state);
                return Err(self.changed());
            }
            state.hash_to(&self.file, size)?;
            state.digest()
        };
        if let Some(expected) = sha256
            && digest != expected
        {
            let error = Error::unexpected(format!(
                "`{}` did not arrive as it was sent",
                self.shown.display()
            ))
            .caused_by(format!(
                "SHA-256 is {} here and {} there",
                hex(&digest),
                hex(&expected)
            ))
            .hint("if it is written to at the same time, copy it again later");
            // Nothing of it is worth going on from.
            self.lock().have.clear();
            return Err(error);
        }
        let cannot_replace = |error: io::Error| {
            Error::unexpected(format!("cannot replace `{}`", self.shown.display()))
                .caused_by(words(error))
        };
        // Looked at again: a FIFO or folder may have come since, which a rename would replace.
        let there = check_replaceable(self.parent.as_fd(), &self.name).map_err(cannot_replace)?;
        // Of a file that was there the permissions stay, as with scp; setuid, setgid and sticky
        // never come from a server.
        let mode = match there {
            _ if self.job.preserve => self.entry.mode & 0o777,
            Occupant::File(known) => known.mode,
            _ => self.mode,
        };
        self.file.set_permissions(Permissions::from_mode(mode))?;
        if self.job.preserve {
            let time = time(self.entry.mtime);
            self.file.set_times(
                std::fs::FileTimes::new()
                    .set_modified(time)
                    .set_accessed(time),
            )?;
        }
        rustix::fs::renameat(&*self.parent, &self.temporary, &*self.parent, &self.name)
            .map_err(|error| cannot_replace(error.into()))?;
        self.committed.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// What the file has in the end, in bytes, as far as is known.
    pub(crate) fn size(&self) -> u64 {
        self.lock().size
    }

    /// The length and the SHA-256 of all that is there, if that has no gap.
    ///
    /// # Errors
    /// The temporary file cannot be read.
    pub(crate) fn digest(&self) -> Result<Option<(u64, Digest)>> {
        let mut state = self.lock();
        let prefix = state.prefix();
        if prefix != state.size {
            return Ok(None);
        }
        state.hash_to(&self.file, prefix)?;
        Ok(Some((prefix, state.digest())))
    }

    fn changed(&self) -> Error {
        Error::unexpected(format!(
            "`{}` has another size than it had when it was listed",
            self.shown.display()
        ))
        .caused_by("it changed while it was read")
        .hint("copy it again when nobody writes to it")
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Arrived> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        if *self.committed.get_mut() {
            return;
        }
        let prefix = self.lock().prefix();
        if self.job.resume && prefix > 0 && self.file.set_len(prefix).is_ok() {
            return;
        }
        // It may be gone already, with its folder.
        let _ = rustix::fs::unlinkat(&*self.parent, &self.temporary, AtFlags::empty());
    }
}

impl Arrived {
    fn new(size: u64) -> Self {
        Self {
            size,
            hash: digest::Context::new(&digest::SHA256),
            hashed: 0,
            have: BTreeMap::new(),
        }
    }

    fn add(&mut self, start: u64, end: u64) {
        let (mut start, mut end) = (start, end);
        if let Some((&before, &until)) = self.have.range(..=start).next_back()
            && until >= start
        {
            start = before;
            end = end.max(until);
        }
        while let Some((&next, &until)) = self.have.range(start + 1..).next()
            && next <= end
        {
            end = end.max(until);
            self.have.remove(&next);
        }
        if end > start {
            self.have.insert(start, end);
        }
    }

    /// Bytes from the beginning without a gap.
    fn prefix(&self) -> u64 {
        self.have.get(&0).copied().unwrap_or(0)
    }

    /// Hashes what other sessions wrote, up to `end`.
    fn hash_to(&mut self, file: &File, end: u64) -> io::Result<()> {
        if self.hashed >= end {
            return Ok(());
        }
        let mut buffer = vec![0; 256 << 10];
        while self.hashed < end {
            let want = usize::try_from(end - self.hashed)
                .map_or(buffer.len(), |left| left.min(buffer.len()));
            let read = file.read_at(&mut buffer[..want], self.hashed)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.hash.update(&buffer[..read]);
            self.hashed += read as u64;
        }
        Ok(())
    }

    fn digest(&self) -> Digest {
        finish_hash(self.hash.clone())
    }
}

/// A temporary name for a link beside `name`.
pub(crate) fn temporary_link(name: &OsStr) -> OsString {
    OsString::from_vec(temporary_name(name.as_bytes(), false))
}

/// A name beside `name`: `.NAME.ops-…`, cut so that it is no longer than a name may be. The same
/// every time for a part that is kept.
pub(crate) fn temporary_name(name: &[u8], kept: bool) -> Vec<u8> {
    let end = if kept {
        PART.to_owned()
    } else {
        format!(".ops-{}", random_token())
    };
    let name = &name[..name.len().min(NAME_MAX_BYTES - 1 - end.len())];
    [b".", name, end.as_bytes()].concat()
}

/// Letters and digits that nobody else has.
pub(crate) fn random_token() -> String {
    std::iter::repeat_with(fastrand::alphanumeric)
        .take(10)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, path::Path};

    use super::*;
    use crate::{item::Kind, local::NamedFolder, pace::Pace, report::Report};

    fn job(resume: bool) -> Job {
        Job {
            sessions: 1,
            resume,
            preserve: true,
            compress: true,
            pace: Arc::new(Pace::new(None)),
            report: Arc::new(Report::silent()),
            folders: None,
        }
    }

    fn entry(size: u64) -> Entry {
        Entry {
            kind: Kind::File,
            size,
            mode: 0o4755,
            mtime: 1_000_000_000,
            sha256: None,
        }
    }

    fn path(folder: &Path, below: &str) -> LocalPath {
        LocalPath::new(&NamedFolder::open(folder).unwrap(), below.into())
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn pieces_in_any_order_become_the_file_and_setuid_stays_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let place = self::path(folder.path(), "x");
        let job = job(false);
        let id = job.report.add_item("x", "x", 6);
        let landing = Landing::open(&place, id, &entry(6), 0o644, &job).unwrap();
        for (offset, bytes) in [(4, &b"ef"[..]), (0, b"ab"), (2, b"cd")] {
            landing.write_at(offset, bytes).await.unwrap();
        }
        let digest = finish_hash({
            let mut hash = digest::Context::new(&digest::SHA256);
            hash.update(b"abcdef");
            hash
        });
        landing.commit_file(Some(digest)).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"abcdef");
        let known = std::fs::metadata(&path).unwrap();
        assert_eq!(known.permissions().mode() & 0o7777, 0o755);
        assert_eq!(known.modified().unwrap(), time(1_000_000_000));
        assert_eq!(names(folder.path()), ["x"]);
    }

    #[tokio::test]
    async fn what_is_not_whole_or_not_the_same_leaves_the_old_file_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let place = self::path(folder.path(), "x");
        std::fs::write(&path, "old").unwrap();
        let job = job(false);
        let id = job.report.add_item("x", "x", 4);
        let landing = Landing::open(&place, id, &entry(4), 0o644, &job).unwrap();
        landing.write_at(0, b"ab").await.unwrap();
        assert!(landing.commit_file(None).is_err());
        drop(landing);
        let landing = Landing::open(&place, id, &entry(4), 0o644, &job).unwrap();
        landing.write_at(0, b"abcd").await.unwrap();
        assert!(landing.write_at(4, b"e").await.is_err());
        assert!(landing.commit_file(Some([0; 32])).is_err());
        drop(landing);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["x"]);
    }

    #[tokio::test]
    async fn a_part_is_kept_for_resume_up_to_its_first_gap() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let place = self::path(folder.path(), "x");
        let job = job(true);
        let id = job.report.add_item("x", "x", 8);
        let landing = Landing::open(&place, id, &entry(8), 0o644, &job).unwrap();
        assert_eq!(landing.resumable_part().unwrap(), None);
        landing.write_at(0, b"abc").await.unwrap();
        landing.write_at(5, b"fg").await.unwrap();
        drop(landing);
        assert_eq!(names(folder.path()), [".x.ops-part"]);
        let landing = Landing::open(&place, id, &entry(8), 0o644, &job).unwrap();
        let (len, _) = landing.resumable_part().unwrap().expect("a part");
        assert_eq!(len, 3);
        landing.write_at(3, b"defgh").await.unwrap();
        landing.commit_file(None).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"abcdefgh");
        assert_eq!(names(folder.path()), ["x"]);
    }

    #[test]
    fn ranges_are_joined_where_they_touch() {
        let mut state = Arrived::new(0);
        for (start, end) in [(10, 20), (30, 40), (20, 30), (0, 5), (3, 12), (50, 60)] {
            state.add(start, end);
        }
        assert_eq!(state.have, BTreeMap::from([(0, 40), (50, 60)]));
        assert_eq!(state.prefix(), 40);
    }

    #[test]
    fn a_long_name_still_has_a_temporary_one() {
        let long = "x".repeat(NAME_MAX_BYTES);
        for kept in [true, false] {
            assert!(temporary_name(long.as_bytes(), kept).len() <= NAME_MAX_BYTES);
        }
    }

    /// `in/sub` with a landing for `in/sub/f`, and `out/f`, which must stay as it is.
    fn under_way(resume: bool) -> (tempfile::TempDir, Landing) {
        let outer = tempfile::tempdir().unwrap();
        for folder in ["in", "in/sub", "out"] {
            std::fs::create_dir(outer.path().join(folder)).unwrap();
        }
        std::fs::write(outer.path().join("out/f"), "theirs").unwrap();
        let place = path(&outer.path().join("in"), "sub/f");
        let job = job(resume);
        let id = job.report.add_item("f", "f", 4);
        let landing = Landing::open(&place, id, &entry(4), 0o644, &job).unwrap();
        (outer, landing)
    }

    #[tokio::test]
    async fn a_folder_that_becomes_a_link_while_a_file_arrives_leads_nowhere() {
        for resume in [false, true] {
            let (outer, landing) = under_way(resume);
            let at = |below: &str| outer.path().join(below);
            landing.write_at(0, b"ab").await.unwrap();
            std::fs::rename(at("in/sub"), at("in/moved")).unwrap();
            symlink("../out", at("in/sub")).unwrap();
            landing.write_at(2, b"cd").await.unwrap();
            landing.commit_file(None).unwrap();
            drop(landing);
            assert_eq!(std::fs::read(at("out/f")).unwrap(), b"theirs");
            assert_eq!(names(&at("out")), ["f"]);
            assert_eq!(std::fs::read(at("in/moved/f")).unwrap(), b"abcd");
            assert_eq!(names(&at("in/moved")), ["f"]);
            // What is opened from now on meets the link.
            let job = job(resume);
            let id = job.report.add_item("f", "f", 4);
            let place = path(&at("in"), "sub/f");
            assert!(Landing::open(&place, id, &entry(4), 0o644, &job).is_err());
            assert_eq!(names(&at("out")), ["f"]);
        }
    }

    #[tokio::test]
    async fn a_part_that_is_another_files_second_name_is_not_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("theirs"), "theirs").unwrap();
        let part = folder.path().join(".f.ops-part");
        std::fs::hard_link(folder.path().join("theirs"), &part).unwrap();
        let job = job(true);
        let id = job.report.add_item("f", "f", 4);
        let place = path(folder.path(), "f");
        let landing = Landing::open(&place, id, &entry(4), 0o644, &job).unwrap();
        assert_eq!(landing.resumable_part().unwrap(), None);
        landing.write_at(0, b"abcd").await.unwrap();
        landing.commit_file(None).unwrap();
        let theirs = std::fs::read(folder.path().join("theirs")).unwrap();
        assert_eq!(theirs, b"theirs");
        assert_eq!(names(folder.path()), ["f", "theirs"]);
    }

    #[tokio::test]
    async fn a_link_at_the_destination_is_replaced_and_not_written_through() {
        for late in [false, true] {
            let (outer, landing) = under_way(false);
            let at = |below: &str| outer.path().join(below);
            let landing = if late {
                symlink("../../out/f", at("in/sub/f")).unwrap();
                landing
            } else {
                drop(landing);
                symlink("../../out/f", at("in/sub/f")).unwrap();
                let job = job(false);
                let id = job.report.add_item("f", "f", 4);
                let place = path(&at("in"), "sub/f");
                Landing::open(&place, id, &entry(4), 0o644, &job).unwrap()
            };
            landing.write_at(0, b"abcd").await.unwrap();
            landing.commit_file(None).unwrap();
            assert_eq!(std::fs::read(at("out/f")).unwrap(), b"theirs");
            assert!(!at("in/sub/f").is_symlink());
            assert_eq!(std::fs::read(at("in/sub/f")).unwrap(), b"abcd");
        }
    }

    #[tokio::test]
    async fn what_is_no_file_is_never_replaced_by_one() {
        for late in [false, true] {
            let (outer, landing) = under_way(false);
            let there = outer.path().join("in/sub/f");
            let fifo = || rustix::fs::mkfifoat(rustix::fs::CWD, &there, Mode::RWXU).unwrap();
            if late {
                landing.write_at(0, b"abcd").await.unwrap();
                fifo();
                let error = landing.commit_file(None).unwrap_err();
                assert!(
                    format!("{error:?}").contains("a FIFO is there"),
                    "{error:?}"
                );
            } else {
                drop(landing);
                fifo();
                let job = job(false);
                let id = job.report.add_item("f", "f", 4);
                let place = path(&outer.path().join("in"), "sub/f");
                assert!(Landing::open(&place, id, &entry(4), 0o644, &job).is_err());
            }
            assert!(!std::fs::symlink_metadata(&there).unwrap().is_file());
        }
    }

    #[tokio::test]
    async fn a_file_ends_where_its_source_ends_and_not_where_the_list_says() {
        let (outer, landing) = under_way(false);
        landing.write_at(0, b"abcd").await.unwrap();
        landing.write_tail(4, b"more").await.unwrap();
        landing.commit_file(None).unwrap();
        let there = outer.path().join("in/sub/f");
        assert_eq!(std::fs::read(&there).unwrap(), b"abcdmore");
        let (outer, landing) = under_way(false);
        landing.write_at(0, b"a").await.unwrap();
        assert!(landing.commit_file(None).is_err());
        landing.ends_at(1);
        landing.commit_file(None).unwrap();
        assert_eq!(std::fs::read(outer.path().join("in/sub/f")).unwrap(), b"a");
    }
}
