//! The script for files in every shell that may be `sh` on a server: each line once, whatever
//! becomes of the files between two runs.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use ops_test_needs::{needs, needs_root};

use super::{
    file_frames::{FileFrames, LogFrame, LogTrouble},
    script::LogRequest,
    sources::LogSources,
};

/// What may be `sh`: Debian, Red Hat (and macOS), Alpine, Android, and the Unixes of old.
const SHELLS: [&str; 5] = ["dash", "bash", "busybox", "mksh", "ksh93"];

/// A server's shell, with log files beside it.
struct Shell {
    name: &'static str,
    folder: tempfile::TempDir,
    path: String,
    /// Times at which something was written.
    ticks: AtomicU64,
}

impl Shell {
    fn new(name: &'static str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let program = ops_test_needs::find(name).expect("the shell is installed");
        let bin = folder.path().join("bin");
        fs::create_dir(&bin).expect("a folder");
        let mut path = bin.display().to_string();
        if name == "busybox" {
            // busybox alone, as on Alpine.
            let list = Command::new(&program).arg("--list").output();
            let list = list.expect("busybox runs").stdout;
            for applet in String::from_utf8(list).expect("UTF-8").lines() {
                symlink(&program, bin.join(applet)).expect("a link");
            }
        } else {
            symlink(&program, bin.join("sh")).expect("a link");
            path = format!("{path}:/usr/local/bin:/usr/bin:/bin");
        }
        Self {
            name,
            folder,
            path,
            ticks: AtomicU64::new(0),
        }
    }

    /// The shells that this machine has.
    fn all() -> Vec<Self> {
        let there = SHELLS.into_iter();
        let all: Vec<Self> = there
            .filter(|name| ops_test_needs::find(name).is_some())
            .map(Self::new)
            .collect();
        assert!(!all.is_empty());
        all
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn append(&self, name: &str, text: impl AsRef<[u8]>) {
        let file = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.file(name));
        let written = file.and_then(|mut file| {
            file.write_all(text.as_ref())?;
            // Files are rotated minutes apart, not within one tick of the file system's clock.
            let ticks = self.ticks.fetch_add(1, Ordering::Relaxed);
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000 + ticks))
        });
        written.expect("the file takes it");
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.file(from), self.file(to)).expect("renamed");
    }

    /// Runs the script, which does not follow, to its end; of the frames it gives as many bytes as
    /// `most` allows, as if its client was lost then.
    fn read(&self, request: &LogRequest, reader: &mut FileFrames, most: usize) -> Read {
        reader.begin_run();
        let script = request.files_script(reader.places(), reader.is_begun());
        let mut command = Command::new(self.file("bin").join("sh"));
        command
            .args(["-c", &script])
            .env_clear()
            .env("PATH", &self.path)
            .env("HOME", self.folder.path());
        let output = command.output().expect("the shell runs");
        let mut frames = Vec::new();
        let sent = &output.stdout[..output.stdout.len().min(most)];
        reader.push(sent, &mut frames).unwrap_or_else(|_| {
            panic!(
                "{}: {:?}",
                self.name,
                String::from_utf8_lossy(&output.stdout)
            )
        });
        let mut read = Read::default();
        for frame in frames {
            match frame {
                LogFrame::Bytes(bytes) => read.bytes.extend(bytes),
                LogFrame::Note(text) => read.notes.push(text),
                LogFrame::Trouble(trouble) => read.troubles.push(trouble),
                LogFrame::End => read.is_complete = true,
            }
        }
        read
    }

    fn all_of(&self, request: &LogRequest, reader: &mut FileFrames) -> String {
        let read = self.read(request, reader, usize::MAX);
        assert!(read.is_complete, "{}: {read:?}", self.name);
        assert_eq!(read.notes, [""; 0], "{}", self.name);
        String::from_utf8(read.bytes).expect("UTF-8")
    }
}

#[derive(Debug, Default)]
struct Read {
    bytes: Vec<u8>,
    notes: Vec<String>,
    troubles: Vec<LogTrouble>,
    is_complete: bool,
}

fn request(files: &[&Path], lines: u32, pattern: Option<&str>) -> LogRequest {
    LogRequest {
        sources: LogSources {
            files: files
                .iter()
                .map(|path| path.display().to_string())
                .collect(),
            units: Vec::new(),
        },
        lines: Some(lines),
        pattern: pattern.map(str::to_owned),
        ..LogRequest::default()
    }
}

fn numbered(range: std::ops::RangeInclusive<u32>) -> String {
    range.map(|number| format!("line {number}\n")).collect()
}

#[test]
fn the_last_lines_come_byte_for_byte() {
    for shell in Shell::all() {
        let name = shell.name;
        // Longer than the window in which lines are looked for, with all bytes that there are.
        let mut text = b"first\n".to_vec();
        let all: Vec<u8> = (0..=255).filter(|&byte| byte != b'\n').collect();
        for _ in 0..1000 {
            text.extend_from_slice(&all);
        }
        text.extend_from_slice(b"\nlast\nnot ended");
        shell.append("log", &text);
        let of = |lines| {
            let request = request(&[&shell.file("log")], lines, None);
            let read = shell.read(&request, &mut FileFrames::default(), usize::MAX);
            read.bytes
        };
        assert!(of(2) == b"last\nnot ended", "{name}");
        assert!(of(3) == text[b"first\n".len()..], "{name}");
        assert!(of(10) == text, "{name}");
        assert!(of(0).is_empty(), "{name}");
        let request = request(&[&shell.file("log")], 2, Some("^(la|fi|not)"));
        assert_eq!(
            shell.all_of(&request, &mut FileFrames::default()),
            "last\nnot ended\n",
            "{name}"
        );
    }
}

#[test]
fn after_a_loss_each_line_comes_once() {
    for shell in Shell::all() {
        let name = shell.name;
        let log = shell.file("log");
        let (all, some) = (
            request(&[&log], 1000, None),
            request(&[&log], 4, Some("[05]$")),
        );
        let (mut reader, mut matching) = (FileFrames::default(), FileFrames::default());
        shell.append("log", numbered(1..=20));
        let mut got = shell.all_of(&all, &mut reader);
        let mut got_matching = shell.all_of(&some, &mut matching);
        let mut go_on = |what: &str, written: u32| {
            got.push_str(&shell.all_of(&all, &mut reader));
            assert_eq!(got, numbered(1..=written), "{name}: {what}");
            got_matching.push_str(&shell.all_of(&some, &mut matching));
        };
        shell.append("log", numbered(21..=30));
        go_on("written to", 30);
        shell.append("log", numbered(31..=40));
        shell.rename("log", "log.1");
        go_on("rotated away, nothing new yet", 40);
        shell.append("log", numbered(41..=45));
        go_on("taken up again", 45);
        shell.append("log", numbered(46..=50));
        shell.rename("log", "log-20260101");
        shell.append("log", numbered(51..=55));
        shell.rename("log", "log-20260102");
        shell.append("log", numbered(56..=60));
        go_on("rotated twice", 60);
        shell.append("log", numbered(61..=65));
        fs::copy(&log, shell.file("log.2")).expect("a copy");
        fs::write(&log, "").expect("emptied");
        shell.append("log", numbered(66..=90));
        go_on("copied and emptied, and longer than before", 90);
        // Four lines from before, then all that were new.
        let wanted: String = (1..=18)
            .map(|count| format!("line {}\n", count * 5))
            .collect();
        assert_eq!(got_matching, wanted, "{name}");
    }
}

#[test]
fn a_client_that_is_lost_between_two_pieces_goes_on_behind_the_last() {
    for shell in Shell::all() {
        let name = shell.name;
        let log = shell.file("log");
        // Several pieces; a line that is longer than one.
        let long = "x".repeat(900_000);
        let text = format!("{}{long}\n{}", numbered(1..=30_000), numbered(1..=30_000));
        shell.append("log", &text);
        for pattern in [None, Some("")] {
            let request = request(&[&log], 100_000, pattern);
            let mut reader = FileFrames::default();
            let mut got = Vec::new();
            for most in [10, 600_000, 1_500_000, usize::MAX] {
                got.extend(shell.read(&request, &mut reader, most).bytes);
            }
            assert!(got == text.as_bytes(), "{name} {pattern:?}: {}", got.len());
        }
    }
}

#[test]
fn a_file_that_is_emptied_or_gone_is_told() {
    for shell in Shell::all() {
        let name = shell.name;
        let log = shell.file("log");
        let request = request(&[&log], 10, None);
        let mut reader = FileFrames::default();
        shell.append("log", numbered(1..=5));
        shell.all_of(&request, &mut reader);
        // No copy of what it was.
        fs::write(&log, "other\n").expect("emptied");
        let read = shell.read(&request, &mut reader, usize::MAX);
        assert_eq!(read.bytes, b"other\n", "{name}");
        assert_eq!(read.notes.len(), 1, "{name}: {read:?}");
        fs::remove_file(&log).expect("removed");
        let read = shell.read(&request, &mut reader, usize::MAX);
        assert_eq!(read.bytes, b"", "{name}");
    }
}

#[test]
fn globs_names_and_what_cannot_be_read() {
    for shell in Shell::all() {
        let name = shell.name;
        shell.append("a b*.log", "literal\n");
        shell.append("a bc.log", "other\n");
        shell.append("it's.txt", "quoted\n");
        fs::create_dir(shell.file("folder")).expect("a folder");
        let all = request(
            &[
                &shell.file("a b*.log"),
                &shell.file("*.txt"),
                &shell.file("*.none"),
                &shell.file("folder"),
                Path::new("/dev/null"),
            ],
            10,
            None,
        );
        let read = shell.read(&all, &mut FileFrames::default(), usize::MAX);
        let root = shell.folder.path().display();
        // A name that is there is no glob.
        let wanted =
            format!("==> {root}/a b*.log <==\nliteral\n\n==> {root}/it's.txt <==\nquoted\n");
        assert_eq!(String::from_utf8_lossy(&read.bytes), wanted, "{name}");
        assert_eq!(
            read.troubles,
            [
                LogTrouble::Missing(format!("{root}/*.none")),
                LogTrouble::Folder(format!("{root}/folder")),
                LogTrouble::Special("/dev/null".to_owned()),
            ],
            "{name}"
        );
        let request = request(&[&shell.file("it's.txt")], 10, Some("["));
        let read = shell.read(&request, &mut FileFrames::default(), usize::MAX);
        assert_eq!(read.troubles, [LogTrouble::Pattern], "{name}");
    }
}

#[test]
fn a_file_of_somebody_else_is_unreadable_and_not_missing() {
    needs!("setpriv");
    needs_root!();
    let folder = tempfile::tempdir().expect("a folder");
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).expect("a folder");
    let file = inner.join("log");
    fs::write(&file, "x\n").expect("a file");
    let set = |path: &Path, mode| {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
    };
    set(folder.path(), 0o755);
    let unreadable = LogTrouble::Unreadable(file.display().to_string());
    for (of_folder, of_file) in [(0o755, 0o600), (0o700, 0o644)] {
        set(&inner, of_folder);
        set(&file, of_file);
        let mut reader = FileFrames::default();
        let script = request(&[&file], 10, None).files_script(reader.places(), false);
        let output = Command::new("setpriv")
            .args(["--reuid=65534", "--clear-groups", "sh", "-c", &script])
            .output()
            .expect("setpriv runs");
        let mut frames = Vec::new();
        let read = reader.push(&output.stdout, &mut frames);
        assert_eq!(read, Ok(()), "{output:?}");
        assert_eq!(
            frames,
            [LogFrame::Trouble(unreadable.clone()), LogFrame::End]
        );
    }
}

#[test]
fn the_scripts_are_clean_for_shellcheck() {
    needs!("shellcheck");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/logs/scripts");
    let output = Command::new("shellcheck")
        .arg(folder.join("files.sh"))
        .arg(folder.join("journal.sh"))
        .output()
        .expect("shellcheck runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}
