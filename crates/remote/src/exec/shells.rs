//! The scripts of a run as they are sent, in every shell that may be `sh` on a server.

mod ends;
mod leftovers;
mod notes;

use std::{
    collections::VecDeque,
    io::{Read as _, Write as _},
    os::unix::{
        fs::{PermissionsExt, symlink},
        process::CommandExt as _,
    },
    path::Path,
    process::{Child, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use ops_test_needs::{needs, shells};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::{Request, folder::Folder, order::PreparedCommand, position::Position, scripts};
use crate::pipe::text::{DecodedItem, Decoder, Encoding};

/// Only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A shell that servers have, and what is left of the runs in it.
struct Shell(shells::Shell);

impl Shell {
    fn new(name: &'static str) -> Self {
        Self(shells::Shell::new(name))
    }

    fn folder(&self) -> &Path {
        self.0.folder()
    }

    fn start(&self, script: &str) -> Child {
        assert!(!script.contains('\''));
        self.0
            .command(script)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn session(&self, script: &str) -> ShellSession {
        ShellSession::over(self.start(script))
    }

    /// Those that this machine has, with their names.
    fn all() -> impl Iterator<Item = (&'static str, Self)> {
        shells::Shell::all().map(|shell| (shell.name(), Self(shell)))
    }

    /// Those of them beside which there may be perl, with it.
    fn all_with_perl() -> impl Iterator<Item = (&'static str, Self)> {
        shells::Shell::all_with_perl().map(|shell| (shell.name(), Self(shell)))
    }

    /// Something runs whose command line holds `word` or this folder.
    fn has_processes(&self, word: &str) -> bool {
        let folder = self.folder().display().to_string();
        shells::Shell::has_processes(word) || shells::Shell::has_processes(&folder)
    }

    /// All private folders are gone but those, empty, by which a session that is late knows that
    /// its run has ended.
    fn has_only_tombstones(&self) -> bool {
        let entries = std::fs::read_dir(self.folder()).unwrap();
        let mut paths = entries.map(|entry| entry.unwrap().path()).filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("ops-exec."))
        });
        paths.all(|path| {
            path.extension()
                .is_some_and(|extension| extension == "gone")
                && std::fs::read_dir(path).is_ok_and(|entries| entries.count() == 0)
        })
    }

    /// All private folders are gone.
    fn is_clean(&self) -> bool {
        let mut entries = std::fs::read_dir(self.folder()).unwrap();
        !entries.any(|entry| {
            let name = entry.unwrap().file_name();
            name.to_string_lossy().starts_with("ops-exec.")
        })
    }
}

/// A script that runs, as an agent has it; dropped, it is killed as at the end of a session.
struct ShellSession {
    child: Child,
    pieces: mpsc::Receiver<Vec<u8>>,
    decoder: Decoder,
    out: Vec<u8>,
    err: Vec<u8>,
    is_err: bool,
    messages: VecDeque<String>,
}

impl ShellSession {
    fn over(mut child: Child) -> Self {
        let mut stdout = child.stdout.take().unwrap();
        let (sender, pieces) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(len @ 1..) = stdout.read(&mut buffer) {
                if sender.send(buffer[..len].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            pieces,
            decoder: Decoder::new(Encoding::default()),
            out: Vec::new(),
            err: Vec::new(),
            is_err: false,
            messages: VecDeque::new(),
        }
    }

    /// Reads until a message that begins with `word`, and gives what follows that word.
    fn hear(&mut self, word: &str) -> String {
        let begin = Instant::now();
        let mut heard = Vec::new();
        loop {
            while let Some(text) = self.messages.pop_front() {
                let (first, rest) = text.split_once(' ').unwrap_or((&text, ""));
                if first == word {
                    return rest.to_owned();
                }
                heard.push(text);
            }
            let left = PATIENCE.saturating_sub(begin.elapsed());
            let Ok(piece) = self.pieces.recv_timeout(left) else {
                panic!("no `{word}` after {heard:?}");
            };
            self.read(&piece);
        }
    }

    fn read(&mut self, piece: &[u8]) {
        let mut items = Vec::new();
        self.decoder.push(piece, &mut items).unwrap();
        for item in items {
            match item {
                DecodedItem::Bytes(bytes) if self.is_err => self.err.extend_from_slice(&bytes),
                DecodedItem::Bytes(bytes) => self.out.extend_from_slice(&bytes),
                DecodedItem::Message(text) => {
                    if text.starts_with("out ") || text.starts_with("err ") {
                        self.is_err = text.starts_with("err ");
                    }
                    self.messages.push_back(text);
                }
            }
        }
    }

    /// The one word that an agent passes on.
    fn acknowledge(&self) {
        kill_process(self.process(), Signal::QUIT).unwrap();
    }

    fn process(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap()
    }
}

impl Drop for ShellSession {
    fn drop(&mut self) {
        // It may have gone.
        let _ = kill_process_group(self.process(), Signal::KILL);
        let _ = self.child.wait();
    }
}

/// Does `check` in every shell, side by side: most of it is waiting.
fn in_every_shell(check: impl Fn(&str, &Shell) + Sync) {
    in_shells(Shell::all(), check);
}

fn in_shells(
    shells: impl Iterator<Item = (&'static str, Shell)>,
    check: impl Fn(&str, &Shell) + Sync,
) {
    std::thread::scope(|scope| {
        for (name, shell) in shells {
            let check = &check;
            scope.spawn(move || check(name, &shell));
        }
    });
}

fn eventually(name: &str, what: &str, mut there: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !there() {
        assert!(begin.elapsed() < PATIENCE, "{name}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A line as it is given to the server.
fn order(line: &str, adapt: impl FnOnce(&mut Request)) -> PreparedCommand {
    let mut request = Request::new(super::Command::Line(line.as_bytes().to_vec()));
    request.patience = Duration::from_secs(60);
    adapt(&mut request);
    PreparedCommand::new(&request).unwrap()
}

/// The first session of a run of its own.
fn begin(order: &PreparedCommand) -> String {
    scripts::begin(order, &Folder::new().unwrap(), 1, true)
}

fn told_folder(path: &str) -> Folder {
    let mut folder = Folder::new().unwrap();
    folder.told(path).unwrap();
    folder
}

#[test]
fn both_streams_and_the_status_come_from_every_shell() {
    for (name, shell) in Shell::all() {
        // More than two segments.
        let line = "head -c 2500000 /dev/zero; echo err >&2; exit 0";
        for (line, len, status) in [
            ("echo out; echo err >&2; exit 42", 4, "42"),
            ("echo err >&2; kill -9 $$", 0, "137"),
            (line, 2_500_000, "0"),
        ] {
            let mut session = shell.session(&begin(&order(line, |_| ())));
            assert_eq!(session.hear("status"), status, "{name}: {line}");
            assert_eq!(session.out.len(), len, "{name}: {line}");
            assert_eq!(session.err, b"err\n", "{name}: {line}");
            session.acknowledge();
            session.hear("ended");
            eventually(name, "nothing is left", || shell.is_clean());
        }
    }
}

/// A session that ends is no sign that its client has what was written to it.
#[test]
fn everything_is_kept_until_the_client_answers() {
    for (name, shell) in Shell::all() {
        let order = order("echo out; echo err >&2; exit 3", |_| ());
        let mut session = shell.session(&begin(&order));
        let folder = told_folder(&session.hear("folder"));
        session.hear("status");
        drop(session);
        let begin = Position::default();
        for turn in 2..=3 {
            let script = scripts::attach(&folder, turn, &begin, &begin, true);
            let mut session = shell.session(&script);
            assert_eq!(session.hear("status"), "3", "{name}");
            assert_eq!(
                (&session.out[..], &session.err[..]),
                (&b"out\n"[..], &b"err\n"[..]),
                "{name}"
            );
            if turn == 3 {
                session.acknowledge();
                session.hear("ended");
                eventually(name, "nothing is left", || shell.is_clean());
            }
        }
    }
}

/// A session may be lost before it has told its folder: the next one is sent the same, and goes on
/// with what it finds.
#[test]
fn a_command_that_is_started_again_is_run_once() {
    in_every_shell(|name, shell| {
        let order = order("echo run >>ran; sleep 0.1; echo out; exit 3", |_| ());
        for milliseconds in (0..40).step_by(4) {
            let _ = std::fs::remove_file(shell.folder().join("ran"));
            let folder = Folder::new().unwrap();
            let first = shell.session(&scripts::begin(&order, &folder, 1, true));
            std::thread::sleep(Duration::from_millis(milliseconds));
            // Killed, or both at the same time.
            let rival = (milliseconds % 8 == 0).then_some(first);
            let mut second = shell.session(&scripts::begin(&order, &folder, 2, true));
            let what = format!("{name} after {milliseconds} ms");
            assert_eq!(second.hear("status"), "3", "{what}");
            assert_eq!(second.out, b"out\n", "{what}");
            second.acknowledge();
            second.hear("ended");
            eventually(name, "nothing is left", || shell.has_only_tombstones());
            drop(rival);
            // One that is late starts nothing any more.
            let mut late = shell.session(&scripts::begin(&order, &folder, 1, true));
            late.hear("gone");
            eventually(name, "nothing is left", || shell.has_only_tombstones());
            let ran = std::fs::read(shell.folder().join("ran")).unwrap();
            assert_eq!(ran, b"run\n", "{what}");
        }
    });
}

#[test]
fn what_nobody_comes_back_to_is_ended_and_removed() {
    for (name, shell) in Shell::all() {
        let seconds = format!("601.{}", std::process::id());
        let order = order(&format!("sleep {seconds} & sleep {seconds}"), |request| {
            request.patience = Duration::from_secs(1);
        });
        let mut session = shell.session(&begin(&order));
        session.hear("running");
        drop(session);
        eventually(name, "nothing is left", || {
            shell.is_clean() && !shell.has_processes(&format!("sleep\0{seconds}"))
        });
    }
}

/// While its client is away a command writes until the ring is full, and waits then.
#[test]
fn the_ring_holds_so_much_and_not_a_byte_is_lost() {
    needs!("dash");
    needs!("perl");
    std::thread::scope(|scope| {
        for name in ["dash", "dash with perl"] {
            scope.spawn(move || fill_ring(&Shell::new(name)));
        }
    });
}

fn fill_ring(shell: &Shell) {
    let ring_bytes = 32 << 20;
    let len = 45_000_000;
    let order = order(
        &format!("head -c {len} /dev/zero | tee written; echo end >&2"),
        |_| (),
    );
    let mut session = shell.session(&begin(&order));
    let folder = told_folder(&session.hear("folder"));
    session.hear("running");
    drop(session);
    let written = shell.folder().join("written");
    let size = |path: &std::path::Path| path.metadata().map_or(0, |metadata| metadata.len());
    let kept = || {
        let entries = std::fs::read_dir(folder.path().unwrap()).unwrap();
        entries
            .map(|entry| size(&entry.unwrap().path()))
            .sum::<u64>()
    };
    let mut last = 0;
    eventually(shell.0.name(), "the ring is full", || {
        std::thread::sleep(Duration::from_millis(300));
        let before = std::mem::replace(&mut last, size(&written));
        last == before && kept() > ring_bytes - (6 << 20)
    });
    assert!(
        last < len && kept() <= ring_bytes,
        "{last} written, {} kept",
        kept()
    );
    assert!(kept() > ring_bytes - (6 << 20), "{} kept", kept());
    let begin = Position::default();
    let mut session = shell.session(&scripts::attach(&folder, 2, &begin, &begin, true));
    assert_eq!(session.hear("status"), "0");
    assert_eq!(
        (session.out.len() as u64, &session.err[..]),
        (len, &b"end\n"[..])
    );
    session.acknowledge();
    session.hear("ended");
    eventually(shell.0.name(), "nothing is left", || shell.is_clean());
}

#[test]
fn input_and_its_end_arrive_in_every_shell() {
    for (name, shell) in Shell::all() {
        // A pipe stands for the terminal, which need not be made raw then.
        let terminal = shell.folder().join("stty");
        let _ = std::fs::remove_file(&terminal);
        symlink(ops_test_needs::find("true").unwrap(), terminal).unwrap();
        let order = order("cat; exit 4", |request| request.stdin = true);
        let mut session = shell.session(&begin(&order));
        let folder = told_folder(&session.hear("folder"));
        let mut feed = ShellSession::over(shell.start(&scripts::enter(&folder, 1, None)));
        session.hear("up");
        let mut stdin = feed.child.stdin.take().unwrap();
        // The next one when the last one is stored: some heads read ahead.
        stdin.write_all(b"in 6\na\n\0\xffb\n").unwrap();
        while !session.hear("in").starts_with("1 ") {}
        stdin.write_all(b"in 3\nc d").unwrap();
        while !session.hear("in").starts_with("2 ") {}
        stdin.write_all(b"end\n").unwrap();
        assert_eq!(session.hear("status"), "4", "{name}");
        assert_eq!(session.out, b"a\n\0\xffb\nc d", "{name}");
        session.acknowledge();
        session.hear("ended");
        eventually(name, "nothing is left", || shell.is_clean());
    }
}

/// A program is started for the first frame, and one of perl for all that follow. An order between
/// them, and an enter that takes the place of another one, are no end of that.
#[test]
fn many_frames_cost_a_server_with_perl_no_process_each() {
    needs!("perl");
    in_shells(Shell::all_with_perl(), |name, shell| {
        let put = |program: &str, text: String| {
            let path = shell.folder().join(program);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
        };
        put("stty", String::new());
        let head = ops_test_needs::find("head").unwrap();
        put(
            "head",
            format!(
                "#!/bin/sh\necho >>\"$HOME/heads\"\nexec {} \"$@\"\n",
                head.display()
            ),
        );
        let order = order("cat; exit 4", |request| request.stdin = true);
        let mut session = shell.session(&begin(&order));
        let folder = told_folder(&session.hear("folder"));
        let mut sent = Vec::new();
        let mut number = 0;
        for turn in 1..=2 {
            let mut enter = ShellSession::over(shell.start(&scripts::enter(&folder, turn, None)));
            session.hear("up");
            let mut stdin = enter.child.stdin.take().unwrap();
            // As it has asked whether this head reads ahead.
            let heads = || std::fs::read(shell.folder().join("heads")).unwrap().len();
            let before = heads();
            for turn_frame in 0..20 {
                number += 1;
                let frame = vec![number; 10_000 * usize::from(number)];
                let order = format!("in {} marked\n", frame.len());
                stdin.write_all(order.as_bytes()).unwrap();
                stdin.write_all(&frame).unwrap();
                stdin.write_all(b".\n").unwrap();
                sent.extend(frame);
                if turn_frame == 10 {
                    stdin.write_all(b"signal CONT\n").unwrap();
                }
            }
            while !session.hear("in").starts_with(&format!("{number} ")) {}
            assert_eq!(heads(), before + 1, "{name}");
            if turn == 2 {
                stdin.write_all(b"end\n").unwrap();
                assert_eq!(session.hear("status"), "4", "{name}");
            }
        }
        assert!(session.out == sent, "{name}: {} came", session.out.len());
        session.acknowledge();
        session.hear("ended");
        eventually(name, "nothing is left", || shell.is_clean());
    });
}

/// By a parameter where it is short, by a terminal where it is long.
#[test]
fn every_argument_arrives_in_every_shell_however_long_it_is() {
    let all: Vec<u8> = (1..=255).collect();
    let long: Vec<u8> = (0..100_000_u32).map(|n| (n % 255 + 1) as u8).collect();
    let traps: [&[u8]; 16] = [
        &all,
        b"",
        b" a  b ",
        b"$HOME `id` $(id) ${x}",
        b"it's",
        b"\"\\",
        b"-n",
        b"--",
        b"*",
        b"[a-z]?{a,b}",
        b"~",
        b"new\nline\n",
        b"%s%%\\n",
        b"!gone",
        b"#;&|<>()",
        b"\xef\xbf\xbd\xff\xfe",
    ];
    for (name, shell) in Shell::all() {
        let terminal = shell.folder().join("stty");
        let _ = std::fs::remove_file(&terminal);
        symlink(ops_test_needs::find("true").unwrap(), terminal).unwrap();
        for words in [&traps[..], &[&long, b"", b"x"]] {
            let argv = [&b"printf"[..], b"%s\\000"]
                .into_iter()
                .chain(words.iter().copied());
            let argv = argv.map(<[u8]>::to_vec).collect();
            let order = PreparedCommand::new(&Request::new(super::Command::Argv(argv))).unwrap();
            let mut session = shell.session(&begin(&order));
            let folder = told_folder(&session.hear("folder"));
            let _feed = (!order.is_open()).then(|| {
                let mut feed = ShellSession::over(shell.start(&scripts::enter(&folder, 1, None)));
                session.hear("up");
                let mut stdin = feed.child.stdin.take().unwrap();
                writeln!(stdin, "put command {}", order.command.len()).unwrap();
                stdin.write_all(&order.command).unwrap();
                writeln!(stdin, "run {}", order.settings()).unwrap();
                (feed, stdin)
            });
            assert_eq!(session.hear("status"), "0", "{name}");
            let expected: Vec<u8> = words
                .iter()
                .flat_map(|word| word.iter().copied().chain([0]))
                .collect();
            assert!(
                session.out == expected,
                "{name}: {} bytes",
                session.out.len()
            );
            session.acknowledge();
            session.hear("ended");
            eventually(name, "nothing is left", || shell.is_clean());
        }
    }
}

/// A shell in which mkdir finds no place.
fn without_a_place(shell: &Shell) {
    let nothing = ops_test_needs::find("false").unwrap();
    let mkdir = shell.folder().join("mkdir");
    let _ = std::fs::remove_file(&mkdir);
    symlink(nothing, mkdir).unwrap();
}

/// Where nothing can be written: both streams and the status all the same.
#[test]
fn a_direct_command_needs_no_place_to_write() {
    for (name, shell) in Shell::all() {
        without_a_place(&shell);
        let order = order("printf 'a\\000b\\377'; echo gone >&2; exit 42", |_| ());
        let output = shell.start(&begin(&order)).wait_with_output().unwrap();
        let mut items = Vec::new();
        let mut decoder = Decoder::new(Encoding::Base64);
        decoder.push(&output.stdout, &mut items).unwrap();
        decoder.finish().unwrap();
        let message = |text: &str| DecodedItem::Message(text.to_owned());
        assert_eq!(
            items,
            [
                message("nowhere"),
                message("running"),
                DecodedItem::Bytes(b"a\0b\xff".as_slice().into()),
                message("over 42"),
            ],
            "{name}"
        );
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(told, "!x Z29uZQo=\n!over 42\n", "{name}");
    }
}

/// The agent kills the shell that it has started, and nothing below it.
#[test]
fn a_direct_command_ends_with_its_shell() {
    std::thread::scope(|scope| {
        for (name, shell) in Shell::all() {
            scope.spawn(move || {
                without_a_place(&shell);
                let silent = shell.folder().join("silent");
                std::fs::write(&silent, "").unwrap();
                let word = silent.display().to_string();
                let line = format!("trap '' HUP; tail -f '{word}'; true");
                let mut session = shell.session(&begin(&order(&line, |_| ())));
                session.hear("running");
                eventually(name, "it runs", || shells::Shell::has_processes(&word));
                session.child.kill().unwrap();
                session.child.wait().unwrap();
                eventually(name, "it ends", || !shells::Shell::has_processes(&word));
            });
        }
    });
}

#[test]
fn the_scripts_are_clean_for_shellcheck() {
    needs!("shellcheck");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/exec/scripts");
    let scripts = shells::scripts_in(&folder);
    assert_eq!(scripts.len(), 6);
    shells::assert_clean_for_shellcheck(&scripts);
}

#[test]
fn the_programs_of_perl_give_it_no_cause_for_a_warning() {
    needs!("perl");
    for text in [scripts::SUPERVISE, scripts::INPUT_PROGRAM] {
        let text = [scripts::NOTES, text].concat();
        let mut check = std::process::Command::new("perl");
        let output = check.args(["-wce", &text]).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(told, "-e syntax OK\n");
    }
}
