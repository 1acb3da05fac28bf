//! The scripts of a run as they are sent.

use std::{
    os::unix::fs::symlink,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use ops_test_needs::needs;

use super::{Request, order::Order, scripts};
use crate::pipe::text::{Decoder, Encoding, Item};

/// A shell that is `sh`, with the tools that come with it.
struct Shell {
    folder: tempfile::TempDir,
    path: String,
}

impl Shell {
    /// `name` as `sh`, beside this machine's programs.
    fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = ops_test_needs::find(name).unwrap();
        if name == "busybox" {
            // busybox alone, as on Alpine.
            let list = Command::new(&program).arg("--list").output().unwrap();
            for applet in String::from_utf8(list.stdout).unwrap().lines() {
                symlink(&program, folder.path().join(applet)).unwrap();
            }
        } else {
            symlink(&program, folder.path().join("sh")).unwrap();
        }
        let mut path = folder.path().display().to_string();
        if name != "busybox" {
            path = format!("{path}:{}", std::env::var("PATH").unwrap());
        }
        Self { folder, path }
    }

    fn start(&self, script: &str) -> Child {
        assert!(!script.contains('\''));
        Command::new(self.folder.path().join("sh"))
            .args(["-c", script])
            .env("PATH", &self.path)
            .env("TMPDIR", self.folder.path())
            .env("HOME", self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }
}

/// A line as it is given to the server.
fn order(line: &str, adapt: impl FnOnce(&mut Request)) -> Order {
    let mut request = Request::new(super::Command::Line(line.as_bytes().to_vec()));
    request.patience = Duration::from_secs(60);
    adapt(&mut request);
    Order::new(&request).unwrap()
}

/// Where nothing can be written: both streams and the status all the same.
#[test]
fn a_direct_command_needs_no_place_to_write() {
    needs!("dash");
    let shell = Shell::new("dash");
    // As where mktemp finds no place.
    let nothing = ops_test_needs::find("false").unwrap();
    symlink(nothing, shell.folder.path().join("mktemp")).unwrap();
    let order = order("printf 'a\\000b\\377'; echo gone >&2; exit 42", |_| ());
    let output = shell
        .start(&scripts::begin(&order, true))
        .wait_with_output()
        .unwrap();
    let mut items = Vec::new();
    let mut decoder = Decoder::new(Encoding::Base64);
    decoder.push(&output.stdout, &mut items).unwrap();
    decoder.finish().unwrap();
    let message = |text: &str| Item::Message(text.to_owned());
    assert_eq!(
        items,
        [
            message("nowhere"),
            message("running"),
            Item::Bytes(b"a\0b\xff".as_slice().into()),
            message("over 42"),
        ]
    );
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(told, "!x Z29uZQo=\n!over 42\n");
}

#[test]
fn the_scripts_are_clean_for_shellcheck() {
    needs!("shellcheck");
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/exec/scripts");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert_eq!(paths.len(), 3);
    let output = Command::new("shellcheck")
        .args(["--shell=sh", "--severity=style"])
        .args(&paths)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
}
