//! The scripts in the shells that servers have, as they are sent.

mod reading;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, PermissionsExt as _, symlink},
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use aws_lc_rs::digest;
use ops_remote::script::compact;
use ops_test_needs::{
    needs,
    shells::{Shell, assert_clean_for_shellcheck, scripts_in},
};

use super::{
    dialogue::{self, SPREAD},
    download::FETCH,
    fetch_archive::ARCHIVE,
    list::{DESCRIBE, LIST},
    probe::{self, Tools},
    script,
    store_archive::ArchiveWriter,
};
use crate::{hashes, hashes::hex, landing, remote_path::RemotePath};

fn tools_of(shell: &Shell) -> Tools {
    let script = format!("{}tell_tools\n", probe::probing_script());
    assert!(!script.contains('\''), "{script}");
    let output = shell.command(&script).output().unwrap();
    Tools::parse_told(&output.stdout).unwrap_or_else(|| panic!("{}: {output:?}", shell.name()))
}

/// A dialogue with a shell over pipes.
struct ShellDialogue {
    child: Child,
    input: ChildStdin,
    answers: BufReader<ChildStdout>,
    number: u64,
    private: tempfile::TempDir,
}

impl ShellDialogue {
    fn start(shell: &Shell, tools: &Tools) -> Self {
        Self::start_on(shell, Some(tools))
    }

    /// `None` for tools that are not known yet.
    fn start_on(shell: &Shell, tools: Option<&Tools>) -> Self {
        let private = tempfile::tempdir().unwrap();
        let text = format!(
            "private='{}'\nexec 8>&1\nsay() {{ printf \"!%s %s\\n\" \"$1\" \"$2\" >&8; }}\n( {}\n)\n",
            private.path().display(),
            dialogue::dialogue_script(tools)
        );
        let mut child = shell
            .command(&text)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            input: child.stdin.take().unwrap(),
            answers: BufReader::new(child.stdout.take().unwrap()),
            child,
            number: 0,
            private,
        }
    }

    fn send(&mut self, line: &str) {
        self.number += 1;
        let line = format!("{} {line}\n", self.number);
        self.input.write_all(line.as_bytes()).unwrap();
    }

    #[track_caller]
    fn ask(&mut self, line: &str) -> String {
        self.send(line);
        self.answer()
    }

    #[track_caller]
    fn answer(&mut self) -> String {
        let mut answer = Vec::new();
        self.answers.read_until(b'\n', &mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let text = answer
            .trim_end()
            .strip_prefix('!')
            .unwrap_or_else(|| panic!("no answer: {answer:?}"));
        let (number, text) = text.split_once(' ').unwrap();
        if !text.starts_with("lost") {
            assert_eq!(number, self.number.to_string(), "{answer}");
        }
        text.to_owned()
    }

    /// A frame that was announced by `line`.
    #[track_caller]
    fn frame(&mut self, line: &str, bytes: &[u8]) {
        self.send(line);
        self.input.write_all(bytes).unwrap();
        assert_eq!(self.answer(), format!("credit {}", bytes.len()), "{line}");
    }

    /// Stores `content` at `path`; gives the answer to its end.
    #[track_caller]
    fn store(&mut self, path: &RemotePath, content: &[u8], mode: &str) -> String {
        let temporary = script::printf_word(&landing::temporary_name(path.name_or(b"x"), false));
        let place = dialogue::place_words(path.steps());
        let begun = self.ask(&format!("begin {place} {temporary} 0 1"));
        if begun != "ok" {
            return begun;
        }
        self.frame(&format!("write {} -", content.len()), content);
        self.ask(&format!(
            "end {} {} 0 {mode} 202001020304.05",
            sha256(content),
            content.len()
        ))
    }

    /// What would be removed if the shell died now.
    fn kept(&self) -> String {
        fs::read_to_string(self.private.path().join("remove")).unwrap_or_default()
    }

    #[track_caller]
    fn quit(mut self) {
        assert_eq!(self.ask("quit"), "ok");
        assert!(self.child.wait().unwrap().success());
    }
}

fn sha256(bytes: &[u8]) -> String {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(bytes);
    hex(&hashes::finish_hash(hash))
}

fn remote(folder: &Path, below: &[u8]) -> RemotePath {
    RemotePath::new(folder.as_os_str().as_bytes(), below)
}

fn place(folder: &Path, below: &[u8]) -> String {
    dialogue::place_words(remote(folder, below).steps())
}

fn words(folder: &Path, below: &[u8]) -> String {
    let root = script::printf_word(folder.as_os_str().as_bytes());
    format!("{root} {}", script::printf_word(below))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Everything that a dialogue does, in `shell`.
fn hold_to_its_word(shell: &Shell) {
    let tools = tools_of(shell);
    // All of them are there, on Linux, in every shell.
    for tool in ["blocks", "handles", "tar", "xargs"] {
        assert!(tools.has(tool) || !cfg!(target_os = "linux"), "no {tool}");
    }
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let outside = root.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("victim"), "precious").unwrap();
    let there = root.join("there");
    fs::create_dir(&there).unwrap();
    let mut talk = ShellDialogue::start(shell, &tools);

    // Folders: made, found, and no links.
    let make = |name: &[u8]| format!("folder {} 750", place(&there, name));
    assert_eq!(talk.ask(&make(b"sub")), "ok new");
    assert_eq!(talk.ask(&make(b"sub")), "ok");
    let mode = fs::metadata(there.join("sub")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o750);
    symlink("../outside", there.join("link")).unwrap();
    symlink("victim", outside.join("to-victim")).unwrap();
    for name in [&b"link"[..], b"link/deeper"] {
        let answer = talk.ask(&make(name));
        assert!(answer.contains("link is a link on the server"), "{answer}");
    }
    let answer = talk.ask(&make(b"missing/deeper"));
    assert!(answer.ends_with("missing is not there"), "{answer}");

    // Files with names that mean something somewhere, new and in the place of others.
    for name in [
        &b"plain"[..],
        b"-rf",
        b" a  b ",
        b"new\nline\n",
        b"$(touch pwned) `id` \"q\" 'q'",
        b"back\\slash\\0101",
        b"star*[a]?",
        b"bad\xff\xfe",
        b"\xe6\x97\xa5",
    ] {
        let below = [b"sub/", name].concat();
        let path = remote(&there, &below);
        for (content, mode) in [(&b"one"[..], "640"), (b"", "600"), (b"two\0\n", "755")] {
            assert_eq!(talk.store(&path, content, mode), "ok", "{name:?}");
            let local = there.join(crate::place::local_path(&below));
            assert_eq!(fs::read(&local).unwrap(), content);
            // One that is replaced keeps its own.
            let known = fs::metadata(&local).unwrap();
            assert_eq!(known.mode() & 0o7777, 0o640);
            assert_eq!(known.mtime(), 1_577_934_245);
        }
    }
    assert_eq!(talk.kept(), "");

    // A link below what was named is replaced; one that was named is followed.
    symlink("../outside/victim", there.join("file")).unwrap();
    assert_eq!(talk.store(&remote(&there, b"file"), b"new", "600"), "ok");
    assert!(!there.join("file").is_symlink());
    symlink("../outside", there.join("to-folder")).unwrap();
    let answer = talk.store(&remote(&there, b"to-folder"), b"new", "600");
    assert_eq!(answer, "ok");
    assert!(there.join("to-folder").is_file());
    let answer = talk.store(&remote(&there, b"link/victim"), b"new", "600");
    assert!(answer.contains("is a link on the server"), "{answer}");
    assert_eq!(fs::read(outside.join("victim")).unwrap(), b"precious");
    assert_eq!(names(&outside), ["to-victim", "victim"]);
    fs::write(there.join("real"), "old").unwrap();
    symlink("real", there.join("named")).unwrap();
    let named = RemotePath::named(there.join("named").as_os_str().as_bytes().to_vec());
    assert_eq!(talk.store(&named, b"new", "600"), "ok");
    assert!(there.join("named").is_symlink());
    assert_eq!(fs::read(there.join("real")).unwrap(), b"new");
    // A folder that was named may be a link too.
    let by_link = there.join("link");
    assert_eq!(
        talk.store(&remote(&by_link, b"by-link"), b"new", "600"),
        "ok"
    );
    assert_eq!(fs::read(outside.join("by-link")).unwrap(), b"new");
    for (below, why) in [
        (&b"sub"[..], "is a folder"),
        (b"pipe", "neither file nor link"),
    ] {
        if below == b"pipe" {
            let made = Command::new("mkfifo").arg(there.join("pipe")).status();
            assert!(made.unwrap().success());
        }
        let answer = talk.store(&remote(&there, below), b"new", "600");
        assert!(answer.contains(why), "{answer}");
    }

    // Links, in the place of files and links.
    for target in [&b"sub"[..], b"../out side", b"-x"] {
        let answer = talk.ask(&format!(
            "link {} .l.ops-1 {}",
            place(&there, b"sub/l"),
            script::printf_word(target)
        ));
        assert_eq!(answer, "ok");
        let read = fs::read_link(there.join("sub/l")).unwrap();
        assert_eq!(read.as_os_str().as_bytes(), target);
    }

    // What is not whole, or given up, leaves what was there.
    let begin = format!("begin {} .p.ops-1 0 1", place(&there, b"sub/plain"));
    assert_eq!(talk.ask(&begin), "ok");
    assert!(talk.kept().ends_with("/there/sub/.p.ops-1\n"));
    talk.frame("write 3 -", b"abc");
    let answer = talk.ask(&format!("end {} 3 0 600 -", sha256(b"xyz")));
    assert_eq!(answer, "no what arrived is not what was sent");
    assert_eq!(talk.ask(&begin), "ok");
    assert_eq!(talk.ask("leave"), "ok");
    assert_eq!(fs::read(there.join("sub/plain")).unwrap(), b"two\0\n");
    assert!(!there.join("sub/.p.ops-1").exists());

    goes_on_with_parts(&mut talk, &there, &outside);
    if tools.has("blocks") {
        writes_in_lanes(shell, &tools, &mut talk, &there);
    }
    if tools.has("handles") {
        unpacks_archives(&mut talk, &tools, &there, &outside);
    } else {
        assert!(!Path::new("/proc/self/fd").exists());
    }

    // Attributes of folders, and hashes of files.
    let attributes =
        |below: &[u8]| format!("attributes {} 700 202001020304.05", words(&there, below));
    assert_eq!(talk.ask(&attributes(b"sub")), "ok");
    let known = fs::metadata(there.join("sub")).unwrap();
    assert_eq!(
        (known.mode() & 0o7777, known.mtime()),
        (0o700, 1_577_934_245)
    );
    assert!(talk.ask(&attributes(b"link")).contains("is a link"));
    let hash = |below: &[u8], len: &str| format!("hash {} {len}", place(&there, below));
    assert_eq!(
        talk.ask(&hash(b"sub/plain", "-")),
        format!("sum {}", sha256(b"two\0\n"))
    );
    assert_eq!(
        talk.ask(&hash(b"sub/plain", "2")),
        format!("sum {}", sha256(b"tw"))
    );
    for below in [&b"sub/l"[..], b"link/victim"] {
        assert!(talk.ask(&hash(below, "-")).contains("is a link"));
    }
    assert_eq!(talk.kept(), "");
    talk.quit();
    // Nothing of a name was run.
    for place in [&there, &root, &there.join("sub")] {
        assert!(!place.join("pwned").exists());
    }
}

/// With --resume: only a part that nobody else can write to is gone on with.
fn goes_on_with_parts(talk: &mut ShellDialogue, there: &Path, outside: &Path) {
    let begin = format!("begin {} .r.ops-part 1 1", place(there, b"sub/r"));
    let part = there.join("sub/.r.ops-part");
    fs::write(&part, "abc").unwrap();
    assert_eq!(talk.ask(&begin), format!("have 3 {}", sha256(b"abc")));
    assert_eq!(talk.kept(), "");
    talk.frame("write 3 -", b"def");
    assert_eq!(talk.ask("leave"), "ok");
    assert_eq!(fs::read(&part).unwrap(), b"abcdef");
    // Emptied, it is a new one.
    assert!(talk.ask(&begin).starts_with("have 6"));
    assert_eq!(talk.ask("empty"), "ok");
    talk.frame("write 1 -", b"x");
    let end = format!("end {} 1 0 644 -", sha256(b"x"));
    assert_eq!(talk.ask(&end), "ok");
    assert_eq!(fs::read(there.join("sub/r")).unwrap(), b"x");
    // A link, and a second name of a file elsewhere.
    for hard in [false, true] {
        if hard {
            fs::hard_link(outside.join("victim"), &part).unwrap();
        } else {
            symlink("../../outside/victim", &part).unwrap();
        }
        assert_eq!(talk.ask(&begin), "ok");
        talk.frame("write 1 -", b"x");
        assert_eq!(talk.ask(&end), "ok");
        assert_eq!(fs::read(outside.join("victim")).unwrap(), b"precious");
    }
}

/// Two dialogues write one file.
fn writes_in_lanes(shell: &Shell, tools: &Tools, talk: &mut ShellDialogue, there: &Path) {
    let block = |byte: u8| vec![byte; 1 << 20];
    let at = place(there, b"sub/large");
    assert_eq!(talk.ask(&format!("begin {at} .large.ops-1 0 0")), "ok");
    let mut other = ShellDialogue::start(shell, tools);
    assert_eq!(other.ask(&format!("join {at} .large.ops-1 0")), "ok");
    other.frame("write-at 1048576 - 1", &block(b'b'));
    talk.frame("write-at 1048576 - 0", &block(b'a'));
    talk.frame("write-at 5 - 9", b"enden");
    other.frame("write-at 1048576 - 8", &block(b'd'));
    other.frame("write-at 1048576 - 2", &block(b'c'));
    assert_eq!(other.ask("release"), "ok");
    other.quit();
    let mut whole = [block(b'a'), block(b'b'), block(b'c')].concat();
    whole.resize(8 << 20, 0);
    whole.extend(block(b'd'));
    whole.extend(b"enden");
    let sums = talk.ask("sums 0 2");
    let parts = [sha256(&whole[..8 << 20]), sha256(&whole[8 << 20..])];
    assert_eq!(sums, format!("sum {}", parts.join(" ")));
    let end = format!("end {} {} 0 644 -", sha256(&whole), whole.len());
    assert_eq!(talk.ask(&end), "ok");
    assert!(fs::read(there.join("sub/large")).unwrap() == whole);
}

fn unpacks_archives(talk: &mut ShellDialogue, tools: &Tools, there: &Path, outside: &Path) {
    let target = there.join("packed");
    fs::create_dir_all(target.join("deep")).unwrap();
    for (name, mode) in [("replaced", 0o604), ("deep/replaced", 0o640)] {
        fs::write(target.join(name), "old").unwrap();
        fs::set_permissions(target.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    symlink("../../outside", target.join("deep/a link")).unwrap();
    symlink("../../outside", target.join("deep/barred")).unwrap();
    fs::create_dir(target.join("taken")).unwrap();
    let files: [(&[u8], &[u8]); 6] = [
        (b"new", b"1"),
        (b"replaced", b"2"),
        (b"deep/replaced", b"3"),
        (b"deep/a link", b"4"),
        (b"deep/-n $(touch pwned)", b"5"),
        (b"deep/barred/victim", b"6"),
    ];
    let mut archive = ArchiveWriter::new();
    let mut sums = Vec::new();
    for (name, content) in files {
        archive.add(name, content, 0o600, 1_577_934_245).unwrap();
        sums.push(sha256(content));
    }
    let bytes = archive.end();
    let stage = place(&target, b".ops-stage");
    assert_eq!(talk.ask(&format!("stage {stage}")), "ok");
    assert!(talk.kept().ends_with("/packed/.ops-stage\n"));
    let mode = fs::metadata(target.join(".ops-stage")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o700);
    assert_eq!(talk.ask("unpack -"), "ok");
    let (first, second) = bytes.split_at(700);
    for part in [first, second] {
        talk.frame(&format!("{} -", part.len()), part);
    }
    talk.send("0");
    assert_eq!(talk.ask("unpacked"), "ok");
    sums.sort();
    let all = sums
        .iter()
        .map(|sum| format!("{sum}\n"))
        .collect::<String>();
    assert_eq!(
        talk.ask("verify"),
        format!("sum {}", sha256(all.as_bytes()))
    );
    let spread = |sub: &[u8], folder: &[u8]| {
        format!(
            "spread {} {} 0",
            script::printf_word(sub),
            words(&target, folder)
        )
    };
    assert_eq!(talk.ask(&spread(b"", b"")), "ok");
    assert_eq!(talk.ask(&spread(b"deep", b"deep")), "ok");
    let answer = talk.ask(&spread(b"deep/barred", b"deep/barred"));
    assert!(answer.contains("is a link on the server"), "{answer}");
    let answer = talk.ask(&spread(b"deep/barred", b"missing"));
    assert!(answer.contains("is not there"), "{answer}");
    fs::create_dir(target.join("taken/victim")).unwrap();
    let answer = talk.ask(&spread(b"deep/barred", b"taken"));
    assert!(answer.contains("victim is in the way"), "{answer}");
    assert_eq!(talk.ask("clear"), "ok");
    assert!(!target.join(".ops-stage").exists());
    for ((name, content), mode) in files.iter().zip([0o600, 0o604, 0o640, 0o600, 0o600]) {
        let path = target.join(crate::place::local_path(name));
        assert!(!path.is_symlink());
        assert_eq!(fs::read(&path).unwrap(), *content);
        let known = fs::metadata(&path).unwrap();
        assert_eq!(
            (known.mode() & 0o7777, known.mtime()),
            (mode, 1_577_934_245)
        );
    }
    assert_eq!(fs::read(outside.join("victim")).unwrap(), b"precious");
    assert_eq!(names(outside), ["by-link", "to-victim", "victim"]);
    assert_eq!(
        names(&there.join("packed/taken/victim")),
        Vec::<String>::new()
    );
    // A stage that is there already is somebody else's.
    fs::create_dir(target.join(".ops-other")).unwrap();
    let answer = talk.ask(&format!("stage {}", place(&target, b".ops-other")));
    assert!(answer.starts_with("no "), "{answer}");
    assert!(tools.has("tar"));
}

#[test]
fn the_dialogue_holds_its_word_in_dash() {
    needs!("dash");
    hold_to_its_word(&Shell::new("dash"));
}

#[test]
fn the_dialogue_holds_its_word_in_bash() {
    needs!("bash");
    hold_to_its_word(&Shell::new("bash"));
}

#[test]
fn the_dialogue_holds_its_word_in_busybox() {
    needs!("busybox");
    hold_to_its_word(&Shell::new("busybox"));
}

#[test]
fn the_dialogue_holds_its_word_in_mksh() {
    needs!("mksh");
    hold_to_its_word(&Shell::new("mksh"));
}

#[test]
fn the_dialogue_holds_its_word_in_ksh() {
    needs!("ksh93");
    hold_to_its_word(&Shell::new("ksh93"));
}

/// What a frame announces and does not hold ends the dialogue, with a word of why.
#[test]
fn a_frame_that_cannot_be_taken_ends_the_dialogue() {
    needs!("dash", "gzip");
    let shell = Shell::new("dash");
    let tools = tools_of(&shell);
    let folder = tempfile::tempdir().unwrap();
    let mut talk = ShellDialogue::start(&shell, &tools);
    let begun = talk.ask(&format!(
        "begin {} .x.ops-1 0 1",
        place(folder.path(), b"x")
    ));
    assert_eq!(begun, "ok");
    talk.send("write 4 gzip");
    talk.input.write_all(b"junk").unwrap();
    let answer = talk.answer();
    assert!(
        answer.starts_with("lost ") && answer.contains("gzip"),
        "{answer}"
    );
    let mut rest = String::new();
    talk.answers.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
}

#[test]
fn the_scripts_are_clean_for_shellcheck() {
    needs!("shellcheck");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/session/scripts");
    let scripts = scripts_in(&folder);
    assert!(scripts.len() >= 9);
    assert_clean_for_shellcheck(&scripts);
}

#[test]
fn what_stands_between_quotes_holds_none() {
    // What stands in a command, or in quotes of the dialogue.
    for source in [
        SPREAD,
        script::ENTER,
        probe::PROBE,
        probe::TOOLS,
        LIST,
        DESCRIBE,
        FETCH,
        ARCHIVE,
    ] {
        assert!(!compact(source).contains('\''));
    }
}
