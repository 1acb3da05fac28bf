//! The scripts in the shells that servers have, as they are sent.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use ops_test_needs::{
    needs,
    shells::{Shell, assert_clean_for_shellcheck, scripts_in},
};

use super::{
    lines::{Lines, ScriptLine},
    scripts::{self, Encode},
    text::{DecodedItem, Decoder, Encoding},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// In front of a script that expects a terminal: here it reads from a pipe.
const NO_TERMINAL: &str = "stty() { :; }\n";

/// A script that runs, and the lines that it writes to one of its outputs.
struct Running {
    child: Child,
    input: ChildStdin,
    lines: mpsc::Receiver<String>,
}

impl Running {
    /// Starts `script`; `of_stderr` says which of its outputs is read, the other one is left alone.
    fn start(shell: &Shell, script: &str, of_stderr: bool) -> Self {
        let mut command = shell.command(script);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let (sender, lines) = mpsc::channel();
        let read = move |output: &mut dyn std::io::BufRead| {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        };
        if of_stderr {
            let mut output = BufReader::new(child.stderr.take().unwrap());
            std::thread::spawn(move || read(&mut output));
        } else {
            let mut output = BufReader::new(child.stdout.take().unwrap());
            std::thread::spawn(move || read(&mut output));
        }
        Self {
            child,
            input,
            lines,
        }
    }

    #[track_caller]
    fn send(&mut self, text: &str) {
        self.input.write_all(text.as_bytes()).unwrap();
    }

    #[track_caller]
    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line in time")
    }

    /// What else it writes until its end.
    fn rest(mut self) -> Vec<String> {
        drop(self.input);
        self.child.wait().unwrap();
        self.lines.iter().collect()
    }
}

#[track_caller]
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "{what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// The private folders that are there.
fn folders(shell: &Shell) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(shell.folder()).unwrap();
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.starts_with("ops-pipe.")
        })
        .collect()
}

#[test]
fn a_script_gives_its_bytes_complaints_messages_and_status() {
    let script = "printf \"a\\000b\\377\"; echo gone >&2; printf \"!size 4\\n\" >&6; exit 3";
    for shell in Shell::all() {
        for (encode, is_kept) in [
            (Encode::InBulk, false),
            (Encode::Live, false),
            (Encode::Live, true),
        ] {
            let what = format!("{} {encode:?} {is_kept}", shell.name());
            let text = scripts::down(encode, is_kept, script, false);
            let output = shell.command(&text).output().unwrap();
            let mut items = Vec::new();
            let mut decoder = Decoder::new(Encoding::Base64);
            decoder.push(&output.stdout, &mut items).unwrap();
            decoder.finish().unwrap();
            let end = DecodedItem::Message("end".to_owned());
            let bytes = DecodedItem::Bytes(Bytes::from_static(b"a\0b\xff"));
            assert_eq!(items, [bytes, end], "{what}");
            let messages = Lines::default().push(&output.stderr);
            let message = |text: &str| ScriptLine::Message(text.to_owned());
            assert_eq!(messages.last(), Some(&message("over")), "{what}");
            for expected in ["e gone", "size 4", "status 3"] {
                assert!(messages.contains(&message(expected)), "{what} {messages:?}");
            }
            wait_until(&what, || folders(&shell).is_empty());
        }
    }
}

#[test]
fn a_process_reads_what_is_fed_to_it_until_it_is_told_of_the_end() {
    for shell in Shell::all() {
        let text = scripts::down(Encode::Live, true, &scripts::process("cat; exit 5"), false);
        let mut process = Running::start(&shell, &text, true);
        let folder = process.line();
        let folder = folder
            .strip_prefix("!folder ")
            .expect("a folder")
            .to_owned();
        let up = format!("{NO_TERMINAL}{}", scripts::up(&folder));
        let mut up = Running::start(&shell, &up, false);
        assert_eq!(up.line(), "!ready", "{}", shell.name());
        // A head that reads ahead finds nothing there, since a credit is waited for.
        for frame in ["hello", " world"] {
            up.send(&format!("{}\n{frame}", frame.len()));
            assert_eq!(up.line(), format!("!credit {}", frame.len()));
        }
        up.send("0\n");
        assert_eq!(up.line(), "!status 0");
        let mut output = String::new();
        let mut stdout = process.child.stdout.take().unwrap();
        std::io::Read::read_to_string(&mut stdout, &mut output).unwrap();
        let mut items = Vec::new();
        let mut decoder = Decoder::new(Encoding::Base64);
        decoder.push(output.as_bytes(), &mut items).unwrap();
        let bytes: Vec<u8> = items
            .iter()
            .filter_map(|item| match item {
                DecodedItem::Bytes(bytes) => Some(bytes.to_vec()),
                DecodedItem::Message(_) => None,
            })
            .flatten()
            .collect();
        assert_eq!(bytes, b"hello world", "{}", shell.name());
        let told = process.rest();
        assert!(told.contains(&"!status 5".to_owned()), "{told:?}");
        wait_until("the folder goes", || folders(&shell).is_empty());
    }
}

#[test]
fn what_is_left_by_a_session_that_is_lost_is_put_in_order() {
    for shell in Shell::all() {
        // The process has a child of its own, and ignores a hang-up.
        let script = "trap \"\" HUP; tail -f \"$HOME/followed\"; true";
        std::fs::write(shell.folder().join("followed"), "").unwrap();
        let text = scripts::down(Encode::Live, true, &scripts::process(script), true);
        let mut process = Running::start(&shell, &text, true);
        let folder = process.line();
        let folder = Path::new(folder.strip_prefix("!folder ").expect("a folder"));
        let followed = shell.folder().join("followed").display().to_string();
        wait_until("it runs", || Shell::has_processes(&followed));
        // A name may end in a line feed.
        let stage = shell.folder().join("stage\n");
        std::fs::create_dir_all(stage.join("below")).unwrap();
        std::fs::write(folder.join("remove"), format!("{}\n", stage.display())).unwrap();
        process.child.kill().unwrap();
        process.rest();
        let what = format!("{} keeps order", shell.name());
        wait_until(&what, || {
            !Shell::has_processes(&followed) && folders(&shell).is_empty() && !stage.exists()
        });
    }
}

#[test]
fn nothing_runs_on_after_a_kill_although_nobody_reads_its_output() {
    // All at once: each waits for some seconds.
    std::thread::scope(|scope| {
        for shell in Shell::all() {
            scope.spawn(move || {
                // The second one writes nothing, and would never meet a broken pipe.
                let endless = "cat \"$HOME/endless\"";
                let silent = "trap \"\" TERM HUP; tail -f \"$HOME/silent\" >/dev/null; true";
                let make = |name: &str, len| {
                    let path = shell.folder().join(name);
                    std::fs::File::create(&path)
                        .and_then(|file| file.set_len(len))
                        .unwrap();
                    path.display().to_string()
                };
                let runs = [
                    (Encode::InBulk, false, endless, make("endless", 64 << 20)),
                    (Encode::Live, true, silent, make("silent", 0)),
                ];
                let mut children = runs.map(|(encode, is_kept, script, word)| {
                    let what = format!("{} {encode:?}", shell.name());
                    let text = scripts::down(encode, is_kept, script, true);
                    let mut command = shell.command(&text);
                    command.stdin(Stdio::null());
                    command.stdout(Stdio::piped()).stderr(Stdio::piped());
                    let child = command.spawn().unwrap();
                    wait_until(&what, || Shell::has_processes(&word));
                    (child, word, what)
                });
                // The agent's kill meets the shell alone. Where it comes while the web socket takes
                // nothing, that agent never waits for the shell and leaves the pipes open, unread.
                for (child, ..) in &mut children {
                    child.kill().unwrap();
                }
                for (mut child, word, what) in children {
                    wait_until(&what, || !Shell::has_processes(&word));
                    // Only what the shell has started held the other side of its pipes.
                    let stdout = &mut child.stdout.take().unwrap();
                    std::io::copy(stdout, &mut std::io::sink()).unwrap();
                    let stderr = &mut child.stderr.take().unwrap();
                    std::io::copy(stderr, &mut std::io::sink()).unwrap();
                    child.wait().unwrap();
                }
                wait_until("the folders go", || folders(&shell).is_empty());
            });
        }
    });
}

/// `text` with the shell that the agent has started killed in each moment in which it, or a
/// subshell of it, has just started something in the background: what is to come behind that is
/// not there yet.
fn killed_after_each_start(text: &str) -> impl Iterator<Item = String> {
    text.match_indices(" &\n").map(move |(at, start)| {
        let (before, behind) = text.split_at(at + start.len());
        format!("{before}kill -9 $$\n{behind}")
    })
}

#[test]
fn nothing_runs_on_whenever_its_shell_is_killed() {
    std::thread::scope(|scope| {
        for shell in Shell::all() {
            scope.spawn(move || {
                // As its first word: on a busy server hardly anything else has run by then. Told to
                // end, it starts something else.
                let restless = "kill -9 $$; trap \"\" HUP; trap : TERM; \
                                while :; do tail -f \"$HOME/silent\"; done";
                let silent = "trap \"\" HUP; tail -f \"$HOME/silent\"";
                std::fs::write(shell.folder().join("silent"), "").unwrap();
                let mut texts = vec![scripts::down(Encode::InBulk, false, restless, true)];
                let kept = scripts::down(Encode::Live, true, &scripts::process(silent), true);
                texts.extend(killed_after_each_start(&kept));
                assert_eq!(texts.len(), 1 + 6);
                let children: Vec<_> = texts
                    .into_iter()
                    .map(|text| {
                        let mut command = shell.command(&text);
                        command.stdin(Stdio::null());
                        command.stdout(Stdio::piped()).stderr(Stdio::piped());
                        (command.spawn().unwrap(), text)
                    })
                    .collect();
                for (mut child, text) in children {
                    assert!(!child.wait().unwrap().success(), "{text}");
                    // Whatever it has started holds the other side of these.
                    let (sender, ended) = mpsc::channel();
                    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
                    std::thread::spawn(move || {
                        std::io::copy(stdout.as_mut().unwrap(), &mut std::io::sink()).unwrap();
                        std::io::copy(stderr.as_mut().unwrap(), &mut std::io::sink()).unwrap();
                        sender.send(()).unwrap();
                    });
                    let what = format!("{} runs on:\n{text}", shell.name());
                    ended.recv_timeout(PATIENCE).expect(&what);
                }
                wait_until("the folders go", || folders(&shell).is_empty());
            });
        }
    });
}

#[test]
fn a_dialogue_runs_the_script_that_it_was_sent_whole() {
    for shell in Shell::all() {
        let text = format!("{NO_TERMINAL}{}", scripts::dialogue());
        let mut dialogue = Running::start(&shell, &text, false);
        assert_eq!(dialogue.line(), "!ready", "{}", shell.name());
        dialogue.send("read -r word\nsay 1 \"$word\"\necho complaint >&2\nexit 7\n.\nfive words\n");
        assert_eq!(dialogue.line(), "!1 five words", "{}", shell.name());
        assert_eq!(dialogue.line(), "complaint");
        assert_eq!(dialogue.line(), "!status 7");
        assert!(dialogue.rest().is_empty());

        let mut dialogue = Running::start(&shell, &text, false);
        assert_eq!(dialogue.line(), "!ready");
        dialogue.send("say 1 done\n");
        assert!(dialogue.rest().is_empty(), "{}", shell.name());
        wait_until("the folders go", || folders(&shell).is_empty());
    }
}

#[test]
fn answers_leave_by_the_session_that_was_joined_too_and_survive_its_end() {
    for shell in Shell::all() {
        let relay = scripts::down(Encode::Live, true, &scripts::relay(), false);
        let mut relay = Running::start(&shell, &relay, true);
        let folder = relay.line();
        let folder = folder.strip_prefix("!folder ").expect("a folder");
        let text = format!("{NO_TERMINAL}{}", scripts::joined_dialogue(folder));
        let mut dialogue = Running::start(&shell, &text, false);
        dialogue.send("say 1 one\nread -r _\nsay 2 two\n.\n");
        for line in ["!ready", "!1 one"] {
            assert_eq!(relay.line(), line, "{}", shell.name());
            assert_eq!(dialogue.line(), line, "{}", shell.name());
        }
        relay.child.kill().unwrap();
        dialogue.send("go on\n");
        assert_eq!(dialogue.line(), "!2 two", "{}", shell.name());
        assert_eq!(dialogue.line(), "!status 0");
        drop(dialogue.rest());
        drop(relay.rest());
        wait_until("the folder goes", || folders(&shell).is_empty());
    }
}

#[test]
fn the_scripts_are_clean_for_shellcheck() {
    needs!("shellcheck");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/pipe/scripts");
    let scripts = scripts_in(&folder);
    assert_eq!(scripts.len(), 11);
    assert_clean_for_shellcheck(&scripts);
}
