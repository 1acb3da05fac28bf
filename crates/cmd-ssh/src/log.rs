//! ssh's own messages on their way to stderr.
//!
//! ssh ends with 255 for a login that was refused, for a connection that was lost, and for a remote
//! command that ends so. Its messages alone tell these apart, so `ops ssh` reads along: ssh writes
//! them into a FIFO (`-E`), and what comes out of it goes to stderr as it is. The server's error
//! output does not go this way.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    thread::JoinHandle,
};

use ops_core::Context;
use rustix::fs::OFlags;

/// Ends what is read: ssh escapes every control character, this one too, so that none of its
/// messages has it.
const END: u8 = 0;
/// Bytes of one line that are looked at; OpenSSH's messages have a kilobyte at most (`MSGBUFSIZ`).
const LINE_BYTES_MAX: usize = 4 << 10;

/// The messages of one ssh.
pub(crate) struct Log {
    path: PathBuf,
    /// Our own end for writing: without it the reader would meet an end of file before ssh has
    /// opened the FIFO, and again between two processes of it.
    writer: File,
    reader: JoinHandle<bool>,
}

impl Log {
    /// Makes the FIFO in `folder`, which is this user's alone, and passes on what comes.
    ///
    /// # Errors
    /// No FIFO can be made there.
    pub(crate) fn open(cx: &Context, folder: &Path) -> io::Result<Self> {
        let path = folder.join("log");
        make_fifo(&path)?;
        // An open for reading waits for a writer unless it must not; one for writing fails until
        // there is a reader.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let source = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(&path)?;
        let writer = OpenOptions::new().write(true).open(&path)?;
        let status = rustix::fs::fcntl_getfl(&source)?;
        rustix::fs::fcntl_setfl(&source, status - OFlags::NONBLOCK)?;
        let output = cx.clone();
        let reader = std::thread::Builder::new()
            .name("messages of ssh".to_owned())
            .spawn(move || pass_on(source, |bytes| output.output().pass_stderr(bytes)))?;
        Ok(Self {
            path,
            writer,
            reader,
        })
    }

    /// The words with which ssh writes into it.
    pub(crate) fn words(&self) -> [OsString; 2] {
        ["-E".into(), self.path.clone().into()]
    }

    /// Waits until everything is passed on that ssh has written, now that it has ended, and says
    /// whether it was a refused login that ended it.
    ///
    /// A process that ssh has left in the background, such as the master of a shared connection,
    /// still holds the FIFO: an end of file would not come.
    pub(crate) fn finish(mut self) -> bool {
        let told = self.writer.write_all(&[END]);
        told.is_ok() && self.reader.join().unwrap_or(false)
    }
}

/// Passes on what comes out of `source` up to [`END`], and says whether the login was refused.
fn pass_on(mut source: impl io::Read, pass: impl Fn(&[u8])) -> bool {
    let mut buffer = [0; 4096];
    let mut line = Vec::new();
    let mut is_refused = false;
    loop {
        let len = match source.read(&mut buffer) {
            Ok(0) | Err(_) => return is_refused,
            Ok(len) => len,
        };
        let end = buffer[..len].iter().position(|byte| *byte == END);
        let bytes = &buffer[..end.unwrap_or(len)];
        pass(bytes);
        for byte in bytes {
            if *byte == b'\n' {
                is_refused |= says_refused(&line);
                line.clear();
            } else if line.len() < LINE_BYTES_MAX {
                line.push(*byte);
            }
        }
        if end.is_some() {
            return is_refused;
        }
    }
}

/// Whether a message of ssh's is that of a login which no method has opened. Source:
/// `ssh_userauth2` in OpenSSH's sshconnect2.c, and `auth_maxtries_exceeded` of its server.
fn says_refused(line: &[u8]) -> bool {
    let line = String::from_utf8_lossy(line);
    let line = line.trim_end();
    let is_denied = line.contains("@") && line.contains(": Permission denied (");
    is_denied && line.ends_with(").") || line.ends_with(": Too many authentication failures")
}

#[cfg(not(target_vendor = "apple"))]
fn make_fifo(path: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, Mode, mkfifoat};
    Ok(mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR)?)
}

/// rustix makes no FIFO on Apple's systems; their own program does.
#[cfg(target_vendor = "apple")]
fn make_fifo(path: &Path) -> io::Result<()> {
    let status = std::process::Command::new("/usr/bin/mkfifo")
        .args(["-m", "600"])
        .arg(path)
        .status()?;
    match status.success() {
        true => Ok(()),
        false => Err(io::Error::other("mkfifo has failed")),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn read(text: &[u8]) -> (bool, Vec<u8>) {
        let passed = RefCell::new(Vec::new());
        let refused = pass_on(text, |bytes| passed.borrow_mut().extend_from_slice(bytes));
        (refused, passed.into_inner())
    }

    #[test]
    fn a_refused_login_is_told_from_everything_else_and_all_is_passed_on() {
        for (text, is_refused) in [
            (
                "me@i-0a1b2c3d4e5f60718: Permission denied (publickey).\r\n",
                true,
            ),
            (
                "Warning: one\r\nme@h: Permission denied (publickey,password).\r\n",
                true,
            ),
            (
                "Received disconnect from UNKNOWN port 65535:2: Too many authentication failures\r\n",
                true,
            ),
            ("Host key verification failed.\r\n", false),
            ("Load key \"k\": Permission denied\r\n", false),
            ("Connection closed by UNKNOWN port 65535\r\n", false),
        ] {
            let (refused, passed) = read(text.as_bytes());
            assert_eq!(refused, is_refused, "{text}");
            assert_eq!(passed, text.as_bytes());
        }
    }

    #[test]
    fn nothing_is_read_behind_the_end() {
        assert_eq!(read(b"said\n\0late\n"), (false, b"said\n".to_vec()));
    }
}
