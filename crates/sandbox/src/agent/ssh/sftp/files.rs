//! What SFTP requests do to files.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::{self, File, Metadata, OpenOptions, ReadDir},
    io,
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
};

use bytes::Bytes;
use ops_sftp::{Attributes, Fields, kind, open};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use super::{
    PACKET_BYTES,
    wire::{Answers, Failure},
};

/// Most bytes of one read or write; a packet has room for its own fields beside them.
const TRANSFER_BYTES: u32 = PACKET_BYTES as u32 - 1024;
/// Files and folders that one client may have open.
const HANDLES: usize = 1000;
/// Folder entries in one answer.
const ENTRIES: usize = 100;

/// What this server offers beyond version 3.
const EXTENSIONS: [(&str, &str); 8] = [
    ("posix-rename@openssh.com", "1"),
    ("statvfs@openssh.com", "2"),
    ("fstatvfs@openssh.com", "2"),
    ("hardlink@openssh.com", "1"),
    ("fsync@openssh.com", "1"),
    ("lsetstat@openssh.com", "1"),
    ("limits@openssh.com", "1"),
    ("expand-path@openssh.com", "1"),
];

/// One client's open files.
pub(super) struct Server {
    home: PathBuf,
    open: HashMap<u32, Handle>,
    next_handle: u32,
}

enum Handle {
    File { file: File, appends: bool },
    Folder(Folder),
}

struct Folder {
    path: PathBuf,
    entries: ReadDir,
    /// `.` and `..` have been listed.
    listed_dots: bool,
}

impl Server {
    pub(super) fn new(home: &Path) -> Self {
        Self {
            home: home.to_owned(),
            open: HashMap::new(),
            next_handle: 0,
        }
    }

    /// Does what the packets ask, in order; the answers, one for each.
    pub(super) fn answer(&mut self, packets: &[Bytes]) -> Vec<u8> {
        let mut answers = Answers::default();
        for packet in packets {
            let mut fields = Fields(packet.clone());
            let Ok(request) = fields.u8() else { continue };
            if request == kind::INIT {
                answers.version(&EXTENSIONS);
                continue;
            }
            let id = fields.u32().unwrap_or_default();
            self.answer_one(request, id, &mut fields, &mut answers);
        }
        answers.0
    }

    fn answer_one(&mut self, request: u8, id: u32, fields: &mut Fields, answers: &mut Answers) {
        let answer_kind = match request {
            kind::OPEN | kind::OPENDIR => kind::HANDLE,
            kind::READ => kind::DATA,
            kind::LSTAT | kind::FSTAT | kind::STAT => kind::ATTRS,
            kind::READDIR | kind::REALPATH | kind::READLINK => kind::NAME,
            kind::EXTENDED => return self.extended(id, fields, answers),
            _ => kind::STATUS,
        };
        answers.packet(answer_kind, id, |out| {
            match request {
                kind::OPEN => return self.open_file(fields, out),
                kind::OPENDIR => return self.open_folder(fields, out),
                kind::READ => return self.read(fields, out),
                kind::READDIR => return self.list(fields, out),
                kind::LSTAT => out.attributes(&fs::symlink_metadata(self.path(fields)?)?),
                kind::STAT => out.attributes(&fs::metadata(self.path(fields)?)?),
                kind::FSTAT => out.attributes(&self.metadata(fields)?),
                kind::REALPATH => {
                    let path = real_path(&self.path(fields)?)?;
                    out.u32(1);
                    out.name(path.as_os_str().as_bytes(), None);
                }
                kind::READLINK => {
                    let target = fs::read_link(self.path(fields)?)?.into_os_string();
                    out.u32(1);
                    out.name(&target.into_vec(), None);
                }
                _ => {
                    self.change(request, fields)?;
                    out.success();
                }
            }
            Ok(())
        });
    }

    /// Requests that are answered with a status alone.
    fn change(&mut self, request: u8, fields: &mut Fields) -> Result<(), Failure> {
        match request {
            kind::CLOSE => {
                let handle = handle_number(fields)?;
                self.open.remove(&handle).ok_or(Failure::BadMessage)?;
            }
            kind::WRITE => self.write(fields)?,
            kind::SETSTAT => {
                let path = self.path(fields)?;
                set_attributes(&path, &fields.attributes()?, true)?;
            }
            kind::FSETSTAT => {
                let Handle::File { file, .. } = self.handle(fields)? else {
                    return Err(Failure::Unsupported);
                };
                set_file_attributes(file, &fields.attributes()?)?;
            }
            kind::REMOVE => fs::remove_file(self.path(fields)?)?,
            kind::MKDIR => {
                let path = self.path(fields)?;
                let mode = fields.attributes()?.mode.unwrap_or(0o777);
                fs::DirBuilder::new().mode(mode & 0o7777).create(path)?;
            }
            kind::RMDIR => fs::remove_dir(self.path(fields)?)?,
            kind::RENAME => {
                let (from, to) = (self.path(fields)?, self.path(fields)?);
                if fs::symlink_metadata(&to).is_ok() {
                    return Err(io::Error::from(io::ErrorKind::AlreadyExists).into());
                }
                fs::rename(from, to)?;
            }
            kind::SYMLINK => {
                // The usual server has the two names in this order, whatever the draft says, and
                // clients follow it.
                let target = fields.bytes()?;
                std::os::unix::fs::symlink(OsStr::from_bytes(&target), self.path(fields)?)?;
            }
            _ => return Err(Failure::Unsupported),
        }
        Ok(())
    }

    fn extended(&mut self, id: u32, fields: &mut Fields, answers: &mut Answers) {
        let name = fields.bytes().unwrap_or_default();
        match &name[..] {
            b"statvfs@openssh.com" | b"fstatvfs@openssh.com" | b"limits@openssh.com" => {
                answers.packet(kind::EXTENDED_REPLY, id, |out| {
                    match &name[..] {
                        b"statvfs@openssh.com" => {
                            file_system(out, &rustix::fs::statvfs(self.path(fields)?)?);
                        }
                        b"fstatvfs@openssh.com" => {
                            let Handle::File { file, .. } = self.handle(fields)? else {
                                return Err(Failure::Unsupported);
                            };
                            file_system(out, &rustix::fs::fstatvfs(file)?);
                        }
                        _ => {
                            out.u64(PACKET_BYTES as u64);
                            out.u64(TRANSFER_BYTES.into());
                            out.u64(TRANSFER_BYTES.into());
                            out.u64(HANDLES as u64);
                        }
                    }
                    Ok(())
                });
            }
            b"expand-path@openssh.com" => answers.packet(kind::NAME, id, |out| {
                let path = real_path(&self.expand(&fields.bytes()?))?;
                out.u32(1);
                out.name(path.as_os_str().as_bytes(), None);
                Ok(())
            }),
            _ => answers.packet(kind::STATUS, id, |out| {
                match &name[..] {
                    b"posix-rename@openssh.com" => {
                        fs::rename(self.path(fields)?, self.path(fields)?)?;
                    }
                    b"hardlink@openssh.com" => {
                        fs::hard_link(self.path(fields)?, self.path(fields)?)?;
                    }
                    b"lsetstat@openssh.com" => {
                        let path = self.path(fields)?;
                        set_attributes(&path, &fields.attributes()?, false)?;
                    }
                    b"fsync@openssh.com" => {
                        let Handle::File { file, .. } = self.handle(fields)? else {
                            return Err(Failure::Unsupported);
                        };
                        file.sync_all()?;
                    }
                    _ => return Err(Failure::Unsupported),
                }
                out.success();
                Ok(())
            }),
        }
    }

    fn open_file(&mut self, fields: &mut Fields, out: &mut Answers) -> Result<(), Failure> {
        let path = self.path(fields)?;
        let flags = fields.u32()?;
        let mode = fields.attributes()?.mode.unwrap_or(0o666);
        let has = |flag| flags & flag != 0;
        let file = OpenOptions::new()
            .read(has(open::READ))
            .write(has(open::WRITE) && !has(open::APPEND))
            .append(has(open::APPEND))
            .create(has(open::CREATE))
            .create_new(has(open::CREATE) && has(open::EXCLUSIVE))
            .truncate(has(open::TRUNCATE))
            .mode(mode & 0o7777)
            .open(path)?;
        self.remember(
            Handle::File {
                file,
                appends: has(open::APPEND),
            },
            out,
        )
    }

    fn open_folder(&mut self, fields: &mut Fields, out: &mut Answers) -> Result<(), Failure> {
        let path = self.path(fields)?;
        let entries = fs::read_dir(&path)?;
        self.remember(
            Handle::Folder(Folder {
                path,
                entries,
                listed_dots: false,
            }),
            out,
        )
    }

    fn remember(&mut self, handle: Handle, out: &mut Answers) -> Result<(), Failure> {
        if self.open.len() >= HANDLES {
            return Err(io::Error::other("Too many open files").into());
        }
        while self.open.contains_key(&self.next_handle) {
            self.next_handle = self.next_handle.wrapping_add(1);
        }
        self.open.insert(self.next_handle, handle);
        out.bytes(&self.next_handle.to_be_bytes());
        self.next_handle = self.next_handle.wrapping_add(1);
        Ok(())
    }

    fn read(&mut self, fields: &mut Fields, out: &mut Answers) -> Result<(), Failure> {
        let Handle::File { file, .. } = self.handle(fields)? else {
            return Err(Failure::BadMessage);
        };
        let (offset, wanted) = (fields.u64()?, fields.u32()?.min(TRANSFER_BYTES) as usize);
        let start = out.0.len();
        out.0.resize(start + 4 + wanted, 0);
        let mut len = 0;
        while len < wanted {
            let into = &mut out.0[start + 4 + len..];
            match file.read_at(into, offset.saturating_add(len as u64)) {
                Ok(0) => break,
                Ok(count) => len += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        if len == 0 && wanted > 0 {
            return Err(Failure::Eof);
        }
        out.0.truncate(start + 4 + len);
        let count = ops_sftp::len32(len);
        out.0[start..start + 4].copy_from_slice(&count.to_be_bytes());
        Ok(())
    }

    fn write(&mut self, fields: &mut Fields) -> Result<(), Failure> {
        let Handle::File { file, appends } = self.handle(fields)? else {
            return Err(Failure::BadMessage);
        };
        let (offset, data) = (fields.u64()?, fields.bytes()?);
        if *appends {
            io::Write::write_all(file, &data)?;
        } else {
            file.write_all_at(&data, offset)?;
        }
        Ok(())
    }

    fn list(&mut self, fields: &mut Fields, out: &mut Answers) -> Result<(), Failure> {
        let Handle::Folder(folder) = self.handle(fields)? else {
            return Err(Failure::BadMessage);
        };
        let start = out.0.len();
        out.u32(0);
        let mut count = 0_u32;
        if !folder.listed_dots {
            folder.listed_dots = true;
            for dots in [".", ".."] {
                out.name(
                    dots.as_bytes(),
                    fs::metadata(folder.path.join(dots)).ok().as_ref(),
                );
                count += 1;
            }
        }
        for entry in folder.entries.by_ref().take(ENTRIES) {
            let entry = entry?;
            out.name(
                entry.file_name().as_bytes(),
                fs::symlink_metadata(entry.path()).ok().as_ref(),
            );
            count += 1;
        }
        if count == 0 {
            return Err(Failure::Eof);
        }
        out.0[start..start + 4].copy_from_slice(&count.to_be_bytes());
        Ok(())
    }

    fn metadata(&mut self, fields: &mut Fields) -> Result<Metadata, Failure> {
        Ok(match self.handle(fields)? {
            Handle::File { file, .. } => file.metadata()?,
            Handle::Folder(folder) => fs::metadata(&folder.path)?,
        })
    }

    fn handle(&mut self, fields: &mut Fields) -> Result<&mut Handle, Failure> {
        self.open
            .get_mut(&handle_number(fields)?)
            .ok_or(Failure::BadMessage)
    }

    fn path(&self, fields: &mut Fields) -> Result<PathBuf, Failure> {
        // Joining an absolute path gives that path; joining an empty one, the home.
        Ok(self.home.join(OsStr::from_bytes(&fields.bytes()?)))
    }

    /// `~` and `~/…`; another user's home is not known here and stays as it is.
    fn expand(&self, path: &[u8]) -> PathBuf {
        let rest = match path {
            [b'~'] => &b""[..],
            [b'~', b'/', rest @ ..] => rest,
            _ => path,
        };
        self.home.join(OsStr::from_bytes(rest))
    }
}

fn handle_number(fields: &mut Fields) -> Result<u32, Failure> {
    <[u8; 4]>::try_from(&fields.bytes()?[..])
        .map(u32::from_be_bytes)
        .map_err(|_| Failure::BadMessage)
}

/// The path without links and dots. Its last part need not exist.
fn real_path(path: &Path) -> io::Result<PathBuf> {
    match (fs::canonicalize(path), path.parent(), path.file_name()) {
        (Err(error), Some(parent), Some(name)) if error.kind() == io::ErrorKind::NotFound => {
            Ok(fs::canonicalize(parent)?.join(name))
        }
        (result, ..) => result,
    }
}

fn set_attributes(path: &Path, wanted: &Attributes, follows: bool) -> Result<(), Failure> {
    if let (Some(size), true) = (wanted.size, follows) {
        OpenOptions::new().write(true).open(path)?.set_len(size)?;
    }
    if let Some((user, group)) = wanted.owner {
        if follows {
            std::os::unix::fs::chown(path, Some(user), Some(group))?;
        } else {
            std::os::unix::fs::lchown(path, Some(user), Some(group))?;
        }
    }
    // A link has no mode of its own.
    if let (Some(mode), true) = (wanted.mode, follows) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o7777))?;
    }
    if let Some(times) = wanted.times {
        let flags = if follows {
            AtFlags::empty()
        } else {
            AtFlags::SYMLINK_NOFOLLOW
        };
        rustix::fs::utimensat(CWD, path, &timestamps(times), flags)?;
    }
    Ok(())
}

fn set_file_attributes(file: &File, wanted: &Attributes) -> Result<(), Failure> {
    if let Some(size) = wanted.size {
        file.set_len(size)?;
    }
    if let Some((user, group)) = wanted.owner {
        std::os::unix::fs::fchown(file, Some(user), Some(group))?;
    }
    if let Some(mode) = wanted.mode {
        file.set_permissions(fs::Permissions::from_mode(mode & 0o7777))?;
    }
    if let Some(times) = wanted.times {
        rustix::fs::futimens(file, &timestamps(times))?;
    }
    Ok(())
}

fn timestamps((access, modification): (u32, u32)) -> Timestamps {
    let time = |seconds: u32| Timespec {
        tv_sec: seconds.into(),
        tv_nsec: 0,
    };
    Timestamps {
        last_access: time(access),
        last_modification: time(modification),
    }
}

fn file_system(out: &mut Answers, system: &rustix::fs::StatVfs) {
    /// Bits of the extension: read-only, no set-user-id.
    const READ_ONLY: u64 = 1;
    const NO_SET_USER_ID: u64 = 2;
    let flags = system.f_flag;
    let flag =
        |bit: rustix::fs::StatVfsMountFlags, is: u64| if flags.contains(bit) { is } else { 0 };
    for number in [
        system.f_bsize,
        system.f_frsize,
        system.f_blocks,
        system.f_bfree,
        system.f_bavail,
        system.f_files,
        system.f_ffree,
        system.f_favail,
        system.f_fsid,
        flag(rustix::fs::StatVfsMountFlags::RDONLY, READ_ONLY)
            | flag(rustix::fs::StatVfsMountFlags::NOSUID, NO_SET_USER_ID),
        system.f_namemax,
    ] {
        out.u64(number);
    }
}
