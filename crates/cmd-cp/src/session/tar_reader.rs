//! A tar archive as a server writes it, file by file, with headers that are bounded.
//!
//! A name that does not fit into a tar header stands in a record of its own before it (`L` of GNU
//! tar, `x` of pax), and says itself how long it is: six gigabytes of zeros are 200 KB once they
//! are compressed. The reader of the crate `tar` takes such a record into memory whatever its
//! length; so its records are asked for raw, and read here.

use std::io::{self, Read};

/// Longest record that holds a name, in bytes: PATH_MAX of Linux, which counts the NUL at its end.
const NAME_RECORD_MAX_BYTES: u64 = 4096;
/// Longest pax record, in bytes: a path and a link's target of PATH_MAX each, and times, owners and
/// extended attributes beside them.
const PAX_RECORD_MAX_BYTES: u64 = 16 << 10;

/// A file of the archive.
pub(super) struct ArchivedFile<'a, R: Read> {
    /// As the server wrote it, bytes of any kind.
    pub(super) path: Vec<u8>,
    pub(super) content: tar::Entry<'a, R>,
}

/// The files of an archive in their order; what is no file is passed over.
pub(super) struct ArchivedFiles<'a, R: Read> {
    entries: tar::Entries<'a, R>,
}

impl<'a, R: Read> ArchivedFiles<'a, R> {
    /// Those of `archive`.
    ///
    /// # Errors
    /// It is not read from its beginning.
    pub(super) fn of(archive: &'a mut tar::Archive<R>) -> io::Result<Self> {
        let entries = archive.entries()?.raw(true);
        Ok(Self { entries })
    }

    /// The next file; `None` at the end.
    ///
    /// # Errors
    /// What comes is no archive, or a record is longer than any name.
    pub(super) fn next(&mut self) -> io::Result<Option<ArchivedFile<'a, R>>> {
        // Of the file that follows; pax counts where there are both.
        let (mut long_name, mut pax_path) = (None, None);
        for entry in self.entries.by_ref() {
            let mut entry = entry?;
            let kind = entry.header().entry_type();
            if kind.is_gnu_longname() || kind.is_gnu_longlink() {
                let mut name = record(&mut entry, NAME_RECORD_MAX_BYTES)?;
                if name.last() == Some(&0) {
                    name.pop();
                }
                if kind.is_gnu_longname() {
                    long_name = Some(name);
                }
            } else if kind.is_pax_local_extensions() || kind.is_pax_global_extensions() {
                let records = record(&mut entry, PAX_RECORD_MAX_BYTES)?;
                if kind.is_pax_local_extensions() {
                    pax_path = path_of_pax(&records).map(<[u8]>::to_vec);
                }
            } else if kind.is_file() {
                let path = match pax_path.or(long_name) {
                    Some(path) => path,
                    None => entry.path_bytes().into_owned(),
                };
                return Ok(Some(ArchivedFile {
                    path,
                    content: entry,
                }));
            } else {
                (long_name, pax_path) = (None, None);
            }
        }
        Ok(None)
    }
}

/// All of a record that may have `most` bytes.
fn record(entry: &mut tar::Entry<'_, impl Read>, most: u64) -> io::Result<Vec<u8>> {
    let len = entry.size();
    if len > most {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a header record of {len} bytes is longer than any name, which has {most}"),
        ));
    }
    let mut bytes = Vec::new();
    entry.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The path in pax records, each `LENGTH KEY=VALUE` and a line feed; the length counts itself too,
/// so that a value may hold line feeds. Source: POSIX.1-2017, pax, "pax Extended Header".
fn path_of_pax(mut records: &[u8]) -> Option<&[u8]> {
    let mut path = None;
    while !records.is_empty() {
        let blank = records.iter().position(|&byte| byte == b' ')?;
        let len: usize = std::str::from_utf8(&records[..blank]).ok()?.parse().ok()?;
        let pair = records.get(blank + 1..len.checked_sub(1)?)?;
        let equals = pair.iter().position(|&byte| byte == b'=')?;
        if &pair[..equals] == b"path" {
            path = Some(&pair[equals + 1..]);
        }
        records = records.get(len..)?;
    }
    path
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Counts what is read.
    struct Counted<R>(R, u64);

    impl<R: Read> Read for Counted<R> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let read = self.0.read(buffer)?;
            self.1 += read as u64;
            Ok(read)
        }
    }

    fn header(kind: tar::EntryType, size: u64) -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        header.set_path("x").unwrap();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        header.set_cksum();
        header.as_bytes().to_vec()
    }

    fn paths(bytes: impl Read) -> io::Result<Vec<Vec<u8>>> {
        let mut archive = tar::Archive::new(bytes);
        let mut files = ArchivedFiles::of(&mut archive)?;
        let mut paths = Vec::new();
        while let Some(file) = files.next()? {
            paths.push(file.path);
        }
        Ok(paths)
    }

    #[test]
    fn a_record_of_gigabytes_is_refused_before_it_is_read() {
        use tar::EntryType as Kind;
        for kind in [
            Kind::GNULongName,
            Kind::GNULongLink,
            Kind::XHeader,
            Kind::XGlobalHeader,
        ] {
            let start = header(kind, 6 << 30);
            let zeros = io::repeat(0).take(6 << 30);
            let mut counted = Counted(start.as_slice().chain(zeros), 0);
            let error = paths(&mut counted).unwrap_err();
            assert!(
                error.to_string().contains("longer than any name"),
                "{error}"
            );
            assert!(
                counted.1 <= 4096,
                "{} bytes of {kind:?} were read",
                counted.1
            );
        }
    }

    #[test]
    fn long_names_of_gnu_tar_and_of_pax_are_read() {
        let long = [b'n'; 3000];
        let gnu = {
            let mut builder = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            header.set_size(1);
            let name = std::str::from_utf8(&long).unwrap();
            builder.append_data(&mut header, name, &b"1"[..]).unwrap();
            builder.into_inner().unwrap()
        };
        assert_eq!(paths(&gnu[..]).unwrap(), [long.to_vec()]);
        let name = "a\nb/\u{fc}";
        let pair = format!(" path={name}\n");
        let text = format!("{}{pair}20 comment=anything\n", pair.len() + 2);
        let mut pax = header(tar::EntryType::XHeader, text.len() as u64);
        pax.extend_from_slice(text.as_bytes());
        pax.resize(1024, 0);
        pax.extend(header(tar::EntryType::Regular, 0));
        pax.extend([0; 1024]);
        assert_eq!(paths(&pax[..]).unwrap(), [name.as_bytes().to_vec()]);
    }

    #[test]
    fn what_gnu_tar_writes_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let deep = "d".repeat(200);
        std::fs::create_dir(folder.path().join(&deep)).unwrap();
        std::fs::write(folder.path().join(&deep).join("f"), "x").unwrap();
        for format in ["gnu", "pax", "ustar"] {
            let output = std::process::Command::new("tar")
                .args(["-C", folder.path().to_str().unwrap()])
                .args([
                    &format!("--format={format}"),
                    "-cf",
                    "-",
                    &format!("./{deep}/f"),
                ])
                .output();
            // Not every tar knows these, and not every machine has one.
            if let Ok(output) = output
                && output.status.success()
            {
                let wanted = format!("./{deep}/f").into_bytes();
                assert_eq!(paths(&output.stdout[..]).unwrap(), [wanted], "{format}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_archive_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            let _ = paths(&bytes[..]);
            let _ = path_of_pax(&bytes);
        }

        #[test]
        fn any_records_are_read_or_not(text in "[0-9]{1,4} path=[a-z\n]{0,9}\n([0-9]{1,3} [a-z]{1,4}=?[a-z]{0,4}\n){0,3}") {
            let _ = path_of_pax(text.as_bytes());
        }
    }
}
