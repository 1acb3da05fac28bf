//! Reading a file: only what is asked for, and nothing that is damaged or somebody else's.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
    time::Duration,
};

use ops_profile::Instance;

use super::{
    FleetFile,
    file::{self, Detail, Head, MAGIC, MAX_SECTION, Row, SECTION_HEAD, TagRow},
    now_ms,
};

/// An open file whose head has been read.
pub(super) struct View {
    file: File,
    pub(super) head: Head,
    pub(super) len_bytes: u64,
    /// Where the sections of rows, tags and details begin, with their lengths.
    sections: [(u64, usize); 3],
}

/// The rows of a fleet.
pub struct Names(Vec<u8>);

impl Names {
    /// Them all, by name; `None` if the bytes are none.
    pub fn rows(&self) -> Option<Vec<Row<'_>>> {
        postcard::from_bytes(&self.0).ok()
    }
}

/// The tags of a fleet.
pub struct Tags(Vec<u8>);

impl Tags {
    /// Them all, by key; `None` if the bytes are none.
    pub fn rows(&self) -> Option<Vec<TagRow<'_>>> {
        postcard::from_bytes(&self.0).ok()
    }
}

impl View {
    /// The fleet of `fleet`, unless it is older than `limit`, or comes from the future.
    pub(super) fn of(fleet: &FleetFile, limit: Duration) -> Option<Self> {
        let view = Self::open(&fleet.file())?;
        let fits = view.head.key == fleet.key
            && view.age()? <= limit
            && fleet
                .account
                .as_ref()
                .is_none_or(|account| *account == view.head.account);
        fits.then_some(view)
    }

    /// `None` for a file that is not there, damaged, of another version, or not this user's alone.
    pub(super) fn open(path: &Path) -> Option<Self> {
        let mut file = File::open(path).ok()?;
        let data = file.metadata().ok()?;
        if !data.is_file() || !is_own(&data) {
            return None;
        }
        let mut magic = [0; MAGIC.len()];
        file.read_exact(&mut magic).ok()?;
        if magic != MAGIC {
            return None;
        }
        let mut at = MAGIC.len() as u64;
        let head: Head = {
            let len = length(&mut file, at)?;
            let bytes = section(&mut file, at, len)?;
            at += (SECTION_HEAD + len) as u64;
            postcard::from_bytes(&bytes).ok()?
        };
        let mut sections = [(0, 0); 3];
        for place in &mut sections {
            let len = length(&mut file, at)?;
            *place = (at, len);
            at += (SECTION_HEAD + len) as u64;
        }
        (at == data.len()).then_some(Self {
            file,
            head,
            len_bytes: data.len(),
            sections,
        })
    }

    /// `None` if it comes from the future.
    pub(super) fn age(&self) -> Option<Duration> {
        now_ms()
            .checked_sub(self.head.created_ms)
            .map(Duration::from_millis)
    }

    pub(super) fn names(mut self) -> Option<Names> {
        self.section(0).map(Names)
    }

    pub(super) fn tags(mut self) -> Option<Tags> {
        self.section(1).map(Tags)
    }

    /// The instances whose rows `wanted` wants.
    pub(super) fn instances(mut self, wanted: impl Fn(&Row<'_>) -> bool) -> Option<Vec<Instance>> {
        let rows = self.section(0)?;
        let rows: Vec<Row<'_>> = postcard::from_bytes(&rows).ok()?;
        if !rows.iter().any(&wanted) {
            return Some(Vec::new());
        }
        let details = self.section(2)?;
        let details: Vec<Detail<'_>> = postcard::from_bytes(&details).ok()?;
        Some(
            rows.iter()
                .zip(&details)
                .filter(|(row, _)| wanted(row))
                .map(|(row, detail)| file::instance(row, detail))
                .collect(),
        )
    }

    fn section(&mut self, index: usize) -> Option<Vec<u8>> {
        let (at, len) = self.sections[index];
        section(&mut self.file, at, len)
    }
}

fn length(file: &mut File, at: u64) -> Option<usize> {
    let mut len = [0; 4];
    file.seek(SeekFrom::Start(at)).ok()?;
    file.read_exact(&mut len).ok()?;
    let len = usize::try_from(u32::from_le_bytes(len)).ok()?;
    (len <= MAX_SECTION).then_some(len)
}

/// The content of the section that begins at `at`, if its digest is right.
fn section(file: &mut File, at: u64, len: usize) -> Option<Vec<u8>> {
    let mut digest = [0; 32];
    file.seek(SeekFrom::Start(at + 4)).ok()?;
    file.read_exact(&mut digest).ok()?;
    // Not more memory than the file has bytes, whatever it says.
    let left = file.metadata().ok()?.len().checked_sub(at)?;
    if len as u64 > left {
        return None;
    }
    let mut bytes = vec![0; len];
    file.read_exact(&mut bytes).ok()?;
    (file::digest(&bytes) == digest).then_some(bytes)
}

/// Whether a file belongs to this user, and nobody else may write or read it.
#[cfg(unix)]
fn is_own(data: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    data.uid() == rustix::process::geteuid().as_raw() && data.mode() & 0o077 == 0
}

#[cfg(not(unix))]
fn is_own(_data: &std::fs::Metadata) -> bool {
    true
}
