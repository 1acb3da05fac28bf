//! `--out DIR`: two files for each server, and an index.

use std::{
    collections::{HashMap, HashSet},
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use ops_ui::{Error, Result};
use serde_json::{Value, json};

use super::{
    Sink, View,
    document::{API_VERSION, Row},
};
use crate::{capture::Stream, hosts::Host, outcome::Ending};

/// The name of the index.
const INDEX: &str = "index.json";
/// Longest beginning of a file's name, in bytes: file systems take names of 255 bytes (`NAME_MAX`),
/// and a tag may have four times that.
const LONGEST_STEM: usize = 200;

/// The view: nothing goes to stdout.
pub(crate) struct Folder {
    path: PathBuf,
    hosts: Vec<Host>,
    /// How the names of their files begin.
    stems: Vec<String>,
    /// The two files of each server while it runs.
    files: Vec<Option<[File; 2]>>,
    rows: Vec<Option<Value>>,
}

impl Folder {
    /// Makes the folder if it is missing. What an earlier run has left in it under the same names
    /// is replaced.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn create(path: PathBuf, hosts: Vec<Host>) -> Result<Self> {
        std::fs::create_dir_all(&path).map_err(|error| unwritten(&path, error))?;
        // A folder in which nothing can be written is told before a command is started.
        write_index(&path, &[])?;
        let files = hosts.iter().map(|_| None).collect();
        let rows = hosts.iter().map(|_| None).collect();
        Ok(Self {
            path,
            stems: file_stems(&hosts),
            hosts,
            files,
            rows,
        })
    }

    fn names(&self, host: usize) -> [String; 2] {
        let stem = &self.stems[host];
        [format!("{stem}.out"), format!("{stem}.err")]
    }

    fn files(&mut self, host: usize) -> Result<&mut [File; 2]> {
        if self.files[host].is_none() {
            let [out, err] = self.names(host).map(|name| self.path.join(name));
            self.files[host] = Some([create(&out)?, create(&err)?]);
        }
        self.files[host]
            .as_mut()
            .ok_or_else(|| Error::unexpected("the files of a server are gone"))
    }
}

/// A new file that its user alone may read: outputs of servers hold what the servers hold.
///
/// One that is there already is removed and not written into: it may be a link that leads
/// elsewhere, have a second name, or be readable for others. Whoever puts a link in its place
/// meanwhile makes this fail (`O_EXCL` follows none).
fn create(path: &Path) -> Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(unwritten(path, error));
        }
        Ok(()) | Err(_) => {}
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| unwritten(path, error))
}

fn unwritten(path: &Path, error: io::Error) -> Error {
    Error::unexpected(format!("`{}` cannot be written", path.display()))
        .caused_by(error)
        .hint("name another folder: --out DIR")
}

/// How the files of each of `hosts` are called: by its label, and where that is not enough to tell
/// them apart, by its id too. Labels are tags, which whoever runs a server may set: none of them
/// gets the outputs of another one under its name.
fn file_stems(hosts: &[Host]) -> Vec<String> {
    let plain: Vec<String> = hosts.iter().map(|host| file_stem(&host.label)).collect();
    let mut uses = HashMap::<String, usize>::new();
    for stem in &plain {
        *uses.entry(folded(stem)).or_default() += 1;
    }
    let mut taken = HashSet::new();
    let named = hosts.iter().zip(plain).map(|(host, stem)| {
        // A letter with an accent has two forms in Unicode, which some file systems (those of
        // macOS) take for one name: such names are told apart by ids, whether or not there are two.
        let is_enough = stem.is_ascii() && stem.len() <= LONGEST_STEM && uses[&folded(&stem)] == 1;
        let stem = if is_enough {
            stem
        } else {
            let end = stem.floor_char_boundary(LONGEST_STEM);
            format!("{}_{}", &stem[..end], file_stem(&host.instance.id))
        };
        // The same server twice, as two users, or a tag that looks like all this: by a number.
        let mut named = stem.clone();
        let mut number = 1;
        while !taken.insert(folded(&named)) {
            number += 1;
            named = format!("{stem}_{number}");
        }
        named
    });
    named.collect()
}

/// Some file systems take names for the same that differ in case alone.
fn folded(stem: &str) -> String {
    stem.to_lowercase()
}

/// A label as the beginning of a file's name: within its folder, not hidden, and no option to a
/// program that is given it.
fn file_stem(label: &str) -> String {
    let stem: String = label
        .chars()
        .map(|c| match c {
            '/' | '\\' | ':' => '_',
            c if c.is_control() || c.is_whitespace() => '_',
            c => c,
        })
        .collect();
    match stem.strip_prefix(['.', '-']) {
        Some(rest) => format!("_{rest}"),
        None => stem,
    }
}

impl View for Folder {
    fn hear(&mut self, host: usize, stream: Stream, piece: &[u8], _: &mut dyn Sink) -> Result<()> {
        let path = self.path.join(&self.names(host)[stream as usize]);
        self.files(host)?[stream as usize]
            .write_all(piece)
            .map_err(|error| unwritten(&path, error))
    }

    fn end(&mut self, host: usize, ending: &Ending, _: &mut dyn Sink) -> Result<()> {
        let mut row =
            serde_json::to_value(Row::new(&self.hosts[host], ending)).map_err(Error::unforeseen)?;
        if ending.started.is_some() {
            // Both files are there also where nothing was written.
            self.files(host)?;
            let [out, err] = self.names(host);
            row["stdoutFile"] = json!(out);
            row["stderrFile"] = json!(err);
        }
        self.files[host] = None;
        self.rows[host] = Some(row);
        Ok(())
    }

    fn finish(&mut self, _: &mut dyn Sink) -> Result<()> {
        let items: Vec<Value> = self.rows.iter_mut().filter_map(Option::take).collect();
        write_index(&self.path, &items)
    }
}

/// Writes the index of the servers that have ended.
fn write_index(folder: &Path, items: &[Value]) -> Result<()> {
    let index = json!({ "apiVersion": API_VERSION, "kind": "ExecIndex", "items": items });
    let path = folder.join(INDEX);
    let mut text = serde_json::to_string_pretty(&index).map_err(Error::unforeseen)?;
    text.push('\n');
    create(&path)?
        .write_all(text.as_bytes())
        .map_err(|error| unwritten(&path, error))
}

#[cfg(test)]
mod tests {
    use ops_profile::Instance;
    use ops_remote::exec::Status;

    use super::super::tests::RecordedOutput;
    use super::*;
    use crate::outcome::Outcome;

    fn host(label: &str) -> Host {
        Host {
            instance: Instance::bare("i-0123456789abcdef0", "eu-west-1"),
            user: None,
            label: label.to_owned(),
        }
    }

    #[test]
    fn no_label_leads_out_of_the_folder() {
        assert_eq!(file_stem("web-1"), "web-1");
        assert_eq!(file_stem("../../etc/passwd"), "_._.._etc_passwd");
        assert_eq!(file_stem("-rf"), "_rf");
        assert_eq!(file_stem("a b\n"), "a_b_");
        assert_eq!(file_stem("twin/i-00000001"), "twin_i-00000001");
    }

    #[test]
    fn no_two_servers_share_a_file() {
        let long = "x".repeat(300);
        let labels = [
            "a/b",
            "a_b",
            "Web",
            "web",
            &long,
            "plain",
            "caf\u{e9}",
            "cafe\u{301}",
        ];
        let mut hosts: Vec<Host> = labels.into_iter().map(host).collect();
        for (at, host) in hosts.iter_mut().enumerate() {
            host.instance.id = format!("i-0000000{at}");
        }
        hosts.push(hosts[5].clone());
        let stems = file_stems(&hosts);
        let long = format!("{}_i-00000004", &long[..LONGEST_STEM]);
        assert_eq!(
            stems,
            [
                "a_b_i-00000000",
                "a_b_i-00000001",
                "Web_i-00000002",
                "web_i-00000003",
                &long,
                "plain_i-00000005",
                "caf\u{e9}_i-00000006",
                "cafe\u{301}_i-00000007",
                "plain_i-00000005_2",
            ]
        );
    }

    #[test]
    fn what_is_in_the_folder_already_leads_nowhere_and_keeps_no_mode() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("out");
        std::fs::create_dir(&path).expect("a folder");
        let precious = folder.path().join("authorized_keys");
        std::fs::write(&precious, "mine").expect("a file");
        symlink(&precious, path.join("a.out")).expect("a link");
        std::fs::hard_link(&precious, path.join("a.err")).expect("a link");
        std::fs::write(path.join(INDEX), "old").expect("a file");
        std::fs::set_permissions(path.join(INDEX), std::fs::Permissions::from_mode(0o666))
            .expect("a mode");
        let mut view = Folder::create(path.clone(), vec![host("a")]).expect("a folder");
        let mut written = RecordedOutput::default();
        for stream in [Stream::Stdout, Stream::Stderr] {
            view.hear(0, stream, b"new", &mut written).expect("written");
        }
        let ended = Ending {
            outcome: Outcome::Ended(Status::Code(0)),
            ..Ending::not_started("")
        };
        view.end(0, &ended, &mut written).expect("written");
        view.finish(&mut written).expect("written");
        assert_eq!(std::fs::read(&precious).expect("a file"), b"mine");
        for name in ["a.out", "a.err", INDEX] {
            let metadata = path.join(name).symlink_metadata().expect("a file");
            assert!(metadata.is_file(), "{name}");
            assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{name}");
        }
        assert_eq!(std::fs::read(path.join("a.out")).expect("a file"), b"new");
    }

    #[test]
    fn each_server_has_two_files_and_the_index_names_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new/one");
        let mut view = Folder::create(path.clone(), vec![host("a"), host("b")]).expect("a folder");
        let mut written = RecordedOutput::default();
        view.hear(0, Stream::Stdout, b"\x00\xff", &mut written)
            .expect("written");
        let ended = Ending {
            outcome: Outcome::Ended(Status::Code(4)),
            started: Some("2026-01-02T03:04:05Z".parse().expect("a time")),
            ..Ending::not_started("")
        };
        view.end(0, &ended, &mut written).expect("written");
        view.end(1, &Ending::not_started("x"), &mut written)
            .expect("written");
        view.finish(&mut written).expect("written");
        assert_eq!(
            std::fs::read(path.join("a.out")).expect("a file"),
            b"\x00\xff"
        );
        assert_eq!(std::fs::read(path.join("a.err")).expect("a file"), b"");
        assert!(!path.join("b.out").exists());
        let index: Value =
            serde_json::from_slice(&std::fs::read(path.join(INDEX)).expect("an index"))
                .expect("JSON");
        assert_eq!(index["items"][0]["stdoutFile"], "a.out");
        assert_eq!(index["items"][0]["code"], 4);
        assert_eq!(index["items"][1]["state"], "not-started");
        assert_eq!(index["items"][1].get("stdoutFile"), None);
        assert_eq!(written.screen, "");
    }
}
